"""Sending limits: which hold for a message, which it exceeds, and what is counted.

What a window holds is handed over here; that stores count it is tested in tests/contract.
"""

import pytest
from limited_sites import ALICE, POOLS, WEB_FARM, WEB_SERVER, default_policy, exceeded, names, site

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.core.limits import (
    Charge,
    action_for,
    charge_for,
    judge,
    limits_for,
    stream,
    tally_of,
    tenant_stream,
)
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY, HOUR, MINUTE, Entry

EACH_LIMIT = [
    pytest.param(site(limits={"recipients_per_day": 100}), {}, id="recipients_per_day"),
    pytest.param(site(limits={"messages_per_minute": 100}), {}, id="messages_per_minute"),
    pytest.param(
        site(limits={"external_recipients_per_tenant_per_day": 100}), {}, id="external_recipients_per_tenant_per_day"
    ),
    pytest.param(site(default_policy(external_recipients_per_hour=100)), {}, id="external_recipients_per_hour"),
    pytest.param(
        site(default_policy(internal_recipients_per_hour=100)),
        {"internal": 1, "external": 0},
        id="internal_recipients_per_hour",
    ),
    pytest.param(site(default_policy(recipients_per_day=100)), {}, id="recipients_per_day of a policy"),
]


class TestEachLimit:
    @pytest.mark.parametrize(("settings", "message"), EACH_LIMIT)
    def test_below_the_limit(self, settings, message):
        assert exceeded(settings, used=98, **message) == ()

    @pytest.mark.parametrize(("settings", "message"), EACH_LIMIT)
    def test_the_hundredth_of_a_hundred_is_within(self, settings, message):
        assert exceeded(settings, used=99, **message) == ()

    @pytest.mark.parametrize(("settings", "message"), EACH_LIMIT)
    def test_the_hundred_and_first_is_beyond(self, settings, message, request):
        expected = request.node.callspec.id.partition(" ")[0]
        assert names(exceeded(settings, used=100, **message)) == [expected]

    @pytest.mark.parametrize(("settings", "message"), EACH_LIMIT)
    def test_zero_is_no_limit(self, settings, message):
        assert exceeded(site(), used=10**9, **message) == ()

    @pytest.mark.parametrize(("recipients", "beyond"), [(99, False), (100, False), (101, True)])
    def test_recipients_per_message(self, recipients, beyond):
        settings = site(limits={"recipients_per_message": 100})
        found = exceeded(settings, used=10**6, external=recipients)
        assert names(found) == ["recipients_per_message"] * beyond

    def test_a_message_that_would_exceed_a_limit_is_beyond_it_as_a_whole(self):
        (one,) = exceeded(site(limits={"recipients_per_day": 100}), used=90, external=30)
        assert (one.used, one.limit.cost, one.limit.most) == (90, 30, 100)

    def test_internal_and_external_recipients_are_added_up_per_day(self):
        settings = site(limits={"recipients_per_day": 100})
        assert exceeded(settings, used=95, internal=2, external=3) == ()
        assert names(exceeded(settings, used=95, internal=3, external=3)) == ["recipients_per_day"]

    def test_internal_and_external_recipients_per_hour_are_counted_apart(self):
        settings = site(default_policy(external_recipients_per_hour=10, internal_recipients_per_hour=100))
        assert exceeded(settings, internal=100, external=10) == ()
        assert names(exceeded(settings, internal=101, external=10)) == ["internal_recipients_per_hour"]
        assert names(exceeded(settings, internal=100, external=11)) == ["external_recipients_per_hour"]

    def test_who_is_over_a_limit_per_hour_of_the_one_kind_may_write_to_the_other(self):
        settings = site(default_policy(external_recipients_per_hour=10))
        assert exceeded(settings, used=11, internal=1, external=0) == ()

    def test_the_tenant_is_not_charged_for_internal_recipients(self):
        settings = site(limits={"external_recipients_per_tenant_per_day": 10})
        assert exceeded(settings, used=11, internal=5, external=0) == ()

    def test_an_account_without_an_accepted_domain_has_no_tenant_limit(self):
        settings = site(limits={"external_recipients_per_tenant_per_day": 10})
        assert exceeded(settings, used=11, account=Account(Ingress.SUBMISSION, "alice")) == ()

    def test_several_limits_are_told_together(self):
        settings = site(
            default_policy(external_recipients_per_hour=10),
            limits={"recipients_per_day": 10, "messages_per_minute": 10, "recipients_per_message": 10},
        )
        assert names(exceeded(settings, used=10, external=11)) == [
            "external_recipients_per_hour",
            "recipients_per_day",
            "messages_per_minute",
            "recipients_per_message",
        ]

    def test_the_service_limits_of_exchange_online_are_the_default(self):
        settings = Settings.model_validate({"accepted_domains": ["example.org"], "pools": POOLS})
        assert exceeded(settings, used={"recipients_per_day": 9_999, "messages_per_minute": 29}) == ()
        assert names(exceeded(settings, used={"recipients_per_day": 10_000})) == ["recipients_per_day"]
        assert names(exceeded(settings, used={"messages_per_minute": 30})) == ["messages_per_minute"]
        assert names(exceeded(settings, external=1_001)) == ["recipients_per_message"]


