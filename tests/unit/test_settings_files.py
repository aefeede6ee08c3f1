"""Settings as files: TOML that is none, the example, the reference, and files that cannot be read."""

import logging
import re
import tomllib
from pathlib import Path

import pytest
from written_settings import POOLS, TOP, errors, settings

from deliverypools.adapters.settings_file import (
    DEFAULT_PATH,
    MOST_BYTES,
    keep_until_restart,
    load_settings,
    settings_path,
)
from deliverypools.core.settings import Settings, SettingsError, parse_settings
from deliverypools.core.settings.errors import MOST_ERRORS, tables
from deliverypools.core.settings.reference import settings_reference
from deliverypools.core.settings.text import notes_of

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "postfix-examples" / "delivery-pools.toml"


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a = 1\nb = \n", "2: is no valid TOML: Invalid value (column 5)"),
            ("a = 1\nb = [1,\n\n", "2: is no valid TOML: "),
            ("a = 1\n[x]\na 2", "3: is no valid TOML: Expected '=' after a key"),
            ("a = 1\nb = 1\na = 2", "3: a: is written a second time; first in line 1"),
            ("[a]\n[b]\n[a]", "3: a: is written a second time; first in line 1"),
            ("a = [\n1]\na = [\n2,\n3]\n", "3: a: is written a second time; first in line 1"),
            ("[a]\nb = 1\n[a.b]\n", "3: a.b: is written a second time; first in line 2"),
            ("\x00", "1: is no valid TOML: Invalid statement"),
            ("a = 1\nb = '\x00'", "2: is no valid TOML: "),
            ("a = 1\nb = " + "9" * 5000, "2: holds a number that is too large"),
            ("\ufeffa = 1", "1: begins with a byte order mark"),
            ("a = '\ud800'", "1: is no valid Unicode text"),
            ("\na = " + "[" * 1000, "2: is nested deeper than any setting"),
            ("\n" + "a." * 1000 + "b = 1", "2: is nested deeper than any setting"),
        ],
    )
    def test_one_error_with_its_line(self, text, expected):
        (found,) = errors(text)
        assert found.startswith(expected)
        assert found.isprintable()

    @pytest.mark.parametrize(
        "text",
        [
            TOP + "trusted_networks = [" + '"x",' * 200_000 + "]\n" + POOLS,
            TOP + POOLS + "".join(f"[pools.x{n}]\n" for n in range(60_000)),
            TOP + "".join(f"k{n} = 1\n" for n in range(80_000)) + POOLS,
            TOP + POOLS + '[[pins]]\npool = "x"\n' * 40_000,
            TOP + POOLS.replace('["192.0.2.30", ', '["192.0.2.30", ' + '"192.0.2.30", ' * 60_000),
            "x = " + "0x" + "f" * 900_000,
            "[[a]]\n" * 150_000,
            '"' * 1_000_000,
            "[" * 1_000_000,
            "a." * 500_000,
            "\x00" * 1_000_000,
            "a = " + "{a=" * 300_000,
        ],
        ids=lambda text: repr(text[-12:]),
    )
    @pytest.mark.timeout(60)
    def test_a_megabyte_of_mistakes_is_some_errors(self, text):
        assert len(errors(text)) <= MOST_ERRORS + 1


class TestExampleAndReference:
    def test_the_example_is_valid_and_has_documentation_addresses(self):
        read = load_settings(EXAMPLE)
        assert read == settings()
        assert read.not_in_effect() == ()

    def uncommented(self):
        return re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE.read_text())

    def test_the_example_is_valid_with_every_line_switched_on(self):
        parse_settings(self.uncommented(), "uncommented")

    def test_the_example_has_every_setting(self):
        document = tomllib.loads(self.uncommented())
        for path, table in tables(Settings):
            holders = [document]
            for part in path:
                holders = [
                    element
                    for holder in holders
                    for element in (
                        holder if isinstance(part, int) else holder.values() if part == "NAME" else [holder[part]]
                    )
                ]
            written = {key for holder in holders for key in holder}
            assert set(table.model_fields) <= written, path

    def test_defaults_of_the_example_are_the_defaults(self):
        """A key that is commented out shows its default, unless that is "not set" or empty."""
        read = tomllib.loads(self.uncommented())
        for name in (
            "dns",
            "milter",
            "policy",
            "socketmap",
            "limits",
            "suspicion",
            "spam",
            "authentication",
            "forwarding",
            "bounces",
            "alerts",
            "metrics",
        ):
            table = Settings.model_fields[name].annotation
            for key, field in table.model_fields.items():
                default = field.get_default(call_default_factory=True)
                if isinstance(default, str | int | float):
                    assert read[name][key] == default, (name, key)

    def test_what_this_version_does_not_do_is_said_of_no_other_key(self):
        """The remark is about the keys up to the next empty line, in a table's title about all of the table."""
        idle = {
            name
            for _, table in tables(Settings)
            for name, field in table.model_fields.items()
            if notes_of(field).get("later")
        }
        said = set()
        for part in EXAMPLE.read_text().split("\n# ---"):
            blocks = [part] if "by this version. ---" in part else part.split("\n\n")
            for block in blocks:
                if re.search(r"Not (used|enforced) by this version", block):
                    said |= set(re.findall(r"(?m)^#?([a-z_]+) = ", block))
        assert said == idle

    def test_the_reference_is_up_to_date(self):
        text = (REPOSITORY / "docs" / "settings.md").read_text()
        assert text == settings_reference(), "run: make docs"

    def test_every_example_in_the_reference_is_valid_toml_and_every_key_has_a_purpose(self):
        for _, table in tables(Settings):
            for name, field in table.model_fields.items():
                if example := notes_of(field).get("example"):
                    tomllib.loads(f"{name} = {example}")
                    assert field.description.endswith(".")


