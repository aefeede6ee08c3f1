"""A private Postfix instance: everything of it in one directory, nothing shared with the machine's own."""

import contextlib
import grp
import json
import mailbox
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deliverypools.adapters.postfix_examples import load_example
from deliverypools.core.postfix_install.examples import (
    Example,
    parse_main,
    parse_master,
    render_main,
    render_master,
)
from deliverypools.lab.namespace import Network
from deliverypools.lab.passed_over import PassedOver
from deliverypools.lab.processes import children_named
from deliverypools.lab.site import (
    DOVECOT_SOCKET,
    HOP,
    MASTER_CF,
    MASTER_CHANGES,
    NO_PROFILE,
    SITE_MAIN,
    Site,
    with_fast_doors,
)
from deliverypools.lab.waiting import wait_until

__all__ = ["Postfix", "Site"]

_PORTS = (25, 587)
_TICK_SECONDS = 0.05
"""More than the clock by which files get their times goes on at once."""
_QUEUES = ("maildrop", "hold", "incoming", "active", "deferred")
_TAKING = ("smtpd", "cleanup", "trivial-rewrite", "proxymap")
"""What takes mail or rewrites addresses, and may be busy for as long as a session is open."""
_QUEUEING = ("qmgr", "pickup")
_PRIVATE_DIRECTORIES = (
    "active",
    "bounce",
    "corrupt",
    "defer",
    "deferred",
    "flush",
    "hold",
    "incoming",
    "private",
    "saved",
    "trace",
)
_CHROOT_FILES = ("hosts", "services", "host.conf", "localtime")


