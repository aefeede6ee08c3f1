"""The audit of what a real Postfix delivered: nothing is found while all is right, and each leak is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from mailing import ALICE, arrived, fresh, from_outside, from_trusted, mail, submit

from deliverypools.cli.main import main
from deliverypools.lab.dns_server import DnsFailure
from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import ACCEPT, DEFER, REFUSE
from deliverypools.lab.waiting import wait_until

SITE = Site(virtual={"alias@example.org": "via-alias@example.net"}, forwards={"games": "via-forward@example.net"})
HOSTILE = '">, relay=x[198.51.100.99]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (x"@example.com'


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Audit what a lab has delivered, once its log is complete; the exit status is compared with what was found."""

    def audit_now(lab: Lab) -> dict[str, Any]:
        capsys.readouterr()
        status = main(["audit", "--json", "--config", str(lab.settings_file), str(lab.postfix.log_file)])
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert status == (1 if report["failures"] or report["problem"] else 0)
        return report

    def audit(lab: Lab, *, queue_is_empty: bool = True) -> dict[str, Any]:
        if queue_is_empty:
            lab.wait_until_queue_is_empty()
            # A queue file is gone before that is in the log.
            wait_until(lambda: audit_now(lab)["without_end"] == 0, timeout_seconds=10, what="end of all queue files")
        report = audit_now(lab)
        assert report["problem"] == ""
        return report

    return audit


