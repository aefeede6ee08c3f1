"""What systemd is told of a daemon: ready, reloading, stopping, alive (sd_notify(3), the protocol of NOTIFY_SOCKET).

Without a service manager nothing is told. What cannot be told is logged once: it is no reason to stop serving mail.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_SOCKET: Final = "NOTIFY_SOCKET"
_WATCHDOG_MICROSECONDS: Final = "WATCHDOG_USEC"
_WATCHDOG_PID: Final = "WATCHDOG_PID"
_PINGS_PER_TIMEOUT: Final = 3
"""sd_watchdog_enabled(3) recommends two; a third bears a moment in which the machine has no time for us."""
_MICROSECONDS: Final = 1_000_000
_MOST_SECONDS: Final = 1.0
"""How long a service manager that does not read may hold the caller."""

_log = logging.getLogger(__name__)


class ServiceManager:
    """Tells systemd what this process does. The loop that works calls `alive`, so that a hung one is noticed."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        """Take a path, or "@" and a name for an abstract socket; "" tells nobody."""
        self.ping_seconds: float | None = watchdog_seconds / _PINGS_PER_TIMEOUT if watchdog_seconds else None
        """How often `alive` has to be called, None where nobody watches."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._next_ping = 0.0
        self._has_failed = False

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """Return the service manager that started this process, and hide it from processes that this one starts."""
        address = environment.pop(_SOCKET, "")
        microseconds = environment.pop(_WATCHDOG_MICROSECONDS, "")
        watched = environment.pop(_WATCHDOG_PID, "")
        is_for_us = not watched or watched == str(os.getpid())
        timeout = int(microseconds) / _MICROSECONDS if microseconds.isdecimal() and is_for_us else None
        return cls(address, timeout)

    def ready(self) -> None:
        """Tell that the sockets take connections, after a start or a reload."""
        self._tell("READY=1", "STATUS=serving")

    def reloading(self) -> None:
        """Tell that settings are read; `ready` has to follow, whatever came of it."""
        # Type=notify-reload (systemd 253) compares this time with that of its own signal.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reading the settings")

    def stopping(self, most_seconds: float) -> None:
        """Tell that this process ends, within so many seconds, however short TimeoutStopSec= is."""
        self._tell(
            "STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(most_seconds * _MICROSECONDS)}", "STATUS=finishing what has begun"
        )

    def alive(self) -> None:
        """Tell that the calling loop works, if that is due; to be called at least every `ping_seconds`."""
        now = time.monotonic()
        if self.ping_seconds is not None and now >= self._next_ping:
            # A loop that wakes exactly in time shall not miss its turn by a microsecond.
            self._next_ping = now + self.ping_seconds / 2
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.settimeout(_MOST_SECONDS)
                sending.connect(self._address)
                sending.send("\n".join(lines).encode())
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            if not self._has_failed:
                _log.warning("the service manager cannot be told %r: %s", lines[0], error)
            self._has_failed = True
