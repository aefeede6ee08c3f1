"""Outbound policies at work: who is over which limit, what happens then, and who answers for what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from mailbox import MaildirMessage
from typing import Any

import pytest
from mailing import (
    ALICE,
    BOB,
    arrived,
    decision,
    fresh,
    from_outside,
    from_trusted,
    mail,
    running,
    submit,
)

from deliverypools.adapters.state import State, open_state
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import EXTERNAL, stream
from deliverypools.core.restrictions import Restriction
from deliverypools.core.settings import parse_settings
from deliverypools.core.tallies import DAY, HOUR, Window
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until

CAROL = ("carol@sales.example.org", "secret")
DAVE = ("dave@example.org", "secret")
ERIN = ("erin@example.org", "secret")
FRANK = ("frank@example.org", "secret")
GRACE = ("grace@example.org", "secret")
HEIDI = ("heidi@example.org", "secret")
POLICIES = [
    {"name": "default", "external_recipients_per_hour": 3, "internal_recipients_per_hour": 5},
    {"name": "sales", "priority": 10, "domains": ["example.org"], "groups": ["sellers"], "recipients_per_day": 2},
    {
        "name": "strict",
        "priority": 20,
        "senders": ["erin@example.org", "uid:65534"],
        "recipients_per_day": 2,
        "over_limit": "restrict",
    },
    {
        "name": "until tomorrow",
        "priority": 20,
        "senders": ["frank@example.org"],
        "recipients_per_day": 2,
        "over_limit": "restrict-until-tomorrow",
    },
    {
        "name": "guessed",
        "priority": 20,
        "senders": ["grace@example.org"],
        "external_recipients_per_hour": 1,
        "over_limit": "restrict",
    },
    {
        "name": "watched",
        "priority": 5,
        "senders": ["dave@example.org"],
        "external_recipients_per_hour": 1,
        "over_limit": "alert",
    },
]
SETTINGS: dict[str, Any] = {
    "limits": {"messages_per_minute": 0, "recipients_per_message": 10},
    "outbound_policies": POLICIES,
    "groups": {"sellers": ["bob@example.org"]},
    "alerts": {"contact": "helpdesk@example.org"},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    people = (ALICE, BOB, CAROL, DAVE, ERIN, FRANK, GRACE, HEIDI)
    site = Site(
        users={**dict(people), "alice+news@example.org": "secret", "ALICE@Example.Org": "secret"},
        virtual={
            "forwarder@example.org": "via-forwarder@example.net",
            "forwarder2@example.org": "via-forwarder2@example.net",
        },
        forwards={"games": "via-games@example.net"},
    )
    with running(site=site, settings=SETTINGS) as lab:
        yield lab


@pytest.fixture
def state(lab: Lab) -> Iterator[State]:
    settings = parse_settings(lab.settings_file.read_text(), str(lab.settings_file))
    state = open_state(settings, clock=time.time)
    yield state
    state.close()


def by(lab: Lab, recipient: str) -> str:
    """Return the pool by which the message to a recipient left."""
    return lab.pool_of(arrived(lab, recipient))


def refused(lab: Lab, auth: tuple[str, str], sender: str = "") -> bytes:
    """Return the text with which an account is refused at RCPT TO."""
    with lab.session(port=587, auth=auth) as smtp:
        smtp.mail(sender or auth[0])
        code, text = smtp.rcpt(fresh())
    assert code == 550, (code, text)
    return text


def test_external_recipients_per_hour_of_the_default_policy(lab: Lab):
    recipients = [fresh() for _ in range(4)]
    for recipient in recipients:
        submit(lab, recipient)
    assert [by(lab, recipient) for recipient in recipients] == ["normal"] * 3 + ["high-risk"]
    assert "the limit of policy default is 3" in decision(lab, recipients[-1])


def test_internal_recipients_are_counted_apart(lab: Lab):
    login = ("alice+news@example.org", "secret")
    # The extension is the same account, which has used up its external recipients.
    recipient = fresh()
    submit(lab, recipient, auth=login)
    assert by(lab, recipient) == "high-risk"
    submit(lab, [f"alice+{n}@example.org" for n in range(5)], auth=login)
    assert "internal recipients" not in lab.policy.log()
    submit(lab, ["alice+6@example.org"], auth=login)
    assert "5 internal recipients in an hour and 1 more, the limit of policy default is 5" in lab.policy.log()


def test_login_in_another_case_is_the_same_account(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, mail("alice@example.org"), auth=("ALICE@Example.Org", "secret"))
    assert by(lab, recipient) == "high-risk"


def test_group_and_domain_of_one_policy_must_both_hold(lab: Lab):
    recipients = [fresh() for _ in range(3)]
    for recipient in recipients:
        submit(lab, recipient, auth=BOB)
    assert [by(lab, recipient) for recipient in recipients] == ["normal"] * 2 + ["high-risk"]
    assert "policy sales" in decision(lab, recipients[-1])


def test_alert_changes_no_pool(lab: Lab):
    recipients = [fresh() for _ in range(3)]
    for recipient in recipients:
        result = lab.send("dave@example.org", recipient, mail("dave@example.org"), port=587, auth=DAVE)
        assert result.accepted
    assert [by(lab, recipient) for recipient in recipients] == ["normal"] * 3
    assert lab.milter.log().count("alert: limit-exceeded: dave@example.org:") == 1


def test_recipients_per_message(lab: Lab):
    recipients = [fresh() for _ in range(11)]
    result = lab.send("dave@example.org", recipients, mail("dave@example.org"), port=587, auth=DAVE)
    assert result.accepted
    assert {by(lab, recipient) for recipient in recipients} == {"high-risk"}
    assert "11 recipients in one message, the limit is 10" in decision(lab, recipients[0])


def test_restricted_beyond_the_limit_then_refused_until_released_and_not_again_that_day(lab: Lab, state: State):
    first = [fresh(), fresh()]
    submit(lab, first, auth=ERIN)
    over = fresh()
    result = lab.send(ERIN[0], over, mail(ERIN[0]), port=587, auth=ERIN)
    assert (result.accepted, result.code) == (False, 550)
    text = refused(lab, ERIN).decode()
    assert text.startswith("5.7.1 ")
    assert "erin@example.org may not send mail until an administrator releases it" in text
    assert "2 recipients in 24 hours and 1 more, the limit of policy strict is 2" in text
    assert "helpdesk@example.org" in text
    assert {by(lab, recipient) for recipient in first} <= {"normal", "high-risk"}

    (restriction,) = [one for one in state.restrictions() if one.account == "erin@example.org"]
    assert restriction.until is None
    state.release("erin@example.org")
    again = fresh()
    submit(lab, again, mail(ERIN[0]), auth=ERIN)
    assert by(lab, again) == "high-risk"
    assert [one for one in state.restrictions() if one.account == "erin@example.org"] == []


def test_restricted_until_tomorrow(lab: Lab, state: State):
    submit(lab, [fresh(), fresh()], auth=FRANK)
    assert lab.send(FRANK[0], fresh(), mail(FRANK[0]), port=587, auth=FRANK).code == 550
    (restriction,) = [one for one in state.restrictions() if one.account == "frank@example.org"]
    assert restriction.until is not None
    assert restriction.until % 86_400 == 0
    assert b"until 20" in refused(lab, FRANK)


def test_restriction_of_a_login_does_not_close_what_trusted_clients_send_in_its_name(lab: Lab):
    recipient = fresh()
    from_trusted(lab, recipient, sender="frank@example.org")
    assert by(lab, recipient) == "normal"


def test_policy_service_down_a_restricted_account_is_refused_all_the_same(lab: Lab):
    lab.policy.kill()
    try:
        result = lab.send(FRANK[0], fresh(), mail(FRANK[0]), port=587, auth=FRANK)
        assert (result.accepted, result.code) == (False, 550)
    finally:
        lab.policy.start()


def test_sendmail_of_a_restricted_user_leaves_by_high_risk(lab: Lab, state: State):
    recipients = [fresh() for _ in range(3)]
    for recipient in recipients:
        lab.sendmail("alice@example.org", [recipient], mail(), user="nobody")
        arrived(lab, recipient)
    assert [by(lab, recipient) for recipient in recipients] == ["normal"] * 2 + ["high-risk"]
    assert "rule=restricted_sender" in decision(lab, recipients[-1])
    assert [one.account for one in state.restrictions() if one.account.startswith("uid:")] == ["uid:65534"]


def test_sendmail_in_the_name_of_a_restricted_account_is_returned_and_does_not_leave(lab: Lab):
    recipient = fresh()
    lab.sendmail("frank@example.org", [recipient], mail(FRANK[0]), user="games")
    lab.postfix.wait_for_log(r"milter-reject.*frank@example\.org|5\.7\.1 .*may not send mail")
    lab.wait_until_queue_is_empty(30)
    assert [message for message in lab.messages if recipient in message.recipients] == []


def test_forwarding_mailbox_answers_for_what_it_forwards_and_the_foreign_sender_does_not(lab: Lab):
    for _ in range(4):
        from_outside(lab, "forwarder@example.org")
    seen = lab.wait_for(lambda message: "via-forwarder@example.net" in message.recipients, count=4)
    assert sorted(lab.pool_of(message) for message in seen) == ["high-risk", "relay", "relay", "relay"]
    from_outside(lab, "forwarder2@example.org")
    assert by(lab, "via-forwarder2@example.net") == "relay"


def test_null_sender_of_an_authenticated_account_is_charged_to_it(lab: Lab):
    auth = ("carol@sales.example.org", "secret")
    for _ in range(3):
        assert lab.send("", fresh(), mail(CAROL[0]), port=587, auth=auth).accepted
    recipient = fresh()
    assert lab.send("carol@example.org", recipient, mail("carol@example.org"), port=587, auth=auth).accepted
    assert by(lab, recipient) == "high-risk"
    assert "3 external recipients in an hour and 1 more" in decision(lab, recipient)


@pytest.mark.parametrize(
    "sender", ["mallory@example.org", "prvs=0123456789=mallory@example.org", "Mallory+x@example.org"]
)
def test_restriction_by_hand_closes_every_way_until_it_is_released(lab: Lab, state: State, sender: str):
    by_hand = Restriction(account="mallory@example.org", since=time.time(), reason="phished")
    state.restrict(by_hand, by_hand=True)
    result = lab.send(sender, fresh(), mail(sender), client_address=TRUSTED_CLIENT)
    assert (result.accepted, result.code) == (False, 550)
    state.release("mallory@example.org")
    recipient = fresh()
    from_trusted(lab, recipient, sender=sender)
    assert by(lab, recipient) == "normal"


@pytest.mark.parametrize(
    "recipients",
    [
        pytest.param(["bob@example.org", "alice@example.org", "nobody-here@example.org"], id="refused"),
        pytest.param(["bob@example.org"] * 3, id="named three times"),
        pytest.param(["bob@example.org", "bob@example.org", "nobody-here@example.org"], id="both"),
    ],
)
def test_recipients_named_twice_or_refused_restrict_nobody(lab: Lab, state: State, recipients: list[str]):
    with lab.session(port=587, auth=GRACE) as smtp:
        smtp.mail(GRACE[0])
        for recipient in recipients:
            smtp.rcpt(recipient)
        assert smtp.data(mail(GRACE[0]))[0] == 250
    assert [one for one in state.restrictions() if one.account == GRACE[0]] == []


@pytest.mark.parametrize("form", ["{}%example.com@example.org", "example.com!{}@example.org"])
def test_source_route_through_our_domain_is_an_external_recipient(lab: Lab, state: State, form: str):
    external = [Window((stream(Account(Ingress.SUBMISSION, HEIDI[0]), EXTERNAL),), HOUR, DAY)]
    (before,) = state.used(external)
    user = fresh().partition("@")[0]
    submit(lab, form.format(user), mail(HEIDI[0]), auth=HEIDI)
    assert arrived(lab, f"{user}@example.com")
    assert state.used(external) == (before + 1,)


def test_mailbox_answers_for_what_it_forwards_of_our_own_users_too(lab: Lab):
    for _ in range(4):
        result = lab.send("dave@example.org", "games@example.org", mail("dave@example.org"), port=587, auth=DAVE)
        assert result.accepted
    seen = lab.wait_for(lambda message: "via-games@example.net" in message.recipients, count=4)
    assert sorted(lab.pool_of(message) for message in seen) == ["high-risk", "normal", "normal", "normal"]


def outside_mail_of_bob(lab: Lab, sender: str = "erin") -> list[MaildirMessage]:
    return [message for message in lab.mailbox("bob") if f"{sender}@example.com" in message["From"]]


def test_ticket_of_received_mail_does_not_help_a_restricted_user(lab: Lab, state: State):
    from_outside(lab, "bob@example.org")
    wait_until(lambda: outside_mail_of_bob(lab), timeout_seconds=20, what="mail from outside")
    ticket = str(outside_mail_of_bob(lab)[0]["X-Delivery-Pool-Ticket"])
    by_hand = Restriction(account="uid:5", since=time.time(), reason="broken into")
    state.restrict(by_hand, by_hand=True)
    recipient, other = fresh(), fresh()
    lab.sendmail("alice@example.org", [recipient], mail(X_Delivery_Pool_Ticket=ticket), user="games")
    assert by(lab, recipient) == "high-risk"
    assert "rule=restricted_sender" in decision(lab, recipient)
    state.release("uid:5")
    lab.sendmail("alice@example.org", [other], mail(X_Delivery_Pool_Ticket=ticket), user="games")
    assert by(lab, other) == "relay"
    assert "account=uid:5 " in decision(lab, other)


def test_restricted_mailbox_that_forwards_by_sendmail_gets_no_notices_in_a_loop(lab: Lab, state: State):
    """procmail sends on with the mailbox as sender."""
    from_outside(lab, "bob@example.org", sender="zoe@example.com")
    wait_until(lambda: outside_mail_of_bob(lab, "zoe"), timeout_seconds=20, what="mail from outside")
    received = outside_mail_of_bob(lab, "zoe")[0]
    by_hand = Restriction(account="games@example.org", since=time.time(), reason="broken into")
    state.restrict(by_hand, by_hand=True)
    recipient = fresh()
    lab.sendmail("games@example.org", [recipient], received.as_bytes(), user="games")
    assert by(lab, recipient) in {"relay", "high-risk"}
    state.release("games@example.org")
