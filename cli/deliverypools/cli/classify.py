"""`delivery-pools classify`: what would be decided about messages in files, without touching anything."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deliverypools.adapters.authentication.authenticator import Authenticator, HeaderFields
from deliverypools.adapters.key_lines import KeyFileError
from deliverypools.adapters.keys import Keys, sender_rewriter
from deliverypools.adapters.message_file import read_headers, read_raw
from deliverypools.adapters.message_spool import MessageSpool
from deliverypools.adapters.resolver import Resolver
from deliverypools.adapters.scanning.scanners import Scanners
from deliverypools.adapters.sender_domains import SenderDomains
from deliverypools.adapters.settings_file import load_settings, settings_path
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.adapters.srs_secrets import read_srs_secrets
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.options import Subparsers, add_config
from deliverypools.core.accounts import smtp_account, user_account
from deliverypools.core.addresses import domain_of, strip_brackets
from deliverypools.core.authentication import Authentication, with_authentication
from deliverypools.core.decisions import FORWARDED, MALWARE, SPAM, UNDECIDED, Decision
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.forwarding import leaving_sender
from deliverypools.core.headers import Headers
from deliverypools.core.rules import classify
from deliverypools.core.sender import header_sender
from deliverypools.core.settings import Settings, built_in_defaults
from deliverypools.core.settings.values import client_ip
from deliverypools.core.spam import scan_is_possible
from deliverypools.core.spam_headers import spam_evidence
from deliverypools.core.srs import SenderRewriter, sender_of
from deliverypools.milter.collector import CollectedMessage, Connection, MessageCollector
from deliverypools.milter.scanning import decide

_EPILOG = """\
Without settings file and --config, built-in defaults serve: no accepted domain, so every sender is somebody else's.

--batch - reads JSON lines from standard input (--batch FILE from a file), each with "file" and any of "sender",
"recipients", "client_address", "helo", "sasl_username", "ingress"; it prints one JSON object a line, in the same order.

With --dns off it is not known whether a sender from outside is legitimate, whatever Authentication-Results says.
Limits and tickets are not asked: a decision here is that of a sender within the limits.

With --scan off the rules whose scanners would have been asked (malware, spam) are named in "not_asked". With --scan
live the scanners that the settings name get each message that needs their word, without what only the milter knows of
the client, and learn from it what they learn from any; what they say is among the reasons. Nothing is remembered,
nobody is told.

Exit status 1: a file could not be read, or a line not be understood; the others are decided all the same.
"""

_NOT_LOOKED_UP = Finding(Answer.UNKNOWN, "not looked up (--dns live)")

_FIELDS = ("sender", "recipients", "client_address", "helo", "sasl_username", "ingress")


class BadRequest(ValueError):  # noqa: N818
    """A message cannot be classified; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    file: str
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    client_address: str = ""
    helo: str = ""
    sasl_username: str = ""
    ingress: Ingress | None = None


@dataclass(frozen=True, slots=True)
class _Mail:
    sender: str
    ingress: Ingress
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    """The settings, and whom to ask."""

    settings: Settings
    sender_domains: SenderDomains | None = None
    """None: DNS is not asked."""
    authenticator: Authenticator | None = None
    rewriter: SenderRewriter | None = None
    scanners: Scanners | None = None
    """None: scanners are not asked."""

    @classmethod
    def open(cls, settings: Settings, closing: contextlib.ExitStack, *, is_live: bool, is_scanned: bool) -> _World:
        rewriter = _rewriter(settings)
        scanners = _scanners(settings, closing) if is_scanned else None
        if not is_live:
            return cls(settings=settings, rewriter=rewriter, scanners=scanners)
        resolver = Resolver(settings.dns)
        closing.callback(resolver.close)
        domains = SenderDomains(settings, None, resolver=resolver)
        closing.callback(domains.close)
        authenticator = Authenticator(settings, resolver)
        return cls(
            settings=settings, sender_domains=domains, authenticator=authenticator, rewriter=rewriter, scanners=scanners
        )


class _Asking(NamedTuple):
    """What `decide` needs."""

    settings: Settings
    scanners: Scanners


