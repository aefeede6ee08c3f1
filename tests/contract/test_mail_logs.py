"""Mail logs as they lie about: packed, rotated, cut off, in the journal."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
from pathlib import Path

import pytest

from deliverypools.adapters.mail_logs import (
    MOST_LINE_BYTES,
    MailLogError,
    journal_lines,
    lines_of,
    local_time,
    oldest_first,
)

TEXT = b"".join(b"line %d\n" % number for number in range(1000))
LINES = [f"line {number}" for number in range(1000)]
PACKERS = {"plain": bytes, "gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}


@pytest.fixture
def log(tmp_path):
    def log(data, name="mail.log"):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return log


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_file_is_unpacked_whatever_its_name(log, pack):
    assert list(lines_of(log(pack(TEXT)))) == LINES


def test_what_was_appended_to_a_packed_file_is_read_too(log):
    assert list(lines_of(log(gzip.compress(TEXT) + gzip.compress(b"more\n")))) == [*LINES, "more"]


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_standard_input(monkeypatch, pack):
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stdin:
        os.write(writer, pack(TEXT))
        os.close(writer)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
        assert list(lines_of("-")) == LINES


@pytest.mark.parametrize("name", ["gz", "xz", "bz2"])
def test_a_packed_file_that_ends_too_early_is_an_error_after_what_could_be_read(log, name):
    packed = PACKERS[name](os.urandom(200_000).hex().encode() + b"\n" + TEXT)
    path = log(packed[: len(packed) // 2])
    with pytest.raises(MailLogError, match=r"mail\.log: cannot be read to its end"):
        list(lines_of(path))


@pytest.mark.parametrize("name", ["gz", "xz", "bz2"])
def test_a_packed_file_that_is_damaged_is_an_error(log, name):
    packed = bytearray(PACKERS[name](os.urandom(20_000).hex().encode()))
    packed[len(packed) // 2 : len(packed) // 2 + 2000] = bytes(2000)
    with pytest.raises(MailLogError, match="cannot be read to its end"):
        list(lines_of(log(bytes(packed))))


def test_zstandard_is_refused_with_what_to_do(log):
    with pytest.raises(MailLogError, match="zstdcat FILE"):
        list(lines_of(log(b"\x28\xb5\x2f\xfd" + bytes(20))))


def test_what_is_not_there_or_no_file_is_an_error(tmp_path):
    with pytest.raises(MailLogError, match=r"none: No such file"):
        list(lines_of(str(tmp_path / "none")))
    with pytest.raises(MailLogError, match="Is a directory"):
        list(lines_of(str(tmp_path)))
    with pytest.raises(MailLogError, match=r"none: No such file"):
        list(lines_of(oldest_first([str(tmp_path / "none")], len)[0]))


def test_long_lines_are_cut_and_the_next_is_whole(log):
    long = b"x" * (3 * MOST_LINE_BYTES + 5)
    path = log(b"a\n" + long + b"\nb\n" + b"y" * MOST_LINE_BYTES + b"\nc\n" + long + b"\n")
    found = list(lines_of(path))
    assert found == ["a", "x" * MOST_LINE_BYTES, "b", "y" * MOST_LINE_BYTES, "c", "x" * MOST_LINE_BYTES]


@pytest.mark.parametrize("unfinished", [b"Nov 22 13:00", b"x" * (2 * MOST_LINE_BYTES)])
def test_a_line_that_is_being_written_is_left_for_the_next_time(log, unfinished):
    assert list(lines_of(log(b"a\n" + unfinished))) == ["a"]


def test_whatever_a_line_holds_it_is_text(log):
    assert list(lines_of(log(b"\xff\x00\x1b[31m\r\n\xc3\xa4\n"))) == ["\ufffd\x00\x1b[31m", "\u00e4"]


def test_rotated_files_are_put_into_order_and_read_once(log, tmp_path):
    names = [
        log(b"3 c\n", "mail.log"),
        log(b"no time\n2 b\n", "mail.log.1"),
        log(gzip.compress(b"1 a\n"), "mail.log.2.gz"),
        log(b"", "empty"),
    ]

    def seconds_of(text):
        return float(text[0]) if text[0].isdigit() else None

    wanted = [names[2], names[1], names[0], names[3]]
    assert oldest_first([*names, str(tmp_path / "." / "mail.log")], seconds_of)[:3] == [
        names[2],
        names[1],
        str(tmp_path / "mail.log"),
    ]
    assert oldest_first(["-", *names], seconds_of)[:3] == wanted[:3]
    assert set(oldest_first(["-", *names], seconds_of)[3:]) == {"-", names[3]}


def a_journalctl(tmp_path: Path, monkeypatch, script):
    """Put a program of that name into the path; it writes down how it was called."""
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_the_journal(tmp_path, monkeypatch):
    a_journalctl(tmp_path, monkeypatch, "echo one; echo two")
    assert list(journal_lines(1234.5)) == ["one", "two"]
    arguments = (tmp_path / "arguments").read_text().split()
    assert {"--output=short-unix", "--since=@1234", "--all", "SYSLOG_FACILITY=2"} <= set(arguments)


def test_the_journal_is_asked_for_the_milter_too(tmp_path, monkeypatch):
    a_journalctl(tmp_path, monkeypatch, "")
    assert list(journal_lines(0.0)) == []
    matches = (tmp_path / "arguments").read_text().partition("SYSLOG_")[2].split(" + ")
    assert [len(match.split()) for match in matches] == [1, 3, 1]
    assert "SYSLOG_IDENTIFIER=delivery-pools" in matches[1].split()
    assert matches[2].strip() == "_SYSTEMD_UNIT=delivery-pools-milter.service"


def test_a_log_that_cannot_be_read_has_its_place_in_the_order(log, tmp_path):
    names = [log(b"1\n"), log(b"\x1f\x8bx", "cut.gz"), str(tmp_path / "circle"), str(tmp_path / ("n" * 300))]
    Path(names[2]).symlink_to(names[2])
    assert oldest_first(names, float)[0] == names[0]
    assert sorted(oldest_first(names, float)) == sorted(names)


def test_a_journal_that_cannot_be_read_to_its_end_is_an_error(tmp_path, monkeypatch):
    a_journalctl(tmp_path, monkeypatch, "echo one; echo no journal here >&2; exit 3")
    lines = journal_lines(0.0)
    assert next(lines) == "one"
    with pytest.raises(MailLogError, match="journalctl: exit status 3: no journal here"):
        next(lines)


def test_a_journal_that_is_not_read_to_its_end_leaves_no_process(tmp_path, monkeypatch):
    a_journalctl(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; while echo line; do :; done")
    lines = journal_lines(0.0)
    assert next(lines) == "line"
    lines.close()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_without_journalctl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MailLogError, match="journalctl: No such file"):
        list(journal_lines(0.0))


def test_the_journalctl_of_this_machine_takes_our_options():
    assert all(isinstance(line, str) for line in journal_lines(4_000_000_000.0))


def test_local_time(monkeypatch):
    import time  # noqa: PLC0415

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert local_time((2026, 11, 22, 14, 5)) == 1_795_352_700.0
        assert local_time((2026, 7, 22, 14, 5)) == 1_784_721_900.0
    finally:
        monkeypatch.undo()
        time.tzset()
