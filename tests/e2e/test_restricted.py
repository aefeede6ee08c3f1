"""Live demotion: queued mail of an account that is restricted, or released, leaves by another pool than before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mailing import BOB, HIGH_RISK, NORMAL, arrived, fresh, from_trusted, mail, submit

from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.adapters.requeue import RequeueInterrupted, requeue
from deliverypools.adapters.settings_file import load_settings
from deliverypools.cli.shared_state import shared_state
from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import ACCEPT, DEFER
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

ALICE = "alice@example.org"
NO_BURST_LIMIT = {"limits": {"messages_per_minute": 0}}
HOLD = NO_BURST_LIMIT | {"outbound_policies": [{"name": "default", "restricted_mail": "hold"}]}


def restricted(lab: Lab, action: str, *arguments: str) -> Any:
    """Run `delivery-pools restricted`; return its exit status, what it wrote, and the JSON in it."""
    command = [sys.executable, "-m", "deliverypools", "restricted", action, *arguments]
    command += ["--config", str(lab.settings_file), "--config-directory", str(lab.postfix.config_directory)]
    with lab.network.inside():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return SimpleNamespace(
        status=done.returncode, out=done.stdout, err=done.stderr, json=lambda: json.loads(done.stdout)
    )


def defer_all(lab: Lab, number: int) -> tuple[list[str], str]:
    """Have so many messages of alice deferred, and one of bob; return the recipients."""
    lab.receiver.answer("example.net", DEFER)
    recipients = [fresh("example.net") for _ in range(number)]
    for recipient in recipients:
        submit(lab, recipient)
    other = fresh("example.net")
    submit(lab, other, mail(sender="bob@example.org"), auth=BOB)
    lab.postfix.wait_until_deferred(number + 1)
    return recipients, other


def until_nothing_is_in_delivery(lab: Lab, receipt: dict[str, Any]) -> Counter[str]:
    """Run the command again until no message was left alone; return how many were moved in all, and how."""
    total = Counter(receipt["counts"])

    def is_done() -> bool:
        nonlocal receipt
        if not receipt["counts"]["in delivery"]:
            return True
        receipt = restricted(lab, "requeue", ALICE, "--json").json()
        total.update(receipt["counts"])
        return False

    wait_until(is_done, timeout_seconds=30, what="a look at the queue without a message in delivery")
    return total


def wait_until_only_on_hold(lab: Lab, number: int) -> None:
    def are_all_on_hold() -> bool:
        return [entry["queue_name"] for entry in lab.postfix.queue()] == ["hold"] * number

    wait_until(are_all_on_hold, timeout_seconds=20, what=f"{number} messages on hold and none elsewhere")


def leave(lab: Lab, recipients: list[str]) -> set[str]:
    """Let the receiver accept; return the source addresses of these recipients' messages, once everything has left."""
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    sources = {arrived(lab, recipient, seconds=60).source_address for recipient in recipients}
    lab.postfix.flush()
    lab.postfix.wait_until_queue_is_empty(60)
    arrivals = Counter(recipient for message in lab.messages for recipient in message.recipients)
    assert set(arrivals.values()) == {1}, "each exactly once"
    return sources


def test_queued_mail_of_a_restricted_account_leaves_by_high_risk(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT)
    recipients, other = defer_all(lab, 50)
    answer = restricted(lab, "add", ALICE, "--requeue", "--json")
    assert (answer.status, answer.json()["account"]) == (0, ALICE), answer.err
    moved = until_nothing_is_in_delivery(lab, answer.json()["requeue"])
    assert moved["requeued"] == 50
    lab.postfix.wait_until_deferred(51)
    lab.receiver.clear()
    sources = leave(lab, recipients)
    assert sources <= HIGH_RISK
    assert arrived(lab, other).source_address in NORMAL
    tried = {address for address, recipient in lab.receiver.not_accepted if recipient in recipients}
    assert tried <= HIGH_RISK, "also what was refused meanwhile"


def test_a_release_undoes_it_and_copies_are_counted(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT, site=Site(main={"always_bcc": "bob@example.org"}))
    recipients, other = defer_all(lab, 10)
    copies = len(lab.mailbox("bob"))
    add = restricted(lab, "add", ALICE, "--requeue", "--json").json()["requeue"]
    requeued = until_nothing_is_in_delivery(lab, add)["requeued"]
    assert add["copied_again"] == {"always_bcc": add["counts"]["requeued"]}
    lab.postfix.wait_until_deferred(11)
    release = restricted(lab, "release", ALICE, "--requeue", "--json")
    assert release.status == 0, release.err
    requeued += until_nothing_is_in_delivery(lab, release.json()["requeue"])["requeued"]
    assert requeued == 20
    lab.postfix.wait_until_deferred(11)
    assert len(lab.mailbox("bob")) == copies + requeued, "one more copy for each requeued message, as was told"
    assert leave(lab, [*recipients, other]) <= NORMAL


