"""What an administrator may do about a surge, for each cause: short, and with commands where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from deliverypools.core.alert_text import shell_word
from deliverypools.core.surges.causes import Cause
from deliverypools.core.surges.flows import Flow
from deliverypools.core.surges.groups import Subject

_WHAT_IT_IS: Final[Mapping[Cause, str]] = {
    Cause.LISTED_ADDRESS: "Mail of many accounts is refused as spam at many places: addresses of ours are on a block"
    " list, or have a bad reputation.",
    Cause.SPAM_ATTACK: "Mail of this sender is refused as spam at many places: its password is known to others, or its"
    " website sends for them.",
    Cause.DIRECTORY_HARVEST: "Somebody tries which addresses exist here.",
    Cause.SPOOFING_CAMPAIGN: "Somebody else sends as this domain, and other servers bounce that mail to us.",
    Cause.ROGUE_SERVER: "One server or network behaves unlike all others.",
    Cause.DESTINATION_DOWN: "One destination cannot be reached: mail to it comes back when it is too old.",
    Cause.OLD_LIST: "A mailing went to many addresses that are gone.",
    Cause.OLD_LIST_OR_STOLEN_PASSWORD: "Mail of this account went to many addresses that are gone: an old list, or its"
    " password is known to others. What the servers answer does not tell which.",
    Cause.UNCLEAR: "No cause is likely. The evidence is that of the nearest one.",
}

_REFUSED_BY_ONE: Final = "One destination refuses mail of many accounts of ours; others do not."

_ADVICE: Final[Mapping[Cause, Sequence[str]]] = {
    Cause.LISTED_ADDRESS: (
        "Look up the addresses of the pools in the lists that the replies name; delivery-pools does not do that yet.",
        "Which pool it is: `delivery-pools usage ACCOUNT` of some of these accounts, or the milter's log.",
        "Look for the account or website that is the reason, of the last days too: lists wait for that.",
        "Where all of it comes from one client that is no webmail server, it may be a website that sends spam.",
    ),
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
    Cause.DESTINATION_DOWN: (
        "Tell its postmaster by another way. Until it is back, mail to it stays in the queue and then comes back.",
        "If others reach it, look at your own DNS, routes and firewall.",
    ),
    Cause.OLD_LIST: (),
    Cause.OLD_LIST_OR_STOLEN_PASSWORD: (
        "Look at the subjects and client addresses: is that a mailing of this account's owner, from where he sends?",
        "If it is not, restrict the account and change its password. If it is, have the list tidied up.",
    ),
    Cause.UNCLEAR: ("Look at the log of these clients and addresses.",),
}
_ROGUE: Final[Mapping[Subject, Sequence[str]]] = {
    Subject.CLIENT: (
        "Tell its postmaster; until that helps, refuse these clients in smtpd_client_restrictions.",
        "bounces.backscatter_lists may know it; see that it is not in bounces.backscatter_list_exceptions.",
    ),
    Subject.DESTINATION: (
        "Look at its replies: your addresses may be listed there, or it has a rule against mail like yours.",
    ),
}
_UNCLEAR: Final[Mapping[Flow, Sequence[str]]] = {
    Flow.OUTSIDE: ("If these are addresses of users that exist, your own tables of recipients are broken.",),
    Flow.OWN: ("If many accounts are concerned, look at your own DNS, relay and addresses.",),
    Flow.NOT_OURS: (
        (
            "Bounces of mail that was sent before the decision log began can be our own mail's: in the first days, and"
            " for messages without a Message-ID of ours, nothing can be told."
        ),
    ),
}


_ABOUT_ACCOUNTS: Final = frozenset({Cause.SPAM_ATTACK, Cause.OLD_LIST_OR_STOLEN_PASSWORD, Cause.UNCLEAR})


def what_it_is(cause: Cause, subject: Subject) -> str:
    """Return what happens, in a sentence or two."""
    is_destination = cause is Cause.ROGUE_SERVER and subject is Subject.DESTINATION
    return _REFUSED_BY_ONE if is_destination else _WHAT_IT_IS[cause]


def advice_for(cause: Cause, flow: Flow, subject: Subject) -> Sequence[str]:
    """Return what may be done."""
    if cause is Cause.ROGUE_SERVER:
        return _ROGUE.get(subject, ())
    return (*_ADVICE[cause], *(_UNCLEAR[flow] if cause is Cause.UNCLEAR else ()))


def commands_for(cause: Cause, account: str) -> Mapping[str, str]:
    """Return commands for the account that has sent most of it, "" for none, by their name in the JSON."""
    if not account or cause not in _ABOUT_ACCOUNTS:
        return {}
    # "--": a name that begins with a dash would be taken for an option.
    word = f"-- {shell_word(account)}" if account.startswith("-") else shell_word(account)
    usage = {"usage": f"delivery-pools usage {word}"}
    return usage | ({} if cause is Cause.UNCLEAR else {"restrict": f"delivery-pools restricted add {word}"})
