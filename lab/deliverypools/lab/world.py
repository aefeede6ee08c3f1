"""The DNS data of the lab's world: our domain and some others, all of them reserved for documentation (RFC 2606)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

NAMESERVER: Final = "198.51.100.53"
RECEIVER_ADDRESSES: Final = ("198.51.100.25", "198.51.100.26", "198.51.100.27", "198.51.100.28", "198.51.100.29")
RECEIVER_ADDRESSES6: Final = ("2001:db8:25::25",)


def default_zones() -> dict[str, dict[str, Sequence[str]]]:
    """Return the records every lab begins with.

    example.org is ours. example.com, example.net, elsewhere.example, and other.example receive mail over IPv4,
    dual.example over both address families, six.example over IPv6 only. nomail.example has an address but no mail
    server (null MX, RFC 7505). bare.example has neither MX nor A. Everything else does not exist.
    """
    zones: dict[str, dict[str, Sequence[str]]] = {
        "example.org": {"MX": ["10 mx.example.org."], "TXT": ['"v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all"']},
        "mx.example.org": {"A": ["192.0.2.1"]},
        "mail.example.org": {"A": ["192.0.2.10"], "AAAA": ["2001:db8::10"]},
        "mail-high-risk.example.org": {"A": ["192.0.2.20"], "AAAA": ["2001:db8::20"]},
        "mail-relay.example.org": {"A": ["192.0.2.30"], "AAAA": ["2001:db8::30"]},
        "dual.example": {"MX": ["10 mx.dual.example."]},
        "mx.dual.example": {"A": ["198.51.100.29"], "AAAA": ["2001:db8:25::25"]},
        "six.example": {"MX": ["10 mx.six.example."]},
        "mx.six.example": {"AAAA": ["2001:db8:25::25"]},
        "nomail.example": {"MX": ["0 ."], "A": ["198.51.100.29"]},
        "bare.example": {"TXT": ['"neither MX nor A"']},
    }
    domains = ("example.com", "example.net", "elsewhere.example", "other.example")
    for domain, address in zip(domains, RECEIVER_ADDRESSES, strict=False):
        zones[domain] = {"MX": [f"10 mx.{domain}."]}
        zones[f"mx.{domain}"] = {"A": [address]}
    return zones


def substituted(
    zones: Mapping[str, Mapping[str, Sequence[str]]],
    substitute: Callable[[str], str],
) -> dict[str, dict[str, list[str]]]:
    """Return `zones` with the addresses this lab really has."""
    return {
        name: {rtype: [substitute(text) for text in data] for rtype, data in records.items()}
        for name, records in zones.items()
    }
