"""Header fields as they came: in order, duplicates kept, names compared without case (RFC 5322 section 2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field


def unfolded(value: str) -> str:
    """Return the value of a field without its folds (RFC 5322 section 2.2.3), and without blanks around it."""
    return "".join(value.splitlines()).strip()


@dataclass(frozen=True, slots=True)
class Headers:
    """The header fields of one message that any rule looks at.

    `is_complete` is False where a message had more of them than is kept: what was left out is unknown, not absent.
    """

    fields: tuple[tuple[str, str], ...] = ()
    is_complete: bool = True
    _by_name: Mapping[str, Sequence[str]] = field(init=False, repr=False, compare=False)
    """The values of each name in lower case: rules ask for dozens of names."""

    def __post_init__(self) -> None:
        by_name: dict[str, list[str]] = {}
        for name, value in self.fields:
            by_name.setdefault(name.lower(), []).append(value)
        object.__setattr__(self, "_by_name", by_name)

    @classmethod
    def of(cls, fields: Iterable[tuple[str, str]], *, is_complete: bool = True) -> Headers:
        """Make headers from any iterable of (name, value)."""
        return cls(tuple(fields), is_complete)

    def all(self, name: str) -> Iterator[str]:
        """Yield every value of that name, top to bottom."""
        return iter(self._by_name.get(name.lower(), ()))

    def first(self, name: str) -> str | None:
        """Return the topmost value of that name."""
        return next(self.all(name), None)
