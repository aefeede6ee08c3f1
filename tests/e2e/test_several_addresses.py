"""A pool with several addresses: a sender always leaves by the same one, a retry and a requeue too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailing import arrived, fresh, from_trusted, mail, running

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import ACCEPT, DEFER

ROOT = Path(__file__).parents[2]
SECOND = """
pool-normal-2 unix - - y - - smtp
  -o syslog_name=postfix/$service_name
  -o smtp_bind_address=192.0.2.11
  -o smtp_bind_address6=2001:db8::10
  -o smtp_bind_address_enforce=yes
  -o smtp_helo_name=mail.example.org
  -o smtp_header_checks=$delivery_pools_smtp_header_checks
"""
TAG_CHECK = "/^X-Delivery-Pool:[[:space:]]*normal[[:space:]]+2[[:space:]]*$/ FILTER pool-normal-2:\n"
TWO = {"pools": {"normal": {"addresses": ["192.0.2.10", "192.0.2.11", "2001:db8::10"], "helo": "mail.example.org"}}}
SENDERS = [f"sender{number}@example.org" for number in range(12)]


@pytest.fixture(scope="module", params=["hop", "express"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    tag_checks = (ROOT / f"postfix-examples/{request.param}/delivery-pools/tag_checks").read_text()
    site = Site(adapted_master=SECOND, files={"delivery-pools/tag_checks": TAG_CHECK + tag_checks})
    with running(profile=request.param, site=site, settings=TWO) as lab:
        yield lab


def test_a_sender_keeps_the_address_and_both_are_used(lab: Lab):
    seen = defaultdict(set)
    for _ in range(2):
        for sender in SENDERS:
            recipient = fresh()
            from_trusted(lab, recipient, mail(sender=sender), sender=sender)
            seen[sender].add(arrived(lab, recipient).source_address)
    assert {address for addresses in seen.values() for address in addresses} == {"192.0.2.10", "192.0.2.11"}
    assert all(len(addresses) == 1 for addresses in seen.values()), seen


def test_what_is_deferred_and_requeued_keeps_it(lab: Lab):
    senders = {fresh("example.net"): sender for sender in SENDERS[:4]}
    lab.receiver.answer("example.net", DEFER)
    for recipient, sender in senders.items():
        from_trusted(lab, recipient, mail(sender=sender), sender=sender)
    lab.postfix.wait_until_deferred(len(senders))
    lab.postfix.requeue("ALL")
    lab.postfix.wait_until_deferred(len(senders))
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    seen = {recipient: {arrived(lab, recipient).source_address} for recipient in senders}
    for address, recipient in lab.receiver.not_accepted:
        if recipient in seen:
            seen[recipient].add(address)
    assert all(len(addresses) == 1 for addresses in seen.values()), seen


def test_while_postfix_knows_fewer_addresses_than_the_settings_mail_leaves_by_the_first(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=TWO)
    seen = set()
    for sender in SENDERS[:6]:
        recipient = fresh()
        from_trusted(lab, recipient, mail(sender=sender), sender=sender)
        seen.add(arrived(lab, recipient).source_address)
    assert seen == {"192.0.2.10"}
