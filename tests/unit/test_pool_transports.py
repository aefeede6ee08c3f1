"""The transports of a pool, and which of them the mail of a sender leaves by."""

from collections import Counter
from ipaddress import ip_address

import pytest

from deliverypools.core.pool_transports import all_transports, transport_for, transports_of
from deliverypools.core.settings.tables import Pool

SENDERS = [f"user{number}@example.org" for number in range(3000)]


def pool(*addresses):
    return Pool.model_validate({"addresses": addresses, "helo": "mail.example.org"})


def pairs(*addresses):
    return [
        (one.name, one.tag, one.ipv4 and str(one.ipv4), one.ipv6 and str(one.ipv6))
        for one in transports_of("normal", pool(*addresses))
    ]


@pytest.mark.parametrize(
    ("addresses", "transports"),
    [
        (["192.0.2.10"], [("pool-normal", "normal", "192.0.2.10", None)]),
        (["2001:db8::10"], [("pool-normal", "normal", None, "2001:db8::10")]),
        (["2001:db8::10", "192.0.2.10"], [("pool-normal", "normal", "192.0.2.10", "2001:db8::10")]),
        (
            ["192.0.2.10", "192.0.2.11", "2001:db8::10"],
            [
                ("pool-normal", "normal", "192.0.2.10", "2001:db8::10"),
                ("pool-normal-2", "normal 2", "192.0.2.11", "2001:db8::10"),
            ],
        ),
        (
            ["192.0.2.10", "2001:db8::10", "2001:db8::11", "2001:db8::12"],
            [
                ("pool-normal", "normal", "192.0.2.10", "2001:db8::10"),
                ("pool-normal-2", "normal 2", "192.0.2.10", "2001:db8::11"),
                ("pool-normal-3", "normal 3", "192.0.2.10", "2001:db8::12"),
            ],
        ),
    ],
)
def test_one_transport_for_each_address(addresses, transports):
    assert pairs(*addresses) == transports


def test_all_transports_in_the_order_of_the_settings():
    pools = {"normal": pool("192.0.2.10", "192.0.2.11"), "relay": pool("192.0.2.30")}
    assert [one.name for one in all_transports(pools)] == ["pool-normal", "pool-normal-2", "pool-relay"]


def test_a_sender_always_has_the_same_one_whatever_its_case():
    three = pool("192.0.2.10", "192.0.2.11", "192.0.2.12")
    for sender in SENDERS[:100]:
        chosen = transport_for("normal", three, sender)
        assert transport_for("normal", three, sender.upper()) == chosen


def test_senders_are_spread_evenly():
    four = pool(*(f"192.0.2.{last}" for last in range(10, 14)))
    counts = Counter(transport_for("normal", four, sender).number for sender in SENDERS)
    assert all(600 < counts[number] < 900 for number in range(1, 5)), counts


def test_a_new_address_takes_senders_from_the_others_and_moves_no_other():
    before, after = pool("192.0.2.10", "192.0.2.11"), pool("192.0.2.10", "192.0.2.11", "192.0.2.12")
    moved = 0
    for sender in SENDERS:
        old, new = transport_for("normal", before, sender), transport_for("normal", after, sender)
        if old.ipv4 != new.ipv4:
            assert new.ipv4 == ip_address("192.0.2.12")
            moved += 1
    assert 800 < moved < 1200


@pytest.mark.parametrize("sender", ["", "\udce9@example.org", "x" * 100_000, "é@example.org", "\0"])
def test_any_text_is_a_sender(sender):
    assert transport_for("normal", pool("192.0.2.10", "192.0.2.11"), sender).pool == "normal"
