"""Our milter sees all mail, in the right part, and what happens while it is down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.sockets import out_of_reach
from deliverypools.core.postfix_check.syntax import Client, client_of, split_list

_OLDEST_PROTOCOL: Final = 6
_SAFE_ACTIONS: Final = ("tempfail", "shutdown")
_RESERVED: Final = ("EGRESS", "BOUNCE", "PICKUP")


@check(
    Severity.ERROR,
    can_happen="Mail that comes in there has no ticket (hop) or no tag (express): nothing is known about it, it is not"
    " counted, waits for milter.undecided_after, and leaves by the high-risk pool.",
    remedy="Add $delivery_pools_milter to smtpd_milters of that service, behind the site's own, and take no_milters out"
    " of its receive_override_options.",
)
def milter_missing(site: Site) -> Iterator[str]:
    """Every smtpd service that accepts mail asks our milter; so does the listener of the hop."""
    for service in site.postfix.running("smtpd"):
        if site.our_milter("smtpd_milters", service) is None:
            value = site.postfix.value("smtpd_milters", service)
            yield f"{service.label}: smtpd_milters = {value or '(empty)'}: {site.settings.milter.socket} is not in it"
        if "no_milters" in site.postfix.words("receive_override_options", service):
            yield f"{service.label}: receive_override_options has no_milters"


@check(
    Severity.ERROR,
    can_happen="Mail of sendmail(1), or Postfix's own notices, are decided without what the first pass knows: such mail"
    " waits, and leaves by the high-risk pool (hop), or was never counted (express).",
    remedy="Add $delivery_pools_milter to non_smtpd_milters, and to that of cleanup-bounce.",
)
def milter_missing_for_local_mail(site: Site) -> Iterator[str]:
    """The cleanup services behind pickup(8) and bounce(8) ask our milter."""
    for label, parameter, cleanup in _lists(site):
        if parameter == "non_smtpd_milters" and site.our_milter(parameter, cleanup) is None:
            yield f"{label}: non_smtpd_milters = {site.postfix.value(parameter, cleanup) or '(empty)'}"


@check(
    Severity.ERROR,
    can_happen="Non-delivery notices pass our milter by: they have no ticket, wait, and are not told from other mail.",
    remedy="internal_mail_filter_classes = bounce, notify",
)
def notices_not_shown_to_milter(site: Site) -> Iterator[str]:
    """Postfix shows milters the mail that bounce(8) makes only if it is told to."""
    for service in (*site.makers_of_notices, None):
        words = site.postfix.words("internal_mail_filter_classes", service)
        if "bounce" not in words:
            where = f"{service.label}: " if service else ""
            yield f"{where}internal_mail_filter_classes = {' '.join(words) or '(empty)'}: bounce is not in it"
            return


@check(
    Severity.WARNING,
    can_happen="Notices to the postmaster that leave this machine are undecided, wait, and leave late.",
    remedy="internal_mail_filter_classes = bounce, notify",
)
def postmaster_notices_not_shown_to_milter(site: Site) -> Iterator[str]:
    """Notices about protocol errors and policies are a class of their own."""
    words = site.postfix.words("internal_mail_filter_classes")
    if "notify" not in words:
        yield f"internal_mail_filter_classes = {' '.join(words) or '(empty)'}: notify is not in it"


@check(
    Severity.ERROR,
    can_happen="While the milter is down or slow, mail passes undecided (accept), is refused for good (reject), or is"
    " put on hold (quarantine).",
    remedy="Name the milter as { ..., default_action=tempfail }, wherever it is listed.",
)
def milter_does_not_tempfail(site: Site) -> Iterator[str]:
    """Mail waits while our milter is down, on every service."""
    for label, service, milter in _ours(site):
        action = milter.options.get("default_action") or site.postfix.value("milter_default_action", service)
        if action not in _SAFE_ACTIONS:
            yield f"{label}: default_action = {action}"


@check(
    Severity.WARNING,
    can_happen="Postfix hides from the milter what older versions of the protocol do not have; tags of other people may"
    " stay in the mail.",
    remedy="Name the milter as { ..., protocol=6 }.",
)
def milter_protocol_too_old(site: Site) -> Iterator[str]:
    """Our milter speaks version 6 of the protocol."""
    for label, service, milter in _ours(site):
        protocol = milter.options.get("protocol") or site.postfix.value("milter_protocol", service)
        if not protocol[:1].isdigit() or int(protocol[:1]) < _OLDEST_PROTOCOL:
            yield f"{label}: protocol = {protocol}"


@check(
    Severity.ERROR,
    can_happen='Postfix does not find the socket: "No such file or directory" in the log, and all mail waits.',
    remedy="In main.cf and master.cf, write the path relative to queue_directory (unix:delivery-pools/milter.sock):"
    " that is the same inside and outside the chroot. In the settings it stays absolute.",
)
def milter_socket_and_chroot(site: Site) -> Iterator[str]:
    """A socket with an absolute path is another file for a chrooted service."""
    for label, service, milter in _ours(site):
        if why := out_of_reach(site, service, milter.endpoint, site.settings.milter.socket):
            yield f"{label}: {milter.endpoint}: {why}"


@check(
    Severity.ERROR,
    can_happen="Mail of these clients has no ticket: it is undecided, and leaves late by the high-risk pool. On the"
    " listener of the hop, all mail is.",
    remedy="Name our milter in each line of the table; on the listener: -o smtpd_milter_maps=",
)
def milter_switched_off_for_clients(site: Site) -> Iterator[str]:
    """smtpd_milter_maps replaces smtpd_milters for the clients that it names."""
    for service in site.postfix.running("smtpd"):
        maps = site.postfix.value("smtpd_milter_maps", service)
        if service in site.listeners and maps:
            yield f"{service.label}: smtpd_milter_maps = {maps}"
            continue
        for named, milters in _lists_by_client(site, service):
            if not any(map(site.is_our_milter, milters)):
                yield named


@check(
    Severity.WARNING,
    can_happen="What a milter behind ours adds (a spam verdict, a signature, authentication results) is not seen"
    " when the"
    " message is decided. In the express profile a recipient that it adds is lost or bounces.",
    remedy="Put $delivery_pools_milter last.",
)
def milter_not_last(site: Site) -> Iterator[str]:
    """Our milter comes after the site's own."""
    for label, parameter, service in _lists(site):
        milters = site.postfix.clients(parameter, service)
        if any(map(site.is_our_milter, milters)) and not site.is_our_milter(milters[-1]):
            yield f"{label}: {parameter}: {milters[-1].endpoint} comes after ours"


