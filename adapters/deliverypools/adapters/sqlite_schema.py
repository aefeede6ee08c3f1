"""The tables of the state in a SQLite file, and how a file of an older version gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from deliverypools.adapters import sqlite_counters

_VERSION_3: Final = (
    sqlite_counters.SCHEMA
    + """
DROP TABLE IF EXISTS reservations;
DROP TABLE IF EXISTS charges;
DROP TABLE IF EXISTS decisions;
CREATE TABLE reservations (
    queue_id TEXT PRIMARY KEY, instance TEXT NOT NULL, tally BLOB NOT NULL, used TEXT NOT NULL,
    entries TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX reservations_by_expiry ON reservations (expires_at);
CREATE TABLE IF NOT EXISTS once (
    name TEXT PRIMARY KEY, tally BLOB NOT NULL, used TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS once_by_expiry ON once (expires_at);
CREATE TABLE IF NOT EXISTS seen (
    name TEXT NOT NULL, member TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (name, member)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_by_expiry ON seen (expires_at);
CREATE TABLE IF NOT EXISTS ticket_uses (
    ticket_id TEXT NOT NULL, queue_id TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (ticket_id, queue_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ticket_uses_by_expiry ON ticket_uses (expires_at);
CREATE TABLE IF NOT EXISTS sender_domains (
    domain TEXT PRIMARY KEY, answer TEXT NOT NULL, evidence TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sender_domains_by_expiry ON sender_domains (expires_at);
CREATE TABLE IF NOT EXISTS restrictions (
    account TEXT NOT NULL, ingress TEXT NOT NULL, since REAL NOT NULL, until REAL, reason TEXT NOT NULL,
    PRIMARY KEY (account, ingress)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS releases (
    account TEXT NOT NULL, day TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (account, day)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS releases_by_expiry ON releases (expires_at);
CREATE TABLE IF NOT EXISTS endings (
    account TEXT NOT NULL, ingress TEXT NOT NULL, at REAL NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (account, ingress, at)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS endings_by_expiry ON endings (expires_at);
CREATE TABLE decisions (
    queue_id TEXT NOT NULL, host TEXT NOT NULL, pass_name TEXT NOT NULL, at REAL NOT NULL, ingress TEXT NOT NULL,
    account TEXT NOT NULL, pool TEXT NOT NULL, rule TEXT NOT NULL, reasons TEXT NOT NULL,
    envelope_sender TEXT NOT NULL, recipients INTEGER NOT NULL, client_address TEXT NOT NULL, subject TEXT NOT NULL,
    message_id TEXT NOT NULL, went_on INTEGER NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (queue_id, host)
) WITHOUT ROWID;
CREATE INDEX decisions_by_account ON decisions (account, at) WHERE account <> '';
CREATE INDEX decisions_by_expiry ON decisions (expires_at);
CREATE INDEX decisions_by_message_id ON decisions (message_id, at) WHERE went_on AND message_id <> '';
CREATE TABLE IF NOT EXISTS log_times (keep_seconds REAL PRIMARY KEY, last_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dropped (
    entry_id INTEGER PRIMARY KEY, queue_id TEXT NOT NULL, host TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
    sender TEXT NOT NULL, recipients TEXT NOT NULL, client_address TEXT NOT NULL, reason TEXT NOT NULL,
    original_queue_id TEXT NOT NULL, message_id TEXT NOT NULL, subject TEXT NOT NULL, header_from TEXT NOT NULL,
    first_lines TEXT NOT NULL, expires_at REAL NOT NULL, UNIQUE (queue_id, host)
);
CREATE INDEX IF NOT EXISTS dropped_by_time ON dropped (at, expires_at);
CREATE INDEX IF NOT EXISTS dropped_by_expiry ON dropped (expires_at);
CREATE TABLE IF NOT EXISTS ndrs (
    number INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, at REAL NOT NULL, way TEXT NOT NULL,
    domain TEXT NOT NULL, address TEXT NOT NULL, account TEXT NOT NULL, verdict TEXT NOT NULL, category TEXT NOT NULL,
    client TEXT NOT NULL, remote TEXT NOT NULL, original TEXT NOT NULL, amount INTEGER NOT NULL,
    local_parts INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS ndrs_by_time ON ndrs (at);
CREATE TABLE IF NOT EXISTS notices (
    notice_id INTEGER PRIMARY KEY, channel TEXT NOT NULL, payload TEXT NOT NULL, attempts INTEGER NOT NULL,
    due_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS notices_by_time ON notices (due_at);
"""
)
STEPS: Final[Mapping[int, str]] = {
    3: _VERSION_3,
    4: "ALTER TABLE ndrs ADD COLUMN reply TEXT NOT NULL DEFAULT '';",
    5: """
CREATE TABLE IF NOT EXISTS scans (
    scan_key TEXT PRIMARY KEY, answer TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS scans_by_expiry ON scans (expires_at);
CREATE INDEX IF NOT EXISTS decisions_not_sent ON decisions (message_id, at) WHERE NOT went_on AND message_id <> '';
""",
    6: """
CREATE TABLE IF NOT EXISTS queued (
    host TEXT NOT NULL, queue_id TEXT NOT NULL, at REAL NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (host, queue_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS queued_by_expiry ON queued (expires_at);
""",
    7: """
ALTER TABLE decisions ADD COLUMN leaves_by TEXT NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN details TEXT NOT NULL DEFAULT '';
CREATE TABLE IF NOT EXISTS waiting (
    name TEXT PRIMARY KEY, row TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_by_expiry ON waiting (expires_at);
""",
}
"""What makes a version of the one before it; a new file is taken through all of them."""
VERSION: Final = max(STEPS)
PRUNED: Final = {
    "counters": "key, bucket",
    "once": "name",
    "seen": "name, member",
    "ticket_uses": "ticket_id, queue_id",
    "sender_domains": "domain",
    "releases": "account, day",
    "endings": "account, ingress, at",
    "decisions": "queue_id, host",
    "dropped": "entry_id",
    "scans": "scan_key",
    "queued": "host, queue_id",
    "waiting": "name",
}
"""Tables whose rows expire, with their keys."""
