"""The decision: ordered rules, the first that matches wins, and each says why.

A rule is a pure, total function of the facts and the settings. Its name is its identity, in the log
and in docs/rules.md (made from these docstrings). It answers with

* `Match`: this message belongs into that pool, for these reasons;
* `None`: nothing to say;
* `Unknown`: cannot be told now (a DNS time-out, a store that is down, no valid ticket), with the pools it might
  have chosen. Later rules are still asked: if they lead to the same pool, the message is decided all the same;
* `NotAsked`: the evidence was not looked for, on request (`classify --dns off`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from deliverypools.core.account_names import account_name
from deliverypools.core.accounts import account_of
from deliverypools.core.addresses import domain_of, is_plain, is_same_or_subdomain, normalise_address
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin, printable
from deliverypools.core.outbound_policies import policy_for
from deliverypools.core.reports import is_automatic_reply, is_delivery_status_report, spam_evidence
from deliverypools.core.settings import Pin, Settings
from deliverypools.core.settings.values import NO_POOL_NAME

NORMAL: Final = "normal"
HIGH_RISK: Final = "high-risk"
RELAY: Final = "relay"

SPAM: Final = "spam"
RESTRICTED_SENDER: Final = "restricted_sender"
OVER_LIMIT: Final = "over_limit"
"""Rules that make a message suspicious, by name."""

FORWARDED: Final = "forwarded"
FORWARDING_REFUSED: Final = "forwarding_refused"
"""Rules about forwarded mail, by name."""

REFUSED_TAG: Final = NO_POOL_NAME
"""Stands in the place of a pool's name where a message does not leave."""

UNDECIDED: Final = "undecided"
"""The rule's name of a message that could not be decided."""

_CLOCK_SKEW_SECONDS: Final = 3600.0


class Refusal(Enum):
    """The message does not leave, and somebody is told."""

    TO_SENDER = "sender"
    """Postfix returns it to the sender, who is known to be legitimate."""
    TO_FORWARDER = "forwarder"
    """Postfix returns it to the mailbox of ours that forwards it: the sender may be forged."""
    TO_POSTMASTER = "postmaster"
    """Postfix returns it to postmaster: the sender may be forged, and so it is of no use to tell the mailbox."""


@dataclass(frozen=True, slots=True)
class Match:
    """The message belongs into `pool`; `reasons` are the evidence."""

    pool: str
    reasons: tuple[str, ...]
    hold: bool = False
    """It waits in Postfix's hold queue until an administrator releases it."""
    refusal: Refusal | None = None
    """It does not leave at all."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Cannot be told now. `pools` are those that the rule may turn out to choose."""

    pools: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The evidence was not looked for."""


Rule = Callable[[MessageFacts, Settings], Match | Unknown | NotAsked | None]


@dataclass(frozen=True, slots=True)
class Decision:
    """The pool of a message, the rule that chose it and its reasons. `pool` is None while it is undecided."""

    pool: str | None
    rule: str
    reasons: tuple[str, ...]
    not_asked: tuple[str, ...] = ()
    """Names of the rules before this one whose evidence was not looked for."""
    hold: bool = False
    """It waits in Postfix's hold queue; if it is let go by hand, it leaves by `pool`."""
    refusal: Refusal | None = None
    """It does not leave at all; who is told."""


def restricted_sender(facts: MessageFacts, settings: Settings) -> Match | Unknown | None:
    """The responsible account may not send; this mail of it had been accepted before, or came by sendmail(1).

    It leaves by high-risk, or is put on hold, as `restricted_mail` of the account's outbound policy says. A requeued
    message comes by here again: that is how queued mail is demoted, and how it leaves by its own pool after a release.
    """
    if facts.origin is None:
        return Unknown((HIGH_RISK,), facts.origin_problem)
    finding = facts.account_restricted
    if finding.answer is Answer.UNKNOWN:
        return Unknown((HIGH_RISK,), finding.evidence)
    if finding.answer is not Answer.YES:
        return None
    origin = facts.origin
    account = account_of(origin.ingress, origin.account, origin.envelope_sender, settings)
    policy = policy_for(account, settings) if account else None
    return Match(HIGH_RISK, (finding.evidence,), hold=policy is not None and policy.restricted_mail == "hold")


