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
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX

from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.core.facts import Answer, Finding, printable
from deliverypools.core.settings import Settings

LAST_KNOWN_SECONDS = 7 * 86_400.0
"""How long the last known answer about an accepted domain serves while DNS fails."""

_REMEMBER_EVERY_SECONDS = 3600.0
_KEEP_SECONDS = 60.0
"""An answer is given again so long without a thread; dnspython keeps it for its own time to live."""
_MOST_THREADS = 64
_MOST_PATIENT = 8
"""So many messages of a process may wait for DNS in full; with more, something is wrong with DNS."""
_IMPATIENT_SECONDS = 0.5
_MOST_KEPT = 20_000

_log = logging.getLogger(__name__)


class SenderDomains:
    """Look-ups of one process, shared by its threads."""

    def __init__(self, settings: Settings, state: State | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._state = state
        self._clock = clock
        self._resolver = _resolver(settings)
        self._executor = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="dns")
        # Re-entrant: a look-up that fails at once calls back in the thread that has just started it.
        self._lock = threading.RLock()
        self._under_way: dict[str, Future[Finding]] = {}
        self._found: OrderedDict[str, tuple[float, Finding]] = OrderedDict()
        self._failed_at: OrderedDict[str, float] = OrderedDict()
        self._remembered: dict[str, tuple[Answer, float]] = {}
        self._waiting = 0

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
                future = self._executor.submit(self._look_up, domain)
                self._under_way[domain] = future
                future.add_done_callback(lambda _done: self._end(domain))
            return future

    def wait(self, future: Future[Finding], domain: str) -> Finding:
        """Return what the look-up found; UNKNOWN, or the last known answer, when it takes too long."""
        with self._lock:
            is_patient = domain not in self._failed_at and self._waiting < _MOST_PATIENT
            self._waiting += 1
        try:
            return future.result(timeout=self._settings.dns.timeout_seconds + 1.0 if is_patient else _IMPATIENT_SECONDS)
        except FutureTimeout:
            return self._last_known(domain) or Finding(Answer.UNKNOWN, f"{domain}: no answer from DNS in time")
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """Stop; look-ups under way end by their own time-outs."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _end(self, domain: str) -> None:
        with self._lock:
            self._under_way.pop(domain, None)

    def _look_up(self, domain: str) -> Finding:
        finding = look_up_sender_domain(self._resolver, domain, self._settings.dns.timeout_seconds)
        has_failed = finding.answer is Answer.UNKNOWN
        if has_failed:
            finding = self._last_known(domain) or finding
        else:
            self._remember(domain, finding)
        keep_seconds = self._settings.dns.servfail_cache_seconds if has_failed else _KEEP_SECONDS
        with self._lock:
            _put(self._found, domain, (self._clock() + keep_seconds, finding))
            if has_failed:
                _put(self._failed_at, domain, self._clock())
            else:
                self._failed_at.pop(domain, None)
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


def _resolver(settings: Settings) -> dns.resolver.Resolver:
    resolver = dns.resolver.Resolver(configure=not settings.dns.nameservers)
    if settings.dns.nameservers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in settings.dns.nameservers]
    resolver.cache = dns.resolver.LRUCache(_MOST_KEPT)
    # One server that hangs must leave time to ask the next.
    resolver.timeout = max(0.5, settings.dns.timeout_seconds / 3)
    return resolver


def look_up_sender_domain(resolver: dns.resolver.Resolver, domain: str, timeout_seconds: float) -> Finding:
    """Ask for MX, then A, then AAAA, in `timeout_seconds` altogether.

    NXDOMAIN and NODATA are NO, a null MX (RFC 7505) is no MX; any failure is UNKNOWN unless another type answers.
    """
    if domain.startswith("["):
        return Finding(Answer.NO, f"{printable(domain)}: an address literal, not a domain")
    try:
        name = dns.name.from_text(domain) if domain else dns.name.root
    except (dns.exception.DNSException, UnicodeError):
        name = dns.name.root
    if name == dns.name.root:
        return Finding(Answer.NO, f"{printable(domain) or '(none)'}: not a domain name")
    deadline = time.monotonic() + timeout_seconds
    failures = []
    for share, rdtype in ((0.5, dns.rdatatype.MX), (0.5, dns.rdatatype.A), (1.0, dns.rdatatype.AAAA)):
        # One type that gets no answer leaves time to ask for the others.
        lifetime = max(0.0, deadline - time.monotonic()) * share
        try:
            answer = resolver.resolve(name, rdtype, lifetime=lifetime, raise_on_no_answer=False, search=False)
            if _is_positive(answer):
                return Finding(Answer.YES, f"{domain}: has {dns.rdatatype.to_text(rdtype)}")
            continue
        except dns.resolver.NXDOMAIN:
            return Finding(Answer.NO, f"{domain}: no such domain (NXDOMAIN)")
        except (dns.exception.DNSException, OSError) as error:
            failure = _failure(error)
        failures.append(f"{dns.rdatatype.to_text(rdtype)} {failure}")
    if failures:
        return Finding(Answer.UNKNOWN, f"{domain}: DNS cannot tell ({', '.join(failures)})")
    return Finding(Answer.NO, f"{domain}: neither MX nor A nor AAAA")


def _is_positive(answer: dns.resolver.Answer) -> bool:
    if answer.rrset is None:
        return False
    return any(not (isinstance(record, MX) and record.exchange == dns.name.root) for record in answer.rrset)


def _failure(error: Exception) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "timed out"
    return "SERVFAIL" if isinstance(error, dns.resolver.NoNameservers) else type(error).__name__
