"""Pool transports that the settings have given up, and that queued mail names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deliverypools.core.postfix_install.plan import ParameterChange, Plan, ServiceChange, Written
from deliverypools.core.postfix_install.retired import hop_goes, keeping, led_to, retired, takes_the_hop_away

POOLS = ("normal", "high-risk", "relay")


def service(name: str, options: str = "") -> ServiceChange:
    return ServiceChange(key=(name, "unix"), line=f"{name} unix - - y - - smtp{options}", reason="")


PLAN = Plan(
    parameters=(ParameterChange(name="pool-normal_destination_rate_delay", value="1s", reason=""),),
    services=tuple(service(f"pool-{pool}", f" -o smtp_helo_name={pool}.example.org") for pool in POOLS),
    files={},
)


def written(*services: str) -> Written:
    return Written(parameters={}, services={(line.split()[0], "unix"): line for line in services})


def test_retired_is_what_is_ours_and_not_planned():
    site = "pool-table unix - - y - - smtp"
    live = written(
        "pool-normal unix - - y - - smtp", "pool-normal-2 unix - - y - - smtp", site, "egress unix - - y - - smtp"
    )
    assert retired(PLAN, written(site), live) == {"pool-normal-2"}


@pytest.mark.parametrize(
    ("name", "helo"),
    [
        ("pool-normal-2", "normal"),
        ("pool-normal-101", "normal"),
        ("pool-offers", "high-risk"),
        ("pool-normal-offers", "high-risk"),
        ("pool-high-risk-2", "high-risk"),
    ],
)
def test_it_is_kept_as_its_pools_first_transport_or_that_of_high_risk(name: str, helo: str):
    plan = keeping(PLAN, {name}, POOLS)
    assert plan.services[-1].line == f"{name} unix - - y - - smtp -o smtp_helo_name={helo}.example.org"
    assert plan.remarks[-1].text.startswith(f"{name}: ")
    assert len(plan.services) == len(PLAN.services) + 1


def test_tuning_is_kept_with_it():
    plan = keeping(PLAN, {"pool-normal-2"}, POOLS)
    assert [(one.name, one.value) for one in plan.parameters[1:]] == [("pool-normal-2_destination_rate_delay", "1s")]


def test_nothing_retired_changes_nothing():
    assert keeping(PLAN, set(), POOLS) is PLAN


def test_rules_tell_where_mail_is_led_now():
    text = "# FILTER x\n/^X-Delivery-Pool: normal 2$/ FILTER pool-normal-2:\n/^X/ FILTER\tpool-relay:[127.0.0.1]:$1\n"
    assert led_to({"tag_checks": text}) == {"pool-normal-2", "pool-relay"}


def test_hop_goes_where_the_live_configuration_has_it_and_the_plan_does_not():
    hop = written("egress unix - - y - - smtp")
    assert takes_the_hop_away(PLAN, hop)
    assert not takes_the_hop_away(PLAN, written())
    assert not takes_the_hop_away(replace(PLAN, services=(service("egress"),)), hop)


@pytest.mark.parametrize(
    ("undecided", "said"),
    [(0, []), (2, ["queued messages (2) that have not"]), (None, ["queued messages that have not"])],
    ids=["none", "some", "nobody knows"],
)
def test_mail_before_a_hop_that_goes_is_told_of(undecided: int | None, said: list[str]):
    assert [one.text.partition(" passed the hop")[0] for one in hop_goes(undecided)] == said