def forwarding_refused(facts: MessageFacts, settings: Settings) -> Match | None:
    """Forwarded mail that must not leave: the mailbox may not forward by itself, or the sender is not authenticated.

    The first is `automatic_forwarding` of the mailbox's outbound policy. It is about `~/.forward`, aliases(5) and
    sieve, not about virtual aliases, which are the administrator's own word, nor about mailing lists. The sender gets
    a non-delivery notice if known to be legitimate, else postmaster does. The second is `unauthenticated_forward` with
    the value `reject`, and about all mail from outside that was examined; the mailbox that forwards gets the notice,
    postmaster where that cannot be told or would go to many. Mail with a null sender, and copies for an archive
    (always_bcc), are not refused: nobody would be told.
    """
    origin = facts.origin
    if origin is None or facts.has_null_sender or facts.archive_copies:
        return None
    if reason := _forbids_forwarding(facts, settings):
        is_legitimate = origin.ingress is not Ingress.OUTSIDE or origin.authenticated.answer is Answer.YES
        refusal = Refusal.TO_SENDER if is_legitimate else Refusal.TO_POSTMASTER
        return Match(HIGH_RISK, (reason,), refusal=refusal)
    if settings.forwarding.unauthenticated_forward != "reject" or _is_list_mail(facts, settings):
        return None
    if origin.ingress is not Ingress.OUTSIDE or origin.authenticated.answer is not Answer.NO:
        return None
    is_one_mailbox = facts.forwarded_by and len(facts.recipients) == 1
    refusal = Refusal.TO_FORWARDER if is_one_mailbox else Refusal.TO_POSTMASTER
    return Match(HIGH_RISK, (*_arrival(facts, origin), _why_not_authenticated(origin.authenticated)), refusal=refusal)


def _forbids_forwarding(facts: MessageFacts, settings: Settings) -> str:
    """Return why the mailbox may not forward the message by itself, "" where it may, or does not."""
    if not facts.is_forwarded_automatically or facts.mailing_list:
        return ""
    name = account_name(facts.forwarded_by)
    account = account_of(Ingress.OUTSIDE, name, facts.envelope_sender, settings)
    policy = policy_for(account, settings) if account else None
    if policy is None or policy.automatic_forwarding == "on":
        return ""
    return f'{printable(name)} may not forward automatically (outbound policy "{policy.name}")'


def delivery_status_notification(facts: MessageFacts, _settings: Settings) -> Match | None:
    """Bounces share no address with anything they could hurt.

    Matches the null reverse-path (RFC 5321 section 4.5.5), also where a list of ours has given it a sender since; a
    multipart/report of a delivery status whatever its sender (RFC 3464), and everything that this Postfix's bounce(8)
    makes. Vacation replies and other mail with a null reverse-path that is no report go the same way; the reasons tell
    them apart.
    """
    reasons = []
    if facts.origin and facts.origin.ingress is Ingress.BOUNCE:
        reasons.append("made by this Postfix (bounce)")
    if facts.has_null_sender:
        reasons.append("null reverse-path")
    elif facts.origin and facts.origin.ingress is Ingress.OUTSIDE and not facts.origin.envelope_sender:
        # An alias with an owner gives it a sender.
        reasons.append("null reverse-path when it arrived")
    if is_delivery_status_report(facts.headers):
        reasons.append("multipart/report of a delivery status")
    elif reasons and is_automatic_reply(facts.headers):
        reasons.append("an automatic reply, no delivery status")
    return Match(HIGH_RISK, tuple(reasons)) if reasons else None


