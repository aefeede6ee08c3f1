"""The rules one by one, their order, what is decided while something is unknown, and what waiting changes."""

import dataclasses

import pytest

from deliverypools.core.decisions import UNDECIDED, Decision, Match, NotAsked, Unknown
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.forwarding import forwarded
from deliverypools.core.headers import Headers
from deliverypools.core.message_kind import DSN_KINDS, Kind, MessageKind
from deliverypools.core.rules import (
    RULES,
    after_waiting,
    classify,
    default,
    delivery_status_notification,
    over_limit,
    pinned,
    restricted_sender,
    rule_name,
    sender_domain_without_mx_or_a,
)
from deliverypools.core.settings import Settings
from deliverypools.core.spam import spam

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30), ("bulk", 40))
}
NDR = MessageKind(Kind.NON_DELIVERY, "multipart/report")
RESOLVES = Finding(Answer.YES, "example.org: has MX")
FAILS = Finding(Answer.UNKNOWN, "example.org: DNS cannot tell (MX SERVFAIL)")


def site(**changes):
    return Settings.model_validate({"accepted_domains": ["example.org"], "pools": POOLS, **changes})


def pins(*tables):
    return site(pins=list(tables))


ALICE = Origin(
    ingress=Ingress.SUBMISSION,
    account="alice",
    envelope_sender="alice@example.org",
    client_address="198.51.100.7",
)


def origin(**changes):
    return dataclasses.replace(ALICE, **changes)


def message(*fields, is_complete=True, **changes):
    known = {
        "envelope_sender": "alice@example.org",
        "recipients": ("bob@example.net",),
        "headers": Headers.of(fields, is_complete=is_complete),
        "origin": ALICE,
        "sender_domain_has_mx_or_address": RESOLVES,
    }
    return MessageFacts(**known | changes)


RESTRICTED = Finding(Answer.YES, "alice is restricted until an administrator releases it: 501 recipients")


def policies(*tables):
    return site(outbound_policies=list(tables))


class TestRestrictedSender:
    def test_its_mail_leaves_by_high_risk(self):
        match = restricted_sender(message(account_restricted=RESTRICTED), site())
        assert match == Match("high-risk", (RESTRICTED.evidence,), hold=False)

    def test_or_waits_on_hold_where_its_policy_says_so(self):
        held = policies({"name": "default", "restricted_mail": "hold"})
        assert restricted_sender(message(account_restricted=RESTRICTED), held).hold
        decision = classify(message(account_restricted=RESTRICTED), held)
        assert (decision.pool, decision.rule, decision.hold) == ("high-risk", "restricted_sender", True)

    def test_the_policy_is_that_of_the_account(self):
        sales = {"name": "sales", "senders": ["bob"], "restricted_mail": "hold"}
        assert not restricted_sender(message(account_restricted=RESTRICTED), policies(sales)).hold
        bob = message(account_restricted=RESTRICTED, origin=origin(account="bob"))
        assert restricted_sender(bob, policies(sales)).hold

    def test_an_account_that_may_send_is_no_matter(self):
        assert restricted_sender(message(), site()) is None

    def test_store_down_is_unknown(self):
        unknown = message(account_restricted=Finding(Answer.UNKNOWN, "the state could not be read"))
        assert restricted_sender(unknown, site()) == Unknown(("high-risk",), "the state could not be read")
        assert classify(unknown, site()).pool is None

    def test_without_a_ticket_nobody_knows_the_account(self):
        assert restricted_sender(message(origin=None, origin_problem="no ticket"), site()) == Unknown(
            ("high-risk",), "no ticket"
        )

    def test_comes_before_a_pin(self):
        pinned_alice = pins({"sasl_username": "alice", "pool": "bulk"})
        assert classify(message(account_restricted=RESTRICTED), pinned_alice).rule == "restricted_sender"

    def test_nothing_else_holds_mail(self):
        held = policies({"name": "default", "restricted_mail": "hold"})
        over = message(origin=origin(over_limit=Finding(Answer.YES, "too many")))
        assert not classify(over, held).hold


