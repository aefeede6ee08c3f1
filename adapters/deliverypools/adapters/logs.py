"""The log of the daemons: one line an event, to standard error, where systemd or the terminal takes it."""

from __future__ import annotations

import io
import logging
import sys


def configure(program: str) -> None:
    """Log to standard error; whatever a line holds, writing it never fails."""
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace", line_buffering=True)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, force=True, format=f"{program}[%(process)d]: %(levelname)s: %(message)s"
    )
    # What no line shows is not found out for each (docs.python.org, logging HOWTO, Optimization).
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logMultiprocessing = False
    # It writes a line for each of its sixteen detectors.
    logging.getLogger("flufl.bounce").disabled = True
    logging.raiseExceptions = False
