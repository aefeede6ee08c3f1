"""The settings of DNS lists of servers that send backscatter."""

from ipaddress import ip_network

import pytest
from written_settings import FIRST_LINE_AFTER_POOLS, errors_below, settings

from deliverypools.core.dns_lists import DnsList, parse_code

FOR_EXAMPLE = 'for example "ips.backscatterer.org"'


def with_lists(*lists, more=""):
    written = ", ".join(f'"{one}"' for one in lists)
    return f"[bounces]\nbackscatter_lists = [{written}]\n{more}"


def errors_of(*lists):
    place = f"{FIRST_LINE_AFTER_POOLS + 1}: bounces.backscatter_lists"
    found = errors_below(with_lists(*lists))
    assert all(error.startswith(place) for error in found), found
    return [error.removeprefix(place) for error in found]


def test_lists_with_and_without_a_code():
    read = settings(with_lists("IPS.Backscatterer.org.", "b\u00fccher.example=127.0.0.[4;2..3]"))
    assert read.bounces.backscatter_lists == (
        DnsList("ips.backscatterer.org"),
        DnsList("xn--bcher-kva.example", parse_code("127.0.0.[2..4]")),
    )


def test_defaults():
    bounces = settings().bounces
    assert (bounces.backscatter_lists, bounces.backscatter_list_exceptions) == ((), ())
    assert (bounces.backscatter_list_action, bounces.backscatter_list_timeout_seconds) == ("reject", 3.0)


def test_the_other_keys():
    more = (
        'backscatter_list_action = "tag"\nbackscatter_list_exceptions = ["192.0.2.0/24"]\n'
        "backscatter_list_timeout_seconds = 0.5\n"
    )
    bounces = settings(with_lists("a.example", more=more)).bounces
    assert bounces.backscatter_list_exceptions == (ip_network("192.0.2.0/24"),)
    assert (bounces.backscatter_list_action, bounces.backscatter_list_timeout_seconds) == ("tag", 0.5)


def test_the_start_log_shows_lists_as_the_operator_writes_them():
    read = settings(with_lists("a.example", "b.example=127.0.0.[2;4..8]"))
    line = 'bounces.backscatter_lists = ["a.example", "b.example=127.0.0.[2;4..8]"]'
    assert line in read.effective_lines()
    assert read.not_in_effect() == ()
    assert settings(f"[bounces]\n{line.removeprefix('bounces.')}\n") == read


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", f"[0]: is empty; write {FOR_EXAMPLE}"),
        ("backscatterer", f'[0]: got "backscatterer"; write the domain of a list, {FOR_EXAMPLE}'),
        ("192.0.2.1", f'[0]: got "192.0.2.1"; write the domain of a list, {FOR_EXAMPLE}'),
        ("http://a.example/", f'[0]: got "http://a.example/"; write the domain of a list, {FOR_EXAMPLE}'),
        ("reject_rbl_client a.example", '[0]: got "reject_rbl_client a.example"; write the domain of a list'),
        ("=127.0.0.2", f'[0]: got "=127.0.0.2"; write the domain of a list, {FOR_EXAMPLE}'),
        ("a.example=", '[0]: got "a.example="; write the code as four numbers or patterns, for example 127.0.0.2'),
        ("a.example=2", '[0]: got "a.example=2"; write the code as four numbers or patterns'),
        ("a.example=127.0.0.2*3", '[0]: got "a.example=127.0.0.2*3"; write the code as four numbers'),
        ("a.example=127.0.0.[4..2]", '[0]: got "a.example=127.0.0.[4..2]"; 4..2 is no range; write the smaller'),
        ("a.example=127.255.255.254", '[0]: got "a.example=127.255.255.254"; 127.255.255.x is no listing'),
        (".".join(["x" * 60] * 4), f'[0]: got "{"x" * 57}..."; a list\'s domain has at most 189 characters'),
    ],
)
def test_what_is_no_list(written, expected):
    (found,) = errors_of(written)
    assert found.startswith(expected)


@pytest.mark.parametrize(("value", "shown"), [("1", "1"), ("true", "true"), ("[]", "a list"), ("{}", "a table")])
def test_other_kinds_of_values(value, shown):
    (found,) = errors_below(f"[bounces]\nbackscatter_lists = [{value}]\n")
    assert f"bounces.backscatter_lists[0]: got {shown}; write text in quotes, {FOR_EXAMPLE}" in found


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (("a.example", "A.example."), '[1]: "a.example" is listed twice; remove one'),
        (
            ("a.example=127.0.0.[2;3]", "a.example=127.0.0.[2..3]"),
            '[1]: "a.example=127.0.0.[2..3]" is listed twice; remove one',
        ),
        (
            ("a.example=127.0.0.2", "a.example"),
            '[0]: "a.example" counts with every code already; remove this or that one',
        ),
    ],
)
def test_lists_that_add_nothing(lists, expected):
    assert errors_of(*lists) == [expected]


def test_a_list_may_have_several_codes():
    read = settings(with_lists("a.example=127.0.0.2", "a.example=127.0.0.3", "b.example"))
    assert len(read.bounces.backscatter_lists) == 3


def test_too_many_lists():
    (found,) = errors_of(*(f"{n}.example" for n in range(9)))
    assert found == ": has 9 lists, and each is asked about each client; write 8 or fewer"


@pytest.mark.parametrize("seconds", ["0", "-1", "4.5", '"3s"'])
def test_the_time_out_is_shorter_than_what_postfix_waits(seconds):
    (found,) = errors_below(f"[bounces]\nbackscatter_list_timeout_seconds = {seconds}\n")
    assert f"bounces.backscatter_list_timeout_seconds: got {seconds}" in found
