"""DNS for all threads of one process: cached, bounded, with one question for all who ask the same at the same time.

What cannot be told now (`DnsUnavailable`) is never "no". A failure is remembered for `dns.servfail_cache_seconds`;
after that the question is asked again, so answers are right soon after DNS is. When DNS hangs, callers do not pile up:
each waits half a second, and only a few wait for longer; the question goes on, and its answer serves the next caller.
Strangers may make us ask for names that hang: what is cached needs no thread, and names that had an answer before have
threads of their own.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeAlias, TypeVar

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.A import A
from dns.rdtypes.txtbase import TXTBase

from deliverypools.adapters.metrics.definitions import DNS_SECONDS
from deliverypools.adapters.metrics.measure import observe
from deliverypools.adapters.nameserver import OpenQuestion, Server
from deliverypools.core.addresses import normalise_domain
from deliverypools.core.settings.tables import Dns

_QUESTION_THREADS = 512
"""Somebody else's server that hangs holds one for `dns.timeout_seconds`."""
_FAMILIAR_THREADS = 64
"""For names that had an answer before, so that others, however many hang, do not hold them up."""
_TASK_THREADS = 256
_MOST_QUEUED = 1024
"""So many questions, and so many tasks, may be under way; what comes on top is told at once that it is too much."""
_MOST_PATIENT = 16
"""So many callers of a process may wait for longer than _IMPATIENT_SECONDS; with more, something is wrong with DNS."""
_IMPATIENT_SECONDS = 0.5
_UDP_PAYLOAD_BYTES = 1232
"""What passes everywhere without IP fragments (DNS flag day 2020); larger answers come by TCP."""
_LEAST_SERVER_SECONDS = 0.5
_SERVERS_IN_TIME = 3
"""One server that hangs must leave time to ask the next ones. What it says later counts still."""
_MOST_FURTHER_SOCKETS = 256
"""So many servers may be listened to whose turn is over, by all questions together. Beyond, late answers get lost."""
_LONGEST_TTL_SECONDS = 3600.0
_NEGATIVE_TTL_SECONDS = 60.0
"""For a "no" without SOA, which carries no time to live (RFC 2308 section 5)."""
_MOST_KEPT = 20_000
_MOST_KEPT_BYTES = 8_000_000
_RECORD_BYTES = 64
_LABEL_BYTES = 64
"""Of a name in a record: 239 MX records of 4 kB, compressed to one name of 78 labels, take 880 kB."""
_LONGEST_NAME_TEXT = 1024

Parameters = ParamSpec("Parameters")
T = TypeVar("T")
Question: TypeAlias = tuple[dns.name.Name, str]


class DnsUnavailable(Exception):  # noqa: N818  (a condition, as StateUnavailable is)
    """It cannot be told now: no answer in time, or none that could be used."""


class DnsServerFailure(DnsUnavailable):
    """A server did answer, but with an error: SERVFAIL, REFUSED, a CNAME loop."""


class _StrangerError(Exception):
    """There are records, but none of them, nor an alias, is of the name that was asked for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What DNS says of one name and record type; aliases are followed."""

    records: tuple[dns.rdata.Rdata, ...] = ()
    exists: bool = True
    """False: there is no such name (NXDOMAIN), of whatever type."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failure as it is kept: an exception that is raised again and again would grow by its tracebacks."""

    kind: type[DnsUnavailable]
    reason: str

    @property
    def error(self) -> DnsUnavailable:
        return self.kind(self.reason)


@dataclass(frozen=True, slots=True)
class _Kept:
    outcome: Reply | _Failure
    until: float
    size_bytes: int


_NO_SUCH_NAME = Reply(exists=False)
_ANY_TYPE = "ANY"


