"""What a signature comes to: when it holds, what breaks it, and what its tags may say."""

import logging
import re
import time

import pytest
from dkim_mail import (
    BODY,
    KEY_NAME,
    MESSAGE,
    SIMPLE_BODY,
    KeyServer,
    ed25519_key,
    only,
    parts,
    rsa_key,
    signed,
    signed_with,
    verified,
)

from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.core.authentication import Result

PAIRS = [(header, body) for header in (b"simple", b"relaxed") for body in (b"simple", b"relaxed")]
PAIR_IDS = [b"/".join(pair).decode() for pair in PAIRS]


def result(*arguments):
    return only(verified(*arguments)).result


# ---- what holds, and what breaks it


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
@pytest.mark.parametrize("algorithm", [b"rsa-sha256", b"ed25519-sha256"])
def test_signed_mail_passes_and_changed_mail_fails(pair, algorithm):
    key = rsa_key()[1] if algorithm.startswith(b"rsa") else ed25519_key()[1]
    message = signed(canonicalize=pair, algorithm=algorithm)
    found = only(verified(message, key))
    assert (found.result, found.domain, found.selector, found.reason) == (Result.PASS, "example.org", "sel", "")
    assert b"; b=" + found.signature.encode() in re.sub(rb";\s*b=", b"; b=", message)
    assert len(found.signature) >= 8  # RFC 6008 section 4
    assert result(message.replace(b"Hello", b"hello"), key) is Result.FAIL
    assert result(message + b"more\r\n", key) is Result.FAIL
    assert result(message.replace(b"To: b@", b"To: c@"), key) is Result.FAIL
    assert result(message.replace(b"Subject: a", b"Subject: b"), key) is Result.FAIL


@pytest.mark.parametrize(
    ("change", "simple", "relaxed"),
    [
        pytest.param((b"Subject: a  folded", b"subject:  a folded"), Result.FAIL, Result.PASS, id="header"),
        pytest.param((b"Hello  there \r\n", b"Hello there\r\n"), Result.FAIL, Result.PASS, id="body"),
        pytest.param((b"best\t\r\n\r\n\r\n", b"best\t\r\n"), Result.PASS, Result.PASS, id="empty lines at the end"),
    ],
)
def test_what_relaxed_forgives(change, simple, relaxed):
    for algorithm, expected in ((b"simple", simple), (b"relaxed", relaxed)):
        message = signed(canonicalize=(algorithm, algorithm))
        assert change[0] in message
        assert result(message.replace(*change)) is expected


def test_the_order_of_fields_of_one_name_counts():
    message = signed_with({"h": "from:x-tag:x-tag"}, b"X-Tag: 1\r\nX-Tag: 2\r\n" + MESSAGE)
    assert result(message) is Result.PASS
    assert result(message.replace(b"X-Tag: 1\r\nX-Tag: 2\r\n", b"X-Tag: 2\r\nX-Tag: 1\r\n")) is Result.FAIL


def test_of_several_fields_of_one_name_the_lowest_is_signed():
    """RFC 6376 section 5.4.2."""
    message = signed_with({})
    assert result(b"To: x@example.net\r\n" + message) is Result.PASS
    assert result(message.replace(b"Subject", b"To: x@example.net\r\nSubject")) is Result.FAIL


def test_a_name_signed_once_more_than_it_is_there_forbids_another():
    message = signed_with({"h": "from:to:to"})
    assert result(message) is Result.PASS
    assert result(b"To: x@example.net\r\n" + message) is Result.FAIL


@pytest.mark.parametrize("place", ["above", "below"])
def test_a_second_from_is_never_overlooked(place):
    """It is what the reader may see; a signature over one From does not hold for two (RFC 6376 section 8.15)."""
    forged = b"From: boss@example.org\r\n"
    message = signed_with({})
    changed = forged + message if place == "above" else message.replace(b"Subject", forged + b"Subject")
    assert result(changed) is Result.FAIL


def test_every_signature_gets_a_result_of_its_own():
    message = signed(signed(canonicalize=(b"relaxed", b"relaxed")), algorithm=b"ed25519-sha256", domain=b"example.net")
    records = {KEY_NAME: rsa_key()[1], "sel._domainkey.example.net": ed25519_key()[1]}
    found = verified(message, records)
    assert [(each.domain, each.result) for each in found] == [
        ("example.net", Result.PASS),
        ("example.org", Result.PASS),
    ]
    changed = verified(message.replace(b"Hello  there", b"Hello there"), records)
    assert [each.result for each in changed] == [Result.FAIL, Result.PASS]


