"""Counts what the policy daemon answers, and how long that takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from deliverypools.adapters.metrics.definitions import POLICY_ANSWERS, POLICY_SECONDS, SOCKETMAP_ANSWERS
from deliverypools.adapters.metrics.measure import add, observe, quietly
from deliverypools.policy.batches import Reply
from deliverypools.policy.socketmap import Lookup
from deliverypools.policy.wire import Request


def counting_requests(ask: Callable[[Request, Reply], None]) -> Callable[[Request, Reply], None]:
    """Return what has a request answered, and counts the answer."""

    def count(request: Request, reply: Reply) -> None:
        ask(request, functools.partial(_answer, reply, request.get("protocol_state", ""), time.perf_counter()))

    return count


def _answer(reply: Reply, stage: str, began: float, action: str) -> None:
    observe(POLICY_SECONDS, time.perf_counter() - began, stage)
    quietly(lambda: add(POLICY_ANSWERS, stage, _kind(action)))
    reply(action)


def _kind(action: str) -> str:
    word = action.partition(" ")[0].lower()
    return "reject" if word.startswith("5") else word


def counting_lookups(answer: Callable[[Lookup], str]) -> Callable[[Lookup], str]:
    """Return what answers look-ups, and counts the answers."""

    def count(lookup: Lookup) -> str:
        said = answer(lookup)
        add(SOCKETMAP_ANSWERS, said.partition(" ")[0])
        return said

    return count
