"""What becomes of mail while a scanner fails, in each way: as the table in docs/scanners.md says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from mailing import HIGH_RISK, NORMAL, RELAY, arrived, decision, fresh, from_outside, mail, running, submit
from scripted_scanner import HAM, SPAM, Behaviour, Conversation, ScriptedScanner

from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "scanners.md"
TIMEOUT_SECONDS = 4.0
TEN_MEGABYTES = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 10000000\r\nSpam: False ; 0.0 / 5.0\r\n\r\n" + b"A" * 10_000_000


def _a_byte_a_second(conversation: Conversation) -> None:
    for number in range(len(HAM)):
        conversation.say(HAM[number : number + 1])
        conversation.wait(1)


def _after(seconds: float) -> Behaviour:
    def answer(conversation: Conversation) -> None:
        conversation.wait(seconds)
        conversation.say(HAM)

    return answer


def _say(answer: bytes) -> Behaviour:
    return lambda conversation: conversation.say(answer)


FAILURES: Mapping[str, Behaviour | None] = {
    "is stopped": None,
    "hangs: takes the connection, says nothing": lambda conversation: conversation.wait(60),
    "answers garbage": _say(b"\xff\x00HTTP/1.1 200 OK\r\n\r\n<html>\r\n" * 20),
    "answers with 10 MB": _say(TEN_MEGABYTES),
    "sends half an answer and closes": _say(HAM[:-40]),
    "sends a byte a second": _a_byte_a_second,
    "is slow, within `timeout_seconds`": _after(TIMEOUT_SECONDS / 4),
    "is slower than that": _after(TIMEOUT_SECONDS * 3),
    "says that it cannot tell (rspamd `soft reject`, spamd `EX_TEMPFAIL`, clamd's size limit)": _say(
        b"SPAMD/1.0 75 EX_TEMPFAIL\r\n\r\n"
    ),
}
STARTED_AGAIN = "is started again"


def documented() -> dict[str, tuple[str, str]]:
    """Return the outcomes with `wait` and with `high-risk` of each row of the table."""
    table = PAGE.read_text(encoding="utf-8").partition("| the scanner | `wait` | `high-risk` |\n|---|---|---|\n")[2]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.partition("\n\n")[0].splitlines()]
    return {what: (waiting, at_once) for what, waiting, at_once in rows}


def test_every_row_of_the_table_is_tried():
    assert set(documented()) == {*FAILURES, STARTED_AGAIN}


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedScanner]:
    with ScriptedScanner(tmp_path_factory.mktemp("scanner")) as scanner:
        yield scanner


@pytest.fixture(scope="module", params=["wait", "high-risk"])
def lab(scanner: ScriptedScanner, request: pytest.FixtureRequest) -> Iterator[Lab]:
    settings = {
        "spam": {"spamd": scanner.address, "timeout_seconds": TIMEOUT_SECONDS, "unknown_verdict": request.param},
        # One worker: how often in a row a scanner has failed is what each knows by itself.
        "milter": {"workers": 1},
        "limits": {"messages_per_minute": 0},
    }
    with running(site=Site(virtual={"alias@example.org": "via-alias@example.net"}), settings=settings) as lab:
        yield lab


@pytest.fixture(autouse=True)
def well(request: pytest.FixtureRequest, scanner: ScriptedScanner) -> Iterator[None]:
    """Let the scanner answer at the end of each test, so that it has not failed five times in a row."""
    yield
    if "lab" in request.fixturenames:
        lab = request.getfixturevalue("lab")
        recipient = fresh()
        submit(lab, recipient)
        assert arrived(lab, recipient).source_address in NORMAL


def mode_of(request: pytest.FixtureRequest) -> int:
    return ["wait", "high-risk"].index(request.node.callspec.params["lab"])


@pytest.mark.parametrize("what", FAILURES)
def test_outcome(lab: Lab, scanner: ScriptedScanner, request: pytest.FixtureRequest, what: str):
    expected = documented()[what][mode_of(request)]
    recipient = fresh()
    asked = scanner.asked
    with scanner.behaving(FAILURES[what]):
        submit(lab, recipient)
        if expected == "waits":
            lab.postfix.wait_until_deferred()
            assert not [message for message in lab.messages if recipient in message.recipients]
            assert "Not yet decided" in lab.postfix.queue()[0]["recipients"][0]["delay_reason"]
        elif expected == "high-risk":
            assert arrived(lab, recipient).source_address in HIGH_RISK
            assert "rule=unscanned" in decision(lab, recipient)
        else:
            assert expected == "decided by its verdict"
            assert arrived(lab, recipient).source_address in NORMAL
            assert scanner.asked == asked + 1
    if expected == "waits":
        assert documented()[STARTED_AGAIN][0] == "decided by its verdict at the next try"
        lab.postfix.flush()
        assert arrived(lab, recipient).source_address in NORMAL
    lab.wait_until_queue_is_empty()
    assert len([message for message in lab.messages if recipient in message.recipients]) == 1


@pytest.mark.parametrize("lab", ["wait"], indirect=True)
def test_spam_is_found_at_the_next_try(lab: Lab, scanner: ScriptedScanner):
    recipient = fresh()
    with scanner.behaving(None):
        submit(lab, recipient)
        lab.postfix.wait_until_deferred()
    with scanner.behaving(_say(SPAM)):
        lab.postfix.flush()
        assert arrived(lab, recipient).source_address in HIGH_RISK
    assert 'reasons="spamd: found, score 999.0 (GTUBE)"' in decision(lab, recipient)


@pytest.mark.parametrize("lab", ["wait"], indirect=True)
def test_mail_that_leaves_by_high_risk_anyway_does_not_wait(lab: Lab, scanner: ScriptedScanner):
    marked, bounce = fresh(), fresh()
    asked = scanner.asked
    with scanner.behaving(FAILURES["hangs: takes the connection, says nothing"]):
        submit(lab, marked, mail(X_Spam_Flag="YES"))
        result = lab.send("", bounce, mail(), port=587, auth=("alice@example.org", "secret"))
        assert result.accepted
        assert arrived(lab, marked).source_address in HIGH_RISK
        assert arrived(lab, bounce).source_address in HIGH_RISK
    assert scanner.asked == asked


def test_after_five_failures_it_is_left_alone(lab: Lab, scanner: ScriptedScanner, request: pytest.FixtureRequest):
    lab.restart_milter()
    recipients = [fresh() for _ in range(5)]
    with scanner.behaving(_say(b"garbage\r\n")):
        for recipient in recipients:
            submit(lab, recipient)
            lab.postfix.wait_for_log(f"to=<{recipient}>.*status=")
        asked = scanner.asked
        last = fresh()
        submit(lab, last)
        lab.postfix.wait_for_log(f"to=<{last}>.*status=")
        assert scanner.asked == asked
        assert "left alone" in lab.milter.log()
    assert not [message for message in lab.messages if message.source_address in NORMAL and last in message.recipients]
    # Nothing is lost: a new worker knows nothing of it, and asks again.
    lab.restart_milter()
    lab.postfix.flush()
    expected = NORMAL if mode_of(request) == 0 else HIGH_RISK
    for recipient in (*recipients, last):
        assert arrived(lab, recipient).source_address in expected
    lab.wait_until_queue_is_empty()


def test_undecided_mail_leaves_by_high_risk_in_the_end(make_lab: Callable[..., Lab], tmp_path: Path):
    lab = make_lab(
        settings={"spam": {"spamd": f"unix:{tmp_path}/nobody.sock"}, "milter": {"undecided_after": "3s"}},
    )
    recipient = fresh()
    submit(lab, recipient)
    wait_until(lambda: lab.postfix.flush() is None and bool(lab.messages), timeout_seconds=40, what="undecided mail")
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=undecided" in decision(lab, recipient)
    assert "spamd: no verdict" in decision(lab, recipient)


def test_forwarded_spam_leaves_by_high_risk_and_the_rest_by_relay(lab: Lab, scanner: ScriptedScanner):
    lab.receiver.clear()
    from_outside(lab, "alias@example.org")
    assert arrived(lab, "via-alias@example.net").source_address in RELAY
    lab.receiver.clear()
    with scanner.behaving(_say(SPAM)):
        from_outside(lab, "alias@example.org")
        assert arrived(lab, "via-alias@example.net").source_address in HIGH_RISK


def test_many_recipients_are_one_question(lab: Lab, scanner: ScriptedScanner):
    recipients = [fresh() for _ in range(120)]
    asked = scanner.asked
    submit(lab, recipients)
    for recipient in recipients:
        assert arrived(lab, recipient).source_address in NORMAL
    assert scanner.asked == asked + 1
