"""Shows that each message leaves by the pool that the scanner's verdict asks for: spamd, then rspamd, real mail.

    make bench-spam-corpus ARGS="--seed 7"

1,000 messages of the SpamAssassin corpus, half of them labelled as spam, go through a private Postfix; our milter asks
the scanner. Each has a Message-ID of its own. What the scanner found is read from its own log, the pool is the one
whose address the receiving server saw: the table of both must be diagonal. The scanner may be wrong, we may not: how
often it agrees with the label is printed too. The exit status is 1 where a message left by another pool than the
scanner's word asks for, was not scanned or more than once, did not arrive, or arrived twice.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import smtplib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import spam_assassin
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab, transaction
from deliverypools.lab.scanners import RspamdServer, ScannerServer, SpamdServer
from deliverypools.lab.world import NAMESERVER
from spam_assassin import CorpusMessage

_IN_FLIGHT: Final = 20
"""So many messages are on their way at most: more would wait for the scanner longer than the milter does."""
_ARRIVAL_SECONDS: Final = 300
_SENDER: Final = "alice@example.org"
_MBOX_LINE: Final = re.compile(rb"\A>?From [^\n]*\n")
_MESSAGE_ID: Final = re.compile(rb"^message-id:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
_RSPAMD: Final = {"actions.conf": "reject = 12; add_header = 4; greylist = null;"}
"""Without lists, fuzzy hashes and Bayes its scores are low: thresholds at which some of the corpus is spam to it."""
_POOLS: Final = {"spam": "high-risk", "ham": "normal"}


@dataclass(frozen=True)
class Attached:
    """A scanner, how our settings name it, and what its log says of a message."""

    name: str
    start: Callable[[Lab], ScannerServer]
    address: Callable[[ScannerServer], str]
    verdict_line: re.Pattern[str]
    """Matches the line with the verdict; groups `word` and `id`."""
    words_for_ham: frozenset[str]


_SCANNERS: Final = (
    Attached(
        "spamd",
        lambda lab: SpamdServer(network=lab.network),
        lambda server: server.address,
        # info: spamd: result: Y 12 - SYMBOLS scantime=0.1,size=3000,...,mid=<one@example.org>,...
        re.compile(r" result: (?P<word>[Y.]) .*?,mid=<(?P<id>[^>]+)>"),
        frozenset({"."}),
    ),
    Attached(
        "rspamd",
        lambda lab: RspamdServer(network=lab.network, nameserver=lab.address(NAMESERVER), overrides=_RSPAMD),
        lambda server: f"http://{server.address}",
        # id: <one@example.org>, qid: <...>, ... (default: T (add header): [7.20/15.00] [SYMBOLS]), len: ...
        re.compile(r"write_log: id: <(?P<id>[^>]+)>, .*?\(default: [A-Z] \((?P<word>[a-z ]+)\): "),
        frozenset({"no action", "greylist"}),
    ),
)


def main() -> int:
    """Send, wait, compare, print; the exit status says whether both tables are diagonal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the choice of messages")  # noqa: S311
    parser.add_argument("--messages", type=int, default=1000, help="how many, half of them spam (default: 1000)")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    chosen = _chosen(spam_assassin.fetched(), options.messages, random.Random(options.seed))  # noqa: S311
    problems = [problem for scanner in _SCANNERS for problem in _judged(scanner, chosen)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _chosen(corpus: Sequence[CorpusMessage], count: int, chance: random.Random) -> dict[str, CorpusMessage]:
    """Return so many messages in random order, by the Message-ID that each is to have."""
    chosen = [
        message
        for is_spam in (True, False)
        for message in chance.sample([one for one in corpus if one.is_spam is is_spam], count // 2)
    ]
    chance.shuffle(chosen)
    return {f"{number}.corpus@bench.example": message for number, message in enumerate(chosen)}


def _judged(scanner: Attached, messages: dict[str, CorpusMessage]) -> list[str]:
    """Send all messages with one scanner attached, print what became of them, and return what is wrong."""
    with Lab() as lab, scanner.start(lab) as server:
        # The corpus has been through scanners: their headers would speak for themselves.
        lab.write_settings(
            {"limits": {"messages_per_minute": 0}, "spam": {scanner.name: scanner.address(server), "headers": []}}
        )
        lab.restart_milter()
        begin = time.monotonic()
        problems = _send(lab, messages)
        seconds = time.monotonic() - begin
        with contextlib.suppress(TimeoutError):  # what has not arrived is told by name
            lab.wait_until_queue_is_empty(_ARRIVAL_SECONDS)
        pools = [(_id_of(message.header("Message-ID")), lab.pool_of(message)) for message in lab.messages]
        said = [
            (found["id"], "ham" if found["word"] in scanner.words_for_ham else "spam")
            for found in scanner.verdict_line.finditer(server.log())
        ]
    print(f"\n{scanner.name}: {len(messages)} messages in {seconds:.0f} s")
    _print_tables(messages, dict(pools), dict(said))
    return [f"{scanner.name}: {problem}" for problem in [*problems, *_wrong(messages, pools, said)]]


def _send(lab: Lab, messages: dict[str, CorpusMessage]) -> list[str]:
    """Submit all, a few at a time, and return when they have arrived; say which were refused."""
    problems = []
    accepted = 0
    with lab.session(client_address=TRUSTED_CLIENT) as smtp:
        for number, (message_id, message) in enumerate(messages.items()):
            try:
                result = transaction(smtp, _SENDER, f"m{number}@example.com", _as_sent(message.data, message_id))
            except (smtplib.SMTPException, OSError) as error:
                problems.append(f"{message.name}: not sent, nor any after it: {error}")
                break
            accepted += result.accepted
            if not result.accepted:
                problems.append(f"{message.name}: refused: {result.code} {result.text}")
            if not _have_arrived(lab, accepted - _IN_FLIGHT):
                problems.append(f"no message arrives any more: {len(messages) - number - 1} were not sent")
                break
    _have_arrived(lab, accepted)
    return problems


def _have_arrived(lab: Lab, count: int) -> bool:
    """Wait until so many messages have arrived; tell whether they have."""
    with contextlib.suppress(TimeoutError):
        lab.wait_for(lambda _message: True, count=count, timeout_seconds=_ARRIVAL_SECONDS)
        return True
    return False


def _as_sent(data: bytes, message_id: str) -> bytes:
    """Return a message of the corpus as it goes over the wire, under a Message-ID of its own."""
    head, blank, body = _MBOX_LINE.sub(b"", data).partition(b"\n\n")
    own = f"Message-ID: <{message_id}>\n".encode()
    return re.sub(rb"\r?\n", b"\r\n", own + _MESSAGE_ID.sub(b"", head + b"\n") + blank[1:] + body)


def _id_of(field: str | None) -> str:
    return (field or "").strip("<> ")


def _wrong(
    messages: dict[str, CorpusMessage], pools: Sequence[tuple[str, str]], said: Sequence[tuple[str, str]]
) -> list[str]:
    """Say which messages are not where the scanner's word asks for them to be, or were scanned more than once."""
    arrivals = Counter(one for one, _pool in pools)
    scans = Counter(one for one, _verdict in said)
    by_id, verdicts = dict(pools), dict(said)
    wrong = []
    for one, message in messages.items():
        if scans[one] > 1:
            wrong.append(f"{message.name}: scanned {scans[one]} times")
        if arrivals[one] != 1:
            wrong.append(f"{message.name}: arrived {arrivals[one]} times")
        elif one not in verdicts:
            wrong.append(f"{message.name}: left by {by_id[one]} without the scanner's word")
        elif by_id[one] != _POOLS[verdicts[one]]:
            wrong.append(f"{message.name}: the scanner says {verdicts[one]}, it left by {by_id[one]}")
    if {verdicts[one] for one in messages if one in verdicts} != set(_POOLS):
        wrong.append("the scanner says the same of all messages: nothing is shown")
    return wrong


def _print_tables(messages: dict[str, CorpusMessage], pools: dict[str, str], verdicts: dict[str, str]) -> None:
    seen = Counter((pools.get(one, "(none)"), verdicts.get(one, "(none)")) for one in messages)
    labels = Counter((message.is_spam, verdicts.get(one)) for one, message in messages.items())
    columns = sorted({verdict for _pool, verdict in seen} | set(_POOLS))
    print(f"\n  {'left by':<12}" + "".join(f"{f'scanner: {column}':>20}" for column in columns))
    for pool in sorted({pool for pool, _verdict in seen} | set(_POOLS.values())):
        print(f"  {pool:<12}" + "".join(f"{seen[pool, column]:>20}" for column in columns))
    agreed, spam, ham = labels[True, "spam"] + labels[False, "ham"], labels[True, "spam"], labels[False, "spam"]
    print(f"\n  the scanner agrees with the label of {agreed} of {len(messages)} ({agreed / len(messages):.1%}): ")
    print(f"  it calls {spam} of the spam spam, and {ham} of the rest")


if __name__ == "__main__":
    sys.exit(main())
