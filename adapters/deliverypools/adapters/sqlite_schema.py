"""The tables of the state in a SQLite file."""

from __future__ import annotations

from typing import Final

from deliverypools.adapters import sqlite_counters

VERSION: Final = 2
SCHEMA: Final = (
    sqlite_counters.SCHEMA
    + """
DROP TABLE IF EXISTS reservations;
DROP TABLE IF EXISTS charges;
CREATE TABLE reservations (
    queue_id TEXT PRIMARY KEY, instance TEXT NOT NULL, tally BLOB NOT NULL, used TEXT NOT NULL,
    entries TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX reservations_by_expiry ON reservations (expires_at);
CREATE TABLE once (
    name TEXT PRIMARY KEY, tally BLOB NOT NULL, used TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX once_by_expiry ON once (expires_at);
CREATE TABLE seen (
    name TEXT NOT NULL, member TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (name, member)
) WITHOUT ROWID;
CREATE INDEX seen_by_expiry ON seen (expires_at);
CREATE TABLE IF NOT EXISTS ticket_uses (
    ticket_id TEXT NOT NULL, queue_id TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (ticket_id, queue_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ticket_uses_by_expiry ON ticket_uses (expires_at);
CREATE TABLE IF NOT EXISTS sender_domains (
    domain TEXT PRIMARY KEY, answer TEXT NOT NULL, evidence TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sender_domains_by_expiry ON sender_domains (expires_at);
CREATE TABLE restrictions (
    account TEXT NOT NULL, ingress TEXT NOT NULL, since REAL NOT NULL, until REAL, reason TEXT NOT NULL,
    PRIMARY KEY (account, ingress)
) WITHOUT ROWID;
CREATE TABLE releases (
    account TEXT NOT NULL, day TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (account, day)
) WITHOUT ROWID;
CREATE INDEX releases_by_expiry ON releases (expires_at);
CREATE TABLE endings (
    account TEXT NOT NULL, ingress TEXT NOT NULL, at REAL NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (account, ingress, at)
) WITHOUT ROWID;
CREATE INDEX endings_by_expiry ON endings (expires_at);
CREATE TABLE decisions (
    queue_id TEXT NOT NULL, host TEXT NOT NULL, pass_name TEXT NOT NULL, at REAL NOT NULL, ingress TEXT NOT NULL,
    account TEXT NOT NULL, pool TEXT NOT NULL, rule TEXT NOT NULL, reasons TEXT NOT NULL,
    envelope_sender TEXT NOT NULL, recipients INTEGER NOT NULL, client_address TEXT NOT NULL, subject TEXT NOT NULL,
    message_id TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (queue_id, host)
) WITHOUT ROWID;
CREATE INDEX decisions_by_account ON decisions (account, at) WHERE account <> '';
CREATE INDEX decisions_by_expiry ON decisions (expires_at);
CREATE TABLE notices (
    notice_id INTEGER PRIMARY KEY, channel TEXT NOT NULL, payload TEXT NOT NULL, attempts INTEGER NOT NULL,
    due_at REAL NOT NULL
);
CREATE INDEX notices_by_time ON notices (due_at);
"""
)
PRUNED: Final = {
    "counters": "key, bucket",
    "once": "name",
    "seen": "name, member",
    "ticket_uses": "ticket_id, queue_id",
    "sender_domains": "domain",
    "releases": "account, day",
    "endings": "account, ingress, at",
    "decisions": "queue_id, host",
}
"""Tables whose rows expire, with their keys."""
