"""Live demotion: which queued messages no longer leave as they should, and what is done about each."""

from dataclasses import replace

import pytest

from deliverypools.core.facts import Ingress
from deliverypools.core.records import PUT_ON_HOLD, DecisionRecord
from deliverypools.core.requeue import (
    Intent,
    Planned,
    QueuedMessage,
    Step,
    intent_for,
    is_about,
    noted,
    step_for,
)
from deliverypools.core.restrictions import Restriction
from deliverypools.core.settings import OutboundPolicy, built_in_defaults

NOON = 1_795_262_400.0
RECORD = DecisionRecord(
    queue_id="4jX1",
    host="mx.example.org",
    pass_name="egress",
    at=NOON,
    ingress="submission",
    account="alice@example.org",
    pool="normal",
    rule="default",
    reasons="no other rule matched",
    envelope_sender="alice@example.org",
    recipients=1,
    client_address="203.0.113.9",
    subject="hello",
    message_id="<1@example.org>",
)
RESTRICTED = replace(RECORD, rule="restricted_sender", pool="high-risk")
SPAM = replace(RECORD, rule="spam", pool="high-risk")
BEGUN = replace(RECORD, rule="requeued")
LET_GO = replace(RECORD, rule="let_go")
HELD_HERE = replace(RECORD, rule="restricted_sender")
"""In the express profile: put on hold by a run, with the pool that it had."""


def step(queue_name, record, intent, *, asked=False, express=False):
    message = QueuedMessage(record.queue_id, queue_name, NOON)
    return step_for(message, record, intent, passes_hop=not express, is_asked_for=asked)


@pytest.mark.parametrize(
    ("queue_name", "record", "intent", "expected"),
    [
        ("deferred", RECORD, Intent.HIGH_RISK, Step.REQUEUE),
        ("deferred", RECORD, Intent.HOLD, Step.REQUEUE),
        ("deferred", RECORD, Intent.OWN_POOL, None),
        ("deferred", RESTRICTED, Intent.OWN_POOL, Step.REQUEUE),
        ("deferred", RESTRICTED, Intent.HIGH_RISK, None),
        ("deferred", SPAM, Intent.HIGH_RISK, None),
        ("deferred", SPAM, Intent.HOLD, Step.REQUEUE),
        ("deferred", SPAM, Intent.OWN_POOL, None),
        ("hold", RESTRICTED, Intent.OWN_POOL, Step.REQUEUE),
        ("hold", RESTRICTED, Intent.HOLD, None),
        ("hold", RECORD, Intent.OWN_POOL, None),
        ("hold", RECORD, Intent.HIGH_RISK, None),
        ("hold", RECORD, Intent.HOLD, None),
        ("hold", BEGUN, Intent.OWN_POOL, Step.REQUEUE),
        ("hold", BEGUN, Intent.HIGH_RISK, Step.REQUEUE),
        ("hold", BEGUN, Intent.HOLD, Step.REQUEUE),
        ("deferred", BEGUN, Intent.OWN_POOL, Step.REQUEUE),
        ("active", RECORD, Intent.HIGH_RISK, Step.LEAVE),
        ("incoming", RECORD, Intent.HOLD, Step.LEAVE),
        ("active", RESTRICTED, Intent.OWN_POOL, Step.LEAVE),
        ("active", RECORD, Intent.OWN_POOL, None),
        ("maildrop", RECORD, Intent.HIGH_RISK, None),
        ("corrupt", RECORD, Intent.HIGH_RISK, None),
    ],
)
def test_mail_that_passes_the_hop_again(queue_name, record, intent, expected):
    assert step(queue_name, record, intent) is expected


@pytest.mark.parametrize(
    ("queue_name", "record", "intent", "expected"),
    [
        ("hold", RECORD, Intent.OWN_POOL, Step.REQUEUE),
        ("hold", RECORD, Intent.HIGH_RISK, Step.REQUEUE),
        ("hold", RESTRICTED, Intent.HIGH_RISK, Step.REQUEUE),
        ("hold", RECORD, Intent.HOLD, Step.REQUEUE),
        ("hold", RESTRICTED, Intent.HOLD, None),
        ("deferred", RESTRICTED, Intent.HOLD, Step.REQUEUE),
        ("deferred", RECORD, Intent.OWN_POOL, None),
    ],
)
def test_an_administrator_who_names_the_account_moves_what_is_on_hold(queue_name, record, intent, expected):
    assert step(queue_name, record, intent, asked=True) is expected


