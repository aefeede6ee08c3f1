"""Since when a file is what the proof of the fast path says: processes of Postfix that began before do not count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_fast_path_proof import NEVER_ENDING, READERS, Place, conditions, place, running, uptime

from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.core.postfix_check.configuration import PostfixConfiguration
from deliverypools.core.settings import Settings

__all__ = ["conditions", "place", "running"]


def switched(link: Path, target: str) -> None:
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


def by_link(tmp_path: Path) -> Callable[[], None]:
    (tmp_path / "maps").symlink_to("one")
    return lambda: switched(tmp_path / "maps", "two")


def by_folder(tmp_path: Path) -> Callable[[], None]:
    (tmp_path / "one").rename(tmp_path / "maps")

    def exchange() -> None:
        (tmp_path / "maps").rename(tmp_path / "maps.old")
        (tmp_path / "two").rename(tmp_path / "maps")

    return exchange


class TestSince:
    """Since when a file is what is found: processes of before it do not count."""

    @pytest.fixture
    def here(self, place, conditions, tmp_path: Path) -> Place:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "list").write_text(name)
        conditions(f"texthash:{tmp_path}/maps/list")
        made: Place = place()
        return made

    @pytest.mark.parametrize("way", [by_link, by_folder])
    @pytest.mark.parametrize("is_known", [True, False])
    def test_an_older_file_in_place_of_a_newer_one(self, here, running, tmp_path, way, *, is_known: bool):
        change = way(tmp_path)
        before = here.prove()
        assert before.is_reloaded
        running.are_of("cleanup", at=uptime())
        change()
        assert not here.prove(before if is_known else None).is_reloaded
        running.reload()
        assert here.prove(before if is_known else None).is_reloaded

    def test_another_file_that_no_time_tells_of(self, here, running, tmp_path):
        """A file system was mounted there, or a folder's file system does not tell: it is so since this look."""
        change = by_link(tmp_path)
        before = here.prove()
        change()
        at_link = str(tmp_path / "maps")
        before = replace(before, looked_at=uptime(), steps=before.steps | {at_link: before.steps[str(tmp_path)]})
        running.are_of("cleanup", at=uptime())
        seen = here.prove(before)
        assert not seen.is_reloaded
        assert seen.steps[at_link].since == seen.looked_at
        running.are_of("cleanup", at=uptime() + 1.0)
        assert here.prove(seen).is_reloaded

    def test_what_comes_and_goes_beside_it_is_no_change(self, here, running, tmp_path):
        by_folder(tmp_path)
        (tmp_path / "maps/other").write_text("")
        before = here.prove()
        (tmp_path / "maps/.swp").write_text("")
        (tmp_path / "maps/.swp").unlink()
        assert here.prove(before).steps == before.steps

    @pytest.mark.parametrize("seconds", [3600.0, -3600.0, 5.0])
    @pytest.mark.parametrize("is_known", [True, False])
    def test_clock_that_was_set_meanwhile(self, here, running, tmp_path, seconds: float, *, is_known: bool):
        """Set forward, it makes the change seem older than the processes."""
        by_link(tmp_path)
        before = here.prove()
        running.are_of(*READERS, *NEVER_ENDING, at=uptime())
        (tmp_path / "one/list").write_text("another")
        (here.etc / "main.cf").touch()
        running.clock = time.time() - uptime() - seconds
        proof = here.prove(replace(before, clock=running.clock) if is_known else None)
        assert not proof.is_reloaded
        assert proof.steps[str(tmp_path / "one/list")].since == proof.looked_at

    def test_change_while_the_configuration_is_read(self, here, running, tmp_path, monkeypatch):
        """A process that began before it, and while root was looking already, has the file of before."""
        by_link(tmp_path)
        before, read = here.prove(), PostfixReader.read
        turns = iter([True])

        def changing(reader: PostfixReader, settings: Settings) -> PostfixConfiguration:
            found = read(reader, settings)
            if next(turns, False):
                running.are_of("cleanup", at=uptime() - 0.05)
                (tmp_path / "one/list").write_text("another")
            return found

        monkeypatch.setattr(PostfixReader, "read", changing)
        assert not here.prove(before).is_reloaded

    def test_seconds_of_another_start_of_the_machine(self, here, tmp_path):
        by_link(tmp_path)
        late = {path: step._replace(since=1e12) for path, step in here.prove().steps.items()}
        assert not here.prove(replace(here.prove(), steps=late)).is_reloaded
        assert here.prove(replace(here.prove(), steps=late, boot="another")).is_reloaded

    def test_file_that_is_gone(self, here, running, tmp_path):
        by_link(tmp_path)
        before = here.prove()
        running.are_of("smtpd", at=uptime())
        (tmp_path / "one/list").unlink()
        assert not here.prove(before).is_reloaded
        running.reload()
        assert here.prove(before).is_reloaded
