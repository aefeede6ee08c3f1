"""The evidence of a decision: one bounded JSON text in the row of the decision log, for `explain` and `replay`.

It is made from facts that are frozen, and read back into them, so that a message can be decided again under other
settings. What is empty is left out. Message text in it is printable; what was too long is cut, and it says so (`cut`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from deliverypools.core.accounts import is_internal
from deliverypools.core.decisions import Asked
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin, RewrittenSender, printable
from deliverypools.core.headers import Headers
from deliverypools.core.limits import Held
from deliverypools.core.message_kind import Kind, MessageKind
from deliverypools.core.scanning.answers import Scan, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.settings import Settings
from deliverypools.core.spam_headers import spam_evidence

MOST_BYTES: Final = 3000
"""Of an evidence text, in UTF-8."""
_VERSION: Final = 1
_TEXT_LENGTHS: Final = (300, 80, 30)
"""So many characters of each text are kept; fewer where that is too much in all."""
_LONG: Final = re.compile(rf'[^"]{{{_TEXT_LENGTHS[0] + 1}}}')
_NO: Final = "no"
_MOST_RECIPIENTS: Final = 100_000
_ORIGIN_FINDINGS: Final = ("over_limit", "authenticated", "envelope_authenticated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """What a limit's window held before the message."""

    name: str
    """As in the settings: `recipients_per_day`."""
    used: int
    cost: int
    """What the message added."""
    most: int
    seconds: int
    """Of the window; 0: only the message itself counted."""
    policy: str = ""
    """Name of the outbound policy; "" for a service limit."""
    tenant: str = ""
    whole: int = 0
    """Of a share in per cent: what it is a share of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a pass knew of a message."""

    facts: MessageFacts | None = None
    """None in a first pass, which decides nothing, and where there was too much. Recipients are a number only."""
    origin: Origin | None = None
    internal: int = 0
    """Recipients in accepted domains."""
    external: int = 0
    asked: tuple[Asked, ...] = ()
    counters: tuple[Counter, ...] = ()
    first_queue_id: str = ""
    """Of the queue file that was accepted; "" where it is this one, or unknown."""
    would: str = ""
    """What would have been done, had shadow mode been off; "" where the pool says so."""
    is_cut: bool = False


def evidence_text(
    settings: Settings,
    *,
    recipients: Sequence[str],
    facts: MessageFacts | None = None,
    origin: Origin | None = None,
    asked: Iterable[Asked] = (),
    held: Iterable[Held] = (),
    first_queue_id: str = "",
    would: str = "",
) -> str:
    """Return the evidence of a pass. `origin` is for a first pass, which has no facts."""
    internal = sum(is_internal(recipient, settings) for recipient in recipients)
    found: dict[str, Any] = {
        "v": _VERSION,
        "to": [internal, len(recipients) - internal],
        "first": first_queue_id,
        "would": would,
        "asked": [one.rule if one.answer == _NO else [one.rule, one.answer, *one.reasons] for one in asked],
        "counters": [_without_defaults(_values(_counter(one)), Counter) for one in held],
        "origin": _origin_values(facts.origin if facts else origin),
    }
    if facts is not None:
        found |= _fact_values(facts, settings)
    text = _dumped(found, cut=0)
    # Nothing was escaped, so quotes are those around texts: none is odd, or too long, and there is nothing to bound.
    if "\\" not in text and text.isprintable() and not _LONG.search(text) and len(text.encode()) <= MOST_BYTES:
        return text
    for most in _TEXT_LENGTHS:
        bounded = _Bounded(most)
        text = _dumped(bounded.value(found), cut=bounded.cut_to)
        if len(text.encode()) <= MOST_BYTES:
            return text
    return _dumped({"v": _VERSION, "to": found["to"]}, cut=1)


def read_evidence(text: str) -> Evidence | None:
    """Return what `evidence_text` wrote; None where there is nothing, or nothing that this version can read.

    The store is shared, so nothing is taken for granted.
    """
    if not text or len(text) > MOST_BYTES:
        return None
    try:
        return _evidence(json.loads(text))
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, RecursionError):
        return None


