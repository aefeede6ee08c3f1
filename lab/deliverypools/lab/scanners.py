"""Debian's rspamd, spamd and clamd on loopback, each configured for itself; the machine's own are left alone.

They need no root and no Internet: rspamd asks the name server that it is given or none, spamd makes local tests only,
and clamd's database is one signature. Each is a context manager that starts it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from deliverypools.lab.daemons import Daemon
from deliverypools.lab.namespace import LabUnavailableError, Network

GTUBE: Final = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""A line of text that every spam scanner calls spam."""
EICAR: Final = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*"
"""What every virus scanner finds; in two parts, so that none finds this file."""
SIGNATURE: Final = "Lab.Test.EICAR.UNOFFICIAL"
"""What the lab's clamd calls it."""

_HOST: Final = "127.0.0.1"
_PING_TIMEOUT_SECONDS: Final = 2
_UNPRIVILEGED_USER: Final = "nobody"
_SOCKET: Final = "socket"


class ScannerServer(Daemon, ABC):
    """One scanner in a folder of its own. It may be stopped, and started again where it was."""

    package: ClassVar[str]
    """Debian's package that has it."""
    program: ClassVar[Path]

    def __init__(self, network: Network | None) -> None:
        """Write its configuration; `start`, or entering the context, starts it.

        Raises:
            LabUnavailableError: it is not installed.

        """
        if not self.program.exists():
            raise LabUnavailableError(f"packages are missing: {self.package}")
        self._network = network
        self._temporary = tempfile.TemporaryDirectory(prefix=f"delivery-pools-{self.program.name}-")
        self.folder = Path(self._temporary.name)
        self.folder.chmod(0o755)  # spamd's children run as another user
        self.port = self._free_port()
        super().__init__(
            self.program.name,
            [str(self.program), *self._options()],
            socket_path=self.folder / _SOCKET,
            log_file=self.folder / "log",
            network=network,
        )

    @abstractmethod
    def _options(self) -> list[str]:
        """Write the configuration below `folder` and return the options by which it is read."""

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT."""
        return f"{_HOST}:{self.port}"

    def pause(self) -> None:
        """Let it hang, with all its children: connections to it are opened, by the kernel, and nothing is answered."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        os.killpg(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its folder, log included."""
        self.stop()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def is_answering(self) -> bool:
        """Tell whether it answers a ping."""
        try:
            with self.inside():
                return self._ping()
        except (OSError, http.client.HTTPException):
            return False

    @abstractmethod
    def _ping(self) -> bool:
        """Tell whether it answers a ping as it should.

        Raises:
            OSError: it does not listen, or says nothing.
            http.client.HTTPException: it answered something else.

        """

    def _asked(self, question: bytes, longest_answer: int = 100) -> bytes:
        with socket.create_connection((_HOST, self.port), _PING_TIMEOUT_SECONDS) as connection:
            connection.sendall(question)
            return connection.recv(longest_answer)

    def _free_port(self) -> int:
        """Return a port that is free in its network."""
        with self.inside(), socket.socket() as probe:
            probe.bind((_HOST, 0))
            port: int = probe.getsockname()[1]
            return port

    def _end(self, number: signal.Signals) -> None:
        with contextlib.suppress(RuntimeError):
            self.resume()  # what is stopped does not hear SIGTERM
        super()._end(number)


# ---- rspamd

