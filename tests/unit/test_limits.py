"""Sending limits: which hold for a message, which it exceeds, what follows, and what is said of it.

What a window holds is handed over here; that stores count it is tested in tests/contract.
"""

import pytest

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Answer, Ingress
from deliverypools.core.limits import (
    Charge,
    action_for,
    charge_for,
    judge,
    limits_for,
    over_limit,
    stream,
    tally_of,
    tenant_stream,
)
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY, HOUR, MINUTE, Entry

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
NO_LIMITS = {"recipients_per_day": 0, "messages_per_minute": 0, "recipients_per_message": 0}
ALICE = Account(Ingress.SUBMISSION, "alice@example.org", "example.org", "example.org")
WEB_FARM = Account(Ingress.TRUSTED, "198.51.100.1")
FORWARDER = Account(Ingress.OUTSIDE, "alice@example.org", "example.org", "example.org")
WEB_SERVER = Account(Ingress.LOCAL, "uid:33", "example.org", "example.org")


def site(*policies, limits=None, **tables):
    return Settings.model_validate(
        {
            "accepted_domains": ["example.org"],
            "pools": POOLS,
            "limits": NO_LIMITS | (limits or {}),
            "outbound_policies": policies,
            **tables,
        }
    )


def default_policy(**limits):
    return {"name": "default", **limits}


def exceeded(settings, *, used=0, internal=0, external=1, account=ALICE):
    """Return what a message exceeds; `used` is what every window held before, or what the one of each limit held."""
    charge = Charge(account, internal, external)
    limits = limits_for(charge, settings)
    windows = tally_of(charge, limits).windows
    by_name = used if isinstance(used, dict) else {}
    held = [
        by_name.get(limit.name if window is limit.window else "of", used if isinstance(used, int) else 0)
        for limit in limits
        for window in (limit.window, limit.of)
        if window
    ]
    assert len(held) == len(windows)
    return judge(limits, tuple(held), account.name)


def names(found):
    return [one.limit.name for one in found]


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


class TestWhatHappensBeyond:
    @pytest.mark.parametrize("action", ["high-risk", "restrict-until-tomorrow", "restrict", "alert"])
    def test_what_the_policy_says(self, action):
        settings = site(default_policy(external_recipients_per_hour=10, over_limit=action))
        assert action_for(exceeded(settings, used=10)) == action

    def test_by_default_high_risk(self):
        assert action_for(exceeded(site(default_policy(external_recipients_per_hour=10)), used=10)) == "high-risk"

    def test_nothing_within_the_limits(self):
        assert action_for(()) == ""
        assert over_limit(()).answer is Answer.NO

    @pytest.mark.parametrize("action", ["high-risk", "restrict-until-tomorrow", "restrict"])
    def test_beyond_the_service_limit_per_day_too(self, action):
        settings = site(default_policy(over_limit=action), limits={"recipients_per_day": 10})
        assert action_for(exceeded(settings, used=10)) == action

    def test_an_alert_changes_no_pool_but_is_told(self):
        found = exceeded(site(default_policy(external_recipients_per_hour=10, over_limit="alert")), used=10)
        assert names(found) == ["external_recipients_per_hour"]
        assert over_limit(found).answer is Answer.NO

    @pytest.mark.parametrize("action", ["high-risk", "restrict-until-tomorrow", "restrict"])
    def test_every_other_action_is_over_the_limit(self, action):
        found = exceeded(site(default_policy(external_recipients_per_hour=10, over_limit=action)), used=10)
        assert over_limit(found).answer is Answer.YES

    def test_a_policy_that_only_watches_makes_no_service_limit_void(self):
        settings = site(
            default_policy(recipients_per_day=5, over_limit="alert"),
            limits={"recipients_per_day": 10, "messages_per_minute": 10, "recipients_per_message": 10},
        )
        watched = exceeded(settings, used=5, external=1)
        assert (action_for(watched), over_limit(watched).answer) == ("alert", Answer.NO)
        for beyond in (
            exceeded(settings, used={"recipients_per_day": 10}),
            exceeded(settings, used={"messages_per_minute": 10}),
            exceeded(settings, external=11),
        ):
            assert (action_for(beyond), over_limit(beyond).answer) == ("high-risk", Answer.YES)

    @pytest.mark.parametrize(
        ("used", "external"),
        [({"messages_per_minute": 10}, 1), ({}, 11), ({"external_recipients_per_tenant_per_day": 100}, 1)],
        ids=["a burst", "one large message", "what all of the tenant send"],
    )
    def test_restricts_nobody(self, used, external):
        settings = site(
            default_policy(over_limit="restrict"),
            limits={
                "messages_per_minute": 10,
                "recipients_per_message": 10,
                "external_recipients_per_tenant_per_day": 100,
            },
        )
        assert action_for(exceeded(settings, used=used, external=external)) == "high-risk"

    def test_the_gravest_action_counts(self):
        settings = {
            action: exceeded(site(default_policy(external_recipients_per_hour=1, over_limit=action)), used=1)
            for action in ("alert", "high-risk", "restrict-until-tomorrow", "restrict")
        }
        together = ()
        for action, found in settings.items():
            together = (*found, *together)
            assert action_for(together) == action
            assert action_for(together[::-1]) == action

    @pytest.mark.parametrize("action", ["restrict", "restrict-until-tomorrow"])
    def test_a_forwarding_mailbox_is_never_restricted_for_what_strangers_send(self, action):
        settings = site(
            default_policy(external_recipients_per_hour=10, over_limit=action),
            limits={"recipients_per_day": 10},
            suspicion={"first_time_recipients_per_day": 5},
            spam={"ceilings": {"verdicts_per_account_per_hour": 5}},
        )
        found = exceeded(settings, used=10, account=FORWARDER)
        assert len(found) == 4
        assert action_for(found) == "high-risk"

    def test_a_forwarding_mailbox_may_be_watched(self):
        settings = site(default_policy(external_recipients_per_hour=10, over_limit="alert"))
        assert action_for(exceeded(settings, used=10, account=FORWARDER)) == "alert"

    def test_a_system_user_is_restricted_like_a_login(self):
        settings = site(default_policy(external_recipients_per_hour=10, over_limit="restrict"))
        assert action_for(exceeded(settings, used=10, account=WEB_SERVER)) == "restrict"


