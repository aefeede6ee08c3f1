"""The server around the pools: who comes in, who is ours, how long mail may wait."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from deliverypools.core.addresses import normalise_domain
from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service, Table
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import file_specs, is_table, seconds, table_specs
from deliverypools.core.settings.values import IpNetwork

_OLDEST_POSTFIX: Final = (3, 7)
_PERMITS: Final = ("permit", "permit_mynetworks", "permit_sasl_authenticated", "permit_auth_destination")
DOMAIN_PARAMETERS: Final = ("mydestination", "virtual_mailbox_domains", "virtual_alias_domains")
_IPV6: Final = 6
_MAPPED_BITS: Final = 96
"""Before the IPv4 address in an IPv4-mapped one (RFC 4291 section 2.5.5.2)."""
_LOCAL_NAMES: Final = ("localhost", "localdomain")


@check(
    Severity.ERROR,
    can_happen="Parameters that the pools depend on are not understood, and ignored.",
    remedy="Postfix 3.7 or newer.",
)
def postfix_too_old(site: Site) -> Iterator[str]:
    """Postfix is 3.7 or newer."""
    found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", site.postfix.value("mail_version"))
    if found is None or (int(found[1]), int(found[2])) < _OLDEST_POSTFIX:
        yield f"mail_version = {site.postfix.value('mail_version') or '(unknown)'}"


@check(
    Severity.WARNING,
    can_happen="A line that has no effect, or two of which one wins: the configuration is not what somebody meant.",
    remedy="Correct or delete the line that postconf(1) names.",
)
def postconf_complains(site: Site) -> Iterator[str]:
    """postconf(1) has nothing to complain of: no parameter is unused, mistyped or set twice."""
    yield from site.postfix.warnings


@check(
    Severity.WARNING,
    can_happen="Postfix uses a short queue id again within seconds: counters, `explain` and `audit` take one"
    " message for"
    " another.",
    remedy="enable_long_queue_ids = yes",
)
def queue_ids_are_reused(site: Site) -> Iterator[str]:
    """Queue ids are long."""
    if not site.postfix.is_on("enable_long_queue_ids"):
        yield "enable_long_queue_ids = no"


@check(
    Severity.ERROR,
    can_happen="Postfix returns a message to its sender before milter.undecided_after lets it leave by high-risk.",
    remedy="milter.undecided_after below maximal_queue_lifetime and bounce_queue_lifetime.",
)
def queue_lifetime_too_short(site: Site) -> Iterator[str]:
    """Undecided mail leaves before it is too old for the queue."""
    for parameter in ("maximal_queue_lifetime", "bounce_queue_lifetime"):
        lifetime = seconds(site.postfix.value(parameter), "d")
        if lifetime is not None and lifetime <= site.settings.milter.undecided_after:
            yield (
                f"{parameter} = {site.postfix.value(parameter)}; undecided_after is"
                f" {site.settings.milter.undecided_after:g} seconds"
            )


@check(
    Severity.WARNING,
    can_happen="A message that is requeued late has an expired ticket: it is undecided, and leaves by high-risk.",
    remedy="milter.ticket_lifetime longer than maximal_queue_lifetime.",
)
def ticket_expires_in_the_queue(site: Site) -> Iterator[str]:
    """A ticket lives longer than the queue keeps a message."""
    lifetime = seconds(site.postfix.value("maximal_queue_lifetime"), "d")
    if site.is_hop and lifetime is not None and site.settings.milter.ticket_lifetime <= lifetime:
        yield (
            f"maximal_queue_lifetime = {site.postfix.value('maximal_queue_lifetime')}; ticket_lifetime is"
            f" {site.settings.milter.ticket_lifetime:g} seconds"
        )


@check(
    Severity.WARNING,
    can_happen="Users of a domain that Postfix delivers here are taken for strangers: their mail leaves by the"
    " relay pool,"
    " and is not counted as theirs.",
    remedy="Add the domain to accepted_domains, or take it out of Postfix's list.",
)
def domain_not_accepted(site: Site) -> Iterator[str]:
    """The domains that are delivered on this machine are accepted domains."""
    values = (found for name in DOMAIN_PARAMETERS for found in site.postfix.wherever_set(name, "trivial-rewrite"))
    for label, value in values:
        keys = [entry.key for _, entry in site.postfix.entries(value)]
        for name in [*site.postfix.listed(value), *keys]:
            if _is_domain(name) and not _is_name_of_this_machine(site, name):
                domain = normalise_domain(name)
                if domain != site.settings.forwarding.srs_domain and not site.settings.is_accepted_domain(domain):
                    yield f"{label}: {name}"


def _is_domain(word: str) -> bool:
    return "." in word and not any(character in word for character in ":/@$!")


def _is_name_of_this_machine(site: Site, name: str) -> bool:
    """Tell whether a domain is a host name that nobody writes in an address."""
    host, domain = (normalise_domain(site.postfix.value(parameter)) for parameter in ("myhostname", "mydomain"))
    return normalise_domain(name) == host != domain or name.lower().partition(".")[0] in _LOCAL_NAMES


@check(
    Severity.WARNING,
    can_happen="A client that Postfix trusts is a stranger to the pools, or the other way round: its mail is"
    " counted for"
    " the wrong account or for none.",
    remedy="Make trusted_networks of the settings and mynetworks the same.",
)
def trusted_networks_differ(site: Site) -> Iterator[str]:
    """trusted_networks are Postfix's mynetworks. Tables and exceptions in mynetworks are not compared."""
    value = site.postfix.value("mynetworks")
    words = tuple(site.postfix.listed(value))
    is_unread = any(site.postfix.tables.get(spec, Table()).problem for spec in file_specs(value))
    if is_unread or any(is_table(word) or word.startswith(("!", "/")) for word in words):
        return
    theirs = {network for word in words if (network := _network(word)) is not None}
    ours = set(site.settings.trusted_networks)
    for network in sorted(theirs - ours, key=str):
        if not any(network.version == one.version and network.subnet_of(one) for one in ours):  # type: ignore[arg-type]
            yield f"mynetworks has {network}, trusted_networks has not"
    for network in sorted(ours - theirs, key=str):
        if not any(network.version == one.version and network.subnet_of(one) for one in theirs):  # type: ignore[arg-type]
            yield f"trusted_networks has {network}, mynetworks has not"


