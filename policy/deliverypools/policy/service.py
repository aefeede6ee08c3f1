"""What the policy service answers. It has no opinion on whether mail is accepted: it counts, and the ticket tells."""

from __future__ import annotations

import logging

from deliverypools.adapters.state import Charge, State, StateUnavailable
from deliverypools.core.accounts import limits_for, smtp_account, smtp_ingress
from deliverypools.core.facts import Answer, printable
from deliverypools.core.settings import Settings
from deliverypools.policy.wire import Request

DUNNO = "DUNNO"
"""No opinion: later restrictions go on. Never OK, which would end them."""

_END_OF_MESSAGE = "END-OF-MESSAGE"
_MOST_RECIPIENTS = 1_000_000

_log = logging.getLogger(__name__)


def answer(request: Request, settings: Settings, state: State) -> str:
    """Return the action for a request; reserves the recipients of a message that is complete.

    Only END-OF-MESSAGE is counted: `recipient_count` is 0 at RCPT, and a message has one END-OF-MESSAGE however many
    RCPT requests, RSETs and aborted transactions it took. The milter commits what is reserved here.
    """
    if request.get("protocol_state") != _END_OF_MESSAGE:
        return DUNNO
    queue_id = request.get("queue_id", "")
    charge = _charge(request, settings)
    if charge is None or not queue_id:
        return DUNNO
    try:
        finding = state.reserve(queue_id, request.get("instance", ""), charge)
    except StateUnavailable as error:
        # The milter sees that nothing was reserved, and counts: now, or in the egress pass.
        _log.error("%s: not counted: %s", printable(queue_id), error)
        return DUNNO
    if finding.answer is Answer.YES:
        _log.info("%s: over limit: %s", printable(queue_id), printable(finding.evidence))
    return DUNNO


def _charge(request: Request, settings: Settings) -> Charge | None:
    client_address = request.get("client_address", "")
    sasl_username = request.get("sasl_username", "")
    ingress = smtp_ingress(sasl_username, client_address, settings)
    account = smtp_account(
        ingress,
        sasl_username=sasl_username,
        client_address=client_address,
        envelope_sender=request.get("sender", ""),
        settings=settings,
    )
    count = request.get("recipient_count", "")
    if not account or not (count.isascii() and count.isdecimal() and len(count) < len(str(_MOST_RECIPIENTS))):
        return None
    return Charge(ingress, account, int(count), limits_for(ingress, settings).recipients_per_day)