def test_what_somebody_took_off_hold_is_not_put_back_by_itself():
    assert step("deferred", RESTRICTED, Intent.HOLD) is None
    assert step("deferred", HELD_HERE, Intent.HOLD, express=True) is None


@pytest.mark.parametrize(
    ("queue_name", "record", "intent", "expected"),
    [
        ("deferred", RECORD, Intent.HIGH_RISK, Step.HOLD),
        ("deferred", SPAM, Intent.HIGH_RISK, None),
        ("deferred", SPAM, Intent.HOLD, Step.HOLD),
        ("deferred", LET_GO, Intent.HOLD, Step.HOLD),
        ("deferred", RECORD, Intent.OWN_POOL, None),
        ("deferred", RESTRICTED, Intent.OWN_POOL, Step.STAY),
        ("deferred", HELD_HERE, Intent.OWN_POOL, None),
        ("hold", HELD_HERE, Intent.OWN_POOL, Step.LET_GO),
        ("hold", RESTRICTED, Intent.OWN_POOL, Step.LET_GO),
        ("hold", RECORD, Intent.OWN_POOL, None),
        ("hold", HELD_HERE, Intent.HIGH_RISK, None),
        ("hold", HELD_HERE, Intent.HOLD, None),
        ("active", RECORD, Intent.HIGH_RISK, Step.LEAVE),
        ("active", RESTRICTED, Intent.OWN_POOL, None),
    ],
)
def test_mail_that_keeps_its_pool(queue_name, record, intent, expected):
    assert step(queue_name, record, intent, express=True) is expected


def test_what_a_scanner_had_put_on_hold_stays_there_whoever_is_released():
    held = replace(SPAM, reasons=f"{PUT_ON_HOLD}clamd: found (Eicar)")
    assert step("hold", held, Intent.OWN_POOL, asked=True, express=True) is None
    # The same of somebody else's holding: that was an administrator.
    assert step("hold", SPAM, Intent.OWN_POOL, asked=True, express=True) is Step.LET_GO


def restriction(account="alice@example.org", ingress=None):
    return Restriction(account=account, ingress=ingress, since=NOON, reason="spam")


HOLDS = built_in_defaults().model_copy(
    update={"outbound_policies": (OutboundPolicy(name="default", restricted_mail="hold"),)}
)


@pytest.mark.parametrize(
    ("restrictions", "settings", "expected"),
    [
        ([], built_in_defaults(), Intent.OWN_POOL),
        ([restriction()], built_in_defaults(), Intent.HIGH_RISK),
        ([restriction()], HOLDS, Intent.HOLD),
        ([restriction("bob@example.org")], built_in_defaults(), Intent.OWN_POOL),
        ([restriction(ingress=Ingress.SUBMISSION)], built_in_defaults(), Intent.HIGH_RISK),
        ([restriction(ingress=Ingress.TRUSTED)], built_in_defaults(), Intent.OWN_POOL),
    ],
)
def test_how_mail_of_an_account_ought_to_leave(restrictions, settings, expected):
    assert intent_for(RECORD, restrictions, settings) is expected


def test_a_trusted_client_under_no_policy_is_not_held():
    record = replace(RECORD, ingress="trusted")
    assert intent_for(record, [restriction()], HOLDS) is Intent.HIGH_RISK


def test_a_record_that_does_not_know_the_way_of_sending_restricts_nothing():
    assert intent_for(replace(RECORD, ingress=""), [restriction()], HOLDS) is Intent.OWN_POOL


@pytest.mark.parametrize(
    ("arrived_at", "expected"),
    [(NOON, True), (NOON - 7200, True), (NOON - 7201, False), (NOON + 60, True), (NOON + 61, False)],
)
def test_a_record_of_another_message_under_the_same_queue_id_is_not_believed(arrived_at, expected):
    assert is_about(RECORD, QueuedMessage("4jX1", "deferred", arrived_at)) is expected


@pytest.mark.parametrize(
    ("move", "rule", "reasons"),
    [
        (Step.REQUEUE, "requeued", "to be decided again; was default: no other rule matched"),
        (Step.HOLD, "restricted_sender", "put on hold; was default: no other rule matched"),
        (Step.LET_GO, "let_go", "taken off hold; was default: no other rule matched"),
    ],
)
def test_what_goes_on_record_before_a_move(move, rule, reasons):
    planned = Planned(QueuedMessage("4jX1", "deferred", NOON), RECORD, move)
    assert noted(planned) == replace(RECORD, rule=rule, reasons=reasons)
    again = replace(planned, record=noted(planned))
    assert noted(again) == noted(planned), "an interrupted run that goes on adds nothing"
