"""Incidents as they happen, written by hand: which events are one surge, when it is one, and what its cause is."""

from dataclasses import replace

import pytest
from surge_events import LEVEL, NOW, backscatter, event, found, only, own_failures, refusals, usually

from deliverypools.core.client_networks import network_of
from deliverypools.core.dsn.was_it_ours import Verdict
from deliverypools.core.surges import causes
from deliverypools.core.surges.causes import Cause, Explanation, Feature, alone, explain
from deliverypools.core.surges.events import Category, Way
from deliverypools.core.surges.find import find_surges
from deliverypools.core.surges.flows import Flow, amount_of, flow_of
from deliverypools.core.surges.groups import Group, Subject

SPOOFING = ("spoofing-campaign", "domain", "example.org")
HARVEST = ("directory-harvest", "client", "203.0.113.0/24")
SPAM = ("spam-attack", "account", "alice@example.org")
OLD_LIST = ("old-list", "account", "alice@example.org")
DOUBTFUL = ("old-list-or-stolen-password", "account", "alice@example.org")
LISTED = ("listed-address", "site", "all accounts")


def personal(events):
    """The same with a message for each recipient."""
    return [replace(one, original=f"message{n}") for n, one in enumerate(events)]


class TestIncidents:
    def test_ten_thousand_notices_to_many_users_of_a_domain_are_one_campaign(self):
        events = [
            replace(one, address=f"user{n}@example.org") for n, one in enumerate(backscatter(10_000, networks=900))
        ]
        assert found(events) == [SPOOFING]

    def test_a_campaign_of_which_a_large_provider_brings_most(self):
        assert found(backscatter(300) + backscatter(220, first=1000, client="192.0.2.9")) == [SPOOFING]

    def test_a_campaign_whose_messages_all_have_the_same_message_id(self):
        assert found(backscatter(200, original="same")) == [SPOOFING]

    def test_notices_of_which_nothing_is_known_are_no_campaign(self):
        """As all are in the first days, and a newsletter's with an envelope sender for each reader."""
        assert found(backscatter(300, verdict=Verdict.UNKNOWN)) == [("unclear", "domain", "example.org")]

    def test_a_campaign_of_which_a_tenth_is_known(self):
        def known(every):
            events = backscatter(300, verdict=Verdict.UNKNOWN)
            return [
                replace(one, verdict=Verdict.BACKSCATTER) if n % every == 0 else one for n, one in enumerate(events)
            ]

        assert found(known(10)) == [SPOOFING]
        assert found(known(12)) == [("unclear", "domain", "example.org")]

    def test_a_provider_that_returns_a_mailing_of_which_nothing_is_known_is_no_rogue(self):
        events = backscatter(300, verdict=Verdict.UNKNOWN, client="203.0.113.7")
        assert found(events) == [("unclear", "domain", "example.org")]
        assert found(backscatter(300, client="203.0.113.7")) == [("rogue-server", "client", "203.0.113.0/24")]

    def test_campaigns_against_two_customers_are_two(self):
        events = backscatter(100) + backscatter(90, first=1000, domain="example.com")
        assert found(events) == [SPOOFING, ("spoofing-campaign", "domain", "example.com")]

    def test_one_client_tries_names_in_many_domains_a_few_in_each(self):
        events = [replace(one, domain=f"customer{n % 12}.example") for n, one in enumerate(refusals(120))]
        assert found(events) == [HARVEST]

    def test_clients_of_one_network_are_one(self):
        events = [replace(one, client=f"203.0.113.{n % 200}") for n, one in enumerate(refusals(120))]
        assert found(events) == [HARVEST]

    def test_a_harvester_that_uses_all_of_its_ipv6_networks(self):
        events = [replace(one, client=f"2001:db8:0:{n % 100:x}::/64") for n, one in enumerate(refusals(120))]
        assert found(events) == [("directory-harvest", "client", "2001:db8::/56")]

    def test_one_connection_with_many_names(self):
        (one,) = refusals(1, amount=200, local_parts=200)
        assert found([one]) == [HARVEST]

    def test_two_harvesters_of_one_domain_are_one_incident(self):
        surge = only(refusals(150) + refusals(120, first=500, client="198.51.100.9"))
        assert surge.cause is Cause.DIRECTORY_HARVEST
        assert set(surge.whole().networks) == {"203.0.113.0/24", "198.51.100.0/24"}

    def test_a_large_and_a_small_harvester_of_one_domain_are_one_incident(self):
        surge = only(refusals(900) + refusals(90, first=2000, client="198.51.100.9"))
        assert surge.cause is Cause.DIRECTORY_HARVEST
        assert [part.group.volume for part in surge.parts()] in ([900, 90], [90, 900])

    def test_two_harvesters_of_different_domains_are_two(self):
        events = refusals(150) + refusals(120, first=500, client="198.51.100.9", domain="example.com")
        assert found(events) == [HARVEST, ("directory-harvest", "client", "198.51.100.0/24")]

    def test_two_networks_that_do_different_things_to_one_domain_are_two(self):
        events = refusals(200) + refusals(220, first=500, client="198.51.100.9", address="gone@example.org")
        assert found(events) == [("rogue-server", "client", "198.51.100.0/24"), HARVEST]

    def test_a_botnet_that_harvests_some_domains_is_one_incident(self):
        events = [
            replace(one, client=f"198.51.{n % 30}.7", domain=f"customer{n % 3}.example")
            for n, one in enumerate(refusals(900))
        ]
        surge = only(events)
        assert surge.cause is Cause.DIRECTORY_HARVEST
        assert {part.group.name for part in surge.parts()} == {f"customer{n}.example" for n in range(3)}

    def test_one_client_asks_for_the_same_recipient_over_and_over(self):
        events = refusals(300, address="gone@example.org")
        assert found(events) == [("rogue-server", "client", "203.0.113.0/24")]

    def test_one_server_returns_the_same_message_over_and_over(self):
        events = backscatter(300, client="203.0.113.7", original="same")
        assert found(events) == [("rogue-server", "client", "203.0.113.0/24")]

    def test_one_server_sends_notices_about_nothing_to_all_domains(self):
        events = [
            replace(one, domain=f"customer{n % 40}.example")
            for n, one in enumerate(backscatter(200, client="203.0.113.7", original="", category=Category.OTHER))
        ]
        assert found(events) == [("rogue-server", "client", "203.0.113.0/24")]

    def test_a_rogue_server_beside_a_campaign_against_the_same_domain(self):
        events = backscatter(300) + backscatter(400, first=1000, client="203.0.113.7", original="")
        assert found(events) == [("rogue-server", "client", "203.0.113.0/24"), SPOOFING]

    def test_a_stolen_password(self):
        assert found(own_failures(200, spam=0.4)) == [SPAM]

    def test_a_website_that_sends_for_spammers_with_many_senders(self):
        events = [
            replace(one, account=f"u{n}@example.org", address=f"u{n}@example.org")
            for n, one in enumerate(own_failures(200, spam=0.5))
        ]
        assert found(events) == [("spam-attack", "domain", "example.org")]

    def test_some_stolen_passwords_used_by_the_same_machines_are_one_incident(self):
        events = own_failures(100, spam=0.5) + own_failures(90, first=30_000, account="bob@example.org", spam=0.5)
        surge = only(events)
        assert surge.cause is Cause.SPAM_ATTACK
        assert {part.group.name for part in surge.parts()} == {"alice@example.org", "bob@example.org"}

    @pytest.mark.parametrize("spam", [0.0, 0.02])
    def test_a_newsletter_to_an_old_list(self, spam):
        assert found(own_failures(400, spam=spam)) == [OLD_LIST]

    def test_a_newsletter_with_a_message_for_each_reader(self):
        assert found(personal(own_failures(400))) == [DOUBTFUL]

    def test_a_newsletter_of_every_day_is_known_for_that(self):
        """400 bounces are what four of its days have."""
        known, less = (usually(**{account: number}) for account, number in (("alice@example.org", 4.2), ("x", 4.2)))
        assert found(personal(own_failures(400, spam=0.05)), known) == [OLD_LIST]
        assert found(personal(own_failures(400, spam=0.15)), known) == [DOUBTFUL]
        assert found(personal(own_failures(400)), less) == [DOUBTFUL]

    def test_an_account_with_a_bounce_a_day_is_not_known_for_400(self):
        assert found(personal(own_failures(400)), usually(**{"alice@example.org": 1 / 24})) == [DOUBTFUL]

    @pytest.mark.parametrize("spam", [0.04, 0.05, 0.1, 0.12, 0.15, 0.19])
    @pytest.mark.parametrize("mailings", [1, 8, 400])
    def test_a_stolen_password_with_a_bought_list_is_told(self, spam, mailings):
        events = [replace(one, original=f"m{n % mailings}") for n, one in enumerate(own_failures(400, spam=spam))]
        assert found(events) == [DOUBTFUL]

    @pytest.mark.parametrize("spam", [0.2, 0.25])
    def test_a_stolen_password_of_which_much_is_refused_as_spam(self, spam):
        assert found(personal(own_failures(400, spam=spam))) == [SPAM]

    def test_a_botnet_that_sends_as_one_account_is_no_old_list(self):
        events = [
            replace(one, client=f"198.51.{n % 60}.7", original=f"message{n}") for n, one in enumerate(own_failures(400))
        ]
        assert found(events) == [DOUBTFUL]

    def test_a_script_that_writes_to_one_mailbox_over_and_over_is_no_old_list(self):
        events = own_failures(300, remotes=1, category=Category.MAILBOX_FULL)
        assert found(events) == [("unclear", "account", "alice@example.org")]

    def test_a_user_who_forwards_everything_is_no_spammer(self):
        assert found(own_failures(300, spam=1.0, remotes=1)) == [("unclear", "account", "alice@example.org")]

    def test_an_address_of_ours_that_is_listed_is_nobodys_spam_attack(self):
        events = [
            replace(one, account=f"u{n % 90}@example.org", client=f"198.51.{n % 90}.7")
            for n, one in enumerate(own_failures(500, spam=1.0))
        ]
        assert found(events) == [LISTED]

    def test_a_listed_address_behind_a_webmail_server(self):
        events = [replace(one, account=f"u{n % 80}@example.org") for n, one in enumerate(own_failures(200, spam=1.0))]
        assert found(events) == [LISTED]

    def test_a_listed_address_of_many_small_domains(self):
        events = [
            replace(one, account=f"u{n % 80}@customer{n % 40}.example", domain=f"customer{n % 40}.example")
            for n, one in enumerate(own_failures(200, spam=1.0))
        ]
        assert found(events) == [LISTED]

    def test_a_listed_address_blames_no_busy_account(self):
        """Ten accounts have enough refusals for a surge of their own."""
        events = [replace(one, account=f"u{n % 10}@example.org") for n, one in enumerate(own_failures(800, spam=0.9))]
        assert found(events) == [LISTED]

    def test_a_listed_address_and_the_account_that_is_the_reason(self):
        many = [replace(one, account=f"u{n % 80}@example.org") for n, one in enumerate(own_failures(200, spam=1.0))]
        assert found(own_failures(600, first=30_000, spam=0.6) + many) == [SPAM, LISTED]

    def test_a_listed_address_and_an_old_list(self):
        many = [replace(one, account=f"u{n % 80}@example.org") for n, one in enumerate(own_failures(200, spam=1.0))]
        assert found(own_failures(600, first=30_000) + many) == [OLD_LIST, LISTED]

    def test_a_listed_address_among_what_is_usual(self):
        many = [replace(one, account=f"u{n % 80}@example.org") for n, one in enumerate(own_failures(400, spam=1.0))]
        usual = [
            replace(one, account=f"u{n % 80}@example.org") for n, one in enumerate(own_failures(300, first=30_000))
        ]
        assert found(many + usual, usually(**{"example.org": 100.0})) == [LISTED]

    def test_few_accounts_are_not_listed(self):
        events = [replace(one, account=f"u{n % 4}@example.org") for n, one in enumerate(own_failures(800, spam=0.9))]
        surge = only(events)
        assert surge.cause is Cause.SPAM_ATTACK
        assert len(list(surge.parts())) == 4

    def test_a_destination_that_refuses_everybody(self):
        events = [
            replace(one, account=f"u{n % 30}@example.org", client=f"198.51.{n % 30}.7", category=Category.OTHER)
            for n, one in enumerate(own_failures(300, remotes=1))
        ]
        assert found(events) == [("rogue-server", "destination", "remote0.example")]

    @pytest.mark.parametrize("accounts", [1, 2, 30])
    def test_a_destination_that_cannot_be_reached(self, accounts):
        events = [
            replace(one, account=f"u{n % accounts}@example.org")
            for n, one in enumerate(own_failures(90, remotes=1, category=Category.UNREACHABLE))
        ]
        assert found(events) == [("destination-down", "destination", "remote0.example")]

    def test_a_destination_that_refuses_some_and_fails_for_some(self):
        events = [
            replace(one, account=f"u{n % 30}@example.org", category=[Category.UNREACHABLE, Category.SPAM][n % 4 == 0])
            for n, one in enumerate(own_failures(200, remotes=1))
        ]
        assert found(events) == [("destination-down", "destination", "remote0.example")]

    def test_a_destination_that_refuses_everybody_among_much_that_is_usual(self):
        def of_many(events):
            return [replace(one, account=f"u{n % 30}@x", client=f"10.0.{n % 30}.7") for n, one in enumerate(events)]

        noise = of_many(own_failures(400))
        trouble = of_many(own_failures(95, first=30_000, remotes=1, remote="slow.example", category=Category.OTHER))
        level = usually(**{"example.org": 390.0})
        assert found(noise + trouble, level) == [("rogue-server", "destination", "slow.example")]

    def test_a_broken_table_of_recipients_is_no_harvest(self):
        events = [
            replace(one, client=f"198.51.{n % 150}.7", address=f"user{n % 60}@example.org")
            for n, one in enumerate(refusals(600))
        ]
        assert found(events) == [("unclear", "domain", "example.org")]

    def test_our_own_dns_fails_for_all_domains(self):
        events = [
            replace(one, domain=f"customer{n % 8}.example", account=f"u{n}@x", client=f"10.{n % 99}.0.1")
            for n, one in enumerate(own_failures(800, category=Category.OTHER))
        ]
        surge = only(events)
        assert surge.cause is Cause.UNCLEAR
        assert len(list(surge.parts())) == 8

    def test_the_mail_store_fails_for_mail_from_outside(self):
        events = [
            event(n, way=Way.MADE, domain="", client=f"198.51.{n % 150}.7", category=Category.OTHER) for n in range(200)
        ]
        assert found(events) == [("unclear", "domain", "")]

    def test_four_things_at_once_are_four(self):
        events = [
            *backscatter(200),
            *refusals(180),
            *own_failures(160, spam=0.5),
            *own_failures(140, first=30_000, account="news@example.org", client="192.0.3.1"),
        ]
        assert found(events) == [SPOOFING, HARVEST, SPAM, ("old-list", "account", "news@example.org")]