def add_to(commands: Subparsers) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "classify",
        help="say which pool messages in files would leave by, and why",
        description="Say which pool each message would leave by, by which rule and for which reasons.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument("files", nargs="*", metavar="FILE", help="a message as it is sent (RFC 5322)")
    parser.add_argument("--sender", help="envelope sender, <> for the null one (default: Return-Path, else From)")
    parser.add_argument(
        "--recipient", action="append", dest="recipients", default=[], metavar="ADDRESS", help="envelope recipient"
    )
    parser.add_argument("--client-address", default="", metavar="ADDRESS", help="IP address of the client")
    parser.add_argument("--helo", default="", metavar="NAME", help="HELO name of the client, for SPF")
    parser.add_argument("--sasl-username", default="", metavar="USER", help="SASL user; implies --ingress submission")
    parser.add_argument(
        "--ingress",
        choices=[ingress.value for ingress in Ingress],
        help="how it came in (default: submission if the sender's domain is accepted, else outside)",
    )
    parser.add_argument(
        "--dns", choices=("off", "live"), default="off", help="ask DNS: sender domains, SPF, DKIM, DMARC (default: off)"
    )
    parser.add_argument(
        "--scan", choices=("off", "live"), default="off", help="ask the scanners that the settings name (default: off)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a message")
    parser.add_argument("--batch", metavar="FILE", help="read JSON lines from FILE, - for standard input")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if bool(options.files) == bool(options.batch):
        print("delivery-pools classify: name message files, or --batch FILE", file=sys.stderr)
        return 2
    if options.batch and (given := [name for name in _FIELDS if getattr(options, name)]):
        print(f"delivery-pools classify: with --batch each line has its own {', '.join(given)}", file=sys.stderr)
        return 2
    settings = _settings(options)
    status = OK
    with contextlib.ExitStack() as closing:
        world = _World.open(settings, closing, is_live=options.dns == "live", is_scanned=options.scan == "live")
        for result in _results(options, world):
            if "error" in result:
                status = FAILED
            _print(result, as_json=options.json or options.batch is not None)
    return status


def _settings(options: argparse.Namespace) -> Settings:
    path, is_explicit = settings_path(options.config, os.environ)
    if not is_explicit:
        try:
            path.stat()
        except OSError as error:
            print(f"{path}: {error.strerror}; classified with built-in defaults", file=sys.stderr)
            return built_in_defaults()
    return load_settings(path)


def _rewriter(settings: Settings) -> SenderRewriter | None:
    """Return what rewrites senders; without the right to read the secrets, none is rewritten here."""
    path = settings.forwarding.srs_secret_file
    try:
        keys = Keys((), read_srs_secrets(path) if path else ())
    except KeyFileError as error:
        print(f"{error}; srs_sender is left out", file=sys.stderr)
        return None
    return sender_rewriter(settings, keys, time.time)


def _scanners(settings: Settings, closing: contextlib.ExitStack) -> Scanners:
    """Return who asks the scanners, with a memory that ends with the command."""
    if not scan_is_possible(settings):
        print("--scan live: the settings name no scanner (spam.rspamd, spam.spamd, spam.clamd)", file=sys.stderr)
    state = SQLiteState(":memory:", time.time)
    closing.callback(state.close)
    scanners = Scanners(settings, state)
    closing.callback(scanners.close)
    return scanners


def _results(options: argparse.Namespace, world: _World) -> Iterator[dict[str, Any]]:
    if options.batch is None:
        for file in options.files:
            yield _answer(_request_of(options, file), world)
        return
    with sys.stdin.buffer if options.batch == "-" else Path(options.batch).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                request = _parse_line(line)
            except BadRequest as error:
                yield {"file": None, "error": f"line {number}: {error}"}
            else:
                yield _answer(request, world)


def _request_of(options: argparse.Namespace, file: str) -> _Request:
    return _Request(
        file=file,
        sender=options.sender,
        recipients=tuple(options.recipients),
        client_address=options.client_address,
        helo=options.helo,
        sasl_username=options.sasl_username,
        ingress=Ingress(options.ingress) if options.ingress else None,
    )


