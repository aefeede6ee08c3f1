"""`postfix install` leaves a configuration alone that was made by the examples: it says so, and nothing else."""

import os

import pytest
from editing import made_site

from deliverypools.adapters.postfix_examples import example_directory
from deliverypools.cli.main import main

COMMANDS = (["install", "--dry-run"], ["install"], ["render", "--output", "out"])


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made_site(tmp_path)


@pytest.fixture
def run(tmp_path, site, capsys):
    settings = tmp_path / "pools.toml"
    settings.write_text((example_directory("hop").parent / "delivery-pools.toml").read_text())

    def run(*command):
        status = main(["postfix", *command, "--config", str(settings), "--config-directory", str(site)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("delivery_pools_milter = unix:delivery-pools/milter.sock", "delivery_pools_milter"),
        ("pool-normal unix - - y - - smtp", "pool-normal/unix"),
    ],
)
def test_one_line_of_ours_is_enough(site, run, command, text, line):
    file = site / ("main.cf" if "=" in text else "master.cf")
    file.write_text(f"{file.read_text()}{text}\n")
    os.utime(file, (0, 0))
    before = file.read_bytes()
    status, out, err = run(*command)
    assert (status, out) == (1, "")
    assert f"configured for Delivery Pools by hand ({line})" in err
    assert "postfix-examples/hop/README.md" in err
    assert len(err.splitlines()) == 1
    assert file.read_bytes() == before
    assert not (site.parent / "out").exists()
