"""The rules about spam and malware where scanners are asked: outcomes, thresholds, silence, and who is told."""

import dataclasses
import itertools

import pytest
from test_rules import ALICE, message, origin, site

from deliverypools.core.decisions import UNDECIDED, Match, NotAsked, Refusal, Unknown
from deliverypools.core.facts import Answer, Finding, Ingress
from deliverypools.core.rules import classify
from deliverypools.core.scanning.answers import Scan, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.spam import malware, scanners_needed, spam, suspicious, unscanned

RSPAMD, SPAMD, CLAMD = "http://127.0.0.1:11333", "127.0.0.1:783", "unix:/run/clamd.sock"
OUTSIDE = origin(ingress=Ingress.OUTSIDE, account="", envelope_sender="carol@example.com")
RELAYED = origin(ingress=Ingress.TRUSTED, account="198.51.100.7", envelope_sender="carol@example.com")


def answer(scanner, verdict, **values):
    return ScannerAnswer(scanner=Scanner(scanner), verdict=ScanVerdict(verdict), **values)


def rspamd(verdict, score, action="no action", **values):
    return answer("rspamd", verdict, score=score, action=action, **values)


def spamd(verdict, score):
    return answer("spamd", verdict, score=score)


INFECTED = answer("clamd", "spam", symbols=("Eicar-Test",))
CLEAN = answer("clamd", "ham")


def silent(scanner):
    return answer(scanner, "unknown", problem="it cannot be reached")


def scanned(*answers, **changes):
    return message(scan=Scan(answers), **changes)


def scanning(**spam_settings):
    return site(spam={"rspamd": RSPAMD} | spam_settings)


ALL = {"rspamd": RSPAMD, "spamd": SPAMD, "clamd": CLAMD}


def needed_for(facts, settings):
    return scanners_needed(classify(facts, settings), facts, settings)


class TestWhoIsAsked:
    def test_all_that_the_settings_name(self):
        settings = site(spam=ALL)
        needed = needed_for(message(), settings)
        assert set(needed) == {Scanner.RSPAMD, Scanner.SPAMD, Scanner.CLAMD}

    def test_nobody_without_a_scanner(self):
        assert classify(message(), site()).pool == "normal"
        assert needed_for(message(), site()) == ()

    def test_nobody_about_a_bounce(self):
        settings = site(spam=ALL)
        assert needed_for(message(envelope_sender=""), settings) == ()

    def test_nobody_about_a_restricted_account(self):
        settings = site(spam=ALL)
        restricted = Finding(Answer.YES, "alice is restricted")
        assert needed_for(message(account_restricted=restricted), settings) == ()

    def test_no_spam_scanner_about_what_a_header_calls_spam(self):
        settings = site(spam=ALL)
        facts = message(("X-Spam-Flag", "YES"))
        assert classify(facts, settings).rule == "spam"
        assert needed_for(facts, settings) == (Scanner.CLAMD,)

    def test_nobody_about_a_sender_without_mx_and_a(self):
        settings = site(spam=ALL)
        nothing = Finding(Answer.NO, "example.org: no MX, no A")
        assert needed_for(message(sender_domain_has_mx_or_address=nothing), settings) == ()

    def test_unless_it_could_have_it_held_or_refused(self):
        settings = site(spam={"rspamd": RSPAMD, "spamd": SPAMD, "spamd_scores": {"hold": 20}})
        assert needed_for(message(("X-Spam-Flag", "YES")), settings) == (Scanner.RSPAMD, Scanner.SPAMD)

    @pytest.mark.parametrize("asked", ["hold", "reject"])
    def test_where_malware_is_stopped_it_is_looked_for_in_all_mail(self, asked):
        settings = site(spam=ALL | {"malware": asked})
        restricted = Finding(Answer.YES, "alice is restricted")
        assert needed_for(message(envelope_sender=""), settings) == (Scanner.CLAMD,)
        assert needed_for(message(account_restricted=restricted), settings) == (Scanner.CLAMD,)

    def test_never_in_what_this_postfix_has_made(self):
        settings = site(spam=ALL | {"malware": "reject"})
        bounce = message(envelope_sender="", origin=origin(ingress=Ingress.BOUNCE, account="", envelope_sender=""))
        assert needed_for(bounce, settings) == ()

    def test_nobody_about_a_message_that_is_too_large_for_him(self):
        assert needed_for(message(size_bytes=500_001), site(spam=ALL)) == (Scanner.CLAMD, Scanner.RSPAMD)

    def test_only_for_malware_about_what_is_pinned(self):
        settings = site(spam=ALL, pins=[{"sender": "alice@example.org", "pool": "bulk"}])
        assert classify(message(), settings).pool == "bulk"
        assert needed_for(message(), settings) == (Scanner.CLAMD,)

    def test_what_is_undecided_for_another_reason_is_scanned_too(self):
        settings = site(spam=ALL)
        unknown = Finding(Answer.UNKNOWN, "DNS cannot tell")
        facts = message(sender_domain_has_mx_or_address=unknown)
        assert classify(facts, settings).pool is None
        assert Scanner.RSPAMD in needed_for(facts, settings)


