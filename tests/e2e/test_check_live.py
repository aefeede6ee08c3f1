"""`check --live` through the Postfix of the lab: what receivers would see of each transport, right and wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator

import pytest

from deliverypools.cli.main import main
from deliverypools.lab.lab import Lab

PROBES = [
    (f"pool-{pool}", family, address, helo)
    for pool, host, helo in (("normal", 10, "mail"), ("high-risk", 20, "mail-high-risk"), ("relay", 30, "mail-relay"))
    for family, address in ((4, f"192.0.2.{host}"), (6, f"2001:db8::{host}"))
]


def expected() -> set[tuple[object, ...]]:
    return {(transport, family, address, f"{helo}.example.org") for transport, family, address, helo in PROBES}


def shown(found: dict[tuple[str, int], dict[str, object]]) -> set[tuple[object, ...]]:
    return {(transport, family, one["source_address"], one["helo"]) for (transport, family), one in found.items()}


def live(lab: Lab, *options: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    arguments = ("check", "--live", "--config", str(lab.settings_file))
    with lab.network.inside(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main((*arguments, "--postfix", str(lab.postfix.config_directory), *options))
    return status, out.getvalue(), err.getvalue()


def probed(lab: Lab) -> tuple[int, dict[tuple[str, int], dict[str, object]]]:
    status, out, err = live(lab, "--json")
    assert err == ""
    return status, {(one["transport"], one["family"]): one for one in json.loads(out)["probes"]}


@contextlib.contextmanager
def changed(lab: Lab, option: str, *settings: str) -> Iterator[None]:
    """Change main.cf (-e) or master.cf (-P) of the running Postfix while the context lasts."""
    files = [lab.postfix.config_directory / name for name in ("main.cf", "master.cf")]
    before = [path.read_bytes() for path in files]
    lab.postfix.postconf(option, *settings)
    settle(lab)
    try:
        yield
    finally:
        for path, content in zip(files, before, strict=True):
            path.write_bytes(content)
        settle(lab)


def settle(lab: Lab) -> None:
    for name in ("main.cf", "master.cf"):
        os.utime(lab.postfix.config_directory / name, (0, 0))  # Postfix waits for files changed within the last second
    lab.postfix.reload()


def test_every_transport_shows_its_address_and_name(lab: Lab):
    status, found = probed(lab)
    assert (status, shown(found)) == (0, expected())
    assert {one["verdict"] for one in found.values()} == {"right"}
    assert lab.postfix.queue_size() == 0
    assert lab.messages == []


def test_express(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="express")
    status, found = probed(lab)
    assert (status, shown(found)) == (0, expected())
    with changed(lab, "-P", "pool-relay/unix/smtp_bind_address=192.0.2.10"):
        status, found = probed(lab)
    assert (status, found["pool-relay", 4]["verdict"]) == (1, "wrong address")


def test_table_for_people(lab: Lab):
    status, out, err = live(lab)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split("  ")[0] == "transport"
    assert [line.split()[:4] for line in lines[1:-1]] == [
        [transport, f"v{family}", address, f"{helo}.example.org"] for transport, family, address, helo in PROBES
    ]
    assert lines[-1] == "all 6 probes went right"


def test_a_transport_with_the_address_of_another_pool(lab: Lab):
    with changed(lab, "-P", "pool-relay/unix/smtp_bind_address=192.0.2.10"):
        status, found = probed(lab)
    assert status == 1
    wrong = found.pop(("pool-relay", 4))
    assert (wrong["verdict"], wrong["source_address"], wrong["expected_address"]) == (
        "wrong address",
        "192.0.2.10",
        "192.0.2.30",
    )
    assert {one["verdict"] for one in found.values()} == {"right"}


def test_an_address_that_is_not_here_shows_the_leak_of_a_transport_that_does_not_enforce(lab: Lab):
    options = ("pool-relay/unix/smtp_bind_address=192.0.2.77", "pool-relay/unix/smtp_bind_address_enforce=no")
    with changed(lab, "-P", *options):
        _, found = probed(lab)
    wrong = found["pool-relay", 4]
    assert (wrong["verdict"], wrong["source_address"]) == ("wrong address", "127.0.0.1")


def test_an_address_that_is_not_here_and_enforced_sends_nothing(lab: Lab):
    with changed(lab, "-P", "pool-relay/unix/smtp_bind_address=192.0.2.77"):
        status, found = probed(lab)
    assert status == 1
    missing = found["pool-relay", 4]
    assert (missing["verdict"], missing["source_address"]) == ("did not come", None)
    assert "server configuration error" in str(missing["reason"])
    assert lab.postfix.queue_size() == 0


def test_another_name_in_helo(lab: Lab):
    with changed(lab, "-P", "pool-normal/unix/smtp_helo_name=other.example.org"):
        status, found = probed(lab)
    assert status == 1
    assert {(one["verdict"], one["helo"]) for (name, _), one in found.items() if name == "pool-normal"} == {
        ("wrong HELO name", "other.example.org")
    }


def test_our_headers_on_the_wire(lab: Lab):
    with changed(lab, "-P", "pool-normal/unix/smtp_header_checks="):
        status, found = probed(lab)
    assert status == 1
    one = found["pool-normal", 4]
    assert (one["verdict"], one["source_address"]) == ("our headers left", "192.0.2.10")
    assert "X-Delivery-Pool" in str(one["reason"])
    assert found["pool-relay", 4]["verdict"] == "right"


def test_tls_that_the_site_demands_of_all_servers(lab: Lab):
    with changed(lab, "-e", "smtp_tls_security_level=encrypt"):
        status, found = probed(lab)
    assert (status, {one["verdict"] for one in found.values()}) == (0, {"right"})


def test_tls_from_the_first_byte_as_a_smarthost_on_port_465_wants_it(lab: Lab):
    with changed(lab, "-e", "smtp_tls_wrappermode=yes", "smtp_tls_security_level=encrypt"):
        status, found = probed(lab)
    assert (status, shown(found)) == (0, expected())
    assert {one["verdict"] for one in found.values()} == {"right"}


@pytest.mark.parametrize(
    "setting", ["always_bcc=archive@example.net", "recipient_bcc_maps=regexp:{{/./ archive@example.net}}"]
)
def test_no_probe_is_sent_where_a_copy_would_go_outside(lab: Lab, setting: str):
    with changed(lab, "-e", setting):
        status, out, err = live(lab)
    assert (status, out) == (1, "")
    assert err.startswith("no probe was sent\nwarning: probes_are_copied: ")
    assert "archive@example.net" in err
    assert (lab.messages, lab.postfix.queue_size()) == ([], 0)


def test_an_archive_here_gets_its_copies(lab: Lab):
    with changed(lab, "-e", "always_bcc=alice@example.org"):
        status, found = probed(lab)
    assert (status, {one["verdict"] for one in found.values()}) == (0, {"right"})
    assert (lab.messages, lab.postfix.queue()) == ([], [])


def test_root_may_not_send(make_lab: Callable[..., Lab]):
    lab = make_lab()  # its own: sendmail(1) leaves half a file in the maildrop
    for setting in (
        "authorized_submit_users=inline:{alice=ok}",
        "local_login_sender_maps=inline:{alice=x@example.org}",
    ):
        with changed(lab, "-e", setting):
            status, out, err = live(lab)
        assert (status, out) == (1, "")
        assert setting.replace("=", " = ", 1) in err


def test_a_delivery_that_is_not_completed_still_shows_the_address(lab: Lab):
    with changed(lab, "-e", "smtp_tls_security_level=secure"):
        status, found = probed(lab)
    assert status == 1
    one = found["pool-high-risk", 4]
    assert (one["verdict"], one["source_address"]) == ("not delivered", "192.0.2.20")
    assert "certificate" in str(one["reason"]).lower()
    assert lab.postfix.queue_size() == 0


def test_a_pool_without_ipv6_leaks_by_the_default_address(lab: Lab):
    """As docs/checks.md says of pool_without_address: here it is seen."""
    lab.write_settings({"pools": {"relay": {"addresses": ["192.0.2.30"]}}})
    try:
        with changed(lab, "-PX", "pool-relay/unix/smtp_bind_address6"):
            status, found = probed(lab)
    finally:
        lab.write_settings({})
    leak = found["pool-relay", 6]
    assert (status, leak["verdict"], leak["expected_address"], leak["source_address"]) == (
        1,
        "wrong address",
        None,
        "2001:db8::1",
    )


def test_a_pool_without_ipv6_that_sends_nothing_by_it(lab: Lab):
    lab.write_settings({"pools": {"relay": {"addresses": ["192.0.2.30"]}}})
    own = ("pool-relay/unix/inet_protocols=ipv4", "pool-relay/unix/inet_interfaces=192.0.2.30")
    try:
        with changed(lab, "-P", *own):
            status, found = probed(lab)
            assert (status, found["pool-relay", 6]["verdict"]) == (0, "right")
            lab.milter.stop()
            status, found = probed(lab)
            assert (status, found["pool-relay", 6]["verdict"]) == (1, "not tested")
    finally:
        lab.milter.start()
        lab.write_settings({})


def test_not_set_up(make_lab: Callable[..., Lab]):
    status, out, err = live(make_lab(profile="none"))
    assert (status, out) == (1, "")
    assert err.startswith("no probe was sent\nwarning: postfix_not_set_up")
    assert "delivery-pools postfix install" in err


def test_every_address_of_a_pool_has_its_transport(make_lab: Callable[..., Lab]):
    lab = make_lab(settings={"pools": {"normal": {"addresses": ["192.0.2.10", "192.0.2.1", "2001:db8::10"]}}})
    second = lab.postfix.config_directory / "master.cf"
    entry = second.read_text().partition("\npool-normal ")[2].partition("\npool-")[0]
    entry = entry.replace("192.0.2.10", "192.0.2.1")
    second.write_text(f"{second.read_text()}\npool-normal-2 {entry}\n")
    rules = lab.postfix.config_directory / "delivery-pools" / "tag_checks"
    of_first = [line for line in rules.read_text().splitlines() if "normal" in line and line.startswith("/")]
    of_second = [
        line.replace("*normal", "*normal[[:space:]]+2").replace("pool-normal:", "pool-normal-2:") for line in of_first
    ]
    rules.write_text("\n".join([*of_second, rules.read_text()]))
    os.utime(rules, (0, 0))
    lab.postfix.wait_for_log("daemon started")  # before that, a reload is not heard
    settle(lab)
    status, found = probed(lab)
    assert status == 0
    assert {name: one["source_address"] for (name, family), one in found.items() if family == 4} == {
        "pool-normal": "192.0.2.10",
        "pool-normal-2": "192.0.2.1",
        "pool-high-risk": "192.0.2.20",
        "pool-relay": "192.0.2.30",
    }


def test_other_mail_in_the_queue_stays(lab: Lab):
    with changed(lab, "-e", "defer_transports=pool-normal"):
        lab.sendmail("alice@example.org", ["waits@example.com"], b"From: alice@example.org\nSubject: waits\n\nx\n")
        lab.postfix.wait_until_deferred()
        status, found = probed(lab)
        assert status == 1
        assert found["pool-normal", 4]["verdict"] == "paused by defer_transports"
        assert found["pool-relay", 4]["verdict"] == "right"
        assert [one["address"] for message in lab.postfix.queue() for one in message["recipients"]] == [
            "waits@example.com"
        ]
        lab.postfix.postsuper("-d", "ALL")


def test_the_milter_is_down(lab: Lab):
    lab.milter.stop()
    try:
        status, found = probed(lab)
    finally:
        lab.milter.start()
    assert status == 1
    assert {one["verdict"] for one in found.values()} == {"did not come"}
    assert all("systemctl status delivery-pools-milter" in str(one["reason"]) for one in found.values())
    assert lab.postfix.queue_size() == 0


def test_without_the_keys(lab: Lab):
    keys = lab.directory / "ticket.keys"
    keys.rename(lab.directory / "moved.keys")
    try:
        status, out, err = live(lab)
    finally:
        (lab.directory / "moved.keys").rename(keys)
    assert (status, out) == (1, "")
    assert err.startswith("check --live needs the ticket keys: ")