class Postfix:
    """One instance below `directory`; start it inside `network`."""

    def __init__(self, directory: Path, network: Network, *, profile: str, site: Site, nameserver: str) -> None:
        """Write its whole configuration. `nameserver` is an IP address; its port is 53."""
        self.network = network
        self.profile = profile
        self.site = site
        self.host = network.substitute("192.0.2.1")
        self.ports = _PORTS
        """Where it takes mail; who gives it others in master.cf names them here."""
        self.config_directory = directory / "etc"
        self.queue_directory = directory / "queue"
        self.data_directory = directory / "data"
        self.mail_directory = directory / "mail"
        self.forward_directory = directory / "forward"
        # Where Debian's smtpd looks, whatever cyrus_sasl_config_path says.
        self.sasl_directory = self.config_directory / "sasl"
        self.log_file = directory / "log" / "mail.log"
        self._master: subprocess.Popen[bytes] | None = None
        self._passed_over: PassedOver | None = None
        self._make_directories()
        self._write_chroot(nameserver)
        self._write_users()
        self._write_configuration()

    # ---- configuration

    def _make_directories(self) -> None:
        postfix, postdrop = pwd.getpwnam("postfix"), grp.getgrnam("postdrop")
        for path in (
            self.config_directory,
            self.queue_directory,
            self.forward_directory,
            self.sasl_directory,
            self.log_file.parent,
            self.queue_directory / "pid",
            self.queue_directory / "etc",
        ):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in (self.data_directory, *(self.queue_directory / name for name in _PRIVATE_DIRECTORIES)):
            path.mkdir(mode=0o700)
            os.chown(path, postfix.pw_uid, -1)
        for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            path = self.queue_directory / name
            path.mkdir()
            os.chown(path, postfix.pw_uid, postdrop.gr_gid)
            path.chmod(mode)
        sockets = self.queue_directory / "delivery-pools"
        sockets.mkdir()
        os.chown(sockets, 0, postfix.pw_gid)
        sockets.chmod(0o750)

    def _write_chroot(self, nameserver: str) -> None:
        etc = self.queue_directory / "etc"
        for name in _CHROOT_FILES:
            if (source := Path("/etc") / name).is_file():
                shutil.copy(source, etc / name)
        (etc / "nsswitch.conf").write_text("hosts: files dns\nservices: files\n")
        (etc / "resolv.conf").write_text(f"nameserver {nameserver}\noptions timeout:1 attempts:2\n")

    def _write_users(self) -> None:
        """Make mailboxes, forwards and SASL logins."""
        nobody = pwd.getpwnam("nobody")
        self.mail_directory.mkdir(mode=0o755)
        for name in (*self.site.mailboxes, *self.site.sieve):
            path = self.mail_directory / name
            path.mkdir(mode=0o700)
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        spool = self.mail_directory / "spool"
        spool.mkdir()
        spool.chmod(0o1777)
        for user, destinations in self.site.forwards.items():
            path = self.forward_directory / user
            path.write_text(destinations + "\n")
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
        database = self.sasl_directory / "sasldb2"
        for login, password in self.site.users.items():
            user, _, realm = login.partition("@")
            subprocess.run(
                ["saslpasswd2", "-p", "-c", "-f", str(database), "-u", realm, user],
                input=password.encode(),
                check=True,
                capture_output=True,
            )
        (self.sasl_directory / "smtpd.conf").write_text(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nlog_level: 0\n"
            f"sasldb_path: {database}\n"
        )
        if self.site.users:
            # smtpd looks for it both before and after it enters the chroot.
            inside = self.queue_directory / database.relative_to("/")
            inside.parent.mkdir(parents=True)
            for path in (database, Path(shutil.copy(database, inside))):
                os.chown(path, 0, pwd.getpwnam("postfix").pw_gid)
                path.chmod(0o640)

    def _write_configuration(self) -> None:
        # A site without ours is what `postfix install` is tried on.
        is_ours = self.profile != NO_PROFILE
        example = load_example(self.profile, self.network.substitute) if is_ours else Example({}, {}, {})
        adapt = self._expand
        main = parse_main(self._site_main()) | adapt(self.site.main) | dict(example.main) | adapt(self.site.adapted)
        _write_settled(self.config_directory / "main.cf", render_main(main))
        substitute = self.network.substitute
        master = (
            parse_master(MASTER_CF.read_text())
            | parse_master(MASTER_CHANGES)
            | parse_master(substitute(self.site.master))
            | dict(example.master)
            | parse_master(substitute(self.site.adapted_master))
        )
        if self.profile == HOP:
            master = with_fast_doors(master, main.get("milter_macro_defaults", ""))
        if not self.network.isolated:
            # The machine's own Postfix may have the other addresses, and inet_interfaces must name one that `ip` shows.
            master = {
                key: f"{self.host}:{entry}" if key[1] == "inet" and ":" not in key[0] else entry
                for key, entry in master.items()
            }
        _write_settled(self.config_directory / "master.cf", render_master(master))
        maps = self.config_directory / "delivery-pools"
        if example.maps:
            maps.mkdir()
        for name, text in example.maps.items():
            _write_settled(maps / name, text)
        mailboxes = {name: f"{self.mail_directory}/{name}/" for name in self.site.mailboxes}
        self.write_map("aliases", {"mailer-daemon": "postmaster"} | mailboxes | dict(self.site.aliases))
        self.write_map("virtual", self.site.virtual)
        self.write_map("dovecot", dict.fromkeys(self.site.sieve, f"lmtp:unix:{DOVECOT_SOCKET}"))
        for name, text in self.site.files.items():
            _write_settled(self.config_directory / name, substitute(text))

    def _expand(self, parameters: Mapping[str, str]) -> dict[str, str]:
        return {
            name: self.network.substitute(value).replace("{config}", str(self.config_directory))
            for name, value in parameters.items()
        }

    def _site_main(self) -> str:
        protocols, interfaces = "ipv4", "127.0.0.1"
        if self.network.isolated:
            interfaces = f"127.0.0.1, {self.host}"
        if self.network.has_ipv6:
            protocols, interfaces = "all", f"{interfaces}, 2001:db8::1"
        return f"""
{SITE_MAIN}
queue_directory = {self.queue_directory}
data_directory = {self.data_directory}
maillog_file = {self.log_file}
maillog_file_prefixes = /var, /dev/stdout, {self.log_file.parent}
inet_interfaces = {interfaces}
inet_protocols = {protocols}
mynetworks = {"127.0.0.0/8 [::1]/128" if self.network.isolated else "127.0.0.0/16"}
smtp_bind_address = {self.host}
smtp_bind_address6 = {"2001:db8::1" if self.network.has_ipv6 else ""}
cyrus_sasl_config_path = {self.sasl_directory}
alias_maps = texthash:{self.config_directory}/aliases
virtual_alias_maps = texthash:{self.config_directory}/virtual
mailbox_transport_maps = texthash:{self.config_directory}/dovecot
local_recipient_maps = proxy:unix:passwd.byname $alias_maps $mailbox_transport_maps
mail_spool_directory = {self.mail_directory}/spool/
forward_path = {self.forward_directory}/$user
"""

    def write_map(self, name: str, entries: Mapping[str, str]) -> None:
        """Write a texthash map in the configuration directory; `reload` makes Postfix read it."""
        text = "".join(f"{key} {value}\n" for key, value in entries.items())
        _write_settled(self.config_directory / name, text)

    # ---- processes

    def start(self) -> None:
        """Start, and return when it answers on port 25.

        Raises:
            RuntimeError: it ended at once; the message holds its log.

        """
        self._master = subprocess.Popen(
            [str(Path(self.postconf("-h", "daemon_directory").strip()) / "master"), "-c", str(self.config_directory)],
            env=self._environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._passed_over = PassedOver(self.queue_directory / "incoming")
        with self.network.inside():
            wait_until(self._answers, timeout_seconds=20, what=f"Postfix on ports {self.ports}")

    def _answers(self) -> bool:
        if self._master is not None and self._master.poll() is not None:
            # master(8) can say why only through a log service that it has not started yet.
            raise RuntimeError(
                f"Postfix ended at once (is one of its ports taken?): {self.run('postfix', 'check')} "
                f"{self.log()[-2000:]}"
            )
        try:
            # master(8) opens its ports one after the other, in the order of master.cf.
            for port in self.ports:
                socket.create_connection((self.host, port), 1).close()
        except OSError:
            return False
        return True

    def _refuses(self) -> bool:
        for port in self.ports:
            with contextlib.suppress(OSError), socket.create_connection((self.host, port), 1):
                return False
        return True

    def stop(self) -> None:
        """End this instance and every process of it; return when nothing answers on its ports."""
        if self._master is None:
            return
        if self._passed_over is not None:
            self._passed_over.stop()
        if self._master.poll() is None:
            self._master.terminate()
            try:
                self._master.wait(5)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._master.pid, signal.SIGKILL)  # master's process group: what it started and left behind
        self._master = None
        # A process that is killed holds its port until it is gone: a client would be taken, and never answered.
        with self.network.inside():
            wait_until(self._refuses, timeout_seconds=10, what=f"Postfix to leave ports {self.ports}")

    def reload(self) -> None:
        """Let Postfix read its configuration and maps again; return when new mail is taken by it."""
        if self._master is None:
            return
        # What was started in the same tick as the file was written seems to be of before.
        files = [self.config_directory / name for name in ("main.cf", "master.cf")]
        written = max(found.st_ctime for file in files for found in (file.stat(), file.lstat()))
        wait_until(lambda: time.time() > written + _TICK_SECONDS, timeout_seconds=10, what="the next tick")
        reloads = self.log().count(": reload -- ")
        old, old_queue = self.processes(_TAKING), self.processes(_QUEUEING)
        self._master.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log().count(": reload -- ") > reloads, timeout_seconds=10, what="reload")
        wait_until(
            lambda: not old_queue & self.processes(_QUEUEING), timeout_seconds=20, what="end of qmgr(8) and pickup(8)"
        )
        # An idle process of before may take one more connection; one with an open session stays.
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not old & self.processes(_TAKING), timeout_seconds=3, what="end of the old processes")

    def processes(self, names: Collection[str] = _TAKING) -> set[int]:
        """Return the ids of the children of master(8) with these names; by default, of what takes mail."""
        return set() if self._master is None else children_named(self._master.pid, names)

    def run(self, command: str, *arguments: str) -> str:
        """Run one of Postfix's commands on this instance and return what it printed.

        Raises:
            RuntimeError: it failed; the message holds what it said.

        """
        with self.network.inside():  # every command looks for the addresses of inet_interfaces
            result = subprocess.run(
                [command, "-c", str(self.config_directory), *arguments],
                env=self._environment(),
                text=True,
                capture_output=True,
                check=False,
            )
        if result.returncode != 0:
            raise RuntimeError(
                f"{command} {' '.join(arguments)}: exit {result.returncode}: {result.stdout}{result.stderr}"
            )
        return result.stdout

    def postconf(self, *arguments: str) -> str:
        """Ask for, or with "-e" change, parameters (postconf)."""
        return self.run("postconf", *arguments)

    def set_main(self, parameters: Mapping[str, str]) -> None:
        """Change main.cf, as `postconf -e`, and reload."""
        self.postconf("-e", *(f"{name}={value}" for name, value in self._expand(parameters).items()))
        _settle(self.config_directory / "main.cf")
        self.reload()

    def postsuper(self, *arguments: str) -> str:
        """Change the queue (postsuper)."""
        return self.run("postsuper", *arguments)

    def requeue(self, queue_id: str = "ALL") -> None:
        """Requeue (`postsuper -r`), and let pickup see the result at once, not after its next wake-up."""
        self.postsuper("-r", queue_id)
        self.flush()

    def flush(self) -> None:
        """Try all deferred mail now (`postqueue -f`)."""
        self.run("postqueue", "-f")

    def queue(self) -> list[dict[str, Any]]:
        """Return the queue (`postqueue -j`): queue_name, queue_id, sender, recipients (address, delay_reason)."""
        # Twice: a message that goes from deferred to active meanwhile is in neither.
        lines = (line for _ in range(2) for line in self.run("postqueue", "-j").splitlines())
        return list({entry["queue_id"]: entry for entry in map(json.loads, lines)}.values())

    def queue_size(self) -> int:
        """Return how many messages are in any queue; cheaper than `queue`."""
        return sum(len(files) for name in _QUEUES for _, _, files in os.walk(self.queue_directory / name))

    def wait_until_queue_is_empty(self, timeout_seconds: float = 20) -> None:
        """Return when no message is left.

        Raises:
            TimeoutError: some are; the message lists them.

        """
        seen_empty = 0

        def settled() -> bool:
            # A message between two queues can be missed by one look.
            nonlocal seen_empty
            seen_empty = 0 if self.queue_size() else seen_empty + 1
            return seen_empty > 1

        try:
            wait_until(settled, timeout_seconds=timeout_seconds, what="empty queue")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.queue()}") from error

    def wait_until_deferred(self, count: int = 1, timeout_seconds: float = 20) -> None:
        """Return when at least `count` messages wait in the deferred queue and nothing else is on its way.

        The next attempt is seconds away then: time to requeue them before a delivery agent has them again.
        """

        def settled() -> bool:
            queue = self.queue()
            return sum(entry["queue_name"] == "deferred" for entry in queue) >= count and all(
                entry["queue_name"] in ("deferred", "hold") for entry in queue
            )

        wait_until(settled, timeout_seconds=timeout_seconds, what=f"{count} deferred messages")

    def sendmail(
        self,
        sender: str | None,
        recipients: Iterable[str],
        message: bytes,
        *,
        user: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Hand a message to the sendmail command as `user`; `sender` None leaves out -f.

        The default user is "nobody", or root where no namespace can be made.

        Raises:
            RuntimeError: sendmail failed; the message holds what it said.

        """
        command = ["sendmail", "-i", *(() if sender is None else ("-f", sender)), *options, "--", *recipients]
        user = user or ("nobody" if self.network.isolated else "root")
        environment = self._environment()
        if user != "root":
            command = [*self._as_user(user), *command]
            del environment["MAIL_CONFIG"]
        with self.network.inside():
            result = subprocess.run(command, input=message, env=environment, capture_output=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(
                f"sendmail as {user}: exit {result.returncode}: {result.stderr.decode(errors='replace')}"
            )

    def _as_user(self, user: str) -> list[str]:
        """Return what to put before a command of Postfix's that `user` gives."""
        identity = pwd.getpwnam(user)
        change = ["setpriv", f"--reuid={identity.pw_uid}", f"--regid={identity.pw_gid}", "--clear-groups"]
        return [*self.in_place_of_the_machines(), *change]

    def in_place_of_the_machines(self) -> list[str]:
        """Return what to put before a command of root's, so that it and its children find our files in /etc/postfix.

        Only root may name another configuration directory than that one.
        """
        script = 'mount --bind "$1" /etc/postfix && shift && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", str(self.config_directory)]

    # ---- what became of it

    def log(self) -> str:
        """Return the mail log so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def wait_for_log(self, pattern: str, timeout_seconds: float = 20) -> re.Match[str]:
        """Return the first match of the regular expression in the log, as soon as there is one."""
        expression = re.compile(pattern)
        wait_until(
            lambda: expression.search(self.log()) is not None,
            timeout_seconds=timeout_seconds,
            what=f"log line {pattern!r}",
        )
        found = expression.search(self.log())
        assert found is not None  # noqa: S101 -- the log only grows
        return found

    def mailbox(self, name: str) -> list[mailbox.MaildirMessage]:
        """Return what was delivered to a local mailbox, oldest first."""
        path = self.mail_directory / name
        if not (path / "new").is_dir():
            return []
        # Names tell the second, then the inode; which of two in a second came first, the times of the files tell.
        files = sorted((path / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        return [mailbox.MaildirMessage(file.read_bytes()) for file in files]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C",
            "MAIL_CONFIG": str(self.config_directory),
        }


def _write_settled(path: Path, text: str) -> None:
    """Write a file so that Postfix reads it at once: for one that has just been changed, it waits until it rests."""
    path.write_text(text)
    _settle(path)


def _settle(path: Path) -> None:
    seconds = time.time() - 60
    os.utime(path, (seconds, seconds))
