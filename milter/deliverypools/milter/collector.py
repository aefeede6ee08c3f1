"""Gathers one message from the events of the milter protocol, in bounded memory."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from deliverypools.adapters.message_spool import COPY_HEADER, MessageSpool
from deliverypools.core import ticket
from deliverypools.core.addresses import strip_brackets
from deliverypools.core.authentication.results_field import claims
from deliverypools.core.dns_lists import HEADER as LIST_HEADER
from deliverypools.core.dsn.kinds import BODY_BYTES_READ, KIND_FIELDS, has_signs_of_dsn, kind_by
from deliverypools.core.dsn.signs import Signs
from deliverypools.core.dsn.was_it_ours import HEADER as DSN_HEADER
from deliverypools.core.facts import printable
from deliverypools.core.headers import Headers, unfolded
from deliverypools.core.message_kind import ORDINARY, MessageKind
from deliverypools.core.probe import HEADER as PROBE_HEADER
from deliverypools.core.ticket import Binder, Binding

EGRESS = "EGRESS"
"""milter_macro_daemon_name of the listener behind the hop."""
TAG_HEADER = "X-Delivery-Pool"
RESULTS_HEADER = "Authentication-Results"

_READ_BY_RULES = (
    *ticket.BOUND_FIELDS,
    *("Received", "Delivered-To", "X-Sieve-Redirected-From", "List-Id"),
    *("Subject", "To", COPY_HEADER, PROBE_HEADER),
    *KIND_FIELDS,
)
_OURS = frozenset(name.lower() for name in (TAG_HEADER, ticket.HEADER, DSN_HEADER, LIST_HEADER))
_NOTICES = frozenset({"FAILURE", "DELAY", "SUCCESS"})
_VERP = "XVERP"
_MOST_FIELDS = 500
_MOST_FIELD_CHARACTERS = 4000
_MOST_TICKET_CHARACTERS = 100_000
_MOST_TICKETS = 2
_MOST_CLAIMS = 1000
_MOST_RESULTS_FIELDS = 100
_MOST_RECIPIENTS = 100_000
_MOST_SUBJECT_CHARACTERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What Postfix says about a connection."""

    daemon_name: str = ""
    """milter_macro_daemon_name of the service that asks."""
    hostname: str = ""
    """Postfix's myhostname."""
    client_address: str = ""
    client_name: str = ""
    """In DNS, verified by Postfix; "" where it has none."""
    helo_name: str = ""
    proof_seen: str | None = None
    """Which proof of the fast path there was (`FastPathWatch.proof_seen`); None: none is about its service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedMessage:
    """One message, at its end."""

    envelope_sender: str
    recipients: tuple[str, ...]
    headers: Headers
    binding: Binding
    tags: int
    """How many tag headers it has: all forged, or of an earlier pass."""
    tickets: int
    ticket_values: tuple[str, ...]
    claims: tuple[tuple[int, str], ...] = ()
    """Which Authentication-Results fields, counted from 1, claim to be ours, each with a digest of its value."""
    silent_recipients: tuple[str, ...] = ()
    """Those about whom no notice of failure is wanted (NOTIFY=NEVER, or SUCCESS alone; RFC 3461 section 4.1)."""
    requested_notices: frozenset[str] = frozenset()
    """About what the sender asked for notices, of any recipient: FAILURE, DELAY, SUCCESS."""
    sasl_username: str
    queue_id: str
    kind: MessageKind = ORDINARY
    body_start: bytes = b""
    """The first part of the body, where it may be a DSN."""
    dsn_fields: int = 0
    """How many fields it has of the name in which we tell our users about a DSN: all forged."""
    list_fields: int = 0
    """How many it has of the name in which the policy service tells that its client is on a list of backscatter."""
    spool: MessageSpool | None = None
    """The whole message, where somebody may need it."""
    has_only_outside_recipients: bool = False
    """Every recipient is certainly outside (`fast_path.is_certainly_outside`)."""
    has_a_sender_for_each: bool = False
    """Every recipient gets it from a sender of his own, which Postfix makes when it delivers (XVERP, VERP_README)."""

    @property
    def most_of_ours(self) -> int:
        """Return how many fields it has of that name of ours of which it has most."""
        return max(self.tags, self.tickets, self.dsn_fields, self.list_fields, len(self.claims))

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole message, as far as it was counted; 0 where it was not gathered."""
        return self.spool.size_bytes if self.spool else 0

    @property
    def message_id(self) -> str:
        """Return the Message-ID field, "" where there is none."""
        return unfolded(self.headers.first("Message-ID") or "")

    @property
    def subject(self) -> str:
        """Return the Subject field, fit to be shown; "" where there is none."""
        return printable(" ".join((self.headers.first("Subject") or "").split()), _MOST_SUBJECT_CHARACTERS)


@functools.lru_cache(maxsize=8)
def _wanted(spam_signs: tuple[str, ...]) -> frozenset[str]:
    """Return the names, in lower case, of the header fields that are kept."""
    of_scanners = (sign.partition(":")[0].strip() for sign in spam_signs)
    return frozenset(name.lower() for name in (*_READ_BY_RULES, *of_scanners))


