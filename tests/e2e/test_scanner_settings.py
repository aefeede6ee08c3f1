"""What the settings make of what scanners say, beside `hold` and `reject`; and who is told that one is silent."""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mailing import (
    ALICE,
    BOB,
    HIGH_RISK,
    NORMAL,
    RELAY,
    arrived,
    decision,
    fresh,
    from_outside,
    mail,
    notice_to,
    running,
    submit,
)
from scripted_scanner import HAM, SPAM, Behaviour, ScriptedScanner

from deliverypools.adapters.postfix_examples import load_example
from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import Reply
from deliverypools.lab.scanners import RspamdServer
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

BULK = "203.0.113.20"
"""Address of a pool of the operator's own; of those that the lab has, one that is no other pool's."""
POOLS = {"bulk": {"addresses": [BULK], "helo": "bulk.example.org"}}
TRANSPORT = f"""\
pool-bulk unix - - y - - smtp
  -o smtp_bind_address={BULK}
  -o smtp_bind_address6=2001:db8:113::1
  -o smtp_bind_address_enforce=yes
  -o smtp_header_checks=$delivery_pools_smtp_header_checks"""
TAGS = "delivery-pools/tag_checks"
BULK_TAG = "/^X-Delivery-Pool:[[:space:]]*bulk[[:space:]]*$/ FILTER pool-bulk:\n"
MILTER = """
import sys
from deliverypools.adapters.scanning import scanners
from deliverypools.cli.main import main
scanners.SILENT_SECONDS = 0.0
sys.exit(main(["milter", "--config", sys.argv[1]]))
"""
"""A milter to which a scanner has been silent for long as soon as it is silent."""
HEAVY = {
    "actions.conf": "reject = 900; add_header = 800; greylist = null;",
    "headers_group.conf": 'symbols = { "MISSING_SUBJECT" { weight = 7.0; } }',
}
"""rspamd with thresholds that nothing reaches, and a score of 7 for what has no Subject."""
MARKING = {"actions.conf": "reject = 900; add_header = 6; greylist = null;"} | {
    "headers_group.conf": HEAVY["headers_group.conf"]
}


def says(answer: bytes) -> Behaviour:
    return lambda conversation: conversation.say(answer)


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedScanner]:
    with ScriptedScanner(tmp_path_factory.mktemp("scanner")) as scanner:
        yield scanner


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    tags = load_example("hop", str).maps["tag_checks"]
    site = Site(
        virtual={"alias@example.org": "via-alias@example.net"},
        adapted_master=TRANSPORT,
        files={TAGS: BULK_TAG + tags},
    )
    with running(site=site, milter_command=[sys.executable, "-c", MILTER, "{config}"]) as lab:
        yield lab


def configure(lab: Lab, spam: dict[str, Any], **others: Any) -> None:
    """Let the daemons follow these settings of `[spam]`, these others, and no more."""
    lab.write_settings({"limits": {"messages_per_minute": 0}, "pools": POOLS, "spam": spam} | others)
    lab.policy.stop()
    lab.policy.start()
    lab.restart_milter()


@contextlib.contextmanager
def webhook(lab: Lab) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the URL of a webhook in the lab's network, and what it was told."""
    told: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with lab.network.inside():
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", told
        server.shutdown()
        thread.join()


def test_a_silent_scanner_is_told_of_by_mail_and_webhook(lab: Lab, scanner: ScriptedScanner):
    recipient = fresh()

    def alerts() -> list[Any]:
        return [message for message in lab.mailbox("postmaster") if "spamd on mx.example.org" in message["Subject"]]

    with webhook(lab) as (url, told):
        configure(lab, {"spamd": scanner.address}, alerts={"mail_to": ["postmaster@example.org"], "webhook": url})
        with scanner.behaving(None):
            submit(lab, recipient)
            wait_until(lambda: bool(alerts() and told), timeout_seconds=40, what="mail and webhook")
        lab.postfix.flush()
        assert arrived(lab, recipient).source_address in NORMAL
        lab.wait_until_queue_is_empty()
    assert [(one["event"], one["scanner"], one["host"]) for one in told] == [
        ("scanner-down", "spamd", "mx.example.org")
    ]
    (alert,) = alerts()
    assert f"address:   {scanner.address} (spam.spamd)" in alert.get_payload()
    assert "waits (451) and is tried again" in " ".join(alert.get_payload().split())


def test_a_score_leads_to_a_pool_of_ones_own(lab: Lab, scanner: ScriptedScanner):
    configure(lab, {"spamd": scanner.address, "spamd_scores": {"bulk": 3.5, "high-risk": 4.5}})
    for score, addresses in ((b"3.4", NORMAL), (b"3.5", {BULK}), (b"4.4", {BULK}), (b"4.5", HIGH_RISK)):
        recipient = fresh()
        with scanner.behaving(says(HAM.replace(b"-1.0", score))):
            submit(lab, recipient)
            message = arrived(lab, recipient)
        assert message.source_address in addresses, score
        assert ("pool=bulk rule=suspicious " in decision(lab, recipient)) is (BULK in addresses)
        assert b"X-Delivery-Pool" not in message.data


