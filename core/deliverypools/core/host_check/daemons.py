"""The daemons answer, Postfix reaches them, and they reach their files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from deliverypools.core.host_check.facts import SEARCH, WRITE, DaemonFacts, Host, Identity, PathFacts
from deliverypools.core.postfix_check.checks import CheckOf, Severity, check
from deliverypools.core.postfix_check.server import asks_for_srs

_ENOUGH_DATAGRAMS: Final = 512
"""What systemd sets. With it no reload stood still in 144, with 16,000 lines a second; with 10 and 100 one did."""
_START: Final = (
    "systemctl start delivery-pools-milter delivery-pools-policy; its log (journalctl -u) says what is wrong."
)


@check(
    Severity.WARNING,
    can_happen="No mail comes in, and none leaves; what sendmail(1) takes waits in the maildrop.",
    remedy="postfix start; its log says what is wrong if it does not stay.",
)
def postfix_not_running(host: Host) -> Iterator[str]:
    """Postfix runs."""
    if host.facts.postfix_runs is False:
        where = host.site.postfix.value("queue_directory") if host.site else ""
        yield f"{where}/pid/master.pid names no process that is master(8)"


@check(
    Severity.WARNING,
    can_happen="At a reload under load (`postfix reload`, `delivery-pools postfix install`) all of Postfix stands still"
    " for good: master(8) waits until its line is taken for the log, and would have to start postlogd(8) for that.",
    remedy=f"sysctl -w net.unix.max_dgram_qlen={_ENOUGH_DATAGRAMS}, and the same in /etc/sysctl.d (a container: at its"
    " start), then `postfix stop` and `postfix start`; or log to syslog: postconf -X maillog_file.",
)
def log_can_stand_still(host: Host) -> Iterator[str]:
    """Where Postfix writes its log itself, enough lines may wait while postlogd(8) is started anew."""
    most = host.facts.most_datagrams
    if host.site and host.site.postfix.value("maillog_file") and most is not None and most < _ENOUGH_DATAGRAMS:
        yield f"maillog_file is set, and net.unix.max_dgram_qlen = {most}"


@check(
    Severity.ERROR,
    can_happen="All mail that comes in is refused for now (451), and mail that leaves waits.",
    remedy=_START,
)
def milter_does_not_answer(host: Host) -> Iterator[str]:
    """The milter that Postfix names answers."""
    return _silent(host, "milter")


@check(
    Severity.WARNING,
    can_happen="Limits hold only roughly, and restricted accounts are refused late: the milter counts alone.",
    remedy=_START,
)
def policy_service_does_not_answer(host: Host) -> Iterator[str]:
    """The policy service that Postfix names answers."""
    return _silent(host, "policy")


@check(
    Severity.WARNING,
    can_happen="Bounces to rewritten senders (SRS) are refused for now (451).",
    remedy=_START,
)
def socketmap_does_not_answer(host: Host) -> Iterator[str]:
    """The socketmap that Postfix names answers."""
    return _silent(host, "socketmap")


@check(
    Severity.LATER,
    can_happen="Nothing yet: Postfix does not name it. It has to run before `delivery-pools postfix install`.",
    remedy=_START,
)
def daemon_not_running_yet(host: Host) -> Iterator[str]:
    """The daemons run before Postfix names them."""
    for daemon in host.facts.daemons:
        if daemon.problem and not daemon.is_forbidden and not _is_named(host, daemon):
            yield f"{daemon.name}: {daemon.address}: {daemon.problem}"


@check(
    Severity.LATER,
    can_happen="Whether it answers is not known.",
    remedy="Run the check as root.",
)
def daemon_not_asked(host: Host) -> Iterator[str]:
    """Whoever runs the check may connect to the daemons."""
    for daemon in host.facts.daemons:
        if daemon.is_forbidden:
            yield f"{daemon.name}: {daemon.address}: {daemon.problem}"


def _silent(host: Host, name: str) -> Iterator[str]:
    for daemon in host.facts.daemons:
        if daemon.name == name and daemon.problem and not daemon.is_forbidden and _is_named(host, daemon):
            yield f"{daemon.address}: {daemon.problem}"


def _is_named(host: Host, daemon: DaemonFacts) -> bool:
    """Tell whether Postfix asks this daemon."""
    if host.site is None:
        return False
    if daemon.name == "milter":
        return host.site.names_our_milter()
    if daemon.name == "socketmap":
        return asks_for_srs(host.site)
    parameters = ("smtpd_sender_restrictions", "smtpd_end_of_data_restrictions")
    site = host.site
    return any(site.our_policy_service(name, door) for door in site.doors for name in parameters)


@check(
    Severity.ERROR,
    can_happen='Postfix is refused ("Permission denied" in the log): mail waits, or is not counted.',
    remedy="The folder of the sockets: owner delivery-pools, group postfix, mode 0750; the sockets: group postfix,"
    " mode 0660. The daemons make their sockets so when their user is a member of the group postfix.",
)
def socket_closed_to_postfix(host: Host) -> Iterator[str]:
    """Postfix's processes may connect to the sockets of the daemons."""
    user = host.facts.postfix_user
    for daemon in host.facts.daemons:
        # One that is not there does not answer: that is told by name already.
        is_there = all(one.exists for one in daemon.path)
        if user and is_there and (barrier := _barrier(user, daemon.path, WRITE)):
            yield f"{daemon.name}: user {user.name} is kept out by {_described(barrier)}"