@check(
    Severity.WARNING,
    can_happen="A signer signs forwarded mail that only pretends to be ours, since every client of the listener is this"
    " machine; a scanner refuses notices to our own users.",
    remedy="Only $delivery_pools_milter on the listener and on cleanup-bounce.",
)
def other_milters_in_the_hop(site: Site) -> Iterator[str]:
    """The listener of the hop and the cleanup service of bounce(8) ask our milter only."""
    bouncing = {cleanup.name: cleanup for one in site.makers_of_notices if (cleanup := site.postfix.cleanup_of(one))}
    own = [("non_smtpd_milters", one) for one in bouncing.values() if one.name != "cleanup"]
    for parameter, service in [*(("smtpd_milters", one) for one in site.listeners), *own]:
        for milter in site.postfix.clients(parameter, service):
            if not site.is_our_milter(milter):
                yield f"{service.label}: {parameter}: {milter.endpoint}"


@check(
    Severity.ERROR,
    can_happen="The milter takes mail for what it is not: a client's mail for that of the second pass, a notice for"
    " mail"
    " of a user. It is decided wrongly.",
    remedy="-o milter_macro_daemon_name=EGRESS on the listener, PICKUP on cleanup-pickup,"
    " BOUNCE on"
    " cleanup-bounce, as in postfix-examples; none of these names anywhere else.",
)
def daemon_name_wrong(site: Site) -> Iterator[str]:
    """By milter_macro_daemon_name the milter knows where mail came from; nothing in the mail can forge it."""
    for service in site.listeners:
        yield from _misnamed(site, service, "EGRESS")
    for service in site.doors:
        name = site.postfix.value("milter_macro_daemon_name", service)
        if name in _RESERVED:
            yield f"{service.label} takes mail of clients, but milter_macro_daemon_name = {name}"
    for name, service in _other_sources(site):
        cleanup = site.postfix.cleanup_of(service)
        if cleanup is None:
            yield f"{service.label}: cleanup_service_name names no service of master.cf"
        else:
            yield from _misnamed(site, cleanup, name)