def _network(word: str) -> IpNetwork | None:
    try:
        network = ipaddress.ip_network(word.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None
    # Debian's own main.cf has [::ffff:127.0.0.0]/104: IPv4, written as IPv6.
    mapped = network.network_address.ipv4_mapped if network.version == _IPV6 else None
    if mapped is not None and network.prefixlen >= _MAPPED_BITS:
        return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


@check(
    Severity.ERROR,
    can_happen="Bounces to rewritten senders (SRS) are refused, as mail to unknown users is: the original senders never"
    " learn of them.",
    remedy="Add the socketmap to recipient_canonical_maps as in postfix-examples/hop/main.cf, and envelope_recipient to"
    " recipient_canonical_classes.",
)
def rewritten_senders_lead_nowhere(site: Site) -> Iterator[str]:
    """Where senders are rewritten, Postfix asks for the way back."""
    if site.settings.forwarding.srs_domain is None:
        return
    if not asks_for_srs(site):
        yield f"recipient_canonical_maps does not name {site.settings.socketmap.socket}"
    elif "envelope_recipient" not in site.postfix.words("recipient_canonical_classes"):
        yield "recipient_canonical_classes lacks envelope_recipient"


@check(
    Severity.WARNING,
    can_happen="While the policy service is down, all mail is refused for now, local mail too.",
    remedy="recipient_canonical_maps = pipemap:{regexp:.../srs_addresses, socketmap:...}: SRS addresses only are"
    " asked for.",
)
def every_recipient_is_asked_for(site: Site) -> Iterator[str]:
    """The socketmap is asked for SRS addresses, not for every recipient."""
    for word in site.postfix.words("recipient_canonical_maps"):
        spec = word.removeprefix("proxy:")
        if site.is_our_socketmap(spec):
            yield f"recipient_canonical_maps: {word}"


@check(
    Severity.WARNING,
    can_happen="user@srs, without the rest of the domain, becomes an SRS address too.",
    remedy="append_dot_mydomain = no",
)
def short_domains_are_completed(site: Site) -> Iterator[str]:
    """Domains without a dot stay as they are."""
    if site.settings.forwarding.srs_domain is not None and site.postfix.is_on("append_dot_mydomain"):
        yield "append_dot_mydomain = yes"


def asks_for_srs(site: Site) -> bool:
    """Tell whether Postfix asks our socketmap for the way back of rewritten senders."""
    return any(map(site.is_our_socketmap, table_specs(site.postfix.value("recipient_canonical_maps"))))


@check(
    Severity.WARNING,
    can_happen="Restricted accounts are refused only at the end of the message, and recipients of one message may be"
    " counted late.",
    remedy="smtpd_sender_restrictions = check_policy_service $delivery_pools_policy, <the site's own>",
)
def policy_not_asked_about_senders(site: Site) -> Iterator[str]:
    """smtpd_sender_restrictions ask our policy service, before anything that permits."""
    return _policy_not_asked(site, "smtpd_sender_restrictions")


@check(
    Severity.WARNING,
    can_happen="Limits hold only roughly: recipients are counted when the milter sees the message, not reserved"
    " before.",
    remedy="smtpd_end_of_data_restrictions = <the site's own>, check_policy_service $delivery_pools_policy",
)
def policy_not_asked_at_the_end(site: Site) -> Iterator[str]:
    """smtpd_end_of_data_restrictions ask our policy service."""
    return _policy_not_asked(site, "smtpd_end_of_data_restrictions")


def _policy_not_asked(site: Site, parameter: str) -> Iterator[str]:
    for door in _counted(site):
        asked = site.our_policy_service(parameter, door)
        words = site.postfix.words(parameter, door)
        if asked is None:
            yield f"{door.label}: {parameter} = {' '.join(words) or '(empty)'}"
        elif passed := [word for word in words[: asked[0]] if word in _PERMITS]:
            yield f"{door.label}: {parameter}: {passed[0]} comes before our policy service"


@check(
    Severity.WARNING,
    can_happen="While the policy service is down, all mail is refused for now (451).",
    remedy="Name it as { unix:delivery-pools/policy.sock, default_action=DUNNO, timeout=10s, try_limit=1 }.",
)
def policy_stops_mail(site: Site) -> Iterator[str]:
    """Without the policy service mail goes on: the milter counts it."""
    for door in _counted(site):
        for parameter in ("smtpd_sender_restrictions", "smtpd_end_of_data_restrictions"):
            if asked := site.our_policy_service(parameter, door):
                default = site.postfix.value("smtpd_policy_service_default_action", door)
                action = asked[1].options.get("default_action") or default
                if action.upper() != "DUNNO":
                    yield f"{door.label}: {parameter}: default_action = {action}"


def _counted(site: Site) -> Iterator[Service]:
    """Yield the services by which clients send, so that recipients are counted there."""
    return (door for door in site.doors if not site.is_return_of_a_filter(door))


@check(
    Severity.WARNING,
    can_happen="Behind a content filter all mail comes from this machine: the policy service counts it for a trusted"
    " client, or refuses it.",
    remedy="-o smtpd_sender_restrictions= -o smtpd_end_of_data_restrictions= on the listener behind the filter.",
)
def filtered_mail_is_counted_again(site: Site) -> Iterator[str]:
    """Mail that comes back from a content filter is not counted a second time."""
    for door in site.doors:
        if not site.is_return_of_a_filter(door):
            continue
        for parameter in ("smtpd_sender_restrictions", "smtpd_end_of_data_restrictions"):
            if site.our_policy_service(parameter, door):
                yield f"{door.label}: {parameter} = {site.postfix.value(parameter, door)}"


@check(
    Severity.WARNING,
    can_happen="The milter takes filtered mail for mail of a trusted client: mail from outside counts as ours.",
    remedy="-o milter_macro_daemon_name=REINJECT on the listener behind the content filter.",
)
def filtered_mail_is_taken_for_new(site: Site) -> Iterator[str]:
    """The listener behind a content filter is called REINJECT."""
    for door in site.doors:
        name = site.postfix.value("milter_macro_daemon_name", door)
        if site.is_return_of_a_filter(door) and name != "REINJECT":
            yield f"{door.label}: milter_macro_daemon_name = {name}"


@check(
    Severity.ERROR,
    can_happen="Every client seems to be the proxy, on this machine: mail from outside counts as mail of a trusted"
    " client.",
    remedy="Use content_filter or a milter in place of the proxy; or let it pass XCLIENT, and list it in"
    " smtpd_authorized_xclient_hosts of its return listener.",
)
def proxy_hides_the_client(site: Site) -> Iterator[str]:
    """No before-queue filter hides the client from our milter."""
    xclient = any(site.postfix.value("smtpd_authorized_xclient_hosts", one) for one in site.doors)
    for door in site.doors:
        if (value := site.postfix.value("smtpd_proxy_filter", door)) and not xclient:
            yield f"{door.label}: smtpd_proxy_filter = {value}"


SERVER_CHECKS: Final[tuple[Check, ...]] = (
    postfix_too_old,
    postconf_complains,
    queue_ids_are_reused,
    queue_lifetime_too_short,
    ticket_expires_in_the_queue,
    domain_not_accepted,
    trusted_networks_differ,
    rewritten_senders_lead_nowhere,
    every_recipient_is_asked_for,
    short_domains_are_completed,
    policy_not_asked_about_senders,
    policy_not_asked_at_the_end,
    policy_stops_mail,
    filtered_mail_is_counted_again,
    filtered_mail_is_taken_for_new,
    proxy_hides_the_client,
)
