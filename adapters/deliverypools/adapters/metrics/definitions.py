"""Everything that is measured, by name. `docs/metrics.md` is made from it; dashboard and alert rules are tested by it.

Values of labels come from the closed sets that stand here (and the names of pools from the settings), never from mail:
who sends us mail must not be able to fill the memory of a Prometheus server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deliverypools.adapters.state import State
from deliverypools.core.decisions import HIGH_RISK, NORMAL, REFUSED_TAG, RELAY, UNDECIDED
from deliverypools.core.facts import Ingress
from deliverypools.core.probe import RULE as PROBE
from deliverypools.core.records import DECIDING_PASSES, FIRST_PASS
from deliverypools.core.rules import RULES, rule_name
from deliverypools.core.scanning.answers import Scanner, ScanVerdict

PREFIX: Final = "delivery_pools_"
OTHER: Final = "other"
"""Stands for a value that is in no closed set."""

_QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)
_SLOW: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAITING: Final = (10.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0)


class Kind(StrEnum):
    """What Prometheus calls the type of a metric."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Label:
    """A label, and the values that it can have."""

    name: str
    values: frozenset[str]
    has_pools: bool = False
    """Whether the names of the operator's own pools are among them."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric; its identity is what it is found by."""

    name: str
    """Without `PREFIX`."""
    kind: Kind
    text: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, in seconds."""
    from_zero: tuple[tuple[str, ...], ...] = ()
    """Series of a counter with many that are shown before anything was counted, so that an alert sees the first."""

    @property
    def full_name(self) -> str:
        """Return the name that Prometheus knows."""
        return PREFIX + self.name


def _label(name: str, *values: str, has_pools: bool = False) -> Label:
    return Label(name, frozenset((*values, OTHER)), has_pools)


_PASS: Final = _label("pass", FIRST_PASS, *DECIDING_PASSES)
_POOL: Final = _label("pool", NORMAL, HIGH_RISK, RELAY, REFUSED_TAG, UNDECIDED, has_pools=True)
_RULE: Final = _label("rule", *map(rule_name, RULES), UNDECIDED, PROBE)
_OPERATION: Final = _label("operation", *(name for name in vars(State) if not name.startswith("_")))
_SCANNER: Final = _label("scanner", *Scanner)
_STAGE: Final = _label("stage", "RCPT", "END-OF-MESSAGE")
_CHANNEL: Final = _label("channel", "mail", "webhook")

NO_TICKET: Final = "missing"
TICKET_REASONS: Final = {
    "no ticket": NO_TICKET,
    "more than one ticket": "several",
    "ticket not made by us": "forged",
    "ticket of another message": "other_message",
    "ticket is too old": "too_old",
    "ticket of another version": "unreadable",
    "ticket content": "unreadable",
    "ticket was used too often": "used_too_often",
}
"""How the text of a `TicketError` begins, and the reason that is counted."""

LIMIT_NAMES: Final = (
    "external_recipients_per_hour",
    "internal_recipients_per_hour",
    "recipients_per_day",
    "messages_per_minute",
    "recipients_per_message",
    "external_recipients_per_tenant_per_day",
    "verdicts_per_account_per_hour",
    "verdicts_per_tenant_per_hour",
    "first_time_recipients_per_day",
    "client_addresses_per_hour",
    "refused_recipients_percent",
)

DECISIONS: Final = Metric(
    "decisions_total",
    Kind.COUNTER,
    "Messages by pool and rule, as in the log. A message that waits counts each time it is tried (pool `undecided`).",
    (_PASS, _POOL, _RULE),
    from_zero=tuple((name, pool, UNDECIDED) for name in DECIDING_PASSES for pool in (UNDECIDED, HIGH_RISK)),
)
MESSAGES: Final = Metric(
    "messages_total",
    Kind.COUNTER,
    "Messages that came in, by how they did: counted in the first pass, or in the express pass.",
    (_label("ingress", *Ingress, "unknown"),),
)
REPLIES: Final = Metric(
    "replies_total",
    Kind.COUNTER,
    "What the milter answered at the end of messages.",
    (_PASS, _label("reply", "continue", "tempfail", "reject", "discard")),
)
END_OF_MESSAGE: Final = Metric(
    "end_of_message_seconds",
    Kind.HISTOGRAM,
    "How long Postfix waited for the milter at the end of a message: look-ups, scanners and state included.",
    (_PASS,),
    _SLOW,
)
WAITED: Final = Metric(
    "waited_seconds",
    Kind.HISTOGRAM,
    "Age of a message, since this host accepted it, when the egress pass decided it or put it off.",
    (_label("outcome", "decided", UNDECIDED),),
    _WAITING,
)
EXCEPTIONS: Final = Metric(
    "exceptions_total",
    Kind.COUNTER,
    "Untrapped exceptions: mistakes of this program. The log has the traceback; the message is tried again.",
    (
        _label(
            "callback",
            "connect",
            "hello",
            "envfrom",
            "envrcpt",
            "data",
            "header",
            "eoh",
            "body",
            "eom",
            "abort",
            "close",
        ),
    ),
)
TICKETS_REFUSED: Final = Metric(
    "tickets_refused_total",
    Kind.COUNTER,
    "Messages in the egress pass without a ticket that can be believed. `missing`: what passed no first pass.",
    (_label("reason", *TICKET_REASONS.values()),),
)
OVER_LIMIT: Final = Metric(
    "over_limit_total",
    Kind.COUNTER,
    "Messages beyond a limit, by the setting; one may be beyond several.",
    (_label("limit", *LIMIT_NAMES),),
)
DROPPED: Final = Metric(
    "notices_dropped_total",
    Kind.COUNTER,
    "Notices of this Postfix that were not sent, because the sender is forged (`bounces.drop_backscatter`).",
)
DNS_SECONDS: Final = Metric(
    "dns_seconds",
    Kind.HISTOGRAM,
    "Questions to the DNS that no cache could answer. `failure`: SERVFAIL and the like; `silent`: no answer in time.",
    (_label("result", "found", "none", "failure", "silent", "overload"),),
    _SLOW,
)
STATE_SECONDS: Final = Metric(
    "state_seconds",
    Kind.HISTOGRAM,
    "Calls of the shared state (SQLite or Redis), failed ones included.",
    (_OPERATION,),
    _QUICK,
)
STATE_FAILURES: Final = Metric(
    "state_failures_total", Kind.COUNTER, "Calls of the shared state that failed.", (_OPERATION,)
)
SCANNER_ANSWERS: Final = Metric(
    "scanner_answers_total",
    Kind.COUNTER,
    "What scanners said. `unknown`: no verdict: it failed, was busy, or is left alone after failures.",
    (_SCANNER, _label("verdict", *ScanVerdict)),
)
SCANNER_SECONDS: Final = Metric(
    "scanner_seconds", Kind.HISTOGRAM, "How long scanners took for their answers.", (_SCANNER,), _SLOW
)
POLICY_ANSWERS: Final = Metric(
    "policy_answers_total",
    Kind.COUNTER,
    "What the policy service answered. `prepend` marks a client that a backscatter list names.",
    (_STAGE, _label("action", "dunno", "reject", "prepend")),
)
POLICY_SECONDS: Final = Metric(
    "policy_seconds", Kind.HISTOGRAM, "How long Postfix waited for the policy service.", (_STAGE,), _QUICK
)
SOCKETMAP_ANSWERS: Final = Metric(
    "socketmap_answers_total",
    Kind.COUNTER,
    "Look-ups of SRS addresses, by the status of the answer.",
    (_label("status", "OK", "NOTFOUND", "TEMP", "PERM"),),
)
ALERTS: Final = Metric(
    "alerts_total",
    Kind.COUNTER,
    "Alerts by what became of them; `failed` ones are tried again for a day, then `given_up`.",
    (_CHANNEL, _label("outcome", "sent", "failed", "given_up")),
)
WORKER_ENDS: Final = Metric(
    "worker_ends_total",
    Kind.COUNTER,
    "Milter workers that ended without being told to; another one was started.",
    (_label("how", "signal", "exit"),),
)

ALERTS_WAITING: Final = Metric(
    "alerts_waiting", Kind.GAUGE, "Alerts that could not be sent yet, since the policy daemon started."
)
RESTRICTIONS: Final = Metric(
    "restrictions",
    Kind.GAUGE,
    "Restrictions in force (an account may have one for each way of sending), by what ends them. At most 15 s old.",
    (_label("ends", "by_itself", "by_hand"),),
)
STATE_UP: Final = Metric("state_up", Kind.GAUGE, "1 if the shared state could be read for this answer, else 0.")
PROCESSES: Final = Metric(
    "processes",
    Kind.GAUGE,
    "Processes that gave numbers in the last 30 s; the masters of the milter are not among them.",
    (_label("role", "worker", "policy"),),
)
SHADOW: Final = Metric("shadow_mode", Kind.GAUGE, "1 if the setting `shadow` is on: mail leaves by normal, whatever.")
FAST_PATH_OPEN: Final = Metric(
    "fast_path_open",
    Kind.GAUGE,
    "1 if mail with recipients outside only may skip the hop, 0 if all mail takes it (docs/fast-path.md).",
)
BUILD: Final = Metric("build_info", Kind.GAUGE, "Always 1; the label is the version.", (Label("version", frozenset()),))

METRICS: Final[tuple[Metric, ...]] = (
    DECISIONS,
    MESSAGES,
    REPLIES,
    END_OF_MESSAGE,
    WAITED,
    EXCEPTIONS,
    TICKETS_REFUSED,
    OVER_LIMIT,
    DROPPED,
    DNS_SECONDS,
    STATE_SECONDS,
    STATE_FAILURES,
    SCANNER_ANSWERS,
    SCANNER_SECONDS,
    POLICY_ANSWERS,
    POLICY_SECONDS,
    SOCKETMAP_ANSWERS,
    ALERTS,
    WORKER_ENDS,
    ALERTS_WAITING,
    RESTRICTIONS,
    STATE_UP,
    PROCESSES,
    FAST_PATH_OPEN,
    SHADOW,
    BUILD,
)