class TestFile:
    @pytest.mark.parametrize(
        ("option", "environ", "expected"),
        [
            ("/a.toml", {"DELIVERY_POOLS_CONFIG": "/b.toml"}, (Path("/a.toml"), True)),
            (None, {"DELIVERY_POOLS_CONFIG": "/b.toml"}, (Path("/b.toml"), True)),
            (None, {"DELIVERY_POOLS_CONFIG": ""}, (DEFAULT_PATH, False)),
            (None, {}, (Path("/etc/delivery-pools/delivery-pools.toml"), False)),
        ],
    )
    def test_where_it_is(self, option, environ, expected):
        assert settings_path(option, environ) == expected

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"a = 1\n# \xff", ":2: holds a byte that is no UTF-8; save the file as UTF-8"),
            (b"#" * (MOST_BYTES + 1), ": is larger than 1000000 bytes; name the settings file with --config FILE"),
            (b"\xef\xbb\xbfa = 1", ":1: begins with a byte order mark"),
            (b"x = 1", ":1: x: is no setting"),
        ],
    )
    def test_what_cannot_be_used(self, tmp_path, content, expected):
        path = tmp_path / "pools.toml"
        path.write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            load_settings(path)
        assert any(error.startswith(f"{path}{expected}") for error in caught.value.errors)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("none.toml", "there is no such file; create it, or name the settings file with --config FILE"),
            (".", "is a directory"),
            ("a\x00b", "cannot be read"),
            ("x" * 300, "cannot be read"),
        ],
    )
    def test_what_cannot_be_read(self, tmp_path, name, expected):
        with pytest.raises(SettingsError, match=expected):
            load_settings(tmp_path / name)

    def test_what_may_not_be_read(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise PermissionError

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(SettingsError, match="may not be read by this user"):
            load_settings(tmp_path / "pools.toml")


class TestReload:
    log = logging.getLogger("test")

    def test_everything_else_changes_at_once(self, caplog):
        new = settings(
            '[limits]\nrecipients_per_day = 5\n[[outbound_policies]]\nname = "default"\nover_limit = "restrict"\n'
            '[groups]\ng = ["alice@example.org"]'
        )
        assert keep_until_restart(new, settings(), ["policy"], self.log) == new
        assert caplog.messages == []

    def test_another_state_needs_a_restart_and_its_password_is_not_logged(self, caplog):
        old = settings(top='state = "redis://:s3cret@192.0.2.5/0"\n')
        new = settings("[limits]\nrecipients_per_day = 5", top='state = "redis://:0th3r@192.0.2.6/0"\n')
        kept = keep_until_restart(new, old, ["policy"], self.log)
        assert (kept.state, kept.limits.recipients_per_day) == (old.state, 5)
        assert caplog.messages == [
            "state changed: that needs a restart of both daemons; the old one stays, other settings are reloaded"
        ]

    @pytest.mark.parametrize("table", ["milter", "policy"])
    def test_another_socket_needs_a_restart(self, table, caplog):
        new = settings(f'[{table}]\nsocket = "inet:127.0.0.1:8899"')
        assert keep_until_restart(new, settings(), [table], self.log) == settings()
        assert caplog.messages == [
            f"{table}.socket changed: that needs a restart; the old socket stays, other settings are reloaded"
        ]
