"""What administrators are told about a surge: its likely cause, the evidence, who and where, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from deliverypools.core.alert_text import Samples, listed, subject_line
from deliverypools.core.facts import printable
from deliverypools.core.payloads import Moment, Number
from deliverypools.core.restrictions import iso_time
from deliverypools.core.surges.advice import advice_for, commands_for, what_it_is
from deliverypools.core.surges.causes import NO_OTHER, Cause, Feature
from deliverypools.core.surges.flows import Flow
from deliverypools.core.surges.groups import Subject
from deliverypools.core.surges.replies import without_particulars
from deliverypools.core.surges.surge import Surge
from deliverypools.core.to_administrators import ToAdministrators

_MOST_SAMPLES: Final = 10
_MOST_JOINED: Final = 20
_MOST_REPLIES: Final = 3
_LONGEST_NAME: Final = 100
_LONGEST_WHOLE_NAME: Final = 400
"""Of an account: commands hold it."""
_LONGEST_NAME_IN_SUBJECT: Final = 80

_WHAT: Final[Mapping[Flow, str]] = {
    Flow.NOT_OURS: "bounces of mail that was not sent from here",
    Flow.OUTSIDE: "recipients refused to, or bounced for, clients outside",
    Flow.OWN: "recipients not reached by our users",
}

Counts = tuple[tuple[str, Number], ...]
"""Names and how much falls to each, most first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurgeAlert(ToAdministrators):
    """A surge, as it is told. Names are printable and bounded."""

    sort: ClassVar[str] = "surge"
    once: str
    at: Moment
    since: Moment
    """Time of the first event in the hour."""
    cause: Cause
    score: float
    flow: Flow
    subject_kind: Subject
    subject_name: str
    volume: Number
    """In the last hour, all parts of it."""
    usual: float
    """In an hour, of the subject that is named."""
    threshold: float
    features: tuple[Feature, ...]
    """The evidence; of `unclear`, that for the nearest cause."""
    other_causes: tuple[tuple[Cause, float], ...]
    joined: Counts
    """Other subjects of the same incident."""
    joined_more: Number
    networks: Counts
    """Of clients."""
    clients: Counts
    domains: Counts
    accounts: Counts
    addresses: Counts
    destinations: Counts
    reasons: Counts
    """Why recipients were not reached."""
    replies: Counts
    """The commonest of what servers said, without what differs from recipient to recipient."""
    is_cut: bool = False
    """Whether there were more events in the hour than are looked at."""

    @property
    def account(self) -> str:
        """Return the account whose latest messages are shown with it, "" for none."""
        return self.subject_name if self.subject_kind is Subject.ACCOUNT else ""

    def summary(self) -> str:
        """Return one line for the log."""
        return f"surge: {self._headline(_LONGEST_NAME)} (score {self.score:.2f})"

    def subject(self) -> str:
        """Return the Subject of the mail."""
        return subject_line(self._headline(_LONGEST_NAME_IN_SUBJECT))

    def _headline(self, longest: int) -> str:
        cause = "surge without a likely cause" if self.cause is Cause.UNCLEAR else f"likely {self.cause}"
        return f"{cause}: {self._who(longest)}, {self.volume} {_WHAT[self.flow]} in an hour"

    def _who(self, longest: int) -> str:
        count = len(self.joined) + self.joined_more
        others = f" and {count} more" if count else ""
        name = printable(self.subject_name, longest) or "(none of ours)"
        return f"{self.subject_kind} {name}{others}"

    def body(self, samples: Samples) -> str:
        """Return the text of the mail."""
        evidence_of = f"What speaks for {'the nearest cause' if self.cause is Cause.UNCLEAR else self.cause}"
        parts = [
            f"{self._headline(_LONGEST_NAME)}.\n{what_it_is(self.cause, self.subject_kind)}\n",
            listed("What may help", self.advice),
            listed("Commands", list(self.commands.values())),
            f"  since:     {iso_time(self.since)}, or longer\n"
            f"  usual:     {self.usual:.1f} in an hour; a surge begins at {self.threshold:.0f}\n"
            f"  cause:     {self.cause}, score {self.score:.2f} of 1.00\n"
            + "".join(f"  not:       {cause}, score {score:.2f}\n" for cause, score in self.other_causes),
            listed("Replies, the commonest (# stands for what differs)", _rows(self.replies)),
            listed(evidence_of, [_row(one) for one in self.features]),
            listed("The same incident", _rows(self.joined)),
            listed("Client networks", _rows(self.networks)),
            listed("Clients", _rows(self.clients)),
            listed("Domains of ours", _rows(self.domains)),
            listed("Accounts", _rows(self.accounts)),
            listed("Addresses of ours", _rows(self.addresses)),
            listed("Destinations", _rows(self.destinations)),
            listed("Reasons", _rows(self.reasons)),
            listed("Subjects of the account's latest messages", samples.subjects),
            listed("Client addresses they came from", samples.client_addresses),
            "There were more events than are looked at: the numbers are those of the newest, and another surge may be\n"
            "hidden behind this one.\n"
            if self.is_cut
            else "",
            "This is told once a day (UTC) for each cause and subject.\n",
        ]
        return "\n".join(part for part in parts if part)

    @property
    def advice(self) -> Sequence[str]:
        """Return what may be done."""
        return advice_for(self.cause, self.flow, self.subject_kind)

    @property
    def commands(self) -> Mapping[str, str]:
        """Return commands for the account that it is about, or that has at least half of it: no other is accused."""
        largest = (name for name, amount in self.accounts[:1] if amount >= self.volume / 2)
        return commands_for(self.cause, self.account or next(largest, ""))

    def webhook(self, samples: Samples) -> dict[str, Any]:
        """Return the JSON object of the webhook."""
        return {
            "id": printable(self.once, 1200),
            "text": self._headline(_LONGEST_NAME),
            "event": self.sort,
            "cause": self.cause.value,
            "score": round(self.score, 3),
            "flow": self.flow.value,
            "subject": {"kind": self.subject_kind.value, "name": printable(self.subject_name, _LONGEST_NAME)},
            "joined": _json(self.joined),
            "joined_more": self.joined_more,
            "volume": self.volume,
            "usual": round(self.usual, 2),
            "threshold": round(self.threshold, 2),
            "since": iso_time(self.since),
            "time": iso_time(self.at),
            "evidence": [asdict(one) | {"earned": round(one.earned, 3)} for one in self.features],
            "other_causes": {cause.value: round(score, 3) for cause, score in self.other_causes},
            "client_networks": _json(self.networks),
            "clients": _json(self.clients),
            "domains": _json(self.domains),
            "accounts": _json(self.accounts),
            "addresses": _json(self.addresses),
            "destinations": _json(self.destinations),
            "reasons": _json(self.reasons),
            "replies": _json(self.replies),
            "is_cut": self.is_cut,
            "subjects": list(samples.subjects),
            "client_addresses": list(samples.client_addresses),
            "advice": list(self.advice),
            "commands": dict(self.commands),
        }