def test_order_is_that_of_the_rules_page():
    assert [rule_name(rule) for rule in RULES] == [
        "forwarding_refused",
        "malware",
        "restricted_sender",
        "delivery_status_notification",
        "sender_domain_without_mx_or_a",
        "not_scanned_for_malware",
        "pinned",
        "spam",
        "unscanned",
        "over_limit",
        "forwarded",
        "suspicious",
        "default",
    ]


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
def test_every_rule_says_what_it_is_for(rule):
    assert rule.__doc__


class TestDeliveryStatusNotification:
    def test_null_sender_matches(self):
        match = delivery_status_notification(message(envelope_sender=""), site())
        assert match == Match("high-risk", ("null reverse-path", "ordinary, no delivery status"))

    @pytest.mark.parametrize("kind", [Kind.NON_DELIVERY, Kind.DELAY, Kind.DELIVERY])
    def test_dsn_matches_whatever_its_sender(self, kind):
        match = delivery_status_notification(message(kind=MessageKind(kind, "qmail")), site())
        assert match == Match("high-risk", (f"{kind} (qmail)",))

    @pytest.mark.parametrize("kind", sorted(set(Kind) - DSN_KINDS))
    def test_any_other_kind_with_a_sender_does_not_match(self, kind):
        assert delivery_status_notification(message(kind=MessageKind(kind, "x")), site()) is None

    @pytest.mark.parametrize("kind", sorted(set(Kind) - DSN_KINDS))
    def test_any_other_kind_with_a_null_sender_is_told_apart(self, kind):
        match = delivery_status_notification(message(envelope_sender="", kind=MessageKind(kind, "x")), site())
        assert match == Match("high-risk", ("null reverse-path", f"{kind} (x), no delivery status"))

    def test_what_bounce_makes_matches_whatever_its_sender(self):
        facts = message(envelope_sender="double-bounce@example.org", origin=origin(ingress=Ingress.BOUNCE), kind=NDR)
        reasons = ("made by this Postfix (bounce)", "non-delivery (multipart/report)")
        assert delivery_status_notification(facts, site()) == Match("high-risk", reasons)

    def test_null_sender_from_outside_matches_though_a_list_gave_it_one(self):
        facts = message(origin=origin(ingress=Ingress.OUTSIDE, envelope_sender=""))
        assert delivery_status_notification(facts, site()).reasons[0] == "null reverse-path when it arrived"

    def test_needs_no_origin(self):
        assert delivery_status_notification(message(envelope_sender="", origin=None), site()).pool == "high-risk"


class TestSenderDomain:
    @pytest.mark.parametrize(
        ("finding", "outcome"),
        [
            (Finding(Answer.NO, "x.example: NXDOMAIN"), Match("high-risk", ("x.example: NXDOMAIN",))),
            (RESOLVES, None),
            (FAILS, Unknown(("high-risk",), FAILS.evidence)),
            (NOT_ASKED, NotAsked()),
        ],
        ids=lambda value: value.answer.value if isinstance(value, Finding) else "",
    )
    def test_every_answer_has_its_outcome(self, finding, outcome):
        facts = message(sender_domain_has_mx_or_address=finding)
        assert sender_domain_without_mx_or_a(facts, site()) == outcome


