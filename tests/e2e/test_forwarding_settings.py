"""What `[forwarding]` says about forwarded mail; what it refuses is in test_forwarding_refused.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from mailing import arrived_with, decision_about, forward, from_trusted, is_rewritten, mail, running

from deliverypools.lab.lab import Lab
from deliverypools.lab.signing import signed
from deliverypools.lab.site import Sieve, Site

OUT = "out@example.net"
SITE = Site(
    virtual={"virtual@example.org": f"{OUT}, bob@example.org"},
    aliases={"alias": OUT},
    forwards={"games": OUT},
    sieve={"sieve": Sieve(f'redirect "{OUT}";')},
)
WAYS = ["virtual", "alias", "games", "sieve"]
UNAUTHENTICATED = ["erin@strict.example", "erin@example.com", "alice@example.org"]


def lab_with(**forwarding: str | int) -> Iterator[Lab]:
    with running(site=SITE, settings={"forwarding": forwarding, "limits": {"messages_per_minute": 0}}) as lab:
        yield lab


@pytest.fixture(scope="module")
def lab_of_normal() -> Iterator[Lab]:
    yield from lab_with(authenticated_forward_pool="normal")


@pytest.fixture(scope="module")
def lab_of_high_risk() -> Iterator[Lab]:
    yield from lab_with(unauthenticated_forward="high-risk", srs_longest_local_part=100)


def sent_as(lab: Lab, subject: str) -> tuple[str, str]:
    """Return the pool and the envelope sender of what left with that subject."""
    message = arrived_with(lab, subject)
    return lab.pool_of(message), message.envelope_sender


@pytest.mark.parametrize("sender", ["erin@signed.example", "erin@spf.example"])
@pytest.mark.parametrize("way", WAYS)
def test_normal_is_for_authenticated_senders_and_rewrites_them_all_the_same(lab_of_normal: Lab, way: str, sender: str):
    pool, envelope_sender = sent_as(lab_of_normal, forward(lab_of_normal, way, sender))
    assert (pool, is_rewritten(envelope_sender, sender)) == ("normal", True)


@pytest.mark.parametrize("sender", UNAUTHENTICATED)
@pytest.mark.parametrize("way", WAYS)
def test_normal_is_for_no_other_sender(lab_of_normal: Lab, way: str, sender: str):
    assert sent_as(lab_of_normal, forward(lab_of_normal, way, sender)) == ("relay", sender)


def test_normal_is_not_for_null_senders(lab_of_normal: Lab):
    assert sent_as(lab_of_normal, forward(lab_of_normal, "virtual", "")) == ("high-risk", "")


def test_normal_is_not_for_spam_which_keeps_the_sender_that_bounces_lead_back_to(lab_of_normal: Lab):
    subject = forward(lab_of_normal, "virtual", "erin@spf.example", X_Spam_Flag="YES")
    pool, envelope_sender = sent_as(lab_of_normal, subject)
    assert (pool, is_rewritten(envelope_sender, "erin@spf.example")) == ("high-risk", True)


def test_normal_is_not_for_relaying_clients_of_foreign_senders(lab_of_normal: Lab):
    data = signed(mail("erin@signed.example", Subject="relayed"), "signed.example")
    from_trusted(lab_of_normal, OUT, data, sender="erin@signed.example")
    assert sent_as(lab_of_normal, "relayed") == ("relay", "erin@signed.example")


def test_normal_is_not_for_senders_that_srs_cannot_rewrite(lab_of_normal: Lab):
    sender = f"{'x' * 60}@spf.example"
    assert sent_as(lab_of_normal, forward(lab_of_normal, "virtual", sender)) == ("relay", sender)


@pytest.mark.parametrize("sender", UNAUTHENTICATED)
@pytest.mark.parametrize("way", WAYS)
def test_high_risk_is_for_unauthenticated_senders(lab_of_high_risk: Lab, way: str, sender: str):
    subject = forward(lab_of_high_risk, way, sender)
    assert sent_as(lab_of_high_risk, subject) == ("high-risk", sender)
    assert "rule=forwarded" in decision_about(lab_of_high_risk, arrived_with(lab_of_high_risk, subject))


@pytest.mark.parametrize("way", WAYS)
def test_high_risk_is_not_for_authenticated_senders(lab_of_high_risk: Lab, way: str):
    pool, envelope_sender = sent_as(lab_of_high_risk, forward(lab_of_high_risk, way, "erin@signed.example"))
    assert (pool, is_rewritten(envelope_sender, "erin@signed.example")) == ("relay", True)


def test_longer_local_parts_where_the_operator_allows_them(lab_of_high_risk: Lab):
    sender = f"{'x' * 60}@spf.example"
    pool, envelope_sender = sent_as(lab_of_high_risk, forward(lab_of_high_risk, "virtual", sender))
    assert (pool, is_rewritten(envelope_sender, sender)) == ("relay", True)


def test_high_risk_is_not_for_relaying_clients(lab_of_high_risk: Lab):
    from_trusted(lab_of_high_risk, OUT, mail("erin@example.com", Subject="relayed"), sender="erin@example.com")
    assert sent_as(lab_of_high_risk, "relayed") == ("relay", "erin@example.com")


def test_shadow_rewrites_and_refuses_nothing(make_lab: Callable[..., Lab]):
    lab = make_lab(site=SITE, settings={"shadow": True, "forwarding": {"unauthenticated_forward": "reject"}})
    assert sent_as(lab, forward(lab, "games", "erin@signed.example")) == ("normal", "erin@signed.example")
    subject = forward(lab, "games", "erin@strict.example")
    assert sent_as(lab, subject) == ("normal", "erin@strict.example")
    assert "pool=refused shadow=normal" in decision_about(lab, arrived_with(lab, subject))
