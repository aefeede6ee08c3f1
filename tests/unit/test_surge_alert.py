"""What administrators are told about a surge, as mail and as JSON."""

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from surge_events import NOW, backscatter, only, own_failures, refusals

from deliverypools.core.alert_text import Samples
from deliverypools.core.dsn.was_it_ours import Verdict
from deliverypools.core.surges.alert import SurgeAlert, alert_of
from deliverypools.core.surges.causes import Cause
from deliverypools.core.surges.events import LONGEST_REPLY, Category, reply_of
from deliverypools.core.surges.groups import Subject
from deliverypools.core.surges.replies import without_particulars
from deliverypools.core.told import from_payload, to_payload

HOSTILE = "a\r\nBcc: all@example.org\r\n\r\n<script>\x1b[31m =?utf-8?q?x?= \udce9" + "x" * 1000


def told(events, **values):
    return alert_of(only(events), **{"now": NOW, "is_cut": False} | values)


SPOOFING = told(backscatter(200))
HARVEST = told(refusals(120))
SPAM = told(own_failures(200, spam=0.5))
ROGUE = told(backscatter(300, client="203.0.113.7", original="same"))
DESTINATION = told([replace(one, account=f"u{n % 30}@x") for n, one in enumerate(own_failures(300, remotes=1))])
UNCLEAR = told(own_failures(300, remotes=1))
DOUBTFUL = told(own_failures(300, spam=0.1))
LISTED = told([replace(one, account=f"a{n % 80}") for n, one in enumerate(own_failures(200, spam=1.0))])
DOWN = told(own_failures(90, remotes=1, category=Category.UNREACHABLE))
ALL = [SPOOFING, HARVEST, SPAM, ROGUE, DESTINATION, UNCLEAR, DOUBTFUL, LISTED, DOWN]
NAMES = ["spoofing", "harvest", "spam", "rogue", "destination", "unclear", "doubtful", "listed", "down"]


@pytest.mark.parametrize("alert", ALL, ids=NAMES)
class TestEveryCause:
    def test_it_is_read_as_it_was_written(self, alert):
        assert from_payload(to_payload(alert)) == alert

    def test_the_evidence_is_in_the_mail_and_in_the_json(self, alert):
        mail, values = alert.body(Samples()), alert.webhook(Samples())
        for feature, evidence in zip(alert.features, values["evidence"], strict=True):
            answer = "yes" if feature.earned >= feature.weight / 2 else "no"
            assert re.search(rf"(?m)^ +{answer}\b[^:]*: {re.escape(feature.name)}: \S", mail)
            assert evidence["earned"] == round(feature.earned, 3)
        assert values["cause"] == alert.cause
        assert values["id"] == alert.once

    def test_it_says_what_to_do(self, alert):
        assert alert.advice
        assert all(advice in alert.body(Samples()) for advice in alert.advice)
        assert alert.webhook(Samples())["advice"] == list(alert.advice)

    def test_the_json_is_json(self, alert):
        values = alert.webhook(Samples(("hello",), ("192.0.2.1",)))
        assert json.loads(json.dumps(values)) == values

    def test_the_headline(self, alert):
        cause = "surge without a likely cause" if alert.cause is Cause.UNCLEAR else f"likely {alert.cause}"
        assert alert.subject().startswith(f"[delivery-pools] {cause}: {alert.subject_kind} ")
        assert str(alert.volume) in alert.subject()


