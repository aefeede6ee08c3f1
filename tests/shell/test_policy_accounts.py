"""The policy service over its real socket: what it counts for an account, and restricted accounts, which it refuses."""

import signal
import threading
import time

import pytest
from policy_client import ANSWER, OF_ALICE, Client, request

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import EXTERNAL, INTERNAL, stream
from deliverypools.core.restrictions import Restriction
from deliverypools.core.tallies import DAY, Window

# ---- internal and external recipients


def counted_apart(site, account="alice@example.org"):
    alice = Account(Ingress.SUBMISSION, account)
    with site.opened_state() as state:
        return state.used([Window((stream(alice, name),), DAY, DAY) for name in (INTERNAL, EXTERNAL)])


INSIDE, OUTSIDE = "bob@example.org", "carol@example.net"


@pytest.mark.parametrize(
    ("recipients", "changes", "apart"),
    [
        ([INSIDE], {"recipient": INSIDE, "recipient_count": "1"}, (1, 0)),
        ([OUTSIDE], {"recipient": OUTSIDE, "recipient_count": "1"}, (0, 1)),
        ([INSIDE, OUTSIDE, "dave@example.net"], {"recipient_count": "3"}, (1, 2)),
        ([INSIDE, OUTSIDE, OUTSIDE.upper(), f"<{INSIDE}>"], {"recipient_count": "2"}, (1, 1)),
        # One was refused by a later restriction: the milter will know which.
        ([INSIDE, OUTSIDE, "dave@example.net"], {"recipient_count": "2"}, (0, 2)),
        ([], {"recipient_count": "5"}, (0, 5)),
        ([INSIDE, OUTSIDE], {"recipient_count": "2", "instance": ""}, (0, 2)),
    ],
    ids=["internal", "external", "both", "repeated", "one refused", "unknown", "no instance"],
)
def test_internal_and_external_recipients_are_counted_apart(policy, recipients, changes, apart):
    with Client(policy.socket_path) as client:
        for recipient in recipients:
            assert (
                client.ask(**OF_ALICE, protocol_state="RCPT", recipient=recipient, recipient_count="0", queue_id="")
                == ANSWER
            )
        assert client.ask(**OF_ALICE, **changes) == ANSWER
    assert counted_apart(policy.site) == apart


def test_recipients_of_one_message_are_not_those_of_the_next_in_the_session(policy):
    with Client(policy.socket_path) as client:
        for message, recipient in (("1.2.3.1", INSIDE), ("1.2.3.2", OUTSIDE)):
            for recipient_of in (recipient, "x" + recipient):
                client.ask(**OF_ALICE, protocol_state="RCPT", recipient=recipient_of, instance=message)
            client.ask(**OF_ALICE, recipient_count="2", instance=message, queue_id=f"4SESSION{message[-1]}z")
    assert counted_apart(policy.site) == (2, 2)


def test_a_message_is_counted_once_whatever_is_asked_on_its_way(policy):
    # RCPT, RSET, RCPT twice, DATA, the client vanishes; then all of it again, to the end, which is asked about twice.
    aborted = ["MAIL", "RCPT", "MAIL", "RCPT", "RCPT", "DATA"]
    with Client(policy.socket_path) as client:
        for stage in (*aborted, *aborted, "END-OF-MESSAGE", "END-OF-MESSAGE"):
            assert client.ask(**OF_ALICE, protocol_state=stage, recipient=OUTSIDE, recipient_count="1") == ANSWER
    assert policy.site.recipients_counted("alice@example.org") == 1


def test_a_reservation_stands_when_the_service_is_started_again(policy, start):
    with Client(policy.socket_path) as client:
        assert client.ask(**OF_ALICE, protocol_state="RCPT", recipient=INSIDE) == ANSWER
        assert client.ask(**OF_ALICE, recipient=INSIDE, recipient_count="1") == ANSWER
    policy.signal(signal.SIGTERM)
    assert policy.wait() == 0
    with Client(start("policy", policy.site).socket_path) as client:
        assert client.ask(**OF_ALICE, recipient=INSIDE, recipient_count="1") == ANSWER
    assert counted_apart(policy.site) == (1, 0)


# ---- restricted accounts

REFUSED = b"action=550 5.7.1 Account alice@example.org may not send mail until an administrator releases it: "


