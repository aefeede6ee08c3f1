"""What has to be there before Postfix is led to us: keys, the folder of the sockets, daemons that answer."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from deliverypools.adapters.daemon_questions import daemon_problem
from deliverypools.adapters.key_file import rotate_keys
from deliverypools.adapters.postfix_commands import PostfixInstance
from deliverypools.adapters.sockets import unix_path
from deliverypools.adapters.srs_secrets import rotate_srs_secrets
from deliverypools.core.settings import Settings

_USER: Final = "delivery-pools"
"""Who runs the daemons."""
_MODE: Final = 0o750


def make_missing(settings: Settings, instance: PostfixInstance) -> Iterator[str]:
    """Make key files and the folder of the sockets where they are missing; yield what was made.

    Raises:
        KeyFileError: a key file cannot be made.
        OSError: the folder cannot.
    """
    secret_file = settings.forwarding.srs_secret_file if settings.forwarding.srs_domain else None
    files: list[tuple[str | None, Callable[[str], int]]] = [
        (settings.ticket_key_file, rotate_keys),
        (secret_file, rotate_srs_secrets),
    ]
    for path, rotate in files:
        if path is not None and not Path(path).exists():
            rotate(path)
            yield path
    yield from _socket_folders(settings, instance)


def _socket_folders(settings: Settings, instance: PostfixInstance) -> Iterator[str]:
    queue_directory = Path(instance.parameter("queue_directory"))
    for address in _endpoints(settings).values():
        path = unix_path(address)
        folder = Path(path).parent if path else None
        # Elsewhere it is somebody else's: systemd's, under /run.
        if folder is not None and queue_directory in folder.parents and not folder.exists():
            folder.mkdir(mode=_MODE)
            folder.chmod(_MODE)
            os.chown(folder, _user_id(), _group_id(instance))
            yield str(folder)


def _user_id() -> int:
    try:
        return pwd.getpwnam(_USER).pw_uid
    except KeyError:
        return 0


def _group_id(instance: PostfixInstance) -> int:
    """Return the group by which Postfix's processes, whose user is mail_owner, reach the sockets."""
    return pwd.getpwnam(instance.parameter("mail_owner")).pw_gid


def silent_daemons(settings: Settings) -> Iterator[str]:
    """Yield which daemons do not answer Postfix as they should, and what to do."""
    for name, address in _endpoints(settings).items():
        problem, _ = daemon_problem(name, address)
        if problem:
            daemon = "milter" if name == "milter" else "policy"
            yield (
                f"{name}.socket {address}: {problem}. Start the daemon: systemctl start delivery-pools-{daemon}, or"
                f" `delivery-pools {daemon}` as the user {_USER}; nothing was changed in Postfix"
            )


def _endpoints(settings: Settings) -> dict[str, str]:
    endpoints = {"milter": settings.milter.socket, "policy": settings.policy.socket}
    if settings.forwarding.srs_domain is not None:
        endpoints["socketmap"] = settings.socketmap.socket
    return endpoints
