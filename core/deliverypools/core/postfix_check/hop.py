"""The two halves of the hop let every message through unchanged, once, and to nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import LOOPBACK_HOSTS, Service
from deliverypools.core.postfix_check.site import HIGH_RISK, HOP_CLIENT, Site
from deliverypools.core.postfix_check.syntax import route_of

_OVERRIDES: Final = ("no_unknown_recipient_checks", "no_header_body_checks", "no_address_mappings")
_LISTENER_REFUSES: Final[Mapping[str, str]] = {
    "smtpd_sender_restrictions": "",
    "smtpd_helo_restrictions": "",
    "smtpd_data_restrictions": "",
    "smtpd_end_of_data_restrictions": "",
    "smtpd_reject_unlisted_sender": "no",
    "smtpd_reject_unlisted_recipient": "no",
    "strict_rfc821_envelopes": "no",
    "smtpd_helo_required": "no",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_client_message_rate_limit": "0",
    "smtpd_client_recipient_rate_limit": "0",
    "message_size_limit": "0",
}
_LISTENER_CHANGES: Final[Mapping[str, str]] = {
    "smtpd_proxy_filter": "",
    "smtpd_command_filter": "",
    "smtpd_discard_ehlo_keywords": "",
    "smtpd_discard_ehlo_keyword_address_maps": "",
    "smtpd_sasl_auth_enable": "no",
    "smtpd_tls_wrappermode": "no",
    "smtpd_error_sleep_time": "0",
}
_LISTENER_BOUNDS: Final = ("smtpd_soft_error_limit", "smtpd_hard_error_limit", "smtpd_junk_command_limit")
_ENOUGH: Final = 1000
"""Replies of 451 on one connection, while many messages wait for DNS or a scanner."""
_CLIENT_LOSES: Final[Mapping[str, str]] = {
    "smtp_fallback_relay": "",
    "smtp_bind_address": "127.0.0.1",
    "smtp_bind_address_enforce": "yes",
    "smtp_tls_wrappermode": "no",
    "smtp_tls_policy_maps": "",
    "smtp_sasl_auth_enable": "no",
    "smtp_delivery_status_filter": "",
    "smtp_reply_filter": "",
}
_CLIENT_CHANGES: Final[Mapping[str, str]] = {
    "smtp_generic_maps": "",
    "smtp_header_checks": "",
    "smtp_mime_header_checks": "",
    "smtp_nested_header_checks": "",
    "smtp_body_checks": "",
    "smtp_line_length_limit": "0",
    "disable_mime_output_conversion": "yes",
    "smtp_discard_ehlo_keywords": "",
    "smtp_discard_ehlo_keyword_address_maps": "",
}
_ZEROS: Final = ("0", "0s")


@check(
    Severity.ERROR,
    can_happen="All mail to other hosts waits: there is nobody who decides it.",
    remedy="Add the services egress and 127.0.0.1:10027 of postfix-examples/hop/master.cf.",
)
def hop_missing(site: Site) -> Iterator[str]:
    """Both halves of the hop are in master.cf."""
    if not site.is_hop:
        return
    if site.hop_client is None:
        yield f"{HOP_CLIENT}: {site.postfix.why_missing(HOP_CLIENT) or 'it does not run smtp'}"
    if not site.listeners:
        yield "there is no smtpd at the next-hop of default_transport"


@check(
    Severity.ERROR,
    can_happen="Other hosts reach the listener. What they send is undecided and leaves late by high-risk, but it"
    " leaves.",
    remedy="Name the service 127.0.0.1:10027, with -o mynetworks=127.0.0.1/32 and"
    " -o smtpd_client_restrictions=permit_mynetworks,reject.",
)
def listener_open_to_others(site: Site) -> Iterator[str]:
    """The listener is there for this machine only."""
    for service in site.listeners:
        if service.name.rpartition(":")[0] not in LOOPBACK_HOSTS:
            yield f"{service.label}: not bound to a loopback address"
        for parameter in ("smtpd_client_restrictions", "smtpd_relay_restrictions"):
            words = site.postfix.words(parameter, service)
            if words != ("permit_mynetworks", "reject"):
                yield f"{service.label}: {parameter} = {' '.join(words) or '(empty)'}"
        networks = site.postfix.words("mynetworks", service)
        if not networks or any(not one.startswith(("127.", "[::1]", "::1")) for one in networks):
            yield f"{service.label}: mynetworks = {' '.join(networks) or '(empty)'}"


@check(
    Severity.ERROR,
    can_happen="A message without a tag takes the hop again, some fifty times, and bounces; or leaves by the pool"
    " or the"
    " transport that is named there.",
    remedy="-o content_filter=pool-high-risk: on the listener (a route of its own: with its next-hop).",
)
def listener_without_fail_safe(site: Site) -> Iterator[str]:
    """What leaves the listener without a tag leaves by the high-risk pool."""
    for service in site.listeners:
        value = site.postfix.value("content_filter", service)
        if ":" not in value or site.pool_of(route_of(value).transport) != HIGH_RISK:
            yield f"{service.label}: content_filter = {value or '(empty)'}"


@check(
    Severity.ERROR,
    can_happen="Aliases, always_bcc and header checks are applied a second time: copies are duplicated, REDIRECT loops,"
    " HOLD holds again.",
    remedy="-o receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_address_mappings on the"
    " listener.",
)
def listener_applies_site_settings_again(site: Site) -> Iterator[str]:
    """The second pass changes nothing that the first has done."""
    for service in site.listeners:
        words = site.postfix.words("receive_override_options", service)
        missing = [word for word in _OVERRIDES if word not in words]
        if missing:
            yield f"{service.label}: receive_override_options lacks {', '.join(missing)}"


@check(
    Severity.ERROR,
    can_happen="The listener refuses mail that was accepted before: it waits, or bounces to its sender.",
    remedy="Take the options of 127.0.0.1:10027 from postfix-examples/hop/master.cf, message_size_limit=0 on"
    " cleanup-egress"
    " too.",
)
def listener_refuses_mail(site: Site) -> Iterator[str]:
    """What was accepted once is not judged, limited or measured again."""
    for service in site.listeners:
        yield from _different(site, service, _LISTENER_REFUSES)
        words = site.postfix.words("smtpd_recipient_restrictions", service)
        if words and words[0] not in ("permit_mynetworks", "permit"):
            yield f"{service.label}: smtpd_recipient_restrictions = {' '.join(words)}"
        cleanup = site.postfix.cleanup_of(service)
        if cleanup is None:
            yield f"{service.label}: cleanup_service_name names no service of master.cf"
        else:
            yield from _different(site, cleanup, {"message_size_limit": "0"})


@check(
    Severity.WARNING,
    can_happen="Mail loses SMTP extensions (DSN, 8BITMIME, SMTPUTF8) on its way through the hop, is delayed, or our"
    " milter"
    " is passed by.",
    remedy="Take the options of 127.0.0.1:10027 from postfix-examples/hop/master.cf.",
)
def listener_changes_mail(site: Site) -> Iterator[str]:
    """No filter, proxy, login or shortened greeting stands between the two halves of the hop."""
    for service in site.listeners:
        yield from _different(site, service, _LISTENER_CHANGES)
        for parameter in _LISTENER_BOUNDS:
            value = site.postfix.value(parameter, service)
            if not value.isdigit() or int(value[:9]) < _ENOUGH:
                yield f"{service.label}: {parameter} = {value}; {_ENOUGH} or more is expected"


@check(
    Severity.ERROR,
    can_happen="Undecided mail is taken away by a fallback relay, or bounces at the first 451; or no mail reaches the"
    " listener.",
    remedy="Take the options of egress from postfix-examples/hop/master.cf.",
)
def hop_client_loses_mail(site: Site) -> Iterator[str]:
    """The hop's client reaches the listener, takes its word as it is, and goes nowhere else."""
    if client := site.hop_client:
        yield from _different(site, client, _CLIENT_LOSES)
        level = site.postfix.value("smtp_tls_security_level", client)
        if level not in ("none", "may", ""):
            yield f"{client.label}: smtp_tls_security_level = {level}"
        port = site.postfix.value("smtp_tcp_port", client)
        if site.listeners and port not in {one.name.rpartition(":")[2] for one in site.listeners}:
            yield f"{client.label}: smtp_tcp_port = {port}: transport_maps entries without a transport reach that port"


