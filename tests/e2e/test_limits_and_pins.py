"""Accounts over their limit, and the operator's own word."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

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
    from_trusted,
    mail,
    submit,
)

from deliverypools.lab.lab import OUTSIDE_CLIENT, Lab, transaction
from deliverypools.lab.postfix import Site

LIMIT = 10
PINNED = "newsletter@example.org"


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(
        site=Site(virtual={"alias@example.org": "via-alias@example.net"}),
        settings={
            "limits": {"recipients_per_day": LIMIT, "trusted": {"recipients_per_day": 3}},
            "pins": [{"sender": PINNED, "pool": "relay"}, {"sasl_username": BOB[0], "pool": "high-risk"}],
        },
    )


def test_first_n_recipients_pass_and_the_next_leave_by_high_risk(lab: Lab):
    recipients = [fresh() for _ in range(LIMIT + 2)]
    for recipient in recipients:
        submit(lab, recipient)
    pools = [arrived(lab, recipient).source_address in NORMAL for recipient in recipients]
    assert pools == [True] * LIMIT + [False] * 2
    assert f"the limit is {LIMIT}" in decision(lab, recipients[-1])


def test_message_that_would_exceed_the_limit_leaves_by_high_risk_as_a_whole(lab: Lab):
    submit(lab, [fresh() for _ in range(LIMIT - 1)])
    both = [fresh(), fresh("example.net")]
    submit(lab, both)
    assert {arrived(lab, recipient).source_address for recipient in both} <= HIGH_RISK


def test_exactly_n_pass_from_ten_concurrent_sessions(lab: Lab):
    recipients = [fresh() for _ in range(LIMIT * 2)]

    def send_two(two: list[str]) -> None:
        for recipient in two:
            submit(lab, recipient)

    threads = [threading.Thread(target=send_two, args=(recipients[i : i + 2],)) for i in range(0, len(recipients), 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = Counter(arrived(lab, recipient).source_address in NORMAL for recipient in recipients)
    assert seen == {True: LIMIT, False: LIMIT}


def test_aborted_transactions_and_rset_are_not_charged(lab: Lab):
    with lab.session(port=587, auth=ALICE) as smtp:
        for _ in range(3):
            smtp.mail(ALICE[0])
            for _ in range(LIMIT):
                smtp.rcpt(fresh())
            smtp.rset()
        recipient = fresh()
        assert transaction(smtp, ALICE[0], [recipient], mail()).accepted
    assert arrived(lab, recipient).source_address in NORMAL


def test_client_that_vanishes_before_the_end_is_not_charged(lab: Lab):
    with lab.session(port=587, auth=ALICE) as smtp:
        smtp.mail(ALICE[0])
        for _ in range(LIMIT):
            smtp.rcpt(fresh())
        smtp.docmd("DATA")
        smtp.send(b"Subject: half a mess")
        smtp.close()
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL


def test_local_recipients_count_too(lab: Lab):
    submit(lab, ["bob@example.org"] * 1 + [f"alice+{n}@example.org" for n in range(LIMIT - 1)])
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in HIGH_RISK


def test_trusted_clients_have_limits_of_their_own(lab: Lab):
    recipients = [fresh() for _ in range(4)]
    for recipient in recipients:
        from_trusted(lab, recipient)
    assert [arrived(lab, recipient).source_address in NORMAL for recipient in recipients] == [True] * 3 + [False]


def test_trusted_client_cannot_use_up_what_a_user_may_send(lab: Lab):
    for _ in range(LIMIT):
        from_trusted(lab, fresh())
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL


def test_sendmail_is_counted_once_a_message_by_user_id(lab: Lab):
    first, second = [fresh() for _ in range(LIMIT)], fresh()
    lab.sendmail("alice@example.org", first, mail(), user="nobody")
    assert arrived(lab, first[0]).source_address in NORMAL
    lab.sendmail("alice@example.org", [second], mail(), user="nobody")
    assert arrived(lab, second).source_address in HIGH_RISK
    other = fresh()
    lab.sendmail("alice@example.org", [other], mail(), user="games")
    assert arrived(lab, other).source_address in NORMAL


def test_mail_from_outside_is_charged_to_nobody(lab: Lab):
    for _ in range(LIMIT + 1):
        from_outside(lab, "alice@example.org", sender="alice@example.org")
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL


def test_policy_service_down_still_counts(lab: Lab):
    lab.policy.kill()
    recipients = [fresh() for _ in range(LIMIT + 1)]
    for recipient in recipients:
        submit(lab, recipient)
    pools = [arrived(lab, recipient).source_address in NORMAL for recipient in recipients]
    assert pools == [True] * LIMIT + [False]


def test_counts_survive_kill_and_restart_of_both_daemons(lab: Lab):
    submit(lab, [fresh() for _ in range(LIMIT)])
    lab.policy.kill()
    lab.kill_milter()
    lab.policy.start()
    lab.milter.start()
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in HIGH_RISK


def test_pinned_sender_leaves_by_its_pool(lab: Lab):
    recipient = fresh()
    from_trusted(lab, recipient, sender=PINNED)
    assert arrived(lab, recipient).source_address in RELAY
    assert "rule=pinned" in decision(lab, recipient)


def test_pinned_sasl_user_leaves_by_its_pool(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, mail(), BOB)
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=pinned" in decision(lab, recipient)


def test_pinned_sender_from_outside_or_sendmail_is_not_believed(lab: Lab):
    result = lab.send(PINNED, "alias@example.org", mail(), client_address=OUTSIDE_CLIENT)
    assert result.accepted
    assert "rule=forwarded" in decision(lab, "via-alias@example.net")
    recipient = fresh()
    lab.sendmail(PINNED, [recipient], mail(), user="nobody")
    assert "rule=default" in decision(lab, recipient)
