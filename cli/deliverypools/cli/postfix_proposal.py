"""What an install would make of a Postfix configuration: worked out on copies, examined, and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from deliverypools.adapters.busy_ports import busy_ports
from deliverypools.adapters.host_facts import own_addresses
from deliverypools.adapters.postfix_commands import PostfixError
from deliverypools.adapters.postfix_configuration import PostfixReader, PostfixUnreadable
from deliverypools.adapters.postfix_editor import OriginalStage, PostfixEditor
from deliverypools.adapters.postfix_examples import load_example
from deliverypools.adapters.postfix_original import read_original
from deliverypools.adapters.postfix_stage import Stage
from deliverypools.cli.postfix_findings import as_text, unreadable_remedy, wrapped
from deliverypools.cli.queued_transports import with_what_is_queued
from deliverypools.core.facts import printable
from deliverypools.core.postfix_check.by_install import BY_INSTALL
from deliverypools.core.postfix_check.checks import Finding, Severity
from deliverypools.core.postfix_check.examine import examine
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_install.make import make_plan
from deliverypools.core.postfix_install.next_hops import hosts_of_next_hops
from deliverypools.core.postfix_install.plan import Plan, Remark, Written
from deliverypools.core.postfix_install.written import Changes, changes_between, changes_of
from deliverypools.core.settings import Settings

_LONGEST: Final = 300
"""Characters of a value that are shown; the rest is in the files that `render` writes."""
_BY_HAND: Final = (
    "this Postfix was configured for Delivery Pools by hand ({line}). Go on by hand, with what"
    ' `delivery-pools check` names; or take our lines out ("Undo" in postfix-examples/{profile}/README.md), and run'
    " this again"
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """An install that has not happened."""

    original: OriginalStage
    plan: Plan
    planned: Stage
    changes: Changes
    """From the live configuration to the planned one."""
    before: Written
    files: tuple[str, ...]
    """Files of `delivery-pools` that are written."""
    remarks: tuple[Remark, ...]
    findings: tuple[Finding, ...]
    """What `check` finds in the planned configuration."""
    site: Site
    """The planned configuration."""

    @property
    def is_refused(self) -> bool:
        """Tell whether something has to be mended first."""
        severities = {one.severity for one in self.remarks} | {one.severity for one in self.findings}
        return Severity.ERROR in severities

    @property
    def changes_something(self) -> bool:
        """Tell whether the live configuration would differ afterwards."""
        return bool(self.changes or self.files)


def propose(editor: PostfixEditor, settings: Settings) -> Proposal:
    """Return what an install would do. Nothing but copies is written.

    Raises:
        PostfixError: the configuration cannot be read, postconf refuses a change, or there are lines of ours that
            no install has written.
    """
    original = editor.original()
    live = editor.live()
    before = live.written()
    if editor.manifest() is None and (line := _made_by_hand(original.stage.written())):
        raise PostfixError(f"{editor.instance.directory}: {_BY_HAND.format(line=line, profile=settings.profile)}")
    try:
        of_site = read_original(str(original.stage.directory), settings)
        of_site = replace(
            of_site,
            busy_ports=busy_ports(editor.instance, editor.manifest()),
            own_addresses=own_addresses(hosts_of_next_hops(of_site.postfix)),
        )
        plan = _of_live(make_plan(of_site, settings, load_example(settings.profile)), original.stage)
        plan = with_what_is_queued(editor, plan, original.stage.written(), before, settings)
        planned = editor.stage("planned", original.stage.main, original.stage.master)
        planned.apply(changes_of(plan), plan.files)
        site = Site(PostfixReader(str(planned.directory)).read(settings), settings)
        findings = examine(site)
    except PostfixUnreadable as error:
        remedy = unreadable_remedy(str(error)).replace("--postfix DIR", "--config-directory DIR")
        raise PostfixError(f"{original.stage.in_live_words(str(error))}. {remedy}") from None
    now = editor.files()
    return Proposal(
        original=original,
        plan=plan,
        planned=planned,
        changes=changes_between(before, planned.written()),
        before=before,
        files=tuple(name for name, text in sorted(plan.files.items()) if now.get(name) != text),
        remarks=tuple(_remarks(original, plan)),
        findings=tuple(
            # Of what is planned: this very command cannot be its remedy.
            replace(one, found=planned.in_live_words(one.found), remedy=one.remedy.removeprefix(BY_INSTALL))
            for one in findings
        ),
        site=site,
    )


def _remarks(original: OriginalStage, plan: Plan) -> Iterator[Remark]:
    yield from plan.remarks
    for text in original.warnings:
        yield Remark(severity=Severity.WARNING, text=text, remedy="See whether that is meant.")


def _made_by_hand(written: Written) -> str:
    """Return a parameter or a service of ours, "" if there is none."""
    ours = [name for name in written.parameters if name.startswith("delivery_pools_")]
    services = ["/".join(key) for key in written.services if key[0].startswith("pool-") or key[0] == "egress"]
    return next(iter((*ours, *services)), "")


def _of_live(plan: Plan, stage: Stage) -> Plan:
    """Return a plan that was made from a copy as one for the live configuration."""
    words = stage.in_live_words
    return Plan(
        parameters=tuple(replace(one, value=words(one.value) if one.value else one.value) for one in plan.parameters),
        services=tuple(replace(one, line=words(one.line)) for one in plan.services),
        files={name: words(text) for name, text in plan.files.items()},
        remarks=tuple(replace(one, text=words(one.text), remedy=words(one.remedy)) for one in plan.remarks),
    )


# ---- shown


def change_lines(changes: Changes, before: Written) -> Iterator[str]:
    """Yield a table of what changes, a line each."""
    if changes.parameters:
        yield "main.cf"
    for name, value in sorted(changes.parameters.items()):
        yield f"  {name}: {_shown(before.parameters.get(name))} -> {_shown(value)}"
    if changes.services:
        yield "master.cf"
    for key, line in sorted(changes.services.items()):
        what = "added" if key not in before.services else "taken away" if line is None else "replaced"
        yield f"  {'/'.join(key)}: {what}"


def proposal_lines(proposal: Proposal) -> Iterator[str]:
    """Yield what would change, a line each."""
    yield from change_lines(proposal.changes, proposal.before)
    if proposal.files:
        yield f"files of delivery-pools/: {', '.join(proposal.files)}"


def remark_lines(proposal: Proposal) -> Iterator[str]:
    """Yield what the administrator is told, errors first."""
    for severity in Severity:
        for remark in proposal.remarks:
            if remark.severity is severity:
                yield wrapped(f"{severity}: {remark.text}")
                if remark.remedy:
                    yield wrapped(f"  to mend it: {remark.remedy}")
        yield from (as_text(finding) for finding in proposal.findings if finding.severity is severity)


def proposal_as_json(proposal: Proposal) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "changes": changes_as_json(proposal.changes, proposal.before) | {"files": list(proposal.files)},
        "remarks": [
            {"severity": one.severity.value, "text": one.text, "remedy": one.remedy} for one in proposal.remarks
        ],
        "findings": [
            {
                "severity": one.severity.value,
                "check": one.check,
                "found": one.found,
                "can_happen": one.can_happen,
                "remedy": one.remedy,
                "docs": one.docs,
            }
            for one in proposal.findings
        ],
    }


def changes_as_json(changes: Changes, before: Written) -> dict[str, Any]:
    """Return changes for programs: what was there, and what comes; null is nothing."""
    return {
        "main.cf": _pairs(before.parameters, changes.parameters),
        "master.cf": _pairs(
            {"/".join(key): line for key, line in before.services.items()},
            {"/".join(key): line for key, line in changes.services.items()},
        ),
    }


def as_json(answer: Mapping[str, Any]) -> str:
    """Return one JSON object."""
    return json.dumps(answer)


def _pairs(before: Mapping[str, str], after: Mapping[str, str | None]) -> dict[str, dict[str, str | None]]:
    return {name: {"old": before.get(name), "new": value} for name, value in after.items()}


def _shown(value: str | None) -> str:
    return "(not set)" if value is None else printable(value, _LONGEST) or "(empty)"
