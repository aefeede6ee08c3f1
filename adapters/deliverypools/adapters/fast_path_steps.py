"""The way to a file, name by name: what tells that another file, or other content, is reached by its path now.

What is at the end of a path says too little: a folder that is renamed, or a link that is switched, puts an old file
in the place of a new one, and no time of that file tells when. So each folder and each link on the way is looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

NOTHING: Final[tuple[int, ...]] = ()
"""Identity of a name at which nothing is."""
UNSEEN: Final = (-1,)
"""Identity of a name at which this user may not look, or of links without end; no file has it."""
_MOST_LINKS: Final = 40
"""As many as Linux follows, path_resolution(7)."""
_ROOT: Final = "/"


class Found(NamedTuple):
    """What is at one name now."""

    identity: tuple[int, ...]
    changed_at: float
    """It is so since then at the latest, by the clock of then, in seconds since the epoch; infinite: unknown."""


def identity_at(path: str) -> tuple[int, ...]:
    """Return what changes whenever something else is at a name, or a file's content; links are not followed.

    The change time (st_ctime) is part of it: nobody can set that, and renaming a file, a link or a folder changes it.
    That of a folder is left out while its last change was of what is in it, for others come and go there.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return NOTHING
    except OSError:
        return UNSEEN
    if found.st_mode & 0o170000 == stat.S_IFDIR:
        changed = found.st_ctime_ns
        return found.st_dev, found.st_ino, changed if changed > found.st_mtime_ns else 0
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def steps_to(paths: Iterable[str]) -> dict[str, Found]:
    """Return every name on the way to files, from the top, with what is there."""
    steps: dict[str, Found] = {}
    for path in paths:
        _follow(path, steps)
    return steps


def _follow(path: str, steps: dict[str, Found]) -> None:
    to_do = _names(path)
    here, links = _ROOT, 0
    while to_do:
        name = to_do.pop()
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120  (no link leads here)
            continue
        step = os.path.join(here, name)  # noqa: PTH118
        steps[step] = found = _look(step, here)
        if len(found.identity) < 3:  # noqa: PLR2004  (nothing, or unseen)
            return
        if not os.path.islink(step):  # noqa: PTH114
            here = step
            continue
        links += 1
        try:
            target = os.readlink(step)  # noqa: PTH115
        except OSError:
            target = ""
        if links > _MOST_LINKS or not target:
            steps[step] = Found(UNSEEN, float("inf"))
            return
        here = _ROOT if target.startswith(_ROOT) else here
        to_do += _names(target)


def _names(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [name for name in reversed(path.split(_ROOT)) if name not in ("", ".")]


def _look(step: str, folder: str) -> Found:
    identity = identity_at(step)
    try:
        of_folder = os.lstat(folder).st_ctime
        found = os.lstat(step) if identity else None
    except (OSError, ValueError):
        return Found(UNSEEN, float("inf"))
    if found is None:
        return Found(identity, of_folder)
    # Renaming a folder changes its time and that of the one above: later changes inside of either are none of it.
    is_folder = stat.S_ISDIR(found.st_mode)
    return Found(identity, min(found.st_ctime, of_folder) if is_folder else found.st_ctime)
