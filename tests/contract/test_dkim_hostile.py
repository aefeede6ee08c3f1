"""Messages made to cost time, or to break the check: each ends with a result, and with little work done."""

import base64
import re

import dkim
import pytest
from dkim_mail import (
    BODY,
    KEY_NAME,
    MESSAGE,
    KeyServer,
    only,
    parts,
    results_of,
    rsa_key,
    signed,
    signed_with,
    verified,
)

from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.core.authentication import Result

KEY = {KEY_NAME: rsa_key()[1]}
HASH = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def handed_over(monkeypatch):
    """The number of header fields, and of names in h=, of each call of dkimpy."""
    calls = []
    verify_sig = dkim.DKIM.verify_sig

    def counted(self, sig, include_headers, *rest):
        calls.append((len(self.headers), len(include_headers)))
        return verify_sig(self, sig, include_headers, *rest)

    monkeypatch.setattr(dkim.DKIM, "verify_sig", counted)
    return calls


def field(tags):
    defaults = {"v": "1", "a": "rsa-sha256", "d": "example.org", "s": "sel", "h": "from", "bh": HASH, "b": "AAAA"}
    return "; ".join(f"{tag}={value}" for tag, value in (defaults | tags).items()).encode()


def check_field(value, records=KEY):
    return only(results_of([(b"DKIM-Signature", value), *parts(MESSAGE)[0]], BODY, KeyServer(records)))


def test_of_ten_thousand_signatures_ten_are_looked_at(handed_over):
    fields, body = parts(signed())
    names = [f"s{number}._domainkey.example.org" for number in range(10_000)]
    forged = [(fields[0][0], fields[0][1].replace(b"s=sel", b"s=s%d" % number)) for number in range(10_000)]
    server = KeyServer(dict.fromkeys(names, KEY[KEY_NAME]))
    found = results_of(forged + fields[1:], body, server)
    assert len(found) == 10
    assert all(each.result is Result.PERMERROR for each in found)
    assert "header fields" in found[0].reason
    few = results_of(forged[:300] + fields[1:], body, server)
    assert [each.result for each in few] == [Result.FAIL] * 10
    assert few[-1].reason.startswith("290 more signatures were not looked at; the header was changed")
    assert few[0].reason == "the header was changed, or signed with another key"
    assert server.asked == names[:10]
    assert len(handed_over) == 10


def test_ten_thousand_signatures_in_a_large_header():
    check = SignatureCheck([(b"DKIM-Signature", field({}))] * 10_000)
    assert not check.wants_body
    found = check.finish(1.0)
    assert len(found) == 10
    assert found[-1].reason.startswith("9990 more signatures were not looked at; the message has more than 1000")


@pytest.mark.parametrize("names", [201, 5000])
def test_too_many_names_in_h(names):
    listed = ":".join(["from", *(f"x{number}" for number in range(names - 1))])
    found = only(results_of([(b"DKIM-Signature", field({"h": listed}))], b"", KeyServer(KEY)))
    assert found.result is Result.PERMERROR
    assert found.reason in ("h= names more than 200 fields", "the signature field is longer than 8192 octets")


def test_two_hundred_names_in_h_are_verified(handed_over):
    message = signed_with({"h": ":".join(["from", *(f"x{number}" for number in range(199))])})
    assert only(verified(message)).result is Result.PASS
    assert handed_over == [(1, 200)]


def test_dkimpy_gets_no_field_that_is_not_signed(handed_over):
    message = signed_with({"h": "from:to"})
    others = b"To: x@example.net\r\n" * 500 + b"X-Padding: x\r\n" * 400
    assert only(verified(others + message)).result is Result.PASS
    assert handed_over == [(2, 2)]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        pytest.param([(b"X", b" y")] * 1000, "the message has more than 1000 header fields", id="fields"),
        pytest.param([(b"X", b"y" * 262_144)], "the header is larger than 256 kB", id="octets"),
        pytest.param([(b"X" * 262_144, b"y")], "the header is larger than 256 kB", id="a long name"),
    ],
)
def test_large_headers_are_not_verified(extra, reason, handed_over):
    fields, body = parts(signed())
    server = KeyServer(KEY)
    found = only(results_of([*extra, *fields], body, server))
    assert (found.result, found.domain, found.reason) == (Result.PERMERROR, "example.org", reason)
    assert (server.asked, handed_over) == ([], [])


@pytest.mark.parametrize("space", [b" ", b"\t", b"\r\n ", b"\n", b"\r", b"\v", b"\f"])
@pytest.mark.parametrize("before", [b"b=", b"h=", b"d=", b"; b", b"; "], ids=repr)
def test_runs_of_white_space_in_the_signature(space, before, handed_over):
    """dkimpy's RE_BTAG takes 5 s for 80 kB of blanks."""
    fields, body = parts(signed())
    name, value = fields[0]
    assert before in value
    for run in space * 101, space * 9000:
        changed = value.replace(before, before + run, 1)
        found = only(results_of([(name, changed), *fields[1:]], body, KeyServer(KEY)))
        assert found.result is Result.PERMERROR
        assert found.reason in (
            "the signature field holds more than 100 white-space characters in a row",
            "the signature field is longer than 8192 octets",
        )
    assert handed_over == []


