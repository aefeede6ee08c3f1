"""What follows when a limit is exceeded, over every store: who is restricted, until when, and what is told."""

import json
from dataclasses import replace

import pytest
from invented import DAY

from deliverypools.adapters.enforcement import enforce
from deliverypools.adapters.state import Reservation
from deliverypools.adapters.telling import MAIL, WEBHOOK
from deliverypools.core.accounts import Account
from deliverypools.core.alerts import Alert, Event
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import CLIENT_ADDRESSES, REFUSED, Charge, judge, limits_for, stream, tally_of
from deliverypools.core.restrictions import Restriction, following_day, utc_text
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import Entry, Tally

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
ALICE = Account(Ingress.SUBMISSION, "alice@example.org", "example.org", "example.org")
ALICE_BY_A_CLIENT = Account(Ingress.TRUSTED, "alice@example.org", "example.org", "example.org")
BOB = Account(Ingress.SUBMISSION, "bob@example.org", "example.org", "example.org")
MOST = 3
MINUTE = 60.0
HOUR = 3600.0


def site(over_limit="restrict-until-tomorrow", *, notify=(), limits=None, **tables):
    """A policy of three external recipients an hour for SASL users and clients of example.org."""
    policy = {
        "name": "three",
        "domains": ["example.org"],
        "external_recipients_per_hour": MOST,
        "over_limit": over_limit,
        "notify": notify,
    }
    return Settings.model_validate(
        {
            "accepted_domains": ["example.org"],
            "pools": POOLS,
            "outbound_policies": [policy],
            "limits": limits or {},
            "alerts": {"mail_to": ["postmaster@example.org"]},
            **tables,
        }
    )


@pytest.fixture
def send(state, clock):
    """Send one message and return the restriction that follows; what gets an account restricted is not counted."""
    sent = 0

    def send(settings, account=ALICE, recipients=1):
        nonlocal sent
        sent += 1
        charge = Charge(account, 0, recipients)
        limits = limits_for(charge, settings)
        tally = tally_of(charge, limits)
        (used,) = state.reserve([Reservation(f"Q{sent}", None, tally)])
        exceeded = judge(limits, used, account.name)
        effect = enforce(exceeded, account, settings=settings, state=state, now=clock())
        if effect:
            state.cancel(f"Q{sent}")
        else:
            state.commit(f"Q{sent}", tally)
        return effect

    return send


def restriction(state, account=ALICE):
    (found,) = state.restrictions_on([account])
    return found


def alerts(state, channel=MAIL):
    """Take what is to be sent by a channel out of the outbox."""
    notices = state.claim_notices(100, 60.0)
    for notice in notices:
        state.settle_notice(notice.notice_id)
    return [Alert.from_dict(json.loads(notice.payload)) for notice in notices if notice.channel == channel]


class TestUntilTomorrow:
    def test_within_the_limit_nobody_is_restricted_and_nothing_told(self, send, state):
        assert [send(site()) for _ in range(MOST)] == [None] * MOST
        assert restriction(state) is None
        assert alerts(state) == []

    def test_the_first_beyond_it_restricts(self, send, state):
        send(site(), recipients=MOST)
        effect = send(site())
        assert effect == restriction(state)
        assert (effect.account, effect.ingress) == (ALICE.name, Ingress.SUBMISSION)
        assert effect.reason == "3 external recipients in an hour and 1 more, the limit of policy three is 3"

    def test_ends_at_midnight_utc(self, send, state, clock):
        send(site(), recipients=MOST)
        midnight = following_day(clock.now)
        assert send(site()).until == midnight
        clock.now = midnight - 0.001
        assert restriction(state) is not None
        clock.now = midnight
        assert restriction(state) is None

    def test_ends_at_midnight_also_when_it_began_a_second_before(self, send, state, clock):
        clock.now = following_day(clock.now) - 1
        send(site(), recipients=MOST + 1)
        assert restriction(state) is not None
        clock.now += 1
        assert restriction(state) is None

    def test_the_next_day_the_account_may_be_restricted_again(self, send, state, clock):
        send(site(), recipients=MOST + 1)
        clock.now = following_day(clock.now) + 2 * 3600
        assert send(site(), recipients=MOST) is None
        assert send(site()).until == following_day(clock.now)
        assert restriction(state) is not None

    def test_others_are_not_concerned(self, send, state):
        send(site(), recipients=MOST + 1)
        assert restriction(state, BOB) is None
        assert send(site(), BOB) is None


