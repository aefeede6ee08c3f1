"""The dispatcher with a real state, a real HTTP server and a program in the place of sendmail(1)."""

import contextlib
import json
import logging
import socket
import threading
import time
from dataclasses import replace

import pytest
from dispatching import (
    DAY,
    SEALER,
    SECONDS,
    SECRET,
    Failing,
    due_times,
    wait_for_log,
    wait_until_nothing_is_left,
)

from deliverypools.adapters import copies, sendmail, telling, webhook
from deliverypools.adapters.message_file import parse_headers
from deliverypools.adapters.message_spool import MessageSpool
from deliverypools.adapters.telling import MAIL, WEBHOOK
from deliverypools.core.alerts import Alert, Event
from deliverypools.core.facts import Ingress
from deliverypools.core.records import DecisionRecord
from deliverypools.core.restrictions import Restriction
from deliverypools.core.ticket import HEADER
from deliverypools.core.told import LimitAlert
from deliverypools.lab.waiting import wait_until
from deliverypools.policy import dispatcher as dispatcher_module


def an_alert(clock, **changes):
    usual = Alert(
        event=Event.LIMIT_EXCEEDED,
        account="alice@example.org",
        ingress=Ingress.SUBMISSION,
        limit="recipients_per_day",
        most=100,
        used=90,
        cost=30,
        policy="default",
        action="high-risk",
        evidence="alice@example.org: too many",
        at=clock(),
    )
    return replace(usual, **changes)


def tell(alert, settings, state):
    return telling.tell(LimitAlert(alert), settings, state)


def a_record(clock, **changes):
    usual = {
        "queue_id": "Q1",
        "host": "mx",
        "pass_name": "egress",
        "at": clock(),
        "ingress": "submission",
        "account": "alice@example.org",
        "pool": "high-risk",
        "rule": "over_limit",
        "reasons": "",
        "envelope_sender": "alice@example.org",
        "recipients": 1,
        "client_address": "203.0.113.9",
        "subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "message_id": "<1@example.org>",
    }
    return DecisionRecord(**usual | changes)


def wait_until_put_off(state, clock):
    """Until the one notice is due within a minute: while it is being sent, its lease is three."""
    wait_until(lambda: due_times(state)[0] < clock() + 60, timeout_seconds=SECONDS, what="the notice was put off")


def without_mark(content):
    """The message as it lay in the spool: the mark is a header field of several lines on top."""
    head, _, rest = content.partition(b"\n")
    assert head.startswith(HEADER.encode())
    while rest.startswith(b"\t"):
        rest = rest.partition(b"\n")[2]
    return rest


