"""What administrators are told, as the outbox holds it: the values of a dataclass as JSON, checked when they are read.

Others can write to the store, and an older version may have: nothing is believed to be of the kind that it should be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

LAST_MOMENT: Final = 1e11
"""Some way before the year 9999, where the calendar ends."""

Moment: TypeAlias = Annotated[float, Field(ge=0, lt=LAST_MOMENT, allow_inf_nan=False)]
"""Seconds since the epoch, that a calendar has."""
Number: TypeAlias = Annotated[int, Field(ge=0)]

_Made = TypeVar("_Made")


def dataclass_from(made: type[_Made], values: Mapping[str, Any]) -> _Made:
    """Make a dataclass from what `json.loads` has read of it; annotations such as `Moment` are held to.

    Raises:
        ValueError: a value is missing, of the wrong kind or not known.
    """
    try:
        return TypeAdapter(made).validate_json(json.dumps(dict(values)), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{made.__name__}: {place}: {first['msg']}") from None
