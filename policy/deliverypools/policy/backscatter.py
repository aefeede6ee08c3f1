"""Servers that send backscatter, by DNS lists in safe mode: asked for the null sender and postmaster@ only.

A list that does not answer says nothing, and the mail goes on as if there were none. Nothing waits for a look-up but
the request that it is for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from deliverypools.adapters.resolver import DnsServerFailure, DnsUnavailable, Resolver
from deliverypools.core.dns_lists import HEADER, DnsList, is_public, judge_answers, query_name
from deliverypools.core.facts import Answer, fit_for_reply, printable
from deliverypools.core.settings import Settings
from deliverypools.core.settings.values import IpAddress, client_ip
from deliverypools.policy.sparing_log import SparingLog

_MOST_UNDER_WAY: Final = 128
"""Requests that wait for lists: more than Postfix's default_process_limit (100) makes at the same time."""
_NEVER_LISTED: Final = IPv4Address("127.0.0.1")
_MOST_MISSED: Final = 10
"""Time-outs in a row, of different clients, after which a list rests."""
_REASON_SECONDS: Final = 1.0
_MOST_OF_REASON: Final = 160
_MOST_OF_LIST: Final = 120
_MOST_TAGGED: Final = 10_000
"""More than there are smtpd processes: each has one message at a time."""
_MOST_INSTANCE_CHARACTERS: Final = 128

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A client that sends a bounce, or says that it is a postmaster."""

    client: IpAddress
    instance: str
    """Postfix's name of the message, the same in all its requests; "" where it has none."""


def client_to_look_up(client_address: str, settings: Settings) -> IpAddress | None:
    """Return the address of a client that lists may be asked about."""
    client = client_ip(client_address)
    if client is None or not is_public(client):
        return None
    is_excepted = any(client in network for network in settings.bounces.backscatter_list_exceptions)
    return None if is_excepted else client


class BackscatterLists:
    """Asks the lists, on the event loop; the resolver's threads wait for DNS."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet; `clock` (seconds) ages answers and failures."""
        self._clock = clock
        self._under_settings: _Lists | None = None
        self._tagged: OrderedDict[str, None] = OrderedDict()
        self._under_way = 0
        self._sparing_log = SparingLog(_log)

    async def action(self, suspect: Suspect, settings: Settings, seconds: float) -> str | None:
        """Return the action (access(5)) for mail from a listed client; None: not listed, or nobody can tell.

        Takes `backscatter_list_timeout_seconds` at most, and no longer than `seconds`.
        """
        if self._under_way >= _MOST_UNDER_WAY:
            self._tell("full", f"{_MOST_UNDER_WAY} look-ups under way: {suspect.client} was not looked up")
            return None
        lists = self._lists_of(settings)
        until = time.monotonic() + min(seconds, settings.bounces.backscatter_list_timeout_seconds)
        self._under_way += 1
        try:
            listing = await lists.listing(suspect.client, until)
            return await self._action(suspect, listing, lists, until) if listing else None
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """Stop; questions under way end by their own time-outs."""
        if self._under_settings:
            self._under_settings.close()

    def _lists_of(self, settings: Settings) -> _Lists:
        if self._under_settings is None or self._under_settings.settings is not settings:
            self.close()
            self._under_settings = _Lists(settings, self._clock, self._tell)
        return self._under_settings

    async def _action(self, suspect: Suspect, listing: DnsList, lists: _Lists, until: float) -> str | None:
        """Return what happens to mail from a client that a list names."""
        settings = lists.settings
        action = settings.bounces.backscatter_list_action
        done = "would be " if settings.shadow else ""
        done += "refused" if action == "reject" else "tagged"
        self._sparing_log.write(logging.INFO, "listed", f"{suspect.client} is listed by {listing.domain}: mail {done}")
        if settings.shadow:
            return None
        if action == "reject":
            return f"550 5.7.1 {refusal(suspect.client, listing, await lists.reason(suspect.client, listing, until))}"
        return f"PREPEND {HEADER}: {listing.domain}" if self._is_first(suspect.instance) else None

    def _is_first(self, instance: str) -> bool:
        """Tell whether a message has not been tagged yet: each PREPEND would add one more header."""
        if not 0 < len(instance) <= _MOST_INSTANCE_CHARACTERS:
            return True
        is_first = instance not in self._tagged
        self._tagged[instance] = None
        if len(self._tagged) > _MOST_TAGGED:
            self._tagged.popitem(last=False)
        return is_first

    def _tell(self, kind: str, text: str) -> None:
        self._sparing_log.write(logging.WARNING, kind, printable(text, 300))


