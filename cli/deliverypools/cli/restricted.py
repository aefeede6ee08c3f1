"""`delivery-pools restricted`: accounts that may not send, and their mail that is queued already."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any, Final, TypeAlias

from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.adapters.requeue import RequeueInterrupted, requeue
from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.cli.exits import EX_TEMPFAIL, FAILED, OK
from deliverypools.cli.options import Subparsers, accounts_meant, add_account, add_config, read_settings
from deliverypools.cli.shared_state import failure_text, shared_state
from deliverypools.core.alert_text import shell_word
from deliverypools.core.facts import printable
from deliverypools.core.requeue import Outcome, Receipt
from deliverypools.core.restrictions import Restriction, duration_of, following_day, scope_of, utc_text
from deliverypools.core.settings import Settings

_Run: TypeAlias = Callable[[argparse.Namespace], int]

_NOT_ENFORCED: Final = "shadow = true: no restriction is enforced until that is switched off"
_REASON: Final = "restricted by an administrator"

_ACCOUNT: Final = """\
ACCOUNT is a SASL user, the address that a trusted client sends with, that client's IP address, or uid:N for a system
user who calls sendmail(1). It is brought into the form in which accounts are counted: lower case, without +extension.
"""

_UID: Final = """\
SMTP clients of a restricted account are refused. sendmail(1) refuses nobody: what a restricted uid:N sends is taken,
and leaves by high-risk or is put on hold (restricted_mail), as its queued mail is.
"""

_QUEUE: Final = """\
Queued mail: what is deferred, or on hold for whatever reason, goes back through the hop and is decided again. It is put
on hold first. What Postfix is delivering at this moment is left alone, as it would arrive twice, and reported: run
"restricted requeue" again a little later. A run that is interrupted leaves messages on hold; the next one takes them
up. Mail of other accounts is not touched. always_bcc and *_bcc_maps copy requeued mail once more. New queue ids are in
the mail log, behind orig_id. In the profile express mail cannot be decided again: there deferred mail of a restricted
account is put on hold and stays there, and a release takes it off. All of this needs root, or Postfix's mail_owner.
"""

_TEXTS: Final = {
    Outcome.REQUEUED: "requeued, to be decided again (was {pool}, {rule})",
    Outcome.HELD: "put on hold (pool {pool}, {rule})",
    Outcome.LET_GO: "taken off hold, leaves by {pool}",
    Outcome.IN_DELIVERY: "left alone, in delivery by {pool}",
    Outcome.STAYS: "stays in {pool}: a decided message keeps its pool in the profile express",
    Outcome.GONE: "gone: delivered, bounced or removed meanwhile",
}


def add_to(commands: Subparsers) -> None:
    """Add the command with its actions."""
    parser = commands.add_parser(
        "restricted",
        help="list, add and release accounts that may not send; send their queued mail back through the hop",
        description="Accounts that may not send, and their mail that is queued already.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _action(actions, "list", _list, "list restricted accounts", "Exit status: 0; 1 the state cannot be read.\n")
    _add_add(actions)
    _add_release(actions)
    _add_requeue(actions)


def _add_add(actions: Subparsers) -> None:
    parser = _action(
        actions,
        "add",
        _add,
        "restrict an account until it is released: it is refused, or (sendmail) leaves by high-risk or is held",
        f"{_ACCOUNT}\n{_UID}\n{_QUEUE}\n"
        "Exit status: 0 the account is restricted; 1 it is not, or its queued mail could not be touched.\n",
    )
    add_account(parser)
    parser.add_argument("--reason", default=_REASON, metavar="TEXT", help="told to whoever sends with it")
    parser.add_argument(
        "--until-tomorrow", action="store_true", help="until the next day begins (UTC), not until a release"
    )
    _add_requeue_option(parser)
    _add_queue_options(parser)


def _add_release(actions: Subparsers) -> None:
    parser = _action(
        actions,
        "release",
        _release,
        "let a restricted account send again",
        f"{_ACCOUNT}\n{_QUEUE}\n"
        "A released account is not restricted again that day (UTC), except by hand; that holds even if it was not\n"
        "restricted. Exit status: 0 released; 1 it was not restricted, or its queued mail could not be touched.\n",
    )
    add_account(parser)
    _add_requeue_option(parser)
    _add_queue_options(parser)


def _add_requeue(actions: Subparsers) -> None:
    parser = _action(
        actions,
        "requeue",
        _requeue,
        "send back queued mail whose decision fits no more, of some accounts or of all",
        "Without ACCOUNT: mail of all accounts that are restricted, or that were when it was decided. Then mail that\n"
        "somebody else has put on hold stays there. delivery-pools-requeue.service does this whenever an account was\n"
        f"restricted or released.\n\n{_QUEUE}\n"
        "Exit status: 0 done; 1 it could not be done; 75 some messages are in delivery: run it again.\n",
    )
    add_account(parser, nargs="*")
    _add_queue_options(parser)


def _action(actions: Subparsers, name: str, run: _Run, what: str, epilog: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="JSON: one object a line")
    parser.set_defaults(run=run)
    return parser


def _add_requeue_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requeue", action="store_true", help="have its queued mail decided again; needs root")


def _add_queue_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-directory", metavar="DIR", help="Postfix's (default: that of the default instance)")


# ---- list


def _list(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    with shared_state(settings) as state:
        restrictions = state.restrictions()
    for restriction in restrictions:
        if options.json:
            print(json.dumps(asdict(restriction) | {"is_enforced": not settings.shadow}))
        else:
            print(f"{printable(restriction.account)}: {_told(restriction, f'since {utc_text(restriction.since)}, ')}")
    if not restrictions and not options.json:
        print("no account is restricted")
    if restrictions and settings.shadow and not options.json:
        print(_NOT_ENFORCED)
    return OK


def _told(restriction: Restriction, since: str = "") -> str:
    return f"{scope_of(restriction)}, {since}{duration_of(restriction)}: {printable(restriction.reason)}"


# ---- add, release, requeue


def _add(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    now = time.time()
    until = following_day(now) if options.until_tomorrow else None
    reason = printable(options.reason.strip() or _REASON)
    with shared_state(settings, may_make=True) as state:
        (account,) = accounts_meant(options, state)
        wanted = Restriction(account=account, since=now, until=until, reason=reason)
        standing = state.restrict(wanted, by_hand=True) or wanted
        name = printable(account)
        lines = [f"{name}: {'restricted' if standing == wanted else 'was restricted already'}, {_told(standing)}"]
        if not state.records_of(account, most=1):
            lines.append(f"{name}: the decision log has no mail of this account; is the name right?")
        if settings.shadow:
            lines.append(_NOT_ENFORCED)
        answer = {"account": account, "restricted": asdict(standing), "was_restricted": standing != wanted}
        return _finish(options, settings, state, answer, lines)


def _release(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    with shared_state(settings) as state:
        (account,) = accounts_meant(options, state)
        ended = state.release(account)
        immunity = "until midnight (UTC) only an administrator can restrict it again"
        lines = [f"{printable(account)}: {'released' if ended else 'was not restricted'}; {immunity}"]
        answer = {"account": account, "released": [asdict(restriction) for restriction in ended]}
        status = _finish(options, settings, state, answer, lines)
    return status if ended else FAILED


def _finish(
    options: argparse.Namespace, settings: Settings, state: State, answer: dict[str, Any], lines: list[str]
) -> int:
    """Deal with the queued mail of the one account, as asked; print what was done and what is left to do."""
    account = answer["account"]
    command = _command(options, account)
    receipt: Receipt | None = None
    problem = ""
    if options.requeue:
        try:
            receipt = _run_requeue(options, settings, state, [account])
        except (QueueError, StateUnavailable, RequeueInterrupted) as error:
            problem = _problem_text(error, command)
    else:
        lines.append(
            "to have its queued mail decided again (done by itself where delivery-pools-requeue.path is enabled),"
            f" as root: {command}"
        )
    if options.json:
        print(json.dumps(answer | {"requeue": _receipt_json(receipt) if receipt else None}))
    else:
        print("\n".join(lines))
        if receipt:
            _print_receipt(receipt, command)
    if problem:
        print(f"delivery-pools: {problem}", file=sys.stderr)
    return FAILED if problem else OK


def _requeue(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    with shared_state(settings) as state:
        accounts = accounts_meant(options, state)
        command = _command(options, *accounts)
        try:
            receipt = _run_requeue(options, settings, state, accounts)
        except (QueueError, StateUnavailable, RequeueInterrupted) as error:
            print(f"delivery-pools: {_problem_text(error, command)}", file=sys.stderr)
            return FAILED
    if options.json:
        print(json.dumps(_receipt_json(receipt)))
    else:
        _print_receipt(receipt, command)
    return EX_TEMPFAIL if receipt.count(Outcome.IN_DELIVERY) else OK


def _run_requeue(options: argparse.Namespace, settings: Settings, state: State, accounts: Collection[str]) -> Receipt:
    queue = PostfixQueue(options.config_directory)
    if not queue.is_ours_to_change():
        raise QueueError(
            f"only root and Postfix's mail_owner may move queued mail; as root: {_command(options, *accounts)}"
        )
    return requeue(queue, state, settings, accounts)


def _command(options: argparse.Namespace, *accounts: str) -> str:
    """Return the command that has the queue looked at (again)."""
    words = ["delivery-pools", "restricted", "requeue"]
    for option in ("config", "config_directory"):
        if value := getattr(options, option):
            words += [f"--{option.replace('_', '-')}", value]
    if any(account.startswith("-") for account in accounts):
        words.append("--")  # else they would be taken for options
    return " ".join((shlex.join(words), *map(shell_word, accounts)))


# ---- the receipt


def _problem_text(error: Exception, command: str) -> str:
    cause = error.__cause__ if isinstance(error, RequeueInterrupted) else error
    reason = failure_text(cause) if isinstance(cause, StateUnavailable) else str(error)
    if not isinstance(error, RequeueInterrupted):
        return f"queued mail was not moved: {reason}"
    return (
        f"not all queued mail was moved: {reason}\n"
        f"What was begun may be on hold now; this takes it up again, as root: {command}"
    )


def _print_receipt(receipt: Receipt, command: str) -> None:
    for one in receipt.moved:
        print(f"{one.queue_id}: {_TEXTS[one.outcome].format(pool=one.pool, rule=one.rule)}; {printable(one.account)}")
    counts = [f"{receipt.count(outcome)} {outcome}" for outcome in Outcome if receipt.count(outcome)]
    print(f"queued mail: {', '.join(counts) or 'nothing to move'}")
    if receipt.not_decided:
        print(f"{receipt.not_decided} more have not been decided yet, and are when they pass the hop")
    if receipt.count(Outcome.REQUEUED) and not receipt.is_pickup_awake:
        print("pickup(8) could not be told; it looks by itself within a minute, if Postfix is running")
    if receipt.copied_again_by:
        names = ", ".join(receipt.copied_again_by)
        print(f"warning: {names}: copies of {receipt.count(Outcome.REQUEUED)} requeued messages are delivered again")
    if receipt.count(Outcome.IN_DELIVERY):
        print(f"some are in delivery and were left alone; run this in a few minutes: {command}")


def _receipt_json(receipt: Receipt) -> dict[str, Any]:
    requeued = receipt.count(Outcome.REQUEUED)
    return {
        "messages": [asdict(one) for one in receipt.moved],
        "counts": {outcome.value: receipt.count(outcome) for outcome in Outcome},
        "not_decided": receipt.not_decided,
        "copied_again": dict.fromkeys(receipt.copied_again_by, requeued),
        "is_pickup_awake": receipt.is_pickup_awake,
    }
