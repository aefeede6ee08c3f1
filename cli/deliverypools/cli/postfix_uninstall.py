"""`delivery-pools postfix uninstall`: route back at once, take everything out as soon as no mail of ours is queued."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from deliverypools.adapters.cut_over import TAKES_MAIL, old_processes, told, wait_for_old_processes
from deliverypools.adapters.leftover_mail import QueueFiles
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance, Process
from deliverypools.adapters.postfix_configuration import PostfixUnreadable
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_original import read_routes
from deliverypools.adapters.postfix_queue import PostfixQueue
from deliverypools.adapters.postfix_stage import Stage
from deliverypools.adapters.postfix_swap import State
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.fast_path import close_fast_path
from deliverypools.cli.options import read_settings
from deliverypools.cli.postfix_proposal import as_json, change_lines, changes_as_json
from deliverypools.core.postfix_check.syntax import seconds
from deliverypools.core.postfix_install.leaving import leaving, rewrites_senders
from deliverypools.core.postfix_install.manifest import Manifest, Phase, Reload
from deliverypools.core.postfix_install.plan import Written
from deliverypools.core.postfix_install.still_named import StillNamed, kept_for, our_transports, still_named
from deliverypools.core.postfix_install.written import changes_between
from deliverypools.core.requeue import DEFERRED_QUEUE, HOLD_QUEUE, QueuedMessage
from deliverypools.core.settings import SettingsError

_CLOCK_SECONDS: Final = 120.0
"""The clock may be set while we leave: by so much, headers in what arrives later are still taken for ours."""
_NO_BOUNCES: Final = "bounces to rewritten senders (SRS) are refused from now on"
_LOOK_SECONDS: Final = 2.0
"""Between two looks into the queue, at least."""
_PAUSES: Final = 10
"""So many times as long as a look into the queue takes is none: a long queue is not read without end."""
_REQUEUE_SECONDS: Final = 120.0
"""So long `--requeue` waits for what is being delivered, and for pickup(8), at least."""
_LIFETIMES: Final = ("maximal_queue_lifetime", "bounce_queue_lifetime")
_MOST_SHOWN: Final = 50
"""Entries; --json has all."""
_AGAIN: Final = "run `delivery-pools postfix uninstall` again to finish"


@dataclass(slots=True)
class _Uninstall:
    """One run of the command."""

    options: argparse.Namespace
    instance: PostfixInstance
    editor: PostfixEditor
    queue: PostfixQueue
    answer: dict[str, Any] = field(default_factory=dict)
    before: Written | None = None
    """What the configuration said when the command began."""

    def say(self, text: str) -> None:
        """Tell people something, at once."""
        if not self.options.json:
            print(text, flush=True)

    def end(self, text: str, *, is_done: bool) -> int:
        """Tell how it ended. What is left to do is no failure."""
        self.answer |= {"uninstalled": is_done, "text": text}
        print(as_json(self.answer) if self.options.json else text)
        return OK


def uninstall(options: argparse.Namespace) -> int:
    """Run the command."""
    instance = PostfixInstance(options.config_directory)
    editor = PostfixEditor(instance, time.time)
    run = _Uninstall(options, instance, editor, PostfixQueue(str(instance.directory)))
    with editor.changing() as was_interrupted:
        manifest = editor.manifest()
        if manifest is None:
            return _finish_interrupted(run, was_interrupted=was_interrupted)
        _close_fast_path(run)
        run.before = editor.live().written()
        if manifest.phase is not Phase.NAMED:
            reload = _routed_back(run, manifest, was_interrupted=was_interrupted)
            left, old = _wait(run, _transports(manifest), reload)
            if left:
                return run.end(_still_queued(run, left), is_done=False)
            if old:
                return run.end(_still_open(run, len(old)), is_done=False)
        original = run.editor.original().stage
        if named := _still_named(original, manifest):
            return _keep(run, original, named)
        return _take_out(run, original)


def _close_fast_path(run: _Uninstall) -> None:
    """Take the proof away; without settings it cannot be found, and the change of main.cf closes the fast path."""
    try:
        close_fast_path(read_settings(run.options), run.instance.directory)
    except SettingsError:
        return
    except OSError as error:
        print(f"warning: {error.filename}: {error.strerror}; remove this file", file=sys.stderr)


def _finish_interrupted(run: _Uninstall, *, was_interrupted: bool) -> int:
    if not was_interrupted:
        return run.end("not installed, nothing changed", is_done=True)
    _reread(run)
    return run.end("uninstalled: an interrupted run was finished", is_done=True)


# ---- first phase


def _routed_back(run: _Uninstall, manifest: Manifest, *, was_interrupted: bool) -> Reload:
    """Route mail as before; return since when Postfix does so."""
    original = run.editor.original()
    for text in original.warnings:
        print(f"warning: {text}", file=sys.stderr)
    run.answer["warnings"] = list(original.warnings)
    live = run.editor.live().written()
    changes = leaving(original.stage.written(), live)
    planned = run.editor.stage("planned", original.stage.main, original.stage.master)
    files = run.editor.files()
    planned.apply(changes, files)
    planned.check()
    if manifest.reload and not was_interrupted and not run.editor.differs(planned, files):
        return manifest.reload
    run.editor.swap_to(
        run.editor.installed(original.stage, planned, files, Phase.LEAVING),
        main_first=True,
    )
    reload = told(run.instance, run.instance.reload)
    run.editor.record(reload)
    wait_for_old_processes(run.instance, reload, run.options.settle)
    _see_who_is_left(run, reload)
    run.editor.finish()
    kept = run.editor.manifest()
    return kept.reload if kept and kept.reload else reload


def _see_who_is_left(run: _Uninstall, reload: Reload) -> tuple[Reload, set[Process]]:
    """Return which processes of before are left; the reload says since when there is none, which is kept in mind."""
    left = old_processes(run.instance, reload, *TAKES_MAIL)
    if not left and reload.ended_at is None:
        reload = replace(reload, ended_at=time.time())
        run.editor.record(reload)
        run.editor.finish()
    return reload, left


def _ours_until(reload: Reload) -> float:
    """Return until when a message may have arrived if our headers in it are really ours."""
    return math.inf if reload.ended_at is None else reload.ended_at + _CLOCK_SECONDS


def _reread(run: _Uninstall) -> None:
    """Tell Postfix, if it runs, and leave the queue alone."""
    if run.instance.is_running():
        run.instance.reread()


# ---- what is queued


def _transports(manifest: Manifest) -> list[str]:
    """Return the services that we added: queue files may name them."""
    return [name for (name, _), was in manifest.services.items() if name.startswith("pool-") and was.old is None]


def _wait(run: _Uninstall, transports: list[str], reload: Reload) -> tuple[list[QueuedMessage], set[Process]]:
    """Return what is still queued of ours, and which processes of before are left: at once, or after the time given."""
    is_requeue = run.options.requeue
    deadline = time.monotonic() + max(run.options.wait, _REQUEUE_SECONDS if is_requeue else 0.0)
    said = -1
    while True:
        # The processes first: what they hand in before they end is queued then.
        reload, old = _see_who_is_left(run, reload)
        files = QueueFiles(run.instance.directory, transports, _ours_until(reload))
        began = time.monotonic()
        # Twice: what was handed on between the list and the look into the files has another queue id now.
        left = files.ours(run.queue) or files.ours(run.queue)
        look_seconds = time.monotonic() - began
        if not left and not old:
            break
        if is_requeue and left:
            _requeue(run, left)
            if all(message.queue_name == HOLD_QUEUE for message in left):
                break
        if time.monotonic() >= deadline:
            break
        if len(left) != said:
            said = len(left)
            run.say(f"{said} messages of ours are queued")
        pause = _LOOK_SECONDS if is_requeue else max(_LOOK_SECONDS, _PAUSES * look_seconds)
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
    return left, old


def _requeue(run: _Uninstall, left: Sequence[QueuedMessage]) -> None:
    deferred = [message.queue_id for message in left if message.queue_name == DEFERRED_QUEUE]
    requeued = run.queue.requeue(deferred, DEFERRED_QUEUE)
    if requeued:
        total = run.answer["requeued"] = run.answer.get("requeued", 0) + len(requeued)
        run.say(f"{len(requeued)} deferred messages are routed anew")
        if copied_by := run.queue.bcc_parameters():
            run.answer["copied_again"] = dict.fromkeys(copied_by, total)
            run.say(f"warning: {', '.join(copied_by)}: copies of them are delivered again")
        run.queue.wake_pickup()


def _still_queued(run: _Uninstall, left: Sequence[QueuedMessage]) -> str:
    lifetime = max(seconds(run.instance.parameter(name), "d") or 0 for name in _LIFETIMES)
    until = datetime.fromtimestamp(max(message.arrived_at for message in left) + lifetime, tz=UTC)
    on_hold = sum(message.queue_name == HOLD_QUEUE for message in left)
    run.answer |= {"queued": len(left), "on_hold": on_hold, "until": until.isoformat()}
    held = f" {on_hold} of them are on hold: release them (postsuper -H) or delete them." if on_hold else ""
    return (
        f"mail is routed as before; {len(left)} messages of ours are still queued, until {until:%Y-%m-%d %H:%M} UTC at"
        f" the latest, and leave by their pools.{held} Leave the daemons running, and {_AGAIN} (--wait waits; --requeue"
        " routes them anew now)"
    )


def _still_open(run: _Uninstall, number: int) -> str:
    run.answer["old_processes"] = number
    return (
        f"mail is routed as before; {number} processes of before still have sessions, and what they take is ours. Leave"
        f" the daemons running, and {_AGAIN} (--wait waits)"
    )


# ---- second phase


def _still_named(original: Stage, manifest: Manifest) -> list[StillNamed]:
    """Return where the site's own tables lead to what would go."""
    try:
        routes = read_routes(str(original.directory))
    except PostfixUnreadable as error:
        raise PostfixError(original.in_live_words(str(error))) from None
    found = still_named(routes, our_transports(manifest))
    return [StillNamed(one.service, original.in_live_words(one.where)) for one in found]


