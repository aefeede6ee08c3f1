"""`check --live`: what is sent, and what it means what came of it."""

import ipaddress
import json
from dataclasses import replace

import pytest
from audit_lines import delivery
from originals import original

from deliverypools.adapters.probe_log import ProbeLog
from deliverypools.adapters.probe_mail import ProbeError, ProbeMail, Queued, _probes_in
from deliverypools.adapters.seal import TicketSealer
from deliverypools.cli.live_check import _as_json, _as_table, _needs, _why_it_waits
from deliverypools.core.host_check.live import Outcome, Seen, Wanted, copies_outside, judge_probe, probes_for
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.probe import DOMAIN
from deliverypools.core.settings import Settings

KEY = b"A" * 43 + b"="
WANTED = Wanted(
    pool="normal",
    transport="pool-normal",
    transport_tag="normal",
    family=4,
    address=ipaddress.ip_address("192.0.2.10"),
    helo="mail.example.org",
)
CLEAN = b"Received: x\nX-Delivery-Pool-Probe: gAAA\nSubject: probe\n"


def settings(*addresses):
    pools = {
        name: {"addresses": [f"192.0.2.{host}"], "helo": f"{name}.example.org"}
        for name, host in (("high-risk", 20), ("relay", 30))
    }
    pools["normal"] = {"addresses": list(addresses), "helo": "mail.example.org"}
    return Settings.model_validate({"accepted_domains": ["example.org"], "pools": pools})


def test_every_address_has_a_probe():
    probes = probes_for(settings("192.0.2.10", "192.0.2.11", "2001:db8::10"), frozenset({4, 6}))
    assert [(one.transport, one.transport_tag, one.family, str(one.address)) for one in probes][-4:] == [
        ("pool-normal", "normal", 4, "192.0.2.10"),
        ("pool-normal", "normal", 6, "2001:db8::10"),
        ("pool-normal-2", "normal 2", 4, "192.0.2.11"),
        ("pool-normal-2", "normal 2", 6, "2001:db8::10"),
    ]
    assert [str(one.address) for one in probes[:2]] == ["192.0.2.20", "None"]


def test_families_that_postfix_does_not_use_have_none():
    assert {one.family for one in probes_for(settings("192.0.2.10"), frozenset({4}))} == {4}


@pytest.mark.parametrize(
    ("seen", "queue_reason", "outcome", "reason"),
    [
        (Seen(source="192.0.2.10", helo="Mail.Example.ORG", header=CLEAN), "", Outcome.RIGHT, ""),
        (Seen(source="192.0.2.1", helo="mail.example.org", header=CLEAN), "", Outcome.WRONG_ADDRESS, ""),
        (Seen(source="nonsense", helo="mail.example.org", header=CLEAN), "", Outcome.WRONG_ADDRESS, ""),
        (Seen(source="192.0.2.10", helo="other.example.org", header=CLEAN), "", Outcome.WRONG_HELO, ""),
        (Seen(source="192.0.2.10", helo="mail.example.org"), "TLS", Outcome.NOT_TAKEN, "TLS"),
        (
            Seen(source="192.0.2.10", helo="mail.example.org", header=b"a: b\nx-delivery-pool : normal\n"),
            "",
            Outcome.OUR_HEADERS,
            "x-delivery-pool",
        ),
        (
            Seen(source="192.0.2.10", helo="mail.example.org", header=b"X-Delivery-Pool-Ticket: gAAAA\n x\n"),
            "",
            Outcome.OUR_HEADERS,
            "X-Delivery-Pool-Ticket",
        ),
        (None, "server configuration error", Outcome.MISSING, "server configuration error"),
        (None, "", Outcome.MISSING, ""),
    ],
)
def test_judged(seen, queue_reason, outcome, reason):
    result = judge_probe(WANTED, seen, queue_reason)
    assert (result.outcome, result.reason) == (outcome, reason)


@pytest.mark.parametrize("transport", ["pool-normal", "egress"])
def test_a_paused_transport_is_not_called_wrong(transport):
    result = judge_probe(WANTED, None, "deferred transport", paused=frozenset({transport}))
    assert result.outcome is Outcome.PAUSED
    assert "paused by defer_transports: deferred transport" in _as_table([result])
    assert judge_probe(WANTED, None, "", paused=frozenset({"pool-relay"})).outcome is Outcome.MISSING
    seen = Seen(source="192.0.2.10", helo="mail.example.org", header=CLEAN)
    assert judge_probe(WANTED, seen, "", paused=frozenset({transport})).outcome is Outcome.RIGHT