class TestMail:
    def test_alert_is_mailed_once_with_the_null_sender(self, state, clock, mailer, make_settings, run):
        settings = make_settings(mail_to=["admin@example.org", "-oq/tmp@example.org"])
        state.record(a_record(clock), DAY)
        assert tell(an_alert(clock), settings, state)
        assert not tell(an_alert(clock), settings, state)
        stop = run(settings)
        (message,) = mailer.wait_for(1)
        assert message["From"] == "Delivery Pools <delivery-pools@example.org>"
        assert message["To"] == "admin@example.org, -oq/tmp@example.org"
        assert message["Subject"] == "[delivery-pools] alice@example.org is over its limit (recipients_per_day)"
        assert message["Auto-Submitted"] == "auto-generated"
        assert abs(message["Date"].datetime.timestamp() - clock()) < 60
        assert "  Grüße\n" in message.get_content()
        assert "  203.0.113.9\n" in message.get_content()
        assert "  delivery-pools usage alice@example.org\n" in message.get_content()
        wait_until_nothing_is_left(state)
        stop()
        ((arguments, content),) = mailer.calls
        assert arguments == ["-i", "-f", "<>", "--", "admin@example.org", "-oq/tmp@example.org"]
        assert content.isascii()
        assert b"\r" not in content
        mark = parse_headers(content).first(HEADER)
        assert SEALER.is_notice(mark, message["Message-ID"])
        assert not SEALER.is_notice(mark, "<another@example.org>")

    def test_addresses_of_the_policy_come_first(self, state, clock, mailer, make_settings, run):
        settings = make_settings(mail_to=["admin@example.org"])
        tell(an_alert(clock, notify=("sales@example.org",)), settings, state)
        run(settings)
        mailer.wait_for(1)
        assert mailer.calls[0][0][-1] == "sales@example.org"

    @pytest.mark.parametrize(
        "account",
        ["a\r\nBcc: x@example.net", "=?utf-8?q?a=0ABcc:_x?=", "\x1b[31mred", "\N{SNOWMAN}" * 300, "x" * 50_000],
    )
    def test_hostile_account(self, *, state, clock, mailer, make_settings, run, account):
        settings = make_settings(mail_to=["admin@example.org"])
        tell(an_alert(clock, account=account, evidence=account), settings, state)
        run(settings)
        (message,) = mailer.wait_for(1)
        assert "Bcc" not in message
        assert len(message["Subject"]) < 300
        assert all(len(line) < 999 and line.isascii() for line in mailer.calls[0][1].splitlines())

    def test_failure_is_tried_again_later(self, *, state, clock, mailer, make_settings, run, caplog):
        settings = make_settings(mail_to=["admin@example.org"])
        mailer.fails.touch()
        tell(an_alert(clock), settings, state)
        run(settings)
        wait_for_log(caplog, "mail alert not sent, next attempt in 10 s: exit status 75: mail system is down")
        wait_until_put_off(state, clock)
        clock.ahead += 11
        wait_for_log(caplog, "next attempt in 20 s")
        wait_until_put_off(state, clock)
        mailer.fails.unlink()
        clock.ahead += 21
        messages = mailer.wait_for(3)
        assert len({message["Message-ID"] for message in messages}) == 1
        wait_until_nothing_is_left(state)

    def test_given_up_after_a_day_with_all_of_it_in_the_log(self, *, state, clock, mailer, make_settings, run, caplog):
        settings = make_settings(mail_to=["admin@example.org"])
        mailer.fails.touch()
        tell(an_alert(clock, at=clock() - DAY), settings, state)
        run(settings)
        wait_for_log(caplog, "mail alert given up after a day: exit status 75: mail system is down: {")
        assert "delivery-pools restricted add alice@example.org" in caplog.text
        wait_until_nothing_is_left(state)
        assert len(mailer.calls) == 1

    def test_sendmail_that_hangs_is_ended(self, *, state, clock, mailer, make_settings, run, caplog, monkeypatch):
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(sendmail, "_SENDMAIL_SECONDS", 0.3)
        settings = make_settings(mail_to=["admin@example.org"])
        mailer.hangs.touch()
        tell(an_alert(clock), settings, state)
        run(settings)
        wait_for_log(caplog, "next attempt in 10 s: no answer in 0 s")
        wait_until_put_off(state, clock)
        monkeypatch.setattr(sendmail, "_SENDMAIL_SECONDS", SECONDS)
        mailer.hangs.unlink()
        clock.ahead += 11
        wait_for_log(caplog, "alert mailed")

    def test_there_is_no_sendmail(self, *, state, clock, mailer, make_settings, run, caplog):
        settings = make_settings(mail_to=["admin@example.org"], sendmail="/nonexistent/sendmail")
        tell(an_alert(clock), settings, state)
        run(settings)
        wait_for_log(caplog, "next attempt in 10 s: /nonexistent/sendmail: ")

    def test_nobody_is_to_be_told_any_more(self, *, state, clock, mailer, make_settings, run, caplog):
        tell(an_alert(clock), make_settings(mail_to=["admin@example.org"]), state)
        run(make_settings())
        wait_for_log(caplog, "mail alert given up: nobody is to be told any more: {")
        assert mailer.calls == []