class TestUntilReleased:
    def test_has_no_end(self, send, state, clock):
        assert send(site("restrict"), recipients=MOST + 1).until is None
        clock.now += 400 * DAY
        assert restriction(state) is not None

    def test_ends_when_an_administrator_releases_it(self, send, state):
        send(site("restrict"), recipients=MOST + 1)
        assert [released.account for released in state.release(ALICE.name)] == [ALICE.name]
        assert restriction(state) is None

    def test_of_two_limits_the_one_without_end_stands(self, send, state):
        send(site("restrict-until-tomorrow"), recipients=MOST + 1)
        send(site("restrict"), recipients=MOST + 1)
        assert restriction(state).until is None
        send(site("restrict-until-tomorrow"), recipients=MOST + 1)
        assert restriction(state).until is None


@pytest.mark.parametrize("action", ["restrict", "restrict-until-tomorrow"])
class TestReleased:
    def test_the_same_day_it_is_not_restricted_again(self, action, send, state, clock):
        send(site(action), recipients=MOST + 1)
        state.release(ALICE.name)
        clock.now = following_day(clock.now) - 1
        assert send(site(action), recipients=MOST + 1) is None
        assert restriction(state) is None

    def test_what_it_sends_over_the_limit_is_told_all_the_same(self, action, send, state):
        send(site(action), recipients=MOST + 1)
        state.release(ALICE.name)
        alerts(state)
        send(site(action), recipients=MOST + 1)
        assert [alert.event for alert in alerts(state)] == [Event.LIMIT_EXCEEDED]

    def test_the_next_day_it_may_be(self, action, send, state, clock):
        send(site(action), recipients=MOST + 1)
        state.release(ALICE.name)
        clock.now = following_day(clock.now)
        assert send(site(action), recipients=MOST + 1) is not None
        assert restriction(state) is not None

    def test_released_without_having_been_restricted_counts_for_the_day(self, action, send, state):
        state.release(ALICE.name)
        assert send(site(action), recipients=MOST + 1) is None

    def test_others_may_be(self, action, send, state):
        state.release(ALICE.name)
        assert send(site(action), BOB, recipients=MOST + 1) is not None


@pytest.mark.parametrize("action", ["restrict", "restrict-until-tomorrow"])
class TestRestrictionThatHasEnded:
    """The window of a day is still full then of what the account has been restricted for."""

    @pytest.fixture
    def settings(self, action):
        daily = {"name": "daily", "recipients_per_day": MOST, "over_limit": action, "domains": ["example.org"]}
        return site(outbound_policies=[daily])

    @pytest.fixture
    def ended(self, settings, send, state, clock, action):
        """Have Alice restricted at 18:00, and let her send again: by itself or by an administrator, at midnight."""
        clock.now = following_day(clock.now) + 18 * HOUR
        send(settings, recipients=MOST)
        clock.now += MINUTE
        assert send(settings) is not None
        if action == "restrict":
            clock.now += MINUTE
            state.release(ALICE.name)
        ended = clock.now if action == "restrict" else following_day(clock.now)
        clock.now = following_day(clock.now)
        alerts(state)
        return ended

    def test_the_first_message_of_the_day_restricts_nobody(self, settings, ended, send, state, clock):
        clock.now += MINUTE
        assert send(settings) is None
        assert restriction(state) is None
        (alert,) = alerts(state)
        assert (alert.event, alert.limit, alert.used) == (Event.LIMIT_EXCEEDED, "recipients_per_day", MOST)
        assert alert.action == "high-risk"
        assert alert.note == f"it may send again since {utc_text(ended)}, and has not sent so much since"

    def test_after_it_as_many_pass_as_the_limit_allows_and_the_next_restricts(
        self, settings, ended, send, state, clock
    ):
        del ended
        for _ in range(MOST):
            assert send(settings) is None
            clock.now += 3 * HOUR
        assert send(settings) is not None
        assert restriction(state) is not None
        assert [alert.event for alert in alerts(state)] == [Event.LIMIT_EXCEEDED, Event.ACCOUNT_RESTRICTED]

    @pytest.mark.parametrize("seconds", [0.0, 0.5, 30.0, MINUTE, 5 * HOUR])
    def test_one_message_beyond_the_limit_alone_restricts(self, seconds, settings, ended, send, clock):
        del ended
        clock.now += seconds
        assert send(settings, recipients=MOST + 1) is not None

    def test_ended_and_beyond_the_limit_again_and_again(self, settings, ended, send, state, clock):
        for _ in range(3):
            assert send(settings, recipients=MOST) is None
            assert send(settings) is not None
            clock.now = following_day(clock.now)
            state.release(ALICE.name)
            clock.now = following_day(clock.now)
        assert ended < clock.now

    def test_in_other_ways_of_sending_it_is_restricted_as_ever(self, settings, ended, send, clock):
        clock.now = ended + MINUTE
        assert send(settings, BOB, recipients=MOST) is None
        assert send(settings, BOB) is not None

    def test_where_an_administrator_has_restricted_it_since_that_is_told(self, settings, ended, send, state, clock):
        del ended
        by_hand = Restriction(account=ALICE.name, since=clock.now, reason="phished")
        state.restrict(by_hand, by_hand=True)
        clock.now += MINUTE
        send(settings)
        assert restriction(state) == by_hand
        assert [alert.event for alert in alerts(state)] == [Event.ACCOUNT_RESTRICTED]

    def test_signs_of_compromise_are_looked_at_since_then_too(self, action, send, state, clock):
        settings = site(
            action, limits={}, suspicion={"refused_recipients_percent": 30, "refused_recipients_minimum": 2}
        )
        clock.now = following_day(clock.now) + 18 * HOUR
        send(settings, recipients=2)
        refuse(state, 2)
        assert send(settings).reason == "2 recipients refused in 24 hours, more than 30 %"
        clock.now += MINUTE
        state.release(ALICE.name)
        clock.now = following_day(clock.now)
        assert send(settings) is None
        assert send(settings) is None
        refuse(state, 1)
        assert send(settings) is None
        refuse(state, 1)
        assert send(settings) is not None

    def test_a_window_of_an_hour_that_began_after_the_ending_is_judged_as_ever(self, action, send, state, clock):
        settings = site(action, suspicion={"client_addresses_per_hour": 2})
        state.release(ALICE.name)
        clock.now = following_day(clock.now) + HOUR
        state.count(Tally((Entry(stream(ALICE, CLIENT_ADDRESSES), 3, DAY),)))
        assert send(settings) is not None


