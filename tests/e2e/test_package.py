"""The Debian package in a fresh Debian of its own, with systemd as PID 1: installed, run, upgraded, removed, purged."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_package import (
    ADDRESSES,
    CONFIG,
    ROOT,
    Built,
    Installed,
    postfix_files,
    write_settings,
)
from fresh_debian import BootedDebian, FreshDebian

from deliverypools.lab.waiting import wait_until

DAEMONS = ("delivery-pools-milter", "delivery-pools-policy")
SOCKETS = "/var/spool/postfix/delivery-pools"
REQUIRED = ("accepted_domains", *(f"pools.{pool}.{key}" for pool in ADDRESSES for key in ("addresses", "helo")))

# What comes first builds the package and a Debian.
pytestmark = pytest.mark.timeout(900)

ALERT = """
import sys, time
from pathlib import Path
from deliverypools.adapters.settings_file import load_settings
from deliverypools.adapters.state import open_state
from deliverypools.adapters.telling import tell
from deliverypools.core.alerts import Alert, Event
from deliverypools.core.facts import Ingress
from deliverypools.core.told import LimitAlert
settings = load_settings(Path(sys.argv[1]))
alert = Alert(event=Event.LIMIT_EXCEEDED, account="alice@example.org", ingress=Ingress.SUBMISSION, at=time.time(),
    limit="recipients_per_day", most=1, used=1, cost=1, policy="", action="alert", evidence="a test")
tell(LimitAlert(alert), settings, open_state(settings, time.time))
"""
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.sendall(b"request=smtpd_access_policy\\nprotocol_state=RCPT\\nrecipient=a@example.org\\n\\n")
    print(client.recv(100).decode())
"""


@pytest.fixture(scope="module")
def running(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedDebian]:
    """A booted Debian whose administrator has edited the settings; a hung daemon is noticed within ten seconds."""
    root = tmp_path_factory.mktemp("running") / "root"
    debian = installed.debian.copied(root)
    write_settings(debian)
    for daemon in DAEMONS:
        debian.write(f"/etc/systemd/system/{daemon}.service.d/test.conf", "[Service]\nWatchdogSec=10s\n")
    with debian.booted([f"{address}/32" for address in ADDRESSES.values()]) as booted:
        yield booted
    shutil.rmtree(root)


@pytest.fixture
def daemons(running: BootedDebian) -> BootedDebian:
    """Both daemons run, whatever the test before has done."""
    running.run("systemctl", "start", *DAEMONS)
    return running


def states(debian: BootedDebian) -> list[str]:
    return [debian.ask(f"{daemon}.service", "ActiveState") for daemon in DAEMONS]


def as_daemon(debian: BootedDebian, *command: str, check: bool = True) -> str:
    return debian.run("runuser", "-u", "delivery-pools", "--", *command, check=check)


def python(debian: BootedDebian, program: str, *arguments: str) -> str:
    return as_daemon(debian, "/opt/delivery-pools/bin/python", "-I", "-c", program, *arguments)


# ---- installed, not edited


def test_a_fresh_installation_changes_no_postfix_starts_nothing_and_says_what_is_next(installed: Installed):
    assert "nothing was started, and Postfix was not changed" in installed.said
    assert "systemctl start delivery-pools-policy.service delivery-pools-milter.service" in installed.said
    assert postfix_files(installed.debian.root) == installed.postfix_before
    assert not list((installed.debian.root / "usr/bin").glob("gcc*"))


def test_the_unedited_settings_say_what_every_site_has_to_decide(installed: Installed):
    said = installed.debian.chroot("delivery-pools", "check", check=False)
    assert [line.split(": ")[1] for line in said.splitlines()] == list(REQUIRED)
    assert installed.debian.chroot("bash", "-c", "delivery-pools check >/dev/null 2>&1; echo $?").strip() == "78"


def test_keys_and_settings_are_for_root_and_the_daemons_alone(installed: Installed):
    said = installed.debian.chroot("stat", "--format", "%U:%G %a %n", CONFIG, "/etc/delivery-pools/ticket.keys")
    assert said.splitlines() == [
        f"root:delivery-pools 640 {CONFIG}",
        "root:delivery-pools 640 /etc/delivery-pools/ticket.keys",
    ]


