"""Everything that can be down is taken down: nothing is lost, doubled, or sent by a wrong address."""

from __future__ import annotations

import signal
import smtplib
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from mailing import ALICE, HIGH_RISK, NORMAL, RELAY, arrived, decision, fresh, from_outside, from_trusted, mail, submit

from deliverypools.lab.dns_server import DnsFailure
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until

SITE = Site(virtual={"alias@example.org": "via-alias@example.net"})


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    settings = {
        "dns": {"timeout_seconds": 1.0, "servfail_cache_seconds": 0.5},
        "limits": {"messages_per_minute": 0},
    }
    return make_lab(site=SITE, settings=settings)


def hold_the_hop(lab: Lab) -> None:
    """Keep mail between the passes."""
    lab.postfix.set_main({"defer_transports": "egress"})


def release_the_hop(lab: Lab) -> None:
    lab.postfix.set_main({"defer_transports": ""})
    lab.postfix.flush()


def test_milter_killed_between_the_passes_and_restarted(lab: Lab):
    spam, ham = fresh(), fresh()
    hold_the_hop(lab)
    submit(lab, spam, mail(X_Spam_Flag="YES"))
    submit(lab, ham)
    from_outside(lab, "alias@example.org")
    lab.kill_milter()
    release_the_hop(lab)
    lab.postfix.wait_for_log(r"postfix/egress/smtp.*status=deferred")
    assert lab.messages == []
    lab.milter.start()
    assert arrived(lab, spam).source_address in HIGH_RISK
    assert arrived(lab, ham).source_address in NORMAL
    assert arrived(lab, "via-alias@example.net").source_address in RELAY


def test_milter_down_refuses_for_now_and_queues_nothing(lab: Lab):
    lab.kill_milter()
    result = lab.send("alice@example.org", [fresh()], mail(), client_address=TRUSTED_CLIENT)
    assert (result.code, result.accepted) == (451, False)
    lab.milter.start()


def test_sendmail_with_the_milter_down_stays_in_the_maildrop_and_leaves_later(lab: Lab):
    recipient = fresh()
    lab.kill_milter()
    lab.sendmail("alice@example.org", [recipient], mail(), user="nobody")
    lab.milter.start()
    wait_until(lambda: lab.postfix.flush() is None and _has(lab, recipient), timeout_seconds=60, what="sendmail mail")
    assert arrived(lab, recipient).source_address in NORMAL


def _has(lab: Lab, recipient: str) -> bool:
    return any(recipient in message.recipients for message in lab.messages)


@pytest.mark.parametrize("what", ["worker", "whole milter"])
def test_500_messages_arrive_exactly_once_by_the_right_address_while_the_milter_is_killed(lab: Lab, what: str):
    """Four clients send, and retry what is answered with 4xx, while the milter or a worker gets SIGKILL."""
    kinds = {fresh(): index % 3 for index in range(500)}
    expected = (NORMAL, HIGH_RISK, RELAY)
    pending = iter(list(kinds.items()))
    lock, stop_killing = threading.Lock(), threading.Event()

    def client() -> None:
        while True:
            with lock:
                recipient, kind = next(pending, ("", 0))
            if not recipient:
                return
            send_until_accepted(lab, recipient, kind)

    def killer() -> None:
        while not stop_killing.wait(0.7):
            if what == "worker":
                lab.kill_milter_worker(signal.SIGKILL)
            else:
                lab.kill_milter()
                stop_killing.wait(0.3)
                lab.milter.start()

    clients = [threading.Thread(target=client) for _ in range(4)]
    killing = threading.Thread(target=killer)
    for thread in (*clients, killing):
        thread.start()
    for thread in clients:
        thread.join()
    wait_until(lambda: len(lab.messages) > 400, timeout_seconds=120, what="most of the 500 messages")
    stop_killing.set()
    killing.join()
    lab.wait_for(lambda message: message.recipients[0] in kinds, count=500, timeout_seconds=120)
    lab.postfix.wait_until_queue_is_empty(60)
    arrivals = [(recipient, message.source_address) for message in lab.messages for recipient in message.recipients]
    assert Counter(recipient for recipient, _ in arrivals) == Counter(dict.fromkeys(kinds, 1))
    assert [a for r, a in arrivals if a not in expected[kinds[r]]] == []


