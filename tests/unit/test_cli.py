"""The command line: help, `classify`, `keys rotate`, `check`, and what is said when settings are missing."""

import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import sys

import pytest
from command_line import MAIL, SETTINGS

from deliverypools.adapters.key_file import read_keys
from deliverypools.adapters.srs_secrets import read_srs_secrets
from deliverypools.cli.postfix_findings import unreadable_remedy, wrapped

COMMANDS = (
    *(("demo",), ("milter",), ("policy",), ("classify",), ("check",), ("keys",), ("keys", "rotate"), ("usage",)),
    *(("restricted",), *(("restricted", action) for action in ("list", "add", "release", "requeue"))),
    *(
        ("dropped",),
        ("dropped", "list"),
        ("explain",),
        ("audit",),
        ("replay",),
        ("decisions",),
        ("decisions", "export"),
    ),
    *(("postfix",), *(("postfix", action) for action in ("render", "install", "uninstall", "fast-path"))),
)


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


@pytest.mark.parametrize("name", ["milter", "policy"])
def test_a_daemon_does_not_load_the_other_commands(name):
    asked = f"import sys; from deliverypools.cli.main import parser; parser({name!r}); print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert "deliverypools.cli.daemons" in loaded
    assert {"deliverypools.cli.check", "deliverypools.cli.postfix", "deliverypools.cli.classify"}.isdisjoint(loaded)


def test_a_command_is_required(run):
    assert run().status == 2


@pytest.mark.parametrize(
    "command",
    [
        *(("milter",), ("policy",), ("check",), ("keys", "rotate"), ("classify", "x.eml"), ("usage", "alice")),
        *(("restricted", "list"), ("restricted", "add", "alice"), ("restricted", "requeue"), ("dropped", "list")),
        ("explain", "4Q1"),
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
                "kind": "ordinary",
                "authentication": {"spf": "not_asked", "dkim": "not_asked", "dmarc": "not_asked"},
                "srs_sender": None,
                "not_asked": ["sender_domain_without_mx_or_a"],
                "refused": False,
                "hold": False,
            }
        ]

    def test_text_for_people(self, run, config, mail):
        answer = run("classify", "--config", config, mail)
        assert answer.out == (
            f"{mail}: normal (default: no other rule matched); not asked: sender_domain_without_mx_or_a (--dns live)\n"
        )

    def test_ingress_is_outside_unless_the_sender_is_accepted(self, run, config, mail):
        options = ("classify", "--config", config, "--json", mail)
        assert run(*options, "--sender", "eve@example.net").json()[0]["rule"] == "forwarded"

    def test_sender_that_is_ours_but_came_from_outside(self, run, config, mail):
        result = run("classify", "--config", config, "--json", "--ingress", "outside", mail).json()[0]
        assert (result["pool"], result["rule"]) == ("relay", "forwarded")

    @pytest.mark.parametrize("sender", ["<>", ""])
    def test_null_sender(self, run, config, mail, sender):
        result = run("classify", "--config", config, "--json", "--sender", sender, mail).json()[0]
        found = (result["rule"], result["ndr"], result["kind"])
        assert found == ("delivery_status_notification", False, "ordinary")

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
        assert result["reasons"] == [
            "arrived from outside (198.51.100.7)",
            "not known whether authenticated: not looked up (--dns live)",
        ]
        assert "forwarded" in result["not_asked"]

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


