"""Events for the surges: one for each DSN, and for the recipients of a connection that were refused."""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Final

from deliverypools.adapters.state import StateUnavailable
from deliverypools.core.accounts import client_network, is_internal
from deliverypools.core.addresses import domain_of, normalise_address, strip_brackets
from deliverypools.core.facts import printable
from deliverypools.core.settings import Settings
from deliverypools.core.surges.baseline import noted
from deliverypools.core.surges.events import Category, NdrEvent, Way
from deliverypools.milter.collector import Connection
from deliverypools.milter.services import Services

_DIGEST_BYTES: Final = 8
_MOST_LOCAL_PARTS: Final = 1000
_NOTED_AT: Final = 200
"""So many refused recipients are an event, before the connection ends."""
_REFUSED_MAILER: Final = "error"
_BARE_CODE: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_ADDRESS: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|[^\s"@]++)@[^\s@]++')
"""An address, and no reply: that has words with blanks between them."""
_UNKNOWN_USER: Final = ("5.1.0", "5.1.1", "5.1.10")

_logger = logging.getLogger(__name__)


def digest_of(message_id: str | None) -> str:
    """Return by what a message is known in events, "" without a Message-ID."""
    if not message_id or not message_id.strip():
        return ""
    content = "".join(message_id.split()).encode(errors="surrogateescape")
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def note_event(event: NdrEvent, services: Services) -> None:
    """Note an event where surges are looked for. Without the store it is lost: mail does not wait for it."""
    if not services.settings.bounces.surge_minimum:
        return
    try:
        services.state.note_ndr(event)
        services.state.count(noted(event))
    except StateUnavailable as error:
        _logger.error("%s: not counted for surges: %s", event.event_id, error)


def refused_with(mailer: str, host: str, address: str) -> str:
    """Return the enhanced status code (RFC 3463) with which Postfix refuses a recipient, "" for one that it accepts.

    It says "error" in {rcpt_mailer}, the bare code in {rcpt_host} and its reply in {rcpt_addr}. "error" alone is not
    enough: that is the transport of every address in virtual_alias_domains, with a text behind the code; nor is the
    bare code: transport_maps may say "error:5.1.1" of an address that an alias leads elsewhere.
    """
    is_refused = mailer == _REFUSED_MAILER and _BARE_CODE.fullmatch(host) and not _ADDRESS.fullmatch(address)
    return host if is_refused else ""


class RefusedRecipients:
    """The recipients of one connection that Postfix refused because they do not exist."""

    def __init__(self) -> None:
        self._amount = 0
        self._local_parts: set[str] = set()
        self._first = ""

    def add(self, recipient: str, enhanced_code: str, settings: Settings) -> None:
        """Take a refused recipient; anything but an unknown user of ours is passed over."""
        address = normalise_address(strip_brackets(recipient))
        if enhanced_code not in _UNKNOWN_USER or not is_internal(address, settings):
            return
        self._amount += 1
        self._first = self._first or address
        if len(self._local_parts) < _MOST_LOCAL_PARTS:
            self._local_parts.add(address)

    @property
    def is_many(self) -> bool:
        """Tell whether there are enough for an event of their own."""
        return self._amount >= _NOTED_AT

    def take(self, name: str, connection: Connection, at: float) -> NdrEvent | None:
        """Return them as an event, and begin anew; None where there are none. `name` is the connection's."""
        if not self._amount:
            return None
        event = NdrEvent(
            event_id=f"{connection.hostname}/{name}",
            at=at,
            way=Way.REFUSED,
            domain=printable(domain_of(self._first)),
            address=printable(self._first),
            category=Category.UNKNOWN_USER,
            client=client_network(connection.client_address),
            amount=self._amount,
            local_parts=len(self._local_parts),
        )
        self._amount, self._first = 0, ""
        self._local_parts.clear()
        return event
