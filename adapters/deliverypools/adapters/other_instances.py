"""The other Postfix instances of this machine that postmulti(1) knows, and the names under which each of them logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.core.audit.instances import LogNames
from deliverypools.core.postfix_check.syntax import split_list

_NAME: Final = "syslog_name"


def other_instances(instance: PostfixInstance) -> Iterator[Path]:
    """Yield the configuration directories of the other instances, as the default one names them."""
    try:
        default = PostfixInstance()
        directories = [default.directory, *map(Path, split_list(default.parameter("multi_instance_directories")))]
    except PostfixError:
        return
    here = instance.directory.resolve()
    yield from (directory for directory in directories if directory.resolve() != here)


def log_names(config_directory: str) -> LogNames | None:
    """Return how an instance and the others log; None where that cannot be told."""
    try:
        instance = PostfixInstance(config_directory)
        own = _names(instance)
    except PostfixError:
        return None
    others: set[str] = set()
    for directory in other_instances(instance):
        try:
            others |= _names(PostfixInstance(str(directory)))
        except PostfixError:
            continue
    return LogNames(own=frozenset(own), others=frozenset(others))


def _names(instance: PostfixInstance) -> set[str]:
    """Return the names of main.cf and of single services (`-o syslog_name=`)."""
    options = instance.run("postconf", "-xP", f"*/*/{_NAME}").stdout.splitlines()
    return {instance.parameter(_NAME), *(option.partition(" = ")[2].strip() for option in options)} - {""}
