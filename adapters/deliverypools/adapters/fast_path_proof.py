"""The proof of the fast path, made: what Postfix's configuration says, and that Postfix works by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from deliverypools.adapters.fast_path_steps import Found, steps_to
from deliverypools.adapters.postfix_commands import PostfixInstance
from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.core.fast_path import CHANGED_MEANWHILE, Proof, Step, same_directory, settings_digest
from deliverypools.core.postfix_check import fast_path
from deliverypools.core.postfix_check.fast_doors import fast_doors
from deliverypools.core.postfix_check.site import HOP_CLIENT, Site
from deliverypools.core.postfix_check.syntax import route_of
from deliverypools.core.postfix_install.manifest import MAIN, MASTER
from deliverypools.core.postfix_install.service_line import ServiceLine, parse_service
from deliverypools.core.settings import Settings

_COMPILED: Final[Mapping[str, tuple[str, ...]]] = {
    "hash": (".db",),
    "btree": (".db",),
    "lmdb": (".lmdb",),
    "cdb": (".cdb",),
    "dbm": (".pag", ".dir"),
    "sdbm": (".pag", ".dir"),
    "texthash": (),
    "regexp": (),
    "pcre": (),
    "cidr": (),
    "file": (),
}
"""What the names of the files end in that postmap(1) makes, by the type of the table. It reads the name as it is."""
READ_AT_START: Final = ("smtpd", "cleanup", "trivial-rewrite", "proxymap")
"""The programs of the fast path: each goes on with the main.cf, and the tables, that it began with.

Of a database that has changed some take notice, by st_mtime in whole seconds and st_nlink of the file that they have
open (dict_changed_name() of Postfix): not of each change, and not before the answers that they keep are old.
"""
_ALWAYS_THERE: Final = ("qmgr", "oqmgr", "nqmgr", "pickup")
"""They end at a reload, and hardly else: all newer than master.cf show that master(8) has read that too."""
_QUEUE_MANAGERS: Final = _ALWAYS_THERE[:3]
_MOST_FILES: Final = 200
"""A proof with more would cost too much for each message."""
_TICK_SECONDS: Final = 0.1
"""Far more than a tick of the clock of any file system: two changes in one tick look like one."""
_TRIES: Final = 3
_LATER_SECONDS: Final = 0.01
"""A process is of after a change if it began so much later: a file's time is that of the tick before (10 ms at most).

That of a process is rounded down likewise.
"""
_STEP_SECONDS: Final = 1.0
"""A clock that is wrong by less was not set: master(8) writes its pid file some time after it has begun."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def prove(
    settings: Settings,
    config_directory: str | None,
    *,
    previous: Proof | None,
    may_vouch_for_reload: bool,
    clock: Callable[[], float],
) -> Proof:
    """Look at a Postfix configuration, and return whether mail may skip the hop, or why not.

    `previous` says since when files are as they are. `may_vouch_for_reload`: this user sees Postfix's processes, and so
    whether they work by the files of today (root).

    Raises:
        PostfixError: there is no Postfix, or no such configuration.
        PostfixUnreadable: its files cannot be read.
    """
    instance = PostfixInstance(config_directory)
    for _ in range(_TRIES):
        proof = _attempt(settings, instance, previous, clock)
        if CHANGED_MEANWHILE not in proof.problems:
            break
    return _with_reload(proof, instance, previous, may_vouch_for_reload=may_vouch_for_reload)


