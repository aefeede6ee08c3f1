"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TypeAlias

from deliverypools.adapters.key_file import KeyFileError, read_keys
from deliverypools.adapters.settings_file import load_settings, settings_path
from deliverypools.core.account_names import account_name
from deliverypools.core.facts import printable
from deliverypools.core.settings import Settings, SettingsError

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  (it has no public name)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings file (default: $DELIVERY_POOLS_CONFIG, else /etc/delivery-pools/...)"
    )


def account_argument(text: str) -> str:
    """Return the account that somebody means, in the form in which accounts are counted; say so where it differs.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    account = account_name(text)
    if not account:
        raise argparse.ArgumentTypeError("an account has a name")
    if account != text:
        print(f"{printable(text)} is the account {printable(account)}", file=sys.stderr)
    return account


def read_settings(options: argparse.Namespace) -> Settings:
    """Read the settings that the options name.

    Raises:
        SettingsError: with every error.
    """
    path, _ = settings_path(options.config, os.environ)
    return load_settings(path)


def read_settings_and_keys(options: argparse.Namespace) -> tuple[Settings, tuple[bytes, ...]]:
    """Read the settings and the ticket's keys.

    Raises:
        SettingsError: with every error of either.
    """
    settings = read_settings(options)
    try:
        return settings, read_keys(settings.ticket_key_file)
    except KeyFileError as error:
        raise SettingsError((str(error),)) from None
