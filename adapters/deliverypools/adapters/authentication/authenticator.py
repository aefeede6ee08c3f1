"""Examines the sender of one message after the other: SPF, DKIM, DMARC and ARC, with all look-ups at the same time.

SPF begins with the envelope, keys and DMARC records are looked up while the body comes; at the end of the message
everything is waited for, no longer than `authentication.timeout_seconds` after the first look-up. What has no answer
then is `temperror`: unknown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Final

from deliverypools.adapters.authentication.arc_check import ArcCheck
from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.adapters.authentication.spf_check import check_spf
from deliverypools.adapters.resolver import DnsUnavailable, Resolver
from deliverypools.core.addresses import domain_of, normalise_domain
from deliverypools.core.authentication import ArcResult, Authentication, DkimResult, DmarcResult, Result, SpfResult
from deliverypools.core.authentication.author_domain import author_domains
from deliverypools.core.authentication.dmarc import evaluate, judge_authentication, names_to_ask
from deliverypools.core.authentication.dmarc_records import tree_walk_names
from deliverypools.core.authentication.results_field import TrustedResults, trusted_results
from deliverypools.core.facts import Answer, Finding
from deliverypools.core.headers import Headers
from deliverypools.core.settings import Settings

_MOST_FIELDS: Final = 1001
_MOST_OCTETS: Final = 300 * 1024
"""One more field, and more octets, than `SignatureCheck` looks at: it then says that there are too many."""
_MOST_RESULTS_FIELDS: Final = 10
_MOST_FROM_FIELDS: Final = 11
_GRACE_SECONDS: Final = 0.2
"""What runs out of time tells so itself, a moment later."""


class HeaderFields:
    """The header fields of a message as they are on the wire, in bounded memory."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.is_complete = True
        self._octets = 0

    def add(self, name: str, value: str) -> None:
        """Take a field, its value with the blank after the colon, as the milter protocol has it."""
        if len(self.fields) >= _MOST_FIELDS or self._octets >= _MOST_OCTETS:
            self.is_complete = False
            return
        raw = value.encode("utf-8", "surrogateescape").replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")[:_MOST_OCTETS]
        self.fields.append((name.encode("utf-8", "surrogateescape"), raw))
        self._octets += len(name) + len(raw)

    def values(self, name: str, most: int) -> list[str]:
        """Return the first values of that name, top to bottom."""
        wanted = name.lower().encode()
        found = [value for field_name, value in self.fields if field_name.lower() == wanted]
        return [value.decode("utf-8", "surrogateescape").replace("\r\n", "\n") for value in found[:most]]