def send_until_accepted(lab: Lab, recipient: str, kind: int) -> None:
    sender = "carol@elsewhere.example" if kind == 2 else "alice@example.org"
    data = mail(sender, X_Spam_Flag="YES" if kind == 1 else None)

    def sent() -> bool:
        try:
            return lab.send(sender, recipient, data, client_address=TRUSTED_CLIENT).accepted
        except (smtplib.SMTPException, OSError):
            return False

    wait_until(sent, timeout_seconds=60, what=f"acceptance for {recipient}")


def test_unknown_sender_domain_waits_while_dns_fails_and_leaves_by_its_own_pool_afterwards(lab: Lab):
    recipient = fresh()
    lab.dns.fail("elsewhere.example", DnsFailure.SERVFAIL)
    from_trusted(lab, recipient, sender="carol@elsewhere.example")
    lab.postfix.wait_for_log(r"postfix/egress/smtp.*status=deferred.*451 4.7.1 Not yet decided")
    assert not _has(lab, recipient)
    lab.dns.fail("elsewhere.example", None)
    assert arrived(lab, recipient).source_address in RELAY


def test_dns_time_out_waits_too(lab: Lab):
    recipient = fresh()
    lab.dns.fail("elsewhere.example", DnsFailure.TIMEOUT)
    from_trusted(lab, recipient, sender="carol@elsewhere.example")
    lab.postfix.wait_for_log(r"postfix/egress/smtp.*status=deferred.*451 4.7.1 Not yet decided")
    lab.dns.fail("elsewhere.example", None)
    assert arrived(lab, recipient).source_address in RELAY


def test_spam_does_not_wait_for_dns_because_every_outcome_is_high_risk(lab: Lab):
    recipient = fresh()
    lab.dns.fail("elsewhere.example", DnsFailure.SERVFAIL)
    from_trusted(lab, recipient, mail(X_Spam_Flag="YES"), sender="carol@elsewhere.example")
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=spam" in decision(lab, recipient)
    lab.dns.fail("elsewhere.example", None)


def test_accepted_domain_leaves_by_normal_while_dns_fails_once_it_was_known(lab: Lab):
    first, second = fresh(), fresh()
    submit(lab, first)
    arrived(lab, first)
    lab.dns.fail("example.org", DnsFailure.SERVFAIL)
    lab.restart_milter()
    submit(lab, second)
    assert arrived(lab, second).source_address in NORMAL


def test_undecided_mail_leaves_by_high_risk_after_undecided_after(make_lab: Callable[..., Lab]):
    lab = make_lab(settings={"milter": {"undecided_after": "10s"}})
    lab.dns.fail("elsewhere.example", DnsFailure.SERVFAIL)
    recipient = fresh()
    from_trusted(lab, recipient, sender="carol@elsewhere.example")
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=undecided" in decision(lab, recipient)
    lab.postfix.wait_for_log(r"postfix/egress/smtp.*status=deferred")


