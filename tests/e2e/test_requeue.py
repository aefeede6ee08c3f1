"""A requeue is a re-decision, and ends in the same pool unless something has really changed."""

from __future__ import annotations

from collections.abc import Callable

from mailing import HIGH_RISK, NORMAL, RELAY, arrived, fresh, from_outside, from_trusted, mail, submit

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import ACCEPT, DEFER

SITE = Site(
    virtual={"alias@example.org": "deferred-alias@example.net"},
    forwards={"games": "deferred-forward@example.net"},
)


def deferred_mail_of_all_kinds(lab: Lab) -> dict[str, set[str]]:
    """Send mail of every kind to a server that defers it; return the addresses each recipient must see."""
    kinds = {name: fresh("example.net") for name in ("normal", "spam", "dsn", "limit", "foreign", "bare", "sendmail")}
    lab.receiver.answer("example.net", DEFER)
    submit(lab, kinds["normal"])
    submit(lab, kinds["spam"], mail(X_Spam_Flag="YES"))
    from_trusted(lab, kinds["dsn"], sender="")
    submit(lab, [kinds["limit"], *(fresh("example.net") for _ in range(20))])
    from_trusted(lab, kinds["foreign"], sender="carol@elsewhere.example")
    from_trusted(lab, kinds["bare"], sender="carol@bare.example")
    lab.sendmail("alice@example.org", [kinds["sendmail"]], mail(), user="nobody")
    from_outside(lab, "alias@example.org")
    from_outside(lab, "games@example.org")
    lab.postfix.wait_until_deferred(9)
    return {
        kinds["normal"]: NORMAL,
        kinds["spam"]: HIGH_RISK,
        kinds["dsn"]: HIGH_RISK,
        kinds["limit"]: HIGH_RISK,
        kinds["foreign"]: RELAY,
        kinds["bare"]: HIGH_RISK,
        kinds["sendmail"]: NORMAL,
        "deferred-alias@example.net": RELAY,
        "deferred-forward@example.net": RELAY,
    }


def test_requeue_of_all_deferred_mail_keeps_every_message_in_its_pool(make_lab: Callable[..., Lab]):
    lab = make_lab(site=SITE, settings={"limits": {"recipients_per_day": 20}})
    expected = deferred_mail_of_all_kinds(lab)
    for _ in range(2):
        lab.postfix.requeue("ALL")
        lab.postfix.wait_until_deferred(9)
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.requeue("ALL")
    seen = {recipient: arrived(lab, recipient, seconds=60).source_address for recipient in expected}
    lab.postfix.wait_until_queue_is_empty()
    assert {recipient: address in expected[recipient] for recipient, address in seen.items()} == dict.fromkeys(
        expected, True
    ), seen
    tried = {(address, recipient) for address, recipient in lab.receiver.not_accepted if recipient in expected}
    assert all(address in expected[recipient] for address, recipient in tried), "also while it was deferred"
    arrivals = [recipient for message in lab.messages for recipient in message.recipients]
    assert len(arrivals) == len(set(arrivals)), "each exactly once"


def test_requeue_while_the_milter_is_down_waits_for_it(make_lab: Callable[..., Lab]):
    lab = make_lab()
    recipient = fresh("example.net")
    lab.receiver.answer("example.net", DEFER)
    submit(lab, recipient, mail(X_Spam_Flag="YES"))
    lab.postfix.wait_until_deferred(1)
    lab.kill_milter()
    lab.postfix.requeue("ALL")
    lab.postfix.wait_for_log(r"postfix/egress/smtp.*status=deferred")
    lab.receiver.answer("example.net", ACCEPT)
    lab.milter.start()
    assert arrived(lab, recipient).source_address in HIGH_RISK


def test_requeue_of_held_mail_and_a_hold_keep_the_pool(make_lab: Callable[..., Lab]):
    lab = make_lab()
    recipient = fresh("example.net")
    lab.receiver.answer("example.net", DEFER)
    submit(lab, recipient, mail(X_Spam_Flag="YES"))
    lab.postfix.wait_until_deferred(1)
    lab.postfix.postsuper("-h", "ALL")
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.postsuper("-H", "ALL")
    assert arrived(lab, recipient).source_address in HIGH_RISK
