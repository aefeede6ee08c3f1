"""Lines of a mail log, in Postfix's own form, for the tests of the audit."""

import calendar

from deliverypools.core.audit.lines import read_line
from deliverypools.core.audit.times import LogTimes

NOW = 1_795_352_709.0  # 2026-11-22 13:05:09 UTC
QUEUE_ID = "4jXRH70hlRzJs3l"


def utc_minute(minute):
    return float(calendar.timegm((*minute, 0)))


def times(now=NOW):
    return LogTimes(now, utc_minute)


def line(program, text, *, when="2026-11-22T13:00:00.000000+00:00", host="mx"):
    return f"{when} {host} {program}[123]: {text}"


def delivery(
    transport="postfix/pool-normal/smtp",
    *,
    queue_id=QUEUE_ID,
    recipient="bob@example.com",
    relay="mx.example.com[198.51.100.25]:25",
    status="sent",
    said="250 2.0.0 Ok",
    **where,
):
    fields = (
        f"to=<{recipient}>, relay={relay}, delay=0.3, delays=0.1/0.1/0.05/0.05, dsn=2.0.0, status={status} ({said})"
    )
    return line(transport, f"{queue_id}: {fields}", **where)


def begun(queue_id=QUEUE_ID, **where):
    return line("postfix/cleanup", f"{queue_id}: message-id=<1@example.org>", **where)


def removed(queue_id=QUEUE_ID, **where):
    return line("postfix/qmgr", f"{queue_id}: removed", **where)


def tagged(pool, queue_id=QUEUE_ID, **where):
    header = f"milter-header-filter: header X-Delivery-Pool: {pool} from unknown[127.0.0.1]; from=<a@example.org>"
    return line("postfix/egress-in/cleanup", f"{queue_id}: {header} to=<b@example.com>: pool-{pool}:", **where)


def event(text):
    return read_line(text, times()).event
