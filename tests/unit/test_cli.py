"""The command line: help, `classify`, `keys rotate`, `check`, and what is said when settings are missing."""

import io
import json
import os
import pathlib
import shlex
import socket
import sqlite3
import sys
import time
from types import SimpleNamespace

import pytest

from deliverypools.adapters import sqlite_file
from deliverypools.adapters.key_file import read_keys
from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.adapters.requeue import RequeueInterrupted
from deliverypools.adapters.settings_file import load_settings
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.adapters.state import StateUnavailable
from deliverypools.cli import restricted, shared_state
from deliverypools.cli.main import main
from deliverypools.core.accounts import account_of
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import REFUSED, Charge, limits_for, stream, tally_of
from deliverypools.core.records import DecisionRecord
from deliverypools.core.restrictions import Restriction
from deliverypools.core.tallies import DAY, Entry, Tally

SETTINGS = """\
accepted_domains = ["example.org"]
state = "sqlite:///{folder}/state.db"
ticket_key_file = "{folder}/ticket.keys"
[pools.normal]
addresses = ["192.0.2.10"]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["192.0.2.20"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["192.0.2.30"]
helo = "mail-relay.example.org"
[milter]
socket = "unix:{folder}/milter.sock"
[policy]
socket = "unix:{folder}/policy.sock"
"""
MAIL = b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: hello\r\n\r\nhello\r\n"
COMMANDS = (
    *(("demo",), ("milter",), ("policy",), ("classify",), ("check",), ("keys",), ("keys", "rotate"), ("usage",)),
    *(("restricted",), *(("restricted", action) for action in ("list", "add", "release", "requeue"))),
)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.delenv("DELIVERY_POOLS_CONFIG", raising=False)
    path = tmp_path / "pools.toml"
    path.write_text(SETTINGS.format(folder=tmp_path), encoding="utf-8")
    return str(path)


@pytest.fixture
def state(config, tmp_path):
    """A state that the daemons have made."""
    state = SQLiteState(str(tmp_path / "state.db"), time.time)
    assert state.restrictions() == []
    yield state
    state.close()


@pytest.fixture
def mail(tmp_path):
    path = tmp_path / "mail.eml"
    path.write_bytes(MAIL)
    return str(path)


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command; return its exit status and what it wrote."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err, json=lambda: [json.loads(x) for x in out.splitlines()])

    return run


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_help_of_every_command(run, command):
    answer = run(*command, "--help")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith("usage: " + " ".join(("delivery-pools", *command)))


def test_help_names_every_command(run):
    text = run("--help").out
    assert {command[0] for command in COMMANDS} <= {
        line.split()[0] for line in text.splitlines() if line[:4] == " " * 4
    }


def test_a_command_is_required(run):
    assert run().status == 2


@pytest.mark.parametrize(
    "command",
    [
        *(("milter",), ("policy",), ("check",), ("keys", "rotate"), ("classify", "x.eml"), ("usage", "alice")),
        *(("restricted", "list"), ("restricted", "add", "alice"), ("restricted", "requeue")),
    ],
)
def test_missing_settings_file_that_was_asked_for(run, command, tmp_path):
    path = tmp_path / "missing.toml"
    answer = run(*command, "--config", str(path))
    assert answer.status == 78
    assert f"{path}: there is no such file" in answer.err


def test_settings_file_named_by_the_variable(run, config, mail, monkeypatch):
    monkeypatch.setenv("DELIVERY_POOLS_CONFIG", config)
    assert run("classify", "--json", mail).json()[0]["rule"] == "default"


def test_demo_without_root_says_so_before_it_starts_anything(run, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 65_534)
    answer = run("demo")
    assert (answer.status, "needs root" in answer.err) == (1, True)