# ---- written

_DEFAULTS: Final[Mapping[type[Any], dict[str, Any]]] = {
    kind: {field.name: field.default for field in fields(kind)} for kind in (Counter, Origin, ScannerAnswer)
}


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _dumped(found: Mapping[str, Any], cut: int) -> str:
    known = {name: value for name, value in found.items() if value not in ("", None, [], {}, False)}
    return _ENCODER.encode(known | ({"cut": cut} if cut else {}))


class _Bounded:
    """Bounds the texts in a value, and remembers whether there was anything to cut."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.cut_to = 0
        """The bound, where something was cut."""

    def value(self, value: Any) -> Any:
        """Return a value with printable and bounded texts."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {name: self.value(one) for name, one in value.items()}
        return [self.value(one) for one in value] if isinstance(value, list) else value

    def _text(self, text: str) -> str:
        if len(text) > self._most:
            self.cut_to = self._most
        elif text.isprintable():
            return text
        return printable(text, self._most)


def _counter(held: Held) -> Counter:
    limit = held.limit
    return Counter(
        name=limit.name,
        used=held.used,
        cost=limit.cost,
        most=limit.most,
        seconds=limit.window.seconds if limit.window else 0,
        policy=limit.policy,
        tenant=limit.tenant,
        whole=held.whole,
    )


