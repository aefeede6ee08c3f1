"""Which mail scanners are asked about, and whose mail an entry of the settings names."""

import pytest
from test_rules import ALICE, message, origin, site

from deliverypools.core.facts import Ingress
from deliverypools.core.named_senders import named_by
from deliverypools.core.scanning.answers import Scanner
from deliverypools.core.scanning.scope import (
    reason_to_leave_out,
    reason_to_skip,
    scanners_for_malware,
    scanners_for_spam,
    to_be_asked,
    too_large_for,
    why_not_scanned,
)
from deliverypools.core.settings import Pin, SpamSkip

REPORTS = "spam@reports.example.net"
STRANGER = origin(ingress=Ingress.OUTSIDE, account="", envelope_sender="eve@example.com", client_address="203.0.113.9")
TRUSTED = origin(ingress=Ingress.TRUSTED)
LOCAL = origin(ingress=Ingress.LOCAL, account="uid:33", client_address="")
HOSTILE = (
    "",
    "@",
    "@" * 2000,
    "a@" + "b." * 1000,
    "\ud800@example.org",
    "caf\udce9@\udcff.example",
    "a@\u3002\uff0e",
    "a@xn--\udc80",
    "a\x00b@example.org",
    "a\r\nb@example.org",
    "\u202e@example.org",
    "<<>>",
    '"alice@example.org',
    "alice@[192.0.2.1]",
    "\u0130@\u0130.example",
    "x" * 100_000,
    "a@" + "\u00fc" * 300,
)


def scanning(**spam):
    return site(spam=spam)


def is_in_scope(facts, settings):
    return not reason_to_leave_out(facts, settings)


def is_to_be_scanned(facts, settings):
    return to_be_asked([Scanner.RSPAMD], facts, settings) == (Scanner.RSPAMD,)


def is_oversized(facts, settings):
    return bool(too_large_for([Scanner.RSPAMD], facts, settings))


def skipping(*entries):
    return scanning(skip=list(entries))


class TestScanners:
    @pytest.mark.parametrize(
        ("spam", "for_spam", "for_malware"),
        [
            ({}, (), ()),
            ({"rspamd": "http://127.0.0.1:1"}, (Scanner.RSPAMD,), ()),
            ({"spamd": "127.0.0.1:1"}, (Scanner.SPAMD,), ()),
            ({"clamd": "127.0.0.1:1"}, (), (Scanner.CLAMD,)),
            (
                {"clamd": "127.0.0.1:1", "spamd": "127.0.0.1:2", "rspamd": "http://127.0.0.1:3"},
                (Scanner.RSPAMD, Scanner.SPAMD),
                (Scanner.CLAMD,),
            ),
        ],
    )
    def test_are_those_that_the_settings_name(self, spam, for_spam, for_malware):
        assert scanners_for_spam(scanning(**spam)) == for_spam
        assert scanners_for_malware(scanning(**spam)) == for_malware


class TestSize:
    @pytest.mark.parametrize(("size", "is_too_large"), [(0, False), (999, False), (1000, False), (1001, True)])
    def test_the_limit_itself_is_scanned(self, size, is_too_large):
        facts, settings = message(size_bytes=size), scanning(size_limit="1kB")
        assert is_oversized(facts, settings) is is_too_large
        assert is_to_be_scanned(facts, settings) is not is_too_large
        assert is_in_scope(facts, settings)

    def test_what_is_skipped_stays_so_whatever_its_size(self):
        assert not is_to_be_scanned(message(size_bytes=1), skipping({"sender": "alice@example.org"}))
        assert not is_in_scope(message(size_bytes=10**9), skipping({"sender": "alice@example.org"}))


class TestWhoIsScanned:
    @pytest.mark.parametrize(
        ("where", "sender", "kind"),
        [
            (ALICE, "alice@example.org", "submitted"),
            (ALICE, "Alice@EXAMPLE.org.", "submitted"),
            (ALICE, "alice@sub.example.org", "forwarded"),
            (ALICE, "alice@example.com", "forwarded"),
            (ALICE, "alice", "forwarded"),
            (TRUSTED, "alice@example.org", "submitted"),
            (TRUSTED, "alice@example.com", "forwarded"),
            (LOCAL, "www-data@example.org", "submitted"),
            (LOCAL, "eve@example.com", "forwarded"),
            (STRANGER, "eve@example.com", "forwarded"),
            # Claimed by a stranger, or given by SRS or a list of ours.
            (STRANGER, "alice@example.org", "forwarded"),
        ],
    )
    def test_by_where_it_is_from(self, where, sender, kind):
        facts = message(envelope_sender=sender, origin=where)
        assert is_in_scope(facts, scanning(scan="submitted")) is (kind == "submitted")
        assert is_in_scope(facts, scanning(scan="forwarded")) is (kind == "forwarded")
        assert is_in_scope(facts, scanning(scan="both"))

    @pytest.mark.parametrize("scan", ["both", "submitted", "forwarded"])
    def test_what_is_of_unknown_origin_can_be_of_either_kind(self, scan):
        assert is_in_scope(message(origin=None), scanning(scan=scan))


