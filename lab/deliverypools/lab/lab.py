"""A mail world in one object: our Postfix with Delivery Pools, clients on one side of it, receivers on the other."""

import atexit
import contextlib
import os
import re
import shutil
import signal
import smtplib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from mailbox import MaildirMessage
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deliverypools.adapters.fast_path import read_proof, write_proof
from deliverypools.adapters.fast_path_proof import prove
from deliverypools.adapters.settings_file import load_settings
from deliverypools.core.fast_path import Proof
from deliverypools.lab import world
from deliverypools.lab.daemons import Daemon
from deliverypools.lab.dns_server import DnsServer
from deliverypools.lab.dovecot import make_dovecot
from deliverypools.lab.namespace import Network
from deliverypools.lab.packages import require_system
from deliverypools.lab.postfix import Postfix
from deliverypools.lab.receiver import ReceivedMessage, Receiver
from deliverypools.lab.settings_file import (
    SRS_FILE,
    TICKET_FILE,
    lab_settings,
    merged,
    render_toml,
    write_key_file,
    write_srs_secret_file,
)
from deliverypools.lab.site import HOP, NO_PROFILE, Site

OUTSIDE_CLIENT = "203.0.113.1"
TRUSTED_CLIENT = "127.0.0.1"
_MOST_SHOWN = 20_000
FAST_PATH_VARIABLE = "DELIVERY_POOLS_LAB_FAST_PATH"
"""`off` in the environment: all mail of labs takes the hop, until a test proves the fast path itself."""
SMTP_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """What our Postfix answered to one message."""

    code: int
    """Of the last command that was sent: 250 when the message was accepted."""
    text: str
    refused: Mapping[str, tuple[int, str]]
    """Recipients that were not accepted."""

    @property
    def accepted(self) -> bool:
        """Whether Postfix took the message, for at least one recipient."""
        return self.code == 250  # noqa: PLR2004 -- the SMTP reply code

    @property
    def queue_id(self) -> str | None:
        """Postfix's queue id of the first pass."""
        found = re.search(r"queued as (\S+)", self.text)
        return found[1] if found else None


