"""Taking ours back out of a configuration that was edited since; and the manifest that says what is ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from deliverypools.core.postfix_install.leaving import entering, leaving, rewrites_senders
from deliverypools.core.postfix_install.manifest import (
    Manifest,
    ManifestError,
    Phase,
    Reload,
    Was,
    differences,
    manifest_from_json,
    manifest_to_json,
)
from deliverypools.core.postfix_install.plan import Written
from deliverypools.core.postfix_install.undo import without_our_elements, without_ours
from deliverypools.core.postfix_install.written import changed, parameters_in, services_in

HASHES = {"main.cf": "0", "master.cf": "0"}
ORIGINALS = {"main.cf": "main.cf", "master.cf": "master.cf"}
SMTP = "smtp unix - - y - - smtp"
TRIPWIRE = "smtp unix - n n - - pipe user=nobody argv=/bin/sh -c {exit 75}"


def written(parameters: dict[str, str] | None = None, *lines: str) -> Written:
    keys = [(line.split()[0], line.split()[1]) for line in lines]
    return Written(parameters=parameters or {}, services=dict(zip(keys, lines, strict=True)))


def manifest(original: Written, ours: Written) -> Manifest:
    parameters, services = differences(original, ours)
    return Manifest(
        product_version="1",
        made_at=0.0,
        phase=Phase.INSTALLED,
        hashes=HASHES,
        originals=ORIGINALS,
        parameters=parameters,
        services=services,
        files=("tag_checks",),
    )


def undone(original: Written, ours: Written, live: Written) -> tuple[Written, tuple[str, ...]]:
    found = without_ours(live, manifest(original, ours))
    return changed(live, found.changes), found.warnings


# ---- nobody has edited anything


def test_what_is_as_we_left_it_becomes_what_it_was():
    original = written({"relayhost": "[x]", "smtpd_milters": "inet:a"}, SMTP, "pickup unix n - y 60 1 pickup")
    ours = written(
        {"relayhost": "[x]", "smtpd_milters": "inet:a, $delivery_pools_milter", "delivery_pools_milter": "{ unix:x }"},
        TRIPWIRE,
        "pickup unix n - y 60 1 pickup -o cleanup_service_name=cleanup-pickup",
        "egress unix - - y - 100 smtp",
    )
    assert undone(original, ours, ours) == (original, ())


def test_what_the_administrator_has_put_back_is_left():
    original, ours = written({"a": "1", "b": "1"}), written({"a": "2", "b": "2"})
    assert undone(original, ours, written({"a": "1", "b": "2"})) == (original, ())


# ---- lists


@pytest.mark.parametrize(
    ("name", "ours", "left"),
    [
        (
            "mydestination",
            "$myhostname, localhost.$mydomain, localhost, srs.example.org",
            "$myhostname, localhost.$mydomain, localhost",
        ),
        ("address_verify_transport_maps", "texthash:/ours, hash:/transport", "$transport_maps"),
    ],
)
def test_what_held_by_default_stays_beside_what_was_added(name: str, ours: str, left: str):
    transport = {"transport_maps": "hash:/transport"}
    live = written(transport | {name: f"{ours}, added"})
    assert undone(written(transport), written(transport | {name: ours}), live) == (
        written(transport | {name: f"{left}, added"}),
        (),
    )


def test_what_was_not_there_goes_if_it_is_as_we_made_it():
    ours = written({"mydestination": "$myhostname, srs.example.org"})
    assert undone(written(), ours, ours) == (written(), ())


LISTS = [
    pytest.param("inet:a, $ours", "inet:a", "inet:a, inet:b, $ours", "inet:a, inet:b", id="one put between"),
    pytest.param("$ours", "", "inet:b, $ours", "inet:b", id="one put in front of ours alone"),
    pytest.param("check ours, reject", "reject", "check ours, permit, reject", "permit, reject", id="two words go"),
    pytest.param(
        "check ours, check theirs",
        "check theirs",
        "check ours, check theirs, x",
        "check theirs, x",
        id="a word of both",
    ),
    pytest.param("{ a, b } $ours", "{ a, b }", "{ a, b } c $ours", "{ a, b } c", id="braces, blanks"),
    pytest.param("new, kept", "old, kept", "new, kept, more", "old, kept, more", id="what we replaced comes back"),
]


@pytest.mark.parametrize(("ours", "old", "now", "wanted"), LISTS)
def test_our_part_of_an_edited_list_goes(ours: str, old: str, now: str, wanted: str):
    assert without_our_elements(now, old, ours) == wanted


def test_what_cannot_be_told_apart_stays_and_is_named():
    original, ours = written({"a": "1"}), written({"a": "2"})
    live = written({"a": "3"})
    after, warnings = undone(original, ours, live)
    assert after == live
    assert warnings == ("main.cf: a was edited since, and stays as it is: 3",)


def test_parameter_taken_away_by_hand_stays_away():
    after, warnings = undone(written({"a": "1"}), written({"a": "2"}), written())
    assert after == written()
    assert len(warnings) == 1


def test_hostile_list_takes_no_time():
    long = " ".join(f"x{number}" for number in range(30_000))
    after, warnings = undone(written({"a": "1"}), written({"a": "1 2"}), written({"a": long}))
    assert after.parameters["a"] == long
    assert len(warnings) == 1


# ---- services


def test_tripwire_that_was_edited_becomes_the_old_client_and_is_named():
    live = written({}, TRIPWIRE.replace("nobody", "other"))
    after, (warning,) = undone(written({}, SMTP), written({}, TRIPWIRE), live)
    assert after == written({}, SMTP)
    assert "smtp/unix" in warning


def test_client_that_the_administrator_has_put_in_place_of_the_tripwire_stays():
    live = written({}, f"{SMTP} -v")
    assert undone(written({}, SMTP), written({}, TRIPWIRE), live)[0] == live


def test_service_that_we_added_goes_though_it_was_edited():
    after, (warning,) = undone(
        written(), written({}, "egress unix - - y - 100 smtp"), written({}, "egress unix - - y - 9 smtp")
    )
    assert after == written()
    assert "egress/unix" in warning


def test_options_of_an_edited_service_lose_ours_only():
    door = "smtp inet n - y - - smtpd"
    after, (warning,) = undone(
        written({}, f"{door} -o smtpd_milters=inet:a -o x=1"),
        written({}, f"{door} -o {{ smtpd_milters = inet:a, $delivery_pools_milter }} -o x=1 -o y=2"),
        written(
            {},
            "smtp inet n - y - 7 smtpd -o { smtpd_milters = inet:a, inet:b, $delivery_pools_milter } -o x=3 -o y=2",
        ),
    )
    assert after == written({}, "smtp inet n - y - 7 smtpd -o { smtpd_milters = inet:a, inet:b } -o x=3")
    assert "smtp/inet" in warning


def test_what_an_administrator_led_to_us_is_named():
    live = written({"mynetworks": "1"}, "new inet n - y - - smtpd -o smtpd_milters=$delivery_pools_milter")
    after, (warning,) = undone(written(), written(), live)
    assert after == live
    assert "new/inet still names what is ours" in warning


# ---- the manifest


@pytest.mark.parametrize("ended_at", [None, 3.5])
def test_reload_is_read_as_it_was_written(ended_at: float | None):
    reload = Reload(at=1.5, uptime_seconds=2.5, boot_id="x", ended_at=ended_at)
    made = replace(manifest(written(), written()), reload=reload)
    assert manifest_from_json(manifest_to_json(made)) == made


def test_manifest_is_read_as_it_was_written():
    made = manifest(written({"a": "1"}, SMTP), written({"b": "2"}, TRIPWIRE, "private/x unix - - n - - smtp"))
    assert manifest_from_json(manifest_to_json(made)) == made
    assert made.parameters == {"b": Was(None, "2"), "a": Was("1", None)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        "[" * 100_000,
        json.dumps(json.loads(manifest_to_json(manifest(written(), written()))) | {"hashes": {}}),
        json.dumps(json.loads(manifest_to_json(manifest(written(), written()))) | {"services": {"x": {}}}),
        json.dumps(json.loads(manifest_to_json(manifest(written(), written()))) | {"parameters": {"x": {"old": 1}}}),
    ],
)
def test_what_is_no_manifest_is_said(text: str):
    with pytest.raises(ManifestError):
        manifest_from_json(text)


# ---- what the files say


def test_main_cf_as_postconf_reads_it():
    text = "# comment\na = 1,\n   # inside\n\n\t2\nb=\nunused_name = x\na = 3\n   4\n"
    assert parameters_in(text) == {"a": "3 4", "b": "", "unused_name": "x"}


def test_services_as_postconf_prints_them():
    text = "smtp  inet n - y - - smtpd\n    -o a=b\n    -o {c=d e}\npickup unix n - y 60 1 pickup\n"
    assert services_in(text) == {
        ("smtp", "inet"): "smtp inet n - y - - smtpd -o a=b -o {c=d e}",
        ("pickup", "unix"): "pickup unix n - y 60 1 pickup",
    }


# ---- the first phase of leaving

SITE = (
    SMTP,
    "relay unix - - y - - smtp -o smtp_header_checks=regexp:/own",
    "pickup unix n - y 60 1 pickup -o content_filter=scan:x",
    "cleanup unix n - y - 0 cleanup",
)
POOL = "pool-normal unix - - y - - smtp -o smtp_helo_name=x"
STRIP = "regexp:$config_directory/delivery-pools/strip_headers"
STRIP_BODY = "regexp:$config_directory/delivery-pools/strip_body"


def test_what_queued_mail_needs_stays_and_nothing_else():
    site = {"default_transport": "smtp", "smtp_header_checks": "regexp:/site", "enable_long_queue_ids": "no"}
    original = written(site, *SITE)
    ours = written(
        {
            "default_transport": "egress:[127.0.0.1]:10027",
            "smtp_header_checks": "regexp:/site",
            "smtpd_milters": "$delivery_pools_milter",
            "delivery_pools_milter": "{ unix:x }",
            "pool-normal_destination_rate_delay": "1s",
            "default_filter_nexthop": "$relayhost",
            "internal_mail_filter_classes": "bounce",
            "enable_long_queue_ids": "yes",
        },
        TRIPWIRE,
        *SITE[1:],
        POOL,
        "internal unix - - y - - smtp",
    )
    after = changed(original, leaving(original, ours))
    assert after.parameters == {
        "default_transport": "smtp",
        "smtp_header_checks": f"{STRIP}, regexp:/site",
        "smtp_nested_header_checks": STRIP,
        "smtp_body_checks": STRIP_BODY,
        "delivery_pools_milter": "{ unix:x }",
        "pool-normal_destination_rate_delay": "1s",
        "default_filter_nexthop": "$relayhost",
        # Switched off, it would give the files in the queue other names.
        "enable_long_queue_ids": "yes",
    }
    assert after.services["smtp", "unix"] == SMTP
    assert after.services["pool-normal", "unix"] == POOL
    assert f"smtp_header_checks = {STRIP}, regexp:/own" in after.services["relay", "unix"]
    assert leaving(original, after) == leaving(original, ours)


def test_what_leads_bounces_to_rewritten_senders_back_stays():
    original = written({"recipient_canonical_maps": "hash:/site", "mydestination": "example.org"}, *SITE)
    ours = {"recipient_canonical_maps": "hash:/site, pipemap:{x}", "mydestination": "example.org, srs.example.org"}
    live = written(ours, *SITE)
    after = changed(original, leaving(original, live))
    assert ours.items() <= after.parameters.items()
    assert rewrites_senders(original, live)


def test_destinations_of_a_site_without_rewritten_senders_are_its_own():
    original = written({"mydestination": "example.org"}, *SITE)
    live = written({"mydestination": "example.org, edited.example"}, *SITE)
    assert changed(original, leaving(original, live)).parameters["mydestination"] == "example.org"
    assert not rewrites_senders(original, live)


def test_no_client_that_shows_our_headers_is_left_before_mail_gets_them():
    site = {"smtp_header_checks": "regexp:/site"}
    after = changed(written(site, *SITE), entering(written(site, *SITE)))
    assert after.parameters == {
        "smtp_header_checks": f"{STRIP}, regexp:/site",
        "smtp_nested_header_checks": STRIP,
        "smtp_body_checks": STRIP_BODY,
        # Mail of an earlier uninstall may still be in delivery: a reload must not rename it.
        "enable_long_queue_ids": "yes",
    }
    assert f"smtp_header_checks = {STRIP}, regexp:/own" in after.services["relay", "unix"]
    assert after.services["pickup", "unix"] == SITE[2]


def test_requeued_mail_loses_our_headers_and_meets_the_checks_of_the_site():
    original = written({"header_checks": "regexp:/site"}, *SITE)
    after = changed(original, leaving(original, original))
    assert after.services["pickup", "unix"] == f"{SITE[2]} -o cleanup_service_name=cleanup-pickup"
    cleanup = after.services["cleanup-pickup", "unix"]
    assert f"-o {{ header_checks = {STRIP}, regexp:/site }}" in cleanup
    # What a site does not set for nested headers are its checks of the header: postconf(5).
    assert f"-o {{ nested_header_checks = {STRIP}, regexp:/site }}" in cleanup
    assert f"-o body_checks={STRIP_BODY}" in cleanup


def test_checks_that_the_site_has_switched_off_stay_off():
    pickup = "pickup unix n - y 60 1 pickup -o receive_override_options=no_header_body_checks,no_milters"
    original = written({"header_checks": "regexp:/site"}, pickup, SITE[3])
    after = changed(original, leaving(original, original))
    assert "-o receive_override_options=no_milters" in after.services["pickup", "unix"]
    assert f"-o header_checks={STRIP} " in after.services["cleanup-pickup", "unix"]


def test_cleanup_of_its_own_keeps_its_options():
    original = written(
        {},
        "pickup unix n - y 60 1 pickup -o cleanup_service_name=mine",
        "mine unix n - y - 0 cleanup -o header_checks=regexp:/mine -o always_bcc=x@y",
    )
    after = changed(original, leaving(original, original))
    cleanup = after.services["cleanup-pickup", "unix"]
    assert f"-o {{ header_checks = {STRIP}, regexp:/mine }}" in cleanup
    assert "-o always_bcc=x@y" in cleanup
    assert original.services["mine", "unix"] == after.services["mine", "unix"]
