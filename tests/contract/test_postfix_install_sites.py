"""What is planned for servers as they are: the real postconf and postmap read it, and the checks find no error."""

import os

import pytest
from postfix_files import settings_of
from realistic_sites import DEBIAN_MAIN, EXPRESS, HOP_SITES, Before

from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.adapters.postfix_examples import load_example
from deliverypools.adapters.postfix_original import read_original
from deliverypools.core.postfix_check.checks import Severity
from deliverypools.core.postfix_check.examine import examine
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_install.examples import parse_master, render_main, render_master
from deliverypools.core.postfix_install.make import make_plan
from deliverypools.core.postfix_install.plan import Written
from deliverypools.core.postfix_install.written import changed, changes_between, changes_of
from deliverypools.lab.site import MASTER_CF

SITES = HOP_SITES | {"express": EXPRESS}


def write_files(directory, written, files):
    (directory / "delivery-pools").mkdir(parents=True, exist_ok=True)
    (directory / "main.cf").write_text(render_main(written.parameters))
    (directory / "master.cf").write_text(render_master(written.services))
    for name, text in files.items():
        (directory / name).write_text(text)
    for path in directory.rglob("*"):
        os.utime(path, (0, 0))  # Postfix waits for files that have changed within the last second


def settings_for(before):
    # The settings of the examples, with SRS only where the site has it.
    own = {"forwarding": {}, "trusted_networks": ["127.0.0.0/8", "::1"]}
    return settings_of(before.settings.get("profile", "hop"), own | before.settings)


def write_site(directory, before):
    main = {name: value.replace("{config}", str(directory)) for name, value in (DEBIAN_MAIN | before.main).items()}
    services = parse_master(MASTER_CF.read_text()) | parse_master(before.master.replace("{config}", str(directory)))
    write_files(directory, Written(parameters=main, services=services), before.files)


def plan_for(directory, before):
    settings = settings_for(before)
    original = read_original(str(directory), settings)
    return original, make_plan(original, settings, load_example(settings.profile))


def apply(directory, original, plan):
    files = {f"delivery-pools/{name}": text for name, text in plan.files.items()}
    write_files(directory, changed(original.written, changes_of(plan)), files)


@pytest.fixture(params=SITES, ids=[name.replace(" ", "-") for name in SITES])
def installed(request, tmp_path):
    before = SITES[request.param]
    write_site(tmp_path, before)
    original, plan = plan_for(tmp_path, before)
    apply(tmp_path, original, plan)
    return before, tmp_path, original, plan


def test_nothing_in_the_plan_stops_it(installed):
    _, _, _, plan = installed
    assert [one for one in plan.remarks if one.severity is Severity.ERROR] == []


def test_the_checks_find_no_error(installed):
    before, directory, _, _ = installed
    settings = settings_for(before)
    found = examine(Site(PostfixReader(str(directory)).read(settings), settings))
    assert [(one.check, one.found) for one in found if one.severity is Severity.ERROR] == []


def test_applied_taken_away_and_planned_again_it_is_the_same(installed):
    before, directory, original, plan = installed
    after = read_original(str(directory), settings_for(before)).written
    back = changed(after, changes_between(after, original.written))
    assert back.parameters == original.written.parameters
    write_files(directory, back, {})
    again, second = plan_for(directory, before)
    assert second == plan
    assert again.written.services.keys() == original.written.services.keys()


def test_too_many_routes_are_one_error_and_no_more(tmp_path):
    partners = "".join(f"p{number}.example smtp:[gw{number}.example]\n" for number in range(60))
    before = Before(main={"transport_maps": "texthash:{config}/transport"}, files={"transport": partners})
    write_site(tmp_path, before)
    original, plan = plan_for(tmp_path, before)
    assert len([one for one in plan.remarks if one.severity is Severity.ERROR]) == 1
    apply(tmp_path, original, plan)
    settings = settings_for(before)
    found = examine(Site(PostfixReader(str(tmp_path)).read(settings), settings))
    assert [(one.check, one.found) for one in found if one.severity is Severity.ERROR] == []
