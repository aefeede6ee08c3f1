"""`delivery-pools check --live`: probes through the running Postfix, and by which address each of them came."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from deliverypools.adapters.key_file import read_keys
from deliverypools.adapters.key_lines import KeyFileError
from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.adapters.probe_log import ProbeLog
from deliverypools.adapters.probe_mail import MAILDROP, WAITING, ProbeError, ProbeMail, Queued
from deliverypools.adapters.probe_sink import ProbeSink, SinkError
from deliverypools.adapters.seal import TicketSealer
from deliverypools.cli.exits import FAILED, OK
from deliverypools.cli.postfix_findings import as_text
from deliverypools.core.checks_reference import PROBES_ARE_COPIED
from deliverypools.core.host_check.facts import families_of
from deliverypools.core.host_check.live import (
    Outcome,
    Result,
    Wanted,
    copies_outside,
    judge_probe,
    paused_transports,
    probes_for,
    starts_tls_at_once,
)
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.probe import DOMAIN
from deliverypools.core.settings import Settings

_LOOK: Final = "; `delivery-pools check` says what is wrong with Postfix, addresses and daemons"
_IN_MAILDROP: Final = (
    "it is in the maildrop: Postfix does not run (postfix status), or cannot ask the milter (systemctl status"
    " delivery-pools-milter)"
)
_WHO_MAY_SEND: Final = {"authorized_submit_users": "static:anyone", "local_login_sender_maps": "static:*"}
"""Each with its default."""
_DEADLINE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_FIRST_LOOK_SECONDS: Final = 2.0
"""Probes that go well are there by then; listing a long queue costs something."""
_LONGEST_PAUSE_SECONDS: Final = 8.0
_GONE_AFTER_LOOKS: Final = 2
"""One look can miss a message that is on its way from one queue to another."""


def live_check(settings: Settings, site: Site, config_directory: str | None, *, as_json: bool) -> int:
    """Send the probes, print what became of each, and return the exit status."""
    if copies := _copies(site, config_directory):
        print(f"no probe was sent\n{as_text(replace(PROBES_ARE_COPIED, found='; '.join(copies)))}", file=sys.stderr)
        return FAILED
    log = ProbeLog(site.postfix.value("maillog_file"))
    try:
        sealer = TicketSealer(read_keys(settings.ticket_key_file))
        results = asyncio.run(_probed(site, ProbeMail(settings, sealer, config_directory), log))
    except KeyFileError as error:
        print(f"check --live needs the ticket keys: {error}; run it as root", file=sys.stderr)
        return FAILED
    except (ProbeError, SinkError) as error:
        print(f"check --live: {error}; it needs {_needs(site)}{_LOOK}", file=sys.stderr)
        return FAILED
    print(_as_json(results) if as_json else _as_table(results))
    return OK if all(one.outcome is Outcome.RIGHT for one in results) else FAILED


def _copies(site: Site, config_directory: str | None) -> list[str]:
    """Return who outside would get copies of probes; once each."""
    keys = (f"probe@{DOMAIN}", f"@{DOMAIN}")
    reader = PostfixReader(config_directory)
    return list(dict.fromkeys(copies_outside(site, lambda tables: reader.answer(tables, keys))))


def _needs(site: Site) -> str:
    """Return what sendmail(1) has to find; what a site has changed about who may send with it, by name."""
    own = [
        f"{parameter} = {value}"
        for parameter, default in _WHO_MAY_SEND.items()
        if (value := site.postfix.value(parameter)) not in (default, "")
    ]
    return "a running Postfix, and root" + (
        f" - whom this has to let send, with an empty sender: {', '.join(own)}" if own else ""
    )


async def _probed(site: Site, mail: ProbeMail, log: ProbeLog) -> list[Result]:
    probes = probes_for(site.settings, families_of(site))
    async with ProbeSink() as sink:
        ports = [await sink.open_door(wanted.family, tls_at_once=starts_tls_at_once(site, wanted)) for wanted in probes]
        waiting: Mapping[int, Queued] = {}
        try:
            for number, (wanted, port) in enumerate(zip(probes, ports, strict=True)):
                await asyncio.to_thread(mail.send, number, wanted, port)
            waiting = await _until_settled(sink, ports, mail)
        finally:
            # While the sink still listens: nowhere else may they go.
            left = await asyncio.to_thread(mail.queued, len(probes))
            await asyncio.to_thread(mail.remove, [one.queue_id for one in left.values()])
        reasons = {number: _why_it_waits(one) for number, one in waiting.items()}
        failed, paused = await asyncio.to_thread(log.failed_by), paused_transports(site)
        return [
            judge_probe(
                wanted, sink.seen(port), reasons.get(number, ""), failed.get(mail.recipient(number), ""), paused
            )
            for number, (wanted, port) in enumerate(zip(probes, ports, strict=True))
        ]


def _why_it_waits(probe: Queued) -> str:
    if probe.queue_name == MAILDROP:
        return _IN_MAILDROP
    return probe.reason or f"it is in the queue {probe.queue_name}"


async def _until_settled(sink: ProbeSink, ports: Sequence[int], mail: ProbeMail) -> Mapping[int, Queued]:
    """Return the probes that wait in the queue, as soon as nothing more can be expected to happen, or in a minute."""
    started = time.monotonic()
    next_look, pause, quiet = started + _FIRST_LOOK_SECONDS, _FIRST_LOOK_SECONDS, 0
    queued: Mapping[int, Queued] = {}
    while not _all_arrived(sink, ports) and quiet < _GONE_AFTER_LOOKS:
        await asyncio.sleep(_POLL_SECONDS)
        now = time.monotonic()
        if now < next_look:
            continue
        queued = await asyncio.to_thread(mail.queued, len(ports))
        if now - started > _DEADLINE_SECONDS:
            break
        # One that was deferred before, and is being tried again, has its reason still.
        quiet = quiet + 1 if all(one.queue_name in WAITING or one.reason for one in queued.values()) else 0
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS) if quiet == 0 else _FIRST_LOOK_SECONDS / 2
        next_look = now + pause
    return queued


def _all_arrived(sink: ProbeSink, ports: Sequence[int]) -> bool:
    return all((seen := sink.seen(port)) is not None and seen.header is not None for port in ports)


def _as_table(results: Sequence[Result]) -> str:
    rows = [("transport", "IP", "source address", "HELO name", "verdict")]
    rows += [(one.wanted.transport, f"v{one.wanted.family}", *_seen(one), _verdict(one)) for one in results]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    wrong = sum(one.outcome is not Outcome.RIGHT for one in results)
    end = f"{wrong} of {len(results)} probes went wrong{_LOOK}" if wrong else f"all {len(results)} probes went right"
    return "\n".join([*lines, end])


def _seen(result: Result) -> tuple[str, str]:
    return (result.seen.source, result.seen.helo) if result.seen else ("-", "-")


def _verdict(result: Result) -> str:
    wanted = result.wanted
    if result.outcome is Outcome.NOT_TESTED:
        return f"{result.outcome.value}: nothing came, and no log tells that {wanted.transport} has tried" + (
            f": {result.reason}" if result.reason else ""
        )
    expected = {
        Outcome.WRONG_ADDRESS: f"{wanted.address or 'nothing'} was expected",
        Outcome.WRONG_HELO: f"{wanted.helo} was expected",
    }.get(result.outcome, "")
    if result.outcome is Outcome.RIGHT and result.seen is None:
        return "right: the pool has no such address, and nothing came"
    said = ": ".join(text for text in (result.outcome.value, expected, result.reason) if text)
    return said if result.outcome is not Outcome.RIGHT else result.outcome.value


def _as_json(results: Sequence[Result]) -> str:
    return json.dumps({"probes": [_row(one.wanted, one) for one in results]})


def _row(wanted: Wanted, result: Result) -> dict[str, object]:
    return {
        "pool": wanted.pool,
        "transport": wanted.transport,
        "family": wanted.family,
        "expected_address": str(wanted.address) if wanted.address else None,
        "expected_helo": wanted.helo,
        "source_address": result.seen.source if result.seen else None,
        "helo": result.seen.helo if result.seen else None,
        "verdict": result.outcome.value,
        "reason": result.reason,
    }