def sender_domain_without_mx_or_a(facts: MessageFacts, _settings: Settings) -> Match | Unknown | NotAsked | None:
    """Nobody could answer or bounce to such a sender, so nobody vouches for it.

    Matches an envelope sender whose domain has neither MX nor A nor AAAA; a null MX (RFC 7505) counts as none.
    NXDOMAIN and NODATA count as none; SERVFAIL and time-outs are unknown, never "none".
    """
    finding = facts.sender_domain_has_mx_or_address
    match finding.answer:
        case Answer.NO:
            return Match(HIGH_RISK, (finding.evidence,))
        case Answer.UNKNOWN:
            return Unknown((HIGH_RISK,), finding.evidence)
        case Answer.NOT_ASKED:
            return NotAsked()
        case Answer.YES:
            return None


def pinned(facts: MessageFacts, settings: Settings) -> Match | Unknown | None:
    """The operator's own word: a sender, domain, SASL user or client network leaves by the pool that `[[pins]]` names.

    Matches submitted and trusted mail only, by what the ticket says: what anybody can write into a message from
    outside, or with sendmail(1), cannot choose a pool.
    """
    if not settings.pins:
        return None
    if facts.origin is None:
        return Unknown(tuple(pin.pool for pin in settings.pins), facts.origin_problem)
    if facts.origin.ingress not in (Ingress.SUBMISSION, Ingress.TRUSTED):
        return None
    for pin in settings.pins:
        if reason := _pin_evidence(pin, facts.origin):
            return Match(pin.pool, (reason,))
    return None


def _pin_evidence(pin: Pin, origin: Origin) -> str:
    sender = normalise_address(origin.envelope_sender)
    if pin.sender is not None and sender == pin.sender:
        return f"pinned sender {printable(sender)}"
    if pin.domain is not None and is_same_or_subdomain(domain_of(sender), pin.domain):
        return f"pinned domain {pin.domain}"
    if pin.sasl_username is not None and origin.ingress is Ingress.SUBMISSION and origin.account == pin.sasl_username:
        return f"pinned SASL user {printable(origin.account)}"
    if pin.client is not None and pin.contains(origin.client_address):
        return f"pinned client network {pin.client}"
    return ""


def spam(facts: MessageFacts, settings: Settings) -> Match | None:
    """A scanner said so, in a header that the settings name (`spam.headers`), on arrival or since.

    Matches too what has so many header fields that a scanner's word could hide behind them.
    """
    if facts.origin and facts.origin.spam:
        return Match(HIGH_RISK, (facts.origin.spam,))
    if evidence := spam_evidence(facts.headers, settings.spam.headers):
        return Match(HIGH_RISK, (evidence,))
    if not facts.headers.is_complete:
        # Nothing to wait for: it will have as many at the next try.
        return Match(HIGH_RISK, ("more header fields than are read",))
    return None


def over_limit(facts: MessageFacts, _settings: Settings) -> Match | Unknown | None:
    """The responsible account had exceeded a sending limit when this message was accepted."""
    if facts.origin is None:
        return Unknown((HIGH_RISK,), facts.origin_problem)
    finding = facts.origin.over_limit
    if finding.answer is Answer.YES:
        return Match(HIGH_RISK, (finding.evidence,))
    if finding.answer is Answer.UNKNOWN:
        return Unknown((HIGH_RISK,), finding.evidence)
    return None


def forwarded(facts: MessageFacts, settings: Settings) -> Match | Unknown | None:
    """Its real sender is somebody else, and the destination must not take us for the sender.

    Matches what arrived from outside and leaves again (alias, ~/.forward, sieve redirect), whatever sender it
    claims, and what one of our clients sends with a sender that is in no accepted domain. Mail from outside whose
    sender was authenticated on arrival leaves with a rewritten sender (SRS) by `authenticated_forward_pool`; other mail
    from outside as it is, as `unauthenticated_forward` says. What a mailing list of ours sends on with a sender of its
    own is not forwarded.
    """
    if facts.origin is None:
        return Unknown(_pools_of_forwards(settings), facts.origin_problem)
    if facts.origin.ingress is Ingress.OUTSIDE:
        if _is_list_mail(facts, settings):
            return None
        return _forwarded_from_outside(facts, facts.origin, settings)
    domain = domain_of(facts.envelope_sender)
    if settings.is_accepted_domain(domain):
        return None
    return Match(RELAY, (f"sender domain {printable(domain) or '(none)'} is not an accepted domain",))


