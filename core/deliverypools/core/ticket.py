"""The ticket: what the first pass knows and the egress pass needs, bound to one message.

Here is its content and what it is bound to; sealing (authenticated encryption) is `deliverypools.adapters.seal`.
Copies of a ticket lie in local mailboxes, so it must be worthless on any other message: it holds digests of From,
Date and Message-ID, of Subject, and of the first part of the body.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deliverypools.core.addresses import normalise_address
from deliverypools.core.facts import Answer, Finding, Ingress, Origin

HEADER: Final = "X-Delivery-Pool-Ticket"

BOUND_FIELDS: Final = ("From", "Date", "Message-ID")
"""With these and Subject a ticket is bound; REINJECT listeners ask for these alone, filters rewrite the rest."""

BODY_BYTES: Final = 64 * 1024
"""So much of the body is bound, white space left out: transports fold lines and add line ends."""

_VERSION: Final = 1
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_DIGEST_BYTES: Final = 12
_RECIPIENT_DIGEST_BYTES: Final = 6
_MOST_RECIPIENT_DIGESTS: Final = 2000
_USES_PER_RECIPIENT: Final = 1000
_FOLD_AT: Final = 44
"""With the field's name below 72: in a notice that returns the header as quoted-printable (RFC 2045 section 6.7),
no line is broken, and each is known by its beginning."""
_CONTINUED: Final = ".dp."
"""Begins each further line of a ticket header: pool transports then know it where it stands in a body, as returned
by an NDR (postfix-examples, strip_body). A token has no dot."""


class TicketError(ValueError):
    """A ticket is not what it should be; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Digests of the message that a ticket belongs to."""

    fields: str
    subject: str
    body: str

    def difference(self, other: Binding, *, after_filter: bool = False) -> str:
        """Say in which part two messages differ, or return ""; after a content filter only the fields count."""
        if self.fields != other.fields:
            return "/".join(BOUND_FIELDS)
        if after_filter:
            return ""
        if self.subject != other.subject:
            return "Subject"
        return "body" if self.body != other.body else ""


class BodyDigest:
    """A digest of the first part of a body, fed chunk by chunk, blind to white space."""

    def __init__(self) -> None:
        self._hash = _new_hash()
        self._missing = BODY_BYTES

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        if self._missing:
            solid = chunk.translate(None, b" \t\r\n")[: self._missing]
            self._hash.update(solid)
            self._missing -= len(solid)

    @property
    def is_full(self) -> bool:
        """Tell whether more chunks would change nothing."""
        return not self._missing

    def hexdigest(self) -> str:
        """Return the digest of what was fed."""
        return self._hash.hexdigest()


class Binder:
    """Makes the binding of a message from its parts as they come; keeps digests only, however long a field is."""

    def __init__(self) -> None:
        self._fields = {name.lower(): _new_hash() for name in (*BOUND_FIELDS, "Subject")}
        self._body = BodyDigest()

    def add_field(self, name: str, value: str) -> None:
        """Take a header field. White space does not count: transports fold and refold."""
        if (digest := self._fields.get(name.lower())) is not None:
            digest.update("".join(value.split()).encode(errors="surrogateescape") + b"\n")

    def add_body(self, chunk: bytes) -> bool:
        """Take the next part of the body; tell whether more of it is wanted."""
        self._body.feed(chunk)
        return not self._body.is_full

    def binding(self) -> Binding:
        """Return the binding of what was added."""
        fields = _new_hash()
        for name in BOUND_FIELDS:
            fields.update(self._fields[name.lower()].digest())
        return Binding(fields.hexdigest(), self._fields["subject"].hexdigest(), self._body.hexdigest())


def _new_hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What is carried from pass to pass."""

    ticket_id: str
    """Random; the same for the whole life of a message."""
    made_at: float | None
    """Seconds since the epoch at which it was accepted, or sent on: waiting counts from here. None: not known."""
    first_made_at: float | None = None
    """When it was accepted, where it was sent on since: its age counts from here."""
    first_queue_id: str
    resent_queue_id: str = ""
    """The queue file by which sendmail(1) sent it on; "" where it was not."""
    origin: Origin | None
    """None for a message that came to the egress pass without a valid ticket."""
    origin_problem: str = ""
    binding: Binding
    recipient_count: int
    internal_count: int = 0
    """How many of the recipients are in accepted domains."""
    recipient_digests: frozenset[str] = frozenset()
    only_recipient: str = ""
    """The one recipient of ours that a message was accepted for; "" where there were others."""
    results_digest: str = ""
    """Of the Authentication-Results field that we wrote; "" where there is none."""
    asks_for_silence: bool = False
    """Whether the sender wanted no notice about some recipient (NOTIFY=NEVER, RFC 3461 section 4.1)."""
    requested_notices: frozenset[str] = frozenset()
    """About what the sender asked for notices: FAILURE, DELAY, SUCCESS (NOTIFY); empty where he asked for nothing."""
    is_of_changed_mail: bool = False
    """Whether the message was changed when it was sent on, so that it may be anything: no mailbox answers for it."""
    pool: str = ""
    """The decision of the last egress pass, "" before the first."""
    rule: str = ""

    @property
    def accepted_at(self) -> float | None:
        """When the message was accepted first; None: not known."""
        return self.made_at if self.first_made_at is None else self.first_made_at

    def accepted_recipient(self, address: str) -> bool:
        """Tell whether the message was accepted for this recipient."""
        return recipient_digest(self.ticket_id, address) in self.recipient_digests

    @property
    def most_uses(self) -> int:
        """How many queue files may carry this ticket to the egress pass: aliases to many ~/.forward make many."""
        return _USES_PER_RECIPIENT * max(1, self.recipient_count)

    def to_json(self) -> bytes:
        """Return the content as compact JSON, to be sealed."""
        origin = self.origin
        content: dict[str, object] = {
            "v": _VERSION,
            "id": self.ticket_id,
            "t": None if self.made_at is None else round(self.made_at),
            "f": None if self.first_made_at is None else round(self.first_made_at),
            "q": self.first_queue_id,
            "s": self.resent_queue_id,
            "b": [self.binding.fields, self.binding.subject, self.binding.body],
            "n": self.recipient_count,
            "m": self.internal_count,
            "u": self.only_recipient,
            "r": sorted(self.recipient_digests),
            "a": self.results_digest,
            "z": self.asks_for_silence,
            "y": sorted(self.requested_notices),
            "k": self.is_of_changed_mail,
            "d": [self.pool, self.rule],
        }
        if origin is None:
            content["p"] = self.origin_problem
        else:
            content["o"] = {
                "i": origin.ingress.value,
                "a": origin.account,
                "s": origin.envelope_sender,
                "c": origin.client_address,
                "l": [origin.over_limit.answer.value, origin.over_limit.evidence],
                "x": origin.spam,
                "v": origin.spam_when_it_left,
                "h": origin.helo_name,
                "n": origin.client_name,
                "e": [origin.authenticated.answer.value, origin.authenticated.evidence, origin.authentication_results],
                "w": [origin.envelope_authenticated.answer.value, origin.envelope_authenticated.evidence],
                "g": origin.is_envelope_backed,
            }
        return _ENCODER.encode(content).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Ticket:
        """Read what `to_json` wrote.

        Raises:
            TicketError: the content is of another version, or not a ticket's.
        """
        try:
            values: Mapping[str, Any] = json.loads(content)
            if values["v"] != _VERSION:
                raise TicketError(f"of another version ({values['v']})")
            pool, rule = values["d"]
            return cls(
                ticket_id=str(values["id"]),
                made_at=None if values["t"] is None else float(values["t"]),
                first_made_at=None if values.get("f") is None else float(values["f"]),
                first_queue_id=str(values["q"]),
                resent_queue_id=str(values.get("s", "")),
                origin=_origin(values["o"]) if "o" in values else None,
                origin_problem=str(values.get("p", "")),
                binding=Binding(*map(str, values["b"])),
                recipient_count=int(values["n"]),
                internal_count=int(values.get("m", 0)),
                only_recipient=str(values.get("u", "")),
                recipient_digests=frozenset(map(str, values["r"])),
                results_digest=str(values.get("a", "")),
                is_of_changed_mail=bool(values.get("k", False)),
                # An earlier version did not ask: he may have asked for that.
                requested_notices=frozenset(map(str, values.get("y", ("FAILURE",)))),
                # An earlier version did not ask: it may have wanted that.
                asks_for_silence=bool(values.get("z", True)),
                pool=str(pool),
                rule=str(rule),
            )
        except TicketError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise TicketError("content cannot be read") from error