class Resolver:
    """Look-ups of one process; every method may be called from any thread."""

    def __init__(self, settings: Dns, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Ask the resolvers of `settings`, or those of /etc/resolv.conf; `clock` (seconds) ages what is kept."""
        self._settings = settings
        self._clock = clock
        self._servers = [Server(host, port, clock) for host, port in _servers(settings)]
        self._further_sockets = threading.BoundedSemaphore(_MOST_FURTHER_SOCKETS)
        self._questions: Executor = ThreadPoolExecutor(_QUESTION_THREADS, thread_name_prefix="dns")
        self._familiar: Executor = ThreadPoolExecutor(_FAMILIAR_THREADS, thread_name_prefix="dns-familiar")
        self._tasks: Executor = ThreadPoolExecutor(_TASK_THREADS, thread_name_prefix="dns-task")
        self._lock = threading.Lock()
        self._under_way: dict[Question, Future[Reply | _Failure]] = {}
        self._familiar_under_way = 0
        self._tasks_under_way = 0
        self._patient = 0
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._kept_bytes = 0

    def look_up(self, name: str, rdtype: str, seconds: float) -> Reply:
        """Return the records of `name`, waiting for at most `seconds`; what is no domain name does not exist.

        `name` is absolute, with or without its final dot, and taken literally: a backslash escapes nothing.
        Raises DnsUnavailable.
        """
        absolute = _absolute(name)
        if absolute is None:
            return _NO_SUCH_NAME
        question = (absolute, rdtype)
        with self._lock:
            outcome = self._known(question)
            has_failed_lately = self._has_failed(question)
            future = None if outcome is not None else self._join_or_ask(question)
        if future is not None:
            outcome = self.wait(future, seconds, has_failed_lately=has_failed_lately)
        assert outcome is not None  # noqa: S101  (mypy cannot see that one of the two is there)
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def start_txt(self, name: str) -> Future[tuple[bytes, ...]]:
        """Begin to look up the TXT records of `name`, without a thread that waits; what is known is answered at once.

        The future gives the strings of each record joined, () where there is none; it raises DnsUnavailable. Cancelling
        it drops an answer that nobody wants; the question goes on.
        """
        return self._begin(name, "TXT", _texts)

    def start_addresses(self, name: str) -> Future[tuple[str, ...]]:
        """Begin to look up the IPv4 addresses of `name`, as `start_txt` does its TXT records."""
        return self._begin(name, "A", _addresses)

    def start_look_up(self, name: str, rdtype: str) -> Future[Reply]:
        """Begin to look up what `look_up` returns, as `start_txt` does TXT records."""
        return self._begin(name, rdtype, _as_it_is)

    def _begin(self, name: str, rdtype: str, read: Callable[[Reply], T]) -> Future[T]:
        answer: Future[T] = Future()
        absolute = _absolute(name)
        if absolute is None:
            answer.set_result(read(_NO_SUCH_NAME))
            return answer
        question = (absolute, rdtype)
        with self._lock:
            outcome = self._known(question)
            under_way = self._join_or_ask(question) if outcome is None else _finished(outcome)
        under_way.add_done_callback(functools.partial(_hand_on, answer, read))
        return answer

    def start(
        self, function: Callable[Parameters, T], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[T]:
        """Run what looks things up in a thread of a bounded pool.

        The future raises what the function raises, and DnsUnavailable when too much is under way already.
        """
        with self._lock:
            is_too_much = self._tasks_under_way >= _MOST_QUEUED
            self._tasks_under_way += 1
        try:
            future = (
                _failed("too many look-ups under way") if is_too_much else self._tasks.submit(function, *args, **kwargs)
            )
        except RuntimeError:
            future = _failed("stopping")
        future.add_done_callback(self._end_task)
        return future

    def wait(
        self, future: Future[T], seconds: float, *, has_failed_lately: bool = False, waited_seconds: float = 0.0
    ) -> T:
        """Wait for something that waits for DNS, for at most `seconds`, and less when it is likely to be in vain.

        `waited_seconds` the caller has waited already. Raises DnsUnavailable, and what the future raises.
        """
        at_once = min(seconds, max(0.0, _IMPATIENT_SECONDS - waited_seconds))
        try:
            return future.result(max(0.0, at_once))
        except concurrent.futures.TimeoutError:
            pass
        except concurrent.futures.CancelledError:
            raise DnsUnavailable("stopping") from None
        with self._lock:
            if seconds <= at_once or has_failed_lately or self._patient >= _MOST_PATIENT:
                raise DnsUnavailable("timed out")
            self._patient += 1
        try:
            return future.result(seconds - at_once)
        except concurrent.futures.TimeoutError:
            raise DnsUnavailable("timed out") from None
        except concurrent.futures.CancelledError:
            raise DnsUnavailable("stopping") from None
        finally:
            with self._lock:
                self._patient -= 1

    def close(self) -> None:
        """Stop; questions under way end by their own time-outs."""
        self._tasks.shutdown(wait=False, cancel_futures=True)
        self._questions.shutdown(wait=False, cancel_futures=True)
        self._familiar.shutdown(wait=False, cancel_futures=True)

    def _end_task(self, _done: Future[T]) -> None:
        with self._lock:
            self._tasks_under_way -= 1

    def _known(self, question: Question) -> Reply | _Failure | None:
        name, _ = question
        for key in (question, (name, _ANY_TYPE)):
            kept = self._kept.get(key)
            if kept is not None and kept.until > self._clock():
                self._kept.move_to_end(key)
                return kept.outcome
        return None

    def _has_failed(self, question: Question) -> bool:
        kept = self._kept.get(question)
        return kept is not None and isinstance(kept.outcome, _Failure)

    def _has_answered(self, question: Question) -> bool:
        """Tell whether there was an answer, be it out of date by now."""
        kept = (self._kept.get(key) for key in (question, (question[0], _ANY_TYPE)))
        return any(each is not None and isinstance(each.outcome, Reply) for each in kept)

    def _join_or_ask(self, question: Question) -> Future[Reply | _Failure]:
        future = self._under_way.get(question)
        if future is not None:
            return future
        is_familiar = self._has_answered(question)
        familiar = self._familiar_under_way
        if (familiar if is_familiar else len(self._under_way) - familiar) >= _MOST_QUEUED:
            observe(DNS_SECONDS, 0.0, "overload")
            return _finished(_Failure(DnsUnavailable, "too many questions under way"))
        future = Future()
        threads = self._familiar if is_familiar else self._questions
        try:
            begun = threads.submit(self._answer, question, future, is_familiar=is_familiar)
        except RuntimeError:
            return _finished(_Failure(DnsUnavailable, "stopping"))
        self._under_way[question] = future
        self._familiar_under_way += is_familiar
        # close() cancels what has not begun: who waits must hear of it.
        begun.add_done_callback(lambda done: done.cancelled() and future.cancel())
        return future

    def _answer(self, question: Question, future: Future[Reply | _Failure], *, is_familiar: bool) -> None:
        with self._lock:
            if self._under_way.get(question) is not future:
                # No thread could be started for it then; its executor has kept it all the same.
                return
        began = time.perf_counter()
        outcome, ttl_seconds = self._ask(question)
        try:
            observe(DNS_SECONDS, time.perf_counter() - began, _result(outcome))
        finally:
            with self._lock:
                self._keep(question, outcome, ttl_seconds)
                del self._under_way[question]
                self._familiar_under_way -= is_familiar
            future.set_result(outcome)

    def _ask(self, question: Question) -> tuple[Reply | _Failure, float]:
        """Return what DNS says, and how many seconds that is kept."""
        try:
            return self._resolve(question)
        except dns.resolver.NoNameservers as error:
            failure = _failure(error)
        except _StrangerError:
            failure = _Failure(DnsServerFailure, "records of another name")
        except dns.exception.Timeout:
            failure = _Failure(DnsUnavailable, "timed out")
        except Exception as error:  # noqa: BLE001  (whatever it is, those who wait must hear of it)
            failure = _Failure(DnsUnavailable, type(error).__name__)
        return failure, self._settings.servfail_cache_seconds

    def _resolve(self, question: Question) -> tuple[Reply, float]:
        name, rdtype = question
        seconds = self._settings.timeout_seconds
        asked = OpenQuestion(self._servers_in_order(), seconds, self._further_sockets)
        try:
            with contextlib.closing(asked):
                answer = self._asker(asked).resolve(name, rdtype, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return _NO_SUCH_NAME, _ttl_seconds(error.kwargs["responses"][name])
        if answer.rrset is not None:
            return Reply(tuple(answer.rrset)), _ttl_seconds(answer.response)
        if answer.response.answer and not answer.chaining_result.cnames:
            raise _StrangerError
        return Reply(), _ttl_seconds(answer.response)

    def _servers_in_order(self) -> list[Server]:
        """Return the servers, those that hung lately last."""
        since = self._clock() - self._settings.servfail_cache_seconds
        return sorted(self._servers, key=lambda server: server.has_hung_since(since))

    def _asker(self, question: OpenQuestion) -> dns.resolver.Resolver:
        """Return dnspython's resolver, which asks the servers of one question in turn, until its time is up."""
        asker = dns.resolver.Resolver(configure=False)
        asker.nameservers = question.nameservers
        asker.lifetime = self._settings.timeout_seconds
        asker.timeout = max(_LEAST_SERVER_SECONDS, self._settings.timeout_seconds / _SERVERS_IN_TIME)
        asker.use_edns(0, 0, _UDP_PAYLOAD_BYTES)
        return asker

    def _keep(self, question: Question, outcome: Reply | _Failure, ttl_seconds: float) -> None:
        if isinstance(outcome, Reply):
            self._drop(question)
            if not outcome.exists:
                question = (question[0], _ANY_TYPE)
        self._drop(question)
        kept = _Kept(outcome, self._clock() + ttl_seconds, _size_bytes(outcome))
        self._kept[question] = kept
        self._kept_bytes += kept.size_bytes
        while len(self._kept) > _MOST_KEPT or self._kept_bytes > _MOST_KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, question: Question) -> None:
        dropped = self._kept.pop(question, None)
        if dropped is not None:
            self._kept_bytes -= dropped.size_bytes


