"""The smtpd services that have the fast path, and whether both halves of it are where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.fast_path import CLEANUP, MACRO_NAME, can_be_a_macro, same_directory
from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import action_of, split_list, without_braces
from deliverypools.core.postfix_check.tags import tag

_USUAL: Final = "cleanup"
_OWN: Final = frozenset({"milter_header_checks", "syslog_name"})
"""Options of the site's cleanup service that cleanup-fast need not have, or has with ours in front."""
_MACROS: Final = "milter_macro_defaults"
_NAME: Final = "cleanup_service_name"
_DIRECTORY: Final = "config_directory"
_UNNAMED: Final = "white space, commas, braces and $ in its name: Postfix cannot tell it to a milter"


def is_wanted(site: Site) -> bool:
    """Tell whether mail may skip the hop, as far as the settings say."""
    return site.is_hop and site.settings.fast_path == "auto"


def macro_in(value: str) -> str | None:
    """Return our macro in a value of milter_macro_defaults, `name=value` or `{name} = value`; None if it is not there.

    Where it stands several times, it names all that it says.
    """
    pairs = (without_braces(element).partition("=") for element in split_list(value))
    said = dict.fromkeys(text.strip() for name, _, text in pairs if name.strip().strip("{}") == MACRO_NAME)
    return ", ".join(said) if said else None


def has_macro(value: str) -> bool:
    """Tell whether a value of milter_macro_defaults has our macro, whatever that says."""
    return macro_in(value) is not None


def why_unnamed(site: Site) -> str:
    """Return why the macro cannot name this configuration; "" if it can."""
    directory = site.postfix.value(_DIRECTORY)
    return "" if can_be_a_macro(directory) else f"{_DIRECTORY} = {directory}: {_UNNAMED}"


def says_macro(site: Site, door: Service) -> bool:
    """Tell whether a door says the macro, with the name of this configuration."""
    own = same_directory(site.postfix.value(_DIRECTORY))
    said = macro_in(site.postfix.value(_MACROS, door))
    return bool(own) and same_directory(said or "") == own and not why_unnamed(site)


def fast_doors(site: Site) -> tuple[Service, ...]:
    """Return the doors whose mail may skip the hop: what the milter goes by is the macro."""
    return tuple(one for one in site.doors if says_macro(site, one))


def fast_services(site: Site) -> tuple[Service, ...]:
    """Return the services whose parameters decide whether mail may skip the hop."""
    doors = fast_doors(site)
    cleanups = {one.name: one for door in doors if (one := site.postfix.cleanup_of(door))}
    return (*doors, *cleanups.values())


def fast_cleanup(site: Site) -> Service | None:
    """Return the cleanup service of the fast path, if an smtpd service hands its mail to it."""
    used = any(site.postfix.value(_NAME, one) == CLEANUP for one in site.doors)
    return site.postfix.cleanup_named(CLEANUP) if used else None


def why_not_fast(site: Site, door: Service) -> str:
    """Return why a door cannot have the fast path; "" if it can."""
    if site.is_return_of_a_filter(door):
        return "a content filter hands its mail back there"
    if (name := site.postfix.value(_NAME, door)) not in ("", _USUAL, CLEANUP):
        return f"it has a cleanup service of its own, {name}"
    for parameter in ("content_filter", "smtpd_proxy_filter"):
        if value := site.postfix.value(parameter, door):
            return f"{parameter} = {value}: its mail would pass that by"
    return ""


@check(
    Severity.ERROR,
    can_happen="smtpd answers all mail that comes in there with 451: it has nobody to hand it to.",
    remedy="Add the service to master.cf (postfix-examples/hop/master.cf), or correct cleanup_service_name.",
)
def cleanup_service_missing(site: Site) -> Iterator[str]:
    """The cleanup service of every smtpd service is in master.cf."""
    for door in site.postfix.running("smtpd", "qmqpd"):
        if site.postfix.cleanup_of(door) is None:
            yield f"{door.label}: cleanup_service_name = {site.postfix.value(_NAME, door)}"


