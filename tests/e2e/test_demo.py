"""The demo as a user runs it, and the lab where no namespace can be made."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from mailing import arrived, fresh, mail, running

COMMAND = [sys.executable, "-m", "deliverypools", "demo"]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_demo_prints_a_table_with_three_source_addresses_and_exits_0():
    result = demo()
    assert result.returncode == 0, result.stdout + result.stderr
    for word in ("192.0.2.10", "192.0.2.20", "192.0.2.30", "over_limit", "sender_domain_without_mx_or_a"):
        assert word in result.stdout
    assert "WRONG" not in result.stdout


def test_demo_sends_given_messages_and_reports_json(tmp_path: Path):
    spam, ham, odd = tmp_path / "it's spam.eml", tmp_path / "ham.eml", tmp_path / "odd.eml"
    utf8 = tmp_path / "utf8.eml"
    utf8.write_text("From: jürgen@münchen.example\nMessage-ID: <it's@example.com>\n\nhello\n")
    spam.write_bytes(mail(sender="alice@example.org", X_Spam="Yes"))
    ham.write_bytes(mail(sender="someone@never-heard-of.example"))
    odd.write_bytes(b"\xff\xfe no header \x00\r\n")
    result = demo("--json", str(spam), str(ham), str(odd), str(utf8))
    rows = {row["message"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert result.returncode == 0, result.stdout + result.stderr
    assert (rows[str(spam)]["pool"], rows[str(spam)]["source_address"]) == ("high-risk", "192.0.2.20")
    assert (rows[str(ham)]["pool"], rows[str(ham)]["source_address"]) == ("relay", "192.0.2.30")
    assert rows[str(odd)]["pool"] == "high-risk"
    assert (rows[str(utf8)]["pool"], rows[str(utf8)]["source_address"]) == ("relay", "192.0.2.30")


def test_demo_that_is_terminated_leaves_nothing_running():
    """As `timeout` does it."""
    process = subprocess.Popen([*COMMAND, "--keep"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    running = next(line for line in process.stdout if line.startswith("Running; "))
    folder = running.split(";")[1].removeprefix(" files in ").strip()
    process.terminate()
    process.wait(60)
    command_lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command_lines.append(path.read_bytes())
    assert not [line for line in command_lines if folder.encode() in line]
    shutil.rmtree(folder)


def test_demo_reports_a_message_that_cannot_be_sent_and_goes_on(tmp_path: Path):
    bad = tmp_path / "bad.eml"
    bad.write_bytes(b"From: <j\xf6rg@example.org>\n\nhello\n")
    result = demo("--json", str(bad))
    rows = list(map(json.loads, result.stdout.splitlines()))
    assert result.returncode == 1
    assert [row["message"] for row in rows if row["wrong"]] == [str(bad)]


def test_demo_with_a_missing_file_says_so_and_starts_nothing():
    result = demo("no-such-file.eml")
    assert (result.returncode, "no-such-file.eml" in result.stderr) == (1, True)


def test_lab_works_on_loopback_addresses_where_no_namespace_can_be_made():
    with running(isolate=False) as lab:
        recipient = fresh()
        result = lab.send("alice@example.org", recipient, mail(X_Spam_Flag="YES"), client_address="127.0.0.1")
        assert result.accepted, result
        message = arrived(lab, recipient)
        assert lab.pool_of(message) == "high-risk"
        assert message.source_address == lab.address("192.0.2.20")
        assert message.source_address.startswith("127.")
