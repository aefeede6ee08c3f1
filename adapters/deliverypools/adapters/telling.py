"""Telling administrators something: it goes into the outbox, once; the dispatcher sends it."""

from __future__ import annotations

import logging
from typing import Final

from deliverypools.adapters.state import State
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY
from deliverypools.core.told import Told, to_payload

MAIL: Final = "mail"
WEBHOOK: Final = "webhook"
_ONCE_SECONDS: Final = 2.0 * DAY
"""Most things are told once a day; their names hold the day."""

_log = logging.getLogger(__name__)


def tell(told: Told, settings: Settings, state: State, *, once_seconds: float = _ONCE_SECONDS) -> bool:
    """Put something into the outbox and the log, once (`Told.once`) in that time; tell whether it was new.

    Raises:
        StateUnavailable: nothing was told.
    """
    channels = []
    if told.notify or settings.alerts.mail_to:
        channels.append(MAIL)
    if settings.alerts.webhook:
        channels.append(WEBHOOK)
    payload = to_payload(told)
    is_new = state.post(told.once, once_seconds, [(channel, payload) for channel in channels])
    if is_new:
        _log.warning("alert: %s", told.summary())
    return is_new
