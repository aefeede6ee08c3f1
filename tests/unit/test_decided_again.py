"""Messages of the decision log, decided again under other settings; `replay --decisions` and `decisions export`."""

import json
from pathlib import Path

import pytest
from command_line import SETTINGS

from deliverypools.core.accounts import Account
from deliverypools.core.evidence import evidence_text, read_evidence
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.limits import Charge, held_by, limits_for
from deliverypools.core.records import DecisionRecord
from deliverypools.core.replay.decided_again import (
    NO_EVIDENCE,
    NOT_COUNTED,
    NOT_SCANNED,
    decide_again,
    is_decision,
)
from deliverypools.core.scanning.answers import Scan, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.settings import parse_settings
from deliverypools.core.tallies import DAY

AT = 1_700_000_049.0
STRICT = "[limits]\nrecipients_per_day = 100\n"
KEPT = 100 * 365 * DAY
BASE = parse_settings(SETTINGS.format(folder="/tmp"), "pools.toml")
ALICE = Origin(
    ingress=Ingress.SUBMISSION, account="alice@example.org", envelope_sender="alice@example.org", client_address="::1"
)


def site(more="", accepted="example.org"):
    return parse_settings(
        SETTINGS.format(folder="/tmp").replace('["example.org"]', f'["{accepted}"]') + more, "new.toml"
    )


def facts(**changes):
    usual = {"envelope_sender": "alice@example.org", "recipients": ("bob@example.com",), "origin": ALICE}
    return MessageFacts(**usual | changes)


def row(known=None, **changes):
    known = known or facts()
    details = evidence_text(BASE, recipients=known.recipients, facts=known, first_queue_id="4Q1")
    usual = {
        "queue_id": "4Q2",
        "host": "mx1",
        "pass_name": "egress",
        "at": AT,
        "ingress": "submission",
        "account": "alice@example.org",
        "pool": "normal",
        "rule": "default",
        "reasons": "",
        "envelope_sender": "alice@example.org",
        "recipients": 1,
        "client_address": "::1",
        "subject": "",
        "message_id": "<1@example.org>",
        "leaves_by": "normal",
        "details": details,
    }
    return DecisionRecord(**usual | changes)


def counted(*used, settings=BASE, external=3):
    """The evidence of a first pass whose windows held so much."""
    charge = Charge(Account(Ingress.SUBMISSION, "alice@example.org", "example.org", "example.org"), 0, external)
    held = held_by(limits_for(charge, settings), used)
    return read_evidence(evidence_text(BASE, recipients=["x@example.com"] * external, origin=ALICE, held=held))


class TestRules:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, ("normal", "default")),
            ({"more": '[[pins]]\nsasl_username = "alice@example.org"\npool = "relay"\n'}, ("relay", "pinned")),
            ({"accepted": "example.com"}, ("relay", "forwarded")),
        ],
        ids=["as before", "a pin", "no domain of ours"],
    )
    def test_other_settings(self, changes, expected):
        again = decide_again(row(), None, site(**changes))
        assert (again.pool, again.rule, again.problem) == (*expected, "")

    def test_dns_said_then_what_it_said(self):
        known = facts(sender_domain_has_mx_or_address=Finding(Answer.NO, "NXDOMAIN"))
        assert decide_again(row(known), None, BASE).pool == "high-risk"

    def test_what_could_not_be_decided_leaves_by_high_risk_in_the_end(self):
        known = facts(origin=None, origin_problem="no ticket")
        again = decide_again(row(known), None, BASE)
        assert (again.pool, again.rule) == ("high-risk", "undecided")


class TestScanners:
    ANSWER = ScannerAnswer(scanner=Scanner.RSPAMD, verdict=ScanVerdict.HAM, score=5.0)

    def scanning(self, least):
        return site(f'[spam]\nrspamd = "http://127.0.0.1:11333"\nrspamd_scores.high-risk = {least}\n')

    @pytest.mark.parametrize(("least", "pool"), [(4.0, "high-risk"), (6.0, "normal")])
    def test_other_scores(self, least, pool):
        assert decide_again(row(facts(scan=Scan((self.ANSWER,)))), None, self.scanning(least)).pool == pool

    def test_a_scanner_that_was_not_asked(self):
        assert decide_again(row(), None, self.scanning(4.0)).problem == NOT_SCANNED


