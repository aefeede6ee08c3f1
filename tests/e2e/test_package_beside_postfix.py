"""An administrator's whole way, beside a Postfix with opendkim and a relayhost: package, install, uninstall, purge.

500 messages are deferred when it begins, and on their way through all of it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from debian_package import ADDRESSES, Installed, write_settings
from fresh_debian import BootedDebian, FreshDebian

from deliverypools.lab.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

DEFERRED = 500
SMARTHOST = "198.51.100.25"
SMARTHOST_NAME = "smarthost.example.net"
"""By its address, which is one of this machine's here, it would be refused."""
POSTFIX = {
    "myhostname": "mx.example.org",
    "myorigin": "example.org",
    "mydestination": "example.org, mx.example.org, localhost",
    "relayhost": f"[{SMARTHOST_NAME}]",
    "smtp_host_lookup": "native",
    "inet_interfaces": "127.0.0.1, 192.0.2.1",
    "smtp_bind_address": "192.0.2.1",
    "mynetworks": "127.0.0.0/8",
    "milter_default_action": "accept",
    "smtpd_milters": "inet:127.0.0.1:8891",
    "non_smtpd_milters": "$smtpd_milters",
    "smtp_destination_concurrency_limit": "10",
}
OPENDKIM = """
Domain example.org
Selector mail
KeyFile /etc/dkimkeys/mail.private
Socket inet:8891@127.0.0.1
Mode s
UserID opendkim
PidFile /run/opendkim/opendkim.pid
"""
DNS = """
import threading
from deliverypools.lab.dns_server import DnsServer
server = DnsServer({name: {"MX": ["10 mx.example.org."]} for name in ("example.org", "example.com", "example.net")})
server.start("127.0.0.1", 5353)
threading.Event().wait()
"""
OURS = re.compile(rb"^X-Delivery-Pool", re.IGNORECASE | re.MULTILINE)
SINK = "/var/sink"


@dataclass(frozen=True)
class Arrived:
    """One message as the smarthost has got it (smtp-sink(1) writes what it saw into the first lines)."""

    data: bytes

    def seen(self, name: str) -> str:
        found = re.search(rf"^{name}: (.*)$".encode(), self.data, re.MULTILINE)
        return found[1].decode().strip() if found else ""

    @property
    def recipients(self) -> list[str]:
        return [found.decode() for found in re.findall(rb"^X-Rcpt-Args: <([^>]*)>", self.data, re.MULTILINE)]


@dataclass
class Site:
    """The Debian, and the smarthost that its Postfix sends all mail to."""

    debian: FreshDebian
    booted: BootedDebian

    def smarthost(self, *options: str) -> None:
        """Start the smarthost, in the place of the one of before."""
        self.booted.run("systemctl", "stop", "sink.service", check=False)
        self.booted.run("systemctl", "reset-failed", "sink.service", check=False)
        self.booted.run(
            *("systemd-run", "--unit=sink", f"--working-directory={SINK}", "smtp-sink", "-u", "nobody"),
            *(*options, "-d", f"{SINK}/%M.", f"{SMARTHOST}:25", "128"),
        )
        self.booted.shell(f"until (: </dev/tcp/{SMARTHOST}/25) 2>/dev/null; do read -rt 0.1 <> <(:) || :; done")

    @property
    def arrived(self) -> list[Arrived]:
        return [Arrived(path.read_bytes()) for path in (self.debian.root / SINK.lstrip("/")).iterdir()]

    def wait_for(self, recipient: str) -> Arrived:
        found: list[Arrived] = []

        def is_there() -> bool:
            found[:] = [one for one in self.arrived if recipient in one.recipients]
            return bool(found)

        wait_until(is_there, timeout_seconds=60, what=f"mail to {recipient}")
        assert len(found) == 1
        return found[0]

    def send(self, recipient: str, *headers: str, sender: str = "alice@example.org") -> None:
        text = "\n".join([f"From: <{sender}>", f"To: <{recipient}>", "Subject: test", *headers, "", "hello"])
        self.booted.run("bash", "-c", 'sendmail -i -f "$1" -- "$2" <<<"$3"', "sh", sender, recipient, text)

    def queued(self) -> int:
        return int(self.booted.shell("postqueue -j | wc -l"))

    def configuration(self) -> tuple[str, str, bytes, bytes]:
        files = [(self.debian.root / f"etc/postfix/{name}.cf").read_bytes() for name in ("main", "master")]
        return self.booted.run("postconf", "-n"), self.booted.run("postconf", "-M"), files[0], files[1]


