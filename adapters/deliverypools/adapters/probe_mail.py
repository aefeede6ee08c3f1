"""The sending end of `check --live`: probes handed to sendmail(1), looked for in the queue, and taken out of it."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import Final

from deliverypools.adapters.commands import postfix_environment
from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.sendmail import POLICY
from deliverypools.core.facts import printable
from deliverypools.core.host_check.live import Wanted
from deliverypools.core.probe import DOMAIN, HEADER, Probe
from deliverypools.core.settings import Settings

_COMMAND_SECONDS: Final = 60.0
_MOST_LINE_BYTES: Final = 65_536
MAILDROP: Final = "maildrop"
WAITING: Final = ("deferred", "hold", MAILDROP)
"""Queues in which nothing happens by itself for minutes; maildrop while the milter is down."""


class ProbeError(Exception):
    """A probe cannot be sent, or the queue cannot be read; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """One probe in Postfix's queue."""

    queue_id: str
    queue_name: str
    reason: str
    """Why it was deferred, as Postfix says it."""


class ProbeMail:
    """The probes of one run; their recipients are nobody else's."""

    def __init__(self, settings: Settings, sealer: TicketSealer, config_directory: str | None) -> None:
        self._settings = settings
        self._sealer = sealer
        self._run = secrets.token_hex(8)
        self._instance = ["-c", config_directory] if config_directory else []
        named = {"MAIL_CONFIG": config_directory} if config_directory else {}
        self._environment = postfix_environment(**named)

    def recipient(self, number: int) -> str:
        """Return the recipient of a probe."""
        return f"probe-{self._run}-{number}@{DOMAIN}"

    def send(self, number: int, wanted: Wanted, port: int) -> None:
        """Hand a probe to sendmail(1).

        Raises:
            ProbeError: it was not accepted.
        """
        # The null sender: nothing comes back. Behind "--" an address is no option.
        command = [self._settings.alerts.sendmail, "-i", "-f", "<>", "--", self.recipient(number)]
        self._command(command, self._message(number, wanted, port))

    def _message(self, number: int, wanted: Wanted, port: int) -> bytes:
        domain = self._settings.accepted_domains[0]
        message = EmailMessage(POLICY)
        message["From"] = f"Delivery Pools <postmaster@{domain}>"
        message["To"] = self.recipient(number)
        message["Subject"] = f"Delivery Pools: probe of {wanted.transport} over IPv{wanted.family}"
        message["Date"] = formatdate(localtime=True)
        message["Message-ID"] = message_id = f"<probe-{self._run}-{number}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content("delivery-pools check --live looks by which address this message leaves.\n")
        probe = Probe(transport_tag=wanted.transport_tag, family=wanted.family, port=port, message_id=message_id)
        return f"{HEADER}: {self._sealer.seal_probe(probe)}\n".encode() + message.as_bytes()

    def queued(self, count: int) -> Mapping[int, Queued]:
        """Return which of the first `count` probes are in the queue, by number.

        Raises:
            ProbeError: the queue cannot be read.
        """
        numbers = {self.recipient(number): number for number in range(count)}
        found: dict[int, Queued] = {}
        for line in self._command(["postqueue", *self._instance, "-j"]).splitlines():
            if self._run.encode() in line and len(line) <= _MOST_LINE_BYTES:
                found |= _probes_in(line, numbers)
        return found

    def remove(self, queue_ids: Iterable[str]) -> None:
        """Delete probes from the queue: exactly these messages.

        Raises:
            ProbeError: some may still be there.
        """
        given = "".join(f"{queue_id}\n" for queue_id in queue_ids)
        if given:
            self._command(["postsuper", *self._instance, "-d", "-"], given.encode())

    def _command(self, command: list[str], given: bytes = b"") -> bytes:
        try:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                check=False,
                timeout=_COMMAND_SECONDS,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            raise ProbeError(f"{command[0]}: not done within {_COMMAND_SECONDS:g} seconds") from None
        except OSError as error:
            raise ProbeError(f"{command[0]}: {error.strerror}; is Postfix installed here?") from None
        if done.returncode != 0:
            lines = done.stderr[-4096:].decode(errors="replace").strip().splitlines()
            said = lines[-1] if lines else f"exit status {done.returncode}"
            raise ProbeError(printable(f"{command[0]}: {said}", 500))
        return done.stdout


def _probes_in(line: bytes, numbers: Mapping[str, int]) -> dict[int, Queued]:
    """Return the probe that a line of `postqueue -j` tells of."""
    try:
        entry = json.loads(line)
        queue_id, queue_name, recipients = str(entry["queue_id"]), str(entry["queue_name"]), list(entry["recipients"])
        return {
            numbers[one["address"]]: Queued(
                queue_id=queue_id, queue_name=queue_name, reason=printable(str(one.get("delay_reason", "")), 300)
            )
            for one in recipients
            if one.get("address") in numbers
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ProbeError(f"postqueue -j: {printable(line[:500].decode(errors='replace'))}") from None
