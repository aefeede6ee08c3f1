"""Whatever the text: line numbers agree with tomllib, and settings are settings or SettingsError."""

import re
import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deliverypools.core.account_names import account_name
from deliverypools.core.settings import Settings, SettingsError, parse_settings
from deliverypools.core.settings.toml_lines import MAX_DEPTH, scan
from deliverypools.core.settings.values import account, client_ip

VALID = """\
accepted_domains = ["example.org"]
shadow = true
[pools.normal]
addresses = ["192.0.2.10"]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["192.0.2.20"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["192.0.2.30"]
helo = "mail-relay.example.org"
[milter]
undecided_after = "4h"
[[pins]]
sender = "alice@example.org"
pool = "relay"
[limits]
messages_per_minute = 30
"""

UNHURRIED = settings(deadline=None)  # a slow machine is no finding

PIECES = (
    ["\n", "\n", " ", "#", "=", " = ", ".", ",", "[", "]", "[[", "]]", "{", "}", '"', "'", '"""', "'''", "\\", "\r\n"],
    ["a", "b", "a = 1\n", "[a]\n", "[[a]]\n", "[a.b]\n", "a.b = 1\n", "1", "true", "1979-05-27 07:32:00", "\\u00e9"],
    ["[\n1,\n]", "{a = 1}", '"""x\n"""', "'''\n'''", "a = [\n{b = 1},\n{b = [2]}]\n", "\t", "\N{SNOWMAN}", "\x00"],
)
FRAGMENTS = st.sampled_from([piece for pieces in PIECES for piece in pieces])
KEYS = st.one_of(st.sampled_from(["a", "b", "a-b", "1"]), st.text(max_size=4))
SCALARS = st.one_of(
    st.integers(-100, 100),
    st.booleans(),
    st.text(alphabet=st.sampled_from("ab \n\"'\\#[]{}=,\t\N{SNOWMAN}"), max_size=8),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def paths(value, path=()):
    """Every path of a TOML document, as tomllib understands it."""
    found = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, element in items:
        found |= paths(element, (*path, key))
    return found


def basic(text):
    escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'


class Writer:
    """Writes a document in one of the many ways of TOML and notes at which line it puts each path."""

    def __init__(self, draw):
        self.draw, self.text, self.lines = draw, "", {}

    def note(self, path):
        while path and path not in self.lines:
            self.lines[path] = self.text.count("\n") + 1
            path = path[:-1]

    def key(self, key):
        bare = re.fullmatch("[A-Za-z0-9_-]+", key) and self.draw(st.booleans())
        literal = key.isprintable() and "'" not in key and self.draw(st.booleans())
        return key if bare else f"'{key}'" if literal else basic(key)

    def scalar(self, value):
        if not isinstance(value, str):
            return str(value).lower()
        style = self.draw(st.sampled_from(["basic", "multi-line", "literal"]))
        if style == "multi-line":
            return '"""\n' + value.replace("\\", "\\\\").replace('"', '\\"') + '"""'
        return f"'''\n{value}'''" if style == "literal" and "'" not in value else basic(value)

    def value(self, value, path):
        if isinstance(value, list):
            self.text += "["
            for index, element in enumerate(value):
                self.text += self.draw(st.sampled_from(["", "\n", " # ] comment\n\n"]))
                self.note((*path, index))
                self.value(element, (*path, index))
                self.text += ","
            self.text += "]"
        elif isinstance(value, dict):
            self.text += "{"
            for number, (key, element) in enumerate(value.items()):
                self.text += ", " if number else " "
                self.note((*path, key))
                self.text += self.key(key) + " = "
                self.value(element, (*path, key))
            self.text += "}"
        else:
            self.text += self.scalar(value)

    def table(self, table, path=()):
        """Write plain keys first, then tables below: after a header there is no way back."""
        below = []
        for key, value in table.items():
            at = (*path, key)
            if isinstance(value, dict) and self.draw(st.booleans()):
                below.append((at, [value], "[{}]"))
            elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
                below.append((at, value, "[[{}]]"))
            else:
                self.note(at)
                self.text += self.key(key) + self.draw(st.sampled_from(["=", " = "]))
                self.value(value, at)
                self.text += self.draw(st.sampled_from(["\n", " # comment = 1\n", "\n\n"]))
        for at, elements, brackets in below:
            for index, element in enumerate(elements):
                here = at if brackets == "[{}]" else (*at, index)
                self.note(here)
                names = [part for part in at if isinstance(part, str)]
                self.text += brackets.format(" . ".join(self.key(name) for name in names)) + "\n"
                self.table(element, here)


@UNHURRIED
@given(st.data())
def test_lines_are_where_the_document_was_written(data):
    document = data.draw(st.dictionaries(KEYS, VALUES, max_size=4))
    writer = Writer(data.draw)
    writer.table(document)
    assert tomllib.loads(writer.text) == document
    assert scan(writer.text).lines == writer.lines


@UNHURRIED
@given(st.lists(FRAGMENTS, max_size=30).map("".join))
@example("a = [1, 2\n]\nb = 1")
def test_what_tomllib_accepts_is_found_completely(text):
    lines = scan(text).lines
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(lines) == paths(document)
    assert scan(text).repeated == ()


@UNHURRIED
@given(st.text())
def test_any_text_can_be_scanned(text):
    assert all(len(path) <= MAX_DEPTH for path in scan(text).lines)


def settings_or_errors(text):
    """The settings, or None; every error must be one line that begins with file and line."""
    try:
        return parse_settings(text, "pools.toml")
    except SettingsError as error:
        lines = error.errors
    assert lines
    for line in lines:
        assert re.match(r"pools\.toml:\d+: \S", line) or line.startswith("pools.toml: more errors")
        assert "\n" not in line
        line.encode()
    return None


@UNHURRIED
@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=30).map("".join)))
def test_any_text_is_settings_or_an_error(text):
    settings_or_errors(text)


