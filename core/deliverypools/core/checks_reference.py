"""The page of the documentation that lists all checks: docs/checks.md."""

from __future__ import annotations

import re
from typing import Any, Final

from deliverypools.core.host_check.examine import HOST_GROUPS
from deliverypools.core.postfix_check.checks import CheckOf, Finding, Severity
from deliverypools.core.postfix_check.examine import GROUPS

_TO_ESCAPE: Final = re.compile(r"[<*]")
"""What Markdown would take for its own."""

_HEAD: Final = """\
# What `delivery-pools check` finds

It reads a Postfix configuration by Postfix's own commands (`postconf`, `postmap`): that of this machine, or that of
`--postfix DIR`. It looks whether the pools' addresses can be used here, asks DNS for their names and for the SPF
records of the accepted domains (`--dns off` leaves that out), and the daemons whether they answer. It changes nothing.
Run it as root: other users cannot read every table, and are told which checks that leaves out. `--no-postfix` examines
the settings, the files that they name and the scanners only; as the user of the daemons, that shows whether they can
read what they need. It exits with 1 if there is an error, else with 0; `--json` says the same for programs.

- **error**: mail can leave by a wrong address, be lost, or wait for ever.
- **warning**: something works less well than it should, or could not be examined.
- **later**: only a running server can show whether it is right.

It does not see what programs do with mail that they get (pipe(8), scanners, LMTP servers, the servers behind
`internal:`, aliases(5), milters of the site), what tables of LDAP, SQL and sockets answer, and access tables that only
the answer of another access table or of a policy service names. `delivery-pools audit` reads in the mail log what
Postfix has sent. Other Postfix instances are named, and are to be examined one by one. A scanner that `FILTER` names
has to be on this machine; one that `content_filter` names need not.

Each check has a name, which stays. A parameter of main.cf that refers to another one (`$name`) is read as main.cf
expands it, also where a service sets that other one with `-o`. The configuration that all checks are content with is in
[postfix-examples](../postfix-examples). This page is made from the code (`make docs`).

## The proof: `check --live`

What receivers see can be tried. `delivery-pools check --live`, run as root, sends a probe by each transport of each
pool, over IPv4 and over IPv6, through the running Postfix: to ports of this machine where the command itself listens.
It shows from which address each probe came and by which HELO name, and exits with 1 if one of them
is not what the settings say, if a probe does not come within a minute, or if our header fields were in it. Where a pool
has no address of a family that Postfix uses, a probe shows that nothing leaves: it is right if the mail log says that
the pool's transport has tried in vain, else "not tested", and the exit status is 1. So it is for a transport that
`defer_transports` names: "paused by defer_transports".

```
transport       IP  source address  HELO name                   verdict
pool-normal     v4  192.0.2.10      mail.example.org            right
pool-normal     v6  2001:db8::10    mail.example.org            right
pool-high-risk  v4  192.0.2.10      mail-high-risk.example.org  wrong address: 192.0.2.20 was expected
...
1 of 6 probes went wrong
```

A probe is a message to an address in a domain that cannot exist, with a request that is sealed with the ticket keys:
nobody else can choose a transport so. It is counted for nobody. What has not come in the end is taken out of the queue
again, by its queue id. Copies that the site makes of all mail are made of probes too. Where `always_bcc` or
`recipient_bcc_maps` would send them to another host no probe is sent, and the command says so; an archive of yours on
this machine, or in an accepted domain, gets one of each. A milter or a policy service of the site that adds recipients
is not seen beforehand. Transports of routes of their own (`pool-normal-101`, say) are not probed.
"""


def checks_reference() -> str:
    """Return the page as Markdown."""
    groups: tuple[tuple[str, tuple[CheckOf[Any], ...]], ...] = (*GROUPS, *HOST_GROUPS)
    return _HEAD + "".join(f"\n## {title}\n{''.join(map(_section, checks))}" for title, checks in groups) + _TAIL


POSTFIX_UNREADABLE: Final = Finding(
    check="postfix_unreadable",
    severity=Severity.ERROR,
    found="",
    can_happen="Nothing in the Postfix configuration was examined.",
    remedy="Name its directory: --postfix DIR; run the check as root.",
)
NO_POSTFIX_HERE: Final = Finding(
    check="no_postfix_here",
    severity=Severity.LATER,
    found="",
    can_happen="Nothing in the Postfix configuration was examined.",
    remedy="Run the check on the machine of the Postfix; --no-postfix leaves Postfix out.",
)
PROBES_ARE_COPIED: Final = Finding(
    check="probes_are_copied",
    severity=Severity.WARNING,
    found="",
    can_happen="Postfix would send a copy of each probe there, and would not deliver it as a probe.",
    remedy="Empty that parameter while check --live runs (postfix reload), or lead the copies to an accepted domain.",
)
NOT_SET_UP: Final = Finding(
    check="postfix_not_set_up",
    severity=Severity.WARNING,
    found="no transport of a pool is in master.cf, and no service asks our milter",
    can_happen="All mail leaves undecided, as it did before.",
    remedy="delivery-pools postfix install (`delivery-pools postfix render` shows what that changes).",
)
_TAIL: Final = f"""
## No checks, but reported

### {POSTFIX_UNREADABLE.check}

Postfix's files cannot be read, or there are none in the directory that --postfix names: nothing was examined.
(**{POSTFIX_UNREADABLE.severity}**)

### {NO_POSTFIX_HERE.check}

There is no Postfix on this machine, or it has no main.cf yet. (**{NO_POSTFIX_HERE.severity}**)

### {NOT_SET_UP.check}

Nothing in the Postfix configuration is for Delivery Pools: it was not examined further. (**{NOT_SET_UP.severity}**)

### {PROBES_ARE_COPIED.check}

`check --live` has sent nothing, because `always_bcc` or `recipient_bcc_maps` leads outside.
(**{PROBES_ARE_COPIED.severity}**)
"""


def _section(one: CheckOf[Any]) -> str:
    can_happen, remedy = (_TO_ESCAPE.sub(r"\\\g<0>", text) for text in (one.can_happen, one.remedy))
    return (
        f"\n### {one.name}\n\n{one.description} (**{one.severity}**)\n\n"
        f"- What can happen: {can_happen}\n- To mend it: {remedy}\n"
    )