def _misnamed(site: Site, service: Service, wanted: str) -> Iterator[str]:
    name = site.postfix.value("milter_macro_daemon_name", service)
    if name != wanted:
        yield f"{service.label}: milter_macro_daemon_name = {name}; {wanted} is expected"


@check(
    Severity.WARNING,
    can_happen='A DISCARD of "Undelivered Mail" in the site\'s checks loses the notices of our own users, which these'
    " checks have not seen before internal_mail_filter_classes was set.",
    remedy="-o header_checks= -o mime_header_checks= -o nested_header_checks= -o body_checks= on cleanup-bounce.",
)
def notices_meet_site_checks(site: Site) -> Iterator[str]:
    """The site's header and body checks do not look at Postfix's own notices."""
    seen = {cleanup.label: cleanup for one in site.makers_of_notices if (cleanup := site.postfix.cleanup_of(one))}
    for label, cleanup in seen.items():
        for parameter in ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks"):
            value = site.postfix.value(parameter, cleanup)
            # The default of the other two is $header_checks, also where a service has header_checks of its own.
            follows = parameter not in cleanup.options and value == site.postfix.value("header_checks")
            if value and not (parameter in ("mime_header_checks", "nested_header_checks") and follows):
                yield f"{label}: {parameter} = {value}"


def _other_sources(site: Site) -> Iterator[tuple[str, Service]]:
    """Yield who else makes queue files, with the name that the milter knows it by."""
    for service in site.postfix.running("pickup"):
        yield "PICKUP", service
    for service in site.makers_of_notices:
        yield "BOUNCE", service


def _lists(site: Site) -> Iterator[tuple[str, str, Service]]:
    for service in site.postfix.running("smtpd"):
        yield service.label, "smtpd_milters", service
    seen = set()
    for _, source in _other_sources(site):
        cleanup = site.postfix.cleanup_of(source)
        if cleanup is not None and cleanup.name not in seen:
            seen.add(cleanup.name)
            yield cleanup.label, "non_smtpd_milters", cleanup


def _ours(site: Site) -> Iterator[tuple[str, Service, Client]]:
    """Yield our milter, wherever it is listed."""
    for label, parameter, service in _lists(site):
        if milter := site.our_milter(parameter, service):
            yield f"{label}: {parameter}", service, milter
    for service in site.postfix.running("smtpd"):
        for named, milters in _lists_by_client(site, service):
            yield from ((named, service, milter) for milter in milters if site.is_our_milter(milter))


def _lists_by_client(site: Site, service: Service) -> Iterator[tuple[str, tuple[Client, ...]]]:
    """Yield the milters that smtpd_milter_maps lists for some clients of a service."""
    for spec, entry in site.postfix.entries(site.postfix.value("smtpd_milter_maps", service)):
        named = f"{service.label}: smtpd_milter_maps: {spec}: {entry.key} {entry.value}"
        yield named, tuple(map(client_of, split_list(entry.value)))


MILTER_CHECKS: Final[tuple[Check, ...]] = (
    milter_missing,
    milter_missing_for_local_mail,
    notices_not_shown_to_milter,
    postmaster_notices_not_shown_to_milter,
    milter_does_not_tempfail,
    milter_protocol_too_old,
    milter_socket_and_chroot,
    milter_switched_off_for_clients,
    milter_not_last,
    other_milters_in_the_hop,
    daemon_name_wrong,
    notices_meet_site_checks,
)
