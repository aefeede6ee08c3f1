"""Examines the sender of one message after the other: SPF, DKIM, DMARC and ARC, with all look-ups at the same time.

SPF begins with the envelope. Header and body come when Postfix has the whole message: at the end of the header keys and
DMARC records begin to be looked up, at the end of the message everything is waited for, for
`authentication.timeout_seconds` in all. What has no answer then is `temperror`: unknown. So is what breaks.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from deliverypools.adapters.authentication.arc_check import ArcCheck
from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.adapters.authentication.spf_check import check_spf
from deliverypools.adapters.resolver import DnsUnavailable, Resolver
from deliverypools.core.addresses import domain_of, normalise_domain
from deliverypools.core.authentication import ArcResult, Authentication, DkimResult, DmarcResult, Result, SpfResult
from deliverypools.core.authentication.author_domain import author_domains
from deliverypools.core.authentication.dmarc import evaluate, judge_authentication, judge_envelope, names_to_ask
from deliverypools.core.authentication.dmarc_records import tree_walk_names
from deliverypools.core.authentication.results_field import TrustedResults, trusted_results
from deliverypools.core.facts import NOT_ASKED, Answer, Finding
from deliverypools.core.headers import Headers
from deliverypools.core.settings import Settings

_MOST_FIELDS: Final = 1001
_MOST_OCTETS: Final = 300 * 1024
"""One more field, and more octets, than `SignatureCheck` looks at: it then says that there are too many."""
_MOST_RESULTS_FIELDS: Final = 10
_MOST_FROM_FIELDS: Final = 11
_GRACE_SECONDS: Final = 0.2
"""Names that are known to be needed only when the time is over still get an answer that is quick, or cached."""
_SECONDS_AGAIN: Final = 2.0
_MOST_AGAIN: Final = 8
"""So many messages of a worker may be examined again at the same time: the others of the queue have to get by."""
_BROKEN: Final = "internal error"
_CANNOT_TELL: Final = Finding(Answer.UNKNOWN, _BROKEN)

T = TypeVar("T")

_log = logging.getLogger(__name__)


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
        self._places = threading.BoundedSemaphore(_MOST_AGAIN)

    def examine(self, *, client_address: str, helo_name: str, envelope_sender: str) -> Examination:
        """Begin with a message from outside: its client, what that said in HELO, and the envelope sender."""
        envelope = _Envelope(client_address, helo_name, envelope_sender)
        return Examination(envelope, self._settings, self._resolver, self._clock)

    def examine_again(self, *, client_address: str, helo_name: str, envelope_sender: str) -> Examination | None:
        """Begin once more with a message that waits in the queue; it is not waited for DNS for longer than 2 seconds.

        What DNS tells later is cached for the next try. None: there are too many of these at the moment. The place is
        given back by `Examination.close`.
        """
        if not self._places.acquire(blocking=False):
            return None
        examination = self.examine(client_address=client_address, helo_name=helo_name, envelope_sender=envelope_sender)
        examination.longest_wait_seconds = min(_SECONDS_AGAIN, examination.longest_wait_seconds)
        examination.at_close = self._places.release
        return examination


@dataclass(frozen=True, slots=True)
class _Envelope:
    client_address: str
    helo_name: str
    sender: str


class _SpfCheck:
    """SPF of one message: `start` once, `finish` at its end.

    What is cached is evaluated at once, without a thread, so that names of others that hang do not hold it up.
    """

    def __init__(self, envelope: _Envelope, resolver: Resolver) -> None:
        self._envelope = envelope
        self._resolver = resolver
        self._known: SpfResult | None = None
        self._future: Future[SpfResult] | None = None

    @property
    def look_ups(self) -> list[Future[Any]]:
        """What is to be waited for."""
        return [self._future] if self._future and not self._known else []

    def start(self, seconds: float) -> None:
        """Evaluate SPF, in a thread where names are to be looked up: for `seconds` in all."""
        self.use_cache()
        if self._known is None:
            self._future = self._resolver.start(self._check, seconds)

    def use_cache(self) -> None:
        """See whether what is cached by now will do; what is not begins to be looked up."""
        if self._known or (self._future and self._future.done()):
            return
        found = self._check(0.0)
        if found.result is not Result.TEMPERROR:
            self._known = found

    def finish(self) -> SpfResult:
        """Return the result; raises what the evaluation raised."""
        self.use_cache()
        if self._known:
            return self._known
        try:
            if self._future:
                return self._future.result(0.0)
        except (DnsUnavailable, FutureTimeout, CancelledError):
            pass
        domain = domain_of(self._envelope.sender) or normalise_domain(self._envelope.helo_name)
        identity = "mailfrom" if self._envelope.sender else "helo"
        return SpfResult(result=Result.TEMPERROR, domain=domain, identity=identity, reason="no answer in time")

    def _check(self, seconds: float) -> SpfResult:
        return check_spf(
            self._resolver,
            client_address=self._envelope.client_address,
            helo=self._envelope.helo_name,
            envelope_sender=self._envelope.sender,
            seconds=seconds,
        )


class Examination:
    """One message. `take_header` once, `feed` for each part of the body, `finish` at its end, `close` at last."""

    def __init__(self, envelope: _Envelope, settings: Settings, resolver: Resolver, clock: Callable[[], float]) -> None:
        self.longest_wait_seconds = settings.authentication.timeout_seconds
        """How long `finish` may wait."""
        self.at_close: Callable[[], None] | None = None
        self._envelope = envelope
        self._settings = settings
        self._resolver = resolver
        self._clock = clock
        self._deadline = 0.0
        self._trusted = TrustedResults()
        self._spf: _SpfCheck | None = None
        self._signatures: SignatureCheck | None = None
        self._arc: ArcCheck | None = None
        self._authors: tuple[str, ...] = ()
        self._txt: dict[str, Future[tuple[bytes, ...]]] = {}
        self._broken: set[str] = set()
        if settings.authentication.enabled and not settings.trusted_authserv_ids:
            self._start_spf()

    def take_header(self, header: HeaderFields) -> None:
        """Take the whole header, and begin to look up what it names."""
        self._part("trusted results", lambda: self._take_trusted_results(header), None)
        if not self._settings.authentication.enabled:
            return
        if self._trusted.spf is None and self._spf is None:
            self._start_spf()
        if self._trusted.dkim is None:
            self._part("DKIM", lambda: self._start_signatures(header), None)
        if self._settings.authentication.trusted_arc_sealers:
            self._part("ARC", lambda: self._start_arc(header), None)
        if self._trusted.dmarc is None:
            self._part("DMARC", lambda: self._start_dmarc(header), None)

    def feed(self, chunk: bytes) -> bool:
        """Take the next part of the body; tell whether more of it is wanted."""
        checks = (("DKIM", self._signatures), ("ARC", self._arc))
        wanted = [(part, check) for part, check in checks if check and part not in self._broken and check.wants_body]
        for part, check in wanted:
            self._part(part, functools.partial(check.feed, chunk), None)
        return bool(wanted)

    def finish(self) -> Authentication:
        """Return what was found; never raises, and waits for `longest_wait_seconds` in all, and a moment."""
        if not self._settings.authentication.enabled and self._trusted == TrustedResults():
            return Authentication(authenticated=_CANNOT_TELL if self._broken else NOT_ASKED)
        self._deadline = self._clock() + self.longest_wait_seconds
        if self._spf:
            self._part("SPF", self._spf.use_cache, None)
        self._part("waiting", lambda: self._wait_for(self._look_ups), None)
        unknown_signatures: tuple[DkimResult, ...] = (DkimResult(result=Result.TEMPERROR, reason=_BROKEN),)
        dkim = self._part("DKIM", self._dkim_results, unknown_signatures)
        spf = self._part("SPF", self._spf_result, SpfResult(result=Result.TEMPERROR, reason=_BROKEN))
        author = self._authors[0] if len(self._authors) == 1 else ""
        unknown = DmarcResult(result=Result.TEMPERROR, domain=author, reason=_BROKEN)
        dmarc = self._part("DMARC", lambda: self._dmarc_result(spf, dkim), unknown)
        arc = self._part("ARC", self._arc_result, ArcResult(result=Result.TEMPERROR, reason=_BROKEN))
        finding = self._part("judgement", lambda: self._judgement(spf, dkim, dmarc, arc), _CANNOT_TELL)
        envelope = self._part("envelope", lambda: self._envelope_judgement(spf, dkim, dmarc, arc), _CANNOT_TELL)
        return Authentication(spf=spf, dkim=dkim, dmarc=dmarc, arc=arc, authenticated=finding, envelope=envelope)

    def close(self) -> None:
        """Give up what has not begun; for an examination that was finished, or will not be."""
        for future in self._look_ups:
            future.cancel()
        at_close, self.at_close = self.at_close, None
        if at_close is not None:
            at_close()

    def _part(self, part: str, function: Callable[[], T], broken: T) -> T:
        """Return what a function of one part returns; `broken` where that part has raised something, now or before.

        What goes wrong is kept from the other parts, and from the message, which would be refused for ever.
        """
        if part in self._broken:
            return broken
        try:
            return function()
        except Exception:  # noqa: BLE001  (whatever it is)
            _log.exception("untrapped exception in the examination of a message (%s)", part)
            self._broken.add(part)
            return broken

    @property
    def _look_ups(self) -> list[Future[Any]]:
        """All that is under way, what matters most first."""
        checks = (self._signatures, self._spf)
        of_checks = [future for check in checks if check for future in check.look_ups]
        return [*of_checks, *self._txt.values(), *(self._arc.look_ups if self._arc else ())]

    def _wait_for(self, look_ups: Iterable[Future[Any]]) -> None:
        for future in look_ups:
            with contextlib.suppress(FutureTimeout, CancelledError):
                future.exception(max(0.0, self._deadline - self._clock()))

    def _take_trusted_results(self, header: HeaderFields) -> None:
        values = header.values("Authentication-Results", _MOST_RESULTS_FIELDS)
        self._trusted = trusted_results(values, self._settings.trusted_authserv_ids)

    def _start_spf(self) -> None:
        self._spf = _SpfCheck(self._envelope, self._resolver)
        self._part("SPF", functools.partial(self._spf.start, self._settings.authentication.timeout_seconds), None)

    def _start_signatures(self, header: HeaderFields) -> None:
        self._signatures = SignatureCheck(header.fields)
        self._signatures.start(self._resolver)

    def _start_arc(self, header: HeaderFields) -> None:
        self._arc = ArcCheck(header.fields, frozenset(self._settings.authentication.trusted_arc_sealers))
        self._arc.start(self._resolver)

    def _start_dmarc(self, header: HeaderFields) -> None:
        fields = (("From", value) for value in header.values("From", _MOST_FROM_FIELDS))
        self._authors = author_domains(Headers.of(fields, is_complete=header.is_complete))
        if len(self._authors) == 1:
            self._ask(tree_walk_names(self._authors[0]))

    def _ask(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._txt:
                self._txt[name] = self._resolver.start_txt(name)

    def _spf_result(self) -> SpfResult:
        if self._trusted.spf:
            return self._trusted.spf
        return self._spf.finish() if self._spf else SpfResult(result=Result.NONE)

    def _dkim_results(self) -> tuple[DkimResult, ...]:
        if self._trusted.dkim is not None:
            return self._trusted.dkim
        return self._signatures.finish(0.0) if self._signatures else ()

    def _arc_result(self) -> ArcResult:
        return self._arc.finish(0.0) if self._arc else ArcResult(result=Result.NONE)

    def _dmarc_result(self, spf: SpfResult, dkim: tuple[DkimResult, ...]) -> DmarcResult:
        if self._trusted.dmarc:
            return self._trusted.dmarc
        if not self._settings.authentication.enabled:
            return DmarcResult(result=Result.NONE)
        if len(self._authors) == 1:
            own_names = tree_walk_names(self._authors[0])
            names = names_to_ask(self._authors[0], spf, dkim, self._records(own_names))
            self._ask(names)
            self._deadline = max(self._deadline, self._clock() + _GRACE_SECONDS)
            self._wait_for(self._txt[name] for name in names if name not in own_names)
        return evaluate(self._authors, self._records(tuple(self._txt)), spf, dkim)

    def _judgement(self, spf: SpfResult, dkim: tuple[DkimResult, ...], dmarc: DmarcResult, arc: ArcResult) -> Finding:
        if self._trusted.dmarc is None and not self._settings.authentication.enabled:
            # Whether the domain publishes a record is not known, and will not be.
            return Finding(Answer.NO, "no trusted verifier told of DMARC")
        return judge_authentication(spf, dkim, dmarc, arc)

    def _envelope_judgement(
        self, spf: SpfResult, dkim: tuple[DkimResult, ...], dmarc: DmarcResult, arc: ArcResult
    ) -> Finding:
        return judge_envelope(domain_of(self._envelope.sender), spf, dkim, dmarc, arc)

    def _records(self, names: Iterable[str]) -> dict[str, tuple[str, ...] | None]:
        return {name: _texts(self._txt[name]) for name in names if name in self._txt}


def _texts(future: Future[tuple[bytes, ...]]) -> tuple[str, ...] | None:
    try:
        return tuple(text.decode("utf-8", "replace") for text in future.result(0.0))
    except (DnsUnavailable, FutureTimeout, CancelledError):
        return None
