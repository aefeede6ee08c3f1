"""What follows when an account is over a limit: it is told once, and restricted where its policy says so.

The one place for that: the policy service, and each pass of the milter, come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deliverypools.adapters.metrics.definitions import OVER_LIMIT
from deliverypools.adapters.metrics.measure import add
from deliverypools.adapters.state import State
from deliverypools.adapters.telling import tell
from deliverypools.core.accounts import Account
from deliverypools.core.alerts import Alert, Event
from deliverypools.core.limits import HIGH_RISK, RESTRICT_UNTIL_TOMORROW, RESTRICTING, Exceeded, Limit, judge
from deliverypools.core.outbound_policies import policy_for
from deliverypools.core.restrictions import Restriction, following_day, utc_text
from deliverypools.core.settings import Settings
from deliverypools.core.told import LimitAlert


def enforce(
    exceeded: Sequence[Exceeded],
    account: Account,
    *,
    settings: Settings,
    state: State,
    now: float,
) -> Restriction | None:
    """Tell the administrators about limits that were exceeded; return the restriction that follows, if one does.

    The message is counted already. None where the limits ask for no restriction, where an administrator has released
    the account today, or where the account has not exceeded the limit again since its last restriction ended.

    Raises:
        StateUnavailable: some of it may not have been done; the next message over the limit does it.
    """
    effect: Restriction | None = None
    for one in exceeded:
        add(OVER_LIMIT, one.limit.name)
        alert = _alert(one, account, settings, now)
        if one.limit.action in RESTRICTING and not settings.shadow:
            restriction, why_not = restrict_beyond(one, account, state, now)
            if restriction is None:
                alert = replace(alert, action=HIGH_RISK, note=why_not)
            else:
                effect = restriction
                alert = replace(alert, event=Event.ACCOUNT_RESTRICTED, until=restriction.until)
        tell(LimitAlert(alert), settings, state)
    return effect


def _alert(one: Exceeded, account: Account, settings: Settings, now: float) -> Alert:
    policy = policy_for(account, settings)
    notify = policy.notify if policy else ()
    if one.limit.tenant and settings.alerts.mail_to:
        # The tenant's mail is not the business of those who look after one of its policies.
        notify = ()
    return Alert(
        event=Event.SUSPICIOUS if one.limit.is_sign else Event.LIMIT_EXCEEDED,
        account=account.name,
        tenant=one.limit.tenant,
        ingress=account.ingress,
        limit=one.limit.name,
        most=one.limit.most,
        used=one.used,
        cost=one.limit.cost,
        policy=one.limit.policy,
        action=one.limit.action,
        evidence=one.evidence,
        at=now,
        note="shadow mode: told, not done" if settings.shadow else "",
        notify=notify,
    )


def restrict_beyond(one: Exceeded, account: Account, state: State, now: float) -> tuple[Restriction | None, str]:
    """Restrict an account that is beyond a limit; return what is in effect then, else None and why not.

    Raises:
        StateUnavailable: it may not be restricted.
    """
    ended = _atoned_since(one.limit, account, state, now)
    if ended is not None:
        return None, f"it may send again since {utc_text(ended)}, and has not sent so much since"
    until = following_day(now) if one.limit.action == RESTRICT_UNTIL_TOMORROW else None
    # The account's name stands before it in every text.
    reason = one.evidence.removeprefix(f"{account.name}: ")
    restriction = state.restrict(
        Restriction(account=account.name, ingress=account.ingress, since=now, until=until, reason=reason)
    )
    return restriction, "" if restriction else "an administrator has released the account today"


def _atoned_since(limit: Limit, account: Account, state: State, now: float) -> float | None:
    """Return when the last restriction of an account ended, if the account has not exceeded the limit since then alone.

    The window may still be full of what the account was restricted for.
    """
    ended = state.last_ending(account)
    windows = [window for window in (limit.window, limit.of) if window]
    if ended is None or any(now - ended >= window.seconds for window in windows):
        return None
    if state.restrictions_on([account])[0]:
        return None
    # Rounded up: a bucket that begins with the ending belongs to what came since.
    seconds = int(max(0.0, now - ended)) + 1
    since = state.used([replace(window, seconds=seconds) for window in windows])
    return None if judge([replace(limit, cost=0)], since, account.name) else ended
