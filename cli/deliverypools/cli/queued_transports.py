"""What queued mail says to a plan: transports that it names have to stay, and what has not passed the hop is told."""

from __future__ import annotations

from dataclasses import replace

from deliverypools.adapters.leftover_mail import QueueFiles
from deliverypools.adapters.postfix_commands import PostfixError
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.core.postfix_install.plan import Plan, Written
from deliverypools.core.postfix_install.retired import (
    hop_goes,
    keeping,
    led_to,
    our_clients,
    retired,
    takes_the_hop_away,
)
from deliverypools.core.settings import Settings


def with_what_is_queued(
    editor: PostfixEditor, plan: Plan, original: Written, live: Written, settings: Settings
) -> Plan:
    """Return a plan that lacks no transport which queued mail names, or which mail may get before the change.

    Where the hop goes, it tells of the mail that would have had to pass it.
    """
    candidates = retired(plan, original, live)
    used = candidates & led_to(editor.files())
    unused = candidates - used
    kept = keeping(plan, used | (_named(editor, unused) if unused else set()), settings.pools)
    if not takes_the_hop_away(plan, live):
        return kept
    undecided = _undecided(editor, our_clients(live))
    return replace(kept, remarks=(*kept.remarks, *hop_goes(undecided)))


def _undecided(editor: PostfixEditor, transports: frozenset[str]) -> int | None:
    """Return how many queued messages name none of these transports; None if that cannot be told."""
    try:
        directory = editor.instance.directory
        return QueueFiles(directory, transports).undecided(PostfixQueue(str(directory)))
    except (PostfixError, QueueError):
        return None


def _named(editor: PostfixEditor, transports: frozenset[str]) -> set[str]:
    try:
        directory = editor.instance.directory
        return QueueFiles(directory, transports).named(PostfixQueue(str(directory)))
    except (PostfixError, QueueError):
        # Not root: a preview shows what is kept as long as nobody can tell.
        return set(transports)
