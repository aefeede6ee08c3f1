"""`check --postfix` on the Postfix of the lab: silent while the examples are followed; after each change it says so."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator

import pytest
from mailing import running

from deliverypools.cli.main import main
from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site


@pytest.fixture(scope="module", params=["hop", "express"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with running(profile=request.param) as lab:
        yield lab


def found(lab: Lab) -> dict[str, str]:
    """What `delivery-pools check --json` finds, by check."""
    printed = io.StringIO()
    arguments = ("check", "--config", str(lab.settings_file), "--json")
    with lab.network.inside(), contextlib.redirect_stdout(printed):
        status = main((*arguments, "--postfix", str(lab.postfix.config_directory), "--dns", "off"))
    listed = json.loads(printed.getvalue())["findings"]
    assert status == int(any(one["severity"] == "error" for one in listed))
    return {one["check"]: one["found"] for one in listed}


@contextlib.contextmanager
def changed(lab: Lab, option: str, setting: str) -> Iterator[None]:
    """Change main.cf (-e) or master.cf (-P) with postconf while the context lasts."""
    files = [lab.postfix.config_directory / name for name in ("main.cf", "master.cf")]
    before = [path.read_bytes() for path in files]
    lab.postfix.postconf(option, setting)
    for path in files:
        os.utime(path, (0, 0))  # Postfix waits for files that have changed within the last second
    try:
        yield
    finally:
        for path, content in zip(files, before, strict=True):
            path.write_bytes(content)
            os.utime(path, (0, 0))


def test_example_as_the_lab_expands_it_has_no_finding(lab: Lab):
    assert found(lab) == {}


CHANGES = [
    (
        "milter_does_not_tempfail",
        "-e",
        "delivery_pools_milter={ unix:delivery-pools/milter.sock, default_action=accept }",
    ),
    ("pool_address_not_enforced", "-P", "pool-normal/unix/smtp_bind_address_enforce=no"),
    ("pool_address_differs", "-P", "pool-relay/unix/smtp_bind_address=192.0.2.10"),
    ("tag_stays_on_the_wire", "-P", "pool-relay/unix/smtp_header_checks="),
    ("tripwire_missing", "-M", "relay/unix=relay unix - - y - - smtp"),
    ("milter_missing", "-P", "submission/inet/smtpd_milters="),
    ("daemon_name_wrong", "-P", "cleanup-bounce/unix/milter_macro_daemon_name=PICKUP"),
    ("notices_not_shown_to_milter", "-e", "internal_mail_filter_classes="),
    ("default_route_misses_the_decision", "-e", "default_transport=smtp"),
    ("transport_by_sender", "-e", "sender_dependent_default_transport_maps=static:pool-normal"),
    ("queue_lifetime_too_short", "-e", "maximal_queue_lifetime=1h"),
]


@pytest.mark.parametrize(("check", "option", "setting"), CHANGES, ids=[change[0] for change in CHANGES])
def test_change_by_postconf_is_found(lab: Lab, check: str, option: str, setting: str):
    with changed(lab, option, setting):
        assert check in found(lab)


def test_leak_that_is_found_is_one(make_lab: Callable[..., Lab]):
    """What the check says of a transport_maps entry is what happens: the mail leaves by another address, undecided."""
    site = Site(
        adapted={"transport_maps": "inline:{example.net=slow:}"},
        adapted_master="slow unix - - y - - smtp\n  -o smtp_bind_address=192.0.2.1\n",
    )
    lab = make_lab(site=site)
    assert list(found(lab)) == ["transport_map_round_the_hop"]
    lab.sendmail("alice@example.org", ["leak@example.net"], b"From: alice@example.org\n\nhello\n")
    (message,) = lab.wait_for(lambda message: "leak@example.net" in message.recipients)
    assert message.source_address == lab.address("192.0.2.1")