@check(
    Severity.ERROR,
    can_happen="The ticket, or the sender, is changed before the second pass: mail is undecided and leaves late by"
    " high-risk; signatures break.",
    remedy="Take the options of egress from postfix-examples/hop/master.cf.",
)
def hop_client_changes_mail(site: Site) -> Iterator[str]:
    """The site's rewriting of outbound mail is done by the pool transports, not by the hop's client."""
    if client := site.hop_client:
        yield from _different(site, client, _CLIENT_CHANGES)


@check(
    Severity.WARNING,
    can_happen="A few undecided messages make Postfix stop trying all others for a while.",
    remedy="egress_destination_concurrency_failed_cohort_limit = 0, egress_destination_rate_delay = 0s,"
    " egress_transport_rate_delay = 0s",
)
def hop_is_slowed_down(site: Site) -> Iterator[str]:
    """One destination carries all outbound mail, so nothing may pause it."""
    client = site.hop_client
    if client is None:
        return
    for ending in ("destination_concurrency_failed_cohort_limit", "destination_rate_delay", "transport_rate_delay"):
        parameter = f"{client.name}_{ending}"
        default = "1" if ending.endswith("cohort_limit") else "0s"
        value = site.postfix.value(parameter) or site.postfix.value(f"default_{ending}") or default
        if value not in _ZEROS:
            yield f"{parameter} = {value}"


@check(
    Severity.WARNING,
    can_happen="A message that has come a long way is refused by the hop, which adds one Received field itself.",
    remedy="-o hopcount_limit= on cleanup-egress: the site's hopcount_limit plus one.",
)
def hop_counts_against_mail(site: Site) -> Iterator[str]:
    """The hop itself does not count."""
    limit = site.postfix.value("hopcount_limit")
    for service in site.listeners:
        cleanup = site.postfix.cleanup_of(service)
        own = site.postfix.value("hopcount_limit", cleanup)
        if cleanup and limit.isdigit() and own.isdigit() and int(own) <= int(limit):
            yield f"{cleanup.label}: hopcount_limit = {own}, and {limit} in main.cf"


def _different(site: Site, service: Service, wanted: Mapping[str, str]) -> Iterator[str]:
    for parameter, right in wanted.items():
        value = site.postfix.value(parameter, service)
        is_right = value in _ZEROS if right == "0" else value == right
        if not is_right:
            yield f"{service.label}: {parameter} = {value or '(empty)'}; {right or '(empty)'} is expected"


HOP_CHECKS: Final[tuple[Check, ...]] = (
    hop_missing,
    listener_open_to_others,
    listener_without_fail_safe,
    listener_applies_site_settings_again,
    listener_refuses_mail,
    listener_changes_mail,
    hop_client_loses_mail,
    hop_client_changes_mail,
    hop_is_slowed_down,
    hop_counts_against_mail,
)
