"""The policy protocol: any bytes, in any chunks, give the same requests or a violation; any request gets an answer."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.settings import OutboundPolicy, built_in_defaults
from deliverypools.policy.service import DUNNO, PolicyService, _Reading
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


@given(st.lists(STREAMS, max_size=3), st.integers(1, 8))
def test_bytes_that_are_not_yet_a_request_are_kept_and_bounded(streams, chunk_bytes):
    decoder = RequestDecoder()
    given_back = 0
    whole = b"\n\n".join(streams)
    try:
        for chunk in cut(whole, [chunk_bytes]):
            decoder.feed(chunk)
            given_back += sum(1 for _ in decoder.requests())
    except ProtocolViolation:
        return
    rest = whole.split(b"\n\n", given_back)[-1]
    assert decoder.pending_bytes == len(rest)


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


# ---- hostile values: the service never raises, and always has an answer of one line

ATTRIBUTES = st.sampled_from(
    [
        "request",
        "protocol_state",
        "client_address",
        "sender",
        "recipient",
        "recipient_count",
        "queue_id",
        "instance",
        "sasl_username",
        "\0",
    ]
)
HOSTILE = st.one_of(
    st.sampled_from(
        [
            *(
                "END-OF-MESSAGE",
                "RCPT",
                "DATA",
                "127.0.0.1",
                "::1",
                "fe80::1%\udcff",
                "alice@example.org",
                "<>",
                "@",
                "Q1",
            ),
            *("1", "0", "-1", "9" * 30, "\u0663", "\u00b2", "1e9", "nan", "", "\0", "\udcff", "a\udcff@example.org"),
            *(
                "x" * 1_000_000,
                "\udcff" * 100_000,
                "@" * 70_000,
                "\u00e4" * 70_000,
                "prvs=" * 20_000,
                "a@" + "\u00e4." * 9000,
            ),
        ]
    ),
    st.text(st.characters(), max_size=30),
    VALUES,
)
LATER = float("inf")


@pytest.fixture(scope="module", params=[0, 1], ids=["no limit", "restricting"])
def service_and_settings(request, tmp_path_factory):
    settings = built_in_defaults().model_copy(
        update={
            "accepted_domains": ("example.org",),
            "outbound_policies": (
                OutboundPolicy(name="default", recipients_per_day=request.param, over_limit="restrict"),
            ),
        }
    )
    state = SQLiteState(str(tmp_path_factory.mktemp("state") / "state.db"), time.time)
    yield PolicyService(state, time.time), settings
    state.close()


@given(requests=st.lists(st.dictionaries(ATTRIBUTES, HOSTILE), max_size=4))
@settings(deadline=None)
@example(
    requests=[{"protocol_state": "END-OF-MESSAGE", "sasl_username": "a\udcff", "recipient_count": "2", "queue_id": "Q"}]
)
@example(
    requests=[{"sasl_username": "a", "protocol_state": "RCPT", "recipient": "\udcff@\udcff", "instance": "\udcff"}]
)
def test_no_request_breaks_the_service(service_and_settings, requests):
    service, chosen = service_and_settings
    # What `question` would trap is a failure here.
    questions = [service._question(request, _Reading(chosen), LATER) for request in requests]
    assert [service.question(request, chosen, LATER) == DUNNO for request in requests] == [
        one is None for one in questions
    ]
    for action in service.answers([question for question in questions if question], chosen):
        assert action == DUNNO or action.startswith("550 5.7.1 ")
        assert encode_answer(action).isascii()


@given(count=st.text(max_size=10))
def test_a_recipient_count_is_a_number_that_postfix_may_have_written(service_and_settings, count):
    service, chosen = service_and_settings
    request = {"protocol_state": "END-OF-MESSAGE", "sasl_username": "a", "recipient_count": count, "queue_id": "Q"}
    question = service.question(request, chosen, LATER)
    is_number = count.isascii() and count.isdigit() and 0 < int(count) < 1_000_000
    assert (question.message is not None) == (is_number and len(count) < 7)


def test_what_is_remembered_of_recipients_is_bounded(service_and_settings):
    service, chosen = service_and_settings
    for message in range(300):
        for number in range(2100):
            service._recipients.add(f"1.2.{message}", f"r{number}@example.net", chosen)
        if message == 1:
            assert service._recipients.split("1.2.1", "", 2000, chosen) == (0, 2000, False)
    assert service._recipients._recipients <= 200_000
    assert len(service._recipients._messages) <= 100
    for message in range(20_000):
        service._recipients.add(f"3.4.{message}", "r@example.net", chosen)
    assert len(service._recipients._messages) <= 10_000
    assert service._recipients._recipients == sum(seen.number for seen in service._recipients._messages.values())
    service._recipients.add("5" * 1000, "r@example.net", chosen)
    assert "5" * 1000 not in service._recipients._messages
