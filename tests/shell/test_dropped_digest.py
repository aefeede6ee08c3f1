"""The daily digest of the drop ledger, by a dispatcher with a real state and a program in the place of sendmail(1)."""

import logging

import pytest
from dispatching import DAY, SECONDS, Failing, due_times, wait_for_log, wait_until_nothing_is_left

from deliverypools.core.records import DroppedNotice
from deliverypools.core.restrictions import utc_day
from deliverypools.lab.waiting import wait_until
from deliverypools.policy.watches import Watches

MONTH = 30 * DAY
HOSTILE = "\x1b[31m\r\nBcc: x@example.net\r\n\r\n=?utf-8?q?a=0ABcc:_x?= \N{SNOWMAN}" * 100


def an_entry(queue_id, at, **changes):
    usual = {
        "queue_id": queue_id,
        "host": "mx1.example.org",
        "at": at,
        "kind": "non-delivery",
        "sender": "forged@example.net",
        "recipients": "full@example.com: 552 5.2.2 mailbox full",
        "client_address": "203.0.113.9",
        "reason": "its sender failed authentication: spf=fail",
        "original_queue_id": "4Q0",
        "message_id": "<1@example.net>",
        "subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "header_from": "Forged <forged@example.net>",
        "first_lines": "Dear friend,",
    }
    return DroppedNotice(**usual | changes)


@pytest.fixture
def today(clock):
    """The beginning of today; it is noon now."""
    clock.ahead = DAY / 2 - clock() % DAY
    return clock() // DAY * DAY


@pytest.fixture
def drop(state):
    def drop(queue_id, at, **changes):
        state.drop(an_entry(queue_id, at, **changes), MONTH, 10_000)

    return drop


@pytest.fixture
def looks(monkeypatch):
    """How often the watches of all dispatchers have looked."""
    looks = []
    look = Watches.look

    def counted(self, *arguments):
        look(self, *arguments)
        looks.append(arguments)

    monkeypatch.setattr(Watches, "look", counted)
    return looks


def wait_for_looks(looks, count=3):
    """A look that has begun before is over then, and one more."""
    begun = len(looks)
    wait_until(lambda: len(looks) >= begun + count, timeout_seconds=SECONDS, what="the watches looked")


