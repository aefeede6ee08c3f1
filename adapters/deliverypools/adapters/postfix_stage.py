"""A copy of a configuration directory in which main.cf and master.cf are changed and tried, beside the live one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.core.postfix_install.manifest import MAIN, MASTER
from deliverypools.core.postfix_install.plan import Written
from deliverypools.core.postfix_install.written import Changes, parameters_in, services_in

FOLDER: Final = "delivery-pools"
"""What is ours in a configuration directory."""
_AT_ONCE: Final = 50
"""Settings in one call: the kernel bounds what a command line holds."""

_MOST_COPIED_BYTES: Final = 4 << 20

_Item = TypeVar("_Item")


class Stage:
    """Copies of main.cf and master.cf, a folder `delivery-pools` of its own, copies of or links to everything else."""

    def __init__(self, directory: Path, live: Path, main: bytes, master: bytes) -> None:
        """Make it in `directory`, which is not there yet, from the live configuration directory."""
        self.directory = directory
        self._live = live
        directory.mkdir(mode=0o700)
        for path in live.iterdir():
            if path.name not in (MAIN, MASTER, FOLDER):
                _show(path, directory / path.name)
        (directory / FOLDER).mkdir()
        for name, content in ((MAIN, main), (MASTER, master)):
            (directory / name).write_bytes(content)
            shutil.copymode(live / name, directory / name)
        self._instance = PostfixInstance(str(directory))
        self._settle()

    @property
    def main(self) -> bytes:
        """The text of main.cf."""
        return (self.directory / MAIN).read_bytes()

    @property
    def master(self) -> bytes:
        """The text of master.cf."""
        return (self.directory / MASTER).read_bytes()

    def apply(self, changes: Changes, files: Mapping[str, str] | None = None) -> None:
        """Make changes, and write files of `delivery-pools`.

        Raises:
            PostfixError: postconf refuses one of them.
        """
        for name, text in (files or {}).items():
            (self.directory / FOLDER / name).write_text(text, encoding="utf-8")
        for name, changed in ((MAIN, changes.parameters), (MASTER, changes.services)):
            if changed:
                self._end_last_line(name)
        there = parameters_in(self.main.decode(errors="surrogateescape"))
        settings = {name: f"{name}={value}" for name, value in changes.parameters.items() if value is not None}
        for some in _parts([setting for name, setting in settings.items() if name in there]):
            self._postconf("-e", *some)
        # postconf adds what is new in an order of its own, another one each time: one by one, it is always the same.
        for name, setting in settings.items():
            if name not in there:
                self._postconf("-e", setting)
        for some in _parts([name for name, value in changes.parameters.items() if value is None]):
            self._postconf("-X", *some)
        labelled = {"/".join(key): line for key, line in changes.services.items()}
        for some in _parts([f"{label}={line}" for label, line in labelled.items() if line is not None]):
            self._postconf("-M", "-e", *some)
        for some in _parts([label for label, line in labelled.items() if line is None]):
            self._postconf("-M", "-X", *some)
        self._settle()

    def written(self) -> Written:
        """Return what its files say.

        Raises:
            PostfixError: postconf cannot read them.
        """
        return Written(
            parameters=parameters_in(self.main.decode(errors="surrogateescape")),
            services=services_in(self._postconf("-M")),
        )

    def check(self) -> None:
        """Let `postfix check` look at it.

        Raises:
            PostfixError: it finds something, in the words of the live configuration.
        """
        main = self.main
        self._end_last_line(MAIN)
        # Where it is off, `postfix check` renames the files in the queue, of a Postfix that runs.
        self._postconf("-e", "enable_long_queue_ids=yes")
        self._settle()
        try:
            self._instance.control("check")
        except PostfixError as error:
            raise PostfixError(self.in_live_words(str(error))) from None
        finally:
            (self.directory / MAIN).write_bytes(main)
            self._settle()

    def in_live_words(self, text: str) -> str:
        """Return a text about this copy as one about the configuration that it is a copy of."""
        return text.replace(str(self.directory), str(self._live))

    def _postconf(self, *arguments: str) -> str:
        self._settle()
        try:
            return self._instance.run("postconf", *arguments).stdout
        except PostfixError as error:
            raise PostfixError(self.in_live_words(str(error))) from None

    def _end_last_line(self, name: str) -> None:
        """End the last line of a file: postconf(1) would write behind it."""
        text = (self.directory / name).read_bytes()
        if text and not text.endswith(b"\n"):
            (self.directory / name).write_bytes(text + b"\n")

    def _settle(self) -> None:
        """Let its files look old: for one that was changed within the last second Postfix waits until it rests."""
        for path in (self.directory / MAIN, self.directory / MASTER, *(self.directory / FOLDER).iterdir()):
            os.utime(path, (0, 0))


def _show(path: Path, place: Path) -> None:
    """Let a file or a folder of the live configuration be seen at another place."""
    # `postfix check` warns of symbolic links that lead elsewhere. Links to files need the same file system.
    with contextlib.suppress(OSError, shutil.Error):
        if path.is_file() and not path.is_symlink():
            _copy_or_link(path, place)
            return
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            shutil.copytree(path, place, symlinks=True, copy_function=_copy_or_link)
            return
    shutil.rmtree(place, ignore_errors=True)
    place.symlink_to(path)


def _copy_or_link(path: str | Path, place: str | Path) -> None:
    """Copy a file; link one that is large. A link changes the status of the file: it looks changed to the fast path."""
    if os.stat(path).st_size <= _MOST_COPIED_BYTES:  # noqa: PTH116
        shutil.copy2(path, place)
    else:
        os.link(path, place)


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