def _servers(settings: Dns) -> list[tuple[str, int]]:
    if settings.nameservers:
        return list(settings.nameservers)
    try:
        return [(str(server), 53) for server in dns.resolver.Resolver().nameservers]
    except dns.resolver.NoResolverConfiguration:
        # resolv.conf(5): without it, the local machine is asked.
        return [("127.0.0.1", 53)]


def is_name(name: str) -> bool:
    """Tell whether DNS can have such a name, the root apart."""
    return _absolute(name) is not None


def _absolute(name: str) -> dns.name.Name | None:
    """Return the name as DNS has it (U-labels as A-labels), or None for what can be none."""
    if len(name) > _LONGEST_NAME_TEXT:
        return None
    labels = (name if name.isascii() else normalise_domain(name)).removesuffix(".").lower().split(".")
    try:
        return dns.name.Name([label.encode("ascii") for label in labels] + [b""])
    except (dns.exception.DNSException, UnicodeError):
        return None


def _as_it_is(reply: Reply) -> Reply:
    return reply


def _texts(reply: Reply) -> tuple[bytes, ...]:
    return tuple(b"".join(record.strings) for record in reply.records if isinstance(record, TXTBase))


def _addresses(reply: Reply) -> tuple[str, ...]:
    return tuple(record.address for record in reply.records if isinstance(record, A))