class TestSrsSecrets:
    @pytest.fixture
    def srs_config(self, config, tmp_path):
        lines = f'[forwarding]\nsrs_domain = "srs.example.org"\nsrs_secret_file = "{tmp_path}/srs.secrets"\n'
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path) + lines, encoding="utf-8")
        return config

    def test_rotate_makes_both_files(self, run, srs_config, tmp_path):
        answer = run("keys", "rotate", "--config", srs_config)
        assert (answer.status, answer.err) == (0, "")
        assert [line.partition(",")[0] for line in answer.out.splitlines()] == [
            f"{tmp_path}/ticket.keys: 1 key",
            f"{tmp_path}/srs.secrets: 1 key",
        ]
        assert len(read_srs_secrets(str(tmp_path / "srs.secrets"))) == 1

    @pytest.mark.parametrize(("only", "made"), [("ticket", "ticket.keys"), ("srs", "srs.secrets")])
    def test_rotate_only_one(self, run, srs_config, tmp_path, only, made):
        assert run("keys", "rotate", "--only", only, "--config", srs_config).status == 0
        assert [name for name in ("ticket.keys", "srs.secrets") if (tmp_path / name).exists()] == [made]

    def test_rotate_says_how_often(self, run):
        text = " ".join(run("keys", "rotate", "--help").out.split())
        assert "for 21 days: rotate SRS secrets at most once a week" in text

    def test_rotate_of_secrets_that_are_not_set_up(self, run, config):
        answer = run("keys", "rotate", "--only", "srs", "--config", config)
        assert (answer.status, answer.out) == (1, "")
        assert f"{config}: forwarding.srs_secret_file is not set; name the file" in answer.err

    def test_one_broken_file_does_not_keep_the_other_from_rotation(self, run, srs_config, tmp_path):
        (tmp_path / "ticket.keys").write_text("nonsense\n", encoding="ascii")
        answer = run("keys", "rotate", "--config", srs_config)
        assert answer.status == 1
        assert f"{tmp_path}/ticket.keys:1: not a key" in answer.err
        assert answer.out.startswith(f"{tmp_path}/srs.secrets: 1 key")

    def test_check_reads_the_secrets(self, run, srs_config, tmp_path):
        run("keys", "rotate", "--only", "ticket", "--config", srs_config)
        folder = (tmp_path / "pools.toml").read_text(
            encoding="utf-8"
        ) + f'[socketmap]\nsocket = "unix:{tmp_path}/s.sock"\n'
        (tmp_path / "pools.toml").write_text(folder, encoding="utf-8")
        answer = run("check", "--no-postfix", "--config", srs_config)
        assert answer.err == f"error: {tmp_path}/srs.secrets: no such file; make it with: delivery-pools keys rotate\n"
        (tmp_path / "srs.secrets").write_text("postsrsd's own secret\n", encoding="ascii")
        (tmp_path / "srs.secrets").chmod(0o644)
        assert (
            f"{tmp_path}/srs.secrets: every user can read the keys"
            in run("check", "--no-postfix", "--config", srs_config).err
        )
        (tmp_path / "srs.secrets").chmod(0o640)
        assert run("check", "--no-postfix", "--config", srs_config).status == 0

    def test_check_looks_for_the_folder_of_the_socketmap(self, run, srs_config, tmp_path):
        run("keys", "rotate", "--config", srs_config)
        lines = f'[socketmap]\nsocket = "unix:{tmp_path}/nowhere/s.sock"\n'
        with (tmp_path / "pools.toml").open("a", encoding="utf-8") as file:
            file.write(lines)
        answer = run("check", "--no-postfix", "--config", srs_config)
        assert answer.err.startswith(f"error: socketmap.socket: there is no folder {tmp_path}/nowhere")

    def test_a_daemon_does_not_start_without_its_secrets(self, run, srs_config, tmp_path):
        run("keys", "rotate", "--only", "ticket", "--config", srs_config)
        for daemon in ("policy", "milter"):
            answer = run(daemon, "--config", srs_config)
            assert answer.status == 78
            assert f"{tmp_path}/srs.secrets: no such file" in answer.err


def forbid(monkeypatch, *paths):
    """Let this user, root perhaps, write anything but these."""
    access = os.access

    def may(path, mode):
        return access(path, mode) and not (mode & os.W_OK and pathlib.Path(path) in paths)

    monkeypatch.setattr(os, "access", may)


