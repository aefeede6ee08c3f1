"""The command line: `dropped list`."""

import time
from dataclasses import asdict
from pathlib import Path

import pytest
from command_line import SETTINGS

from deliverypools.core.records import DroppedNotice
from deliverypools.core.tallies import DAY, HOUR

HOSTILE = "\x1b[31mred\r\nBcc: x \N{RIGHT-TO-LEFT OVERRIDE}\N{SNOWMAN}"


def an_entry(queue_id="4Q1", **changes):
    usual = {
        "queue_id": queue_id,
        "host": "mx1.example.org",
        "at": 1_795_352_709.0,  # 2026-11-22 13:05:09 UTC
        "kind": "non-delivery",
        "sender": "forged@example.net",
        "recipients": "full@example.com: 552 5.2.2 mailbox full",
        "client_address": "203.0.113.9",
        "reason": "its sender failed authentication: spf=fail",
        "original_queue_id": "4Q0",
        "message_id": "<1@example.net>",
        "subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "header_from": "Forged <forged@example.net>",
        "first_lines": "Dear friend,\n\nI am a prince.",
    }
    return DroppedNotice(**usual | changes)


@pytest.fixture
def drop(state):
    def drop(**changes):
        entry = an_entry(**changes)
        state.drop(entry, DAY, 10_000)
        return entry

    return drop


def test_an_entry_as_people_read_it(run, config, drop):
    drop()
    answer = run("dropped", "list", "--config", config)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == (
        "2026-11-22 13:05 UTC  4Q1: non-delivery not sent to forged@example.net\n"
        "  reason:      its sender failed authentication: spf=fail\n"
        "  client:      203.0.113.9\n"
        "  not reached: full@example.com: 552 5.2.2 mailbox full\n"
        "  message:     4Q0 <1@example.net>\n"
        "  from:        Forged <forged@example.net>\n"
        "  subject:     Grüße\n"
        "  host:        mx1.example.org\n"
        "  | Dear friend,\n"
        "  | I am a prince.\n"
        "\n"
        "1 dropped\n"
    )


def test_json_has_all_of_it(run, config, drop):
    entries = [drop(queue_id=f"4Q{number}", at=1000.0 + number, subject=HOSTILE) for number in range(3)]
    assert run("dropped", "list", "--config", config, "--json").json() == [asdict(entry) for entry in entries[::-1]]


@pytest.mark.parametrize(
    ("drops", "told"),
    [("false", "nothing was dropped; bounces.drop_backscatter is off\n"), ("true", "nothing was dropped\n")],
)
def test_nothing_was_dropped(*, run, config, state, tmp_path, drops, told):
    Path(config).write_text(SETTINGS.format(folder=tmp_path) + f"[bounces]\ndrop_backscatter = {drops}\n")
    answer = run("dropped", "list", "--config", config)
    assert (answer.status, answer.out) == (0, told)
    assert run("dropped", "list", "--config", config, "--json").out == ""


class TestSince:
    @pytest.mark.parametrize(
        ("since", "names"),
        [
            ("2h", ["4Q1"]),
            ("30m", []),
            ("2d", ["4Q1", "4Q2"]),
            ("1970-01-02", ["4Q1", "4Q2", "4Q4"]),
            ("1970-01-02T00:00", ["4Q1", "4Q2", "4Q4"]),
            ("1970-01-02 00:01", ["4Q1", "4Q2"]),
            ("1970-01-02T00:00:01Z", ["4Q1", "4Q2"]),
            ("0001-01-01", ["4Q1", "4Q2", "4Q4", "4Q3"]),
        ],
    )
    def test_only_what_was_dropped_since(self, run, config, drop, since, names):
        now = time.time()
        for name, at in (("4Q1", now - HOUR), ("4Q2", now - DAY), ("4Q3", 0.0), ("4Q4", float(DAY))):
            drop(queue_id=name, at=at)
        found = run("dropped", "list", "--config", config, "--since", since, "--json").json()
        assert [one["queue_id"] for one in found] == names

    @pytest.mark.parametrize("since", ["", "yesterday", "2", "-2d", "2026-13-01", "2026-11-22T25:00", "9" * 5000, "٢d"])
    def test_what_is_no_time(self, run, config, state, since):
        answer = run("dropped", "list", "--config", config, f"--since={since}")
        assert (answer.status, answer.out) == (2, "")
        assert 'write how long ago ("12h", "2d") or a day (UTC, "2026-11-22")' in answer.err
        assert len(answer.err) < 1000


class TestMost:
    def test_the_newest_and_how_many_there_are(self, run, config, drop):
        for number in range(5):
            drop(queue_id=f"4Q{number}", at=1000.0 + number)
        answer = run("dropped", "list", "--config", config, "--most", "2")
        assert answer.out.splitlines()[-1] == "the newest 2 of 5; --most 5 shows all"
        assert answer.out.count("not sent to") == 2
        assert "4Q4:" in answer.out

    @pytest.mark.parametrize("most", ["0", "-1", "x", "1000001", "9" * 5000, "²"])
    def test_what_is_no_number(self, run, config, state, most):
        answer = run("dropped", "list", "--config", config, f"--most={most}")
        assert (answer.status, answer.out) == (2, "")
        assert "write a number from 1 to 1000000" in answer.err


def test_hostile_texts_stay_one_printable_line_each(run, config, drop):
    texts = ("sender", "recipients", "client_address", "reason", "message_id", "subject", "header_from", "kind", "host")
    drop(**dict.fromkeys(texts, HOSTILE * 1000), first_lines="\n".join([HOSTILE.replace("\n", "") * 1000] * 1000))
    out = run("dropped", "list", "--config", config).out
    assert all(line.isprintable() for line in out.splitlines())
    assert len(out.splitlines()) == 10 + 20
    assert len(out) < 20_000
    assert not [line for line in out.splitlines() if line.startswith("Bcc")]


def test_there_is_no_state(run, config):
    answer = run("dropped", "list", "--config", config)
    assert (answer.status, answer.out) == (1, "")
    assert "there is no state yet at" in answer.err


def test_the_state_cannot_be_read(run, config, state, tmp_path):
    state.close()
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)
    answer = run("dropped", "list", "--config", config)
    assert (answer.status, answer.out) == (1, "")
    assert "the state cannot be read or written: " in answer.err
    assert "move the file away with its -wal and -shm" in answer.err
