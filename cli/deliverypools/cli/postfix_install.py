"""`delivery-pools postfix install`: propose, refuse what is wrong, change it as a whole, cut over."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from deliverypools.adapters.cut_over import note_queue, told, wait_for_old_processes
from deliverypools.adapters.fast_path_proof import READ_AT_START
from deliverypools.adapters.install_needs import make_missing, silent_daemons
from deliverypools.adapters.postfix_commands import PostfixInstance
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_queue import PostfixQueue
from deliverypools.cli.change_over import ChangeOver
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.fast_path import FastPath, look_at_fast_path
from deliverypools.cli.options import read_settings
from deliverypools.cli.postfix_findings import address_errors
from deliverypools.cli.postfix_proposal import (
    Proposal,
    as_json,
    proposal_as_json,
    proposal_lines,
    propose,
    remark_lines,
)
from deliverypools.cli.queued_before import queued_remarks
from deliverypools.cli.shared_state import shared_state
from deliverypools.core.postfix_check.checks import errors_first
from deliverypools.core.postfix_check.site import HOP_CLIENT
from deliverypools.core.postfix_install.manifest import Manifest, Phase
from deliverypools.core.settings import Settings

_REFUSED: Final = "nothing was changed: mend the errors, then run this again"
_UP_TO_DATE: Final = "already installed, nothing changed"
_STOPPED: Final = "Postfix does not run: postfix start"
_QUEUED: Final = "will be decided from what is visible"
_EXPRESS_QUEUED: Final = "leave by high-risk: nothing decides them"
_QUEUED_IN_EXPRESS: Final = "leave by the pools that they have; requeued, they are decided from what is visible"


@dataclass(slots=True)
class _Report:
    """What is told at the end."""

    is_json: bool
    answer: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Tell people something, at once."""
        if not self.is_json:
            print(text, flush=True)

    def say_fast_path(self, found: FastPath, settings: Settings) -> None:
        """Tell whether mail may skip the hop."""
        self.answer["fast_path"] = found.as_json()
        if settings.profile == "hop":
            for line in found.lines():
                self.say(line)

    def end(self, *, installed: bool, text: str) -> int:
        """Tell how it ended; return the exit status."""
        self.answer |= {"installed": installed, "text": text}
        if self.is_json:
            print(as_json(self.answer))
        else:
            print(text, file=sys.stdout if installed else sys.stderr)
        return OK if installed else FAILED


def install(options: argparse.Namespace) -> int:
    """Run the command."""
    settings = read_settings(options)
    instance = PostfixInstance(options.config_directory)
    editor = PostfixEditor(instance, time.time)
    report = _Report(options.json)
    if options.dry_run:
        with editor.looking():
            proposal = _shown(_proposed(editor, settings), report)
            if instance.is_running():
                _say_who_is_silent(settings, report)
            text = _REFUSED if proposal.is_refused else "a preview: nothing was changed"
            return report.end(installed=not proposal.is_refused, text=text)
    with editor.changing(takes_ports=True) as was_interrupted:
        proposal = _shown(_proposed(editor, settings), report)
        if not proposal.is_refused:
            proposal.planned.check()
        if proposal.is_refused:
            return report.end(installed=False, text=_REFUSED)
        step = _Step(options, settings, instance, editor, report)
        is_changed = proposal.changes_something or was_interrupted
        if is_changed:
            if silent := _missing_made(step):
                return report.end(installed=False, text=silent)
            text = _install(step, proposal, was_interrupted=was_interrupted)
        else:
            text = _UP_TO_DATE + ("" if instance.is_running() else f"; {_STOPPED}")
    report.say_fast_path(_fast_path(step, may_reread=is_changed), settings)
    return report.end(installed=True, text=text)


def _proposed(editor: PostfixEditor, settings: Settings) -> Proposal:
    """Return what would be done, with what this machine says against it."""
    proposal = propose(editor, settings)
    is_first = _is_express(settings) and _is_new(editor.manifest())
    return replace(
        proposal,
        remarks=(*proposal.remarks, *(queued_remarks(editor.instance) if is_first else ())),
        findings=errors_first((*proposal.findings, *address_errors(proposal.site))),
    )


def _is_express(settings: Settings) -> bool:
    return settings.profile == "express"


def _is_new(before: Manifest | None) -> bool:
    """Tell whether Postfix did not work by ours before."""
    return before is None or before.phase is not Phase.INSTALLED