class TestClassify:
    def test_json_has_the_fields_of_the_interface(self, run, config, mail):
        assert run("classify", "--config", config, "--json", mail).json() == [
            {
                "file": mail,
                "pool": "normal",
                "rule": "default",
                "reasons": ["no other rule matched"],
                "ndr": False,
                "authentication": {"spf": "not_asked", "dkim": "not_asked", "dmarc": "not_asked"},
                "srs_sender": None,
                "not_asked": ["sender_domain_without_mx_or_a"],
            }
        ]

    def test_text_for_people(self, run, config, mail):
        answer = run("classify", "--config", config, mail)
        assert answer.out == f"{mail}: normal (default: no other rule matched)\n"

    def test_ingress_is_outside_unless_the_sender_is_accepted(self, run, config, mail):
        options = ("classify", "--config", config, "--json", mail)
        assert run(*options, "--sender", "eve@example.net").json()[0]["rule"] == "forwarded"

    def test_sender_that_is_ours_but_came_from_outside(self, run, config, mail):
        result = run("classify", "--config", config, "--json", "--ingress", "outside", mail).json()[0]
        assert (result["pool"], result["rule"]) == ("relay", "forwarded")

    @pytest.mark.parametrize("sender", ["<>", ""])
    def test_null_sender(self, run, config, mail, sender):
        result = run("classify", "--config", config, "--json", "--sender", sender, mail).json()[0]
        assert (result["rule"], result["ndr"]) == ("delivery_status_notification", True)

    def test_message_that_names_no_sender_is_no_bounce(self, run, config, tmp_path):
        (tmp_path / "mail.eml").write_bytes(b"Subject: who?\r\n\r\nhello\r\n")
        result = run("classify", "--config", config, "--json", str(tmp_path / "mail.eml")).json()[0]
        assert result["ndr"] is False

    def test_sasl_username_is_asked_by_pins(self, run, config, mail, tmp_path):
        with (tmp_path / "pools.toml").open("a", encoding="utf-8") as file:
            file.write('[[pins]]\nsasl_username = "newsletter"\npool = "high-risk"\n')
        result = run("classify", "--config", config, "--json", "--sasl-username", "Newsletter", mail).json()[0]
        assert (result["pool"], result["rule"]) == ("high-risk", "pinned")

    def test_built_in_defaults_without_a_settings_file(self, run, mail, monkeypatch):
        monkeypatch.delenv("DELIVERY_POOLS_CONFIG", raising=False)
        if os.path.exists("/etc/delivery-pools/delivery-pools.toml"):  # noqa: PTH110
            pytest.skip("this machine has a settings file")
        answer = run("classify", "--json", mail)
        assert answer.json()[0]["rule"] == "forwarded"
        assert "classified with built-in defaults" in answer.err

    def test_a_file_that_cannot_be_read_does_not_stop_the_others(self, run, config, mail):
        answer = run("classify", "--config", config, "--json", "missing.eml", mail)
        assert answer.status == 1
        assert answer.json()[0] == {"file": "missing.eml", "error": "No such file or directory"}
        assert answer.json()[1]["pool"] == "normal"

    def test_nothing_to_classify(self, run, config):
        answer = run("classify", "--config", config)
        assert (answer.status, answer.out) == (2, "")

    def test_files_and_batch_at_once(self, run, config, mail):
        assert run("classify", "--config", config, "--batch", "-", mail).status == 2


class TestBatch:
    def batch(self, run, config, *lines):
        data = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        return run("classify", "--config", config, "--batch", "-", stdin=data)

    def test_one_object_a_line_in_the_same_order(self, run, config, mail):
        senders = ["alice@example.org", "eve@example.net", ""] * 200
        answer = self.batch(run, config, *({"file": mail, "sender": sender} for sender in senders))
        assert answer.status == 0
        assert [result["pool"] for result in answer.json()] == ["normal", "relay", "high-risk"] * 200

    def test_every_field_of_the_interface_is_taken(self, run, config, mail):
        line = {
            "file": mail,
            "sender": "eve@example.net",
            "recipients": ["bob@example.net"],
            "client_address": "198.51.100.7",
            "helo": "client.example.net",
            "sasl_username": "alice",
            "ingress": "outside",
        }
        result = self.batch(run, config, line).json()[0]
        assert result["reasons"] == ["arrived from outside (198.51.100.7)"]

    def test_null_in_a_field_is_as_if_it_were_missing(self, run, config, mail):
        fields = ("sender", "recipients", "client_address", "helo", "sasl_username", "ingress")
        assert self.batch(run, config, {"file": mail, **dict.fromkeys(fields)}).json()[0]["rule"] == "default"

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            (b"nonsense", "line 1: not JSON"),
            (b"\xff\xfe", "line 1: not JSON"),
            (b"[" * 100_000, "line 1: not JSON"),
            (b"[]", 'line 1: expected an object with "file"'),
            (b'{"sender": "a@b"}', 'line 1: expected an object with "file"'),
            (b'{"file": 1}', 'line 1: expected an object with "file"'),
            (b'{"file": "x", "form": 1}', "line 1: unknown: form; known: file, sender, recipients"),
            (b'{"file": "x", "sender": 1}', 'line 1: "sender" is a text'),
            (b'{"file": "x", "recipients": "a@b"}', 'line 1: "recipients" is a list of addresses'),
            (b'{"file": "x", "ingress": "inside"}', 'line 1: "ingress" is one of submission, trusted, outside'),
        ],
        ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else "",
    )
    def test_a_bad_line_is_reported_and_the_next_one_decided(self, run, config, mail, line, error):
        answer = self.batch(run, config, line, {"file": mail})
        bad, good = answer.json()
        assert bad["error"].startswith(error)
        assert (answer.status, good["pool"]) == (1, "normal")

    def test_empty_lines_are_left_out(self, run, config, mail):
        assert len(self.batch(run, config, b"", {"file": mail}, b" \r", b"").json()) == 1

    def test_from_a_file(self, run, config, mail, tmp_path):
        batch = tmp_path / "batch.jsonl"
        batch.write_text(json.dumps({"file": mail}) + "\n", encoding="utf-8")
        assert run("classify", "--config", config, "--batch", str(batch)).json()[0]["pool"] == "normal"

    def test_options_for_one_message_are_refused(self, run, config, mail):
        answer = run("classify", "--config", config, "--batch", "-", "--sender", "<>", stdin=b"{}")
        assert (answer.status, answer.out) == (2, "")
        assert "each line has its own sender" in answer.err

    def test_file_that_cannot_be_read(self, run, config, tmp_path):
        answer = run("classify", "--config", config, "--batch", str(tmp_path))
        assert (answer.status, answer.err) == (1, f"delivery-pools: {tmp_path}: Is a directory\n")


