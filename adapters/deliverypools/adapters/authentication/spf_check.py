"""SPF (RFC 7208) of one message: pyspf, with our resolver below it and a bound on everything it does.

pyspf knows the records; look-ups, deadlines, names that are none, and what it raises on odd input are dealt with here.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable
from typing import Any

import dns.name
import spf
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from deliverypools.adapters.resolver import DnsServerFailure, DnsUnavailable, Resolver, is_name
from deliverypools.core.addresses import normalise_domain, strip_brackets
from deliverypools.core.authentication import Result, SpfResult
from deliverypools.core.facts import printable

_MOST_RECORD_BYTES = 4096
"""RFC 7208 section 3.4 asks for records that fit into 512 octets; pyspf's time grows with the square of the length."""
_MOST_TERM_BYTES = 512
_LONGEST_LOCAL_PART = 256
"""RFC 5321 section 4.5.3.1.1 allows 64 octets; what a macro makes of more is cut to the length of a name anyway."""
_RECORD_START = b"v=spf1"

_log = logging.getLogger(__name__)


def check_spf(resolver: Resolver, *, client_address: str, helo: str, envelope_sender: str, seconds: float) -> SpfResult:
    """Tell whether `client_address` may send for the domain of the envelope sender, of HELO where that is null.

    All look-ups together take `seconds` at most; what DNS cannot tell in that time is TEMPERROR. The reason of a FAIL
    ends with the explanation that the domain publishes, if any. Never raises.
    """
    sender = strip_brackets(envelope_sender)
    identity = "mailfrom" if sender else "helo"
    local_part, _, domain = sender.rpartition("@") if sender else ("", "", helo)
    domain = normalise_domain(domain)
    address = _address(client_address)
    if address is None:
        result, reason = Result.NONE, f"{client_address or '(none)'}: no client address"
    elif not _can_have_record(domain):
        result, reason = Result.NONE, f"{domain or '(none)'}: not a domain name"
    else:
        query = _Query(
            resolver, address, local_part[:_LONGEST_LOCAL_PART] or "postmaster", domain, normalise_domain(helo), seconds
        )
        result, reason = _result(query)
    return SpfResult(result=result, domain=printable(domain), identity=identity, reason=printable(reason))


def _result(query: _Query) -> tuple[Result, str]:
    try:
        text, _, explanation = query.check()
        result = Result(text)
    except Exception as error:  # noqa: BLE001  (the record is at fault: asking again would not help)
        _log.warning("SPF of %s: %s", printable(query.o), type(error).__name__, exc_info=True)
        return Result.PERMERROR, f"the record cannot be evaluated ({type(error).__name__})"
    if result in {Result.TEMPERROR, Result.PERMERROR}:
        return result, explanation
    if result is Result.NONE:
        return result, "no record"
    matched = query.mechanism or "no mechanism matched"
    is_published = result is Result.FAIL and explanation != spf.EXPLANATIONS["fail"]
    return result, f"{matched}: {explanation}" if is_published else matched


def _address(text: str) -> str | None:
    """Return the address without the zone of a link-local one ("fe80::1%eth0"), or None for what is no address."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _can_have_record(domain: str) -> bool:
    """Tell whether the domain has several labels and is no address literal (RFC 7208 section 4.3)."""
    return "." in domain and not domain.startswith("[") and is_name(domain)


class _ServerFailure(spf.TempError):
    """A server answered with an error, which section 5.5 of RFC 7208 tells from knowing nothing."""


class _Query(spf.query):
    """pyspf's evaluation of one message, its look-ups by our resolver and with one deadline for all of them."""

    def __init__(  # noqa: PLR0917
        self, resolver: Resolver, address: str, local_part: str, domain: str, helo: str, seconds: float
    ) -> None:
        super().__init__(address, f"{local_part}@{domain}", helo)
        # pyspf splits at the first "@", which a quoted local part may hold.
        self.l, self.o, self.d = local_part, domain, domain
        self._resolver = resolver
        self._deadline = time.monotonic() + seconds

    def dns(
        self,
        name: str,
        qtype: str,
        cnames: dict[str, str] | None = None,  # noqa: ARG002  (the resolver follows aliases)
        ignore_void: bool = False,  # noqa: FBT001, FBT002  (pyspf's signature)
    ) -> list[Any]:
        """Return the data of `name` as pyspf wants them: text, (preference, name), or a tuple of strings.

        Raises spf.TempError; spf.PermError for the third name without data (RFC 7208 section 4.6.4).
        """
        if not is_name(name):
            return []
        try:
            records = self._resolver.look_up(name, qtype, self._deadline - time.monotonic()).records
        except DnsServerFailure as error:
            raise _ServerFailure(f"{printable(name)} {qtype}: {error}") from None
        except DnsUnavailable as error:
            raise spf.TempError(f"{printable(name)} {qtype}: {error}") from None
        data = [_DATA_OF[type(record)](record) for record in records if type(record) in _DATA_OF]
        if not data and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError(f"more than {spf.MAX_VOID_LOOKUPS} look-ups without data")
        return data

    def validated_ptrs(self) -> list[str]:
        """Return the names of the client address that point back to it (RFC 7208 section 5.5).

        By that section an error of the server means: no name, or not this name. No answer at all is still TEMPERROR.
        """
        names = self._unless_failing(lambda: self.dns_ptr(self.i))[: spf.MAX_PTR]
        return [name for name in names if self._points_back(name)]

    def _points_back(self, name: str) -> bool:
        return self.cidrmatch(self._unless_failing(lambda: self.dns_a(name, self.A)), self.cidrmax)

    @staticmethod
    def _unless_failing(look_up: Callable[[], list[str]]) -> list[str]:
        try:
            return look_up()
        except _ServerFailure:
            return []


def _strings(record: TXT) -> tuple[bytes, ...]:
    """Return the text of a TXT record.

    Raises spf.PermError for an SPF record so long that evaluating it is a burden.
    """
    text = b"".join(record.strings)
    if text[: len(_RECORD_START)].lower() != _RECORD_START:
        return (text[:_MOST_TERM_BYTES],)
    if len(text) > _MOST_RECORD_BYTES or any(len(term) > _MOST_TERM_BYTES for term in text.split(b" ")):
        raise spf.PermError("the record is too long")
    return (text,)


def _host(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


_DATA_OF: dict[type, Callable[[Any], object]] = {
    A: lambda record: record.address,
    AAAA: lambda record: record.address,
    MX: lambda record: (record.preference, _host(record.exchange)),
    PTR: lambda record: _host(record.target),
    TXT: _strings,
}