class _Lists:
    """The lists under some settings, with a resolver of their own: when they hang, nobody else's look-ups do."""

    def __init__(self, settings: Settings, clock: Callable[[], float], tell: Callable[[str, str], None]) -> None:
        self.settings = settings
        self._clock = clock
        self._tell = tell
        # Longer than anybody waits, a question would hold its thread for nothing.
        seconds = settings.bounces.backscatter_list_timeout_seconds
        self._resolver = Resolver(settings.dns.model_copy(update={"timeout_seconds": seconds}), clock=clock)
        self._missed: dict[tuple[str, int], _Missed] = {}

    def close(self) -> None:
        self._resolver.close()

    async def listing(self, client: IpAddress, until: float) -> DnsList | None:
        """Ask all lists at the same time; return the first that names the client, None if none does in time."""
        asked = {
            asyncio.wrap_future(self._resolver.start_addresses(query_name(client, one.domain))): one
            for one in self.settings.bounces.backscatter_lists
            if not self._missed_by(one, client).rests(self._clock())
        }
        waiting = set(asked)
        try:
            while waiting and (left := until - time.monotonic()) > 0:
                done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                named = [self._names(client, asked[answer], answer) for answer in asked if answer in done]
                for listing in filter(None, named):
                    if not await self._names_everybody(listing, until):
                        return listing
        finally:
            for answer in waiting:
                answer.cancel()
        self._miss([asked[answer] for answer in waiting], client)
        return None

    async def _names_everybody(self, listing: DnsList, until: float) -> bool:
        """Tell whether a list names 127.0.0.1, which none may (RFC 5782 section 5): it was given up, then.

        One that does not tell in time is not believed either.
        """
        look_up = self._resolver.start_addresses(query_name(_NEVER_LISTED, listing.domain))
        try:
            left = max(0.0, until - time.monotonic())
            answers = await asyncio.wait_for(asyncio.wrap_future(look_up), left)
        except (TimeoutError, DnsUnavailable):
            self._tell(f"untested {listing.domain}", f"{listing.domain} names clients, but does not answer a test")
            return True
        if not answers:
            return False
        self._tell(f"everybody {listing.domain}", f"{listing.domain} names everybody, even 127.0.0.1; no verdict")
        return True

    async def reason(self, client: IpAddress, listing: DnsList, until: float) -> str:
        """Return what a list says about its listing (a TXT record, RFC 5782 section 2.1), "" if nothing in time."""
        left = min(_REASON_SECONDS, until - time.monotonic())
        look_up = self._resolver.start_txt(query_name(client, listing.domain))
        try:
            texts = await asyncio.wait_for(asyncio.wrap_future(look_up), max(0.0, left))
        except (TimeoutError, DnsUnavailable):
            return ""
        return texts[0].decode("ascii", "replace").strip() if texts else ""

    def _names(self, client: IpAddress, dns_list: DnsList, answer: asyncio.Future[tuple[str, ...]]) -> DnsList | None:
        """Return the list where it names the client."""
        error = answer.exception()
        if isinstance(error, DnsUnavailable):
            if isinstance(error, DnsServerFailure):
                self._tell(f"failure {dns_list.domain}", f"{dns_list.domain}: DNS: {error}; no verdict")
            else:
                self._miss([dns_list], client)
            return None
        finding = judge_answers(dns_list, answer.result())
        self._missed_by(dns_list, client).forget()
        if finding.answer is Answer.UNKNOWN:
            self._tell(f"useless {dns_list.domain}", f"{finding.evidence}; no verdict")
        return dns_list if finding.answer is Answer.YES else None

    def _miss(self, lists: Iterable[DnsList], client: IpAddress) -> None:
        """Note that lists did not answer about a client."""
        seconds = self.settings.dns.servfail_cache_seconds
        for one in lists:
            self._tell(f"silent {one.domain}", f"{one.domain} did not answer in time; no verdict")
            if self._missed_by(one, client).miss(client, self._clock(), seconds):
                self._tell(f"rests {one.domain}", f"{one.domain} answers nobody: not asked for {seconds:g} s")

    def _missed_by(self, dns_list: DnsList, client: IpAddress) -> _Missed:
        # Apart for IPv6: a list that knows only IPv4 may answer nothing about the other.
        return self._missed.setdefault((dns_list.domain, client.version), _Missed())


class _Missed:
    """Answers that a list owes. One that answers nobody would hold up each client's bounces for the whole time-out."""

    def __init__(self) -> None:
        self._clients: set[IpAddress] = set()
        self._rests_until = 0.0

    def forget(self) -> None:
        """Note an answer."""
        self._clients.clear()

    def miss(self, client: IpAddress, now: float, rest_seconds: float) -> bool:
        """Note a time-out; tell whether it makes the list rest."""
        if len(self._clients) < _MOST_MISSED:
            self._clients.add(client)
        is_too_much = len(self._clients) >= _MOST_MISSED and rest_seconds > 0
        if is_too_much:
            self._rests_until = now + rest_seconds
        return is_too_much

    def rests(self, now: float) -> bool:
        """Tell whether it is not to be asked now."""
        return now < self._rests_until


def refusal(client: IpAddress, listing: DnsList, reason: str) -> str:
    """Return the text of the 550 5.7.1 reply: fit for a reply, each part bounded (see `restrictions.refusal`)."""
    said = f" ({printable(reason, _MOST_OF_REASON)})" if reason else ""
    name = printable(listing.domain, _MOST_OF_LIST)
    return fit_for_reply(
        f"Bounces and mail of postmasters are refused from {client}, which {name} lists for sending backscatter{said}"
    )