def _without_defaults(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    defaults = _DEFAULTS[kind]
    return {name: value for name, value in values.items() if value != defaults[name]}


def _values(thing: Any) -> dict[str, Any]:
    """Return what the fields of a dataclass hold; `asdict` would copy it all."""
    return {name: getattr(thing, name) for name in _DEFAULTS[type(thing)]}


def _pair(finding: Finding) -> list[str]:
    return [finding.answer, finding.evidence] if finding.evidence else [finding.answer]


def _origin_values(origin: Origin | None) -> dict[str, Any]:
    if origin is None:
        return {}
    values = _values(origin)
    findings: dict[str, Finding] = {name: values.pop(name) for name in _ORIGIN_FINDINGS}
    return _without_defaults(values, Origin) | {
        name: _pair(finding) for name, finding in findings.items() if finding.answer is not Answer.NOT_ASKED
    }


def _fact_values(facts: MessageFacts, settings: Settings) -> dict[str, Any]:
    rewritten = facts.rewritten_sender
    return {
        "sender": facts.envelope_sender,
        "kind": [facts.kind.kind, facts.kind.evidence] if facts.kind.evidence else [facts.kind.kind],
        "size": facts.size_bytes,
        "scan": None if facts.scan is None else [_answer_values(answer) for answer in facts.scan.answers],
        "was_scanned": facts.scan is not None,
        "origin_problem": facts.origin_problem,
        "is_sent_on": facts.is_sent_on,
        "sender_domain": _pair(facts.sender_domain_has_mx_or_address),
        "restricted": _pair(facts.account_restricted),
        "forwarded_by": facts.forwarded_by,
        "is_forwarded_automatically": facts.is_forwarded_automatically,
        "mailing_list": facts.mailing_list,
        "archive_copies": facts.archive_copies,
        "srs": [rewritten.address, rewritten.problem] if rewritten else None,
        "header_says": spam_evidence(facts.headers, settings.spam.headers),
        "has_list_id": facts.headers.first("List-Id") is not None,
        "has_too_many_headers": not facts.headers.is_complete,
    }


def _answer_values(answer: ScannerAnswer) -> dict[str, Any]:
    values = _values(answer)
    return _without_defaults(values, ScannerAnswer) | ({"symbols": list(answer.symbols)} if answer.symbols else {})


# ---- read


def _evidence(found: Mapping[str, Any]) -> Evidence | None:
    if found["v"] != _VERSION:
        return None
    internal, external = (max(0, int(number)) for number in found.get("to", (0, 0)))
    is_cut = bool(found.get("cut"))
    origin = _origin(found.get("origin"))
    has_facts = "kind" in found and internal + external <= _MOST_RECIPIENTS
    return Evidence(
        facts=_facts(found, origin, internal + external) if has_facts else None,
        origin=origin,
        internal=internal,
        external=external,
        asked=tuple(
            Asked(one, _NO) if isinstance(one, str) else Asked(str(one[0]), str(one[1]), tuple(map(str, one[2:])))
            for one in found.get("asked", ())
        ),
        counters=tuple(Counter(**_checked(one, Counter)) for one in found.get("counters", ())),
        first_queue_id=str(found.get("first", "")),
        would=str(found.get("would", "")),
        is_cut=is_cut,
    )


def _checked(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Return values for a dataclass of texts, numbers and truths, each of the type that it is to have."""
    types = {"str": str, "int": int, "bool": bool}
    known = {field.name: types[str(field.type)] for field in fields(kind) if str(field.type) in types}
    if any(type(values[name]) is not known[name] for name in values if name in known):
        raise TypeError("a value of another type")
    return {name: values[name] for name in values if name in known}


def _finding(pair: Any, without: Finding) -> Finding:
    return Finding(Answer(pair[0]), str(pair[1]) if len(pair) > 1 else "") if pair else without


def _origin(values: Mapping[str, Any] | None) -> Origin | None:
    if not values:
        return None
    known: dict[str, Any] = _checked(values, Origin)
    known |= {name: _finding(values.get(name), Finding(Answer.NOT_ASKED)) for name in _ORIGIN_FINDINGS}
    return Origin(**known | {"ingress": Ingress(values["ingress"])})


def _facts(found: Mapping[str, Any], origin: Origin | None, recipients: int) -> MessageFacts:
    kind, *evidence = found["kind"]
    rewritten = found.get("srs")
    header = [("List-Id", "")] if found.get("has_list_id") else []
    if origin is not None and not origin.spam and found.get("header_says"):
        # Whatever the settings called spam then.
        origin = _with_spam(origin, str(found["header_says"]))
    return MessageFacts(
        envelope_sender=str(found.get("sender", "")),
        recipients=("",) * recipients,
        headers=Headers.of(header, is_complete=not found.get("has_too_many_headers")),
        kind=MessageKind(Kind(kind), "".join(map(str, evidence))),
        size_bytes=int(found.get("size", 0)),
        scan=Scan(tuple(map(_answer, found.get("scan", ())))) if found.get("was_scanned") else None,
        origin=origin,
        origin_problem=str(found.get("origin_problem", "")),
        is_sent_on=bool(found.get("is_sent_on")),
        sender_domain_has_mx_or_address=_finding(found.get("sender_domain"), Finding(Answer.NOT_ASKED)),
        account_restricted=_finding(found.get("restricted"), Finding(Answer.NO)),
        forwarded_by=str(found.get("forwarded_by", "")),
        is_forwarded_automatically=bool(found.get("is_forwarded_automatically")),
        mailing_list=str(found.get("mailing_list", "")),
        archive_copies=int(found.get("archive_copies", 0)),
        rewritten_sender=RewrittenSender(*map(str, rewritten)) if rewritten else None,
    )


def _with_spam(origin: Origin, evidence: str) -> Origin:
    values = {field.name: getattr(origin, field.name) for field in fields(origin)}
    return Origin(**values | {"spam": evidence})


def _answer(values: Mapping[str, Any]) -> ScannerAnswer:
    score = values.get("score")
    return ScannerAnswer(
        scanner=Scanner(values["scanner"]),
        verdict=ScanVerdict(values["verdict"]),
        score=None if score is None else float(score),
        is_forced=bool(values.get("is_forced")),
        action=str(values.get("action", "")),
        symbols=tuple(map(str, values.get("symbols", ()))),
        problem=str(values.get("problem", "")),
    )
