"""Changing a configuration as a whole: written down first, then done by renaming, so that it can be finished later.

Everything new is on the disk before anything is changed: a full disk is found out then. What is to be done is in the
folder `next`, which appears in one step. Whoever finds it there after an interruption does the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.postfix_stage import FOLDER
from deliverypools.core.postfix_install.manifest import MAIN, MASTER, Manifest, manifest_to_json

BEFORE: Final = "before"
MANIFEST: Final = "manifest.json"
_NEXT: Final = "next"
_BEING_WRITTEN: Final = "next.tmp"
_SUPERSEDED: Final = "next.done"
"""An earlier change, which Postfix may not have been told of yet."""
_JOURNAL: Final = "journal.json"
_MOVING: Final = ".delivery-pools-next"
"""Ends the name of a file that takes another one's place."""
_MOUNTS: Final = Path("/proc/thread-self/mountinfo")
_ESCAPED: Final = re.compile(rb"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One whole configuration: what the files hold. Without a manifest it is the site's own."""

    main: bytes
    master: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files of `delivery-pools` that are ours."""
    originals: Mapping[str, bytes] = field(default_factory=dict)
    """Files of `before`, by name."""
    manifest: Manifest | None = None


class EditedMeanwhile(Exception):  # noqa: N818  (what happened, as a word of the text that tells it)
    """An administrator has edited a file since it was read; the text is its path. It is left as it is."""


def sha256(content: bytes) -> str:
    """Return what tells whether a file is as we left it."""
    return hashlib.sha256(content).hexdigest()


def mounted_over(config_directory: Path) -> Path | None:
    """Return which of main.cf and master.cf something is mounted on, as containers do: it cannot be renamed over."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return None
    # The fifth field; a blank is written as \\040, proc_pid_mountinfo(5).
    points = {_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4]) for line in lines}
    files = ((config_directory / name).resolve() for name in (MAIN, MASTER))
    return next((file for file in files if os.fsencode(file) in points), None)