@pytest.fixture(scope="module")
def site(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A working Postfix with opendkim and a relayhost; the package is not installed yet."""
    root = tmp_path_factory.mktemp("site") / "root"
    debian = installed.debian.copied(root)
    debian.chroot("apt-get", "purge", "--yes", "delivery-pools")
    debian.write("/etc/opendkim.conf", OPENDKIM)
    debian.write("/etc/hosts", f"127.0.0.1 localhost\n{SMARTHOST} {SMARTHOST_NAME}\n")
    debian.write("/etc/aliases", "postmaster: root\nforward: someone@example.com\n")
    debian.chroot("opendkim-genkey", "-D", "/etc/dkimkeys", "-d", "example.org", "-s", "mail")
    debian.chroot("chown", "-R", "opendkim", "/etc/dkimkeys")
    debian.chroot("newaliases")
    # What Debian's "Local only" has set.
    debian.chroot("postconf", "-X", "default_transport", "relay_transport")
    debian.chroot("postconf", "-e", *(f"{name}={value}" for name, value in POSTFIX.items()))
    (root / SINK.lstrip("/")).mkdir()
    debian.chroot("chown", "nobody", SINK)
    addresses = [f"{address}/32" for address in ("192.0.2.1", SMARTHOST, *ADDRESSES.values())]
    with debian.booted(addresses) as booted:
        booted.run("systemctl", "restart", "opendkim", "postfix")
        yield Site(debian, booted)
    shutil.rmtree(root)


def test_from_the_package_to_the_purge_with_mail_in_the_queue(site: Site, installed: Installed):
    site.smarthost()
    site.send("before@example.net")
    before = site.wait_for("before@example.net")
    assert before.seen("X-Client-Addr") == "192.0.2.1"
    assert before.seen("DKIM-Signature")

    # ---- 500 messages are deferred
    site.smarthost("-r", "RCPT")
    site.booted.run(
        *("smtp-source", "-N", "-s", "10", "-m", str(DEFERRED), "-f", "alice@example.org", "-t", "bob@example.net"),
        "127.0.0.1:25",
    )
    wait_until(lambda: all_deferred(site, DEFERRED), timeout_seconds=120, what="500 deferred messages")
    configuration = site.configuration()

    install(site, installed)
    assert site.configuration() != configuration
    mail_flows_by_pools(site)
    uninstall(site)
    assert site.configuration() == configuration
    site.booted.run("apt-get", "purge", "--yes", "delivery-pools")
    assert site.configuration() == configuration
    assert "delivery-pools" not in site.booted.run("postconf")

    # ---- none lost, none twice, none with our headers, none by a wrong address
    mass = [message for message in site.arrived if "bob@example.net" in message.recipients[0]]
    recipients = [recipient for message in mass for recipient in message.recipients]
    assert (len(recipients), len(set(recipients))) == (DEFERRED, DEFERRED)
    assert {message.seen("X-Client-Addr") for message in mass} == {ADDRESSES["normal"]}
    assert not [message for message in site.arrived if OURS.search(message.data)]


def install(site: Site, installed: Installed) -> None:
    shutil.copy(next(installed.debian.root.glob("root/package.deb")), site.debian.root / "root/package.deb")
    site.booted.run("apt-get", "install", "--yes", "--no-install-recommends", "/root/package.deb")
    write_settings(site.debian)
    settings = site.debian.root / "etc/delivery-pools/delivery-pools.toml"
    settings.write_text(settings.read_text().replace("\n[dns]\n", '\n[dns]\nnameservers = ["127.0.0.1:5353"]\n'))
    site.booted.run("systemd-run", "--unit=dns", "/opt/delivery-pools/bin/python", "-I", "-c", DNS)
    site.booted.run("systemctl", "start", "delivery-pools-policy", "delivery-pools-milter")
    said = site.booted.run("delivery-pools", "postfix", "install")
    assert str(DEFERRED) in said
    assert "nothing changed" in site.booted.run("delivery-pools", "postfix", "install")
    site.booted.run("postqueue", "-f")
    wait_until(lambda: decided(site) >= DEFERRED, timeout_seconds=200, what="all were decided again")
    wait_until(lambda: all_deferred(site, DEFERRED), timeout_seconds=120, what="all are deferred by the pool")


def mail_flows_by_pools(site: Site) -> None:
    site.smarthost("-r", "VRFY")
    site.send("normal@example.net")
    site.send("spam@example.net", "X-Spam-Flag: YES")
    site.send("bounce@example.net", sender="<>")
    site.send("foreign@example.net", sender="carol@example.com")
    expected = {"normal": "normal", "spam": "high-risk", "bounce": "high-risk", "foreign": "relay"}
    for name, pool in expected.items():
        message = site.wait_for(f"{name}@example.net")
        assert message.seen("X-Client-Addr") == ADDRESSES[pool], name
        assert message.seen("X-Helo-Args") == f"{pool}.example.org", name
        assert not OURS.search(message.data)
    assert site.wait_for("normal@example.net").seen("DKIM-Signature")
    site.smarthost("-r", "RCPT")
    live = site.booted.run("delivery-pools", "check", "--live", "--dns", "off", check=False)
    assert all(address in live for address in ADDRESSES.values()), live


def uninstall(site: Site) -> None:
    """Mail is routed as before at once; what is queued leaves by its pool."""
    said = site.booted.run("delivery-pools", "postfix", "uninstall")
    assert str(site.queued()) in said
    site.smarthost()
    site.send("after@example.net")
    assert site.wait_for("after@example.net").seen("X-Client-Addr") == "192.0.2.1"
    site.booted.run("postqueue", "-f")
    site.booted.run("delivery-pools", "postfix", "uninstall", "--wait", "5m")


def all_deferred(site: Site, count: int) -> bool:
    said = site.booted.shell("postqueue -j")
    return said.count('"queue_name": "deferred"') == count == said.count('"queue_id"')


def decided(site: Site) -> int:
    log = site.booted.log("delivery-pools-milter")
    return len(set(re.findall(r"(\S+): pass=egress pool=normal .*pre-install", log)))
