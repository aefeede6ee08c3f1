"""The files that the package is made of fit each other, and what they name is there."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
SCRIPTS = [ROOT / "packaging" / name for name in ("build-deb", "postinst", "prerm", "postrm")]


def directives(name):
    lines = (UNITS / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "Description=", "Documentation="))]


def test_both_daemons_have_the_same_unit_but_for_the_command():
    milter, policy = directives("delivery-pools-milter.service"), directives("delivery-pools-policy.service")
    differing = [pair for pair in zip(milter, policy, strict=True) if pair[0] != pair[1]]
    assert differing == [("ExecStart=/usr/bin/delivery-pools milter", "ExecStart=/usr/bin/delivery-pools policy")]


def test_only_the_master_is_told_to_stop():
    """SIGTERM makes libmilter cut messages short in a worker."""
    assert "KillMode=mixed" in directives("delivery-pools-milter.service")


def test_a_daemon_that_refuses_its_settings_is_not_started_again_and_again():
    assert "RestartPreventExitStatus=78" in directives("delivery-pools-policy.service")


def test_every_unit_is_known_to_the_maintainer_scripts():
    names = {path.name for path in UNITS.glob("delivery-pools*.*") if path.suffix in {".service", ".path", ".timer"}}
    installed = {name for name in names if "[Install]" in (UNITS / name).read_text()}
    postrm, prerm = (ROOT / "packaging/postrm").read_text(), (ROOT / "packaging/prerm").read_text()
    assert {name for name in installed if name not in postrm} == set()
    assert {name for name in installed if name not in prerm} == set()


def test_the_lines_that_every_site_has_to_write_are_the_only_ones_in_effect_in_the_example():
    """The package's settings file is the example with these lines taken out, so that nothing is left to be wrong."""
    lines = (ROOT / "postfix-examples/delivery-pools.toml").read_text().splitlines()
    keys = [line.partition(" = ")[0] for line in lines if line and line[0] not in "#["]
    assert keys == ["accepted_domains", *["addresses", "helo"] * 3]


def test_scripts_are_executable_and_have_no_syntax_errors():
    for script in SCRIPTS:
        shell = re.match(r"#!(?:/usr/bin/env )?(\S+)", script.read_text()).group(1)
        subprocess.run([shell, "-n", script], check=True)
        assert script.stat().st_mode & 0o111
