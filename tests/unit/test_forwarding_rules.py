"""Forwarded mail: what authentication, rewritten senders, mailing lists and outbound policies make of it."""

import dataclasses

import pytest

from deliverypools.core.decisions import Refusal
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Ingress, MessageFacts, Origin, RewrittenSender
from deliverypools.core.forwarding import forwarding_refused
from deliverypools.core.forwarding import leaving_sender as leaving_sender_of
from deliverypools.core.headers import Headers
from deliverypools.core.mailing_lists import list_posted_to
from deliverypools.core.rules import classify
from deliverypools.core.settings import Settings

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
RESOLVES = Finding(Answer.YES, "example.com: has MX")
AUTHENTICATED = Finding(Answer.YES, "DMARC pass of example.com (DKIM example.com)")
FORGED = Finding(Answer.NO, "DMARC fail of example.com")
UNKNOWN = Finding(Answer.UNKNOWN, "DNS did not tell about SPF of example.com")
SRS = RewrittenSender("SRS0=abcd=EF=example.com=erin@srs.example.org")
TOO_LONG = RewrittenSender(problem="SRS address would have 83 octets in its local part, 64 are allowed")


def site(**changes):
    return Settings.model_validate({"accepted_domains": ["example.org"], "pools": POOLS, **changes})


def forwarding(**changes):
    return site(forwarding=changes)


def outside(authenticated=NOT_ASKED, sender="erin@example.com", envelope=None):
    return Origin(
        ingress=Ingress.OUTSIDE,
        envelope_sender=sender,
        client_address="203.0.113.1",
        authenticated=authenticated,
        envelope_authenticated=authenticated if envelope is None else envelope,
    )


def leaving_sender(message):
    return leaving_sender_of(message, site())


def facts(origin, **changes):
    known = {
        "envelope_sender": origin.envelope_sender,
        "recipients": ("carol@example.net",),
        "headers": Headers(),
        "origin": origin,
        "sender_domain_has_mx_or_address": RESOLVES,
    }
    return MessageFacts(**known | changes)