class TestPinned:
    def test_sender_in_any_case(self):
        settings = pins({"sender": "Alice@Example.org", "pool": "bulk"})
        facts = message(origin=origin(envelope_sender="ALICE@example.ORG"))
        assert pinned(facts, settings) == Match("bulk", ("pinned sender alice@example.org",))

    def test_another_sender_does_not_match(self):
        assert pinned(message(), pins({"sender": "bob@example.org", "pool": "bulk"})) is None

    @pytest.mark.parametrize("sender", ["a@example.org", "a@EXAMPLE.org.", "a@lists.example.org", "a@x.y.example.org"])
    def test_domain_with_its_subdomains(self, sender):
        facts = message(origin=origin(envelope_sender=sender))
        assert pinned(facts, pins({"domain": "example.org", "pool": "bulk"})).pool == "bulk"

    @pytest.mark.parametrize("sender", ["a@badexample.org", "a@example.org.net", "example.org", "", "a@org"])
    def test_domain_that_only_looks_alike_does_not_match(self, sender):
        facts = message(origin=origin(envelope_sender=sender))
        assert pinned(facts, pins({"domain": "example.org", "pool": "bulk"})) is None

    def test_sasl_user_in_any_case_of_the_setting(self):
        assert pinned(message(), pins({"sasl_username": "ALICE", "pool": "bulk"})).pool == "bulk"

    def test_sasl_user_is_no_account_of_a_trusted_client(self):
        facts = message(origin=origin(ingress=Ingress.TRUSTED))
        assert pinned(facts, pins({"sasl_username": "alice", "pool": "bulk"})) is None

    @pytest.mark.parametrize(
        ("address", "matches"),
        [
            ("198.51.100.0", True),
            ("198.51.100.15", True),
            ("198.51.100.16", False),
            ("198.51.99.255", False),
            ("2001:db8::1", False),
            ("", False),
            ("unknown", False),
        ],
    )
    def test_client_network_up_to_its_edges(self, address, matches):
        facts = message(origin=origin(ingress=Ingress.TRUSTED, client_address=address))
        match = pinned(facts, pins({"client": "198.51.100.0/28", "pool": "bulk"}))
        assert bool(match) is matches

    @pytest.mark.parametrize("ingress", [Ingress.SUBMISSION, Ingress.TRUSTED])
    def test_submitted_and_trusted_mail_matches(self, ingress):
        facts = message(origin=origin(ingress=ingress))
        assert pinned(facts, pins({"sender": "alice@example.org", "pool": "bulk"})).pool == "bulk"

    @pytest.mark.parametrize("ingress", [Ingress.OUTSIDE, Ingress.LOCAL, Ingress.BOUNCE])
    def test_any_other_mail_does_not_match(self, ingress):
        facts = message(origin=origin(ingress=ingress))
        assert pinned(facts, pins({"sender": "alice@example.org", "pool": "bulk"})) is None

    def test_asks_the_sender_as_submitted_not_the_one_that_leaves(self):
        facts = message(envelope_sender="alice@example.org", origin=origin(envelope_sender="eve@example.net"))
        assert pinned(facts, pins({"sender": "alice@example.org", "pool": "bulk"})) is None

    def test_first_pin_that_matches_wins(self):
        settings = pins(
            {"sender": "bob@example.org", "pool": "relay"},
            {"domain": "example.org", "pool": "bulk"},
            {"sender": "alice@example.org", "pool": "normal"},
        )
        assert pinned(message(), settings).pool == "bulk"

    def test_unknown_without_an_origin(self):
        settings = pins({"domain": "example.org", "pool": "bulk"}, {"domain": "example.net", "pool": "relay"})
        facts = message(origin=None, origin_problem="no ticket")
        assert pinned(facts, settings) == Unknown(("bulk", "relay"), "no ticket")

    def test_nothing_is_unknown_where_there_are_no_pins(self):
        assert pinned(message(origin=None, origin_problem="no ticket"), site()) is None


