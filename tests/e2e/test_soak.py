"""A short soak: mail of all kinds while everything fails at random. `make soak` makes it a long one."""

from __future__ import annotations

from soak import soak


def test_each_message_arrives_exactly_once_by_its_pool_while_everything_fails_at_random():
    soaked = soak(300, seed=20261122, clients=2, troubles=12)
    assert soaked.is_right, "\n".join(soaked.lines())
    assert soaked.reckoning.arrived == sum(len(task.expected) for task in soaked.sent)
    assert soaked.audit["counts"]["probes"] == 0
    assert sum(soaked.troubles.values()) >= 12
