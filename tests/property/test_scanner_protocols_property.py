"""Whatever a scanner answers is read, or is nonsense; texts are bounded and printable, half an answer is no verdict."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from deliverypools.core.scanning import clamd, rspamd, spamd
from deliverypools.core.scanning.answers import (
    LONGEST_SYMBOL,
    MOST_SYMBOLS,
    ScanEnvelope,
    Scanner,
    ScannerAnswer,
    ScanVerdict,
)
from deliverypools.core.scanning.nonsense import NonsenseError

SYMBOLS = {"GTUBE": {"name": "GTUBE", "score": 0.0}, "B\N{SNOWMAN}": {"score": 1.25}, "C": {"score": -3}}
WHOLE = [
    json.dumps({"is_skipped": False, "score": 12.5, "required_score": 15, "action": "no action", "symbols": SYMBOLS}),
    "SPAMD/1.1 0 EX_OK\r\nContent-length: 17\r\nSpam: False ; -12.5 / 5.0\r\n\r\nALL_TRUSTED,GTUBE",
    "12: stream: OK\0",
]
READERS = [lambda raw: rspamd.read_answer(200, raw), spamd.read_answer, clamd.read_answer]
PIECES = [
    *(b"SPAMD/1.1 ", b"0 ", b"EX_OK", b"\r\n", b"\r\n\r\n", b"Content-length: ", b"5", b"Spam: ", b"True ; ", b"1.0"),
    *(b" / 5.0", b"False ; ", b"nan", b",", b"GTUBE", b"\0", b"stream: ", b"OK", b" FOUND", b" ERROR", b"1: ", b"\xff"),
    *(b"{", b"}", b'"action":', b'"no action"', b'"score":', b"1e999", b"-", b"[", b"]", b'"symbols":', b'"\\ud800"'),
]
ANSWERS = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=100)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=100), inner, max_size=12)),
    max_leaves=20,
)
RSPAMD_ANSWERS = st.fixed_dictionaries(
    {"action": st.one_of(st.sampled_from(["no action", "soft reject", "reject"]), JSON), "score": JSON},
    optional={"is_skipped": JSON, "required_score": JSON, "symbols": JSON, "messages": JSON, "error": JSON},
)
TEXTS = st.one_of(st.text(max_size=50), st.text(st.sampled_from('a@."\\[]<>,-: \r\n\0\udcff\ud800\xfc'), max_size=30))


def read_or_nothing(reader, raw):
    try:
        answer = reader(raw)
    except NonsenseError as error:
        answer, nonsense = None, str(error)
    if answer is None:
        assert nonsense.isprintable()
        assert len(nonsense) < 300
        return None
    assert (answer.verdict is ScanVerdict.UNKNOWN) == bool(answer.problem)
    assert answer.evidence.isprintable()
    assert len(answer.evidence) < 1000
    assert len(answer.symbols) <= MOST_SYMBOLS
    assert all(len(symbol) <= LONGEST_SYMBOL for symbol in answer.symbols)
    if answer.verdict is not ScanVerdict.UNKNOWN:
        assert ScannerAnswer.from_text(answer.to_text()) == answer
    return answer


@given(st.sampled_from(READERS), ANSWERS)
@example(READERS[0], b'{"action":"reject","score":1,"symbols":{"\\ud800":{"score":1}}}')
def test_anything_is_read_or_nonsense(reader, raw):
    read_or_nothing(reader, raw)


@given(st.integers(100, 599), RSPAMD_ANSWERS)
def test_any_json_is_read_or_nonsense(status, values):
    answer = read_or_nothing(lambda raw: rspamd.read_answer(status, raw), json.dumps(values).encode())
    if answer is not None and answer.verdict is not ScanVerdict.UNKNOWN:
        assert status == 200
        assert isinstance(answer.score, float)


def test_a_part_of_an_answer_is_no_verdict():
    for reader, whole in zip(READERS, WHOLE, strict=True):
        raw = whole.encode()
        assert read_or_nothing(reader, raw).verdict is ScanVerdict.HAM
        for length in range(len(raw)):
            part = read_or_nothing(reader, raw[:length])
            assert part is None or part.verdict is ScanVerdict.UNKNOWN, raw[:length]


@given(ANSWERS, ANSWERS)
def test_spamd_is_whole_where_its_length_says_so(head, content):
    raw = f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(content)}\r\n\r\n".encode() + content
    assert spamd.is_whole(raw)
    assert not spamd.is_whole(raw[:-1])
    spamd.is_whole(head)


@given(
    st.builds(
        ScanEnvelope,
        queue_id=TEXTS,
        envelope_sender=TEXTS,
        recipients=st.lists(TEXTS, max_size=5).map(tuple),
        sasl_username=TEXTS,
        client_address=TEXTS,
        helo_name=TEXTS,
        hostname=TEXTS,
    ),
    st.one_of(st.none(), TEXTS),
)
def test_no_envelope_breaks_a_request(envelope, settings_id):
    headers = rspamd.request_headers(envelope, settings_id)
    for _, value in headers:
        assert not set(value) & {*range(32), 127}
        assert 0 < len(value) <= 1000
    assert len({name for name, _ in headers if name != "Rcpt"}) == sum(name != "Rcpt" for name, _ in headers)
    head = spamd.request_head(5, settings_id)
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\n") in (3, 4)


def test_every_scanner_has_a_reader():
    assert {reader(raw.encode()).scanner for reader, raw in zip(READERS, WHOLE, strict=True)} == set(Scanner)
