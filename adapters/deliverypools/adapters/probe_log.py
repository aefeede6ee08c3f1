"""What the mail log says of probes that were not delivered: which transport has tried."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from deliverypools.adapters import mail_logs
from deliverypools.adapters.mail_logs import MailLogError
from deliverypools.core.audit.lines import Delivery, read_line
from deliverypools.core.audit.times import LogTimes
from deliverypools.core.audit.transports import transport_of
from deliverypools.core.probe import DOMAIN

_USUAL: Final = ("/var/log/mail.log", "/var/log/maillog")
_MOST_LINES: Final = 200_000
"""Of a log, since the probes were sent: a busy server writes so many in a minute."""


class ProbeLog:
    """The mail log from now on: Postfix's own file, those of syslog, and the journal, whichever there are."""

    def __init__(self, maillog_file: str, others: tuple[str, ...] = _USUAL) -> None:
        """Name the file of `maillog_file` (postconf(5)), "" if there is none; note where the files end now."""
        self._began = time.time()
        self._ends: dict[str, int] = {}
        for name in (maillog_file, *others):
            with suppress(OSError):
                self._ends[name] = os.stat(name).st_size if name else 0  # noqa: PTH116

    def failed_by(self) -> dict[str, str]:
        """Return, by recipient, the transport that could not deliver a probe. What cannot be read tells nothing."""
        found: dict[str, str] = {}
        times = LogTimes(time.time(), mail_logs.local_time)
        for log in (*map(self._of_file, self._ends), mail_logs.journal_lines(self._began - 1)):
            with suppress(MailLogError, OSError):
                found |= _failures(islice(log, _MOST_LINES), times)
        return found

    def _of_file(self, name: str) -> Iterator[str]:
        with Path(name).open("rb") as file:
            file.seek(self._ends[name])
            for line in iter(lambda: file.readline(mail_logs.MOST_LINE_BYTES), b""):
                yield line.decode(errors="replace").rstrip("\n")


def _failures(lines: Iterator[str], times: LogTimes) -> dict[str, str]:
    read = (read_line(text, times) for text in lines if DOMAIN in text)
    events = (line.event for line in read if line is not None)
    return {
        event.recipient: transport_of(event)
        for event in events
        if isinstance(event, Delivery) and event.status in ("deferred", "bounced", "softbounce")
    }