class TestCopies:
    """What Postfix copies to somebody outside would be no probe, and reach that somebody."""

    def site(self, **main):
        return Site(original(main).postfix, settings("192.0.2.10"))

    def outside(self, answer="", **main):
        return list(copies_outside(self.site(**main), lambda tables: answer))

    def test_nobody_gets_copies(self):
        assert self.outside() == []
        assert self.outside("archive@example.net") == []

    @pytest.mark.parametrize("address", ["archive@example.org", "archive@EXAMPLE.org", "archive", "a@mx.example.org"])
    def test_an_archive_here(self, address):
        assert self.outside(always_bcc=address) == []

    def test_an_archive_outside(self):
        assert self.outside(always_bcc="archive@example.net") == ["always_bcc: archive@example.net"]

    def test_a_table(self):
        found = self.outside("archive@example.net", recipient_bcc_maps="static:archive@example.net")
        assert found == ["recipient_bcc_maps: archive@example.net"]

    @pytest.mark.parametrize(
        ("value", "is_outside"),
        [("internal:[10.0.0.5]", False), ("egress:[127.0.0.1]:10028", True), (":[gw.example.net]", True)],
    )
    def test_an_archive_on_another_server(self, value, is_outside):
        tables = {"hash:/t": {"example.net": value}}
        main = {"always_bcc": "archive@example.net", "transport_maps": "hash:/t"}
        site = Site(original(main, tables=tables).postfix, settings("192.0.2.10"))
        assert bool(list(copies_outside(site, lambda tables: ""))) is is_outside

    def test_mail_of_sendmail_without_copies(self):
        master = "pickup unix n - y 60 1 pickup -o receive_override_options=no_address_mappings"
        site = Site(original({"always_bcc": "archive@example.net"}, master).postfix, settings("192.0.2.10"))
        assert list(copies_outside(site, lambda tables: "")) == []

    def test_who_may_send_is_named_where_the_site_has_changed_it(self):
        usual = {"authorized_submit_users": "static:anyone", "local_login_sender_maps": "static:*"}
        assert _needs(self.site(**usual)) == "a running Postfix, and root"
        said = _needs(self.site(**usual | {"local_login_sender_maps": "inline:{alice=alice@example.org}"}))
        assert said.endswith("local_login_sender_maps = inline:{alice=alice@example.org}")
        assert "authorized_submit_users" not in said


def test_nothing_may_come_of_a_family_that_the_pool_has_not():
    wanted = Wanted(
        pool="normal", transport="pool-normal", transport_tag="normal", family=6, address=None, helo="mail.example.org"
    )
    seen = Seen(source="2001:db8::1", helo="mail.example.org", header=CLEAN)
    assert judge_probe(wanted, seen, "").outcome is Outcome.WRONG_ADDRESS
    right = judge_probe(wanted, None, "cannot assign", failed_by="pool-normal")
    assert right.outcome is Outcome.RIGHT
    assert "the pool has no such address, and nothing came" in _as_table([right])


@pytest.mark.parametrize("failed_by", ["", "egress", "pool-high-risk"])
def test_nothing_that_came_proves_nothing_unless_the_transport_has_tried(failed_by):
    wanted = replace(WANTED, family=6, address=None)
    result = judge_probe(wanted, None, "451 Not yet decided", failed_by)
    assert result.outcome is Outcome.NOT_TESTED
    said = _as_table([result])
    assert "not tested: nothing came, and no log tells that pool-normal has tried: 451 Not yet decided" in said
    assert "1 of 1 probes went wrong; `delivery-pools check` says what is wrong" in said


def test_maildrop_has_a_cause_and_a_remedy():
    said = _why_it_waits(Queued(queue_id="x", queue_name="maildrop", reason=""))
    assert "postfix status" in said
    assert "systemctl status delivery-pools-milter" in said


