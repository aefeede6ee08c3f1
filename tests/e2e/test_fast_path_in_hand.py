"""The fast path is closed while a process of Postfix has another file in hand than the one that was proved."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailing import arrived, fresh, running, submit
from postfix_command import postfix

from deliverypools.adapters.postfix_commands import PostfixInstance
from deliverypools.lab.lab import Lab
from deliverypools.lab.waiting import wait_until

COPIES = "alice@example.org bob@example.org\n"
NONE = "# none\n"
OF_BEFORE = "Postfix still has processes of before the change of"
ON = "fast path: on"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running() as lab:
        yield lab


@pytest.fixture
def maps(lab: Lab) -> Iterator[Path]:
    """A folder of a table by which Postfix makes copies for bob, and cleanup(8) has it in hand."""
    folder = lab.postfix.config_directory / fresh().partition("@")[0]
    database(lab, folder, COPIES)
    lab.postfix.set_main({"sender_bcc_maps": f"hash:{folder}/bcc"})
    assert way(lab) == "egress with a copy"
    yield folder
    lab.postfix.set_main({"sender_bcc_maps": ""})
    assert look(lab).startswith(ON)


def database(lab: Lab, folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "bcc").write_text(text)
    lab.postfix.run("postmap", f"hash:{folder}/bcc")


def way(lab: Lab) -> str:
    """Return the pass that decides about a message, and whether Postfix makes a copy of it, for bob's mailbox."""
    recipient, before, copies = fresh(), len(lab.milter.log()), len(lab.mailbox("bob"))
    submit(lab, recipient)
    arrived(lab, recipient)
    lab.wait_until_queue_is_empty()
    (found,) = set(re.findall(r"pass=(fast|egress) ", lab.milter.log()[before:]))
    return f"{found} with a copy" if len(lab.mailbox("bob")) > copies else str(found)


def look(lab: Lab) -> str:
    """Return what root's look says."""
    return postfix(lab, "fast-path").out


def compiled_twice_in_a_second(lab: Lab, maps: Path) -> None:
    """`postmap` again: Postfix compares whole seconds."""
    compiled = maps / "bcc.db"
    before = compiled.stat()
    database(lab, maps, NONE)
    os.utime(compiled, ns=(before.st_mtime_ns, before.st_mtime_ns + 1))


def replaced_beside_a_hard_link(lab: Lab, maps: Path) -> None:
    """As rsync does after a backup by `cp -al`: the file of before has as many names as ever."""
    compiled, new = maps / "bcc.db", maps.with_name(f"{maps.name}.new")
    database(lab, new, NONE)
    os.link(compiled, maps / "backup.db")
    (new / "bcc.db").rename(compiled)


def folder_exchanged(lab: Lab, maps: Path) -> None:
    """`mv maps maps.old; mv maps.new maps`."""
    new = maps.with_name(f"{maps.name}.new")
    database(lab, new, NONE)
    maps.rename(maps.with_name(f"{maps.name}.old"))
    new.rename(maps)


@pytest.mark.parametrize("change", [compiled_twice_in_a_second, replaced_beside_a_hard_link, folder_exchanged])
def test_database_of_which_cleanup_has_an_older_one(lab: Lab, maps: Path, change: Callable[[Lab, Path], None]):
    """Postfix does not notice: it makes copies as before."""
    change(lab, maps)
    assert OF_BEFORE in look(lab)
    assert way(lab) == "egress with a copy"
    assert OF_BEFORE in look(lab)
    lab.postfix.reload()
    assert look(lab).startswith(ON)
    assert way(lab) == "fast"


def linked(link: Path, target: Path) -> None:
    """`ln -sfn`."""
    new = link.with_name(f"{link.name}.new")
    new.symlink_to(target)
    new.replace(link)


@pytest.fixture
def main_files(lab: Lab) -> Iterator[tuple[Path, Path, Path]]:
    """Give main.cf, a link, and two files that it may lead to: it leads to the first, and the second makes copies."""
    main = lab.postfix.config_directory / "main.cf"
    first, second = main.with_name("main.1"), main.with_name("main.2")
    text = main.read_text()
    first.write_text(text)
    second.write_text(f"{text}\nalways_bcc = bob@example.org\n")
    linked(main, first)
    lab.postfix.reload()
    assert look(lab).startswith(ON)
    yield main, first, second
    main.unlink()
    main.write_text(text)
    lab.postfix.reload()
    assert look(lab).startswith(ON)


def test_older_main_cf_in_place_of_a_newer_one(lab: Lab, main_files: tuple[Path, Path, Path]):
    """A release taken back, and no reload."""
    main, first, second = main_files
    linked(main, second)
    lab.postfix.reload()
    assert way(lab) == "egress with a copy"
    linked(main, first)
    assert way(lab) == "egress with a copy"  # The proof was about this file, and yet it is not what Postfix works by.
    assert OF_BEFORE in look(lab)
    lab.postfix.reload()
    assert look(lab).startswith(ON)
    assert way(lab) == "fast"


def test_look_from_where_postfix_is_not_seen(lab: Lab):
    """As root of a container that has the same files, and other processes."""
    lab.postfix.set_main({"always_bcc": "bob@example.org"})
    assert way(lab) == "egress with a copy"
    lab.postfix.postconf("-e", "always_bcc=")
    command = [sys.executable, "-m", "deliverypools", "postfix", "fast-path", "--config", str(lab.settings_file)]
    with lab.network.inside():
        seen = subprocess.run(
            [
                "unshare",
                "--pid",
                "--fork",
                "--mount-proc",
                *command,
                "--config-directory",
                lab.postfix.config_directory,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "no process of this Postfix is seen here" in seen.stdout, seen
    assert way(lab) == "egress with a copy"
    lab.postfix.reload()
    assert look(lab).startswith(ON)


@pytest.mark.parametrize("with_it", [(), ("pickup",)])
def test_queue_manager_that_is_new_without_a_reload(lab: Lab, with_it: tuple[str, ...]):
    """It was killed, as were those that read main.cf; master(8) hands out the options of before."""
    lab.postfix.postconf("-P", "cleanup-fast/unix/always_bcc=bob@example.org")
    lab.postfix.reload()
    assert way(lab) == "egress with a copy"
    lab.postfix.postconf("-P", "cleanup-fast/unix/always_bcc=")
    instance = PostfixInstance(str(lab.postfix.config_directory))
    killed = instance.processes("smtpd", "cleanup", "trivial-rewrite", "proxymap", "qmgr", *with_it)
    for process in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)

    def has_begun() -> bool:
        lab.postfix.flush()
        return bool(instance.processes("qmgr") - killed)

    wait_until(has_begun, timeout_seconds=90, what="the next queue manager")
    assert way(lab) == "egress with a copy"
    assert "postfix reload" in look(lab)
    assert way(lab) == "egress with a copy"
    lab.postfix.postconf("-PX", "cleanup-fast/unix/always_bcc")
    lab.postfix.reload()
    assert look(lab).startswith(ON)
    assert way(lab) == "fast"
