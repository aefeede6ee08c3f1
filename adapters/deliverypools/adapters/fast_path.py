"""The proof of the fast path: made from a Postfix configuration, kept in a file, and watched for each message.

Whoever is in doubt closes the fast path: then all mail takes the hop, as it does without one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from deliverypools.adapters.fast_path_steps import UNSEEN, identity_at
from deliverypools.core.fast_path import (
    Proof,
    ProofError,
    Step,
    proof_from_json,
    proof_to_json,
    same_directory,
    settings_digest,
)
from deliverypools.core.settings import Settings

FILE_NAME: Final = "fast-path.json"
_MOST_BYTES: Final = 1 << 20
_FOLDER_MODE: Final = 0o700
"""As the daemons make it: suspicious mail is kept there."""
_FILE_MODE: Final = 0o644
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""Without waiting: somebody may have put a FIFO there."""
PROVE_IT: Final = "run `delivery-pools check` as root"
_AGAIN: Final = f"the timer delivery-pools-fast-path looks again every few minutes; or {PROVE_IT}"
_CHANGED: Final = f"has changed since; {_AGAIN}"
_NO_TIME: Final = -1
_NOT_TO_BE_SEEN: Final = "is where this user may not look; its folders have to be open to the daemons' user"

_log = logging.getLogger(__name__)


def proof_path(settings: Settings) -> Path:
    """Return where the proof is kept."""
    return Path(settings.alerts.spool) / FILE_NAME


# ---- identity


def identity_of(path: str | os.PathLike[str]) -> str:
    """Return what tells one file of a proof from another; "" for none that this user sees. Links are followed."""
    try:
        return _identity(os.stat(path))  # noqa: PTH116
    except (OSError, ValueError):
        return ""


def _identity(found: os.stat_result) -> str:
    return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


# ---- the file


def write_proof(settings: Settings, proof: Proof, *, in_place_of: str | None = None) -> bool:
    """Keep a proof: the whole of it, or none of it.

    With `in_place_of`, what `identity_of` said of the file, it is kept only while that is the one that is there; return
    whether it was.

    Raises:
        OSError: it cannot be written.
    """
    path = proof_path(settings)
    _make_folder(path.parent)
    return _write(path, proof, in_place_of)


def _write(path: Path, proof: Proof, in_place_of: str | None) -> bool:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, _FILE_MODE)
            file.write(proof_to_json(proof))
            file.flush()
            os.fsync(descriptor)
        if in_place_of not in (None, identity_of(path)):
            return False
        os.replace(temporary, path)  # noqa: PTH105
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108


def _make_folder(folder: Path) -> None:
    """Make the folder for whom the one above it belongs to: the daemons keep copies of mail in it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=_FOLDER_MODE)
        if os.geteuid() == 0:
            owner = folder.parent.stat()
            # Not what somebody puts in its place: the folder above belongs to the daemons.
            os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)


def remove_proof(settings: Settings) -> None:
    """Close the fast path: no proof, no fast path.

    Raises:
        OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        proof_path(settings).unlink()


def read_proof(settings: Settings) -> Proof | None:
    """Return the proof that is kept; None for none.

    Raises:
        ProofError: what is there is no proof, or may not be read.
    """
    path = proof_path(settings)
    try:
        return _read(path)[0]
    except OSError as error:
        raise ProofError(f"{path}: {error.strerror}") from None