def _keep(run: _Uninstall, original: Stage, named: Sequence[StillNamed]) -> int:
    """Make the configuration what it was, but for the services that the site's tables name."""
    files = run.editor.files()
    planned = run.editor.stage("kept", original.main, original.master)
    services = frozenset(one.service for one in named)
    planned.apply(kept_for(services, original.written(), run.editor.live().written()), files)
    planned.check()
    run.editor.swap_to(run.editor.installed(original, planned, files, Phase.NAMED), main_first=True)
    _reread(run)
    run.editor.finish()
    run.answer["named"] = [one.where for one in named]
    shown = "".join(f"\n  {one.where}" for one in named[:_MOST_SHOWN])
    more = f"\n  and {len(named) - _MOST_SHOWN} more" if len(named) > _MOST_SHOWN else ""
    run.end(
        f"everything is as it was, except the service {', '.join(sorted(services))}, which tables of yours name:{shown}"
        f"{more}\nChange these entries back (smtp:, relay:), and {_AGAIN}",
        is_done=False,
    )
    return FAILED


def _take_out(run: _Uninstall, original: Stage) -> int:
    """Make the configuration what it was."""
    before, after = run.before or run.editor.live().written(), original.written()
    original.check()
    run.editor.swap_to(State(main=original.main, master=original.master), main_first=True)
    _reread(run)
    run.editor.finish()
    changes = changes_between(before, after)
    run.answer["changes"] = changes_as_json(changes, before)
    for line in change_lines(changes, before):
        run.say(line)
    done = "uninstalled: the configuration is the site's own again; the daemons can be stopped"
    return run.end(f"{done}; {_NO_BOUNCES}" if rewrites_senders(after, before) else done, is_done=True)