class TestWhatMakesASurge:
    def test_one_less_than_the_minimum_is_none(self):
        assert found(backscatter(49)) == []
        assert found(backscatter(50)) == [SPOOFING]

    def test_what_is_usual_is_none(self):
        level = usually(**{"example.org": 40.0})
        assert found(backscatter(199), level) == []
        assert found(backscatter(200), level) == [SPOOFING]

    def test_a_network_is_compared_with_all_domains_that_it_touches(self):
        events = [replace(one, domain=f"customer{n % 4}.example") for n, one in enumerate(refusals(200))]
        assert found(events, usually(all=10.0)) == [HARVEST]
        assert found(events, usually(all=10.5)) == []

    def test_what_grows_slowly_over_the_hour(self):
        events = [replace(one, at=NOW - 3500 + 60 * n) for n, one in enumerate(backscatter(58))]
        surge = only(events)
        assert surge.is_due(NOW)
        assert surge.crossed_at == events[49].at

    def test_events_of_another_hour_and_of_the_future_do_not_count(self):
        events = backscatter(100)
        assert found([replace(one, at=one.at - 3600) for one in events]) == []
        assert found([replace(one, at=one.at + 3600) for one in events]) == []

    def test_a_notice_about_mail_that_is_not_ours_counts_once_whatever_it_says(self):
        assert found(backscatter(49, amount=1_000_000)) == []

    def test_no_event_counts_for_more_than_a_thousand(self):
        (one,) = refusals(1, amount=10**9)
        assert amount_of(one) == 1000

    def test_the_order_of_events_changes_nothing(self):
        events = backscatter(100) + refusals(80) + own_failures(90, spam=0.5)
        assert found(events[::-1]) == found(events)

    def test_of_too_many_events_the_newest_are_looked_at(self):
        old = refusals(200, at=NOW - 3000)
        flood = [replace(one, at=NOW - 1000 + n / 100) for n, one in enumerate(backscatter(20_000))]
        assert found(old + flood) == [SPOOFING]

    def test_what_a_notice_says_of_its_server_changes_nothing(self):
        events = [replace(one, remote="victim.example") for one in backscatter(100)]
        assert found(events) == [SPOOFING]

    @pytest.mark.parametrize("text", ["", "\0", "x" * 10_000, "\udce9", "*", "::/0", "fe80::1%eth0/64"], ids=repr)
    def test_odd_names_are_names_as_others(self, text):
        events = [
            replace(one, client=text, address=text, account=text, remote=text, original=text)
            for one in backscatter(60) + refusals(60) + own_failures(60)
        ]
        assert all(surge.group.volume >= 50 for surge in find_surges(events, now=NOW, level=LEVEL))