_RSPAMD: Final = """\
.include "$CONFDIR/common.conf"
options {
  .include "$CONFDIR/options.inc"
  .include(priority=10) "$LOCAL_CONFDIR/override.d/options.inc"
}
logging {
  .include "$CONFDIR/logging.inc"
  type = "console";
}
worker "normal" {
  .include "$CONFDIR/worker-normal.inc"
  bind_socket = "%(address)s";
  count = %(workers)d;
}
"""
_RSPAMD_AS_MILTER: Final = """\
worker "rspamd_proxy" {
  bind_socket = "%(milter_address)s";
  milter = yes;
  timeout = 120s;
  count = %(workers)d;
  upstream "local" {
    default = yes;
    self_scan = yes;
  }
}
"""
_RSPAMD_OPTIONS: Final = """\
dns {
  nameserver = ["%(nameserver)s"];
  timeout = 0.2s;
  retransmits = 1;
}
control_socket = "%(folder)s/socket mode=0600";
url_tld = "%(folder)s/suffixes";
disable_monitoring = true;
"""
_NO_NAMESERVER: Final = f"{_HOST}:1"
"""Nothing listens there: a look-up fails at once."""
_WITH_THE_INTERNET: Final = (
    *("asn", "fuzzy_check", "mid", "mime_types", "multimap", "mx_check", "phishing", "rbl", "rspamd_update"),
    *("url_redirector", "whitelist"),
)
"""Modules that ask lists in the DNS, or fetch maps over HTTP."""
_SUFFIXES: Final = ("com", "net", "org", "edu", "gov", "info", "biz", "de", "uk", "co.uk", "example", "test", "invalid")
"""Of the whole list of public suffixes, rspamd makes a table for ten seconds whenever it starts."""


class RspamdServer(ScannerServer):
    """rspamd's normal worker, with Debian's rules and scores, but those that need the Internet or a Redis."""

    package = "rspamd"
    program = Path("/usr/bin/rspamd")

    def __init__(
        self,
        *,
        nameserver: str = _NO_NAMESERVER,
        overrides: Mapping[str, str] | None = None,
        workers: int = 1,
        is_milter: bool = False,
        network: Network | None = None,
    ) -> None:
        """Describe it.

        Args:
            nameserver: ADDRESS or ADDRESS:PORT; none unless given.
            overrides: files of override.d, by name: {"actions.conf": "add_header = 4;"}.
            workers: processes that scan.
            is_milter: whether there is also a proxy that is a milter, and scans by itself, on `milter_address`.
            network: where it listens and asks; this machine's unless given.

        """
        self._nameserver = nameserver
        self._overrides = overrides or {}
        self._workers = workers
        self._is_milter = is_milter
        super().__init__(network)

    @property
    def url(self) -> str:
        """Where the normal worker listens."""
        return f"http://{self.address}"

    def _options(self) -> list[str]:
        # Two ports that were free one after the other might be one.
        self.milter_port = self._free_port() if self._is_milter else 0
        while self.milter_port == self.port:
            self.milter_port = self._free_port()
        values = {
            "address": self.address,
            "milter_address": f"{_HOST}:{self.milter_port}",
            "workers": self._workers,
            "nameserver": self._nameserver,
            "folder": self.folder,
        }
        configuration = self.folder / "rspamd.conf"
        configuration.write_text((_RSPAMD + (_RSPAMD_AS_MILTER if self._is_milter else "")) % values)
        (self.folder / "suffixes").write_text("".join(f"{suffix}\n" for suffix in _SUFFIXES))
        overrides = {f"{module}.conf": "enabled = false;\n" for module in _WITH_THE_INTERNET}
        for name, text in (overrides | {"options.inc": _RSPAMD_OPTIONS % values} | dict(self._overrides)).items():
            file = self.folder / "override.d" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        folders = {"LOCAL_CONFDIR": self.folder, "DBDIR": self.folder, "RUNDIR": self.folder, "LOGDIR": self.folder}
        variables = [f"--var={name}={folder}" for name, folder in folders.items()]
        # As root it would refuse to run without a user of its own, which cannot read our folders.
        as_root = ["--insecure"] if os.geteuid() == 0 else []
        return ["--no-fork", *as_root, f"--config={configuration}", *variables]

    def _ping(self) -> bool:
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=_PING_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/ping")
            return connection.getresponse().read(100).startswith(b"pong")


# ---- SpamAssassin

