"""Restricted accounts: how long, and what a client is told."""

import datetime as dt
import zoneinfo

import pytest

from deliverypools.core.facts import Ingress
from deliverypools.core.restrictions import Restriction, duration_of, following_day, refusal, utc_day, utc_text
from deliverypools.core.settings import built_in_defaults, parse_settings
from deliverypools.core.utc import calendar_day

NOON = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC).timestamp()
MIDNIGHT = dt.datetime(2026, 11, 23, tzinfo=dt.UTC).timestamp()
ACCEPTED = parse_settings(
    """
    accepted_domains = ["example.org"]
    pools.normal = {addresses = ["192.0.2.10"], helo = "mail.example.org"}
    pools.high-risk = {addresses = ["192.0.2.20"], helo = "mail-high-risk.example.org"}
    pools.relay = {addresses = ["192.0.2.30"], helo = "mail-relay.example.org"}
    """,
    "pools.toml",
)


def asked(contact):
    return ACCEPTED.model_copy(update={"alerts": ACCEPTED.alerts.model_copy(update={"contact": contact})})


def restriction(**changes):
    values = {"account": "alice@example.org", "since": NOON, "reason": "600 recipients in an hour, the limit is 500"}
    return Restriction(**values | changes)


class TestUntilTomorrow:
    @pytest.mark.parametrize(
        ("now", "until"),
        [
            ("2026-11-22T00:00:00", "2026-11-23"),
            ("2026-11-22T00:00:00.5", "2026-11-23"),
            ("2026-11-22T12:00:00", "2026-11-23"),
            ("2026-11-22T23:59:59.999", "2026-11-23"),
            ("2026-12-31T23:59:59", "2027-01-01"),
            ("2028-02-28T10:00:00", "2028-02-29"),
            ("2027-02-28T10:00:00", "2027-03-01"),
            ("1970-01-01T00:00:00", "1970-01-02"),
        ],
    )
    def test_is_the_next_midnight_in_utc(self, now, until):
        moment = dt.datetime.fromisoformat(f"{now}+00:00").timestamp()
        assert following_day(moment) == dt.datetime.fromisoformat(f"{until}T00:00:00+00:00").timestamp()

    @pytest.mark.parametrize(
        ("zone", "local", "until"),
        [
            ("Pacific/Kiritimati", "2026-11-23T01:00:00", "2026-11-23T14:00:00+14:00"),
            ("America/Los_Angeles", "2026-11-22T15:59:59", "2026-11-22T16:00:00-08:00"),
            ("America/Los_Angeles", "2026-11-22T16:00:00", "2026-11-23T16:00:00-08:00"),
            ("Europe/Berlin", "2026-10-25T01:30:00", "2026-10-25T02:00:00+02:00"),
            ("Europe/Berlin", "2026-10-25T12:00:00", "2026-10-26T01:00:00+01:00"),
        ],
    )
    def test_wherever_the_account_is(self, zone, local, until):
        now = dt.datetime.fromisoformat(local).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()
        assert following_day(now) == dt.datetime.fromisoformat(until).timestamp()

    @pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"])
    def test_whatever_the_zone_of_this_process(self, zone, monkeypatch):
        import time  # noqa: PLC0415

        with monkeypatch.context() as patched:
            patched.setenv("TZ", zone)
            time.tzset()
            assert following_day(NOON) == MIDNIGHT
            assert (utc_day(NOON), utc_text(NOON)) == ("2026-11-22", "2026-11-22 12:00 UTC")
        time.tzset()

    def test_ends_at_midnight_and_not_before(self):
        closed = restriction(until=MIDNIGHT)
        assert closed.is_in_effect(MIDNIGHT - 0.001)
        assert not closed.is_in_effect(MIDNIGHT)

    def test_without_end_it_stays(self):
        assert restriction().is_in_effect(NOON + 10 * 365 * 86_400)


class TestCalendar:
    def test_agrees_with_the_calendar_of_python(self):
        day = dt.date(1899, 12, 31)
        while day < dt.date(2110, 1, 1):
            seconds = dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp()
            assert calendar_day(seconds) == (day.year, day.month, day.day)
            assert calendar_day(seconds + 86_399.9) == (day.year, day.month, day.day)
            day += dt.timedelta(days=1)

    def test_texts(self):
        assert utc_day(0) == "1970-01-01"
        assert utc_text(NOON + 59) == "2026-11-22 12:00 UTC"
        assert utc_text(MIDNIGHT - 1) == "2026-11-22 23:59 UTC"


class TestWhoIsConcerned:
    @pytest.mark.parametrize("ingress", list(Ingress))
    def test_by_hand_every_way_of_sending_is_closed(self, ingress):
        assert restriction().concerns(ingress)

    @pytest.mark.parametrize("ingress", list(Ingress))
    def test_else_only_the_one_that_was_over_the_limit(self, ingress):
        assert restriction(ingress=Ingress.TRUSTED).concerns(ingress) is (ingress is Ingress.TRUSTED)


class TestRefusal:
    def test_says_why_how_long_and_whom_to_ask(self):
        assert refusal(restriction(until=MIDNIGHT), ACCEPTED) == (
            "Account alice@example.org may not send mail until 2026-11-23 00:00 UTC:"
            " 600 recipients in an hour, the limit is 500. Please ask postmaster@example.org"
        )

    def test_without_end_an_administrator_is_needed(self):
        assert duration_of(restriction()) == "until an administrator releases it"
        assert duration_of(restriction()) in refusal(restriction(), ACCEPTED)

    def test_names_the_contact_of_the_settings(self):
        assert refusal(restriction(), asked("extension 4711")).endswith("Please ask extension 4711")
        assert refusal(restriction(), built_in_defaults()).endswith("Please ask postmaster@localhost")

    @pytest.mark.parametrize(
        "hostile",
        ["50 %s%n", "<a@b>", "a\r\n250 OK", "a\x00b", "Jürgen", "\udcff", "\N{RIGHT-TO-LEFT OVERRIDE}x"],
    )
    def test_is_one_line_of_ascii_that_is_no_format_and_no_markup(self, hostile):
        text = refusal(restriction(account=hostile, reason=hostile), asked(hostile))
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("%<>")

    @pytest.mark.parametrize("until", [None, MIDNIGHT])
    def test_fits_into_a_reply_and_still_says_whom_to_ask(self, until):
        text = refusal(restriction(account="a" * 5000, reason="b" * 5000, until=until), asked("c" * 5000))
        assert len(f"550 5.7.1 {text}\r\n") <= 512
        assert "Please ask ccc" in text
        text = refusal(restriction(account="a" * 5000, reason="b" * 5000), ACCEPTED)
        assert text.endswith("Please ask postmaster@example.org")