def alert_of(surge: Surge, *, now: float, is_cut: bool) -> SurgeAlert:
    """Return what is told about an incident; `is_cut`: there were more events in the hour than were looked at."""
    likely, *others = surge.explanations
    everything = surge.whole()
    group = surge.group
    return SurgeAlert(
        once=surge.once,
        at=now,
        since=min(part.since for part in surge.parts()),
        cause=likely.cause,
        score=likely.merit if likely.cause is Cause.UNCLEAR else likely.score,
        flow=group.flow,
        subject_kind=group.subject,
        subject_name=printable(group.name, _LONGEST_WHOLE_NAME),
        volume=everything.volume,
        usual=surge.usual,
        threshold=surge.threshold,
        features=likely.features,
        other_causes=tuple((one.cause, one.score) for one in others),
        joined=tuple(
            (_name(f"{part.group.subject} {part.group.name}"), part.group.volume)
            for part in surge.joined[:_MOST_JOINED]
        ),
        joined_more=max(0, len(surge.joined) - _MOST_JOINED),
        networks=_top(everything.networks),
        clients=_top(everything.amounts(lambda event: event.client)),
        domains=_top(everything.domains),
        accounts=_top(everything.accounts) if group.flow is Flow.OWN else (),
        addresses=_top(everything.amounts(lambda event: event.address)),
        destinations=_top(everything.remotes),
        reasons=_top(everything.amounts(lambda event: event.category)),
        replies=_top(everything.amounts(lambda event: without_particulars(event.reply)))[:_MOST_REPLIES],
        is_cut=is_cut,
    )


def _top(counted: Counter[Hashable]) -> Counts:
    """Return the largest amounts that have a name; equal ones in the order of their names."""
    ordered = sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))
    return tuple((_name(str(name)), amount) for name, amount in ordered if name)[:_MOST_SAMPLES]


def _name(text: str) -> str:
    return printable(text, _LONGEST_NAME)


def _json(counts: Counts) -> list[dict[str, str | int]]:
    return [{"name": _name(name), "count": count} for name, count in counts]


def _rows(counts: Counts) -> list[str]:
    return [f"{count:>6}  {_name(name)}" for name, count in counts]


def _row(feature: Feature) -> str:
    """Return a feature in words; its weights are in the JSON of the webhook."""
    says = "yes" if feature.earned >= feature.weight / 2 else "no, and it would have to" if feature.is_missing else "no"
    value = "all of it, no other" if feature.value >= NO_OTHER else f"{feature.value:.2f}".rstrip("0").rstrip(".")
    return f"{says}: {printable(feature.name)}: {value} (clear at {feature.enough:g}, nothing at {feature.nothing:g})"
