"""The watch of surges over real stores: each incident is told once, whoever looks."""

import json
import logging
from dataclasses import replace

import pytest
from invented import START, ndr_event

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.adapters.state import StateUnavailable
from deliverypools.core.settings import Settings, built_in_defaults
from deliverypools.core.surges.baseline import noted
from deliverypools.core.surges.events import Category, Way
from deliverypools.core.tallies import DAY, HOUR
from deliverypools.policy import surge_watch
from deliverypools.policy.dispatcher import WATCHES
from deliverypools.policy.surge_watch import SurgeWatch

NOON = START - START % DAY + DAY / 2


@pytest.fixture(autouse=True)
def noon(clock):
    """No test runs into another day by chance."""
    clock.now = NOON


def make_settings(*, minimum=50, mail_to=("postmaster@example.org",), webhook=None):
    pools = {
        name: {"addresses": [f"192.0.2.{number}"], "helo": "mx.example.org"}
        for number, name in enumerate(built_in_defaults().pools, 10)
    }
    alerts = {"mail_to": list(mail_to)} | ({"webhook": webhook} if webhook else {})
    bounces = {"surge_minimum": minimum}
    return Settings.model_validate(
        {"accepted_domains": ["example.org"], "pools": pools, "alerts": alerts, "bounces": bounces}
    )


SETTINGS = make_settings()


def note(state, events):
    for event in events:
        state.note_ndr(event)
        state.count(noted(event))


def campaign(at, count=60, domain="example.org"):
    """Notices about mail that somebody else has sent as a domain, in the ten minutes before a time."""
    return [
        ndr_event(
            f"mx/{domain}/{at}/{number}",
            at - 600 + number * 600 / count,
            domain=domain,
            address=f"user{number}@{domain}",
            account="",
            client=f"198.51.{number % 50}.25",
            original=f"message{number}",
        )
        for number in range(count)
    ]


def harvest(at, client="203.0.113.7", domain="example.org"):
    usual = {"way": Way.REFUSED, "verdict": "", "account": "", "category": Category.UNKNOWN_USER, "original": ""}
    return [
        ndr_event(
            f"mx/{client}", at - 300, domain=domain, address="", client=client, amount=100, local_parts=100, **usual
        )
    ]


def mailing(at, categories):
    """Mail of one account that was refused at many places."""
    return [
        ndr_event(
            f"mx/mailing/{number}",
            at - 600 + number,
            way=Way.MADE,
            verdict="genuine",
            account="news@example.org",
            category=categories[number % len(categories)],
            remote=f"remote{number}.example",
            amount=1,
            local_parts=1,
        )
        for number in range(120)
    ]


def alerts(state):
    """What waits in the outbox: channel and values."""
    return [(notice.channel, json.loads(notice.payload)) for notice in state.claim_notices(1000, 10 * DAY)]


def look(state, clock, watch=None, settings=SETTINGS):
    (watch or SurgeWatch()).look(state, settings, clock.now)


def test_the_daemon_runs_it():
    assert SurgeWatch in WATCHES


def test_a_surge_is_told_once(state, clock):
    note(state, campaign(NOON - 200))
    watch = SurgeWatch()
    for _ in range(5):
        look(state, clock, watch)
        clock.now += 20
    ((channel, alert),) = alerts(state)
    assert (channel, alert["sort"], alert["cause"]) == ("mail", "surge", "spoofing-campaign")
    assert (alert["subject_kind"], alert["subject_name"], alert["volume"]) == ("domain", "example.org", 60)


def test_by_mail_and_webhook(state, clock):
    note(state, campaign(NOON - 200))
    look(state, clock, settings=make_settings(webhook="https://alerts.example.org/hook"))
    assert sorted(channel for channel, _ in alerts(state)) == ["mail", "webhook"]


def test_not_again_by_another_host_or_after_a_start(opened, clock):
    first, second = opened(), opened()
    note(first, campaign(NOON - 200))
    for _ in range(2):
        look(first, clock)
        look(second, clock)
    assert len(alerts(second)) == 1


