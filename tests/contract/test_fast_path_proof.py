"""What the proof of the fast path says, by the real postconf and postmap, of configurations that nobody runs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from postfix_files import Change, settings_of, write

from deliverypools.adapters.fast_path_proof import prove
from deliverypools.adapters.fast_path_steps import identity_at
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance, Process
from deliverypools.adapters.postfix_configuration import PostfixUnreadable
from deliverypools.core.fast_path import Proof
from deliverypools.core.postfix_check import fast_path

NEVER_ENDING = ("qmgr", "pickup")
OTHER_OPTIONS = "works with other options than master.cf has: `postfix reload`, then run this again"
READERS = ("smtpd", "cleanup", "trivial-rewrite", "proxymap")


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Running:
    """A Postfix that seems to run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: dict[str, float] = {}
        """By the name of a program, when its process began, in seconds since the start of the machine."""
        self.clock: float | None = time.time() - uptime()
        monkeypatch.setattr(PostfixInstance, "is_running", lambda _: bool(self.started))
        monkeypatch.setattr(PostfixInstance, "clock_at_start", lambda _: self.clock if self.started else None)
        self.arguments: list[str] = []
        monkeypatch.setattr(PostfixInstance, "arguments", lambda *_: self.arguments)
        monkeypatch.setattr(PostfixInstance, "processes", lambda _, *names: self._processes(*names))
        self.reload()

    def reload(self) -> None:
        """All of its processes are of some time after now."""
        self.started = dict.fromkeys((*NEVER_ENDING, *READERS), uptime() + 1000.0)

    def are_of(self, *names: str, at: float) -> None:
        self.started |= dict.fromkeys(names, at)

    def _processes(self, *names: str) -> set[Process]:
        return {Process(1, self.started[name]) for name in names if name in self.started}


@pytest.fixture(autouse=True)
def running(monkeypatch: pytest.MonkeyPatch) -> Running:
    return Running(monkeypatch)


class Place:
    """A configuration directory."""

    def __init__(self, folder: Path, main: dict[str, str], files: dict[str, str]) -> None:
        self.etc = folder / "etc"
        self.settings = settings_of("hop", {"fast_path": "auto", "alerts": {"spool": str(folder / "spool")}})
        own = {"queue_directory": str(folder), **main}
        write(self.etc, "hop", Change(main=own, files=files))

    def prove(self, previous: Proof | None = None, **changes: Any) -> Proof:
        arguments = {"previous": previous, "may_vouch_for_reload": True, "clock": lambda: 1000.0} | changes
        return prove(self.settings, str(self.etc), **arguments)


@pytest.fixture
def place(tmp_path: Path):
    return lambda main=None, files=None: Place(tmp_path, main or {}, files or {})


