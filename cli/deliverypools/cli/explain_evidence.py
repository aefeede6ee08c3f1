"""The evidence of a decision as people read it: what was known, which rules were asked, what the counters held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from deliverypools.core.decisions import Asked
from deliverypools.core.evidence import Counter, Evidence, read_evidence
from deliverypools.core.facts import Answer, Finding, MessageFacts, Origin, printable
from deliverypools.core.limits import SPANS
from deliverypools.core.message_kind import ORDINARY
from deliverypools.core.records import DecisionRecord

_NOT_KEPT: Final = "was not kept then: this was decided by an earlier version"
_UNREADABLE: Final = "cannot be read: it was written by another version, or is damaged"
_ANSWERS: Final = {"match": "yes", "unknown": "cannot tell", "not_asked": "not looked for"}
_MOST_TEXT: Final = 1000


def evidence_lines(record: DecisionRecord) -> Iterator[str]:
    """Yield what a pass knew, a line each; whatever is in the row, it is printable."""
    evidence = read_evidence(record.details)
    if evidence is None:
        yield _line("evidence", _UNREADABLE if record.details else _NOT_KEPT)
        return
    yield from _origin_lines(evidence)
    if evidence.facts is not None:
        yield from _fact_lines(evidence.facts)
    yield from _rule_lines(evidence.asked)
    for counter in evidence.counters:
        yield _line("limit", _counter_text(counter))
    if evidence.is_cut:
        yield _line("evidence", "there was more than is kept: texts were cut")


def _line(title: str, text: str) -> str:
    return f"  {title + ':':<12} {printable(text, _MOST_TEXT)}"


def _origin_lines(evidence: Evidence) -> Iterator[str]:
    yield _line("delivers to", f"{evidence.internal} of our own, {evidence.external} outside")
    origin = evidence.origin
    if origin is None:
        if evidence.facts is not None and evidence.facts.origin_problem:
            yield _line("origin", f"unknown: {evidence.facts.origin_problem}")
        return
    if evidence.first_queue_id:
        yield _line("accepted as", evidence.first_queue_id)
    if said := _client_text(origin):
        yield _line("said", said)
    if origin.authenticated.answer is not Answer.NOT_ASKED:
        results = f" ({origin.authentication_results})" if origin.authentication_results else ""
        yield _line("authentic", _finding_text(origin.authenticated) + results)
        yield _line("its sender", _finding_text(origin.envelope_authenticated))
    if origin.spam:
        yield _line("on arrival", origin.spam)
    if origin.over_limit.answer is not Answer.NOT_ASKED:
        yield _line("over limit", _finding_text(origin.over_limit))


def _client_text(origin: Origin) -> str:
    name = f"client is {origin.client_name}" if origin.client_name else ""
    helo = f"HELO {origin.helo_name}" if origin.helo_name else ""
    return ", ".join(filter(None, (name, helo)))


def _fact_lines(facts: MessageFacts) -> Iterator[str]:
    kind = facts.kind
    if kind != ORDINARY:
        yield _line("kind", f"{kind.kind}: {kind.evidence}" if kind.evidence else kind.kind)
    if facts.size_bytes:
        yield _line("size", f"{facts.size_bytes} bytes")
    if facts.sender_domain_has_mx_or_address.answer is not Answer.NOT_ASKED:
        yield _line("MX or A", _finding_text(facts.sender_domain_has_mx_or_address))
    if facts.forwarded_by:
        by_itself = " (by itself: ~/.forward, aliases, sieve)" if facts.is_forwarded_automatically else ""
        yield _line("forwarded", f"by {facts.forwarded_by}{by_itself}")
    if facts.mailing_list:
        yield _line("list", f"sent on by {facts.mailing_list}")
    if facts.archive_copies:
        yield _line(
            "copies", f"{facts.archive_copies} of the recipients were added by Postfix (always_bcc and the like)"
        )
    rewritten = facts.rewritten_sender
    if rewritten is not None:
        yield _line("SRS", rewritten.address or f"not possible: {rewritten.problem}")
    if facts.account_restricted.answer is not Answer.NO:
        yield _line("restricted", _finding_text(facts.account_restricted))
    for answer in facts.scan.answers if facts.scan else ():
        yield _line("scanner", answer.evidence)


def _finding_text(finding: Finding) -> str:
    word = {Answer.UNKNOWN: "cannot tell", Answer.NOT_ASKED: "not looked for"}.get(finding.answer, finding.answer)
    return f"{word}: {finding.evidence}" if finding.evidence else str(word)


def _rule_lines(asked: Sequence[Asked]) -> Iterator[str]:
    """Yield the rules in the order in which they were asked; those that said no, together."""
    refused: list[str] = []
    for one in asked:
        if one.answer == "no":
            refused.append(one.rule)
            continue
        yield from _said_no(refused)
        refused = []
        why = f": {'; '.join(one.reasons)}" if one.reasons else ""
        yield _line("rule asked", f"{one.rule}: {_ANSWERS.get(one.answer, one.answer)}{why}")
    yield from _said_no(refused)


def _said_no(rules: Sequence[str]) -> Iterator[str]:
    if rules:
        yield _line("rules asked", f"{', '.join(rules)}: no")


def _counter_text(counter: Counter) -> str:
    of = f" of policy {counter.policy}" if counter.policy else f" of {counter.tenant}" if counter.tenant else ""
    if counter.whole:
        return f"{counter.name}{of}: {counter.used} of {counter.whole}, at most {counter.most} %"
    if not counter.seconds:
        return f"{counter.name}{of}: {counter.cost}, at most {counter.most}"
    span = SPANS.get(counter.seconds, f"{counter.seconds} s")
    more = f" + {counter.cost}" if counter.cost else ""
    return f"{counter.name}{of}: {counter.used}{more} in {span}, at most {counter.most}"
