"""What the timer's look at the fast path leaves alone, on a configuration whose Postfix seems to run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from postfix_files import Change, settings_of, write

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

    def look(self, directory: Path | None = None) -> int:
        where = str(directory or self.etc)
        return fast_path.fast_path(argparse.Namespace(when_closed=True, json=False, config_directory=where))


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