class TestWhenItIsTold:
    def test_not_before_it_has_settled(self):
        (surge,) = find_surges(backscatter(100, at=NOW - 119), now=NOW, level=LEVEL)
        assert not surge.is_due(NOW)
        assert surge.is_due(NOW + 1)

    def test_one_without_a_cause_is_waited_for_longer(self):
        surge = only(own_failures(300, remotes=1, at=NOW - 300))
        assert (surge.cause, surge.is_due(NOW), surge.is_due(NOW + 300)) == (Cause.UNCLEAR, False, True)

    def test_not_when_it_is_over(self):
        surge = only(backscatter(100, at=NOW - 900))
        assert surge.is_due(NOW)
        assert not surge.is_due(NOW + 1)

    def test_what_goes_on_over_midnight_is_told_for_the_day_on_which_its_hour_began(self):
        midnight = NOW - NOW % 86_400
        events = [replace(one, at=midnight - 600 + 12 * n) for n, one in enumerate(backscatter(100))]
        assert "/2026-11-21/" in only(events, now=midnight + 900).once
        later = [replace(one, at=one.at + 660) for one in events]
        assert "/2026-11-22/" in only(later, now=midnight + 3000).once

    def test_the_name_holds_cause_and_subject(self):
        assert only(backscatter(100)).once == "surge/spoofing-campaign/not-ours/domain/2026-11-22/example.org"


