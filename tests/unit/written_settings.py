"""A small file of settings, what is read from it, and its mistakes."""

import pytest

from deliverypools.core.settings import SettingsError, parse_settings

TOP = 'accepted_domains = ["example.org"]\n'
POOLS = """\
[pools.normal]
addresses = ["192.0.2.10", "2001:db8::10"]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["192.0.2.20", "2001:db8::20"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["192.0.2.30", "2001:db8::30"]
helo = "mail-relay.example.org"
"""
FIRST_LINE_AFTER_POOLS = 11


def settings(below="", top=""):
    return parse_settings(TOP + top + POOLS + below, "pools.toml")


def errors(text):
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "pools.toml")
    assert str(caught.value) == "\n".join(caught.value.errors)
    return [error.removeprefix("pools.toml:") for error in caught.value.errors]


def errors_below(below):
    return errors(TOP + POOLS + below)


def errors_at_top(top):
    return errors(TOP + top + POOLS)
