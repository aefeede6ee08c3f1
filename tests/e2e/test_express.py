"""The express profile: one pass, for dedicated outbound relays with external recipients only."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
from mailing import ALICE, BOB, HIGH_RISK, NORMAL, RELAY, arrived, fresh, from_trusted, mail, submit

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.lab.dns_server import DnsFailure
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import ACCEPT, DEFER, REFUSE, Reply
from deliverypools.lab.waiting import wait_until


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(
        profile="express",
        settings={"limits": {"recipients_per_day": 5}, "dns": {"servfail_cache_seconds": 0.2}},
    )


def test_each_kind_leaves_by_its_pool_without_a_trace_on_the_wire(lab: Lab):
    normal, spam, bounce, bare, foreign, sendmail = (fresh() for _ in range(6))
    submit(lab, normal, mail(X_Delivery_Pool="relay", X_Delivery_Pool_Ticket="x"))
    submit(lab, spam, mail(X_Spam_Flag="YES", X_Delivery_Pool="normal"))
    from_trusted(lab, bounce, sender="")
    from_trusted(lab, bare, sender="carol@bare.example")
    from_trusted(lab, foreign, sender="carol@elsewhere.example")
    lab.sendmail("alice@example.org", [sendmail], mail(X_Delivery_Pool="relay"), user="nobody")
    seen = {recipient: arrived(lab, recipient) for recipient in (normal, spam, bounce, bare, foreign, sendmail)}
    expected = [NORMAL, HIGH_RISK, HIGH_RISK, HIGH_RISK, RELAY, NORMAL]
    assert [m.source_address in pool for m, pool in zip(seen.values(), expected, strict=True)] == [True] * 6
    assert all(b"X-Delivery-Pool" not in message.data for message in seen.values())


def test_over_limit_leaves_by_high_risk(lab: Lab):
    recipients = [fresh() for _ in range(6)]
    for recipient in recipients:
        submit(lab, recipient, mail(), BOB)
    pools = [arrived(lab, recipient).source_address in NORMAL for recipient in recipients]
    assert pools == [True] * 5 + [False]


def test_ndr_of_postfix_leaves_by_high_risk(lab: Lab):
    refused, sender = fresh("example.net"), fresh("other.example")
    lab.receiver.answer(refused, REFUSE)
    from_trusted(lab, refused, sender=sender)
    ndr = arrived(lab, sender)
    assert (ndr.envelope_sender, ndr.source_address in HIGH_RISK) == ("", True)
    assert b"X-Delivery-Pool" not in ndr.data


def test_requeue_keeps_every_message_in_its_pool(lab: Lab):
    lab.receiver.answer("example.net", DEFER)
    expected = {fresh("example.net"): pool for pool in (NORMAL, HIGH_RISK, RELAY)}
    normal, spam, foreign = expected
    submit(lab, normal)
    submit(lab, spam, mail(X_Spam_Flag="YES"))
    from_trusted(lab, foreign, sender="carol@elsewhere.example")
    for _ in range(2):
        lab.postfix.wait_until_deferred(3)
        lab.postfix.requeue("ALL")
    lab.postfix.wait_until_deferred(3)
    lab.receiver.answer("example.net", ACCEPT)
    assert all(arrived(lab, recipient).source_address in pool for recipient, pool in expected.items())
    assert all(address in expected[recipient] for address, recipient in lab.receiver.not_accepted)


def test_undecided_message_is_refused_for_now_and_leaves_by_its_pool_later(lab: Lab):
    lab.dns.fail("elsewhere.example", DnsFailure.SERVFAIL)
    recipient, data = fresh(), mail(sender="carol@elsewhere.example")
    result = lab.send("carol@elsewhere.example", recipient, data, client_address=TRUSTED_CLIENT)
    assert (result.code, "4.7.1" in result.text) == (451, True)
    lab.dns.fail("elsewhere.example", None)

    def is_accepted() -> bool:
        return lab.send("carol@elsewhere.example", recipient, data, client_address=TRUSTED_CLIENT).accepted

    wait_until(is_accepted, timeout_seconds=30, what="acceptance")
    assert arrived(lab, recipient).source_address in RELAY


def test_message_that_is_sent_again_while_undecided_is_counted_once(lab: Lab):
    lab.dns.fail("example.org", DnsFailure.SERVFAIL)
    recipient, data = fresh(), mail()
    for _ in range(6):
        assert lab.send(ALICE[0], recipient, data, port=587, auth=ALICE).code == 451
    lab.dns.fail("example.org", None)

    def is_accepted() -> bool:
        return lab.send(ALICE[0], recipient, data, port=587, auth=ALICE).accepted

    wait_until(is_accepted, timeout_seconds=30, what="acceptance")
    assert arrived(lab, recipient).source_address in NORMAL


def test_milter_down_refuses_for_now_and_leaks_nothing(lab: Lab):
    lab.kill_milter()
    result = lab.send(ALICE[0], fresh(), mail(), client_address=TRUSTED_CLIENT)
    assert result.code == 451
    lab.sendmail("alice@example.org", [fresh()], mail(), user="nobody")
    assert (lab.messages, lab.receiver.not_accepted) == ([], [])


def test_notices_about_our_users_mail_are_known_by_the_decision_log(lab: Lab):
    lab.receiver.answer("full@example.net", Reply(550, "5.7.1 this looks like spam"))
    submit(lab, "full@example.net")
    state = SQLiteState(str(lab.directory / "state.db"), time.time)
    with contextlib.closing(state):
        wait_until(lambda: bool(state.ndrs(since=0.0, most=10)), timeout_seconds=30, what="event")
        (event,) = state.ndrs(since=0.0, most=10)
    assert (event.way, event.category, event.verdict) == ("made", "spam", "genuine")
    assert (event.account, event.remote) == ("alice@example.org", "example.net")
