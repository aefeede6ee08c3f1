"""Mail that was queued before the installation has no ticket; it is decided from what its header shows, and at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from mailing import HIGH_RISK, NORMAL, RELAY, arrived, fresh, from_outside, from_trusted, mail, submit

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.restrictions import Restriction
from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import ACCEPT, REFUSE

HOST = "mx.example.org"
SITE = Site(
    main={"smtpd_sasl_authenticated_header": "yes"},
    virtual={"alias@example.org": "pre-alias@example.net"},
    forwards={"games": "pre-forward@example.net"},
)
BEFORE = {
    "smtpd_milters": "",
    "non_smtpd_milters": "",
    "smtpd_sender_restrictions": "",
    "smtpd_end_of_data_restrictions": "",
    "recipient_canonical_maps": "",
}


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(site=SITE, settings={"limits": {"recipients_per_day": 2}})


def queue_before(lab: Lab) -> dict[str, set[str]]:
    """Queue mail of every kind while Postfix does not know the milter; return by what each recipient is reached."""
    old = {name: lab.postfix.postconf("-h", name).strip() for name in BEFORE}
    lab.postfix.set_main(BEFORE)
    lab.kill_milter()
    kinds = {name: fresh("example.net") for name in ("submission", "spam", "trusted", "foreign", "sendmail", "null")}
    submit(lab, kinds["submission"])
    submit(lab, kinds["spam"], mail(X_Spam_Flag="YES"))
    from_trusted(lab, kinds["trusted"])
    from_trusted(lab, kinds["foreign"], sender="carol@elsewhere.example")
    from_trusted(lab, kinds["null"], sender="")
    lab.sendmail("alice@example.org", [kinds["sendmail"]], mail(), user="nobody")
    from_outside(lab, "alias@example.org")
    from_outside(lab, "games@example.org")
    lab.postfix.wait_until_deferred(8)
    lab.postfix.set_main(old)
    lab.milter.start()
    return {
        kinds["submission"]: NORMAL,
        kinds["spam"]: HIGH_RISK,
        kinds["trusted"]: NORMAL,
        kinds["foreign"]: RELAY,
        kinds["null"]: HIGH_RISK,
        kinds["sendmail"]: NORMAL,
        "pre-alias@example.net": RELAY,
        "pre-forward@example.net": RELAY,
    }


def state_of(lab: Lab) -> SQLiteState:
    return SQLiteState(str(lab.directory / "state.db"), time.time)


def remember_the_queue(lab: Lab) -> None:
    state_of(lab).remember_queued(HOST, [entry["queue_id"] for entry in lab.postfix.queue()])


def test_every_kind_leaves_by_its_pool_at_once(lab: Lab):
    expected = queue_before(lab)
    remember_the_queue(lab)
    lab.postfix.flush()
    messages = {recipient: arrived(lab, recipient) for recipient in expected}
    seen = {recipient: message.source_address in expected[recipient] for recipient, message in messages.items()}
    assert seen == dict.fromkeys(expected, True), {r: m.source_address for r, m in messages.items()}
    assert all(b"X-Delivery-Pool" not in message.data for message in messages.values())
    lab.wait_until_queue_is_empty()
    decided = [line for line in lab.milter.log().splitlines() if "pass=egress" in line and "pre-install" in line]
    assert len(decided) == 8


def test_it_is_charged_to_nobody(lab: Lab):
    expected = queue_before(lab)
    remember_the_queue(lab)
    lab.postfix.flush()
    for recipient in expected:
        arrived(lab, recipient)
    recipients = [fresh() for _ in range(3)]
    for recipient in recipients:
        submit(lab, recipient)
    assert [arrived(lab, one).source_address in NORMAL for one in recipients] == [True, True, False]


def test_what_is_not_known_from_before_waits_or_leaves_by_high_risk(lab: Lab):
    expected = queue_before(lab)
    queued = [entry["queue_id"] for entry in lab.postfix.queue()]
    state_of(lab).remember_queued("mx2.example.org", queued)
    lab.postfix.flush()
    may_wait = {recipient: pool for recipient, pool in expected.items() if pool is not HIGH_RISK}
    lab.postfix.wait_until_deferred(len(may_wait))
    assert {message.source_address for message in lab.messages} <= HIGH_RISK
    remember_the_queue(lab)
    lab.postfix.flush()
    assert {one: arrived(lab, one).source_address in may_wait[one] for one in may_wait} == dict.fromkeys(may_wait, True)


def test_a_restricted_account_is_held_to_it(lab: Lab):
    expected = queue_before(lab)
    state_of(lab).restrict(Restriction(account="alice@example.org", since=time.time(), reason="by hand"), by_hand=True)
    remember_the_queue(lab)
    lab.postfix.flush()
    sources = {recipient: arrived(lab, recipient).source_address for recipient in expected}
    submitted = next(iter(expected))
    assert sources[submitted] in HIGH_RISK


def test_it_keeps_its_pool_when_it_is_requeued_and_its_notice_comes_back(lab: Lab):
    expected = queue_before(lab)
    remember_the_queue(lab)
    lab.postfix.requeue("ALL")
    lab.receiver.answer("pre-forward@example.net", ACCEPT)
    submitted = next(iter(expected))
    lab.receiver.answer(submitted, REFUSE)
    reached = {one: pool for one, pool in expected.items() if one != submitted}
    assert {
        one: arrived(lab, one, seconds=60).source_address in pool for one, pool in reached.items()
    } == dict.fromkeys(reached, True)
