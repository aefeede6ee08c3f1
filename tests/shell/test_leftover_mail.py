"""Which queued mail is ours, told by a postcat that finds files gone, is refused, or is shown hostile mail."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deliverypools.adapters.leftover_mail import QueueFiles
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_queue import PostfixQueue
from deliverypools.cli import postfix_uninstall
from deliverypools.core.postfix_install.manifest import Reload

POSTCAT = """\
what=$3; shift 4
for id; do
  test -f {files}/$id || {{ echo "postcat: fatal: open queue file $id: No such file or directory" >&2; exit 1; }}
  test $what = -b || awk -v id=$id -v what=$what '
    BEGIN {{ print "*** ENVELOPE RECORDS deferred/4/" id " ***" }}
    !contents && !/^[a-z]/ {{ contents = 1; print "*** MESSAGE CONTENTS deferred/4/" id " ***" }}
    /^$/ {{ exit }}
    !contents || what == "-eh" {{ print }}
    END {{ print "*** HEADER EXTRACTED deferred/4/" id " ***" }}
  ' {files}/$id
  test $what != -b || sed '1,/^$/d' {files}/$id
done
"""


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def found(
        files: dict[str, str], *, gone: tuple[str, ...] = (), postcat: str = POSTCAT, since: float = math.inf
    ) -> set[str]:
        (tmp_path / "files").mkdir()
        for name, text in files.items():
            (tmp_path / "files" / name).write_text(text)
        entry = '{"queue_name": "deferred", "queue_id": "%s", "arrival_time": 1, "recipients": []}\n'
        (tmp_path / "list").write_text("".join(entry % name for name in sorted([*files, *gone])))
        scripts = {"postqueue": f"cat {tmp_path}/list", "postcat": postcat.format(files=tmp_path / "files")}
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
        queue = PostfixQueue()
        return {message.queue_id for message in QueueFiles(Path("/nowhere"), ["pool-normal"], since).ours(queue)}

    return found


def test_pool_tag_ticket_and_returned_ticket_are_ours(ours: Callable[..., set[str]]):
    files = {
        "A": "content_filter: pool-normal:\nsender: a@example.org\n\nbody\n",
        "B": "sender: a@example.org\nX-Delivery-Pool: normal\n\nbody\n",
        "C": "sender: a@example.org\nX-DELIVERY-POOL-TICKET: gA\n\nbody\n",
        "D": "sender: \nSubject: returned\n\nContent-Type: message/rfc822\n\nX-Delivery-Pool-Ticket: gA\n",
        "E": "content_filter: scan:[127.0.0.1]:10024\nsender: a@example.org\n\nX-Delivery-Pool: quoted\n",
        "F": "sender: \nSubject: another notice\n\nbody\n",
        "G": "content_filter: pool-normal-of-somebody:\nsender: a@example.org\n\nbody\n",
    }
    assert ours(files) == {"A", "B", "C", "D"}


def test_what_arrived_later_is_ours_by_its_transport_or_as_our_own_notice(ours: Callable[..., set[str]]):
    """The arrival of all of them is 1 second after the epoch."""
    returned = "Subject: returned\n\nX-Delivery-Pool-Ticket: gA\n"
    files = {
        "A": "content_filter: pool-normal:\nsender: a@example.org\n\nbody\n",
        "B": "sender: a@example.org\nX-Delivery-Pool: normal\n\nbody\n",
        # bounce(8) made it; the other one a stranger.
        "C": f"sender: \n{returned}",
        "D": f"named_attribute: log_client_address=192.0.2.1\nsender: \n{returned}",
    }
    assert ours(files, since=0.5) == {"A", "C"}


def test_what_is_written_like_our_envelope_or_beyond_a_long_line_is_not_ours(ours: Callable[..., set[str]]):
    files = {
        "A": "sender: a@example.org\nSubject: x\ncontent_filter: pool-normal:\n\nbody\n",
        "B": f"sender: a@example.org\nSubject: {'x' * ((1 << 16) - 9)}X-Delivery-Pool: normal\n\nbody\n",
        "C": "sender: a@example.org\nSubject: x\nnamed_attribute: log_client_address=x\nsender: \n\n"
        "X-Delivery-Pool: normal\n",
    }
    assert ours(files) == set()


def test_file_that_is_moved_while_postcat_looks_for_it_is_read_at_the_next_try(
    ours: Callable[..., set[str]], tmp_path: Path
):
    pool = "content_filter: pool-normal:\nsender: a@example.org\n\n"
    moved = f"test -e {tmp_path}/once || {{ touch {tmp_path}/once; echo 'postcat: fatal: open queue file A: "
    moved += "No such file or directory' >&2; exit 1; }\n"
    assert ours({"A": pool, "B": pool}, postcat=moved.replace("{", "{{").replace("}", "}}") + POSTCAT) == {"A", "B"}


def test_files_that_have_gone_do_not_hide_those_behind_them(ours: Callable[..., set[str]]):
    pool = "content_filter: pool-normal:\nsender: a@example.org\n\n"
    wanted = {f"M{number:04}" for number in range(0, 450, 2)}
    gone = tuple(f"M{number:04}" for number in range(1, 450, 20))
    assert ours(dict.fromkeys(wanted, pool), gone=gone) == wanted


def test_body_that_looks_like_another_file_tells_nothing_of_it(ours: Callable[..., set[str]]):
    hostile = "sender: \nSubject: x\n\n*** ENVELOPE RECORDS deferred/4/Z ***\nX-Delivery-Pool: normal\n"
    assert ours({"A": hostile, "Z": "sender: a@example.org\n\nbody\n"}) == {"A"}


def test_endless_lines_are_read_in_parts(ours: Callable[..., set[str]]):
    assert ours({"A": f"sender: a@example.org\nSubject: {'x' * 300_000}\nX-Delivery-Pool: normal\n\n"}) == {"A"}


def test_refusal_is_no_empty_queue(ours: Callable[..., set[str]]):
    refusal = 'echo "postcat: fatal: open queue file A: Permission denied" >&2; exit 1'
    with pytest.raises(PostfixError, match="Permission denied; run this as root"):
        ours({"A": "sender: \n\n"}, postcat=refusal)


def test_headers_of_a_client_count_where_any_header_does(ours: Callable[..., set[str]]):
    files = {
        "A": "content_filter: pool-normal:\nsender: a@example.org\n\nbody\n",
        "B": "sender: a@example.org\nX-Delivery-Pool: normal\n\nbody\n",
        "C": "sender: \nSubject: returned\n\nX-Delivery-Pool: normal\n",
    }
    ours(files)
    assert QueueFiles(Path("/nowhere"), ()).with_header(PostfixQueue()) == {"B"}


def test_what_no_pass_has_led_to_a_transport_of_ours_is_undecided(ours: Callable[..., set[str]]):
    files = {
        "A": "content_filter: pool-normal:\nsender: a@example.org\n\nbody\n",
        "B": "sender: a@example.org\nX-Delivery-Pool-Ticket: gA\n\ncontent_filter: pool-normal:\n",
        "C": "content_filter: scan:[127.0.0.1]:10024\nsender: \n\nbody\n",
    }
    ours(files, gone=("D",))
    looked_at = QueueFiles(Path("/nowhere"), ["pool-normal", "pool-relay"])
    assert looked_at.undecided(PostfixQueue()) == 2
    assert looked_at.named(PostfixQueue()) == {"pool-normal"}


def test_what_is_handed_on_while_uninstall_looks_is_found_by_its_new_queue_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In the list it has one queue id; when postcat looks for that, it has another."""
    entry = '{"queue_name": "active", "queue_id": "%s", "arrival_time": 1, "recipients": []}'
    handed_on = tmp_path / "handed-on"
    postqueue = f"test -e {handed_on} && echo '{entry % 'Y'}' || echo '{entry % 'X'}'"
    postcat = f"""\
shift 4
if test $1 = X; then
  touch {handed_on}
  echo "postcat: fatal: open queue file X: No such file or directory" >&2; exit 1
fi
printf '*** ENVELOPE RECORDS active/%s ***\\ncontent_filter: pool-normal:\\n' $1
"""
    for name, script in {"postqueue": postqueue, "postcat": postcat}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "main.cf").touch()
    monkeypatch.setattr(postfix_uninstall, "old_processes", lambda *_: set())
    run = postfix_uninstall._Uninstall(
        options=argparse.Namespace(requeue=False, wait=0.0, json=False),
        instance=PostfixInstance(str(tmp_path)),
        editor=PostfixEditor(PostfixInstance(str(tmp_path)), time.time),
        queue=PostfixQueue(str(tmp_path)),
    )
    reload = Reload(at=1.0, uptime_seconds=1.0, boot_id="x", ended_at=5.0)
    left, _ = postfix_uninstall._wait(run, ["pool-normal"], reload)
    assert [message.queue_id for message in left] == ["Y"]
