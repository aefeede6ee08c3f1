"""Waiting for the processes of before, told by a Postfix that is a list of processes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from deliverypools.adapters import cut_over
from deliverypools.adapters.cut_over import old_processes, told, wait_for_old_processes
from deliverypools.adapters.postfix_commands import PostfixInstance, Process
from deliverypools.core.postfix_install.manifest import Reload

BOOT = "here"


class FakePostfix(PostfixInstance):
    """Shows one set of processes after the other, the last one from then on."""

    def __init__(self, *seen: Iterable[Process], is_there: bool = True) -> None:
        self._seen = [set(one) for one in seen]
        self._is_there = is_there

    def is_running(self) -> bool:
        return self._is_there

    def processes(self, *_: str) -> set[Process]:
        return self._seen.pop(0) if len(self._seen) > 1 else self._seen[0]


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_over, "_boot_id", lambda: BOOT)
    monkeypatch.setattr(cut_over, "_uptime_seconds", lambda: 1000.0)
    monkeypatch.setattr(cut_over, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(cut_over, "_EVERY_SECONDS", 0.0)


def reload(boot_id: str = BOOT) -> Reload:
    return Reload(at=0.0, uptime_seconds=500.0, boot_id=boot_id)


OLD, NEW = Process(7, 499.99), Process(8, 500.0)


def test_old_is_what_began_before_the_reload():
    assert old_processes(FakePostfix([OLD, NEW]), reload()) == {OLD}


def test_no_process_outlives_a_reboot():
    assert old_processes(FakePostfix([OLD]), reload("before")) == set()


def test_queue_is_noted_once_more_after_the_last_session_has_ended():
    noted: list[bool] = []
    postfix = FakePostfix([OLD], [OLD], [NEW])
    assert wait_for_old_processes(postfix, reload(), 60, lambda: noted.append(OLD in postfix.processes())) == set()
    assert noted[-1] is False
    assert wait_for_old_processes(FakePostfix([NEW]), reload(), 60, lambda: noted.append(True)) == set()
    assert noted[-1] is True


def test_wait_is_bounded():
    assert wait_for_old_processes(FakePostfix([OLD]), reload(), 0.0) == {OLD}


def test_postfix_has_read_it_when_what_begins_at_once_is_new():
    """`postfix reload` returns earlier: what begins in between has the options of before."""
    pickup, qmgr = Process(1, 10.0), Process(2, 10.0)
    late = Process(3, 600.5)
    seen = [pickup, qmgr], [pickup, qmgr], [qmgr, late], [late, Process(4, 600.6)]
    found = told(FakePostfix(*seen), lambda: None)
    assert (found.uptime_seconds, found.boot_id, found.ended_at) == (600.5, BOOT, None)


def test_postfix_that_ends_is_not_waited_for():
    assert told(FakePostfix([OLD], is_there=False), lambda: pytest.fail("told")).uptime_seconds == 1000.0