def refuse(state, recipients):
    state.count(Tally((Entry(stream(ALICE, REFUSED), recipients, DAY),)))


@pytest.mark.parametrize("action", ["high-risk", "alert"])
class TestActionsThatRestrictNobody:
    def test_nobody_is_restricted_but_it_is_told(self, action, send, state):
        assert send(site(action), recipients=MOST + 1) is None
        assert restriction(state) is None
        (alert,) = alerts(state)
        assert (alert.event, alert.action, alert.policy) == (Event.LIMIT_EXCEEDED, action, "three")

    def test_what_is_sent_beyond_is_counted(self, action, send, state):
        send(site(action), recipients=MOST + 1)
        alerts(state)
        send(site(action, limits={"recipients_per_day": MOST + 1}), recipients=1)
        assert [alert.limit for alert in alerts(state)] == ["recipients_per_day"]


class TestKindsApart:
    def test_what_a_trusted_client_sends_does_not_close_the_login_of_the_user(self, send, state):
        assert send(site(), ALICE_BY_A_CLIENT, MOST + 1).ingress is Ingress.TRUSTED
        assert restriction(state, ALICE_BY_A_CLIENT) is not None
        assert restriction(state, ALICE) is None
        assert send(site(), ALICE, MOST) is None

    def test_nor_does_it_use_up_what_the_user_may_send(self, send):
        assert send(site(), ALICE_BY_A_CLIENT, MOST) is None
        assert send(site(), ALICE, MOST) is None

    def test_a_release_is_for_all_of_them(self, send, state):
        send(site(), ALICE_BY_A_CLIENT, MOST + 1)
        send(site(), ALICE, MOST + 1)
        assert len(state.release(ALICE.name)) == 2
        assert state.restrictions_on([ALICE, ALICE_BY_A_CLIENT]) == [None, None]


