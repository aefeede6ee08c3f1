"""Both daemons under a service manager: what they tell it, and from which loop."""

import signal
import socket

import pytest

from deliverypools.lab.waiting import wait_until


class Systemd:
    """The end of the notify socket that systemd has."""

    def __init__(self, folder):
        self.address = str(folder / "notify")
        self.heard = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def has_heard(self, line, times=1):
        """Read what has come, and tell whether `line` was among everything so often."""
        try:
            while True:
                self.heard += self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return self.heard.count(line) >= times

    def wait_for(self, line, times=1):
        wait_until(lambda: self.has_heard(line, times), timeout_seconds=20, what=f"{line} {times} times")

    def close(self):
        self._socket.close()


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    made = Systemd(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", made.address)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["milter", "policy"])
def test_ready_when_it_serves_again_after_a_reload_and_stopping_before_it_ends(name, systemd, make_site, start):
    daemon = start(name, make_site())
    systemd.wait_for("READY=1")
    daemon.signal(signal.SIGHUP)
    systemd.wait_for("READY=1", times=2)
    assert systemd.heard.count("RELOADING=1") == 1
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    systemd.wait_for("STOPPING=1")
    assert [line for line in systemd.heard if line.endswith("=1")] == [
        "READY=1",
        "RELOADING=1",
        "READY=1",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("name", ["milter", "policy"])
def test_ready_too_after_a_reload_that_was_refused(name, systemd, make_site, start):
    site = make_site()
    daemon = start(name, site)
    systemd.wait_for("READY=1")
    site.config.write_text("accepted_domains = 1\n")
    daemon.signal(signal.SIGHUP)
    systemd.wait_for("READY=1", times=2)


@pytest.mark.parametrize("name", ["milter", "policy"])
def test_the_watchdog_hears_from_a_loop_that_waits_for_mail(name, systemd, make_site, start, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    start(name, make_site())
    systemd.wait_for("WATCHDOG=1", times=5)


@pytest.mark.parametrize("name", ["milter", "policy"])
def test_not_ready_where_it_cannot_serve(name, systemd, make_site, start, launch):
    first = start(name, make_site())
    systemd.wait_for("READY=1")
    second = launch(name, first.site)
    assert second.wait() == 1
    assert not systemd.has_heard("READY=1", times=2)