class TestWebhook:
    def test_json_is_posted_once(self, *, state, clock, make_hook, make_settings, run, caplog):
        caplog.set_level(logging.INFO)
        hook = make_hook(200)
        settings = make_settings(webhook=hook.url)
        tell(an_alert(clock), settings, state)
        run(settings)
        ((path, headers, content),) = hook.wait_for(1)
        assert path == f"/{SECRET}?{SECRET}=%C3%BC"
        assert headers["Content-Type"] == "application/json"
        assert headers["User-Agent"].startswith("delivery-pools")
        assert headers["Authorization"] == "Basic dXNlcjpob29rLXNlY3JldA=="
        assert content["event"] == "limit-exceeded"
        assert content["account"] == "alice@example.org"
        wait_for_log(caplog, "alert posted")
        wait_until_nothing_is_left(state)
        assert len(hook.requests) == 1

    @pytest.mark.parametrize(
        ("status", "said"),
        [(500, "answered 500"), (404, "answered 404"), (302, "answered 302, redirects are not followed"), (307, "307")],
    )
    def test_failure_is_tried_again_and_the_url_is_not_logged(
        self, *, state, clock, make_hook, make_settings, run, caplog, status, said
    ):
        caplog.set_level(logging.INFO)
        hook = make_hook(status, 200)
        settings = make_settings(webhook=hook.url)
        tell(an_alert(clock), settings, state)
        run(settings)
        wait_for_log(caplog, "webhook alert not sent, next attempt in 10 s: http://127.0.0.1:")
        assert said in caplog.text
        clock.ahead += 11
        first, second = hook.wait_for(2)
        assert first == second
        wait_for_log(caplog, "alert posted")
        assert SECRET not in caplog.text

    @pytest.mark.parametrize("drips", [False, True], ids=["silent", "a byte at a time"])
    def test_webhook_that_hangs_delays_no_mail(
        self, *, state, clock, mailer, make_hook, make_settings, run, caplog, monkeypatch, drips
    ):
        monkeypatch.setattr(dispatcher_module, "_LANE_LENGTH", 4)
        monkeypatch.setattr(dispatcher_module, "_LANE_FULL_SECONDS", 0.2)
        monkeypatch.setattr(dispatcher_module, "post_json", lambda *given: webhook.post_json(*given, seconds=1.5))
        hook = make_hook(200 if drips else None, drips=drips)
        settings = make_settings(mail_to=["admin@example.org"], webhook=hook.url)
        for number in range(60):
            tell(an_alert(clock, account=f"user{number}@example.org"), settings, state)
        started = time.monotonic()
        run(settings)
        hook.wait_for(1)
        mailer.wait_for(60)
        assert len(hook.requests) < 60
        wait_for_log(caplog, "next attempt in 10 s: http://127.0.0.1:")
        assert "no answer in 1.5 s" in caplog.text
        assert time.monotonic() - started < SECONDS

    def test_nobody_listens(self, *, state, clock, make_hook, make_settings, run, caplog):
        hook = make_hook(200)
        hook.shutdown()
        hook.server_close()
        settings = make_settings(webhook=hook.url)
        tell(an_alert(clock), settings, state)
        run(settings)
        wait_for_log(caplog, "Connection refused")
        assert SECRET not in caplog.text

    def test_proxies_of_the_environment_are_not_asked(self, make_hook, monkeypatch):
        hook, proxy = make_hook(200), make_hook(200)
        monkeypatch.setenv("http_proxy", proxy.url)
        webhook.post_json(hook.url, {})
        assert (len(hook.requests), len(proxy.requests)) == (1, 0)

    @pytest.mark.parametrize(
        "answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 \xff\xff\r\n\r\n", b"HTTP/1.1 200 OK\r\nA" * 200]
    )
    def test_what_is_no_http_is_a_failure(self, answer):
        with contextlib.closing(listening()) as server:
            thread = threading.Thread(target=answer_once, args=(server, answer))
            thread.start()
            with pytest.raises(webhook.WebhookError) as failure:
                webhook.post_json(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}", {})
            thread.join()
        assert SECRET not in str(failure.value)

    def test_tls_is_verified(self, make_hook):
        hook = make_hook(200)
        with pytest.raises(webhook.WebhookError, match="TLS: "):
            webhook.post_json(hook.url.replace("http:", "https:"), {})
        assert hook.requests == []


def listening():
    return socket.create_server(("127.0.0.1", 0))


def answer_once(server, answer):
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(answer)