class TestWhatIsSkipped:
    @pytest.mark.parametrize(
        ("entry", "where", "reason"),
        [
            ({"sender": "Alice@Example.org"}, ALICE, "sender alice@example.org"),
            ({"domain": "example.org"}, ALICE, "domain example.org"),
            ({"domain": "example.org"}, origin(envelope_sender="a@lists.Example.org."), "domain example.org"),
            ({"sasl_username": "ALICE"}, ALICE, "SASL user alice"),
            ({"client": "198.51.100.0/24"}, ALICE, "client network 198.51.100.0/24"),
            (
                {"client": "198.51.100.7"},
                origin(ingress=Ingress.TRUSTED, client_address="::ffff:198.51.100.7"),
                "client network 198.51.100.7/32",
            ),
            (
                {"sender": "j\u00f6rg@b\u00fccher.example"},
                origin(envelope_sender="J\u00d6RG@xn--bcher-kva.example"),
                None,
            ),
        ],
    )
    def test_by_who_has_sent_it(self, entry, where, reason):
        found = reason_to_skip(message(origin=where), skipping({"sender": "nobody@example.org"}, entry))
        assert found == (reason or "sender j\u00f6rg@xn--bcher-kva.example")
        assert not is_in_scope(message(origin=where), skipping(entry))

    @pytest.mark.parametrize(
        ("entry", "where"),
        [
            ({"sender": "alice@example.org"}, origin(envelope_sender="alice@example.org.example.com")),
            ({"sender": "alice@example.org"}, origin(envelope_sender="")),
            ({"domain": "example.org"}, origin(envelope_sender="alice@notexample.org")),
            ({"domain": "example.org"}, origin(envelope_sender="alice@example.org@example.com")),
            ({"domain": "lists.example.org"}, ALICE),
            ({"sasl_username": "alice"}, TRUSTED),
            ({"sasl_username": "alice"}, origin(account="alice@example.com")),
            ({"client": "198.51.100.0/29"}, origin(client_address="198.51.100.8")),
            ({"client": "198.51.100.0/24"}, origin(client_address="unknown")),
            ({"client": "198.51.100.0/24"}, origin(client_address="2001:db8::1")),
        ],
    )
    def test_nobody_else_is(self, entry, where):
        assert reason_to_skip(message(origin=where), skipping(entry)) == ""
        assert is_in_scope(message(origin=where), skipping(entry))

    @pytest.mark.parametrize(
        "entry",
        [
            {"sender": "alice@example.org"},
            {"domain": "example.org"},
            {"sasl_username": "alice"},
            {"client": "2001:db8::/32"},
        ],
    )
    @pytest.mark.parametrize("ingress", [Ingress.OUTSIDE, Ingress.LOCAL])
    def test_what_anybody_can_claim_skips_nothing(self, entry, ingress):
        claimed = origin(ingress=ingress, client_address="2001:db8::1")
        assert is_in_scope(message(origin=claimed), skipping(entry))

    def test_the_sender_is_the_one_that_it_came_with(self):
        settings = skipping({"sender": "alice@example.org"})
        rewritten = message(envelope_sender="SRS0=x=y=example.org=alice@srs.example.org")
        assert not is_in_scope(rewritten, settings)
        assert is_in_scope(message(origin=origin(envelope_sender="bob@example.org")), settings)

    def test_without_a_ticket_no_sender_is_known(self):
        entries = ({"sender": "alice@example.org"}, {"domain": "example.org"}, {"client": "2001:db8::/32"})
        assert is_in_scope(message(origin=None), skipping(*entries))

    @pytest.mark.parametrize(
        ("recipients", "is_skipped"),
        [
            ((REPORTS,), True),
            (("<SPAM@Reports.Example.NET.>", REPORTS), True),
            ((REPORTS, "bob@example.net"), False),
            (("bob@example.net",), False),
            (("spam+x@reports.example.net",), False),
            (('"spam"@reports.example.net',), False),
            (("spam@x.reports.example.net",), False),
            (("bob%example.com@reports.example.net",), False),
            ((), False),
            (("",), False),
        ],
    )
    @pytest.mark.parametrize("where", [ALICE, STRANGER, LOCAL, None])
    def test_by_its_only_recipient_wherever_it_is_from(self, recipients, is_skipped, where):
        facts, settings = message(recipients=recipients, origin=where), skipping({"recipient": REPORTS})
        assert reason_to_skip(facts, settings) == (f"all for {REPORTS}" if is_skipped else "")
        assert is_in_scope(facts, settings) is not is_skipped

    def test_two_recipients_that_two_entries_name_are_not_skipped(self):
        entries = ({"recipient": REPORTS}, {"recipient": "ham@reports.example.net"})
        assert is_in_scope(message(recipients=(REPORTS, "ham@reports.example.net")), skipping(*entries))

    def test_scope_and_skipping_both_count(self):
        settings = scanning(scan="forwarded", skip=[{"client": "198.51.100.7"}])
        assert not is_in_scope(message(envelope_sender="eve@example.com"), settings)
        other = origin(client_address="198.51.100.8")
        assert is_in_scope(message(envelope_sender="eve@example.com", origin=other), settings)