def _leaves_express(before: Manifest | None, settings: Settings) -> bool:
    """Tell whether mail was decided as it came in, and is not from now on: what is queued has no ticket."""
    return before is not None and (HOP_CLIENT, "unix") not in before.services and not _is_express(settings)


def _say_who_is_silent(settings: Settings, report: _Report) -> None:
    """Say which daemons would make `install` refuse; a preview goes on without them."""
    silent = list(silent_daemons(settings))
    report.answer["silent_daemons"] = silent
    for text in silent:
        report.say(f"warning: install would refuse: {text}")


def _shown(proposal: Proposal, report: _Report) -> Proposal:
    report.answer = proposal_as_json(proposal)
    for line in (*proposal_lines(proposal), *remark_lines(proposal)):
        report.say(line)
    return proposal


@dataclass(frozen=True, slots=True)
class _Step:
    """What every step of an installation needs."""

    options: argparse.Namespace
    settings: Settings
    instance: PostfixInstance
    editor: PostfixEditor
    report: _Report


def _missing_made(step: _Step) -> str:
    """Make what is missing; return which daemons do not answer a Postfix that runs, "" if all do."""
    made = list(make_missing(step.settings, step.instance))
    step.report.answer["made"] = made
    for path in made:
        step.report.say(f"made {path}")
    return "\n".join(silent_daemons(step.settings)) if step.instance.is_running() else ""


def _install(step: _Step, proposal: Proposal, *, was_interrupted: bool) -> str:
    """Install; return what there is to tell."""
    is_running = step.instance.is_running()
    before = step.editor.manifest()
    is_new = was_interrupted or _is_new(before)
    with _noting(step, has_no_tickets=is_new or _leaves_express(before, step.settings)) as note:
        if is_running:
            steps = ChangeOver(step.instance, step.editor, step.options.settle, note, step.report.say)
            text = _installed(step, len(steps.carry_out(proposal, is_new=is_new)), is_new=is_new)
        else:
            note()
            _put_in_place(step.editor, proposal)
            text = f"installed; {_STOPPED}"
    step.editor.finish()
    return text


def _fast_path(step: _Step, *, may_reread: bool) -> FastPath:
    """Prove whether mail may skip the hop.

    `may_reread`: Postfix has read our configuration already, but for the last change of main.cf, by which SMTP clients
    no longer take our headers off by themselves.
    """
    directory = str(step.instance.directory)
    found = look_at_fast_path(step.settings, directory)
    if may_reread and found.waits_for_reload and step.instance.is_running():
        reload = told(step.instance, step.instance.reread)
        wait_for_old_processes(step.instance, reload, step.options.settle, commands=READ_AT_START)
        found = look_at_fast_path(step.settings, directory)
    return found


def _put_in_place(editor: PostfixEditor, proposal: Proposal) -> None:
    """Make the planned configuration the one that Postfix will start with."""
    editor.swap_to(editor.installed(proposal.original.stage, proposal.planned, proposal.plan.files, Phase.INSTALLED))


def _installed(step: _Step, left: int, *, is_new: bool) -> str:
    step.report.answer["old_processes"] = left
    noted = step.report.answer.get("noted", 0)
    texts = ["installed, and Postfix reloaded"]
    if noted:
        becomes = _EXPRESS_QUEUED if _is_express(step.settings) else _QUEUED if is_new else _QUEUED_IN_EXPRESS
        texts.append(f"{noted} messages that were queued {becomes}")
    if left:
        hours = step.settings.milter.undecided_after / 3600
        waits = "leaves" if _is_express(step.settings) else f"waits {hours:g} hours, then leaves"
        texts.append(
            f"{left} processes of before the reload still have sessions; mail that they take {waits} by high-risk"
        )
    return "; ".join(texts)


@contextmanager
def _noting(step: _Step, *, has_no_tickets: bool) -> Iterator[Callable[[], None]]:
    """Give a function that tells the state what is queued; it does nothing where that has tickets."""
    if not has_no_tickets:
        yield lambda: None
        return
    queue = PostfixQueue(str(step.instance.directory))
    noted: set[str] = set()
    with shared_state(step.settings, may_make=True) as state:

        def note() -> None:
            noted.update(note_queue(queue, state))
            step.report.answer["noted"] = len(noted)

        yield note
