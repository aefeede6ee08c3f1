"""What systemd hears of a daemon, over its real socket (sd_notify(3)): a path, or a name without a file."""

import logging
import os
import secrets
import select
import socket

import pytest

from deliverypools.adapters.service_manager import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    """systemd's end of the socket, and its address as systemd writes it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"@{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "notify")
        listening.bind("\0" + name[1:] if request.param == "abstract" else name)
        listening.settimeout(5)
        yield listening, name


def heard(listening):
    return listening.recv(4096).decode().split("\n")


def heard_nothing(listening):
    return select.select([listening], [], [], 0)[0] == []


def test_the_life_of_a_daemon(systemd):
    listening, name = systemd
    manager = ServiceManager.of_environment({"NOTIFY_SOCKET": name})
    manager.ready()
    assert "READY=1" in heard(listening)
    manager.reloading()
    reloading = heard(listening)
    assert "RELOADING=1" in reloading
    assert reloading[1].removeprefix("MONOTONIC_USEC=").isdecimal()
    manager.ready()
    assert "READY=1" in heard(listening)
    manager.stopping(1.5)
    assert heard(listening)[:2] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=1500000"]


def test_what_this_process_starts_does_not_speak_for_it(systemd):
    _, name = systemd
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    manager = ServiceManager.of_environment(environment)
    assert environment == {"HOME": "/"}
    assert manager.ping_seconds == 1.0


def test_it_is_told_that_the_loop_works_only_when_that_is_due(systemd):
    listening, name = systemd
    manager = ServiceManager(name, watchdog_seconds=300)
    manager.alive()
    assert heard(listening) == ["WATCHDOG=1"]
    manager.alive()
    assert heard_nothing(listening)


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ],
    ids=["another process", "off", "negative", "no number", "not set"],
)
def test_nobody_watches(systemd, environment):
    listening, name = systemd
    manager = ServiceManager.of_environment({"NOTIFY_SOCKET": name, **environment})
    assert manager.ping_seconds is None
    manager.alive()
    assert heard_nothing(listening)


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "relative", "/" + "x" * 200, "/nul\0byte", "@gone"])
def test_a_service_manager_that_does_not_answer_stops_nothing_and_is_logged_once(name, caplog):
    manager = ServiceManager.of_environment({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"})
    with caplog.at_level(logging.WARNING):
        for tell in (manager.ready, manager.alive, manager.reloading, lambda: manager.stopping(1)):
            tell()
    assert len(caplog.records) == bool(name)
    assert all("READY=1" in record.getMessage() for record in caplog.records)


def test_a_service_manager_that_does_not_read_holds_nobody_for_long(systemd, caplog, monkeypatch):
    monkeypatch.setattr("deliverypools.adapters.service_manager._MOST_SECONDS", 0.01)
    _, name = systemd
    manager = ServiceManager(name)
    with caplog.at_level(logging.WARNING):
        for _ in range(10_000):
            manager.ready()
            if caplog.records:
                break
    assert "timed out" in caplog.text
