"""What `make bench-spam-corpus` calls wrong."""

from types import SimpleNamespace

import pytest

import spam_corpus

MESSAGES = {one: SimpleNamespace(name=f"{one}.txt", data=b"Subject: x\n\n", is_spam=one == "a") for one in ("a", "b")}
ARRIVED = [("a", "high-risk"), ("b", "normal")]
SAID = [("a", "spam"), ("b", "ham")]


@pytest.mark.parametrize(
    ("pools", "said", "problems"),
    [
        (ARRIVED, SAID, []),
        ([*ARRIVED, ("a", "high-risk")], SAID, ["a.txt: arrived 2 times"]),
        (ARRIVED[:1], SAID, ["b.txt: arrived 0 times"]),
        (ARRIVED, [*SAID, ("b", "ham")], ["b.txt: scanned 2 times"]),
        (ARRIVED[:1], [*SAID, ("b", "ham")], ["b.txt: scanned 2 times", "b.txt: arrived 0 times"]),
        ([("a", "normal"), ("b", "normal")], SAID, ["a.txt: the scanner says spam, it left by normal"]),
        (
            ARRIVED,
            SAID[:1],
            [
                "b.txt: left by normal without the scanner's word",
                "the scanner says the same of all messages: nothing is shown",
            ],
        ),
    ],
    ids=["all is well", "twice", "never", "scanned twice", "scanned twice, never", "wrong pool", "not scanned"],
)
def test_what_is_wrong(pools, said, problems):
    assert spam_corpus._wrong(MESSAGES, pools, said) == problems


class Deaf:
    """A lab that takes messages, of which none arrives, or whose session ends."""

    def __init__(self, ending=None):
        self.ending = ending

    def session(self, **_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait_for(self, _wanted, *, count, timeout_seconds):
        if count > 0:
            raise TimeoutError


@pytest.mark.parametrize(
    ("ending", "problem"),
    [
        (None, "no message arrives any more: 9 were not sent"),
        (OSError("gone"), "30.txt: not sent, nor any after it: gone"),
    ],
)
def test_a_lab_that_delivers_nothing_ends_in_the_table(monkeypatch, ending, problem):
    messages = {str(number): SimpleNamespace(name=f"{number}.txt", data=b"Subject: x\n\n") for number in range(30)}
    if ending:
        messages = {"30": SimpleNamespace(name="30.txt", data=b"")}

    def transaction(lab, *_):
        if lab.ending:
            raise lab.ending
        return SimpleNamespace(accepted=True)

    monkeypatch.setattr(spam_corpus, "transaction", transaction)
    assert spam_corpus._send(Deaf(ending), messages) == [problem]
