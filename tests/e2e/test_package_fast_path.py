"""The package's timer keeps the fast path open, in its sandbox, and without a word while nothing changes."""

from __future__ import annotations

import pytest
from debian_package import ADDRESSES, write_settings
from fresh_debian import BootedDebian, FreshDebian

pytestmark = pytest.mark.timeout(900)

TIMER, SERVICE = "delivery-pools-fast-path.timer", "delivery-pools-fast-path.service"
DAEMONS = ("delivery-pools-policy", "delivery-pools-milter")
PROOF = "/var/lib/delivery-pools/spool/fast-path.json"
POSTFIX = {
    "myhostname": "mx.example.org",
    "mydestination": "example.org, mx.example.org, localhost",
    "inet_interfaces": "loopback-only",
    "inet_protocols": "ipv4",
    "header_checks": "regexp:/etc/postfix/checks",
}


def look(debian: BootedDebian) -> list[str]:
    """Let the service run once, as the timer does; return what the journal has got of it."""
    before = debian.log(SERVICE).splitlines()
    debian.run("systemctl", "start", SERVICE)
    return debian.log(SERVICE).splitlines()[len(before) :]


def test_the_timer_opens_what_a_change_has_closed(copy: FreshDebian):
    write_settings(copy)
    copy.write("/etc/postfix/checks", "/^X-Nothing/ WARN\n")
    copy.chroot("postconf", "-X", "default_transport", "relay_transport")
    copy.chroot("postconf", "-e", *(f"{name}={value}" for name, value in POSTFIX.items()))
    with copy.booted([f"{address}/32" for address in ADDRESSES.values()]) as debian:
        debian.run("systemctl", "restart", "postfix")
        assert (debian.ask(TIMER, "ActiveState"), debian.ask(TIMER, "UnitFileState")) == ("active", "enabled")
        assert look(debian) == []  # Postfix has nothing of ours yet.
        debian.run("systemctl", "start", *DAEMONS)
        assert "fast path: on" in debian.run("delivery-pools", "postfix", "install")

        kept = debian.run("stat", "--format=%i %Y", PROOF)
        assert look(debian) == []
        assert debian.run("stat", "--format=%i %Y", PROOF) == kept
        debian.run("rm", PROOF)
        (said,) = look(debian)
        assert said.startswith("fast path: on, ")
        assert debian.run("stat", "--format=%U %a", PROOF) == "root 644\n"
        debian.shell("echo '/^X-Other/ WARN' >>/etc/postfix/checks && postfix reload")
        (said,) = look(debian)
        assert said.startswith("fast path: on, ")
        assert debian.run("systemctl", "is-system-running").strip() == "running"