class TestLimits:
    def test_a_stricter_limit(self):
        again = decide_again(row(), counted(98, 0), site(STRICT))
        assert (again.pool, again.rule) == ("high-risk", "over_limit")
        assert [one.evidence for one in again.exceeded] == [
            "alice@example.org: 98 recipients in 24 hours and 3 more, the limit is 100"
        ]

    def test_a_limit_that_is_not_reached(self):
        assert decide_again(row(), counted(97, 0), site(STRICT)).pool == "normal"

    def test_a_limit_that_was_exceeded_then_and_would_not_be(self):
        over = facts(origin=Origin(**{**_values(ALICE), "over_limit": Finding(Answer.YES, "too much")}))
        record = row(over, pool="high-risk", rule="over_limit")
        assert decide_again(record, counted(98, 0), BASE).pool == "normal"
        assert decide_again(record, None, BASE).pool == "high-risk", "nothing tells how much it was"

    def test_a_limit_that_nobody_counted(self):
        hourly = site('[[outbound_policies]]\nname = "default"\nexternal_recipients_per_hour = 10\n')
        assert decide_again(row(), counted(98, 0), hourly).problem == NOT_COUNTED


def _values(origin):
    return {name: getattr(origin, name) for name in Origin.__dataclass_fields__}


@pytest.mark.parametrize("details", ["", "{", '{"v":1,"cut":30,"kind":["ordinary"]}'])
def test_without_evidence_nothing_is_guessed(details):
    assert decide_again(row(details=details), None, BASE).problem == NO_EVIDENCE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"pass_name": "first", "pool": "", "leaves_by": ""}, False),
        ({"pool": "", "rule": "undecided"}, True),
        ({"pool": "", "rule": "undecided", "leaves_by": ""}, False),
        ({"rule": "requeued"}, False),
        ({"rule": "let_go"}, False),
        ({"pass_name": "express"}, True),
    ],
)
def test_what_is_a_decision(changes, expected):
    assert is_decision(row(**changes)) is expected


class TestCommandLine:
    @pytest.fixture
    def replay(self, run, config, state, tmp_path):
        first = DecisionRecord(
            **{name: getattr(row(), name) for name in DecisionRecord.__dataclass_fields__}
            | {"queue_id": "4Q1", "pass_name": "first", "pool": "", "leaves_by": "", "details": self.first_details()}
        )
        for one in (first, row(), row(queue_id="4Q3", details="", pool="relay", rule="forwarded")):
            state.record(one, KEPT)

        def replay(more, *arguments):
            Path(config).write_text(SETTINGS.format(folder=tmp_path) + more, encoding="utf-8")
            return run("replay", "--config", config, *arguments)

        return replay

    def first_details(self):
        charge = Charge(Account(Ingress.SUBMISSION, "alice@example.org", "example.org", "example.org"), 0, 3)
        held = held_by(limits_for(charge, BASE), (98, 0))
        return evidence_text(BASE, recipients=["x@example.com"] * 3, origin=ALICE, held=held)

    def test_nothing_changes(self, replay):
        (report,) = replay("", "--decisions", "--json").json()
        assert (report["source"], report["messages"], report["changes"]) == ("decisions", 1, [])
        assert report["not_judged"] == {NO_EVIDENCE: 1}

    def test_stricter(self, replay):
        answer = replay(STRICT, "--decisions")
        assert answer.status == 0
        assert (
            "1 messages would be decided otherwise\n          1  normal (default) -> high-risk (over_limit)\n"
            in answer.out
        )
        assert "alice@example.org: 1 messages over a limit" in answer.out

    def test_compared_with_other_settings_instead_of_what_was_decided(self, replay, tmp_path):
        old = tmp_path / "old.toml"
        old.write_text(SETTINGS.format(folder=tmp_path) + STRICT, encoding="utf-8")
        (report,) = replay("", "--decisions", "--compare", str(old), "--json").json()
        assert [(one["from_pool"], one["to_pool"]) for one in report["changes"]] == [("high-risk", "normal")]

    def test_exported_decisions_say_the_same(self, replay, run, config, tmp_path):
        exported = run("decisions", "export", "--config", config)
        assert (exported.status, len(exported.json())) == (0, 3)
        file = tmp_path / "decisions.jsonl"
        file.write_text(exported.out, encoding="utf-8")
        from_file = replay(STRICT, "--json", str(file)).json()[0]
        assert from_file == replay(STRICT, "--json", "--decisions").json()[0]

    def test_a_line_that_is_no_decision(self, replay, tmp_path):
        file = tmp_path / "decisions.jsonl"
        file.write_text("{}\n", encoding="utf-8")
        answer = replay("", str(file))
        assert answer.status == 1
        assert "1 lines are no exported decisions" in answer.err

    def test_exported_rows_are_json_with_evidence(self, replay, run, config):
        del replay
        rows = [json.loads(line) for line in run("decisions", "export", "--config", config).out.splitlines()]
        egress = next(one for one in rows if one["queue_id"] == "4Q2")
        assert egress["evidence"]["first"] == "4Q1"
        assert egress["first_evidence"]["counters"][0]["used"] == 98
