"""The command line: `restricted`, `usage`, and what they say when the state fails."""

import os
import pathlib
import shlex
import sqlite3
import time

import pytest
from command_line import SETTINGS

from deliverypools.adapters import sqlite_file
from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.adapters.requeue import RequeueInterrupted
from deliverypools.adapters.settings_file import load_settings
from deliverypools.adapters.state import StateUnavailable
from deliverypools.cli import restricted, shared_state
from deliverypools.core.accounts import account_of
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import REFUSED, Charge, limits_for, stream, tally_of
from deliverypools.core.records import DecisionRecord
from deliverypools.core.restrictions import Restriction
from deliverypools.core.tallies import DAY, Entry, Tally


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

    def test_in_shadow_mode_it_says_that_nothing_is_enforced(self, run, config):
        file = pathlib.Path(config)
        file.write_text(f"shadow = true\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
        told = "shadow = true: no restriction is enforced until that is switched off\n"
        assert told in run("restricted", "add", "alice", "--config", config).out
        assert run("restricted", "list", "--config", config).out.endswith(told)
        assert run("restricted", "list", "--config", config, "--json").json()[0]["is_enforced"] is False

    def test_json(self, run, config):
        options = ("--config", config, "--json")
        (added,) = run("restricted", "add", "alice", *options).json()
        assert (added["account"], added["was_restricted"], added["requeue"]) == ("alice", False, None)
        assert run("restricted", "list", *options).json() == [added["restricted"] | {"is_enforced": True}]
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
        told = f"{tmp_path}/state.db: file is not a database; {self.SETTING}, or stop both daemons, move"
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

    def test_a_name_of_which_nothing_is_on_record(self, run, config, state):
        answer = run("usage", "--config", config, "nosuch@example.org")
        assert "nothing on record; is the name right?" in answer.out

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
