"""Shadow mode on a real Postfix: mail of every kind leaves by normal, and what would have been done is on record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from mailing import (
    BOB,
    NORMAL,
    arrived,
    arrived_with,
    forward,
    fresh,
    from_trusted,
    mail,
    submit,
)
from test_restricted import defer_all, leave, restricted

from deliverypools.adapters.settings_file import load_settings
from deliverypools.adapters.state import State
from deliverypools.cli.main import main
from deliverypools.cli.shared_state import shared_state
from deliverypools.core.records import DECIDING_PASSES, EGRESS_PASS, DecisionRecord
from deliverypools.core.restrictions import Restriction
from deliverypools.lab.dns_server import DnsFailure
from deliverypools.lab.lab import OUTSIDE_CLIENT, Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import ReceivedMessage
from deliverypools.lab.waiting import wait_until

SITE = Site(forwards={"games": "via-forward@example.net"})
POLICY = {"name": "bob", "senders": ["bob@example.org"], "recipients_per_day": 1, "over_limit": "restrict"}
SETTINGS = {
    "shadow": True,
    "forwarding": {"unauthenticated_forward": "reject"},
    "outbound_policies": [POLICY],
    "dns": {"servfail_cache_seconds": 0.5},
}
DAVE = "dave@example.org"


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(site=SITE, settings=SETTINGS)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command about a lab; return its exit status and what it wrote."""

    def command(lab: Lab, *arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        words = [*arguments, "--config", str(lab.settings_file)]
        return main(words), capsys.readouterr().out

    return command


def row_of(lab: Lab, message: ReceivedMessage) -> DecisionRecord:
    queue_id = (message.header("Received") or "").partition(" id ")[2].split()[0].rstrip(";")
    with shared_state(load_settings(lab.settings_file)) as state:
        (row,) = [one for one in state.records_about(queue_id) if one.queue_id == queue_id]
    return row


def restrict(lab: Lab, account: str) -> None:
    with shared_state(load_settings(lab.settings_file)) as state:
        state.restrict(Restriction(account=account, since=time.time(), reason="a test"), by_hand=True)


def send_every_kind(lab: Lab) -> dict[str, tuple[ReceivedMessage, str, str]]:
    """Send mail of every kind; return each message as it arrived, and pool and rule that are to be on record."""
    restrict(lab, DAVE)
    lab.dns.fail("undecided.example", DnsFailure.SERVFAIL)
    ordinary, spam, foreign, bounce, nowhere, restricted, undecided, flood = (fresh() for _ in range(8))
    twice = [fresh(), fresh()]
    submit(lab, ordinary)
    submit(lab, spam, mail(X_Spam_Flag="YES"))
    for recipient in twice:
        submit(lab, recipient, mail("bob@example.org"), auth=BOB)
    from_trusted(lab, foreign, sender="carol@elsewhere.example")
    from_trusted(lab, bounce, sender="")
    from_trusted(lab, nowhere, sender="carol@nowhere.invalid")
    from_trusted(lab, restricted, sender=DAVE)
    from_trusted(lab, undecided, sender="carol@undecided.example")
    submit(lab, flood, b"X-Delivery-Pool: relay\r\n" * 60 + mail())
    refused = forward(lab, "games", "erin@strict.example")
    return {
        "ordinary": (arrived(lab, ordinary), "normal", "default"),
        "spam": (arrived(lab, spam), "high-risk", "spam"),
        "at its limit": (arrived(lab, twice[0]), "normal", "default"),
        "over limit": (arrived(lab, twice[1]), "high-risk", "over_limit"),
        "foreign sender": (arrived(lab, foreign), "relay", "forwarded"),
        "bounce": (arrived(lab, bounce), "high-risk", "delivery_status_notification"),
        "sender nowhere": (arrived(lab, nowhere), "high-risk", "sender_domain_without_mx_or_a"),
        "restricted": (arrived(lab, restricted), "high-risk", "restricted_sender"),
        "undecided": (arrived(lab, undecided), "", "undecided"),
        "flooded": (arrived(lab, flood), "normal", "default"),
        "forward": (arrived_with(lab, refused), "refused", "forwarding_refused"),
    }


def test_mail_of_every_kind_leaves_by_normal(lab: Lab, command: Callable[..., tuple[int, str]]):
    for kind, (message, pool, rule) in send_every_kind(lab).items():
        assert message.source_address in NORMAL, kind
        assert not message.header("X-Delivery-Pool"), kind
        row = row_of(lab, message)
        assert (row.pass_name, row.pool, row.rule, row.leaves_by) == (EGRESS_PASS, pool, rule, "normal"), kind
    lab.wait_until_queue_is_empty()
    wait_until(lambda: _audited(lab, command)["without_end"] == 0, timeout_seconds=10, what="the whole log")
    assert _audited(lab, command)["failures"] == 0
    lab.write_settings(SETTINGS | {"shadow": False})
    assert _audited(lab, command)["failures"] == 0, "each row tells that shadow mode was on"
    status, told = command(lab, "restricted", "list")
    assert (status, "shadow" in told) == (0, False)
    lab.write_settings(SETTINGS)
    assert "dave@example.org: " in command(lab, "restricted", "list")[1]
    assert command(lab, "restricted", "list")[1].endswith(
        "shadow = true: no restriction is enforced until that is switched off\n"
    )
    assert "restricted_sender" in command(lab, "explain", row_of(lab, _restricted(lab)).queue_id)[1]


def _audited(lab: Lab, command: Callable[..., tuple[int, str]]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(command(lab, "audit", "--json", str(lab.postfix.log_file))[1])
    return report


def _restricted(lab: Lab) -> ReceivedMessage:
    return next(message for message in lab.messages if message.envelope_sender == DAVE)


def test_misused_srs_addresses_are_not_refused(lab: Lab):
    """A forged one is nobody's, so that Postfix itself refuses it as it would without us: there is no such user."""
    with lab.session(client_address=OUTSIDE_CLIENT) as smtp:
        smtp.mail("erin@example.com")
        code, text = smtp.docmd("RCPT TO:<SRS0=abcd=TT=example.com=u@srs.example.org>")
    assert b"5.7.1" not in text, (code, text)
    wait_until(lambda: "shadow: mail to SRS0" in lab.policy.log(), timeout_seconds=5, what="the policy daemon's word")


def test_queued_mail_of_a_restricted_account_stays_as_it_is(make_lab: Callable[..., Lab]):
    lab = make_lab(settings={"shadow": True, "limits": {"messages_per_minute": 0}})
    recipients, other = defer_all(lab, 3)
    moved = restricted(lab, "add", "alice@example.org", "--requeue", "--json").json()["requeue"]
    assert (moved["messages"], moved["not_decided"]) == ([], 0)
    assert leave(lab, [*recipients, other]) <= NORMAL


class TestReplay:
    """What a replay of the log says is what was decided, where a log can tell it."""

    SETTINGS: ClassVar[dict[str, Any]] = {"outbound_policies": [POLICY | {"over_limit": "high-risk"}]}

    def send(self, lab: Lab) -> None:
        recipients = [fresh() for _ in range(7)]
        for recipient in recipients[:3]:
            submit(lab, [recipient, "alice@example.org"])
        for recipient in recipients[3:5]:
            submit(lab, recipient, mail("bob@example.org"), auth=BOB)
        from_trusted(lab, recipients[5], sender="carol@elsewhere.example")
        from_trusted(lab, recipients[6], sender="")
        forward(lab, "games", "erin@strict.example")
        for recipient in (*recipients, "via-forward@example.net"):
            arrived(lab, recipient)
        lab.wait_until_queue_is_empty()

    def test_as_it_was_decided(self, make_lab: Callable[..., Lab], command: Callable[..., tuple[int, str]]):
        lab = make_lab(site=SITE, settings=self.SETTINGS)
        self.send(lab)
        wait_until(lambda: _audited(lab, command)["without_end"] == 0, timeout_seconds=10, what="the whole log")
        status, out = command(lab, "replay", "--json", str(lab.postfix.log_file))
        replayed = {(one["pool"], one["rule"]): one["now"] for one in json.loads(out)["days"]}
        with shared_state(load_settings(lab.settings_file)) as state:
            assert (status, replayed) == (0, _decided(state))
        assert replayed["high-risk", "over_limit"] == 1
        again = json.loads(command(lab, "replay", "--json", "--decisions")[1])
        assert (again["messages"], again["changes"], again["not_judged"]) == (8, [], {})

    def test_a_stricter_limit_shows_the_account(
        self, make_lab: Callable[..., Lab], command: Callable[..., tuple[int, str]]
    ):
        lab = make_lab(site=SITE, settings=self.SETTINGS)
        self.send(lab)
        lab.write_settings(self.SETTINGS | {"limits": {"recipients_per_day": 4, "messages_per_minute": 0}})
        for source in (str(lab.postfix.log_file), "--decisions"):
            report = json.loads(command(lab, "replay", "--json", source)[1])
            over = {one["account"]: one["over_limit"] for one in report["accounts"]}
            assert over == {"alice@example.org": 1, "bob@example.org": 1}, source


def _decided(state: State) -> dict[tuple[str, str], int]:
    decided: dict[tuple[str, str], int] = {}
    for row in state.decisions():
        if row.pass_name in DECIDING_PASSES:
            decided[row.pool, row.rule] = decided.get((row.pool, row.rule), 0) + 1
    return decided