def _is_list_mail(facts: MessageFacts, settings: Settings) -> bool:
    """Tell whether a list of ours sends on what a stranger posted.

    A sender that claimed to be ours may be forged, and one that is no plain address may claim so to Postfix.
    """
    before = facts.origin.envelope_sender if facts.origin else ""
    domain = domain_of(before)
    is_ours = settings.is_accepted_domain(domain) or domain == settings.forwarding.srs_domain
    return bool(facts.mailing_list) and is_plain(before) and not is_ours


def _pools_of_forwards(settings: Settings) -> tuple[str, ...]:
    """Return the pools by which a message from outside may leave, before it is known whether it is authenticated."""
    unauthenticated = RELAY if settings.forwarding.unauthenticated_forward == "relay" else HIGH_RISK
    return tuple(dict.fromkeys((RELAY, settings.forwarding.authenticated_forward_pool, unauthenticated)))


def _arrival(facts: MessageFacts, origin: Origin) -> tuple[str, ...]:
    reasons = [f"arrived from outside ({origin.client_address or 'unknown client'})"]
    if facts.forwarded_by:
        reasons.append(f"forwarded by {printable(facts.forwarded_by)}")
    return tuple(reasons)


def _forwarded_from_outside(facts: MessageFacts, origin: Origin, settings: Settings) -> Match | Unknown:
    reasons = _arrival(facts, origin)
    authenticated = origin.authenticated
    if authenticated.answer is Answer.YES:
        return _authenticated_forward(facts, origin, (*reasons, f"authenticated: {authenticated.evidence}"), settings)
    why = _why_not_authenticated(authenticated)
    if authenticated.answer is Answer.UNKNOWN and _is_authentication_decisive(facts, settings):
        return Unknown(_pools_of_forwards(settings), why)
    if facts.archive_copies:
        # With others it cannot be told apart, and an archive should take it all.
        only_copies = facts.archive_copies == len(facts.recipients)
        return Match(RELAY if only_copies else _unauthenticated_pool(authenticated, settings), (*reasons, why))
    return Match(_unauthenticated_pool(authenticated, settings), (*reasons, why))


def _unauthenticated_pool(authenticated: Finding, settings: Settings) -> str:
    """Return the pool of forwarded mail that is not authenticated; what was to be refused got past that rule."""
    asked = settings.forwarding.unauthenticated_forward
    if asked == "reject" and authenticated.answer is Answer.NOT_ASKED:
        return RELAY
    return RELAY if asked == "relay" else HIGH_RISK


def _why_not_authenticated(finding: Finding) -> str:
    match finding.answer:
        case Answer.NOT_ASKED:
            return "authentication not examined"
        case Answer.UNKNOWN:
            return f"not known whether authenticated: {finding.evidence}"
        case _:
            return f"not authenticated: {finding.evidence}"


def _authenticated_forward(
    facts: MessageFacts, origin: Origin, reasons: tuple[str, ...], settings: Settings
) -> Match | Unknown:
    envelope = origin.envelope_authenticated
    if envelope.answer is Answer.UNKNOWN and _is_authentication_decisive(facts, settings):
        return Unknown(_pools_of_forwards(settings), f"not known whether its sender is: {envelope.evidence}")
    if envelope.answer is not Answer.YES:
        # It would leave, or bounces to it would, in the name of somebody who has not sent it.
        return Match(RELAY, (*reasons, f"but not its envelope sender: {envelope.evidence or 'no domain'}"))
    rewritten = facts.rewritten_sender
    if rewritten is None:
        return Match(settings.forwarding.authenticated_forward_pool, reasons)
    if rewritten.problem:
        return Match(RELAY, (*reasons, f"sender not rewritten: {rewritten.problem}"))
    return Match(settings.forwarding.authenticated_forward_pool, (*reasons, "sender rewritten (SRS)"))


