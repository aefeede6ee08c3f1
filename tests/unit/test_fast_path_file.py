"""The proof of the fast path as it is kept in its file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from proved_place import Place

from deliverypools.adapters import fast_path
from deliverypools.adapters.fast_path import (
    identity_of,
    read_proof,
    remove_proof,
    write_proof,
)
from deliverypools.adapters.fast_path_steps import identity_at
from deliverypools.core.fast_path import ProofError, proof_from_json, proof_to_json


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestFile:
    def test_read_as_it_was_written(self, place: Place):
        proof = place.proof(problems=("one", "zwei"))
        write_proof(place.settings, proof)
        assert read_proof(place.settings) == proof

    def test_others_may_read_and_not_write(self, place: Place):
        assert place.file.stat().st_mode & 0o777 == 0o644

    def test_nothing_is_left_behind(self, place: Place):
        place.prove()
        assert [path.name for path in place.file.parent.iterdir()] == ["fast-path.json"]

    def test_it_is_whole_or_what_was_before(self, place: Place, monkeypatch: pytest.MonkeyPatch):
        before = place.file.read_text()

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(fast_path.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            place.prove(made_at=2_000_000.0)
        assert place.file.read_text() == before
        assert [path.name for path in place.file.parent.iterdir()] == ["fast-path.json"]

    def test_the_folder_belongs_to_whom_the_one_above_it_does(self, tmp_path: Path):
        state = tmp_path / "state"
        state.mkdir()
        os.chown(state, 12345, 12346)
        place = Place(state)
        found = place.file.parent.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 12346, 0o700)

    def test_what_is_put_in_its_place_keeps_its_owner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        state, theirs = tmp_path / "state", tmp_path / "of-root"
        for folder in (state, theirs):
            folder.mkdir()
        os.chown(state, 12345, 12346)
        make = Path.mkdir

        def exchanged(folder: Path, mode: int = 0o777) -> None:
            make(folder, mode)
            folder.rmdir()
            folder.symlink_to(theirs)

        monkeypatch.setattr(Path, "mkdir", exchanged)
        fast_path._make_folder(state / "spool")
        assert theirs.stat().st_uid == 0

    def test_removed_twice(self, place: Place):
        remove_proof(place.settings)
        remove_proof(place.settings)
        assert read_proof(place.settings) is None

    def test_no_proof_for_root_by_a_stranger(self, place: Place):
        os.chown(place.file, 12345, 12346)
        with pytest.raises(ProofError, match="may write it"):
            read_proof(place.settings)

    def test_the_daemons_user_owns_the_folder(self, place: Place):
        for path in (place.file, place.file.parent):
            os.chown(path, 12345, 12346)
        assert read_proof(place.settings) is not None


class TestText:
    def test_a_proof_from_before_the_hop_was_in_it(self, place: Place):
        text = proof_to_json(place.proof()).replace('"hop"', '"hops"')
        with pytest.raises(ProofError, match="damaged"):
            proof_from_json(text)

    def test_only_true_is_true(self, place: Place):
        text = proof_to_json(place.proof()).replace('"is_reloaded": true', '"is_reloaded": 1')
        assert not proof_from_json(text).is_reloaded


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/dev/null/x", "a\0b", ""])
def test_identity_of_what_is_not_there(path: str):
    assert (identity_of(path), identity_at(path)) == ("", ())