_RULES: Final = Path("/usr/share/spamassassin")
_PLUGINS: Final = (
    *("BodyEval", "Check", "DNSEval", "FreeMail", "HTMLEval", "HTTPSMismatch", "HeaderEval", "ImageInfo", "MIMEEval"),
    *("MIMEHeader", "RelayEval", "ReplaceTags", "URIDetail", "URIEval", "VBounce", "WLBLEval", "WelcomeListSubject"),
)
"""Those of Debian's that need neither the network nor a database."""


class SpamdServer(ScannerServer):
    """SpamAssassin's spamd with Debian's rules: local tests only, no preferences of users, no Bayes."""

    package = "spamd"
    program = Path("/usr/sbin/spamd")

    def __init__(self, *, local_cf: Sequence[str] = (), max_children: int = 4, network: Network | None = None) -> None:
        """Describe it.

        Args:
            local_cf: lines of local.cf: ["required_score 4"].
            max_children: how many messages it scans at once; further ones wait.
            network: where it listens; this machine's unless given.

        """
        self._local_cf = local_cf
        self._max_children = max_children
        super().__init__(network)

    @property
    def unix_address(self) -> str:
        """Where it listens as well, as unix:/path."""
        return f"unix:{self.folder / _SOCKET}"

    def _options(self) -> list[str]:
        site = self.folder / "site"
        site.mkdir()
        plugins = [f"loadplugin Mail::SpamAssassin::Plugin::{name}" for name in _PLUGINS]
        (site / "init.pre").write_text("\n".join(["enable_compat welcomelist_blocklist", *plugins, ""]))
        (site / "local.cf").write_text("\n".join([*self._local_cf, ""]))
        as_root = [f"--username={_UNPRIVILEGED_USER}"] if os.geteuid() == 0 else []
        return [
            *("--local", "--nouser-config", f"--configpath={_RULES}", f"--siteconfigpath={site}", *as_root),
            *(f"--listen={self.address}", f"--listen={self.folder / _SOCKET}"),
            *(f"--max-children={self._max_children}", f"--min-children={self._max_children}"),
            *(f"--max-spare={self._max_children}", f"--helper-home-dir={self.folder}", "--syslog=stderr"),
        ]

    def _ping(self) -> bool:
        return b"PONG" in self._asked(b"PING SPAMC/1.5\r\n\r\n")


# ---- ClamAV

_CLAMD: Final = """\
Foreground yes
LogTime yes
LogClean yes
Bytecode no
LocalSocket {folder}/socket
TCPAddr {host}
TCPSocket {port}
DatabaseDirectory {folder}/database
TemporaryDirectory {folder}
MaxThreads {threads}
StreamMaxLength {stream_max_length}
"""


class ClamdServer(ScannerServer):
    """clamd, whose whole database is a signature of EICAR."""

    package = "clamav-daemon"
    program = Path("/usr/sbin/clamd")

    def __init__(self, *, threads: int = 4, stream_max_length: str = "25M", network: Network | None = None) -> None:
        """Describe it.

        Args:
            threads: how many messages it scans at once (MaxThreads).
            stream_max_length: the size up to which it takes a message, in clamd's form.
            network: where it listens; this machine's unless given.

        """
        self._threads = threads
        self._stream_max_length = stream_max_length
        super().__init__(network)

    @property
    def unix_address(self) -> str:
        """Where it listens as well, as unix:/path."""
        return f"unix:{self.folder / _SOCKET}"

    def _options(self) -> list[str]:
        database = self.folder / "database"
        database.mkdir()
        # A signature in the form NAME:TARGET:OFFSET:HEX, for any file, anywhere in it.
        name = SIGNATURE.removesuffix(".UNOFFICIAL")
        (database / "lab.ndb").write_text(f"{name}:0:*:{EICAR.encode().hex()}\n")
        configuration = self.folder / "clamd.conf"
        configuration.write_text(
            _CLAMD.format(
                folder=self.folder,
                host=_HOST,
                port=self.port,
                threads=self._threads,
                stream_max_length=self._stream_max_length,
            )
        )
        return [f"--config-file={configuration}"]

    def _ping(self) -> bool:
        return self._asked(b"zPING\0").startswith(b"PONG")
