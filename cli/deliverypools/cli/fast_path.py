"""`delivery-pools postfix fast-path`, and what `check` and `postfix install` do of it: prove, keep the proof, tell."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from deliverypools.adapters.fast_path import (
    FastPathWatch,
    identity_of,
    proof_path,
    read_proof,
    remove_proof,
    why_unwanted,
    write_proof,
)
from deliverypools.adapters.fast_path_proof import prove
from deliverypools.adapters.fast_path_steps import identity_at
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.adapters.postfix_configuration import PostfixUnreadable
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.options import read_settings
from deliverypools.cli.postfix_proposal import as_json
from deliverypools.core.facts import printable
from deliverypools.core.fast_path import CHANGED_MEANWHILE, Proof, ProofError, proof_to_json, settings_digest
from deliverypools.core.postfix_check.site import HOP_CLIENT
from deliverypools.core.postfix_check.syntax import route_of, split_list
from deliverypools.core.settings import Settings

_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class FastPath:
    """Whether mail may skip the hop, as far as the configuration tells."""

    reasons: tuple[str, ...]
    """Why all mail takes the hop; none: the fast path is on."""
    proof: Proof | None = None
    note: str = ""
    """Why what was found is not what the milter goes by."""
    looked_at: str = ""
    """The configuration that was only looked at, as the milter goes by the proof about another; "" for none."""

    @property
    def is_on(self) -> bool:
        """Whether the milter has a proof that holds."""
        return not self.reasons and not self.note

    @property
    def waits_for_reload(self) -> bool:
        """Whether nothing is against it but that Postfix may not work by its configuration yet."""
        return self.proof is not None and not self.proof.is_reloaded and len(self.reasons) == 1

    @property
    def line(self) -> str:
        """What to print on one line."""
        if self.is_on:
            return f"fast path: on, {len(self.proof.files) if self.proof else 0} files are watched"
        first, *further = self._all_reasons
        more = f" (and {len(further)} more: delivery-pools postfix fast-path)" if further else ""
        return f"fast path: off, all mail takes the hop: {printable(first)}{more}"

    def lines(self) -> list[str]:
        """Return what to print with every reason."""
        if self.looked_at:
            would = "all mail would take the hop:" if self.reasons else "nothing speaks against a fast path"
            return [f"{self.looked_at}: {would}", *(f"  {printable(one)}" for one in self.reasons), self.note]
        if len(self._all_reasons) < 2:  # noqa: PLR2004  (one line says it all)
            return [self.line]
        return ["fast path: off, all mail takes the hop:", *(f"  {printable(one)}" for one in self._all_reasons)]

    @property
    def _all_reasons(self) -> list[str]:
        return [*([self.note] if self.note else []), *self.reasons]

    def as_json(self) -> dict[str, Any]:
        """Return the same for programs."""
        proof = self.proof
        return {
            "is_on": self.is_on,
            "reasons": self._all_reasons,
            "config_directory": proof.config_directory if proof else None,
            "files": sorted(proof.files) if proof else [],
        }


def look_at_fast_path(settings: Settings, config_directory: str | None) -> FastPath:
    """Prove the conditions of the fast path, or say what is against them; keep what was found for the milter.

    Raises:
        PostfixError: there is no such configuration.
    """
    if unwanted := why_unwanted(settings):
        return _removed(settings, unwanted)
    previous, is_root = _previous(settings), os.geteuid() == 0
    config_directory = _as_postfix_says(config_directory, previous)
    if previous is not None and not is_root and not FastPathWatch(settings).reason:
        return FastPath((), previous)  # What root has proved holds; others see less.
    return _proved(settings, config_directory, may_vouch_for_reload=is_root)


def looks_after(settings: Settings, config_directory: str | None) -> bool:
    """Tell whether `check` is to look at the fast path of a configuration, and the milter to go by what it finds.

    It is the one of which there is a proof, else the default instance's with a hop. A copy elsewhere proves nothing.
    `config_directory` is a directory that somebody named; None is the default instance's.
    """
    if settings.profile != "hop":
        return False
    previous = _previous(settings)
    try:
        instance = PostfixInstance(config_directory)
        if previous is not None:
            return _are_same(instance.directory, previous.config_directory)
        return _has_hop(instance) and _are_same(instance.directory, PostfixInstance().directory)
    except PostfixError:
        return False


def _has_hop(instance: PostfixInstance) -> bool:
    """Tell whether main.cf leads mail to the hop: `install` sets that last, `uninstall` takes it away first."""
    return route_of(instance.parameter("default_transport")).transport == HOP_CLIENT


def _as_postfix_says(config_directory: str | None, previous: Proof | None) -> str | None:
    """Return a directory by the name that Postfix has for it: its processes name it to the milter, and links do not."""
    known = [previous.config_directory] if previous else []
    with contextlib.suppress(PostfixError):
        default = PostfixInstance()
        known = [str(default.directory), *split_list(default.parameter("multi_instance_directories")), *known]
    return next((one for one in known if config_directory and _are_same(one, config_directory)), config_directory)


def _are_same(one: Path | str, other: Path | str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def close_fast_path(settings: Settings, directory: Path) -> None:
    """Take the proof about a configuration away, before that is changed.

    Raises:
        OSError: it cannot be removed.
    """
    previous = _previous(settings)
    if previous is None or _are_same(directory, previous.config_directory):
        remove_proof(settings)


def fast_path(options: argparse.Namespace) -> int:
    """Run the command."""
    settings = read_settings(options)
    if options.when_closed:
        return _prove_when_closed(settings, options)
    previous = _previous(settings)
    directory = options.config_directory or (previous.config_directory if previous else None)
    if previous is not None and _is_in_use_elsewhere(previous, directory) and not why_unwanted(settings):
        found = _looked_at_only(settings, directory, previous)
    else:
        found = look_at_fast_path(settings, directory)
    print(as_json(found.as_json()) if options.json else "\n".join(found.lines()))
    return OK if found.is_on else FAILED


def _is_in_use_elsewhere(previous: Proof, config_directory: str | None) -> bool:
    """Tell whether a proof is about another configuration than this one, and that still has a hop."""
    if config_directory is None or _are_same(config_directory, previous.config_directory):
        return False
    try:
        return _has_hop(PostfixInstance(previous.config_directory))
    except PostfixError:
        return False


def _looked_at_only(settings: Settings, config_directory: str | None, previous: Proof) -> FastPath:
    """Say what holds for a configuration, a copy perhaps, without taking the proof about another from the milter."""
    note = (
        f"Nothing was kept: the milter goes by the proof about {previous.config_directory}. For one about this"
        f" configuration remove {proof_path(settings)}, and run this again"
    )
    directory = str(config_directory)
    try:
        proof = _look(settings, config_directory, None, may_vouch_for_reload=os.geteuid() == 0)
    except PostfixUnreadable as error:
        return FastPath((f"the configuration of Postfix cannot be read: {error}",), note=note, looked_at=directory)
    return FastPath(proof.problems, proof, note=note, looked_at=directory)


def _prove_when_closed(settings: Settings, options: argparse.Namespace) -> int:
    """Look again, for the timer, if the fast path is closed: as root, who sees whether Postfix works by today's files.

    A proof that holds stays as it is, for sessions go by the one that they have seen; so does one that would only say
    the same again. Nothing is said where nothing changes.
    """
    if os.geteuid() != 0:
        raise PostfixError("only root sees whether Postfix works by its configuration: run this as root")
    seen, previous = identity_of(proof_path(settings)), _previous(settings)
    if why_unwanted(settings) or _is_settled(settings, previous):
        return OK
    try:
        directory = options.config_directory or (previous.config_directory if previous else None)
        instance = PostfixInstance(_as_postfix_says(directory, previous))
    except PostfixError:
        return OK  # Nothing of ours is there.
    editor = PostfixEditor(instance, time.time)
    if _is_being_changed(editor) or not _has_hop(instance):
        return OK
    try:
        proof = _look(settings, str(instance.directory), previous, may_vouch_for_reload=True)
    except PostfixUnreadable as error:
        raise PostfixError(f"the configuration of Postfix cannot be read: {error}") from None
    if previous is None or _without_time(proof) != _without_time(previous):
        return _keep_unless_changed(editor, settings, proof, seen, is_json=options.json)
    return OK


def _is_settled(settings: Settings, previous: Proof | None) -> bool:
    """Tell whether another look would say the same: nothing has changed, and Postfix works by it."""
    if previous is None or not previous.is_reloaded or not previous.is_lasting:
        return False
    return previous.settings == settings_digest(settings) and _is_as_it_was(previous)


def _is_as_it_was(proof: Proof) -> bool:
    return all(identity_at(path) == step.identity for path, step in proof.steps.items())


def _is_being_changed(editor: PostfixEditor) -> bool:
    try:
        with editor.locked():
            return False
    except PostfixError:
        return True


def _without_time(proof: Proof) -> str:
    return proof_to_json(replace(proof, made_at=0.0, looked_at=0.0, clock=0.0))


def _keep_unless_changed(editor: PostfixEditor, settings: Settings, proof: Proof, seen: str, *, is_json: bool) -> int:
    """Keep a proof, and say so, unless somebody has changed meanwhile what it says: an uninstall, another look."""
    try:
        with editor.locked():
            if not _is_as_it_was(proof) or (found := _kept(settings, proof, in_place_of=seen)) is None:
                return OK
    except PostfixError:
        return OK
    print(as_json(found.as_json()) if is_json else "\n".join(found.lines()))
    return FAILED if found.note else OK


def _proved(settings: Settings, config_directory: str | None, *, may_vouch_for_reload: bool) -> FastPath:
    for _ in range(_TRIES):
        seen, previous = identity_of(proof_path(settings)), _previous(settings)
        try:
            proof = _look(settings, config_directory, previous, may_vouch_for_reload=may_vouch_for_reload)
        except PostfixUnreadable as error:
            return _removed(settings, f"the configuration of Postfix cannot be read: {error}")
        if found := _kept(settings, proof, in_place_of=seen):
            return found
    return _removed(settings, CHANGED_MEANWHILE)


def _look(
    settings: Settings, config_directory: str | None, previous: Proof | None, *, may_vouch_for_reload: bool
) -> Proof:
    return prove(
        settings, config_directory, previous=previous, may_vouch_for_reload=may_vouch_for_reload, clock=time.time
    )


def _kept(settings: Settings, proof: Proof, *, in_place_of: str) -> FastPath | None:
    """Keep a proof for the milter; None: another one is there than the one that was seen, a change was noticed."""
    try:
        if not write_proof(settings, proof, in_place_of=in_place_of):
            return None
    except OSError as error:
        note = f"what was found cannot be kept: {proof_path(settings)}: {error.strerror}; run this as root"
        return FastPath(proof.problems, proof, note)
    return FastPath(proof.problems, proof)


def _removed(settings: Settings, reason: str) -> FastPath:
    try:
        remove_proof(settings)
    except OSError as error:
        return FastPath((reason,), note=f"{proof_path(settings)} cannot be removed: {error.strerror}; run this as root")
    return FastPath((reason,))


def _previous(settings: Settings) -> Proof | None:
    try:
        return read_proof(settings)
    except ProofError:
        return None
