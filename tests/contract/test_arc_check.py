"""ARC as evidence: which chains are looked at, which hold, and what they show."""

import re

import dkim
import pytest
from dkim_mail import MESSAGE, HangingServer, KeyServer, parts, rsa_key

from deliverypools.adapters.authentication.arc_check import ArcCheck
from deliverypools.adapters.resolver import DnsUnavailable
from deliverypools.core.authentication import ArcResult, Result

PASSED = "dmarc=pass header.from=example.org"
SEALERS = ("one.example", "two.example", "three.example")
KEYS = {f"sel._domainkey.{sealer}": rsa_key()[1] for sealer in SEALERS}


def sealed(message, *sets):
    """The message with one ARC set by dkimpy for each (sealer, results)."""
    for number, (sealer, results) in enumerate(sets):
        arc = f"; arc={'pass' if number else 'none'}"
        field = f"Authentication-Results: {sealer}; {results}{arc}\r\n".encode()
        lines = dkim.arc_sign(field + message, b"sel", sealer.encode(), rsa_key()[0], sealer.encode())
        assert len(lines) == 3
        message = b"".join(lines) + message
    return message


def chain(*results, message=MESSAGE):
    return sealed(message, *zip(SEALERS, results, strict=False))


def check_of(message, trusted, server):
    fields, body = parts(message)
    check = ArcCheck(fields, frozenset(trusted))
    check.start(server)
    check.feed(body)
    return check


def found(message, trusted, keys=KEYS):
    return check_of(message, trusted, KeyServer(keys)).finish(5.0)


ONE, TWO, THREE = chain(PASSED), chain(PASSED, "spf=fail"), chain(PASSED, "spf=fail", "spf=fail")


@pytest.mark.parametrize("message", [ONE, TWO, THREE], ids=["one", "two", "three"])
def test_chains_of_trusted_sealers_hold(message):
    last = SEALERS[message.count(b"ARC-Seal:") - 1]
    assert found(message, SEALERS) == ArcResult(result=Result.PASS, sealer=last, vouches="dmarc=pass")


@pytest.mark.parametrize("message", [MESSAGE, ONE, TWO], ids=["no chain", "one", "two"])
@pytest.mark.parametrize("trusted", [[], ["other.example"], ["one.example.com"], [""]])
def test_without_a_trusted_sealer_nothing_happens(message, trusted):
    server = KeyServer(KEYS)
    check = check_of(message, trusted, server)
    assert not check.wants_body
    assert server.asked == []
    answer = check.finish(1.0)
    assert (answer.result, answer.vouches) == (Result.NONE, "")


def test_the_last_sealer_counts():
    assert found(TWO, ["one.example"]) == ArcResult(result=Result.NONE, sealer="two.example")
    assert found(TWO, ["two.example"]) == ArcResult(result=Result.PASS, sealer="two.example")


def test_what_is_below_a_sealer_that_is_not_trusted_is_not_believed():
    """Anybody may write a first set that says dmarc=pass, and send the message to a trusted sealer."""
    assert found(THREE, ["one.example", "three.example"]).vouches == ""
    assert found(THREE, ["two.example", "three.example"]).vouches == ""
    assert found(THREE, SEALERS).vouches == "dmarc=pass"


VOUCHING = [
    (PASSED, "dmarc=pass"),
    ("spf=pass smtp.mailfrom=example.org; dmarc=pass header.from=example.org", "dmarc=pass"),
    ("dmarc=fail header.from=example.org; spf=pass smtp.mailfrom=example.org", ""),
    ("dmarc=none header.from=example.org; spf=pass smtp.mailfrom=example.org", "dmarc=none spf=pass"),
    ("dmarc=none header.from=example.org; spf=pass smtp.helo=example.org", ""),
    ("dmarc=none header.from=example.org; spf=fail smtp.mailfrom=example.org", ""),
    ("dmarc=none header.from=example.org; dkim=pass header.d=example.org", "dmarc=none dkim=pass"),
    ("dmarc=none header.from=mail.example.org; dkim=pass header.d=example.org", "dmarc=none dkim=pass"),
    ("dmarc=none header.from=example.org; dkim=pass header.d=spam.example", ""),
    ("dmarc=none header.from=example.org; dkim=fail header.d=example.org", ""),
    ("dmarc=none; dkim=pass header.d=example.org", ""),
    ("dmarc=temperror header.from=example.org", ""),
    ("spf=pass smtp.mailfrom=example.org; dkim=pass header.d=example.org", ""),
]


