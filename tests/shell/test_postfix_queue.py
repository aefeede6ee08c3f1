"""Postfix's commands as they may misbehave; what they do when all is well, the end-to-end tests show."""

import os
import time

import pytest

from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.adapters.requeue import RequeueInterrupted, requeue
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.records import DecisionRecord
from deliverypools.core.requeue import Outcome, QueuedMessage
from deliverypools.core.restrictions import Restriction
from deliverypools.core.settings import built_in_defaults

ENTRY = '{"queue_name": "deferred", "queue_id": "4jX%s", "arrival_time": 1795262400, "recipients": []}'


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Put a shell script in the place of one of Postfix's commands."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def command(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    return command


def test_the_queue_is_read_as_it_is_listed(command):
    command("postqueue", f"""echo '{ENTRY % 1}'; echo '{ENTRY % 2}'; exec sleep 1000""")
    messages = PostfixQueue().messages()
    assert next(messages) == QueuedMessage("4jX1", "deferred", 1795262400.0)
    assert next(messages).queue_id == "4jX2"
    started = time.monotonic()
    messages.close()
    assert time.monotonic() - started < 10, "the command is stopped with its reader"


def test_a_hundred_thousand_messages(command):
    command("postqueue", f"seq -f '{ENTRY % '%06.0f'}' 100000")
    assert len({message.queue_id for message in PostfixQueue().messages()}) == 100_000


def test_what_is_moved_while_the_queue_is_listed_is_not_missed(command, tmp_path):
    there = tmp_path / "listed_once"
    command("postqueue", f"echo '{ENTRY % 1}'; test -e {there} && echo '{ENTRY % 2}'; touch {there}")
    assert [message.queue_id for message in PostfixQueue().messages()] == ["4jX1", "4jX2"]


def test_what_is_listed_in_two_queues_is_one_message(command):
    command("postqueue", f"echo '{ENTRY % 1}'; echo '{ENTRY % 1}'")
    assert [message.queue_id for message in PostfixQueue().messages()] == ["4jX1"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (
            "echo 'postqueue: fatal: Queue report unavailable' >&2; exit 69",
            "postqueue: fatal: Queue report unavailable",
        ),
        ("exit 3", "postqueue: exit status 3"),
        ("echo nonsense", "postqueue -j: nonsense"),
        ("echo '[]'", "postqueue -j: []"),
        ("""echo '{"queue_id": "X", "queue_name": "hold"}'""", 'postqueue -j: {"queue_id"'),
        ("""printf '\\377\\n'""", "postqueue -j: "),
        (f"echo '{ENTRY % 1}'; exit 1", "postqueue: exit status 1"),
    ],
    ids=["fatal", "status", "no JSON", "no object", "field missing", "no UTF-8", "ends early"],
)
def test_a_list_that_is_not_one(command, script, error):
    command("postqueue", script)
    with pytest.raises(QueueError) as raised:
        list(PostfixQueue().messages())
    assert str(raised.value).startswith(error)


def test_ids_go_in_by_standard_input_and_what_was_done_comes_back(command, tmp_path):
    command(
        "postsuper",
        f"""echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/ids
        echo 'postsuper: 4jX1: placed on hold' >&2; echo 'postsuper: Placed on hold: 1 message' >&2""",
    )
    assert PostfixQueue("/etc/postfix-out").hold(["4jX1", "4jX2"]) == {"4jX1"}
    assert (tmp_path / "arguments").read_text() == "-c /etc/postfix-out -h - deferred\n"
    assert (tmp_path / "ids").read_text() == "4jX1\n4jX2\n"


def test_no_command_for_no_message(command):
    command("postsuper", "exit 1")
    queue = PostfixQueue()
    assert (queue.hold([]), queue.let_go([]), queue.requeue([])) == (set(), set(), set())


def test_a_command_that_fails_says_why(command):
    command("postsuper", "echo 'postsuper: fatal: use of this command is reserved for the superuser' >&2; exit 1")
    with pytest.raises(QueueError, match=r"^postsuper: fatal: use of this command is reserved for the superuser$"):
        PostfixQueue().requeue(["4jX1"])


