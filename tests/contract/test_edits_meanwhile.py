"""Edits of an administrator while a configuration is changed: none is overwritten, with real postconf."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from editing import FIRST, NAMES, SECOND, Killed, content, editor_of, install, made_site, names, uninstall

from deliverypools.adapters import postfix_swap
from deliverypools.adapters.postfix_commands import PostfixError
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_swap import State, Swap
from deliverypools.core.postfix_install.manifest import Phase, Reload
from deliverypools.core.postfix_install.plan import Written
from deliverypools.core.postfix_install.written import Changes

EDITS = {"main.cf": b"smtpd_banner = edited\n", "master.cf": b"mine unix - - n - 1 discard\n"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return made_site(tmp_path)


def edit(site: Path, *names: str) -> None:
    for name in names:
        with (site / name).open("ab") as file:
            file.write(EDITS[name])


def with_edits(before: tuple[bytes, ...], *names: str) -> tuple[bytes, ...]:
    return tuple(text + (EDITS[name] if name in names else b"") for name, text in zip(NAMES, before, strict=True))


def assert_ours_has_gone(site: Path, before: tuple[bytes, ...], there: set[str], *edited: str) -> None:
    """In an edited file lines may stand elsewhere, as postconf writes them; the other one is what it was."""
    assert [text for name, text in zip(NAMES, content(site), strict=True) if name not in edited] == [
        text for name, text in zip(NAMES, before, strict=True) if name not in edited
    ]
    assert names(site) == there
    said = read(site)
    for name, text in zip(NAMES, with_edits(before, *edited), strict=True):
        (site / name).write_bytes(text)
    assert said == read(site)


def read(site: Path) -> Written:
    editor = editor_of(site)
    with editor.looking():
        return editor.live().written()


def state_for(editor: PostfixEditor, changes: Changes, phase: Phase = Phase.INSTALLED) -> State:
    original = editor.original().stage
    planned = editor.stage("planned", original.main, original.master)
    planned.apply(changes, {})
    return editor.installed(original, planned, {}, phase)


@pytest.mark.parametrize("name", NAMES)
def test_edited_after_it_was_read_nothing_is_changed(site: Path, name: str):
    before, there = content(site), names(site)
    editor = editor_of(site)
    with editor.changing():
        planned = state_for(editor, FIRST)
        edit(site, name)
        with pytest.raises(PostfixError, match=f"{name} was edited meanwhile, and stays as it is; nothing was changed"):
            editor.swap_to(planned)
    assert (content(site), names(site)) == (with_edits(before, name), there)


@pytest.mark.parametrize("name", NAMES)
def test_edited_between_two_steps_it_stays_and_the_next_run_finishes(site: Path, name: str):
    before, there = content(site), names(site)
    editor = editor_of(site)
    with editor.changing():
        entering, planned = state_for(editor, SECOND, Phase.ENTERING), state_for(editor, FIRST)
        editor.swap_to(entering)
        edit(site, name)
        after = content(site)
        with pytest.raises(PostfixError, match=f"{name} was edited meanwhile.* Run the command again: it finishes"):
            editor.swap_to(planned)
    assert content(site) == after
    install(site)
    assert EDITS[name] in content(site)[NAMES.index(name)]
    assert b"gw.example.org" in content(site)[0]
    uninstall(site)
    assert_ours_has_gone(site, before, there, name)


@pytest.mark.parametrize("change", [install, uninstall])
@pytest.mark.parametrize("name", NAMES)
def test_edited_at_the_last_moment_it_stays(
    site: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Path], object]
):
    before, there = content(site), names(site)
    if change is uninstall:
        install(site)
    carry_out = Swap.carry_out

    def edit_before(swap: Swap) -> None:
        edit(site, name)
        carry_out(swap)

    with monkeypatch.context() as patch:
        patch.setattr(Swap, "carry_out", edit_before)
        with pytest.raises(PostfixError, match=f"{name} was edited meanwhile"):
            change(site)
    assert EDITS[name] in content(site)[NAMES.index(name)]
    change(site)
    assert (b"gw.example.org" in content(site)[0]) is (change is install)
    uninstall(site)
    assert_ours_has_gone(site, before, there, name)


def test_edited_before_the_reload_is_recorded_it_stays(site: Path):
    before, there = content(site), names(site)
    editor = editor_of(site)
    with editor.changing():
        editor.swap_to(state_for(editor, FIRST))
        edit(site, *NAMES)
        after = content(site)
        editor.record(Reload(at=1.0, uptime_seconds=2.0, boot_id="x"))
        editor.finish()
        assert content(site) == after
        manifest = editor.manifest()
        assert manifest is not None
        assert manifest.reload is not None
    uninstall(site)
    assert_ours_has_gone(site, before, there, *NAMES)


@pytest.mark.parametrize("moved", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_edited_after_uninstall_was_killed_ours_goes_and_the_edit_stays(
    site: Path, monkeypatch: pytest.MonkeyPatch, name: str, moved: int
):
    before, there = content(site), names(site)
    install(site)
    with killed_after(moved, monkeypatch), pytest.raises(Killed):
        uninstall(site)
    edit(site, name)
    uninstall(site)
    assert_ours_has_gone(site, before, there, name)


@contextmanager
def killed_after(moved: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the process after so many of the two files have been renamed."""
    left = moved
    move = postfix_swap._move

    def counted(source: Path, target: Path) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(postfix_swap, "_move", counted)
        yield
