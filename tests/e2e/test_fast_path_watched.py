"""The fast path of a running Postfix: open while its configuration is proved, and closed by whatever changes it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mailing import NORMAL, arrived, fresh, running, submit
from postfix_command import Answer, postfix

from deliverypools.cli.main import main
from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

REDIRECT = "/^Subject: secret/ REDIRECT carol@example.net\n"
HARMLESS = "one@example.org two@example.org\n"
ON = "fast path: on"
OFF = "fast path: off"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    site = Site(
        virtual={"alias@example.org": "via-alias@example.net"},
        main={"header_checks": "regexp:{config}/checks"},
        files={"checks": "/^X-Nothing/ WARN\n", "extra": HARMLESS},
    )
    with running(site=site) as lab:
        postmap(lab, HARMLESS)
        maps = lab.postfix.postconf("-h", "recipient_canonical_maps").strip()
        lab.postfix.set_main({"recipient_canonical_maps": f"hash:$config_directory/extra, {maps}"})
        yield lab


@pytest.fixture
def opened(lab: Lab) -> Lab:
    """The fast path is proved."""
    fast = postfix(lab, "fast-path")
    assert (fast.status, fast.out.startswith(ON)) == (0, True), fast
    return lab


def postmap(lab: Lab, text: str) -> None:
    """Change a table, as an administrator does."""
    (lab.postfix.config_directory / "extra").write_text(text)
    lab.postfix.run("postmap", f"hash:{lab.postfix.config_directory}/extra")


def proof_file(lab: Lab) -> Path:
    return lab.directory / "spool" / "fast-path.json"


def proof(lab: Lab) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(proof_file(lab).read_text())
    return kept


def check(lab: Lab, *options: str, directory: Path | None = None) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    where = str(directory or lab.postfix.config_directory)
    arguments = ("check", "--config", str(lab.settings_file), "--postfix", where, "--dns", "off", *options)
    with lab.network.inside(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Answer(status, out.getvalue(), err.getvalue())


def way(lab: Lab, data: bytes | None = None) -> str:
    """The pass that decides about a message of a user to somebody outside, who must get it by the right address."""
    recipient = fresh()
    before = len(lab.milter.log())
    submit(lab, recipient, data)
    assert arrived(lab, recipient).source_address in NORMAL
    passes = re.findall(r"pass=(fast|egress) ", lab.milter.log()[before:])
    assert len(passes) == 1
    return str(passes[0])


def last_word(lab: Lab) -> str:
    """What the milter has said last about the fast path."""
    return re.findall(r"fast path: .*", lab.milter.log())[-1]


class TestOpen:
    def test_mail_skips_the_hop(self, opened: Lab):
        assert way(opened) == "fast"

    def test_check_says_so_and_keeps_it(self, opened: Lab):
        made_at = proof(opened)["made_at"]
        answer = check(opened)
        assert ON in answer.out, answer
        assert proof(opened)["made_at"] > made_at

    def test_for_programs(self, opened: Lab):
        fast = check(opened, "--json").json["fast_path"]
        assert (fast["is_on"], fast["reasons"]) == (True, [])
        assert str(opened.postfix.config_directory / "extra.db") in fast["files"]
        assert postfix(opened, "fast-path", "--json").json == fast

    def test_a_copy_elsewhere_proves_nothing(self, opened: Lab, tmp_path: Path):
        elsewhere = tmp_path / "etc"
        shutil.copytree(opened.postfix.config_directory, elsewhere)
        before = proof(opened)
        answer = check(opened, "--json", directory=elsewhere)
        assert answer.json["fast_path"] is None
        assert proof(opened) == before

    def test_a_copy_elsewhere_begins_nothing(self, opened: Lab, tmp_path: Path):
        elsewhere = tmp_path / "etc"
        shutil.copytree(opened.postfix.config_directory, elsewhere)
        proof_file(opened).unlink()
        assert check(opened, "--json", directory=elsewhere).json["fast_path"] is None
        assert not proof_file(opened).exists()


class TestMainFiles:
    """Postfix takes a change of them at a reload: only root sees whether that has been."""

    def test_main_cf(self, opened: Lab):
        opened.postfix.postconf("-e", "mail_name=Other")
        assert way(opened) == "egress"
        assert "main.cf has changed since" in last_word(opened)
        not_reloaded = postfix(opened, "fast-path")
        assert (not_reloaded.status, not_reloaded.out.startswith(OFF)) == (1, True)
        assert "processes of before the change of" in not_reloaded.out
        assert way(opened) == "egress"
        opened.postfix.reload()
        assert way(opened) == "egress"
        assert postfix(opened, "fast-path").out.startswith(ON)
        assert way(opened) == "fast"

    def test_master_cf_without_a_reload(self, opened: Lab):
        """New processes have the options of before: that all are new shows nothing."""
        opened.postfix.postconf("-P", "submission/inet/smtpd_client_restrictions=")
        for process in opened.postfix.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        assert "processes of before the change of" in postfix(opened, "fast-path").out
        assert way(opened) == "egress"
        opened.postfix.reload()
        assert postfix(opened, "fast-path").out.startswith(ON)

    def test_table_that_processes_keep(self, opened: Lab):
        checks = opened.postfix.config_directory / "checks"
        checks.write_text("/^X-Other/ WARN\n")
        assert way(opened) == "egress"
        assert "checks has changed since" in last_word(opened)
        opened.postfix.reload()
        assert postfix(opened, "fast-path").out.startswith(ON)
        assert way(opened) == "fast"

    def test_open_session_of_before(self, opened: Lab):
        with opened.session():
            opened.postfix.set_main({"mail_name": "Other"})
            assert "an open session keeps its process" in postfix(opened, "fast-path").out
            assert way(opened) == "egress"
        wait_until(lambda: postfix(opened, "fast-path").status == 0, timeout_seconds=20, what="the end of the process")
        assert way(opened) == "fast"

    def test_table_that_excludes_it(self, opened: Lab):
        checks = opened.postfix.config_directory / "checks"
        checks.write_text(f"{checks.read_text()}{REDIRECT}")
        opened.postfix.reload()
        assert way(opened) == "egress"
        answer = check(opened)
        assert f"{OFF}, all mail takes the hop: " in answer.out
        assert "REDIRECT" in answer.out
        assert way(opened) == "egress"
        checks.write_text(checks.read_text().removesuffix(REDIRECT))
        opened.postfix.reload()
        assert postfix(opened, "fast-path").out.startswith(ON)


class TestTables:
    """Postfix takes most changes of a database by itself, but not all: root has to see that no process is of before."""

    def test_harmless_change(self, opened: Lab):
        assert way(opened) == "fast"
        postmap(opened, f"{HARMLESS}three@example.org four@example.org\n")
        assert way(opened) == "egress"
        assert "processes of before the change of" in postfix(opened, "fast-path").out
        opened.postfix.reload()
        assert postfix(opened, "fast-path").out.startswith(ON)
        assert way(opened) == "fast"

    def test_change_that_excludes_it(self, opened: Lab):
        postmap(opened, "victim@example.com bob@example.org\n")
        submit(opened, "victim@example.com")
        wait_until(lambda: opened.mailbox("bob"), timeout_seconds=20, what="the mail to an address that is rewritten")
        assert "victim@example.com" in postfix(opened, "fast-path").out
        postmap(opened, HARMLESS)
        assert way(opened) == "egress"
        opened.postfix.reload()
        assert postfix(opened, "fast-path").out.startswith(ON)
        assert way(opened) == "fast"


class TestSettings:
    def test_other_domains(self, opened: Lab):
        opened.write_settings({"accepted_domains": ["example.org", "example.info"]})
        reloads = opened.milter.log().count("settings reloaded")
        opened.milter.send_signal(signal.SIGHUP)
        wait_until(
            lambda: opened.milter.log().count("settings reloaded") > reloads, timeout_seconds=20, what="the reload"
        )
        assert way(opened) == "egress"
        assert postfix(opened, "fast-path", "--when-closed").out.startswith(ON)
        assert way(opened) == "fast"

    def test_off(self, opened: Lab):
        opened.write_settings({"fast_path": "off"})
        answer = postfix(opened, "fast-path")
        assert (answer.status, answer.out) == (1, f'{OFF}, all mail takes the hop: fast_path = "off" in the settings\n')
        assert not proof_file(opened).exists()
        assert way(opened) == "egress"
        opened.write_settings({})


class TestInstall:
    def test_proves_it_and_uninstall_takes_the_proof_away_first(self, make_lab: Callable[..., Lab]):
        lab = make_lab(profile="none")
        answer = postfix(lab, "install")
        assert answer.status == 0, answer
        assert ON in answer.out
        assert way(lab) == "fast"
        again = postfix(lab, "install", "--json").json
        assert (again["text"].startswith("already installed"), again["fast_path"]["is_on"]) == (True, True)
        lab.wait_until_queue_is_empty()
        answer = postfix(lab, "uninstall", "--config", str(lab.settings_file))
        assert (answer.status, "uninstalled" in answer.out) == (0, True), answer
        assert not proof_file(lab).exists()

    def test_uninstall_without_settings_closes_it_too(self, make_lab: Callable[..., Lab]):
        lab = make_lab(profile="none")
        assert ON in postfix(lab, "install").out
        assert way(lab) == "fast"
        lab.wait_until_queue_is_empty()
        assert postfix(lab, "uninstall", "--config", "/nowhere.toml").status == 0
        before = lab.milter.log()
        recipient = fresh()
        submit(lab, recipient)
        arrived(lab, recipient)
        assert "pass=fast" not in lab.milter.log().removeprefix(before)