def restrict(site, ingress=None):
    with site.opened_state() as state:
        state.restrict(
            Restriction(account="alice@example.org", ingress=ingress, since=time.time(), reason="sends spam"),
            by_hand=True,
        )


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "END-OF-MESSAGE"])
def test_a_restricted_account_is_refused_at_every_stage(policy, stage):
    with Client(policy.socket_path) as client:
        assert client.ask(**OF_ALICE, protocol_state=stage) == ANSWER
        restrict(policy.site)
        assert client.ask(**OF_ALICE, protocol_state=stage, queue_id="4REFUSED01z") == (
            REFUSED + b"sends spam. Please ask postmaster@example.org\n\n"
        )
        assert client.ask(sasl_username="bob@example.org", protocol_state=stage) == ANSWER
        with policy.site.opened_state() as state:
            state.release("alice@example.org")
        assert client.ask(**OF_ALICE, protocol_state=stage) == ANSWER
    assert policy.site.recipients_counted("alice@example.org") == (3 if stage == "END-OF-MESSAGE" else 0)


def test_what_a_trusted_client_did_closes_no_login(policy):
    restrict(policy.site, Ingress.TRUSTED)
    with Client(policy.socket_path) as client:
        assert client.ask(**OF_ALICE) == ANSWER
        assert client.ask(client_address="127.0.0.1", sender="alice@example.org").startswith(REFUSED)
        assert client.ask(client_address="198.51.100.7", sender="alice@example.org") == ANSWER


def restricting(make_site, most):
    return make_site(
        outbound_policies=[{"name": "default", "recipients_per_day": most, "over_limit": "restrict"}],
        limits={"messages_per_minute": 0},
    )


def test_the_message_that_exceeds_is_refused_and_not_counted_and_release_holds_for_the_day(make_site, start):
    site = restricting(make_site, 5)
    policy = start("policy", site)
    with Client(policy.socket_path) as client:
        assert client.ask(**OF_ALICE, recipient_count="5", queue_id="4ONE") == ANSWER
        assert client.ask(**OF_ALICE, recipient_count="1", queue_id="4TWO").startswith(REFUSED)
        assert client.ask(**OF_ALICE, protocol_state="RCPT", recipient=INSIDE, queue_id="").startswith(REFUSED)
        assert site.recipients_counted("alice@example.org") == 5
        with site.opened_state() as state:
            (ended,) = state.release("alice@example.org")
        assert ended.ingress is Ingress.SUBMISSION
        assert client.ask(**OF_ALICE, recipient_count="7", queue_id="4THREE") == ANSWER
    assert site.recipients_counted("alice@example.org") == 12


def test_exactly_the_limit_passes_whatever_the_number_of_connections_and_policy_processes(make_site, start):
    site = restricting(make_site, 100)
    daemons = []
    for number in range(3):
        site.policy_socket = str(site.folder / f"policy{number}.sock")
        site.write(
            policy={"socket": f"unix:{site.policy_socket}"},
            outbound_policies=[{"name": "default", "recipients_per_day": 100, "over_limit": "restrict"}],
            limits={"messages_per_minute": 0},
        )
        daemons.append(start("policy", site))
    barrier = threading.Barrier(20)
    answers = []

    def send(number):
        with Client(daemons[number % 3].socket_path) as client:
            barrier.wait()
            answers.extend(
                client.ask(
                    **OF_ALICE, recipient_count="1", queue_id=f"4N{number:03d}T{turn:03d}", instance=f"{number}.{turn}"
                )
                for turn in range(10)
            )

    threads = [threading.Thread(target=send, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(ANSWER) == 100
    assert sum(answer.startswith(REFUSED) for answer in answers) == 100
    assert site.recipients_counted("alice@example.org") == 100


def test_answers_come_in_the_order_of_the_requests(policy):
    restrict(policy.site)
    kinds = [
        (OF_ALICE, REFUSED),
        ({"sasl_username": "bob"}, ANSWER),
        ({}, ANSWER),  # from outside: needs no state, and waits nevertheless
    ]
    asked = [kinds[number * number % 3 if number % 5 else 2] for number in range(200)]
    with Client(policy.socket_path) as client:
        client.send(b"".join(request(**changes, queue_id=f"4O{n}") for n, (changes, _) in enumerate(asked)))
        for number, (_, expected) in enumerate(asked):
            assert client.answer().startswith(expected), number