def test_8_bit_fields_and_bodies_are_signed_as_they_are():
    message = signed(MESSAGE.replace(b"Hello", b"H\xe9llo"))
    assert result(message) is Result.PASS
    message = message.replace(b"Subject: a", b"X-8bit: caf\xe9 \xff\r\nSubject: a")
    assert result(message) is Result.PASS
    message = signed_with({"h": "from:x-8bit"}, b"X-8bit: x\r\n" + MESSAGE)
    assert result(message.replace(b"X-8bit: x", b"X-8bit: \xff")) is Result.FAIL


def test_a_message_without_body():
    message = b"From: a@example.org\r\n\r\n"
    assert result(signed(message, canonicalize=(b"relaxed", b"simple"))) is Result.PASS
    assert result(signed(message, canonicalize=(b"relaxed", b"relaxed"))) is Result.PASS


def test_an_internationalised_domain_is_looked_up_and_shown_as_a_label():
    """RFC 8616: U-labels in d= and s=."""
    server = KeyServer({"sel._domainkey.xn--bcher-kva.example": rsa_key()[1]})
    message = signed_with({"d": "bücher.example"})
    found = only(verified(message, server.records))
    assert (found.result, found.domain) == (Result.PASS, "xn--bcher-kva.example")


def test_names_are_compared_without_case():
    found = only(verified(signed_with({"d": "Example.ORG", "s": "SEL", "h": "FROM : To", "c": "Relaxed/Simple"})))
    assert (found.result, found.domain, found.selector) == (Result.PASS, "example.org", "sel")


# ---- without a signature


@pytest.mark.parametrize("header", [b"", b"From: a@example.org\r\n", b"X-DKIM-Signature: v=1\r\n"])
def test_unsigned_mail_asks_for_nothing(header):
    fields, body = parts(header + b"\r\n" + BODY)
    server = KeyServer({})
    check = SignatureCheck(fields)
    assert not check.wants_body
    check.start(server)
    check.feed(body)
    assert check.finish(1.0) == ()
    assert server.asked == []


def test_a_signature_that_is_refused_asks_for_nothing():
    fields, _ = parts(signed_with({"v": "2"}))
    server = KeyServer({})
    check = SignatureCheck(fields)
    check.start(server)
    assert not check.wants_body
    assert server.asked == []
    assert only(check.finish(1.0)).result is Result.PERMERROR


# ---- what tags may say

NOW = int(time.time())
DAY = 86_400

