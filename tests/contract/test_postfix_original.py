"""What is read of a site, by the real postconf and postmap, where its files hold more than they should."""

import os

import pytest
from postfix_files import settings_of

from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.adapters.postfix_examples import load_example
from deliverypools.adapters.postfix_original import read_original
from deliverypools.core.postfix_check.checks import Severity
from deliverypools.core.postfix_install.make import make_plan
from deliverypools.lab.site import MASTER_CF

MAIN = "compatibility_level = 3.6\nmyhostname = old.example.org\nmyhostname = mx.example.org\n"


@pytest.fixture
def site(tmp_path):
    def write(main="", master="", **files):
        texts = {"main.cf": MAIN + main, "master.cf": MASTER_CF.read_text() + master, **files}
        for name, text in texts.items():
            (tmp_path / name).write_text(text.replace("{config}", str(tmp_path)))
            os.utime(tmp_path / name, (0, 0))
        return str(tmp_path)

    return write


def test_what_is_written_twice_is_no_fault_of_a_table(site):
    directory = site(
        "transport_maps = texthash:{config}/empty, texthash:{config}/twice\nheader_checks = texthash:{config}/twice\n",
        empty="",
        twice="a.example smtp:\na.example discard:\n",
    )
    found = PostfixReader(directory).read(settings_of("hop", {}))
    assert {spec: table.problem for spec, table in found.tables.items() if table.problem} == {}
    assert any("overriding earlier entry: myhostname=old" in one for one in found.warnings)
    entries = found.tables[f"texthash:{directory}/twice"].entries
    assert [(one.key, one.value) for one in entries] == [("a.example", "smtp:")]


def test_what_answers_at_random_is_listed(site):
    directory = site("transport_maps = randmap:{smtp:, {out2:[a] b}}\n")
    found = PostfixReader(directory).read(settings_of("hop", {}))
    (table,) = (one for spec, one in found.tables.items() if spec.startswith("randmap:"))
    assert [one.value for one in table.entries] == ["smtp:", "out2:[a] b"]


def test_of_a_service_that_stands_there_twice_the_last_counts(site):
    twice = "x inet n - y - - smtpd\n  -o smtpd_banner=first\nx inet n - y - - smtpd\n  -o smtpd_helo_required=yes\n"
    settings = settings_of("hop", {"forwarding": {}})
    original = read_original(site(master=twice), settings)
    (service,) = (one for one in original.postfix.running("smtpd") if one.name == "x")
    assert dict(service.options) == {"smtpd_helo_required": "yes"}
    plan = make_plan(original, settings, load_example("hop"))
    warnings = [one.text for one in plan.remarks if one.severity is Severity.WARNING]
    assert any("x/inet stands there 2 times" in text for text in warnings)
