"""Which messages may skip the hop, by their envelopes."""

import pytest
from originals import settings as made

from deliverypools.core.facts import Ingress
from deliverypools.core.fast_path import is_certainly_outside, why_it_takes_the_hop

HOP = "[127.0.0.1]:10027"
SETTINGS = made(
    accepted_domains=["example.org", "xn--bcher-kva.example"],
    forwarding={"srs_domain": "srs.example.org", "srs_secret_file": "/srs"},
)


def is_outside(address, *, resolved=None, transport="egress", nexthop=HOP, hop=HOP):
    return is_certainly_outside(
        address,
        transport=transport,
        nexthop=nexthop,
        resolved=address if resolved is None else resolved,
        hop=hop,
        settings=SETTINGS,
    )


@pytest.mark.parametrize(
    "address", ["bob@example.com", "Bob+x@EXAMPLE.com", "b.o'b=x/y@mail.example.co.uk", "ü@müller.example"]
)
def test_plain_address_of_another_domain_is_outside(address):
    assert is_outside(address)


@pytest.mark.parametrize(
    "address",
    [
        "bob@example.org",
        "bob@EXAMPLE.ORG",
        "bob@example.org.",
        "bob@bücher.example",
        "SRS0=aa=bb=example.net=erin@srs.example.org",
        "bob",
        "bob@",
        "@example.com",
        "",
        "bob@localhost",
        "bob@[192.0.2.7]",
        "bob@[IPv6:2001:db8::7]",
        "bob%example.org@example.com",
        "example.org!bob@example.com",
        '"bob@example.org"@example.com',
        "@example.org:bob@example.com",
        "bob\\x@example.com",
        "b ob@example.com",
    ],
)
def test_what_is_ours_or_may_say_two_things_is_not(address):
    assert not is_outside(address)


@pytest.mark.parametrize(
    "changed",
    [
        {"transport": "local"},
        {"transport": "internal"},
        {"transport": ""},
        {"nexthop": "[127.0.0.1]:10028"},
        {"nexthop": ""},
        {"hop": ""},
        {"hop": "", "nexthop": ""},
        {"resolved": "bob@example.net"},
        {"resolved": ""},
    ],
    ids=str,
)
def test_what_postfix_leads_elsewhere_or_rewrites_is_not(changed):
    assert not is_outside("bob@example.com", **changed)


@pytest.mark.parametrize("ingress", list(Ingress))
def test_only_users_and_trusted_clients_may_skip_the_hop(ingress):
    why = why_it_takes_the_hop(ingress, "alice@example.org", SETTINGS, only_outside=True)
    assert (why == "") is (ingress in (Ingress.SUBMISSION, Ingress.TRUSTED))


@pytest.mark.parametrize(
    "sender",
    [
        "",
        "alice",
        "alice@",
        "alice@host",
        "@a:alice@example.org",
        "a%b@example.org",
        "SRS0=aa=bb=example.net=erin@SRS.example.org.",
    ],
)
def test_sender_that_postfix_completes_or_that_is_rewritten_takes_the_hop(sender):
    assert why_it_takes_the_hop(Ingress.SUBMISSION, sender, SETTINGS, only_outside=True)


def test_one_recipient_that_is_not_outside_takes_all_to_the_hop():
    assert why_it_takes_the_hop(Ingress.SUBMISSION, "alice@example.org", SETTINGS, only_outside=False)
