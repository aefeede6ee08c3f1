"""Debian's rspamd, spamd and clamd, asked by the milter: what they call spam or malware leaves as the settings say."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mailing import (
    ALICE,
    HIGH_RISK,
    NORMAL,
    RELAY,
    arrived,
    decision,
    fresh,
    fresh_subject,
    from_outside,
    from_trusted,
    left_with,
    mail,
    running,
    said_in,
    submit,
)

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import ACCEPT, DEFER
from deliverypools.lab.scanners import EICAR, GTUBE, SIGNATURE, ClamdServer, RspamdServer, ScannerServer, SpamdServer
from deliverypools.lab.signing import signed
from deliverypools.lab.waiting import wait_until
from deliverypools.lab.world import NAMESERVER

SERVERS: dict[str, type[ScannerServer]] = {"rspamd": RspamdServer, "spamd": SpamdServer, "clamd": ClamdServer}
PATTERNS = {"rspamd": GTUBE, "spamd": GTUBE, "clamd": EICAR}
RULES = {"rspamd": "spam", "spamd": "spam", "clamd": "malware"}
EVIDENCE = {
    "rspamd": "rspamd: reject, score 15.0 (GTUBE",
    "spamd": "spamd: found, score 99",
    "clamd": f"clamd: found ({SIGNATURE})",
}
HOLD: dict[str, dict[str, Any]] = {
    "rspamd": {"rspamd_scores": {"hold": 15.0}},
    "spamd": {"spamd_scores": {"hold": 900.0}},
    "clamd": {"malware": "hold"},
}
REJECT: dict[str, dict[str, Any]] = {
    "rspamd": {"rspamd_scores": {"reject": 15.0}},
    "spamd": {"spamd_scores": {"reject": 900.0}},
    "clamd": {"malware": "reject"},
}
SITE = Site(virtual={"alias@example.org": "via-alias@example.net"})


class Scanned:
    """A lab, and the scanners in its network that its milter asks."""

    def __init__(self, lab: Lab, servers: dict[str, ScannerServer]) -> None:
        self.lab = lab
        self.servers = servers

    def configure(self, **spam: Any) -> None:
        """Let the milter ask the scanners, by these settings of `[spam]` and no others."""
        addresses = {name: getattr(server, "url", server.address) for name, server in self.servers.items()}
        self.lab.write_settings({"spam": addresses | spam})
        self.lab.restart_milter()

    def log(self, name: str, message_id: str, words: str) -> str:
        """Return the line of a scanner's log about a message that has these words in it, as soon as it is there."""

        def lines() -> list[str]:
            return [line for line in self.servers[name].log().splitlines() if message_id in line and words in line]

        wait_until(lambda: bool(lines()), timeout_seconds=20, what=f"{words!r} in the log of {name}")
        return lines()[0]


LENIENT = {"actions.conf": "reject = 15; add_header = 12; greylist = null;"}
"""Clients of the lab have no names in DNS, which rspamd holds against them; where DNS is slow it is more."""


@contextlib.contextmanager
def scanned(*names: str, profile: str = "hop", options: dict[str, Any] | None = None, **spam: Any) -> Iterator[Scanned]:
    with running(profile=profile, site=SITE) as lab, contextlib.ExitStack() as stack:
        servers = {}
        for name in names:
            arguments = {"nameserver": lab.address(NAMESERVER), "overrides": LENIENT} if name == "rspamd" else {}
            server = SERVERS[name](network=lab.network, **arguments | (options or {}))
            servers[name] = stack.enter_context(server)
        one = Scanned(lab, servers)
        one.configure(**spam)
        yield one


@pytest.fixture(scope="module", params=SERVERS)
def scanner(request) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def one(scanner: str) -> Iterator[Scanned]:
    """A lab with one scanner."""
    with scanned(scanner) as one:
        yield one


@pytest.fixture
def plain(one: Scanned) -> Scanned:
    """The same, configured for nothing but that scanner."""
    one.configure()
    return one


@pytest.fixture(scope="module")
def all_three() -> Iterator[Scanned]:
    with scanned(*SERVERS) as all_three:
        yield all_three


def encoded(content: str) -> bytes:
    """Return a message with this content in Base64, as an attachment that says it is text."""
    lines = base64.encodebytes(f"{content}\r\n".encode()).decode().replace("\n", "\r\n")
    parts = (
        "--b\r\nContent-Type: text/plain\r\n\r\nsee the attachment\r\n"
        "--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="a.txt"\r\n\r\n{lines}--b--\r\n'
    )
    return mail(body=parts, MIME_Version="1.0", Content_Type="multipart/mixed; boundary=b")


