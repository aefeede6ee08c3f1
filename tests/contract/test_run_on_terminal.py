"""Commands that speak to a terminal only, and those that leave a daemon behind."""

import os
from pathlib import Path

import pytest

from deliverypools.adapters.terminal import TerminalError, run_on_terminal
from deliverypools.lab.waiting import wait_until


def run(script, most_seconds=20.0):
    return run_on_terminal(["sh", "-c", script], os.environ, most_seconds)


def test_what_is_said_to_a_terminal_is_heard():
    assert run("test -t 2 && echo reason >&2; exit 3") == (3, "reason\n")


def test_a_daemon_that_keeps_the_terminal_is_not_waited_for():
    status, said = run("sleep 3 & echo started")
    assert (status, said) == (0, "started\n")


def test_what_is_said_is_bounded():
    status, said = run("head -c 300000 /dev/zero | tr '\\0' x; exit 1")
    assert (status, len(said)) == (1, 64_000)


def test_a_command_that_does_not_end_is_ended():
    with pytest.raises(TerminalError, match="not done within"):
        run("exec sleep 60", 0.2)


def test_what_it_has_started_ends_with_it(tmp_path):
    with pytest.raises(TerminalError, match="not done within"):
        run(f"sleep 60 & echo $! > {tmp_path}/pid; wait", 0.5)
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    wait_until(lambda: not state.exists() or ") Z " in state.read_text(), timeout_seconds=5, what="its end")


def test_a_missing_command():
    with pytest.raises(TerminalError, match="No such file"):
        run_on_terminal(["/nowhere/postfix"], os.environ, 1.0)