def test_classify_reads_the_fields_that_the_milter_reads(run, config, tmp_path):
    """Any number of other fields changes nothing; more of those that rules read than are kept is a reason."""
    path = tmp_path / "many.eml"
    path.write_bytes(b"".join(b"X-%d: x\r\n" % number for number in range(6000)) + MAIL)
    assert run("classify", "--config", config, "--json", str(path)).json()[0]["rule"] == "default"
    path.write_bytes(b"X-Spam: no\r\n" * 600 + MAIL)
    assert run("classify", "--config", config, "--json", str(path)).json()[0]["rule"] == "spam"


def test_classify_says_that_a_message_tells_no_sender(run, config, tmp_path):
    path = tmp_path / "empty.eml"
    path.write_bytes(b"")
    (answer,) = run("classify", "--config", config, "--json", str(path)).json()
    assert answer["reasons"][0].startswith("the message tells no sender")
    assert answer["ndr"] is False


class TestKeysRotate:
    def test_an_empty_file_gets_a_key(self, run, config, tmp_path):
        (tmp_path / "ticket.keys").touch()
        assert run("keys", "rotate", "--config", config).status == 0
        assert len(read_keys(str(tmp_path / "ticket.keys"))) == 1

    def test_makes_the_file_and_says_so(self, run, config, tmp_path):
        answer = run("keys", "rotate", "--config", config)
        assert answer.status == 0
        assert answer.out.startswith(f"{tmp_path}/ticket.keys: 1 key, the first one is new")
        assert len(read_keys(str(tmp_path / "ticket.keys"))) == 1

    def test_keeps_the_old_keys_behind_the_new_one(self, run, config, tmp_path):
        run("keys", "rotate", "--config", config)
        (old,) = read_keys(str(tmp_path / "ticket.keys"))
        assert "2 keys" in run("keys", "rotate", "--config", config).out
        assert read_keys(str(tmp_path / "ticket.keys"))[1] == old

    def test_a_broken_file_is_not_overwritten(self, run, config, tmp_path):
        (tmp_path / "ticket.keys").write_text("nonsense\n", encoding="ascii")
        answer = run("keys", "rotate", "--config", config)
        assert answer.status == 1
        assert f"{tmp_path}/ticket.keys:1: not a key" in answer.err
        assert (tmp_path / "ticket.keys").read_text(encoding="ascii") == "nonsense\n"


def forbid(monkeypatch, *paths):
    """Let this user, root perhaps, write anything but these."""
    access = os.access

    def may(path, mode):
        return access(path, mode) and not (mode & os.W_OK and pathlib.Path(path) in paths)

    monkeypatch.setattr(os, "access", may)