class TestAlerts:
    def test_a_restriction_is_told_with_its_end(self, send, state, clock):
        send(site(), recipients=MOST + 1)
        (alert,) = alerts(state)
        assert (alert.event, alert.account, alert.ingress) == (Event.ACCOUNT_RESTRICTED, ALICE.name, Ingress.SUBMISSION)
        assert (alert.limit, alert.most, alert.used, alert.cost) == ("external_recipients_per_hour", MOST, 0, MOST + 1)
        assert utc_text(alert.until) == utc_text(following_day(clock.now))
        assert (alert.at, alert.notify) == (clock.now, ())

    def test_once_a_day_for_an_account_and_a_limit(self, send, state, clock):
        settings = site("high-risk")
        for _ in range(5):
            send(settings, recipients=MOST + 1)
            clock.now += MINUTE
        assert len(alerts(state)) == 1
        clock.now = following_day(clock.now)
        send(settings, recipients=MOST + 1)
        send(settings, recipients=MOST + 1)
        assert len(alerts(state)) == 1

    def test_each_account_for_itself(self, send, state):
        send(site("high-risk"), ALICE, MOST + 1)
        send(site("high-risk"), BOB, MOST + 1)
        send(site("high-risk"), ALICE_BY_A_CLIENT, MOST + 1)
        told = {(alert.ingress, alert.account) for alert in alerts(state)}
        assert told == {(account.ingress, account.name) for account in (ALICE, BOB, ALICE_BY_A_CLIENT)}

    def test_each_limit_for_itself(self, send, state):
        settings = site("high-risk", limits={"recipients_per_message": 5})
        send(settings, recipients=MOST + 1)
        send(settings, recipients=6)
        assert [alert.limit for alert in alerts(state)] == ["external_recipients_per_hour", "recipients_per_message"]

    def test_the_service_limit_is_told_after_the_limit_of_a_policy_that_has_the_same_name(self, send, state):
        watching = {"name": "watch", "recipients_per_day": 5, "over_limit": "alert", "domains": ["example.org"]}
        settings = site(limits={"recipients_per_day": 10}, outbound_policies=[watching])
        send(settings, recipients=6)
        send(settings, recipients=6)
        assert [(alert.limit, alert.policy, alert.action) for alert in alerts(state)] == [
            ("recipients_per_day", "watch", "alert"),
            ("recipients_per_day", "", "high-risk"),
        ]

    def test_a_sign_of_compromise_is_told_as_such(self, send, state):
        settings = site("high-risk", spam={"ceilings": {"verdicts_per_account_per_hour": 1}})
        charge = Charge(ALICE, 0, 1)
        (sign,) = [limit for limit in limits_for(charge, settings) if limit.is_sign]
        enforce(judge([sign], (2,), ALICE.name), ALICE, settings=settings, state=state, now=0.0)
        assert [(alert.event, alert.limit) for alert in alerts(state)] == [
            (Event.SUSPICIOUS, "verdicts_per_account_per_hour")
        ]

    def test_goes_to_those_whom_the_policy_names(self, send, state):
        send(site("high-risk", notify=["sales-admin@example.org"]), recipients=MOST + 1)
        assert [alert.notify for alert in alerts(state)] == [("sales-admin@example.org",)]

    @pytest.mark.parametrize("mail_to", [(), ("postmaster@example.org",)], ids=["nobody else", "postmaster"])
    def test_beyond_the_limit_of_a_tenant_one_alert_for_all_of_its_accounts(self, mail_to, send, state, clock):
        settings = site(
            "high-risk",
            notify=["sales-admin@example.org"],
            limits={"external_recipients_per_tenant_per_day": MOST},
            alerts={"mail_to": mail_to},
        )
        for account in (BOB, *(replace(ALICE, name=f"user{number}@example.org") for number in range(50))):
            send(settings, account, recipients=MOST)
        send(settings, ALICE_BY_A_CLIENT, recipients=MOST)
        (alert,) = alerts(state)
        assert (alert.tenant, alert.account) == ("example.org", "user0@example.org")
        assert (alert.event, alert.limit) == (Event.LIMIT_EXCEEDED, "external_recipients_per_tenant_per_day")
        assert alert.notify == (() if mail_to else ("sales-admin@example.org",))
        clock.now = following_day(clock.now)
        send(settings, recipients=1)
        assert [alert.tenant for alert in alerts(state)] == ["example.org"]

    @pytest.mark.parametrize(
        ("told", "channels"),
        [
            ({}, []),
            ({"mail_to": ["postmaster@example.org"]}, [MAIL]),
            ({"webhook": "https://alerts.example.org/hook"}, [WEBHOOK]),
            ({"mail_to": ["postmaster@example.org"], "webhook": "https://alerts.example.org/hook"}, [MAIL, WEBHOOK]),
        ],
        ids=["nobody", "mail", "webhook", "both"],
    )
    def test_by_the_channels_of_the_settings(self, told, channels, send, state):
        send(site("high-risk", alerts=told), recipients=MOST + 1)
        assert sorted(notice.channel for notice in state.claim_notices(100, 60.0)) == channels

    def test_is_in_the_log_once_whatever_the_channels(self, send, state, caplog):
        settings = site("high-risk", alerts={})
        send(settings, recipients=MOST + 1)
        send(settings, recipients=MOST + 1)
        (line,) = caplog.messages
        assert line == (
            "alert: limit-exceeded: alice@example.org: 0 external recipients in an hour and 4 more,"
            " the limit of policy three is 3 (action: high-risk)"
        )


class TestShadow:
    def test_everything_is_told_and_nothing_done(self, send, state):
        assert send(site("restrict", shadow=True), recipients=MOST + 1) is None
        assert restriction(state) is None
        assert [alert.limit for alert in alerts(state)] == ["external_recipients_per_hour"]
