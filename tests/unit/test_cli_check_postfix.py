"""The command line: `check` of Postfix and of this machine, what it prints and how it ends."""

import json

import pytest

from deliverypools.cli import postfix_findings
from deliverypools.cli.postfix_findings import as_text
from deliverypools.core.postfix_check.checks import Finding, Severity

ERROR = Finding(
    check="tripwire_missing", severity=Severity.ERROR, found="smtp/unix", can_happen="It leaves.", remedy="Replace it."
)
WARNING = Finding(
    check="pool_helo_differs", severity=Severity.WARNING, found="x", can_happen="Worse.", remedy="Mend it."
)


@pytest.fixture
def ready(run, config):
    run("keys", "rotate", "--config", config)
    return config


@pytest.fixture
def find(monkeypatch):
    """Let the configuration have these findings."""

    def find(*findings):
        monkeypatch.setattr("deliverypools.cli.check._of_machine", lambda settings, options: findings)

    return find


def test_finding_is_printed_with_what_can_happen_and_how_to_mend_it(run, ready, find):
    find(ERROR)
    answer = run("check", "--config", ready)
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == (
        "error: tripwire_missing: smtp/unix\n  can happen: It leaves.\n  to mend it: Replace it.\n"
        "  more: docs/checks.md#tripwire_missing\n"
    )


def test_warnings_are_no_failure(run, ready, find):
    find(WARNING)
    answer = run("check", "--config", ready)
    assert (answer.status, answer.err.startswith("warning: pool_helo_differs: x")) == (0, True)
    assert answer.out == "settings and files are in order, and no error in the Postfix configuration was found\n"


def test_json_holds_all_findings_those_of_the_settings_too(run, config, tmp_path, find):
    find(ERROR, WARNING)
    answer = run("check", "--config", config, "--json")
    assert (answer.status, answer.err) == (1, "")
    first, *others = json.loads(answer.out)["findings"]
    assert (first["check"], first["severity"], first["docs"]) == ("settings", "error", None)
    assert first["found"].startswith(f"{tmp_path}/ticket.keys: no such file")
    assert [one["check"] for one in others] == ["tripwire_missing", "pool_helo_differs"]
    assert others[0] == {
        "severity": "error",
        "check": "tripwire_missing",
        "found": "smtp/unix",
        "can_happen": "It leaves.",
        "remedy": "Replace it.",
        "docs": "docs/checks.md#tripwire_missing",
    }


def test_postfix_is_left_alone_where_that_is_wanted(run, ready, find):
    find(ERROR)
    answer = run("check", "--no-postfix", "--config", ready)
    assert (answer.status, answer.err) == (0, "")
    assert "the Postfix configuration was not examined (--no-postfix)" in answer.out


def test_directory_without_a_configuration(run, ready, tmp_path):
    answer = run("check", "--config", ready, "--dns", "off", "--postfix", str(tmp_path / "nowhere"))
    assert answer.status == 1
    assert answer.err.startswith("error: postfix_unreadable: ")


def test_settings_finding_is_one_line():
    finding = Finding(
        check=postfix_findings.SETTINGS_CHECK, severity=Severity.WARNING, found="x", can_happen="", remedy=""
    )
    assert as_text(finding) == "warning: x"
