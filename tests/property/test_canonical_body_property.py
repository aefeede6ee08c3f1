"""However a body is cut, its hash and its length are those of dkimpy and of the plainest implementation."""

import hashlib
import re

from dkim.canonicalization import Relaxed, Simple
from hypothesis import example, given
from hypothesis import strategies as st

from deliverypools.core.authentication.canonical_body import CanonicalBody

PIECES = [b"\r\n", b"\r", b"\n", b" ", b"\t", b"a", b"bc ", b" \r\n", b"\r\n\r\n", b"\x00", b"\xff"]
BODIES = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
LARGE = st.lists(st.tuples(st.sampled_from(PIECES), st.integers(1, 40_000)), max_size=6).map(
    lambda runs: b"".join(piece * count for piece, count in runs)
)
THEIRS = {"simple": Simple, "relaxed": Relaxed}


def plain(algorithm, body):
    """RFC 6376 sections 3.4.3 and 3.4.4, word for word, line by line."""
    *lines, last = body.split(b"\r\n")
    if algorithm == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
        last = re.sub(rb"[ \t]+", b" ", last)
    if last:
        lines.append(last)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return b"\r\n" if algorithm == "simple" else b""
    return b"".join(line + b"\r\n" for line in lines)


def streamed(algorithm, body, sizes):
    canonical = CanonicalBody(algorithm)
    while body:
        size = sizes.pop() if sizes else len(body)
        canonical.feed(body[:size])
        body = body[size:]
    return canonical.length, canonical.digest()


def check(algorithm, body, sizes):
    expected = THEIRS[algorithm].canonicalize_body(body)
    assert plain(algorithm, body) == expected
    assert streamed(algorithm, body, sizes) == (len(expected), hashlib.sha256(expected).digest())


@given(st.sampled_from(list(THEIRS)), BODIES, st.lists(st.integers(1, 12)))
@example("relaxed", b"\r\n \r", [])
@example("relaxed", b"a\r\n ", [3, 1])
@example("simple", b"\r\r\n\r\n\r", [1, 1])
def test_any_body_in_any_pieces(algorithm, body, sizes):
    check(algorithm, body, sizes)


@given(st.sampled_from(list(THEIRS)), LARGE, st.lists(st.integers(1, 100_000), max_size=5))
def test_long_runs_across_blocks(algorithm, body, sizes):
    """dkimpy is quadratic on runs of white space before text: the plain implementation is asked alone."""
    expected = plain(algorithm, body)
    assert streamed(algorithm, body, sizes) == (len(expected), hashlib.sha256(expected).digest())