class TestHostileValues:
    @pytest.mark.timeout(30)
    @pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
    @pytest.mark.parametrize("ingress", [Ingress.SUBMISSION, Ingress.OUTSIDE])
    def test_name_nobody_and_break_nothing(self, text, ingress):
        where = origin(ingress=ingress, account=text, envelope_sender=text, client_address=text, helo_name=text)
        facts = message(envelope_sender=text, recipients=(text, text), origin=where)
        entries = (
            {"sender": "bob@example.org"},
            {"domain": "example.net"},
            {"sasl_username": "bob"},
            {"client": "2001:db8::/32"},
            {"client": "198.51.100.0/24"},
            {"recipient": REPORTS},
        )
        for scan in ("both", "submitted", "forwarded"):
            settings = scanning(scan=scan, skip=list(entries))
            assert reason_to_skip(facts, settings) == ""
            assert is_in_scope(facts, settings) in (True, False)
        assert is_to_be_scanned(facts, skipping(*entries))

    @pytest.mark.parametrize("kind", [SpamSkip, lambda **entry: Pin(pool="relay", **entry)], ids=["skip", "pin"])
    def test_evidence_of_a_long_name_is_short(self, kind):
        longest = "x" * 240 + "@example.org"
        found = named_by(kind(sender=longest), origin(envelope_sender=longest.upper()))
        assert found == f"sender {'x' * 197}..."


ALL = {"rspamd": "http://127.0.0.1:1", "spamd": "127.0.0.1:2", "clamd": "127.0.0.1:3"}


class TestWhyNot:
    @pytest.mark.parametrize(
        ("size", "asked"),
        [
            (500_000, (Scanner.RSPAMD, Scanner.SPAMD)),
            (500_001, (Scanner.RSPAMD,)),
            (10_000_000, (Scanner.RSPAMD,)),
            (10_000_001, ()),
        ],
    )
    def test_spamd_has_a_limit_of_its_own(self, size, asked):
        settings = scanning(**ALL)
        assert to_be_asked(scanners_for_spam(settings), message(size_bytes=size), settings) == asked

    def test_that_is_never_above_the_other(self):
        settings = scanning(**ALL, size_limit=1000)
        assert to_be_asked([Scanner.SPAMD], message(size_bytes=1001), settings) == ()

    @pytest.mark.parametrize(
        ("facts", "spam", "reasons"),
        [
            (message(), {}, ()),
            (message(size_bytes=600_000), {}, ("spamd: not asked about more than 500000 bytes",)),
            (message(), {"scan": "forwarded"}, ('not scanned: spam.scan = "forwarded"',)),
            (message(), {"skip": [{"sasl_username": "alice"}]}, ("not scanned: spam.skip, SASL user alice",)),
        ],
    )
    def test_is_told(self, facts, spam, reasons):
        assert why_not_scanned(facts, scanning(**ALL, **spam)) == reasons

    def test_not_where_there_is_no_scanner(self):
        assert why_not_scanned(message(size_bytes=10**9), scanning(scan="forwarded")) == ()

    def test_alerts_and_copies_of_ours_are_never_scanned(self):
        ours = origin(ingress=Ingress.LOCAL, account="", envelope_sender="")
        settings = scanning(**ALL, malware="reject")
        assert to_be_asked(list(Scanner), message(origin=ours, envelope_sender=""), settings) == ()
        theirs = origin(ingress=Ingress.LOCAL, account="uid:33", envelope_sender="")
        assert to_be_asked([Scanner.CLAMD], message(origin=theirs, envelope_sender=""), settings) == (Scanner.CLAMD,)

    @pytest.mark.parametrize("ingress", [Ingress.BOUNCE, Ingress.OUTSIDE])
    def test_the_ticket_of_another_message_is_no_way_round_the_scanners(self, ingress):
        settings = scanning(**ALL, malware="reject", scan="submitted")
        known = origin(ingress=ingress, account="", envelope_sender="")
        assert to_be_asked([Scanner.CLAMD], message(origin=known), settings) == ()
        assert to_be_asked([Scanner.CLAMD], message(origin=known, is_sent_on=True), settings) == (Scanner.CLAMD,)

    def test_what_this_postfix_has_made_is_never_scanned(self):
        facts = message(origin=origin(ingress=Ingress.BOUNCE), envelope_sender="")
        assert to_be_asked(list(Scanner), facts, scanning(**ALL, malware="reject")) == ()
