"""The editor on a configuration directory, with real postconf: interrupted, locked, without room, by a link."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from editing import (
    FIRST,
    NAMES,
    SECOND,
    content,
    install,
    install_at,
    killed_at,
    made_site,
    names,
    uninstall,
)

from deliverypools.adapters import postfix_swap
from deliverypools.adapters.installed_since import installed_since
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.core.postfix_install.manifest import Phase


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return made_site(tmp_path)


def test_original_comes_back_byte_for_byte(site: Path):
    before, there = content(site), names(site)
    install(site)
    after = content(site)
    assert b"relayhost = [gw.example.org]" in after[0]
    assert b"uucp" not in after[1]
    uninstall(site)
    assert content(site) == before
    assert names(site) == there


def test_installing_again_changes_nothing_and_keeps_the_oldest(site: Path):
    before = content(site)
    install(site)
    first = content(site)
    install(site)
    assert content(site) == first
    install(site, SECOND, {"routes": "y\n"})
    assert b"relayhost = [other.example.org]" in content(site)[0]
    assert b"egress" not in content(site)[1]
    assert names(site / "delivery-pools") == {
        "routes",
        "before",
        "before/main.cf",
        "before/master.cf",
        "before/manifest.json",
    }
    assert tuple((site / "delivery-pools/before" / name).read_bytes() for name in NAMES) == before
    uninstall(site)
    assert content(site) == before


def test_edits_of_an_administrator_are_in_the_next_original(site: Path):
    before = content(site)
    install(site)
    (site / "main.cf").write_text((site / "main.cf").read_text() + "smtpd_banner = edited\n")
    install(site, SECOND)
    assert b"smtpd_banner = edited" in content(site)[0]
    assert (site / "delivery-pools/before/main.cf").read_bytes() == before[0]
    uninstall(site)
    assert b"smtpd_banner = edited" in content(site)[0]
    assert b"relayhost" not in content(site)[0]
    assert b"myorigin" in content(site)[0]
    assert content(site)[1] == before[1]
    assert "delivery-pools" not in names(site)


def test_backup_put_back_by_hand_is_the_original(site: Path):
    before = content(site)
    install(site)
    for name, text in zip(NAMES, before, strict=True):
        (site / name).write_bytes(text)
    install(site, SECOND)
    uninstall(site)
    assert content(site) == before


# ---- interrupted


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("installed again", lambda site: install(site, SECOND, {"routes": "y\n"})),
    ("uninstalled", uninstall),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[name for name, _ in CHANGES])
def test_killed_at_any_step_the_next_run_finds_a_whole_configuration(
    name: str, change: Callable[[Path], object], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before, there = content(site), names(site)
    install(site)
    shutil.copytree(site, tmp_path / "installed")
    for step in range(200):
        if not killed_at(step, monkeypatch, lambda: change(site)):
            break
        uninstall(site)
        assert (content(site), names(site)) == (before, there), step
        shutil.copytree(tmp_path / "installed", site, dirs_exist_ok=True)
    else:
        pytest.fail("it never ends")
    assert step > 5


def test_interrupted_change_is_finished_by_installing_again(site: Path, monkeypatch: pytest.MonkeyPatch):
    before, there = content(site), names(site)
    install(site)
    step = next(step for step in range(200) if not killed_while_looking(site, step, monkeypatch))
    for further in range(step, step + 12, 3):
        killed_at(further, monkeypatch, lambda: install(site, SECOND, {"routes": "y\n"}))
        install(site, SECOND, {"routes": "y\n"})
        assert b"relayhost = [other.example.org]" in content(site)[0]
        assert names(site / "delivery-pools") == {
            "routes",
            "before",
            "before/main.cf",
            "before/master.cf",
            "before/manifest.json",
        }
        install(site)
    uninstall(site)
    assert (content(site), names(site)) == (before, there)


def killed_while_looking(site: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a change that is killed at that step has written down nothing yet."""
    killed_at(step, monkeypatch, lambda: install(site, SECOND, {"routes": "y\n"}))
    is_begun = (site / "delivery-pools/next/journal.json").is_file()
    install(site)
    return not is_begun


def test_first_install_killed_at_any_step(site: Path, monkeypatch: pytest.MonkeyPatch):
    before, there = content(site), names(site)
    for step in range(200):
        if not killed_at(step, monkeypatch, lambda: install(site)):
            break
        uninstall(site)
        assert (content(site), names(site)) == (before, there), step
    assert step > 5


def test_edit_between_the_interruption_and_the_next_run_is_kept(site: Path, monkeypatch: pytest.MonkeyPatch):
    steps = [step for step in range(200) if was_written_down(site, step, monkeypatch)]
    assert steps
    for step in steps:
        assert killed_at(step, monkeypatch, lambda: install(site))
        (site / "main.cf").write_text((site / "main.cf").read_text() + "smtpd_banner = edited\n")
        uninstall(site)
        assert b"smtpd_banner = edited" in content(site)[0], step
        text = (site / "main.cf").read_text().replace("smtpd_banner = edited\n", "")
        (site / "main.cf").write_text(text)


