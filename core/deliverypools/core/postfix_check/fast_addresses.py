"""What Postfix itself makes of sender and recipients, behind smtpd: copies, aliases, canonical maps, masquerading.

The milter decides in the first pass about the addresses that the client gave. They have to be those that leave.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from deliverypools.core.postfix_check.configuration import Entry, Service
from deliverypools.core.postfix_check.fast_domains import Inside
from deliverypools.core.postfix_check.fast_tables import ANSWERS_ALL, PATTERNS, entries_of, is_cut, why_unknown
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import table_specs

SENDER: Final = "envelope_sender"
RECIPIENT: Final = "envelope_recipient"
_CLASSES: Final[Mapping[str, str]] = {
    "recipient_canonical_maps": "recipient_canonical_classes",
    "sender_canonical_maps": "sender_canonical_classes",
    "canonical_maps": "canonical_classes",
}
"""Each with what says which addresses it is applied to."""
_OF_RECIPIENTS: Final = ("virtual_alias_maps", "recipient_bcc_maps", "recipient_canonical_maps", "canonical_maps")
_OF_SENDERS: Final = ("sender_bcc_maps", "sender_canonical_maps", "canonical_maps")
ADDRESS_MAPS: Final = tuple(dict.fromkeys((*_OF_RECIPIENTS, *_OF_SENDERS)))
_NO_MAPPINGS: Final = "no_address_mappings"
_EXAMPLES: Final = 3
"""Entries of one table that are named."""
_ENDS_IN_DOMAIN: Final = re.compile(r"@((?:[A-Za-z0-9-]{1,63}\\\.){1,20}[A-Za-z0-9-]{1,63})\$\Z")
_HARD_TO_READ: Final = re.compile(r"[|]|\(\?|\\[A-Za-z0-9]")
"""In a pattern: it may match what does not end as the pattern does, or means something else than it seems to."""


def has_mappings(site: Site, door: Service) -> bool:
    """Tell whether addresses of mail that comes in by a door are rewritten, and copied, at all."""
    return _NO_MAPPINGS not in site.postfix.words("receive_override_options", door)


def named(parameter: str, service: Service) -> str:
    """Return a parameter as messages name it."""
    return f"{service.label}: {parameter}" if parameter in service.options else parameter


def changes_of_addresses(site: Site, cleanup: Service) -> Iterator[str]:
    """Yield what may make other addresses of the sender, or of recipients outside, or add recipients."""
    postfix = site.postfix
    if value := postfix.value("always_bcc", cleanup):
        yield f"{named('always_bcc', cleanup)} = {value}"
    inside = Inside(site, cleanup)
    for parameter in _OF_RECIPIENTS:
        if _applies(site, parameter, RECIPIENT, cleanup):
            for spec in foreign_specs(site, postfix.value(parameter, cleanup)):
                yield from (f"{named(parameter, cleanup)}: {found}" for found in _outside(site, spec, inside))
    for parameter in _OF_SENDERS:
        if _applies(site, parameter, SENDER, cleanup):
            for spec in table_specs(postfix.value(parameter, cleanup)):
                yield from (f"{named(parameter, cleanup)}: {found}" for found in _anything(site, spec))
    classes = [one for one in (SENDER, RECIPIENT) if one in postfix.words("masquerade_classes", cleanup)]
    if classes and (value := postfix.value("masquerade_domains", cleanup)):
        yield f"{named('masquerade_domains', cleanup)} = {value}, for {' and '.join(classes)}"


def _applies(site: Site, parameter: str, address: str, cleanup: Service) -> bool:
    classes = _CLASSES.get(parameter)
    return classes is None or address in site.postfix.words(classes, cleanup)


def foreign_specs(site: Site, value: str) -> Iterator[str]:
    """Yield the tables of a value that are not ours: our socketmap knows SRS addresses only."""
    specs = table_specs(value)
    has_ours = any(site.is_our_socketmap(spec) for spec in specs)
    for spec in specs:
        is_ours = site.is_our_socketmap(spec) or (has_ours and spec.endswith("/delivery-pools/srs_addresses"))
        if not is_ours:
            yield spec


def _anything(site: Site, spec: str) -> Iterator[str]:
    """Yield the entries of a table for senders: each changes the sender, or copies his mail, whoever he is."""
    if problem := why_unknown(site, spec):
        yield problem
        return
    yield from (f"{spec}: {entry.key}" for entry in islice(entries_of(site, spec), _EXAMPLES))


def _outside(site: Site, spec: str, inside: Inside) -> Iterator[str]:
    """Yield the entries of a table that may be for recipients outside, or why that cannot be told."""
    if problem := why_unknown(site, spec):
        yield problem
        return
    kind = spec.partition(":")[0]
    keys = (entry.key for entry in entries_of(site, spec) if _may_be_outside(kind, entry, inside))
    yield from (f"{spec}: {key}" for key in islice(keys, _EXAMPLES))


def _may_be_outside(kind: str, entry: Entry, inside: Inside) -> bool:
    key = entry.key
    if kind in ANSWERS_ALL or is_cut(entry):
        return True
    if kind in PATTERNS:
        return entry.is_negated or not inside.has(_domain_of_pattern(key))
    return not inside.has(key.rpartition("@")[2]) if "@" in key else not inside.has_all_of_bare_keys


def _domain_of_pattern(pattern: str) -> str:
    r"""Return the domain of all addresses that `/...@example\.org$/` matches; "" where that is not plain to see."""
    text, slash, flags = pattern.rpartition("/")
    if not slash or flags not in ("", "i") or not text.startswith("/") or _HARD_TO_READ.search(text):
        return ""
    found = _ENDS_IN_DOMAIN.search(text)
    return found[1].replace("\\.", ".") if found else ""
