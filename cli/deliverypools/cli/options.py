"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final, TypeAlias

from deliverypools.adapters.key_lines import KeyFileError
from deliverypools.adapters.keys import Keys, read_all_keys
from deliverypools.adapters.settings_file import load_settings, settings_path
from deliverypools.adapters.state import State
from deliverypools.core.account_names import account_name
from deliverypools.core.facts import printable
from deliverypools.core.settings import Settings, SettingsError, values

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  (it has no public name)

_ACCOUNT: Final = "SASL user, address that a trusted client sends with, a client's IP address, or uid:N"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings file (default: $DELIVERY_POOLS_CONFIG, else /etc/delivery-pools/...)"
    )


def add_account(parser: argparse.ArgumentParser, *, nargs: str | None = None) -> None:
    """Add the argument ACCOUNT; `options.accounts` is what was written, for `account_meant`."""
    parser.add_argument("accounts", metavar="ACCOUNT", nargs=nargs or 1, help=_ACCOUNT)
    parser.set_defaults(refuse=parser.error)


def accounts_meant(options: argparse.Namespace, state: State) -> list[str]:
    """Return the accounts that somebody means; ends the command, with exit status 2, at a name that none can have.

    Raises:
        StateUnavailable: it cannot be told whether there is such an account.
    """
    return [_account_meant(text, options, state) for text in options.accounts]


def _account_meant(text: str, options: argparse.Namespace, state: State) -> str:
    """Return an account in the form in which accounts are counted; say so where that differs from what was written.

    Clients log in, and send, with what they like: a name that is refused in settings is taken where the state has it.
    """
    try:
        account = values.account(text)
    except ValueError as error:
        account = account_name(text)
        if not account or not _has_account(state, account):
            options.refuse(f"argument ACCOUNT: {error}")
    if account != text:
        print(f"{printable(text)} is the account {printable(account)}", file=sys.stderr)
    return account


def _has_account(state: State, account: str) -> bool:
    is_restricted = any(restriction.account == account for restriction in state.restrictions())
    return is_restricted or bool(state.records_of(account, most=1))


def read_settings(options: argparse.Namespace) -> Settings:
    """Read the settings that the options name.

    Raises:
        SettingsError: with every error.
    """
    path, _ = settings_path(options.config, os.environ)
    return load_settings(path)


def read_settings_and_keys(options: argparse.Namespace) -> tuple[Settings, Keys]:
    """Read the settings and the keys that they name.

    Raises:
        SettingsError: with every error of the settings, or what is wrong with a key file.
    """
    settings = read_settings(options)
    try:
        return settings, read_all_keys(settings)
    except KeyFileError as error:
        raise SettingsError((str(error),)) from None
