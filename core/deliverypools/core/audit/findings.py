"""What an audit finds, in words, and what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What is wrong with a delivery. Each is a failure."""

    WRONG_POOL = "wrong_pool"
    OUTSIDE_POOLS = "outside_pools"
    TRIPWIRE_DELIVERED = "tripwire_delivered"
    HOP_CLIENT_ASTRAY = "hop_client_astray"
    PROBE_OUTSIDE_POOLS = "probe_outside_pools"
    NO_DECISION = "no_decision"
    ROW_LOST = "row_lost"
    BEFORE_DECISION_LOG = "before_decision_log"
    UNREADABLE = "unreadable"


UNKNOWN: Final = frozenset((Kind.NO_DECISION, Kind.ROW_LOST, Kind.BEFORE_DECISION_LOG, Kind.UNREADABLE))
"""Nothing is known to have left by a wrong address, nor that it did not."""

MEANINGS: Final = {
    Kind.WRONG_POOL: "it went to another pool's transport than was decided, so it leaves by a wrong address:"
    " see the FILTER rules in tag_checks, and the pool transports in master.cf",
    Kind.OUTSIDE_POOLS: "it reached another host by a transport that is no pool's, so from an address that nobody"
    " decided: see transport_maps, relayhost, sender_dependent_* maps, and FILTER in checks. If that server is yours,"
    " name the transport with --inside",
    Kind.TRIPWIRE_DELIVERED: "the transports smtp and relay are to deliver nothing, and this one reached a server:"
    " put the tripwires of the example back into master.cf. (A transport of your own without"
    " -o syslog_name=postfix/$service_name is called smtp in the log, too.)",
    Kind.HOP_CLIENT_ASTRAY: "the hop's client delivered to another server than the listener, so nothing was decided:"
    " see transport_maps and relayhost for entries without a transport",
    Kind.PROBE_OUTSIDE_POOLS: "an address was verified from an address that is no pool's:"
    " see address_verify_default_transport, address_verify_relay_transport and transport_maps",
    Kind.NO_DECISION: "it left by a pool, and no decision about it is on record: it passed the milter by,"
    " or its row was lost",
    Kind.ROW_LOST: "its tag chose this pool, but the decision itself is not on record: the state was lost, or could"
    " not be written then",
    Kind.BEFORE_DECISION_LOG: "it is older than the decision log, or that is empty: nothing is known about it",
    Kind.UNREADABLE: "a delivery agent wrote about a recipient what this version does not understand",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A delivery that is wrong, or cannot be proved right. Its texts may hold anything."""

    kind: Kind
    queue_id: str
    host: str
    at: float | None
    """Seconds since the epoch."""
    recipient: str
    transport: str
    relay: str
    status: str
    decided: str
    """The pool that was decided; "" if that is not known."""
    rule: str


@dataclass(slots=True)
class PoolCounts:
    """What became of the messages of one pool."""

    messages: int = 0
    """Queue files."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Attempts, one for each recipient, by how they ended: "sent", "deferred", "bounced"."""
    sent_by: Counter[str] = field(default_factory=Counter)
    """Recipients that were reached, by transport."""


@dataclass(slots=True)
class Counts:
    """What an audit has seen."""

    lines: int = 0
    not_understood: int = 0
    """Lines that are no lines of a log."""
    headless: int = 0
    """Lines that look like deliveries, with a beginning that is not understood. They were not audited."""
    headless_example: str = ""
    """The first of them, printable and bounded; "" if there is none."""
    of_postfix: int = 0
    begins: float | None = None
    ends: float | None = None
    """The earliest and the latest time, in seconds since the epoch."""
    pools: dict[str, PoolCounts] = field(default_factory=dict)
    """By the pool that was decided; "" where that is not known."""
    transports: dict[str, Counter[str]] = field(default_factory=dict)
    """Attempts of every transport, by status."""
    before_installation: int = 0
    """Deliveries by transports that are no pool's, of a time when there were no pools: no failures."""
    internal_outside: Counter[str] = field(default_factory=Counter)
    """Attempts of `internal` at servers that are not known to be ours, by recipient's domain and server: no failures,
    since such a server may be yours all the same; all are shown."""
    probes: int = 0
    undecided: int = 0
    """Queue files that left by high-risk because they could not be decided in time."""
    caught: int = 0
    """Attempts that a tripwire has stopped."""
    astray: int = 0
    """Attempts by a transport that is no pool's, which reached no server."""
    held: int = 0
    discarded: int = 0
    expired: int = 0
    requeued: int = 0
    failures: Counter[Kind] = field(default_factory=Counter)
    forgotten: int = 0
    """Queue files that were forgotten because too many were open at once."""