def scans(one: Scanned, message_id: str) -> list[int]:
    """Return how often rspamd and spamd have scanned a message, and clamd any: its log does not say which."""
    log = {name: server.log() for name, server in one.servers.items()}
    return [
        log["rspamd"].count(f"id: {message_id}, "),
        log["spamd"].count(f"mid={message_id},"),
        log["clamd"].count("instream("),
    ]


def wait_for_hold(lab: Lab, recipient: str) -> None:
    def held() -> list[str]:
        return [
            entry["queue_name"]
            for entry in lab.postfix.queue()
            if any(one["address"] == recipient for one in entry["recipients"])
        ]

    wait_until(lambda: held() == ["hold"], timeout_seconds=30, what=f"the message to {recipient} on hold")


@pytest.mark.parametrize("send", [submit, from_trusted])
def test_test_pattern_leaves_by_high_risk_and_ordinary_mail_by_normal(plain: Scanned, scanner: str, send: Callable):
    bad, good = fresh(), fresh()
    send(plain.lab, bad, mail(body=PATTERNS[scanner] + "\r\n"))
    send(plain.lab, good, mail())
    assert arrived(plain.lab, bad).source_address in HIGH_RISK
    assert arrived(plain.lab, good).source_address in NORMAL
    line = decision(plain.lab, bad)
    assert f"pool=high-risk rule={RULES[scanner]} " in line
    assert EVIDENCE[scanner] in line


def test_forwarded_mail_is_scanned_too(plain: Scanned, scanner: str):
    bad, good = fresh_subject(), fresh_subject()
    from_outside(plain.lab, "alias@example.org", mail("erin@example.com", PATTERNS[scanner] + "\r\n", Subject=bad))
    from_outside(plain.lab, "alias@example.org", mail("erin@example.com", Subject=good))
    by_subject = {
        message.header("Subject"): message.source_address
        for message in plain.lab.wait_for(lambda message: message.header("Subject") in (bad, good), count=2)
    }
    assert by_subject[bad] in HIGH_RISK
    assert by_subject[good] in RELAY


def test_pattern_in_an_encoded_part_is_found(plain: Scanned, scanner: str):
    bad, good = fresh(), fresh()
    submit(plain.lab, bad, encoded(PATTERNS[scanner]))
    submit(plain.lab, good, encoded("nothing"))
    assert arrived(plain.lab, bad).source_address in HIGH_RISK
    assert arrived(plain.lab, good).source_address in NORMAL


def test_header_that_calls_it_clean_makes_nothing_clean(plain: Scanned, scanner: str):
    recipient = fresh()
    headers = {"X_Spam_Status": "No, score=-99", "X_Spam_Flag": "NO", "X_Rspamd_Action": "no action"}
    submit(plain.lab, recipient, mail(body=PATTERNS[scanner] + "\r\n", **headers))
    assert arrived(plain.lab, recipient).source_address in HIGH_RISK


def test_held_where_the_settings_say_so(one: Scanned, scanner: str):
    one.configure(**HOLD[scanner])
    recipient, good, subject = fresh(), fresh(), fresh_subject()
    submit(one.lab, recipient, mail(body=PATTERNS[scanner] + "\r\n", Subject=subject))
    submit(one.lab, good)
    wait_for_hold(one.lab, recipient)
    assert arrived(one.lab, good).source_address in NORMAL
    assert left_with(one.lab, subject) == []
    one.lab.postfix.postsuper("-d", "ALL", "hold")


def test_refused_where_the_settings_say_so_and_the_sender_is_told(one: Scanned, scanner: str):
    one.configure(**REJECT[scanner])
    recipient, good, subject = fresh(), fresh(), fresh_subject()
    known = len(one.lab.mailbox("alice"))
    submit(one.lab, recipient, mail(body=PATTERNS[scanner] + "\r\n", Subject=subject))
    submit(one.lab, good)
    assert arrived(one.lab, good).source_address in NORMAL
    wait_until(lambda: len(one.lab.mailbox("alice")) > known, timeout_seconds=30, what="the notice to alice")
    notice = said_in(one.lab.mailbox("alice")[-1])
    assert recipient in notice
    assert "it was found to hold spam or malware" in notice
    assert PATTERNS[scanner] not in notice
    one.lab.wait_until_queue_is_empty()
    assert left_with(one.lab, subject) == []


