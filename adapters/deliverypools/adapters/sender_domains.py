"""Does a sender's domain have an MX or an address? Asked of DNS early, awaited with a deadline, cached.

A slow DNS server must not hold up mail that does not need it: what is known is answered without a thread; a domain
that failed lately is asked again, but hardly waited for; and when many look-ups hang already, no more are waited for.
For accepted domains the last known answer serves while DNS fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import dns.name
from dns.rdtypes.ANY.MX import MX

from deliverypools.adapters.resolver import DnsUnavailable, Reply, Resolver, is_name
from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.core.facts import Answer, Finding, printable
from deliverypools.core.settings import Settings

LAST_KNOWN_SECONDS = 7 * 86_400.0
"""How long the last known answer about an accepted domain serves while DNS fails."""

_REMEMBER_EVERY_SECONDS = 3600.0
_KEEP_SECONDS = 60.0
"""An answer is given again so long without a thread; the resolver keeps it for its own time to live."""
_MOST_KEPT = 20_000

_log = logging.getLogger(__name__)


class SenderDomains:
    """Look-ups of one process, shared by its threads."""

    def __init__(
        self,
        settings: Settings,
        state: State | None,
        clock: Callable[[], float] = time.monotonic,
        resolver: Resolver | None = None,
    ) -> None:
        """Ask `resolver`, which stays its owner's to close; without one, a resolver of its own by `settings`."""
        self._settings = settings
        self._state = state
        self._clock = clock
        self._resolver = resolver or Resolver(settings.dns, clock=clock)
        self._owns_resolver = resolver is None
        # Re-entrant: a look-up that fails at once calls back in the thread that has just started it.
        self._lock = threading.RLock()
        self._under_way: dict[str, Future[Finding]] = {}
        self._found: OrderedDict[str, tuple[float, Finding]] = OrderedDict()
        self._failed: OrderedDict[str, None] = OrderedDict()
        self._remembered: dict[str, tuple[Answer, float]] = {}

    def start(self, domain: str) -> Future[Finding]:
        """Begin to look a domain up, join the look-up that is under way, or give what is known."""
        with self._lock:
            kept = self._found.get(domain)
            if kept and kept[0] > self._clock():
                known: Future[Finding] = Future()
                known.set_result(kept[1])
                return known
            future = self._under_way.get(domain)
            if future is None:
                future = self._resolver.start(self._look_up, domain)
                self._under_way[domain] = future
                future.add_done_callback(lambda _done: self._end(domain))
            return future

    def wait(self, future: Future[Finding], domain: str) -> Finding:
        """Return what the look-up found; UNKNOWN, or the last known answer, when it takes too long."""
        with self._lock:
            has_failed_lately = domain in self._failed
        try:
            longest = self._settings.dns.timeout_seconds + 1.0
            return self._resolver.wait(future, longest, has_failed_lately=has_failed_lately)
        except DnsUnavailable as error:
            return self._last_known(domain) or Finding(Answer.UNKNOWN, f"{printable(domain)}: DNS: {error}")

    def close(self) -> None:
        """Stop; look-ups under way end by their own time-outs."""
        if self._owns_resolver:
            self._resolver.close()

    def _end(self, domain: str) -> None:
        with self._lock:
            self._under_way.pop(domain, None)

    def _look_up(self, domain: str) -> Finding:
        finding = look_up_sender_domain(self._resolver, domain, self._settings.dns.timeout_seconds)
        if finding.answer is Answer.UNKNOWN:
            # Not kept here: the resolver knows when to ask again.
            with self._lock:
                _put(self._failed, domain, None)
            return self._last_known(domain) or finding
        self._remember(domain, finding)
        with self._lock:
            _put(self._found, domain, (self._clock() + _KEEP_SECONDS, finding))
            self._failed.pop(domain, None)
        return finding

    def _last_known(self, domain: str) -> Finding | None:
        if self._state is None or not self._settings.is_accepted_domain(domain):
            return None
        try:
            return self._state.last_known_sender_domain(domain)
        except StateUnavailable as error:
            _log.warning("last known DNS answer for %s: %s", domain, error)
            return None

    def _remember(self, domain: str, finding: Finding) -> None:
        if self._state is None or not self._settings.is_accepted_domain(domain):
            return
        answer, at = self._remembered.get(domain, (None, 0.0))
        if answer is finding.answer and self._clock() - at < _REMEMBER_EVERY_SECONDS:
            return
        try:
            self._state.remember_sender_domain(domain, finding, LAST_KNOWN_SECONDS)
            self._remembered[domain] = finding.answer, self._clock()
        except StateUnavailable as error:
            _log.warning("DNS answer for %s was not kept: %s", domain, error)


Kept = TypeVar("Kept")


def _put(cache: OrderedDict[str, Kept], domain: str, value: Kept) -> None:
    cache[domain] = value
    cache.move_to_end(domain)
    while len(cache) > _MOST_KEPT:
        cache.popitem(last=False)


def look_up_sender_domain(resolver: Resolver, domain: str, timeout_seconds: float) -> Finding:
    """Ask for MX, then A, then AAAA, in `timeout_seconds` altogether.

    NXDOMAIN and NODATA are NO, a null MX (RFC 7505) is no MX; any failure is UNKNOWN unless another type answers.
    """
    if domain.startswith("["):
        return Finding(Answer.NO, f"{printable(domain)}: an address literal, not a domain")
    if not is_name(domain):
        return Finding(Answer.NO, f"{printable(domain) or '(none)'}: not a domain name")
    deadline = time.monotonic() + timeout_seconds
    failures = []
    for share, rdtype in ((0.5, "MX"), (0.5, "A"), (1.0, "AAAA")):
        # One type that gets no answer leaves time to ask for the others.
        seconds = max(0.0, deadline - time.monotonic()) * share
        try:
            reply = resolver.look_up(domain, rdtype, seconds)
        except DnsUnavailable as error:
            failures.append(f"{rdtype} {error}")
            continue
        if not reply.exists:
            return Finding(Answer.NO, f"{printable(domain)}: no such domain (NXDOMAIN)")
        if _is_positive(reply):
            return Finding(Answer.YES, f"{printable(domain)}: has {rdtype}")
    if failures:
        return Finding(Answer.UNKNOWN, f"{printable(domain)}: DNS cannot tell ({', '.join(failures)})")
    return Finding(Answer.NO, f"{printable(domain)}: neither MX nor A nor AAAA")


def _is_positive(reply: Reply) -> bool:
    return any(not (isinstance(record, MX) and record.exchange == dns.name.root) for record in reply.records)
