"""Line numbers of a TOML document, on what TOML allows and on what it does not."""

import tomllib

import pytest

from deliverypools.core.settings.toml_lines import MAX_DEPTH, scan

DOCUMENT = '''\
# a comment with [brackets] and key = "value"
title = "x" # trailing

[pools.normal]
addresses = [
  "192.0.2.10",   # first ]
  "2001:db8::10",
]
"quoted key" = """
[not.a.table]
not_a_key = 1
"""
[pools.'high-risk']
helo.name = 'a # b'
text = \'\'\'
[[neither]]''\'\'\'
inline = { a = 1, "b c" = [ { d = 2 } ] }

[[pins]]
pool = "relay"

[[pins]]
pool = "normal"
[pins.more]
when = 1979-05-27 07:32:00
'''


def test_every_kind_of_key_has_its_line():
    assert scan(DOCUMENT).lines == {
        ("title",): 2,
        ("pools",): 4,
        ("pools", "normal"): 4,
        ("pools", "normal", "addresses"): 5,
        ("pools", "normal", "addresses", 0): 6,
        ("pools", "normal", "addresses", 1): 7,
        ("pools", "normal", "quoted key"): 9,
        ("pools", "high-risk"): 13,
        ("pools", "high-risk", "helo"): 14,
        ("pools", "high-risk", "helo", "name"): 14,
        ("pools", "high-risk", "text"): 15,
        ("pools", "high-risk", "inline"): 17,
        ("pools", "high-risk", "inline", "a"): 17,
        ("pools", "high-risk", "inline", "b c"): 17,
        ("pools", "high-risk", "inline", "b c", 0): 17,
        ("pools", "high-risk", "inline", "b c", 0, "d"): 17,
        ("pins",): 19,
        ("pins", 0): 19,
        ("pins", 0, "pool"): 20,
        ("pins", 1): 22,
        ("pins", 1, "pool"): 23,
        ("pins", 1, "more"): 24,
        ("pins", 1, "more", "when"): 25,
    }
    tomllib.loads(DOCUMENT)


def test_windows_line_ends_count_once():
    assert scan("a = 1\r\n\r\n[b]\r\nc = 2\r\n").lines == {("a",): 1, ("b",): 3, ("b", "c"): 4}


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (r'"a\"b"', 'a"b'),
        (r'"\u00e9\t\\"', "é\t\\"),
        (r'"\U0001F600"', "\N{GRINNING FACE}"),
        (r"'a\b'", r"a\b"),
        ('""', ""),
        ('"a # b = c"', "a # b = c"),
    ],
)
def test_quoted_keys_are_read_as_tomllib_reads_them(written, key):
    text = f"\n{written} = 1"
    assert scan(text).lines == {(key,): 2}
    assert tomllib.loads(text) == {key: 1}


@pytest.mark.parametrize(
    "value",
    ['""""a"""', '"""a"""""', '"""a""b"""', "'''a'''''", '"""\\""""', '"""a\\\n  b"""', "''", '""', '""""""'],
)
def test_strings_end_where_they_end(value):
    text = f"a = {value}\nb = 1"
    tomllib.loads(text)
    assert scan(text).lines["b",] == value.count("\n") + 2


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("a = 1\nb = 2\na = 3", [(("a",), 3)]),
        ("[a]\n[b]\n[a]", [(("a",), 3)]),
        ("[[a]]\nx = 1\n[[a]]\nx = 1", []),
        ("[[a]]\n[a.b]\n[[a]]\n[a.b]", []),
        ("a = {b = 1, b = 2}", [(("a", "b"), 1)]),
    ],
)
def test_repetitions_are_reported(text, repeated):
    assert list(scan(text).repeated) == repeated


@pytest.mark.parametrize(
    "text",
    [
        "\na = " + "[" * 100_000,
        "\na = " + "{a=" * 100_000,
        "\n" + "a." * 100_000 + "a = 1",
        "\n[" + "a." * 100_000 + "a]",
    ],
)
def test_what_is_too_deep_ends_the_scan(text):
    assert scan(text).too_deep_line == 2


def test_the_deepest_path_is_still_followed():
    path = ("a",) * MAX_DEPTH
    assert scan(".".join(path) + " = 1").lines[path] == 1
    assert scan(".".join(path) + " = 1").too_deep_line is None


@pytest.mark.parametrize(
    "text",
    [
        'a = """' + '"" ' * 300_000,
        "a = '''" + "'' " * 300_000,
        'a = "' + "\\" * 900_000,
        "=" * 900_000,
        "]\n" * 400_000,
    ],
    ids=["open basic string", "open literal string", "backslashes", "equals", "brackets"],
)
@pytest.mark.timeout(20)
def test_a_megabyte_of_nonsense_is_scanned_once(text):
    scan(text)
