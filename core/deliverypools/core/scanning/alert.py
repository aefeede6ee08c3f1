"""What administrators are told when a scanner gives no verdict: which, since when, what it said, what mail does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from deliverypools.core.alert_text import Samples, field_text, subject_line
from deliverypools.core.facts import printable
from deliverypools.core.payloads import Moment
from deliverypools.core.restrictions import iso_time, utc_day
from deliverypools.core.scanning.answers import Scanner
from deliverypools.core.settings import Settings
from deliverypools.core.settings.text import duration_text
from deliverypools.core.settings.values import masked_url
from deliverypools.core.to_administrators import ToAdministrators

SILENT_SECONDS: Final = 60.0
"""A scanner that is restarted is back sooner."""
_FORGOTTEN_SECONDS: Final = 7200.0
"""Longer than Postfix waits before it tries a message again (`maximal_backoff_time`): two failures that lie further
apart are not of one outage, whoever had answers in between."""
_COMMAND: Final = "delivery-pools check"
_WHAT_IT_FINDS: Final = {Scanner.RSPAMD: "spam", Scanner.SPAMD: "spam", Scanner.CLAMD: "malware"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerDown(ToAdministrators):
    """A scanner that has given no verdict for some time, although it was asked."""

    sort: ClassVar[str] = "scanner-down"
    at: Moment
    since: Moment
    """Time of the first question without a verdict."""
    scanner: Scanner
    address: str
    """As in the settings; without a password."""
    host: str
    """Whose milter asked it, Postfix's myhostname; "" if it is not known."""
    problem: str
    unknown_verdict: Literal["wait", "high-risk"]
    undecided_after: str
    """As in the settings: `4h`."""
    shadow: bool = False
    """As in the settings; earlier versions did not tell."""

    @property
    def once(self) -> str:
        """Return the name under which it is told once: one for a day, a host and a scanner."""
        return f"{self.sort}/{utc_day(self.at)}/{self.scanner}/{self.host}"

    @property
    def consequence(self) -> str:
        """Return what happens to mail meanwhile."""
        if self.shadow:
            return "No mail is held up: all of it leaves by normal (shadow = true)."
        if self.unknown_verdict == "high-risk":
            return 'Mail that it does not answer about leaves by high-risk (spam.unknown_verdict = "high-risk").'
        return (
            "Mail that it does not answer about waits (451) and is tried again; after"
            f" {printable(self.undecided_after)} it leaves by high-risk (milter.undecided_after)."
        )

    def summary(self) -> str:
        """Return one line for the log."""
        where = f" on {printable(self.host)}" if self.host else ""
        return f"{self.scanner}{where} has given no verdict since {iso_time(self.since)}: {printable(self.problem)}"

    def subject(self) -> str:
        """Return the Subject of the mail."""
        where = f" on {printable(self.host, 100)}" if self.host else ""
        return subject_line(f"{self.scanner}{where} gives no verdict: {printable(self.problem, 120)}")

    def body(self, samples: Samples) -> str:
        """Return the text of the mail."""
        del samples
        return (
            f"{self.summary()}.\n\n"
            f"{self.consequence}\n\n"
            f"  scanner:   {self.scanner}, asked about {_WHAT_IT_FINDS[self.scanner]}\n"
            f"  address:   {field_text(self.address)} (spam.{self.scanner})\n"
            f"  host:      {field_text(self.host) or '(not known)'}\n"
            f"  since:     {iso_time(self.since)}\n"
            f"  it said:   {field_text(self.problem)}\n\n"
            f"To see whether it answers now:\n  {_COMMAND}\n\n"
            "It is asked again by itself; nothing has to be restarted here.\n"
            "This is told once a day (UTC) for each scanner and host.\n"
        )

    def webhook(self, samples: Samples) -> dict[str, Any]:
        """Return the JSON object of the webhook."""
        del samples
        return {
            "id": printable(self.once, 400),
            "text": self.summary(),
            "event": self.sort,
            "scanner": self.scanner.value,
            "address": printable(self.address),
            "host": printable(self.host),
            "since": iso_time(self.since),
            "time": iso_time(self.at),
            "problem": printable(self.problem),
            "unknown_verdict": self.unknown_verdict,
            "consequence": self.consequence,
            "commands": {"check": _COMMAND},
        }


def scanner_down(
    scanner: Scanner, settings: Settings, *, host: str, problem: str, since: float, now: float
) -> ScannerDown:
    """Return what is told; times in seconds since the epoch."""
    return ScannerDown(
        at=now,
        since=since,
        scanner=scanner,
        address=address_of(scanner, settings),
        host=printable(host),
        problem=printable(problem),
        unknown_verdict=settings.spam.unknown_verdict,
        undecided_after=str(duration_text(settings.milter.undecided_after)),
        shadow=settings.shadow,
    )


def address_of(scanner: Scanner, settings: Settings) -> str:
    """Return where a scanner is, as the settings say, without a user name and password; "" if they do not name it."""
    address: str = getattr(settings.spam, scanner) or ""
    return printable(masked_url(address) if "@" in urlsplit(address).netloc else address)


class Silence:
    """How long one scanner has given no verdict although it was asked. Times: seconds of any clock."""

    def __init__(self) -> None:
        """Begin with a scanner that was not asked yet."""
        self._since: float | None = None
        self._latest = 0.0

    def break_off(self) -> None:
        """It has given a verdict."""
        self._since = None

    def lasts(self, now: float) -> float:
        """It was asked and has given no verdict; return for how many seconds it has given none."""
        if self._since is None or now - self._latest > _FORGOTTEN_SECONDS:
            self._since = now
        self._latest = now
        return now - self._since
