"""Sends labelled messages through a private Postfix, and shows by which pool each left: with a sender, and without one.

    make bench-bounces-delivered CORPUS=DIR

DIR has a `LABELS.tsv`, as for bench/bounces.py. A client in trusted_networks sends every message twice: with the sender
alice@example.org, and with the null reverse-path. Printed is how many of each label left by which pool and rule. The
exit status is 1 where a message did not arrive once, or one with a null reverse-path left by another address than
high-risk's, or one with a sender left by another pool than its kind asks for.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

from bounces import labelled
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab, transaction
from deliverypools.lab.receiver import ReceivedMessage

_SENDER = "alice@example.org"
_MBOX_LINE = re.compile(rb"\A>?From [^\n]*\n")
_RULE = re.compile(r"pass=(?:egress|fast) pool=(\S+) rule=(\S+) ")


def main() -> int:
    """Send, wait, print; the exit status says whether every message left by the right address."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path, help="folder with LABELS.tsv")
    options = parser.parse_args()
    messages = list(labelled(options.corpus))
    wrong: list[str] = []
    with Lab(settings={"limits": {"messages_per_minute": 0}}) as lab:
        for sender in (_SENDER, ""):
            expected = {}
            counts: Counter[tuple[str, str, str]] = Counter()
            with lab.session(client_address=TRUSTED_CLIENT) as smtp:
                for number, one in enumerate(messages):
                    recipient = f"m{number}.{'sender' if sender else 'null'}@example.com"
                    result = transaction(smtp, sender, recipient, _as_sent(options.corpus / one.name))
                    if not result.accepted:
                        wrong.append(f"{one.name}: refused: {result.code} {result.text}")
                        continue
                    is_dsn = one.judged(has_null_sender=not sender).is_dsn
                    expected[recipient] = (one, "high-risk" if is_dsn or not sender else "")
            arrived = lab.wait_for(
                lambda message, wanted=expected: message.recipients[0] in wanted,  # type: ignore[misc]
                count=len(expected),
                timeout_seconds=300,
            )
            log = lab.milter.log()
            for message in arrived:
                one, pool = expected.pop(message.recipients[0])
                seen, rule = lab.pool_of(message), _rule(log, message)
                counts[one.label, seen, rule] += 1
                if seen != (pool or ("high-risk" if rule == "spam" else "normal")):
                    wrong.append(f"{one.name}: left by {seen} ({rule})")
            wrong += [f"{one.name}: did not arrive" for one, _ in expected.values()]
            print(f"\nsender <{sender}>:\n")
            for (label, seen, rule), count in sorted(counts.items()):
                print(f"  {label:<20} {seen:<10} {rule:<32} {count:>4}")
        twice = len(lab.messages) - len({message.recipients for message in lab.messages})
    print(f"\n{2 * len(messages)} messages, {len(wrong)} wrong, {twice} twice")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong or twice else 0


def _as_sent(file: Path) -> bytes:
    data = _MBOX_LINE.sub(b"", file.read_bytes())
    return re.sub(rb"\r?\n", b"\r\n", data)


def _rule(log: str, message: ReceivedMessage) -> str:
    """Return the rule that decided about a message, by the queue id in its topmost Received field."""
    queue_id = (message.header("Received") or "").partition(" id ")[2].split()[0].rstrip(";")
    found = re.search(rf" {queue_id}: {_RULE.pattern}", log)
    return found[2] if found else "(no decision)"


if __name__ == "__main__":
    sys.exit(main())
