"""Commands that tell what is wrong to a terminal only: postlog(1) writes to standard error if it is one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final

_MOST_BYTES: Final = 64_000
"""Of what is said; the rest is thrown away."""
_LOOK_SECONDS: Final = 0.1


class TerminalError(Exception):
    """A command could not be run to its end; the text says why."""


def run_on_terminal(command: Sequence[str], environment: Mapping[str, str], most_seconds: float) -> tuple[int, str]:
    """Run a command whose output is a terminal; return its exit status and what it said.

    Daemons that it starts are not waited for, though they may keep the terminal open. When its time is over, what it
    has started itself is ended with it: postfix(1) is a shell script.

    Raises:
        TerminalError: there is no such command, or it is not done in time.
    """
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise TerminalError(f"no terminal for it: {error.strerror}") from None
    try:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                env=dict(environment),
                process_group=0,
            )
        except OSError as error:
            raise TerminalError(f"{error.strerror}; is it installed here?") from None
        finally:
            os.close(theirs)
        try:
            return _followed(process, ours, most_seconds)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    finally:
        os.close(ours)


def _followed(process: subprocess.Popen[bytes], terminal: int, most_seconds: float) -> tuple[int, str]:
    deadline = time.monotonic() + most_seconds
    said = b""
    while process.poll() is None:
        said += _read(terminal, _LOOK_SECONDS)[: _MOST_BYTES - len(said)]
        if time.monotonic() > deadline:
            raise TerminalError(f"not done within {most_seconds:g} seconds")
    while len(said) < _MOST_BYTES and (some := _read(terminal, 0)):
        said += some
    return process.returncode, said[:_MOST_BYTES].decode(errors="replace").replace("\r", "")


def _read(terminal: int, seconds: float) -> bytes:
    """Return what was written; nothing after a while, or if nobody can write any more."""
    readable, _, _ = select.select([terminal], [], [], seconds)
    if not readable:
        return b""
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: every writer has closed it
        time.sleep(min(seconds, _LOOK_SECONDS))
        return b""
