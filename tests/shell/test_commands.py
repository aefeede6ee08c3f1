"""Commands that are read while they print, as they may end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deliverypools.adapters.commands import printing


def test_what_it_prints_says_and_ends_with():
    with printing(["sh", "-c", "echo one; echo two; echo trouble >&2; exit 3"]) as command:
        assert list(command.output) == [b"one\n", b"two\n"]
    assert (command.status, command.complaints) == (3, "trouble")


def test_its_time_is_over():
    started = time.monotonic()
    with printing(["sleep", "60"], most_seconds=0.2) as command:
        assert command.output.read() == b""
    assert command.status < 0
    assert time.monotonic() - started < 30


def test_it_is_ended_where_it_is_left():
    pids = []

    def leave() -> None:
        with printing(["sh", "-c", "echo $$; exec sleep 60"]) as command:
            pids.append(int(command.output.readline()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert not Path(f"/proc/{pids[0]}").exists()


def test_what_it_has_not_been_asked_for_is_not_waited_for():
    with printing(["yes"]) as command:
        assert command.output.readline() == b"y\n"
        command.output.close()
    assert command.status != 0


def test_a_program_that_ends_by_an_error_does_not_wait_for_the_time_to_be_over():
    program = (
        "from deliverypools.adapters.commands import printing\n"
        "def lines():\n"
        "    with printing(['yes']) as command:\n"
        "        yield from command.output\n"
        "def read():\n"
        "    kept = lines()\n"
        "    for line in kept:\n"
        "        raise ZeroDivisionError\n"
        "read()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ZeroDivisionError")
