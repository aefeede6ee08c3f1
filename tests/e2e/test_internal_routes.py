"""Clients that no pool stands for: what they would leak waits instead, or is named before and shown afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from mailing import arrived, fresh, from_trusted, running
from postfix_command import postfix

from deliverypools.cli.main import main
from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site

FALLBACK = "198.51.100.27"
SCANNER = "scan unix - - y - - smtp\n127.0.0.1:10025 inet n - y - - smtpd\n  -o content_filter=\n"
SITE = Site(
    main={"smtp_fallback_relay": f"[{FALLBACK}]", "content_filter": "scan:[127.0.0.1]:10024"},
    master=SCANNER,
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Provide an installed site with a fallback relay, and a scanner that is down."""
    with running(profile="none", site=SITE) as lab:
        assert postfix(lab, "install").status == 0
        yield lab


def printed(lab: Lab, *arguments: str) -> dict[str, Any]:
    out = io.StringIO()
    with lab.network.inside(), contextlib.redirect_stdout(out):
        main((*arguments, "--json", "--config", str(lab.settings_file)))
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def errors(lab: Lab) -> set[str]:
    found = printed(lab, "check", "--postfix", str(lab.postfix.config_directory), "--dns", "off")["findings"]
    return {one["check"] for one in found if one["severity"] == "error"}


def change(lab: Lab, *settings: str) -> None:
    lab.postfix.postconf("-e", *settings)
    os.utime(lab.postfix.config_directory / "main.cf", (0, 0))  # Postfix waits for files changed within the last second
    lab.postfix.reload()


def waits(lab: Lab) -> None:
    from_trusted(lab, fresh("example.net"))
    lab.postfix.wait_until_deferred()
    assert (lab.messages, lab.postfix.queue_size()) == ([], 1)
    lab.postfix.postsuper("-d", "ALL")


def test_mail_of_a_scanner_that_is_down_waits_and_its_ticket_does_not_leave(lab: Lab):
    assert errors(lab) == set()
    waits(lab)


def test_mail_to_a_server_of_ours_that_is_down_waits(lab: Lab):
    change(lab, "content_filter=", "transport_maps=inline:{example.net=internal:[127.0.0.1]:10099}")
    assert errors(lab) == set()
    waits(lab)


def test_internal_that_leads_outside_is_a_leak_that_check_and_audit_show(lab: Lab):
    change(lab, "content_filter=", "transport_maps=inline:{example.net=internal:}")
    assert errors(lab) == {"internal_takes_mail_outside"}
    recipient = fresh("example.net")
    from_trusted(lab, recipient)
    assert arrived(lab, recipient).source_address == lab.address("192.0.2.1")
    lab.wait_until_queue_is_empty()
    lab.postfix.wait_for_log(rf"postfix/internal/smtp\[\d+\]: \w+: to=<{recipient}>.* status=sent")
    report = printed(lab, "audit", str(lab.postfix.log_file))
    ((what, number),) = report["counts"]["internal_outside"].items()
    assert (what.startswith("example.net at "), number) == (True, 1)
