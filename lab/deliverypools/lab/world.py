"""The DNS data of the lab's world: our domain and some others, all of them reserved for documentation (RFC 2606)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deliverypools.lab.dns_failures import DnsFailure
from deliverypools.lab.signing import key_records

NAMESERVER: Final = "198.51.100.53"
RECEIVER_ADDRESSES: Final = ("198.51.100.25", "198.51.100.26", "198.51.100.27", "198.51.100.28", "198.51.100.29")
RECEIVER_ADDRESSES6: Final = ("2001:db8:25::25",)


SENDER_DOMAINS: Final[Mapping[str, tuple[str, str | None]]] = {
    "signed.example": ("v=spf1 -all", "v=DMARC1; p=reject"),
    "spf.example": ("v=spf1 ip4:203.0.113.1 ip6:2001:db8:113::1 -all", None),
    "strict.example": ("v=spf1 -all", "v=DMARC1; p=reject"),
    "sealer.example": ("v=spf1 -all", None),
    "broken.example": ("v=spf1 ip4:203.0.113.1 ip6:2001:db8:113::1 -all", None),
}
"""Domains whose mail can be authenticated, or can be shown to be forged: their SPF and DMARC records."""
SIGNING_DOMAINS: Final = ("signed.example", "sealer.example")


def default_zones() -> dict[str, dict[str, Sequence[str]]]:
    """Return the records every lab begins with.

    example.org is ours, with srs.example.org for rewritten senders. example.com, example.net, elsewhere.example, and
    other.example receive mail over IPv4, dual.example over both address families, six.example over IPv6 only; none of
    them says who may send for it. nomail.example has an address but no mail server (null MX, RFC 7505). bare.example
    has neither MX nor A. Everything else does not exist.

    SENDER_DOMAINS receive mail too. signed.example authenticates by DKIM alone (`signing.signed`), with DMARC;
    spf.example by SPF for the client 203.0.113.1, without DMARC; strict.example is what forgers use: nothing
    authenticates for it; sealer.example has keys for ARC (`signing.sealed`); broken.example is spf.example with a DNS
    server that fails for TXT (`default_failures`).
    """
    domains = ("example.com", "example.net", "elsewhere.example", "other.example")
    zones = _our_zones() | {
        "dual.example": {"MX": ["10 mx.dual.example."]},
        "mx.dual.example": {"A": ["198.51.100.29"], "AAAA": ["2001:db8:25::25"]},
        "six.example": {"MX": ["10 mx.six.example."]},
        "mx.six.example": {"AAAA": ["2001:db8:25::25"]},
        "nomail.example": {"MX": ["0 ."], "A": ["198.51.100.29"]},
        "bare.example": {"TXT": ['"neither MX nor A"']},
    }
    for domain, address in zip(domains, RECEIVER_ADDRESSES, strict=False):
        zones[domain] = {"MX": [f"10 mx.{domain}."]}
        zones[f"mx.{domain}"] = {"A": [address]}
    for domain, (spf, dmarc) in SENDER_DOMAINS.items():
        zones[domain] = {"MX": ["10 mx.other.example."], "TXT": [f'"{spf}"']}
        if dmarc is not None:
            zones[f"_dmarc.{domain}"] = {"TXT": [f'"{dmarc}"']}
    for domain in SIGNING_DOMAINS:
        zones |= {name: dict(records) for name, records in key_records(domain).items()}
    return zones


def default_failures() -> dict[tuple[str, str], DnsFailure]:
    """Return what fails in the DNS from the beginning, by name and record type; `DnsServer.fail` ends it."""
    return {("broken.example", "TXT"): DnsFailure.SERVFAIL}


def _our_zones() -> dict[str, dict[str, Sequence[str]]]:
    """Return what the operator publishes: `relay` is in the SPF record of rewritten senders, not in that of our own."""
    zones: dict[str, dict[str, Sequence[str]]] = {
        "example.org": {"MX": ["10 mx.example.org."], "TXT": [_spf("192.0.2.10", "192.0.2.20")]},
        "srs.example.org": {
            "MX": ["10 mx.example.org."],
            "A": ["192.0.2.1"],
            "TXT": [_spf("192.0.2.30", "192.0.2.10")],
        },
        "mx.example.org": {"A": ["192.0.2.1"]},
    }
    for host, name in ((10, "mail"), (20, "mail-high-risk"), (30, "mail-relay")):
        zones[f"{name}.example.org"] = {
            "A": [f"192.0.2.{host}"],
            "AAAA": [f"2001:db8::{host}"],
            "TXT": ['"v=spf1 a -all"'],  # RFC 7208 section 2.3: HELO is what a null sender is checked by
        }
    return zones


def _spf(*addresses: str) -> str:
    """Return an SPF record that names these addresses of pools, and their IPv6 ones."""
    named = (f"ip4:{address} ip6:2001:db8::{address.rpartition('.')[2]}" for address in addresses)
    return f'"v=spf1 {" ".join(named)} -all"'


def substituted(
    zones: Mapping[str, Mapping[str, Sequence[str]]],
    substitute: Callable[[str], str],
) -> dict[str, dict[str, list[str]]]:
    """Return `zones` with the addresses this lab really has."""
    return {
        name: {rtype: [substitute(text) for text in data] for rtype, data in records.items()}
        for name, records in zones.items()
    }
