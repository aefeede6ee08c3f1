"""All checks of a running machine, in the order in which they are reported."""

from __future__ import annotations

from typing import Final

from deliverypools.core.host_check.addresses import ADDRESS_CHECKS
from deliverypools.core.host_check.daemons import DAEMON_CHECKS
from deliverypools.core.host_check.facts import Host
from deliverypools.core.host_check.names import NAME_CHECKS
from deliverypools.core.host_check.ports import PORT_CHECKS
from deliverypools.core.host_check.spf import SPF_CHECKS
from deliverypools.core.postfix_check.checks import CheckOf, Finding, errors_first

HOST_GROUPS: Final[tuple[tuple[str, tuple[CheckOf[Host], ...]], ...]] = (
    ("Addresses of this machine", ADDRESS_CHECKS),
    ("Ports of this machine", PORT_CHECKS),
    ("Names in DNS", NAME_CHECKS),
    ("SPF", SPF_CHECKS),
    ("Daemons and files", DAEMON_CHECKS),
)
HOST_CHECKS: Final = tuple(one for _, checks in HOST_GROUPS for one in checks)


def examine_addresses(host: Host) -> tuple[Finding, ...]:
    """Return what the checks of this machine's addresses find, errors first."""
    return errors_first(finding for one in ADDRESS_CHECKS for finding in one.findings(host))


def examine_host(host: Host) -> tuple[Finding, ...]:
    """Return everything that the checks find, errors first."""
    return errors_first(finding for one in HOST_CHECKS for finding in one.findings(host))
