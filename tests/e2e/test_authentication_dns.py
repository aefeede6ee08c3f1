"""DNS that is down, slow or lies while mail arrives that is forwarded: what cannot be told waits, and nothing is lost.

What fails is what authentication asks for (TXT), unless the whole server is down: the destinations can be found, so
that mail which would leave wrongly does leave, and is seen. Each test has sender domains of its own, which nothing has
been asked about yet: answers are remembered.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from mailing import (
    RELAY,
    arrived_with,
    decision_about,
    delivered,
    forward,
    is_rewritten,
    left_with,
    mail,
    running,
    submit,
)

from deliverypools.lab.dns_server import DnsFailure, Slow, txt
from deliverypools.lab.lab import Lab
from deliverypools.lab.signing import key_records
from deliverypools.lab.site import Sieve, Site
from deliverypools.lab.waiting import wait_until

OUT = "out@example.net"
SITE = Site(
    virtual={"virtual@example.org": OUT, "virtual-and-bob@example.org": f"{OUT}, bob@example.org"},
    forwards={"games": OUT},
    sieve={"sieve": Sieve(f'redirect "{OUT}";')},
)
SETTINGS = {
    "dns": {"timeout_seconds": 1.0, "servfail_cache_seconds": 0.1},
    "authentication": {"timeout_seconds": 2.0},
    "limits": {"messages_per_minute": 0},
}
HOURS = Slow(10_000.0)
FAILURES = [
    DnsFailure.SERVFAIL,
    DnsFailure.TRUNCATED_WITHOUT_TCP,
    DnsFailure.WRONG_ID,
    DnsFailure.OTHER_RECORDS,
    DnsFailure.CNAME_LOOP,
    HOURS,
]
"""One of each kind that the resolver tells apart; its own tests have them all."""
NOT_YET = "451 4.7.1 Not yet decided"
SENDER_DOMAINS = {
    "signed.example": ("v=spf1 -all", "v=DMARC1; p=reject"),
    "spf.example": ("v=spf1 ip4:203.0.113.1 -all", None),
    "strict.example": ("v=spf1 -all", "v=DMARC1; p=reject"),
    "silent.example": ("no policy at all", None),
}
"""What the domains below these publish, as SPF and DMARC records; those below signed.example have keys too."""
AUTHENTICATED = ("signed.example", "spf.example")
_numbers = itertools.count(1)


def sender_of(lab: Lab, kind: str) -> str:
    """Return an address in a new domain."""
    spf, dmarc = SENDER_DOMAINS[kind]
    domain = f"d{next(_numbers)}.{kind}"
    lab.dns.set(domain, {"MX": ["10 mx.other.example."], "TXT": [txt(spf)]})
    lab.dns.set(f"_dmarc.{domain}", {"TXT": [txt(dmarc)]} if dmarc else {})
    for name, records in key_records(domain).items():
        lab.dns.set(name, records)
    return f"erin@{domain}"


def named(failure: object) -> str:
    return failure.value if isinstance(failure, DnsFailure) else "slow"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(site=SITE, settings=SETTINGS) as lab:
        yield lab


@contextlib.contextmanager
def failing(lab: Lab, failure: DnsFailure | Slow, name: str = ".") -> Iterator[None]:
    lab.dns.fail(name, failure, "TXT")
    try:
        yield
    finally:
        lab.dns.fail(name, None, "TXT")


def forward_all(lab: Lab, senders: Iterable[str]) -> dict[str, str]:
    """Forward a message of each sender, all at the same time; return the senders by subject."""
    with ThreadPoolExecutor() as clients:
        return {
            subject: sender
            for sender, subject in zip(
                senders, clients.map(lambda sender: forward(lab, "virtual", sender), senders), strict=True
            )
        }


def wait_until_undecided(lab: Lab, *senders: str) -> None:
    """Return when the messages of these senders wait in the queue, each because it was not decided yet."""

    def waiting() -> bool:
        reasons = {
            one["sender"]: recipient.get("delay_reason", "")
            for one in lab.postfix.queue()
            for recipient in one["recipients"]
        }
        return all(NOT_YET in reasons.get(sender, "") for sender in senders)

    wait_until(waiting, timeout_seconds=60, what=f"undecided messages of {senders}")


def flush_until_it_leaves(lab: Lab, subject: str) -> None:
    """Try again and again: a failure is remembered for a moment (dns.servfail_cache_seconds)."""
    wait_until(
        lambda: bool(left_with(lab, subject)) or (lab.postfix.flush() is not None), timeout_seconds=20, what=subject
    )


def assert_left_rightly(lab: Lab, sender: str, subject: str) -> None:
    message = arrived_with(lab, subject)
    assert message.source_address in RELAY
    assert "rule=forwarded" in decision_about(lab, message)
    if sender.endswith(AUTHENTICATED):
        assert is_rewritten(message.envelope_sender, sender)
    else:
        assert message.envelope_sender == sender


@pytest.mark.parametrize("failure", FAILURES, ids=named)
def test_forwards_wait_while_their_authentication_cannot_be_told(lab: Lab, failure: DnsFailure | Slow):
    """And mail for mailboxes of ours is delivered meanwhile: a session of the lab's client takes a minute at most."""
    senders = [sender_of(lab, kind) for kind in SENDER_DOMAINS]
    with failing(lab, failure):
        subjects = forward_all(lab, senders)
        local = forward(lab, "bob", senders[0])
        assert delivered(lab, "bob", local)["Return-Path"] == f"<{senders[0]}>"
        wait_until_undecided(lab, *senders)
        assert [left_with(lab, subject) for subject in subjects] == [[] for _ in subjects]
    for subject, sender in subjects.items():
        flush_until_it_leaves(lab, subject)
        assert_left_rightly(lab, sender, subject)
    lab.wait_until_queue_is_empty()
    assert [len(left_with(lab, subject)) for subject in subjects] == [1 for _ in subjects]