def _hand_on(answer: Future[T], read: Callable[[Reply], T], done: Future[Reply | _Failure]) -> None:
    """Give an answer to one of those who wait for it, in the shape that he wants."""
    if not answer.set_running_or_notify_cancel():
        return
    outcome = _Failure(DnsUnavailable, "stopping") if done.cancelled() else done.result()
    if isinstance(outcome, _Failure):
        answer.set_exception(outcome.error)
    else:
        answer.set_result(read(outcome))


def _finished(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future


def _failed(reason: str) -> Future[T]:
    future: Future[T] = Future()
    future.set_exception(DnsUnavailable(reason))
    return future


def _failure(error: dns.resolver.NoNameservers) -> _Failure:
    """Return what the first server that answered said; one that could not be reached says nothing."""
    for *_, cause, response in error.kwargs["errors"]:
        if response is not None or isinstance(cause, dns.exception.FormError):
            return _Failure(DnsServerFailure, cause if isinstance(cause, str) else type(cause).__name__)
    return _Failure(DnsUnavailable, "no server reached")


def _result(outcome: Reply | _Failure) -> str:
    """Return how an outcome is counted."""
    if isinstance(outcome, Reply):
        return "found" if outcome.records else "none"
    return "failure" if outcome.kind is DnsServerFailure else "silent"


def _ttl_seconds(response: dns.message.QueryMessage) -> float:
    found = response.resolve_chaining()
    if found.answer is None and not response.authority:
        return _NEGATIVE_TTL_SECONDS
    return min(float(found.minimum_ttl), _LONGEST_TTL_SECONDS)


def _size_bytes(outcome: Reply | _Failure) -> int:
    if isinstance(outcome, _Failure):
        return _RECORD_BYTES
    texts = sum(
        len(text) + _RECORD_BYTES
        for record in outcome.records
        if isinstance(record, TXTBase)
        for text in record.strings
    )
    names = (getattr(record, "exchange", None) or getattr(record, "target", None) for record in outcome.records)
    labels = sum(len(name.labels) for name in names if isinstance(name, dns.name.Name))
    return texts + _LABEL_BYTES * labels + _RECORD_BYTES * (1 + len(outcome.records))
