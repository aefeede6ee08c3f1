"""What kind of message this is, as far as bounces are concerned: by its header and the first part of its body.

Everybody can write "Undelivered Mail" and forwards bounces that he got. So a message is a DSN where

* it is a multipart/report of a delivery status (RFC 3464, RFC 6533), as a whole and not in an attachment, or
* X-Failed-Recipients says so, or
* a mail system wrote it, by From or the null reverse-path, and its text begins as a notice of some mail server does.

The words are in `texts`, what the header alone tells in `signs`.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

from deliverypools.core.dsn.other_forms import known_failure
from deliverypools.core.dsn.parts import STATUS_TYPES, Part, text_of
from deliverypools.core.dsn.signs import (
    FIELDS,
    Author,
    Signs,
    automatic_evidence,
    challenge_evidence,
    list_evidence,
    report_evidence,
    report_type,
)
from deliverypools.core.dsn.texts import (
    AUTOMATIC_REPLIES,
    CHALLENGES,
    DELAYS,
    FAILURE_WORDS,
    FAILURES,
    NOTICES_TO_POSTMASTER,
    SUBJECTS,
    SUCCESSES,
    form_of,
    is_whole_subject,
    opening_of,
)
from deliverypools.core.facts import printable
from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import ORDINARY, Kind, MessageKind

BODY_BYTES_READ: Final = 64 * 1024
"""So much of a candidate's body is looked at."""
KIND_FIELDS: Final = FIELDS
"""Header fields that are looked at: whoever gathers a message keeps these."""

_FEEDBACK_TYPES: Final = frozenset({"message/feedback-report"})
_DSN_REPORTS: Final = frozenset({"delivery-status", "global-delivery-status"})
_OTHER_REPORTS: Final = {
    "disposition-notification": Kind.DISPOSITION,
    "global-disposition-notification": Kind.DISPOSITION,
    "feedback-report": Kind.COMPLAINT,
    "tlsrpt": Kind.TLS_REPORT,
}
_ACTION = re.compile(rb"(?mi)^Action[ \t]*:[ \t]*([a-z]{1,20})")
_STATUS_CLASS = re.compile(rb"(?mi)^Status[ \t]*:[ \t]*([245])\.[0-9]{1,3}\.[0-9]{1,3}")
_AUTHENTICATION_FAILURE = re.compile(rb"(?mi)^Feedback-Type[ \t]*:[ \t]*auth-failure")
# One recipient that was not reached for good decides about the whole. OpenSMTPD writes "error".
_ACTIONS: Final = (
    ({b"failed", b"failure", b"fail", b"error"}, Kind.NON_DELIVERY),
    ({b"delayed"}, Kind.DELAY),
    ({b"delivered", b"relayed", b"expanded"}, Kind.DELIVERY),
)
_CLASSES: Final = ((b"5", Kind.NON_DELIVERY), (b"4", Kind.DELAY), (b"2", Kind.DELIVERY))


def is_candidate(headers: Headers, *, has_null_sender: bool) -> bool:
    """Tell whether the body of a message is worth reading: nothing else can be a DSN. Cheap, for every message."""
    return has_null_sender or has_signs_of_dsn(Signs(headers))


def has_signs_of_dsn(signs: Signs) -> bool:
    """Tell whether the header of a message that has a sender is one that a DSN may have."""
    if signs.author is not Author.PERSON or signs.has("X-Failed-Recipients") or signs.is_auto_replied:
        return True
    content_type = signs.get("Content-Type")
    return "report" in content_type.lower() and report_type(content_type) is not None


def kind_of(headers: Headers, body_start: bytes, *, has_null_sender: bool) -> MessageKind:
    """Return what kind of message this is. Never raises, whatever the message.

    `body_start` is the first part of the body (`BODY_BYTES_READ` at most are read), b"" for what is no candidate.
    """
    return kind_by(Signs(headers), body_start, has_null_sender=has_null_sender)