@pytest.fixture
def conditions(monkeypatch: pytest.MonkeyPatch):
    """The tables that matter, and what is wrong with the configuration, in place of what the site says."""

    def name(*watched: str, problems: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(fast_path, "watched_tables", lambda _: watched)
        monkeypatch.setattr(fast_path, "conditions", lambda _: iter(problems))

    return name


def test_what_it_says(place, conditions):
    conditions(problems=("always_bcc = archive@example.org",))
    here = place()
    proof = here.prove()
    assert (proof.config_directory, proof.made_at) == (str(here.etc), 1000.0)
    assert (proof.hop, proof.is_reloaded) == ("[127.0.0.1]:10027", True)
    assert proof.problems == ("always_bcc = archive@example.org",)
    assert proof.files == tuple(str(here.etc / name) for name in ("main.cf", "master.cf"))
    assert {path: step.identity for path, step in proof.steps.items()} == {
        str(path): identity_at(str(path))
        for path in (*reversed(here.etc.parents[:-1]), here.etc, here.etc / "main.cf", here.etc / "master.cf")
    }
    assert proof.hostnames == ("mx.example.org",)


def test_directory_whose_name_postfix_expands(place, conditions):
    """Its smtpd(8) would say that they are those of another one."""
    conditions()
    here = place()
    odd = here.etc.with_name("etc$nothing")
    here.etc.rename(odd)
    here.etc = odd
    (problem,) = here.prove().problems
    assert problem == f"{odd}: $config_directory is {odd.with_name('etc')} there; give it a name without $"


def test_without_a_hop(place, conditions):
    conditions()
    assert place({"default_transport": "smtp"}).prove().hop == ""


FILES = {
    "hash:/x/t": ["t", "t.db"],
    "btree:/x/t": ["t", "t.db"],
    "lmdb:/x/t": ["t", "t.lmdb"],
    "cdb:/x/t": ["t", "t.cdb"],
    "sdbm:/x/t": ["t", "t.pag", "t.dir"],
    "texthash:/x/t": ["t"],
    "regexp:/x/t": ["t"],
    "pcre:/x/t": ["t"],
    "cidr:/x/t": ["t"],
    "file:/x/t": ["t"],
    "regexp:{{/x/ DUNNO}}": [],
}


@pytest.mark.parametrize(("spec", "names"), FILES.items(), ids=FILES)
def test_the_files_of_a_table(place, conditions, spec: str, names: list[str]):
    conditions(spec)
    proof = place().prove()
    assert list(proof.files[2:]) == [f"/x/{name}" for name in names]
    assert proof.problems == ()


@pytest.mark.parametrize("spec", ["ldap:/etc/x.cf", "mysql:/etc/x.cf", "sqlite:/x", "tcp:127.0.0.1:9", "unix:passwd"])
def test_table_that_changes_unseen(place, conditions, spec: str):
    conditions(spec)
    assert "may change without being seen" in place().prove().problems[0]


@pytest.mark.parametrize("spec", ["hash:virtual", "regexp:checks"])
def test_relative_name(place, conditions, spec: str):
    """Daemons begin in the queue directory, commands anywhere."""
    conditions(spec)
    assert place().prove().problems == (f"{spec}: write the whole path of the table",)


def test_too_many_tables(place, conditions):
    conditions(*(f"texthash:/x/{number}" for number in range(300)))
    proof = place().prove()
    assert proof.problems == ("302 files of tables: more than 200 are not watched",)
    assert [Path(one).name for one in proof.files] == ["main.cf", "master.cf"]


def test_every_link_and_folder_on_the_way(place, conditions, tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/list").write_text("")
    (tmp_path / "current").symlink_to("one")
    (tmp_path / "link").symlink_to(f"{tmp_path}/one/../current/list")
    conditions(f"texthash:{tmp_path}/link")
    steps = place().prove().steps
    assert {Path(path).relative_to(tmp_path).as_posix() for path in steps if path.startswith(f"{tmp_path}/")} == {
        *("etc", "etc/main.cf", "etc/master.cf"),
        *("link", "one", "current", "one/list"),
    }


@pytest.mark.parametrize("target", ["link", "other"])
def test_links_without_end(place, conditions, tmp_path: Path, target: str):
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "other").symlink_to("link")
    conditions(f"texthash:{tmp_path}/link")
    assert (-1,) in [step.identity for step in place().prove().steps.values()]


class TestChangedMeanwhile:
    def test_once(self, place, conditions, monkeypatch: pytest.MonkeyPatch):
        here = place(files={"list": "one"})
        self.change_while_reading(here, conditions, monkeypatch, times=1)
        assert here.prove().problems == ()

    def test_again_and_again(self, place, conditions, monkeypatch: pytest.MonkeyPatch):
        here = place(files={"list": "one"})
        self.change_while_reading(here, conditions, monkeypatch, times=100)
        proof = here.prove()
        assert proof.problems == ("the configuration was changed while it was looked at: run this again",)
        assert proof.steps[str(here.etc / "list")].identity != identity_at(str(here.etc / "list"))

    def change_while_reading(self, here: Place, conditions, monkeypatch, times: int) -> None:
        path = here.etc / "list"
        conditions(f"texthash:{path}")
        turns = iter(range(times))

        def changing(_):
            if next(turns, None) is not None:
                path.write_text(path.read_text() + "x")
            return iter(())

        monkeypatch.setattr(fast_path, "conditions", changing)


class TestReload:
    """Whether Postfix works by the files of today."""

    def test_all_are_of_after_the_change(self, place, conditions):
        conditions()
        assert place().prove().is_reloaded

    @pytest.mark.parametrize("name", [*READERS, *NEVER_ENDING])
    def test_one_of_before(self, place, conditions, running: Running, name: str):
        conditions()
        here = place()
        changed_at = (here.etc / "main.cf").stat().st_ctime - (time.time() - uptime())
        running.are_of(name, at=changed_at - 1.0)
        proof = here.prove()
        assert not proof.is_reloaded
        assert "Postfix still has processes of before the change of" in proof.problems[0]

    @pytest.mark.parametrize(("name", "is_reloaded"), [("cleanup", False), ("pickup", True), ("qmgr", True)])
    def test_database(self, place, conditions, running: Running, name: str, *, is_reloaded: bool):
        """The queue manager and pickup(8) do not read it; cleanup(8) may overlook the change."""
        here = place(files={"list.db": ""})
        conditions(f"hash:{here.etc}/list")
        before = here.prove()
        running.are_of(name, at=uptime())
        (here.etc / "list.db").write_text("another")
        assert here.prove(before).is_reloaded is is_reloaded

    def test_no_queue_manager(self, place, conditions, running: Running):
        conditions()
        del running.started["qmgr"]
        assert "no queue manager" in place().prove().problems[0]

    @pytest.mark.parametrize(
        ("options", "problems"),
        [
            ("milter_header_checks={checks}", 0),
            ("milter_header_checks={checks} -o stress=yes", 0),
            ("milter_header_checks={checks} -o always_bcc=bob@example.org", 1),
            ("milter_header_checks=", 1),
        ],
    )
    def test_options_that_master_has_handed_out(self, place, conditions, running: Running, options: str, problems: int):
        """Whatever is new: those of master.cf, or it has not read that."""
        conditions()
        given = options.format(checks="regexp:$config_directory/delivery-pools/tag_checks")
        running.arguments = f"cleanup -z -n cleanup-fast -t unix -u -c -o {given}".split()
        found = place().prove().problems
        assert found == (f"cleanup-fast/unix {OTHER_OPTIONS}",) * problems

    def test_options_with_white_space(self, place, conditions, running: Running):
        conditions()
        here = place()
        with (here.etc / "master.cf").open("a") as file:
            file.write(
                "odd inet n - n - - smtpd -o { mynetworks = 192.0.2.0/24, [::1]/128 } -o smtpd_client_restrictions=\n"
            )
        networks = "mynetworks = 192.0.2.0/24, [::1]/128"
        running.arguments = [
            "smtpd",
            *["-n", "odd", "-t", "inet", "-u", "-o"],
            networks,
            "-o",
            "smtpd_client_restrictions=",
        ]
        assert here.prove().problems == ()
        running.arguments[-1] += "reject"
        assert here.prove().problems == (f"odd/inet {OTHER_OPTIONS}",)

    def test_no_process_is_seen(self, place, conditions, running: Running):
        """It may run in another container, with this configuration."""
        conditions()
        running.started = {}
        (problem,) = place().prove().problems
        assert problem.startswith(
            "no process of this Postfix is seen here: it does not run, or runs in another container"
        )


class TestOthersThanRoot:
    def test_nothing_before(self, place, conditions):
        conditions()
        proof = place().prove(may_vouch_for_reload=False)
        assert not proof.is_reloaded
        assert "`postfix reload`, then `delivery-pools check` as root" in proof.problems[0]

    def test_as_root_saw_it(self, place, conditions):
        conditions()
        here = place()
        assert here.prove(here.prove(), may_vouch_for_reload=False).problems == ()

    def test_again_and_again(self, place, conditions):
        conditions()
        here = place()
        proof = here.prove()
        for _ in range(3):
            proof = here.prove(proof, may_vouch_for_reload=False)
        assert proof.is_reloaded

    def test_what_root_did_not_vouch_for(self, place, conditions):
        conditions()
        here = place()
        first = here.prove(may_vouch_for_reload=False)
        assert here.prove(first, may_vouch_for_reload=False).problems == first.problems

    @pytest.mark.parametrize("name", ["main.cf", "master.cf", "list"])
    def test_changed_since(self, place, conditions, name: str):
        here = place(files={"list": ""})
        conditions(f"texthash:{here.etc}/list")
        before = here.prove()
        path = here.etc / name
        path.write_text(f"{path.read_text()}# a comment\n")
        proof = here.prove(before, may_vouch_for_reload=False)
        assert not proof.is_reloaded
        assert name in proof.problems[0]

    def test_another_instance(self, place, conditions, tmp_path: Path):
        conditions()
        here = place()
        before = here.prove()
        subprocess.run(["cp", "-a", here.etc, tmp_path / "other"], check=True)
        here.etc = tmp_path / "other"
        assert not here.prove(before, may_vouch_for_reload=False).is_reloaded


def test_no_postfix_there(place, conditions, tmp_path: Path):
    conditions()
    here = place()
    here.etc = tmp_path / "nowhere"
    with pytest.raises(PostfixError, match="no such file"):
        here.prove()


def test_configuration_that_cannot_be_read(place, conditions):
    conditions()
    here = place()
    (here.etc / "master.cf").write_text("one two\n")
    with pytest.raises(PostfixUnreadable):
        here.prove()
