"""What administrators are told about a surge, as mail and as JSON."""

import json
from dataclasses import replace

import pytest
from surge_events import NOW, backscatter, only, own_failures, refusals

from deliverypools.core.alert_text import Samples
from deliverypools.core.surges.alert import SurgeAlert, alert_of
from deliverypools.core.surges.causes import Cause
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
ALL = [SPOOFING, HARVEST, SPAM, ROGUE, DESTINATION, UNCLEAR]
NAMES = ["spoofing", "harvest", "spam", "rogue", "destination", "unclear"]


@pytest.mark.parametrize("alert", ALL, ids=NAMES)
class TestEveryCause:
    def test_it_is_read_as_it_was_written(self, alert):
        assert from_payload(to_payload(alert)) == alert

    def test_the_evidence_is_in_the_mail_and_in_the_json(self, alert):
        mail, values = alert.body(Samples()), alert.webhook(Samples())
        for feature, evidence in zip(alert.features, values["evidence"], strict=True):
            assert f"{feature.value:.2f}  {feature.name}" in mail
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
        values = dict.fromkeys(("domain", "address", "account", "remote"), HOSTILE)
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
