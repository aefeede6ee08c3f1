"""`check` on the running lab: its addresses, DNS and daemons; silent while all is right, and named when it is not."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import pytest
from mailing import running

from deliverypools.cli.main import main
from deliverypools.lab.dns_failures import DnsFailure
from deliverypools.lab.lab import Lab

PTR_OF_THE_PROVIDER = (
    "pools.high-risk.addresses: PTR of 2001:db8::20 is host20.provider.example; pools.high-risk.helo is"
    " mail-high-risk.example.org"
)
HOSTS = {"mail": 10, "mail-high-risk": 20, "mail-relay": 30}


def reverse(host: int, version: int) -> str:
    if version == 4:
        return f"{host}.2.0.192.in-addr.arpa"
    return ".".join(reversed(f"20010db8{'0' * 20}00{host}")) + ".ip6.arpa"


def pointers() -> dict[str, Mapping[str, Sequence[str]]]:
    return {
        reverse(host, version): {"PTR": [f"{name}.example.org."]} for name, host in HOSTS.items() for version in (4, 6)
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(zones=pointers()) as lab:
        yield lab


def found(lab: Lab, *options: str) -> dict[str, list[str]]:
    printed = io.StringIO()
    arguments = ("check", "--config", str(lab.settings_file), "--json", *options)
    with lab.network.inside(), contextlib.redirect_stdout(printed):
        status = main((*arguments, "--postfix", str(lab.postfix.config_directory)))
    listed = json.loads(printed.getvalue())["findings"]
    assert status == int(any(one["severity"] == "error" for one in listed))
    by_check: dict[str, list[str]] = {}
    for one in listed:
        by_check.setdefault(one["check"], []).append(one["found"])
    return by_check


@contextlib.contextmanager
def dns(lab: Lab, name: str, records: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Give a name other records while the context lasts."""
    zones = lab._zones
    lab.dns.set(name, records)
    try:
        yield
    finally:
        lab.dns.set(name, zones[name])


def test_a_server_on_which_all_is_right(lab: Lab):
    assert found(lab) == {}


class TestAddresses:
    def test_one_that_is_gone(self, lab: Lab):
        with lab.network.inside():
            subprocess.run(["ip", "addr", "del", "192.0.2.30/32", "dev", "lo"], check=True)
            try:
                listed = found(lab)
            finally:
                subprocess.run(["ip", "addr", "add", "192.0.2.30/32", "dev", "lo"], check=True)
        assert listed == {
            "pool_address_not_here": ["pools.relay.addresses: 192.0.2.30: Cannot assign requested address"]
        }

    def test_kernel_that_binds_anything(self, lab: Lab):
        with lab.network.inside():
            subprocess.run(["sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1"], check=True)
            try:
                listed = found(lab)
            finally:
                subprocess.run(["sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=0"], check=True)
        assert listed == {"addresses_can_be_invented": ["net.ipv4.ip_nonlocal_bind = 1"]}

    def test_default_address_of_the_machine(self, lab: Lab):
        with lab.network.inside():
            route = ["198.51.100.1/32", "dev", "lo", "src", "192.0.2.10"]
            subprocess.run(["ip", "route", "add", *route], check=True)
            try:
                listed = found(lab)
            finally:
                subprocess.run(["ip", "route", "del", *route], check=True)
        assert list(listed) == ["pool_address_is_the_default"]


class TestNames:
    def test_no_ptr_record(self, lab: Lab):
        with dns(lab, reverse(20, 4), {"TXT": ['"x"']}):
            assert found(lab) == {
                "pool_address_without_name": ["pools.high-risk.addresses: 192.0.2.20 has no PTR record"]
            }

    def test_another_name(self, lab: Lab):
        with dns(lab, reverse(20, 6), {"PTR": ["host20.provider.example."]}):
            assert found(lab) == {"pool_address_has_another_name": [PTR_OF_THE_PROVIDER]}

    def test_helo_name_without_the_address(self, lab: Lab):
        records = {"A": ["192.0.2.99"], "AAAA": ["2001:db8::20"], "TXT": ['"v=spf1 ip4:192.0.2.20 ip6:2001:db8::20"']}
        with dns(lab, "mail-high-risk.example.org", records):
            assert found(lab) == {
                "helo_leads_elsewhere": [
                    "pools.high-risk.helo: mail-high-risk.example.org A is 192.0.2.99; 192.0.2.20 is not in it"
                ]
            }

    def test_spf_of_the_helo_name(self, lab: Lab):
        records = {"A": ["192.0.2.20"], "AAAA": ["2001:db8::20"], "TXT": ['"v=spf1 ip6:2001:db8::20 -all"']}
        with dns(lab, "mail-high-risk.example.org", records):
            assert list(found(lab)) == ["spf_of_helo_fails"]

    def test_dns_that_fails(self, lab: Lab):
        lab.dns.fail(reverse(30, 4), DnsFailure.SERVFAIL)
        try:
            assert found(lab) == {"dns_cannot_tell": ["PTR of 192.0.2.30: SERVFAIL"]}
        finally:
            lab.dns.fail(reverse(30, 4), None)

    def test_dns_is_not_asked(self, lab: Lab):
        with dns(lab, reverse(20, 4), {"TXT": ['"x"']}):
            assert found(lab, "--dns", "off") == {}


