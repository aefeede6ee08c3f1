"""The command line: `audit`."""

import gzip
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from audit_lines import QUEUE_ID, begun, delivery, line, removed
from command_line import SETTINGS

from deliverypools.core.audit.instances import LogNames
from deliverypools.core.postfix_install.manifest import Manifest, Phase, manifest_to_json
from deliverypools.core.records import DecisionRecord
from deliverypools.core.tallies import DAY

OTHER = "4jXRH73GqlzJs3y"
HOSTILE = '"\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}"@example.com'


@pytest.fixture
def decide(state):
    """Write a row of the decision log, now."""

    def decide(queue_id=QUEUE_ID, pool="normal", **changes):
        usual = {
            "host": "mx.example.org",
            "pass_name": "egress",
            "at": time.time(),
            "ingress": "submission",
            "account": "alice@example.org",
            "rule": "default",
            "reasons": "",
            "envelope_sender": "",
            "recipients": 1,
            "client_address": "",
            "subject": "",
            "message_id": "",
        }
        state.record(DecisionRecord(queue_id=queue_id, pool=pool, **usual | changes), 10 * DAY)

    return decide


def when(seconds_ago=0):
    return datetime.fromtimestamp(time.time() + 120 - seconds_ago, UTC).isoformat()


@pytest.fixture
def log(tmp_path):
    def log(*lines, name="mail.log"):
        path = tmp_path / name
        path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
        return str(path)

    return log


def test_all_is_right(run, config, decide, log):
    decide()
    path = log(begun(when=when()), delivery(when=when()), removed(when=when()))
    answer = run("audit", "--config", config, path)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.splitlines()[-1] == "every delivery was by the pool that was decided"
    (row,) = (one for one in answer.out.splitlines() if one.startswith("normal "))
    assert row.split() == ["normal", "1", "1", "0", "0", "pool-normal", "1"]


def test_what_went_outside_by_internal_is_shown(run, config, decide, log):
    decide()
    strange = delivery("postfix/internal/smtp", when=when(), recipient=HOSTILE)
    ours = [
        delivery("postfix/internal/smtp", when=when(), recipient="bob@example.org"),
        delivery("postfix/internal/smtp", when=when(), relay="10.0.0.5[10.0.0.5]:25"),
    ]
    answer = run("audit", "--config", config, log(strange, *ours))
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert lines[-1] == "every delivery by a pool was by the one that was decided; see what went outside by internal"
    assert "  1 example.com at mx.example.com[198.51.100.25]:25" in lines
    assert any(line.startswith("1 attempts by internal were at servers that are not known") for line in lines)
    assert run("audit", "--config", config, log(*ours)).out.endswith(
        "every delivery was by the pool that was decided\n"
    )
    found = json.loads(run("audit", "--json", "--config", config, log(strange)).out)
    assert found["counts"]["internal_outside"] == {"example.com at mx.example.com[198.51.100.25]:25": 1}


def test_a_wrong_pool_as_people_read_it(run, config, decide, log):
    decide(pool="relay", rule="forwarded")
    at = when()
    answer = run("audit", "--config", config, log(delivery(when=at, recipient=HOSTILE)))
    assert answer.status == 1
    moment = f"{at[:10]} {at[11:16]} UTC"
    assert answer.out.startswith(
        f"{moment}  {QUEUE_ID} on mx: wrong: wrong_pool\n"
        '  recipient: "?[31m?"@example.com\n'
        "  transport: pool-normal\n"
        "  relay:     mx.example.com[198.51.100.25]:25\n"
        "  status:    sent\n"
        "  decided:   relay (rule forwarded)\n"
        "  it went to another pool's transport than was decided"
    )
    assert answer.out.endswith("FAILED: 1 deliveries are wrong or unknown: wrong_pool 1\n")


