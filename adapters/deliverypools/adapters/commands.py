"""Other programs: where Postfix's are, and what one prints, read as it comes however much that is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final, cast

_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_COMPLAINT_BYTES: Final = 100_000


def postfix_environment(**named: str) -> dict[str, str]:
    """Return an environment in which Postfix's commands are found, and say what they say in English."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}", "LC_ALL": "C", **named}


@dataclass(slots=True)
class Printing:
    """A command that runs."""

    output: IO[bytes]
    """What it prints."""
    status: int = 0
    """Exit status, once it has ended; negative: it was killed."""
    complaints: str = ""
    """What it has said on standard error, once it has ended."""


@contextlib.contextmanager
def printing(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    most_seconds: float = threading.TIMEOUT_MAX,
) -> Iterator[Printing]:
    """Run a command, whose output may be read meanwhile. At the end it is waited for; it is killed where that is left.

    Whoever does not read to the end has to close the output. After `most_seconds` the command is killed.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=complaints, env=environment, bufsize=1 << 16
        )
        one = Printing(cast("IO[bytes]", process.stdout))
        deadline = threading.Timer(most_seconds, process.kill)
        deadline.daemon = True  # a program that ends by an error does not wait for it
        try:
            deadline.start()
            yield one
            one.status = process.wait()
        finally:
            deadline.cancel()
            process.kill()
            one.output.close()
            process.wait()
        complaints.seek(0)
        one.complaints = complaints.read(_MOST_COMPLAINT_BYTES).decode(errors="replace").strip()
