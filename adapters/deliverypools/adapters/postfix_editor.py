"""A site's Postfix configuration: what it is without ours, and how ours gets in and out of it as a whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final

from deliverypools.adapters.install_locks import ports_to_ourselves, to_ourselves
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.adapters.postfix_stage import FOLDER, Stage
from deliverypools.adapters.postfix_swap import BEFORE, MANIFEST, EditedMeanwhile, State, Swap, mounted_over, sha256
from deliverypools.core.postfix_install.manifest import (
    MAIN,
    MASTER,
    Manifest,
    ManifestError,
    Phase,
    Reload,
    differences,
    manifest_from_json,
)
from deliverypools.core.postfix_install.undo import without_ours
from deliverypools.core.postfix_install.written import Changes, changes_between

_NAMES: Final = (MAIN, MASTER)
_SCRATCH: Final = "stage"
_AS_BEFORE: Final = "mail is routed as before"
_SO_FAR: Final = {
    Phase.ENTERING: _AS_BEFORE,
    Phase.INSTALLED: "mail leaves by the pools already",
    Phase.LEAVING: _AS_BEFORE,
    Phase.NAMED: _AS_BEFORE,
}
"""What Postfix does, where a change ended in between."""
_STOPPED: Final = "Postfix does not run"


@dataclass(frozen=True, slots=True)
class OriginalStage:
    """The configuration without ours."""

    stage: Stage
    warnings: tuple[str, ...] = ()
    """What an administrator has edited since it was installed."""


class PostfixEditor:
    """The configuration of one instance, while `changing` or `looking` lasts."""

    def __init__(self, instance: PostfixInstance, clock: Callable[[], float]) -> None:
        """Name the instance; `clock` gives seconds since the epoch, for the manifest."""
        self.instance = instance
        self._live = instance.directory
        self._folder = instance.directory / FOLDER
        self._clock = clock
        self._swap = Swap(instance.directory)
        self._scratch = Path()
        self._stages = 0
        self._seen: dict[str, bytes] = {}
        """Both files as they were read, or as we left them: what a change is made from."""
        self._has_changed = False

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Work on copies elsewhere: nothing in the configuration directory is touched, not even for a moment."""
        with tempfile.TemporaryDirectory(prefix="delivery-pools-") as scratch:
            self._scratch = Path(scratch)
            yield

    @contextmanager
    def changing(self, *, takes_ports: bool = False) -> Iterator[bool]:
        """Keep every other install and uninstall away; yield whether an interrupted one was finished now.

        `takes_ports`: installs of other instances are kept away too.

        Raises:
            PostfixError: another one is at work, or the files cannot be changed.
        """
        with self.locked(), ports_to_ourselves() if takes_ports else contextlib.nullcontext():
            self._scratch = self._folder / _SCRATCH
            try:
                was_interrupted = self._begun()
                yield was_interrupted
            finally:
                shutil.rmtree(self._scratch, ignore_errors=True)
                for folder in (self._folder / BEFORE, self._folder):
                    with contextlib.suppress(OSError):
                        folder.rmdir()  # if it is empty: nothing was installed

    def _begun(self) -> bool:
        """Do the rest of an interrupted change, take its leftovers away; tell whether there was one."""
        if file := mounted_over(self._live):
            raise PostfixError(
                f"{file}: something is mounted on this file itself, so that no other can take its place in one step;"
                f" mount the directory {file.parent} in its stead. Nothing was changed"
            )
        try:
            shutil.rmtree(self._scratch, ignore_errors=True)
            was_interrupted = self._swap.was_interrupted()
            if self._swap.is_pending():
                self._swap.resume()
            self._swap.forget()
            self._scratch.parent.mkdir(mode=0o755, exist_ok=True)
            self._scratch.mkdir(mode=0o700)
        except OSError as error:
            raise PostfixError(_cannot_write(self._live, error)) from error
        return was_interrupted

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other install and uninstall away; nothing is changed by that.

        Raises:
            PostfixError: another one is at work.
        """
        with to_ourselves(self._live):
            yield

    # ---- what is there

    def manifest(self) -> Manifest | None:
        """Return what was installed, None if nothing was.

        Raises:
            PostfixError: there is a manifest, and it cannot be used.
        """
        path = self._folder / BEFORE / MANIFEST
        try:
            return manifest_from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ManifestError, UnicodeDecodeError, OSError) as error:
            raise PostfixError(
                f"{path}: {error}; without it only {path.parent}/{MAIN} and {MASTER} say what was there before"
            ) from None

    def live(self) -> Stage:
        """Return a copy of the configuration as it was read by `original`, or as we left it since."""
        now = self._read_both()
        return self.stage("live", now[MAIN], now[MASTER])

    def files(self) -> dict[str, str]:
        """Return the files that we have written, as they are."""
        manifest = self.manifest()
        texts = {}
        for name in manifest.files if manifest else ():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                texts[name] = (self._folder / name).read_text(encoding="utf-8")
        return texts

    def stage(self, name: str, main: bytes, master: bytes) -> Stage:
        """Return a copy of the configuration with another main.cf and master.cf."""
        self._stages += 1
        return Stage(self._scratch / f"{self._stages}-{name}", self._live, main, master)

    def original(self) -> OriginalStage:
        """Return the configuration without ours: byte for byte what it was, as far as nobody has edited it since.

        The live one is read anew: what is edited later than that is not overwritten by `swap_to`.

        Raises:
            PostfixError: a file that was kept is missing.
        """
        manifest = self.manifest()
        self._seen = {}
        now = self._read_both()
        if manifest is None:
            return OriginalStage(self.stage("original", now[MAIN], now[MASTER]))
        kept = {name: self._kept(manifest.originals[name]) for name in _NAMES}
        edited = {name for name in _NAMES if sha256(now[name]) != manifest.hashes[name] and now[name] != kept[name]}
        stage = self.stage("original", *(now[name] if name in edited else kept[name] for name in _NAMES))
        if not edited:
            return OriginalStage(stage)
        undone = without_ours(self.live().written(), manifest)
        stage.apply(
            Changes(
                undone.changes.parameters if MAIN in edited else {},
                undone.changes.services if MASTER in edited else {},
            )
        )
        return OriginalStage(stage, undone.warnings)

    # ---- what it becomes

    def installed(self, original: Stage, planned: Stage, files: Mapping[str, str], phase: Phase) -> State:
        """Return a configuration of ours, with what it takes to undo it."""
        before = self.manifest()
        originals = {}
        for name, content in ((MAIN, original.main), (MASTER, original.master)):
            # The first one is never overwritten while ours is in place; one with later edits stands beside it.
            is_first = before is None or self._kept(name) == content
            originals[name] = name if is_first else f"{name}-{sha256(content)[:12]}"
        parameters, services = differences(original.written(), planned.written())
        # A later change of the settings is no new installation: what an audit looks at begins with the first.
        made_at = before.made_at if before and before.phase is Phase.INSTALLED else self._clock()
        manifest = Manifest(
            product_version=metadata.version("delivery-pools"),
            made_at=made_at,
            phase=phase,
            hashes={MAIN: sha256(planned.main), MASTER: sha256(planned.master)},
            originals=originals,
            parameters=parameters,
            services=services,
            files=tuple(sorted(files)),
        )
        return State(
            main=planned.main,
            master=planned.master,
            files={name: text.encode() for name, text in files.items()},
            originals={originals[MAIN]: original.main, originals[MASTER]: original.master},
            manifest=manifest,
        )

    def state(self) -> State:
        """Return the configuration as it was read, or as we left it since: to come back to it."""
        manifest = self.manifest()
        kept = manifest.originals.values() if manifest else ()
        now = self._read_both()
        return State(
            main=now[MAIN],
            master=now[MASTER],
            files={name: text.encode() for name, text in self.files().items()},
            originals={name: self._kept(name) for name in kept},
            manifest=manifest,
        )

    def differs(self, planned: Stage, files: Mapping[str, str]) -> bool:
        """Tell whether the live configuration says something else; how it is laid out does not matter."""
        live = self.live()
        return bool(changes_between(live.written(), planned.written())) or self.files() != dict(files)

    def swap_to(self, state: State, *, main_first: bool = False) -> None:
        """Make a configuration the live one; `finish` ends it, after the reload.

        Raises:
            PostfixError: it cannot be written, or was edited since it was read; the text says whether something has
                changed.
        """
        try:
            self._prepare(state, main_first=main_first)
            self._has_changed = True
            self._carry_out()
        except EditedMeanwhile as edited:
            raise PostfixError(f"{edited} was edited meanwhile, and stays as it is; {self._so_far()}") from None
        self._seen = {MAIN: state.main, MASTER: state.master}

    def _prepare(self, state: State, *, main_first: bool) -> None:
        obsolete = self._obsolete(state)
        try:
            self._swap.prepare(state, self._read_both(), obsolete=obsolete, main_first=main_first)
        except OSError as error:
            raise PostfixError(_cannot_write(self._live, error)) from error

    def _carry_out(self) -> None:
        try:
            self._swap.carry_out()
        except OSError as error:
            raise PostfixError(
                f"{error.filename or self._live}: {error.strerror}; the change was begun: run the command again"
            ) from error

    def _so_far(self) -> str:
        """Say what state a change is in that ends here, and what to do."""
        if not self._has_changed:
            return "nothing was changed. Run the command again"
        manifest = self.manifest()
        routed = _SO_FAR[manifest.phase] if manifest else _AS_BEFORE
        return f"{routed if self.instance.is_running() else _STOPPED}. Run the command again: it finishes"

    def record(self, reload: Reload) -> None:
        """Keep in the manifest when Postfix had read the live configuration.

        Raises:
            PostfixError: it cannot be written.
        """
        state = self.state()
        if state.manifest is not None:
            self.swap_to(replace(state, manifest=replace(state.manifest, reload=reload)))

    def finish(self) -> None:
        """End a change, also an interrupted one."""
        self._swap.finish()

    def _obsolete(self, state: State) -> set[str]:
        manifest = self.manifest()
        if manifest is None:
            return set()
        first = {MAIN, MASTER} if state.manifest else set()
        kept = set(manifest.originals.values()) - set(state.originals) - first
        return (set(manifest.files) - set(state.files)) | {f"{BEFORE}/{name}" for name in kept}

    def _read_both(self) -> dict[str, bytes]:
        if not self._seen:
            self._seen = {name: (self._live / name).read_bytes() for name in _NAMES}
        return self._seen

    def _kept(self, name: str) -> bytes:
        path = self._folder / BEFORE / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise PostfixError(
                f"{path}: {error.strerror}; it holds what was there before: put it back from a backup of the machine"
            ) from None


def _cannot_write(directory: Path, error: OSError) -> str:
    where = error.filename or directory
    is_forbidden = isinstance(error, PermissionError) and os.geteuid() != 0
    remedy = "Run this as root" if is_forbidden else "Make room or the file system writable"
    return f"{where}: {error.strerror}; Postfix's configuration is as it was. {remedy}"
