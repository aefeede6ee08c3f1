"""`delivery-pools check`: the settings, the files they name, whether scanners answer, and the Postfix configuration."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Final

from deliverypools.adapters.key_file import read_keys
from deliverypools.adapters.key_lines import KeyFileError, is_open_to_all
from deliverypools.adapters.scanning.clients import client_for
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.adapters.settings_file import settings_path
from deliverypools.adapters.sockets import unix_path
from deliverypools.adapters.sqlite_state import examine
from deliverypools.adapters.srs_secrets import read_srs_secrets
from deliverypools.adapters.state import StateUnavailable
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.fast_path import FastPath, look_at_fast_path, looks_after
from deliverypools.cli.live_check import live_check
from deliverypools.cli.options import Subparsers, add_config, read_settings
from deliverypools.cli.postfix_findings import (
    SETTINGS_CHECK,
    as_json,
    as_text,
    host_findings,
    postfix_findings,
    read_site,
)
from deliverypools.cli.shared_state import remedy_for, shared_state
from deliverypools.core.checks_reference import NOT_SET_UP
from deliverypools.core.facts import printable
from deliverypools.core.postfix_check.checks import Finding, Severity, errors_first
from deliverypools.core.postfix_check.site import Site, is_set_up
from deliverypools.core.scanning.alert import address_of, scanner_down
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScanVerdict
from deliverypools.core.scanning.scope import scanners_for_malware, scanners_for_spam
from deliverypools.core.settings import Settings

_ANSWER_SECONDS: Final = 10.0
_HARMLESS: Final = """\
From: <{postmaster}>
To: <{postmaster}>
Date: {date}
Message-ID: <delivery-pools-check.{postmaster}>
Subject: Does the scanner give verdicts?