def _attempt(
    settings: Settings, instance: PostfixInstance, previous: Proof | None, clock: Callable[[], float]
) -> Proof:
    """Read the configuration twice: only the first reading tells which files must not change during the second."""
    reader = PostfixReader(str(instance.directory))
    made_at, offset = clock(), _clock_offset()
    first = Site(reader.read(settings), settings)
    specs = fast_path.watched_tables(first)
    files = tuple(dict.fromkeys((*_main_files(instance), *_files_of(specs))))
    steps = steps_to(files)
    looked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    _wait_for_another_tick(steps.values())
    site = Site(reader.read(settings), settings)
    problems = [*fast_path.conditions(site), *_unnamed(site, instance), *_unwatched(specs)]
    if len(files) > _MOST_FILES:
        problems.append(f"{len(files)} files of tables: more than {_MOST_FILES} are not watched")
        files = _main_files(instance)
        steps = steps_to(files)
    if _identities(steps_to(files)) != _identities(steps) or fast_path.watched_tables(site) != specs:
        problems.append(CHANGED_MEANWHILE)
    route = route_of(site.postfix.value("default_transport"))
    proof = Proof(
        config_directory=str(instance.directory),
        made_at=made_at,
        settings=settings_digest(settings),
        hop=route.nexthop if route.transport == HOP_CLIENT else "",
        hostnames=tuple(dict.fromkeys(site.postfix.value("myhostname", door) for door in fast_doors(site))),
        problems=tuple(dict.fromkeys(problems)),
        files=files,
        boot=_BOOT_ID.read_text().strip(),
        looked_at=looked_at,
        clock=offset,
    )
    return replace(proof, steps=_since(steps, proof, previous, instance.clock_at_start()))


def _main_files(instance: PostfixInstance) -> tuple[str, ...]:
    return tuple(str(instance.directory / name) for name in (MAIN, MASTER))


def _unnamed(site: Site, instance: PostfixInstance) -> Iterator[str]:
    """Yield that Postfix makes another name of the directory's: its smtpd(8) would say that they are another's."""
    said = site.postfix.value("config_directory")
    if same_directory(said) != same_directory(str(instance.directory)):
        yield f"{instance.directory}: $config_directory is {said} there; give it a name without $"


def _identities(steps: Mapping[str, Found]) -> dict[str, tuple[int, ...]]:
    return {path: found.identity for path, found in steps.items()}


def _wait_for_another_tick(steps: Iterable[Found]) -> None:
    """Wait until a further change of any of the files would give it another time than it has now."""
    if any(abs(time.time() - found.changed_at) < _TICK_SECONDS for found in steps):
        time.sleep(_TICK_SECONDS)


# ---- tables


def _files_of(specs: Iterable[str]) -> Iterator[str]:
    """Yield the files of tables, each named as `type:name`."""
    for spec in specs:
        kind, _, name = spec.partition(":")
        if kind in _COMPILED and _is_whole(name):
            yield name
            yield from (name + ending for ending in _COMPILED[kind])


def _unwatched(specs: Iterable[str]) -> Iterator[str]:
    """Yield which tables may change without our seeing it."""
    for spec in specs:
        kind, _, name = spec.partition(":")
        if kind not in _COMPILED:
            yield f"{spec}: a table of this type may change without being seen; use one in a file"
        elif not name.startswith("{") and not _is_whole(name):
            yield f"{spec}: write the whole path of the table"


def _is_whole(name: str) -> bool:
    """Tell whether a name says where the file is; rules in braces (`regexp:{...}`) stand in main.cf itself."""
    return name.startswith("/")


# ---- since when