class MessageCollector:
    """The message in progress: a new one at each MAIL FROM, so that nothing is left of the one before."""

    def __init__(
        self,
        envelope_sender: str,
        parameters: Iterable[str] = (),
        sasl_username: str = "",
        spam_signs: Iterable[str] = (),
        *,
        authserv_id: str | None = None,
        body_bytes_kept: int = BODY_BYTES_READ,
        spool: MessageSpool | None = None,
    ) -> None:
        self.envelope_sender = strip_brackets(envelope_sender)
        self.sasl_username = sasl_username
        self._has_a_sender_for_each = any(one.upper().partition("=")[0] == _VERP for one in parameters)
        self._wanted = _wanted(tuple(spam_signs))
        self._recipients: list[str] = []
        self._fields: list[tuple[str, str]] = []
        self._is_complete = True
        self._ours: Counter[str] = Counter()
        self._has_message_id = False
        self._ticket_values: list[str] = []
        self._authserv_id = authserv_id
        self._results = 0
        self._claims: list[tuple[int, str]] = []
        self._silent: list[str] = []
        self._binder = Binder()
        self._requested: set[str] = set()
        self._body_bytes_kept = body_bytes_kept
        self._body_start: bytearray | None = None
        self._header: tuple[Headers, Signs] | None = None
        self._spool = spool
        self._inside = 0

    @property
    def ticket_values(self) -> tuple[str, ...]:
        """The ticket headers so far, the first ones."""
        return tuple(self._ticket_values)

    @property
    def has_only_outside_recipients(self) -> bool:
        """Whether there are recipients, and all are certainly outside."""
        return bool(self._recipients) and not self._inside

    def gather(self, spool: MessageSpool) -> None:
        """Gather the whole message from here on: its header has not come yet."""
        self._spool = spool

    def add_recipient(self, address: str, parameters: Iterable[str] = (), *, is_outside: bool = False) -> None:
        """Take a recipient that Postfix has accepted, with its ESMTP parameters."""
        self._inside += not is_outside
        if len(self._recipients) >= _MOST_RECIPIENTS:
            return
        self._recipients.append(strip_brackets(address))
        notify = next((text[7:].upper() for text in parameters if text[:7].upper() == "NOTIFY="), "")
        if notify and "FAILURE" not in notify:
            self._silent.append(strip_brackets(address))
        self._requested |= _NOTICES & set(notify.split(","))

    def add_header(self, name: str, value: str) -> None:
        """Take a header field."""
        self._header = None
        self._binder.add_field(name, value)
        if self._spool:
            self._spool.add_header(name, value)
        lower = name.lower()
        if lower in _OURS:
            self._ours[lower] += 1
            if lower == ticket.HEADER.lower() and len(self._ticket_values) < _MOST_TICKETS:
                self._ticket_values.append(value[:_MOST_TICKET_CHARACTERS])
        elif lower == RESULTS_HEADER.lower():
            self._results += 1
            if self._authserv_id and self._claims_ours(value, self._authserv_id):
                self._claims.append((self._results, ticket.field_digest(value)))
        elif lower in self._wanted:
            is_first_message_id = lower == "message-id" and not self._has_message_id
            self._has_message_id = self._has_message_id or is_first_message_id
            # By its Message-ID a bounce of it is known again.
            if len(self._fields) < _MOST_FIELDS or is_first_message_id:
                self._fields.append((name, value[:_MOST_FIELD_CHARACTERS]))
            else:
                self._is_complete = False

    def _claims_ours(self, value: str, authserv_id: str) -> bool:
        if len(self._claims) >= _MOST_CLAIMS:
            return False
        # Nothing honest has so many fields: what is not looked at counts.
        return self._results > _MOST_RESULTS_FIELDS or claims(value, authserv_id)

    def end_header(self) -> None:
        """Take the end of the header: the body is kept where it may be a DSN."""
        self._header = self._read_header()
        if not self.envelope_sender or has_signs_of_dsn(self._header[1]):
            self._body_start = bytearray()

    @property
    def wants_body(self) -> bool:
        """Tell whether the body is kept."""
        return self._body_start is not None

    def _read_header(self) -> tuple[Headers, Signs]:
        headers = Headers.of(self._fields, is_complete=self._is_complete)
        return headers, Signs(headers)

    def add_body(self, chunk: bytes) -> bool:
        """Take a part of the body; tell whether more of it is wanted."""
        is_wanted = self._binder.add_body(chunk)
        if self._body_start is not None:
            self._body_start += chunk[: self._body_bytes_kept - len(self._body_start)]
            is_wanted = is_wanted or len(self._body_start) < self._body_bytes_kept
        if self._spool:
            self._spool.add_body(chunk)
            is_wanted = is_wanted or not self._spool.is_full
        return is_wanted

    def close(self) -> None:
        """Forget what lies in a file."""
        if self._spool:
            self._spool.close()

    def end(self, queue_id: str) -> CollectedMessage:
        """Return the whole message."""
        if self._spool:
            self._spool.end()
        headers, signs = self._header or self._read_header()
        body_start = bytes(self._body_start or b"")
        return CollectedMessage(
            envelope_sender=self.envelope_sender,
            recipients=tuple(self._recipients),
            headers=headers,
            binding=self._binder.binding(),
            tags=self._ours[TAG_HEADER.lower()],
            tickets=self._ours[ticket.HEADER.lower()],
            ticket_values=self.ticket_values,
            claims=tuple(self._claims),
            silent_recipients=tuple(self._silent),
            requested_notices=frozenset(self._requested),
            sasl_username=self.sasl_username,
            queue_id=queue_id,
            kind=kind_by(signs, body_start, has_null_sender=not self.envelope_sender),
            body_start=body_start,
            dsn_fields=self._ours[DSN_HEADER.lower()],
            list_fields=self._ours[LIST_HEADER.lower()],
            spool=self._spool,
            has_only_outside_recipients=self.has_only_outside_recipients,
            has_a_sender_for_each=self._has_a_sender_for_each,
        )