class Authenticator:
    """Examines messages, for all threads of a worker."""

    def __init__(self, settings: Settings, resolver: Resolver, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._resolver = resolver
        self._clock = clock

    def examine(self, *, client_address: str, helo_name: str, envelope_sender: str) -> Examination:
        """Begin with a message from outside: its client, what that said in HELO, and the envelope sender."""
        envelope = _Envelope(client_address, helo_name, envelope_sender)
        return Examination(envelope, self._settings, self._resolver, self._clock)


@dataclass(frozen=True, slots=True)
class _Envelope:
    client_address: str
    helo_name: str
    sender: str


class Examination:
    """One message. `take_header` once, `feed` for each part of the body, `finish` at its end."""

    def __init__(self, envelope: _Envelope, settings: Settings, resolver: Resolver, clock: Callable[[], float]) -> None:
        self._envelope = envelope
        self._settings = settings
        self._resolver = resolver
        self._clock = clock
        self._deadline = clock() + settings.authentication.timeout_seconds
        self._trusted = TrustedResults()
        self._spf: Future[SpfResult] | None = None
        self._signatures: SignatureCheck | None = None
        self._arc: ArcCheck | None = None
        self._authors: tuple[str, ...] = ()
        self._txt: dict[str, Future[tuple[bytes, ...]]] = {}
        if settings.authentication.enabled and not settings.trusted_authserv_ids:
            self._start_spf()

    @property
    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - self._clock())

    def take_header(self, header: HeaderFields) -> None:
        """Take the whole header, and begin to look up what it names."""
        values = header.values("Authentication-Results", _MOST_RESULTS_FIELDS)
        self._trusted = trusted_results(values, self._settings.trusted_authserv_ids)
        if not self._settings.authentication.enabled:
            return
        if self._trusted.spf is None and self._spf is None:
            self._start_spf()
        if self._trusted.dkim is None:
            self._signatures = SignatureCheck(header.fields)
            self._signatures.start(self._resolver, self._seconds_left)
        if self._settings.authentication.trusted_arc_sealers:
            self._arc = ArcCheck(header.fields, frozenset(self._settings.authentication.trusted_arc_sealers))
            self._arc.start(self._resolver, self._seconds_left)
        self._authors = author_domains(
            Headers.of(("From", value) for value in header.values("From", _MOST_FROM_FIELDS))
        )
        if self._trusted.dmarc is None and len(self._authors) == 1:
            self._ask(tree_walk_names(self._authors[0]))

    def feed(self, chunk: bytes) -> bool:
        """Take the next part of the body; tell whether more of it is wanted."""
        wanted = [check for check in (self._signatures, self._arc) if check is not None and check.wants_body]
        for check in wanted:
            check.feed(chunk)
        return bool(wanted)

    def finish(self) -> Authentication:
        """Return what was found; never raises, and returns in time."""
        if not self._settings.authentication.enabled and self._trusted == TrustedResults():
            return Authentication()
        spf = self._trusted.spf or self._spf_result()
        dkim = self._dkim_results()
        dmarc = self._trusted.dmarc or self._dmarc_result(spf, dkim)
        arc = self._arc.finish(self._seconds_left) if self._arc else ArcResult(result=Result.NONE)
        if self._trusted.dmarc is None and not self._settings.authentication.enabled:
            # Whether the domain publishes a record is not known, and will not be.
            finding = Finding(Answer.NO, "no trusted verifier told of DMARC")
        else:
            finding = judge_authentication(spf, dkim, dmarc, arc)
        return Authentication(spf=spf, dkim=dkim, dmarc=dmarc, arc=arc, authenticated=finding)

    def close(self) -> None:
        """Give up what has not begun."""
        for future in (self._spf, *self._txt.values()):
            if future is not None:
                future.cancel()

    def _start_spf(self) -> None:
        self._spf = self._resolver.start(
            check_spf,
            self._resolver,
            client_address=self._envelope.client_address,
            helo=self._envelope.helo_name,
            envelope_sender=self._envelope.sender,
            seconds=self._seconds_left,
        )

    def _ask(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._txt:
                self._txt[name] = self._resolver.start(self._resolver.txt, name, self._seconds_left)

    def _spf_result(self) -> SpfResult:
        if self._spf is None:
            return SpfResult(result=Result.NONE)
        try:
            return self._spf.result(self._seconds_left + _GRACE_SECONDS)
        except (DnsUnavailable, FutureTimeout, CancelledError):
            domain = domain_of(self._envelope.sender) or normalise_domain(self._envelope.helo_name)
            identity = "mailfrom" if self._envelope.sender else "helo"
            return SpfResult(result=Result.TEMPERROR, domain=domain, identity=identity, reason="no answer in time")

    def _dkim_results(self) -> tuple[DkimResult, ...]:
        if self._trusted.dkim is not None:
            return self._trusted.dkim
        return self._signatures.finish(self._seconds_left) if self._signatures else ()

    def _dmarc_result(self, spf: SpfResult, dkim: tuple[DkimResult, ...]) -> DmarcResult:
        if not self._settings.authentication.enabled:
            return DmarcResult(result=Result.NONE)
        if len(self._authors) == 1:
            own_names = tree_walk_names(self._authors[0])
            self._ask(names_to_ask(self._authors[0], spf, dkim, self._records(own_names)))
        return evaluate(self._authors, self._records(tuple(self._txt)), spf, dkim)

    def _records(self, names: Iterable[str]) -> dict[str, tuple[str, ...] | None]:
        return {name: self._texts(self._txt[name]) for name in names if name in self._txt}

    def _texts(self, future: Future[tuple[bytes, ...]]) -> tuple[str, ...] | None:
        try:
            return tuple(text.decode("utf-8", "replace") for text in future.result(self._seconds_left + _GRACE_SECONDS))
        except (DnsUnavailable, FutureTimeout, CancelledError):
            return None
