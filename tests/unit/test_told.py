"""What administrators are told, as the outbox holds it: every sort is read as it was written, nothing else is."""

import json
from dataclasses import dataclass, replace

import pytest
from test_alerts import AT, OVER_LIMIT

from deliverypools.core.alert_text import Samples
from deliverypools.core.alerts import Event
from deliverypools.core.dropped_digest import DigestEntry, DroppedDigest, digest_of
from deliverypools.core.facts import Ingress
from deliverypools.core.payloads import Moment, Number, dataclass_from
from deliverypools.core.records import DroppedNotice
from deliverypools.core.told import SORTS, LimitAlert, from_payload, to_payload

DAY = 1_795_219_200.0  # 2026-11-21
ALERT = replace(OVER_LIMIT, policy="default", limit="recipients_per_day", evidence="too many")
DIGEST = DroppedDigest(
    at=AT,
    day=DAY,
    total=3,
    counted=2,
    reasons=(("spf=fail", 2),),
    networks=(("203.0.113.0/24", 2),),
    entries=(
        DigestEntry(at=DAY, sender="a@example.net", client_address="203.0.113.9", reason="spf=fail", subject="Grüße"),
    ),
)


class TestPayload:
    @pytest.mark.parametrize("told", [LimitAlert(ALERT), DIGEST], ids=lambda told: told.sort or "limit")
    def test_what_was_written_is_read(self, told):
        assert from_payload(to_payload(told)) == told

    def test_limit_alerts_are_written_as_they_always_were(self):
        assert json.loads(to_payload(LimitAlert(ALERT))) == ALERT.to_dict()
        assert from_payload(json.dumps(ALERT.to_dict())) == LimitAlert(ALERT)

    def test_every_sort_has_its_name(self):
        assert {name: sort.sort for name, sort in SORTS.items()} == {name: name for name in SORTS}
        assert {"", "dropped-digest"} <= set(SORTS)

    @pytest.mark.parametrize(
        "payload",
        [
            *("", "{", "[]", "null", "1", "{}", "[" * 100_000, '{"sort": "dropped-digest"}'),
            *('{"sort": "pigeon"}', '{"sort": ["dropped-digest"]}', '{"sort": null}', '{"sort": {}}'),
        ],
        ids=lambda payload: payload[:30],
    )
    def test_anything_else_is_refused(self, payload):
        with pytest.raises(ValueError, match=r"\w"):
            from_payload(payload)

    @pytest.mark.parametrize(
        "change",
        [
            {"at": "now"},
            {"at": -1},
            {"at": 1e12},
            {"day": float("nan")},
            {"day": float("inf")},
            {"total": -1},
            {"total": "3"},
            {"total": 1.5},
            {"total": None},
            {"reasons": {"spf=fail": 2}},
            {"reasons": [["spf=fail", "2"]]},
            {"reasons": [["spf=fail"]]},
            {"networks": [[1, 2]]},
            {"entries": [{}]},
            {"entries": ["text"]},
            {"entries": None},
            {"another": 1},
        ],
        ids=str,
    )
    def test_a_digest_with_values_of_the_wrong_kind_is_refused(self, change):
        values = json.loads(to_payload(DIGEST)) | change
        with pytest.raises(ValueError, match=r"^DroppedDigest: \w+"):
            from_payload(json.dumps(values))

    def test_half_a_surrogate_is_refused(self):
        with pytest.raises(ValueError, match="DroppedDigest"):
            from_payload(to_payload(replace(DIGEST, reasons=(("\ud800", 1),))))


def test_a_dataclass_is_held_to_its_annotations():
    @dataclass(frozen=True)
    class Made:
        at: Moment
        number: Number
        event: Event

    assert dataclass_from(Made, {"at": 1, "number": 2, "event": "limit-exceeded"}) == Made(1.0, 2, Event.LIMIT_EXCEEDED)
    for wrong in ({"number": True}, {"event": "pigeon"}, {"at": 1e11}):
        with pytest.raises(ValueError, match=r"^Made: "):
            dataclass_from(Made, {"at": 1, "number": 2, "event": "limit-exceeded"} | wrong)


class TestLimitAlert:
    def test_reads_as_its_alert_does(self):
        told = LimitAlert(ALERT)
        assert (told.once, told.at, told.notify) == (ALERT.once, AT, ("admin@example.org",))
        assert (told.account, told.ingress) == ("alice@example.org", Ingress.SUBMISSION)
        assert told.summary() == "limit-exceeded: too many (action: high-risk)"
        assert told.subject() == "[delivery-pools] alice@example.org is over its limit (recipients_per_day)"
        assert "Cheap watches" in told.body(Samples(("Cheap watches",)))
        assert told.webhook(Samples(("Cheap watches",)))["subjects"] == ["Cheap watches"]


class TestDigest:
    def test_says_of_how_many_the_lists_are(self):
        text = DIGEST.body(Samples())
        assert "By reason, of the newest 2:\n" in text
        assert "By reason:\n" in replace(DIGEST, counted=3).body(Samples())

    def test_one_is_no_plural(self):
        assert replace(DIGEST, total=1).summary() == (
            "1 bounce was dropped on 2026-11-21 (UTC) instead of being sent to forged senders"
        )

    def test_is_told_once_for_its_day(self):
        assert DIGEST.once == replace(DIGEST, at=AT + 5, total=7).once == "dropped-digest/2026-11-21"
        assert DIGEST.once != replace(DIGEST, day=DAY + 86_400).once

    @pytest.mark.parametrize(
        ("client", "network"),
        [
            ("203.0.113.9", "203.0.113.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/56"),
            ("fe80::1%eth0", "fe80::/56"),
            ("unix:/run/x", "unix:/run/x"),
            ("", "(no address)"),
        ],
    )
    def test_network_of_a_client(self, client, network):
        assert digest_of([a_notice(client_address=client)], total=1, day=DAY, now=AT).networks == ((network, 1),)

    @pytest.mark.parametrize(
        ("reason", "sort"),
        [
            ("its sender failed authentication: spf=fail", "its sender failed authentication: spf=fail"),
            ("spam: X-Spam-Score: 12.5", "spam: X-Spam-Score: ..."),
            ("5.5 points", "5.5 points"),
            ("", "(no reason)"),
        ],
    )
    def test_reasons_that_differ_by_a_number_are_one(self, reason, sort):
        assert digest_of([a_notice(reason=reason)], total=1, day=DAY, now=AT).reasons == ((sort, 1),)


def a_notice(**changes):
    usual = dict.fromkeys(DroppedNotice.__dataclass_fields__, "") | {"at": DAY}
    return DroppedNotice(**usual | changes)
