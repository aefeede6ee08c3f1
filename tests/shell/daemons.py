"""The real daemons as child processes, with a settings file, a key file, state and DNS of their own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.fernet import Fernet

from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.state import State, open_state
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import recipients_window
from deliverypools.core.settings import Settings, parse_settings
from deliverypools.core.tallies import DAY
from deliverypools.core.ticket import HEADER, Ticket
from deliverypools.lab.dns_server import DnsServer
from deliverypools.lab.processes import children
from deliverypools.lab.settings_file import merged, render_toml
from deliverypools.lab.waiting import wait_until

READY_SECONDS = 20
ZONES = {
    "example.org": {"MX": ["10 mx.example.org."]},
    "example.net": {"A": ["198.51.100.1"]},
    "nothing.example": {"TXT": ['"x"']},
}


class Site:
    """A folder with everything that the daemons of one host need."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        self.config = folder / "pools.toml"
        self.milter_socket = str(folder / "milter.sock")
        self.policy_socket = str(folder / "policy.sock")
        self.most_files = 0
        """Limit of open files for daemons that are started from now on; 0: that of the tests."""
        self.dns = DnsServer(ZONES)
        self.dns.start("127.0.0.1", 0)
        (folder / "ticket.keys").write_bytes(Fernet.generate_key() + b"\n")
        self.write(**changes)

    def write(self, **changes: object) -> None:
        """Write the settings file."""
        port = self.dns._servers[0].server_address[1]
        usual = {
            "accepted_domains": ["example.org"],
            "trusted_networks": ["127.0.0.0/8"],
            "state": f"sqlite:///{self.folder}/state.db",
            "ticket_key_file": f"{self.folder}/ticket.keys",
            "pools": {
                name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
                for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
            },
            # Tests send faster than people do.
            "limits": {"messages_per_minute": 0},
            "dns": {"nameservers": [f"127.0.0.1:{port}"], "timeout_seconds": 10.0},
            "milter": {"socket": f"unix:{self.milter_socket}", "workers": 2, "drain_seconds": 2},
            "policy": {"socket": f"unix:{self.policy_socket}"},
            "alerts": {"spool": f"{self.folder}/spool"},
            "metrics": {"listen": "off", "directory": f"{self.folder}/metrics"},
        }
        self.config.write_text(render_toml(merged(usual, changes)), encoding="utf-8")

    def ticket(self, outcome) -> Ticket:
        """Open the one ticket that an outcome adds."""
        (value,) = outcome.added_values(HEADER)
        keys = (self.folder / "ticket.keys").read_bytes().split()
        return TicketSealer(keys).open(value)

    @property
    def settings(self) -> Settings:
        return parse_settings(self.config.read_text(encoding="utf-8"), str(self.config))

    @contextlib.contextmanager
    def opened_state(self) -> Iterator[State]:
        """The shared state, as one more process would open it."""
        state = open_state(self.settings, time.time)
        try:
            yield state
        finally:
            state.close()

    def recipients_counted(self, account: str, ingress: Ingress = Ingress.SUBMISSION) -> int:
        """Return what the shared state holds for an account."""
        with self.opened_state() as state:
            return state.used([recipients_window(Account(ingress, account), DAY)])[0]


class Daemon:
    """`delivery-pools milter` or `delivery-pools policy`."""

    def __init__(self, name: str, site: Site) -> None:
        self.site = site
        self.socket_path = {"milter": site.milter_socket, "policy": site.policy_socket}[name]
        self._log = site.folder / f"{name}-{id(self)}.log"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        limit = ["sh", "-c", f'ulimit -n {site.most_files}; exec "$@"', "sh"] if site.most_files else []
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*limit, sys.executable, "-m", "deliverypools", name, "--config", str(site.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=site.folder,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def workers(self) -> list[int]:
        return children(self.process.pid)

    def wait_until_ready(self) -> "Daemon":
        wait_until(self._answers, timeout_seconds=READY_SECONDS, what=f"{self.socket_path} answers")
        self.wait_for_log(": serving ")
        return self

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, timeout_seconds=READY_SECONDS, what=f"{text!r} in the log")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(READY_SECONDS)

    def end(self) -> None:
        """End it, whatever it is doing, and whatever it has started."""
        workers = self.workers if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for pid in workers:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self.socket_path)
            except OSError:
                return False
        return True