@UNHURRIED
@given(st.integers(0, len(VALID)), st.integers(0, 12), st.one_of(FRAGMENTS, st.text(max_size=5)))
def test_a_damaged_file_is_settings_or_an_error(position, cut, inserted):
    settings_or_errors(VALID[:position] + inserted + VALID[position + cut :])


@UNHURRIED
@given(st.data())
def test_any_value_for_any_key_is_settings_or_an_error(data):
    table, fields = data.draw(st.sampled_from(list(key_places())))
    writer = Writer(data.draw)
    writer.text = VALID.replace("[limits]\nmessages_per_minute = 30\n", "") if table == "limits" else VALID
    if table == "milter":
        writer.text = VALID.replace('[milter]\nundecided_after = "4h"\n', "")
    if table:
        writer.text += f"[{table}]\n"
        writer.table({data.draw(st.sampled_from(fields)): data.draw(VALUES)}, (table,))
    else:
        rest, writer.text = writer.text, ""
        key = data.draw(st.sampled_from([name for name in fields if name not in {"accepted_domains", "shadow"}]))
        writer.value(data.draw(VALUES), (key,))
        writer.text = f"{key} = {writer.text}\n{rest}"
    settings_or_errors(writer.text)


def key_places():
    yield "", tuple(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield name, tuple(field.annotation.model_fields)


@UNHURRIED
@given(st.text(min_size=1), st.ip_addresses(), st.integers(1, 10**6), st.integers(0, 3600))
def test_effective_lines_are_settings_again(user, client, undecided_seconds, cache_seconds):
    read = settings_or_errors(
        VALID.replace("4h", f"{undecided_seconds}s")
        + f"[dns]\nservfail_cache_seconds = {cache_seconds / 7}\nnameservers = ['127.0.0.1', '[::1]:5353']\n"
        + f"[[pins]]\nsasl_username = {basic(user)}\npool = 'normal'\n"
        + f"[[pins]]\nclient = '{client}'\npool = 'high-risk'\n"
        + f"[spam]\nsize_limit = {undecided_seconds}\nrspamd_scores.hold = {undecided_seconds / 7}\n"
        + f"[[spam.skip]]\nclient = '{client}'\n"
        + f"[[outbound_policies]]\nname = {basic(user)}\nsenders = ['{client}', 'uid:33']\nover_limit = 'restrict'\n"
    )
    if read is None:
        return
    assert parse_settings(toml_of(read.effective_lines()), "again") == read
    assert read.outbound_policies
    assert read.spam.skip


def toml_of(lines):
    """Effective lines as a settings file: without what is not set, `pins[0].pool` in a table of the array."""
    top, arrays = [], {}
    for line in lines:
        if element := re.match(r"([\w.]+\[\d+\])\.", line):
            arrays.setdefault(element[1], []).append(line[element.end() :])
        elif "(not set)" not in line:
            top.append(line)
    tables = (f"[[{place.partition('[')[0]}]]\n" + "\n".join(keys) for place, keys in arrays.items())
    return "\n".join([*top, *tables])


@UNHURRIED
@given(
    st.one_of(st.text(), st.from_regex(r"(?i)(uid:|\*|\[)?[0-9a-f.:+-]{0,12}[\]/@]?[a-z0-9.]{0,12}", fullmatch=True))
)
@example("uid:33+web")
@example("*+x@example.org")
@example("[::1]:25")
@example("0000000/")
@example("00000::/")
@example("0::1]")
@example("192.0.2.70::")
@example("192.0.2.70:@example.org")
def test_an_account_is_the_name_that_is_counted(text):
    try:
        name = account(text)
    except ValueError as refusal:
        advice = str(refusal)
    else:
        assert account_name(name) == name or client_ip(name)
        assert not re.match(r"uid:(?!unknown$|[0-9]+$)[^@]*$", name)
        assert not name.startswith("*@")
        assert not re.match(r"[0-9]{1,3}(\.[0-9]{1,3}){3}(/[^@]*|:[^:@]*)$", name)
        assert not re.match(r"(\[[0-9a-f]{1,4}::[0-9a-f]{0,4}\]|[0-9a-f]{1,4}::[0-9a-f]{0,4}/)[^@]*$", name)
        return
    assert re.match(r"is empty; write |got .*; write ", advice)


PART_OF_A_PASSWORD = st.text(alphabet=st.one_of(st.sampled_from("/?#:%[]& \\\n="), st.characters()), max_size=5)


@UNHURRIED
@given(PART_OF_A_PASSWORD, PART_OF_A_PASSWORD, st.sampled_from(["redis", "rediss", "Redis", "valkey"]))
def test_the_password_of_a_server_is_never_shown(left, right, scheme):
    # Behind an @ that is not written as %40 begins the host, which is no secret.
    password = f"{left}s3cret{right}".replace("@", "%40")
    state = f"state = {basic(f'{scheme}://user:{password}@redis.example.org:6379/0')}\n"
    try:
        shown = parse_settings(state + VALID, "pools.toml").effective_lines()
    except SettingsError as error:
        shown = error.errors
    assert shown
    assert not any("s3cret" in line for line in shown)


@UNHURRIED
@given(PART_OF_A_PASSWORD, PART_OF_A_PASSWORD, st.sampled_from(["http", "https", "HTTP", "hTTps", "redis"]))
def test_the_password_of_a_scanner_is_never_shown(left, right, scheme):
    password = f"{left}s3cret{right}".replace("@", "%40")
    spam = f"[spam]\nrspamd = {basic(f'{scheme}://user:{password}@scan.example.org:11333')}\n"
    try:
        read = parse_settings(VALID + spam, "pools.toml")
        shown = [*read.effective_lines(), *read.not_in_effect()]
    except SettingsError as error:
        shown = error.errors
    assert shown
    assert not any("s3cret" in line for line in shown)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_valid_file_is_valid(line_end):
    assert settings_or_errors(VALID.replace("\n", line_end)).shadow
