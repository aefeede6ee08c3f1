"""`postfix uninstall` while mail of ours is queued: nothing is lost, and nothing of ours is on the wire."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from mailing import HIGH_RISK, NORMAL, arrived, from_trusted, mail, submit
from postfix_command import configuration, folder, postfix

from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import ACCEPT, DEFER
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

SITE = "192.0.2.1"
DELAYED = {"minimal_backoff_time": "600s", "maximal_backoff_time": "600s", "default_process_limit": "50"}
"""What is deferred stays so until the queue is flushed: a reload puts off what is being delivered at that moment."""
OURS = re.compile(rb"(?im)^X-Delivery-Pool|^\s+\.dp\.")


def clean(lab: Lab) -> bool:
    """Whether nothing of ours was on the wire, in no header and in no returned message."""
    return not any(OURS.search(message.data) for message in lab.messages)


def installed(make_lab: Callable[..., Lab], **arguments: object) -> Lab:
    lab = make_lab(profile="none", **arguments)
    answer = postfix(lab, "install")
    assert answer.status == 0, answer
    return lab


def test_queued_mail_leaves_by_its_pool_and_then_everything_goes(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED | {"smtp_header_checks": "regexp:{{/^X-Site:/ IGNORE}}"}))
    before, names = configuration(lab), folder(lab)
    assert postfix(lab, "install").status == 0
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "queued@example.net", mail(X_Site="secret"))
    lab.send("", ["notice@example.net"], mail(sender="mailer-daemon@example.org"), client_address="127.0.0.1")
    lab.postfix.wait_until_deferred(2)
    answer = postfix(lab, "uninstall", "--json")
    assert (answer.status, answer.json["uninstalled"], answer.json["queued"]) == (0, False, 2), answer
    # New mail leaves as it did before there were pools, while the old is still there.
    submit(lab, "new@example.com", mail(X_Site="secret"))
    new = arrived(lab, "new@example.com")
    assert (new.source_address, new.header("X-Site")) == (SITE, None)
    again = postfix(lab, "uninstall", "--json")
    assert (again.status, again.json["queued"]) == (0, 2)
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    waited = postfix(lab, "uninstall", "--wait", "60s", "--json")
    assert (waited.status, waited.json["uninstalled"]) == (0, True), waited
    assert arrived(lab, "queued@example.net").source_address in NORMAL
    assert arrived(lab, "queued@example.net").header("X-Site") is None
    assert arrived(lab, "notice@example.net").source_address in HIGH_RISK
    assert clean(lab)
    assert configuration(lab) == before
    assert folder(lab) == names


def test_mail_that_waits_for_the_milter_leaves_without_its_ticket(make_lab: Callable[..., Lab]):
    """First-pass mail, which no pool has taken yet, is routed as before; its ticket must not show."""
    lab = make_lab(
        profile="none", site=Site(main=DELAYED | {"smtp_nested_header_checks": "regexp:{{/^X-Site:/ IGNORE}}"})
    )
    before = configuration(lab)
    assert postfix(lab, "install").status == 0
    lab.postfix.set_main({"defer_transports": "egress"})
    submit(lab, "waits@example.net")
    lab.postfix.wait_until_deferred(1)
    lab.receiver.answer("example.net", DEFER)
    answer = postfix(lab, "uninstall", "--json")
    assert answer.json["queued"] == 1, answer
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    assert postfix(lab, "uninstall", "--wait", "60s", "--json").json["uninstalled"]
    assert arrived(lab, "waits@example.net").source_address == SITE
    assert clean(lab)
    # It was set since, by hand: it stays.
    assert b"defer_transports = egress" in configuration(lab)[0]
    assert configuration(lab)[1] == before[1]


def test_requeue_routes_deferred_mail_anew_and_leaves_what_is_on_hold(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED | {"always_bcc": "archive@example.com"}))
    before = configuration(lab)
    assert postfix(lab, "install").status == 0
    lab.receiver.answer("example.net", DEFER)
    for number in range(3):
        submit(lab, f"requeued{number}@example.net")
    submit(lab, "held@example.net")
    lab.postfix.wait_until_deferred(4)
    (held,) = (one["queue_id"] for one in lab.postfix.queue() if one["recipients"][0]["address"] == "held@example.net")
    lab.postfix.postsuper("-h", held)
    answer = postfix(lab, "uninstall", "--requeue", "--json")
    assert answer.status == 0, answer
    assert (answer.json["requeued"], answer.json["queued"], answer.json["on_hold"]) == (3, 1, 1)
    assert "postsuper -H" in answer.json["text"]
    assert answer.json["copied_again"] == {"always_bcc": 3}
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.wait_until_deferred(3)
    lab.postfix.flush()
    for number in range(3):
        assert arrived(lab, f"requeued{number}@example.net").source_address == SITE
    wait_until(lambda: len(lab.postfix.queue()) == 1, timeout_seconds=20, what="end of the delivery")
    assert sum("archive@example.com" in message.recipients for message in lab.messages) == 4 + 3
    assert [one["queue_name"] for one in lab.postfix.queue()] == ["hold"]
    lab.postfix.postsuper("-H", held)
    lab.postfix.flush()
    assert arrived(lab, "held@example.net").source_address in NORMAL
    assert postfix(lab, "uninstall", "--wait", "30s", "--json").json["uninstalled"]
    assert clean(lab)
    assert configuration(lab) == before


def test_notice_about_our_mail_returns_it_without_our_headers(make_lab: Callable[..., Lab]):
    """What expires while we leave is returned by a Postfix that shows its notices to no milter any more."""
    lab = make_lab(profile="none", site=Site(main=DELAYED))
    assert postfix(lab, "install").status == 0
    lab.receiver.answer("example.net", DEFER)
    from_trusted(lab, "expires@example.net", sender="writer@example.com")
    lab.postfix.wait_until_deferred(1)
    assert postfix(lab, "uninstall", "--json").json["queued"] == 1
    (queue_id,) = (one["queue_id"] for one in lab.postfix.queue())
    lab.postfix.postsuper("-e", queue_id)
    lab.postfix.flush()
    notice = arrived(lab, "writer@example.com")
    assert b"expires@example.net" in notice.data
    assert clean(lab)
    assert postfix(lab, "uninstall", "--wait", "30s", "--json").json["uninstalled"]


def test_five_hundred_deferred_messages_across_install_and_uninstall(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED))
    before = configuration(lab)
    lab.receiver.answer("example.net", DEFER)
    wanted = [f"deferred{number}@example.net" for number in range(500)]
    queue_all(lab, wanted[:250])
    answer = postfix(lab, "install", "--json")
    assert answer.status == 0, answer
    assert answer.json["noted"] >= 250
    queue_all(lab, wanted[250:])
    assert postfix(lab, "uninstall", "--json").json["uninstalled"] is False
    lab.receiver.answer("example.net", ACCEPT)
    wait_until(lambda: is_uninstalled_after_a_flush(lab), timeout_seconds=200, what="end of the second phase")
    lab.wait_until_queue_is_empty(60)
    got = Counter(recipient for message in lab.messages for recipient in message.recipients)
    assert got == Counter(wanted)
    assert clean(lab)
    assert configuration(lab) == before


def is_uninstalled_after_a_flush(lab: Lab) -> bool:
    lab.postfix.flush()
    return bool(postfix(lab, "uninstall", "--wait", "10s", "--json").json["uninstalled"])


def queue_all(lab: Lab, recipients: list[str]) -> None:
    with lab.session(client_address="127.0.0.1") as smtp:
        for recipient in recipients:
            smtp.sendmail("alice@example.org", [recipient], mail())
    lab.postfix.wait_until_deferred(len(recipients), 120)
