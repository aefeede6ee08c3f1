"""Mail that qmgr(8) passed over is due at once in a lab.

What a delivery agent of before a reload still has when the new qmgr(8) comes to it ("skipped, still being delivered")
goes back to the incoming queue, dated a minute ahead. A test would wait for that minute.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

_EVERY_SECONDS = 0.5


class PassedOver:
    """Looks at an incoming queue until it is stopped; qmgr(8) itself looks there at its next wakeup."""

    def __init__(self, incoming: Path) -> None:
        """Begin to look."""
        self._incoming = incoming
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="passed-over", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when it looks no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            with contextlib.suppress(FileNotFoundError):  # qmgr(8) has it meanwhile
                for file in self._incoming.iterdir():
                    if file.stat().st_mtime > time.time():
                        os.utime(file)