class TestCheck:
    def test_everything_is_there(self, run, config):
        run("keys", "rotate", "--config", config)
        answer = run("check", "--no-postfix", "--config", config)
        assert (answer.status, answer.err) == (0, "")
        assert answer.out.startswith("settings and files are in order")

    def test_missing_key_file(self, run, config, tmp_path):
        answer = run("check", "--no-postfix", "--config", config)
        assert (answer.status, answer.out) == (1, "")
        assert answer.err.startswith(f"error: {tmp_path}/ticket.keys: no such file")

    def test_keys_that_everybody_can_read(self, run, config, tmp_path):
        run("keys", "rotate", "--config", config)
        (tmp_path / "ticket.keys").chmod(0o644)
        answer = run("check", "--no-postfix", "--config", config)
        assert (answer.status, "every user can read the keys" in answer.err) == (1, True)

    def test_missing_folders_are_all_named(self, run, tmp_path, config):
        text = SETTINGS.format(folder=tmp_path / "nowhere")
        (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
        answer = run("check", "--no-postfix", "--config", config)
        assert answer.status == 1
        assert [line.split(":")[1].strip() for line in answer.err.splitlines()[1:]] == [
            "state",
            "milter.socket",
            "policy.socket",
        ]

    def test_every_mistake_in_the_settings_is_named(self, run, config, tmp_path):
        text = SETTINGS.format(folder=tmp_path).replace("192.0.2.20", "192.0.2.300").replace("socket =", "sokcet =")
        (tmp_path / "pools.toml").write_text(text, encoding="utf-8")
        answer = run("check", "--no-postfix", "--config", config)
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
        answer = run("check", "--no-postfix", "--config", config)
        assert answer.status == 1
        assert f"error: alerts.spool: there is no folder {tmp_path}/file; make it" in answer.err
        assert f"error: alerts.sendmail: {tmp_path}/nosendmail cannot be run" in answer.err

    def test_a_webhook_needs_a_spool_but_no_sendmail(self, run, config, tmp_path):
        run("keys", "rotate", "--config", config)
        alerts = '[alerts]\nwebhook = "http://127.0.0.1/hook"\n'
        (tmp_path / "file").touch()
        missing = f'spool = "{tmp_path}/file/spool"\nsendmail = "{tmp_path}/nosendmail"\n'
        (tmp_path / "pools.toml").write_text(SETTINGS.format(folder=tmp_path) + alerts + missing, encoding="utf-8")
        answer = run("check", "--no-postfix", "--config", config)
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
        answer = run("check", "--no-postfix", "--config", config)
        closed = f"error: alerts.spool: this user cannot write the folder {tmp_path}/closed;"
        assert (answer.status, answer.err[: len(closed)]) == ((0, "") if may_write else (1, closed))
        assert not spool.parent.exists()

    def test_a_file_that_the_daemons_have_made(self, run, config, tmp_path, state):
        run("keys", "rotate", "--config", config)
        assert run("check", "--no-postfix", "--config", config).status == 0
        state.close()
        before = sorted(tmp_path.iterdir())
        assert run("check", "--no-postfix", "--config", config).status == 0
        assert before == [path for path in sorted(tmp_path.iterdir()) if path.suffix[-4:] not in ("-wal", "-shm")]

    def check_state_file(self, run, config):
        run("keys", "rotate", "--config", config)
        answer = run("check", "--no-postfix", "--config", config)
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
            answer = run("check", "--no-postfix", "--config", config)
        assert (answer.status, answer.out) == (1, "")
        assert answer.err.startswith("error: state: the server does not answer as it should: ")
        assert answer.err.endswith("; is the server running? Else correct `state` in the settings\n")


def test_a_reader_that_goes_away_gets_no_complaint_of_pythons(config):
    command = [sys.executable, "-m", "deliverypools", "check", "--no-postfix", "--config", config]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert "Exception ignored" not in done.stderr
        assert "Traceback" not in done.stderr
        silent = subprocess.run([*command[:3], "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        assert "Exception ignored" not in silent.stderr
    finally:
        os.close(writer)


def test_a_remedy_of_what_postconf_does_not_read():
    assert unreadable_remedy("fatal: /etc/postfix/main.cf, line 3: missing '='").startswith("Correct the line")
    assert unreadable_remedy("open /etc/postfix/main.cf: Permission denied") == "Run this as root."
    assert "--postfix DIR" in unreadable_remedy("something else")


def test_sentences_fit_a_terminal():
    text = wrapped("  can happen: " + "mail waits " * 40)
    assert max(map(len, text.splitlines())) <= 100
    assert " ".join(text.split()) == "can happen: " + " ".join(["mail waits"] * 40)
