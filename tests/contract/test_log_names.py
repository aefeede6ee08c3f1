"""Whose lines in a mail log of several instances: told by their configurations, with real postconf."""

import os

import pytest

from deliverypools.adapters.other_instances import log_names
from deliverypools.lab.site import MASTER_CF

OURS = """\
pool-normal unix - - y - - smtp
  -o syslog_name=${multi_instance_name?{$multi_instance_name}:{postfix}}/$service_name
"""


@pytest.fixture
def instances(tmp_path, monkeypatch):
    """The default instance, and another of postmulti(1); both send by pools."""
    directories = [tmp_path / name for name in ("default", "out")]
    for directory, name in zip(directories, ("", "postfix-out"), strict=True):
        directory.mkdir()
        (directory / "main.cf").write_text(
            f"compatibility_level = 3.6\nmulti_instance_name = {name}\n"
            f"multi_instance_directories = /nowhere, {directories[1]},\n"
        )
        (directory / "master.cf").write_text(MASTER_CF.read_text() + OURS)
        for file in directory.iterdir():
            os.utime(file, (0, 0))
    monkeypatch.setenv("MAIL_CONFIG", str(directories[0]))
    return directories


@pytest.mark.parametrize(
    "name", ["", "/pool-normal", "/pool-of-before", pytest.param("/relay", id="hard-coded in master.cf.dist")]
)
def test_each_instance_knows_its_lines(instances, name):
    default, out = (log_names(str(directory)) for directory in instances)
    assert default.is_anothers(f"postfix-out{name}/smtp")
    assert not default.is_anothers(f"postfix{name}/smtp")
    assert not out.is_anothers(f"postfix-out{name}/smtp")
    assert out.is_anothers(f"postfix{name}/smtp") is (name != "/relay")


def test_what_nobody_is_called_is_not_passed_over(instances):
    names = log_names(str(instances[1]))
    assert not any(map(names.is_anothers, ("scan/smtp", "postfix-outer/smtp", "smtp", "delivery-pools/milter")))


def test_one_that_cannot_be_read_hides_nothing(instances):
    (instances[1] / "main.cf").unlink()
    assert log_names(str(instances[1])) is None
    assert not log_names(str(instances[0])).is_anothers("postfix-out/smtp")
