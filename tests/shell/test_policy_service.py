"""What the policy service answers to requests that are asked about together, over a real file and an invented clock."""

import pytest

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import recipients_window
from deliverypools.core.restrictions import Restriction
from deliverypools.core.settings import OutboundPolicy, built_in_defaults
from deliverypools.core.srs import SenderRewriter
from deliverypools.core.tallies import DAY
from deliverypools.policy import service as module
from deliverypools.policy.service import DUNNO, PolicyService

NOON = 1_700_000_000.0


def settings_with(*policies):
    return built_in_defaults().model_copy(update={"accepted_domains": ("example.org",), "outbound_policies": policies})


SETTINGS = settings_with(OutboundPolicy(name="default", recipients_per_day=10, over_limit="restrict"))
REFUSED = "550 5.7.1 Account alice@example.org may not send mail until an administrator releases it: "
WINDOW = recipients_window(Account(Ingress.SUBMISSION, "alice@example.org"), DAY)


@pytest.fixture
def state(tmp_path):
    state = SQLiteState(str(tmp_path / "state.db"), lambda: NOON)
    yield state
    state.close()


@pytest.fixture
def ask(state):
    """Ask about messages of Alice with so many recipients, all at once."""
    service = PolicyService(state, lambda: NOON)

    def ask(*recipients, prefix="4Q", deadline=float("inf"), settings=SETTINGS, **changes):
        requests = [
            {
                "protocol_state": "END-OF-MESSAGE",
                "sasl_username": "alice@example.org",
                "recipient_count": str(count),
                "queue_id": f"{prefix}{number}",
                "instance": f"1.{prefix}.{number}",
            }
            | changes
            for number, count in enumerate(recipients)
        ]
        return service.answers([service.question(request, settings, deadline) for request in requests], settings)

    return ask


def kinds(answers):
    return [answer == DUNNO or (answer.startswith(REFUSED) and "refused") for answer in answers]


def test_messages_asked_about_together_are_counted_one_after_the_other(ask, state):
    assert kinds(ask(4, 6, 1)) == [True, True, "refused"]
    assert state.used([WINDOW]) == (10,)


def test_what_follows_the_message_that_exceeds_is_refused_though_it_would_fit(ask, state):
    assert kinds(ask(6, 5, 1, 1)) == [True, "refused", "refused", "refused"]
    assert state.used([WINDOW]) == (6,)
    assert len(state.restrictions()) == 1


def test_an_account_that_was_released_today_is_counted_and_not_refused(ask, state):
    ask(11)
    state.release("alice@example.org")
    assert ask(11, 5, prefix="4R") == [DUNNO, DUNNO]
    assert state.used([WINDOW]) == (16,)


def test_a_message_over_a_limit_that_restricts_nobody_is_left_to_the_milter(ask, state):
    assert ask(5, client_address="127.0.0.1", sasl_username="") == [DUNNO]
    assert ask(*[1] * 8, prefix="4S") == [DUNNO] * 8
    assert state.claim_notices(10, 1.0) == []


def test_what_was_given_up_is_not_counted(ask, state):
    assert ask(3, deadline=0.0) == [DUNNO]
    assert state.used([WINDOW]) == (0,)


def test_what_was_counted_too_late_is_taken_back(ask, state, monkeypatch):
    moments = iter([1.0, 3.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(moments))
    assert ask(3, deadline=2.0) == [DUNNO]
    assert state.used([WINDOW]) == (0,)


def test_a_reload_changes_the_limits_at_once(ask, state):
    assert ask(10) == [DUNNO]
    generous = settings_with()
    service = PolicyService(state, lambda: NOON)
    request = {
        "protocol_state": "END-OF-MESSAGE",
        "sasl_username": "alice@example.org",
        "recipient_count": "1",
        "queue_id": "4RELOAD",
    }
    for chosen, kind in ((generous, True), (SETTINGS, "refused")):
        again = request | {"queue_id": f"4RELOAD{kind}"}
        assert kinds(service.answers([service.question(again, chosen, float("inf"))], chosen)) == [kind]


class TestShadow:
    SHADOW = SETTINGS.model_copy(update={"shadow": True})

    def test_a_restricted_account_is_not_refused_and_is_counted(self, ask, state, caplog):
        caplog.set_level("INFO")
        state.restrict(Restriction(account="alice@example.org", since=NOON, reason="too much"), by_hand=True)
        assert kinds(ask(1)) == ["refused"]
        assert ask(4, 5, prefix="4R", settings=self.SHADOW) == [DUNNO, DUNNO]
        assert state.used([WINDOW]) == (9,)
        assert "shadow: account alice@example.org would be refused: " in caplog.text

    def test_nobody_is_restricted(self, ask, state):
        assert ask(11, 5, settings=self.SHADOW) == [DUNNO, DUNNO]
        assert state.restrictions() == []

    @pytest.mark.parametrize("settings", [SETTINGS, SHADOW])
    def test_an_srs_address_that_is_none_of_ours(self, state, settings, caplog):
        caplog.set_level("INFO")
        rewriter = SenderRewriter((b"secret",), "srs.example.org", lambda: NOON, 64)
        service = PolicyService(state, lambda: NOON, lambda: rewriter)
        forged = {
            "protocol_state": "RCPT",
            "sender": "",
            "recipient": "SRS0=abcd=TT=example.com=u@srs.example.org",
            "client_address": "198.51.100.7",
        }
        answer = service.question(forged, settings, float("inf"))
        assert (answer == DUNNO) is settings.shadow
        assert ("shadow: mail to SRS0=abcd" in caplog.text) is settings.shadow
