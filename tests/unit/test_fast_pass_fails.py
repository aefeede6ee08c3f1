"""What breaks the fast path takes the hop, counted once; it is not tried again, and charged anew, for days."""

import time
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet

from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core import ticket as tickets
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Answer, Ingress
from deliverypools.core.limits import recipients_window
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY
from deliverypools.milter import fast_pass, first_pass
from deliverypools.milter.collector import TAG_HEADER, Connection, MessageCollector
from deliverypools.milter.egress_accounts import SentOn, with_count
from deliverypools.milter.verdict import Reply

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
ALICE = Account(Ingress.SUBMISSION, "alice@example.org", "example.org", "example.org")
CONNECTION = Connection(hostname="mx.example.org", client_address="198.51.100.7", proof_seen="a proof")


@pytest.fixture
def state(tmp_path):
    state = SQLiteState(str(tmp_path / "state.db"), time.time)
    yield state
    state.close()


@pytest.fixture
def services(state):
    return SimpleNamespace(
        settings=Settings.model_validate({"accepted_domains": ["example.org"], "pools": POOLS}),
        state=state,
        sealer=TicketSealer([Fernet.generate_key()]),
        rewriter=None,
        fast_path=SimpleNamespace(is_open=lambda *, since: since == CONNECTION.proof_seen),
        clock=time.time,
        new_ticket_id=lambda: "ticket",
    )


@pytest.fixture
def exceptions(monkeypatch):
    counted = []
    monkeypatch.setattr(first_pass, "add", lambda metric, callback: counted.append((metric.name, callback)))
    return counted


def message():
    collector = MessageCollector("<alice@example.org>", sasl_username="alice@example.org")
    collector.add_recipient("<bob@example.net>", (), is_outside=True)
    return collector.end("4FIRST")


@pytest.fixture(params=["facts_of", "decide", "recorded", "with_ticket"])
def broken(request, monkeypatch):
    """A step of the fast path that breaks."""

    def breaks(*_arguments, **_options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(fast_pass, request.param, breaks)


@pytest.mark.usefixtures("broken")
def test_a_message_that_breaks_it_takes_the_hop_and_is_counted_once(caplog, services, state, exceptions):
    verdict = first_pass.first_pass(message(), CONNECTION, services)
    assert verdict.reply is Reply.CONTINUE
    assert [name for name, _ in verdict.add] == [tickets.HEADER], f"a ticket and no {TAG_HEADER}"
    ticket = services.sealer.open(verdict.add[0][1])
    assert ticket.origin.over_limit.answer is Answer.NO, "it is counted already"
    with_count(ticket, message(), SentOn(), services)
    assert state.used([recipients_window(ALICE, DAY)]) == (1,)
    assert "4FIRST: untrapped exception" in caplog.text
    assert "can't start new thread" in caplog.text
    assert exceptions == [("exceptions_total", "eom")]


def test_what_ends_a_process_is_left_to_the_callback(monkeypatch, services, exceptions):
    def exits(*_arguments, **_options):
        raise SystemExit(3)

    monkeypatch.setattr(fast_pass, "facts_of", exits)
    with pytest.raises(SystemExit):
        first_pass.first_pass(message(), CONNECTION, services)
    assert exceptions == []
