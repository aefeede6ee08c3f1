"""What is wrong with a Postfix configuration, for `delivery-pools check`: found, and printed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from deliverypools.adapters.postfix_configuration import PostfixReader, PostfixUnreadable
from deliverypools.core.postfix_check.checks import Finding, Severity
from deliverypools.core.postfix_check.examine import examine
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.settings import Settings

SETTINGS_CHECK: Final = "settings"
"""In place of a check's name, for what is found in the settings and the files that they name."""


def postfix_findings(settings: Settings, config_directory: str | None) -> tuple[Finding, ...]:
    """Return what the checks find in the configuration of this machine's Postfix, or in that of a directory."""
    try:
        postfix = PostfixReader(config_directory).read(settings)
    except PostfixUnreadable as error:
        unreadable = Finding(
            check="postfix_unreadable",
            severity=Severity.ERROR,
            found=str(error),
            can_happen="Nothing in the Postfix configuration was examined.",
            remedy="Name its directory: --postfix DIR; run the check as root.",
        )
        return (unreadable,)
    return examine(Site(postfix, settings))


def as_text(finding: Finding) -> str:
    """Return a finding for people: what and where, what can happen, how to mend it."""
    if finding.check == SETTINGS_CHECK:
        return f"{finding.severity}: {finding.found}"
    return (
        f"{finding.severity}: {finding.check}: {finding.found}\n"
        f"  can happen: {finding.can_happen}\n"
        f"  to mend it: {finding.remedy}\n"
        f"  more: {finding.docs}"
    )


def as_json(findings: Iterable[Finding]) -> str:
    """Return the findings as one JSON object."""
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
    return json.dumps({"findings": listed})
