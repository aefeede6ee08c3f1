"""Sending limits: which ones hold for a message, what they look at, and which of them it exceeds.

All of it is pure: a store counts a `Tally` in one step and returns what the windows held before, `judge` compares.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from deliverypools.core.accounts import UNKNOWN_USER_ID, Account, is_internal
from deliverypools.core.facts import Answer, Finding, Ingress, printable
from deliverypools.core.outbound_policies import policy_for
from deliverypools.core.settings import Limits, OutboundPolicy, Settings
from deliverypools.core.tallies import DAY, HOUR, MINUTE, Entry, Tally, Used, Window

HIGH_RISK: Final = "high-risk"
RESTRICT: Final = "restrict"
RESTRICT_UNTIL_TOMORROW: Final = "restrict-until-tomorrow"
ALERT: Final = "alert"
RESTRICTING: Final = (RESTRICT, RESTRICT_UNTIL_TOMORROW)
_BY_WEIGHT: Final = (RESTRICT, RESTRICT_UNTIL_TOMORROW, HIGH_RISK, ALERT)

# Streams of an account (and of a tenant: EXTERNAL and SPAM).
EXTERNAL: Final = "external"
INTERNAL: Final = "internal"
MESSAGES: Final = "messages"
SPAM: Final = "spam"
REFUSED: Final = "refused"
FIRST_TIME_RECIPIENTS: Final = "first-time-recipients"
CLIENT_ADDRESSES: Final = "client-addresses"

BY_DOMAIN: Final = ("external_recipients_per_hour", "internal_recipients_per_hour")
"""Limits for which it matters whether a recipient is ours. (The tenant's restricts nobody.)"""
SPAM_CEILINGS: Final = ("verdicts_per_account_per_hour", "verdicts_per_tenant_per_hour")

SPANS: Final = {DAY: "24 hours", HOUR: "an hour", MINUTE: "a minute"}
"""The windows of limits, in words, by their seconds."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one message costs the account that answers for it."""

    account: Account
    internal: int
    """Recipients in accepted domains."""
    external: int

    @property
    def recipients(self) -> int:
        """Return the number of recipients."""
        return self.internal + self.external


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A number that a window may hold at most."""

    name: str
    """As in the settings: `recipients_per_day`."""
    what: str
    """What is counted, in the plural."""
    most: int
    cost: int
    """What this message adds."""
    window: Window | None
    """None: only the message itself counts."""
    action: str
    """What happens beyond: one of `outbound_policies.over_limit`."""
    policy: str = ""
    """Name of the outbound policy; "" for a service limit."""
    tenant: str = ""
    """The accepted domain whose accounts all share it; "" for an account's own."""
    of: Window | None = None
    """Where it is a share: `most` is a percentage of what this window holds."""
    minimum: int = 0
    """Where it is a share: fewer than so many never exceed it."""
    is_sign: bool = False
    """A sign of a compromised account, not a quantity that somebody was allotted."""


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A limit that a message exceeds."""

    limit: Limit
    used: int
    """What the window held before the message."""
    account: str

    @property
    def evidence(self) -> str:
        """Say who, how much and beyond which limit."""
        limit = self.limit
        if limit.of:
            return f"{printable(self.account)}: {self.used} {limit.what} in 24 hours, more than {limit.most} %"
        whose = f" of policy {printable(limit.policy)}" if limit.policy else ""
        if limit.window is None:
            return f"{printable(self.account)}: {limit.cost} {limit.what}, the limit{whose} is {limit.most}"
        more = f" and {limit.cost} more" if limit.cost else ""
        span = SPANS[limit.window.seconds]
        return f"{printable(self.account)}: {self.used} {limit.what} in {span}{more}, the limit{whose} is {limit.most}"


@dataclass(frozen=True, slots=True)
class Held:
    """A limit, and what its window held before the message."""

    limit: Limit
    used: int
    """0 where only the message itself counts."""
    whole: int = 0
    """What it is a share of, where it is one."""

    @property
    def is_exceeded(self) -> bool:
        """Tell whether the message is beyond it."""
        limit = self.limit
        if limit.of:
            return self.used >= limit.minimum and self.used * 100 > limit.most * self.whole
        return self.used + limit.cost > limit.most


def charge_for(account: Account, recipients: Iterable[str], settings: Settings) -> Charge:
    """Return what a message with these recipients costs: internal ones are in accepted domains."""
    counted = [is_internal(recipient, settings) for recipient in recipients]
    internal = sum(counted)
    return Charge(account, internal, len(counted) - internal)


def service_limits(ingress: Ingress, settings: Settings) -> Limits:
    """Return the service limits: trusted networks have their own, everybody else has those of `[limits]`."""
    return settings.limits.trusted if ingress is Ingress.TRUSTED else settings.limits


def limits_for(charge: Charge, settings: Settings) -> tuple[Limit, ...]:
    """Return the limits that hold for a message, in the order in which they are told.

    Restricting an account is for its limits per hour and day. What is sent in a burst, or in one message, or what all
    of a tenant sends together, leaves by high-risk and restricts nobody; nor does what strangers send to a mailbox that
    forwards it.
    """
    policy = policy_for(charge.account, settings)
    # A policy that only watches makes no service limit void.
    action = HIGH_RISK if policy is None or policy.over_limit == ALERT else action_of(policy, charge.account)
    service = service_limits(charge.account.ingress, settings)
    quantities = (*_of_policy(charge, policy), *_of_service(charge, service, action))
    return (
        *(limit for limit in quantities if limit.most and limit.cost),
        *_signs(charge.account, action, settings),
    )


def _of_policy(charge: Charge, policy: OutboundPolicy | None) -> Iterator[Limit]:
    """Yield the limits of an outbound policy."""
    if policy is None:
        return
    limit = functools.partial(Limit, action=action_of(policy, charge.account), policy=policy.name)
    yield limit(
        name="external_recipients_per_hour",
        what="external recipients",
        most=policy.external_recipients_per_hour,
        cost=charge.external,
        window=Window((stream(charge.account, EXTERNAL),), HOUR, DAY),
    )
    yield limit(
        name="internal_recipients_per_hour",
        what="internal recipients",
        most=policy.internal_recipients_per_hour,
        cost=charge.internal,
        window=Window((stream(charge.account, INTERNAL),), HOUR, DAY),
    )
    yield limit(
        name="recipients_per_day",
        what="recipients",
        most=policy.recipients_per_day,
        cost=charge.recipients,
        window=recipients_window(charge.account, DAY),
    )


def _of_service(charge: Charge, service: Limits, action: str) -> Iterator[Limit]:
    """Yield the service limits that are set; `action` is for the one per day."""
    account = charge.account
    limit = functools.partial(Limit, action=HIGH_RISK)
    if service.recipients_per_day:
        yield limit(
            name="recipients_per_day",
            what="recipients",
            most=service.recipients_per_day,
            cost=charge.recipients,
            window=recipients_window(account, DAY),
            action=action,
        )
    if service.messages_per_minute and account.ingress is not Ingress.OUTSIDE:
        # How fast a mailbox forwards is up to those who write to it.
        yield limit(
            name="messages_per_minute",
            what="messages",
            most=service.messages_per_minute,
            cost=1,
            window=Window((stream(account, MESSAGES),), MINUTE, MINUTE),
        )
    if service.recipients_per_message:
        yield limit(
            name="recipients_per_message",
            what="recipients in one message",
            most=service.recipients_per_message,
            cost=charge.recipients,
            window=None,
        )
    if service.external_recipients_per_tenant_per_day and account.tenant:
        yield limit(
            name="external_recipients_per_tenant_per_day",
            what=f"external recipients of {account.tenant}",
            most=service.external_recipients_per_tenant_per_day,
            cost=charge.external,
            window=Window((tenant_stream(account, EXTERNAL),), DAY, DAY),
            tenant=account.tenant,
        )


def _signs(account: Account, action: str, settings: Settings) -> Iterator[Limit]:
    """Yield the thresholds that are set: beyond one an account looks compromised. They look at what was before."""
    ceilings, suspicion = settings.spam.ceilings, settings.suspicion
    sign = functools.partial(Limit, cost=0, is_sign=True, action=action)
    if ceilings.verdicts_per_account_per_hour:
        yield sign(
            name="verdicts_per_account_per_hour",
            what="messages found to be spam",
            most=ceilings.verdicts_per_account_per_hour,
            window=Window((stream(account, SPAM),), HOUR, DAY),
        )
    if ceilings.verdicts_per_tenant_per_hour and account.tenant:
        yield sign(
            name="verdicts_per_tenant_per_hour",
            what=f"messages of {account.tenant} found to be spam",
            most=ceilings.verdicts_per_tenant_per_hour,
            window=Window((tenant_stream(account, SPAM),), HOUR, DAY),
            tenant=account.tenant,
            action=HIGH_RISK,
        )
    if suspicion.first_time_recipients_per_day:
        yield sign(
            name="first_time_recipients_per_day",
            what="first-time recipients",
            most=suspicion.first_time_recipients_per_day,
            window=Window((stream(account, FIRST_TIME_RECIPIENTS),), DAY, DAY),
        )
    if suspicion.client_addresses_per_hour and account.ingress is Ingress.SUBMISSION:
        yield sign(
            name="client_addresses_per_hour",
            what="client addresses",
            most=suspicion.client_addresses_per_hour,
            window=Window((stream(account, CLIENT_ADDRESSES),), HOUR, DAY),
        )
    if suspicion.refused_recipients_percent:
        yield sign(
            name="refused_recipients_percent",
            what="recipients refused",
            most=suspicion.refused_recipients_percent,
            window=Window((stream(account, REFUSED),), DAY, DAY),
            of=recipients_window(account, DAY),
            minimum=suspicion.refused_recipients_minimum,
        )


def action_of(policy: OutboundPolicy, account: Account) -> str:
    """Return what happens beyond a policy's limits.

    What strangers send to a forwarding mailbox restricts nobody; nor does what cannot be told apart by user: that would
    close sendmail(1) for all of the host.
    """
    if (account.ingress is Ingress.OUTSIDE or account.name == UNKNOWN_USER_ID) and policy.over_limit != ALERT:
        return HIGH_RISK
    return policy.over_limit


def stream(account: Account, name: str) -> str:
    """Return a stream of an account."""
    return f"{account.key}/{name}"


def tenant_stream(account: Account, name: str) -> str:
    """Return the stream of a tenant.

    What trusted clients write into their envelopes, and what strangers have forwarded, is counted apart here too.
    """
    kind = {Ingress.TRUSTED: "trusted-tenant", Ingress.OUTSIDE: "forwarded-tenant"}.get(account.ingress, "tenant")
    return f"{kind}:{account.tenant}/{name}"


def recipients_window(account: Account, seconds: int) -> Window:
    """Return the window of all recipients of an account."""
    return Window((stream(account, EXTERNAL), stream(account, INTERNAL)), seconds, DAY)


def tally_of(charge: Charge, limits: Sequence[Limit]) -> Tally:
    """Return what a message adds, and the windows of the limits, in their order.

    What no limit of today looks at is counted where it costs little, so that a limit set at noon knows the morning.
    """
    account = charge.account
    windows = tuple(window for limit in limits for window in (limit.window, limit.of) if window)
    watched = {name for window in windows for name in window.streams}
    entries = [
        Entry(stream(account, EXTERNAL), charge.external, DAY),
        Entry(stream(account, INTERNAL), charge.internal, DAY),
        *(
            Entry(name, amount, keep)
            for name, amount, keep in (
                (stream(account, MESSAGES), 1, MINUTE),
                (tenant_stream(account, EXTERNAL), charge.external, DAY),
            )
            if name in watched
        ),
    ]
    return Tally(tuple(entry for entry in entries if entry.amount), windows)


def held_by(limits: Sequence[Limit], used: Used) -> tuple[Held, ...]:
    """Return what each limit's window held; `used` is what the windows of `tally_of` held before the message."""
    held = iter(used)
    return tuple(
        Held(limit, next(held, 0) if limit.window else 0, next(held, 0) if limit.of else 0) for limit in limits
    )


def judge(limits: Sequence[Limit], used: Used, account: str) -> tuple[Exceeded, ...]:
    """Return the limits that a message exceeds; `used` is what the windows of `tally_of` held before it."""
    return tuple(Exceeded(one.limit, one.used, account) for one in held_by(limits, used) if one.is_exceeded)


def action_for(exceeded: Sequence[Exceeded]) -> str:
    """Return the gravest action among the limits exceeded, "" for none."""
    actions = {one.limit.action for one in exceeded}
    return next((action for action in _BY_WEIGHT if action in actions), "")


def over_limit(exceeded: Sequence[Exceeded]) -> Finding:
    """Return the answer that goes into the ticket: a limit that is only watched (`alert`) changes no pool."""
    reasons = [one.evidence for one in exceeded if one.limit.action != ALERT]
    return Finding(Answer.YES, "; ".join(reasons)) if reasons else Finding(Answer.NO)