@pytest.mark.parametrize("silence", ["stopped", "hanging"])
def test_mail_waits_for_a_scanner_and_leaves_when_it_is_back(one: Scanned, scanner: str, silence: str):
    one.configure(timeout_seconds=1.0)
    server = one.servers[scanner]
    begin, end = (server.stop, server.start) if silence == "stopped" else (server.pause, server.resume)
    bad, good = fresh(), fresh()
    begin()
    submit(one.lab, bad, mail(body=PATTERNS[scanner] + "\r\n"))
    submit(one.lab, good)
    one.lab.postfix.wait_until_deferred(2)
    assert not {bad, good} & {recipient for message in one.lab.messages for recipient in message.recipients}
    end()
    wait_until(server.is_answering, timeout_seconds=20, what=scanner)
    one.lab.postfix.flush()
    assert arrived(one.lab, bad, seconds=60).source_address in HIGH_RISK
    assert arrived(one.lab, good, seconds=60).source_address in NORMAL


def test_each_scanner_is_asked_and_each_says_its_word(all_three: Scanned):
    all_three.configure()
    spam, virus, both, good = fresh(), fresh(), fresh(), fresh()
    submit(all_three.lab, spam, mail(body=f"{GTUBE}\r\n"))
    submit(all_three.lab, virus, mail(body=f"{EICAR}\r\n"))
    submit(all_three.lab, both, mail(body=f"{GTUBE}\r\n{EICAR}\r\n"))
    submit(all_three.lab, good, mail())
    expected = {spam: ("high-risk", "spam"), virus: ("high-risk", "malware"), both: ("high-risk", "malware")}
    for recipient, (pool, rule) in (expected | {good: ("normal", "default")}).items():
        assert f"pool={pool} rule={rule} " in decision(all_three.lab, recipient)
    assert {arrived(all_three.lab, one).source_address in HIGH_RISK for one in expected} == {True}
    words = decision(all_three.lab, both)
    assert [said for said in EVIDENCE.values() if said not in words] == []


def test_scanner_by_its_unix_socket(all_three: Scanned):
    unix = {name: all_three.servers[name].unix_address for name in ("spamd", "clamd")}  # type: ignore[attr-defined]
    all_three.configure(**unix)
    spam, virus = fresh(), fresh()
    submit(all_three.lab, spam, mail(body=f"{GTUBE}\r\n"))
    submit(all_three.lab, virus, mail(body=f"{EICAR}\r\n"))
    assert EVIDENCE["spamd"] in decision(all_three.lab, spam)
    assert EVIDENCE["clamd"] in decision(all_three.lab, virus)


def test_nobody_is_asked_about_what_needs_no_scanner(all_three: Scanned):
    all_three.configure(skip=[{"recipient": "reports@example.com"}])
    headers = {"Message_ID": f"<{fresh_subject().replace(' ', '-')}@example.org>"}
    before = scans(all_three, headers["Message_ID"])
    told, bounce = fresh(), fresh()
    submit(all_three.lab, told, mail(X_Spam_Flag="YES", **headers))
    from_trusted(all_three.lab, bounce, mail("mailer-daemon@example.org", **headers), sender="")
    submit(all_three.lab, "reports@example.com", mail(body=f"{GTUBE}\r\n", **headers))
    pools = [arrived(all_three.lab, one).source_address for one in (told, bounce, "reports@example.com")]
    assert [pool in HIGH_RISK for pool in pools] == [True, True, False]
    # What a header calls spam can still be malware.
    assert scans(all_three, headers["Message_ID"]) == [0, 0, before[-1] + 1]


def test_message_that_has_left_the_egress_pass_is_not_scanned_again(all_three: Scanned):
    all_three.configure()
    lab, recipient = all_three.lab, fresh("dual.example")
    lab.receiver.answer(recipient, DEFER)
    before = scans(all_three, f"<{recipient}>")
    submit(lab, recipient, mail(Message_ID=f"<{recipient}>"))
    for _ in range(3):
        lab.postfix.wait_until_deferred()
        lab.postfix.flush()
    lab.postfix.wait_until_deferred()
    lab.receiver.answer(recipient, ACCEPT)
    lab.postfix.flush()
    assert arrived(lab, recipient).source_address in NORMAL
    all_three.log("spamd", f"mid=<{recipient}>", "result:")
    assert scans(all_three, f"<{recipient}>") == [count + 1 for count in before]


