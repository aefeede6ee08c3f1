"""docs/failures.md, proved: DNS, the scanner and the clock fail, and sendmail(1) for our own mail."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from breakages import RECIPIENTS_PER_MESSAGE, clock_jumps, dns_fails, sendmail_missing
from failure_mail import SETTINGS, SITE, Mail
from scripted_scanner import ScriptedScanner

from deliverypools.lab.dns_failures import DnsFailure
from deliverypools.lab.lab import Lab
from deliverypools.lab.settings_file import merged
from deliverypools.lab.waiting import wait_until

BREAKAGES: dict[str, Callable[[Lab], contextlib.AbstractContextManager[None]]] = {
    "dns_silent": lambda lab: dns_fails(lab, DnsFailure.TIMEOUT, "."),
    "dns_of_senders_fails": lambda lab: dns_fails(lab, DnsFailure.SERVFAIL, "example.org", "signed.example"),
}
SCANNERS: dict[str, Callable[[ScriptedScanner], contextlib.AbstractContextManager[None]]] = {
    "scanner_down": lambda scanner: scanner.behaving(None),
    "scanner_hung": lambda scanner: scanner.behaving(lambda conversation: conversation.wait(60)),
}
HOUR = 3600.0
CLOCKS = {
    "clock_two_days_ahead": 48 * HOUR,
    "clock_an_hour_behind": -HOUR,
    "clock_sixty_days_ahead": 60 * 24 * HOUR,
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_dns(make_lab: Callable[..., Lab], name: str):
    lab = make_lab(site=SITE, settings=SETTINGS)
    Mail(lab).meet(name, BREAKAGES[name](lab))


@pytest.mark.parametrize("name", SCANNERS)
def test_the_scanner(make_lab: Callable[..., Lab], tmp_path: Path, name: str):
    tmp_path.chmod(0o755)
    with ScriptedScanner(tmp_path) as scanner:
        spam = {"spamd": scanner.address, "timeout_seconds": 1.0, "first_pass_timeout_seconds": 1.0}
        lab = make_lab(site=SITE, settings=merged(SETTINGS, {"spam": spam}))
        Mail(lab).meet(name, SCANNERS[name](scanner))


@pytest.mark.parametrize("name", CLOCKS)
def test_the_clock(make_lab: Callable[..., Lab], tmp_path: Path, name: str):
    shift = tmp_path / "shift"
    shift.write_text("0")
    program = [sys.executable, str(Path(__file__).with_name("shifted_clock.py")), str(shift)]
    lab = make_lab(
        site=SITE,
        settings=SETTINGS,
        milter_command=[*program, "milter", "--config", "{config}"],
        policy_command=[*program, "policy", "--config", "{config}"],
    )
    Mail(lab).meet(name, clock_jumps(shift, CLOCKS[name]))


def test_no_sendmail_for_alerts(make_lab: Callable[..., Lab]):
    def settings(sendmail: str) -> dict[str, Any]:
        alerts = {"mail_to": ["postmaster@example.org"], "sendmail": sendmail}
        limits = {"recipients_per_message": RECIPIENTS_PER_MESSAGE}
        return merged(SETTINGS, {"limits": limits, "alerts": alerts})

    def alerted() -> bool:
        return any("is over its limit" in str(message["Subject"]) for message in lab.mailbox("postmaster"))

    lab = make_lab(site=SITE, settings=settings("/nonexistent/sendmail"))
    Mail(lab).meet("sendmail_missing", sendmail_missing(lab, settings("/usr/sbin/sendmail")))
    wait_until(alerted, timeout_seconds=60, what="the alert")