class TestScores:
    def test_a_feature_earns_in_proportion(self):
        rising = Feature(name="x", value=0.5, nothing=0.25, enough=0.75, weight=4)
        assert [replace(rising, value=value).earned for value in (0.0, 0.25, 0.5, 0.75, 9.0)] == [0, 0, 2, 4, 4]
        falling = replace(rising, nothing=0.75, enough=0.25)
        assert [falling.earned, replace(falling, value=0.25).earned, replace(falling, value=0.9).earned] == [2, 4, 0]

    def test_what_is_needed_must_earn_half(self):
        needed = Feature(name="x", value=0.49, nothing=0.0, enough=1.0, weight=1, needed=True)
        other = Feature(name="y", value=1.0, nothing=0.0, enough=1.0, weight=9)
        assert Explanation(cause=Cause.OLD_LIST, features=(needed, other)).score == 0
        assert Explanation(cause=Cause.OLD_LIST, features=(replace(needed, value=0.5), other)).score == pytest.approx(
            0.95
        )

    def test_what_may_be_either_is_named_only_where_nothing_else_is_likely(self):
        explanations = only(own_failures(400, spam=0.22)).explanations
        score = {one.cause: one.score for one in explanations}
        assert explanations[0].cause is Cause.SPAM_ATTACK
        assert score[Cause.OLD_LIST_OR_STOLEN_PASSWORD] > score[Cause.SPAM_ATTACK] + causes.NEAR_TIE

    def test_of_near_ties_the_first_in_the_order_of_causes_is_named(self, monkeypatch):
        def scored(cause, value):
            feature = Feature(name="x", value=value, nothing=0.0, enough=1.0, weight=1)
            return lambda group, around: Explanation(cause=cause, features=(feature,))

        group = Group(Flow.OWN, Subject.ACCOUNT, "a", tuple(own_failures(50)))
        for attack, named in ((0.8, Cause.OLD_LIST), (0.86, Cause.SPAM_ATTACK), (0.69, Cause.OLD_LIST)):
            scores = (scored(Cause.OLD_LIST, 0.9), scored(Cause.SPAM_ATTACK, attack))
            monkeypatch.setattr(causes, "_SCORES", {Flow.OWN: scores})
            assert explain(group, alone(group))[0].cause is named

    def test_without_a_likely_cause_the_evidence_is_that_of_the_nearest(self):
        surge = only(own_failures(300, spam=1.0, remotes=1))
        assert surge.explanations[0].features == next(
            one.features for one in surge.explanations[1:] if one.cause is Cause.SPAM_ATTACK
        )