@pytest.mark.parametrize("failure", [DnsFailure.TRUNCATED, Slow(0.1)], ids=["truncated, with TCP", "a little slow"])
def test_what_does_answer_in_the_end_holds_up_nothing(lab: Lab, failure: DnsFailure | Slow):
    with failing(lab, failure):
        for sender in (sender_of(lab, kind) for kind in SENDER_DOMAINS):
            assert_left_rightly(lab, sender, forward(lab, "virtual", sender))


@pytest.mark.parametrize("mailbox", ["virtual-and-bob", "games", "sieve"])
def test_forwards_of_every_kind_wait(lab: Lab, mailbox: str):
    sender = sender_of(lab, "signed.example")
    with failing(lab, DnsFailure.SERVFAIL):
        subject = forward(lab, mailbox, sender)
        wait_until_undecided(lab, sender)
        if mailbox == "virtual-and-bob":
            assert delivered(lab, "bob", subject)["Return-Path"] == f"<{sender}>"
    flush_until_it_leaves(lab, subject)
    assert_left_rightly(lab, sender, subject)


@contextlib.contextmanager
def between_the_passes(lab: Lab) -> Iterator[None]:
    """Keep what arrives from the second pass until the end of the context."""
    lab.postfix.set_main({"defer_transports": "egress"})
    try:
        yield
        lab.postfix.wait_until_deferred(1)
    finally:
        lab.postfix.set_main({"defer_transports": ""})
        lab.postfix.flush()


def test_what_could_not_be_told_on_arrival_is_asked_again_in_the_second_pass(lab: Lab):
    sender = sender_of(lab, "signed.example")
    with between_the_passes(lab), failing(lab, DnsFailure.SERVFAIL):
        subject = forward(lab, "virtual", sender)
    flush_until_it_leaves(lab, subject)
    assert_left_rightly(lab, sender, subject)
    assert "dkim=temperror" in (arrived_with(lab, subject).header("Authentication-Results") or "")


def test_what_was_authenticated_on_arrival_needs_no_dns_for_that_in_the_second_pass(lab: Lab):
    sender = sender_of(lab, "signed.example")
    with between_the_passes(lab):
        subject = forward(lab, "virtual", sender)
        lab.dns.fail(".", DnsFailure.SERVFAIL, "TXT")
    try:
        assert_left_rightly(lab, sender, subject)
    finally:
        lab.dns.fail(".", None, "TXT")