def test_two_hosts_of_which_each_notes_a_part(opened, clock):
    hosts = opened(), opened()
    for number, event in enumerate(campaign(NOON - 200)):
        note(hosts[number % 2], [event])
    for host in hosts:
        look(host, clock)
    ((_, alert),) = alerts(hosts[0])
    assert alert["volume"] == 60


def test_two_incidents_are_two_alerts(state, clock):
    note(state, [*campaign(NOON - 200), *harvest(NOON)])
    look(state, clock)
    assert sorted(alert["cause"] for _, alert in alerts(state)) == ["directory-harvest", "spoofing-campaign"]


def test_what_goes_on_is_told_each_day(state, clock):
    watch = SurgeWatch()
    for day in range(-7, 0):
        clock.now = NOON + day * DAY
        state.count(noted(campaign(clock.now)[0]))
    for hour in range(0, 48, 2):
        clock.now = NOON + hour * HOUR
        note(state, campaign(clock.now - 200))
        look(state, clock, watch)
    days = [int(alert["at"] // DAY - NOON // DAY) for _, alert in alerts(state)]
    assert days == [0, 1, 2]


def test_a_burst_over_midnight_is_told_once(state, clock):
    midnight = NOON + DAY / 2
    note(state, campaign(midnight + 240, count=200))
    watch = SurgeWatch()
    for minute in range(0, 75, 5):
        clock.now = midnight + minute * 60
        look(state, clock, watch)
    assert len(alerts(state)) == 1


def test_a_harvest_that_spreads_to_other_domains_is_told_once(state, clock):
    watch = SurgeWatch()
    for number in range(4):
        clock.now += 300
        note(
            state, [replace(one, event_id=f"mx/h/{number}") for one in harvest(clock.now, domain=f"d{number}.example")]
        )
        look(state, clock, watch)
    ((_, alert),) = alerts(state)
    assert alert["subject_name"] == "203.0.113.0/24"


def test_an_old_list_is_a_line_in_the_log(state, clock, caplog):
    caplog.set_level(logging.INFO)
    note(state, mailing(NOON - 200, [Category.UNKNOWN_USER, Category.MAILBOX_FULL]))
    for _ in range(2):
        look(state, clock)
    assert alerts(state) == []
    lines = [record.getMessage() for record in caplog.records if "old-list" in record.getMessage()]
    surge = "likely old-list: account news@example.org, 120 recipients not reached by our users in an hour"
    assert lines == [f"no alert: surge: {surge} (score 1.00)"]


def test_what_may_be_a_stolen_password_is_an_alert_told_once(state, clock):
    watch = SurgeWatch()
    for part in range(4):
        tenth = [Category.SPAM, *[Category.UNKNOWN_USER] * 9]
        note(state, [replace(one, event_id=f"mx/{part}/{one.event_id}") for one in mailing(clock.now - 200, tenth)])
        look(state, clock, watch)
        clock.now += 300
    assert [alert["cause"] for _, alert in alerts(state)] == ["old-list-or-stolen-password"]


def test_an_old_list_that_turns_out_to_be_doubtful_is_an_alert(state, clock):
    watch = SurgeWatch()
    note(state, mailing(NOON - 300, [Category.UNKNOWN_USER]))
    look(state, clock, watch)
    assert alerts(state) == []
    spam = mailing(NOON - 300, [Category.SPAM])[:15]
    note(state, [replace(one, event_id=f"mx/spam/{number}") for number, one in enumerate(spam)])
    look(state, clock, watch)
    assert [alert["cause"] for _, alert in alerts(state)] == ["old-list-or-stolen-password"]


def test_a_doubtful_mailing_that_turns_out_to_be_spam_is_told_as_that(state, clock):
    watch = SurgeWatch()
    tenth = [Category.SPAM, *[Category.UNKNOWN_USER] * 9]
    note(state, mailing(NOON - 300, tenth))
    look(state, clock, watch)
    spam = mailing(NOON - 300, [Category.SPAM])
    note(state, [replace(one, event_id=f"mx/spam/{number}") for number, one in enumerate(spam)])
    look(state, clock, watch)
    clock.now += 60
    note(
        state,
        [replace(one, event_id=f"mx/again/{number}") for number, one in enumerate(mailing(NOON - 300, tenth) * 8)],
    )
    look(state, clock, watch)
    assert [alert["cause"] for _, alert in alerts(state)] == ["old-list-or-stolen-password", "spam-attack"]


def test_that_no_cause_is_likely_is_no_news_after_one_was(state, clock):
    watch = SurgeWatch()
    note(state, mailing(NOON - 300, [Category.SPAM]))
    look(state, clock, watch)
    others = mailing(NOON - 300, [Category.OTHER]) * 10
    note(state, [replace(one, event_id=f"mx/other/{number}") for number, one in enumerate(others)])
    look(state, clock, watch)
    assert [alert["cause"] for _, alert in alerts(state)] == ["spam-attack"]


def test_a_cause_is_news_after_there_was_none(state, clock):
    watch = SurgeWatch()
    note(state, mailing(NOON - 300, [Category.OTHER]))
    look(state, clock, watch)
    attack = mailing(NOON - 300, [Category.SPAM])
    note(state, [replace(one, event_id=f"mx/spam/{number}") for number, one in enumerate(attack)])
    for _ in range(2):
        look(state, clock, watch)
    assert sorted(alert["cause"] for _, alert in alerts(state)) == ["spam-attack", "unclear"]


def test_less_than_the_minimum_is_none(state, clock):
    note(state, campaign(NOON - 200, count=49))
    look(state, clock)
    assert alerts(state) == []


def test_what_is_usual_is_none(state, clock):
    for hour in range(8 * 24):
        clock.now = NOON + hour * HOUR
        for event in campaign(clock.now, count=20):
            state.count(noted(event))
    clock.now += HOUR
    note(state, campaign(clock.now - 200, count=80))
    look(state, clock)
    assert alerts(state) == []
    note(state, [replace(one, event_id=f"{one.event_id}/more") for one in campaign(clock.now - 200, count=80)])
    look(state, clock)
    assert len(alerts(state)) == 1


def test_a_minimum_of_zero_switches_it_off(clock):
    look(None, clock, settings=make_settings(minimum=0))  # asks nobody


def test_a_flood_of_incidents_is_cut_and_the_rest_waits(state, clock, caplog):
    note(state, [one for n in range(25) for one in harvest(NOON, client=f"198.51.{n}.7", domain=f"d{n}.example")])
    watch = SurgeWatch()
    for _ in range(2):
        look(state, clock, watch)
    assert len(alerts(state)) == surge_watch.MOST_ALERTS
    assert caplog.text.count("further ones wait") == 1
    clock.now += HOUR + 60
    note(state, [one for n in range(25) for one in harvest(clock.now, client=f"198.51.{n}.8", domain=f"d{n}.example")])
    look(state, clock, watch)
    assert len(alerts(state)) == 5


def test_the_store_is_down_for_a_while(tmp_path, clock):
    path = tmp_path / "state.db"
    state = SQLiteState(str(path), clock)
    note(state, campaign(NOON - 200))
    watch = SurgeWatch()
    state.close()
    path.rename(tmp_path / "away")
    path.mkdir()
    with pytest.raises(StateUnavailable):
        look(state, clock, watch)
    path.rmdir()
    (tmp_path / "away").rename(path)
    look(state, clock, watch)
    assert len(alerts(state)) == 1
    state.close()


@pytest.mark.parametrize("fails", ["ndrs", "used", "post"])
def test_whatever_step_fails_it_is_told_later_and_once(state, clock, fails):
    note(state, campaign(NOON - 200))
    watch = SurgeWatch()
    with pytest.raises(StateUnavailable):
        look(Failing(state, fails), clock, watch)
    for _ in range(2):
        look(state, clock, watch)
    assert len(alerts(state)) == 1


class Failing:
    """A state of which one call fails."""

    def __init__(self, state, fails):
        self._state = state
        self._fails = fails

    def __getattr__(self, name):
        if name == self._fails:
            raise StateUnavailable("down")
        return getattr(self._state, name)
