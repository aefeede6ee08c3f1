"""How values of Postfix's parameters are read."""

import pytest

from deliverypools.core.postfix_check.configuration import is_on_this_machine
from deliverypools.core.postfix_check.syntax import (
    Client,
    Route,
    action_of,
    client_of,
    is_yes,
    route_of,
    seconds,
    split_list,
    table_specs,
)
from deliverypools.core.postfix_check.tables import pattern_entries


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("", ()),
        ("a, b  c,,d", ("a", "b", "c", "d")),
        ("{ unix:m, default_action=tempfail }, inet:h:1", ("{ unix:m, default_action=tempfail }", "inet:h:1")),
        ("pipemap:{regexp:/a, socketmap:unix:s:n} b", ("pipemap:{regexp:/a, socketmap:unix:s:n}", "b")),
        ("} a {b c", ("}", "a", "{b c")),
    ],
)
def test_list(text, elements):
    assert split_list(text) == elements


@pytest.mark.parametrize(
    ("text", "client"),
    [
        ("inet:127.0.0.1:8891", Client("inet:127.0.0.1:8891")),
        (
            "{ unix:m.sock, default_action=tempfail, protocol = 6 }",
            Client("unix:m.sock", {"default_action": "tempfail"}),
        ),
        ("{ inet:h:1, { x = y z } }", Client("inet:h:1", {})),
        ("{}", Client("")),
        ("", Client("")),
    ],
)
def test_client(text, client):
    found = client_of(text)
    assert found.endpoint == client.endpoint
    assert found.options.get("default_action") == client.options.get("default_action")


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("egress:[127.0.0.1]:10027", Route("egress", "[127.0.0.1]:10027")),
        (":[gw.example]", Route("", "[gw.example]")),
        ("pool-normal", Route("pool-normal", "")),
        ("error:5.7.1 no", Route("error", "5.7.1 no")),
        ("", Route("", "")),
    ],
)
def test_route(text, route):
    assert route_of(text) == route


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("hash:/a, proxy:hash:/b", ("hash:/a", "hash:/b")),
        ("proxy:proxy:ldap:/x", ("ldap:/x",)),
        ("pipemap:{regexp:/a, socketmap:unix:s:n}", ("regexp:/a", "socketmap:unix:s:n")),
        ("{ texthash:/a }, { cidr:/b, { x = y } }", ("texthash:/a", "cidr:/b")),
        ("{ never:closed", ()),
        ("unionmap:{pipemap:{hash:/a}, static:x}", ("hash:/a", "static:x")),
        ("inline:{a=b, {c = d e}}", ("inline:{a=b, {c = d e}}",)),
        ("example.org localhost", ()),
    ],
)
def test_tables(text, specs):
    assert table_specs(text) == specs


@pytest.mark.parametrize(
    ("text", "unit", "found"),
    [("5d", "s", 432000), ("5", "d", 432000), ("100s", "d", 100), ("2w", "s", 1209600), ("soon", "s", None)],
)
def test_times(text, unit, found):
    assert seconds(text, unit) == found


def test_booleans():
    assert [is_yes(text) for text in ("yes", " YES ", "no", "", "y")] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("/a b/i\tFILTER\tslow:\n", [("/a b/i", "FILTER\tslow:")]),
        ("/a/\n\tREDIRECT x\n", [("/a/", "REDIRECT x")]),
        ("IF/x/\n!  !/b/ \t OK\nendif\n", [("/b/", "OK")]),
        ("if|x|\n:a b: HOLD\n", [(":a b:", "HOLD")]),
        ("/form\x0cfeed/ HOLD\n", [("/form\x0cfeed/", "HOLD")]),
        ("/^X:/\n", [("/^X:/", "")]),
        ("!\n", [("", "")]),
        ("# comment\n\n/^X:/ IGNORE\n", [("/^X:/", "IGNORE")]),
        ("/^a/\n  REJECT\n  no\n", [("/^a/", "REJECT no")]),
        ("!/^a\\/b/i HOLD x\n", [("/^a\\/b/i", "HOLD x")]),
        ("if /^X/\n/a/ OK\nendif\nif !/b/\nendif /^X/\n", [("/a/", "OK")]),
        ("|a/b| FILTER smtp:\n", [("|a/b|", "FILTER smtp:")]),
        ("/never closed REJECT\n", [("/never closed REJECT", "")]),
    ],
)
def test_patterns(text, entries):
    assert [(entry.key, entry.value) for entry in pattern_entries(text, "pcre")] == entries


def test_networks():
    text = "127.0.0.0/8 DISABLE\n::1\tOK\n! [::1] \tOK x\nif 10.0.0.0/8\n10.0.0.1\nendif\n"
    entries = [("127.0.0.0/8", "DISABLE"), ("::1", "OK"), ("[::1]", "OK x"), ("10.0.0.1", "")]
    assert [(entry.key, entry.value) for entry in pattern_entries(text, "cidr")] == entries


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("filter\tslow:", ("FILTER", "slow:")),
        ("HOLD", ("HOLD", "")),
        ("REJECT  a b ", ("REJECT", "a b")),
        ("", ("", "")),
    ],
)
def test_action(text, action):
    assert action_of(text) == action


@pytest.mark.parametrize(
    ("nexthop", "is_here"),
    [
        ("[127.0.0.1]:10024", True),
        ("127.0.0.9:25", True),
        ("[::1]", True),
        ("[IPv6:::1]:10024", True),
        ("::1", True),
        ("inet:localhost:24", True),
        ("unix:private/scan", True),
        ("[127.0.0.1]:1, [10.0.0.5]:1", False),
        ("[10.0.0.5]:10024", False),
        ("localhost.example.net", False),
        ("[never closed", False),
        ("", False),
    ],
)
def test_next_hop_on_this_machine(nexthop, is_here):
    assert is_on_this_machine(nexthop) is is_here
