"""Sites with sending limits, accounts, and what a message of theirs exceeds."""

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import Charge, judge, limits_for, tally_of
from deliverypools.core.settings import Settings

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
NO_LIMITS = {"recipients_per_day": 0, "messages_per_minute": 0, "recipients_per_message": 0}
ALICE = Account(Ingress.SUBMISSION, "alice@example.org", "example.org", "example.org")
WEB_FARM = Account(Ingress.TRUSTED, "198.51.100.1")
FORWARDER = Account(Ingress.OUTSIDE, "alice@example.org", "example.org", "example.org")
WEB_SERVER = Account(Ingress.LOCAL, "uid:33", "example.org", "example.org")


def site(*policies, limits=None, **tables):
    return Settings.model_validate(
        {
            "accepted_domains": ["example.org"],
            "pools": POOLS,
            "limits": NO_LIMITS | (limits or {}),
            "outbound_policies": policies,
            **tables,
        }
    )


def default_policy(**limits):
    return {"name": "default", **limits}


def exceeded(settings, *, used=0, internal=0, external=1, account=ALICE):
    """Return what a message exceeds; `used` is what every window held before, or what the one of each limit held."""
    charge = Charge(account, internal, external)
    limits = limits_for(charge, settings)
    windows = tally_of(charge, limits).windows
    by_name = used if isinstance(used, dict) else {}
    held = [
        by_name.get(limit.name if window is limit.window else "of", used if isinstance(used, int) else 0)
        for limit in limits
        for window in (limit.window, limit.of)
        if window
    ]
    assert len(held) == len(windows)
    return judge(limits, tuple(held), account.name)


def names(found):
    return [one.limit.name for one in found]
