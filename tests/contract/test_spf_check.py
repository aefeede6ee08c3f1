"""SPF beyond the suite of RFC 7208: odd input, hostile records, what an error of DNS means. DNS is invented."""

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliverypools.adapters.authentication.spf_check import check_spf
from deliverypools.adapters.resolver import DnsServerFailure, DnsUnavailable, Reply
from deliverypools.core.authentication import Result, SpfResult
from deliverypools.lab.dns_server import txt

CLIENT = "192.0.2.1"
REVERSE = "1.2.0.192.in-addr.arpa"


class InventedDns:
    """Answers from `zones`, name -> type -> data or what to raise; keeps what was asked."""

    def __init__(self, zones):
        self.zones = zones
        self.asked = []

    def look_up(self, name, rdtype, seconds):
        self.asked.append((name, rdtype))
        if seconds <= 0:
            raise DnsUnavailable("timed out")
        if name not in self.zones:
            return Reply(exists=False)
        data = self.zones[name].get(rdtype, ())
        if isinstance(data, Exception):
            raise data
        return Reply(tuple(dns.rdata.from_text("IN", rdtype, text) for text in data))


def check(zones, *, sender="alice@example.com", client=CLIENT, helo="mail.example.net", seconds=20):
    resolver = InventedDns(zones) if isinstance(zones, dict) else zones
    return check_spf(resolver, client_address=client, helo=helo, envelope_sender=sender, seconds=seconds)


def spf(record):
    return {"TXT": [txt(record)]}


def one(record, **more):
    return {"example.com": spf(record), **more}


def test_a_pass_says_what_matched():
    assert check(one("v=spf1 ip4:192.0.2.0/24 -all")) == SpfResult(
        result=Result.PASS, domain="example.com", identity="mailfrom", reason="ip4:192.0.2.0/24"
    )


def test_a_fail_ends_with_the_explanation():
    zones = one("v=spf1 -all exp=why.example.com", **{"why.example.com": spf("%{i} is not ours")})
    assert check(zones).result is Result.FAIL
    assert check(zones).reason == "-all: 192.0.2.1 is not ours"


def test_a_null_sender_is_judged_by_helo():
    zones = {"mail.example.net": spf("v=spf1 ip4:192.0.2.1 -all")}
    for sender in ("", "<>"):
        assert check(zones, sender=sender) == SpfResult(
            result=Result.PASS, domain="mail.example.net", identity="helo", reason="ip4:192.0.2.1"
        )


@pytest.mark.parametrize(
    ("sender", "helo"),
    [
        ("alice@localhost", "mail.example.net"),
        ("alice@[192.0.2.1]", "mail.example.net"),
        ("alice@", "mail.example.net"),
        ("alice", "mail.example.net"),
        ("alice@exa..mple.com", "mail.example.net"),
        ("alice@" + "x" * 64 + ".com", "mail.example.net"),
        ("alice@\udcff.com", "mail.example.net"),
        ("", "[192.0.2.1]"),
        ("", "localhost"),
        ("", ""),
    ],
)
def test_what_is_no_domain_has_no_record_and_is_not_asked_for(sender, helo):
    asked = InventedDns({})
    assert check(asked, sender=sender, helo=helo).result is Result.NONE
    assert asked.asked == []


@pytest.mark.parametrize("client", ["", "unknown", "[192.0.2.1]", "192.0.2.256", "list", "list6", "localhost", "\0"])
def test_without_a_client_address_nothing_is_asked(client):
    asked = InventedDns(one("v=spf1 +all"))
    assert check(asked, client=client).result is Result.NONE
    assert asked.asked == []


@pytest.mark.parametrize(
    ("record", "client"),
    [
        ("v=spf1 ip6:fe80::1 -all", "fe80::1%eth0"),
        ("v=spf1 ip4:192.0.2.1 -all", "::ffff:192.0.2.1"),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:DB8::1"),
    ],
)
def test_forms_of_an_address(record, client):
    assert check(one(record), client=client).result is Result.PASS


def test_u_labels_are_asked_for_as_a_labels():
    found = check({"xn--bcher-kva.example": spf("v=spf1 +all")}, sender="alice@B\u00fccher.example")
    assert (found.result, found.domain) == (Result.PASS, "xn--bcher-kva.example")


def test_domain_follows_the_last_at_sign():
    assert check(one("v=spf1 +all"), sender='"a@attacker.example"@example.com').domain == "example.com"


def test_eight_bit_local_part_in_a_macro_is_no_name():
    assert check(one("v=spf1 exists:%{l}.example.com -all"), sender="\u00fc\udcff@example.com").result is Result.FAIL