def test_state_that_is_locked_makes_mail_wait_and_recovers_without_restart(lab: Lab):
    before, after = fresh(), fresh()
    submit(lab, before)
    arrived(lab, before)
    blocker = sqlite3.connect(lab.directory / "state.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    submit(lab, after)
    lab.postfix.wait_for_log(r"postfix/egress/smtp.*status=deferred.*451 4.7.1")
    assert not _has(lab, after)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert arrived(lab, after).source_address in NORMAL


def test_broken_settings_at_sighup_keep_the_old_ones_and_good_ones_are_taken(lab: Lab):
    lab.settings_file.write_text("pools = 7\n")
    lab.milter.send_signal(signal.SIGHUP)
    wait_until(lambda: "stay in force" in lab.milter.log(), timeout_seconds=10, what="the refusal of the settings")
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL
    lab.write_settings({"shadow": True})
    lab.milter.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in lab.milter.log(), timeout_seconds=10, what="the reload")
    spam = fresh()
    wait_until(lambda: _leaves_by_normal(lab, spam), timeout_seconds=30, what="shadow mode")
    assert "pool=high-risk shadow=normal rule=spam" in decision(lab, spam)


def _leaves_by_normal(lab: Lab, recipient: str) -> bool:
    lab.receiver.clear()
    submit(lab, recipient, mail(X_Spam_Flag="YES"))
    return arrived(lab, recipient).source_address in NORMAL


def test_reload_and_stop_during_a_stream_of_mail_refuse_and_lose_nothing(lab: Lab):
    recipients = [fresh() for _ in range(60)]
    for number, recipient in enumerate(recipients):
        if number % 15 == 7:
            lab.milter.send_signal(signal.SIGHUP)
        submit(lab, recipient, auth=ALICE)
    assert {arrived(lab, recipient).source_address for recipient in recipients} <= NORMAL


def test_missing_pool_address_defers_and_never_leaks(make_lab: Callable[..., Lab]):
    missing = Site(
        adapted_master="""\
pool-normal unix - - y - - smtp
  -o smtp_bind_address=192.0.2.99
  -o smtp_bind_address6=2001:db8::99
  -o smtp_bind_address_enforce=yes"""
    )
    lab = make_lab(site=missing)
    submit(lab, [fresh(), fresh("dual.example")])
    lab.postfix.wait_for_log(r"bind 192.0.2.99: Cannot assign requested address")
    lab.postfix.wait_for_log(r"status=deferred")
    assert (lab.messages, lab.receiver.not_accepted) == ([], [])


def test_message_that_gets_past_the_listener_without_a_tag_leaves_by_high_risk(make_lab: Callable[..., Lab]):
    """The fail-safe: not even a milter that Postfix is told to do without lets mail leave by normal."""
    accept = "{ unix:delivery-pools/milter.sock, default_action=accept }"
    lab = make_lab(site=Site(adapted={"delivery_pools_milter": accept}))
    recipient = fresh()
    hold_the_hop(lab)
    submit(lab, recipient)
    lab.kill_milter()
    release_the_hop(lab)
    message = arrived(lab, recipient)
    assert message.source_address in HIGH_RISK
    assert b"X-Delivery-Pool" not in message.data


def test_unknown_tag_is_held(make_lab: Callable[..., Lab]):
    pools = {"bulk": {"addresses": ["192.0.2.40"], "helo": "bulk.example.org"}}
    lab = make_lab(settings={"pools": pools, "pins": [{"sender": "alice@example.org", "pool": "bulk"}]})
    from_trusted(lab, fresh())
    wait_until(lambda: [m["queue_name"] for m in lab.postfix.queue()] == ["hold"], timeout_seconds=20, what="the hold")
    assert lab.messages == []


def test_mail_routed_round_the_hop_is_deferred_by_the_tripwire(make_lab: Callable[..., Lab]):
    lab = make_lab(site=Site(main={"transport_maps": "inline:{example.net=smtp:, elsewhere.example=relay:}"}))
    submit(lab, [fresh("example.net"), fresh("elsewhere.example")])
    lab.postfix.wait_for_log(r"tripwire.*transport smtp")
    lab.postfix.wait_for_log(r"tripwire.*transport relay")
    lab.postfix.flush()
    tripped = "tripwire: this mail was routed to transport"
    wait_until(lambda: lab.postfix.log().count(tripped) > 4, timeout_seconds=30, what="further attempts")
    assert (lab.messages, lab.receiver.not_accepted) == ([], [])
