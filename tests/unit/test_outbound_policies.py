"""Which outbound policy an account is under."""

import pytest

from deliverypools.core.accounts import account_of
from deliverypools.core.facts import Ingress
from deliverypools.core.outbound_policies import is_in_scope, policy_for
from deliverypools.core.settings import OutboundPolicy, Settings

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}


def settings(*policies, **groups):
    return Settings.model_validate(
        {
            "accepted_domains": ["example.org"],
            "pools": POOLS,
            "outbound_policies": policies,
            "groups": groups,
        }
    )


GROUPS = {"managers": ["alice@example.org", "bob@example.org"], "web": ["uid:33"], "empty": []}
SITE = settings(**GROUPS)


def user(name, ingress=Ingress.SUBMISSION, sender=""):
    return account_of(ingress, name, sender, SITE)


ALICE = user("alice@example.org")


def chosen(account, *policies, **groups):
    policy = policy_for(account, settings(*policies, **groups))
    return policy and policy.name


def in_scope(account, **scope):
    """Tell whether a policy with this scope names an account; as name, that of a SASL user."""
    account = user(account) if isinstance(account, str) else account
    return is_in_scope(OutboundPolicy(name="p", **scope), account, SITE)


class TestWhichOne:
    POLICIES = (
        {"name": "low", "priority": 1, "senders": ["alice@example.org", "bob@example.org"]},
        {"name": "high", "priority": 2, "senders": ["alice@example.org"]},
    )

    def test_the_highest_priority_applies(self):
        assert chosen(ALICE, *self.POLICIES) == "high"
        assert chosen(ALICE, *reversed(self.POLICIES)) == "high"

    def test_one_that_does_not_name_the_account_gives_way_to_the_next(self):
        assert chosen(user("bob@example.org"), *self.POLICIES) == "low"

    def test_negative_priorities_come_after_zero(self):
        policies = (
            {"name": "below", "priority": -1, "domains": ["example.org"]},
            {"name": "zero", "domains": ["example.org"]},
        )
        assert chosen(ALICE, *policies) == "zero"

    def test_of_the_same_priority_the_first_in_the_file_applies(self):
        first = {"name": "first", "priority": 5, "domains": ["example.org"]}
        second = {"name": "second", "priority": 5, "senders": ["alice@example.org"]}
        assert chosen(ALICE, first, second) == "first"
        assert chosen(ALICE, second, first) == "second"

    def test_only_one_applies_they_are_not_added_up(self):
        policy = policy_for(
            ALICE,
            settings(
                {"name": "high", "priority": 2, "domains": ["example.org"]},
                {"name": "low", "priority": 1, "domains": ["example.org"], "recipients_per_day": 5},
            ),
        )
        assert policy.recipients_per_day == 0


class TestDefault:
    def test_there_always_is_one(self):
        policy = policy_for(ALICE, settings())
        assert policy == OutboundPolicy(name="default")
        assert (policy.over_limit, policy.recipients_per_day) == ("high-risk", 0)

    def test_it_is_for_everybody_whom_no_other_names(self):
        policies = (
            {"name": "default", "over_limit": "restrict"},
            {"name": "sales", "senders": ["bob@example.org"]},
        )
        assert policy_for(ALICE, settings(*policies)).over_limit == "restrict"
        assert chosen(user("bob@example.org"), *policies) == "sales"

    def test_its_priority_lets_it_not_come_before_the_others(self):
        policies = (
            {"name": "default", "priority": 1000},
            {"name": "sales", "senders": ["alice@example.org"]},
        )
        assert chosen(ALICE, *policies) == "sales"

    @pytest.mark.parametrize("ingress", [Ingress.SUBMISSION, Ingress.LOCAL, Ingress.OUTSIDE])
    def test_it_is_for_users_and_forwarding_mailboxes(self, ingress):
        assert chosen(user("alice@example.org", ingress)) == "default"

    def test_it_is_not_for_trusted_clients(self):
        assert chosen(user("news@example.org", Ingress.TRUSTED), {"name": "default"}) is None
        assert chosen(user("198.51.100.1", Ingress.TRUSTED), {"name": "default"}) is None


class TestTrustedClients:
    @pytest.mark.parametrize(
        "scope",
        [{"senders": ["News@Example.org"]}, {"domains": ["example.org"]}, {"groups": ["g"]}],
        ids=lambda scope: next(iter(scope)),
    )
    def test_are_under_a_policy_that_names_their_accepted_sender(self, scope):
        policy = {"name": "web"} | scope
        assert chosen(user("news@example.org", Ingress.TRUSTED), policy, g=["news@example.org"]) == "web"

    @pytest.mark.parametrize("written", ["2001:db8::1", "2001:DB8:0::1"])
    def test_are_under_a_policy_that_names_their_address(self, written):
        assert chosen(user("2001:db8::1", Ingress.TRUSTED), {"name": "web", "senders": [written]}) == "web"

    def test_that_relay_for_a_domain_are_not_that_domain(self):
        policy = {"name": "net", "domains": ["example.net"]}
        assert chosen(user("198.51.100.1", Ingress.TRUSTED, "eve@example.net"), policy) is None

    def test_are_not_under_a_policy_for_everybody_else(self):
        policy = {"name": "others", "except_senders": ["bob@example.org"]}
        assert chosen(user("198.51.100.1", Ingress.TRUSTED), policy) is None
        assert chosen(ALICE, policy) == "others"