class TestErrorsOfDns:
    @pytest.mark.parametrize("error", [DnsUnavailable("timed out"), DnsServerFailure("SERVFAIL")])
    @pytest.mark.parametrize(
        "term", ["a", "mx", "include:b.example.com", "redirect=b.example.com", "exists:b.example.com"]
    )
    def test_are_temperror_in_every_look_up(self, term, error):
        broken = {"A": error, "MX": error, "TXT": error}
        zones = {"example.com": spf(f"v=spf1 {term} -all") | {"A": error, "MX": error}, "b.example.com": broken}
        if term.startswith("redirect"):
            zones["example.com"] = spf(f"v=spf1 {term}")
        assert check(zones).result is Result.TEMPERROR
        assert check({"example.com": broken}).result is Result.TEMPERROR

    def test_are_no_error_after_a_match(self):
        assert check(one("v=spf1 ip4:192.0.2.1 include:b.example -all")).result is Result.PASS

    def test_deadline_is_temperror(self):
        assert check(one("v=spf1 +all"), seconds=0).result is Result.TEMPERROR

    def test_error_of_a_server_at_ptr_is_no_match(self):
        zones = one("v=spf1 ptr -all", **{REVERSE: {"PTR": DnsServerFailure("SERVFAIL")}})
        assert check(zones).result is Result.FAIL

    def test_error_of_a_server_at_an_address_skips_that_name(self):
        zones = one("v=spf1 ptr -all", **{REVERSE: {"PTR": ["broken.example.", "mail.example.com."]}})
        zones |= {"broken.example": {"A": DnsServerFailure("SERVFAIL")}, "mail.example.com": {"A": [CLIENT]}}
        assert check(zones).result is Result.PASS

    def test_no_answer_at_ptr_is_temperror(self):
        zones = one("v=spf1 ptr -all", **{REVERSE: {"PTR": DnsUnavailable("timed out")}})
        assert check(zones).result is Result.TEMPERROR


class TestHostileRecords:
    @pytest.mark.parametrize(
        "record",
        [
            "v=spf1 " + "a " * 5000,
            "v=spf1 exists:" + "a." * 1000 + "example",
            "v=spf1 x=" + "%{d}" * 1000,
            "v=spf1 a:" + "x" * 2000 + "!",
        ],
    )
    def test_too_long_is_permerror(self, record):
        assert check(one(record)).result is Result.PERMERROR

    def test_text_that_is_no_record_may_be_long(self):
        assert check({"example.com": {"TXT": [txt("x" * 15_000), txt("v=spf1 +all")]}}).result is Result.PASS

    def test_include_of_itself_ends(self):
        asked = InventedDns(
            {"example.com": spf("v=spf1 include:a.example -all"), "a.example": spf("v=spf1 include:example.com -all")}
        )
        assert check(asked).result is Result.PERMERROR
        assert len(asked.asked) <= 12

    def test_explanation_is_one_bounded_printable_line(self):
        zones = one("v=spf1 -all exp=why.example.com", **{"why.example.com": spf("a\r\nb\x00" + "c" * 900)})
        reason = check(zones).reason
        assert reason.isprintable()
        assert len(reason) <= 200

    def test_address_of_a_ptr_with_a_dot_in_a_label_is_not_that_of_another_name(self):
        zones = one(
            "v=spf1 ptr -all", **{REVERSE: {"PTR": [r"mail\.example.com."]}, "mail.example.com": {"A": [CLIENT]}}
        )
        assert check(zones).result is Result.FAIL


TERMS = st.sampled_from(
    ["a", "mx", "ptr", "include:b.example", "redirect=c.example", "exists:%{l}.%{ir}.b.example", "exp=b.example",
     "all", "-all", "ip4:192.0.2.0/24", "ip6:::/0", "%", "a:%{p}", "mx//", "a:%{h1r+-.,/_=}", "include:example.com"]
)  # fmt: skip
RECORDS = st.lists(TERMS | st.text(max_size=20), max_size=8).map(lambda terms: "v=spf1 " + " ".join(terms))
ERRORS = st.sampled_from([DnsUnavailable("timed out"), DnsServerFailure("SERVFAIL")])


@st.composite
def rdata(draw, rtype):
    length = draw(st.integers(0, 40))
    wire = draw(st.binary(min_size=length, max_size=length))
    name = b"\x01" + draw(st.binary(min_size=1, max_size=1)) + b"\x07example\0"
    wire = {
        "A": wire[:4].ljust(4),
        "AAAA": wire[:16].ljust(16),
        "MX": b"\0\1" + draw(st.sampled_from([name, b"\0"])),
        "PTR": name,
        "TXT": bytes([length]) + wire,
    }[rtype]
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.from_text(rtype), wire, 0, len(wire))


class AnyDns:
    """Answers as Hypothesis likes: a record, other data, nothing, an error."""

    def __init__(self, data):
        self._data = data

    def look_up(self, name, rdtype, seconds):
        if self._data.draw(st.integers(0, 9)) == 0:
            raise self._data.draw(ERRORS)
        if rdtype == "TXT" and self._data.draw(st.booleans()):
            strings = [part.encode()[:255] for part in self._data.draw(st.lists(RECORDS, max_size=2))]
            texts = [bytes([len(part)]) + part for part in strings]
            return Reply(tuple(_txt_rdata(text) for text in texts))
        return Reply(tuple(self._data.draw(st.lists(rdata(rdtype), max_size=3))), self._data.draw(st.booleans()))


def _txt_rdata(wire):
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, wire, 0, len(wire))


TEXTS = st.text(st.characters(exclude_categories=()))
ADDRESSES = st.ip_addresses().map(str) | TEXTS
SENDERS = TEXTS | TEXTS.map(lambda local_part: f"{local_part}@example.com")


@given(client=ADDRESSES, helo=TEXTS | st.just("mail.example.net"), sender=SENDERS, data=st.data())
def test_never_raises(client, helo, sender, data):
    found = check(AnyDns(data), client=client, helo=helo, sender=sender)
    assert found.result in set(Result) - {Result.POLICY}
    assert found.identity in {"mailfrom", "helo"}
    assert (found.domain + found.reason).isprintable()