def test_part_that_cannot_be_told_does_not_matter_where_the_rest_is_enough(lab: Lab):
    sender = sender_of(lab, "signed.example")
    domain = sender.partition("@")[2]
    found = (f"_dmarc.{domain}", f"_domainkey.{domain}")
    for part in found:
        lab.dns.fail(part, Slow(0.0), "TXT")
    with failing(lab, DnsFailure.SERVFAIL, domain):
        subject = forward(lab, "virtual", sender)
        assert_left_rightly(lab, sender, subject)
    assert "spf=temperror dkim=pass dmarc=pass" in lab.milter.log()


def test_null_sender_spam_and_our_own_mail_do_not_wait(lab: Lab):
    sender = sender_of(lab, "strict.example")
    with failing(lab, DnsFailure.SERVFAIL):
        null, spam = forward(lab, "virtual", ""), forward(lab, "virtual", sender, X_Spam_Flag="YES")
        submit(lab, OUT, mail(Subject="submitted while DNS fails"))
        assert lab.pool_of(arrived_with(lab, null)) == "high-risk"
        assert lab.pool_of(arrived_with(lab, "submitted while DNS fails")) == "normal"
        message = arrived_with(lab, spam)
        assert (lab.pool_of(message), message.envelope_sender) == ("high-risk", sender)


def test_server_that_is_down(lab: Lab):
    senders = [sender_of(lab, kind) for kind in SENDER_DOMAINS]
    lab.stop_dns()
    try:
        subjects = forward_all(lab, senders)
        local = forward(lab, "bob", senders[0])
        assert delivered(lab, "bob", local)["Return-Path"] == f"<{senders[0]}>"
        wait_until_undecided(lab, *senders)
    finally:
        lab.start_dns()
    for subject, sender in subjects.items():
        flush_until_it_leaves(lab, subject)
        assert_left_rightly(lab, sender, subject)


def test_requeue_of_what_waits_changes_nothing(lab: Lab):
    sender = sender_of(lab, "signed.example")
    with failing(lab, DnsFailure.SERVFAIL):
        subject = forward(lab, "virtual", sender)
        wait_until_undecided(lab, sender)
        lab.postfix.requeue()
        wait_until_undecided(lab, sender)
    flush_until_it_leaves(lab, subject)
    assert_left_rightly(lab, sender, subject)


def test_what_waited_too_long_leaves_by_high_risk_as_it_is(make_lab: Callable[..., Lab]):
    lab = make_lab(site=SITE, settings=SETTINGS | {"milter": {"undecided_after": "1s"}})
    subject = forward(lab, "virtual", "erin@broken.example")
    wait_until_undecided(lab, "erin@broken.example")
    flush_until_it_leaves(lab, subject)
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("high-risk", "erin@broken.example")
    assert "rule=undecided" in decision_about(lab, message)


def test_without_srs_nothing_is_rewritten_and_nothing_waits(make_lab: Callable[..., Lab]):
    """The outcome would be the same, whatever DNS says."""
    lab = make_lab(site=SITE, settings=SETTINGS | {"forwarding": None, "socketmap": None})
    for sender in ("erin@broken.example", "erin@signed.example"):
        message = arrived_with(lab, forward(lab, "virtual", sender))
        assert (lab.pool_of(message), message.envelope_sender) == ("relay", sender)


def test_without_srs_it_waits_where_the_pool_depends_on_it(make_lab: Callable[..., Lab]):
    forwarding = {"srs_domain": None, "srs_secret_file": None, "authenticated_forward_pool": "normal"}
    lab = make_lab(site=SITE, settings=SETTINGS | {"forwarding": forwarding, "socketmap": None})
    subject = forward(lab, "virtual", "erin@broken.example")
    wait_until_undecided(lab, "erin@broken.example")
    lab.dns.fail("broken.example", None, "TXT")
    flush_until_it_leaves(lab, subject)
    message = arrived_with(lab, subject)
    assert (lab.pool_of(message), message.envelope_sender) == ("normal", "erin@broken.example")