def leaving_sender(facts: MessageFacts, settings: Settings) -> str:
    """Return the envelope sender with which a message leaves: rewritten (SRS) where it is an authenticated forward."""
    origin, rewritten = facts.origin, facts.rewritten_sender
    if origin is None or origin.ingress is not Ingress.OUTSIDE or _is_list_mail(facts, settings):
        return facts.envelope_sender
    is_proved = origin.authenticated.answer is Answer.YES and origin.envelope_authenticated.answer is Answer.YES
    if rewritten is None or rewritten.problem or not is_proved:
        return facts.envelope_sender
    return rewritten.address


def authentication_chooses_pool(settings: Settings) -> bool:
    """Tell whether it depends on authentication by which pool forwarded mail leaves."""
    return len(_pools_of_forwards(settings)) > 1


def _is_authentication_decisive(facts: MessageFacts, settings: Settings) -> bool:
    is_rewritable = facts.rewritten_sender is not None and not facts.rewritten_sender.problem
    return is_rewritable or authentication_chooses_pool(settings)


def default(facts: MessageFacts, _settings: Settings) -> Match:
    """Mail of our own users and mailing lists that gave no cause for anything else."""
    if facts.mailing_list and facts.origin and facts.origin.ingress is Ingress.OUTSIDE:
        return Match(NORMAL, (f"sent on by the mailing list {printable(facts.mailing_list)}", "no other rule matched"))
    return Match(NORMAL, ("no other rule matched",))


RULES: Final[tuple[Rule, ...]] = (
    forwarding_refused,  # it must not leave, by no pool
    restricted_sender,  # whatever it sends, and the only rule that may hold mail
    delivery_status_notification,  # all NDRs, whatever else they are
    sender_domain_without_mx_or_a,  # whatever its spam or limit verdict
    pinned,  # the operator's word beats what scanners and counters say
    spam,
    over_limit,
    forwarded,
    default,
)


def rule_name(rule: Rule) -> str:
    """Return the name by which a rule is known in log and docs."""
    return str(getattr(rule, "__name__", rule))


def classify(facts: MessageFacts, settings: Settings) -> Decision:
    """Ask the rules in order and return the decision.

    A rule that cannot tell leaves the message undecided (`pool` None), unless every outcome leads to the same pool.
    """
    unknown: list[Unknown] = []
    not_asked: list[str] = []
    for rule in RULES:
        outcome = rule(facts, settings)
        if isinstance(outcome, Unknown):
            unknown.append(outcome)
        elif isinstance(outcome, NotAsked):
            not_asked.append(rule_name(rule))
        elif isinstance(outcome, Match):
            if all(pool == outcome.pool for missing in unknown for pool in missing.pools):
                return Decision(
                    outcome.pool,
                    rule_name(rule),
                    outcome.reasons,
                    tuple(not_asked),
                    hold=outcome.hold,
                    refusal=outcome.refusal,
                )
            break
    reasons = tuple(dict.fromkeys(missing.reason for missing in unknown))
    return Decision(None, UNDECIDED, reasons, tuple(not_asked))


def after_waiting(decision: Decision, waited_seconds: float | None, settings: Settings) -> Decision:
    """Return the decision of a message that has waited that long to be decided.

    Undecided mail waits in the queue up to `milter.undecided_after`, then leaves by high-risk: never by normal, and
    never kept until Postfix gives up. None means that nothing tells how long it has waited: then it does not wait.
    """
    if decision.pool is not None:
        return decision
    if waited_seconds is None:
        return Decision(HIGH_RISK, UNDECIDED, (*decision.reasons, "nothing tells how long it has waited"))
    if waited_seconds < -_CLOCK_SKEW_SECONDS:
        return Decision(
            HIGH_RISK, UNDECIDED, (*decision.reasons, "the clock went back: it waited no one knows how long")
        )
    if waited_seconds < settings.milter.undecided_after:
        return decision
    return Decision(HIGH_RISK, UNDECIDED, (*decision.reasons, f"waited {waited_seconds / 3600:.1f} h"))
