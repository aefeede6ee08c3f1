"""Installing and uninstalling on a configuration directory without a Postfix that runs, by the editor alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deliverypools.adapters import postfix_swap
from deliverypools.adapters.postfix_commands import PostfixInstance
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_swap import State
from deliverypools.core.postfix_install.manifest import Phase
from deliverypools.core.postfix_install.written import Changes
from deliverypools.lab.site import MASTER_CF, SITE_MAIN

NAMES = ("main.cf", "master.cf")
FIRST = Changes(
    {"relayhost": "[gw.example.org]", "smtpd_milters": "unix:x", "myorigin": None},
    {("egress", "unix"): "egress unix - - y - 100 smtp -o a=b", ("uucp", "unix"): None},
)
SECOND = Changes({"relayhost": "[other.example.org]"}, {("pool-normal", "unix"): "pool-normal unix - - y - - smtp"})


def made_site(tmp_path: Path) -> Path:
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "main.cf").write_text(f"# a site\n{SITE_MAIN}\nqueue_directory = {tmp_path}\n")
    (directory / "master.cf").write_bytes(MASTER_CF.read_bytes())
    (directory / "other").write_text("x")
    for name in NAMES:
        os.utime(directory / name, (0, 0))
    return directory


def editor_of(site: Path, clock: Callable[[], float] = lambda: 1.0) -> PostfixEditor:
    return PostfixEditor(PostfixInstance(str(site)), clock)


def install(site: Path, changes: Changes = FIRST, files: dict[str, str] | None = None) -> bool:
    """Install as the command does; tell whether an interrupted change was finished before."""
    files = {"tag_checks": "x\n"} if files is None else files
    editor = editor_of(site)
    with editor.changing() as was_interrupted:
        original = editor.original().stage
        planned = editor.stage("planned", original.main, original.master)
        planned.apply(changes, files)
        editor.swap_to(editor.installed(original, planned, files, Phase.INSTALLED))
        editor.finish()
    return was_interrupted


def install_at(site: Path, now: float, changes: Changes, phase: Phase = Phase.INSTALLED) -> None:
    editor = editor_of(site, lambda: now)
    with editor.changing():
        original = editor.original().stage
        planned = editor.stage("planned", original.main, original.master)
        planned.apply(changes, {})
        editor.swap_to(editor.installed(original, planned, {}, phase))
        editor.finish()


def uninstall(site: Path) -> bool:
    editor = editor_of(site)
    with editor.changing() as was_interrupted:
        if editor.manifest() is not None:
            original = editor.original().stage
            editor.swap_to(State(main=original.main, master=original.master), main_first=True)
            editor.finish()
    return was_interrupted


def content(site: Path) -> tuple[bytes, ...]:
    return tuple((site / name).read_bytes() for name in NAMES)


def names(site: Path) -> set[str]:
    return {str(path.relative_to(site)) for path in site.rglob("*")}


class Killed(BaseException):
    """As SIGKILL: nothing of ours runs afterwards."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> bool:
    """Run a change that ends as if it were killed before its step of that number; False: it has fewer."""
    left = step

    def count(real: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **keywords: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **keywords)

        return counted

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "mkdir", "rmdir"):
            patch.setattr(Path, name, count(getattr(Path, name)))
        patch.setattr(postfix_swap, "_write", count(postfix_swap._write))
        patch.setattr(shutil, "rmtree", count(shutil.rmtree))
        try:
            change()
        except Killed:
            return True
    return False
