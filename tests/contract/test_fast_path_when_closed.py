"""What the timer's look at the fast path leaves alone, on a configuration whose Postfix seems to run."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from postfix_files import Change, settings_of, write

from deliverypools.adapters import fast_path as adapter
from deliverypools.adapters.fast_path import FastPathWatch, identity_of, proof_path, read_proof
from deliverypools.adapters.postfix_commands import PostfixInstance, Process
from deliverypools.cli import fast_path
from deliverypools.core.settings import Settings

SERVICES = ("milter", "policy", "socketmap")


class Place:
    """A configuration directory, and what the timer's command says of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self._monkeypatch = monkeypatch
        self.take(fast_path="auto")
        write(self.etc, "hop", Change(main={"queue_directory": str(folder)}))

    def take(self, profile: str = "hop", **changes: Any) -> None:
        """Go on with other settings."""
        sockets = {name: {"socket": f"unix:{self.folder}/delivery-pools/{name}.sock"} for name in SERVICES}
        spool = {"alerts": {"spool": str(self.folder / "spool")}}
        self.settings: Settings = settings_of(profile, spool | sockets | changes)
        self._monkeypatch.setattr(fast_path, "read_settings", lambda _: self.settings)

    def look(self, directory: Path | None = None, *, when_closed: bool = True) -> int:
        where = str(directory or self.etc)
        return fast_path.fast_path(argparse.Namespace(when_closed=when_closed, json=False, config_directory=where))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    monkeypatch.setattr(PostfixInstance, "is_running", lambda _: True)
    monkeypatch.setattr(PostfixInstance, "arguments", lambda *_: [])
    monkeypatch.setattr(PostfixInstance, "processes", lambda *_: {Process(1, float("inf"))})
    place = Place(tmp_path, monkeypatch)
    assert place.look() == 0
    assert capsys.readouterr().out.startswith("fast path: on, ")
    return place


def test_a_proof_that_holds(place: Place, capsys: pytest.CaptureFixture[str]):
    before = identity_of(proof_path(place.settings))
    assert (place.look(), capsys.readouterr().out) == (0, "")
    assert identity_of(proof_path(place.settings)) == before


@pytest.mark.parametrize("changes", [{"fast_path": "off"}, {"profile": "express"}], ids=["off", "express"])
@pytest.mark.parametrize("is_there", [True, False])
def test_settings_that_do_not_want_it(place: Place, capsys, changes: dict[str, str], *, is_there: bool):
    path = proof_path(place.settings)
    (place.etc / "main.cf").touch()
    if not is_there:
        path.unlink()
    before = identity_of(path)
    place.take(**{"fast_path": "auto"} | changes)
    assert (place.look(), capsys.readouterr().out) == (0, "")
    assert identity_of(path) == before


def test_other_settings(place: Place, capsys: pytest.CaptureFixture[str]):
    """The milter goes by the proof when it has read them, too."""
    place.take(fast_path="auto", accepted_domains=["example.org", "example.com"])
    assert place.look() == 0
    assert capsys.readouterr().out.startswith("fast path: on, ")
    assert FastPathWatch(place.settings).reason == ""
    assert (place.look(), capsys.readouterr().out) == (0, "")


def test_a_link_is_no_other_configuration(place: Place):
    """Postfix's processes say the name that it was started with."""
    link = place.folder / "link"
    link.symlink_to(place.etc)
    (place.etc / "main.cf").touch()
    assert place.look(link) == 0
    proof = read_proof(place.settings)
    assert proof is not None
    assert (proof.config_directory, proof.holds) == (str(place.etc), True)


def test_uninstall_by_a_link_takes_the_proof_away(place: Place):
    link = place.folder / "link"
    link.symlink_to(place.etc)
    fast_path.close_fast_path(place.settings, link)
    assert not proof_path(place.settings).exists()


