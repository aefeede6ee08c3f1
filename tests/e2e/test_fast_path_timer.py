"""`postfix fast-path --when-closed`, which delivery-pools-fast-path.timer runs: a closed fast path opens by itself."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mailing import arrived, fresh, running, submit
from postfix_command import postfix

from deliverypools.adapters.fast_path import identity_of, remove_proof
from deliverypools.adapters.postfix_commands import PostfixInstance
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.settings_file import load_settings
from deliverypools.cli import fast_path
from deliverypools.core.fast_path import Proof
from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

WHEN_CLOSED = "--when-closed"
ON = "fast path: on"
OFF = "fast path: off"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    site = Site(main={"header_checks": "regexp:{config}/checks"}, files={"checks": "/^X-Nothing/ WARN\n"})
    with running(site=site) as lab:
        yield lab


@pytest.fixture
def opened(lab: Lab) -> Lab:
    """The fast path is proved."""
    assert postfix(lab, "fast-path").out.startswith(ON)
    return lab


def proof_file(lab: Lab) -> Path:
    return lab.directory / "spool" / "fast-path.json"


def _then(happens: Callable[[], object], prove: Callable[..., Proof]) -> Callable[..., Proof]:
    """Return a look at the configuration, at the end of which something happens."""

    def look_at_it(*arguments: Any, **named: Any) -> Proof:
        proof = prove(*arguments, **named)
        happens()
        return proof

    return look_at_it


def look(lab: Lab) -> str:
    """Return what the timer's command says; it fails for nothing of this."""
    answer = postfix(lab, "fast-path", WHEN_CLOSED)
    assert (answer.status, answer.err) == (0, ""), answer
    return answer.out


def change_checks(lab: Lab) -> None:
    """Change a table that processes keep."""
    checks = lab.postfix.config_directory / "checks"
    checks.write_text(f"{checks.read_text()}/^X-{fresh()}/ WARN\n")


def way(lab: Lab) -> str:
    """Return the pass that decides about a message."""
    recipient, before = fresh(), len(lab.milter.log())
    submit(lab, recipient)
    arrived(lab, recipient)
    return re.findall(r"pass=(fast|egress) ", lab.milter.log()[before:])[-1]


def test_what_holds_stays_as_it_is(opened: Lab):
    """Sessions go by the file that they have seen: another one would send their mail to the hop."""
    before = identity_of(proof_file(opened))
    with opened.session() as session:
        session.ehlo()
        assert look(opened) == ""
    assert identity_of(proof_file(opened)) == before


def test_it_opens_when_the_processes_of_before_have_gone(opened: Lab):
    with opened.session() as session:
        session.ehlo()
        change_checks(opened)
        said = look(opened)
        assert said.startswith(OFF)
        assert "processes of before the change of" in said
        kept = identity_of(proof_file(opened))
        assert (look(opened), identity_of(proof_file(opened))) == ("", kept)
        assert way(opened) == "egress"
        opened.postfix.reload()
        assert look(opened) == ""
    said = ""

    def has_opened() -> bool:
        nonlocal said
        said = look(opened)
        return said != ""

    wait_until(has_opened, timeout_seconds=30, what="the end of the session's process")
    assert said.startswith(ON)
    assert way(opened) == "fast"


def test_what_excludes_it_is_looked_at_once(opened: Lab, monkeypatch: pytest.MonkeyPatch):
    opened.postfix.set_main({"always_bcc": "bob@example.org"})
    assert "always_bcc = bob@example.org" in look(opened)
    with monkeypatch.context() as patched:
        patched.setattr(fast_path, "prove", lambda *_, **__: pytest.fail("looked at again"))
        assert look(opened) == ""
    opened.postfix.set_main({"always_bcc": ""})
    assert look(opened).startswith(ON)


def test_a_proof_that_is_gone_or_damaged_is_made_anew(opened: Lab):
    proof_file(opened).write_text("{")
    assert look(opened).startswith(ON)
    proof_file(opened).unlink()
    assert look(opened).startswith(ON)
    assert way(opened) == "fast"


def test_nothing_begins_where_it_is_off(opened: Lab):
    proof_file(opened).unlink()
    opened.write_settings({"fast_path": "off"})
    assert look(opened) == ""
    assert not proof_file(opened).exists()
    opened.write_settings({})


def test_nothing_begins_without_a_hop(opened: Lab):
    proof_file(opened).unlink()
    hop = opened.postfix.postconf("-h", "default_transport").strip()
    opened.postfix.set_main({"default_transport": "smtp"})
    assert look(opened) == ""
    assert not proof_file(opened).exists()
    opened.postfix.set_main({"default_transport": hop})


def test_nothing_begins_without_postfix(opened: Lab):
    proof_file(opened).unlink()
    main = opened.postfix.config_directory / "main.cf"
    away = main.with_name("away")
    main.rename(away)
    assert look(opened) == ""
    assert not proof_file(opened).exists()
    away.rename(main)
    opened.postfix.reload()


class TestUninstall:
    """It takes the proof away first: nobody may put one there behind it."""

    @pytest.fixture
    def editor(self, opened: Lab) -> PostfixEditor:
        return PostfixEditor(PostfixInstance(str(opened.postfix.config_directory)), lambda: 0.0)

    def test_is_at_work(self, opened: Lab, editor: PostfixEditor):
        with editor.locked():
            remove_proof(load_settings(opened.settings_file))
            assert look(opened) == ""
        assert not proof_file(opened).exists()

    def test_begins_meanwhile(self, opened: Lab, editor: PostfixEditor, monkeypatch: pytest.MonkeyPatch):
        """It has the lock when the look is done."""
        proof_file(opened).unlink()
        prove = fast_path.prove
        with contextlib.ExitStack() as at_end, monkeypatch.context() as patched:
            patched.setattr(fast_path, "prove", _then(lambda: at_end.enter_context(editor.locked()), prove))
            assert look(opened) == ""
        assert not proof_file(opened).exists()

    def test_has_taken_the_proof_away_meanwhile(self, opened: Lab, monkeypatch: pytest.MonkeyPatch):
        """It was refused then: main.cf is as it was, and it did not get any further."""
        change_checks(opened)
        prove, settings = fast_path.prove, load_settings(opened.settings_file)
        with monkeypatch.context() as patched:
            patched.setattr(fast_path, "prove", _then(lambda: remove_proof(settings), prove))
            assert look(opened) == ""
        assert not proof_file(opened).exists()

    def test_begins_and_ends_meanwhile(self, opened: Lab, monkeypatch: pytest.MonkeyPatch):
        proof_file(opened).unlink()
        prove, main = fast_path.prove, opened.postfix.config_directory / "main.cf"
        with monkeypatch.context() as patched:
            patched.setattr(fast_path, "prove", _then(main.touch, prove))
            assert look(opened) == ""
        assert not proof_file(opened).exists()
        opened.postfix.reload()


def test_only_root_sees_enough(opened: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    answer = postfix(opened, "fast-path", WHEN_CLOSED)
    assert (answer.status, answer.out) == (1, "")
    assert "run this as root" in answer.err


def test_a_proof_that_cannot_be_kept_is_a_failure(opened: Lab):
    proof_file(opened).unlink()
    proof_file(opened).mkdir()
    answer = postfix(opened, "fast-path", WHEN_CLOSED)
    assert (answer.status, "cannot be kept" in answer.out) == (1, True)
    proof_file(opened).rmdir()
