"""What is known about one message when it is decided. Nothing here is asked for or looked up: it is handed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import ORDINARY, MessageKind
from deliverypools.core.scanning.answers import Scan


class Ingress(StrEnum):
    """How a message entered this Postfix."""

    SUBMISSION = "submission"
    """Over SMTP, authenticated with SASL."""
    TRUSTED = "trusted"
    """Over SMTP, from a client in `trusted_networks`."""
    OUTSIDE = "outside"
    """Over SMTP, from anybody else."""
    LOCAL = "local"
    """By sendmail(1) and pickup(8)."""
    BOUNCE = "bounce"
    """Made by this Postfix: bounce(8), notices to the postmaster."""


class Answer(StrEnum):
    """An answer to a question of fact that may have none yet."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """Could not be told now, may be told later: never to be taken for NO."""
    NOT_ASKED = "not_asked"
    """Nobody asked: `classify --dns off`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer with the evidence for it."""

    answer: Answer
    evidence: str = ""


NOT_ASKED = Finding(Answer.NOT_ASKED)


@dataclass(frozen=True, slots=True)
class RewrittenSender:
    """An envelope sender rewritten by SRS, or why it cannot be."""

    address: str = ""
    problem: str = ""
    """Why not; "" where `address` is good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the first pass learned about a message, and the ticket carries to the egress pass."""

    ingress: Ingress
    account: str = ""
    """The responsible account: SASL user, sender or address of a trusted client, `uid:N`, forwarder; "" if none."""
    envelope_sender: str = ""
    """The reverse-path as submitted; "" when null."""
    client_address: str = ""
    helo_name: str = ""
    """What a client said in HELO or EHLO: SPF may be asked again, and scanners are told."""
    client_name: str = ""
    """Its name in DNS, verified by Postfix; "" where it has none."""
    over_limit: Finding = Finding(Answer.NO)
    """Whether the account was over a sending limit when this message was accepted."""
    spam: str = ""
    """Evidence of a spam verdict that was there on arrival; "" where there was none."""
    spam_when_it_left: str = ""
    """The same of scanners that the egress pass asked. It decides nothing: they are asked again."""
    authenticated: Finding = NOT_ASKED
    """Whether the sender of mail from outside was shown to be legitimate (SPF, DKIM, DMARC)."""
    envelope_authenticated: Finding = NOT_ASKED
    """Whether its envelope sender was: From may be authenticated, and the envelope sender somebody else."""
    is_envelope_backed: bool = False
    """Whether on arrival something spoke for the envelope sender, or DNS could not tell: it was authenticated, or a
    DKIM signature passed that its domain, or one above it, has made. It stays so where the message is changed later."""
    authentication_results: str = ""
    """The single results, as in "spf=pass dkim=none dmarc=none"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """One message as it is about to leave."""

    envelope_sender: str
    """RFC 5321 reverse-path without angle brackets; "" is the null reverse-path."""
    recipients: tuple[str, ...] = ()
    headers: Headers = field(default_factory=Headers)
    kind: MessageKind = ORDINARY
    size_bytes: int = 0
    """As scanners would get it."""
    scan: Scan | None = None
    """What scanners say; None where none was asked."""
    origin: Origin | None = None
    """None where it is unknown: `origin_problem` says why."""
    origin_problem: str = ""
    is_sent_on: bool = False
    """Whether sendmail(1) or a client of ours has sent it on since, so that its origin tells little of its content."""
    sender_domain_has_mx_or_address: Finding = NOT_ASKED
    account_restricted: Finding = Finding(Answer.NO)
    """Whether the responsible account may not send now; the evidence says why and until when."""
    forwarded_by: str = ""
    """The mailbox of ours that forwarded the message, where that can be told."""
    is_forwarded_automatically: bool = False
    """Whether that mailbox did so by itself (~/.forward, aliases(5), sieve); a virtual alias does not."""
    mailing_list: str = ""
    """The list of ours that the message was posted to, and that sends it on with a sender of its own."""
    archive_copies: int = 0
    """How many of the recipients Postfix has added (always_bcc and the like): nobody is notified about those."""
    rewritten_sender: RewrittenSender | None = None
    """The envelope sender as SRS would write it; None where it is not rewritten: no SRS, a null sender."""

    @property
    def has_null_sender(self) -> bool:
        """Tell whether the reverse-path is null (RFC 5321 section 4.5.5)."""
        return not self.envelope_sender


def printable(text: str, most: int = 200) -> str:
    """Return message text fit for a log line or a reason: one line, printable, bounded, never a surrogate."""
    clean = text[: most + 1]
    if not clean.isprintable():
        clean = "".join(c if c.isprintable() else "?" for c in clean)
    return clean if len(clean) <= most else clean[: most - 3] + "..."


def fit_for_reply(text: str) -> str:
    """Return text as the reply of a milter may have it: plain ASCII without angle brackets, and `%`, which formats."""
    return "".join(c if c.isascii() and c not in "%<>" else "?" for c in text)
