"""Files of keys: one a line, the newest first; empty lines and comments (`#`) do not count."""

from __future__ import annotations

import contextlib
import grp
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

KEYS_KEPT = 5
_GROUP = "delivery-pools"
"""Of the user who runs the daemons; the README makes it."""
"""The new key and the last four: what was made with those is still under way."""


class KeyFileError(Exception):
    """A key file cannot be used; the text says what is wrong and what to do, and never holds a key."""


class NoKeyError(KeyFileError):
    """There is no key yet: the file is missing, or empty."""


def is_open_to_all(path: str) -> bool:
    """Tell whether every user of the machine may read (or write) the keys.

    Raises:
        OSError: the file is not there.
    """
    return bool(Path(path).stat().st_mode & 0o007)


def read_lines(path: str, encoding: str, parse: Callable[[str], bytes]) -> tuple[bytes, ...]:
    """Return the keys in a file. `parse` makes a key of a line; its ValueError says what a key is, without the key.

    Raises:
        KeyFileError: the file is missing, unreadable, empty, or holds something else.
    """
    try:
        text = Path(path).read_text(encoding)
    except FileNotFoundError:
        raise NoKeyError(f"{path}: no such file; make it with: delivery-pools keys rotate") from None
    except PermissionError:
        raise KeyFileError(
            f"{path}: this user may not read it; root can allow it: chgrp {_GROUP} {path}; chmod 640 {path}"
        ) from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise KeyFileError(f"{path}: {error}") from None
    keys = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            keys.append(parse(line))
        except ValueError as error:
            raise KeyFileError(f"{path}:{number}: {error}") from None
    if not keys:
        raise NoKeyError(f"{path}: holds no key; make one with: delivery-pools keys rotate")
    return tuple(keys)


def put_first(path: str, key: bytes, read: Callable[[str], tuple[bytes, ...]]) -> int:
    """Put a new key first, keep the last four, make the file if it is missing; return how many keys there are now.

    Raises:
        KeyFileError: an existing file cannot be read, or the new one not be written.
    """
    try:
        old = read(path)
    except NoKeyError:
        old = ()
    keys = (key, *old)[:KEYS_KEPT]
    try:
        _replace(path, keys)
    except OSError as error:
        raise KeyFileError(f"{path}: {error}") from None
    return len(keys)


def _replace(path: str, keys: Sequence[bytes]) -> None:
    # A symbolic link goes on leading to the file.
    target = Path(path).resolve()
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
        elif os.geteuid() == 0:
            _let_daemons_read(temporary)
        os.replace(temporary, target)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # noqa: PTH108
        raise


def _let_daemons_read(path: str) -> None:
    with contextlib.suppress(KeyError):
        os.chown(path, -1, grp.getgrnam(_GROUP).gr_gid)
        os.chmod(path, 0o640)  # noqa: PTH101