@pytest.mark.parametrize(("results", "vouches"), VOUCHING, ids=[results for results, _ in VOUCHING])
def test_what_sealed_results_show(results, vouches):
    assert found(chain(results), SEALERS) == ArcResult(result=Result.PASS, sealer="one.example", vouches=vouches)


BODY_CHANGED = "the body was changed: its hash is not that of bh="
HEADER_CHANGED = "the header was changed, or signed with another key"
BAD_RESULTS = "an ARC-Authentication-Results field has no valid i=, or is too long"
NUMBERLESS = "an ARC field has no valid i="
INCOMPLETE = "the chain is not complete"
SEAL, RESULTS = b"ARC-Seal: i=1;", b"ARC-Authentication-Results: i=1;"
SHA256, SHA1 = b"ARC-Message-Signature: i=2; a=rsa-sha256", b"ARC-Message-Signature: i=2; a=rsa-sha1"
CHANGES = [
    pytest.param(b"Hello", b"hello", BODY_CHANGED, id="body"),
    pytest.param(b"Subject: a", b"Subject: b", HEADER_CHANGED, id="header"),
    pytest.param(b"From: A", b"From: x@example.net\r\nFrom: A", HEADER_CHANGED, id="another From"),
    pytest.param(b"dmarc=pass", b"dmarc=none", HEADER_CHANGED, id="results"),
    pytest.param(b"cv=none", b"cv=pass", "cv= of seal 1 is not none", id="cv of the first seal"),
    pytest.param(b"cv=pass", b"cv=none", "cv= of seal 2 is not pass", id="cv of the second seal"),
    pytest.param(b"cv=pass", b"cv=fail", "cv= of seal 2 is not pass", id="cv=fail"),
    pytest.param(SEAL, b"X-Seal: i=1;", INCOMPLETE, id="a seal less"),
    pytest.param(SEAL, b"ARC-Seal: i=2;", "set 2 has a field twice", id="two seals of one set"),
    pytest.param(SEAL, b"ARC-Seal: i=0;", INCOMPLETE, id="set 0"),
    pytest.param(SEAL, b"ARC-Seal: i=one;", NUMBERLESS, id="no number"),
    pytest.param(SEAL, b"ARC-Seal: h=from; i=1;", "ARC-Seal has a tag h=", id="h= in a seal"),
    pytest.param(RESULTS, b"X: i=1;", INCOMPLETE, id="results less"),
    pytest.param(RESULTS, b"ARC-Authentication-Results: ", BAD_RESULTS, id="results without number"),
    pytest.param(RESULTS, RESULTS + b" x" * 10_000, BAD_RESULTS, id="long results"),
    pytest.param(SHA256, SHA1, "rsa-sha1 is not accepted (RFC 8301)", id="SHA-1"),
]


@pytest.mark.parametrize(("old", "new", "reason"), CHANGES)
def test_a_chain_that_was_changed_fails(old, new, reason):
    message = re.sub(rb"(ARC-[A-Za-z-]+:)\s+", rb"\1 ", TWO)
    assert found(message, SEALERS).result is Result.PASS
    assert old in message
    answer = found(message.replace(old, new, 1), SEALERS)
    assert answer == ArcResult(result=Result.FAIL, sealer="two.example", reason=reason)