def _read(path: Path) -> tuple[Proof | None, str]:
    """Return a proof, and the identity of the file that was read.

    Raises:
        ProofError: it is none.
        OSError: it cannot be read now.
    """
    try:
        descriptor = os.open(path, _OPEN)
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    with contextlib.ExitStack() as at_end:
        at_end.callback(os.close, descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ProofError(f"{path}: is no file")
        if found.st_uid not in (0, os.geteuid(), _owner_of(path.parent)) or found.st_mode & 0o022:
            raise ProofError(f"{path}: others than root and the daemons' user may write it")
        try:
            return proof_from_json(_content(descriptor).decode()), _identity(found)
        except UnicodeDecodeError:
            raise ProofError(f"{path}: damaged: it is not UTF-8") from None
        except ProofError as error:
            raise ProofError(f"{path}: {error}") from None


def _owner_of(folder: Path) -> int | None:
    with contextlib.suppress(OSError):
        return folder.stat().st_uid
    return None


def _content(descriptor: int) -> bytes:
    content = b""
    while chunk := os.read(descriptor, _MOST_BYTES):
        content += chunk
        if len(content) > _MOST_BYTES:
            raise ProofError(f"larger than {_MOST_BYTES >> 20} MB")
    return content


# ---- the watch


class _Known(NamedTuple):
    """A proof, or why there is none."""

    seen: str
    """Identity of the file."""
    problem: str
    proof: Proof | None = None
    directory: str = ""
    """`same_directory` of the configuration that it is about; "" where no proof tells."""
    steps: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Names at which the same must be as then, with what that is; none of a proof that is of other settings."""


class FastPathWatch:
    """Tells for each message whether the fast path is open. Any thread may ask."""

    def __init__(self, settings: Settings) -> None:
        """Watch the proof that belongs to these settings."""
        self._path = proof_path(settings)
        self._digest = settings_digest(settings)
        self._unwanted = why_unwanted(settings)
        self._lock = threading.Lock()
        self._known = _Known("not looked at", "")
        self._held = ""
        """The proof that was seen to hold last."""
        self._told: str | None = None

    def is_open(self, since: str | None = None) -> bool:
        """Tell whether all conditions hold now; say in the log when that changes.

        `since` is what `proof_seen` returned when the client connected: an smtpd(8) works with the tables as they were
        then, so that a proof that was made later says nothing about it.
        """
        if self._unwanted:
            return False
        known = self._current()
        reason = self._reason(known)
        if reason != self._told:
            self._tell(reason)
        return not reason and (since is None or since == known.seen)

    def proof_seen(self, instance: str, hostname: str) -> str | None:
        """Return what identifies the proof that is there now; None if there is none about an instance of Postfix.

        `instance` and `hostname` are what its smtpd(8) says of itself: its configuration directory, and myhostname.
        """
        if self._unwanted or not instance or not hostname:
            return None
        known = self._current()
        if known.proof is None or not known.directory or hostname not in known.proof.hostnames:
            return None
        return known.seen if same_directory(instance) == known.directory else None

    @property
    def reason(self) -> str:
        """Why the fast path is closed; "" if it is open."""
        return self._unwanted or self._reason(self._current())

    @property
    def hop(self) -> str:
        """The usual hop's next-hop, as main.cf says it; "" where no proof tells."""
        proof = None if self._unwanted else self._current().proof
        return proof.hop if proof else ""

    def _reason(self, known: _Known) -> str:
        """Return why it is closed. A difference that was seen once ends a proof for good, whatever comes back."""
        if known.problem:
            return known.problem
        if not (difference := _difference(known.steps)):
            self._held = known.seen
            return ""
        path, now = difference
        reason = f"{path} {_NOT_TO_BE_SEEN if now == UNSEEN else _CHANGED}"
        with self._lock:
            if self._known is known:
                self._known = known._replace(problem=reason)
                # Where it never held, root may look at other folders than we do, and would only prove it again.
                if now != UNSEEN and known.proof and self._held == known.seen:
                    self._keep_end(_ended(known.proof, path, now, reason), known.seen)
        return reason

    def _keep_end(self, ended: Proof, seen: str) -> None:
        """Keep that a proof has ended, for the other workers and for root: when they look it may be as it was again."""
        try:
            _write(self._path, ended, seen)
        except OSError as error:
            _log.warning("%s: %s: other workers go by what they see themselves", self._path, error.strerror)

    def _current(self) -> _Known:
        """Return the proof; the file is read again only when it is another one."""
        known = self._known
        if identity_of(self._path) == known.seen:
            return known
        with self._lock:
            self._known = known = self._read()
        return known

    def _read(self) -> _Known:
        seen = identity_of(self._path)
        try:
            proof, seen = _read(self._path)
        except ProofError as error:
            return _Known(seen, f"{error}; {PROVE_IT}")
        except OSError as error:
            # What cannot be read now may be read at the next message: no file has this identity.
            return _Known("", f"{self._path}: {error.strerror}; {PROVE_IT}")
        if proof is None:
            return _Known(seen, f"it is not proved that mail may skip the hop; {PROVE_IT}")
        if proof.settings != self._digest:
            return _Known(seen, f"the settings have changed since; {_AGAIN}", proof)
        directory = same_directory(proof.config_directory)
        steps = tuple((path, step.identity) for path, step in proof.steps.items())
        return _Known(seen, "; ".join(proof.problems), proof, directory, steps)

    def _tell(self, reason: str) -> None:
        with self._lock:
            if reason == self._told:
                return
            self._told = reason
        if reason:
            _log.info("fast path: off, all mail takes the hop: %s", reason)
        else:
            _log.info("fast path: on")


def why_unwanted(settings: Settings) -> str:
    """Return which setting keeps the fast path closed; "" for none."""
    if settings.profile != "hop":
        return f'profile = "{settings.profile}" has no hop to skip'
    return "" if settings.fast_path == "auto" else f'fast_path = "{settings.fast_path}" in the settings'


def _ended(proof: Proof, path: str, now: tuple[int, ...], reason: str) -> Proof:
    """Return a proof that has ended, as `now` was seen at a path.

    No file is what it says of that path then: to who proves it anew, the file's own time tells since when it is so.
    """
    step = proof.steps[path]
    is_same_file = now[:2] == step.identity[:2]
    of_none = (*step.identity[:2], _NO_TIME) if is_same_file else UNSEEN
    steps = {**proof.steps, path: Step(of_none, step.since)}
    return replace(proof, steps=steps, problems=(reason,), is_reloaded=False)


def _difference(steps: tuple[tuple[str, tuple[int, ...]], ...]) -> tuple[str, tuple[int, ...]] | None:
    """Return the first name at which there is not what was there, and what is there; None if all is as it was."""
    for path, identity in steps:
        now = identity_at(path)
        if now != identity or now == UNSEEN:
            return path, now
    return None
