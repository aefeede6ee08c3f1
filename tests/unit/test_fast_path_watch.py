"""What closes the fast path at once, and what opens it again."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest
from proved_place import HOP, HOSTNAME, Place, settings

from deliverypools.adapters import fast_path
from deliverypools.adapters.fast_path import (
    FastPathWatch,
    identity_of,
    read_proof,
    remove_proof,
    write_proof,
)
from deliverypools.adapters.fast_path_steps import UNSEEN
from deliverypools.core.fast_path import settings_digest


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def watch(place: Place) -> FastPathWatch:
    watch = FastPathWatch(place.settings)
    assert watch.is_open()
    return watch


def replaced(path: Path) -> None:
    """As an editor does: the same bytes, another file."""
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


def rewritten_with_its_old_time(path: Path) -> None:
    """As `cp -p` and `rsync --inplace` do."""
    before = path.stat()
    path.write_text("two\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES = {
    "main.cf edited": lambda place: place.main.write_text("two\n"),
    "main.cf replaced": lambda place: replaced(place.main),
    "main.cf touched": lambda place: os.utime(place.main),
    "main.cf gone": lambda place: place.main.unlink(),
    "table longer": lambda place: place.table.write_text("one and a half\n"),
    "table rewritten, with its old time": lambda place: rewritten_with_its_old_time(place.table),
    "table replaced": lambda place: replaced(place.table),
    "table gone": lambda place: place.table.unlink(),
    "table a folder": lambda place: (place.table.unlink(), place.table.mkdir()),
    "table that was not there": lambda place: place.missing.write_text(""),
    "link to another file": lambda place: (place.link.unlink(), place.link.symlink_to(place.table)),
    "link to nothing": lambda place: place.target.unlink(),
    "target of a link edited": lambda place: place.target.write_text("two\n"),
    "link to itself": lambda place: (place.link.unlink(), place.link.symlink_to(place.link)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_closes_it(place: Place, watch: FastPathWatch, change):
    change(place)
    assert not watch.is_open()
    assert "has changed since" in watch.reason or "may not look" in watch.reason


def test_a_new_proof_opens_it_again(place: Place, watch: FastPathWatch):
    place.table.write_text("two, and longer\n")
    assert not watch.is_open()
    place.prove()
    assert watch.is_open()
    assert watch.reason == ""


DAMAGES = {
    "no proof": lambda file: file.unlink(),
    "nothing in it": lambda file: file.write_text(""),
    "garbage": lambda file: file.write_bytes(os.urandom(1000)),
    "no object": lambda file: file.write_text("[]"),
    "half of it": lambda file: file.write_text(file.read_text()[:200]),
    "of another version": lambda file: file.write_text(file.read_text().replace('"format": 3', '"format": 2')),
    "a number without end": lambda file: file.write_text(file.read_text().replace("1000000.0", "9" * 400)),
    "nested": lambda file: file.write_text("[" * 100_000),
    "10 MB": lambda file: file.write_text(file.read_text() + " " * (10 << 20)),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a FIFO": lambda file: (file.unlink(), os.mkfifo(file)),
    "a link to nothing": lambda file: (file.unlink(), file.symlink_to("nothing")),
    "a device without end": lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
    "one that anybody may write": lambda file: file.chmod(0o666),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_proof_closes_it(place: Place, watch: FastPathWatch, damage):
    damage(place.file)
    assert not watch.is_open()
    assert "run `delivery-pools check` as root" in watch.reason
    assert watch.hop == ""


def test_no_folder(tmp_path: Path):
    watch = FastPathWatch(settings(tmp_path / "nowhere"))
    assert not watch.is_open()
    assert watch.proof_seen(str(tmp_path), HOSTNAME) is None


def test_problems_close_it(place: Place, watch: FastPathWatch):
    place.prove(problems=("always_bcc = archive@example.org", "content_filter = scan:"))
    assert not watch.is_open()
    assert watch.reason == "always_bcc = archive@example.org; content_filter = scan:"
    assert watch.hop == HOP


def test_a_proof_of_other_settings_closes_it(place: Place):
    changed = place.settings.model_copy(update={"accepted_domains": ("example.org", "example.com")})
    watch = FastPathWatch(changed)
    assert not watch.is_open()
    assert "settings have changed" in watch.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fast_path": "off"}, 'fast_path = "off" in the settings'),
        ({"profile": "express"}, 'profile = "express" has no hop to skip'),
    ],
)
def test_settings_that_do_not_want_it(place: Place, changes, reason: str):
    unwilling = settings(place.folder, **changes)
    write_proof(unwilling, place.proof(settings=settings_digest(unwilling)))
    watch = FastPathWatch(unwilling)
    assert not watch.is_open()
    assert (watch.reason, watch.hop, watch.proof_seen(place.instance, HOSTNAME)) == (reason, "", None)


class TestSince:
    """An smtpd(8) works with the tables of when its session began."""

    def test_the_same_proof(self, place: Place, watch: FastPathWatch):
        assert watch.is_open(place.seen(watch))

    def test_a_proof_made_later(self, place: Place, watch: FastPathWatch):
        seen = place.seen(watch)
        place.prove(made_at=2_000_000.0)
        assert watch.is_open()
        assert not watch.is_open(seen)
        assert watch.is_open(place.seen(watch))

    def test_no_proof_then(self, place: Place, watch: FastPathWatch):
        remove_proof(place.settings)
        assert watch.proof_seen(place.instance, HOSTNAME) is None


class TestInstance:
    """One milter may serve several instances of Postfix; the proof is about one."""

    @pytest.mark.parametrize("said", ["{0}", "{0}/", "{0}//", "/.{0}"])
    def test_its_own(self, place: Place, watch: FastPathWatch, said: str):
        assert watch.proof_seen(said.format(place.instance), HOSTNAME) == identity_of(place.file)

    @pytest.mark.parametrize(
        "said",
        ["", "yes", "/", "{0}-out", "{0}/out", "{0}/..", "{0}/../{1}", "{0} ", "{2}", "$config_directory", "{0},{0}"],
    )
    def test_another(self, place: Place, watch: FastPathWatch, said: str):
        instance = Path(place.instance)
        named = said.format(instance, instance.name, place.instance.removeprefix("/"))
        assert watch.proof_seen(named, HOSTNAME) is None

    @pytest.mark.parametrize("hostname", ["", "mx.example.com", "MX.example.org ", "example.org"])
    def test_another_of_the_same_name(self, place: Place, watch: FastPathWatch, hostname: str):
        """On another host, or in another container: each has its /etc/postfix."""
        assert watch.proof_seen(place.instance, hostname) is None

    def test_a_proof_that_names_no_host(self, place: Place, watch: FastPathWatch):
        place.prove(hostnames=("",))
        assert watch.proof_seen(place.instance, "") is None

    @pytest.mark.parametrize("directory", ["", "etc/postfix", "yes"])
    def test_a_proof_that_names_none(self, place: Place, watch: FastPathWatch, directory: str):
        place.prove(config_directory=directory)
        assert [watch.proof_seen(said, HOSTNAME) for said in (directory, f"/{directory}", place.instance)] == [None] * 3

    def test_the_proof_becomes_that_of_another(self, place: Place, watch: FastPathWatch):
        seen = place.seen(watch)
        place.prove(config_directory="/etc/postfix-out")
        assert watch.proof_seen(place.instance, HOSTNAME) is None
        assert watch.proof_seen("/etc/postfix-out", HOSTNAME) == identity_of(place.file)
        assert not watch.is_open(seen)


class TestWhatComesBack:
    """Postfix may have begun to work by what was there meanwhile."""

    def test_link(self, place: Place, watch: FastPathWatch):
        _switch(place.link, place.table)
        _switch(place.link, place.target)
        assert not watch.is_open()

    def test_link_that_was_put_aside(self, place: Place, watch: FastPathWatch):
        place.link.rename(place.folder / "aside")
        (place.folder / "aside").rename(place.link)
        assert not watch.is_open()

    def test_folder(self, place: Place):
        inside = place.folder / "maps"
        inside.mkdir()
        (inside / "list").write_text("one\n")
        place.table = inside / "list"
        place.prove()
        watch = FastPathWatch(place.settings)
        assert watch.is_open()
        inside.rename(place.folder / "maps.old")
        (place.folder / "maps.old").rename(inside)
        assert not watch.is_open()
        assert f"{inside} has changed since" in watch.reason

    def test_once_seen_a_difference_is_for_good(self, place: Place, watch: FastPathWatch, monkeypatch):
        """As with file systems that are mounted one over the other: no time tells of it."""
        with monkeypatch.context() as patched:
            patched.setattr(fast_path, "identity_at", lambda path: (1, 2, 3, 4, 5))
            assert not watch.is_open()
        assert not watch.is_open()
        place.prove()
        assert watch.is_open()

    def test_what_one_worker_has_seen_holds_for_all(self, place: Place, watch: FastPathWatch, monkeypatch):
        other = FastPathWatch(place.settings)
        assert other.is_open()
        with monkeypatch.context() as patched:
            patched.setattr(fast_path, "identity_at", lambda path: (1, 2, 3, 4, 5))
            assert not watch.is_open()
        assert not other.is_open()
        assert other.reason == watch.reason
        ended = read_proof(place.settings)
        assert ended is not None
        assert (ended.is_reloaded, ended.problems) == (False, (watch.reason,))

    def test_a_newer_proof_is_not_ended(self, place: Place, watch: FastPathWatch, monkeypatch):
        """Root proves it anew in the moment in which the change is seen."""
        place.main.write_text("two\n")
        difference = fast_path._difference

        def proved_meanwhile(steps):
            found = difference(steps)
            place.prove()
            return found

        with monkeypatch.context() as patched:
            patched.setattr(fast_path, "_difference", proved_meanwhile)
            assert not watch.is_open()
        assert watch.is_open()
        assert [path.name for path in place.file.parent.iterdir()] == ["fast-path.json"]

    def test_where_it_cannot_be_written(self, place: Place, watch: FastPathWatch, monkeypatch, caplog):
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(fast_path.os, "fsync", full)
        place.main.write_text("two\n")
        assert not watch.is_open()
        assert "No space left on device: other workers go by what they see themselves" in caplog.text

    def test_what_never_held_here_ends_no_proof(self, place: Place):
        """In another container the same path leads elsewhere; root would prove it every few minutes."""
        place.main.write_text("two\n")
        before = identity_of(place.file)
        assert not FastPathWatch(place.settings).is_open()
        assert identity_of(place.file) == before

    def test_what_a_worker_may_not_see_ends_no_proof(self, place: Place, watch: FastPathWatch, monkeypatch):
        """Root sees it, and would prove the same again and again."""
        before = identity_of(place.file)
        with monkeypatch.context() as patched:
            patched.setattr(fast_path, "identity_at", lambda path: UNSEEN)
            assert not watch.is_open()
        assert identity_of(place.file) == before

    def test_what_comes_and_goes_in_its_folder_is_no_change(self, place: Place, watch: FastPathWatch):
        (place.folder / "another").write_text("")
        assert watch.is_open()
        (place.folder / "another").unlink()
        assert watch.is_open()


def _switch(link: Path, target: Path) -> None:
    """Let a link lead elsewhere, as `ln -sfn` does."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


