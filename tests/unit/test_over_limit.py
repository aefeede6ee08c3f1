"""Sending limits that a message exceeds: what follows, which are signs of compromise, and what is said of them."""

import pytest
from limited_sites import ALICE, FORWARDER, WEB_FARM, WEB_SERVER, default_policy, exceeded, names, site

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Answer, Ingress
from deliverypools.core.limits import action_for, over_limit


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