class TestScope:
    @pytest.mark.parametrize(
        ("scope", "named", "others"),
        [
            (
                {"senders": ["alice@example.org", "bob@example.net", "carol"]},
                ["alice@example.org", "bob@example.net", "carol"],
                ["dave@example.org", "alice@example.net", "carol@example.org", "alice"],
            ),
            (
                {"domains": ["example.org", "example.net"]},
                ["alice@example.org", "bob@example.net"],
                ["carol@example.com", "dave", "example.org"],
            ),
            (
                {"groups": ["managers", "web"]},
                ["alice@example.org", "bob@example.org", "uid:33"],
                ["carol@example.org", "uid:34", "managers"],
            ),
            ({"groups": ["empty"]}, [], ["alice@example.org"]),
        ],
        ids=["senders", "domains", "groups", "a group without members"],
    )
    def test_conditions_of_one_kind_are_alternatives(self, scope, named, others):
        assert [in_scope(account, **scope) for account in named] == [True] * len(named)
        assert [in_scope(account, **scope) for account in others] == [False] * len(others)

    @pytest.mark.parametrize(
        ("senders", "domains", "groups", "expected"),
        [
            ("alice@example.org", "example.org", "managers", True),
            ("bob@example.org", "example.org", "managers", False),
            ("alice@example.org", "example.net", "managers", False),
            ("alice@example.org", "example.org", "web", False),
            (None, "example.org", "managers", True),
            (None, "example.org", "web", False),
            ("alice@example.org", None, "web", False),
            ("alice@example.org", None, "managers", True),
        ],
    )
    def test_conditions_of_different_kinds_must_all_hold(self, senders, domains, groups, expected):
        written = {"senders": senders, "domains": domains, "groups": groups}
        scope = {kind: [condition] for kind, condition in written.items() if condition}
        assert in_scope("alice@example.org", **scope) is expected

    @pytest.mark.parametrize(
        "exception",
        [
            {"except_senders": ["bob@example.net", "alice@example.org"]},
            {"except_domains": ["example.net", "example.org"]},
            {"except_groups": ["web", "managers"]},
            {"except_senders": ["alice@example.org"], "except_groups": ["web"]},
        ],
        ids="+".join,
    )
    def test_one_exception_is_enough(self, exception):
        scope = {"senders": ["alice@example.org"], "domains": ["example.org"], "groups": ["managers"]}
        assert in_scope("alice@example.org", **scope)
        assert not in_scope("alice@example.org", **scope, **exception)

    def test_exceptions_for_others_change_nothing(self):
        exceptions = {
            "except_senders": ["bob@example.org"],
            "except_domains": ["example.net"],
            "except_groups": ["web"],
        }
        assert in_scope("alice@example.org", domains=["example.org"], **exceptions)

    def test_with_exceptions_only_it_is_for_everybody_else(self):
        scope = {"except_groups": ["managers"]}
        assert not in_scope("alice@example.org", **scope)
        assert in_scope("carol@example.org", **scope)
        assert in_scope(user("uid:33", Ingress.LOCAL), **scope)

    @pytest.mark.parametrize(
        ("domain", "expected"),
        [
            ("example.org", True),
            ("sales.example.org", True),
            ("eu.sales.example.org", True),
            ("badexample.org", False),
            ("org", False),
            ("example.org.evil.example", False),
        ],
    )
    def test_subdomains_are_included(self, domain, expected):
        assert in_scope(f"alice@{domain}", domains=["example.org"]) is expected
        assert in_scope(f"alice@{domain}", except_domains=["example.org"]) is not expected

    def test_an_exception_may_take_out_a_subdomain(self):
        scope = {"domains": ["example.org"], "except_domains": ["eu.sales.example.org"]}
        assert in_scope("alice@sales.example.org", **scope)
        assert not in_scope("alice@eu.sales.example.org", **scope)

    @pytest.mark.parametrize(
        ("name", "ingress"), [("alice", Ingress.SUBMISSION), ("uid:33", Ingress.LOCAL)], ids=["login", "system user"]
    )
    def test_an_account_without_a_domain_is_in_that_of_its_envelope_sender(self, name, ingress):
        assert in_scope(user(name, ingress, "Alice@Sales.Example.org"), domains=["example.org"])
        assert not in_scope(user(name, ingress, "alice@example.net"), domains=["example.org"])
        assert not in_scope(user(name, ingress, ""), domains=["example.org"])

    def test_an_account_with_a_domain_cannot_choose_another_by_its_envelope_sender(self):
        assert not in_scope(user("alice@example.org", sender="alice@example.net"), domains=["example.net"])
