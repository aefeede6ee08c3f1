"""What the lab's world offers to tests of forwarding: signatures and SPF that hold, our own DNS, lists, failures."""

from __future__ import annotations

from collections.abc import Iterator

import dkim
import dns.exception
import dns.name
import dns.resolver
import pytest
import spf
from mailing import arrived, from_outside, mail, running

from deliverypools.adapters.postfix_examples import example_directory
from deliverypools.lab.dns_server import Slow
from deliverypools.lab.lab import OUTSIDE_CLIENT, Lab
from deliverypools.lab.signing import ED25519, RSA, sealed, signed
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until
from deliverypools.lab.world import NAMESERVER

LIST = {"list": "list-member@example.net, bob", "owner-list": "alice"}
SIMPLE, RELAXED = b"simple", b"relaxed"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    site = Site(aliases=LIST, forwards={"games": "\\games, via-forward@example.net"})
    with running(site=site) as lab:
        yield lab


def look_up(lab: Lab, name: str, rtype: str, seconds: float = 10) -> list[str]:
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [lab.address(NAMESERVER)]
    with lab.network.inside():
        try:
            answer = resolver.resolve(dns.name.from_text(name), rtype, lifetime=seconds)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
    return [b"".join(record.strings).decode() if rtype == "TXT" else record.to_text() for record in answer]


def verifies(lab: Lab, message: bytes) -> bool:
    return bool(dkim.verify(message, dnsfunc=lambda name, timeout=5: _key(lab, name)))


def is_sealed(lab: Lab, message: bytes) -> bool:
    return bool(dkim.arc_verify(message, dnsfunc=lambda name, timeout=5: _key(lab, name))[0] == b"pass")


def _key(lab: Lab, name: bytes) -> bytes:
    return "".join(look_up(lab, name.decode(), "TXT")).encode()


def spf_result(lab: Lab, client: str, sender: str, monkeypatch: pytest.MonkeyPatch) -> str:
    def answer(name, rtype, strict=True, timeout=20):
        found = look_up(lab, name, rtype) if rtype != "CNAME" else []
        return [((name, rtype), (text.encode(),) if rtype == "TXT" else text) for text in found]

    monkeypatch.setattr(spf, "DNSLookup", answer)
    return str(spf.check2(i=lab.address(client), s=sender, h="client.example")[0])


@pytest.mark.parametrize("selector", [RSA, ED25519])
@pytest.mark.parametrize("canonicalization", [(RELAXED, RELAXED), (SIMPLE, SIMPLE)])
def test_signature_holds_for_the_key_in_the_dns_and_for_the_message_only(lab: Lab, selector, canonicalization):
    message = mail("erin@signed.example", body="hello\n \nworld\n")
    one = signed(message, "signed.example", selector=selector, canonicalization=canonicalization)
    assert verifies(lab, one)
    assert not verifies(lab, one.replace(b"world", b"earth"))
    assert not verifies(lab, one.replace(b"Subject: hello", b"Subject: other"))


def test_signature_with_a_body_length_leaves_room_for_more(lab: Lab):
    assert verifies(lab, signed(mail(), "signed.example", body_length=True) + b"more\r\n")


def test_domain_without_a_key_cannot_sign(lab: Lab):
    assert not verifies(lab, signed(mail("erin@strict.example"), "strict.example"))


def test_seal_holds_and_can_be_sealed_again(lab: Lab):
    once = sealed(mail(), "sealer.example", "spf=pass smtp.mailfrom=erin@spf.example")
    assert is_sealed(lab, once)
    assert not is_sealed(lab, once + b"more\r\n")
    assert is_sealed(lab, sealed(once, "signed.example", "arc=pass"))


@pytest.mark.parametrize(
    ("client", "sender", "result"),
    [
        (OUTSIDE_CLIENT, "erin@spf.example", "pass"),
        ("203.0.113.2", "erin@spf.example", "fail"),
        (OUTSIDE_CLIENT, "erin@strict.example", "fail"),
        (OUTSIDE_CLIENT, "erin@example.com", "none"),
        (OUTSIDE_CLIENT, "alice@example.org", "fail"),
        ("192.0.2.10", "alice@example.org", "pass"),
        ("192.0.2.20", "alice@example.org", "pass"),
        ("192.0.2.30", "alice@example.org", "fail"),
        ("192.0.2.10", "SRS0=x@srs.example.org", "pass"),
        ("192.0.2.30", "SRS0=x@srs.example.org", "pass"),
        ("192.0.2.20", "SRS0=x@srs.example.org", "fail"),
    ],
)
def test_spf(lab: Lab, client, sender, result, monkeypatch):
    assert spf_result(lab, client, sender, monkeypatch) == result


def test_dmarc_records(lab: Lab):
    published = {name: look_up(lab, f"_dmarc.{name}.example", "TXT") for name in ("signed", "strict", "spf")}
    assert published == {"signed": ["v=DMARC1; p=reject"], "strict": ["v=DMARC1; p=reject"], "spf": []}


def test_broken_domain_fails_for_txt_only_until_it_is_repaired(lab: Lab):
    assert look_up(lab, "broken.example", "MX") == ["10 mx.other.example."]
    for name in ("broken.example", "_dmarc.broken.example"):
        with pytest.raises(dns.resolver.NoNameservers):
            look_up(lab, name, "TXT")
    lab.dns.fail("broken.example", None)
    assert look_up(lab, "broken.example", "TXT")[0].startswith("v=spf1")


def test_dns_that_is_down_or_slow_comes_back(lab: Lab):
    lab.stop_dns()
    with pytest.raises((dns.resolver.NoNameservers, dns.exception.Timeout)):
        look_up(lab, "example.com", "MX", seconds=0.5)
    lab.start_dns()
    lab.dns.fail(".", Slow(1))
    with pytest.raises(dns.exception.Timeout):
        look_up(lab, "example.com", "MX", seconds=0.3)
    lab.dns.fail(".", None)
    assert look_up(lab, "example.com", "MX") == ["10 mx.example.com."]


def test_mailing_list_in_aliases_sends_in_the_name_of_its_owner(lab: Lab):
    from_outside(lab, "list@example.org", mail("erin@example.com", Subject="to the list"))
    assert arrived(lab, "list-member@example.net").envelope_sender == "owner-list@example.org"
    lab.wait_until_queue_is_empty()
    assert [copy["Return-Path"] for copy in lab.mailbox("bob")] == ["<owner-list@example.org>"]


def test_dot_forward_can_leave_a_copy_with_its_return_path(lab: Lab):
    from_outside(lab, "games@example.org", sender="erin@example.com")
    assert arrived(lab, "via-forward@example.net").envelope_sender == "erin@example.com"
    wait_until(lambda: bool(lab.mailbox("spool/games")), timeout_seconds=30, what="the copy")
    assert [copy["Return-Path"] for copy in lab.mailbox("spool/games")] == ["<erin@example.com>"]


def test_rewritten_senders_have_a_domain_of_this_postfix_and_a_secret(lab: Lab):
    assert "srs.example.org" in lab.postfix.postconf("-h", "mydestination")
    assert (lab.directory / "srs.secrets").stat().st_mode & 0o777 == 0o600
    assert len((lab.directory / "srs.secrets").read_text().strip()) >= 24
    assert 'srs_domain = "srs.example.org"' in lab.settings_file.read_text()


def test_every_file_of_the_example_is_installed(lab: Lab):
    names = {path.name for path in (example_directory("hop") / "delivery-pools").iterdir()}
    assert {path.name for path in (lab.postfix.config_directory / "delivery-pools").iterdir()} == names