class TestOutbox:
    @pytest.mark.parametrize(
        ("channel", "payload"),
        [(MAIL, "{"), (MAIL, "[]"), (MAIL, "{}"), (WEBHOOK, "\N{SNOWMAN}"), ("pigeon", None), (MAIL, "[" * 100_000)],
        ids=["cut", "list", "empty", "text", "channel", "deep"],
    )
    def test_what_cannot_be_read_is_dropped(
        self, *, state, clock, mailer, make_settings, run, caplog, channel, payload
    ):
        settings = make_settings(mail_to=["admin@example.org"])
        payload = json.dumps(an_alert(clock).to_dict()) if payload is None else payload
        state.post("x", DAY, [(channel, payload)])
        tell(an_alert(clock), settings, state)
        run(settings)
        mailer.wait_for(1)
        wait_for_log(caplog, "alert dropped: ")
        wait_until_nothing_is_left(state)
        assert len(mailer.calls) == 1

    def test_store_that_fails_is_told_once_and_asked_again(self, *, state, clock, mailer, make_settings, run, caplog):
        caplog.set_level(logging.INFO)
        settings = make_settings(mail_to=["admin@example.org"])
        failing = Failing(state)
        failing.methods = {"claim_notices"}
        run(settings, lambda: failing)
        tell(an_alert(clock), settings, state)
        wait_until(lambda: failing.failures > 5, timeout_seconds=SECONDS, what="it was asked again")
        assert caplog.text.count("alerts wait: ") == 1
        failing.methods = set()
        mailer.wait_for(1)
        assert caplog.text.count("state: works again") == 1

    def test_what_was_sent_is_not_sent_again_when_the_store_fails(self, state, clock, mailer, make_settings, run):
        settings = make_settings(mail_to=["admin@example.org"])
        failing = Failing(state)
        failing.methods = {"settle_notice"}
        run(settings, lambda: failing)
        tell(an_alert(clock), settings, state)
        wait_until(lambda: failing.failures > 0, timeout_seconds=SECONDS, what="it was sent")
        failing.methods = set()
        clock.ahead += 1000  # past the lease
        wait_until_nothing_is_left(state)
        assert len(mailer.calls) == 1

    def test_killed_before_it_was_noted_it_is_sent_again_after_the_lease(
        self, state, clock, mailer, make_settings, run
    ):
        settings = make_settings(mail_to=["admin@example.org"])
        tell(an_alert(clock), settings, state)
        assert len(state.claim_notices(10, 180)) == 1  # and never heard of again
        run(settings)
        clock.ahead += 181
        mailer.wait_for(1)

    def test_samples_that_cannot_be_read_delay_nothing(self, state, clock, mailer, make_settings, run):
        settings = make_settings(mail_to=["admin@example.org"])
        failing = Failing(state)
        failing.methods = {"records_of"}
        tell(an_alert(clock), settings, state)
        run(settings, lambda: failing)
        mailer.wait_for(1)

    def test_stopped_while_alerts_wait_they_are_due_at_once(self, state, clock, mailer, make_settings, run):
        settings = make_settings(mail_to=["admin@example.org"])
        mailer.hangs.touch()
        for number in range(5):
            tell(an_alert(clock, account=str(number)), settings, state)
        stop = run(settings)
        mailer.wait_for(1)
        stop()
        assert len(state.claim_notices(10, 60)) == 4

    def test_settings_are_asked_each_time(self, state, clock, mailer, make_settings, run):
        current = [make_settings(mail_to=["admin@example.org"])]
        run(lambda: current[0])
        tell(an_alert(clock), current[0], state)
        mailer.wait_for(1)
        current[0] = make_settings(mail_to=["other@example.org"])
        tell(an_alert(clock, account="bob@example.org"), current[0], state)
        mailer.wait_for(2)
        assert [arguments[-1] for arguments, _ in mailer.calls] == ["admin@example.org", "other@example.org"]


class TestRestrictions:
    @pytest.fixture
    def times_written(self, tmp_path):
        """Count how often the file was written, by writing something else into it."""
        path = tmp_path / "spool" / "requeue"

        def was_written():
            try:
                if "restrictions changed" in path.read_text():
                    path.write_text("seen")
                    return True
            except FileNotFoundError:
                pass
            return False

        return was_written

    def test_file_is_written_when_restrictions_change(self, state, clock, make_settings, run, times_written):
        run(make_settings())
        wait_until(times_written, timeout_seconds=SECONDS, what="the start: nobody knows what has changed meanwhile")
        for number, change in enumerate(
            (
                lambda: state.restrict(Restriction(account="a", since=clock(), until=clock() + 100, reason="r")),
                lambda: state.restrict(Restriction(account="b", since=clock(), reason="r")),
                lambda: state.release("b"),
                lambda: setattr(clock, "ahead", 101),  # that of `a` has ended
            )
        ):
            assert not times_written()
            change()
            wait_until(times_written, timeout_seconds=SECONDS, what=f"change {number} was noted")

    def test_spool_that_cannot_be_written_is_told_once(self, tmp_path, make_settings, run, caplog, times_written):
        caplog.set_level(logging.INFO)
        (tmp_path / "spool").write_bytes(b"")
        run(make_settings())
        wait_for_log(caplog, "queued mail of restricted accounts is not decided again")
        (tmp_path / "spool").unlink()
        wait_until(times_written, timeout_seconds=SECONDS, what="written at last")
        assert caplog.text.count("is not decided again") == 1