class Swap:
    """The change from one configuration to another, of one configuration directory. Its lock is held."""

    def __init__(self, config_directory: Path) -> None:
        """Name the directory."""
        self._live = config_directory
        self._folder = config_directory / FOLDER
        self._next = self._folder / _NEXT
        self._superseded = self._folder / _SUPERSEDED

    def prepare(self, state: State, seen: Mapping[str, bytes], *, obsolete: Collection[str], main_first: bool) -> None:
        """Write everything down; nothing has changed before it returns, or if it fails.

        `seen` is what the state was made from: main.cf and master.cf, by name. What differs from it is an edit since,
        and is not overwritten. `obsolete` are files below `delivery-pools` that go at the end.

        With `main_first` main.cf changes before master.cf: in between, mail must find no transport that leaks.

        Raises:
            EditedMeanwhile: one of them says something else by now.
            OSError: the disk is full, or read-only.
        """
        if seen != {MAIN: state.main, MASTER: state.master}:
            self._refuse_edited(seen)
        self.forget()
        try:
            for folder in (self._folder, self._folder / BEFORE):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755)  # whatever the umask says: Postfix reads it as another user
            writing = self._folder / _BEING_WRITTEN
            writing.mkdir(mode=0o700)
            journal = self._written_down(state, seen, writing, main_first=main_first)
            # What an interrupted change has not taken away yet is for this one to take away.
            pending = self._journal()["obsolete"] if self.is_pending() else []
            kept = {*state.files, *(f"{BEFORE}/{name}" for name in state.originals)}
            journal["obsolete"] = sorted({*obsolete, *pending} - kept)
            _write(writing / _JOURNAL, json.dumps(journal, indent=1).encode())
            _sync(writing)
            if self.is_pending():
                shutil.rmtree(self._superseded, ignore_errors=True)
                self._next.rename(self._superseded)
            writing.rename(self._next)
            _sync(self._folder)
        except OSError:
            with contextlib.suppress(OSError):
                self.forget()
            raise

    def _refuse_edited(self, seen: Mapping[str, bytes]) -> None:
        for name, content in seen.items():
            if (self._live / name).read_bytes() != content:
                raise EditedMeanwhile(str(self._live / name))

    def _written_down(
        self, state: State, seen: Mapping[str, bytes], writing: Path, *, main_first: bool
    ) -> dict[str, Any]:
        """Write the new files; return which takes the place of which, in order."""
        new = {self._folder / name: content for name, content in state.files.items()}
        new |= {self._folder / BEFORE / name: content for name, content in state.originals.items()}
        moves = {}
        for number, (target, content) in enumerate(new.items()):
            if not target.is_file() or target.read_bytes() != content:
                like = self._live / (MASTER if target.name.startswith(MASTER) else MAIN)
                is_original = target.parent.name == BEFORE
                moves[str(_write(writing / f"{number}", content, like=like if is_original else None))] = str(target)
        replaces = {}
        for name, content in _ordered(state, main_first=main_first):
            if content != seen[name]:
                # Where a symbolic link leads, on that file system.
                target = (self._live / name).resolve()
                replaces[str(target)] = sha256(seen[name])
                moves[str(_write(target.with_name(f".{target.name}{_MOVING}"), content, like=target))] = str(target)
        if state.manifest is not None:
            text = manifest_to_json(state.manifest).encode()
            moves[str(_write(writing / MANIFEST, text))] = str(self._folder / BEFORE / MANIFEST)
        return {
            "moves": {source.replace(str(writing), str(self._next)): target for source, target in moves.items()},
            "replaces": replaces,
            "is_ours": state.manifest is not None,
        }

    def is_pending(self) -> bool:
        """Tell whether a change was begun and not finished."""
        return (self._next / _JOURNAL).is_file()

    def was_interrupted(self) -> bool:
        """Tell whether Postfix may not have been told of the last change."""
        return self.is_pending() or self._superseded.is_dir()

    def carry_out(self) -> None:
        """Put everything in its place; what is there already is left.

        Raises:
            EditedMeanwhile: the change ends there, to be resumed.
            OSError: likewise.
        """
        for source, target, is_edited in self._moves():
            if is_edited:
                raise EditedMeanwhile(str(target))
            _move(source, target)

    def resume(self) -> None:
        """Do the rest of an interrupted change; a file that an administrator has edited since stays as it is.

        Then a change to the site's own configuration is given up: ours is still in that file, and has to be taken out.

        Raises:
            OSError: it cannot be written.
        """
        is_to_ours = bool(self._journal()["is_ours"])
        for source, target, is_edited in self._moves():
            if not is_edited:
                _move(source, target)
            elif is_to_ours:
                source.unlink()
            else:
                (self._next / _JOURNAL).unlink()
                return
        if not is_to_ours:
            self.finish()

    def _moves(self) -> Iterator[tuple[Path, Path, bool]]:
        """Yield what is to be done still: a file, where it goes, and whether that one has been edited since."""
        journal = self._journal()
        for source, target in ((Path(one), Path(other)) for one, other in journal["moves"].items()):
            if source.is_file():
                expected = journal["replaces"].get(str(target))
                yield source, target, expected is not None and sha256(target.read_bytes()) != expected

    def finish(self) -> None:
        """Forget the change; take away files of ours that nothing names any more."""
        shutil.rmtree(self._superseded, ignore_errors=True)
        if not self.is_pending():
            return
        journal = self._journal()
        for name in journal["obsolete"]:
            (self._folder / name).unlink(missing_ok=True)
        if not journal["is_ours"]:
            shutil.rmtree(self._folder / BEFORE, ignore_errors=True)
        # The journal first: a folder without one is taken away like one that was never finished.
        (self._next / _JOURNAL).unlink()
        shutil.rmtree(self._next)

    def forget(self) -> None:
        """Take away what an interrupted `prepare` has left."""
        shutil.rmtree(self._folder / _BEING_WRITTEN, ignore_errors=True)
        if not self.is_pending():
            shutil.rmtree(self._next, ignore_errors=True)
            for name in (MAIN, MASTER):
                target = (self._live / name).resolve()
                target.with_name(f".{target.name}{_MOVING}").unlink(missing_ok=True)

    def _journal(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._next / _JOURNAL).read_text())
        return found


def _ordered(state: State, *, main_first: bool) -> list[tuple[str, bytes]]:
    both = [(MASTER, state.master), (MAIN, state.main)]
    return both[::-1] if main_first else both


def _move(source: Path, target: Path) -> None:
    source.rename(target)
    _sync(target.parent)


def _write(path: Path, content: bytes, *, like: Path | None = None) -> Path:
    """Write a file to the disk, with owner, mode and attributes of another one."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if like else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        if like is None:
            os.fchmod(descriptor, 0o644)
        else:
            found = like.stat()
            os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, found.st_mode & 0o7777)
            _copy_attributes(like, path)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    return path


def _copy_attributes(source: Path, target: Path) -> None:
    """Copy extended attributes, SELinux labels and ACLs among them, as far as this file system has them."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