def _origin(values: Mapping[str, Any]) -> Origin:
    answer, evidence = values["l"]
    # An earlier version did not ask for it.
    authenticated, why, results = values.get("e", (Answer.NOT_ASKED, "", ""))
    envelope, why_envelope = values.get("w", (Answer.NOT_ASKED, ""))
    return Origin(
        ingress=Ingress(values["i"]),
        account=str(values["a"]),
        envelope_sender=str(values["s"]),
        client_address=str(values["c"]),
        over_limit=Finding(Answer(answer), str(evidence)),
        spam=str(values["x"]),
        spam_when_it_left=str(values.get("v", "")),
        helo_name=str(values.get("h", "")),
        client_name=str(values.get("n", "")),
        authenticated=Finding(Answer(authenticated), str(why)),
        envelope_authenticated=Finding(Answer(envelope), str(why_envelope)),
        is_envelope_backed=bool(values.get("g", False)),
        authentication_results=str(results),
    )


def field_digest(value: str) -> str:
    """Return a digest of a header field's value; white space does not count, as transports fold and refold."""
    digest = _new_hash()
    digest.update("".join(value.split()).encode(errors="surrogateescape"))
    return digest.hexdigest()


def recipient_digest(ticket_id: str, address: str) -> str:
    """Return the digest under which a ticket remembers a recipient: meaningless outside this ticket."""
    text = f"{ticket_id}\0{normalise_address(address)}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=_RECIPIENT_DIGEST_BYTES).hexdigest()


def recipient_digests(ticket_id: str, recipients: Iterable[str]) -> frozenset[str]:
    """Return the digests of the recipients, of the first 2,000 where there are more: a header has its limits."""
    digests = (recipient_digest(ticket_id, address) for address in recipients)
    return frozenset(digest for _, digest in zip(range(_MOST_RECIPIENT_DIGESTS), digests, strict=False))


def fold(token: str) -> str:
    """Return a header value in short lines: Postfix breaks lines beyond 988 characters by itself (RFC 5322 2.2.3)."""
    return f"\n\t{_CONTINUED}".join(token[start : start + _FOLD_AT] for start in range(0, len(token), _FOLD_AT))


def unfold(value: str) -> str:
    """Return the token in a header value, whatever white space transport has put into it."""
    return "".join(value.split()).replace(_CONTINUED, "")