def found(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [(one["kind"], one["recipient"], one["decided"], one["transport"]) for one in report["findings"]]


def sent_by(report: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {pool: counts["sent_by"] for pool, counts in report["pools"].items() if counts["sent_by"]}


def test_the_hop_that_is_right(make_lab: Callable[..., Lab], audit: Callable[..., dict[str, Any]]):
    lab = make_lab(site=SITE)
    lab.receiver.answer("later@example.net", DEFER)
    lab.receiver.answer("no@example.net", REFUSE)
    normal, spam, foreign, bounce, sendmail, ndr = (fresh() for _ in range(6))
    submit(lab, [normal, "alice@example.org"], mail(Message_ID=f"<{HOSTILE}>"))
    submit(lab, spam, mail(X_Spam_Flag="YES", X_Delivery_Pool="normal"))
    submit(lab, HOSTILE)
    submit(lab, "later@example.net")
    from_trusted(lab, foreign, sender="carol@elsewhere.example")
    from_trusted(lab, bounce, sender="")
    from_trusted(lab, "no@example.net", sender=ndr)
    from_outside(lab, "alias@example.org")
    from_outside(lab, "games@example.org")
    lab.sendmail("alice@example.org", [sendmail], mail(), user="nobody")
    lab.sendmail("alice@example.org", ["probe@example.net"], mail(), user="nobody", options=["-bv"])
    for recipient in (normal, spam, foreign, bounce, sendmail, ndr, "via-alias@example.net", "via-forward@example.net"):
        arrived(lab, recipient)
    lab.postfix.wait_until_deferred(1)
    lab.postfix.requeue("ALL")
    lab.postfix.wait_until_deferred(1)
    lab.receiver.answer("later@example.net", ACCEPT)
    arrived(lab, "later@example.net")
    report = audit(lab)
    assert found(report) == []
    assert sent_by(report) == {
        "normal": {"pool-normal": 4},
        "high-risk": {"pool-high-risk": 3},
        "relay": {"pool-relay": 3},
    }
    assert report["pools"]["relay"]["statuses"]["bounced"] == 1
    assert report["pools"]["normal"]["statuses"]["deferred"] >= 2
    assert (report["counts"]["requeued"], report["counts"]["probes"], report["without_end"]) == (1, 1, 0)


def test_what_is_refused_and_what_is_undecided_is_no_failure(
    make_lab: Callable[..., Lab], audit: Callable[..., dict[str, Any]]
):
    lab = make_lab(
        site=SITE,
        settings={
            "forwarding": {"unauthenticated_forward": "reject"},
            "milter": {"undecided_after": "1s"},
            "dns": {"servfail_cache_seconds": 0.2},
        },
    )
    lab.dns.fail("elsewhere.example", DnsFailure.SERVFAIL)
    undecided = fresh()
    from_trusted(lab, undecided, sender="carol@elsewhere.example")
    from_outside(lab, "alias@example.org", sender="erin@strict.example")
    lab.postfix.wait_for_log(r"postfix/error\[\d+\]: \w+: to=<via-alias@example.net>.*status=bounced")
    arrived(lab, undecided)
    report = audit(lab)
    assert (found(report), report["pools"]["refused"]["statuses"]) == ([], {"bounced": 1})
    # The other one is the notice to the alias.
    assert (report["counts"]["undecided"], sent_by(report)) == (1, {"high-risk": {"pool-high-risk": 2}})


def tag_checks(lab: Lab, old: str, new: str) -> None:
    path = lab.postfix.config_directory / "delivery-pools/tag_checks"
    text = path.read_text()
    assert old in text
    path.unlink()
    path.write_text(text.replace(old, new))
    lab.postfix.reload()


def transport_maps(lab: Lab, transport: str) -> None:
    lab.postfix.set_main({"transport_maps": f"inline:{{example.com={transport}}}"})


def plain_smtp(lab: Lab) -> None:
    lab.postfix.postconf("-M", "smtp/unix=smtp unix - - y - - smtp")
    transport_maps(lab, "smtp:")


def route_of_the_site(lab: Lab) -> None:
    options = "-o syslog_name=postfix/$service_name"
    lab.postfix.postconf("-M", f"partner/unix=partner unix - - y - - smtp {options}")
    transport_maps(lab, "partner:")


def route_to_another_pool(lab: Lab) -> None:
    transport_maps(lab, "pool-relay:")


def filter_to_another_transport(lab: Lab) -> None:
    tag_checks(lab, "FILTER pool-normal:", "FILTER pool-relay:")


def filter_without_colon(lab: Lab) -> None:
    tag_checks(lab, "FILTER pool-normal:", "FILTER pool-normal")


def listener_without_milter(lab: Lab) -> None:
    lab.postfix.postconf("-P", "127.0.0.1:10027/inet/smtpd_milters=")
    lab.postfix.reload()


def hop_client_led_astray(lab: Lab) -> None:
    lab.postfix.postconf("-P", "egress/unix/smtp_bind_address=", "egress/unix/smtp_bind_address_enforce=no")
    transport_maps(lab, "egress:[198.51.100.25]:25")


def probes_by_smtp(lab: Lab) -> None:
    plain_smtp(lab)
    lab.sendmail("alice@example.org", ["probe@example.com"], mail(), user="nobody", options=["-bv"])
    lab.postfix.wait_for_log(r"to=<probe@example.com>.*status=deliverable")


@pytest.mark.parametrize(
    ("break_it", "kind", "decided", "transport"),
    [
        (plain_smtp, "tripwire_delivered", "", "smtp"),
        (route_of_the_site, "outside_pools", "", "partner"),
        (route_to_another_pool, "no_decision", "", "pool-relay"),
        (filter_to_another_transport, "wrong_pool", "normal", "pool-relay"),
        (filter_without_colon, "wrong_pool", "normal", "pool-high-risk"),
        (listener_without_milter, "no_decision", "", "pool-high-risk"),
        (hop_client_led_astray, "hop_client_astray", "", "egress"),
        (probes_by_smtp, "probe_outside_pools", "", "smtp"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_leak_is_found(
    *,
    make_lab: Callable[..., Lab],
    audit: Callable[..., dict[str, Any]],
    break_it: Callable[[Lab], None],
    kind: str,
    decided: str,
    transport: str,
):
    lab = make_lab()
    before = fresh("example.net")
    submit(lab, before)
    arrived(lab, before)
    assert found(audit(lab)) == []
    break_it(lab)
    recipient = fresh("example.com")
    if break_it is probes_by_smtp:
        recipient = "probe@example.com"
    else:
        submit(lab, recipient)
        arrived(lab, recipient)
    assert (kind, recipient, decided, transport) in found(audit(lab))
    assert len(found(audit(lab))) == 1


def test_mail_that_a_tripwire_stops_is_no_failure(make_lab: Callable[..., Lab], audit: Callable[..., dict[str, Any]]):
    lab = make_lab()
    transport_maps(lab, "smtp:")
    submit(lab, fresh("example.com"))
    lab.postfix.wait_for_log(r"relay=smtp, .*status=deferred.*tripwire")
    report = audit(lab, queue_is_empty=False)
    assert (found(report), lab.messages) == ([], [])
    assert report["counts"]["caught"] >= 1


def test_express(make_lab: Callable[..., Lab], audit: Callable[..., dict[str, Any]]):
    lab = make_lab(profile="express")
    lab.receiver.answer("later@example.net", DEFER)
    normal, spam = fresh(), fresh()
    submit(lab, normal)
    submit(lab, spam, mail(X_Spam_Flag="YES"))
    from_trusted(lab, "later@example.net", sender="carol@elsewhere.example")
    for _ in range(2):
        lab.postfix.wait_until_deferred(1)
        lab.postfix.requeue("ALL")
    lab.postfix.wait_until_deferred(1)
    lab.receiver.answer("later@example.net", ACCEPT)
    for recipient in (normal, spam, "later@example.net"):
        arrived(lab, recipient)
    report = audit(lab)
    assert found(report) == []
    assert report["counts"]["requeued"] == 2
    assert sent_by(report) == {
        "normal": {"pool-normal": 1},
        "high-risk": {"pool-high-risk": 1},
        "relay": {"pool-relay": 1},
    }
    lab.postfix.set_main({"milter_header_checks": ""})
    untagged = fresh()
    submit(lab, untagged, auth=ALICE)
    arrived(lab, untagged)
    assert found(audit(lab)) == [("wrong_pool", untagged, "normal", "pool-high-risk")]


def test_the_log_of_a_lab_is_read_to_its_last_line(make_lab: Callable[..., Lab], audit: Callable[..., dict[str, Any]]):
    lab = make_lab()
    recipient = fresh()
    submit(lab, recipient)
    arrived(lab, recipient)
    before = len(lab.postfix.log().splitlines())
    counts = audit(lab)["counts"]
    assert before <= counts["lines"] <= len(lab.postfix.log().splitlines())
    assert counts["not_understood"] == 0