@check(
    Severity.WARNING,
    can_happen="Every user of this machine can speak to the daemon as if he were Postfix: count mail for other"
    " accounts, or ask for tickets.",
    remedy="chmod 0750 the folder of the sockets, owner delivery-pools, group postfix.",
)
def socket_open_to_all(host: Host) -> Iterator[str]:
    """Other users of this machine may not connect to the sockets of the daemons."""
    nobody = Identity(name="nobody", uid=-1, gids=frozenset())
    for daemon in host.facts.daemons:
        if daemon.path and all(one.exists for one in daemon.path) and not _barrier(nobody, daemon.path, WRITE):
            yield f"{daemon.name}: {_described(daemon.path[-1])}"


@check(
    Severity.ERROR,
    can_happen="The daemons do not start, or cannot decide: mail waits.",
    remedy="Keys and settings: owner root, group delivery-pools, mode 0640. State and spool: owner delivery-pools.",
)
def file_closed_to_daemons(host: Host) -> Iterator[str]:
    """The user of the daemons may read the settings and the keys, and write the state."""
    user = host.facts.daemon_user
    for file in host.facts.files:
        # What is not there at all is told by name already, with what makes it.
        if user and all(one.exists for one in file.path) and (barrier := _barrier(user, file.path, file.needs)):
            yield f"{file.name}: user {user.name} is kept out by {_described(barrier)}"


def _barrier(user: Identity, path: tuple[PathFacts, ...], bits: int) -> PathFacts | None:
    """Return what on a path keeps a user out: a folder that he may not pass, or the thing at its end."""
    for one in path[:-1]:
        if one.exists and not user.may(SEARCH, one):
            return one
    return next((one for one in path[-1:] if one.exists and not user.may(bits, one)), None)


def _described(path: PathFacts) -> str:
    return f"{path.path} (uid {path.uid}, gid {path.gid}, mode {path.mode:04o})"


DAEMON_CHECKS: Final[tuple[CheckOf[Host], ...]] = (
    postfix_not_running,
    log_can_stand_still,
    milter_does_not_answer,
    policy_service_does_not_answer,
    socketmap_does_not_answer,
    daemon_not_running_yet,
    daemon_not_asked,
    socket_closed_to_postfix,
    socket_open_to_all,
    file_closed_to_daemons,
)
