"""The policy protocol's decoder: any bytes, in any chunks, give the same requests or a ProtocolViolation."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deliverypools.policy.wire import MOST_REQUEST_BYTES, ProtocolViolation, RequestDecoder, encode_answer

PIECES = st.sampled_from(
    [
        b"\n",
        b"\n\n",
        b"=",
        b"a=",
        b"=b",
        b"a=b\n",
        b"sender=\xff\xc3@x\n",
        b"\r\n",
        b"\0",
        b"request=smtpd_access_policy\n",
    ]
)
STREAMS = st.one_of(st.binary(max_size=300), st.lists(st.one_of(PIECES, st.binary(max_size=5))).map(b"".join))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\n=\0"), min_size=1, max_size=12)
VALUES = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b" ").decode("utf-8", "surrogateescape"))
REQUESTS = st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5), max_size=4)


def decoded(chunks):
    """Return the requests in a stream, and what ended it, if anything did."""
    decoder = RequestDecoder()
    requests = []
    try:
        for chunk in chunks:
            decoder.feed(chunk)
            requests.extend(dict(request) for request in decoder.requests())
    except ProtocolViolation as violation:
        return requests, str(violation)
    return requests, ""


def cut(stream, sizes):
    """Return the stream in chunks of these sizes, over and over."""
    chunks, start, turn = [], 0, 0
    while start < len(stream):
        chunks.append(stream[start : start + sizes[turn % len(sizes)]])
        start += sizes[turn % len(sizes)]
        turn += 1
    return chunks


@given(STREAMS, st.lists(st.integers(1, 50), min_size=1, max_size=5))
@example(b"a=b\n\n\n\nc=d\n\n", [2])
def test_chunking_does_not_change_the_result(stream, sizes):
    assert decoded(cut(stream, sizes)) == decoded([stream])


@pytest.mark.parametrize("chunk_bytes", [1, 7, 4096])
@given(requests=REQUESTS)
def test_what_was_encoded_is_decoded(chunk_bytes, requests):
    stream = b"".join(
        b"".join(f"{name}={value}\n".encode("utf-8", "surrogateescape") for name, value in request.items()) + b"\n"
        for request in requests
    )
    assert decoded(cut(stream, [chunk_bytes])) == (requests, "")


@pytest.mark.parametrize("chunk_bytes", [7, 4096, 1_000_000])
def test_too_long_a_request_ends_the_stream(chunk_bytes):
    stream = b"a=" + b"x" * (MOST_REQUEST_BYTES + 100) + b"\n\n"
    assert decoded(cut(stream, [chunk_bytes])) == ([], f"request of more than {MOST_REQUEST_BYTES} bytes")


def test_too_many_attributes_end_the_stream():
    assert decoded([b"a=b\n" * 201 + b"\n"]) == ([], "more than 200 attributes")


def test_the_first_of_two_values_counts():
    assert decoded([b"sasl_username=\nsasl_username=admin\n\n"]) == ([{"sasl_username": ""}], "")


@pytest.mark.parametrize("stream", [b"\n\n", b"nonsense\n\n", b"=value\n\n", b"GET / HTTP/1.1\r\nHost: x\n\n"])
def test_a_violation_says_what_was_expected(stream):
    requests, violation = decoded([stream])
    assert requests == []
    assert violation.startswith("expected name=value, got ")


@given(st.text(max_size=30))
def test_an_answer_is_one_line(action):
    try:
        answer = encode_answer(action)
    except (ValueError, UnicodeEncodeError):
        return
    assert answer.endswith(b"\n\n")
    assert answer.count(b"\n") == 2
