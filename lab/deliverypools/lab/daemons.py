"""The milter and the policy service as child processes: start, wait until they answer, end, kill."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from deliverypools.lab.namespace import Network
from deliverypools.lab.processes import children
from deliverypools.lab.waiting import wait_until

STOP_TIMEOUT_SECONDS = 20


class Daemon:
    """One program that listens on a unix socket; what it writes goes to `log_file`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        socket_path: Path,
        log_file: Path,
        network: Network | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Describe it; `start` starts it, with `environment` added to ours; without a network, in this machine's."""
        self.name = name
        self.log_file = log_file
        self._command = list(command)
        self._socket_path = socket_path
        self._network = network
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when its socket answers.

        Raises:
            RuntimeError: it ended at once; the message holds what it wrote.

        """
        # The same modules as ours, also where they are not installed (pytest's pythonpath).
        modules = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self.log_file.open("ab") as log, self.inside():
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log_file.parent,
                env={**os.environ, **modules, **self._environment},
                start_new_session=True,
            )
        wait_until(self._answers, timeout_seconds=20, what=f"{self.name} on {self._socket_path}")

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended at once, exit {self._process.returncode}: {self.log()[-4000:]}")
        return self.is_answering()

    def is_answering(self) -> bool:
        """Tell whether it takes connections."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._socket_path))
            except OSError:
                return False
        return True

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Let this thread use the addresses that it has."""
        return self._network.inside() if self._network else contextlib.nullcontext()

    @property
    def pid(self) -> int:
        """Process id of the parent process.

        Raises:
            RuntimeError: it is not running.

        """
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """Process ids of its children."""
        return children(self.pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the parent process."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM); what is left after a while, or of its children, is killed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its children with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        running = self._process.poll() is None
        # The milter's workers have process groups of their own; they are found while their parent lives.
        processes = [self._process.pid, *self.workers] if running else []
        if number is signal.SIGKILL:
            _kill(processes)
        elif running:
            self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _kill([pid for pid in processes if _is_in_session(pid, self._process.pid)])
        self._process = None

    def log(self) -> str:
        """Return what it has written."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


def _kill(processes: Iterable[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_in_session(pid: int, session: int) -> bool:
    """Tell whether a process is left over of that session: its id may belong to another one by now."""
    try:
        return os.getsid(pid) == session
    except ProcessLookupError:
        return False
