"""Signatures made by Debian's opendkim verify, and break as they should."""

import pytest
from dkim_mail import KEY_NAME, only, verified
from opendkim import RELAXED, SIMPLE, make_key, signed_by_command, signed_by_library

from deliverypools.core.authentication import Result

MESSAGE = (
    b"Received: by mx.example.org; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>\r\n"
    b"To: first@example.net,\r\n\tsecond@example.net\r\n"
    b"Subject:  two  blanks \r\n"
    b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"Comments: one\r\n"
    b"Comments: two\r\n"
    b"\r\n"
    b"Hello  world \t\r\n\r\n \r\nLast line\r\n\r\n\r\n"
)
PAIRS = [(header, body) for header in (SIMPLE, RELAXED) for body in (SIMPLE, RELAXED)]
NAMES = {SIMPLE: "simple", RELAXED: "relaxed"}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return make_key(tmp_path_factory.mktemp("opendkim"))


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{NAMES[pair[0]]}/{NAMES[pair[1]]}")
def signed(request, key):
    message = signed_by_library(MESSAGE, key[0], *request.param)
    assert f"c={NAMES[request.param[0]]}/{NAMES[request.param[1]]};".encode() in message
    return message


def result(message, key):
    return only(verified(message, {KEY_NAME: key[1]})).result


def test_it_passes(signed, key):
    assert result(signed, key) is Result.PASS


CHANGES = [
    pytest.param((b"Hello", b"hello"), id="a letter of the body"),
    pytest.param((b"Last line\r\n", b"Last line\r\nand more\r\n"), id="a line more"),
    pytest.param((b"Last line", b"\r\nLast line"), id="an empty line more"),
    pytest.param((b"joerg@", b"georg@"), id="From"),
    pytest.param((b"Subject:  two", b"Subject:  three"), id="Subject"),
    pytest.param((b"\tsecond@example.net", b"\tthird@example.net"), id="a folded line"),
    pytest.param((b"Comments: one\r\nComments: two\r\n", b"Comments: two\r\nComments: one\r\n"), id="the order"),
    pytest.param((b"From: ", b"From: x@example.org\r\nFrom: "), id="another From"),
    pytest.param((b"Message-ID: <1@example.org>\r\n", b""), id="a field less"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_it_fails_after_a_change(signed, key, change):
    assert signed.count(change[0]) == 1
    assert result(signed.replace(*change), key) is Result.FAIL


def test_what_its_command_signs_is_sha_1_and_not_accepted(key):
    """opendkim-testmsg knows no other algorithm."""
    found = only(verified(signed_by_command(MESSAGE, key[0]), {KEY_NAME: key[1]}))
    assert (found.result, found.reason) == (Result.POLICY, "rsa-sha1 is not accepted (RFC 8301)")


def test_a_key_of_1024_bits_passes(tmp_path):
    key_file, record = make_key(tmp_path, bits=1024)
    message = signed_by_library(MESSAGE, key_file, RELAXED, SIMPLE)
    assert result(message, (key_file, record)) is Result.PASS