class TestLog:
    def said(self, transport, status, number=1):
        return delivery(f"postfix/{transport}/smtp", recipient=f"probe-{number}@{DOMAIN}", status=status, relay="none")

    @pytest.fixture(autouse=True)
    def _no_journal(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_who_has_tried(self, tmp_path):
        file = tmp_path / "mail.log"
        file.write_text(f"{self.said('pool-relay', 'bounced')}\n")
        log = ProbeLog(str(file), (str(tmp_path / "missing"),))
        with file.open("a") as more:
            more.write(f"{self.said('pool-normal', 'deferred', 2)}\n{self.said('pool-normal', 'sent', 3)}\n\xff\n")
        assert log.failed_by() == {f"probe-2@{DOMAIN}": "pool-normal"}

    def test_a_log_that_is_gone_tells_nothing(self, tmp_path):
        file = tmp_path / "mail.log"
        file.touch()
        log = ProbeLog(str(file), ())
        file.unlink()
        assert log.failed_by() == {}


def test_table_and_json_say_what_was_expected():
    wrong = judge_probe(WANTED, Seen(source="192.0.2.20", helo="mail.example.org", header=CLEAN), "")
    lines = _as_table([wrong]).splitlines()
    assert lines[1].split() == [
        *("pool-normal", "v4", "192.0.2.20", "mail.example.org"),
        *("wrong", "address:", "192.0.2.10", "was", "expected"),
    ]
    assert (
        lines[-1]
        == "1 of 1 probes went wrong; `delivery-pools check` says what is wrong with Postfix, addresses and daemons"
    )
    (row,) = json.loads(_as_json([wrong]))["probes"]
    assert (row["expected_address"], row["source_address"], row["verdict"]) == (
        "192.0.2.10",
        "192.0.2.20",
        "wrong address",
    )


class TestMail:
    @pytest.fixture
    def mail(self):
        return ProbeMail(settings("192.0.2.10"), TicketSealer([KEY]), None)

    def test_the_header_asks_for_the_transport_in_this_message_only(self, mail):
        header, _, _ = mail._message(0, WANTED, 2525).partition(b"\nFrom:")
        value = header.decode().partition(": ")[2]
        message_id = next(
            line.partition(": ")[2]
            for line in mail._message(0, WANTED, 2525).decode().splitlines()
            if line.startswith("Message-ID")
        )
        probe = TicketSealer([KEY]).open_probe(value, message_id)
        assert (probe.transport_tag, probe.family, probe.port) == ("normal", 4, 2525)
        assert TicketSealer([KEY]).open_probe(value, "<other@example.org>") is None

    def test_recipients_are_nobody(self, mail):
        assert mail.recipient(3).endswith("-3@delivery-pools-probe.invalid")
        assert mail.recipient(3) != ProbeMail(settings("192.0.2.10"), TicketSealer([KEY]), None).recipient(3)

    def test_queue_entries_of_others_are_left_alone(self):
        line = {
            "queue_id": "ABC",
            "queue_name": "deferred",
            "recipients": [
                {"address": "probe-1-0@delivery-pools-probe.invalid", "delay_reason": "x\n"},
                {"address": "bob@example.net"},
            ],
        }
        (found,) = _probes_in(json.dumps(line).encode(), {"probe-1-0@delivery-pools-probe.invalid": 0}).values()
        assert (found.queue_id, found.queue_name) == ("ABC", "deferred")
        assert _probes_in(json.dumps(line).encode(), {"probe-2-0@delivery-pools-probe.invalid": 0}) == {}

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"{",
            b"[]",
            b'{"queue_id": 1}',
            b"\xff",
            b'{"queue_id":"A","queue_name":"b","recipients":[1]}',
            b"[" * 60_000,
        ],
    )
    def test_what_is_no_queue_entry(self, line):
        with pytest.raises(ProbeError, match="postqueue -j"):
            _probes_in(line, {})

    def test_no_sendmail_there(self, mail, monkeypatch):
        monkeypatch.setattr("deliverypools.adapters.commands._SYSTEM_PATH", "")
        with pytest.raises(ProbeError, match="is Postfix installed here"):
            mail._command(["/nonexistent/sendmail"])

    def test_a_command_that_fails_is_quoted(self, mail):
        with pytest.raises(ProbeError, match=r"sh: no luck\Z"):
            mail._command(["sh", "-c", "echo no luck >&2; exit 75"])

    def test_a_command_that_never_ends(self, mail, monkeypatch):
        monkeypatch.setattr("deliverypools.adapters.probe_mail._COMMAND_SECONDS", 0.1)
        with pytest.raises(ProbeError, match="not done within"):
            mail._command(["sleep", "1000"])
