"""A second Postfix on the machine of a lab, with daemons, pools and settings of its own."""

from __future__ import annotations

import json
import os
import re
import smtplib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Self

from mailing import mail

from deliverypools.lab.daemons import Daemon
from deliverypools.lab.lab import Lab, transaction
from deliverypools.lab.postfix import Postfix
from deliverypools.lab.settings_file import (
    SRS_FILE,
    TICKET_FILE,
    lab_settings,
    render_toml,
    write_key_file,
    write_srs_secret_file,
)
from deliverypools.lab.site import Site

NAME = "postfix-out"
HOST = "192.0.2.2"
POOLS = {"normal": 40, "high-risk": 50, "relay": 60}
NORMAL = {"192.0.2.40", "2001:db8::40"}
PORT = 2525
SUBMISSION_PORT = 2587


@dataclass(frozen=True)
class Answer:
    status: int
    json: dict[str, Any]
    err: str


class SecondInstance:
    """It logs where the first one does, under its own name, and takes mail at another port."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.directory = lab.directory / "second"
        self.directory.mkdir(mode=0o755)
        with lab.network.inside():
            for number in (2, *POOLS.values()):
                for address, options in ((f"192.0.2.{number}/32", ()), (f"2001:db8::{number}/128", ("nodad",))):
                    subprocess.run(["ip", "addr", "add", address, "dev", "lo", *options], check=True)
        nameserver = lab.address("198.51.100.53")
        log = lab.postfix.log_file
        main = {
            "multi_instance_name": NAME,
            "smtp_bind_address": HOST,
            "smtp_bind_address6": "2001:db8::2",
            "maillog_file": str(log),
            "maillog_file_prefixes": f"/var, {log.parent}",
        }
        self.postfix = Postfix(self.directory, lab.network, profile="none", site=Site(main=main), nameserver=nameserver)
        master = self.postfix.config_directory / "master.cf"
        ports = ((r"(?m)^smtp(\s+inet)", rf"{PORT}\1"), (r"(?m)^submission(\s+inet)", rf"{SUBMISSION_PORT}\1"))
        text = master.read_text()
        for pattern, replacement in ports:
            text = re.sub(pattern, replacement, text)
        master.write_text(text)
        os.utime(master, (0, 0))
        self.postfix.ports = (PORT, SUBMISSION_PORT)
        write_key_file(self.directory / TICKET_FILE)
        write_srs_secret_file(self.directory / SRS_FILE)
        settings = lab_settings(
            directory=self.directory,
            queue_directory=self.postfix.queue_directory,
            profile="hop",
            nameserver=nameserver,
            isolated=True,
        )
        settings["pools"] = {
            pool: {"addresses": [f"192.0.2.{number}", f"2001:db8::{number}"], "helo": f"out-{pool}.example.org"}
            for pool, number in POOLS.items()
        }
        self.settings_file = self.directory / "out.toml"
        self.settings_file.write_text(render_toml(settings))
        self.daemons = [self._daemon(name) for name in ("policy", "milter")]

    def _daemon(self, name: str) -> Daemon:
        return Daemon(
            name,
            [sys.executable, "-m", "deliverypools", name, "--config", str(self.settings_file)],
            socket_path=self.postfix.queue_directory / "delivery-pools" / f"{name}.sock",
            log_file=self.directory / "log" / f"{name}.log",
            network=self.lab.network,
            environment={"MAIL_CONFIG": str(self.postfix.config_directory)},
        )

    def __enter__(self) -> Self:
        for daemon in self.daemons:
            daemon.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.postfix.stop()
        for daemon in reversed(self.daemons):
            daemon.stop()

    def start(self) -> None:
        """Start Postfix; return when it takes mail."""
        with self.lab.network.inside():
            self.postfix.start()

    def send(self, recipient: str) -> None:
        """Hand a message in, as a client of this machine."""
        with (
            self.lab.network.inside(),
            smtplib.SMTP("192.0.2.1", PORT, "c.example", 60, ("127.0.0.1", 0)) as smtp,
        ):
            smtp.ehlo()
            assert transaction(smtp, "alice@example.org", [recipient], mail()).accepted

    def command(self, postfix: Postfix, *arguments: str) -> Answer:
        """Run a command with --json on one of the two; the lab's own is the default instance of the machine."""
        own = {"MAIL_CONFIG": str(self.lab.postfix.config_directory)}
        own["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        directory = "--postfix" if arguments[0] == "check" else "--config-directory"
        settings = self.settings_file if postfix is self.postfix else self.lab.settings_file
        config = () if "uninstall" in arguments else ("--config", str(settings))
        command = [*arguments, "--json", directory, str(postfix.config_directory), *config]
        with self.lab.network.inside():
            done = subprocess.run(
                [sys.executable, "-m", "deliverypools", *command],
                text=True,
                capture_output=True,
                env=os.environ | own,
                check=False,
            )
        return Answer(done.returncode, json.loads(done.stdout or "{}"), done.stderr)
