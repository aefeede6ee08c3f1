"""The fast path: a cleanup service in which the tag chooses the transport, and the smtpd services that use it."""

from __future__ import annotations

from typing import Final

from deliverypools.core.fast_path import CLEANUP, MACRO_NAME, MACRO_VALUE
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.fast_doors import has_macro, macro_in, why_not_fast, why_unnamed
from deliverypools.core.postfix_check.syntax import split_list
from deliverypools.core.postfix_install.draft import Draft, joined
from deliverypools.core.postfix_install.service_line import ServiceLine

_MACROS: Final = "milter_macro_defaults"
_CLEANUP_NAME: Final = "cleanup_service_name"
_CHECKS: Final = "milter_header_checks"
_REASON: Final = "The fast path: mail with recipients outside only may skip the hop."


def with_fast_path(line: ServiceLine, macros: str) -> ServiceLine:
    """Return an smtpd service that has the fast path.

    `macros` is what main.cf says of milter_macro_defaults: an option of the service replaces it.
    """
    own = line.options.get(_MACROS, macros)
    if macro_in(own) != MACRO_VALUE:
        own = joined(_without_macro(own), f"{MACRO_NAME}={MACRO_VALUE}")
    return line.with_options({_CLEANUP_NAME: CLEANUP, _MACROS: own})


def without_fast_path(line: ServiceLine) -> ServiceLine:
    """Return a service without both options of the fast path; what else its macros say stays."""
    if line.options.get(_CLEANUP_NAME) != CLEANUP:
        return line
    macros = _without_macro(line.options.get(_MACROS, ""))
    rest = line.without(_CLEANUP_NAME, _MACROS)
    return rest.with_options({_MACROS: macros}) if macros else rest


def _without_macro(macros: str) -> str:
    """Return a value of milter_macro_defaults without ours, as it is written if that is not in it."""
    others = [one for one in split_list(macros) if not has_macro(one)]
    return ", ".join(others) if has_macro(macros) else macros


def set_fast_path(draft: Draft) -> None:
    """Give the fast path to all smtpd services that can have it; what has none is named."""
    if draft.settings.fast_path != "auto":
        return
    if why := why_unnamed(draft.site):
        draft.note(f"no fast path: {why}. All mail takes the hop.")
        return
    suited: list[Service] = []
    for door in draft.doors():
        if why := why_not_fast(draft.site, door):
            draft.note(f"{door.label}: no fast path: {why}. Its mail takes the hop.")
        else:
            suited.append(door)
    for door in suited:
        draft.add(with_fast_path(draft.line_of(door), draft.raw(_MACROS)), _REASON)
    if suited:
        draft.add(_cleanup(draft), _REASON)


def _cleanup(draft: Draft) -> ServiceLine:
    """Return the site's cleanup service under the other name, with the rules for the tag in front of its own."""
    template = draft.template(CLEANUP)
    own = draft.lines.get(("cleanup", "unix"))
    if own is None:
        return template
    site_checks = own.options.get(_CHECKS, draft.raw(_CHECKS))
    ours = {**template.options, _CHECKS: joined(template.options[_CHECKS], site_checks)}
    return own.named(CLEANUP, "unix").with_options(ours)
