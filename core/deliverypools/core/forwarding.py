"""The rules about forwarded mail: what must not leave, what leaves by which pool, and with whose name.

As in `rules`, where they have their places: pure, total functions of the facts and the settings.
"""

from __future__ import annotations

from deliverypools.core.account_names import account_name
from deliverypools.core.accounts import account_of
from deliverypools.core.addresses import domain_of, is_plain
from deliverypools.core.decisions import HIGH_RISK, RELAY, Match, Refusal, Unknown
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin, printable
from deliverypools.core.outbound_policies import policy_for
from deliverypools.core.settings import Settings


def forwarding_refused(facts: MessageFacts, settings: Settings) -> Match | None:
    """Forwarded mail that must not leave: the mailbox may not forward by itself, or the sender is not authenticated.

    The first is `automatic_forwarding` of the mailbox's outbound policy. It is about `~/.forward`, aliases(5) and
    sieve, not about virtual aliases, which are the administrator's own word, nor about mailing lists. The sender gets
    a non-delivery notice if known to be legitimate, else postmaster does. The second is `unauthenticated_forward` with
    the value `reject`, and about all mail from outside that was examined; the mailbox that forwards gets the notice,
    postmaster where that cannot be told or would go to many. Bounces, notices of this Postfix, and copies for an
    archive (always_bcc) are not refused: nobody would be told.
    """
    origin = facts.origin
    is_bounce = facts.has_null_sender or (origin is not None and origin.ingress is Ingress.BOUNCE)
    if origin is None or is_bounce or facts.archive_copies:
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
