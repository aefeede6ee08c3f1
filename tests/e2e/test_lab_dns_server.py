"""The lab's DNS server: long records, and every way in which it can misbehave, as a client sees it."""

from __future__ import annotations

from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from deliverypools.lab.dns_server import DnsFailure, DnsServer, Slow, txt

LONG = 'v=DKIM1; n="quoted" \\ and \u00e9; p=' + "A" * 2000
PATIENCE_SECONDS = 5
TOO_SHORT_SECONDS = 0.3


@pytest.fixture
def server() -> Iterator[DnsServer]:
    server = DnsServer(
        {
            "a.example": {"A": ["192.0.2.1"], "TXT": [txt("short")], "MX": ["10 mx.a.example."]},
            "long.example": {"TXT": [txt(LONG), txt("")]},
            "alias.example": {"CNAME": ["a.example."]},
        }
    )
    server.start("127.0.0.1", 0)
    yield server
    server.stop()


def ask(server, name, rtype="A", *, ask_by=dns.query.udp, seconds=PATIENCE_SECONDS, **options):
    host, port = server.address
    query = dns.message.make_query(name, rtype, use_edns=options.pop("use_edns", True))
    return ask_by(query, host, port=port, timeout=seconds, **options)


def data(response):
    return [record.to_text() for rrset in response.answer for record in rrset]


def test_record_of_several_strings_is_truncated_over_udp_and_whole_over_tcp(server):
    assert ask(server, "long.example", "TXT").flags & dns.flags.TC
    response = ask(server, "long.example", "TXT", ask_by=dns.query.tcp)
    strings = sorted((record.strings for record in response.answer[0]), key=len)
    assert strings[0] == (b"",)
    assert len(strings[1]) > 1
    assert b"".join(strings[1]).decode() == LONG


def test_datagram_without_edns_holds_512_octets(server):
    server.set("a.example", {"TXT": [txt("x" * 500)]})
    assert ask(server, "a.example", "TXT", use_edns=False).flags & dns.flags.TC
    assert data(ask(server, "a.example", "TXT")) == [txt("x" * 500)]


def test_data_that_are_none_are_refused_when_they_are_set(server):
    with pytest.raises(dns.exception.DNSException):
        server.set("a.example", {"TXT": [f'"{"x" * 256}"']})
    assert data(ask(server, "a.example", "TXT")) == ['"short"']


@pytest.mark.parametrize(
    ("failure", "rcode"),
    [
        (DnsFailure.SERVFAIL, dns.rcode.SERVFAIL),
        (DnsFailure.REFUSED, dns.rcode.REFUSED),
        (DnsFailure.NXDOMAIN, dns.rcode.NXDOMAIN),
    ],
)
def test_return_code_without_data(server, failure, rcode):
    server.fail("a.example", failure)
    for ask_by in (dns.query.udp, dns.query.tcp):
        response = ask(server, "a.example", ask_by=ask_by)
        assert (response.rcode(), data(response)) == (rcode, [])


def test_time_out(server):
    server.fail("a.example", DnsFailure.TIMEOUT)
    with pytest.raises(dns.exception.Timeout):
        ask(server, "a.example", seconds=TOO_SHORT_SECONDS)
    with pytest.raises(EOFError):
        ask(server, "a.example", ask_by=dns.query.tcp)


@pytest.mark.parametrize("failure", [DnsFailure.TRUNCATED, DnsFailure.TRUNCATED_WITHOUT_TCP])
def test_truncated(server, failure):
    server.fail("a.example", failure)
    response = ask(server, "a.example")
    assert (bool(response.flags & dns.flags.TC), data(response)) == (True, [])


def test_what_was_truncated_is_whole_over_tcp(server):
    server.fail("a.example", DnsFailure.TRUNCATED)
    assert data(ask(server, "a.example", ask_by=dns.query.tcp)) == ["192.0.2.1"]


def test_what_was_truncated_without_tcp_gets_no_answer_there(server):
    server.fail("a.example", DnsFailure.TRUNCATED_WITHOUT_TCP)
    with pytest.raises(EOFError):
        ask(server, "a.example", ask_by=dns.query.tcp)


@pytest.mark.parametrize("failure", [DnsFailure.WRONG_ID, DnsFailure.OTHER_QUESTION])
def test_answer_that_does_not_belong_to_the_query(server, failure):
    server.fail("a.example", failure)
    for ask_by in (dns.query.udp, dns.query.tcp):
        with pytest.raises(dns.query.BadResponse):
            ask(server, "a.example", ask_by=ask_by)


def test_answer_with_records_of_another_name(server):
    server.fail("a.example", DnsFailure.OTHER_RECORDS)
    response = ask(server, "a.example")
    assert response.question[0].name.to_text() == "a.example."
    assert [rrset.name.to_text() for rrset in response.answer] == ["another-question.invalid."]


def test_cname_loop(server):
    server.fail("a.example", DnsFailure.CNAME_LOOP)
    for name in ("a.example", "loop.a.example"):
        response = ask(server, name)
        with pytest.raises(dns.message.ChainTooLong):
            response.resolve_chaining()


def test_garbage(server):
    server.fail("a.example", DnsFailure.GARBAGE)
    with pytest.raises(dns.exception.DNSException) as raised:
        ask(server, "a.example")
    assert not isinstance(raised.value, dns.exception.Timeout)


def test_slow_answer_is_true_but_late(server):
    server.fail("a.example", Slow(0.5))
    with pytest.raises(dns.exception.Timeout):
        ask(server, "a.example", seconds=0.1)
    assert data(ask(server, "a.example")) == ["192.0.2.1"]


def test_failure_of_one_record_type_spares_the_others_and_ends_with_the_name(server):
    server.fail("example", DnsFailure.REFUSED)
    server.fail("a.example", DnsFailure.SERVFAIL, "txt")
    server.fail("a.example", DnsFailure.NXDOMAIN, "MX")
    assert ask(server, "a.example", "TXT").rcode() is dns.rcode.SERVFAIL
    assert ask(server, "a.example", "MX").rcode() is dns.rcode.NXDOMAIN
    assert ask(server, "a.example").rcode() is dns.rcode.REFUSED
    server.fail("example", None)
    server.fail("a.example", None, "MX")
    assert data(ask(server, "a.example", "MX")) == ["10 mx.a.example."]
    assert ask(server, "below.a.example", "TXT").rcode() is dns.rcode.SERVFAIL
    server.fail("a.example", None)
    assert data(ask(server, "a.example", "TXT")) == ['"short"']


def test_failure_of_every_name(server):
    server.fail(".", DnsFailure.SERVFAIL)
    assert ask(server, "nowhere.invalid").rcode() is dns.rcode.SERVFAIL
    server.fail(".", None)
    assert data(ask(server, "alias.example")) == ["a.example.", "192.0.2.1"]


def test_server_that_stops_comes_back_at_the_same_address(server):
    address = server.address
    server.fail("a.example", DnsFailure.REFUSED, "MX")
    server.stop()
    for ask_by in (dns.query.udp, dns.query.tcp):
        with pytest.raises((OSError, dns.exception.Timeout)):
            ask(server, "a.example", ask_by=ask_by, seconds=TOO_SHORT_SECONDS)
    server.start(*address)
    assert server.address == address
    assert data(ask(server, "a.example")) == ["192.0.2.1"]
    assert ask(server, "a.example", "MX").rcode() is dns.rcode.REFUSED
