"""A pool without an IPv6 address on a Postfix that has IPv6: what `postfix install` plans for it lets nothing leak."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailing import arrived, fresh, mail, running, submit

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until

POOL = """
pool-high-risk unix - - y - - smtp
  -o syslog_name=postfix/$service_name
  -o smtp_bind_address=192.0.2.20
  -o smtp_bind_address_enforce=yes
  -o smtp_helo_name=mail-high-risk.example.org
  -o smtp_header_checks=$delivery_pools_smtp_header_checks
  -o inet_protocols=ipv4
  -o { inet_interfaces = 127.0.0.1, 192.0.2.1 }
"""
STRAIGHT = {"default_transport": "pool-high-risk", "smtpd_milters": "", "non_smtpd_milters": ""}
"""Straight to the pool: how a message comes to it is tested elsewhere."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(site=Site(adapted_master=POOL, adapted=STRAIGHT)) as lab:
        yield lab


def test_to_hosts_with_both_families_it_leaves_by_the_pools_ipv4_address(lab: Lab):
    recipients = [fresh("dual.example") for _ in range(6)]
    for recipient in recipients:
        submit(lab, recipient, mail())
    assert {arrived(lab, one).source_address for one in recipients} == {"192.0.2.20"}


def test_to_hosts_with_ipv6_only_it_is_returned_and_leaves_by_no_address(lab: Lab):
    if not lab.network.has_ipv6:
        return  # the lab's server then speaks IPv4 only, and there is nothing to leak
    recipient = fresh("six.example")
    before = len(lab.mailbox("alice"))
    submit(lab, recipient, mail())
    wait_until(lambda: len(lab.mailbox("alice")) > before, timeout_seconds=30, what="the notice")
    assert "Status: 5.4.4" in lab.mailbox("alice")[-1].as_string()
    assert recipient not in [one for message in lab.messages for one in message.recipients]
