"""The map that leads SRS addresses back to the senders that they stand for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.srs import SenderRewriter, SrsError
from deliverypools.policy.socketmap import Lookup
from deliverypools.policy.sparing_log import SparingLog

NAME: Final = "srs"
_NOT_FOUND: Final = "NOTFOUND "
_MOST_OF_NAME: Final = 40

_log = logging.getLogger(__name__)
_sparing_log = SparingLog(_log)


class SrsMap:
    """Answers look-ups. Has no sockets of its own."""

    def __init__(self, rewriter: Callable[[], SenderRewriter | None]) -> None:
        self._rewriter = rewriter

    def answer(self, lookup: Lookup) -> str:
        """Return the answer to a look-up; never raises.

        What does not lead back is not found, rather than an error: Postfix would defer mail to such an address for
        days (`PERM` too is "451 4.3.0" to it), where an unknown recipient is refused at once.
        """
        if lookup.map_name != NAME:
            return f"PERM there is no map {printable(lookup.map_name, _MOST_OF_NAME)}; ask for {NAME}"
        rewriter = self._rewriter()
        if rewriter is None:
            return _NOT_FOUND
        try:
            return f"OK {rewriter.reverse(lookup.key)}"
        except SrsError:
            return _NOT_FOUND
        except Exception as error:  # noqa: BLE001  (a look-up that breaks us must not break the others)
            _sparing_log.write(logging.ERROR, "broken", "untrapped exception in a look-up", error)
            return "TEMP internal error"
