"""Rows of the decision log: what became of a message is told in full, however many its reasons are."""

import pytest

from deliverypools.core.decisions import Decision
from deliverypools.milter.collector import Connection, MessageCollector
from deliverypools.milter.decision_log import decision_record


def reasons_of(decision):
    message = MessageCollector("alice@example.org").end("4Q1")
    return decision_record("egress", message, Connection(), None, at=0.0, decision=decision).reasons


@pytest.mark.parametrize(
    ("decision", "reasons"),
    [
        (None, ""),
        (Decision("high-risk", "spam", ("rspamd: found", "clamd: clean")), "rspamd: found; clamd: clean"),
        (Decision("high-risk", "spam", ("rspamd: found",), hold=True), "put on hold; rspamd: found"),
    ],
    ids=["none", "pool", "hold"],
)
def test_reasons(decision, reasons):
    assert reasons_of(decision) == reasons


def test_a_message_on_hold_is_known_for_it_whatever_scanners_said():
    found = reasons_of(Decision("high-risk", "spam", ("S" * 1000,) * 10, hold=True))
    assert found.startswith("put on hold; S")
    assert len(found) < 700