class TestCheck:
    def test_everything_is_there(self, run, config):
        run("keys", "rotate", "--config", config)
        answer = run("check", "--config", config)
        assert (answer.status, answer.err) == (0, "")
        assert answer.out.startswith("settings and files are in order")

    def test_missing_key_file(self, run, config, tmp_path):
        answer = run("check", "--config", config)
        assert (answer.status, answer.out) == (1, "")
        assert answer.err.startswith(f"error: {tmp_path}/ticket.keys: no such file")

    def test_keys_that_everybody_can_read(self, run, config, tmp_path):
        run("keys", "rotate", "--config", config)
        (tmp_path / "ticket.keys").chmod(0o644)
        answer = run("check", "--config", config)
        assert (answer.status, "every user can read the keys" in answer.err) == (1, True)

    def test_missing_folders_are_all_named(self, run, tmp_path, config):
        text = SETTINGS.format(folder=tmp_path / "nowhere")
        (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
        answer = run("check", "--config", config)
        assert answer.status == 1
        assert [line.split(":")[1].strip() for line in answer.err.splitlines()[1:]] == [
            "state",
            "milter.socket",
            "policy.socket",
        ]

    def test_every_mistake_in_the_settings_is_named(self, run, config, tmp_path):
        text = SETTINGS.format(folder=tmp_path).replace("192.0.2.20", "192.0.2.300").replace("socket =", "sokcet =")
        (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
        answer = run("check", "--config", config)
        assert answer.status == 78
        lines = [line.removeprefix(config).split(":")[1] for line in answer.err.splitlines()]
        assert lines == ["8", "14", "16"]

    @pytest.mark.parametrize(
        "alerts",
        [
            '[alerts]\nmail_to = ["postmaster@example.org"]\n',
            '[[outbound_policies]]\nname = "default"\nbcc_suspicious_mail = ["audit@example.org"]\n[alerts]\n',
            '[[outbound_policies]]\nname = "sales"\ndomains = ["example.org"]\nnotify = ["a@example.org"]\n[alerts]\n',
        ],
        ids=["mail_to", "bcc_suspicious_mail", "notify"],
    )
    def test_who_is_told_by_mail_needs_a_spool_and_sendmail(self, run, config, tmp_path, alerts):
        run("keys", "rotate", "--config", config)
        (tmp_path / "file").touch()
        missing = f'spool = "{tmp_path}/file/spool"\nsendmail = "{tmp_path}/nosendmail"\n'
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path) + alerts + missing, encoding="utf-8")
        answer = run("check", "--config", config)
        assert answer.status == 1
        assert f"error: alerts.spool: there is no folder {tmp_path}/file; make it" in answer.err
        assert f"error: alerts.sendmail: {tmp_path}/nosendmail cannot be run" in answer.err

    def test_a_webhook_needs_a_spool_but_no_sendmail(self, run, config, tmp_path):
        run("keys", "rotate", "--config", config)
        alerts = '[alerts]\nwebhook = "http://127.0.0.1/hook"\n'
        (tmp_path / "file").touch()
        missing = f'spool = "{tmp_path}/file/spool"\nsendmail = "{tmp_path}/nosendmail"\n'
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path) + alerts + missing, encoding="utf-8")
        answer = run("check", "--config", config)
        assert "alerts.spool" in answer.err
        assert "alerts.sendmail" not in answer.err

    @pytest.mark.parametrize("may_write", [True, False])
    def test_a_spool_that_the_daemons_will_make(self, run, config, tmp_path, monkeypatch, may_write):
        run("keys", "rotate", "--config", config)
        spool = tmp_path / "closed" / "new" / "spool"
        (tmp_path / "closed").mkdir()
        alerts = f'[alerts]\nwebhook = "http://127.0.0.1/hook"\nspool = "{spool}"\n'
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path) + alerts, encoding="utf-8")
        forbid(monkeypatch, *(() if may_write else (tmp_path / "closed",)))
        answer = run("check", "--config", config)
        closed = f"error: alerts.spool: this user cannot write the folder {tmp_path}/closed;"
        assert (answer.status, answer.err[: len(closed)]) == ((0, "") if may_write else (1, closed))
        assert not spool.parent.exists()

    def test_a_file_that_the_daemons_have_made(self, run, config, tmp_path, state):
        run("keys", "rotate", "--config", config)
        assert run("check", "--config", config).status == 0
        state.close()
        before = sorted(tmp_path.iterdir())
        assert run("check", "--config", config).status == 0
        assert before == [path for path in sorted(tmp_path.iterdir()) if path.suffix[-4:] not in ("-wal", "-shm")]

    def check_state_file(self, run, config):
        run("keys", "rotate", "--config", config)
        answer = run("check", "--config", config)
        assert (answer.status, answer.out, len(answer.err.splitlines())) == (1, "", 1)
        return answer.err

    def test_a_state_of_a_newer_version(self, run, config, tmp_path, state):
        with state._file.transaction() as connection:
            connection.execute("PRAGMA user_version = 99")
        error = self.check_state_file(run, config)
        assert error.startswith(f"error: state: {tmp_path}/state.db: written by a newer version (schema 99, ours is ")
        assert error.endswith("); run that version\n")

    def test_a_state_that_is_no_database(self, run, config, tmp_path):
        (tmp_path / "state.db").write_bytes(b"mail " * 1000)
        error = self.check_state_file(run, config)
        assert error.startswith(f"error: state: {tmp_path}/state.db: file is not a database; correct `state` in the")

    def test_a_state_that_is_the_database_of_another_program(self, run, config, tmp_path):
        with sqlite3.connect(tmp_path / "state.db") as connection:
            connection.execute("CREATE TABLE cookies (name TEXT)")
        connection.close()
        assert "state.db: holds the tables of another program; name another file" in self.check_state_file(run, config)

    @pytest.mark.usefixtures("state")
    @pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
    def test_a_state_that_this_user_cannot_write(self, run, config, tmp_path, monkeypatch, name):
        forbid(monkeypatch, tmp_path / name)
        error = self.check_state_file(run, config)
        told = f"error: state: this user cannot read and write {tmp_path}/{name}; run check as the user of the daemons"
        assert error.startswith(told)

    def test_a_server_that_does_not_answer(self, run, config, tmp_path):
        run("keys", "rotate", "--config", config)
        with socket.socket() as taken:  # bound, and nobody listens
            taken.bind(("127.0.0.1", 0))
            text = SETTINGS.format(folder=tmp_path).replace(
                f"sqlite:///{tmp_path}/state.db", f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
            )
            (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
            answer = run("check", "--config", config)
        assert (answer.status, answer.out) == (1, "")
        assert answer.err.startswith("error: state: the server does not answer as it should: ")
        assert answer.err.endswith("; is the server running? Else correct `state` in the settings\n")


class TestRestricted:
    def test_add_list_release(self, run, config):
        added = run("restricted", "add", "alice@example.org", "--config", config, "--reason", "spam run")
        told = "all ways of sending, until an administrator releases it: spam run"
        assert (added.status, added.out.splitlines()[0]) == (0, f"alice@example.org: restricted, {told}")
        assert added.out.splitlines()[-1] == (
            "to have its queued mail decided again (done by itself where delivery-pools-requeue.path is enabled),"
            f" as root: delivery-pools restricted requeue --config {config} alice@example.org"
        )
        (listed,) = run("restricted", "list", "--config", config).out.splitlines()
        assert listed.startswith("alice@example.org: all ways of sending, since ")
        assert listed.endswith(" UTC, until an administrator releases it: spam run")
        released = run("restricted", "release", "alice@example.org", "--config", config)
        assert (released.status, released.err) == (0, "")
        assert released.out.startswith("alice@example.org: released; until midnight (UTC) only an administrator")
        assert run("restricted", "list", "--config", config).out == "no account is restricted\n"

    def test_json(self, run, config):
        options = ("--config", config, "--json")
        (added,) = run("restricted", "add", "alice", *options).json()
        assert (added["account"], added["was_restricted"], added["requeue"]) == ("alice", False, None)
        assert run("restricted", "list", *options).json() == [added["restricted"]]
        assert added["restricted"]["until"] is None
        assert run("restricted", "release", "alice", *options).json() == [
            {"account": "alice", "released": [added["restricted"]], "requeue": None}
        ]
        assert run("restricted", "list", *options).json() == []

    def test_until_tomorrow_ends_when_the_next_day_begins(self, run, config):
        (added,) = run("restricted", "add", "alice", "--until-tomorrow", "--config", config, "--json").json()
        since, until = added["restricted"]["since"], added["restricted"]["until"]
        assert until % 86_400 == 0
        assert 0 < until - since <= 86_400

    def test_an_earlier_restriction_without_end_stands(self, run, config):
        run("restricted", "add", "alice", "--config", config, "--reason", "first")
        answer = run("restricted", "add", "alice", "--config", config, "--reason", "second", "--until-tomorrow")
        assert answer.status == 0
        assert answer.out.startswith("alice: was restricted already, all ways of sending, until an administrator")
        assert "first" in answer.out.splitlines()[0]

    @pytest.mark.parametrize("reason", ["", " "])
    def test_an_empty_reason_is_none(self, run, config, reason):
        (added,) = run("restricted", "add", "alice", "--config", config, "--json", "--reason", reason).json()
        assert added["restricted"]["reason"] == "restricted by an administrator"

    def test_one_way_of_sending_is_told_alike_everywhere(self, run, config, state):
        state.restrict(Restriction(account="alice", ingress=Ingress.TRUSTED, since=time.time(), reason="spam"))
        assert run("restricted", "list", "--config", config).out.startswith("alice: trusted only, since ")
        assert "  restricted (trusted only) since " in run("usage", "alice", "--config", config).out

    def test_by_hand_also_on_the_day_of_a_release(self, run, config, state):
        run("restricted", "release", "alice", "--config", config)
        assert run("restricted", "add", "alice", "--config", config).status == 0
        assert "alice:" in run("restricted", "list", "--config", config).out

    def test_release_of_an_account_that_is_not_restricted_still_protects_it_that_day(self, run, config, state):
        answer = run("restricted", "release", "alice", "--config", config)
        assert answer.status == 1
        assert answer.out.startswith("alice: was not restricted; until midnight (UTC) only an administrator")
        assert run("usage", "alice", "--config", config, "--json").json()[0]["released_today"] is True

    def test_the_account_is_meant_in_any_spelling(self, run, config):
        answer = run("restricted", "add", "Alice+Lists@Example.ORG", "--config", config, "--json")
        assert answer.json()[0]["account"] == "alice@example.org"
        assert answer.err == "Alice+Lists@Example.ORG is the account alice@example.org\n"

    def test_an_account_that_nobody_knows_is_restricted_and_doubted(self, run, config):
        assert "is the name right?" in run("restricted", "add", "alcie", "--config", config).out

    @pytest.mark.parametrize(
        ("written", "account"),
        [
            ("2001:0DB8::1", "2001:db8::1"),
            ("::ffff:192.0.2.70", "192.0.2.70"),
            ("Alice@Ä.example", "alice@xn--4ca.example"),
        ],
    )
    def test_an_account_has_one_name_here_and_in_the_settings(self, run, config, written, account):
        assert run("restricted", "add", written, "--config", config, "--json").json()[0]["account"] == account
        assert run("usage", written, "--config", config, "--json").json()[0]["restricted"][0]["account"] == account
        assert run("restricted", "release", written, "--config", config).status == 0

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            (" ", 'is empty; write for example "alice@example.org"'),
            ("uid:www-data", 'got "uid:www-data"; write uid: and the number of the user, for example "uid:33"'),
            ("192.0.2.0/24", 'got "192.0.2.0/24"; write one address'),
            ("x" * 2000, "write an address, a login"),
        ],
        ids=["empty", "user name", "network", "long"],
    )
    @pytest.mark.usefixtures("state")
    @pytest.mark.parametrize("command", ["usage", "restricted add", "restricted release", "restricted requeue"])
    def test_a_name_that_no_account_has(self, run, config, command, name, error):
        answer = run(*command.split(), name, "--config", config)
        assert (answer.status, answer.out) == (2, "")
        assert f"delivery-pools {command}: error: argument ACCOUNT: " in answer.err
        assert error in answer.err
        assert run("restricted", "list", "--config", config).out == "no account is restricted\n"

    def test_a_name_that_settings_refuse_is_taken_where_it_is_restricted(self, run, config, state):
        """Clients log in, and send, with whatever they like; whom the policy restricts can be released."""
        name = "www-data@web_01"
        assert run("restricted", "release", name, "--config", config).status == 2
        state.restrict(Restriction(account=name, since=time.time(), reason="spam"))
        assert run("usage", name, "--config", config, "--json").json()[0]["account"] == name
        assert run("restricted", "release", name, "--config", config).status == 0

    def test_what_a_terminal_would_obey_is_not_printed(self, run, config, state):
        name = "alice\x1b[2j"
        state.restrict(Restriction(account=name, since=time.time(), reason="spam"))
        for command in (("restricted", "add"), ("restricted", "release")):
            answer = run(*command, name, "--config", config)
            assert answer.out.startswith("alice?[2j: ")
            assert answer.out.splitlines()[-1].endswith(f"requeue --config {config} $'alice\\x1b\\x5b2j'")
            assert "\x1b" not in answer.out

    def test_an_account_that_looks_like_an_option(self, run, config):
        answer = run("restricted", "add", "--config", config, "--", "-x")
        assert (answer.status, shlex.split(answer.out.splitlines()[-1])[-2:]) == (0, ["--", "-x"])

    def test_without_root_the_account_is_restricted_and_its_mail_is_not_moved(self, run, config, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 65_534)
        monkeypatch.setattr(os, "getuid", lambda: 65_534)
        answer = run("restricted", "add", "alice", "--requeue", "--config", config)
        assert answer.status == 1
        assert answer.out.startswith("alice: restricted")
        assert "only root and Postfix's mail_owner may move queued mail" in answer.err
        assert f"as root: delivery-pools restricted requeue --config {config} alice" in answer.err
        assert "on hold" not in answer.err
        assert run("restricted", "requeue", "--config", config).status == 1

    @pytest.mark.usefixtures("state")
    @pytest.mark.parametrize(
        ("cause", "reason"),
        [
            (QueueError("postsuper: killed"), "postsuper: killed"),
            (
                StateUnavailable("redis://x: gone"),
                "the state cannot be read or written: redis://x: gone; correct `state`",
            ),
        ],
    )
    def test_what_was_begun_and_not_ended_may_be_on_hold(self, run, config, monkeypatch, cause, reason):
        def breaks_down(*_):
            raise RequeueInterrupted(str(cause)) from cause

        monkeypatch.setattr(restricted, "requeue", breaks_down)
        monkeypatch.setattr(PostfixQueue, "is_ours_to_change", lambda _: True)
        for action in (("requeue",), ("add", "--requeue")):
            answer = run("restricted", *action, "alice", "--config", config)
            assert answer.status == 1
            assert answer.err.startswith(f"delivery-pools: not all queued mail was moved: {reason}")
            assert f"up again, as root: delivery-pools restricted requeue --config {config} alice\n" in answer.err

    def test_a_postfix_that_is_not_there(self, run, config, tmp_path, monkeypatch, state):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        answer = run("restricted", "requeue", "--config", config, "--config-directory", str(tmp_path))
        assert (answer.status, answer.out) == (1, "")
        assert answer.err.startswith("delivery-pools: queued mail was not moved: postconf: ")
        assert "on hold" not in answer.err

    @pytest.mark.parametrize("action", ["list", "add", "release", "requeue"])
    def test_state_that_cannot_be_read(self, run, config, tmp_path, action):
        (tmp_path / "state.db").mkdir()
        account = () if action == "list" else ("alice",)
        answer = run("restricted", action, *account, "--config", config)
        assert (answer.status, answer.out) == (1, "")
        assert str(tmp_path) in answer.err


