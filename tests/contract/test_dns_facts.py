"""What is asked of DNS about pools and domains: a real resolver, a real DNS server, and what it fails to say."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from deliverypools.adapters import dns_facts as module
from deliverypools.adapters.dns_facts import dns_facts
from deliverypools.core.authentication import Result
from deliverypools.core.host_check.examine import examine_host
from deliverypools.core.host_check.facts import MOST_DOMAINS, Host
from deliverypools.core.settings import Settings
from deliverypools.lab.dns_failures import DnsFailure
from deliverypools.lab.dns_server import DnsServer

HOSTS = {"normal": 10, "high-risk": 20, "relay": 30}


@pytest.fixture
def server():
    zones = {f"{host}.2.0.192.in-addr.arpa": {"PTR": [f"{pool}.example.org."]} for pool, host in HOSTS.items()}
    zones |= {f"{pool}.example.org": {"A": [f"192.0.2.{host}"]} for pool, host in HOSTS.items()}
    zones |= {
        "example.org": {"MX": ["10 mx.example.org."], "TXT": ['"v=spf1 ip4:192.0.2.10 ip4:192.0.2.20 -all"']},
        "mx.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:DB8:0:0::1"]},
        "srs.example.org": {"TXT": ['"v=spf1 ip4:192.0.2.30 -all"']},
    }
    server = DnsServer(zones)
    server.start("127.0.0.1", 0)
    yield server
    server.stop()


def host(server, **changes):
    address, port = server.address
    own = {
        "accepted_domains": ["example.org"],
        "pools": {
            pool: {"addresses": [f"192.0.2.{number}"], "helo": f"{pool}.example.org"} for pool, number in HOSTS.items()
        },
        "dns": {"nameservers": [f"{address}:{port}"], "timeout_seconds": 1},
        "forwarding": {"srs_domain": "srs.example.org", "srs_secret_file": "/etc/delivery-pools/srs.secrets"},
    }
    return Host(settings=Settings.model_validate(own | changes))


def checked(host):
    return {one.check for one in examine_host(replace(host, dns=dns_facts(host)))}


def test_everything_is_asked(server):
    facts = dns_facts(host(server))
    assert {str(address): set(answer.values) for address, answer in facts.names.items()} == {
        f"192.0.2.{number}": {f"{pool}.example.org"} for pool, number in HOSTS.items()
    }
    assert {name: set(answer.values) for name, answer in facts.addresses.items()} == {
        f"{pool}.example.org": {f"192.0.2.{number}"} for pool, number in HOSTS.items()
    }
    assert set(facts.mail_in["example.org"].values) == {"192.0.2.1", "2001:db8::1"}
    assert [(one.pool, one.result) for one in facts.spf] == [
        ("normal", Result.PASS),
        ("high-risk", Result.PASS),
        ("relay", Result.FAIL),
    ]
    assert [(one.domain, one.pool, one.result) for one in facts.spf_of_rewritten] == [
        ("srs.example.org", "relay", Result.PASS)
    ]
    assert {one.result for one in facts.spf_of_helo} == {Result.NONE}
    assert checked(host(server)) == set()


def test_a_domain_without_mx_takes_mail_at_its_address(server):
    server.set("example.org", {"A": ["192.0.2.20"], "TXT": ['"v=spf1 ip4:192.0.2.10 ip4:192.0.2.20 -all"']})
    assert set(dns_facts(host(server)).mail_in["example.org"].values) == {"192.0.2.20"}


def test_a_domain_that_takes_no_mail(server):
    server.set("example.org", {"MX": ["0 ."], "A": ["192.0.2.20"]})
    assert dns_facts(host(server)).mail_in["example.org"].values == frozenset()


def test_authenticated_forwards_that_leave_by_normal(server):
    forwarding = {
        "srs_domain": "srs.example.org",
        "srs_secret_file": "/etc/delivery-pools/srs.secrets",
        "authenticated_forward_pool": "normal",
    }
    assert checked(host(server, forwarding=forwarding)) == {"spf_of_rewritten_senders_lacks_pool"}


def test_addresses_behind_a_nat_are_not_looked_up(server):
    pools = {pool: {"addresses": [f"10.0.0.{n}"], "helo": f"{pool}.example.org"} for pool, n in HOSTS.items()}
    facts = dns_facts(host(server, pools=pools))
    assert (facts.names, facts.spf, facts.mail_in, server.asked) == ({}, (), {}, [])


@pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.TIMEOUT])
def test_nothing_can_be_told(server, failure, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SECONDS", 2.0)
    server.fail(".", failure)
    facts = dns_facts(host(server))
    assert all(answer.problem for answer in (*facts.names.values(), *facts.addresses.values()))
    assert {one.result for one in (*facts.spf, *facts.spf_of_rewritten, *facts.spf_of_helo)} == {Result.TEMPERROR}
    assert checked(host(server)) == {"dns_cannot_tell"}


def test_of_thousands_of_domains_the_first_are_looked_up(server):
    domains = [f"d{number}.example" for number in range(1000)]
    facts = dns_facts(host(server, accepted_domains=domains))
    assert len(facts.mail_in) == MOST_DOMAINS
    assert len(facts.spf) == MOST_DOMAINS * len(HOSTS)
    assert facts.names[ipaddress.ip_address("192.0.2.10")].values


def test_many_mail_servers_of_one_domain(server):
    server.set("example.org", {"MX": [f"{n} mx{n}.example.org." for n in range(100)]})
    dns_facts(host(server))
    assert len({name for name, kind in server.asked if name.startswith("mx") and kind == "A"}) <= 5
