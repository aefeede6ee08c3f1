"""All checks, in the order in which they are reported; and their page of the documentation."""

from __future__ import annotations

import re
from typing import Final

from deliverypools.core.postfix_check.checks import Check, Finding, Severity
from deliverypools.core.postfix_check.express import EXPRESS_CHECKS
from deliverypools.core.postfix_check.hop import HOP_CHECKS
from deliverypools.core.postfix_check.milters import MILTER_CHECKS
from deliverypools.core.postfix_check.pools import POOL_CHECKS
from deliverypools.core.postfix_check.routes import ROUTE_CHECKS
from deliverypools.core.postfix_check.server import SERVER_CHECKS
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.tables import TABLE_CHECKS
from deliverypools.core.postfix_check.tags import TAG_CHECKS

GROUPS: Final[tuple[tuple[str, tuple[Check, ...]], ...]] = (
    ("Pools and tripwires", POOL_CHECKS),
    ("Routes", ROUTE_CHECKS),
    ("The tag", TAG_CHECKS),
    ("The milter", MILTER_CHECKS),
    ("The hop", HOP_CHECKS),
    ("The express profile", EXPRESS_CHECKS),
    ("The server", SERVER_CHECKS),
    ("Tables", TABLE_CHECKS),
)
CHECKS: Final[tuple[Check, ...]] = tuple(one for _, checks in GROUPS for one in checks)

_TO_ESCAPE: Final = re.compile(r"[<*]")
"""What Markdown would take for its own."""

_HEAD: Final = """\
# What `delivery-pools check --postfix` finds

It reads a Postfix configuration by Postfix's own commands (`postconf`, `postmap`), and changes nothing: that of this
machine, or that of `--postfix DIR`. Run it as root: other users cannot read every table, and are told which checks that
leaves out. (Without `--postfix`, and as the user of the daemons, `check` shows whether they can read what they need.)
It exits with 1 if there is an error, else with 0; `--json` says the same for programs.

- **error**: mail can leave by a wrong address, be lost, or wait for ever.
- **warning**: something works less well than it should, or could not be examined.
- **later**: only a running server can show whether it is right.

It does not see what programs do with mail that they get (pipe(8), scanners, LMTP servers, the servers behind
`internal:`, aliases(5), milters of the site), what tables of LDAP, SQL and sockets answer, access tables that only the
answer of another access table or of a policy service names, and other Postfix instances. `delivery-pools audit` reads
in the mail log what Postfix has sent. A scanner that `FILTER` names has to be on this machine; one that
`content_filter` names need not.

Each check has a name, which stays. A parameter of main.cf that refers to another one (`$name`) is read as main.cf
expands it, also where a service sets that other one with `-o`. The configuration that all checks are content with is in
[postfix-examples](../postfix-examples). This page is made from the code (`make docs`).
"""


def examine(site: Site) -> tuple[Finding, ...]:
    """Return everything that the checks find, errors first."""
    found = [finding for one in CHECKS for finding in one.findings(site)]
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def checks_reference() -> str:
    """Return the page as Markdown."""
    return _HEAD + "".join(f"\n## {title}\n{''.join(map(_section, checks))}" for title, checks in GROUPS) + _TAIL


_TAIL: Final = """
## postfix_unreadable

No check, but the error that is reported where there is no Postfix, or its files cannot be read. Nothing was examined.
"""


def _section(one: Check) -> str:
    can_happen, remedy = (_TO_ESCAPE.sub(r"\\\g<0>", text) for text in (one.can_happen, one.remedy))
    return (
        f"\n### {one.name}\n\n{one.description} (**{one.severity}**)\n\n"
        f"- What can happen: {can_happen}\n- To mend it: {remedy}\n"
    )