SIGNS = [
    pytest.param({"spam": {"ceilings": {"verdicts_per_account_per_hour": 20}}}, id="verdicts_per_account_per_hour"),
    pytest.param({"spam": {"ceilings": {"verdicts_per_tenant_per_hour": 20}}}, id="verdicts_per_tenant_per_hour"),
    pytest.param({"suspicion": {"first_time_recipients_per_day": 20}}, id="first_time_recipients_per_day"),
    pytest.param({"suspicion": {"client_addresses_per_hour": 20}}, id="client_addresses_per_hour"),
]


class TestSignsOfCompromise:
    @pytest.mark.parametrize("tables", SIGNS)
    def test_up_to_the_threshold_is_no_sign(self, tables):
        assert exceeded(site(**tables), used=20) == ()

    @pytest.mark.parametrize("tables", SIGNS)
    def test_beyond_the_threshold_is_one(self, tables, request):
        (one,) = exceeded(site(**tables), used=21)
        assert one.limit.name == request.node.callspec.id
        assert one.limit.is_sign

    @pytest.mark.parametrize("tables", [{}, *(sign.values[0] for sign in SIGNS)], ids=str)
    def test_quantities_are_no_signs(self, tables):
        found = exceeded(site(limits={"recipients_per_day": 1}, **tables), used=1)
        assert [one.limit.is_sign for one in found] == [False]

    def test_all_are_off_by_default(self):
        assert exceeded(site(), used=10**9) == ()

    @pytest.mark.parametrize("tables", SIGNS)
    def test_how_many_recipients_the_message_has_does_not_matter(self, tables):
        assert exceeded(site(**tables), used=20, external=500) == ()

    @pytest.mark.parametrize(
        ("refused", "sent", "is_sign"),
        [
            pytest.param(30, 100, False, id="exactly the share"),
            pytest.param(31, 100, True, id="more than the share"),
            pytest.param(19, 20, False, id="fewer than the minimum, whatever their share"),
            pytest.param(20, 20, True, id="the minimum"),
            pytest.param(20, 0, True, id="all were sent the day before"),
            pytest.param(0, 0, False, id="nothing sent"),
            pytest.param(300, 1000, False, id="exactly the share of many"),
            pytest.param(301, 1000, True, id="a little more than the share of many"),
        ],
    )
    def test_share_of_refused_recipients(self, refused, sent, is_sign):
        settings = site(suspicion={"refused_recipients_percent": 30, "refused_recipients_minimum": 20})
        found = exceeded(settings, used={"refused_recipients_percent": refused, "of": sent})
        assert names(found) == ["refused_recipients_percent"] * is_sign

    @pytest.mark.parametrize(
        ("over", "action"),
        [
            ("restrict", "restrict"),
            ("restrict-until-tomorrow", "restrict-until-tomorrow"),
            ("high-risk", "high-risk"),
            ("alert", "high-risk"),
        ],
    )
    def test_what_the_policy_says_of_limits_happens_but_spam_is_not_only_watched(self, over, action):
        settings = site(default_policy(over_limit=over), spam={"ceilings": {"verdicts_per_account_per_hour": 20}})
        assert action_for(exceeded(settings, used=21)) == action

    def test_spam_of_a_tenant_restricts_no_account(self):
        settings = site(default_policy(over_limit="restrict"), spam={"ceilings": {"verdicts_per_tenant_per_hour": 20}})
        assert action_for(exceeded(settings, used=21)) == "high-risk"

    @pytest.mark.parametrize("account", [WEB_FARM, FORWARDER, WEB_SERVER], ids=lambda account: account.ingress)
    def test_client_addresses_are_those_of_sasl_users(self, account):
        assert exceeded(site(suspicion={"client_addresses_per_hour": 20}), used=21, account=account) == ()

    def test_every_sign_and_limit_gets_the_window_that_was_asked_for_it(self):
        """The share has two windows: what comes after it must not be one off."""
        settings = site(
            limits={"recipients_per_day": 1000},
            suspicion={"refused_recipients_percent": 30, "first_time_recipients_per_day": 20},
            spam={"ceilings": {"verdicts_per_account_per_hour": 20}},
        )
        used = {"recipients_per_day": 500, "refused_recipients_percent": 100, "of": 500}
        assert exceeded(settings, used=used) == ()
        assert names(exceeded(settings, used=used | {"of": 300})) == ["refused_recipients_percent"]


