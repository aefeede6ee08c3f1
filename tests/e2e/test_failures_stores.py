"""docs/failures.md, proved: the state fails, as a SQLite file and on a Redis server, and disks are full."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from breakages import (
    all_on,
    directory_removed,
    disk_full,
    give_the_log_a_disk,
    read_only,
    redis_hung,
    redis_stopped,
    small_disk,
    state_damaged,
    state_locked,
)
from failure_mail import SETTINGS, SITE, Mail
from test_redis import PORT, RedisServer

from deliverypools.lab.lab import Lab

# Of the file that holds the state, below a folder of its own.
BREAKAGES: dict[str, Callable[[Lab, Path], contextlib.AbstractContextManager[None]]] = {
    "state_locked": lambda _lab, state: state_locked(state),
    "state_damaged": state_damaged,
    "state_directory_gone": lambda _lab, state: directory_removed(state.parent),
}
ON_A_SMALL_DISK: dict[str, Callable[[Lab, Path], contextlib.AbstractContextManager[None]]] = {
    "state_read_only": lambda lab, state: read_only(lab, state.parent),
    "state_disk_full": lambda _lab, state: disk_full(state.parent),
}
ON_REDIS: dict[str, Callable[[RedisServer], contextlib.AbstractContextManager[None]]] = {
    "redis_stopped": redis_stopped,
    "redis_hung": redis_hung,
}


def lab_with_state(make_lab: Callable[..., Lab], state: str) -> Lab:
    return make_lab(site=SITE, settings={**SETTINGS, "state": state})


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_file_of_the_state(make_lab: Callable[..., Lab], tmp_path: Path, name: str):
    state = tmp_path / "state" / "state.db"
    state.parent.mkdir()
    lab = lab_with_state(make_lab, f"sqlite:///{state}")
    Mail(lab).meet(name, BREAKAGES[name](lab, state))


@pytest.mark.parametrize("name", ON_A_SMALL_DISK)
def test_the_disk_of_the_state(make_lab: Callable[..., Lab], name: str):
    with small_disk("2m") as disk:
        lab = lab_with_state(make_lab, f"sqlite:///{disk}/state.db")
        Mail(lab).meet(name, ON_A_SMALL_DISK[name](lab, disk / "state.db"))


@pytest.mark.parametrize("name", ON_REDIS)
def test_the_redis_server(make_lab: Callable[..., Lab], tmp_path: Path, name: str):
    lab = lab_with_state(make_lab, f"redis://127.0.0.1:{PORT}/0")
    redis = RedisServer(lab, tmp_path)
    redis.start()
    try:
        Mail(lab).meet(name, ON_REDIS[name](redis))
    finally:
        redis.stop()


def test_the_disk_of_everything(make_lab: Callable[..., Lab]):
    with small_disk("40m") as disk, all_on(disk):
        lab = make_lab(site=SITE, settings=SETTINGS)
        give_the_log_a_disk(lab)
        Mail(lab).meet("disk_full", disk_full(disk))
