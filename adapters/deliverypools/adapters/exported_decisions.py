"""The decision log as it is written to a file, one JSON object a line, and read again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any, Final, NamedTuple

from deliverypools.adapters.state import State
from deliverypools.core.evidence import Evidence, read_evidence
from deliverypools.core.records import DecisionRecord

_TYPES: Final[dict[str, tuple[type, ...]]] = {"str": (str,), "int": (int,), "float": (int, float)}


class Decided(NamedTuple):
    """A row of the decision log, and what goes with it."""

    record: DecisionRecord
    first_details: str
    """The evidence of its first pass, which has counted it; "" where there is none."""

    @property
    def first(self) -> Evidence | None:
        """Return that evidence, read."""
        return read_evidence(self.first_details)


def decisions_in(state: State, since: float) -> Iterator[Decided]:
    """Yield what a state has on record since a time, in no order.

    Raises:
        StateUnavailable: while it is read.
    """
    for record in state.decisions(since=since):
        evidence = read_evidence(record.details)
        first = None
        if evidence is not None and evidence.first_queue_id not in ("", record.queue_id):
            first = state.record_of(record.host, evidence.first_queue_id)
        yield Decided(record, first.details if first else "")


def row_for_programs(record: DecisionRecord) -> dict[str, Any]:
    """Return a row with its evidence as an object; None where there is none, or none that can be read."""
    row = asdict(record)
    evidence = _object(row.pop("details"))
    return row | {"evidence": evidence}


def line_of(decided: Decided) -> str:
    """Return what `read_lines` reads."""
    return json.dumps(row_for_programs(decided.record) | {"first_evidence": _object(decided.first_details)})


def read_lines(lines: Iterable[str]) -> Iterator[Decided | None]:
    """Yield what `line_of` wrote; None for a line that is something else."""
    for line in lines:
        try:
            yield _decided(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            yield None


def _object(details: str) -> Any:
    return json.loads(details) if read_evidence(details) else None


def _decided(row: dict[str, Any]) -> Decided:
    values = {field.name: row[field.name] for field in fields(DecisionRecord) if field.name in row}
    for field in fields(DecisionRecord):
        if field.name in values and not isinstance(values[field.name], _TYPES[str(field.type)]):
            raise TypeError(field.name)
    return Decided(DecisionRecord(**values | {"details": _text(row.get("evidence"))}), _text(row.get("first_evidence")))


def _text(evidence: Any) -> str:
    return json.dumps(evidence, ensure_ascii=False, separators=(",", ":")) if evidence else ""