def test_only_the_scanner_that_did_not_answer_is_asked_again(all_three: Scanned):
    all_three.configure()
    lab, recipient = all_three.lab, fresh()
    before = scans(all_three, f"<{recipient}>")
    all_three.servers["spamd"].stop()
    submit(lab, recipient, mail(Message_ID=f"<{recipient}>"))
    for _ in range(2):
        lab.postfix.wait_until_deferred()
        lab.postfix.flush()
    lab.postfix.wait_until_deferred()
    all_three.servers["spamd"].start()
    lab.postfix.flush()
    assert arrived(lab, recipient).source_address in NORMAL
    all_three.log("spamd", f"mid=<{recipient}>", "result:")
    # On the fast path those that answered are asked in the first pass, and once more behind the hop.
    asked = [now - then for now, then in zip(scans(all_three, f"<{recipient}>"), before, strict=True)]
    assert set(asked) <= {1, 2}
    assert asked[1] == 1


def test_rspamd_is_told_who_sent_it_and_whom_it_is_for(all_three: Scanned):
    all_three.configure()
    recipients = [fresh(), fresh()]
    message_id = f"{recipients[0]}"
    submit(all_three.lab, recipients, mail(Message_ID=f"<{message_id}>"))
    line = all_three.log("rspamd", f"id: <{message_id}>, ", "rspamd_task_write_log")
    assert "user: alice@example.org, " in line
    assert "from: <alice@example.org>" in line
    assert "ip: 203.0.113.1, " in line
    assert f"rcpts: <{','.join(recipients)}>" in line
    queue_id = decision(all_three.lab, recipients[0]).partition(": pass=")[0].rpartition(" ")[2]
    assert f"qid: <{queue_id}>" in line


def test_rspamd_sees_the_message_as_it_came(all_three: Scanned):
    """A signature of another domain still holds there, and SPF is checked by the client that brought the message."""
    all_three.configure()
    subject = fresh_subject()
    message_id = f"{subject.replace(' ', '-')}@signed.example"
    data = signed(
        mail("erin@signed.example", "..\r\n.\r\n\r\n", Subject=subject, Message_ID=f"<{message_id}>"), "signed.example"
    )
    from_outside(all_three.lab, "alias@example.org", data, sender="erin@spf.example")
    line = all_three.log("rspamd", f"id: <{message_id}>, ", "rspamd_task_write_log")
    assert "R_DKIM_ALLOW" in line
    assert "R_SPF_ALLOW" in line


def test_rspamd_follows_its_own_settings_where_ours_name_them():
    rule = 'outbound { id = "outbound"; apply { actions { reject = 900; "add header" = 800; } symbols [ "OURS" ] } }'
    options = {"overrides": LENIENT | {"settings.conf": rule}}
    with scanned("rspamd", options=options, rspamd_settings_id="outbound") as one:
        recipient = fresh()
        submit(one.lab, recipient, mail(Message_ID=f"<{recipient}>"))
        assert arrived(one.lab, recipient).source_address in NORMAL
        line = one.log("rspamd", f"id: <{recipient}>, ", "rspamd_task_write_log")
    assert "settings_id: outbound" in line


def test_spamd_is_told_whose_preferences_count(all_three: Scanned):
    all_three.configure(spamd_user="outbound")
    recipient = fresh()
    submit(all_three.lab, recipient, mail(Message_ID=f"<{recipient}>"))
    assert " for outbound:" in all_three.log("spamd", f"<{recipient}>", "checking message")


@pytest.mark.parametrize("name", SERVERS)
def test_express_asks_in_its_one_pass(name: str):
    with scanned(name, profile="express") as one:
        bad, good, refused = fresh(), fresh(), fresh()
        submit(one.lab, bad, mail(body=PATTERNS[name] + "\r\n"))
        submit(one.lab, good)
        assert arrived(one.lab, bad).source_address in HIGH_RISK
        assert arrived(one.lab, good).source_address in NORMAL
        one.configure(**REJECT[name])
        result = one.lab.send(ALICE[0], refused, mail(body=PATTERNS[name] + "\r\n"), port=587, auth=ALICE)
        assert (result.code, result.text[:5]) == (550, "5.7.1")
        one.servers[name].pause()
        undecided = one.lab.send(ALICE[0], refused, mail(), port=587, auth=ALICE)
        assert undecided.code == 451
        one.lab.wait_until_queue_is_empty()
        assert not [message for message in one.lab.messages if refused in message.recipients]
