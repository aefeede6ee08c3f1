"""Where Postfix reaches the daemons: the sockets of the settings, in Postfix's words."""

from __future__ import annotations

from deliverypools.core.postfix_install.draft import Draft

_CHROOTED_PROGRAMS = ("smtpd", "cleanup")
"""The programs that ask the milter, the policy service and the socketmap."""


def endpoint(draft: Draft, setting: str, socket: str) -> str:
    """Return a socket as Postfix names it: relative to queue_directory, which is right inside and outside a chroot.

    `setting` is its key, for the remark on a socket that chrooted services cannot reach.
    """
    kind, _, path = socket.partition(":")
    if kind != "unix":
        return socket
    queue = draft.postfix.value("queue_directory").rstrip("/")
    if queue and path.startswith(f"{queue}/"):
        return f"unix:{path[len(queue) + 1 :]}"
    chrooted = [one.label for one in draft.postfix.running(*_CHROOTED_PROGRAMS) if draft.postfix.is_chrooted(one)]
    if chrooted:
        draft.error(
            f"{setting} = {socket} is not below queue_directory = {queue}, and {', '.join(chrooted[:3])} run chrooted"
            " there: they cannot reach it.",
            f'{setting} = "unix:{queue}/delivery-pools/{path.rpartition("/")[2]}" in the settings file, with the folder'
            " for the daemons made there; or an inet: socket.",
        )
    return socket


def set_endpoints(draft: Draft) -> None:
    """Name the milter and the policy service, once for all services."""
    for parameter, setting, socket in (
        ("delivery_pools_milter", "milter.socket", draft.settings.milter.socket),
        ("delivery_pools_policy", "policy.socket", draft.settings.policy.socket),
    ):
        value = draft.example.main[parameter]
        _, _, options = value.partition(",")
        draft.set(parameter, f"{{ {endpoint(draft, setting, socket)},{options}")
