"""A configuration without ours, where an administrator has edited it since we left it.

What still says what we made of it gets its old value. In what was edited, only our part of a list goes. What cannot be
told apart stays, and is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from deliverypools.core.fast_path import CLEANUP
from deliverypools.core.postfix_check.syntax import split_list
from deliverypools.core.postfix_install.draft import DEFAULTS
from deliverypools.core.postfix_install.fast_path import without_fast_path
from deliverypools.core.postfix_install.manifest import Manifest, Was
from deliverypools.core.postfix_install.plan import ServiceKey, Written
from deliverypools.core.postfix_install.service_line import ServiceLine, parse_service
from deliverypools.core.postfix_install.written import Changes, changed

_MOST_ELEMENTS: Final = 500
"""Of a list that is compared: comparing takes the square of it."""
_DEFAULTS: Final[Mapping[str, str]] = {"address_verify_transport_maps": "$transport_maps", **DEFAULTS}
"""Of the lists that we add to, what Postfix goes by where main.cf does not say them."""
_OURS: Final = ("delivery_pools_", "delivery-pools/", "egress:[127.0.0.1]")
"""By what one sees that a value names something of ours."""


@dataclass(frozen=True, slots=True)
class Undone:
    """How to take ours back."""

    changes: Changes
    warnings: tuple[str, ...]
    """What an administrator has edited, and what became of it."""


def without_ours(live: Written, manifest: Manifest) -> Undone:
    """Return what makes a configuration the site's own again."""
    warnings: list[str] = []
    parameters = dict(_parameters(live, manifest, warnings))
    services = dict(_services(live, manifest, warnings)) | dict(_doors_of_others(live, manifest, warnings))
    changes = Changes(parameters, services)
    warnings += _still_named(changed(live, changes))
    return Undone(changes, tuple(warnings))


def _parameters(live: Written, manifest: Manifest, warnings: list[str]) -> Iterator[tuple[str, str | None]]:
    for name, was in manifest.parameters.items():
        now = live.parameters.get(name)
        wanted = now if now == was.old else _undone(now, was, _DEFAULTS.get(name, ""))
        if wanted is _UNKNOWN:
            warnings.append(f"main.cf: {name} was edited since, and stays as it is: {now}")
        elif wanted != now:
            yield name, wanted


def _services(live: Written, manifest: Manifest, warnings: list[str]) -> Iterator[tuple[ServiceKey, str | None]]:
    for key, was in manifest.services.items():
        now = live.services.get(key)
        if now in (was.old, was.ours):
            wanted = was.old
        else:
            wanted = _undone_service(now, was)
            warnings.append(f"master.cf: {'/'.join(key)} was edited since: it is now: {wanted or '(not there)'}")
        if wanted != now:
            yield key, wanted


def _doors_of_others(live: Written, manifest: Manifest, warnings: list[str]) -> Iterator[tuple[ServiceKey, str]]:
    """Take the fast path from services that an administrator has made: their cleanup service goes, and mail waits."""
    was = manifest.services.get((CLEANUP, "unix"))
    if was is None or was.old is not None:
        return
    for key, line in live.services.items():
        service = parse_service(line)
        if key not in manifest.services and (without := without_fast_path(service)) != service:
            warnings.append(f"master.cf: {'/'.join(key)} had the fast path, which goes: it is now: {without.render()}")
            yield key, without.render()


_UNKNOWN: Final = "\0"
"""In place of a value that is left as it is."""


def _undone(now: str | None, was: Was, default: str = "") -> str | None:
    """Return a value without ours; `_UNKNOWN` where that cannot be told.

    `default` is what holds where nothing is said: what was added to it stands beside it in our value.
    """
    if now == was.ours:
        return was.old
    if now is None or was.ours is None:
        return _UNKNOWN
    return without_our_elements(now, default if was.old is None else was.old, was.ours)


def without_our_elements(now: str, old: str, ours: str) -> str:
    """Return a list without what we put in, and with what we took out where it stood; `_UNKNOWN` where that fails."""
    live, before, after = _elements(now), split_list(old), split_list(ours)
    if max(len(live), len(before), len(after)) > _MOST_ELEMENTS:
        return _UNKNOWN
    for operation, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if operation in ("insert", "replace"):
            place = _place(live, after[k:m])
            if place is None:
                return _UNKNOWN
            live[place : place + m - k] = [(element, ", ") for element in before[i:j]]
        elif operation == "delete":
            return _UNKNOWN
    return "".join(element + separator for element, separator in live).rstrip(", ")


def _elements(text: str) -> list[tuple[str, str]]:
    """Return the elements of a list, each with what separates it from the next: that stays as somebody wrote it."""
    elements = split_list(text)
    starts = []
    end = 0
    for element in elements:
        starts.append(text.index(element, end))
        end = starts[-1] + len(element)
    following = [*starts[1:], len(text)]
    spans = zip(elements, starts, following, strict=True)
    return [(element, text[start + len(element) : until]) for element, start, until in spans]


def _place(elements: list[tuple[str, str]], run: tuple[str, ...]) -> int | None:
    names = tuple(element for element, _ in elements)
    places = range(len(names) - len(run) + 1)
    return next((place for place in places if names[place : place + len(run)] == run), None)


def _undone_service(now: str | None, was: Was) -> str | None:
    """Return an edited entry without ours; one that was not there before goes."""
    if was.old is None or was.ours is None:
        return None if was.old is None else now
    if now is None:
        return None
    live, old, ours = parse_service(now), parse_service(was.old), parse_service(was.ours)
    if ours.command != old.command:
        return was.old if live.command == ours.command else now
    fields = zip(live.fields, old.fields, ours.fields, strict=True)
    return ServiceLine(
        tuple(before if field == made else field for field, before, made in fields),
        _options(live, old, ours),
        old.arguments if live.arguments == ours.arguments else live.arguments,
    ).render()


def _options(live: ServiceLine, old: ServiceLine, ours: ServiceLine) -> dict[str, str]:
    undone = dict(live.options)
    for name, made in ours.options.items():
        if made == old.options.get(name) or name not in live.options:
            continue
        value = _undone(live.options[name], Was(old.options.get(name), made))
        if value is None:
            del undone[name]
        elif value is not _UNKNOWN:
            undone[name] = value
    lost = {name: value for name, value in old.options.items() if name not in ours.options}
    return lost | undone


def _still_named(written: Written) -> Iterator[str]:
    """Yield what names ours although we did not write it: an administrator has."""
    for name, value in written.parameters.items():
        if any(word in value for word in _OURS):
            yield f"main.cf: {name} still names what is ours: {value}"
    for key, line in written.services.items():
        if any(word in line for word in _OURS):
            yield f"master.cf: {'/'.join(key)} still names what is ours: {line}"