class TestSpam:
    def test_header_matches_with_its_evidence(self):
        assert spam(message(("X-Spam-Flag", "YES")), site()) == Match("high-risk", ("X-Spam-Flag: YES",))

    def test_verdict_on_arrival_matches_though_the_header_is_gone(self):
        facts = message(origin=origin(spam="X-Spam-Flag: YES"))
        assert spam(facts, site()) == Match("high-risk", ("X-Spam-Flag: YES",))

    def test_mail_without_a_verdict_does_not_match(self):
        assert spam(message(("X-Spam-Flag", "NO"), ("Subject", "YES")), site()) is None

    def test_headers_are_those_of_the_settings(self):
        settings = site(spam={"headers": ["X-Our-Scanner"]})
        assert spam(message(("X-Spam-Flag", "YES")), settings) is None
        assert spam(message(("x-our-scanner", "true")), settings).reasons == ("X-Our-Scanner: true",)

    def test_more_headers_than_are_read_could_hide_a_verdict(self):
        facts = message(is_complete=False)
        assert spam(facts, site()) == Match("high-risk", ("more header fields than are read",))

    def test_what_was_read_is_enough_for_a_match(self):
        assert spam(message(("X-Spam", "Yes"), is_complete=False), site()).pool == "high-risk"


class TestOverLimit:
    @pytest.mark.parametrize(
        ("finding", "outcome"),
        [
            (Finding(Answer.YES, "alice: 11"), Match("high-risk", ("alice: 11",))),
            (Finding(Answer.NO), None),
            (NOT_ASKED, None),
            (Finding(Answer.UNKNOWN, "state"), Unknown(("high-risk",), "state")),
        ],
        ids=lambda value: value.answer.value if isinstance(value, Finding) else "",
    )
    def test_every_answer_has_its_outcome(self, finding, outcome):
        assert over_limit(message(origin=origin(over_limit=finding)), site()) == outcome

    def test_unknown_without_an_origin(self):
        facts = message(origin=None, origin_problem="no ticket")
        assert over_limit(facts, site()) == Unknown(("high-risk",), "no ticket")


class TestForwarded:
    def test_mail_from_outside_matches_though_its_sender_is_ours(self):
        facts = message(origin=origin(ingress=Ingress.OUTSIDE))
        assert forwarded(facts, site()) == Match(
            "relay", ("arrived from outside (198.51.100.7)", "authentication not examined")
        )

    def test_the_mailbox_that_forwarded_is_a_reason(self):
        facts = message(origin=origin(ingress=Ingress.OUTSIDE), forwarded_by="carol@example.org")
        assert forwarded(facts, site()).reasons[1] == "forwarded by carol@example.org"

    @pytest.mark.parametrize("ingress", [Ingress.SUBMISSION, Ingress.TRUSTED, Ingress.LOCAL])
    def test_foreign_sender_of_our_clients_matches(self, ingress):
        facts = message(envelope_sender="eve@example.net", origin=origin(ingress=ingress))
        assert forwarded(facts, site()) == Match("relay", ("sender domain example.net is not an accepted domain",))

    def test_sender_without_a_domain_matches(self):
        facts = message(envelope_sender="root", origin=origin(ingress=Ingress.LOCAL))
        assert forwarded(facts, site()).reasons == ("sender domain (none) is not an accepted domain",)

    @pytest.mark.parametrize("sender", ["alice@example.org", '"a@b"@EXAMPLE.ORG', "alice@example.org."])
    def test_sender_of_ours_does_not_match(self, sender):
        assert forwarded(message(envelope_sender=sender), site()) is None

    def test_subdomain_of_an_accepted_domain_is_another_domain(self):
        assert forwarded(message(envelope_sender="alice@sub.example.org"), site()).pool == "relay"

    def test_unknown_without_an_origin(self):
        facts = message(origin=None, origin_problem="no ticket")
        assert forwarded(facts, site()) == Unknown(("relay",), "no ticket")


def test_default_matches_anything():
    assert default(message(), site()) == Match("normal", ("no other rule matched",))


