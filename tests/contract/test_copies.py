"""Copies of suspicious mail in a real spool folder: what is in them, what is not, and how much of it."""

import email
import email.policy
import os
import stat
import time
from pathlib import Path

import pytest

from deliverypools.adapters import copies
from deliverypools.adapters.copies import SpoolFullError, keep, postpone, subject_of, waiting_copies
from deliverypools.adapters.message_spool import MessageSpool
from deliverypools.core.records import DecisionRecord
from deliverypools.core.settings import built_in_defaults

NOW = 1_795_352_709.0
TICKET = "gAAAAABsecret"


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def settings(spool):
    made = built_in_defaults().model_dump() | {
        "accepted_domains": ["example.org"],
        "alerts": {"spool": str(spool)},
        "outbound_policies": [{"name": "default", "bcc_suspicious_mail": ["audit@example.org", "second@example.org"]}],
    }
    made["pools"] = {
        name: {**pool, "addresses": list(map(str, pool["addresses"]))} for name, pool in made["pools"].items()
    }
    return type(built_in_defaults()).model_validate(
        {key: made[key] for key in ("accepted_domains", "alerts", "outbound_policies", "pools")}
    )


def record(**changes):
    usual = {
        "queue_id": "4ckz3y1Qz0z1",
        "host": "mx.example.org",
        "pass_name": "egress",
        "at": NOW,
        "ingress": "submission",
        "account": "alice@example.org",
        "pool": "high-risk",
        "rule": "over_limit",
        "reasons": "alice@example.org: 90 recipients in 24 hours and 30 more, the limit is 100",
        "envelope_sender": "alice@example.org",
        "recipients": 30,
        "client_address": "203.0.113.9",
        "subject": "Cheap watches",
        "message_id": "<1@example.org>",
    }
    return DecisionRecord(**usual | changes)


def draft_of(headers=(("Subject", "hello"),), *chunks):
    draft = MessageSpool(copies.MOST_MESSAGE_BYTES)
    for name, value in headers:
        draft.add_header(name, value)
    for chunk in chunks:
        draft.add_body(chunk)
    return draft


def kept(settings, draft=None, **changes):
    with draft or draft_of() as open_draft:
        return keep(open_draft, record(**changes), name="over_limit/1", settings=settings)


def parsed(path):
    return email.message_from_bytes(path.read_bytes(), policy=email.policy.default)


def original(path):
    """The bytes of the message that was copied."""
    content = path.read_bytes()
    boundary = b"\n--" + email.message_from_bytes(content).get_boundary().encode()
    return content.split(boundary)[2].partition(b"\n\n")[2]


