"""Signs of a compromised account, each by its own threshold, and copies of suspicious mail."""

from __future__ import annotations

from collections.abc import Callable

from mailing import ALICE, BOB, arrived, decision, fresh, mail, submit

from deliverypools.lab.lab import Lab, transaction
from deliverypools.lab.receiver import REFUSE
from deliverypools.lab.waiting import wait_until

NO_BURST_LIMIT = {"limits": {"messages_per_minute": 0}}


def pools(lab: Lab, recipients: list[str]) -> list[str]:
    return [lab.pool_of(arrived(lab, recipient)) for recipient in recipients]


def one_by_one(lab: Lab, number: int, auth: tuple[str, str] = ALICE, **headers: str) -> list[str]:
    """Send messages one after the other, each when the one before has left; return their pools."""
    seen = []
    for _ in range(number):
        recipient = fresh()
        submit(lab, recipient, mail(**headers), auth=auth)
        seen += pools(lab, [recipient])
    return seen


def test_spam_ceiling_of_an_account(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT | {"spam": {"ceilings": {"verdicts_per_account_per_hour": 2}}})
    assert one_by_one(lab, 2, X_Spam_Flag="YES") == ["high-risk"] * 2
    assert one_by_one(lab, 1) == ["normal"]
    assert one_by_one(lab, 1, X_Spam_Flag="YES") == ["high-risk"]
    recipient = fresh()
    submit(lab, recipient)
    assert pools(lab, [recipient]) == ["high-risk"]
    assert "3 messages found to be spam in an hour, the limit is 2" in decision(lab, recipient)
    assert one_by_one(lab, 1, auth=BOB) == ["normal"]
    assert lab.milter.log().count("alert: suspicious-sending: alice@example.org:") == 1


def test_spam_ceiling_restricts_where_the_policy_says_so(make_lab: Callable[..., Lab]):
    lab = make_lab(
        settings=NO_BURST_LIMIT
        | {
            "spam": {"ceilings": {"verdicts_per_account_per_hour": 1}},
            "outbound_policies": [{"name": "default", "over_limit": "restrict-until-tomorrow"}],
        }
    )
    assert one_by_one(lab, 2, X_Spam_Flag="YES") == ["high-risk"] * 2
    result = lab.send(ALICE[0], fresh(), mail(), port=587, auth=ALICE)
    assert (result.accepted, result.code) == (False, 550)


def test_spam_ceiling_of_a_tenant(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT | {"spam": {"ceilings": {"verdicts_per_tenant_per_hour": 1}}})
    assert one_by_one(lab, 1, X_Spam_Flag="YES") == ["high-risk"]
    assert one_by_one(lab, 1, auth=BOB) == ["normal"]
    assert one_by_one(lab, 1, X_Spam_Flag="YES", auth=BOB) == ["high-risk"]
    assert one_by_one(lab, 1) == ["high-risk"]


def test_share_of_refused_recipients_by_our_own_notices(make_lab: Callable[..., Lab]):
    lab = make_lab(
        settings=NO_BURST_LIMIT | {"suspicion": {"refused_recipients_percent": 40, "refused_recipients_minimum": 4}}
    )
    good, bad = [fresh() for _ in range(5)], [fresh() for _ in range(4)]
    for recipient in bad:
        lab.receiver.answer(recipient, REFUSE)
    for recipient in good:
        submit(lab, recipient)
    assert pools(lab, good) == ["normal"] * 5
    submit(lab, bad)
    wait_until(lambda: len(lab.mailbox("alice")) == 1, timeout_seconds=30, what="the notice")
    assert one_by_one(lab, 1) == ["high-risk"]
    assert "4 recipients refused in 24 hours, more than 40 %" in lab.milter.log()
    assert one_by_one(lab, 1, auth=BOB) == ["normal"]


def test_first_time_recipients(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT | {"suspicion": {"first_time_recipients_per_day": 3}})
    friends = [fresh() for _ in range(3)]
    for _ in range(3):
        submit(lab, friends)
    stranger = fresh()
    submit(lab, stranger)
    assert pools(lab, [stranger]) == ["normal"]
    assert one_by_one(lab, 1) == ["high-risk"]
    assert "4 first-time recipients in 24 hours, the limit is 3" in lab.milter.log()


def test_client_addresses(make_lab: Callable[..., Lab]):
    lab = make_lab(settings=NO_BURST_LIMIT | {"suspicion": {"client_addresses_per_hour": 1}})
    assert one_by_one(lab, 3) == ["normal"] * 3
    recipient, next_one = fresh(), fresh()
    with lab.session(port=587, auth=ALICE, client_address="203.0.113.2") as smtp:
        assert transaction(smtp, ALICE[0], [recipient], mail()).accepted
    assert pools(lab, [recipient]) == ["normal"]
    submit(lab, next_one)
    assert pools(lab, [next_one]) == ["high-risk"]
    assert "2 client addresses in an hour, the limit is 1" in decision(lab, next_one)