def test_copy_that_somebody_looks_at_does_not_take_the_place_of_what_is_proved(place: Place, capsys):
    copy = place.folder / "copy"
    shutil.copytree(place.etc, copy)
    before = identity_of(proof_path(place.settings))
    assert place.look(copy, when_closed=False) == 1
    found, kept = capsys.readouterr().out.splitlines()
    assert found == f"{copy}: nothing speaks against a fast path"
    assert kept.startswith(f"Nothing was kept: the milter goes by the proof about {place.etc}. ")
    assert kept.endswith(f" remove {proof_path(place.settings)}, and run this again")
    with (copy / "main.cf").open("a") as main:
        main.write("always_bcc = archive@example.org\n")
    assert place.look(copy, when_closed=False) == 1
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"{copy}: all mail would take the hop:",
        "  always_bcc = archive@example.org",
    ]
    assert identity_of(proof_path(place.settings)) == before


def test_another_configuration_takes_the_place_of_one_without_a_hop(place: Place, capsys):
    other = place.folder / "other"
    shutil.copytree(place.etc, other)
    shutil.rmtree(place.etc)
    assert place.look(other, when_closed=False) == 0
    proof = read_proof(place.settings)
    assert proof is not None
    assert proof.config_directory == str(other)


class TestEndedByAWorker:
    """What a worker has seen ends the proof; when it has come back as it was, no time of its own tells since when."""

    @pytest.fixture
    def ended(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
        watch = FastPathWatch(place.settings)
        assert watch.is_open()
        with monkeypatch.context() as patched:
            patched.setattr(adapter, "_difference", lambda _: (str(place.etc / "main.cf"), (1, 2, 3, 4, 5)))
            assert not watch.is_open()
        return place

    def test_processes_may_be_of_meanwhile(self, ended: Place, monkeypatch: pytest.MonkeyPatch):
        started = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(PostfixInstance, "processes", lambda *_: {Process(1, started)})
        time.sleep(0.2)
        assert ended.look() == 0
        proof = read_proof(ended.settings)
        assert proof is not None
        assert "processes of before the change" in proof.problems[0]

    def test_while_root_looks(self, place: Place, monkeypatch: pytest.MonkeyPatch):
        """As above, but root has begun to look before the change: what it knows of before is no proof any more."""
        watch, look = FastPathWatch(place.settings), fast_path._look
        started: list[float] = []

        def looked(*arguments, **options):
            proof = look(*arguments, **options)
            if not started:
                assert watch.is_open()
                time.sleep(0.2)
                started.append(time.clock_gettime(time.CLOCK_BOOTTIME))
                monkeypatch.setattr(PostfixInstance, "processes", lambda *_: {Process(1, started[0])})
                with monkeypatch.context() as patched:
                    patched.setattr(adapter, "identity_at", lambda path: (1, 2, 3, 4, 5))
                    assert not watch.is_open()
                time.sleep(0.2)
            return proof

        monkeypatch.setattr(fast_path, "_look", looked)
        found = fast_path.look_at_fast_path(place.settings, str(place.etc))
        assert "processes of before the change" in found.line
        assert not watch.is_open()

    def test_folder_that_only_got_another_mode(self, place: Place, capsys: pytest.CaptureFixture[str]):
        """It opens again without a reload, whoever sees it first."""
        (place.etc / "main.cf").touch()  # proved anew, after the last change of the folder above
        assert place.look() == 0
        capsys.readouterr()
        watch = FastPathWatch(place.settings)
        assert watch.is_open()
        place.etc.chmod(0o711)
        assert not watch.is_open()
        # All of Postfix is of after the change, and of before root's look.
        changed = place.etc.stat().st_ctime - time.time() + time.clock_gettime(time.CLOCK_BOOTTIME)
        time.sleep(0.2)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(PostfixInstance, "processes", lambda *_: {Process(1, changed + 0.1)})
            patched.setattr(PostfixInstance, "clock_at_start", lambda _: None)
            assert place.look() == 0
        assert capsys.readouterr().out.startswith("fast path: on, ")

    def test_all_of_them_are_newer(self, ended: Place, capsys: pytest.CaptureFixture[str]):
        assert ended.look() == 0
        assert capsys.readouterr().out.startswith("fast path: on, ")