class TestPool:
    @pytest.mark.parametrize(
        ("authenticated", "settings", "pool"),
        [
            (AUTHENTICATED, {}, "relay"),
            (AUTHENTICATED, {"authenticated_forward_pool": "normal"}, "normal"),
            (AUTHENTICATED, {"unauthenticated_forward": "high-risk"}, "relay"),
            (AUTHENTICATED, {"unauthenticated_forward": "reject"}, "relay"),
            (FORGED, {}, "relay"),
            (FORGED, {"authenticated_forward_pool": "normal"}, "relay"),
            (FORGED, {"unauthenticated_forward": "high-risk"}, "high-risk"),
            (NOT_ASKED, {"unauthenticated_forward": "high-risk"}, "high-risk"),
            (NOT_ASKED, {"unauthenticated_forward": "reject"}, "relay"),
            (NOT_ASKED, {"authenticated_forward_pool": "normal"}, "relay"),
            (UNKNOWN, {}, "relay"),
            (UNKNOWN, {"authenticated_forward_pool": "normal"}, None),
            (UNKNOWN, {"unauthenticated_forward": "high-risk"}, None),
            (UNKNOWN, {"unauthenticated_forward": "reject"}, None),
        ],
    )
    def test_of_mail_from_outside(self, authenticated, settings, pool):
        decision = classify(facts(outside(authenticated)), forwarding(**settings))
        assert (decision.pool, decision.refusal) == (pool, None)

    @pytest.mark.parametrize("answer", [FORGED, NOT_ASKED, UNKNOWN])
    @pytest.mark.parametrize("unauthenticated", ["relay", "high-risk", "reject"])
    def test_a_spoofed_sender_of_ours_never_leaves_by_normal(self, answer, unauthenticated):
        settings = forwarding(authenticated_forward_pool="normal", unauthenticated_forward=unauthenticated)
        decision = classify(facts(outside(answer, "alice@example.org"), rewritten_sender=SRS), settings)
        assert decision.pool != "normal"

    def test_evidence_is_a_reason(self):
        assert classify(facts(outside(FORGED)), site()).reasons[-1] == "not authenticated: DMARC fail of example.com"
        assert classify(facts(outside(AUTHENTICATED)), site()).reasons[-1] == f"authenticated: {AUTHENTICATED.evidence}"

    def test_null_sender_leaves_by_high_risk_and_stays_null(self):
        bounce = facts(outside(AUTHENTICATED, ""), rewritten_sender=None)
        assert classify(bounce, forwarding(authenticated_forward_pool="normal")).rule == "delivery_status_notification"
        assert leaving_sender(bounce) == ""

    REJECT = forwarding(unauthenticated_forward="reject")

    def test_rejected_mail_goes_back_to_the_mailbox_not_to_the_sender(self):
        decision = classify(facts(outside(FORGED), forwarded_by="carol@example.org"), self.REJECT)
        assert (decision.rule, decision.refusal) == ("forwarding_refused", Refusal.TO_FORWARDER)
        assert decision.reasons[1:] == (
            "forwarded by carol@example.org",
            "not authenticated: DMARC fail of example.com",
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"forwarded_by": ""},
            {"forwarded_by": "all@example.org", "recipients": ("dave@example.net", "frank@example.net")},
        ],
        ids=["mailbox-unknown", "alias-to-many"],
    )
    def test_or_to_postmaster(self, changes):
        assert classify(facts(outside(FORGED), **changes), self.REJECT).refusal is Refusal.TO_POSTMASTER

    def test_spam_and_the_rest_do_not_get_past_it(self):
        spam = dataclasses.replace(outside(FORGED), spam="X-Spam-Flag: YES")
        no_mx = Finding(Answer.NO, "example.com: no such domain (NXDOMAIN)")
        assert classify(facts(spam), self.REJECT).refusal is not None
        assert classify(facts(outside(FORGED), sender_domain_has_mx_or_address=no_mx), self.REJECT).refusal is not None

    def test_copies_for_an_archive_leave(self):
        two = ("archive@example.net", "dave@example.net")
        only = classify(facts(outside(FORGED), archive_copies=1), self.REJECT)
        mixed = classify(facts(outside(FORGED), recipients=two, archive_copies=1), self.REJECT)
        assert (only.pool, only.refusal) == ("relay", None)
        assert (mixed.pool, mixed.refusal) == ("high-risk", None)

    def test_other_clients_mail_is_not_examined(self):
        trusted = dataclasses.replace(outside(), ingress=Ingress.TRUSTED)
        decision = classify(facts(trusted), forwarding(unauthenticated_forward="reject"))
        assert (decision.pool, decision.rule, decision.refusal) == ("relay", "forwarded", None)


class TestRewrittenSender:
    def test_of_an_authenticated_forward(self):
        message = facts(outside(AUTHENTICATED), rewritten_sender=SRS)
        assert leaving_sender(message) == SRS.address
        assert classify(message, site()).reasons[-1] == "sender rewritten (SRS)"

    @pytest.mark.parametrize("authenticated", [FORGED, NOT_ASKED, UNKNOWN])
    def test_not_of_another_one(self, authenticated):
        assert leaving_sender(facts(outside(authenticated), rewritten_sender=SRS)) == "erin@example.com"

    def test_not_of_mail_that_a_client_of_ours_sends(self):
        trusted = dataclasses.replace(outside(AUTHENTICATED), ingress=Ingress.TRUSTED)
        assert leaving_sender(facts(trusted, rewritten_sender=SRS)) == "erin@example.com"

    def test_unknown_authentication_waits_though_both_pools_are_one(self):
        assert classify(facts(outside(UNKNOWN), rewritten_sender=SRS), site()).pool is None

    def test_unknown_authentication_does_not_matter_where_nothing_could_be_rewritten(self):
        assert classify(facts(outside(UNKNOWN), rewritten_sender=TOO_LONG), site()).pool == "relay"

    def test_too_long_leaves_by_relay_as_it_is_and_says_so(self):
        message = facts(outside(AUTHENTICATED), rewritten_sender=TOO_LONG)
        decision = classify(message, forwarding(authenticated_forward_pool="normal"))
        assert (decision.pool, leaving_sender(message)) == ("relay", "erin@example.com")
        assert decision.reasons[-1] == f"sender not rewritten: {TOO_LONG.problem}"


