"""What a message costs its account, carried out: counted, told, and the account restricted where its policy says so."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deliverypools.adapters.enforcement import enforce
from deliverypools.adapters.state import Reservation, StateUnavailable
from deliverypools.core import limits
from deliverypools.core.account_names import account_name
from deliverypools.core.accounts import Account, account_of, client_network
from deliverypools.core.facts import Answer, Finding, Ingress, Origin, printable
from deliverypools.core.limits import (
    Charge,
    Exceeded,
    Held,
    Limit,
    held_by,
    judge,
    limits_for,
    over_limit,
    stream,
    tally_of,
    tenant_stream,
)
from deliverypools.core.restrictions import Restriction, duration_of
from deliverypools.core.tallies import DAY, HOUR, Entry, Tally, Used
from deliverypools.milter.services import Services

_KNOWN_RECIPIENT_SECONDS = 30.0 * DAY
_MOST_RECIPIENTS_REMEMBERED = 1000
"""Of one message. A message to more of them is a sign by itself."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counted:
    """What counting a message came to."""

    over_limit: Finding
    restriction: Restriction | None = None
    """The account may not send any more, because of this message."""
    held: tuple[Held, ...] = ()
    """The limits that were looked at, and what their windows held before."""


def account_behind(origin: Origin, services: Services) -> Account | None:
    """Return the responsible account of a message; None where nobody is charged."""
    return account_of(origin.ingress, origin.account, origin.envelope_sender, services.settings)


def count_at_acceptance(charge: Charge, queue_id: str, services: Services) -> Counted:
    """Count a message that is accepted now, in the place of what the policy service reserved.

    A message that gets its account restricted is refused, and so not counted. Where the answer is UNKNOWN it was not
    counted either, and what may be reserved for it is to be given back before it is: `count_once`.
    """
    found = limits_for(charge, services.settings)
    restricts = any(limit.action in limits.RESTRICTING for limit in found)
    # What is committed cannot be given back, so there it is judged before, and only then.
    counted = reserve(charge, queue_id, services) if restricts else None
    if counted and counted.restriction:
        give_back(queue_id, services)
        return counted
    if counted and counted.over_limit.answer is Answer.UNKNOWN:
        return counted
    try:
        used = services.state.commit(queue_id, tally_of(charge, found))
    except StateUnavailable as error:
        return _not_counted(queue_id, error)
    return counted or _judged(charge, found, used, queue_id, services)


def reserve(charge: Charge, queue_id: str, services: Services) -> Counted:
    """Count a message until it is committed or cancelled, or take over what the policy service has reserved for it."""
    found = limits_for(charge, services.settings)
    try:
        (used,) = services.state.reserve([Reservation(queue_id, None, tally_of(charge, found))])
    except StateUnavailable as error:
        return _not_counted(queue_id, error)
    return _judged(charge, found, used, queue_id, services)


def commit(charge: Charge, queue_id: str, services: Services) -> None:
    """Make the reservation of a message final.

    Raises:
        StateUnavailable: it stands, and will lapse.
    """
    services.state.commit(queue_id, tally_of(charge, limits_for(charge, services.settings)))


def give_back(queue_id: str, services: Services) -> None:
    """Give back what the policy service reserved for a message that is refused, or that another milter has refused."""
    try:
        services.state.cancel(queue_id)
    except StateUnavailable as error:
        _logger.error("%s: its reservation lapses by itself: %s", printable(queue_id), error)


def count_once(charge: Charge, name: str, queue_id: str, services: Services, *, reserved_under: str = "") -> Counted:
    """Count a message that was not counted when it was accepted, once for all its passes (`name`).

    What the policy service has reserved for it (`reserved_under`, a queue id) may still stand, and is given back first.
    That does nothing to what was committed; another message that has got the queue id since is counted by its commit.
    """
    found = limits_for(charge, services.settings)
    try:
        if reserved_under:
            services.state.cancel(reserved_under)
        used = services.state.count_once(name, tally_of(charge, found))
    except StateUnavailable as error:
        return _not_counted(queue_id, error)
    return _judged(charge, found, used, queue_id, services)


def _judged(charge: Charge, found: Sequence[Limit], used: Used, queue_id: str, services: Services) -> Counted:
    exceeded = judge(found, used, charge.account.name)
    held = held_by(found, used)
    if not exceeded:
        return Counted(Finding(Answer.NO), held=held)
    try:
        restriction = _enforced(exceeded, charge.account, services)
    except StateUnavailable as error:
        # It is over its limit all the same; the next message makes up for the rest.
        _logger.error("%s: over limit, but nobody was told: %s", printable(queue_id), error)
        restriction = None
    return Counted(over_limit(exceeded), restriction, held)


def _enforced(exceeded: Sequence[Exceeded], account: Account, services: Services) -> Restriction | None:
    return enforce(
        exceeded,
        account,
        settings=services.settings,
        state=services.state,
        now=services.clock(),
    )