def test_a_message_signature_does_not_cover_seals():
    """RFC 8617 section 4.1.2."""
    field = b"Authentication-Results: two.example; arc=pass\r\n"
    names = [b"from", b"arc-seal"]
    lines = dkim.arc_sign(field + ONE, b"sel", b"two.example", rsa_key()[0], b"two.example", include_headers=names)
    answer = found(b"".join(lines) + ONE, SEALERS)
    assert (answer.result, answer.reason) == (Result.FAIL, "ARC-Message-Signature signs an ARC-Seal")


def test_the_order_of_the_fields_does_not_count():
    """A set is told by its number, not by its place (RFC 8617 section 4.2.1)."""
    fields, body = parts(TWO)
    arc = sorted(each for each in fields if each[0].startswith(b"ARC-"))
    others = [each for each in fields if not each[0].startswith(b"ARC-")]
    check = ArcCheck(others + arc, frozenset(SEALERS))
    check.start(KeyServer(KEYS))
    check.feed(body)
    assert check.finish(1.0).result is Result.PASS


def test_only_the_last_message_signature_has_to_hold():
    """A sealer in between may change the message, and says so by sealing it again (RFC 8617 section 5.2)."""
    first = sealed(MESSAGE, ("one.example", PASSED))
    changed = first.replace(b"Hello", b"[list] Hello")
    field = b"Authentication-Results: two.example; arc=pass\r\n"
    message = b"".join(dkim.arc_sign(field + changed, b"sel", b"two.example", rsa_key()[0], b"two.example")) + changed
    assert found(message, SEALERS) == ArcResult(result=Result.PASS, sealer="two.example", vouches="dmarc=pass")
    assert found(message, ["two.example"]).vouches == ""


@pytest.mark.parametrize("sealer", SEALERS)
def test_what_dns_cannot_tell_is_unknown(sealer):
    answer = found(THREE, SEALERS, KEYS | {f"sel._domainkey.{sealer}": DnsUnavailable("SERVFAIL")})
    assert (answer.result, answer.vouches) == (Result.TEMPERROR, "")
    assert sealer in answer.reason


@pytest.mark.parametrize("sealer", SEALERS)
@pytest.mark.parametrize("record", [(), b"v=DKIM1; p=", b"v=DKIM1; t=y; " + rsa_key()[1][9:]])
def test_a_key_that_is_gone_or_only_tested_ends_the_chain(sealer, record):
    assert found(THREE, SEALERS, KEYS | {f"sel._domainkey.{sealer}": record}).result is Result.FAIL


def test_a_dns_server_that_hangs_is_not_waited_for_for_longer():
    server = HangingServer(KEYS)
    check = check_of(TWO, SEALERS, server)
    assert check.finish(0.01).result is Result.TEMPERROR
    assert sorted(server.asked) == ["sel._domainkey.one.example", "sel._domainkey.two.example"]


def test_more_than_ten_sets_are_not_looked_at():
    seal = b"ARC-Seal: i=%d; d=one.example; s=sel; a=rsa-sha256; cv=pass; b=AAAA\r\n"
    message = b"".join(seal % number for number in range(1, 12)) + MESSAGE
    server = KeyServer(KEYS)
    answer = check_of(message, SEALERS, server).finish(1.0)
    assert (answer.result, answer.reason) == (Result.NONE, "11 ARC seals; more than 10 are not looked at")
    assert server.asked == []


@pytest.mark.parametrize(
    "seal", [b"", b"i=1", b"i=1; d=", b"i=99999; d=one.example", b"\xff", b";;;", b"i=1; d=one.example; d=x"]
)
def test_a_seal_that_cannot_be_read_is_no_trusted_seal(seal):
    assert found(b"ARC-Seal: " + seal + b"\r\n" + MESSAGE, SEALERS).result is Result.NONE


def test_a_header_that_is_too_large_is_not_verified():
    message = b"X: y\r\n" * 1001 + ONE
    answer = found(message, SEALERS)
    assert (answer.result, answer.reason) == (Result.FAIL, "the message has more than 1000 header fields")