class TestEvidence:
    @pytest.mark.parametrize(
        ("settings", "used", "external", "text"),
        [
            (
                site(limits={"recipients_per_day": 100}),
                90,
                30,
                "alice@example.org: 90 recipients in 24 hours and 30 more, the limit is 100",
            ),
            (
                site({"name": "sales", "domains": ["example.org"], "external_recipients_per_hour": 100}),
                100,
                1,
                "alice@example.org: 100 external recipients in an hour and 1 more, the limit of policy sales is 100",
            ),
            (
                site(limits={"messages_per_minute": 30}),
                30,
                1,
                "alice@example.org: 30 messages in a minute and 1 more, the limit is 30",
            ),
            (
                site(limits={"recipients_per_message": 1000}),
                0,
                1001,
                "alice@example.org: 1001 recipients in one message, the limit is 1000",
            ),
            (
                site(limits={"external_recipients_per_tenant_per_day": 100}),
                100,
                1,
                "alice@example.org: 100 external recipients of example.org in 24 hours and 1 more, the limit is 100",
            ),
            (
                site(spam={"ceilings": {"verdicts_per_account_per_hour": 20}}),
                21,
                1,
                "alice@example.org: 21 messages found to be spam in an hour, the limit is 20",
            ),
            (
                site(suspicion={"refused_recipients_percent": 30}),
                {"refused_recipients_percent": 25, "of": 50},
                1,
                "alice@example.org: 25 recipients refused in 24 hours, more than 30 %",
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_says_who_how_much_and_beyond_which_limit(self, settings, used, external, text):
        found = exceeded(settings, used=used, external=external)
        assert [one.evidence for one in found] == [text]
        assert over_limit(found).evidence == text

    def test_of_several_limits_all_that_change_the_pool_are_named(self):
        settings = site(
            default_policy(recipients_per_day=5, over_limit="alert"),
            limits={"recipients_per_day": 10, "messages_per_minute": 10},
        )
        evidence = over_limit(exceeded(settings, used=10)).evidence
        assert evidence == (
            "alice@example.org: 10 recipients in 24 hours and 1 more, the limit is 10;"
            " alice@example.org: 10 messages in a minute and 1 more, the limit is 10"
        )

    @pytest.mark.parametrize("account", [ALICE, FORWARDER, WEB_SERVER], ids=lambda account: account.ingress)
    def test_limits_that_the_accounts_of_a_tenant_share_name_the_tenant(self, account):
        settings = site(
            default_policy(recipients_per_day=1, external_recipients_per_hour=1),
            limits={"external_recipients_per_tenant_per_day": 1, "recipients_per_day": 1, "recipients_per_message": 1},
            spam={"ceilings": {"verdicts_per_tenant_per_hour": 1, "verdicts_per_account_per_hour": 1}},
        )
        tenants = {one.limit.name: one.limit.tenant for one in exceeded(settings, used=2, external=2, account=account)}
        assert {name: tenant for name, tenant in tenants.items() if tenant} == {
            "external_recipients_per_tenant_per_day": "example.org",
            "verdicts_per_tenant_per_hour": "example.org",
        }
        assert len(tenants) == 6 - ("recipients_per_day" not in tenants)

    def test_hostile_names_are_one_printable_bounded_line(self):
        account = Account(Ingress.SUBMISSION, "a\r\n\x1b[31m\udcff" + "x" * 1000)
        (one,) = exceeded(site(limits={"recipients_per_day": 1}), used=1, account=account)
        assert one.evidence.isprintable()
        assert len(one.evidence) < 400


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
