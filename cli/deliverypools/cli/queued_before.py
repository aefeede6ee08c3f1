"""What becomes of mail that is queued when `postfix install` puts the profile `express` in: nothing decides it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.adapters.leftover_mail import QueueFiles
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.core.postfix_check.checks import Severity
from deliverypools.core.postfix_install.plan import Remark

_MOST_NAMED: Final = 10
"""Queue ids; the first are enough to see whose mail it is."""


def queued_remarks(instance: PostfixInstance) -> Iterator[Remark]:
    """Yield what becomes of the mail that is queued now; nothing where this user may not look into the queue."""
    queue = PostfixQueue(str(instance.directory))
    try:
        number = sum(1 for _ in queue.messages())
        tagged = sorted(QueueFiles(instance.directory, ()).with_header(queue)) if number else []
    except (PostfixError, QueueError):
        return
    if number:
        yield Remark(
            severity=Severity.WARNING,
            text=f"{number} messages are queued: in the express profile nothing decides them any more, and all of them"
            " leave by high-risk.",
            remedy="Install when the queue is as good as empty: `postqueue -f` tries all of it now.",
        )
    if tagged:
        more = f" and {len(tagged) - _MOST_NAMED} more" if len(tagged) > _MOST_NAMED else ""
        yield Remark(
            severity=Severity.WARNING,
            text=f"{len(tagged)} queued messages have a header X-Delivery-Pool that is none of ours"
            f" ({', '.join(tagged[:_MOST_NAMED])}{more}): `postsuper -r` would obey it.",
            remedy="Do not requeue them once this is installed.",
        )