class TestSpf:
    def with_spf(self, lab: Lab, record: str, domain: str = "example.org") -> dict[str, list[str]]:
        with dns(lab, domain, {"MX": ["10 mx.example.org."], "TXT": [f'"{record}"']}):
            return found(lab)

    def test_no_record(self, lab: Lab):
        assert self.with_spf(lab, "verification=1") == {"spf_missing": ["example.org has no SPF record"]}

    def test_high_risk_is_not_in_it(self, lab: Lab):
        listed = self.with_spf(lab, "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all")
        assert list(listed) == ["spf_lacks_pool"]
        assert [one.partition(":")[0] for one in listed["spf_lacks_pool"]] == [
            "SPF of example.org for 192.0.2.20 (pools.high-risk)",
            "SPF of example.org for 2001",
        ]

    def test_everything_passes_relay_too(self, lab: Lab):
        listed = self.with_spf(lab, "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/64 -all")
        assert list(listed) == ["spf_names_relay"]
        assert len(listed["spf_names_relay"]) == 2

    def test_broken_record(self, lab: Lab):
        assert list(self.with_spf(lab, "v=spf1 ipv4:192.0.2.10 -all")) == ["spf_cannot_be_evaluated"]

    def test_rewritten_senders(self, lab: Lab):
        with dns(lab, "srs.example.org", {"MX": ["10 mx.example.org."], "TXT": ['"v=spf1 ip4:192.0.2.10 -all"']}):
            assert list(found(lab)) == ["spf_of_rewritten_senders_lacks_pool"]


def test_mail_comes_in_at_an_address_that_may_be_listed(lab: Lab):
    with dns(lab, "mx.example.org", {"A": ["192.0.2.20"]}):
        assert found(lab) == {
            "risky_address_takes_mail_in": ["MX of example.org: 192.0.2.20 is an address of pools.high-risk"]
        }


class TestDaemons:
    def test_milter_is_down(self, lab: Lab):
        lab.milter.stop()
        try:
            listed = found(lab)
        finally:
            lab.milter.start()
        assert list(listed) == ["milter_does_not_answer"]

    def test_policy_is_down(self, lab: Lab):
        lab.policy.stop()
        try:
            listed = found(lab)
        finally:
            lab.policy.start()
        assert set(listed) == {"policy_service_does_not_answer", "socketmap_does_not_answer"}

    def test_folder_that_postfix_cannot_enter(self, lab: Lab):
        folder = lab.postfix.queue_directory / "delivery-pools"
        before = folder.stat().st_mode & 0o7777
        folder.chmod(0o700)
        try:
            listed = found(lab)
        finally:
            folder.chmod(before)
        assert set(listed) <= {"socket_closed_to_postfix"}
        assert all("user postfix is kept out by " in one for one in listed.get("socket_closed_to_postfix", []))
        assert len(listed["socket_closed_to_postfix"]) == 3

    def test_sockets_for_everybody(self, lab: Lab):
        folder = lab.postfix.queue_directory / "delivery-pools"
        before = folder.stat().st_mode & 0o7777
        sockets = list(folder.glob("*.sock"))
        folder.chmod(0o755)
        for path in sockets:
            path.chmod(0o666)
        try:
            listed = found(lab)
        finally:
            folder.chmod(before)
            for path in sockets:
                path.chmod(0o660)
        assert list(listed) == ["socket_open_to_all"]
        assert len(listed["socket_open_to_all"]) == 3