def test_a_machine_without_postfix(monkeypatch, tmp_path):
    monkeypatch.setattr("deliverypools.adapters.commands._SYSTEM_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QueueError, match=r"^postqueue: No such file or directory$"):
        next(PostfixQueue().messages())
    with pytest.raises(QueueError, match="is Postfix installed here"):
        PostfixQueue().hostname()


def test_who_may_move_mail(command, monkeypatch):
    command("postconf", "echo nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 65_534)
    monkeypatch.setattr(os, "getuid", lambda: 65_534)
    assert PostfixQueue().is_ours_to_change(), "mail_owner is nobody here"
    monkeypatch.setattr(os, "getuid", lambda: 65_533)
    assert not PostfixQueue().is_ours_to_change()
    command("postconf", "exit 1")
    assert not PostfixQueue().is_ours_to_change()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert PostfixQueue().is_ours_to_change()


class MovingQueue(PostfixQueue):
    """A queue in which some messages move between two looks at it."""

    def __init__(self, first, then, *, holds):
        super().__init__()
        self.looks = [first, then]
        self.holds = holds
        self.asked = {}

    def hostname(self):
        return "mx.example.org"

    def messages(self):
        look = self.looks.pop(0)
        return iter([QueuedMessage(queue_id, queue_name, 1795262400.0) for queue_id, queue_name in look.items()])

    def hold(self, queue_ids):
        return set(queue_ids) & self.holds

    def requeue(self, queue_ids):
        return set(queue_ids) & self.holds

    def let_go(self, queue_ids):
        return set()

    def bcc_parameters(self):
        return ()

    def wake_pickup(self):
        return False


@pytest.fixture
def state(tmp_path):
    """Three messages of alice's, who has been restricted since."""
    state = SQLiteState(str(tmp_path / "state.db"), lambda: 1795262400.0)
    for queue_id in ("A", "B", "C"):
        record = DecisionRecord(
            queue_id=queue_id,
            host="mx.example.org",
            pass_name="egress",
            at=1795262400.0,
            ingress="submission",
            account="alice",
            pool="normal",
            rule="default",
            reasons="",
            envelope_sender="",
            recipients=1,
            client_address="",
            subject="",
            message_id="",
        )
        state.record(record, 1e6)
    state.restrict(Restriction(account="alice", since=1795262400.0, reason="spam"))
    yield state
    state.close()


def test_what_goes_into_delivery_at_the_last_moment_is_left_alone_and_keeps_its_record(state):
    queue = MovingQueue({"A": "deferred", "B": "deferred", "C": "deferred"}, {"B": "active"}, holds={"A"})
    receipt = requeue(queue, state, built_in_defaults(), ["alice"])
    assert {one.queue_id: one.outcome for one in receipt.moved} == {
        "A": Outcome.REQUEUED,
        "B": Outcome.IN_DELIVERY,
        "C": Outcome.GONE,
    }
    assert not receipt.is_pickup_awake
    rules = {queue_id: state.record_of("mx.example.org", queue_id).rule for queue_id in "ABC"}
    assert rules == {"A": "requeued", "B": "default", "C": "default"}


@pytest.mark.parametrize(
    ("failing", "raised"),
    [
        ("hostname", QueueError),
        ("messages", QueueError),
        ("hold", RequeueInterrupted),
        ("requeue", RequeueInterrupted),
        ("bcc_parameters", RequeueInterrupted),
    ],
)
def test_before_the_first_hold_nothing_has_begun(state, monkeypatch, failing, raised):
    def fail(*_):
        raise QueueError("killed")

    monkeypatch.setattr(MovingQueue, failing, fail)
    queue = MovingQueue({"A": "deferred"}, {}, holds={"A"})
    with pytest.raises(raised, match=r"^killed$"):
        requeue(queue, state, built_in_defaults(), ["alice"])
