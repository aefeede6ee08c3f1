"""Checks of a running machine: each broken situation is named by its check, and by no other; good ones by none."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from deliverypools.core.authentication import Result
from deliverypools.core.host_check.examine import HOST_CHECKS, examine_host
from deliverypools.core.host_check.facts import (
    MOST_DOMAINS,
    READ,
    WRITE,
    DaemonFacts,
    DnsAnswer,
    DnsFacts,
    FileFacts,
    Host,
    HostFacts,
    Identity,
    PathFacts,
    SpfAnswer,
)
from deliverypools.core.postfix_check.configuration import PostfixConfiguration, Service
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.private_networks import is_private
from deliverypools.core.settings import Settings

HELO = {"normal": "mail.example.org", "high-risk": "mail-high-risk.example.org", "relay": "mail-relay.example.org"}
HOSTS = {"normal": 10, "high-risk": 20, "relay": 30}
POLICY = "check_policy_service unix:delivery-pools/policy.sock"
SOCKETMAP = "socketmap:unix:delivery-pools/socketmap.sock:srs"
POSTFIX = Identity(name="postfix", uid=102, gids=frozenset({105}))
DAEMONS = Identity(name="delivery-pools", uid=110, gids=frozenset({110, 105}))


def settings(**changes):
    own = {
        "accepted_domains": ["example.org"],
        "pools": {
            name: {"addresses": [f"192.0.2.{HOSTS[name]}", f"2001:db8::{HOSTS[name]}"], "helo": helo}
            for name, helo in HELO.items()
        },
        "forwarding": {"srs_domain": "srs.example.org", "srs_secret_file": "/etc/delivery-pools/srs.secrets"},
    }
    return Settings.model_validate(own | changes)


SETTINGS = settings()


def postfix(**changes):
    parameters = {
        "queue_directory": "/var/spool/postfix",
        "inet_protocols": "all",
        "inet_interfaces": "all",
        "smtpd_milters": "unix:delivery-pools/milter.sock",
        "smtpd_sender_restrictions": POLICY,
        "recipient_canonical_maps": SOCKETMAP,
    }
    smtpd = Service(name="smtp", type="inet", chroot="y", command="smtpd")
    return PostfixConfiguration(parameters=parameters | changes, services=(smtpd,))


def hop_at(name):
    """Return the good machine with one listener of the hop."""
    smtpd = Service(name=name, type="inet", chroot="y", command="smtpd", options={"milter_macro_daemon_name": "EGRESS"})
    site = Site(replace(postfix(), services=(*postfix().services, smtpd)), SETTINGS)
    return replace(GOOD, site=site)


def addresses(pool):
    return SETTINGS.pools[pool].addresses


def spf(result, *pools, domain="example.org", reason="ip4"):
    return tuple(
        SpfAnswer(domain=domain, pool=pool, address=ipaddress.ip_address(str(one)), result=result, reason=reason)
        for pool in pools
        for one in addresses(pool)
    )


DNS = DnsFacts(
    names={one: DnsAnswer(values=frozenset({HELO[pool]})) for pool in HELO for one in addresses(pool)},
    addresses={helo: DnsAnswer(values=frozenset(map(str, addresses(pool)))) for pool, helo in HELO.items()},
    mail_in={"example.org": DnsAnswer(values=frozenset({"192.0.2.1", "192.0.2.10"}))},
    spf=spf(Result.PASS, "normal", "high-risk") + spf(Result.FAIL, "relay"),
    spf_of_rewritten=spf(Result.PASS, "relay", domain="srs.example.org"),
    spf_of_helo=spf(Result.NONE, "normal", "relay") + spf(Result.PASS, "high-risk"),
)
"""What a good site publishes."""


def way(*last, folder=(0o750, 110, 105)):
    mode, uid, gid = folder
    return (
        PathFacts(path="/", mode=0o755, is_folder=True),
        PathFacts(path="/sockets", mode=mode, uid=uid, gid=gid, is_folder=True),
        *last,
    )


def the_socket(mode=0o660, uid=110, gid=105):
    return PathFacts(path="/sockets/x.sock", mode=mode, uid=uid, gid=gid)


def daemon(name, **changes):
    return DaemonFacts(**({"name": name, "address": f"unix:/{name}", "path": way(the_socket())} | changes))


KEYS = FileFacts(name="ticket_key_file", path=(PathFacts(path="/keys", mode=0o640, uid=0, gid=110),))
FACTS = HostFacts(
    bind_problems={one: "" for pool in HELO for one in addresses(pool)},
    default_addresses=frozenset({ipaddress.ip_address("192.0.2.1")}),
    daemons=(daemon("milter"), daemon("policy"), daemon("socketmap")),
    daemon_user=DAEMONS,
    postfix_user=POSTFIX,
    files=(KEYS,),
)
GOOD = Host(settings=SETTINGS, facts=FACTS, dns=DNS, site=Site(postfix(), SETTINGS))
FIRST = addresses("high-risk")[0]


def with_facts(**changes):
    return replace(GOOD, facts=replace(FACTS, **changes))


def with_dns(**changes):
    return replace(GOOD, dns=replace(DNS, **changes))


def with_daemon(name, **changes):
    others = [one for one in FACTS.daemons if one.name != name]
    return with_facts(daemons=(*others, daemon(name, **changes)))


def with_settings(**changes):
    other = settings(**changes)
    return replace(GOOD, settings=other, site=Site(postfix(), other))


DOWN = "Connection refused"
PRIVATE = {name: {"addresses": [f"10.0.0.{HOSTS[name]}"], "helo": helo} for name, helo in HELO.items()}
BROKEN = {
    "postfix_not_running": with_facts(postfix_runs=False),
    "log_can_stand_still": replace(
        with_facts(most_datagrams=10), site=Site(postfix(maillog_file="/var/log/mail.log"), SETTINGS)
    ),
    "pool_address_not_here": with_facts(bind_problems=FACTS.bind_problems | {FIRST: "Cannot assign requested address"}),
    "addresses_can_be_invented": with_facts(binds_anything=frozenset({6})),
    "pool_address_is_private": with_settings(pools=PRIVATE),
    "pool_address_is_the_default": with_facts(default_addresses=frozenset({addresses("normal")[1]})),
    "risky_address_takes_mail_in": with_dns(mail_in={"example.org": DnsAnswer(values=frozenset({"192.0.2.30"}))}),
    "listener_is_shared": replace(hop_at("127.0.0.1:10027"), facts=replace(FACTS, listening={10027: 2})),
    "pool_address_without_name": with_dns(names={**DNS.names, FIRST: DnsAnswer()}),
    "pool_address_has_another_name": with_dns(
        names={**DNS.names, FIRST: DnsAnswer(values=frozenset({"mail.example.org", "x.example"}))}
    ),
    "helo_leads_elsewhere": with_dns(addresses={**DNS.addresses, "mail.example.org": DnsAnswer()}),
    "spf_of_helo_fails": with_dns(spf_of_helo=spf(Result.SOFTFAIL, "high-risk", domain=HELO["high-risk"])),
    "dns_cannot_tell": with_dns(names={**DNS.names, FIRST: DnsAnswer(problem="timed out")}),
    "spf_missing": with_dns(spf=spf(Result.NONE, *HELO)),
    "spf_cannot_be_evaluated": with_dns(spf=spf(Result.PERMERROR, *HELO, reason="two records")),
    "spf_lacks_pool": with_dns(spf=spf(Result.PASS, "normal") + spf(Result.NEUTRAL, "high-risk", "relay")),
    "spf_names_relay": with_dns(spf=spf(Result.PASS, *HELO)),
    "spf_of_rewritten_senders_lacks_pool": with_dns(
        spf_of_rewritten=spf(Result.NONE, "relay", domain="srs.example.org")
    ),
    "domains_not_looked_up": with_settings(accepted_domains=[f"d{n}.example" for n in range(MOST_DOMAINS + 1)]),
    "milter_does_not_answer": with_daemon("milter", problem=DOWN),
    "policy_service_does_not_answer": with_daemon("policy", problem=DOWN),
    "socketmap_does_not_answer": with_daemon("socketmap", problem=DOWN),
    "daemon_not_running_yet": replace(with_daemon("milter", problem=DOWN), site=None),
    "daemon_not_asked": with_daemon("milter", problem="Permission denied", is_forbidden=True),
    "socket_closed_to_postfix": with_daemon("milter", path=way(the_socket(gid=110))),
    "socket_open_to_all": with_daemon("milter", path=way(the_socket(0o666), folder=(0o755, 110, 105))),
    "file_closed_to_daemons": with_facts(files=(replace(KEYS, path=(replace(KEYS.path[0], gid=0),)),)),
}


def test_a_good_machine_is_not_blamed():
    assert examine_host(GOOD) == ()


def test_every_check_has_a_broken_situation():
    assert {one.name for one in HOST_CHECKS} == set(BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_situation_is_named(name):
    found = examine_host(BROKEN[name])
    assert {one.check for one in found} == {name}, found
    assert all(one.found and one.can_happen and one.remedy for one in found)


class TestAddresses:
    def test_a_family_that_postfix_does_not_use(self):
        problems = {one: "Cannot assign requested address" for pool in HELO for one in addresses(pool)[1:]}
        host = with_facts(bind_problems=FACTS.bind_problems | problems, binds_anything=frozenset({6}))
        assert len(examine_host(host)) == 4
        assert examine_host(replace(host, site=Site(postfix(inet_protocols="ipv4"), SETTINGS))) == ()

    @pytest.mark.parametrize(
        ("interfaces", "is_default"),
        [
            ("192.0.2.10", True),
            ("192.0.2.10, 127.0.0.1", False),
            ("192.0.2.10, [2001:db8::10]", True),
            ("192.0.2.10, 192.0.2.1", False),
            ("all", False),
        ],
    )
    def test_address_that_postfix_binds_by_itself(self, interfaces, is_default):
        host = replace(GOOD, site=Site(postfix(inet_interfaces=interfaces), SETTINGS))
        assert [one.check for one in examine_host(host)][:1] == ["pool_address_is_the_default"] * is_default

    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            *(("10.1.2.3", True), ("172.31.0.1", True), ("100.64.0.1", True), ("fd00::1", True), ("::1", True)),
            *(("192.0.2.1", False), ("172.32.0.1", False), ("2001:db8::1", False), ("100.128.0.1", False)),
        ],
    )
    def test_private_addresses(self, address, expected):
        assert is_private(ipaddress.ip_address(address)) is expected

    def test_what_a_nat_changes_is_not_compared(self):
        host = with_settings(pools=PRIVATE)
        names = {ipaddress.ip_address("10.0.0.10"): DnsAnswer()}
        found = examine_host(replace(host, dns=replace(DNS, names=names)))
        assert {one.check for one in found} == {"pool_address_is_private"}


class TestLog:
    @pytest.mark.parametrize(("file", "most"), [("", 10), ("/var/log/mail.log", 512), ("/var/log/mail.log", None)])
    def test_that_goes_on(self, file, most):
        site = Site(postfix(maillog_file=file), SETTINGS)
        assert examine_host(replace(with_facts(most_datagrams=most), site=site)) == ()


class TestPorts:
    @pytest.mark.parametrize(
        ("name", "runs", "listening", "found"),
        [
            ("127.0.0.1:10027", True, {10027: 1}, []),
            ("127.0.0.1:10028", True, {10027: 2, 10028: 1}, []),
            ("127.0.0.1:10027", None, {10027: 1}, []),
            ("127.0.0.1:10027", True, {10027: 3}, ["127.0.0.1:10027: 2 more than this Postfix"]),
            ("127.0.0.1:10027", False, {10027: 1}, ["127.0.0.1:10027: 1 more than this Postfix"]),
            ("localhost:10027", True, {10027: 2}, ["127.0.0.1:10027: 1 more than this Postfix"]),
            ("192.0.2.1:10027", True, {10027: 2}, []),
        ],
    )
    def test_who_listens(self, name, runs, listening, found):
        host = replace(hop_at(name), facts=replace(FACTS, postfix_runs=runs, listening=listening))
        assert [one.found for one in examine_host(host) if one.check == "listener_is_shared"] == found


class TestNames:
    def test_several_ptr_records_one_of_which_is_right(self):
        names = {**DNS.names, FIRST: DnsAnswer(values=frozenset({HELO["high-risk"], "x.example"}))}
        assert examine_host(with_dns(names=names)) == ()

    def test_unknown_is_never_wrong(self):
        failed = DnsAnswer(problem="SERVFAIL")
        host = with_dns(
            names=dict.fromkeys(DNS.names, failed),
            addresses=dict.fromkeys(DNS.addresses, failed),
            mail_in={"example.org": failed},
            spf=spf(Result.TEMPERROR, *HELO),
            spf_of_rewritten=spf(Result.TEMPERROR, "relay"),
            spf_of_helo=spf(Result.TEMPERROR, *HELO),
        )
        (found,) = examine_host(host)
        assert found.check == "dns_cannot_tell"
        assert "PTR of" in found.found
        assert "so it is with" in found.found

    def test_dns_was_not_asked(self):
        assert examine_host(replace(GOOD, dns=DnsFacts())) == ()


class TestDaemons:
    def test_postfix_does_not_name_the_policy_service(self):
        host = with_daemon("policy", problem=DOWN)
        host = replace(host, site=Site(postfix(smtpd_sender_restrictions=""), SETTINGS))
        assert [one.check for one in examine_host(host)] == ["daemon_not_running_yet"]

    def test_a_folder_on_the_way_is_closed(self):
        (found,) = examine_host(with_daemon("policy", path=way(the_socket(), folder=(0o700, 110, 110))))
        assert found.found == "policy: user postfix is kept out by /sockets (uid 110, gid 110, mode 0700)"

    def test_a_socket_for_all_in_a_closed_folder(self):
        assert examine_host(with_daemon("policy", path=way(the_socket(0o666)))) == ()

    def test_tcp_has_no_permissions(self):
        assert examine_host(with_daemon("policy", path=())) == ()

    def test_a_socket_that_is_not_there_is_reported_once(self):
        path = (*way()[:1], PathFacts(path="/gone", exists=False), PathFacts(path="/gone/x.sock", exists=False))
        found = examine_host(with_daemon("milter", path=path, problem="No such file or directory"))
        assert [one.check for one in found] == ["milter_does_not_answer"]

    def test_a_missing_file_is_reported_elsewhere(self):
        missing = replace(KEYS, path=(PathFacts(path="/keys", exists=False),))
        assert examine_host(with_facts(files=(missing,))) == ()

    def test_a_state_that_can_only_be_read(self):
        state = FileFacts(name="state", path=(PathFacts(path="/state", mode=0o755, uid=0, gid=0),), needs=READ | WRITE)
        (found,) = examine_host(with_facts(files=(state,)))
        assert found.found == "state: user delivery-pools is kept out by /state (uid 0, gid 0, mode 0755)"

    @pytest.mark.parametrize(
        ("uid", "gids", "mode", "expected"),
        [
            (5, {1}, 0o400, True),
            (5, {6}, 0o040, False),  # the owner's bits decide for the owner
            (7, {6}, 0o040, True),
            (7, {6}, 0o404, False),
            (7, {8}, 0o404, True),
            (0, {0}, 0o000, True),
        ],
    )
    def test_as_the_kernel_judges(self, uid, gids, mode, expected):
        user = Identity(name="x", uid=uid, gids=frozenset(gids))
        assert user.may(READ, PathFacts(path="/x", uid=5, gid=6, mode=mode)) is expected
