"""Postfix's commands on one instance, by its configuration directory: postconf(1), postfix(1), its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from deliverypools.adapters.commands import postfix_environment
from deliverypools.adapters.terminal import TerminalError, run_on_terminal
from deliverypools.core.facts import printable

_MOST_SECONDS: Final = 120.0
_MOST_SCAN_SECONDS: Final = 900.0
"""For what looks at every file of the queue: some hundred thousand take minutes on a slow disk."""
_PPID_FIELD: Final = 1
"""Of /proc/PID/stat, behind the name: state, then the parent; proc(5)."""
_START_FIELD: Final = 19
_TICKS: Final = os.sysconf("SC_CLK_TCK")
"""A second has so many."""
_ZOMBIE: Final = "Z"
_IN_THE_LOG: Final = "the reason is in the mail log"
_MOST_SAID: Final = 20
"""Lines of a command's complaint that are told."""


class PostfixError(Exception):
    """Postfix cannot do what was asked; the text says what, where, and what to do."""


class Process(NamedTuple):
    """One process."""

    pid: int
    started_at: float
    """Seconds since the start of the machine."""


class PostfixInstance:
    """One Postfix instance. Every command is told its directory: so postfix(1) leaves other instances alone."""

    def __init__(self, config_directory: str | None = None) -> None:
        """Name the instance by its configuration directory; None is the default one (postconf's, MAIL_CONFIG's).

        Raises:
            PostfixError: there is no Postfix, or no configuration.
        """
        self._environment = postfix_environment()
        if config_directory is None:
            config_directory = self._run("postconf", "-h", "config_directory").stdout.strip()
        self.directory = Path(config_directory).absolute()
        if not (self.directory / "main.cf").is_file():
            raise PostfixError(
                f"{self.directory}/main.cf: there is no such file; name the instance's --config-directory"
            )

    def run(self, command: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run one of Postfix's commands on this instance.

        Raises:
            PostfixError: it failed.
        """
        return self._run(command, "-c", str(self.directory), *arguments, given=given)

    def control(self, action: str) -> None:
        """Run postfix(1): `check`, `reload`, `start`.

        Raises:
            PostfixError: it failed; the text has its reason, which goes to a terminal and to the log only.
        """
        command = ["postfix", "-c", str(self.directory), action]
        try:
            status, said = run_on_terminal(command, self._environment, _MOST_SCAN_SECONDS)
        except TerminalError as error:
            raise PostfixError(f"postfix {action}: {error}") from None
        if status != 0:
            raise PostfixError(f"postfix {action}: {_told(said) or f'exit status {status}; {_IN_THE_LOG}'}")

    def parameter(self, name: str) -> str:
        """Return a parameter's value, expanded."""
        return self.run("postconf", "-xh", name).stdout.strip()

    def is_running(self) -> bool:
        """Tell whether its master(8) runs."""
        return bool(self._master())

    def clock_at_start(self) -> float | None:
        """Return when the machine started, in seconds since the epoch by the clock of when master(8) began.

        That writes its pid file then. None where it is not seen.
        """
        with contextlib.suppress(OSError, ValueError, IndexError):
            if master := self._master():
                fields = Path(f"/proc/{master}/stat").read_text().rpartition(")")[2].split()
                return self._pid_file.stat().st_mtime - int(fields[_START_FIELD]) / _TICKS
        return None

    def reload(self) -> None:
        """Let it read its configuration again: `postfix reload`.

        Raises:
            PostfixError: it refuses.
        """
        self.control("reload")

    def start(self) -> None:
        """Start it: `postfix start`.

        Raises:
            PostfixError: it refuses.
        """
        self.control("start")

    def reread(self) -> None:
        """Let it read its configuration again, and leave the queue alone.

        `postfix reload` gives queue files with long names short ones where enable_long_queue_ids has just been switched
        off; what is being delivered then would be delivered again.

        Raises:
            PostfixError: this user may not.
        """
        try:
            if master := self._master():
                os.kill(master, signal.SIGHUP)
        except OSError as error:
            raise PostfixError(f"master(8): {error.strerror}; run this as root, then: postfix reload") from None

    def processes(self, *commands: str) -> set[Process]:
        """Return its processes that run one of these programs; none if it does not run."""
        master = self._master()
        found: set[Process] = set()
        for entry in Path("/proc").iterdir() if master else ():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                    fields = rest.split()
                    if name in commands and int(fields[_PPID_FIELD]) == master:
                        found.add(Process(int(entry.name), int(fields[_START_FIELD]) / _TICKS))
        return found

    @staticmethod
    def arguments(process: Process) -> list[str]:
        """Return a process's command line, the program first; nothing if it has ended."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process.pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
        return []

    @cached_property
    def _queue_directory(self) -> str:
        return self.parameter("queue_directory")

    @property
    def _pid_file(self) -> Path:
        return Path(self._queue_directory) / "pid" / "master.pid"

    def _master(self) -> int:
        """Return the process id of master(8), 0 if it does not run.

        Its pid file is believed only while a process of that name has the number: a killed master leaves the file.
        """
        try:
            pid = int(self._pid_file.read_text())
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
            has_ended = rest.split()[0] == _ZOMBIE
        except (OSError, ValueError, IndexError):
            return 0
        return pid if name == "master" and not has_ended else 0

    def _run(self, command: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                [command, *arguments],
                input=given,
                text=True,
                errors="replace",
                capture_output=True,
                check=False,
                timeout=_MOST_SECONDS,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            raise PostfixError(f"{command}: not done within {_MOST_SECONDS:g} seconds") from None
        except OSError as error:
            raise PostfixError(f"{command}: {error.strerror}; is Postfix installed here?") from None
        if done.returncode != 0:
            raise PostfixError(f"{command}: {_told(done.stderr) or f'exit status {done.returncode}'}")
        return done


def _told(said: str) -> str:
    """Return the end of what a command said, on one line."""
    return "; ".join(printable(line.strip(), 500) for line in said.strip().splitlines()[-_MOST_SAID:])
