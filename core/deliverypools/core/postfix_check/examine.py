"""All checks of a configuration, in the order in which they are reported."""

from __future__ import annotations

from typing import Final

from deliverypools.core.postfix_check.by_install import with_install
from deliverypools.core.postfix_check.checks import Check, Finding, errors_first
from deliverypools.core.postfix_check.express import EXPRESS_CHECKS
from deliverypools.core.postfix_check.fast_path import FAST_PATH_CHECKS
from deliverypools.core.postfix_check.hop import HOP_CHECKS
from deliverypools.core.postfix_check.internal import INTERNAL_CHECKS
from deliverypools.core.postfix_check.milters import MILTER_CHECKS
from deliverypools.core.postfix_check.pools import POOL_CHECKS
from deliverypools.core.postfix_check.queues import QUEUE_CHECKS
from deliverypools.core.postfix_check.routes import ROUTE_CHECKS
from deliverypools.core.postfix_check.server import SERVER_CHECKS
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.sockets import SOCKET_CHECKS
from deliverypools.core.postfix_check.tables import TABLE_CHECKS
from deliverypools.core.postfix_check.tags import TAG_CHECKS

_GROUPS: Final[tuple[tuple[str, tuple[Check, ...]], ...]] = (
    ("Pools and tripwires", POOL_CHECKS),
    ("Routes", (*ROUTE_CHECKS, *INTERNAL_CHECKS)),
    ("The tag", TAG_CHECKS),
    ("The milter", MILTER_CHECKS),
    ("The hop", HOP_CHECKS),
    ("The express profile", EXPRESS_CHECKS),
    ("The fast path", FAST_PATH_CHECKS),
    ("The server", (*SERVER_CHECKS, *SOCKET_CHECKS)),
    ("Queues and transports", QUEUE_CHECKS),
    ("Tables", TABLE_CHECKS),
)
GROUPS: Final = tuple((title, with_install(checks)) for title, checks in _GROUPS)
CHECKS: Final[tuple[Check, ...]] = tuple(one for _, checks in GROUPS for one in checks)


def examine(site: Site) -> tuple[Finding, ...]:
    """Return everything that the checks find, errors first."""
    return errors_first(finding for one in CHECKS for finding in one.findings(site))
