"""What an administrator may do about a surge, for each cause: short, and with commands where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from deliverypools.core.alert_text import shell_word
from deliverypools.core.surges.causes import Cause
from deliverypools.core.surges.flows import Flow
from deliverypools.core.surges.groups import Subject

WHAT_IT_IS: Final[Mapping[Cause, str]] = {
    Cause.SPAM_ATTACK: "Mail of this sender is refused as spam at many places: its password is known to others, or its"
    " website sends for them.",
    Cause.DIRECTORY_HARVEST: "Somebody tries which addresses exist here.",
    Cause.SPOOFING_CAMPAIGN: "Somebody else sends as this domain, and other servers bounce that mail to us.",
    Cause.ROGUE_SERVER: "One server or network behaves unlike all others.",
    Cause.OLD_LIST: "A mailing went to many addresses that are gone.",
    Cause.UNCLEAR: "No cause is likely. The evidence is that of the nearest one.",
}

_ADVICE: Final[Mapping[Cause, Sequence[str]]] = {
    Cause.SPAM_ATTACK: (
        "Change its password, and look at the programs on its website.",
        "Look whether your addresses are listed now.",
    ),
    Cause.DIRECTORY_HARVEST: (
        "Close the door to these clients: postscreen_access_list, or fail2ban on Postfix's log.",
        "Set smtpd_hard_error_limit and smtpd_client_recipient_rate_limit, if they are at their defaults.",
    ),
    Cause.SPOOFING_CAMPAIGN: (
        (
            "Publish SPF with -all and DMARC with p=quarantine or p=reject for the domain: most servers then refuse it"
            " instead of bouncing."
        ),
        "Where somebody sends for the domain by other servers with your knowledge, it may be that mail.",
        "bounces.reject_backscatter refuses such bounces; bounces.backscatter_lists those of known senders.",
    ),
    Cause.ROGUE_SERVER: (),
    Cause.OLD_LIST: (),
    Cause.UNCLEAR: ("Look at the log of these clients and addresses.",),
}
_ROGUE: Final[Mapping[Subject, Sequence[str]]] = {
    Subject.CLIENT: (
        "Tell its postmaster; until that helps, refuse these clients in smtpd_client_restrictions.",
        "bounces.backscatter_lists may know it; see that it is not in bounces.backscatter_list_exceptions.",
    ),
    Subject.DESTINATION: (
        "Look at its replies in the log: your addresses may be listed there, or the server is out of order.",
    ),
}
_UNCLEAR: Final[Mapping[Flow, Sequence[str]]] = {
    Flow.OUTSIDE: ("If these are addresses of users that exist, your own tables of recipients are broken.",),
    Flow.OWN: ("If many accounts are concerned, look at your own DNS, relay and addresses.",),
    Flow.NOT_OURS: (),
}


def advice_for(cause: Cause, flow: Flow, subject: Subject) -> Sequence[str]:
    """Return what may be done."""
    if cause is Cause.ROGUE_SERVER:
        return _ROGUE.get(subject, ())
    return (*_ADVICE[cause], *(_UNCLEAR[flow] if cause is Cause.UNCLEAR else ()))


def commands_for(cause: Cause, accounts: Sequence[str]) -> Mapping[str, str]:
    """Return commands for the accounts that are concerned, by their name in the JSON."""
    if not accounts or cause not in (Cause.SPAM_ATTACK, Cause.UNCLEAR):
        return {}
    # "--": a name that begins with a dash would be taken for an option.
    word = f"-- {shell_word(accounts[0])}" if accounts[0].startswith("-") else shell_word(accounts[0])
    usage = {"usage": f"delivery-pools usage {word}"}
    return usage | ({"restrict": f"delivery-pools restricted add {word}"} if cause is Cause.SPAM_ATTACK else {})