class TestMalware:
    @pytest.mark.parametrize(
        ("asked", "match"),
        [
            ("high-risk", Match("high-risk", (INFECTED.evidence,))),
            ("hold", Match("high-risk", (INFECTED.evidence,), hold=True)),
            ("reject", Match("high-risk", (INFECTED.evidence,), refusal=Refusal.TO_SENDER)),
        ],
    )
    def test_what_the_settings_say(self, asked, match):
        assert malware(scanned(INFECTED), site(spam={"clamd": CLAMD, "malware": asked})) == match

    def test_clean_mail_goes_on(self):
        assert malware(scanned(CLEAN), site(spam={"clamd": CLAMD})) is None

    def test_no_pin_is_for_malware(self):
        settings = site(spam={"clamd": CLAMD}, pins=[{"sender": "alice@example.org", "pool": "normal"}])
        assert classify(scanned(INFECTED), settings).rule == "malware"

    def test_silence_is_waited_for(self):
        settings = site(spam={"clamd": CLAMD, "malware": "reject"})
        assert malware(scanned(silent("clamd")), settings) == Unknown(("reject",), silent("clamd").evidence)

    def test_what_would_be_refused_does_not_leave_before_that_is_known(self):
        settings = site(spam=ALL | {"malware": "reject"})
        decision = classify(scanned(silent("clamd"), rspamd("spam", 9.0), spamd("ham", 0.0)), settings)
        assert (decision.pool, decision.rule) == (None, UNDECIDED)

    def test_what_is_held_anyway_does_not_wait(self):
        policy = {"name": "default", "restricted_mail": "hold"}
        settings = site(spam={"clamd": CLAMD, "malware": "reject"}, outbound_policies=[policy])
        restricted = Finding(Answer.YES, "alice is restricted")
        decision = classify(scanned(silent("clamd"), account_restricted=restricted), settings)
        assert (decision.rule, decision.hold) == ("restricted_sender", True)

    def test_what_leaves_by_high_risk_anyway_does_not_wait(self):
        decision = classify(scanned(silent("clamd"), rspamd("spam", 9.0), spamd("ham", 0.0)), site(spam=ALL))
        assert (decision.pool, decision.rule) == ("high-risk", "spam")


class TestScores:
    @pytest.mark.parametrize(
        ("score", "outcome"),
        [
            (5.9, None),
            (6.0, Match("high-risk", ("x",))),
            (19.9, Match("high-risk", ("x",))),
            (20.0, Match("high-risk", ("x",), hold=True)),
            (30.0, Match("high-risk", ("x",), refusal=Refusal.TO_SENDER)),
            (1e300, Match("high-risk", ("x",), refusal=Refusal.TO_SENDER)),
            (-5.0, None),
        ],
    )
    @pytest.mark.parametrize("word", ["spam", "ham"])
    def test_thresholds_take_the_place_of_the_scanners_own(self, score, outcome, word):
        settings = scanning(rspamd_scores={"high-risk": 6, "hold": 20, "reject": 30})
        said = rspamd(word, score)
        expected = outcome and dataclasses.replace(outcome, reasons=(said.evidence,))
        assert spam(scanned(said), settings) == expected

    def test_what_is_forced_counts_whatever_the_score(self):
        settings = scanning(rspamd_scores={"high-risk": 100})
        assert spam(scanned(rspamd("spam", 15.0, "reject", is_forced=True)), settings).pool == "high-risk"

    def test_without_a_threshold_the_scanners_own_word_counts(self):
        assert spam(scanned(rspamd("spam", 4.0, "add header")), scanning()).pool == "high-risk"
        assert spam(scanned(rspamd("ham", 400.0)), scanning()) is None

    def test_with_others_only_its_own_word_counts_below_them(self):
        settings = scanning(rspamd_scores={"hold": 20})
        assert spam(scanned(rspamd("spam", 7.0, "add header")), settings) == Match(
            "high-risk", ("rspamd: add header, score 7.0",)
        )

    def test_a_header_of_the_senders_own_does_not_save_it_from_worse(self):
        settings = scanning(rspamd_scores={"reject": 15})
        facts = message(("X-Spam-Flag", "YES"), scan=Scan((rspamd("spam", 20.0, "reject"),)))
        assert spam(facts, settings).refusal is Refusal.TO_SENDER
        mild = message(("X-Spam-Flag", "YES"), scan=Scan((rspamd("ham", 1.0),)))
        assert spam(mild, settings) == Match("high-risk", ("X-Spam-Flag: YES",))

    def test_each_scanner_has_its_own(self):
        settings = site(spam={"rspamd": RSPAMD, "spamd": SPAMD, "spamd_scores": {"high-risk": 2}})
        assert spam(scanned(rspamd("ham", 3.0), spamd("ham", 3.0)), settings).reasons == ("spamd: clean, score 3.0",)

    @pytest.mark.parametrize(
        "answers", list(itertools.permutations([rspamd("spam", 7.0, "add header"), spamd("spam", 25.0)]))
    )
    def test_the_stricter_word_counts(self, answers):
        settings = site(spam={"rspamd": RSPAMD, "spamd": SPAMD, "spamd_scores": {"hold": 20}})
        match = spam(scanned(*answers), settings)
        assert match == Match("high-risk", ("spamd: found, score 25.0",), hold=True)