delivery-pools check asks the scanner about this message. It is sent to nobody.
"""
_SERVICES: Final = {Scanner.RSPAMD: "rspamd", Scanner.SPAMD: "spamd", Scanner.CLAMD: "clamav-daemon"}
"""As systemd knows them on Debian."""
_OTHER_PORTS: Final = {Scanner.RSPAMD: " (11333 is its normal worker; 11332, a milter, and 11334 scan nothing for us)"}


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="check the settings, the files they name, scanners, the Postfix configuration, addresses and DNS",
        description="Check the settings file, the files and folders that it names, and whether the scanners that it"
        " names give verdicts (else a warning); the Postfix configuration of this machine: every way in which mail"
        " could leave by a wrong address, be lost, or pass us by; whether the pools' addresses are here, what DNS says"
        " of them, and whether the daemons answer (docs/checks.md). Of Postfix nothing is changed. Whether mail may"
        " skip the hop is found out too, and kept for the milter (docs/fast-path.md). Exit status: 0, 1 with errors,"
        " 78 for a bad settings file.",
    )
    add_config(parser)
    parser.add_argument(
        "--postfix",
        metavar="DIR",
        nargs="?",
        const="",
        help="examine the Postfix configuration in DIR in place of this machine's own; as root, who can read all of it",
    )
    parser.add_argument(
        "--no-postfix",
        action="store_true",
        help="examine settings and files only: no Postfix, no addresses, no daemons, no DNS",
    )
    parser.add_argument(
        "--dns",
        choices=("live", "off"),
        default="live",
        help="off: leave out what DNS says of the pools and the accepted domains (default: %(default)s)",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="send probes through the running Postfix, by each transport of the pools, to this program; show by which"
        " address each of them comes, and nothing of the rest. For root",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with all findings")
    parser.add_argument("--quiet", action="store_true", help="print findings only")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    settings = read_settings(options)
    if options.live:
        return _live(settings, options)
    findings = [
        *(_of_settings(Severity.ERROR, text) for text in _errors(settings)),
        *(_of_settings(Severity.WARNING, text) for text in (*settings.not_in_effect(), *_silent_scanners(settings))),
    ]
    fast_path = None
    if not options.no_postfix:
        findings += _of_machine(settings, options)
        fast_path = _fast_path(settings, options)
    has_errors = any(finding.severity is Severity.ERROR for finding in findings)
    if options.json:
        print(as_json(findings, fast_path=fast_path.as_json() if fast_path else None))
    else:
        for finding in findings:
            print(as_text(finding), file=sys.stderr)
        if fast_path and not options.quiet:
            print(fast_path.line)
        if not has_errors and not options.quiet:
            print(_in_order(options))
    return FAILED if has_errors else OK


def _live(settings: Settings, options: argparse.Namespace) -> int:
    """Send probes by the transports of a Postfix that is set up for them."""
    read = read_site(settings, options.postfix or None)
    if isinstance(read, Site) and not is_set_up(read):
        read = NOT_SET_UP
    if isinstance(read, Finding):
        print(f"no probe was sent\n{as_text(read)}", file=sys.stderr)
        return FAILED
    directory = os.path.abspath(options.postfix) if options.postfix else None  # noqa: PTH100  (as PostfixReader does)
    return live_check(settings, read, directory, as_json=options.json)


def _of_machine(settings: Settings, options: argparse.Namespace) -> tuple[Finding, ...]:
    """Return what is wrong with Postfix, this machine and its DNS."""
    path, _ = settings_path(options.config, os.environ)
    read = read_site(settings, options.postfix or None)
    site = read if isinstance(read, Site) else None
    of_postfix = (read,) if isinstance(read, Finding) else postfix_findings(read)
    return errors_first((*of_postfix, *host_findings(site, settings, path, dns=options.dns == "live")))


def _fast_path(settings: Settings, options: argparse.Namespace) -> FastPath | None:
    """Prove whether mail may skip the hop, where the configuration is that of the running Postfix, with a hop."""
    directory = options.postfix or None
    return look_at_fast_path(settings, directory) if looks_after(settings, directory) else None


def _in_order(options: argparse.Namespace) -> str:
    if options.no_postfix:
        return "settings and files are in order; the Postfix configuration was not examined (--no-postfix)"
    return "settings and files are in order, and no error in the Postfix configuration was found"


def _of_settings(severity: Severity, text: str) -> Finding:
    """Return a finding whose text says what can happen, and what to do."""
    return Finding(check=SETTINGS_CHECK, severity=severity, found=text, can_happen="", remedy="")


def _errors(settings: Settings) -> list[str]:
    return [*_key_errors(settings), *_folder_errors(settings), *_state_errors(settings), *_alert_errors(settings)]


def _key_errors(settings: Settings) -> Iterator[str]:
    yield from _key_file_errors(read_keys, settings.ticket_key_file)
    if settings.forwarding.srs_secret_file is not None:
        secret_file = settings.forwarding.srs_secret_file
        if os.path.realpath(secret_file) != os.path.realpath(settings.ticket_key_file):
            yield from _key_file_errors(read_srs_secrets, secret_file)
        else:
            yield f"{secret_file}: is the ticket_key_file; give the secrets of SRS a file of their own"


def _key_file_errors(read: Callable[[str], tuple[bytes, ...]], path: str) -> Iterator[str]:
    try:
        read(path)
        if is_open_to_all(path):
            yield f"{path}: every user can read the keys; take that away: chmod o= {path}"
    except KeyFileError as error:
        yield str(error)


def _folder_errors(settings: Settings) -> Iterator[str]:
    folders = {}
    if settings.state_path is not None:
        folders["state"] = Path(settings.state_path).parent
    sockets = {"milter.socket": settings.milter.socket, "policy.socket": settings.policy.socket}
    if settings.forwarding.srs_domain is not None:
        sockets["socketmap.socket"] = settings.socketmap.socket
    for name, address in sockets.items():
        if path := unix_path(address):
            folders[name] = Path(path).parent
    if _tells_somebody(settings):
        folders["alerts.spool"] = _to_be_made_in(Path(settings.alerts.spool))
    for name, folder in folders.items():
        if not _is_folder(folder):
            yield f"{name}: there is no folder {folder}; make it, owned by the user of the daemons"
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield f"{name}: this user cannot write the folder {folder}; run check as the user of the daemons"


def _to_be_made_in(folder: Path) -> Path:
    """Return the folder, or where the daemons make it: the nearest of those above it that is there."""
    return next(one for one in (folder, *folder.parents) if os.access(one, os.F_OK))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:
        return False


def _state_errors(settings: Settings) -> Iterator[str]:
    """Ask a server; look at a file, which only the daemons make and change."""
    if settings.state_path is not None:
        yield from _state_file_errors(Path(settings.state_path))
        return
    try:
        with shared_state(settings) as state:
            state.restrictions()
    except StateUnavailable as error:
        yield f"state: the server does not answer as it should: {error}; {remedy_for(error)}"


def _state_file_errors(path: Path) -> Iterator[str]:
    # SQLite keeps what was committed last in a file beside it, and needs both.
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if os.access(file, os.F_OK) and not os.access(file, os.R_OK | os.W_OK):
            yield f"state: this user cannot read and write {file}; run check as the user of the daemons, who own it"
            return
    if not os.access(path, os.F_OK):
        return
    try:
        examine(str(path))
    except StateUnavailable as error:
        remedy = remedy_for(error)
        yield f"state: {error}{'; ' if remedy else ''}{remedy}"


def _alert_errors(settings: Settings) -> Iterator[str]:
    sendmail = settings.alerts.sendmail
    if _sends_mail(settings) and not os.access(sendmail, os.X_OK):
        yield f"alerts.sendmail: {sendmail} cannot be run; name Postfix's sendmail, by which alerts and copies are sent"


def _sends_mail(settings: Settings) -> bool:
    policies = settings.outbound_policies
    return bool(settings.alerts.mail_to or any(policy.notify or policy.bcc_suspicious_mail for policy in policies))


def _tells_somebody(settings: Settings) -> bool:
    return _sends_mail(settings) or settings.alerts.webhook is not None


def _silent_scanners(settings: Settings) -> Iterator[str]:
    """Yield what it means that a scanner gives no verdict: no error, mail can wait until it does."""
    for scanner in (*scanners_for_spam(settings), *scanners_for_malware(settings)):
        if problem := _problem_of(scanner, settings):
            now = time.time()
            down = scanner_down(scanner, settings, host="", problem=problem, since=now, now=now)
            yield (
                f"spam.{scanner}: no verdict from {address_of(scanner, settings)}: {printable(problem)}."
                f" {down.consequence} See whether it runs (systemctl status {_SERVICES[scanner]}), and whether the user"
                f" of the daemons may reach it; else correct spam.{scanner}{_OTHER_PORTS.get(scanner, '')}"
            )


def _problem_of(scanner: Scanner, settings: Settings) -> str:
    """Return why a scanner gives no verdict about a harmless message, "" if it gives one.

    A ping would not tell: ports of rspamd that scan nothing answer it too.
    """
    postmaster = f"postmaster@{next(iter(settings.accepted_domains))}"
    envelope = ScanEnvelope(envelope_sender=postmaster, recipients=(postmaster,), client_address="127.0.0.1")
    content = _HARMLESS.format(postmaster=postmaster, date=formatdate(localtime=True)).encode()
    client = client_for(scanner, settings)
    try:
        answer = client.ask(content, envelope, time.monotonic() + _ANSWER_SECONDS)
    except ScannerUnavailable as error:
        return str(error) or "no answer"
    finally:
        client.close()
    return (answer.problem or "it cannot tell") if answer.verdict is ScanVerdict.UNKNOWN else ""