class TestStateThatFails:
    """Whatever is wrong with it, the state is named, and what to do."""

    READING = (
        *(("usage", "alice"), ("restricted", "list"), ("restricted", "release", "alice"), ("restricted", "requeue")),
    )
    SETTING = "correct `state` in the settings"

    @pytest.mark.parametrize("command", READING, ids=" ".join)
    @pytest.mark.parametrize("folder", ["", "mistyped"])
    def test_no_file_yet(self, run, config, tmp_path, command, folder):
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path / folder), encoding="utf-8")
        before = sorted(tmp_path.iterdir())
        answer = run(*command, "--config", config)
        assert (answer.status, answer.out) == (1, "")
        path = tmp_path / folder / "state.db"
        told = f"there is no state yet at {path}; has the policy daemon run? Else {self.SETTING}"
        assert answer.err == f"delivery-pools: {told}\n"
        assert sorted(tmp_path.iterdir()) == before

    def test_add_makes_the_file_but_no_folder(self, run, config, tmp_path):
        assert run("restricted", "add", "alice", "--config", config).status == 0
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path / "mistyped"), encoding="utf-8")
        answer = run("restricted", "add", "alice", "--config", config)
        assert (answer.status, answer.out) == (1, "")
        told = f"there is no folder {tmp_path}/mistyped for the state; make it, owned by the user of the daemons, or"
        assert answer.err == f"delivery-pools: {told} {self.SETTING}\n"
        assert not (tmp_path / "mistyped").exists()

    def test_a_path_through_a_file(self, run, config, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path / "file"), encoding="utf-8")
        assert "there is no state yet at " in run("restricted", "list", "--config", config).err
        assert "there is no folder " in run("restricted", "add", "alice", "--config", config).err

    @pytest.mark.usefixtures("state")
    @pytest.mark.parametrize(
        ("user_id", "remedy"),
        [(65_534, "run this as root or as the user of the daemons"), (0, "is its file system read-only?")],
    )
    def test_a_file_that_may_not_be_written(self, run, config, monkeypatch, user_id, remedy):
        connect = sqlite3.connect
        path = str(pathlib.Path(config).with_name("state.db"))

        def connect_read_only(_, **options):
            return connect(f"file:{path}?mode=ro", uri=True, **options)

        monkeypatch.setattr(sqlite3, "connect", connect_read_only)
        monkeypatch.setattr(os, "geteuid", lambda: user_id)
        answer = run("restricted", "add", "alice", "--config", config)
        error = f"the state cannot be read or written: {path}: attempt to write a readonly database; {remedy}"
        assert (answer.status, answer.err) == (1, f"delivery-pools: {error}\n")

    def test_a_folder_that_may_not_be_looked_into(self, run, config, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 65_534)
        stat = pathlib.Path.stat

        def forbidden(path, **options):
            if path.name == "state.db":
                raise PermissionError(13, "Permission denied", str(path))
            return stat(path, **options)

        monkeypatch.setattr(pathlib.Path, "stat", forbidden)
        answer = run("restricted", "list", "--config", config)
        told = f"{tmp_path}/state.db: Permission denied; run this as root or as the user of the daemons"
        assert (answer.status, answer.err) == (1, f"delivery-pools: the state cannot be read or written: {told}\n")

    def test_a_file_that_somebody_keeps_locked(self, run, config, tmp_path, monkeypatch, state):
        monkeypatch.setattr(sqlite_file, "_BUSY_SECONDS", 0.05)
        with state._file.transaction():
            answer = run("restricted", "add", "alice", "--config", config)
        assert answer.err.endswith(f"{tmp_path}/state.db: database is locked; try again\n")
        assert answer.status == 1

    def test_a_file_that_is_no_database(self, run, config, tmp_path):
        (tmp_path / "state.db").write_bytes(b"mail " * 1000)
        answer = run("usage", "alice", "--config", config)
        told = f"{tmp_path}/state.db: file is not a database; {self.SETTING}, or move the file away"
        assert (answer.status, told in answer.err) == (1, True)

    def test_a_folder_in_its_place(self, run, config, tmp_path):
        (tmp_path / "state.db").mkdir()
        answer = run("restricted", "list", "--config", config)
        assert answer.err == f"delivery-pools: {tmp_path}/state.db is a folder; {self.SETTING}: it names a file\n"

    def test_links_in_a_circle(self, run, config, tmp_path):
        (tmp_path / "state.db").symlink_to(tmp_path / "state.db")
        answer = run("restricted", "list", "--config", config)
        assert answer.err.startswith(f"delivery-pools: {tmp_path}/state.db: Too many levels of symbolic links; correct")

    def test_a_url_that_no_server_can_have(self):
        assert shared_state.remedy_for(StateUnavailable("redis://x: an option is wrong")) == self.SETTING

    @pytest.mark.parametrize("command", [("usage",), ("restricted", "list")], ids=" ".join)
    def test_help_tells_the_exit_status(self, run, command):
        assert "1 the state cannot be read" in run(*command, "--help").out