def was_written_down(site: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    was_killed = killed_at(step, monkeypatch, lambda: install(site))
    is_begun = (site / "delivery-pools/next/journal.json").is_file()
    uninstall(site)
    return was_killed and is_begun


# ---- what stands in the way


def test_two_at_once_are_refused(site: Path):
    descriptor = os.open(site, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(PostfixError, match="another `delivery-pools postfix` is changing it") as refused:
            install(site)
        name = Path("/proc/self/comm").read_text().strip()
        assert str(refused.value).endswith(f" (it is process {os.getpid()}, {name})")
    finally:
        os.close(descriptor)
    install(site)


@pytest.mark.parametrize("name", NAMES)
def test_file_on_which_something_is_mounted_is_refused(tmp_path: Path, name: str):
    """As containers mount single files: nothing can be renamed over it."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    site = made_site(folder)
    before, there = content(site), names(site)
    mounted = tmp_path / "elsewhere"
    mounted.write_bytes((site / name).read_bytes())
    here = Path(__file__).parent
    run = f"import pathlib, editing; editing.install(pathlib.Path({str(site)!r}))"
    in_a_namespace = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && exec "$2" -c "$3"']
    done = subprocess.run(
        [*in_a_namespace, str(mounted), str(site / name), sys.executable, run],
        env=os.environ | {"PYTHONPATH": f"{here}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{site / name}: something is mounted on this file itself" in done.stderr
    assert (content(site), names(site)) == (before, there)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["disk full", "read-only"])
def test_what_cannot_be_written_changes_nothing(site: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    before, there = content(site), names(site)
    real = postfix_swap._write
    for most in range(5):
        written: list[Path] = []

        def write(
            path: Path, text: bytes, *, like: Path | None = None, most: int = most, written: list[Path] = written
        ) -> Path:
            if len(written) == most:
                raise OSError(number, os.strerror(number), str(path))
            written.append(path)
            return real(path, text, like=like)

        with monkeypatch.context() as patch:
            patch.setattr(postfix_swap, "_write", write)
            with pytest.raises(PostfixError, match="configuration is as it was"):
                install(site)
        assert (content(site), names(site)) == (before, there)


def test_manifest_that_is_damaged_is_said(site: Path):
    install(site)
    (site / "delivery-pools/before/manifest.json").write_text("{")
    after = content(site)
    with pytest.raises(PostfixError, match=r"manifest\.json: is no manifest of ours"):
        uninstall(site)
    assert content(site) == after


def test_missing_backup_is_said(site: Path):
    install(site)
    (site / "delivery-pools/before/main.cf").unlink()
    with pytest.raises(PostfixError, match="put it back from a backup"):
        uninstall(site)


# ---- the files themselves


@pytest.fixture
def linked(site: Path, tmp_path: Path) -> Path:
    elsewhere = tmp_path / "managed"
    elsewhere.mkdir()
    (site / "main.cf").rename(elsewhere / "main.cf")
    (site / "main.cf").symlink_to(elsewhere / "main.cf")
    return site


def test_symbolic_link_goes_on_leading_to_the_file(linked: Path, tmp_path: Path):
    before = content(linked)
    install(linked)
    assert (linked / "main.cf").is_symlink()
    assert b"gw.example.org" in (tmp_path / "managed/main.cf").read_bytes()
    uninstall(linked)
    assert content(linked) == before
    assert names(tmp_path / "managed") == {"main.cf"}


def test_mode_and_owner_stay(site: Path):
    (site / "master.cf").chmod(0o640)
    os.chown(site / "master.cf", os.getuid(), os.getgid())
    install(site)
    paths = (site / "master.cf", site / "delivery-pools/before/master.cf")
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o640, 0o640]


def test_file_of_the_administrator_in_our_folder_stays(site: Path):
    install(site)
    (site / "delivery-pools/mine").write_text("x")
    uninstall(site)
    assert names(site / "delivery-pools") == {"mine"}


def test_missing_configuration_is_said(tmp_path: Path):
    with pytest.raises(PostfixError, match="--config-directory"):
        PostfixInstance(str(tmp_path))


def test_time_of_the_installation_is_that_of_the_first_one_since_ours_was_taken_out(site: Path):
    assert installed_since(str(site)) is None
    install_at(site, 10.0, FIRST)
    install_at(site, 20.0, SECOND)
    assert installed_since(str(site)) == 10.0
    install_at(site, 30.0, SECOND, Phase.LEAVING)
    install_at(site, 40.0, SECOND)
    assert installed_since(str(site)) == 40.0
    uninstall(site)
    assert installed_since(str(site)) is None


def test_last_lines_without_an_end_stay_whole_and_come_back_as_they_were(site: Path):
    for name in NAMES:
        path = site / name
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
        os.utime(path, (0, 0))
    before = content(site)
    last = {name: text.splitlines()[-1] for name, text in zip(NAMES, before, strict=True)}
    install(site)
    for name, text in zip(NAMES, content(site), strict=True):
        assert last[name] in text.splitlines(), name
    assert b"\nrelayhost = [gw.example.org]" in content(site)[0]
    kept = tuple((site / "delivery-pools/before" / name).read_bytes() for name in NAMES)
    assert kept == before
    uninstall(site)
    assert content(site) == before
