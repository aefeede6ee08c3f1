"""DNS lists of hosts (RFC 5782): which of their answers count, the name to ask for, what an answer means."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from deliverypools.core.addresses import strip_brackets
from deliverypools.core.facts import Answer, Finding

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

HEADER: Final = "X-Delivery-Pool-Backscatter"
"""Tells our users, and rules after us, which list a bounce's client is on."""

LONGEST_LIST_NAME: Final = 253 - 64
"""What the 32 nibbles of an IPv6 address and their dots leave of a domain name."""

_POSTMASTER: Final = "postmaster"
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_LARGEST_OCTET: Final = 255
_LONGEST_CODE: Final = 200
_FIELD: Final = r"([0-9]{1,9}|\[[0-9;.]+\])"
_CODE: Final = re.compile(rf"{_FIELD}\.{_FIELD}\.{_FIELD}\.{_FIELD}")
_MEMBER: Final = re.compile(r"([0-9]{1,9})(?:\.\.([0-9]{1,9}))?")

_ANSWERS: Final = ipaddress.IPv4Network("127.0.0.0/8")
"""Where the answers of a list are (RFC 5782 section 2.1). Others come from whoever has the domain now, or from a
resolver that invents answers to what does not exist."""
_NOT_LISTED: Final = ipaddress.IPv4Address("127.0.0.1")
"""No list says "listed" so: it is what a name that should not resolve is often given."""
_REFUSALS: Final = ipaddress.IPv4Network("127.255.255.0/24")
"""By convention of the lists: you may not ask (a public resolver, too many questions, a misspelt list)."""

_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
        "::/127",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)
"""Private, shared, loopback, link-local, multicast (RFC 6890): no list can know them, and none is to learn of them.

Addresses of documentation are not among them: nobody has them but test networks.
"""


@dataclass(frozen=True, slots=True)
class AnswerCode:
    """Which answers of a list count: an address, or one with patterns such as `[2;4..8]` in it."""

    octets: tuple[frozenset[int], ...]

    def matches(self, address: ipaddress.IPv4Address) -> bool:
        """Tell whether an answer counts."""
        return all(octet in wanted for octet, wanted in zip(address.packed, self.octets, strict=True))

    def __str__(self) -> str:
        return ".".join(_pattern(octets) for octets in self.octets)


@dataclass(frozen=True, slots=True)
class DnsList:
    """A DNS list of hosts."""

    domain: str
    code: AnswerCode | None = None
    """None: every answer in 127.0.0.0/8 that says "listed" at all."""

    def __str__(self) -> str:
        return self.domain if self.code is None else f"{self.domain}={self.code}"


def parse_code(text: str) -> AnswerCode:
    """Return a code as Postfix's reject_rbl_client has it (postconf(5)): `d.d.d.d`, each a number or a pattern.

    A pattern is numbers and ranges in brackets: `127.0.[0;2].[2;4..8]`.

    Raises:
        ValueError: it is none, or can match no answer that means "listed"; the text says what would be right.
    """
    found = _CODE.fullmatch(text) if len(text) <= _LONGEST_CODE else None
    if not found:
        raise ValueError("write the code as four numbers or patterns, for example 127.0.0.2 or 127.0.0.[2;4..8]")
    code = AnswerCode(tuple(frozenset(_octets(field)) for field in found.groups()))
    if problem := _why_never(code):
        raise ValueError(problem)
    return code


def _octets(field: str) -> Iterator[int]:
    for member in field.strip("[]").split(";"):
        found = _MEMBER.fullmatch(member)
        if not found:
            raise ValueError(f'"{member}" in {field} is neither a number nor a range; write for example [2;4..8]')
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last:
            raise ValueError(f"{member} is no range; write the smaller number first, {last}..{first}")
        if last > _LARGEST_OCTET:
            raise ValueError(f"{last} is too large; each number of the code is at most {_LARGEST_OCTET}")
        yield from range(first, last + 1)


def _why_never(code: AnswerCode) -> str:
    """Return why no answer that means "listed" matches a code; "" where one does."""
    first, *others = code.octets
    if _ANSWERS.network_address.packed[0] not in first:
        return "the code never matches: answers of lists begin with 127, for example 127.0.0.2"
    if all(octets == {_LARGEST_OCTET} for octets in others[:2]):
        return "127.255.255.x is no listing: so a list says that it does not answer you. Write the code of a listing"
    if tuple(others) == tuple(frozenset({octet}) for octet in _NOT_LISTED.packed[1:]):
        return f"{_NOT_LISTED} is no listing; write the code of a listing, for example 127.0.0.2"
    return ""


def _pattern(octets: frozenset[int]) -> str:
    """Return one field of a code as an operator would write it."""
    runs: list[list[int]] = []
    for octet in sorted(octets):
        if runs and octet == runs[-1][1] + 1:
            runs[-1][1] = octet
        else:
            runs.append([octet, octet])
    text = ";".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)
    return text if text.isdecimal() else f"[{text}]"


def has_sender_of_bounces(envelope_sender: str) -> bool:
    """Tell whether mail with that sender is what lists of backscatter are asked about: null, or a postmaster."""
    address = strip_brackets(envelope_sender)
    local_part, at, _ = address.rpartition("@")
    local_part = local_part if at else address
    if local_part[:1] == local_part[-1:] == '"':
        # RFC 5321 section 4.1.2: quotes and backslashes do not make another mailbox.
        local_part = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    return not address or local_part.lower() == _POSTMASTER


def is_public(client: IpAddress) -> bool:
    """Tell whether a list can know anything of an address."""
    address = _as_ipv4(client)
    return not any(address in network for network in _NOT_PUBLIC)


def query_name(client: IpAddress, domain: str) -> str:
    """Return the name to ask a list for: octets, or nibbles, in reverse order (RFC 5782 sections 2.1 and 2.4)."""
    address = _as_ipv4(client)
    parts = [str(octet) for octet in address.packed] if address.version == 4 else f"{int(address):032x}"  # noqa: PLR2004
    return ".".join([*reversed(parts), domain])


def _as_ipv4(client: IpAddress) -> IpAddress:
    return getattr(client, "ipv4_mapped", None) or client


def judge_answers(dns_list: DnsList, answers: Iterable[str]) -> Finding:
    """Return whether the A records of a name say that its host is listed.

    UNKNOWN, with the reason, where one of them is no answer of a working list: then the others are not believed either.
    """
    addresses = [ipaddress.IPv4Address(answer) for answer in answers]
    for address in addresses:
        if address in _REFUSALS:
            why = "it refuses to answer: a public resolver, too many questions, or a misspelt list"
            return Finding(Answer.UNKNOWN, f"{dns_list.domain}: {address}: {why}")
        if address not in _ANSWERS:
            why = "no answer of a list: the domain has another owner, or the resolver invents answers"
            return Finding(Answer.UNKNOWN, f"{dns_list.domain}: {address}: {why}")
    for address in addresses:
        if address != _NOT_LISTED and (dns_list.code is None or dns_list.code.matches(address)):
            return Finding(Answer.YES, f"{dns_list.domain}: {address}")
    return Finding(Answer.NO)
