"""Runs Delivery Pools by a wrong clock: `shifted_clock.py FILE ARGUMENT...`; FILE holds how many seconds it is ahead.

Read anew at each look at the clock, so the clock jumps when the file changes. The monotonic clock stays: so it is when
an administrator, or NTP, sets the time.
"""

import sys
import time
from pathlib import Path

_shift = Path(sys.argv[1])
_true_time = time.time


def _shifted_time() -> float:
    return _true_time() + float(_shift.read_text())


time.time = _shifted_time

if __name__ == "__main__":
    # Imported after the clock is replaced: `from time import time` would keep the true one.
    from deliverypools.cli.main import main

    sys.exit(main(sys.argv[2:]))
