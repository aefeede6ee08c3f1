"""DNS lists of servers that send backscatter, asked by the real policy daemon: who waits, and for what."""

import select
import signal

import pytest
from policy_client import ANSWER, Client, request

from deliverypools.core.dns_lists import query_name
from deliverypools.core.settings.values import client_ip
from deliverypools.lab.dns_server import DnsFailure, Slow
from deliverypools.lab.waiting import wait_until

LISTS = "lists.example"
LISTED = "198.51.100.7"
REFUSED = (
    f"action=550 5.7.1 Bounces and mail of postmasters are refused from {LISTED}, which {LISTS} lists for".encode()
)
TAG = f"action=PREPEND X-Delivery-Pool-Backscatter: {LISTS}\n\n".encode()
REJECTING = {"backscatter_lists": [LISTS]}
TAGGING = REJECTING | {"backscatter_list_action": "tag"}
CONNECTIONS = 125
REQUESTS_OF_EACH = 8


@pytest.fixture
def lists_site(make_site):
    """Make a site whose DNS server is a list, too."""

    def make(**bounces):
        site = make_site(bounces=bounces)
        site.dns.set(query_name(client_ip(LISTED), LISTS), {"A": ["127.0.0.2"]})
        return site

    return make


def bounce(client_address=LISTED, **changes):
    values = {"protocol_state": "RCPT", "sender": "", "recipient": "alice@example.org", "queue_id": ""}
    return values | {"client_address": client_address} | changes


def test_a_listed_client_is_refused_and_nobody_else(lists_site, start):
    site = lists_site(**REJECTING)
    with Client(start("policy", site).socket_path) as client:
        assert client.ask(**bounce()).startswith(REFUSED)
        assert client.ask(**bounce(sender="Postmaster@example.net")).startswith(REFUSED)
        assert client.ask(**bounce("198.51.100.9", sender="erin@example.net")) == ANSWER
        assert client.ask(**bounce("198.51.100.9", sasl_username="alice")) == ANSWER
        assert client.ask(**bounce("127.0.0.9")) == ANSWER
        asked = {name for name, _ in site.dns.asked}
        # The other name: whether the list lists everybody.
        assert asked <= {f"7.100.51.198.{LISTS}", f"1.0.0.127.{LISTS}"}
        assert client.ask(**bounce("198.51.100.8")) == ANSWER
        assert (f"8.100.51.198.{LISTS}", "A") in site.dns.asked


def test_a_message_is_tagged_at_its_first_recipient(lists_site, start):
    policy = start("policy", lists_site(**TAGGING))
    answers = []
    for number in range(6):
        # Postfix may take another connection for the next recipient.
        with Client(policy.socket_path) as client:
            answers.append(client.ask(**bounce(recipient=f"r{number}@example.org", instance=f"1.{number // 3}")))
    assert answers == [TAG, ANSWER, ANSWER, TAG, ANSWER, ANSWER]


def test_a_list_that_fails_is_no_verdict_and_told_once_a_minute(lists_site, start):
    site = lists_site(**REJECTING)
    site.dns.fail(LISTS, DnsFailure.SERVFAIL)
    policy = start("policy", site)
    with Client(policy.socket_path) as client:
        assert {client.ask(**bounce(f"198.51.100.{number}")) for number in range(40)} == {ANSWER}
    assert policy.log.count(f"WARNING: {LISTS}: DNS: SERVFAIL; no verdict") == 1


def test_sighup_takes_new_lists(lists_site, start):
    site = lists_site(backscatter_lists=["other.example"])
    policy = start("policy", site)
    with Client(policy.socket_path) as client:
        assert client.ask(**bounce()) == ANSWER
        for times, (bounces, answer) in enumerate([(TAGGING, TAG), ({"backscatter_lists": []}, ANSWER)], 1):
            site.write(bounces=bounces)
            policy.signal(signal.SIGHUP)
            wait_until(
                lambda times=times: policy.log.count("settings reloaded") == times, timeout_seconds=20, what="reload"
            )
            assert client.ask(**bounce()) == answer


def test_a_request_under_way_is_answered_before_the_end(lists_site, start):
    site = lists_site(**REJECTING, backscatter_list_timeout_seconds=4.0)
    site.dns.fail(LISTS, Slow(0.5), "A")
    policy = start("policy", site)
    with Client(policy.socket_path) as client:
        client.send(request(**bounce()))
        wait_until(lambda: site.dns.asked, timeout_seconds=10, what="question")
        policy.signal(signal.SIGTERM)
        assert client.answer().startswith(REFUSED)
        assert policy.wait() == 0


def test_others_do_not_wait_while_a_thousand_requests_ask_a_list_that_hangs(lists_site, start):
    site = lists_site(**REJECTING, backscatter_list_timeout_seconds=4.0)
    site.dns.fail(LISTS, DnsFailure.TIMEOUT)
    policy = start("policy", site)
    waiting = [Client(policy.socket_path) for _ in range(CONNECTIONS)]
    with Client(policy.socket_path) as other:
        for number, client in enumerate(waiting):
            addresses = (f"203.0.{number}.{each}" for each in range(REQUESTS_OF_EACH))
            client.send(b"".join(request(**bounce(address)) for address in addresses))
        assert other.ask(sasl_username="alice", recipient_count="3") == ANSWER
        assert other.ask(protocol_state="RCPT", sender="erin@example.net") == ANSWER
        # No suspect has an answer yet: those who came later overtook all of them.
        assert select.select([client._socket for client in waiting], [], [], 0)[0] == []
        assert {client.read(REQUESTS_OF_EACH * len(ANSWER)) for client in waiting} == {REQUESTS_OF_EACH * ANSWER}
    for client in waiting:
        client.close()
    assert site.recipients_counted("alice") == 3