def _parse_line(line: bytes) -> _Request:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not JSON ({error})") from None
    if not isinstance(values, dict) or not isinstance(values.get("file"), str):
        raise BadRequest('expected an object with "file"')
    if unknown := set(values) - {"file", *_FIELDS}:
        raise BadRequest(f"unknown: {', '.join(sorted(unknown))}; known: file, {', '.join(_FIELDS)}")
    recipients = values.get("recipients") or []
    if not isinstance(recipients, list) or not all(isinstance(address, str) for address in recipients):
        raise BadRequest('"recipients" is a list of addresses')
    for name in set(_FIELDS) - {"recipients"}:
        if not isinstance(values.get(name), str | None):
            raise BadRequest(f'"{name}" is a text')
    try:
        ingress = Ingress(values["ingress"]) if values.get("ingress") else None
    except ValueError:
        raise BadRequest(f'"ingress" is one of {", ".join(Ingress)}') from None
    return _Request(
        file=values["file"],
        sender=values.get("sender"),
        recipients=tuple(recipients),
        client_address=values.get("client_address") or "",
        helo=values.get("helo") or "",
        sasl_username=values.get("sasl_username") or "",
        ingress=ingress,
    )


def _answer(request: _Request, world: _World) -> dict[str, Any]:
    try:
        headers = read_headers(request.file)
        sender = strip_brackets(request.sender) if request.sender is not None else header_sender(headers)
        if request.client_address and client_ip(request.client_address) is None:
            raise ValueError(f"{request.client_address!r} is no IP address")
        mail = _Mail(sender or "", _ingress(request, sender or "", world.settings), headers)
        found = _examine(request, mail.sender, world) if mail.ingress is Ingress.OUTSIDE else Authentication()
    except OSError as error:
        return {"file": request.file, "error": error.strerror or str(error)}
    except ValueError as error:
        # Also: a NUL byte or a lone surrogate is in no file's name.
        return {"file": request.file, "error": str(error)}
    facts, decision = _decided(request, mail, found, world)
    if sender is None:
        reasons = ("the message tells no sender (--sender): taken for the null reverse-path", *decision.reasons)
        decision = dataclasses.replace(decision, reasons=reasons)
    return _result(request, facts, decision, found, world.settings)


def _ingress(request: _Request, sender: str, settings: Settings) -> Ingress:
    if request.ingress is not None:
        return request.ingress
    is_ours = bool(request.sasl_username) or settings.is_accepted_domain(domain_of(sender))
    return Ingress.SUBMISSION if is_ours else Ingress.OUTSIDE


def _examine(request: _Request, sender: str, world: _World) -> Authentication:
    """Return what SPF, DKIM and DMARC say about a message in a file, as if it arrived now."""
    if world.authenticator is None:
        is_enabled = world.settings.authentication.enabled
        return Authentication(authenticated=_NOT_LOOKED_UP if is_enabled else NOT_ASKED)
    fields, body = read_raw(request.file)
    header = HeaderFields()
    for name, value in fields:
        header.add(name, value)
    examination = world.authenticator.examine(
        client_address=request.client_address, helo_name=request.helo, envelope_sender=sender
    )
    examination.take_header(header)
    with contextlib.closing(body):
        for chunk in body:
            if not examination.feed(chunk):
                break
    return examination.finish()


def _decided(request: _Request, mail: _Mail, found: Authentication, world: _World) -> tuple[MessageFacts, Decision]:
    settings = world.settings
    with MessageSpool(settings.spam.size_limit) as spool:
        message = _collected(request, mail, settings, spool if scan_is_possible(settings) else None)
        facts = _facts(request, mail, found, message, world)
        if world.scanners is None:
            return facts, classify(dataclasses.replace(facts, size_bytes=message.size_bytes), settings)
        is_express, spam = settings.profile == "express", settings.spam
        timeout_seconds = spam.first_pass_timeout_seconds if is_express else spam.timeout_seconds
        return decide(facts, message, Connection(), _Asking(settings, world.scanners), timeout_seconds)


