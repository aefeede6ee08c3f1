"""Fixtures of the tests of the command line."""

import io
import json
import sys
import time
from types import SimpleNamespace

import pytest
from command_line import MAIL, SETTINGS

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.cli.main import main


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
