"""A SQLite file (WAL) that several processes and threads share: transactions, and what happens when the file fails.

Whatever goes wrong with the file raises `StateUnavailable` within about four seconds: two for the other threads of the
process, and two for other processes. The next call tries again from the beginning.
"""

from __future__ import annotations

import contextlib
import os
import select
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from deliverypools.adapters.sqlite_checkpoints import Checkpoints
from deliverypools.adapters.state import StateUnavailable

_BUSY_SECONDS = 2.0
_TRY_AGAIN_SECONDS = 0.02


class SQLiteFile:
    """Threads of one process share one connection; a forked child makes its own SQLiteFile."""

    def __init__(self, path: str, steps: Mapping[int, str]) -> None:
        """Describe it; it is opened, and made, at the first call.

        `steps` are statements by the version of the schema that they make, in their order: a file is taken through
        those that it has not seen.
        """
        self._path = path
        self._steps = steps
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._checkpoints: Checkpoints | None = None
        self._file_id: tuple[int, int] | None = None
        self._depth = 0

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._checkpoints is not None:
                self._checkpoints.close()
                self._checkpoints = None
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read without waiting for other processes that write; threads of this one take turns.

        One statement sees one moment, and that is all that readers need.

        Raises:
            StateUnavailable: it cannot be read.
        """
        with self._locked():
            try:
                yield self._current_connection()
            except (sqlite3.Error, OSError) as error:
                self.close()
                raise StateUnavailable(f"{self._path}: {error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_BUSY_SECONDS):
            raise StateUnavailable(f"{self._path}: busy")
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write, as one step; within another transaction of the same thread, as part of that.

        Raises:
            StateUnavailable: nothing was changed.
        """
        with self._locked():
            if self._connection is not None and self._depth:
                yield self._connection
            else:
                with self._outermost_transaction() as connection:
                    yield connection

    @contextlib.contextmanager
    def _outermost_transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._current_connection()
            connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StateUnavailable(f"{self._path}: {error}") from error
        self._depth = 1
        try:
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A connection that failed is given up: the file may have been replaced or repaired by the next call.
            self.close()
            raise StateUnavailable(f"{self._path}: {error}") from error
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0
        # Not before: from here on nothing can be taken back, and nothing that fails is to look as if it had been.
        if self._checkpoints is not None:
            self._checkpoints.after_commit(connection)

    def _current_connection(self) -> sqlite3.Connection:
        """Return the connection to the file that is at the path now: in one that was replaced we would count alone."""
        if self._connection is not None and self._file_id != _file_id(self._path):
            self.close()
        if self._connection is None:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(self._path, self._steps)
            self._checkpoints = Checkpoints(self._path, self._connection)
            self._file_id = _file_id(self._path)
        return self._connection


def examine(path: str, schema_version: int) -> None:
    """See whether a file can be used, without changing it.

    Raises:
        StateUnavailable: it cannot.
    """
    url = f"file:{quote(path)}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(url, uri=True, timeout=_BUSY_SECONDS)) as file:
            version = _version(file)
            _refuse_newer(version, schema_version)
            if version == 0 and file.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise sqlite3.DatabaseError("holds the tables of another program; name another file")
    except sqlite3.Error as error:
        raise StateUnavailable(f"{path}: {error}") from error


def _open(path: str, steps: Mapping[int, str]) -> sqlite3.Connection:
    """Open the file and make sure of its tables.

    Changing the journal mode of a new file does not wait for others that make it too, so that is tried again.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, steps)
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            select.select([], [], [], _TRY_AGAIN_SECONDS)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def _prepare(connection: sqlite3.Connection, steps: Mapping[int, str]) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    version, ours = _version(connection), max(steps)
    _refuse_newer(version, ours)
    if version < ours:
        connection.execute("BEGIN IMMEDIATE")
        # Somebody else may have made the tables while we waited. (executescript() would commit first.)
        version = _version(connection)
        missing = "".join(schema for made, schema in steps.items() if made > version)
        for statement in f"{missing} PRAGMA user_version = {max(version, ours)}".split(";"):
            connection.execute(statement)
        connection.execute("COMMIT")


def _refuse_newer(version: int, schema_version: int) -> None:
    if version > schema_version:
        raise sqlite3.DatabaseError(
            f"written by a newer version (schema {version}, ours is {schema_version}); run that version"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  (asked at each transaction)
    except OSError:
        return None
    return status.st_dev, status.st_ino
