"""A Debian of its own in a folder, of the same release as this machine: commands in it, and systemd as its PID 1.

Everything runs in namespaces that end with it: no mount, process, user or service of the machine is touched.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from deliverypools.lab.waiting import wait_until

_ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_COMMAND_SECONDS = 300
_BOOT_SECONDS = 60

_IN_CHROOT = r"""
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"; mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"; mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
exec chroot "$ROOT" "$@"
"""

_BOOT = r"""
ip link set lo up
for address in $ADDRESSES; do ip address add "$address" dev lo; done
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"; mount -t sysfs -o ro sysfs "$ROOT/sys"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
for node in null zero full random urandom tty; do
    touch "$ROOT/dev/$node"; mount --bind "/dev/$node" "$ROOT/dev/$node"
done
mkdir "$ROOT/dev/pts" "$ROOT/dev/shm"; ln -s /proc/self/fd "$ROOT/dev/fd"; ln -s pts/ptmx "$ROOT/dev/ptmx"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$ROOT/dev/pts"; mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/run"; mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
if [ "$(stat --file-system --format %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$ROOT/sys/fs/cgroup"
    mkdir "$ROOT/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd,xattr cgroup "$ROOT/sys/fs/cgroup/systemd"
fi
mkdir -p "$ROOT/.outside"; cd "$ROOT"; pivot_root . .outside; cd /; umount --lazy /.outside
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal
"""


# systemd makes control groups: they are to be below ones of our own, which can be removed.
_JOIN_CONTROL_GROUPS = r"""
for group in $GROUPS_TO_JOIN; do
    for resource in cpuset.cpus cpuset.mems; do
        # Version 1: nobody can join a new group before it has these.
        if [ -e "$group/cpuset.memory_migrate" ]; then cat "$group/../$resource" >"$group/$resource"; fi
    done
    echo $$ >"$group/cgroup.procs"
done
exec "$@"
"""


class FreshDebian:
    """One root folder; `boot` starts systemd in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def made(cls, root: Path, packages: Sequence[str]) -> FreshDebian:
        """Return a new one with these packages and what they depend on, from where this machine gets its own."""
        release = _release()
        sources = _sources(release)
        include = "--include=ca-certificates,init-system-helpers"
        _run(["debootstrap", "--variant=minbase", include, release, str(root), sources[0][0]])
        made = cls(root)
        made.write("/etc/apt/sources.list", "".join(f"deb [signed-by={_KEYRING}] {' '.join(one)}\n" for one in sources))
        made.write("/etc/apt/apt.conf.d/99machine", _run(["apt-config", "dump", "Acquire"]))
        # dpkg need not survive a power failure here; and without a running systemd nothing is to be started.
        made.write("/etc/dpkg/dpkg.cfg.d/unsafe", "force-unsafe-io\n")
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        if Path(_CERTIFICATES).exists():
            shutil.copy(_CERTIFICATES, root / _CERTIFICATES.lstrip("/"))
        made.write("/root/answers", "postfix postfix/main_mailer_type select Local only\n")
        made.chroot("debconf-set-selections", "/root/answers")
        made.chroot("apt-get", "update")
        made.chroot("apt-get", "install", "--yes", "--no-install-recommends", *packages)
        return made

    def copied(self, root: Path) -> FreshDebian:
        """Return a copy; device nodes stay what they are."""
        _run(["cp", "--archive", "--reflink=auto", str(self.root), str(root)])
        return FreshDebian(root)

    def write(self, path: str, text: str) -> None:
        """Write a file, and the folders above it."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def chroot(self, *command: str, check: bool = True) -> str:
        """Run a command in it without systemd; return what it wrote. Its processes end with it."""
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private"]
        return _run(
            [*inside, "bash", "-euc", _IN_CHROOT, "chroot", *command],
            environment=_ENVIRONMENT | {"ROOT": str(self.root)},
            check=check,
        )

    @contextlib.contextmanager
    def booted(self, addresses: Sequence[str] = ()) -> Iterator[BootedDebian]:
        """Start systemd, with a network that has these addresses and leads nowhere; it ends with the block."""
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--fork", "--kill-child=KILL"]
        unshare = ["unshare", *namespaces, "--propagation", "private", "bash", "-euc", _BOOT, "boot"]
        name = f"fresh-debian-{secrets.token_hex(8)}"
        groups = [group / name for group in _own_control_groups()]
        for group in groups:
            group.mkdir()
        process = subprocess.Popen(
            ["bash", "-euc", _JOIN_CONTROL_GROUPS, "join", *unshare],
            env=os.environ
            | {"ROOT": str(self.root), "ADDRESSES": " ".join(addresses), "GROUPS_TO_JOIN": " ".join(map(str, groups))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            booted = BootedDebian(process)
            wait_until(booted.is_up, timeout_seconds=_BOOT_SECONDS, what="systemd has started its units")
            yield booted
        finally:
            # unshare takes PID 1 with it, and that everything else; nothing is left to be unmounted.
            process.send_signal(signal.SIGKILL)
            process.wait(_COMMAND_SECONDS)
            for group in groups:
                wait_until(lambda group=group: _is_removed(group), timeout_seconds=30, what=f"{group} is empty")


class BootedDebian:
    """A Debian whose systemd runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in it as root; return what it wrote, to both streams."""
        pid = self._init
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--root", "--wdns=/"]
        return _run(["nsenter", f"--target={pid}", *namespaces, *command], environment=_ENVIRONMENT, check=check)

    def shell(self, script: str, *, check: bool = True) -> str:
        """Run a script of bash in it."""
        return self.run("bash", "-euc", script, check=check)

    def ask(self, unit: str, name: str) -> str:
        """Return what systemd says of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def log(self, unit: str) -> str:
        """Return what the journal has of a unit, with what was written last."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def is_up(self) -> bool:
        """Tell whether systemd has started what it starts; units that failed do not count."""
        if self._process.poll() is not None:
            raise RuntimeError(f"systemd ended at once, exit {self._process.returncode}")
        try:
            state = self.run("systemctl", "is-system-running", check=False)
        except (FileNotFoundError, ValueError):
            return False
        return state.strip() in {"running", "degraded"}

    @property
    def _init(self) -> int:
        parent = self._process.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text())


def _own_control_groups() -> list[Path]:
    """Return the groups that this process is in: one in version 2, one for each hierarchy in version 1."""
    top = Path("/sys/fs/cgroup")
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=") or ("" if (top / "cgroup.procs").exists() else "unified")
        group = top / name / path.lstrip("/")
        if (group / "cgroup.procs").exists():
            found.append(group)
    return found


def _is_removed(group: Path) -> bool:
    """Remove a control group and those below it, as far as no process is left in them; tell whether it is gone."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()


def _release() -> str:
    (name,) = (
        line.partition("=")[2].strip('"\n')
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    return name


def _sources(release: str) -> list[tuple[str, str, str]]:
    """Return address, suite and component of every index of this release that this machine uses."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines()
    found = [tuple(line.split()) for line in lines]
    suites = (release, f"{release}-updates", f"{release}-security")
    return sorted({one for one in found if one[1:] in {(suite, "main") for suite in suites}}, key=lambda one: one[1])


def _run(command: Sequence[str], *, environment: dict[str, str] | None = None, check: bool = True) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0 or not check, f"{' '.join(command)[:400]}: exit {done.returncode}\n{output[-4000:]}"
    return output