def test_verdicts_beyond_the_ceiling_restrict_the_account_and_copies_are_sent(lab: Lab, scanner: ScriptedScanner):
    configure(
        lab,
        {"spamd": scanner.address, "ceilings": {"verdicts_per_account_per_hour": 1}},
        outbound_policies=[{"name": "default", "over_limit": "restrict", "bcc_suspicious_mail": ["audit@example.com"]}],
    )
    spam = [fresh(), fresh()]
    with scanner.behaving(says(SPAM)):
        for recipient in spam:
            submit(lab, recipient, mail(BOB[0]), auth=BOB)
            assert arrived(lab, recipient).source_address in HIGH_RISK

    def is_refused() -> bool:
        return not lab.send(BOB[0], fresh(), mail(BOB[0]), port=587, auth=BOB).accepted

    wait_until(is_refused, timeout_seconds=30, what="the refusal of what a restricted account sends")
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL
    copies = lab.wait_for(lambda message: "audit@example.com" in message.recipients, count=2, timeout_seconds=30)
    assert {message.header("X-Delivery-Pool-Copy") for message in copies} >= {"spam"}
    assert "alert: account-restricted: bob@example.org: 1 messages found to be spam in an hour" in lab.milter.log()


@pytest.mark.parametrize(("scan", "is_submitted"), [("submitted", True), ("forwarded", False)])
def test_only_one_kind_of_mail_is_scanned(lab: Lab, scanner: ScriptedScanner, scan: str, is_submitted: bool):
    configure(lab, {"spamd": scanner.address, "scan": scan})
    lab.receiver.clear()
    recipient, asked = fresh(), scanner.asked
    with scanner.behaving(says(SPAM)):
        submit(lab, recipient)
        from_outside(lab, "alias@example.org")
        submitted, forwarded = arrived(lab, recipient), arrived(lab, "via-alias@example.net")
    assert submitted.source_address in (HIGH_RISK if is_submitted else NORMAL)
    assert forwarded.source_address in (RELAY if is_submitted else HIGH_RISK)
    assert scanner.asked == asked + 1


def test_what_is_too_large_for_spamd_leaves_by_high_risk_where_the_settings_say_so(lab: Lab, scanner: ScriptedScanner):
    configure(lab, {"spamd": scanner.address, "spamd_size_limit": "5kB", "oversized": "high-risk"})
    small, large, asked = fresh(), fresh(), scanner.asked
    submit(lab, small)
    assert arrived(lab, small).source_address in NORMAL
    assert scanner.asked == asked + 1
    submit(lab, large, mail(body=("x" * 70 + "\r\n") * 100))
    assert arrived(lab, large).source_address in HIGH_RISK
    assert 'rule=unscanned reasons="spamd: not asked about more than 5000 bytes"' in decision(lab, large)
    assert scanner.asked == asked + 1


def test_a_score_of_rspamds_leads_to_high_risk_though_rspamd_itself_calls_it_clean(lab: Lab):
    with RspamdServer(network=lab.network, overrides=HEAVY) as rspamd:
        configure(lab, {"rspamd": rspamd.url, "rspamd_scores": {"high-risk": 6.0}})
        without_subject, ordinary = fresh(), fresh()
        submit(lab, without_subject, mail(Subject=None))
        submit(lab, ordinary)
        assert arrived(lab, without_subject).source_address in HIGH_RISK
        assert arrived(lab, ordinary).source_address in NORMAL
        line = decision(lab, without_subject)
    assert 'pool=high-risk rule=spam reasons="rspamd: no action, score ' in line
    assert "MISSING_SUBJECT 7.0" in line


def test_express_leaves_by_high_risk_at_once_where_the_settings_say_so(scanner: ScriptedScanner):
    spam = {"spamd": scanner.address, "unknown_verdict": "high-risk", "first_pass_timeout_seconds": 2.0}
    with running(profile="express", settings={"spam": spam}) as lab:
        recipients = [fresh(), fresh()]
        for recipient, behaviour in zip(recipients, (None, lambda conversation: conversation.wait(60)), strict=True):
            with scanner.behaving(behaviour):
                assert lab.send(ALICE[0], recipient, mail(), port=587, auth=ALICE).accepted
            assert arrived(lab, recipient).source_address in HIGH_RISK
        assert lab.milter.log().count("pool=high-risk rule=unscanned ") == len(recipients)
        submit(lab, last := fresh())
        assert arrived(lab, last).source_address in NORMAL


def test_what_rspamd_marks_as_a_milter_of_its_own_leaves_by_high_risk(lab: Lab):
    with RspamdServer(is_milter=True, network=lab.network, overrides=MARKING) as rspamd:
        lab.write_settings({"spam": {}})
        lab.restart_milter()
        before = lab.postfix.postconf("-h", "smtpd_milters").strip()
        lab.postfix.set_main({"smtpd_milters": f"inet:127.0.0.1:{rspamd.milter_port}, {before}"})
        try:
            marked, clean = fresh(), fresh()
            submit(lab, marked, mail(Subject=None))
            submit(lab, clean)
            message = arrived(lab, marked)
            assert (message.header("X-Spam"), message.source_address in HIGH_RISK) == ("Yes", True)
            assert arrived(lab, clean).source_address in NORMAL
        finally:
            lab.postfix.set_main({"smtpd_milters": before})


def test_notice_about_a_forward_that_a_scanner_calls_spam_is_dropped(lab: Lab, scanner: ScriptedScanner):
    """It would go to whoever was forged: SPF and DKIM say nothing of example.com."""
    configure(lab, {"spamd": scanner.address}, bounces={"drop_backscatter": True})
    lab.receiver.answer("via-alias@example.net", Reply(552, "5.2.2 Mailbox full"))
    spammer, stranger = fresh(), fresh()
    with scanner.behaving(says(SPAM)):
        from_outside(lab, "alias@example.org", mail(spammer), sender=spammer)
        wait_until(lambda: "the message was spam: spamd" in lab.milter.log(), timeout_seconds=30, what="dropped notice")
    from_outside(lab, "alias@example.org", mail(stranger), sender=stranger)
    assert notice_to(lab, stranger).source_address in HIGH_RISK
    lab.wait_until_queue_is_empty()
    assert not [message for message in lab.messages if spammer in message.recipients]
