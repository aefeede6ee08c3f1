"""The command line: `explain`."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from command_line import SETTINGS

from deliverypools.core.accounts import Account
from deliverypools.core.decisions import Asked
from deliverypools.core.evidence import evidence_text
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.limits import Charge, held_by, limits_for
from deliverypools.core.message_kind import Kind, MessageKind
from deliverypools.core.records import DecisionRecord
from deliverypools.core.restrictions import Restriction
from deliverypools.core.scanning.answers import Scan, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.settings import built_in_defaults
from deliverypools.core.tallies import DAY, Entry, Tally

AT = 1_700_000_049.0  # 2023-11-14 22:14:09 UTC
KEPT = 100 * 365 * DAY
HOSTILE = "\x1b[31mred\r\nBcc: x \N{RIGHT-TO-LEFT OVERRIDE}\N{SNOWMAN}"
CEILINGS = """
[spam.ceilings]
verdicts_per_account_per_hour = 20
verdicts_per_tenant_per_hour = 200
"""
NOT_KEPT = "  evidence:    was not kept then: this was decided by an earlier version\n"
FIRST = {"pass_name": "first", "pool": "", "rule": "", "reasons": "", "queue_id": "4Q1", "at": AT - 60}


def a_pass(**changes):
    usual = {
        "queue_id": "4Q2",
        "host": "mx1.example.org",
        "pass_name": "egress",
        "at": AT,
        "ingress": "submission",
        "account": "alice",
        "pool": "high-risk",
        "rule": "spam",
        "reasons": "rspamd: add header, score 7.2 (BAYES_SPAM 5.1, SUBJ_ALL_CAPS 2.1); clamd: clean",
        "envelope_sender": "alice@example.org",
        "recipients": 3,
        "client_address": "203.0.113.9",
        "subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "message_id": "<1@example.org>",
    }
    return DecisionRecord(**usual | changes)


@pytest.fixture
def record(state):
    def record(**changes):
        row = a_pass(**changes)
        state.record(row, KEPT)
        return row

    return record


@pytest.fixture
def explain(run, config):
    return lambda *arguments: run("explain", "--config", config, *arguments)


def as_json(row):
    """A row without evidence as programs get it."""
    values = asdict(row)
    del values["details"]
    return values | {"evidence": None}


def with_settings(tmp_path, more):
    Path(tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path) + more, encoding="utf-8")


def test_a_message_as_people_read_it(explain, record, state, tmp_path):
    with_settings(tmp_path, CEILINGS)
    record()
    record(**FIRST)
    state.count(Tally((Entry("submission:alice/spam", 3, DAY), Entry("tenant:example.org/spam", 40, DAY))))
    answer = explain("4Q2")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == (
        "2023-11-14 22:14 UTC  4Q2 on mx1.example.org: egress pass\n"
        "  outcome:     high-risk\n"
        "  rule:        spam\n"
        "  because:     rspamd: add header, score 7.2 (BAYES_SPAM 5.1, SUBJ_ALL_CAPS 2.1)\n"
        "  because:     clamd: clean\n"
        "  account:     alice (submission)\n"
        "  client:      203.0.113.9\n"
        "  sender:      alice@example.org\n"
        "  recipients:  3\n"
        "  message:     <1@example.org>\n"
        "  subject:     Grüße\n"
        f"{NOT_KEPT}"
        "\n"
        "2023-11-14 22:13 UTC  4Q1 on mx1.example.org: first pass\n"
        "  outcome:     accepted; the egress pass decides\n"
        "  account:     alice (submission)\n"
        "  client:      203.0.113.9\n"
        "  sender:      alice@example.org\n"
        "  recipients:  3\n"
        "  message:     <1@example.org>\n"
        "  subject:     Grüße\n"
        f"{NOT_KEPT}"
        "\n"
        "account alice (submission): not restricted\n"
        "  verdicts_per_account_per_hour: 3 of 20 messages found to be spam in an hour\n"
        "  verdicts_per_tenant_per_hour: 40 of 200 messages of example.org found to be spam in an hour\n"
    )


@pytest.mark.parametrize("name", ["4Q1", "4Q2", "<1@example.org>", "1@example.org", " 4Q1 "])
def test_every_name_leads_to_all_passes(explain, record, name):
    rows = [record(), record(**FIRST)]
    record(queue_id="4Q3", message_id="<2@example.org>")
    answer = explain("--json", name)
    assert answer.json()[0]["passes"] == [as_json(row) for row in rows]


def test_a_message_without_message_id_by_its_queue_id_only(explain, record):
    row = record(message_id="")
    record(queue_id="4Q3", message_id="")
    assert explain("--json", "4Q2").json()[0]["passes"] == [as_json(row)]


def test_json_has_all_of_it(explain, record, state, tmp_path):
    with_settings(tmp_path, CEILINGS)
    row = record()
    state.count(Tally((Entry("submission:alice/spam", 3, DAY),)))
    restriction = Restriction(account="alice", ingress=Ingress.SUBMISSION, since=AT, reason="4 spam verdicts")
    state.restrict(restriction)
    (found,) = explain("4Q2", "--json").json()
    assert found == {
        "id": "4Q2",
        "recorded_since": state.recorded_since(),
        "shadow": False,
        "passes": [as_json(row)],
        "accounts": [
            {
                "account": "alice",
                "ingress": "submission",
                "restricted": asdict(restriction),
                "spam_verdicts_in_the_last_hour": [
                    {"name": "verdicts_per_account_per_hour", "used": 3, "most": 20, "tenant": None},
                    {"name": "verdicts_per_tenant_per_hour", "used": 0, "most": 200, "tenant": "example.org"},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "high-risk"),
        ({"pool": "refused"}, "refused"),
        ({"reasons": "put on hold; clamd: found (Eicar)"}, "on hold, leaves by high-risk if it is let go"),
        ({"pool": "", "rule": "undecided"}, "undecided, it waits in the queue"),
        ({"rule": "undecided"}, "high-risk, as it could not be decided in time"),
        ({"rule": "requeued"}, "sent back through the hop, to be decided again (was high-risk)"),
        ({"rule": "let_go"}, "taken off hold, leaves by high-risk"),
        ({"pass_name": "express", "pool": "normal"}, "normal"),
        ({"leaves_by": "high-risk"}, "high-risk"),
        ({"leaves_by": "normal"}, "high-risk was decided; it leaves by normal, as shadow mode was on"),
        ({"pool": "refused", "leaves_by": "normal"}, "refused was decided; it leaves by normal, as shadow mode was on"),
        (
            {"pool": "", "rule": "undecided", "leaves_by": "normal"},
            "undecided was decided; it leaves by normal, as shadow mode was on",
        ),
    ],
)
def test_what_became_of_it_in_words(explain, record, changes, outcome):
    record(**changes)
    assert f"  outcome:     {outcome}\n" in explain("4Q2").out


def test_no_decision_yet(explain, record):
    record(**FIRST)
    assert "no decision is on record: it waits for one" in explain("4Q1").out


@pytest.mark.parametrize(
    ("ingress", "closed", "told"),
    [
        (None, "all ways of sending", True),
        (Ingress.SUBMISSION, "submission only", True),
        (Ingress.TRUSTED, "trusted only", False),
    ],
)
def test_an_account_that_is_restricted_in_the_way_the_message_came(*, explain, record, state, ingress, closed, told):
    record()
    by_hand = Restriction(account="alice", ingress=ingress, since=AT, reason="too much")
    state.restrict(by_hand, by_hand=True)
    line = (
        f"account alice (submission): restricted ({closed}) since 2023-11-14 22:14 UTC,"
        " until an administrator releases it: too much\n"
    )
    answer = explain("4Q2").out
    assert (line in answer) is told
    assert ("account alice (submission): not restricted\n" in answer) is not told


def test_spam_that_is_not_counted(explain, record, tmp_path):
    record()
    assert "  spam verdicts are not counted: no ceiling is set (spam.ceilings)\n" in explain("4Q2").out
    with_settings(tmp_path, CEILINGS)
    record(ingress="outside", account="bob@example.org", envelope_sender="eve@example.net")
    assert "  spam verdicts are not counted: what it forwards is no sign of anything\n" in explain("4Q2").out


@pytest.mark.parametrize("changes", [{"account": ""}, {"ingress": "", "account": ""}, {"ingress": "by pigeon"}])
def test_nobody_answers_for_it(explain, record, changes):
    record(**changes)
    assert explain("4Q2", "--json").json()[0]["accounts"] == []
    assert explain("4Q2").status == 0


def test_a_message_id_that_several_have(explain, record):
    """Each account is told of once, however many passes it has."""
    record()
    record(queue_id="4Q3", at=AT + 1)
    record(queue_id="4Q4", account="mallory", envelope_sender="mallory@example.org", at=AT + 2)
    found = explain("<1@example.org>", "--json").json()[0]
    assert [row["queue_id"] for row in found["passes"]] == ["4Q4", "4Q3", "4Q2"]
    assert [one["account"] for one in found["accounts"]] == ["mallory", "alice"]


class TestEvidence:
    FACTS = MessageFacts(
        envelope_sender="eve@example.net",
        recipients=("bob@example.com",),
        kind=MessageKind(Kind.LIST_MAIL, "List-Id: <a.example.net>"),
        size_bytes=2048,
        scan=Scan((ScannerAnswer(scanner=Scanner.RSPAMD, verdict=ScanVerdict.HAM, score=0.5),)),
        origin=Origin(
            ingress=Ingress.OUTSIDE,
            account="bob@example.org",
            envelope_sender="eve@example.net",
            client_address="198.51.100.7",
            client_name="mx.example.net",
            helo_name="helo.example.net",
            authenticated=Finding(Answer.YES, "DMARC pass"),
            envelope_authenticated=Finding(Answer.UNKNOWN, "SPF: time-out"),
            authentication_results="spf=temperror dkim=pass dmarc=pass",
        ),
        sender_domain_has_mx_or_address=Finding(Answer.YES, "MX mx.example.net"),
        forwarded_by="bob@example.org",
        is_forwarded_automatically=True,
    )
    ASKED = (
        Asked("forwarding_refused", "no"),
        Asked("malware", "no"),
        Asked("spam", "not_asked"),
        Asked("over_limit", "no"),
        Asked("forwarded", "match", ("arrived from outside", "authenticated")),
    )

    def details(self, facts=FACTS, **changes):
        usual = {"recipients": facts.recipients, "facts": facts, "asked": self.ASKED, "first_queue_id": "4Q1"}
        return evidence_text(built_in_defaults(), **usual | changes)

    def test_as_people_read_it(self, explain, record):
        record(details=self.details())
        told = explain("4Q2").out
        assert (
            "  delivers to: 0 of our own, 1 outside\n"
            "  accepted as: 4Q1\n"
            "  said:        client is mx.example.net, HELO helo.example.net\n"
            "  authentic:   yes: DMARC pass (spf=temperror dkim=pass dmarc=pass)\n"
            "  its sender:  cannot tell: SPF: time-out\n"
            "  over limit:  no\n"
            "  kind:        list-mail: List-Id: <a.example.net>\n"
            "  size:        2048 bytes\n"
            "  MX or A:     yes: MX mx.example.net\n"
            "  forwarded:   by bob@example.org (by itself: ~/.forward, aliases, sieve)\n"
            "  scanner:     rspamd: clean, score 0.5\n"
            "  rules asked: forwarding_refused, malware: no\n"
            "  rule asked:  spam: not looked for\n"
            "  rules asked: over_limit: no\n"
            "  rule asked:  forwarded: yes: arrived from outside; authenticated\n"
        ) in told
        assert NOT_KEPT not in told

    def test_the_counters_of_that_time(self, explain, record):
        settings = built_in_defaults()
        limits = limits_for(Charge(Account(Ingress.SUBMISSION, "alice"), 1, 2), settings)
        details = evidence_text(
            settings, recipients=["a@example.org"] * 3, origin=self.FACTS.origin, held=held_by(limits, (120, 3))
        )
        record(**FIRST, details=details)
        told = explain("4Q1").out
        assert "  limit:       recipients_per_day: 120 + 3 in 24 hours, at most 10000\n" in told
        assert "  limit:       messages_per_minute: 3 + 1 in a minute, at most 30\n" in told
        assert "  limit:       recipients_per_message: 3, at most 1000\n" in told

    def test_json_has_it_as_an_object(self, explain, record):
        record(details=self.details())
        evidence = explain("4Q2", "--json").json()[0]["passes"][0]["evidence"]
        assert evidence["origin"]["client_name"] == "mx.example.net"
        assert evidence["asked"][-1] == ["forwarded", "match", "arrived from outside", "authenticated"]

    @pytest.mark.parametrize("details", ["{", "[]", '{"v":2}', '{"v":1,"kind":["?"]}', "[" * 2000, '{"v":1,"to":[1]}'])
    def test_what_another_version_wrote(self, explain, record, details):
        record(details=details)
        assert "  evidence:    cannot be read: it was written by another version, or is damaged\n" in explain("4Q2").out
        assert explain("4Q2", "--json").json()[0]["passes"][0]["evidence"] is None

    def test_too_much_of_it_says_so(self, explain, record):
        facts = replace(self.FACTS, forwarded_by=HOSTILE * 200, mailing_list="\N{SNOWMAN}" * 5000)
        record(details=self.details(facts))
        told = explain("4Q2").out
        assert "  evidence:    there was more than is kept: texts were cut\n" in told
        assert all(line.isprintable() for line in told.splitlines())


class TestWaiting:
    @pytest.fixture
    def wait(self, state):
        row = a_pass(queue_id="4Q9", pool="", rule="undecided", reasons="MX of example.net: time-out", at=AT + 60)
        state.note_waiting(row, ["4Q1", row.message_id], KEPT)

    @pytest.mark.usefixtures("wait")
    @pytest.mark.parametrize("name", ["4Q1", "1@example.org"])
    def test_why_it_waits_is_told_by_the_queue_file_that_waits(self, explain, record, name):
        record(**FIRST)
        told = explain(name).out
        assert "  outcome:     undecided, it waits in the queue\n" in told
        assert "  because:     MX of example.net: time-out\n" in told
        assert "no decision is on record" not in told

    @pytest.mark.usefixtures("wait")
    def test_also_what_came_from_outside(self, explain):
        assert "because:     MX of example.net: time-out" in explain("4Q1").out

    @pytest.mark.usefixtures("wait")
    def test_what_has_left_since_waited(self, explain, record):
        record(at=AT + 120)
        told = explain("4Q2").out
        assert "  outcome:     high-risk\n" in told
        assert "  outcome:     undecided, it waited in the queue\n" in told


def test_shadow_is_told(explain, record, tmp_path):
    record()
    assert "shadow" not in explain("4Q2").out
    Path(tmp_path / "pools.toml").write_text("shadow = true\n" + SETTINGS.format(folder=tmp_path), encoding="utf-8")
    assert explain("4Q2").out.endswith(
        "shadow = true: everything leaves by normal, whatever is decided, and nothing is refused\n"
    )


class TestNothingFound:
    def test_it_says_what_was_looked_for_and_since_when_the_log_tells(self, explain, record):
        record()
        answer = explain("4Q9")
        assert (answer.status, answer.out) == (1, "")
        assert answer.err == (
            "delivery-pools explain: nothing is on record about 4Q9: no queue file has that id, no message that"
            " Message-ID. The decision log tells of what users sent, and what was decided, since 2023-11-14 22:14 UTC;"
            " the rest is in the mail log only\n"
        )

    def test_json_says_so_too(self, explain, record, state):
        record()
        answer = explain("4Q9", "--json")
        assert answer.status == 1
        assert answer.json()[0] | {"passes": [], "accounts": []} == answer.json()[0]
        assert answer.json()[0]["recorded_since"] == state.recorded_since()
        assert "nothing is on record about 4Q9" in answer.err

    @pytest.mark.usefixtures("state")
    def test_an_empty_log(self, explain):
        answer = explain("4Q9")
        assert (answer.status, answer.err.endswith("no message that Message-ID. The decision log is empty\n")) == (
            1,
            True,
        )

    @pytest.mark.parametrize("name", ["%", "4Q", "4q2", "*", "4Q2/mx1.example.org", "'; DROP TABLE decisions", "@"])
    def test_a_name_that_nothing_has(self, explain, record, name):
        record()
        assert explain(name).status == 1
        assert explain("4Q2").status == 0

    @pytest.mark.parametrize("name", ["4Q2:", "4Q2*", "4Q2!", " 4Q2*: "])
    def test_a_name_as_it_stands_in_the_log_and_in_mailq(self, explain, record, name):
        record()
        assert explain(name).status == 0

    def test_an_unknown_user_id_is_no_account(self, explain, record):
        record(ingress="local", account="uid:unknown")
        answer = explain("4Q2")
        assert answer.status == 0
        assert "account uid:unknown (local): " not in answer.out

    @pytest.mark.parametrize("name", ["", "  ", "\n"])
    def test_no_name(self, explain, name):
        answer = explain(name)
        assert (answer.status, answer.out) == (2, "")
        assert "argument ID: is empty; write a queue id or a Message-ID" in answer.err


def test_hostile_texts_stay_one_printable_line_each(explain, record):
    texts = ("host", "ingress", "account", "envelope_sender", "client_address", "subject", "rule", "pool", "pass_name")
    record(**dict.fromkeys(texts, HOSTILE * 1000), reasons=HOSTILE * 1000, message_id="")
    for arguments in (("4Q2",), ("4Q2", "--json")):
        out = explain(*arguments).out
        assert all(line.isprintable() for line in out.splitlines())
        assert not [line for line in out.splitlines() if line.startswith("Bcc")]


def test_a_hostile_name_is_not_repeated_as_it_is(explain, record):
    record()
    answer = explain(HOSTILE * 1000 + "\udcff")
    assert answer.status == 1
    assert answer.err.rstrip("\n").isprintable()
    assert len(answer.err) < 1000


def test_there_is_no_state(explain):
    answer = explain("4Q2")
    assert (answer.status, answer.out) == (1, "")
    assert "there is no state yet at" in answer.err


def test_the_state_cannot_be_read(explain, state, tmp_path):
    state.close()
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)
    answer = explain("4Q2")
    assert (answer.status, answer.out) == (1, "")
    assert "the state cannot be read or written: " in answer.err
