"""Netstrings and socketmap look-ups: any bytes, in any chunks, give the same messages or a violation."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deliverypools.core.srs import SenderRewriter
from deliverypools.policy.netstrings import NetstringDecoder, encode_netstring
from deliverypools.policy.protocol import ProtocolViolation
from deliverypools.policy.socketmap import MOST_REQUEST_BYTES, Lookup, LookupDecoder, encode_answer
from deliverypools.policy.srs_map import SrsMap

MOST = 1000
MESSAGES = st.lists(st.binary(max_size=300), max_size=5)
STREAMS = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.one_of(
            st.sampled_from([b"0:,", b"3:a b,", b":", b",", b"1", b"00", b"-1:", b"9" * 30]), st.binary(max_size=4)
        )
    ).map(b"".join),
    MESSAGES.map(lambda messages: b"".join(map(encode_netstring, messages))),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters=" "), min_size=1, max_size=10)
KEYS = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
CHUNKS = [1, 7, 4096]


def encode_lookup(lookup):
    """As Postfix writes it."""
    return encode_netstring(f"{lookup.map_name} {lookup.key}".encode("utf-8", "surrogateescape"))


def cut(stream, size):
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def read(decoder, take, chunks):
    """Return the messages in a stream, and what ended it, if anything did."""
    found = []
    try:
        for chunk in chunks:
            decoder.feed(chunk)
            found.extend(take(decoder))
    except ProtocolViolation as violation:
        return found, str(violation)
    return found, ""


def messages(chunks, most=MOST):
    return read(NetstringDecoder(most), NetstringDecoder.messages, chunks)


def lookups(chunks):
    return read(LookupDecoder(), LookupDecoder.requests, chunks)


@pytest.mark.parametrize("size", CHUNKS)
@given(sent=MESSAGES)
def test_what_was_encoded_is_decoded(size, sent):
    assert messages(cut(b"".join(map(encode_netstring, sent)), size)) == (sent, "")


@pytest.mark.parametrize("size", CHUNKS)
@given(sent=st.lists(st.builds(Lookup, NAMES, KEYS), max_size=4))
def test_look_ups_that_were_encoded_are_decoded(size, sent):
    assert lookups(cut(b"".join(map(encode_lookup, sent)), size)) == (sent, "")


@given(STREAMS, st.integers(1, 20))
@example(b"12", 1)
@example(b"1001:", 1)
@example(b"3:abc;", 2)
def test_chunking_does_not_change_the_result(stream, size):
    whole, why = messages([stream])
    in_pieces, why_in_pieces = messages(cut(stream, size))
    assert (in_pieces, bool(why_in_pieces)) == (whole, bool(why))
    assert lookups(cut(stream, size))[0] == lookups([stream])[0]


@given(STREAMS)
def test_what_waits_is_bounded(stream):
    decoder = NetstringDecoder(MOST)
    try:
        for chunk in cut(stream, 1):
            decoder.feed(chunk)
            list(decoder.messages())
            assert decoder.pending_bytes <= MOST + len(f"{MOST}:")
    except ProtocolViolation:
        return


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"1001:", "netstring of more than 1000 bytes"),
        (b"9999", "netstring of more than 1000 bytes"),
        (b"99999999999999999999", "expected the length of a netstring, got b'99999'"),
        (b"01:a,", "expected the length of a netstring, got b'01'"),
        (b":a,", "expected the length of a netstring, got b''"),
        (b"-1:a,", "expected the length of a netstring, got b'-1'"),
        (b"+1:a,", "expected the length of a netstring, got b'+1'"),
        (b" 1:a,", "expected the length of a netstring, got b' 1'"),
        (b"\xd9\xa3:abc,", "expected the length of a netstring, got b'\\xd9\\xa3'"),
        (b"2:abc,", "expected a comma after 2 bytes, got b'c'"),
        (b"GET / HTTP/1.1\r\n", "expected the length of a netstring, got b'GET /'"),
    ],
)
def test_a_violation_says_what_was_expected(stream, why):
    assert messages([stream]) == ([], why)


def test_messages_before_a_violation_are_given():
    assert messages([b"1:a,0:,x"]) == ([b"a", b""], "expected the length of a netstring, got b'x'")


def test_the_longest_message():
    longest = b"x" * MOST
    for size in (*CHUNKS, 1004):
        assert messages(cut(encode_netstring(longest), size)) == ([longest], "")
    assert messages([encode_netstring(longest + b"x")]) == ([], "netstring of more than 1000 bytes")
    assert lookups([b"%d:" % (MOST_REQUEST_BYTES + 1)]) == ([], f"netstring of more than {MOST_REQUEST_BYTES} bytes")


@pytest.mark.parametrize("request_", [b"0:,", b"3:srs,", b"4: key,", b"1: ,"])
def test_a_look_up_has_a_map_and_a_key(request_):
    assert lookups([request_])[1].startswith("expected the name of a map, a blank and a key, got ")


def test_a_key_may_hold_blanks_or_nothing():
    assert lookups([b'11:srs "a b"@x,4:srs ,']) == ([Lookup("srs", '"a b"@x'), Lookup("srs", "")], "")


# ---- hostile values: SRS never raises anything but what it says, and what it returns can be sent on

REWRITER = SenderRewriter([b"the secret of the tests"], "srs.example.org", lambda: 1_700_000_000.0, 240)
PARTS = st.one_of(
    st.sampled_from(
        ["SRS0=", "srs1-", "SRS0+", "=", "==", "@", '"', "\\", "abcd", "RA", "x.example", "@srs.example.org"]
    ),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["\0", "\r\n", "\udcff", "ß", "İ", "[", "]", "<", ">", "@a,@b:", " ", "[192.0.2.1]", "a" * 300]),
)
ADDRESSES = st.lists(PARTS, max_size=8).map("".join)


@given(ADDRESSES)
@example("SRS0=abcd=RA=x.example=\udcff@srs.example.org")
@settings(max_examples=500)
def test_no_key_breaks_the_map(key):
    answer = SrsMap(lambda: REWRITER).answer(Lookup("srs", key))
    assert answer == "NOTFOUND " or answer.startswith("OK ")
    assert messages([encode_answer(answer)])[1] == ""


@given(ADDRESSES)
@settings(max_examples=500)
def test_a_sender_is_rewritten_to_what_leads_back_or_stays(sender):
    rewritten = REWRITER.forward(sender)
    if not isinstance(rewritten, str) or rewritten == sender:
        return
    assert REWRITER.is_ours(rewritten)
    assert REWRITER.forward(rewritten) == rewritten
    original = REWRITER.reverse(rewritten)
    assert original.isprintable() or not original.isascii()
    assert not set(original) & set("\r\n\0")
    # Once through, an address is in the one form that SMTP writes, and comes back as it was.
    again = REWRITER.forward(original)
    assert isinstance(again, str)
    if not again.startswith(("SRS1", '"SRS1')):
        assert REWRITER.reverse(again) == original


@given(ADDRESSES, st.text(st.characters(), max_size=20))
def test_any_map_name_gets_an_answer(key, name):
    answer = SrsMap(lambda: REWRITER).answer(Lookup(name, key))
    if name != "srs":
        assert answer.startswith("PERM there is no map ")
    assert messages([encode_answer(answer)])[1] == ""


def test_without_srs_nothing_is_found():
    assert SrsMap(lambda: None).answer(Lookup("srs", "SRS0=a=b=c=d@srs.example.org")) == "NOTFOUND "


def test_a_rewriter_that_breaks_gives_a_temporary_error(caplog):
    def broken():
        raise ZeroDivisionError

    rewriter = SenderRewriter([b"the secret of the tests"], "srs.example.org", broken)
    valid = REWRITER.forward("alice@example.net")
    assert SrsMap(lambda: rewriter).answer(Lookup("srs", valid)) == "TEMP internal error"
    assert "untrapped exception in a look-up" in caplog.text
