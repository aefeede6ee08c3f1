"""Which outbound policy an account is under: the first one in order of priority whose scope names it."""

from __future__ import annotations

from deliverypools.core.accounts import Account
from deliverypools.core.addresses import is_same_or_subdomain
from deliverypools.core.facts import Ingress
from deliverypools.core.settings import DEFAULT_POLICY, OutboundPolicy, Settings


def policy_for(account: Account, settings: Settings) -> OutboundPolicy | None:
    """Return the outbound policy of an account; None for a trusted client that no policy names.

    The default policy is for SASL users, sendmail(1) users and forwarding mailboxes. Trusted clients (a web farm,
    Exchange behind us) are under a policy only where one names their accepted sender or their address.
    """
    for policy in settings.policies_by_priority:
        if policy.name != DEFAULT_POLICY and is_in_scope(policy, account, settings):
            return policy
    return None if account.ingress is Ingress.TRUSTED else settings.default_policy


def is_in_scope(policy: OutboundPolicy, account: Account, settings: Settings) -> bool:
    """Tell whether a policy names an account.

    Conditions of one kind are alternatives, of different kinds all of them must hold; one exception is enough. A policy
    with exceptions only is for everybody else, but for no trusted client. Domains include their subdomains.
    """
    if account.ingress is Ingress.TRUSTED and not (policy.senders or policy.domains or policy.groups):
        return False
    if (
        account.name in policy.except_senders
        or _is_below(account.domain, policy.except_domains)
        or _is_member(account.name, policy.except_groups, settings)
    ):
        return False
    return (
        (not policy.senders or account.name in policy.senders)
        and (not policy.domains or _is_below(account.domain, policy.domains))
        and (not policy.groups or _is_member(account.name, policy.groups, settings))
    )


def _is_below(domain: str, parents: tuple[str, ...]) -> bool:
    return any(is_same_or_subdomain(domain, parent) for parent in parents)


def _is_member(name: str, groups: tuple[str, ...], settings: Settings) -> bool:
    return any(name in settings.members_of(group) for group in groups)
