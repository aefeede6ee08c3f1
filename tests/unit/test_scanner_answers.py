"""Answers of scanners: in one line, and as the store keeps them, which others can write too."""

import json

import pytest

from deliverypools.core.scanning.answers import MOST_SYMBOLS, Scan, Scanner, ScannerAnswer, ScanVerdict

SPAM = ScannerAnswer(
    scanner=Scanner.RSPAMD,
    verdict=ScanVerdict.SPAM,
    score=7.25,
    action="add header",
    symbols=("BAYES_SPAM 5.1", "FORGED_SENDER 0.3"),
)
STORED = json.loads(SPAM.to_text())


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        (SPAM, "rspamd: add header, score 7.2 (BAYES_SPAM 5.1, FORGED_SENDER 0.3)"),
        (ScannerAnswer(scanner=Scanner.CLAMD, verdict=ScanVerdict.HAM), "clamd: clean"),
        (ScannerAnswer(scanner=Scanner.CLAMD, verdict=ScanVerdict.SPAM, symbols=("Eicar",)), "clamd: found (Eicar)"),
        (
            ScannerAnswer(scanner=Scanner.SPAMD, verdict=ScanVerdict.UNKNOWN, problem="hangs"),
            "spamd: no verdict, hangs",
        ),
    ],
)
def test_evidence(answer, evidence):
    assert answer.evidence == evidence


def test_what_is_stored_is_read_again():
    assert ScannerAnswer.from_text(SPAM.to_text()) == SPAM


@pytest.mark.parametrize(
    "change",
    [
        {"scanner": "nobody"},
        {"scanner": []},
        {"scanner": None},
        {"verdict": "unknown"},
        {"verdict": {}},
        {"score": "7"},
        {"score": True},
        {"score": float("inf")},
        {"score": float("nan")},
        {"score": 10**400},
        {"is_forced": "yes"},
        {"action": None},
        {"action": "reject\nX-Forged: 1"},
        {"symbols": "GTUBE"},
        {"symbols": ["A"] * (MOST_SYMBOLS + 1)},
        {"symbols": ["A" * 81]},
        {"symbols": ["\x00"]},
        {"symbols": [1]},
        {"more": 1},
    ],
    ids=repr,
)
def test_what_nobody_of_ours_has_stored_is_refused(change):
    with pytest.raises(ValueError, match="another version"):
        ScannerAnswer.from_text(json.dumps(STORED | change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "1" * 5000])
def test_what_is_no_answer_at_all_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        ScannerAnswer.from_text(text)


def test_who_was_not_asked_has_said_nothing():
    assert Scan((SPAM,)).of(Scanner.CLAMD).verdict is ScanVerdict.UNKNOWN
    assert Scan((SPAM,)).of(Scanner.RSPAMD) is SPAM