class TestSilence:
    def test_is_unknown_with_every_outcome_that_is_possible(self):
        settings = scanning(rspamd_scores={"bulk": 3, "hold": 20})
        outcome = spam(scanned(silent("rspamd")), settings)
        assert outcome == Unknown(("bulk", "high-risk", "hold"), "rspamd: no verdict, it cannot be reached")

    def test_a_scanner_that_is_missing_from_the_scan_has_not_said_that_it_is_clean(self):
        settings = site(spam={"rspamd": RSPAMD, "spamd": SPAMD})
        assert isinstance(spam(scanned(rspamd("ham", 0.0)), settings), Unknown)

    def test_of_one_scanner_does_not_undo_the_word_of_the_other(self):
        settings = site(spam={"rspamd": RSPAMD, "spamd": SPAMD})
        assert spam(scanned(rspamd("spam", 7.0, "reject"), silent("spamd")), settings).pool == "high-risk"

    def test_never_leaves_by_normal(self):
        for settings in (scanning(), scanning(unknown_verdict="high-risk")):
            assert classify(scanned(silent("rspamd")), settings).pool in (None, "high-risk")

    def test_high_risk_at_once_where_the_settings_say_so(self):
        decision = classify(scanned(silent("rspamd")), scanning(unknown_verdict="high-risk"))
        assert (decision.pool, decision.rule) == ("high-risk", "unscanned")
        assert decision.reasons == ("rspamd: no verdict, it cannot be reached",)

    def test_about_malware_no_pin_is_for_it(self):
        pins = [{"sender": "alice@example.org", "pool": "normal"}]
        settings = site(spam=ALL | {"unknown_verdict": "high-risk"}, pins=pins)
        decision = classify(scanned(silent("clamd")), settings)
        assert (decision.pool, decision.rule) == ("high-risk", "not_scanned_for_malware")
        oversized = site(spam=ALL | {"oversized": "high-risk"}, pins=pins)
        assert classify(message(size_bytes=10_000_001), oversized).rule == "not_scanned_for_malware"

    def test_about_spam_pins_hold(self):
        pins = [{"sender": "alice@example.org", "pool": "normal"}]
        settings = site(spam={"rspamd": RSPAMD, "unknown_verdict": "high-risk"}, pins=pins)
        assert classify(scanned(silent("rspamd")), settings).rule == "pinned"

    def test_does_not_undo_the_word_of_a_header(self):
        settings = scanning(rspamd_scores={"hold": 20})
        facts = message(("X-Spam-Flag", "YES"), scan=Scan((silent("rspamd"),)))
        assert classify(facts, settings) == classify(message(("X-Spam-Flag", "YES")), site())


class TestOversized:
    def test_leaves_as_if_there_were_no_scanner(self):
        decision = classify(message(size_bytes=10_000_001), site(spam=ALL))
        assert (decision.rule, decision.not_asked) == ("default", ())

    def test_or_by_high_risk(self):
        decision = classify(message(size_bytes=10_000_001), site(spam=ALL | {"oversized": "high-risk"}))
        assert (decision.pool, decision.rule) == ("high-risk", "not_scanned_for_malware")
        without_clamd = scanning(oversized="high-risk")
        assert classify(message(size_bytes=10_000_001), without_clamd).rule == "unscanned"

    def test_up_to_the_limit_it_is_scanned(self):
        settings = site(spam={"rspamd": RSPAMD, "clamd": CLAMD, "oversized": "high-risk"})
        assert set(classify(message(size_bytes=10_000_000), settings).not_asked) == {"malware", "spam"}

    def test_for_one_scanner_is_as_for_all(self):
        settings = site(spam=ALL | {"oversized": "high-risk"})
        decision = classify(message(size_bytes=500_001), settings)
        assert decision.reasons == ("spamd: not asked about more than 500000 bytes",)

    def test_only_what_would_be_scanned(self):
        settings = site(spam=ALL | {"oversized": "high-risk", "scan": "forwarded"})
        assert classify(message(size_bytes=10_000_001), settings).rule == "default"

    def test_without_scanners_nothing_is_oversized(self):
        assert unscanned(message(size_bytes=10**9), site(spam={"oversized": "high-risk"})) is None


