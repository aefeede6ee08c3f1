"""The fast path as `postfix install` sets it up, and takes it back."""

import pytest
from originals import options, parameters, plan, said

from deliverypools.core.postfix_install.fast_path import with_fast_path, without_fast_path
from deliverypools.core.postfix_install.manifest import Manifest, Phase, Was
from deliverypools.core.postfix_install.plan import Written
from deliverypools.core.postfix_install.service_line import parse_service
from deliverypools.core.postfix_install.undo import without_ours
from deliverypools.core.postfix_install.written import changed

MACRO = "delivery_pools_fast_path=$config_directory"
FAST = {"cleanup_service_name": "cleanup-fast", "milter_macro_defaults": MACRO}
TAG_CHECKS = "regexp:$config_directory/delivery-pools/tag_checks"


def keys(made):
    return {one.key for one in made.services}


def test_every_door_gets_both_options():
    made = plan(master="submission inet n - y - - smtpd -o smtpd_sasl_auth_enable=yes\n")
    assert options(made, "smtp", "inet") == FAST
    assert options(made, "submission", "inet") == {"smtpd_sasl_auth_enable": "yes"} | FAST
    assert options(made, "cleanup-fast") == {"milter_header_checks": TAG_CHECKS}


def test_switched_off_there_is_nothing_of_it():
    made = plan(fast_path="off")
    assert not keys(made) & {("smtp", "inet"), ("cleanup-fast", "unix")}


def test_the_express_profile_has_none():
    assert ("cleanup-fast", "unix") not in keys(plan({"mydestination": ""}, profile="express"))


def test_what_ours_has_added_to_a_door_stays():
    made = plan(master="smtp inet n - y - - smtpd -o smtpd_milters=unix:a\n")
    assert options(made, "smtp", "inet") == {"smtpd_milters": "unix:a, $delivery_pools_milter"} | FAST


@pytest.mark.parametrize(
    ("main", "own"),
    [
        ({"milter_macro_defaults": "{site}=a"}, ""),
        ({"milter_macro_defaults": "other=b"}, " -o milter_macro_defaults={site}=a"),
    ],
    ids=["of main.cf", "of the service"],
)
def test_macros_of_the_site_stay(main, own):
    made = plan(main, f"smtp inet n - y - - smtpd{own}\n")
    assert options(made, "smtp", "inet")["milter_macro_defaults"] == f"{{site}}=a, {MACRO}"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("delivery_pools_fast_path=yes", MACRO),
        ("delivery_pools_fast_path=/etc/postfix-out, {site}=a", f"{{site}}=a, {MACRO}"),
        (f"{MACRO}, {{site}}=a", f"{MACRO}, {{site}}=a"),
        (f"{MACRO}, delivery_pools_fast_path=yes", MACRO),
    ],
    ids=["of an earlier version", "of another instance", "in place", "twice"],
)
def test_the_macro_names_this_instance(own, expected):
    made = plan(master=f"smtp inet n - y - - smtpd -o {{ milter_macro_defaults = {own} }}\n")
    assert options(made, "smtp", "inet")["milter_macro_defaults"] == expected


@pytest.mark.parametrize("name", ["post fix", "post,fix", "post{fix", "post}fix"])
def test_a_directory_that_postfix_cannot_tell_a_milter_has_none(name):
    """smtpd(8) would end at once: "malformed default macro entry"."""
    made = plan({"config_directory": f"/etc/{name}"})
    assert any(text.startswith(f"no fast path: config_directory = /etc/{name}: ") for text in said(made, "later"))
    assert not keys(made) & {("smtp", "inet"), ("cleanup-fast", "unix")}


def test_the_cleanup_service_is_the_sites_with_our_rules_in_front():
    made = plan(
        {"milter_header_checks": "regexp:/a"},
        "cleanup unix n - n - 0 cleanup -o header_checks=regexp:/b -o syslog_name=postfix/mine\n",
    )
    assert options(made, "cleanup-fast") == {
        "header_checks": "regexp:/b",
        "syslog_name": "postfix/mine",
        "milter_header_checks": f"{TAG_CHECKS}, regexp:/a",
    }
    line = next(one.line for one in made.services if one.key == ("cleanup-fast", "unix"))
    assert parse_service(line).chroot == "n"


@pytest.mark.parametrize(
    ("main", "master", "label", "reason"),
    [
        ({"content_filter": "scan:[127.0.0.1]:10024"}, "", "smtp/inet", "content_filter = scan:[127.0.0.1]:10024"),
        ({"smtpd_proxy_filter": "127.0.0.1:10024"}, "", "smtp/inet", "smtpd_proxy_filter = 127.0.0.1:10024"),
        (
            {},
            "smtp inet n - y - - smtpd -o cleanup_service_name=mine\nmine unix n - y - 0 cleanup\n",
            "smtp/inet",
            "it has a cleanup service of its own, mine",
        ),
        (
            {"content_filter": "scan:[127.0.0.1]:10024"},
            "127.0.0.1:10025 inet n - y - - smtpd -o content_filter=\n",
            "127.0.0.1:10025/inet",
            "a content filter hands its mail back there",
        ),
    ],
    ids=["content filter", "proxy", "a cleanup service of its own", "return of a filter"],
)
def test_a_door_that_cannot_have_it_is_named(main, master, label, reason):
    made = plan(main, master)
    assert any(text.startswith(f"{label}: no fast path: {reason}") for text in said(made, "later"))
    name = label.rpartition("/")[0]
    assert "cleanup-fast" not in next((one.line for one in made.services if one.key == (name, "inet")), "")
    assert ("cleanup-fast", "unix") not in keys(made)


def test_nothing_of_it_is_in_main_cf():
    assert "milter_macro_defaults" not in parameters(plan())


@pytest.mark.parametrize(
    "own",
    ["", " -o smtpd_sasl_auth_enable=yes", " -o milter_macro_defaults={site}=a"],
    ids=["plain", "options", "macros"],
)
def test_taken_away_it_is_what_it_was(own):
    line = parse_service(f"smtp inet n - y - - smtpd{own}")
    once = with_fast_path(line, "")
    assert with_fast_path(once, "") == once
    assert without_fast_path(once) == line
    assert without_fast_path(line) == line


class TestDoorsOfOthers:
    """An administrator has made a service after the installation, as ours are."""

    FAST_CLEANUP = "cleanup-fast unix n - y - 0 cleanup"
    MANIFEST = Manifest(
        product_version="1",
        made_at=0.0,
        phase=Phase.INSTALLED,
        hashes={},
        originals={},
        parameters={},
        services={("cleanup-fast", "unix"): Was(None, FAST_CLEANUP)},
        files=(),
    )

    def undone(self, line):
        services = {("cleanup-fast", "unix"): self.FAST_CLEANUP, ("10026", "inet"): line}
        live = Written(parameters={}, services=services)
        found = without_ours(live, self.MANIFEST)
        return changed(live, found.changes).services, found.warnings

    def test_it_loses_the_fast_path(self):
        line = with_fast_path(parse_service("10026 inet n - y - - smtpd -o smtpd_milters=unix:a"), "").render()
        services, (warning,) = self.undone(line)
        assert services == {("10026", "inet"): "10026 inet n - y - - smtpd -o smtpd_milters=unix:a"}
        assert warning.startswith("master.cf: 10026/inet had the fast path")

    def test_others_stay(self):
        line = "10026 inet n - y - - smtpd -o cleanup_service_name=mine"
        assert self.undone(line) == ({("10026", "inet"): line}, ())