class Lab:
    """Use it as a context manager. Every lab has its own directory, network, and processes; several may exist at once.

    Methods take documentation addresses; what the receiver saw is compared with `address(...)` of them, or by
    `pool_of`.
    """

    def __init__(
        self,
        profile: str = "hop",
        *,
        site: Site | None = None,
        settings: Mapping[str, Any] | None = None,
        zones: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
        milter_command: Sequence[str] | None = None,
        policy_command: Sequence[str] | None = None,
        isolate: bool = True,
        keep: bool = False,
    ) -> None:
        """Describe a lab; `start`, or entering the context, makes it.

        Args:
            profile: which of postfix-examples is loaded: "hop" or "express"; "none": the settings are those of the
                hop, and Postfix is the site's own.
            site: what our server had before, its users, aliases and forwards.
            settings: laid over the lab's settings file; nested tables; None removes a key.
            zones: further DNS data (see `DnsServer`), by name.
            milter_command: another program than ours; "{config}" stands for the settings file; () for none at all.
            policy_command: likewise.
            isolate: make a network namespace where possible.
            keep: leave the directory behind at the end.

        """
        ours = [sys.executable, "-m", "deliverypools"]
        self._commands = {
            "milter": [*ours, "milter", "--config", "{config}"] if milter_command is None else milter_command,
            "policy": [*ours, "policy", "--config", "{config}"] if policy_command is None else policy_command,
        }
        self.profile = profile
        self.keep = keep
        self._site = site or Site()
        self._settings = settings or {}
        self._zones = world.default_zones() | dict(zones or {})
        self._isolate = isolate
        self._cleanup = contextlib.ExitStack()
        self.daemons: dict[str, Daemon] = {}

    # ---- life

    def start(self) -> Self:
        """Start everything and return when all of it answers.

        Raises:
            LabUnavailableError: this machine cannot run it.
            RuntimeError: something ended at once; the message holds its log.

        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        atexit.register(self.stop)
        self._cleanup.callback(atexit.unregister, self.stop)
        require_system(dovecot=bool(self._site.sieve))
        self.directory = Path(tempfile.mkdtemp(prefix="delivery-pools-lab-"))
        self.directory.chmod(0o755)  # Postfix's processes of other users pass through it
        if not self.keep:
            self._cleanup.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.network = Network(isolate=self._isolate)
        self._cleanup.callback(self.network.close)
        nameserver = self.address(world.NAMESERVER)
        self.dns = DnsServer(world.substituted(self._zones, self.address))
        for (name, rtype), failure in world.default_failures().items():
            self.dns.fail(name, failure, rtype)
        self.receiver = Receiver()
        with self.network.inside():
            self.dns.start(nameserver)
            self._cleanup.callback(self.dns.stop)
            addresses6 = world.RECEIVER_ADDRESSES6 if self.network.has_ipv6 else ()
            self.receiver.start([*map(self.address, world.RECEIVER_ADDRESSES), *addresses6])
            self._cleanup.callback(self.receiver.stop)
        self.postfix = Postfix(
            self.directory, self.network, profile=self.profile, site=self._site, nameserver=nameserver
        )
        self._write_settings(nameserver)
        for name in ("policy", "milter"):
            if self._commands[name]:
                self._start_daemon(self._our_daemon(name))
        if self._site.sieve:
            self._start_daemon(make_dovecot(self.directory / "dovecot", self.network, self.postfix))
        self._cleanup.callback(self.postfix.stop)
        with self.network.inside():
            self.postfix.start()
        if self.profile == HOP and os.environ.get(FAST_PATH_VARIABLE) != "off":
            self.prove_fast_path()

    def prove_fast_path(self) -> Proof:
        """Look whether mail may skip the hop, and keep what was found, as `delivery-pools check` does."""
        settings = load_settings(self.settings_file)
        directory = str(self.postfix.config_directory)
        with self.network.inside():
            proof = prove(
                settings, directory, previous=read_proof(settings), may_vouch_for_reload=True, clock=time.time
            )
        write_proof(settings, proof)
        return proof

    def _write_settings(self, nameserver: str) -> None:
        self.settings_file = self.directory / "delivery-pools.toml"
        write_key_file(self.directory / TICKET_FILE)
        write_srs_secret_file(self.directory / SRS_FILE)
        self._own_settings = lab_settings(
            directory=self.directory,
            queue_directory=self.postfix.queue_directory,
            profile="hop" if self.profile == NO_PROFILE else self.profile,
            nameserver=nameserver,
            isolated=self.network.isolated,
        )
        self.write_settings(self._settings)

    def write_settings(self, overrides: Mapping[str, Any]) -> None:
        """Write the settings file again, `overrides` laid over the lab's own; daemons read it on SIGHUP or restart."""
        self.settings_file.write_text(self.address(render_toml(merged(self._own_settings, overrides))))

    def _our_daemon(self, name: str) -> Daemon:
        return Daemon(
            name,
            [part.replace("{config}", str(self.settings_file)) for part in self._commands[name]],
            socket_path=self.postfix.queue_directory / "delivery-pools" / f"{name}.sock",
            log_file=self.directory / "log" / f"{name}.log",
            network=self.network,
            # Alerts go through the lab's Postfix, not through the machine's.
            environment={"MAIL_CONFIG": str(self.postfix.config_directory)},
        )

    def _start_daemon(self, daemon: Daemon) -> None:
        self.daemons[daemon.name] = daemon
        self._cleanup.callback(daemon.stop)
        daemon.start()

    def stop(self) -> None:
        """End everything that `start` started, last first; also after a failure, and more than once."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- the milter and the policy service

    @property
    def milter(self) -> Daemon:
        """The milter's process."""
        return self.daemons["milter"]

    @property
    def policy(self) -> Daemon:
        """The policy service's process."""
        return self.daemons["policy"]

    def restart_milter(self) -> None:
        """Stop the milter if it runs, and start it."""
        self.milter.stop()
        self.milter.start()

    def kill_milter(self) -> None:
        """Kill the milter and its workers with SIGKILL."""
        self.milter.kill()

    def kill_milter_worker(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to one worker of the milter and return its process id."""
        pid = self.milter.workers[0]
        os.kill(pid, number)
        return pid

    # ---- DNS

    def stop_dns(self) -> None:
        """Take the DNS server down; `start_dns` ends it."""
        self.dns.stop()

    def start_dns(self) -> None:
        """Let the DNS server come back where it was, with its data and failures."""
        with self.network.inside():
            self.dns.start(self.address(world.NAMESERVER))

    # ---- sending

    def address(self, text: str) -> str:
        """Return the address that stands for a documentation address in this lab: itself, in a namespace."""
        return self.network.substitute(text)

    @contextlib.contextmanager
    def session(
        self,
        *,
        client_address: str | None = None,
        port: int = 25,
        auth: tuple[str, str] | None = None,
        helo: str = "client.example",
    ) -> Iterator[smtplib.SMTP]:
        """Open an SMTP session with our Postfix, for tests that need several messages on it, or odd commands.

        Args:
            client_address: where the client is; OUTSIDE_CLIENT unless given; TRUSTED_CLIENT is in mynetworks.
            port: 25 or 587 (submission).
            auth: SASL login and password.
            helo: name in EHLO.

        """
        source = self.address(client_address or OUTSIDE_CLIENT)
        host = "2001:db8::1" if ":" in source else self.postfix.host
        with self.network.inside():
            smtp = smtplib.SMTP(
                host, port, local_hostname=helo, timeout=SMTP_TIMEOUT_SECONDS, source_address=(source, 0)
            )
        with smtp:
            smtp.ehlo()
            if auth is not None:
                smtp.login(*auth)
            yield smtp

    def send(
        self,
        sender: str,
        recipients: str | Iterable[str],
        message: bytes,
        *,
        client_address: str | None = None,
        port: int = 25,
        auth: tuple[str, str] | None = None,
        helo: str = "client.example",
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
        smtputf8: bool = False,
    ) -> SendResult:
        """Send one message to our Postfix over SMTP.

        `sender` "" is the null reverse-path. `client_address` is OUTSIDE_CLIENT unless given; TRUSTED_CLIENT is in
        mynetworks.
        """
        with self.session(client_address=client_address, port=port, auth=auth, helo=helo) as smtp:
            return transaction(
                smtp,
                sender,
                recipients,
                message,
                mail_options=mail_options,
                rcpt_options=rcpt_options,
                smtputf8=smtputf8,
            )

    def sendmail(
        self,
        sender: str | None,
        recipients: str | Iterable[str],
        message: bytes,
        *,
        user: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Hand a message to the sendmail command as a user of this machine; see `Postfix.sendmail`."""
        self.postfix.sendmail(sender, _listed(recipients), message, user=user, options=options)

    # ---- what became of it

    @property
    def messages(self) -> list[ReceivedMessage]:
        """What arrived at the receiving servers, oldest first."""
        return self.receiver.messages

    def wait_for(
        self,
        wanted: Callable[[ReceivedMessage], bool],
        *,
        count: int = 1,
        timeout_seconds: float = 20,
    ) -> list[ReceivedMessage]:
        """Return the messages that arrived at the receiving servers and are wanted, as soon as there are `count`."""
        return self.receiver.wait_for(wanted, count=count, timeout_seconds=timeout_seconds)

    def pool_of(self, message: ReceivedMessage) -> str:
        """Return the pool whose address a received message came from, or the address itself where it is no pool's."""
        for pool, settings in self._own_settings["pools"].items():
            if message.source_address in map(self.address, settings["addresses"]):
                return str(pool)
        return message.source_address

    def mailbox(self, name: str) -> list[MaildirMessage]:
        """Return what was delivered to a local mailbox of ours."""
        return self.postfix.mailbox(name)

    def wait_until_queue_is_empty(self, timeout_seconds: float = 20) -> None:
        """Return when our Postfix holds no mail any more."""
        self.postfix.wait_until_queue_is_empty(timeout_seconds)

    def logs(self) -> str:
        """Return the end of each log, for a failure report; the settings, which each daemon says, are left out."""
        logs = {"postfix": self.postfix.log(), **{name: daemon.log() for name, daemon in self.daemons.items()}}
        texts = {name: re.sub(r".* setting: .*\n", "", text)[-_MOST_SHOWN:] for name, text in logs.items()}
        return "\n".join(f"==== {name}\n{text}" for name, text in texts.items())


def transaction(
    smtp: smtplib.SMTP,
    sender: str,
    recipients: str | Iterable[str],
    message: bytes,
    *,
    mail_options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
    smtputf8: bool = False,
) -> SendResult:
    """Send one message in an open session; after a refusal the session is ready for the next one."""
    options = [*mail_options, *(["SMTPUTF8", "BODY=8BITMIME"] if smtputf8 else [])]
    if smtputf8:
        smtp.command_encoding = "utf-8"
    code, text = smtp.mail(sender, options)
    refused: dict[str, tuple[int, str]] = {}
    wanted = list(_listed(recipients))
    if code == 250:  # noqa: PLR2004 -- SMTP reply codes
        for recipient in wanted:
            reply_code, reply_text = smtp.rcpt(recipient, list(rcpt_options))
            if reply_code not in (250, 251):
                refused[recipient] = reply_code, reply_text.decode(errors="replace")
                code, text = reply_code, reply_text
        if len(refused) < len(wanted):
            code, text = smtp.data(message)
    if code != 250:  # noqa: PLR2004
        smtp.rset()
    return SendResult(code=code, text=text.decode(errors="replace"), refused=refused)


def _listed(recipients: str | Iterable[str]) -> Iterable[str]:
    return [recipients] if isinstance(recipients, str) else recipients
