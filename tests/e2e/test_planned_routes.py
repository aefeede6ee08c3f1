"""Routes that a site had before `postfix install`: the same next-hops afterwards, and by the pools' addresses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailing import HIGH_RISK, NORMAL, arrived, fresh, mail, running, submit
from postfix_command import postfix

from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site

SPAM = {"X_Spam_Flag": "YES"}
GATEWAY = "198.51.100.28"
OTHER_GATEWAY = "198.51.100.29"
OTHER_NAME = "nomail.example"
"""By its address, which is one of this machine's here, it would be refused."""
SLOW = "slow unix - - y - 2 smtp\n  -o syslog_name=postfix/slow\n  -o smtp_helo_timeout=77s\n"
SITE = Site(
    main={
        "transport_maps": "texthash:{config}/transport",
        "sender_dependent_relayhost_maps": "texthash:{config}/relayhosts",
        "slow_destination_concurrency_limit": "1",
    },
    master=SLOW,
    files={
        "transport": f"example.net\tsmtp:[{GATEWAY}]\nelsewhere.example\tslow:[{GATEWAY}]\nother.example\tsmtp:\n",
        "relayhosts": f"bob@example.org\t[{OTHER_NAME}]\n",
    },
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(profile="none", site=SITE) as lab:
        answer = postfix(lab, "install")
        assert answer.status == 0, answer
        yield lab


@pytest.mark.parametrize("domain", ["example.net", "elsewhere.example"])
def test_a_partners_gateway_gets_mail_by_the_pool_that_was_chosen(lab: Lab, domain):
    recipient, spam = fresh(domain), fresh(domain)
    submit(lab, recipient)
    submit(lab, spam, mail(**SPAM))
    for one, pool in ((recipient, NORMAL), (spam, HIGH_RISK)):
        message = arrived(lab, one)
        assert message.source_address in pool
        assert message.local_address == lab.address(GATEWAY)
        assert message.header("X-Delivery-Pool") is None


def test_a_client_of_the_sites_own_has_its_own_transports(lab: Lab):
    recipient = fresh("elsewhere.example")
    submit(lab, recipient)
    arrived(lab, recipient)
    lab.postfix.wait_for_log(rf"postfix/pool-normal-101/smtp\[\d+\]: \S+ to=<{recipient}>")


def test_a_destination_that_repeats_the_default_takes_the_usual_way(lab: Lab):
    recipient = fresh("other.example")
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL


def test_a_senders_relayhost_gets_its_mail(lab: Lab):
    recipient, mine = fresh("example.com"), fresh("example.com")
    lab.send("bob@example.org", [recipient], mail(sender="bob@example.org"), client_address="127.0.0.1")
    submit(lab, mine)
    message = arrived(lab, recipient)
    assert message.source_address in NORMAL
    assert message.local_address == lab.address(OTHER_GATEWAY)
    assert arrived(lab, mine).local_address == lab.address("198.51.100.25")


def test_one_message_to_several_routes_reaches_each_once(lab: Lab):
    recipients = [fresh("example.net"), fresh("example.com"), fresh("elsewhere.example")]
    submit(lab, recipients)
    gateways = [arrived(lab, one).local_address for one in recipients]
    assert gateways == [lab.address(one) for one in (GATEWAY, "198.51.100.25", GATEWAY)]
    lab.wait_until_queue_is_empty()
    assert all(sum(one in message.recipients for message in lab.messages) == 1 for one in recipients)