class TestOwnPools:
    def test_what_reaches_its_score_only(self):
        settings = scanning(rspamd_scores={"bulk": 4, "high-risk": 6})
        assert suspicious(scanned(rspamd("ham", 3.9)), settings) is None
        assert suspicious(scanned(rspamd("ham", 4.0)), settings) == Match("bulk", ("rspamd: no action, score 4.0",))

    def test_only_of_mail_that_would_leave_by_normal(self):
        settings = scanning(rspamd_scores={"bulk": 4, "high-risk": 6})
        over = origin(over_limit=Finding(Answer.YES, "501 recipients"))
        assert classify(scanned(rspamd("ham", 5.0), origin=over), settings).rule == "over_limit"
        assert classify(scanned(rspamd("ham", 5.0), origin=OUTSIDE), settings).rule == "forwarded"
        assert classify(scanned(rspamd("ham", 5.0)), settings).rule == "suspicious"

    def test_the_highest_score_that_is_reached(self):
        settings = site(
            pools={
                name: {"addresses": [f"192.0.2.{number}"], "helo": "mail.example.org"}
                for number, name in enumerate(("normal", "high-risk", "relay", "bulk", "slow"), start=1)
            },
            spam={"rspamd": RSPAMD, "rspamd_scores": {"slow": 5, "bulk": 2}},
        )
        assert [suspicious(scanned(rspamd("ham", score)), settings).pool for score in (2.0, 5.0)] == ["bulk", "slow"]


REJECTING = scanning(rspamd_scores={"reject": 15})
SPAM = rspamd("spam", 20.0, "reject")


class TestWhoIsToldOfARefusal:
    def test_the_sender_who_is_ours(self):
        assert spam(scanned(SPAM), REJECTING).refusal is Refusal.TO_SENDER

    def test_never_a_stranger(self):
        facts = scanned(SPAM, origin=OUTSIDE, envelope_sender="carol@example.com", forwarded_by="alice@example.org")
        assert spam(facts, REJECTING).refusal is Refusal.TO_FORWARDER

    def test_nor_one_who_claims_to_be_ours_from_outside(self):
        forged = dataclasses.replace(OUTSIDE, envelope_sender="alice@example.org")
        assert spam(scanned(SPAM, origin=forged), REJECTING).refusal is Refusal.TO_POSTMASTER

    def test_postmaster_where_it_would_go_to_many(self):
        facts = scanned(
            SPAM,
            origin=OUTSIDE,
            envelope_sender="carol@example.com",
            forwarded_by="alice@example.org",
            recipients=("a@example.net", "b@example.net"),
        )
        assert spam(facts, REJECTING).refusal is Refusal.TO_POSTMASTER

    def test_postmaster_where_a_client_relays_for_a_stranger(self):
        facts = scanned(SPAM, origin=RELAYED, envelope_sender="carol@example.com")
        assert spam(facts, REJECTING).refusal is Refusal.TO_POSTMASTER

    def test_postmaster_where_the_origin_is_unknown(self):
        assert spam(scanned(SPAM, origin=None), REJECTING).refusal is Refusal.TO_POSTMASTER

    def test_postmaster_of_what_is_only_for_an_archive(self):
        assert spam(scanned(SPAM, archive_copies=1), REJECTING).refusal is Refusal.TO_POSTMASTER

    def test_postmaster_and_not_a_list_which_would_blame_its_members(self):
        facts = message(("List-Id", "<team.example.org>"), scan=Scan((SPAM,)))
        assert spam(facts, REJECTING).refusal is Refusal.TO_POSTMASTER

    def test_postmaster_of_what_has_a_null_sender(self):
        settings = site(spam={"clamd": CLAMD, "malware": "reject"})
        facts = scanned(INFECTED, origin=OUTSIDE, envelope_sender="", forwarded_by="alice@example.org")
        decision = classify(facts, settings)
        assert (decision.rule, decision.refusal) == ("malware", Refusal.TO_POSTMASTER)


def test_rules_that_need_a_scanner_say_so():
    settings = site(spam=ALL)
    assert malware(message(), settings) == NotAsked()
    assert spam(message(), settings) == NotAsked()


def test_own_name_of_the_account_in_the_skip_list_is_not_asked_about():
    settings = site(spam=ALL | {"skip": [{"sasl_username": "alice"}]})
    assert ALICE.account == "alice"
    assert classify(message(), settings).rule == "default"
