"""`delivery-pools milter` and `delivery-pools policy`: the daemons, in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os

from deliverypools.adapters import logs
from deliverypools.adapters.key_lines import is_open_to_all
from deliverypools.adapters.service_manager import ServiceManager
from deliverypools.adapters.sockets import SocketError
from deliverypools.cli.exits import FAILED
from deliverypools.cli.options import Subparsers, add_config, read_settings_and_keys
from deliverypools.core.settings import Settings

_log = logging.getLogger(__name__)

_SIGNALS = """\
Signals: SIGHUP reads the settings again (a broken file changes nothing and is reported); SIGTERM finishes the messages
in progress and stops. The log goes to standard error.
"""


def add_to(commands: Subparsers) -> None:
    """Add the commands."""
    for name, run, what in (
        ("milter", _milter, "run the milter: inspects mail in two passes and tags it with a pool"),
        ("policy", _policy, "run the policy service: counts what each account sends"),
    ):
        parser = commands.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ", in the foreground.",
            epilog=_SIGNALS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_config(parser)
        parser.set_defaults(run=run)


def _milter(options: argparse.Namespace) -> int:
    # Other commands do without libmilter.
    from deliverypools.milter.server import MilterServer  # noqa: PLC0415

    logs.configure("delivery-pools/milter")
    manager = ServiceManager.of_environment(os.environ)
    settings, keys = read_settings_and_keys(options)
    _log_start(settings)
    try:
        return MilterServer(settings, keys, lambda: read_settings_and_keys(options), manager).run()
    except SocketError as error:
        _log.error("%s", error)
        return FAILED


def _policy(options: argparse.Namespace) -> int:
    from deliverypools.policy.server import PolicyServer  # noqa: PLC0415

    logs.configure("delivery-pools/policy")
    manager = ServiceManager.of_environment(os.environ)
    settings, keys = read_settings_and_keys(options)
    _log_start(settings)
    try:
        return asyncio.run(PolicyServer(settings, keys, lambda: read_settings_and_keys(options), manager).run())
    except SocketError as error:
        _log.error("%s", error)
        return FAILED


def _log_start(settings: Settings) -> None:
    for line in settings.effective_lines():
        _log.info("setting: %s", line)
    for line in settings.not_in_effect():
        _log.warning("%s", line)
    for path, made in ((settings.ticket_key_file, "tickets"), (settings.forwarding.srs_secret_file, "SRS addresses")):
        if path is not None and is_open_to_all(path):
            _log.warning("%s: every user can read the keys, and so make %s", path, made)