class TestDigest:
    def test_tells_of_yesterday_by_mail_and_webhook(self, *, today, drop, mailer, make_hook, make_settings, run):
        hook = make_hook(200)
        for number in range(30):
            drop(f"4Q{number}", today - DAY + number, client_address=f"203.0.113.{number}")
        drop(
            "4R1", today - 1, client_address="2001:db8:0:1:2:3:4:5", reason="the message was spam: score=12.5, tests=A"
        )
        drop("4R2", today - 2, client_address="", reason="the message was spam: score=13.1, tests=B")
        drop("before", today - DAY - 1)
        drop("today", today)
        run(make_settings(mail_to=["admin@example.org"], webhook=hook.url))
        (message,) = mailer.wait_for(1)
        day = utc_day(today - DAY)
        told = f"32 bounces were dropped on {day} (UTC) instead of being sent to forged senders"
        assert message["Subject"] == f"[delivery-pools] {told}"
        assert message["To"] == "admin@example.org"
        text = message.get_content()
        assert "      30  its sender failed authentication: spf=fail\n" in text
        assert "       2  the message was spam: score= ...\n" in text
        assert "      30  203.0.113.0/24\n" in text
        assert "       1  2001:db8::/56\n" in text
        assert "       1  (no address)\n" in text
        assert text.count("to forged@example.net  client") == 20
        assert f"{day}T23:59:59Z  to forged@example.net  client 2001:db8:0:1:2:3:4:5: the message was spam" in text
        assert "    Subject: Grüße\n" in text
        assert f"  delivery-pools dropped list --since {day}\n" in text
        ((_, _, posted),) = hook.wait_for(1)
        assert (posted["text"], posted["event"], posted["day"]) == (told, "dropped-digest", day)
        assert (posted["id"], posted["total"], posted["counted"]) == (f"dropped-digest/{day}", 32, 32)
        assert posted["networks"] == {"203.0.113.0/24": 30, "2001:db8::/56": 1, "(no address)": 1}
        assert len(posted["entries"]) == 20
        assert posted["entries"][0]["subject"] == "Grüße"
        assert posted["commands"] == {"list": f"delivery-pools dropped list --since {day}"}

    def test_nothing_is_told_of_a_day_on_which_nothing_was_dropped(
        self, *, today, drop, state, looks, mailer, make_settings, run
    ):
        drop("before", today - DAY - 1)
        drop("today", today)
        run(make_settings(mail_to=["admin@example.org"]))
        wait_for_looks(looks)
        assert due_times(state) == []
        assert mailer.calls == []

    def test_of_several_hosts_one_tells(self, *, today, drop, state, looks, mailer, make_settings, run, caplog):
        drop("4Q1", today - 1)
        for _ in range(3):
            run(make_settings(mail_to=["admin@example.org"]))
        mailer.wait_for(1)
        wait_for_looks(looks, 9)
        wait_until_nothing_is_left(state)
        assert len(mailer.calls) == 1
        assert caplog.text.count("alert: 1 bounce was dropped on") == 1

    def test_after_a_restart_it_is_not_told_again(self, *, today, drop, state, looks, mailer, make_settings, run):
        drop("4Q1", today - 1)
        settings = make_settings(mail_to=["admin@example.org"])
        stop = run(settings)
        mailer.wait_for(1)
        wait_until_nothing_is_left(state)
        stop()
        run(settings)
        wait_for_looks(looks)
        wait_until_nothing_is_left(state)
        assert len(mailer.calls) == 1

    def test_the_next_day_has_its_own(self, *, today, clock, drop, state, mailer, make_settings, run):
        drop("4Q1", today - 1)
        drop("4Q2", today + 1)
        run(make_settings(mail_to=["admin@example.org"]))
        mailer.wait_for(1)
        wait_until_nothing_is_left(state)
        clock.ahead += DAY
        messages = mailer.wait_for(2)
        assert utc_day(today) in messages[1]["Subject"]

    def test_shortly_after_midnight_other_hosts_may_still_write(
        self, *, today, clock, drop, looks, mailer, make_settings, run
    ):
        drop("4Q1", today - 1)
        clock.ahead -= DAY / 2 - 240  # four minutes after midnight
        run(make_settings(mail_to=["admin@example.org"]))
        wait_for_looks(looks)
        assert mailer.calls == []
        drop("4Q2", today - 2)
        clock.ahead += 61
        (message,) = mailer.wait_for(1)
        assert message["Subject"].startswith("[delivery-pools] 2 bounces")

    def test_a_daemon_that_was_down_for_days_tells_of_the_last_one(
        self, *, today, clock, drop, state, looks, mailer, make_settings, run
    ):
        for days in range(5):
            drop(f"4Q{days}", today + days * DAY)
        clock.ahead += 4 * DAY
        run(make_settings(mail_to=["admin@example.org"]))
        (message,) = mailer.wait_for(1)
        assert utc_day(today + 3 * DAY) in message["Subject"]
        wait_for_looks(looks)
        wait_until_nothing_is_left(state)
        assert len(mailer.calls) == 1

    def test_a_clock_that_jumps_tells_nothing_twice(
        self, *, today, clock, drop, state, looks, mailer, make_settings, run
    ):
        drop("4Q1", today - 1)
        run(make_settings(mail_to=["admin@example.org"]))
        mailer.wait_for(1)
        wait_until_nothing_is_left(state)
        for days in (5, -5, -3, 3):
            clock.ahead += days * DAY
            wait_for_looks(looks)
        wait_until_nothing_is_left(state)
        assert len(mailer.calls) == 1

    def test_nobody_to_tell_has_it_in_the_log(self, *, today, drop, state, make_settings, run, caplog):
        drop("4Q1", today - 1)
        run(make_settings())
        wait_for_log(caplog, "alert: 1 bounce was dropped on")
        assert due_times(state) == []

    def test_a_store_that_fails_is_told_once_and_asked_again(
        self, *, today, drop, state, mailer, make_settings, run, caplog
    ):
        caplog.set_level(logging.INFO)
        drop("4Q1", today - 1)
        failing = Failing(state)
        failing.methods = {"count_dropped"}
        run(make_settings(mail_to=["admin@example.org"]), lambda: failing)
        wait_until(lambda: failing.failures > 5, timeout_seconds=SECONDS, what="it was asked again")
        assert caplog.text.count("DigestWatch cannot look: the disk is gone") == 1
        failing.methods = set()
        mailer.wait_for(1)
        wait_for_log(caplog, "DigestWatch: works again")
        assert caplog.text.count("DigestWatch: works again") == 1

    def test_hostile_entries(self, *, today, drop, mailer, make_hook, make_settings, run):
        hook = make_hook(200)
        for number in range(50):
            texts = (
                "sender",
                "client_address",
                "reason",
                "subject",
                "header_from",
                "first_lines",
                "kind",
                "recipients",
            )
            drop(f"4Q{number}", today - DAY + number, **dict.fromkeys(texts, f"{chr(65 + number)}{HOSTILE}"))
        run(make_settings(mail_to=["admin@example.org"], webhook=hook.url))
        (message,) = mailer.wait_for(1)
        assert "Bcc" not in message
        assert not [line for line in message.get_content().splitlines() if line.startswith("Bcc")]
        assert message.get_content().replace("\n", "").isprintable()
        content = mailer.calls[0][1]
        assert len(content) < 100_000
        assert all(len(line) < 999 and line.isascii() for line in content.splitlines())
        ((_, _, posted),) = hook.wait_for(1)
        assert all(text.isprintable() for entry in posted["entries"] for text in entry.values())
        assert (len(posted["reasons"]), posted["reasons"]["others"]) == (21, 30)