class TestText:
    def test_a_mail(self):
        mail = HARVEST.body(Samples())
        assert mail.startswith(
            "likely directory-harvest: client 203.0.113.0/24, 120 recipients refused to, or bounced for, clients"
            " outside in an hour.\nSomebody tries which addresses exist here.\n"
        )
        assert "  cause:     directory-harvest, score 1.00 of 1.00\n  not:       rogue-server, score 0.00\n" in mail
        assert "Client networks:\n     120  203.0.113.0/24\n" in mail
        assert "Clients:\n     120  203.0.113.7\n" in mail
        assert "postscreen_access_list" in mail

    def test_the_commands_for_an_account(self):
        assert SPAM.commands == {
            "usage": "delivery-pools usage alice@example.org",
            "restrict": "delivery-pools restricted add alice@example.org",
        }
        assert SPAM.account == "alice@example.org"
        assert "delivery-pools restricted add alice@example.org\n" in SPAM.body(Samples())

    def test_what_may_be_a_stolen_password_says_both_and_has_the_commands(self):
        mail = DOUBTFUL.body(Samples())
        assert "an old list, or its password is known to others" in mail
        assert "delivery-pools restricted add alice@example.org\n" in mail
        assert DOUBTFUL.account == "alice@example.org"

    def test_a_listed_address_accuses_nobody(self):
        mail = LISTED.body(Samples())
        assert mail.startswith("likely listed-address: site all accounts, 200 recipients not reached by our users")
        assert "addresses of ours are on a block list" in mail
        assert "restricted add" not in mail
        assert LISTED.commands == {}

    @pytest.mark.parametrize(("share", "is_named"), [(49, False), (50, True)])
    def test_of_a_domain_the_account_with_half_of_it_is_named(self, share, is_named):
        events = [
            replace(one, account="alice" if n % 100 < share else f"u{n}")
            for n, one in enumerate(own_failures(100, spam=0.5))
        ]
        alert = replace(SPAM, subject_kind=Subject.DOMAIN, subject_name="example.org", volume=100)
        amounts = Counter(one.account for one in events)
        alert = replace(alert, accounts=tuple(amounts.most_common(10)))
        assert ("restrict" in alert.commands) is is_named
        assert "alice" in str(alert.commands) or not is_named

    def test_a_destination_that_refuses_is_no_dead_one(self):
        assert "One destination refuses mail of many accounts of ours" in DESTINATION.body(Samples())
        assert "One destination cannot be reached" in DOWN.body(Samples())
        assert DOWN.summary().startswith("surge: likely destination-down: destination remote0.example, 90 recipients")

    def test_the_three_commonest_replies(self):
        replies = [
            "550 5.7.1 Client host [192.0.2.10] blocked using zen.example; see https://zen.example/ip/192.0.2.10",
            "550 5.7.1 Client host [192.0.2.11] blocked using zen.example; see https://zen.example/ip/192.0.2.11",
            "connect to mx1.partner.example[192.0.2.1]:25: Connection timed out",
            "554 5.7.1 <bob@example.net>: go away",
            "451 4.3.0 later",
        ]
        weights = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 0]
        events = [replace(one, reply=replies[weights[n % 12]]) for n, one in enumerate(own_failures(240, spam=0.5))]
        blocked, refused, timed_out = told(events).replies
        assert blocked == ("550 5.7.1 Client host # blocked using zen.example; see #", 140)
        assert {refused, timed_out} == {("554 5.7.1 # go away", 40), ("connect to # Connection timed out", 40)}
        assert f"     140  {blocked[0]}\n" in told(events).body(Samples())
        assert told(events).webhook(Samples())["replies"][0] == {"name": blocked[0], "count": 140}

    def test_without_replies_there_are_none(self):
        assert SPAM.replies == ()
        assert "Replies" not in SPAM.body(Samples())

    def test_in_the_first_days_nothing_can_be_told(self):
        alert = told(backscatter(300, verdict=Verdict.UNKNOWN))
        assert alert.cause is Cause.UNCLEAR
        assert "in the first days" in alert.body(Samples())

    def test_without_an_account_there_are_none(self):
        assert SPOOFING.commands == HARVEST.commands == {}
        assert SPOOFING.account == ""

    def test_a_name_that_is_an_option(self):
        alert = told(own_failures(200, account="-x;reboot", spam=0.5))
        assert alert.commands["restrict"] == "delivery-pools restricted add -- '-x;reboot'"

    def test_a_flood_may_hide_another(self):
        assert "hidden behind this one" in told(backscatter(200), is_cut=True).body(Samples())
        assert "hidden behind this one" not in SPOOFING.body(Samples())

    def test_other_parts_of_the_incident_are_named(self):
        events = [
            replace(one, client=f"198.51.{n % 30}.7", domain=f"customer{n % 3}.example")
            for n, one in enumerate(refusals(900))
        ]
        alert = told(events)
        assert alert.volume == 900
        assert "and 2 more" in alert.subject()
        named = {f"domain {alert.subject_name}", *(name for name, _ in alert.joined)}
        assert named == {f"domain customer{number}.example" for number in range(3)}

    def test_hostile_names(self):
        values = dict.fromkeys(("domain", "address", "account", "remote", "reply"), HOSTILE)
        alert = told(own_failures(200, spam=0.5, **values))
        assert from_payload(to_payload(alert)) == alert
        for text in (alert.subject(), alert.summary(), *json.dumps(alert.webhook(Samples())).splitlines()):
            assert "\r" not in text
            assert "\n" not in text
            assert text.isprintable()
        assert "=?" not in alert.subject()
        mail = alert.body(Samples())
        assert all(line.isprintable() for line in mail.split("\n"))
        assert not any(line.startswith("Bcc:") for line in mail.split("\n"))
        assert len(mail) < 20_000


@pytest.mark.parametrize(
    "change",
    [
        {"cause": "another"},
        {"volume": -1},
        {"at": "noon"},
        {"features": [1]},
        {"clients": [["a", "b"]]},
        {"joined": None},
        {"added": 1},
    ],
    ids=str,
)
def test_another_versions_alert_is_a_value_error(change):
    with pytest.raises(ValueError, match="SurgeAlert"):
        SurgeAlert.from_dict(json.loads(json.dumps(SPOOFING.to_dict())) | change)


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("", ""),
        ("550 5.1.1 <bob@example.net>: unknown user", "550 5.1.1 # unknown user"),
        ("550-5.7.26 This mail is not authenticated", "550-5.7.26 This mail is not authenticated"),
        ("host mx3.example.net[192.0.2.1] said: 452 4.2.2 full", "host # said: 452 4.2.2 full"),
        ("421 4.7.0 try again in 417 s (4jXLyD1BrCzJryH)", "421 4.7.0 try again in 417 s #"),
        ("spam score 12.5 over 600", "spam score # over #"),
    ],
)
def test_a_reply_without_what_differs(reply, shown):
    assert without_particulars(reply) == shown


def test_of_a_reply_the_beginning_is_kept():
    kept = reply_of("550 5.1.1\r\n" + "x" * 10_000)
    assert kept.isprintable()
    assert len(kept) == LONGEST_REPLY