def test_a_state_file_made_by_root_belongs_to_the_owner_of_its_folder(run, config, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group, **_: given.append((path.name, user, group)))
    run("restricted", "add", "alice", "--config", config)
    owner = tmp_path.stat()
    assert ("state.db", owner.st_uid, owner.st_gid) in given
    given.clear()
    run("restricted", "add", "bob", "--config", config)
    assert given == [], "an old file is left as it is"


class TestUsage:
    def send(self, state, settings, account, *, external, internal=0, messages=1):
        for _ in range(messages):
            charge = Charge(account, internal=internal, external=external)
            state.count(tally_of(charge, limits_for(charge, settings)))

    def record(self, state, queue_id, **values):
        row = {
            "queue_id": queue_id,
            "host": "mx.example.org",
            "pass_name": "egress",
            "at": time.time(),
            "ingress": "submission",
            "account": "alice@example.org",
            "pool": "normal",
            "rule": "default",
            "reasons": "",
            "envelope_sender": "alice@example.org",
            "recipients": 3,
            "client_address": "",
            "subject": "",
            "message_id": "",
        }
        state.record(DecisionRecord(**row | values), 3600.0)

    def test_what_was_sent_and_what_it_uses_up(self, run, config, tmp_path, state):
        with (tmp_path / "pools.toml").open("a", encoding="utf-8") as file:
            file.write(
                '[[outbound_policies]]\nname = "sales"\nsenders = ["alice@example.org"]\n'
                'external_recipients_per_hour = 50\nover_limit = "restrict"\n'
            )
        settings = load_settings(tmp_path / "pools.toml")
        account = account_of(Ingress.SUBMISSION, "alice@example.org", "", settings)
        self.send(state, settings, account, external=4, internal=1, messages=3)
        self.record(state, "4jX1", pass_name="first", pool="", rule="")
        self.record(state, "4jX2")
        self.record(state, "4jX3", rule="requeued")
        self.record(state, "4jX4", pool="high-risk", rule="spam")
        (answer,) = run("usage", "Alice@example.org", "--config", config, "--json").json()
        (way,) = answer["ways"]
        assert (way["ingress"], way["tenant"], way["policy"]) == ("submission", "example.org", "sales")
        assert way["counted"] == {
            "external_recipients_per_hour": 12,
            "external_recipients_per_day": 12,
            "internal_recipients_per_hour": 3,
            "internal_recipients_per_day": 3,
            "spam_verdicts_per_hour": 0,
        }
        limits = {(limit["name"], limit["policy"]): limit for limit in way["limits"]}
        assert limits["external_recipients_per_hour", "sales"] == {
            "name": "external_recipients_per_hour",
            "used": 12,
            "most": 50,
            "window_seconds": 3600,
            "percent_of": None,
            "policy": "sales",
            "action": "restrict",
        }
        assert limits["recipients_per_day", None]["used"] == 15
        assert limits["messages_per_minute", None]["used"] == 3
        assert limits["recipients_per_message", None]["used"] is None
        assert answer["messages_decided_in_24_hours"] == {"normal": 1, "high-risk": 1}
        assert [message["queue_id"] for message in answer["last_messages"]] == ["4jX4", "4jX2"]

    def test_text_for_people(self, run, config, tmp_path, state):
        settings = load_settings(tmp_path / "pools.toml")
        self.send(state, settings, account_of(Ingress.LOCAL, "uid:33", "", settings), external=7)
        run("restricted", "add", "uid:33", "--config", config, "--reason", "web form")
        lines = run("usage", "uid:33", "--config", config).out.splitlines()
        assert lines[0] == "account uid:33"
        assert lines[1].startswith("  restricted (all ways of sending) since ")
        assert lines[1].endswith(": web form")
        assert "local (policy default)" in lines
        assert "  recipients in 24 hours: 7 external, 0 internal; in the last hour: 7 external, 0 internal" in lines
        limit = "7 of 10000 recipients in 24 hours (service limit; beyond: high-risk)"
        assert f"  recipients_per_day: {limit}" in lines

    @pytest.mark.parametrize(
        ("account", "way"),
        [("alice@example.org", "submission"), ("uid:33", "local"), ("127.0.0.1", "trusted"), ("alice", "submission")],
    )
    def test_an_account_that_has_sent_nothing(self, run, config, state, account, way):
        (answer,) = run("usage", account, "--config", config, "--json").json()
        assert [one["ingress"] for one in answer["ways"]] == [way]
        assert not any(answer["ways"][0]["counted"].values())
        assert answer["restricted"] == []
        assert answer["released_today"] is False

    def test_what_the_tenant_has_sent_is_not_what_the_account_has(self, run, config, tmp_path, state):
        with (tmp_path / "pools.toml").open("a", encoding="utf-8") as file:
            file.write("[limits]\nexternal_recipients_per_tenant_per_day = 100\n")
            file.write("[limits.trusted]\nexternal_recipients_per_tenant_per_day = 100\n")
        settings = load_settings(tmp_path / "pools.toml")
        for ingress in (Ingress.SUBMISSION, Ingress.TRUSTED):
            self.send(state, settings, account_of(ingress, "bob@example.org", "", settings), external=9)
        self.send(state, settings, account_of(Ingress.TRUSTED, "alice@example.org", "", settings), external=2)
        (answer,) = run("usage", "alice@example.org", "--config", config, "--json").json()
        (way,) = answer["ways"]
        used = {limit["name"]: limit["used"] for limit in way["limits"]}
        assert (way["ingress"], used["external_recipients_per_tenant_per_day"]) == ("trusted", 11)

    def test_a_way_in_which_every_recipient_was_refused(self, run, config, tmp_path, state):
        with (tmp_path / "pools.toml").open("a", encoding="utf-8") as file:
            file.write("[suspicion]\nrefused_recipients_percent = 50\n")
        account = account_of(Ingress.TRUSTED, "alice@example.org", "", load_settings(tmp_path / "pools.toml"))
        state.count(Tally((Entry(stream(account, REFUSED), 40, DAY),)))
        (answer,) = run("usage", "alice@example.org", "--config", config, "--json").json()
        assert [way["ingress"] for way in answer["ways"]] == ["trusted"]

    def test_ways_of_sending_are_counted_apart(self, run, config, tmp_path, state):
        settings = load_settings(tmp_path / "pools.toml")
        for ingress, external in ((Ingress.SUBMISSION, 2), (Ingress.TRUSTED, 5)):
            account = account_of(ingress, "alice@example.org", "", settings)
            self.send(state, settings, account, external=external)
        (answer,) = run("usage", "alice@example.org", "--config", config, "--json").json()
        sent = {way["ingress"]: way["counted"]["external_recipients_per_day"] for way in answer["ways"]}
        assert sent == {"submission": 2, "trusted": 5}