def test_json(run, config, decide, log):
    decide()
    path = log(
        delivery(when=when()),
        delivery("postfix/pool-relay/smtp", when=when(), queue_id=OTHER, recipient="carol@example.com"),
        "no line of a log",
    )
    answer = run("audit", "--json", "--config", config, path)
    (report,) = answer.json()
    assert (answer.status, report["failures"], report["by_kind"]) == (1, 1, {"no_decision": 1})
    (finding,) = report["findings"]
    assert finding["meaning"].startswith("it left by a pool, and no decision about it is on record")
    assert {name: finding[name] for name in ("kind", "queue_id", "host", "recipient", "transport", "unknown")} == {
        "kind": "no_decision",
        "queue_id": OTHER,
        "host": "mx",
        "recipient": "carol@example.com",
        "transport": "pool-relay",
        "unknown": True,
    }
    assert report["pools"]["normal"] == {"messages": 1, "statuses": {"sent": 1}, "sent_by": {"pool-normal": 1}}
    assert report["transports"] == {"pool-normal": {"sent": 1}, "pool-relay": {"sent": 1}}
    assert (report["counts"]["lines"], report["counts"]["not_understood"], report["problem"]) == (3, 1, "")
    assert report["recorded_since"] <= time.time()


def test_rotated_files_in_any_order_and_since(run, config, decide, log, tmp_path):
    decide()
    today = log(delivery(when=when()))
    before = Path(log(begun(when=when(3600)), delivery(queue_id=OTHER, when=when(3 * 86_400)), name="mail.log.1"))
    packed = tmp_path / "mail.log.2.gz"
    packed.write_bytes(gzip.compress(before.read_bytes()))
    (everything,) = run("audit", "--json", "--config", config, today, str(packed)).json()
    assert (everything["by_kind"], everything["counts"]["lines"]) == ({"before_decision_log": 1}, 3)
    answer = run("audit", "--json", "--config", config, "--since", "1d", today, str(packed))
    assert (answer.status, answer.json()[0]["counts"]["lines"]) == (0, 2)


@pytest.mark.parametrize("option", [["--inside", "partner"], ["--inside", "scan", "--inside", "partner"]])
def test_transports_that_lead_inside(run, config, state, log, option):
    path = log(delivery("postfix/partner/smtp", when=when()))
    assert run("audit", "--config", config, path).status == 1
    assert run("audit", "--config", config, *option, path).status == 0
    internal = log(delivery("postfix/internal/smtp", when=when()))
    assert run("audit", "--config", config, *option, internal).status == 0


def test_listener_of_a_route(run, config, state, log):
    path = log(delivery("postfix/egress/smtp", relay="127.0.0.1[127.0.0.1]:10078", when=when()))
    assert run("audit", "--config", config, path).status == 1
    assert run("audit", "--config", config, "--listener", "10078", path).status == 0
    made_by_us = log(delivery("postfix/egress/smtp", relay="127.0.0.1[127.0.0.1]:10077", when=when()))
    assert run("audit", "--config", config, made_by_us).status == 0


@pytest.mark.parametrize("lines", [[], ["x"], [line("sshd", "session opened")]])
def test_a_log_without_a_line_of_postfix_proves_nothing(run, config, state, log, lines):
    answer = run("audit", "--config", config, log(*lines))
    assert (answer.status, "every delivery" in answer.out) == (1, False)
    assert f"nothing was audited: none of {len(lines)} lines is Postfix's" in answer.err


@pytest.mark.parametrize("earlier", [[], [delivery(when="2020-01-01T00:00:00Z")]])
def test_a_log_without_a_delivery_proves_nothing(run, config, state, log, earlier):
    answer = run("audit", "--config", config, "--since", "1d", log(*earlier, begun(when=when())))
    assert (answer.status, "every delivery" in answer.out) == (1, False)
    assert "nothing was audited: none of 1 lines of Postfix is about a delivery" in answer.err


def test_what_only_looks_like_a_delivery_is_a_problem(run, config, decide, log):
    decide()
    odd = delivery(when="Sun 2026-11-22 13:00:00 CET\x1b", recipient="x" * 400)
    path = log(delivery(when=when()), odd, odd)
    answer = run("audit", "--json", "--config", config, path)
    (report,) = answer.json()
    assert (answer.status, report["failures"], report["counts"]["headless"]) == (1, 0, 2)
    assert report["problem"].startswith("2 lines look like deliveries")
    assert "The first: Sun 2026-11-22 13:00:00 CET? mx postfix/pool-normal/smtp[123]: " in answer.err
    assert len(answer.err) < 500
    assert "every delivery" not in run("audit", "--config", config, path).out


