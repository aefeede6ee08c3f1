"""What is wrong with a Postfix configuration and with this machine, for `delivery-pools check`: found, and printed."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.dns_facts import dns_facts
from deliverypools.adapters.host_facts import address_facts, host_facts
from deliverypools.adapters.postfix_configuration import PostfixAbsent, PostfixReader, PostfixUnreadable
from deliverypools.core.checks_reference import NO_POSTFIX_HERE, NOT_SET_UP, POSTFIX_UNREADABLE
from deliverypools.core.host_check.examine import examine_addresses, examine_host
from deliverypools.core.host_check.facts import Host
from deliverypools.core.postfix_check.checks import Finding, Severity
from deliverypools.core.postfix_check.examine import examine
from deliverypools.core.postfix_check.site import Site, is_set_up
from deliverypools.core.settings import Settings

_COLUMNS: Final = 100
_LINE: Final = re.compile(r"(?:main|master)\.cf(?:, |: )line \d")
SETTINGS_CHECK: Final = "settings"
"""In place of a check's name, for what is found in the settings and the files that they name."""


def read_site(settings: Settings, config_directory: str | None) -> Site | Finding:
    """Read the configuration of this machine's Postfix, or that of a directory; a finding says why there is none."""
    try:
        return Site(PostfixReader(config_directory).read(settings), settings)
    except PostfixAbsent as error:
        if config_directory is None:
            return replace(NO_POSTFIX_HERE, found=str(error))
        return replace(POSTFIX_UNREADABLE, found=str(error))
    except PostfixUnreadable as error:
        return replace(POSTFIX_UNREADABLE, found=str(error), remedy=unreadable_remedy(str(error)))


def unreadable_remedy(problem: str) -> str:
    """Return what to do about a configuration that postconf(1) does not read, from what it says."""
    if _LINE.search(problem):
        return "Correct the line that is named; `postconf -n` and `postconf -M` show whether it is right."
    if "ermission denied" in problem:
        return "Run this as root."
    return POSTFIX_UNREADABLE.remedy


def postfix_findings(site: Site) -> tuple[Finding, ...]:
    """Return what the checks find in a configuration; of one without anything of ours, just that."""
    return examine(site) if is_set_up(site) else (NOT_SET_UP,)


def host_findings(site: Site | None, settings: Settings, settings_file: Path, *, dns: bool) -> tuple[Finding, ...]:
    """Return what the checks find on this machine, and in DNS if that is wanted."""
    host = Host(settings=settings, site=site)
    host = replace(host, facts=host_facts(host, settings_file))
    return examine_host(replace(host, dns=dns_facts(host)) if dns else host)


def address_errors(site: Site) -> tuple[Finding, ...]:
    """Return what keeps this machine (this network namespace) from sending by the pools' addresses; no DNS is asked."""
    host = Host(settings=site.settings, site=site)
    found = examine_addresses(replace(host, facts=address_facts(host)))
    return tuple(finding for finding in found if finding.severity is Severity.ERROR)


def as_text(finding: Finding) -> str:
    """Return a finding for people: what and where, what can happen, how to mend it."""
    if finding.check == SETTINGS_CHECK:
        return f"{finding.severity}: {finding.found}"
    return (
        f"{finding.severity}: {finding.check}: {finding.found}\n"
        f"{wrapped(f'  can happen: {finding.can_happen}')}\n"
        f"{wrapped(f'  to mend it: {finding.remedy}')}\n"
        f"  more: {finding.docs}"
    )


def wrapped(sentence: str) -> str:
    """Return a sentence in lines that fit a terminal, the further ones indented."""
    indent = " " * 4
    return textwrap.fill(sentence, _COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def as_json(findings: Iterable[Finding], *, fast_path: Mapping[str, Any] | None) -> str:
    """Return the findings as one JSON object, with what was found of the fast path, if it was looked at."""
    listed = [
        {
            "severity": finding.severity.value,
            "check": finding.check,
            "found": finding.found,
            "can_happen": finding.can_happen,
            "remedy": finding.remedy,
            "docs": None if finding.check == SETTINGS_CHECK else finding.docs,
        }
        for finding in findings
    ]
    return json.dumps({"findings": listed, "fast_path": fast_path})
