"""The Debian package, built once, and a Debian in which apt-get has installed it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fresh_debian import FreshDebian

ROOT = Path(__file__).parents[2]
CONFIG = "/etc/delivery-pools/delivery-pools.toml"
ADDRESSES = {"normal": "192.0.2.10", "high-risk": "192.0.2.20", "relay": "192.0.2.30"}
BUILD_SECONDS = 400


@dataclass(frozen=True)
class Built:
    """What packaging/build-deb has written."""

    package: Path
    wheels: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [ROOT / "packaging/build-deb", folder, folder / "wheels"],
        capture_output=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return Built(Path(done.stdout.decode().splitlines()[-1]), folder / "wheels")


@dataclass(frozen=True)
class Installed:
    """A Debian with the package, as apt-get has left it, and what apt-get said."""

    debian: FreshDebian
    said: str
    postfix_before: dict[str, bytes]


def postfix_files(root: Path) -> dict[str, bytes]:
    folder = root / "etc/postfix"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    root = tmp_path_factory.mktemp("debian") / "root"
    debian = FreshDebian.made(root, ["postfix", "systemd-sysv", "opendkim", "opendkim-tools"])
    before = postfix_files(root)
    shutil.copy(built.package, root / "root/package.deb")
    said = debian.chroot("apt-get", "install", "--yes", "--no-install-recommends", "/root/package.deb")
    yield Installed(debian, said, before)
    shutil.rmtree(root)


def write_settings(debian: FreshDebian) -> None:
    """Edit the settings file as an administrator would: owner and mode stay."""
    path = debian.root / CONFIG.lstrip("/")
    text = path.read_text().replace('#accepted_domains = ["example.org"]', 'accepted_domains = ["example.org"]')
    assert "\naccepted_domains" in text
    for name, address in ADDRESSES.items():
        table = f"\n[pools.{name}]\n"
        assert table in text
        text = text.replace(table, f'{table}addresses = ["{address}"]\nhelo = "{name}.example.org"\n')
    path.write_text(text.replace("\n[alerts]\n", '\n[alerts]\nmail_to = ["root@localhost"]\n'))


@pytest.fixture
def copy(installed: Installed, tmp_path: Path) -> Iterator[FreshDebian]:
    """A copy that one test may change."""
    root = tmp_path / "root"
    yield installed.debian.copied(root)
    shutil.rmtree(root)
