"""Does a sender's domain have an MX or an address? Asked of DNS early, awaited with a deadline, cached.

A slow DNS server must not hold up mail that does not need it: a look-up holds no thread but those of its questions; a
domain that failed lately is asked again, but hardly waited for; and when many look-ups hang already, no more are waited
for. They go on, and serve the next message. For accepted domains the last known answer serves while DNS fails.
"""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
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
_PROMPT_SECONDS = 0.2
"""Most answers that are not cached anywhere come sooner. Later, a message that waits has A and AAAA asked beside MX."""
_TYPES = ("MX", "A", "AAAA")
"""In the order in which they are judged."""

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
        self._lock = threading.Lock()
        self._under_way: dict[str, _LookUp] = {}
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
            under_way = self._under_way.get(domain)
            if under_way is not None:
                return under_way.found
            look_up = _LookUp(self._resolver, domain, self._settle)
            self._under_way[domain] = look_up
        # Without the lock: what is known already comes back before this returns.
        look_up.begin()
        return look_up.found

    def wait(self, future: Future[Finding], domain: str) -> Finding:
        """Return what the look-up found; UNKNOWN, or the last known answer, when it takes too long."""
        with self._lock:
            has_failed_lately = domain in self._failed
            look_up = self._under_way.get(domain)
        began = time.monotonic()
        if look_up is not None and look_up.found is future:
            look_up.hurry()
        waited = time.monotonic() - began
        try:
            longest = self._settings.dns.timeout_seconds + 1.0
            return self._resolver.wait(future, longest, has_failed_lately=has_failed_lately, waited_seconds=waited)
        except DnsUnavailable as error:
            return self._last_known(domain) or Finding(Answer.UNKNOWN, f"{printable(domain)}: DNS: {error}")

    def close(self) -> None:
        """Stop; look-ups under way end by their own time-outs."""
        if self._owns_resolver:
            self._resolver.close()

    def _settle(self, domain: str, finding: Finding) -> Finding:
        """Keep what was found, and return what is told: for accepted domains perhaps the last known answer."""
        try:
            return self._kept(domain, finding)
        finally:
            with self._lock:
                del self._under_way[domain]

    def _kept(self, domain: str, finding: Finding) -> Finding:
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


class _LookUp:
    """The questions about one domain: MX, then A and AAAA together, each in the time that one question has.

    A and AAAA are asked when MX has not decided, or when a message waits and MX has taken _PROMPT_SECONDS: a server
    that needs two seconds then tells all three in these two. Asking all three at once would be simpler, but nearly all
    domains that send mail have an MX: a busy server would use three threads and packets for each new domain in the
    place of one, to gain time for the few others. For cached domains neither costs anything.
    """

    def __init__(self, resolver: Resolver, domain: str, settle: Callable[[str, Finding], Finding]) -> None:
        """`settle` is called once, with what was found, and returns what `found` gives."""
        self.found: Future[Finding] = Future()
        self._resolver = resolver
        self._domain = domain
        self._settle = settle
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._answers: dict[str, Reply | DnsUnavailable] = {}
        self._is_over = False

    def begin(self) -> None:
        """Ask for MX. What is no domain name is not asked for."""
        finding = _without_asking(self._domain)
        if finding is not None:
            self._end(finding)
        else:
            self._ask("MX")

    def hurry(self) -> None:
        """Wait a moment for what is under way, and ask for the rest if it has not decided: a message waits."""
        left = max(0.0, self._began + _PROMPT_SECONDS - time.monotonic())
        if not concurrent.futures.wait([self.found], left).done:
            self._ask_addresses()

    def _ask_addresses(self) -> None:
        self._ask("A")
        self._ask("AAAA")

    def _ask(self, rdtype: str) -> None:
        with self._lock:
            if self._is_over or rdtype in self._asked:
                return
            self._asked.add(rdtype)
        self._resolver.start_look_up(self._domain, rdtype).add_done_callback(functools.partial(self._note, rdtype))

    def _note(self, rdtype: str, done: Future[Reply]) -> None:
        with self._lock:
            try:
                self._answers[rdtype] = done.result()
            except DnsUnavailable as error:
                self._answers[rdtype] = error
            finding = None if self._is_over else _judged(self._domain, self._answers)
            self._is_over |= finding is not None
        if finding is not None:
            self._end(finding)
        elif rdtype == "MX":
            self._ask_addresses()

    def _end(self, finding: Finding) -> None:
        try:
            told = self._settle(self._domain, finding)
        except Exception as error:  # noqa: BLE001  (those who wait must hear of it; here nobody would)
            self.found.set_exception(error)
        else:
            self.found.set_result(told)


def _without_asking(domain: str) -> Finding | None:
    if domain.startswith("["):
        return Finding(Answer.NO, f"{printable(domain)}: an address literal, not a domain")
    if not is_name(domain):
        return Finding(Answer.NO, f"{printable(domain) or '(none)'}: not a domain name")
    return None


def _judged(domain: str, answers: Mapping[str, Reply | DnsUnavailable]) -> Finding | None:
    """Return what the answers so far say of a domain, None while they leave it open.

    NXDOMAIN and NODATA are NO, a null MX (RFC 7505) is no MX; any failure is UNKNOWN unless another type answers. A
    record decides at once, "no such domain" when the types before have answered too.
    """
    failures = []
    is_open = False
    for rdtype in _TYPES:
        answer = answers.get(rdtype)
        if answer is None:
            is_open = True
        elif isinstance(answer, DnsUnavailable):
            failures.append(f"{rdtype} {answer}")
        elif _is_positive(answer):
            return Finding(Answer.YES, f"{printable(domain)}: has {rdtype}")
        elif not answer.exists and not is_open:
            return Finding(Answer.NO, f"{printable(domain)}: no such domain (NXDOMAIN)")
    if is_open:
        return None
    if failures:
        return Finding(Answer.UNKNOWN, f"{printable(domain)}: DNS cannot tell ({', '.join(failures)})")
    return Finding(Answer.NO, f"{printable(domain)}: neither MX nor A nor AAAA")


def _is_positive(reply: Reply) -> bool:
    return any(not (isinstance(record, MX) and record.exchange == dns.name.root) for record in reply.records)