def test_logs_that_cannot_be_read_do_not_end_the_audit(run, config, decide, log, tmp_path):
    decide()
    head = "".join(f"{begun(when=when(n))}\n" for n in range(2000))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(head.encode())[:-200])
    (tmp_path / "cut2.gz").write_bytes(gzip.compress(head.encode())[:12])
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "mail.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(20))
    names = ("cut.gz", "cut2.gz", "none", "circle", "mail.zst", "none/mail.log")
    broken = [str(tmp_path / name) for name in names]
    good = log(delivery("postfix/pool-relay/smtp", when=when()))
    for logs in ([*broken, good], [good, *broken]):
        answer = run("audit", "--json", "--config", config, *logs)
        (report,) = answer.json()
        assert (answer.status, report["by_kind"]) == (1, {"wrong_pool": 1})
        assert all(f"{name}: " in report["problem"] for name in broken)
        assert len(answer.err.splitlines()) == len(broken)


def test_a_message_that_was_requeued_before_since(run, config, decide, log, tmp_path):
    decide()
    Path(config).write_text('profile = "express"\n' + SETTINGS.format(folder=tmp_path))
    requeued = line("postfix/pickup", f"{OTHER}: uid=102 from=<> orig_id={QUEUE_ID}", when=when(7200))
    path = log(requeued, delivery(queue_id=OTHER, when=when()))
    assert run("audit", "--config", config, "--since", "1h", path).status == 0


def test_the_journal_is_read_from_an_hour_before(run, config, decide, tmp_path, monkeypatch):
    decide()
    (tmp_path / "answer").write_text(delivery(when=when()) + "\n")
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat {tmp_path}/answer\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run("audit", "--config", config, "--journal", "--since", "2020-01-01").status == 0
    assert "--since=@1577833200 " in (tmp_path / "arguments").read_text()
    assert run("audit", "--config", config, "--journal").status == 0
    assert "--since=@0 " in (tmp_path / "arguments").read_text()


@pytest.fixture
def audit_journal(run, config, state, tmp_path, monkeypatch):
    """Audit a day of a journal that has these lines, and those where it is asked about all times."""

    def audit_journal(now, ever):
        for name, text in (("now", now), ("ever", ever)):
            (tmp_path / name).write_text("".join(f"{one}\n" for one in text))
        program = tmp_path / "journalctl"
        program.write_text(
            f'#!/bin/sh\ncase "$*" in *--since=@0\\ *) cat {tmp_path}/ever;; *) cat {tmp_path}/now;; esac\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return run("audit", "--config", config, "--journal", "--since", "1d")

    return audit_journal


@pytest.mark.parametrize(
    ("now", "ever", "status"),
    [
        ([], [begun(when="2020-01-01T00:00:00Z")], 0),
        ([begun(when=when())], [], 0),
        ([], [], 1),
        ([], [line("sshd", "session opened")], 1),
    ],
)
def test_a_day_without_mail_is_no_failure_where_the_journal_is_where_postfix_logs(audit_journal, now, ever, status):
    answer = audit_journal(now, ever)
    assert (answer.status, "nothing was audited" in answer.err) == (status, bool(status))
    assert ("nothing was delivered in this time" in answer.out) is (status == 0)


def test_the_first_night_after_the_installation(run, config, decide, log, tmp_path):
    etc = tmp_path / "etc"
    (etc / "delivery-pools" / "before").mkdir(parents=True)
    (etc / "main.cf").touch()
    manifest = Manifest(
        product_version="1",
        made_at=time.time(),
        phase=Phase.INSTALLED,
        hashes={},
        originals={},
        parameters={},
        services={},
        files=(),
    )
    (etc / "delivery-pools" / "before" / "manifest.json").write_text(manifest_to_json(manifest))
    decide()
    leak = delivery("postfix/smtp", queue_id=OTHER, relay="mx.example.net[198.51.100.1]:25", when=when(3600))
    path = log(leak, begun(when=when()), delivery(when=when()))
    answer = run("audit", "--config", config, "--config-directory", str(etc), path)
    assert (answer.status, answer.err) == (0, "")
    assert "1 deliveries by transports that are no pool's are of before the installation" in answer.out


def test_a_log_that_ends_too_early_is_a_failure_with_what_was_found(run, config, decide, tmp_path):
    decide()
    text = f"{delivery(when=when())}\n" + "".join(f"{begun(when=when(n))}\n" for n in range(2000))
    path = tmp_path / "mail.log.gz"
    path.write_bytes(gzip.compress(text.encode())[:-200])
    answer = run("audit", "--json", "--config", config, str(path))
    (report,) = answer.json()
    assert (answer.status, report["failures"]) == (1, 0)
    assert "cannot be read to its end" in report["problem"]
    assert "cannot be read to its end" in answer.err


def test_a_log_that_is_not_there(run, config, state, tmp_path):
    answer = run("audit", "--config", config, str(tmp_path / "none"))
    assert (answer.status, "none: No such file or directory" in answer.err) == (1, True)


def test_without_a_state_nothing_is_audited(run, config, log):
    answer = run("audit", "--config", config, log(delivery(when=when())))
    assert (answer.status, "there is no state yet" in answer.err, answer.out) == (1, True, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name mail logs (- is standard input), or give --journal"),
        (["--journal", "mail.log"], "name mail logs (- is standard input), or give --journal"),
        (["--since", "yesterday", "mail.log"], "write how long ago"),
        (["--listener", "x", "mail.log"], "write a port"),
        (["--listener", "65536", "mail.log"], "write a port"),
    ],
)
def test_command_lines_that_are_wrong(run, config, arguments, said):
    answer = run("audit", "--config", config, *arguments)
    assert (answer.status, said in answer.err) == (2, True)