def test_the_package_names_nothing_of_the_machine_that_built_it(installed: Installed):
    machine = [str(ROOT), "delivery-pools-deb.", "/.pyenv/"]
    found = subprocess.run(
        ["grep", "-rlF", *(f"-e{text}" for text in machine), installed.debian.root / "opt/delivery-pools"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (1, "")


def test_units_that_cannot_run_yet_are_skipped_and_have_not_failed(copy: FreshDebian):
    with copy.booted() as booted:
        booted.run("systemctl", "start", *DAEMONS)
        assert states(booted) == ["inactive", "inactive"]
        assert f"not started: edit {CONFIG} first" in booted.log("delivery-pools-milter")
        assert booted.run("systemctl", "is-system-running").strip() == "running"


# ---- running under systemd


def test_both_daemons_serve_in_their_sandbox(daemons: BootedDebian):
    assert states(daemons) == ["active", "active"]
    files = daemons.shell(f"stat --format '%U:%G %a %n' {SOCKETS} {SOCKETS}/*.sock").splitlines()
    assert files == [
        f"delivery-pools:postfix 750 {SOCKETS}",
        f"delivery-pools:postfix 660 {SOCKETS}/milter.sock",
        f"delivery-pools:postfix 660 {SOCKETS}/policy.sock",
    ]
    assert python(daemons, ASK, f"{SOCKETS}/policy.sock").strip() == "action=DUNNO"
    for daemon in DAEMONS:
        status = daemons.run("cat", f"/proc/{daemons.ask(daemon, 'MainPID')}/status")
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert "CapBnd:\t0000000000000000" in status


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_sandbox_scores_below_two_and_a_half(running: BootedDebian, daemon: str):
    said = running.run("systemd-analyze", "security", "--no-pager", "--threshold=24", f"{daemon}.service", check=False)
    assert " OK " in said.splitlines()[-1]


def test_the_units_are_valid(running: BootedDebian):
    units = [*(path.name for path in (ROOT / "systemd").glob("*.[spt][eai][rtm]*"))]
    assert len(units) == 8
    assert running.run("systemd-analyze", "verify", "--man=no", *units).strip() == ""


def test_an_alert_is_mailed_through_postdrop_without_new_privileges(daemons: BootedDebian):
    python(daemons, ALERT, CONFIG)
    mailbox = "/var/mail/root"

    def arrived() -> bool:
        return "alice@example.org is over its limit" in daemons.shell(f"cat {mailbox} || true")

    wait_until(arrived, timeout_seconds=60, what="the alert in root's mailbox")


def test_without_the_group_postdrop_sendmail_could_not_do_it(running: BootedDebian):
    """The reason for SupplementaryGroups=postdrop: with NoNewPrivileges postdrop(1) is not setgid."""
    command = "setpriv --no-new-privs --reuid delivery-pools --regid delivery-pools {} sendmail -f '<>' root </dev/null"
    # It tries for ever: the daemons give it a minute.
    refused = running.shell("timeout --signal=KILL 15 " + command.format("--clear-groups"), check=False)
    assert "Permission denied" in refused
    running.shell(command.format("--groups postdrop"))


def test_a_reload_takes_new_settings_and_ends_only_when_they_are_read(daemons: BootedDebian):
    before = [daemons.ask(daemon, "MainPID") for daemon in DAEMONS]
    daemons.run("systemctl", "reload", *DAEMONS)
    assert [daemons.ask(daemon, "MainPID") for daemon in DAEMONS] == before
    assert states(daemons) == ["active", "active"]
    for daemon in DAEMONS:
        assert "settings reloaded" in daemons.log(daemon)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_that_hangs_is_started_again(daemons: BootedDebian, daemon: str):
    before = daemons.ask(daemon, "MainPID")
    daemons.run("bash", "-c", f"kill -STOP {before}")

    def is_new() -> bool:
        return daemons.ask(daemon, "MainPID") not in {before, "0"} and daemons.ask(daemon, "ActiveState") == "active"

    wait_until(is_new, timeout_seconds=60, what=f"another {daemon}")
    assert "Watchdog timeout" in daemons.log(daemon)


def test_the_socket_folder_is_made_anew_at_each_start(daemons: BootedDebian):
    daemons.run("systemctl", "stop", *DAEMONS)
    daemons.shell(f"rm -r {SOCKETS}; install -d -o root -g root -m 0700 {SOCKETS}")
    daemons.run("systemctl", "start", *DAEMONS)
    assert python(daemons, ASK, f"{SOCKETS}/policy.sock").strip() == "action=DUNNO"


# ---- upgrade, remove, purge


def test_an_upgrade_restarts_both_and_keeps_settings_keys_and_state(copy: FreshDebian):
    write_settings(copy)
    kept = (CONFIG, "/etc/delivery-pools/ticket.keys")
    with copy.booted([f"{address}/32" for address in ADDRESSES.values()]) as booted:
        booted.run("systemctl", "start", *DAEMONS)
        before = [booted.ask(daemon, "MainPID") for daemon in DAEMONS]
        files = booted.run("sha256sum", *kept)
        booted.run("apt-get", "install", "--yes", "--reinstall", "/root/package.deb")
        assert states(booted) == ["active", "active"]
        assert all(booted.ask(daemon, "MainPID") != pid for daemon, pid in zip(DAEMONS, before, strict=True))
        assert booted.run("sha256sum", *kept) == files

        # What the new version refuses stops nothing that runs.
        before = [booted.ask(daemon, "MainPID") for daemon in DAEMONS]
        booted.shell(f"echo 'no_such_key = 1' | cat - {CONFIG} >/root/new && cat /root/new >{CONFIG}")
        said = booted.run("apt-get", "install", "--yes", "--reinstall", "/root/package.deb")
        assert f"{CONFIG}:1: no_such_key" in said
        assert "this version refuses the settings" in said
        assert [booted.ask(daemon, "MainPID") for daemon in DAEMONS] == before


def test_removed_and_installed_again_the_audit_is_as_the_administrator_had_it(copy: FreshDebian):
    timer = "delivery-pools-audit.timer"
    write_settings(copy)
    with copy.booted([f"{address}/32" for address in ADDRESSES.values()]) as booted:
        for wanted in (("disabled", "inactive"), ("enabled", "active")):
            if wanted[0] == "enabled":
                booted.run("systemctl", "enable", "--now", timer)
            booted.run("apt-get", "remove", "--yes", "delivery-pools")
            assert booted.ask(timer, "LoadState") != "loaded"
            booted.run("apt-get", "install", "--yes", "/root/package.deb")
            assert (booted.ask(timer, "UnitFileState"), booted.ask(timer, "ActiveState")) == wanted
            assert states(booted) == ["active", "active"]


def test_purge_leaves_nothing_but_the_user_and_never_touches_postfix(copy: FreshDebian, installed: Installed):
    write_settings(copy)
    with copy.booted([f"{address}/32" for address in ADDRESSES.values()]) as booted:
        booted.run("systemctl", "start", *DAEMONS)
        booted.run("postconf", "-e", "delivery_pools_milter=unix:milter.sock", "smtpd_milters=$delivery_pools_milter")
        configured = postfix_files(copy.root)
        said = booted.run("apt-get", "remove", "--yes", "delivery-pools")
        assert "Postfix is still configured for Delivery Pools" in said
        assert states(booted) == ["inactive", "inactive"]
        assert (copy.root / CONFIG.lstrip("/")).exists()
        booted.run("apt-get", "purge", "--yes", "delivery-pools")
        assert postfix_files(copy.root) == configured != installed.postfix_before
        assert booted.run("systemctl", "is-system-running").strip() == "running"
    assert left_of(copy.root) == []


def left_of(root: Path) -> list[str]:
    """Return what has our name in its own, but for what dpkg and the journal write about any package."""
    written = ("proc", "var/log", "var/lib/dpkg", "var/cache", "root")
    found = [path.relative_to(root) for path in root.rglob("*delivery-pools*")]
    return [str(path) for path in found if not str(path).startswith(written)]


# ---- without the package


def test_pip_needs_no_compiler_on_top_of_debians_python3_milter(built: Built, copy: FreshDebian):
    shutil.copytree(built.wheels, copy.root / "root/wheels", ignore=shutil.ignore_patterns("pymilter-*"))
    copy.chroot("apt-get", "install", "--yes", "--no-install-recommends", "python3-milter", "python3-venv")
    copy.chroot("python3", "-m", "venv", "--system-site-packages", "/opt/by-pip")
    pip = ("/opt/by-pip/bin/pip", "install", "--quiet", "--no-index", "--find-links=/root/wheels", "delivery-pools")
    copy.chroot(*pip)
    program = "import milter, deliverypools.milter.server as server; print(milter.__file__, server.__file__)"
    modules = copy.chroot("/opt/by-pip/bin/python", "-c", program).split()
    assert modules[0].startswith("/usr/lib/python3/dist-packages/")
    assert modules[1].startswith("/opt/by-pip/lib/")