def kind_by(signs: Signs, body_start: bytes, *, has_null_sender: bool) -> MessageKind:
    """Return the same as `kind_of`, of a message whose header was read before."""
    if not has_null_sender and not has_signs_of_dsn(signs):
        body_start = b""
    whole = signs.whole(body_start[:BODY_BYTES_READ])
    message = _Message(signs, whole, has_null_sender=has_null_sender, has_body=bool(body_start))
    for look in _LOOKS:
        if found := look(message):
            kind, evidence = found
            return MessageKind(kind, printable(evidence))
    return ORDINARY


class _Message:
    """A message that is looked at; its text is decoded once, if anything asks for it."""

    def __init__(self, signs: Signs, whole: Part, *, has_null_sender: bool, has_body: bool) -> None:
        self.signs = signs
        self.whole = whole
        self.has_null_sender = has_null_sender
        self.author = signs.author
        self.has_body = has_body

    @cached_property
    def text(self) -> str:
        return text_of(self.whole) if self.has_body else ""

    @cached_property
    def opening(self) -> str:
        return opening_of(self.text)

    @property
    def is_of_a_list(self) -> bool:
        """Tell whether it is list traffic, whatever its text: no list sends with a null reverse-path."""
        return not self.has_null_sender and self.signs.is_from_list

    @property
    def is_of_a_mail_system(self) -> bool:
        """Tell whether only a mail system can have written it."""
        return self.author is Author.SYSTEM or (self.has_null_sender and self.author is Author.POSTMASTER)

    @property
    def is_certain_notice(self) -> bool:
        """Tell whether words that ask to confirm are none of its own: it repeats what some server said."""
        return self.has_null_sender and self.author is Author.SYSTEM


_Found = tuple[Kind, str] | None


def _other_report(message: _Message) -> _Found:
    """A multipart/report of something else."""
    named = report_type(message.signs.get("Content-Type"))
    kind = _OTHER_REPORTS.get(named or "")
    if kind is Kind.COMPLAINT and _AUTHENTICATION_FAILURE.search(_part_of(message.whole, _FEEDBACK_TYPES)):
        return Kind.DMARC_REPORT, "multipart/report, Feedback-Type: auth-failure"
    return (kind, f"multipart/report of type {named}") if kind else None


def _delivery_status(message: _Message) -> _Found:
    """A multipart/report of a delivery status, or its parts in what a mail system wrote."""
    report = None if message.is_of_a_list else _report_in(message)
    if report is None:
        return None
    if not message.is_certain_notice and CHALLENGES.search(message.opening):
        return Kind.CHALLENGE, "multipart/report that asks to confirm"
    # Where the part is missing, some write its lines into the text.
    status = _part_of(report, STATUS_TYPES) or message.text.encode("utf-8", "replace")
    actions = {action.lower() for action in _ACTION.findall(status)}
    for names, kind in _ACTIONS:
        if told := names & actions:
            return kind, f"multipart/report, Action: {min(told).decode('ascii')}"
    classes = set(_STATUS_CLASS.findall(status))
    for number, kind in _CLASSES:
        if number in classes:
            return kind, f"multipart/report, Status: {number.decode('ascii')}"
    form = form_of(message.opening, _FORMS)
    return form.kind if form else Kind.NON_DELIVERY, "multipart/report of a delivery status"


def _report_in(message: _Message) -> Part | None:
    whole = message.whole
    named = report_type(whole.content_type)
    if named in _DSN_REPORTS:
        return whole
    if (named == "" or message.is_of_a_mail_system) and _part_of(whole, STATUS_TYPES):
        return whole
    if message.has_null_sender or message.author is not Author.PERSON:
        # Wrapped once more by a gateway. Who forwards by hand has a text of his own before it.
        first = next(iter(whole.parts), None)
        if first and report_type(first.content_type) in _DSN_REPORTS:
            return first
    return None


