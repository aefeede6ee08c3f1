"""Whose message it claims to be: From, as hostile as it comes."""

import pytest

from deliverypools.core.authentication.author_domain import author_domains
from deliverypools.core.headers import Headers


def of(*values, **kwargs):
    return author_domains(Headers.of([("From", value) for value in values], **kwargs))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("a@example.com", "example.com", id="address alone"),
        pytest.param("Alice <a@Example.COM.>", "example.com", id="case and final dot"),
        pytest.param('"Smith, Alice (x" <a@example.com>', "example.com", id="quoted name"),
        pytest.param("Smith, Alice <a@example.com>", "example.com", id="comma in a name"),
        pytest.param("a@bank.example <a@example.com>", "example.com", id="address as a name"),
        pytest.param('"a@bank.example" <a@example.com>', "example.com", id="quoted address as a name"),
        pytest.param("=?utf-8?q?a=40bank.example?= <a@example.com>", "example.com", id="encoded word"),
        pytest.param("=?utf-8?q?Smith,_Alice?= <a@example.com>", "example.com", id="comma in an encoded word"),
        pytest.param("Jürgen \udcff <a@example.com>", "example.com", id="8-bit name"),
        pytest.param("Alice <jürgen@bücher.example>", "xn--bcher-kva.example", id="U-label"),
        pytest.param("Alice\r\n\t(of (\\) us))\r\n <a@example.com> (x)", "example.com", id="folds and comments"),
        pytest.param("a(x) @ (y)example.com", "example.com", id="comments in an address"),
        pytest.param('"a@b"@example.com', "example.com", id="quoted local part"),
        pytest.param("a@example.com, B <b@EXAMPLE.com>", "example.com", id="two of one domain"),
        pytest.param("Group: a@example.com, b@example.com;", "example.com", id="group"),
        pytest.param("Group: a@example.com; b@example.com", "example.com", id="group and another"),
        pytest.param("Dr. A: B <a@example.com>", "example.com", id="colon in a name"),
        pytest.param("a@example.com, b@example.net", "example.com example.net", id="two domains"),
        pytest.param("a@bank.example: B <a@example.com>", "bank.example example.com", id="address as a group"),
        pytest.param("<a@example.com> b@bank.example", "bank.example example.com", id="address behind the other"),
        pytest.param("<a@example.com> <b@bank.example>", "bank.example example.com", id="two in angle brackets"),
    ],
)
def test_of_one_field(value, expected):
    assert of(value) == tuple(expected.split())


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("Alice", id="a name alone"),
        pytest.param("undisclosed:;", id="empty group"),
        pytest.param("<>", id="null"),
        pytest.param("MAILER-DAEMON <>", id="null with a name"),
        pytest.param("<a@>", id="no domain"),
        pytest.param("<@example.com>", id="no local part"),
        pytest.param("<a@b@example.com>", id="two at signs"),
        pytest.param("<@relay.example:a@example.com>", id="route"),
        pytest.param("<a@[192.0.2.1]>", id="address literal"),
        pytest.param("<a@192.0.2.1>", id="IP address"),
        pytest.param("<a@exa mple.com>", id="blank in the domain"),
        pytest.param("<a@example.com\u3000.evil.example>", id="ideographic blank"),
        pytest.param("<a@example.com\x00.evil.example>", id="NUL"),
        pytest.param("<a@exam\udcffple.com>", id="8-bit domain"),
        pytest.param("<a@=?utf-8?q?example.com?=>", id="encoded word as a domain"),
        pytest.param("Alice <a@example.com", id="open angle bracket"),
        pytest.param("Alice a@example.com>", id="no opening angle bracket"),
        pytest.param('"Alice <a@example.com>', id="open quote"),
        pytest.param("(Alice <a@example.com>", id="open comment"),
        pytest.param("Alice) <a@example.com>", id="closing parenthesis"),
        pytest.param("<<a@example.com>>", id="nested angle brackets"),
        pytest.param("a@example.com, <b@>", id="one good, one not"),
        pytest.param("(" * 3999, id="deep comments"),
        pytest.param("a@example.com" + " " * 4000, id="too long"),
        pytest.param("<a@" + "ü" * 3000 + ">", id="long domain"),
    ],
)
def test_unclear_is_none(value):
    assert of(value) == ()


def test_no_field():
    assert of() == ()


def test_fields_of_one_domain():
    assert of("a@example.com", "B <b@example.com>") == ("example.com",)


def test_fields_of_two_domains():
    assert of("a@example.com", "b@example.net") == ("example.com", "example.net")


def test_one_unclear_field_spoils_all():
    assert of("a@example.com", "b") == ()


def test_a_field_that_was_left_out_may_be_another_from():
    assert of("a@example.com", is_complete=False) == ()


def test_too_many_fields():
    assert of(*["a@example.com"] * 10) == ("example.com",)
    assert of(*["a@example.com"] * 11) == ()
