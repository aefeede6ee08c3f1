"""A state whose calls are timed. Whoever uses it notices nothing."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Final, cast

from deliverypools.adapters.metrics.definitions import (
    DROPPED,
    STATE_FAILURES,
    STATE_SECONDS,
    TICKET_REASONS,
    TICKETS_REFUSED,
)
from deliverypools.adapters.metrics.measure import add, observe
from deliverypools.adapters.state import State

_USED_TOO_OFTEN: Final = TICKET_REASONS["ticket was used too often"]


def measured(state: State) -> State:
    """Return a state that does what `state` does, and counts it."""
    return cast("State", _Measured(state))


class _Measured:
    """Hands every call on, whatever calls the contract comes to have."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __getattr__(self, name: str) -> Any:
        """Return a timed method; from the second time on it is found without this."""
        method = _timed(name, getattr(self._state, name))
        setattr(self, name, method)
        return method


def _timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            answer = method(*arguments, **named)
        except BaseException:
            add(STATE_FAILURES, name)
            raise
        finally:
            observe(STATE_SECONDS, time.perf_counter() - began, name)
        if name == "drop":
            add(DROPPED)
        elif name == "use_ticket" and answer is False:
            add(TICKETS_REFUSED, _USED_TOO_OFTEN)
        return answer

    return call
