"""Copies of suspicious mail for the administrator: messages of their own, never an added recipient."""

from __future__ import annotations

import logging

from deliverypools.adapters import copies
from deliverypools.adapters.message_spool import MessageSpool
from deliverypools.core.decisions import ABOUT_CONTENT, OVER_LIMIT, RESTRICTED_SENDER
from deliverypools.core.records import DecisionRecord
from deliverypools.milter.services import Services

_SUSPICIOUS = (*ABOUT_CONTENT, OVER_LIMIT, RESTRICTED_SENDER)
_ONCE_SECONDS = 30 * 86_400.0

_logger = logging.getLogger(__name__)


def keep_copy(spool: MessageSpool | None, record: DecisionRecord, once: str, services: Services) -> None:
    """Keep a copy of a message whose decision calls it suspicious, once for each decision (`once`).

    Raises:
        StateUnavailable: it cannot be told whether there is one already. Any other trouble is logged, and the message
            goes on without.
    """
    if spool is None or not services.settings.default_policy.bcc_suspicious_mail or record.rule not in _SUSPICIOUS:
        return
    if spool.is_copy and not record.envelope_sender:
        # Ours, though its mark was lost: a copy of a copy would go on without end.
        return
    name = f"{record.rule}/{once}"
    if not services.state.first_time(f"copy/{name}", _ONCE_SECONDS):
        return
    try:
        copies.keep(spool, record, name=name, settings=services.settings)
    except OSError as error:
        _logger.error("%s: no copy kept: %s", record.queue_id, error)
