"""How the lab's DNS server misbehaves: what goes on the wire in the place of a true answer."""

import enum
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rrset

LONGEST_MESSAGE_OCTETS = 65535
_SECONDS_TO_LIVE = 1
_OTHER_NAME = dns.name.from_text("another-question.invalid.")


class DnsFailure(enum.Enum):
    """What a name answers instead of its data."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    NXDOMAIN = "nxdomain"
    TIMEOUT = "timeout"
    """Nothing."""
    TRUNCATED = "truncated"
    """TC and no data over UDP; the whole answer over TCP."""
    TRUNCATED_WITHOUT_TCP = "truncated-without-tcp"
    """TC and no data over UDP; a TCP connection is closed without an answer."""
    WRONG_ID = "wrong-id"
    """The true data under another message id, as of somebody who guesses."""
    OTHER_QUESTION = "other-question"
    """The question section names another name, the answer has the data under that."""
    OTHER_RECORDS = "other-records"
    """The right question, with records of another name only."""
    CNAME_LOOP = "cname-loop"
    """An alias of an alias of itself."""
    GARBAGE = "garbage"
    """The right id, then bytes that are no DNS message."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The true answer, so many seconds late."""

    seconds: float


_RCODES = {
    DnsFailure.SERVFAIL: dns.rcode.SERVFAIL,
    DnsFailure.REFUSED: dns.rcode.REFUSED,
    DnsFailure.NXDOMAIN: dns.rcode.NXDOMAIN,
}
_WITHOUT_AN_ANSWER = {(DnsFailure.TIMEOUT, False), (DnsFailure.TIMEOUT, True), (DnsFailure.TRUNCATED_WITHOUT_TCP, True)}


def spoilt(response: dns.message.Message, failure: DnsFailure, *, over_tcp: bool) -> bytes | None:
    """Return what a name that fails puts on the wire in the place of the true `response`, None for nothing."""
    if (failure, over_tcp) in _WITHOUT_AN_ANSWER:
        return None
    match failure:
        case DnsFailure.WRONG_ID:
            response.id ^= 0x5A5A
        case DnsFailure.OTHER_QUESTION:
            _rename(response.question, _OTHER_NAME)
            _rename(response.answer, _OTHER_NAME)
        case DnsFailure.OTHER_RECORDS:
            _rename(response.answer, _OTHER_NAME)
        case DnsFailure.CNAME_LOOP:
            response.answer = _loop(response.question[0].name)
            response.set_rcode(dns.rcode.NOERROR)
        case DnsFailure.GARBAGE:
            return response.id.to_bytes(2, "big") + b"\xff" * 40
        case DnsFailure.TRUNCATED | DnsFailure.TRUNCATED_WITHOUT_TCP:
            if not over_tcp:
                truncate(response)
        case _:
            response.answer = []
            response.set_rcode(_RCODES[failure])
    return response.to_wire(max_size=LONGEST_MESSAGE_OCTETS)


def truncate(response: dns.message.Message) -> None:
    """Leave nothing but the question, and say so (TC, RFC 2181 section 9)."""
    response.answer = []
    response.flags |= dns.flags.TC


def _rename(section: list[dns.rrset.RRset], name: dns.name.Name) -> None:
    for rrset in section:
        rrset.name = name


def _loop(name: dns.name.Name) -> list[dns.rrset.RRset]:
    below = f"loop.{name}"
    return [
        dns.rrset.from_text(owner, _SECONDS_TO_LIVE, "IN", "CNAME", target)
        for owner, target in ((str(name), below), (below, str(name)))
    ]