def test_held_by_policy_until_it_is_released(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=HOLD)
    recipients, other = defer_all(lab, 10)
    until_nothing_is_in_delivery(lab, restricted(lab, "add", ALICE, "--requeue", "--json").json()["requeue"])
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    assert arrived(lab, other).source_address in NORMAL

    wait_until_only_on_hold(lab, 10)
    assert not set(recipients) & {recipient for message in lab.messages for recipient in message.recipients}
    again = restricted(lab, "requeue", "--json").json()
    assert again["messages"] == [], "what waits as it should is left alone"
    assert restricted(lab, "release", ALICE, "--requeue", "--json").json()["requeue"]["counts"]["requeued"] == 10
    assert leave(lab, recipients) <= NORMAL


def test_mail_in_delivery_is_left_alone_and_reported(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT)
    first, second = fresh("example.net"), fresh("example.net")
    lab.postfix.set_main({"pool-normal_destination_rate_delay": "600s"})
    submit(lab, first)
    arrived(lab, first)
    submit(lab, second)  # waits in the active queue now, for ten minutes

    def waiting() -> list[str]:
        """Return the ids of the active queue, if that is all there is and it has passed the hop."""
        queue = lab.postfix.queue()
        passed = all(f"{entry['queue_id']}: pass=egress" in lab.milter.log() for entry in queue)
        return [entry["queue_id"] for entry in queue if passed and entry["queue_name"] == "active"]

    wait_until(lambda: len(waiting()) == 1, timeout_seconds=20, what="a message in active delivery")
    (queue_id,) = waiting()
    answer = restricted(lab, "add", ALICE, "--requeue")
    assert answer.status == 0
    assert f"{queue_id}: left alone, in delivery by normal; {ALICE}" in answer.out
    assert "run this in a few minutes: delivery-pools restricted requeue --config" in answer.out
    assert restricted(lab, "requeue").status == 75
    assert waiting() == [queue_id]
    lab.postfix.set_main({"pool-normal_destination_rate_delay": "0s"})
    assert leave(lab, [second]) <= NORMAL


def test_an_interrupted_run_is_taken_up_by_the_next(make_lab: Callable[..., Lab]):
    class BreaksDown(PostfixQueue):
        def requeue(self, queue_ids: Any) -> set[str]:
            raise QueueError("killed")

    lab = make_lab(settings=NO_BURST_LIMIT)
    recipients, _ = defer_all(lab, 5)
    settings = load_settings(lab.settings_file)
    assert restricted(lab, "add", ALICE).status == 0

    def is_interrupted_with_mail_on_hold() -> bool:
        with lab.network.inside(), shared_state(settings) as state, pytest.raises(RequeueInterrupted):
            requeue(BreaksDown(str(lab.postfix.config_directory)), state, settings, [])
        return any(entry["queue_name"] == "hold" for entry in lab.postfix.queue())

    # All of it may just be in delivery again.
    wait_until(is_interrupted_with_mail_on_hold, timeout_seconds=30, what="mail on hold")
    receipt = restricted(lab, "requeue", "--json").json()
    assert until_nothing_is_in_delivery(lab, receipt)["requeued"] == 5
    lab.postfix.wait_until_deferred(6)
    assert leave(lab, recipients) <= HIGH_RISK


def test_what_somebody_else_has_put_on_hold_moves_only_when_the_account_is_named(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT)
    recipients, _ = defer_all(lab, 1)
    (entry,) = (entry for entry in lab.postfix.queue() if entry["sender"] == ALICE)
    lab.postfix.postsuper("-h", entry["queue_id"])
    restricted(lab, "add", ALICE)
    assert restricted(lab, "requeue", "--json").json()["messages"] == []
    assert restricted(lab, "requeue", ALICE, "--json").json()["counts"]["requeued"] == 1
    lab.postfix.wait_until_deferred(2)
    assert leave(lab, recipients) <= HIGH_RISK


def test_express_profile_holds_and_lets_go(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="express")
    lab.receiver.answer("example.net", DEFER)
    recipients = [fresh("example.net"), fresh("example.net")]
    for recipient in recipients:
        from_trusted(lab, recipient)
    other = fresh("example.net")
    from_trusted(lab, other, mail(sender="bob@example.org"), sender="bob@example.org")
    lab.postfix.wait_until_deferred(3)
    receipt = restricted(lab, "add", ALICE, "--requeue", "--json").json()["requeue"]
    assert until_nothing_is_in_delivery(lab, receipt)["held"] == 2
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    assert arrived(lab, other).source_address in NORMAL
    wait_until_only_on_hold(lab, 2)
    assert restricted(lab, "release", ALICE).status == 0
    assert restricted(lab, "requeue", "--json").json()["counts"]["let go"] == 2
    assert leave(lab, recipients) <= NORMAL