class TestClassify:
    def test_mail_of_our_users_leaves_by_normal(self):
        assert classify(message(), site()) == Decision("normal", "default", ("no other rule matched",))

    @pytest.mark.parametrize(
        ("changes", "rule", "pool"),
        [
            ({"envelope_sender": ""}, "delivery_status_notification", "high-risk"),
            ({}, "sender_domain_without_mx_or_a", "high-risk"),
            ({"sender_domain_has_mx_or_address": RESOLVES}, "pinned", "bulk"),
        ],
        ids=["null-sender", "no-mx", "pinned"],
    )
    def test_the_first_rule_that_matches_wins(self, changes, rule, pool):
        everything = {
            "sender_domain_has_mx_or_address": Finding(Answer.NO, "NXDOMAIN"),
            "origin": origin(over_limit=Finding(Answer.YES, "too many"), spam="X-Spam: Yes"),
        }
        decision = classify(message(**everything | changes), pins({"sender": "alice@example.org", "pool": "bulk"}))
        assert (decision.rule, decision.pool) == (rule, pool)

    def test_spam_comes_before_over_limit_and_forwarded(self):
        over = origin(ingress=Ingress.OUTSIDE, over_limit=Finding(Answer.YES, "too many"))
        assert classify(message(("X-Spam", "Yes"), origin=over), site()).rule == "spam"
        assert classify(message(origin=over), site()).rule == "over_limit"

    def test_undecided_where_the_outcomes_differ(self):
        decision = classify(message(sender_domain_has_mx_or_address=FAILS), site())
        assert decision == Decision(None, UNDECIDED, (FAILS.evidence,))

    def test_decided_where_every_outcome_leads_to_the_same_pool(self):
        decision = classify(message(("X-Spam", "Yes"), sender_domain_has_mx_or_address=FAILS), site())
        assert (decision.pool, decision.rule, decision.reasons) == ("high-risk", "spam", ("X-Spam: Yes",))

    def test_two_unknowns_to_different_pools_are_undecided_though_the_last_one_agrees(self):
        facts = message(("X-Spam", "Yes"), origin=None, origin_problem="no ticket")
        assert classify(facts, pins({"sender": "alice@example.org", "pool": "bulk"})).pool is None

    def test_an_unknown_pin_to_high_risk_does_not_hinder_spam(self):
        facts = message(("X-Spam", "Yes"), origin=None, origin_problem="no ticket")
        assert classify(facts, pins({"sender": "alice@example.org", "pool": "high-risk"})).rule == "spam"

    def test_mail_without_a_ticket_is_undecided_and_says_why_once(self):
        decision = classify(message(origin=None, origin_problem="no ticket"), site())
        assert decision == Decision(None, UNDECIDED, ("no ticket",))

    def test_report_without_a_ticket_is_decided(self):
        assert classify(message(kind=NDR, origin=None, origin_problem="no ticket"), site()).pool == "high-risk"

    def test_unread_headers_never_lead_to_normal(self):
        assert classify(message(is_complete=False), site()).pool == "high-risk"

    def test_rules_not_asked_are_named(self):
        decision = classify(message(sender_domain_has_mx_or_address=NOT_ASKED), site())
        assert (decision.pool, decision.not_asked) == ("normal", ("sender_domain_without_mx_or_a",))


class TestAfterWaiting:
    settings = site(milter={"undecided_after": "4h"})
    undecided = Decision(None, UNDECIDED, ("no ticket",))

    def test_decided_mail_stays_as_it_is(self):
        decision = Decision("normal", "default", ("no other rule matched",))
        assert after_waiting(decision, 1e9, self.settings) is decision

    def test_waits_until_the_last_moment(self):
        assert after_waiting(self.undecided, 4 * 3600 - 0.1, self.settings) is self.undecided

    def test_then_leaves_by_high_risk(self):
        decision = after_waiting(self.undecided, 4 * 3600, self.settings)
        assert decision == Decision("high-risk", UNDECIDED, ("no ticket", "waited 4.0 h"))

    def test_does_not_wait_where_nothing_tells_how_long(self):
        decision = after_waiting(self.undecided, None, self.settings)
        assert (decision.pool, decision.reasons[1]) == ("high-risk", "nothing tells how long it has waited")