def _facts(
    request: _Request, mail: _Mail, found: Authentication, message: CollectedMessage, world: _World
) -> MessageFacts:
    settings, sender, ingress = world.settings, mail.sender, mail.ingress
    account = smtp_account(
        ingress,
        sasl_username=request.sasl_username or sender,
        client_address=request.client_address,
        envelope_sender=sender,
        settings=settings,
    )
    origin = Origin(
        ingress=ingress,
        account=account or (user_account(os.getuid()) if ingress is Ingress.LOCAL else ""),
        envelope_sender=sender,
        client_address=request.client_address,
        helo_name=request.helo,
        over_limit=NOT_ASKED,
        spam=spam_evidence(message.headers, settings.spam.headers),
    )
    origin = with_authentication(origin, found)
    return MessageFacts(
        envelope_sender=sender,
        recipients=request.recipients,
        headers=message.headers,
        kind=message.kind,
        origin=origin,
        sender_domain_has_mx_or_address=_look_up(sender, world.sender_domains),
        rewritten_sender=sender_of(sender, origin, world.rewriter).rewritten if world.authenticator else None,
    )


def _collected(request: _Request, mail: _Mail, settings: Settings, spool: MessageSpool | None) -> CollectedMessage:
    """Return a message with the same selection and bounds as in the milter, so that both decide alike."""
    collector = MessageCollector(mail.sender, spam_signs=settings.spam.headers, spool=spool)
    for recipient in request.recipients:
        collector.add_recipient(recipient)
    for name, value in mail.headers.fields:
        collector.add_header(name, value)
    collector.end_header()
    if collector.wants_body or spool:
        _fields, body = read_raw(request.file)
        with contextlib.closing(body):
            for chunk in body:
                if not collector.add_body(chunk):
                    break
    return collector.end("")


def _look_up(sender: str, dns: SenderDomains | None) -> Finding:
    if dns is None or not sender:
        return NOT_ASKED
    domain = domain_of(sender)
    return dns.wait(dns.start(domain), domain)


def _result(
    request: _Request,
    facts: MessageFacts,
    decision: Decision,
    found: Authentication,
    settings: Settings,
) -> dict[str, Any]:
    leaves_as = leaving_sender(facts, settings)
    return {
        "file": request.file,
        "pool": None if decision.refusal else decision.pool,
        "rule": decision.rule,
        "reasons": list(decision.reasons),
        "ndr": facts.kind.is_dsn,
        "kind": facts.kind.kind.value,
        "authentication": _authentication(found),
        "srs_sender": leaves_as if leaves_as != facts.envelope_sender else None,
        "not_asked": [*decision.not_asked, *_not_looked_up(decision, found)],
        "refused": decision.refusal is not None,
        "hold": decision.hold,
    }


def _not_looked_up(decision: Decision, found: Authentication) -> list[str]:
    """Return the rule that would have asked whether the sender is legitimate."""
    return [FORWARDED] if decision.rule in (FORWARDED, UNDECIDED) and found.authenticated == _NOT_LOOKED_UP else []


def _authentication(found: Authentication) -> dict[str, str]:
    if found.authenticated in (NOT_ASKED, _NOT_LOOKED_UP):
        return dict.fromkeys(("spf", "dkim", "dmarc"), "not_asked")
    return {"spf": found.spf.result, "dkim": found.dkim_result, "dmarc": found.dmarc.result}


def _print(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
    elif "error" in result:
        print(f"{result['file']}: {result['error']}", file=sys.stderr)
    else:
        reasons = "; ".join(result["reasons"])
        not_asked = "".join(f"; not asked: {names}" for names in _by_option(result["not_asked"]))
        print(f"{result['file']}: {_outcome(result)} ({result['rule']}: {reasons}){not_asked}")


def _outcome(result: Mapping[str, Any]) -> str:
    """Return what would become of the message, in words."""
    if result["refused"]:
        return "refused"
    return f"{result['pool']}, on hold" if result["hold"] else result["pool"] or "undecided"


def _by_option(not_asked: Sequence[str]) -> Iterator[str]:
    """Yield the rules that were not asked, with the option by which they are."""
    of_scanners = [name for name in not_asked if name in (MALWARE, SPAM)]
    of_dns = [name for name in not_asked if name not in of_scanners]
    for names, option in ((of_scanners, "--scan live"), (of_dns, "--dns live")):
        if names:
            yield f"{', '.join(names)} ({option})"