OFF = {"outbound_policies": [{"name": "default", "automatic_forwarding": "off"}]}
BY_CAROL = {"forwarded_by": "carol+lists@example.org", "is_forwarded_automatically": True}


class TestEnvelopeSender:
    """From may be authenticated, and the envelope sender somebody else."""

    @pytest.mark.parametrize("envelope", [FORGED, NOT_ASKED])
    def test_of_somebody_else_is_not_rewritten_and_leaves_by_relay(self, envelope):
        message = facts(outside(AUTHENTICATED, "alice@example.org", envelope), rewritten_sender=SRS)
        decision = classify(message, forwarding(authenticated_forward_pool="normal"))
        assert (decision.pool, leaving_sender(message)) == ("relay", "alice@example.org")
        assert decision.reasons[-1].startswith("but not its envelope sender")

    def test_unknown_waits_where_it_matters(self):
        message = facts(outside(AUTHENTICATED, envelope=UNKNOWN), rewritten_sender=SRS)
        assert classify(message, site()).pool is None
        assert classify(facts(outside(AUTHENTICATED, envelope=UNKNOWN)), site()).pool == "relay"


class TestForwardingOff:
    @pytest.mark.parametrize(
        ("authenticated", "told"),
        [
            (AUTHENTICATED, Refusal.TO_SENDER),
            (FORGED, Refusal.TO_POSTMASTER),
            (UNKNOWN, Refusal.TO_POSTMASTER),
            (NOT_ASKED, Refusal.TO_POSTMASTER),
        ],
    )
    def test_refuses_what_a_mailbox_forwards_by_itself(self, authenticated, told):
        decision = classify(facts(outside(authenticated), **BY_CAROL), site(**OFF))
        assert (decision.rule, decision.refusal) == ("forwarding_refused", told)
        assert decision.reasons == ('carol@example.org may not forward automatically (outbound policy "default")',)

    def test_refuses_what_our_own_users_sent_too(self):
        alice = Origin(ingress=Ingress.SUBMISSION, account="alice", envelope_sender="alice@example.org")
        assert forwarding_refused(facts(alice, **BY_CAROL), site(**OFF)).refusal is Refusal.TO_SENDER

    def test_lets_notices_of_this_postfix_pass_whatever_their_sender(self):
        notice = Origin(ingress=Ingress.BOUNCE, envelope_sender="double-bounce@mx.example.org")
        assert forwarding_refused(facts(notice, **BY_CAROL), site(**OFF)) is None

    def test_automatic_means_off(self):
        settings = site(outbound_policies=[{"name": "default", "automatic_forwarding": "automatic"}])
        assert forwarding_refused(facts(outside(), **BY_CAROL), settings) is not None

    def test_the_policy_is_that_of_the_mailbox(self):
        sales = {"name": "sales", "senders": ["carol@example.org"], "automatic_forwarding": "on"}
        settings = site(outbound_policies=[sales, *OFF["outbound_policies"]])
        assert forwarding_refused(facts(outside(), **BY_CAROL), settings) is None

    def test_on_is_the_default(self):
        assert forwarding_refused(facts(outside(), **BY_CAROL), site()) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"is_forwarded_automatically": False},
            {"mailing_list": "carol@example.org"},
            {"envelope_sender": ""},
            {"forwarded_by": ""},
            {"archive_copies": 1},
        ],
        ids=["virtual-alias", "mailing-list", "null-sender", "mailbox-unknown", "archive"],
    )
    def test_lets_other_mail_pass(self, changes):
        assert forwarding_refused(facts(outside(), **BY_CAROL | changes), site(**OFF)) is None

    def test_comes_before_every_rule_that_lets_mail_leave(self):
        restricted = Finding(Answer.YES, "carol is restricted")
        message = facts(outside(), account_restricted=restricted, **BY_CAROL)
        assert classify(message, site(**OFF)).rule == "forwarding_refused"


