"""`make bench` in small: each kind of server takes a load, and what goes wrong is told."""

from __future__ import annotations

import dataclasses

import pytest

from throughput_subjects import EXPRESS, HOP, Builder


@pytest.mark.parametrize(
    ("profile", "fast"), [(EXPRESS, False), (HOP, False), (HOP, True)], ids=["express", "hop", "fast path"]
)
def test_a_load_arrives_by_the_pool_and_its_cost_is_known(profile, fast):
    with Builder() as builder:
        subject = builder.ours(profile, policy=True, fast=fast)
        run = subject.load(messages=20, sessions=3, messages_a_session=4)
        assert subject.problems == []
        assert run.sent.accepted == len(run.sent.latencies) == 20
        assert run.delivered_at > run.sent.began
        assert all(run.cpu_seconds[name] > 0 for name in ("postfix", "milter", "policy", "sink"))
        paced = subject.load(messages=5, rate=100, recipients=60)
        assert (subject.problems, paced.sent.accepted) == ([], 5)


def test_mail_by_a_wrong_address_is_told():
    with Builder() as builder:
        subject = dataclasses.replace(builder.bare(), source="192.0.2.10")
        subject.load(messages=3)
        assert subject.problems == ["bare Postfix: 3 by a wrong address ({'192.0.2.1': 3})"]
