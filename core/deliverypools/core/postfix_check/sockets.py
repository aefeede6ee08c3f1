"""The sockets of our daemons, as services inside Postfix's chroot see them and as those outside do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Severity, check
from deliverypools.core.postfix_check.configuration import Service
from deliverypools.core.postfix_check.routes import RESTRICTION_PARAMETERS, restriction_classes
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import table_specs

SRS_MAPS: Final = "recipient_canonical_maps"


def out_of_reach(site: Site, service: Service, endpoint: str, socket: str) -> str:
    """Return why a service does not find a socket of ours, in words; "" if it does.

    `endpoint` is how Postfix names it, `socket` how the settings do. An absolute path is another file in the chroot.
    """
    kind, _, path = endpoint.partition(":")
    if kind != "unix" or not path.startswith("/"):
        return ""
    is_whole_path = path == socket.partition(":")[2]
    is_chrooted = site.postfix.is_chrooted(service)
    if is_chrooted != is_whole_path:
        return ""
    how = "runs chrooted" if is_chrooted else "does not run chrooted"
    return f"the service {how} in {site.postfix.value('queue_directory')}"


@check(
    Severity.WARNING,
    can_happen="The policy service is never asked, as if it were down: restricted accounts are refused only at the end"
    " of the message, and limits hold only roughly.",
    remedy="Write the path relative to queue_directory: unix:delivery-pools/policy.sock."
    " In the settings it stays absolute.",
)
def policy_socket_and_chroot(site: Site) -> Iterator[str]:
    """The policy service's socket has no absolute path where smtpd(8) runs chrooted."""
    parameters = (*RESTRICTION_PARAMETERS, *restriction_classes(site))
    for service in site.postfix.running("smtpd"):
        for parameter in parameters:
            if asked := site.our_policy_service(parameter, service):
                endpoint = asked[1].endpoint
                if why := out_of_reach(site, service, endpoint, site.settings.policy.socket):
                    yield f"{service.label}: {parameter}: {endpoint}: {why}"


@check(
    Severity.ERROR,
    can_happen="Bounces to rewritten senders (SRS) are refused for now (451), again and again: the original senders"
    " never learn of them.",
    remedy="Write the path relative to queue_directory: socketmap:unix:delivery-pools/socketmap.sock:srs."
    " In the settings it stays absolute.",
)
def socketmap_socket_and_chroot(site: Site) -> Iterator[str]:
    """The socketmap's socket has no absolute path where smtpd(8), cleanup(8) or proxymap(8) runs chrooted."""
    for service in site.postfix.running("smtpd", "cleanup"):
        value = site.postfix.value(SRS_MAPS, service)
        for spec in filter(site.is_our_socketmap, table_specs(value)):
            endpoint = spec.removeprefix("socketmap:").rpartition(":")[0]
            for reader in site.postfix.running("proxymap") if f"proxy:{spec}" in value else (service,):
                if why := out_of_reach(site, reader, endpoint, site.settings.socketmap.socket):
                    yield f"{reader.label}: {SRS_MAPS}: {spec}: {why}"


SOCKET_CHECKS: Final[tuple[Check, ...]] = (policy_socket_and_chroot, socketmap_socket_and_chroot)
