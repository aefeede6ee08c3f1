"""What is counted of each message: what its line in the log says, and how long it took."""

from __future__ import annotations

import time
from typing import Final

from deliverypools.adapters.metrics.definitions import DECISIONS, END_OF_MESSAGE, MESSAGES, REPLIES, WAITED
from deliverypools.adapters.metrics.measure import add, observe, quietly
from deliverypools.core.accounts import smtp_ingress
from deliverypools.core.decisions import UNDECIDED
from deliverypools.core.facts import Ingress
from deliverypools.core.received import own_received
from deliverypools.core.records import EGRESS_PASS, EXPRESS_PASS, FAST_PASS, FIRST_PASS
from deliverypools.milter.collector import EGRESS, CollectedMessage, Connection
from deliverypools.milter.first_pass import BOUNCE, PICKUP
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import LogLine, Verdict

_INGRESS_OF_SERVICE: Final = {PICKUP: Ingress.LOCAL, BOUNCE: Ingress.BOUNCE}


def count_message(
    verdict: Verdict, message: CollectedMessage, connection: Connection, services: Services, began: float
) -> None:
    """Count a message that has its verdict; `began` is when its end came, by `time.perf_counter`. Never raises."""
    quietly(lambda: _count(verdict, message, connection, services, time.perf_counter() - began))


def _count(
    verdict: Verdict, message: CollectedMessage, connection: Connection, services: Services, seconds: float
) -> None:
    said = verdict.log.said if isinstance(verdict.log, LogLine) else {}
    name = said.get("pass") or _pass_name(connection, services)
    observe(END_OF_MESSAGE, seconds, name)
    add(REPLIES, name, verdict.reply.value)
    if "pool" in said:
        add(DECISIONS, name, said["pool"], said["rule"])
    if name == EGRESS_PASS:
        _count_wait(message, connection, services.clock(), is_decided=said.get("pool") != UNDECIDED)
    elif name in (EXPRESS_PASS, FAST_PASS):
        add(MESSAGES, _ingress(message, connection, services))
    elif "ingress" in said:
        add(MESSAGES, said["ingress"])


def _pass_name(connection: Connection, services: Services) -> str:
    if connection.daemon_name == EGRESS:
        return EGRESS_PASS
    return EXPRESS_PASS if services.settings.profile == "express" else FIRST_PASS


def _count_wait(message: CollectedMessage, connection: Connection, now: float, *, is_decided: bool) -> None:
    received = next(own_received(message.headers, connection.hostname), None)
    if received and received.received_at is not None:
        observe(WAITED, max(0.0, now - received.received_at), "decided" if is_decided else UNDECIDED)


def _ingress(message: CollectedMessage, connection: Connection, services: Services) -> Ingress:
    return _INGRESS_OF_SERVICE.get(connection.daemon_name) or smtp_ingress(
        message.sasl_username, connection.client_address, services.settings
    )
