"""What key records and DNS may do to a signature that is right."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dkim_mail import (
    KEY_NAME,
    HangingServer,
    KeyServer,
    ed25519_key,
    only,
    parts,
    results_of,
    rsa_key,
    signed,
    signed_with,
    verified,
)

from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.adapters.resolver import DnsUnavailable, Resolver
from deliverypools.core.authentication import Result
from deliverypools.core.settings.tables import Dns
from deliverypools.lab.dns_server import DnsFailure, DnsServer, txt

RSA = rsa_key()[1]
P = RSA.partition(b"p=")[2]
ED25519 = ed25519_key()[1]
SPF = b"v=spf1 -all"


def rsa_record(modulus, exponent=65537):
    """A record for a key that nobody could make, or would."""
    return b"v=DKIM1; p=" + base64.b64encode(sequence(integer(modulus) + integer(exponent)))


def integer(number):
    raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + length(raw) + raw


def sequence(content):
    return b"\x30" + length(content) + content


def length(content):
    size = len(content)
    if size < 128:
        return bytes([size])
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(raw)]) + raw


def test_the_odd_records_are_made_well():
    numbers = RSAPublicNumbers(65537, (1 << 2047) + 1)
    der = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert rsa_record((1 << 2047) + 1) == b"v=DKIM1; p=" + base64.b64encode(der)


RECORDS = [
    pytest.param(RSA, Result.PASS, "", id="key"),
    pytest.param(b"p=" + P, Result.PASS, "", id="no version"),
    pytest.param(b"k=rsa; p=" + P[:30] + b"\r\n\t " + P[30:], Result.PASS, "", id="white space in p="),
    pytest.param(b"v=DKIM1; n=a note; x=y; p=" + P + b";", Result.PASS, "", id="other tags"),
    pytest.param(b"v=DKIM1; h=sha1:sha256; p=" + P, Result.PASS, "", id="h= with sha256"),
    pytest.param(b"v=DKIM1; h=sha1; p=" + P, Result.PERMERROR, "SHA-256", id="h= without sha256"),
    pytest.param(b"v=DKIM1; s=email; p=" + P, Result.PASS, "", id="s=email"),
    pytest.param(b"v=DKIM1; s=foo : *; p=" + P, Result.PASS, "", id="s= with star"),
    pytest.param(b"v=DKIM1; s=tlsrpt; p=" + P, Result.PERMERROR, "s=", id="s=tlsrpt"),
    pytest.param(b"v=DKIM1; k=ed25519; p=" + P, Result.PERMERROR, "k=", id="another type"),
    pytest.param(ED25519, Result.PERMERROR, "k=", id="an Ed25519 key"),
    pytest.param(b"v=DKIM1; k=dsa; p=" + P, Result.PERMERROR, "k=", id="unknown type"),
    pytest.param(b"v=DKIM1; t=y; p=" + P, Result.POLICY, "t=y", id="testing"),
    pytest.param(b"v=DKIM1; t=s:y; p=" + P, Result.POLICY, "t=y", id="testing and strict"),
    pytest.param(b"v=DKIM1; t=s; p=" + P, Result.PASS, "", id="strict"),
    pytest.param(b"v=DKIM1; p=", Result.PERMERROR, "revoked", id="revoked"),
    pytest.param(b"v=DKIM1; t=y; p= ", Result.PERMERROR, "revoked", id="revoked while testing"),
    pytest.param(b"v=DKIM1; np=" + P, Result.PERMERROR, "no p=", id="no p="),
    pytest.param(b"v=DKIM1 p=" + P, Result.PERMERROR, "not DKIM1", id="no semicolon"),
    pytest.param(b"v=DKIM1; p=" + P + b"; p=" + P, Result.PERMERROR, "list of tags", id="a tag twice"),
    pytest.param(b"v=DKIM1; p=AAAA*", Result.PERMERROR, "base64", id="not base64"),
    pytest.param(b"v=DKIM1; p=AAAAA", Result.PERMERROR, "base64", id="base64 cut off"),
    pytest.param(b"v=DKIM1; p=AAAA", Result.PERMERROR, "no RSA key", id="no key"),
    pytest.param(b"v=DKIM1; p=" + P[:-40], Result.PERMERROR, "no RSA key", id="key cut off"),
    pytest.param(b"v=DKIM1; p=" + base64.b64encode(b"\x30\xff" + b"\xff" * 200), Result.PERMERROR, "RSA", id="DER"),
    pytest.param(b"v=DKIM1; p=\xff\xfe", Result.PERMERROR, "base64", id="8-bit"),
    pytest.param(b"v=DKIM1; p=" + P + b"; n=" + b"x" * 4096, Result.PERMERROR, "4096 octets", id="too long"),
    pytest.param(rsa_record((1 << 511) + 1), Result.POLICY, "512 bits", id="512 bits"),
    pytest.param(rsa_record((1 << 1022) + 1), Result.POLICY, "1023 bits", id="1,023 bits"),
    pytest.param(rsa_record((1 << 1023) + 1), Result.FAIL, "another key", id="1,024 bits, another key"),
    pytest.param(rsa_record((1 << 4095) + 1), Result.FAIL, "another key", id="4,096 bits, another key"),
    pytest.param(rsa_record((1 << 4096) + 1), Result.POLICY, "4097 bits", id="4,097 bits"),
    pytest.param(rsa_record((1 << 16383) + 1, (1 << 6000) + 1), Result.POLICY, "16384 bits", id="16,384 bits"),
    pytest.param(rsa_record((1 << 2047) + 1, (1 << 64) + 1), Result.POLICY, "exponent", id="an exponent of 65 bits"),
    pytest.param(rsa_record(0), Result.POLICY, "0 bits", id="modulus 0"),
    pytest.param((), Result.PERMERROR, "no key", id="no record"),
    pytest.param((SPF,), Result.PERMERROR, "no key", id="another record"),
    pytest.param((SPF, RSA), Result.PASS, "", id="another record beside the key"),
    pytest.param((b"v=DKIM2; p=" + P,), Result.PERMERROR, "no key", id="a later version"),
    pytest.param((ED25519, RSA), Result.PASS, "", id="two keys, one fits"),
    pytest.param((rsa_record((1 << 2047) + 1), RSA), Result.PASS, "", id="two keys, one is right"),
    pytest.param((ED25519, b"v=DKIM1; p="), Result.PERMERROR, "k=", id="two keys, none fits"),
    pytest.param((*(b"v=DKIM1; a=%d; p=" % i for i in range(9)), RSA), Result.PERMERROR, "revoked", id="ten keys"),
]


@pytest.mark.parametrize(("records", "expected", "reason"), RECORDS)
def test_key_records(records, expected, reason):
    found = only(verified(signed(), {KEY_NAME: records}))
    assert (found.result, found.domain) == (expected, "example.org")
    assert reason in found.reason
    assert bool(found.reason) is (expected is not Result.PASS)


def test_the_order_of_records_changes_nothing():
    records = (ED25519, b"v=DKIM1; p=")
    assert verified(signed(), {KEY_NAME: records}) == verified(signed(), {KEY_NAME: records[::-1]})


@pytest.mark.parametrize(
    ("record", "expected", "reason"),
    [
        pytest.param(ED25519, Result.PASS, "", id="key"),
        pytest.param(RSA, Result.PERMERROR, "k=", id="an RSA key"),
        pytest.param(
            b"v=DKIM1; k=ed25519; p=" + P, Result.PERMERROR, "no Ed25519 key", id="an RSA key by another name"
        ),
        pytest.param(b"v=DKIM1; k=ed25519; p=AAAA", Result.PERMERROR, "no Ed25519 key", id="short"),
        pytest.param(b"v=DKIM1; k=ed25519; p=" + b"A" * 43 + b"=", Result.FAIL, "another key", id="another key"),
    ],
)
def test_ed25519_keys(record, expected, reason):
    found = only(verified(signed(algorithm=b"ed25519-sha256"), record))
    assert found.result is expected
    assert reason in found.reason


def test_an_rsa_signature_under_an_ed25519_name():
    """The length of the signature is wrong: PyNaCl raises ValueError."""
    message = signed_with({"a": "ed25519-sha256"})
    found = only(verified(message, ED25519))
    assert (found.result, found.reason) == (Result.PERMERROR, "the signature cannot be verified (ValueError)")


def test_strict_keys_do_not_sign_for_subdomains():
    strict = b"v=DKIM1; t=s; p=" + P
    assert only(verified(signed_with({"i": "a@example.org"}), strict)).result is Result.PASS
    found = only(verified(signed_with({"i": "a@mail.example.org"}), strict))
    assert (found.result, found.reason) == (Result.PERMERROR, "t=s of the key does not allow i= of a subdomain")


# ---- DNS


def test_a_key_of_several_signatures_is_looked_up_once():
    server = KeyServer({KEY_NAME: RSA})
    found = results_of(*parts(signed(signed())), server)
    assert [each.result for each in found] == [Result.PASS, Result.PASS]
    assert server.asked == [KEY_NAME]


@pytest.mark.parametrize("error", [DnsUnavailable("SERVFAIL"), RuntimeError("odd"), OSError()])
def test_what_dns_cannot_tell_is_unknown(error):
    found = only(verified(signed(), {KEY_NAME: error}))
    assert (found.result, found.domain) == (Result.TEMPERROR, "example.org")
    assert KEY_NAME in found.reason


def test_a_dns_server_that_hangs_is_not_waited_for_for_longer():
    fields, body = parts(signed())
    server = HangingServer({})
    check = SignatureCheck(fields)
    check.start(server)
    check.feed(body)
    found = only(check.finish(0.01))
    assert (found.result, found.reason) == (Result.TEMPERROR, f"{KEY_NAME}: no answer from DNS in time")
    assert server.asked == [KEY_NAME]


def test_a_look_up_that_was_cancelled_is_unknown():
    fields, body = parts(signed())
    server = HangingServer({})
    check = SignatureCheck(fields)
    check.start(server)
    check.feed(body)
    server.futures[0].cancel()
    assert only(check.finish(1.0)).result is Result.TEMPERROR


def test_without_look_ups_it_is_unknown():
    fields, body = parts(signed())
    check = SignatureCheck(fields)
    check.feed(body)
    assert only(check.finish(1.0)).result is Result.TEMPERROR


def test_a_changed_body_fails_whatever_dns_says():
    message = signed().replace(b"Hello", b"Goodbye")
    assert only(results_of(*parts(message), HangingServer({}))).result is Result.FAIL


# ---- a real DNS server


@pytest.fixture
def ask(request):
    """Verify signed mail with the resolver of the daemons, and a DNS server on loopback that has these records."""

    def ask(records, failure=None):
        server = DnsServer({KEY_NAME: {"TXT": records}})
        if failure:
            server.fail(KEY_NAME, failure)
        server.start("127.0.0.1", 0)
        request.addfinalizer(server.stop)
        host, port = server.address
        resolver = Resolver(Dns(timeout_seconds=5, nameservers=[f"{host}:{port}"]))
        request.addfinalizer(resolver.close)
        return only(results_of(*parts(signed()), resolver)).result

    return ask


def test_a_key_in_several_strings(ask):
    assert len(RSA) > 255
    assert ask([txt("v=spf1 -all"), txt(RSA.decode())]) is Result.PASS


def test_no_such_key(ask):
    assert ask([]) is Result.PERMERROR


def test_a_server_that_fails(ask):
    assert ask([txt(RSA.decode())], DnsFailure.SERVFAIL) is Result.TEMPERROR