def test_white_space_that_an_honest_signer_writes_is_no_trouble():
    value = parts(signed(canonicalize=(b"relaxed", b"simple")))[0][0][1]
    folded = value.replace(b" b=", b"\r\n" + b" " * 60 + b"b=")
    assert (
        only(results_of([(b"DKIM-Signature", folded), *parts(MESSAGE)[0]], BODY, KeyServer(KEY))).result is Result.PASS
    )


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="blank"),
        pytest.param(b";", id="semicolon"),
        pytest.param(b"=;=;=", id="signs"),
        pytest.param(b"v", id="no equals sign"),
        pytest.param(b"\xff\x00\x80", id="8-bit"),
        pytest.param(b"v=1; v=1", id="tag twice"),
        pytest.param(b"1=2", id="no tag name"),
        pytest.param(b"v=1;" * 3000, id="too long"),
        pytest.param(field({"t": "9" * 5000}), id="time of 5,000 digits"),
        pytest.param(field({"x": "9" * 5000}), id="expiry of 5,000 digits"),
        pytest.param(field({"l": "9" * 5000}), id="length of 5,000 digits"),
        pytest.param(field({"i": "@" * 5000}), id="identity of at signs"),
        pytest.param(field({"i": "example.org"}), id="identity for IndexError in dkimpy"),
        pytest.param(field({"d": "." * 5000}), id="domain of dots"),
        pytest.param(field({"d": "\N{LATIN SMALL LETTER SHARP S}" * 200}), id="domain of U-labels"),
        pytest.param(field({"d": "xn--a.example"}), id="no A-label"),
        pytest.param(field({"s": "a." * 2000}), id="selector of 2,000 labels"),
        pytest.param(field({"h": ":" * 5000}), id="names empty"),
        pytest.param(field({"b": "A" * 7000}), id="long signature"),
        pytest.param(field({"b": "=" * 7000}), id="signature of padding"),
        pytest.param(field({"bh": "=" * 7000}), id="body hash of padding"),
        pytest.param(field({"c": "/" * 5000}), id="canonicalisation of slashes"),
        pytest.param(field({"a": "rsa-sha256;" + "b=1 b=2 b=3 " * 500}), id="many b="),
    ],
)
def test_odd_signature_fields(value):
    found = check_field(value)
    assert found.result in (Result.PERMERROR, Result.FAIL)
    assert found.reason.isascii()
    assert len(found.reason) <= 200
    assert found.domain in ("", "example.org", "xn--a.example")


def test_a_right_signature_in_a_field_that_is_too_long():
    message = signed_with({"z": " ".join(["x" * 60] * 140)})
    found = only(verified(message))
    assert (found.result, found.reason) == (Result.PERMERROR, "the signature field is longer than 8192 octets")
    assert only(verified(signed_with({"z": " ".join(["x" * 60] * 110)}))).result is Result.PASS


@pytest.mark.parametrize(
    "error", [dkim.KeyFormatError("x"), IndexError("x"), AssertionError(), MemoryError(), RecursionError(), OSError()]
)
def test_whatever_dkimpy_raises(monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(dkim.DKIM, "verify_sig", fail)
    found = only(verified(signed()))
    assert found.result is Result.PERMERROR
    assert found.reason == f"the signature cannot be verified ({type(error).__name__})"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param((b"", b" x"), id="no name"),
        pytest.param((b" folded", b""), id="header begins with white space"),
        pytest.param((b"\xff\xfe", b"\xff"), id="8-bit name"),
        pytest.param((b"From ", b" b@example.org"), id="blank before the colon"),
        pytest.param((b"X\r\nY", b" z"), id="line end in a name"),
        pytest.param((b"X", b"\r\nFrom: b@example.org\r\n\r\n"), id="line ends in a value"),
        pytest.param((b"X", b"\x00"), id="NUL"),
    ],
)
def test_odd_fields_beside_the_signature_do_no_harm(first):
    fields, body = parts(signed())
    expected = Result.FAIL if first[0].strip() == b"From" else Result.PASS
    assert only(results_of([first, *fields], body, KeyServer(KEY))).result is expected


def test_a_from_that_is_there_twice_and_signed_twice():
    message = signed_with({"h": "from:from"}, b"From: b@example.org\r\n" + MESSAGE)
    assert only(verified(message)).result is Result.PASS
    assert only(verified(b"From: c@example.org\r\n" + message)).result is Result.FAIL


def test_a_signature_over_another_signature():
    message = signed_with({"h": "from:dkim-signature"}, signed())
    assert [each.result for each in verified(message)] == [Result.PASS, Result.PASS]
    changed = re.sub(rb"(?s)(DKIM-Signature.*DKIM-Signature: )v=1;", rb"\1v=1; x-tag=1;", message)
    assert [each.result for each in verified(changed)] == [Result.FAIL, Result.FAIL]


def test_many_long_folds_in_signed_fields():
    message = signed_with({"h": "from:x-fold"}, b"X-Fold: a" + b"\r\n b" * 20_000 + b"\r\n" + MESSAGE)
    assert only(verified(message)).result is Result.PASS


def test_names_in_results_are_bounded_and_never_message_text():
    found = check_field(field({"d": "a\x00b.example", "s": "\u202e", "b": "<script>"}))
    assert (found.domain, found.selector, found.signature) == ("", "", "")
    assert re.fullmatch(r"[ -~]+", found.reason)
