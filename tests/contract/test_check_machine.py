"""`check` on a machine without Postfix, or with one that is not set up: real postconf, and sockets of this machine."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest

from deliverypools.adapters import daemon_questions, host_facts
from deliverypools.adapters.daemon_questions import daemon_problem
from deliverypools.adapters.host_facts import own_addresses
from deliverypools.cli.main import main
from deliverypools.lab.site import MASTER_CF

SETTINGS = """\
accepted_domains = ["example.org"]
state = "sqlite:///{folder}/state.db"
ticket_key_file = "{folder}/ticket.keys"
[pools.normal]
addresses = ["127.0.0.1"]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["127.0.0.2"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["127.0.0.3"]
helo = "mail-relay.example.org"
[milter]
socket = "unix:{folder}/milter.sock"
[policy]
socket = "unix:{folder}/policy.sock"
"""


@pytest.fixture
def config(tmp_path, capsys):
    path = tmp_path / "pools.toml"
    path.write_text(SETTINGS.format(folder=tmp_path))
    main(["keys", "rotate", "--config", str(path)])
    capsys.readouterr()
    return str(path)


@pytest.fixture
def check(config, capsys):
    def check(*options):
        status = main(["check", "--config", config, "--dns", "off", "--json", *options])
        found = json.loads(capsys.readouterr().out)["findings"]
        return status, {one["check"]: one["severity"] for one in found}

    return check


OF_LOOPBACK = {"pool_address_is_private": "later", "daemon_not_running_yet": "later"}


def test_no_postfix_here_is_no_error(check, tmp_path, monkeypatch):
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path / "nowhere"))
    assert check() == (0, {"no_postfix_here": "later"} | OF_LOOPBACK)


def test_the_directory_that_is_named_must_be_there(check, tmp_path):
    assert check("--postfix", str(tmp_path / "nowhere")) == (1, {"postfix_unreadable": "error"} | OF_LOOPBACK)


def test_postfix_that_is_not_set_up_is_told_once(check, tmp_path, monkeypatch):
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(
        f"compatibility_level = 3.6\nmyhostname = mx.example.org\nqueue_directory = {tmp_path}\n"
    )
    (etc / "master.cf").write_text(MASTER_CF.read_text())
    monkeypatch.setenv("MAIL_CONFIG", str(etc))
    expected = {"postfix_not_set_up": "warning", "postfix_not_running": "warning"}
    assert check() == (0, expected | OF_LOOPBACK)


def test_live_needs_a_postfix_that_is_set_up(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path / "nowhere"))
    assert main(["check", "--live", "--config", config]) == 1
    assert capsys.readouterr().err.startswith("no probe was sent\nlater: no_postfix_here: ")


class TestQuestions:
    """What stands at the other end of a socket need not be a daemon of ours."""

    @pytest.fixture
    def serve(self, tmp_path):
        """Listen on a socket; say `answer` to whoever connects, and close."""
        listeners = []

        def serve(answer: bytes | None) -> str:
            path = str(tmp_path / "x.sock")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen()
            listeners.append(listener)
            if answer is not None:
                threading.Thread(target=self.talk, args=(listener, answer), daemon=True).start()
            return f"unix:{path}"

        yield serve
        for listener in listeners:
            listener.close()

    @staticmethod
    def talk(listener, answer):
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    @pytest.mark.parametrize("name", ["milter", "policy", "socketmap"])
    def test_nobody_listens(self, tmp_path, name):
        assert daemon_problem(name, f"unix:{tmp_path}/x.sock") == ("No such file or directory", False)

    def test_nobody_listens_on_tcp(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"inet:127.0.0.1:{taken.getsockname()[1]}"
            assert daemon_problem("milter", address) == ("Connection refused", False)

    @pytest.mark.parametrize("name", ["milter", "policy", "socketmap"])
    @pytest.mark.parametrize("answer", [b"", b"220 smtp\r\n", b"\n\n", b",", b"x" * 10_000])
    def test_another_server(self, serve, name, answer):
        problem, is_forbidden = daemon_problem(name, serve(answer))
        assert problem.startswith("not the answer of ")
        assert not is_forbidden

    @pytest.mark.parametrize(
        ("name", "answer"),
        [
            ("milter", b"\0\0\0\x0dO\0\0\0\x06\0\0\1\xff\0\0\0\0"),
            ("policy", b"action=DUNNO\n\n"),
            ("socketmap", b"9:NOTFOUND ,"),
        ],
    )
    def test_answers_that_will_do(self, serve, name, answer):
        assert daemon_problem(name, serve(answer)) == ("", False)

    @pytest.mark.parametrize("name", ["milter", "policy", "socketmap"])
    def test_a_server_that_hangs(self, serve, monkeypatch, name):
        monkeypatch.setattr(daemon_questions, "_ANSWER_SECONDS", 0.2)
        assert daemon_problem(name, serve(None)) == ("no answer in 0.2 seconds", False)

    def test_this_user_may_not_ask(self, tmp_path, monkeypatch):
        def refuse(address):
            raise PermissionError(13, os.strerror(13))

        monkeypatch.setattr(daemon_questions, "_connected", refuse)
        assert daemon_problem("milter", f"unix:{tmp_path}/x.sock") == ("Permission denied", True)


def test_addresses_of_this_machine(monkeypatch):
    hosts = ("127.0.0.1", "::ffff:127.0.0.1", "203.0.113.99", "mail.example.org", "")
    assert own_addresses(hosts) == {"127.0.0.1", "::ffff:127.0.0.1"}
    # Where every address can be bound, nothing is known.
    monkeypatch.setattr(host_facts, "_binds_anything", lambda _: True)
    assert own_addresses(hosts) == frozenset()