class TestMailingList:
    ACCEPTED = frozenset(
        ["staff@example.org", "the-board@example.org", "carol@example.org", "info-desk@example.org", "info@example.org"]
    )

    def list_of(self, sender, before="erin@example.com"):
        return list_posted_to(sender, before, self.ACCEPTED.__contains__, site())

    @pytest.mark.parametrize(
        ("sender", "posted_to"),
        [
            ("owner-staff@example.org", "staff@example.org"),
            ("staff-bounces@example.org", "staff@example.org"),
            ("Staff-Bounces+dave=example.net@Example.ORG", "staff@example.org"),
            ("staff-return-17-dave=example.net@example.org", "staff@example.org"),
            ("the-board-bounces@example.org", "the-board@example.org"),
        ],
    )
    def test_sender_of_the_list(self, sender, posted_to):
        assert self.list_of(sender) == posted_to
        assert self.list_of(sender, before="alice@example.org") == posted_to

    @pytest.mark.parametrize(
        "sender",
        [
            "erin@example.com",
            "carol@example.org",
            "carol+fwd@example.org",
            "staff@example.org",
            "info-desk@example.org",
            "staff-desk@example.org",
            "other-bounces@example.org",
            "owner-other@example.org",
            "-bounces@example.org",
            "owner-@example.org",
            "staff-bounces@example.net",
            "staff-bounces%example.net@example.org",
            "",
        ],
    )
    def test_any_other_sender(self, sender):
        assert self.list_of(sender) == ""

    def test_sender_that_did_not_change(self):
        assert self.list_of("owner-staff@example.org", before="Owner-Staff@example.org") == ""

    def posted_by(self, sender):
        return facts(
            outside(FORGED, sender),
            envelope_sender="owner-staff@example.org",
            mailing_list="staff@example.org",
            rewritten_sender=SRS,
        )

    def test_leaves_by_normal_with_its_own_sender(self):
        message = self.posted_by("erin@example.com")
        decision = classify(message, forwarding(unauthenticated_forward="reject"))
        assert (decision.pool, decision.rule) == ("normal", "default")
        assert decision.reasons[0] == "sent on by the mailing list staff@example.org"
        assert leaving_sender(message) == "owner-staff@example.org"

    @pytest.mark.parametrize(
        "sender",
        [
            "alice@example.org",
            "alice",
            "alice%example.org",
            "example.org!alice",
            '"alice@example.org"',
            '"alice@example.org"@example.com',
            "alice%example.org@example.com",
        ],
    )
    @pytest.mark.parametrize("unauthenticated", ["relay", "high-risk", "reject"])
    def test_never_by_normal_for_who_may_claim_to_be_ours(self, sender, unauthenticated):
        settings = forwarding(unauthenticated_forward=unauthenticated, authenticated_forward_pool="normal")
        assert classify(self.posted_by(sender), settings).pool != "normal"

    def test_our_own_users_post_to_it_though_nobody_may_forward(self):
        alice = Origin(ingress=Ingress.SUBMISSION, account="alice", envelope_sender="alice@example.org")
        message = facts(alice, envelope_sender="owner-staff@example.org", mailing_list="staff@example.org", **BY_CAROL)
        assert classify(message, site(**OFF)).pool == "normal"
