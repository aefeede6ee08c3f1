"""Nothing escapes a callback of the milter."""

from __future__ import annotations

import Milter
import pytest

from deliverypools.milter.callbacks import PoolMilter, guarded


class Breaking(PoolMilter):
    """A milter whose services are missing, so that every callback that needs them raises."""

    @guarded
    def exits(self) -> int:
        raise SystemExit(3)


def test_an_exception_is_kept_and_remembered_for_the_end_of_the_message(caplog: pytest.LogCaptureFixture):
    milter = Breaking()
    assert milter.envfrom("<alice@example.org>") in (Milter.CONTINUE, Milter.NOREPLY)
    assert milter.has_failed
    assert "untrapped exception in envfrom" in caplog.text


def test_system_exit_does_not_end_the_worker():
    milter = Breaking()
    assert milter.exits() == Milter.CONTINUE
    assert milter.has_failed


def test_an_exception_at_the_end_of_the_message_is_answered_with_tempfail():
    # Without a context even the queue id cannot be asked for.
    assert Breaking().eom() == Milter.TEMPFAIL
