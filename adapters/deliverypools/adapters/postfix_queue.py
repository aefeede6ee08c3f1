"""Postfix's queue, by the commands that Postfix has for it: postqueue, postsuper, postkick, postconf.

Queue ids go in by standard input, so any number of them is one call; the list of the queue is read line by line.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import subprocess
from collections.abc import Generator, Iterable, Iterator
from typing import Final

from deliverypools.adapters.commands import postfix_environment, printing
from deliverypools.core.facts import printable
from deliverypools.core.requeue import DEFERRED_QUEUE, HOLD_QUEUE, QueuedMessage

_BCC_PARAMETERS: Final = ("always_bcc", "sender_bcc_maps", "recipient_bcc_maps")
_MOST_SECONDS: Final = 600.0
"""For one command: a queue of some hundred thousand messages takes a minute or two to list or to move."""
_LISTINGS: Final = 2
"""showq(8) reads the active queue before the deferred queue: what qmgr(8) moves to the former meanwhile is in neither.
The next listing has it: nothing is tried twice within the two."""

_DONE = re.compile(r"postsuper: (?P<queue_id>\w+): (?:placed on hold|released from hold|requeued)")


class QueueError(Exception):
    """The queue cannot be read or changed; the text says why."""


class PostfixQueue:
    """The queue of one Postfix instance."""

    def __init__(self, config_directory: str | None = None) -> None:
        """Name the instance by its configuration directory; None is the default one (postconf's, MAIL_CONFIG's)."""
        self._instance = ["-c", config_directory] if config_directory else []
        self._environment = postfix_environment()
        self._hostname: str | None = None

    def is_ours_to_change(self) -> bool:
        """Tell whether this process may move queue files: root and Postfix's mail_owner may."""
        if os.geteuid() == 0:
            return True
        try:
            return pwd.getpwnam(self._parameter("mail_owner")).pw_uid == os.getuid()
        except (KeyError, QueueError):
            return False

    def hostname(self) -> str:
        """Return myhostname, under which the decision log knows this host's queue ids."""
        # Asked once: for a main.cf that was written within the last second postconf(1) waits, each time.
        if self._hostname is None:
            self._hostname = self._parameter("myhostname")
        return self._hostname

    def bcc_parameters(self) -> tuple[str, ...]:
        """Return which parameters add recipients to mail that comes in, requeued mail included."""
        return tuple(name for name in _BCC_PARAMETERS if self._parameter(name))

    def messages(self) -> Iterator[QueuedMessage]:
        """Yield what is in the queue, each message once, as it is listed.

        Raises:
            QueueError: it cannot be listed, or not to its end.
        """
        seen: set[str] = set()
        for _ in range(_LISTINGS):
            with contextlib.closing(self._listed()) as listed:
                for message in listed:
                    if message.queue_id not in seen:
                        seen.add(message.queue_id)
                        yield message

    def _listed(self) -> Generator[QueuedMessage, None, None]:
        command = ["postqueue", *self._instance, "-j"]
        try:
            with printing(command, environment=self._environment, most_seconds=_MOST_SECONDS) as postqueue:
                for line in postqueue.output:
                    yield _message(line)
        except OSError as error:
            raise QueueError(f"postqueue: {error.strerror}") from None
        if postqueue.status != 0:
            raise QueueError(_complaint("postqueue", postqueue.status, postqueue.complaints))

    def hold(self, queue_ids: Iterable[str]) -> set[str]:
        """Put deferred messages on hold; return those that were.

        Raises:
            QueueError: some may have been.
        """
        return self._postsuper("-h", queue_ids, DEFERRED_QUEUE)

    def let_go(self, queue_ids: Iterable[str]) -> set[str]:
        """Take messages off hold; return those that were.

        Raises:
            QueueError: some may have been.
        """
        return self._postsuper("-H", queue_ids, HOLD_QUEUE)

    def requeue(self, queue_ids: Iterable[str], queue_name: str = HOLD_QUEUE) -> set[str]:
        """Requeue messages that are on hold (or deferred), and no others; return those that were.

        Raises:
            QueueError: some may have been.
        """
        return self._postsuper("-r", queue_ids, queue_name)

    def wake_pickup(self) -> bool:
        """Let pickup(8) take what was requeued at once; False: it could not be told, and looks once a minute."""
        try:
            self._run("postkick", "public", "pickup", "W")
        except QueueError:
            return False
        return True

    def _postsuper(self, option: str, queue_ids: Iterable[str], queue_name: str) -> set[str]:
        given = "".join(f"{queue_id}\n" for queue_id in queue_ids)
        if not given:
            return set()
        # What was done is told on standard error, a line a message.
        said = self._run("postsuper", option, "-", queue_name, given=given).stderr
        return {found["queue_id"] for line in said.splitlines() if (found := _DONE.fullmatch(line))}

    def _parameter(self, name: str) -> str:
        return self._run("postconf", "-xh", name).stdout.strip()

    def _run(self, command: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                [command, *self._instance, *arguments],
                input=given,
                text=True,
                errors="replace",
                capture_output=True,
                check=False,
                timeout=_MOST_SECONDS,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            raise QueueError(f"{command}: not done within {_MOST_SECONDS:g} seconds") from None
        except OSError as error:
            raise QueueError(f"{command}: {error.strerror}; is Postfix installed here?") from None
        if done.returncode != 0:
            raise QueueError(_complaint(command, done.returncode, done.stderr[-10_000:]))
        return done


def _message(line: bytes) -> QueuedMessage:
    try:
        entry = json.loads(line.decode(errors="replace"))
        return QueuedMessage(str(entry["queue_id"]), str(entry["queue_name"]), float(entry["arrival_time"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise QueueError(f"postqueue -j: {printable(line.decode(errors='replace'))}") from None


def _complaint(command: str, status: int, said: str) -> str:
    lines = said.strip().splitlines() or [f"exit status {status}"]
    return printable(lines[-1] if lines[-1].startswith(command) else f"{command}: {lines[-1]}", 500)