class TestCopies:
    @pytest.fixture
    def settings(self, make_settings):
        return make_settings(bcc=["audit@example.org"])

    def kept(self, settings, clock, number=0, body=b"caf\xe9\r\n.\r\nend", **changes):
        with MessageSpool(copies.MOST_MESSAGE_BYTES) as draft:
            draft.add_header("Subject", "watches")
            draft.add_body(body)
            return copies.keep(draft, a_record(clock, **changes), name=f"over_limit/{number}", settings=settings)

    def test_copies_are_sent_oldest_first_and_removed(self, clock, mailer, settings, run):
        contents = []
        for number in (3, 1, 2):
            path = self.kept(settings, clock, number, at=clock() - number)
            contents.append((number, path.read_bytes()))
        run(settings)
        mailer.wait_for(3)
        sent = [content for _, content in mailer.calls]
        assert [without_mark(content) for content in sent] == [copy for _, copy in sorted(contents, reverse=True)]
        assert mailer.calls[0][0] == ["-i", "-f", "<>", "--", "audit@example.org"]
        wait_until(lambda: not any(path.parent.iterdir()), timeout_seconds=SECONDS, what="the spool is empty")

    def test_failure_is_tried_again_later(self, clock, mailer, settings, run, caplog):
        mailer.fails.touch()
        path = self.kept(settings, clock)
        run(settings)
        wait_for_log(caplog, "copy not sent, next attempt in 1")
        assert path.exists()
        mailer.fails.unlink()
        clock.ahead += 12
        mailer.wait_for(2)
        wait_until(lambda: not path.exists(), timeout_seconds=SECONDS, what="it is removed")

    def test_given_up_loudly_after_a_day(self, clock, mailer, settings, run, caplog):
        mailer.fails.touch()
        path = self.kept(settings, clock, at=clock() - DAY)
        run(settings)
        wait_for_log(caplog, "copy given up after a day: ")
        assert "exit status 75: mail system is down: [delivery-pools] Copy of suspicious mail: Grüße" in caplog.text
        wait_until(lambda: not path.exists(), timeout_seconds=SECONDS, what="it is removed")

    def test_after_three_failures_the_others_are_not_tried(self, *, clock, mailer, settings, run, caplog, monkeypatch):
        monkeypatch.setattr(dispatcher_module, "_PAUSE_SECONDS", 3600.0)
        mailer.fails.touch()
        for number in range(10):
            self.kept(settings, clock, number)
        run(settings)
        wait_for_log(caplog, "copy not sent", count=3)
        assert len(mailer.calls) == 3

    def test_one_that_fails_does_not_keep_back_the_others(self, clock, mailer, settings, run, caplog):
        path = self.kept(settings, clock, at=clock() - 50)
        path.chmod(0)
        path.unlink()
        path.symlink_to("/nonexistent")
        self.kept(settings, clock, 1)
        run(settings)
        mailer.wait_for(1)

    def test_nobody_gets_copies_any_more(self, *, clock, mailer, settings, make_settings, run, caplog):
        path = self.kept(settings, clock)
        run(make_settings())
        wait_for_log(caplog, "nobody gets copies of suspicious mail any more")
        wait_until(lambda: not path.exists(), timeout_seconds=SECONDS, what="it is removed")
        assert mailer.calls == []

    def test_spool_that_cannot_be_read_is_told_once(self, *, tmp_path, mailer, settings, clock, run, caplog):
        caplog.set_level(logging.INFO)
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "copies").write_bytes(b"")
        run(settings)
        wait_for_log(caplog, "copies of suspicious mail wait: ")
        (tmp_path / "spool" / "copies").unlink()
        self.kept(settings, clock)
        mailer.wait_for(1)
        wait_for_log(caplog, "copies: works again")
        assert caplog.text.count("copies of suspicious mail wait") == 1