def _part_of(whole: Part, media_types: frozenset[str]) -> bytes:
    """Return the content of the first part of these types, b"" where there is none."""
    return next((part.content for part in whole.parts if part.media_type in media_types), b"")


def _report_by_header(message: _Message) -> _Found:
    return report_evidence(message.signs)


def _challenge(message: _Message) -> _Found:
    if evidence := challenge_evidence(message.signs):
        return Kind.CHALLENGE, evidence
    if not message.is_certain_notice and CHALLENGES.search(message.opening):
        return Kind.CHALLENGE, "text asks to confirm"
    return None


def _automatic_reply(message: _Message) -> _Found:
    evidence = automatic_evidence(message.signs)
    return (Kind.AUTOMATIC_REPLY, evidence) if evidence else None


def _failed_recipients(message: _Message) -> _Found:
    """Exim's header field, which Gmail and others write too."""
    if message.is_of_a_list or not message.signs.has("X-Failed-Recipients"):
        return None
    form = form_of(message.opening, _FORMS)
    return form.kind if form else Kind.NON_DELIVERY, "X-Failed-Recipients"


def _notice(message: _Message) -> _Found:
    """A notice in words: of a mail system, or of what may be one if it begins as such notices do."""
    signs = message.signs
    if message.is_of_a_list or NOTICES_TO_POSTMASTER.match(signs.subject):
        return None
    is_certain = message.is_of_a_mail_system
    may_be = message.has_null_sender or (message.author is Author.POSTMASTER and not signs.is_reply_or_forward)
    if not is_certain and not may_be:
        return None
    subject = form_of(signs.subject, SUBJECTS, is_at_once=True) if is_certain or message.has_null_sender else None
    # Mail systems report other things too, and people write as postmaster@: vague words of theirs are not enough.
    is_sure = message.has_null_sender or subject is not None or is_whole_subject(signs.subject)
    if form := form_of(message.opening, _FORMS if is_sure else _CLEAR, is_at_once=not is_certain):
        return form.kind, f"text of {form.name}"
    if is_certain and (form := form_of(message.opening, _FORMS, is_at_once=True)):
        return form.kind, f"text of {form.name}"
    if subject:
        return subject.kind, "subject of a notice, with a null reverse-path or from a mail system"
    return _known_elsewhere(message) if is_certain else None


def _known_elsewhere(message: _Message) -> _Found:
    if not FAILURE_WORDS.search(message.opening):
        return None
    is_multipart = message.whole.media_type.startswith("multipart/")
    fields = message.signs
    known = known_failure(fields.get("From"), fields.get("X-Mailer"), message.text, is_multipart=is_multipart)
    return (known[0], f"text names {known[1]} (flufl.bounce)") if known else None


def _list_mail(message: _Message) -> _Found:
    evidence = list_evidence(message.signs)
    return (Kind.LIST_MAIL, evidence) if evidence else None


def _reply_without_sender(message: _Message) -> _Found:
    """What a person's address wrote with a null reverse-path, and is no notice (RFC 3834 section 3.3)."""
    signs = message.signs
    if not message.has_null_sender or message.author is not Author.PERSON:
        return None
    for name in ("Auto-Submitted", "In-Reply-To", "Precedence"):
        if signs.get(name).strip().lower() not in ("", "no"):
            return Kind.AUTOMATIC_REPLY, f"null reverse-path, {name}"
    if AUTOMATIC_REPLIES.search(message.opening):
        return Kind.AUTOMATIC_REPLY, "null reverse-path, text of an automatic reply"
    return None


_FORMS: Final = (*DELAYS, *SUCCESSES, *FAILURES)
_CLEAR: Final = tuple(form for form in _FORMS if not form.is_vague)
_LOOKS: Final = (
    _other_report,
    _delivery_status,  # whatever its subject says
    _report_by_header,
    _challenge,
    _automatic_reply,  # before the words: replies quote what they answer
    _failed_recipients,
    _notice,
    _list_mail,
    _reply_without_sender,
)
"""The first that finds something says what it is."""
