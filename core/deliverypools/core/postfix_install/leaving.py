"""The first phase of uninstalling: mail is routed as it was before, and what is queued can still leave by its pool.

A queue file that names a pool transport keeps that name; and what took the hop has our headers, which must not appear
on the wire by whatever transport it leaves now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from deliverypools.core.postfix_check.syntax import split_list
from deliverypools.core.postfix_install.plan import ServiceKey, Written
from deliverypools.core.postfix_install.service_line import ServiceLine, parse_service
from deliverypools.core.postfix_install.written import Changes

STRIP_HEADERS: Final = "regexp:$config_directory/delivery-pools/strip_headers"
STRIP_BODY: Final = "regexp:$config_directory/delivery-pools/strip_body"
_CLEANUP: Final = "cleanup-pickup"

_ON_THE_WIRE: Final = {
    "smtp_header_checks": STRIP_HEADERS,
    # Notices return our headers inside: message/rfc822, or lines of a text/rfc822-headers part.
    "smtp_nested_header_checks": STRIP_HEADERS,
    "smtp_body_checks": STRIP_BODY,
}
_WHEN_REQUEUED: Final = {
    "header_checks": STRIP_HEADERS,
    "nested_header_checks": STRIP_HEADERS,
    "body_checks": STRIP_BODY,
}
_NEXTHOP: Final = "default_filter_nexthop"
"""Of queued mail whose FILTER names a pool and no next-hop: its smarthost."""
_QUEUE_IDS: Final = "enable_long_queue_ids"
"""While it is off, `postfix reload` and `postfix check` give long-named queue files other names.

Not while ours are among them; nor before: of what is being delivered then, nobody would be told that it failed.
"""
_NOTICES: Final = "internal_mail_filter_classes"
"""Not a parameter of the transport `internal`, though it begins like one."""
_SRS_MAPS: Final = "recipient_canonical_maps"
_SRS: Final = (_SRS_MAPS, "mydestination")
"""What leads mail to rewritten senders back, and what makes their domain one of ours."""
_SWITCHES_CHECKS_OFF: Final = "no_header_body_checks"


def entering(original: Written) -> Changes:
    """Return what the original needs before any mail gets our headers: no SMTP client that shows them may be left."""
    return Changes(stripping(original) | {_QUEUE_IDS: "yes"}, _clients_that_strip(original))


def stripping(written: Written) -> dict[str, str | None]:
    """Return what makes every SMTP client without options of its own take our headers off."""
    return _in_front_of(written.parameters, _ON_THE_WIRE)


def leaving(original: Written, ours: Written) -> Changes:
    """Return what the original needs until no mail of ours is queued."""
    added = {key: line for key, line in ours.services.items() if key not in original.services}
    return Changes(
        _kept_parameters(original, ours, added) | stripping(original),
        added | _clients_that_strip(original) | _pickup(original),
    )


def rewrites_senders(original: Written, ours: Written) -> bool:
    """Tell whether bounces to rewritten senders (SRS) are led back by ours, and not by the original."""
    return _differs(_SRS_MAPS, original, ours)


def _kept_parameters(original: Written, ours: Written, added: Mapping[ServiceKey, str]) -> dict[str, str | None]:
    """Return what our transports need, and what leads bounces to rewritten senders back: such mail is still out."""
    srs = _SRS if rewrites_senders(original, ours) else ()
    prefixes = ("delivery_pools_", *(f"{name}_" for name, kind in added if kind == "unix"))
    return {
        name: value
        for name, value in ours.parameters.items()
        if name == _QUEUE_IDS
        or (name in srs and _differs(name, original, ours))
        or (name not in original.parameters and name != _NOTICES and (name.startswith(prefixes) or name == _NEXTHOP))
    }


def _differs(name: str, original: Written, ours: Written) -> bool:
    return name in ours.parameters and ours.parameters[name] != original.parameters.get(name)


def _in_front_of(site: Mapping[str, str], tables: Mapping[str, str]) -> dict[str, str | None]:
    """Return parameters with our table first: the first that matches wins."""
    return {name: _joined(table, site.get(name, "")) for name, table in tables.items()}


def _clients_that_strip(original: Written) -> dict[ServiceKey, str]:
    """Return the SMTP clients whose own options would pass by what main.cf says."""
    changed = {}
    for key, line in original.services.items():
        service = parse_service(line)
        options = service.options
        own = {name: _joined(table, options[name]) for name, table in _ON_THE_WIRE.items() if name in options}
        if service.command == "smtp" and own:
            changed[key] = service.with_options(own).render()
    return changed


def _pickup(original: Written) -> dict[ServiceKey, str]:
    """Let requeued mail lose our headers as pickup(8) takes it; the site's own checks go on behind ours."""
    changed: dict[ServiceKey, str] = {}
    for line in original.services.values():
        pickup = parse_service(line)
        cleanup = _cleanup_of(pickup, original) if pickup.command == "pickup" else None
        if cleanup is not None:
            overrides = split_list(_value("receive_override_options", pickup, original))
            others = ",".join(word for word in overrides if word != _SWITCHES_CHECKS_OFF)
            is_off = _SWITCHES_CHECKS_OFF in overrides
            site = {} if is_off else {name: _value(name, cleanup, original) for name in _WHEN_REQUEUED}
            # Without a value of its own, what is nested is checked as the header is (postconf(5)).
            if not is_off and not _is_set("nested_header_checks", cleanup, original):
                site["nested_header_checks"] = site["header_checks"]
            checks = {name: _joined(table, site.get(name, "")) for name, table in _WHEN_REQUEUED.items()}
            taken = {"cleanup_service_name": _CLEANUP} | ({"receive_override_options": others} if is_off else {})
            changed[pickup.key] = pickup.with_options(taken).render()
            changed[_CLEANUP, cleanup.key[1]] = cleanup.named(_CLEANUP).with_options(checks).render()
    return changed


def _cleanup_of(service: ServiceLine, original: Written) -> ServiceLine | None:
    name = _value("cleanup_service_name", service, original) or "cleanup"
    line = original.services.get((name, "unix"))
    return parse_service(line) if line else None


def _value(parameter: str, service: ServiceLine, original: Written) -> str:
    return service.options.get(parameter, original.parameters.get(parameter, ""))


def _is_set(parameter: str, service: ServiceLine, original: Written) -> bool:
    return parameter in service.options or parameter in original.parameters


def _joined(table: str, site: str) -> str:
    return f"{table}, {site}" if site else table
