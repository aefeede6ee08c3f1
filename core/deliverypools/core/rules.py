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

from typing import Final

from deliverypools.core.accounts import account_of
from deliverypools.core.addresses import normalise_address
from deliverypools.core.decisions import (
    HIGH_RISK,
    NORMAL,
    UNDECIDED,
    Asked,
    Decision,
    Match,
    NotAsked,
    Rule,
    Unknown,
)
from deliverypools.core.facts import Answer, Ingress, MessageFacts, printable
from deliverypools.core.forwarding import forwarded, forwarding_refused
from deliverypools.core.named_senders import named_by
from deliverypools.core.outbound_policies import policy_for
from deliverypools.core.settings import Settings
from deliverypools.core.spam import malware, not_scanned_for_malware, spam, suspicious, unscanned

_CLOCK_SKEW_SECONDS: Final = 3600.0


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


def delivery_status_notification(facts: MessageFacts, _settings: Settings) -> Match | None:
    """Bounces share no address with anything they could hurt.

    Matches the null reverse-path (RFC 5321 section 4.5.5), also where a list of ours has given it a sender since; what
    reports a non-delivery, a delay or a delivery by its structure (RFC 3464, RFC 6533) or its text, whatever its
    sender; and everything that this Postfix's bounce(8) makes. Vacation replies and other mail with a null
    reverse-path that is no report go the same way; the reasons tell them apart.
    """
    reasons = []
    if facts.origin and facts.origin.ingress is Ingress.BOUNCE:
        reasons.append("made by this Postfix (bounce)")
    if facts.has_null_sender:
        reasons.append("null reverse-path")
    elif facts.origin and facts.origin.ingress is Ingress.OUTSIDE and not facts.origin.envelope_sender:
        # An alias with an owner gives it a sender.
        reasons.append("null reverse-path when it arrived")
    if facts.kind.is_dsn:
        reasons.append(f"{facts.kind.kind} ({facts.kind.evidence})")
    elif reasons:
        evidence = f" ({facts.kind.evidence})" if facts.kind.evidence else ""
        reasons.append(f"{facts.kind.kind}{evidence}, no delivery status")
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
    origin = facts.origin
    pin = settings.pins_by_sender.first(
        sender=normalise_address(origin.envelope_sender),
        sasl_username=origin.account if origin.ingress is Ingress.SUBMISSION else None,
        client_address=origin.client_address,
    )
    named = named_by(pin, origin) if pin else ""
    return Match(pin.pool, (f"pinned {named}",)) if pin and named else None


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


def default(facts: MessageFacts, _settings: Settings) -> Match:
    """Mail of our own users and mailing lists that gave no cause for anything else."""
    if facts.mailing_list and facts.origin and facts.origin.ingress is Ingress.OUTSIDE:
        return Match(NORMAL, (f"sent on by the mailing list {printable(facts.mailing_list)}", "no other rule matched"))
    return Match(NORMAL, ("no other rule matched",))


RULES: Final[tuple[Rule, ...]] = (
    forwarding_refused,  # it must not leave, by no pool
    malware,  # no pool is for it, and for some of us high-risk is not enough
    restricted_sender,  # whatever else it sends
    delivery_status_notification,  # all NDRs, whatever else they are
    sender_domain_without_mx_or_a,  # whatever its spam or limit verdict
    not_scanned_for_malware,
    pinned,  # the operator's word beats what scanners and counters say
    spam,
    unscanned,
    over_limit,
    forwarded,
    suspicious,  # only what would leave by normal
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
    asked: list[Asked] = []
    for rule in RULES:
        outcome = rule(facts, settings)
        asked.append(_asked(rule, outcome))
        if isinstance(outcome, Unknown):
            unknown.append(outcome)
        elif isinstance(outcome, NotAsked):
            not_asked.append(rule_name(rule))
        elif isinstance(outcome, Match):
            # What is held does not leave, whatever else may turn out.
            if outcome.hold or all(pool == outcome.pool for missing in unknown for pool in missing.pools):
                return Decision(
                    outcome.pool,
                    rule_name(rule),
                    outcome.reasons,
                    tuple(not_asked),
                    hold=outcome.hold,
                    refusal=outcome.refusal,
                    asked=tuple(asked),
                )
            break
    reasons = tuple(dict.fromkeys(missing.reason for missing in unknown))
    return Decision(None, UNDECIDED, reasons, tuple(not_asked), asked=tuple(asked))


_NO: Final = {rule: Asked(rule_name(rule), "no") for rule in RULES}


def _asked(rule: Rule, outcome: Match | Unknown | NotAsked | None) -> Asked:
    match outcome:
        case None:
            return _NO.get(rule) or Asked(rule_name(rule), "no")
        case Match(reasons=reasons):
            return Asked(rule_name(rule), "match", reasons)
        case Unknown(reason=reason):
            return Asked(rule_name(rule), "unknown", (reason,))
        case NotAsked():
            return Asked(rule_name(rule), "not_asked")


def after_waiting(decision: Decision, waited_seconds: float | None, settings: Settings) -> Decision:
    """Return the decision of a message that has waited that long to be decided.

    Undecided mail waits in the queue up to `milter.undecided_after`, then leaves by high-risk: never by normal, and
    never kept until Postfix gives up. None means that nothing tells how long it has waited: then it does not wait.
    """
    if decision.pool is not None:
        return decision
    if waited_seconds is None:
        why = "nothing tells how long it has waited"
    elif waited_seconds < -_CLOCK_SKEW_SECONDS:
        why = "the clock went back: it waited no one knows how long"
    elif waited_seconds < settings.milter.undecided_after:
        return decision
    else:
        why = f"waited {waited_seconds / 3600:.1f} h"
    return Decision(HIGH_RISK, UNDECIDED, (*decision.reasons, why), asked=decision.asked)