def _not_counted(queue_id: str, error: StateUnavailable) -> Counted:
    _logger.error("%s: not counted: %s", printable(queue_id), error)
    return Counted(Finding(Answer.UNKNOWN, "the state could not be written when it was to be counted"))


def restriction_on(account: Account | None, services: Services) -> Restriction | None:
    """Return the restriction that closes an account's way of sending.

    Raises:
        StateUnavailable: it cannot be told.
    """
    return services.state.restrictions_on([account])[0] if account else None


def restriction_on_sender(envelope_sender: str, services: Services) -> Restriction | None:
    """Return the restriction of the account that sendmail(1) mail names as its sender, whoever called sendmail(1).

    Raises:
        StateUnavailable: it cannot be told.
    """
    name = account_name(envelope_sender)
    if not name:
        return None
    found = services.state.restrictions_on([Account(Ingress.SUBMISSION, name), Account(Ingress.LOCAL, name)])
    return found[0] or found[1]


def restricted(accounts: Sequence[Account], queue_id: str, services: Services) -> Finding:
    """Tell whether one of these accounts may not send now, with the reason."""
    try:
        found = services.state.restrictions_on(accounts) if accounts else []
    except StateUnavailable as error:
        _logger.error("%s: %s", printable(queue_id), error)
        return Finding(Answer.UNKNOWN, "the state could not be read")
    return finding_about(next((one for one in found if one), None))


def finding_about(restriction: Restriction | None) -> Finding:
    """Tell whether an account may not send, with the reason, by what was found of it."""
    if restriction is None:
        return Finding(Answer.NO)
    evidence = f"{printable(restriction.account)} is restricted {duration_of(restriction)}: {restriction.reason}"
    return Finding(Answer.YES, evidence)


def note_signs(account: Account, recipients: Iterable[str], client_address: str, services: Services) -> None:
    """Count what may be signs of a compromised account, where a threshold looks at them: the next message shows it.

    Raises:
        StateUnavailable: some of it was not counted.
    """
    suspicion = services.settings.suspicion
    entries = []
    if suspicion.first_time_recipients_per_day:
        known = {account_name(recipient) for recipient in recipients}
        name = f"recipients/{account.key}"
        members = sorted(known)[:_MOST_RECIPIENTS_REMEMBERED]
        new = services.state.see(name, members, _KNOWN_RECIPIENT_SECONDS, renew=True)
        new += len(known) - len(members)
        entries.append(Entry(stream(account, limits.FIRST_TIME_RECIPIENTS), new, DAY))
    if suspicion.client_addresses_per_hour and account.ingress is Ingress.SUBMISSION:
        # Not renewed: each address counts once an hour, so the last hour holds each one once.
        new = services.state.see(f"clients/{account.key}", [client_network(client_address)], HOUR, renew=False)
        entries.append(Entry(stream(account, limits.CLIENT_ADDRESSES), new, DAY))
    if entries := [entry for entry in entries if entry.amount]:
        services.state.count(Tally(tuple(entries)))


def note_spam(account: Account, name: str, services: Services) -> None:
    """Count a spam verdict about an account's message, once for all its passes (`name`).

    Raises:
        StateUnavailable: it was not counted.
    """
    ceilings = services.settings.spam.ceilings
    if not (ceilings.verdicts_per_account_per_hour or ceilings.verdicts_per_tenant_per_hour):
        return
    signs = limits_for(Charge(account, 0, 0), services.settings)
    # The verdict itself may be the one too many.
    found = tuple(replace(limit, cost=1) for limit in signs if limit.name in limits.SPAM_CEILINGS)
    entries = [Entry(stream(account, limits.SPAM), 1, DAY)]
    if account.tenant:
        entries.append(Entry(tenant_stream(account, limits.SPAM), 1, DAY))
    windows = tuple(limit.window for limit in found if limit.window)
    used = services.state.count_once(f"spam/{name}", Tally(tuple(entries), windows))
    if exceeded := judge(found, used, account.name):
        _enforced(exceeded, account, services)


def note_refused(host: str, queue_id: str, refused: int, name: str, services: Services) -> None:
    """Count recipients that were refused, by a notice of this Postfix about the queue file `queue_id`.

    Raises:
        StateUnavailable: they were not counted.
    """
    if not services.settings.suspicion.refused_recipients_percent:
        return
    record = services.state.record_of(host, queue_id)
    if record is None or not record.account or record.ingress == Ingress.OUTSIDE:
        return
    account = account_of(Ingress(record.ingress), record.account, record.envelope_sender, services.settings)
    if account:
        entry = Entry(stream(account, limits.REFUSED), min(refused, record.recipients), DAY)
        services.state.count_once(f"refused/{name}", Tally((entry,)))