def _clock_offset() -> float:
    """Return what the clock says was the time when the machine started; it changes when the clock is set."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _since(
    steps: Mapping[str, Found], proof: Proof, previous: Proof | None, clock_of_postfix: float | None
) -> dict[str, Step]:
    """Return since when everything is as it is.

    Processes began so many seconds after the start of the machine, and files changed at a time of the clock. That is
    believed if the clock was not set meanwhile: since the look before this one, which knew the file, or since Postfix
    began (`clock_of_postfix`). What cannot be told is so since this look.
    """
    known = previous.steps if previous is not None and previous.boot == proof.boot else {}
    since = {}
    for path, found in steps.items():
        before = known.get(path)
        if before is not None and before.identity == found.identity:
            since[path] = before
            continue
        changed_at = found.changed_at - proof.clock
        clock_then = clock_of_postfix if before is None or previous is None else previous.clock
        is_told = clock_then is not None and abs(clock_then - proof.clock) < _STEP_SECONDS
        if before is not None and previous is not None:
            # Something else is there, and no time tells of it: another file system was mounted there.
            is_told = is_told and (_is_same(before, found) or changed_at >= previous.looked_at)
            changed_at = max(changed_at, before.since)
        since[path] = Step(found.identity, min(changed_at, proof.looked_at) if is_told else proof.looked_at)
    return since


def _is_same(before: Step, found: Found) -> bool:
    """Tell whether it is the same file or folder, whatever else has changed of it."""
    return before.identity[:2] == found.identity[:2]


# ---- the reload


def _with_reload(
    proof: Proof, instance: PostfixInstance, previous: Proof | None, *, may_vouch_for_reload: bool
) -> Proof:
    """Return the proof with what is known of whether Postfix works by these files."""
    problem = _of_before(instance, proof) if may_vouch_for_reload else _not_vouched_for(proof, previous)
    return replace(proof, is_reloaded=not problem, problems=(*proof.problems, *([problem] if problem else [])))


_NOT_VOUCHED_FOR: Final = (
    "{}: only root sees whether Postfix works by it as it is now: `postfix reload`, then `delivery-pools check` as root"
)
_NOT_RELOADED: Final = (
    "Postfix still has processes of before the change of {}: `postfix reload`, then run this again; an open session"
    " keeps its process until it ends"
)
_OTHER_OPTIONS: Final = "{} works with other options than master.cf has: `postfix reload`, then run this again"
_NOT_SEEN: Final = "no process of this Postfix is seen here: it does not run, or runs in another container; {}"
_LOOK_THERE: Final = "run this again where it runs"


def _not_vouched_for(proof: Proof, previous: Proof | None) -> str:
    """Return what is wrong with believing that Postfix works by these files because it did so before."""
    if previous is None or previous.config_directory != proof.config_directory:
        return _NOT_VOUCHED_FOR.format(proof.files[0])
    changed = [path for path, step in proof.steps.items() if previous.steps.get(path) != step]
    return _NOT_VOUCHED_FOR.format((*changed, proof.files[0])[0]) if changed or not previous.is_reloaded else ""


def _of_before(instance: PostfixInstance, proof: Proof) -> str:
    """Return what speaks against it that Postfix works by the files of today.

    Only processes that are seen tell: one that does not run here may run in another container, with this configuration.
    """
    if not instance.is_running():
        return _NOT_SEEN.format(_LOOK_THERE)
    if not instance.processes(*_QUEUE_MANAGERS):
        return "Postfix has no queue manager: see the mail log"
    lasting, others = instance.processes(*_ALWAYS_THERE), instance.processes(*READ_AT_START)
    of_master = steps_to(_main_files(instance))
    for path, step in proof.steps.items():
        if path in of_master and any(process.started_at <= step.since for process in lasting):
            return _NOT_RELOADED.format(path)
        if any(process.started_at <= step.since + _LATER_SECONDS for process in others):
            return _NOT_RELOADED.format(path)
    return _of_other_options(instance)


def _of_other_options(instance: PostfixInstance) -> str:
    """Return that a service's processes were given other options than master.cf has; "" if none were.

    So master(8) has not read that, whatever is new: the queue manager and pickup(8) may have been killed.
    """
    lines = map(parse_service, instance.run("postconf", "-M").stdout.splitlines())
    written = {line.key: _without_stress(line) for line in lines}
    for process in instance.processes(*READ_AT_START):
        # Nothing is known of one that has just ended.
        if not (arguments := instance.arguments(process)):
            continue
        line = _as_line(arguments)
        if _without_stress(line) != written.get(line.key):
            return _OTHER_OPTIONS.format("/".join(line.key))
    return ""


def _without_stress(line: ServiceLine) -> dict[str, str]:
    """Return the options of a line but for the one that master(8) adds: whether it has many processes, smtpd(8)."""
    return {name: value for name, value in line.options.items() if name != "stress"}


def _as_line(arguments: list[str]) -> ServiceLine:
    """Return what master(8) has given to a process as the line of master.cf that it comes from.

    The name is given where it is not the program's.
    """
    program, *given = arguments
    named = dict(pairwise(given))
    words = (f"{{{word}}}" if not word or any(map(str.isspace, word)) else word for word in given)
    return parse_service(" ".join((named.get("-n", program), named.get("-t", "-"), *"-----", program, *words)))
