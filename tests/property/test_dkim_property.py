"""Whatever stands in a header, signatures get a result; whatever is changed in what was signed, none passes."""

import base64
import contextlib
import functools
from concurrent.futures import Future

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import assume, example, given
from hypothesis import strategies as st

from deliverypools.adapters.authentication.arc_check import ArcCheck
from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.adapters.authentication.dkim_keys import judge_keys
from deliverypools.adapters.authentication.dkim_signature import Refused, read_dkim_signature, read_tags
from deliverypools.core.authentication import Result

HEADER = b"From: A <a@example.org>\r\nTo: b@example.net,\r\n\tc@example.net\r\nSubject: x  y\r\n"
BODY = b"Hello \r\n\r\nBye\r\n"

TAG_NAMES = st.sampled_from(["v", "a", "b", "bh", "c", "d", "h", "i", "l", "q", "s", "t", "x", "cv", "y"])
VALUES = st.sampled_from(
    [
        *("1", "rsa-sha256", "ed25519-sha256", "relaxed/relaxed", "simple", "example.org", "@example.org", "sel"),
        *("from:to", "AAAA", "=", "", "none", "pass", " ", "\r\n\t", "dns/txt", "9" * 30, "é", "A" * 43 + "="),
    ]
)
TAGS = st.dictionaries(TAG_NAMES, st.one_of(VALUES, st.text(max_size=12)), max_size=12)
FIELD_VALUES = st.one_of(
    TAGS.map(lambda tags: "; ".join(f"{tag}={value}" for tag, value in tags.items()).encode("utf-8", "replace")),
    st.binary(max_size=80),
)
NAMES = st.sampled_from(
    [b"DKIM-Signature", b"From", b"To", b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b""]
)
FIELDS = st.lists(st.tuples(st.one_of(NAMES, st.binary(max_size=8)), FIELD_VALUES), max_size=12)
RECORDS = st.lists(
    st.one_of(st.binary(max_size=80), FIELD_VALUES.map(lambda value: b"v=DKIM1; " + value), st.just(b"v=DKIM1; p=")),
    max_size=4,
)


class Server:
    """Answers every question alike."""

    def __init__(self, records):
        self.records = tuple(records)

    def start_txt(self, name):
        assert len(name) <= 253
        assert name.isascii()
        future = Future()
        future.set_result(self.records)
        return future


@functools.cache
def key():
    private = Ed25519PrivateKey.generate()
    seed = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(seed), b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public)


@functools.cache
def signature(canonicalisation):
    signer = dkim.DKIM(HEADER + b"\r\n" + BODY, signature_algorithm=b"ed25519-sha256")
    return signer.sign(b"sel", b"example.org", key()[0], canonicalize=canonicalisation)


def fields_of(header):
    lines = header.replace(b"\r\n\t", b"\0\t").replace(b"\r\n ", b"\0 ").split(b"\r\n")
    fields = [line.partition(b":")[::2] for line in lines if line]
    return [(name, value.replace(b"\0", b"\r\n")) for name, value in fields]


def results(fields, body, records):
    check = SignatureCheck(fields)
    check.start(Server(records))
    check.feed(body)
    return check.finish(1.0)


@given(FIELDS, st.binary(max_size=40), RECORDS)
def test_any_header_gets_results(fields, body, records):
    found = results(fields, body, records)
    assert len(found) == min(10, sum(name.strip().lower() == b"dkim-signature" for name, _ in fields))
    for each in found:
        assert each.result not in (Result.PASS, Result.NONE)
        assert each.reason.isprintable()
        assert all(text.isascii() for text in (each.domain, each.selector, each.signature))


@given(FIELDS, RECORDS)
@example([(b"ARC-Seal", b"i=1; d=example.org"), (b"ARC-Message-Signature", b"i=1")], [])
def test_any_header_is_no_arc_chain(fields, records):
    check = ArcCheck(fields, frozenset(["example.org"]))
    check.start(Server(records))
    check.feed(BODY)
    found = check.finish(1.0)
    assert found.result in (Result.NONE, Result.FAIL)
    assert found.vouches == ""
    assert found.reason.isprintable()


@given(RECORDS, st.sampled_from(["rsa-sha256", "ed25519-sha256"]))
def test_any_record_is_judged(records, algorithm):
    field = signature((b"simple", b"simple")).partition(b":")[2].rstrip()
    value = field.replace(b"ed25519-sha256", algorithm.encode())
    signed = read_dkim_signature((b"DKIM-Signature", value), read_tags(value))
    keys = []
    with contextlib.suppress(Refused):
        keys = judge_keys(records, signed)
    assert all(each.startswith(b"v=DKIM1; k=") for each in keys)


@given(st.data(), st.sampled_from([b"simple", b"relaxed"]))
def test_what_was_changed_does_not_pass(data, algorithm):
    """One byte anywhere in the signed fields or the body, to one that no canonicalisation takes for the same."""
    message = HEADER + b"\r\n" + BODY
    field = signature((algorithm, algorithm))
    at = data.draw(st.integers(0, len(message) - 1))
    old, new = message[at : at + 1], data.draw(st.binary(min_size=1, max_size=1))
    blanks = b" \t\r\n:"
    assume(old.lower() != new.lower() and old not in blanks and new not in blanks)
    changed = message[:at] + new + message[at + 1 :]
    header, _, body = changed.partition(b"\r\n\r\n")
    unchanged = results(fields_of(field + HEADER), BODY, [key()[1]])
    assert [each.result for each in unchanged] == [Result.PASS]
    assert [each.result for each in results(fields_of(field + header), body, [key()[1]])] == [Result.FAIL]


@given(st.permutations(fields_of(HEADER)))
def test_the_order_of_fields_of_different_names_is_free(fields):
    """RFC 6376 section 5.4.2: h= holds the order."""
    found = results(fields_of(signature((b"relaxed", b"simple"))) + fields, BODY, [key()[1]])
    assert [each.result for each in found] == [Result.PASS]