class TestContent:
    def test_a_copy_is_a_message_of_ours_about_another(self, settings):
        message = parsed(kept(settings))
        assert message["From"] == "Delivery Pools <delivery-pools@example.org>"
        assert message["To"] == "audit@example.org, second@example.org"
        assert message["Subject"] == "[delivery-pools] Copy of suspicious mail: Cheap watches"
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["X-Delivery-Pool-Copy"] == "over_limit"
        assert message["Date"].datetime.timestamp() == NOW
        assert message["Message-ID"].endswith("@example.org>")
        assert message.get_content_type() == "multipart/mixed"
        note, attached = message.iter_parts()
        assert note.get_content() == (
            "A copy of a suspicious message, as it was received, is attached. The message itself has gone its way.\n\n"
            "  account:    alice@example.org\n"
            "  rule:       over_limit\n"
            "  pool:       high-risk\n"
            "  reasons:    alice@example.org: 90 recipients in 24 hours and 30 more, the limit is 100\n"
            "  sender:     <alice@example.org>\n"
            "  recipients: 30\n"
            "  client:     203.0.113.9\n"
            "  queue id:   4ckz3y1Qz0z1 on mx.example.org\n"
        )
        assert attached.get_content_type() == "message/rfc822"
        assert attached.get_content()["Subject"] == "hello"

    @pytest.mark.parametrize("name", ["X-Delivery-Pool-Ticket", "x-delivery-pool-ticket", "X-Delivery-Pool"])
    def test_tickets_and_tags_are_not_disclosed(self, settings, name):
        path = kept(settings, draft_of([("A", "1"), (name, f"{TICKET}\n\t{TICKET}"), ("B", "2")], b"hello"))
        assert TICKET.encode() not in path.read_bytes()
        assert original(path) == b"A: 1\nB: 2\n\nhello"

    @pytest.mark.parametrize("size", [1, 2, 7, 4096])
    def test_line_ends_become_lf_however_the_body_is_cut(self, settings, size):
        body = b"one\r\n\r\ntwo \r bare\r\r\n.\r\nFrom me\r\nlast\r"
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        path = kept(settings, draft_of([("Subject", "a\n\tb\r\n c")], *chunks))
        assert original(path) == b"Subject: a\n\tb\n c\n\none\n\ntwo \r bare\r\n.\nFrom me\nlast\r"

    def test_eight_bit_mail_stays_as_it_is(self, settings):
        path = kept(settings, draft_of([("Subject", "caf\udce9 Gr\u00fc\u00dfe")], b"\xff\x00\xe9\r\n"))
        assert (
            original(path)
            == "Subject: caf\udce9 Gr\u00fc\u00dfe\n\n".encode(errors="surrogateescape") + b"\xff\x00\xe9\n"
        )
        message = email.message_from_bytes(path.read_bytes())
        assert message["Content-Transfer-Encoding"] == "8bit"
        assert message.get_payload(1)["Content-Transfer-Encoding"] == "8bit"

    def test_seven_bit_mail_says_so(self, settings):
        message = email.message_from_bytes(kept(settings, draft_of([("A", "b")], b"plain")).read_bytes())
        assert message["Content-Transfer-Encoding"] == "7bit"
        assert message.get_payload(1)["Content-Transfer-Encoding"] == "7bit"

    def test_message_without_a_body(self, settings):
        assert original(kept(settings, draft_of([("A", "b")]))) == b"A: b\n\n"

    def test_field_cannot_end_the_head_nor_write_another(self, settings):
        headers = [("A", "b\nBcc: c"), ("D", "e\n\nf"), ("G\r\nH: i", "j"), ("K", "\ud800")]
        assert original(kept(settings, draft_of(headers))) == b"A: b\n\tBcc: c\nD: e\n\t\n\tf\nGHi: j\nK: ?\n\n"

    @pytest.mark.parametrize(
        "text",
        ["a\r\nBcc: x", "=?utf-8?q?a=0ABcc:_x?=", "caf\udce9", "\ud800", "\N{SNOWMAN}" * 500, "x" * 100_000, "\0"],
    )
    def test_hostile_decisions_write_no_field(self, settings, text):
        changes = dict.fromkeys(("subject", "rule", "account", "reasons", "envelope_sender", "queue_id", "host"), text)
        path = kept(settings, **changes)
        assert "Bcc" not in parsed(path)
        names = {
            line.partition(b":")[0] for line in path.read_bytes().partition(b"\n\n")[0].splitlines() if line[:1] > b" "
        }
        assert names == {
            *(b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"X-Delivery-Pool-Copy"),
            *(b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"),
        }

    def test_huge_message_is_cut_and_says_so(self, settings):
        draft = draft_of()
        for _ in range(copies.MOST_MESSAGE_BYTES // 1_000_000 + 5):
            draft.add_body(b"x" * 1_000_000)
        path = kept(settings, draft)
        assert copies.MOST_MESSAGE_BYTES < path.stat().st_size < copies.MOST_MESSAGE_BYTES + 5000
        assert original(path).endswith(b"x\n[cut here by Delivery Pools: the message is longer]\n")
        note = email.message_from_bytes(path.read_bytes()).get_payload(0).get_payload()
        assert f"its first {copies.MOST_MESSAGE_BYTES} bytes are attached" in note

    def test_the_library_reads_what_was_kept(self, settings):
        assert subject_of(kept(settings)) == "[delivery-pools] Copy of suspicious mail: Cheap watches"
        assert subject_of(Path("/nonexistent/copy")) == ""


class TestSpool:
    def test_nobody_else_may_read_it(self, settings, spool):
        path = kept(settings)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent == spool / "copies"

    def test_it_is_empty_before_there_is_a_folder(self, spool):
        assert waiting_copies(spool) == []

    def test_oldest_first(self, settings, spool):
        paths = [kept(settings, at=NOW + number) for number in (5, 0, 3)]
        waiting = waiting_copies(spool)
        assert [copy.path for copy in waiting] == [paths[1], paths[2], paths[0]]
        assert [copy.kept_at for copy in waiting] == [NOW, NOW + 3, NOW + 5]

    def test_postponed(self, settings, spool):
        postpone(kept(settings), NOW + 60)
        assert waiting_copies(spool)[0].due_at == NOW + 60

    def test_one_decision_kept_twice_is_one_copy(self, settings, spool):
        kept(settings)
        kept(settings)
        assert len(waiting_copies(spool)) == 1

    def test_what_is_being_written_or_not_ours_is_no_copy(self, settings, spool):
        kept(settings)
        folder = spool / "copies"
        (folder / ".half").write_bytes(b"")
        (folder / "notes.txt").write_bytes(b"")
        (folder / "00000000001.a.eml").symlink_to("/etc/passwd")
        (folder / "00000000002.a.eml").mkdir()
        assert len(waiting_copies(spool)) == 1
        assert (folder / ".half").exists()

    def test_what_a_killed_writer_left_behind_goes_after_an_hour(self, settings, spool):
        kept(settings)
        half = spool / "copies" / ".half"
        half.write_bytes(b"")
        os.utime(half, (time.time() - 4000,) * 2)
        waiting_copies(spool)
        assert not half.exists()

    @pytest.mark.parametrize(("name", "value"), [("MOST_COPIES", 2), ("MOST_SPOOL_BYTES", 1000)])
    def test_full_spool_keeps_no_copy(self, settings, spool, monkeypatch, name, value):
        monkeypatch.setattr(copies, name, value)
        kept(settings, at=NOW)
        if name == "MOST_COPIES":
            kept(settings, at=NOW + 1)
        before = sorted((spool / "copies").iterdir())
        with pytest.raises(SpoolFullError, match="wait to be sent"):
            kept(settings, at=NOW + 2)
        assert sorted((spool / "copies").iterdir()) == before

    def test_spool_that_cannot_be_made_is_an_os_error(self, settings, spool):
        spool.write_bytes(b"")
        with pytest.raises(NotADirectoryError):
            kept(settings)

    def test_failing_disk_is_told_at_the_end_only(self, settings, spool, monkeypatch):
        draft = draft_of()

        def fail(_content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(draft._file, "write", fail)
        draft.add_header("A", "b")
        draft.add_body(b"x")
        with pytest.raises(OSError, match="No space left"):
            kept(settings, draft)
        assert waiting_copies(spool) == []

    def test_failed_write_leaves_nothing_behind(self, settings, spool, monkeypatch):
        kept(settings)
        before = sorted((spool / "copies").iterdir())

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            kept(settings, at=NOW + 1)
        assert sorted((spool / "copies").iterdir()) == before

    def test_small_messages_stay_in_memory_and_large_ones_do_not(self):
        with draft_of([("A", "b")], b"x" * 1000) as small, draft_of([("A", "b")], b"x" * 100_000) as large:
            assert not small._file._rolled
            assert large._file._rolled