def test_profile_and_shadow_come_from_the_settings(run, config, decide, log, tmp_path):
    decide(pool="high-risk")
    path = log(delivery(when=when()))
    assert run("audit", "--config", config, path).status == 1
    Path(config).write_text("shadow = true\n" + SETTINGS.format(folder=tmp_path))
    assert run("audit", "--config", config, path).status == 0
    requeued = line("postfix/pickup", f"{OTHER}: uid=102 from=<> orig_id={QUEUE_ID}", when=when())
    path = log(requeued, delivery("postfix/pool-high-risk/smtp", queue_id=OTHER, when=when()))
    assert run("audit", "--config", config, path).status == 1
    Path(config).write_text('profile = "express"\n' + SETTINGS.format(folder=tmp_path))
    assert run("audit", "--config", config, path).status == 0


def test_many_failures_are_counted_and_the_first_are_listed(run, config, decide, log):
    decide(pool="relay")
    path = log(*[delivery(when=when(), recipient=f"{number}@example.com") for number in range(1100)])
    answer = run("audit", "--json", "--config", config, path)
    (report,) = answer.json()
    assert (report["failures"], len(report["findings"]), report["findings_left_out"]) == (1100, 1000, 100)
    assert "... and 100 more failures\n" in run("audit", "--config", config, path).out


def test_standard_input(run, config, decide):
    decide()
    text = f"{delivery(when=when())}\n"
    answer = run("audit", "--json", "--config", config, "-", stdin=text.encode())
    assert (answer.status, json.loads(answer.out)["counts"]["of_postfix"]) == (0, 1)


def test_lines_of_other_instances_are_passed_over(run, config, decide, log, monkeypatch):
    names = LogNames(own=frozenset({"postfix", "postfix/pool-normal"}), others=frozenset({"postfix-out"}))
    monkeypatch.setattr("deliverypools.cli.audit.log_names", lambda _: names)
    decide()
    others = [delivery(f"postfix-out/{one}smtp", queue_id=OTHER, when=when()) for one in ("", "pool-relay/")]
    path = log(delivery(when=when()), *others)
    assert run("audit", "--config", config, path).status == 1
    answer = run("audit", "--config", config, "--config-directory", "/etc/postfix", path)
    assert (answer.status, answer.err) == (0, "")
    assert "2 lines of other instances of Postfix were passed over" in answer.out
    (report,) = run("audit", "--json", "--config", config, "--config-directory", "/etc/postfix", path).json()
    assert (report["of_other_instances"], report["counts"]["lines"]) == (2, 1)
    answer = run("audit", "--config", config, "--config-directory", "/etc/postfix", log(*others))
    assert (answer.status, "none of 0 lines is Postfix's (2 more are of other instances)" in answer.err) == (1, True)