class TestFlows:
    @pytest.mark.parametrize(
        ("values", "flow"),
        [
            ({"way": Way.ARRIVED, "verdict": Verdict.GENUINE}, Flow.OWN),
            ({"way": Way.ARRIVED, "verdict": Verdict.BACKSCATTER, "account": "alice"}, Flow.NOT_OURS),
            ({"way": Way.ARRIVED, "verdict": Verdict.UNKNOWN}, Flow.NOT_OURS),
            ({"way": Way.ARRIVED}, Flow.NOT_OURS),
            ({"way": Way.MADE, "account": "alice"}, Flow.OWN),
            ({"way": Way.MADE}, Flow.OUTSIDE),
            ({"way": Way.REFUSED}, Flow.OUTSIDE),
            ({"way": Way.REFUSED, "account": "alice"}, Flow.OWN),
        ],
        ids=str,
    )
    def test_what_an_event_is_about(self, values, flow):
        assert flow_of(event(1, **values)) is flow

    @pytest.mark.parametrize(
        ("client", "network"),
        [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2ff::/64", "2001:db8:1:200::/56"),
            ("2001:db8:1:2ff::7", "2001:db8:1:200::/56"),
            ("", ""),
            ("unknown", "unknown"),
            ("x" * 200, "x" * 42 + "..."),
            ("a\nb", "a?b"),
        ],
    )
    def test_network_of_a_client(self, client, network):
        assert network_of(client) == network
