"""The ticket's keys: one Fernet key a line, the newest first; the first seals, all of them open."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet

KEYS_KEPT = 5
"""Older keys still open the tickets of mail that lies in the queue or in mailboxes."""


class KeyFileError(Exception):
    """The key file cannot be used; the text says what is wrong and what to do."""


class NoKeyError(KeyFileError):
    """There is no key yet: the file is missing, or empty."""


def is_open_to_all(path: str) -> bool:
    """Tell whether every user of the machine may read (or write) the keys, and so make tickets.

    Raises:
        OSError: the file is not there.
    """
    return bool(Path(path).stat().st_mode & 0o007)


def read_keys(path: str) -> tuple[bytes, ...]:
    """Return the keys in a key file, newest first.

    Raises:
        KeyFileError: the file is missing, unreadable, empty, or holds something else.
    """
    try:
        text = Path(path).read_text(encoding="ascii")
    except FileNotFoundError:
        raise NoKeyError(f"{path}: no such file; make it with: delivery-pools keys rotate") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: {error}") from None
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            Fernet(line.strip())
        except ValueError:
            raise KeyFileError(
                f"{path}:{number}: not a key; a key is 32 bytes in URL-safe base64, made by: delivery-pools keys rotate"
            ) from None
        keys.append(line.strip().encode())
    if not keys:
        raise NoKeyError(f"{path}: holds no key; make one with: delivery-pools keys rotate")
    return tuple(keys)


def rotate_keys(path: str) -> int:
    """Put a new key first, keep the last four, make the file if it is missing; return how many keys there are now.

    Raises:
        KeyFileError: an existing file cannot be read, or the new one not be written.
    """
    try:
        # A symbolic link goes on leading to the file.
        target = Path(path).resolve()
        try:
            old = read_keys(path)
        except NoKeyError:
            old = ()
        keys = (Fernet.generate_key(), *old)[:KEYS_KEPT]
        owner = target.stat() if target.exists() else None
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"\n".join(keys) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if owner is not None:
                os.chmod(temporary, owner.st_mode & 0o777)  # noqa: PTH101
                os.chown(temporary, owner.st_uid, owner.st_gid)
            os.replace(temporary, target)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)  # noqa: PTH108
            raise
    except OSError as error:
        raise KeyFileError(f"{path}: {error}") from None
    return len(keys)
