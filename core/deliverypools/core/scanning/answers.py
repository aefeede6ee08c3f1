"""What scanners say of a message."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MOST_SYMBOLS: Final = 8
"""So many symbols of an answer are kept: those that weigh most."""
LONGEST_SYMBOL: Final = 80


class Scanner(StrEnum):
    """A scanner that is asked."""

    RSPAMD = "rspamd"
    SPAMD = "spamd"
    CLAMD = "clamd"


SPAM_SCANNERS: Final = (Scanner.RSPAMD, Scanner.SPAMD)
MALWARE_SCANNERS: Final = (Scanner.CLAMD,)


class ScanVerdict(StrEnum):
    """What a scanner finds."""

    SPAM = "spam"
    """Spam; from clamd: malware."""
    HAM = "ham"
    UNKNOWN = "unknown"
    """It could not be asked, or did not say. Never to be taken for HAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerAnswer:
    """What one scanner says of one message. Its texts are printable and bounded: whoever makes one sees to that."""

    scanner: Scanner
    verdict: ScanVerdict
    """The scanner's own word, by its own thresholds."""
    score: float | None = None
    """Finite; None where the scanner has no scores, or said nothing."""
    is_forced: bool = False
    """It says so whatever the score (a test pattern, a virus, a rule of the scanner's administrator)."""
    action: str = ""
    """What rspamd would do: `no action`, `add header`, `reject`."""
    symbols: tuple[str, ...] = ()
    """What speaks for it, the strongest first: `BAYES_SPAM 5.1`, or the name of a signature. At most `MOST_SYMBOLS`."""
    problem: str = ""
    """Why the verdict is unknown; "" where it is not."""

    @property
    def evidence(self) -> str:
        """Return it in one line, as in `rspamd: add header, score 7.2 (BAYES_SPAM 5.1, FORGED_SENDER 0.3)`."""
        if self.verdict is ScanVerdict.UNKNOWN:
            return f"{self.scanner}: no verdict, {self.problem}"
        words = [self.action or ("clean" if self.verdict is ScanVerdict.HAM else "found")]
        if self.score is not None:
            words.append(f"score {self.score:.1f}")
        symbols = f" ({', '.join(self.symbols)})" if self.symbols else ""
        return f"{self.scanner}: {', '.join(words)}{symbols}"

    def to_text(self) -> str:
        """Return what `from_text` reads."""
        return json.dumps(
            {
                "scanner": self.scanner,
                "verdict": self.verdict,
                "score": self.score,
                "is_forced": self.is_forced,
                "action": self.action,
                "symbols": list(self.symbols),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> ScannerAnswer:
        """Read what `to_text` wrote; the store is shared, so nothing is taken for granted.

        Raises:
            ValueError: it was not written by this version.
        """
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(values, dict) or not _is_sound(values):
            raise ValueError("an answer of another version")
        return cls(
            **values
            | {"scanner": Scanner(values["scanner"]), "verdict": ScanVerdict(values["verdict"])}
            | {"symbols": tuple(values["symbols"])}
        )


def _is_sound(values: Mapping[str, Any]) -> bool:
    score, symbols = values.get("score"), values.get("symbols")
    return (
        set(values) == {"scanner", "verdict", "score", "is_forced", "action", "symbols"}
        and values["scanner"] in list(Scanner)
        and values["verdict"] in (ScanVerdict.SPAM, ScanVerdict.HAM)
        and (score is None or (type(score) is float and math.isfinite(score)))
        and type(values["is_forced"]) is bool
        and _is_word(values["action"])
        and isinstance(symbols, list)
        and len(symbols) <= MOST_SYMBOLS
        and all(_is_word(symbol) for symbol in symbols)
    )


def _is_word(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_SYMBOL and value.isprintable()


@dataclass(frozen=True, slots=True)
class Scan:
    """What the scanners say that were asked about a message."""

    answers: tuple[ScannerAnswer, ...] = ()

    def of(self, scanner: Scanner) -> ScannerAnswer:
        """Return the answer of a scanner; one that was not asked has not said anything."""
        for answer in self.answers:
            if answer.scanner is scanner:
                return answer
        return ScannerAnswer(scanner=scanner, verdict=ScanVerdict.UNKNOWN, problem="it was not asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanEnvelope:
    """What scanners are told beside the message, as it came in: the ticket's word, not that of the hop.

    All of it can be hostile; who writes it on a wire sees to that.
    """

    queue_id: str = ""
    envelope_sender: str = ""
    recipients: tuple[str, ...] = ()
    sasl_username: str = ""
    """"" where nobody has authenticated."""
    client_address: str = ""
    client_name: str = ""
    """In DNS, verified by Postfix; "" where it has none."""
    helo_name: str = ""
    hostname: str = ""
    """Postfix's myhostname."""
    lacks_received: bool = False
    """The message has no Received field of this Postfix yet: milters see it only in the next pass."""