def test_unseen_is_never_the_same(place: Place):
    place.link.unlink()
    place.link.symlink_to(place.link)
    place.prove()
    assert place.proof().steps[str(place.link)].identity == UNSEEN
    assert not FastPathWatch(place.settings).is_open()


def test_says_once_when_it_opens_and_closes(place: Place, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, fast_path.__name__)
    watch = FastPathWatch(place.settings)
    for _ in range(3):
        watch.is_open()
    place.main.unlink()
    for _ in range(3):
        watch.is_open()
    assert [record.getMessage() for record in caplog.records] == [
        "fast path: on",
        f"fast path: off, all mail takes the hop: {place.main} has changed since; {fast_path._AGAIN}",
    ]


def test_the_file_is_read_only_when_it_is_another(place: Place, watch: FastPathWatch, monkeypatch: pytest.MonkeyPatch):
    def refuse(path):
        raise AssertionError(path)

    monkeypatch.setattr(fast_path, "_read", refuse)
    assert watch.is_open()


def test_what_cannot_be_read_for_once_is_read_at_the_next_message(place: Place, watch: FastPathWatch, monkeypatch):
    place.prove(made_at=2_000_000.0)
    with monkeypatch.context() as patched:

        def too_many(path):
            raise OSError(24, "Too many open files")

        patched.setattr(fast_path, "_read", too_many)
        assert not watch.is_open()
        assert "Too many open files" in watch.reason
    assert watch.is_open()


def test_many_threads(place: Place):
    watch = FastPathWatch(place.settings)
    wrong: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                watch.is_open(watch.proof_seen(place.instance, HOSTNAME))
                if watch.hop not in (HOP, ""):
                    wrong.append(watch.hop)
            except Exception as error:  # noqa: BLE001
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        if number % 3:
            place.prove(made_at=float(number))
        else:
            remove_proof(place.settings)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    place.prove()
    assert watch.is_open()