TAGS = [
    pytest.param({"v": "2"}, Result.PERMERROR, "v=", id="version"),
    pytest.param({"v": None}, Result.PERMERROR, "no v=", id="no version"),
    pytest.param({"a": "rsa-md5"}, Result.PERMERROR, "algorithm", id="unknown algorithm"),
    pytest.param({"a": None}, Result.PERMERROR, "no a=", id="no algorithm"),
    pytest.param({"bh": None}, Result.PERMERROR, "no bh=", id="no body hash"),
    pytest.param({"bh": "AAAA"}, Result.PERMERROR, "bh=", id="short body hash"),
    pytest.param({"bh": "*" * 44}, Result.PERMERROR, "bh=", id="body hash not base64"),
    pytest.param({"c": "relaxed/strict"}, Result.PERMERROR, "c=", id="unknown canonicalisation"),
    pytest.param({"c": "nofws"}, Result.PERMERROR, "c=", id="canonicalisation of DomainKeys"),
    pytest.param({"d": None}, Result.PERMERROR, "no d=", id="no domain"),
    pytest.param({"d": "org"}, Result.PERMERROR, "do not name a key", id="a TLD"),
    pytest.param({"d": "exam ple..org"}, Result.PERMERROR, "do not name a key", id="no domain name"),
    pytest.param({"d": "192.0.2.1"}, Result.PERMERROR, "do not name a key", id="an address"),
    pytest.param({"d": "x" * 64 + ".org"}, Result.PERMERROR, "do not name a key", id="label too long"),
    pytest.param({"d": "x." * 124 + "org"}, Result.PERMERROR, "do not name a key", id="name too long"),
    pytest.param({"s": "a;b"}, Result.PERMERROR, "list of tags", id="selector with semicolon"),
    pytest.param({"s": "../x"}, Result.PERMERROR, "do not name a key", id="selector no name"),
    pytest.param({"s": ""}, Result.PERMERROR, "no s=", id="empty selector"),
    pytest.param({"s": None}, Result.PERMERROR, "no s=", id="no selector"),
    pytest.param({"h": "to:subject"}, Result.PERMERROR, "From is not signed", id="From not signed"),
    pytest.param({"h": None}, Result.PERMERROR, "no h=", id="no h"),
    pytest.param({"i": "@example.org"}, Result.PASS, "", id="identity of the domain"),
    pytest.param({"i": "a@mail.example.org"}, Result.PASS, "", id="identity of a subdomain"),
    pytest.param({"i": "a@notexample.org"}, Result.PERMERROR, "i=", id="identity of another domain"),
    pytest.param({"i": "a@org"}, Result.PERMERROR, "i=", id="identity of the parent"),
    pytest.param({"i": "example.org"}, Result.PERMERROR, "i=", id="identity without @"),
    pytest.param({"i": ""}, Result.PERMERROR, "i=", id="empty identity"),
    pytest.param({"q": "dns/txt"}, Result.PASS, "", id="query method"),
    pytest.param({"q": "http : dns/txt"}, Result.PASS, "", id="query methods"),
    pytest.param({"q": "http"}, Result.PERMERROR, "q=", id="unknown query method"),
    pytest.param({"t": str(NOW - DAY), "x": str(NOW + DAY)}, Result.PASS, "", id="in time"),
    pytest.param({"t": str(NOW + DAY)}, Result.PERMERROR, "future", id="from the future"),
    pytest.param({"x": str(NOW - DAY)}, Result.PERMERROR, "past", id="expired"),
    pytest.param({"t": "yesterday"}, Result.PERMERROR, "t=", id="time no number"),
    pytest.param({"l": str(len(SIMPLE_BODY))}, Result.PASS, "", id="the whole length"),
    pytest.param({"l": "5"}, Result.POLICY, "unsigned", id="a shorter length"),
    pytest.param({"l": "0"}, Result.POLICY, "unsigned", id="no length"),
    pytest.param({"l": str(len(SIMPLE_BODY) + 1)}, Result.PERMERROR, "longer than the body", id="a longer length"),
    pytest.param({"l": "9" * 60}, Result.PERMERROR, "longer than the body", id="an endless length"),
    pytest.param({"l": "9" * 77}, Result.PERMERROR, "l=", id="too many digits"),
    pytest.param({"l": "-1"}, Result.PERMERROR, "l=", id="a negative length"),
    pytest.param({"l": ""}, Result.PERMERROR, "l=", id="an empty length"),
    pytest.param({"y": "unknown"}, Result.PASS, "", id="an unknown tag"),
]


@pytest.mark.parametrize(("tags", "expected", "reason"), TAGS)
def test_tags(tags, expected, reason):
    found = only(verified(signed_with(tags)))
    assert found.result is expected
    assert reason in found.reason
    assert bool(found.reason) is (expected is not Result.PASS)


def test_text_added_after_the_length_that_was_signed_is_seen():
    message = signed_with({"l": str(len(SIMPLE_BODY))}, MESSAGE.replace(BODY, SIMPLE_BODY))
    assert result(message) is Result.PASS
    assert result(message + b"Buy now!\r\n") is Result.POLICY


def test_sha_1_is_not_accepted_and_not_looked_up():
    """RFC 8301 section 3.1."""
    fields, body = parts(signed_with({}, algorithm="rsa-sha1"))
    server = KeyServer({KEY_NAME: rsa_key()[1]})
    check = SignatureCheck(fields)
    check.start(server)
    check.feed(body)
    found = only(check.finish(1.0))
    assert (found.result, found.domain) == (Result.POLICY, "example.org")
    assert "rsa-sha1" in found.reason
    assert server.asked == []


@pytest.mark.parametrize("signature", ["!!!!", "A", "=", "AAA", "", "AAAA====", "\N{BULLET}", "QUJD" * 1000])
def test_odd_base64(signature):
    message = signed_with({})
    changed = re.sub(rb"b=[A-Za-z0-9+/=\s]+(?=From)", b"b=" + signature.encode() + b"\r\n", message, count=1)
    assert changed != message
    assert result(changed) in (Result.PERMERROR, Result.FAIL)


def test_nothing_is_logged(caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        verified(signed().replace(b"Subject: a", b"Subject: b"))
        verified(signed(), b"v=DKIM1; p=AAAA")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