class TestServiceAndPolicy:
    @pytest.mark.parametrize(("service", "policy"), [(100, 50), (50, 100), (50, 50)])
    def test_the_smaller_limit_per_day_holds(self, service, policy):
        settings = site(default_policy(recipients_per_day=policy), limits={"recipients_per_day": service})
        assert exceeded(settings, used=49) == ()
        assert names(exceeded(settings, used=50))[:1] == ["recipients_per_day"]

    def test_zero_in_a_policy_is_the_service_limit(self):
        settings = site(default_policy(recipients_per_day=0), limits={"recipients_per_day": 50})
        assert names(exceeded(settings, used=50)) == ["recipients_per_day"]

    def test_a_policy_applies_to_those_whom_it_names_only(self):
        settings = site(
            {"name": "sales", "senders": ["alice@example.org"], "external_recipients_per_hour": 10},
        )
        assert names(exceeded(settings, used=10)) == ["external_recipients_per_hour"]
        assert exceeded(settings, used=10, account=Account(Ingress.SUBMISSION, "bob@example.org")) == ()

    def test_the_policy_that_limits_is_named(self):
        settings = site({"name": "sales", "domains": ["example.org"], "external_recipients_per_hour": 10})
        assert [one.limit.policy for one in exceeded(settings, used=10)] == ["sales"]


class TestTrustedClients:
    def test_have_no_limit_by_default(self):
        settings = Settings.model_validate({"accepted_domains": ["example.org"], "pools": POOLS})
        assert exceeded(settings, used=10**9, external=10**6, account=WEB_FARM) == ()

    def test_have_limits_of_their_own(self):
        settings = site(limits={"recipients_per_day": 5, "trusted": {"recipients_per_day": 100}})
        assert exceeded(settings, used=99, account=WEB_FARM) == ()
        assert names(exceeded(settings, used=100, account=WEB_FARM)) == ["recipients_per_day"]
        assert exceeded(settings, used=4) == ()
        assert names(exceeded(settings, used=5)) == ["recipients_per_day"]

    def test_are_under_no_default_policy(self):
        settings = site(default_policy(external_recipients_per_hour=10, recipients_per_day=10))
        assert exceeded(settings, used=10**6, account=WEB_FARM) == ()

    def test_are_restricted_where_a_policy_names_them_and_says_so(self):
        settings = site(
            {
                "name": "farm",
                "senders": ["198.51.100.1"],
                "external_recipients_per_hour": 10,
                "over_limit": "restrict",
            }
        )
        assert action_for(exceeded(settings, used=10, account=WEB_FARM)) == "restrict"

    def test_beyond_their_service_limit_mail_leaves_by_high_risk(self):
        settings = site(default_policy(over_limit="restrict"), limits={"trusted": {"recipients_per_day": 10}})
        assert action_for(exceeded(settings, used=10, account=WEB_FARM)) == "high-risk"

    def test_do_not_use_up_what_the_tenant_may_send(self):
        trusted = Account(Ingress.TRUSTED, "news@example.org", "example.org")
        assert tenant_stream(trusted, "external") != tenant_stream(ALICE, "external")
        assert tenant_stream(WEB_SERVER, "external") == tenant_stream(ALICE, "external")


class TestWhatIsCounted:
    def test_recipients_in_accepted_domains_are_internal(self):
        recipients = ["bob@Example.org", "carol@sub.example.org", "dave@example.net", "postmaster", '"a b"@example.org']
        charge = charge_for(ALICE, recipients, site())
        assert (charge.internal, charge.external, charge.recipients) == (2, 3, 5)

    def test_internal_and_external_recipients_are_counted_apart_for_a_day(self):
        entries = tally_of(Charge(ALICE, 2, 3), ()).entries
        assert entries == (Entry(stream(ALICE, "external"), 3, DAY), Entry(stream(ALICE, "internal"), 2, DAY))

    def test_what_is_nothing_is_not_written(self):
        assert tally_of(Charge(ALICE, 0, 3), ()).entries == (Entry(stream(ALICE, "external"), 3, DAY),)
        assert tally_of(Charge(ALICE, 0, 0), ()).entries == ()

    def test_a_limit_that_only_the_service_or_only_a_policy_has_counts_the_same(self):
        charge = Charge(ALICE, 0, 3)
        service = limits_for(charge, site(limits={"recipients_per_day": 5}))
        policy = limits_for(charge, site(default_policy(recipients_per_day=5)))
        assert tally_of(charge, service) == tally_of(charge, policy)

    def test_two_limits_on_one_window_count_a_message_once(self):
        settings = site(default_policy(recipients_per_day=5), limits={"recipients_per_day": 10})
        charge = Charge(ALICE, 1, 3)
        tally = tally_of(charge, limits_for(charge, settings))
        assert sum(entry.amount for entry in tally.entries) == 4
        assert len(tally.windows) == 2

    def test_messages_and_tenants_are_counted_where_a_limit_looks_at_them(self):
        settings = site(limits={"messages_per_minute": 30, "external_recipients_per_tenant_per_day": 100})
        charge = Charge(ALICE, 1, 3)
        entries = tally_of(charge, limits_for(charge, settings)).entries
        assert Entry(stream(ALICE, "messages"), 1, MINUTE) in entries
        assert Entry(tenant_stream(ALICE, "external"), 3, DAY) in entries

    @pytest.mark.parametrize(
        ("settings", "seconds"),
        [
            (site(limits={"recipients_per_day": 1}), DAY),
            (site(limits={"messages_per_minute": 1}), MINUTE),
            (site(limits={"external_recipients_per_tenant_per_day": 1}), DAY),
            (site(default_policy(external_recipients_per_hour=1)), HOUR),
            (site(default_policy(recipients_per_day=1)), DAY),
        ],
    )
    def test_windows_are_as_long_as_the_name_of_the_limit_says(self, settings, seconds):
        (limit,) = limits_for(Charge(ALICE, 0, 1), settings)
        assert limit.window.seconds == seconds
        assert limit.window.keep_seconds >= seconds

    def test_an_empty_answer_of_a_store_exceeds_nothing_that_was_there_before(self):
        limits = limits_for(Charge(ALICE, 0, 1), site(limits={"recipients_per_day": 1}))
        assert judge(limits, (), ALICE.name) == ()
