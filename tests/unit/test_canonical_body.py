"""The canonical forms of bodies, RFC 6376 section 3.4: what they are, and that they cost no memory."""

import hashlib
import tracemalloc

import pytest

from deliverypools.core.authentication.canonical_body import CanonicalBody

MEGABYTE = 1_000_000
EMPTY_SHA256 = hashlib.sha256(b"").digest()


def canonical(algorithm, *chunks):
    body = CanonicalBody(algorithm)
    for chunk in chunks:
        body.feed(chunk)
    return body


def assert_is(body, expected):
    assert (body.length, body.digest()) == (len(expected), hashlib.sha256(expected).digest())


# RFC 6376 section 3.4.5.
EXAMPLE = b" C \r\nD \t E\r\n\r\n\r\n"


@pytest.mark.parametrize(
    ("algorithm", "body", "expected"),
    [
        pytest.param("simple", EXAMPLE, b" C \r\nD \t E\r\n", id="RFC example, simple"),
        pytest.param("relaxed", EXAMPLE, b" C\r\nD E\r\n", id="RFC example, relaxed"),
        pytest.param("simple", b"", b"\r\n", id="empty, simple"),
        pytest.param("relaxed", b"", b"", id="empty, relaxed"),
        pytest.param("simple", b"\r\n\r\n", b"\r\n", id="empty lines, simple"),
        pytest.param("relaxed", b"\r\n \t\r\n\r\n", b"", id="lines of white space, relaxed"),
        pytest.param("simple", b" \r\n\r\n", b" \r\n", id="a space is content, simple"),
        pytest.param("simple", b"a", b"a\r\n", id="no line end, simple"),
        pytest.param("relaxed", b"a", b"a\r\n", id="no line end, relaxed"),
        pytest.param("simple", b"\r\n\r\na\r\n", b"\r\n\r\na\r\n", id="empty lines first"),
        pytest.param("relaxed", b"a\r\n \r\n\t\r\nb\r\n \r\n", b"a\r\n\r\n\r\nb\r\n", id="empty lines between"),
        pytest.param("relaxed", b"a \rb\r\r\n", b"a \rb\r\r\n", id="a CR alone is text"),
        pytest.param("relaxed", b"a \nb\r\n", b"a \nb\r\n", id="an LF alone is text"),
        pytest.param("simple", b"a\r\n\r", b"a\r\n\r\r\n", id="a CR at the end is text"),
        pytest.param("relaxed", b"\t\tx\t\ty", b" x y\r\n", id="tabs"),
    ],
)
def test_canonical_form(algorithm, body, expected):
    assert_is(canonical(algorithm, body), expected)
    assert_is(canonical(algorithm, *(body[i : i + 1] for i in range(len(body)))), expected)


def test_the_hashes_of_empty_bodies_are_those_of_the_rfc():
    """RFC 6376 sections 3.4.3 and 3.4.4 give them in base64."""
    assert canonical("simple").digest().hex().startswith("7eb70257593da06f")
    assert canonical("relaxed").digest() == EMPTY_SHA256


def test_asking_early_changes_nothing():
    body = canonical("relaxed", b"a \r\n\r\n")
    assert_is(body, b"a\r\n")
    assert_is(body, b"a\r\n")
    body.feed(b" b")
    assert_is(body, b"a\r\n\r\n b\r\n")


HOSTILE = {
    "spaces": b" ",
    "tabs": b"\t",
    "line ends": b"\r\n",
    "CR": b"\r",
    "LF": b"\n",
    "one line": b"x",
    "pairs of spaces": b"a  ",
    "lines of spaces": b" \r\n",
    "CR and spaces": b"\r ",
}


@pytest.mark.parametrize("algorithm", ["simple", "relaxed"])
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bodies_are_not_kept(algorithm, piece):
    """Eight megabytes pass through; what a call needs beside its chunk stays below two."""
    chunk = (piece * MEGABYTE)[:MEGABYTE]
    body = CanonicalBody(algorithm)
    tracemalloc.start()
    for _ in range(8):
        body.feed(chunk)
    body.feed(b".\r\n")
    body.digest()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * MEGABYTE
    plain = chunk * 8 + b".\r\n"
    if algorithm == "simple":
        assert_is(body, plain)
    elif piece == b" ":
        assert_is(body, b" .\r\n")


def test_a_whole_body_in_one_piece_costs_as_little():
    chunk = b" \r\n" * 10 * MEGABYTE
    body = CanonicalBody("relaxed")
    tracemalloc.start()
    body.feed(chunk)
    assert body.digest() == EMPTY_SHA256
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * MEGABYTE
