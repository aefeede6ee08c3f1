"""What administrators are told of a scanner that gives no verdict, and when it has given none for long enough."""

import json
from dataclasses import replace

import pytest

from deliverypools.core.alert_text import Samples
from deliverypools.core.scanning.alert import Silence, address_of, scanner_down
from deliverypools.core.scanning.answers import Scanner
from deliverypools.core.settings import Settings
from deliverypools.core.told import from_payload, to_payload

NOW = 1_795_305_900.0  # 2026-11-22 00:05 UTC
HOSTILE = "a\r\nBcc: all@example.org\r\n\r\n<script>\x1b[31m =?utf-8?q?x?= \udce9" + "x" * 1000


def make_settings(**spam):
    pools = {
        name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
        for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
    }
    return Settings.model_validate({"accepted_domains": ["example.org"], "pools": pools, "spam": spam})


SETTINGS = make_settings(rspamd="http://127.0.0.1:11333", clamd="unix:/run/clamav/clamd.ctl")


def down(scanner=Scanner.RSPAMD, settings=SETTINGS, **values):
    usual = {"host": "mail.example.org", "problem": "connection refused", "since": NOW - 90, "now": NOW}
    return scanner_down(scanner, settings, **usual | values)


class TestTexts:
    def test_the_line_in_the_log(self):
        assert down().summary() == (
            "rspamd on mail.example.org has given no verdict since 2026-11-22T00:03:30Z: connection refused"
        )

    def test_the_subject(self):
        assert down().subject() == ("[delivery-pools] rspamd on mail.example.org gives no verdict: connection refused")

    def test_the_mail_says_which_where_and_what_to_do(self):
        mail = down(Scanner.CLAMD).body(Samples())
        assert "  scanner:   clamd, asked about malware\n" in mail
        assert "  address:   unix:/run/clamav/clamd.ctl (spam.clamd)\n" in mail
        assert "  host:      mail.example.org\n" in mail
        assert "\n  delivery-pools check\n" in mail

    @pytest.mark.parametrize(
        ("unknown_verdict", "consequence"),
        [("wait", "after 4h it leaves by high-risk"), ("high-risk", "does not answer about leaves by high-risk")],
    )
    def test_what_happens_to_mail_is_what_the_settings_say(self, unknown_verdict, consequence):
        told = down(settings=make_settings(rspamd="http://127.0.0.1:11333", unknown_verdict=unknown_verdict))
        assert consequence in told.body(Samples())
        assert consequence in told.webhook(Samples())["consequence"]

    @pytest.mark.parametrize("unknown_verdict", ["wait", "high-risk"])
    def test_with_shadow_no_mail_is_held_up(self, unknown_verdict):
        settings = make_settings(rspamd="http://127.0.0.1:11333", unknown_verdict=unknown_verdict)
        told = down(settings=settings.model_copy(update={"shadow": True}))
        assert "No mail is held up: all of it leaves by normal (shadow = true)." in told.body(Samples())
        assert not any(word in told.body(Samples()) for word in ("451", "high-risk"))

    def test_without_a_host_name(self):
        assert down(host="").summary().startswith("rspamd has given no verdict")
        assert "  host:      (not known)\n" in down(host="").body(Samples())

    def test_the_webhook(self):
        values = down().webhook(Samples())
        assert json.loads(json.dumps(values)) == values
        assert values["event"] == "scanner-down"
        assert values["id"] == "scanner-down/2026-11-22/rspamd/mail.example.org"
        assert (values["since"], values["time"]) == ("2026-11-22T00:03:30Z", "2026-11-22T00:05:00Z")
        assert values["commands"] == {"check": "delivery-pools check"}

    def test_it_goes_to_the_administrators_and_is_about_no_account(self):
        assert (down().notify, down().account, down().ingress) == ((), "", None)

    @pytest.mark.parametrize("field", ["host", "problem", "address", "undecided_after"])
    def test_hostile_texts_stay_one_bounded_line_each(self, field):
        told = replace(down(), **{field: HOSTILE})
        for line in (told.summary(), told.subject(), told.webhook(Samples())["text"]):
            assert line.isprintable()
            assert len(line) < 700
        assert "=?" not in told.subject()
        mail = told.body(Samples())
        assert mail.count("\n") == down().body(Samples()).count("\n")
        assert mail.replace("\n", "").isprintable()
        assert len(mail) < 2000
        mail.encode()


class TestOnce:
    def test_it_is_one_for_a_day(self):
        assert down(now=NOW + 80_000).once == down().once
        assert down(now=NOW + 86_400).once != down().once

    def test_each_scanner_and_each_host_is_told(self):
        names = {
            down(scanner, host=host).once for scanner in Scanner for host in ("mx1.example.org", "mx2.example.org")
        }
        assert len(names) == 6


class TestPayload:
    @pytest.mark.parametrize("scanner", Scanner)
    def test_what_was_written_is_read(self, scanner):
        told = down(scanner)
        assert from_payload(to_payload(told)) == told
        assert from_payload(to_payload(told)).scanner is scanner

    def test_what_an_earlier_version_wrote_is_read(self):
        values = json.loads(to_payload(down()))
        del values["shadow"]
        assert from_payload(json.dumps(values)) == down()

    @pytest.mark.parametrize(
        "change",
        [
            {"scanner": "amavis"},
            {"scanner": None},
            {"at": 1e12},
            {"since": -1},
            {"since": float("inf")},
            {"problem": 1},
            {"unknown_verdict": "maybe"},
            {"shadow": "yes"},
            {"another": 1},
        ],
        ids=str,
    )
    def test_values_of_the_wrong_kind_are_refused(self, change):
        payload = json.dumps(json.loads(to_payload(down())) | change)
        with pytest.raises(ValueError, match=f"ScannerDown: {next(iter(change))}"):
            from_payload(payload)


class TestAddress:
    @pytest.mark.parametrize(
        ("spam", "scanner", "shown"),
        [
            ({"rspamd": "http://127.0.0.1:11333"}, Scanner.RSPAMD, "http://127.0.0.1:11333"),
            ({"rspamd": "https://alice:secret@scan.example.org"}, Scanner.RSPAMD, "https://scan.example.org/***"),
            ({"spamd": "127.0.0.1:783"}, Scanner.SPAMD, "127.0.0.1:783"),
            ({"clamd": "unix:/run/clamd.ctl"}, Scanner.CLAMD, "unix:/run/clamd.ctl"),
            ({}, Scanner.CLAMD, ""),
        ],
    )
    def test_it_is_that_of_the_settings_without_a_password(self, spam, scanner, shown):
        settings = make_settings(**spam)
        assert address_of(scanner, settings) == shown
        assert "secret" not in down(scanner, settings).body(Samples())


class TestSilence:
    def test_it_lasts_from_the_first_question_without_a_verdict(self):
        silence = Silence()
        assert [silence.lasts(now) for now in (100, 130, 160)] == [0, 30, 60]

    def test_a_verdict_breaks_it_off(self):
        silence = Silence()
        silence.lasts(100)
        silence.break_off()
        assert silence.lasts(200) == 0

    def test_two_failures_far_apart_are_not_of_one_silence(self):
        silence = Silence()
        silence.lasts(100)
        assert silence.lasts(100 + 7201) == 0
        assert silence.lasts(100 + 7201 + 7200) == 7200
