"""Child processes, as Linux lists them (proc_pid_task_children(5))."""

import contextlib
from collections.abc import Collection
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the process ids of the children of a process that runs.

    Raises:
        OSError: it does not run.

    """
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def children_named(pid: int, names: Collection[str]) -> set[int]:
    """Return those that run one of these programs.

    Raises:
        OSError: the parent does not run.

    """
    found = set()
    for child in children(pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if Path(f"/proc/{child}/comm").read_text().strip() in names:
                found.add(child)
    return found