@check(
    Severity.WARNING,
    can_happen="Mail that comes in there takes the hop, or is decided twice: as if there were no fast path. What the"
    " site's cleanup service does beyond the other one is not done to such mail.",
    remedy="Both options on the smtpd service, -o cleanup_service_name=cleanup-fast and -o"
    " milter_macro_defaults=delivery_pools_fast_path=$config_directory, or none; cleanup-fast with the rules for the"
    " tag, without content_filter, and with the options of the site's cleanup.",
)
def fast_path_half_set_up(site: Site) -> Iterator[str]:
    """A door of the fast path says the macro and has the cleanup service of it, which has the rules for the tag."""
    if not is_wanted(site):
        return
    for door in site.doors:
        macros, name = site.postfix.value(_MACROS, door), site.postfix.value(_NAME, door)
        if has_macro(macros) and name != CLEANUP:
            yield f"{door.label}: milter_macro_defaults has {MACRO_NAME}, but cleanup_service_name = {name}"
        if name == CLEANUP and not says_macro(site, door):
            yield f"{door.label}: cleanup_service_name = {CLEANUP}, but {_lacking(macros)}"
    if cleanup := fast_cleanup(site):
        yield from _faults_of_cleanup(site, cleanup)


def _lacking(macros: str) -> str:
    said = macro_in(macros)
    if said is None:
        return f"milter_macro_defaults lacks {MACRO_NAME}"
    return f"{MACRO_NAME} = {said} in milter_macro_defaults is not ${_DIRECTORY}"


def _faults_of_cleanup(site: Site, cleanup: Service) -> Iterator[str]:
    if value := cleanup.options.get("content_filter"):
        yield f"{cleanup.label}: content_filter = {value}"
    tables = site.postfix.value("milter_header_checks", cleanup)
    if not site.postfix.is_unknown(tables) and not all(
        action_of(site.postfix.answer(tables, tag(pool)))[0] == "FILTER" for pool in site.settings.pools
    ):
        yield f"{cleanup.label}: milter_header_checks = {tables or '(empty)'}: no rules for the tag"
    usual = site.postfix.cleanup_named(_USUAL)
    for name, value in usual.options.items() if usual else ():
        if name not in _OWN and site.postfix.value(name, cleanup) != value:
            yield f"{cleanup.label}: {name} = {site.postfix.value(name, cleanup)}; {_USUAL} has {value or '(empty)'}"


@check(
    Severity.WARNING,
    can_happen="The milter may take mail for what it is not: it decides at once what nobody has shown to have"
    " recipients outside only, or what has been decided already.",
    remedy="Take both options of the fast path away from there, and delivery_pools_fast_path out of main.cf: they are"
    " for smtpd services by which users and trusted clients send.",
)
def fast_path_in_the_wrong_place(site: Site) -> Iterator[str]:
    """Neither the hop's listener, nor the return of a content filter, nor pickup(8) or bounce(8) has a fast path."""
    if not is_wanted(site):
        return
    if has_macro(site.postfix.value(_MACROS)):
        yield f"main.cf: {_MACROS} has {MACRO_NAME}: every service says it"
    returns = [one for one in site.doors if site.is_return_of_a_filter(one)]
    for service in (*site.listeners, *returns, *site.postfix.running("cleanup")):
        if has_macro(service.options.get(_MACROS, "")):
            yield f"{service.label}: {_MACROS} has {MACRO_NAME}"
    for service in (*site.listeners, *returns, *site.postfix.running("pickup", "bounce", "qmqpd")):
        if site.postfix.value(_NAME, service) == CLEANUP:
            yield f"{service.label}: {_NAME} = {CLEANUP}"


FAST_DOOR_CHECKS: Final[tuple[Check, ...]] = (
    cleanup_service_missing,
    fast_path_half_set_up,
    fast_path_in_the_wrong_place,
)
