"""Exit statuses (sysexits.h)."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78
