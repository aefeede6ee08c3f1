"""What an audit makes of a log and a decision log."""

import pytest
from audit_lines import NOW, QUEUE_ID, begun, delivery, line, removed, tagged, times

from deliverypools.core.audit.findings import MEANINGS, UNKNOWN, Counts, Kind
from deliverypools.core.audit.fold import OTHERS, Audit
from deliverypools.core.audit.lines import read_line
from deliverypools.core.audit.transports import Surroundings
from deliverypools.core.records import DecisionRecord

POOLS = frozenset(("normal", "high-risk", "relay", "bulk", "bulk-2"))
LONG_AGO = 0.0


def row(pool="normal", **changes):
    usual = {
        "queue_id": QUEUE_ID,
        "host": "mx.example.org",
        "pass_name": "egress",
        "at": NOW - 310,
        "ingress": "submission",
        "account": "alice@example.org",
        "pool": pool,
        "rule": "default",
        "reasons": "",
        "envelope_sender": "alice@example.org",
        "recipients": 1,
        "client_address": "",
        "subject": "",
        "message_id": "",
    }
    return DecisionRecord(**usual | changes)


def audited(
    log, *rows, recorded_since=LONG_AGO, since=0.0, installed_at=None, most_open=100, most_findings=100, **site
):
    """Fold lines; `rows` are the decision log."""
    audit = Audit(
        Surroundings(pools=POOLS, **site),
        lambda queue_id: [one for one in rows if one.queue_id == queue_id],
        recorded_since,
        since=since,
        installed_at=installed_at,
        most_open=most_open,
        most_findings=most_findings,
    )
    for text in log:
        audit.add(read_line(text, times()))
    return audit


def kinds(audit):
    return [finding.kind for finding in audit.findings]


def by(transport, **fields):
    return delivery(f"postfix/{transport}", **fields)


@pytest.mark.parametrize(
    ("pool", "transport"),
    [("normal", "pool-normal"), ("high-risk", "pool-high-risk"), ("relay", "pool-relay-2"), ("bulk-2", "pool-bulk-2"),
     ("bulk-2", "pool-bulk-2-1"), ("gone", "pool-gone"), ("gone", "pool-gone-3")],
)  # fmt: skip
@pytest.mark.parametrize("pass_name", ["egress", "express"])
def test_right_pool(pool, transport, pass_name):
    audit = audited([begun(), by(f"{transport}/smtp"), removed()], row(pool, pass_name=pass_name))
    assert (kinds(audit), audit.open_now) == ([], 0)
    counts = audit.counts.pools[pool]
    assert (counts.messages, counts.statuses, counts.sent_by) == (1, {"sent": 1}, {transport: 1})


@pytest.mark.parametrize("status", ["sent", "bounced", "deferred"])
@pytest.mark.parametrize("transport", ["pool-relay", "pool-normal-2x", "pool-normal2", "pool-high-risk-2", "pool-"])
def test_wrong_pool(transport, status):
    (finding,) = audited([by(f"{transport}/smtp", status=status)], row()).findings
    assert (finding.kind, finding.queue_id, finding.recipient) == (Kind.WRONG_POOL, QUEUE_ID, "bob@example.com")
    assert (finding.at, finding.transport, finding.decided, finding.rule) == (NOW - 309, transport, "normal", "default")


def test_what_was_refused_must_not_leave():
    assert kinds(audited([by("pool-normal/smtp")], row("refused"))) == [Kind.WRONG_POOL]
    refused = audited([tagged("refused"), by("error", relay="none", status="bounced")], row("refused"))
    assert (kinds(refused), refused.counts.pools["refused"].statuses) == ([], {"bounced": 1})


class TestInternal:
    """No pool is asked there; whose the server is, only its address, its name and the recipient's domain tell."""

    def ours(self, domain, server):
        return domain == "example.org" or server in ("[10.0.0.5]", "mail.example.org")

    def outside(self, *log):
        audit = audited(log, is_ours=self.ours)
        assert kinds(audit) == []
        return audit.counts.internal_outside

    def test_servers_of_ours(self):
        assert not self.outside(
            by("internal/smtp", recipient="bob@EXAMPLE.org"),
            by("internal/smtp", relay="10.0.0.5[10.0.0.5]:25"),
            by("internal/smtp", relay="mail.example.org[198.51.100.9]:25"),
            by("internal/smtp", relay="none", status="deferred"),
            by("internal/lmtp"),
            by("scan/smtp", relay="127.0.0.1[127.0.0.1]:10024"),
        )

    def test_strangers_are_counted_and_no_failure(self):
        found = self.outside(
            by("internal/smtp"), by("internal/smtp", status="deferred"), by("internal/smtp", recipient="a@b.example")
        )
        assert found == {
            "example.com at mx.example.com[198.51.100.25]:25": 2,
            "b.example at mx.example.com[198.51.100.25]:25": 1,
        }

    def test_they_are_bounded(self):
        found = self.outside(*(by("internal/smtp", recipient=f"a@b{number}.example") for number in range(300)))
        assert (len(found), found[OTHERS]) == (101, 200)


def test_undecided_mail_that_left_by_high_risk_is_counted():
    audit = audited([by("pool-high-risk/smtp")], row("high-risk", rule="undecided"))
    assert (kinds(audit), audit.counts.undecided) == ([], 1)


@pytest.mark.parametrize(
    ("log", "rows", "recorded_since", "kind"),
    [
        ([begun()], [], LONG_AGO, Kind.NO_DECISION),
        ([], [], LONG_AGO, Kind.NO_DECISION),
        ([begun()], [row(pass_name="first", pool="")], LONG_AGO, Kind.NO_DECISION),
        ([begun()], [row("")], LONG_AGO, Kind.NO_DECISION),
        ([begun()], [row(pass_name="first")], LONG_AGO, Kind.NO_DECISION),
        ([begun()], [], NOW - 300, Kind.NO_DECISION),  # recorded_since may be a minute too late
        ([begun()], [], None, Kind.BEFORE_DECISION_LOG),
        ([begun()], [], NOW, Kind.BEFORE_DECISION_LOG),
        ([begun(when="2026-11-20T13:00:00Z")], [], NOW - 3600, Kind.BEFORE_DECISION_LOG),
        ([begun(), tagged("normal")], [], LONG_AGO, Kind.ROW_LOST),
        ([begun(), tagged("normal")], [], None, Kind.ROW_LOST),
        ([begun(), tagged("relay")], [], LONG_AGO, Kind.NO_DECISION),
    ],
)
def test_unknown_is_told_apart(log, rows, recorded_since, kind):
    (finding,) = audited([*log, by("pool-normal/smtp")], *rows, recorded_since=recorded_since).findings
    assert (finding.kind, finding.kind in UNKNOWN, finding.decided) == (kind, True, "")


def test_every_kind_has_a_meaning():
    assert set(MEANINGS) == set(Kind)


def decided_line(pool, rule="default", extra=""):
    return line("delivery-pools", f"{QUEUE_ID}: pass=egress pool={pool}{extra} rule={rule}")


def test_a_line_of_the_milter_stands_in_for_a_lost_row():
    assert kinds(audited([decided_line("normal"), by("pool-normal/smtp")])) == []
    assert kinds(audited([decided_line("relay"), by("pool-normal/smtp")])) == [Kind.WRONG_POOL]


def test_a_row_goes_before_a_line():
    assert kinds(audited([decided_line("relay"), by("pool-relay/smtp")], row("normal"))) == [Kind.WRONG_POOL]


def test_a_line_undecided_decides_nothing():
    assert kinds(audited([decided_line("undecided", "undecided"), by("pool-high-risk/smtp")])) == [Kind.NO_DECISION]


@pytest.mark.parametrize(
    ("log", "shadow", "left_by", "expected"),
    [
        ([], True, "pool-normal", []),
        ([], True, "pool-relay", [Kind.WRONG_POOL]),
        ([], False, "pool-normal", [Kind.WRONG_POOL]),
        ([decided_line("high-risk", extra=" shadow=normal")], False, "pool-normal", []),
        ([decided_line("high-risk", extra=" shadow=normal")], False, "pool-relay", [Kind.WRONG_POOL]),
    ],
)
def test_shadow(log, shadow, left_by, expected):
    assert kinds(audited([*log, by(f"{left_by}/smtp")], row("high-risk"), shadow=shadow)) == expected


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize(
    ("changes", "left_by", "expected"),
    [
        ({"leaves_by": "normal"}, "pool-normal", []),
        ({"leaves_by": "normal"}, "pool-high-risk", [Kind.WRONG_POOL]),
        ({"leaves_by": "high-risk"}, "pool-normal", [Kind.WRONG_POOL]),
        ({"leaves_by": "high-risk"}, "pool-high-risk", []),
        ({"pool": "", "rule": "undecided", "leaves_by": "normal"}, "pool-normal", []),
        ({"pool": "refused", "leaves_by": "normal"}, "pool-normal", []),
        ({"pool": "refused", "leaves_by": "normal"}, "pool-relay", [Kind.WRONG_POOL]),
    ],
)
def test_a_row_tells_itself_whether_shadow_mode_was_on(*, changes, left_by, expected, shadow):
    record = row(**{"pool": "high-risk"} | changes)
    assert kinds(audited([by(f"{left_by}/smtp")], record, shadow=shadow)) == expected


@pytest.mark.parametrize(
    ("program", "relay", "status", "expected"),
    [
        ("postfix/smtp", "mx.example.com[198.51.100.25]:25", "sent", [Kind.TRIPWIRE_DELIVERED]),
        ("postfix/smtp", "mx.example.com[2001:db8::25]:25", "bounced", [Kind.TRIPWIRE_DELIVERED]),
        ("postfix/relay/smtp", "mx.example.com[198.51.100.25]:25", "sent", [Kind.TRIPWIRE_DELIVERED]),
        ("postfix-out/smtp", "mx.example.com[198.51.100.25]:25", "sent", [Kind.TRIPWIRE_DELIVERED]),
        ("postfix/partner/smtp", "mx.example.com[198.51.100.25]:25", "sent", [Kind.OUTSIDE_POOLS]),
        ("postfix/partner/smtp", "mx.example.com[198.51.100.25]:25", "deliverable", [Kind.PROBE_OUTSIDE_POOLS]),
        ("postfix/scan/smtp", "mx.example.com[198.51.100.25]:25", "sent", []),
        ("postfix/internal/smtp", "mx.example.com[198.51.100.25]:25", "sent", []),
        ("postfix/smtp", "127.0.0.1[127.0.0.1]:10024", "sent", []),
        ("postfix/smtp", "localhost[::1]:10024", "sent", []),
        ("postfix/smtp", "none", "deferred", []),
        ("postfix/lmtp", "mx.example.org[private/dovecot-lmtp]", "sent", []),
        ("postfix/local", "local", "sent", []),
        ("postfix/pipe", "smtp", "deferred", []),
        ("postfix/pipe", "smtp", "sent", [Kind.TRIPWIRE_DELIVERED]),
        ("postfix/pipe", "dovecot", "sent", []),
        ("postfix/egress/smtp", "127.0.0.1[127.0.0.1]:10027", "sent", []),
        ("postfix/egress/smtp", "127.0.0.1[127.0.0.1]:10028", "sent", []),
        ("postfix/egress/smtp", "127.0.0.1[127.0.0.1]:2525", "sent", [Kind.HOP_CLIENT_ASTRAY]),
        ("postfix/egress/smtp", "mx.example.com[198.51.100.25]:10027", "sent", [Kind.HOP_CLIENT_ASTRAY]),
        ("postfix/egress/smtp", "none", "deferred", []),
        ("postfix/pool-normal/smtp", "mx.example.com[198.51.100.25]:25", "undeliverable", []),
        ("postfix/pool-normal/smtp", "mx.example.com[198.51.100.25]:25", "undeliverable-but-not-cached", []),
        ("pool-relay/smtp", "mx.example.com[198.51.100.25]:25", "sent", [Kind.NO_DECISION]),
        ("postfix-out/pool-relay/smtp", "mx.example.com[198.51.100.25]:25", "sent", [Kind.NO_DECISION]),
    ],
)
def test_where_transports_lead(program, relay, status, expected):
    log = [delivery(program, relay=relay, status=status)]
    audit = audited(log, inside=frozenset(("internal", "scan")), listener_ports=frozenset((10027, 10028)))
    assert kinds(audit) == expected


@pytest.mark.parametrize("again", ["deferred", "SOFTBOUNCE"])
def test_a_wrong_pool_is_told_once_for_all_tries_and_for_every_recipient_that_was_reached(again):
    log = [by("pool-relay/smtp", status=again)] * 5 + [by("pool-relay/smtp", recipient=f"{n}@x") for n in range(3)]
    audit = audited(log, row())
    assert [finding.status for finding in audit.findings] == [again.lower(), "sent", "sent", "sent"]
    assert audit.counts.pools["normal"].statuses == {again.lower(): 5, "sent": 3}


def test_the_host_tells_which_row():
    rows = [row("normal", host="mx1.example.org"), row("relay", host="mx2.example.org", at=NOW)]
    assert kinds(audited([by("pool-normal/smtp", host="mx1")], *rows)) == []
    assert kinds(audited([by("pool-relay/smtp", host="MX2.example.org")], *rows)) == []
    assert kinds(audited([by("pool-normal/smtp", host="mx2")], *rows)) == [Kind.WRONG_POOL]
    assert kinds(audited([by("pool-normal/smtp", host="other")], *rows)) == [Kind.NO_DECISION]
    assert kinds(audited([by("pool-normal/smtp", host="other")], rows[0])) == []


def test_the_whole_name_of_a_host_goes_before_its_first_part():
    rows = [row("normal", host="mx.example.org"), row("relay", host="mx.example.net", at=NOW)]
    assert kinds(audited([by("pool-normal/smtp", host="mx.example.org")], *rows)) == []
    assert kinds(audited([by("pool-relay/smtp", host="mx.example.net")], *rows)) == []


def test_a_short_id_that_is_used_again():
    short = "8F3A2C0D1E"
    log = [
        begun(short, when="2026-11-22T10:00:00Z"),
        by("pool-normal/smtp", queue_id=short, when="2026-11-22T10:00:01Z"),
        begun(short, when="2026-11-22T13:00:00Z"),
        by("pool-relay/smtp", queue_id=short, when="2026-11-22T13:00:01Z"),
    ]
    old, new = row("normal", queue_id=short, at=NOW - 11_109), row("relay", queue_id=short, at=NOW - 309)
    assert kinds(audited(log, new)) == [Kind.NO_DECISION]
    assert kinds(audited(log, old)) == [Kind.NO_DECISION]
    assert kinds(audited(log, old, new)) == []


def requeued(new, old):
    return line("postfix/pickup", f"{new}: uid=102 from=<a@b.example> orig_id={old}")


@pytest.mark.parametrize(("is_express", "expected"), [(True, []), (False, [Kind.NO_DECISION])])
def test_a_requeued_message_keeps_its_decision_in_express_only(is_express, expected):
    second, third = "4jXRH73GqlzJs3y", "4jXRH73yx4zJs43"
    log = [requeued(second, QUEUE_ID), begun(second), requeued(third, second), begun(third)]
    audit = audited([*log, by("pool-normal/smtp", queue_id=third)], row(), is_express=is_express)
    assert (kinds(audit), audit.counts.requeued) == (expected, 2)


def test_a_requeued_message_with_short_ids_keeps_a_decision_of_long_ago():
    old, new = "8F3A2C0D1E", "8F3A2C0D1F"
    log = [requeued(new, old), begun(new), by("pool-normal/smtp", queue_id=new)]
    assert kinds(audited(log, row(queue_id=old, at=NOW - 86_400), is_express=True)) == []


def test_what_delivery_agents_say_and_is_not_understood_is_a_failure():
    audit = audited([line("postfix/pool-normal/smtp", f"{QUEUE_ID}: to=<a, relay=")], row())
    assert kinds(audit) == [Kind.UNREADABLE]


EARLIER = "2026-11-22T12:00:00Z"
CUT = NOW - 1800


def test_since_leaves_out_deliveries_and_counts():
    log = [
        begun(when=EARLIER),
        by("pool-relay/smtp", when=EARLIER),
        line("postfix/smtp", f"{QUEUE_ID}: to=<a, relay=", when=EARLIER),
        line("postfix/cleanup", f"{QUEUE_ID}: milter-hold: END-OF-MESSAGE from x", when=EARLIER),
        line("postfix/pickup", f"4jXRH73GqlzJs3y: uid=102 from=<a@b.example> orig_id={QUEUE_ID}", when=EARLIER),
    ]
    audit = audited(log, row(), since=CUT)
    assert (audit.findings, audit.counts, audit.open_now) == ([], Counts(), 1)


def test_since_remembers_what_a_message_was_before_it_was_requeued():
    second = "4jXRH73GqlzJs3y"
    log = [
        line("postfix/pickup", f"{second}: uid=102 from=<a@b.example> orig_id={QUEUE_ID}", when=EARLIER),
        begun(second, when=EARLIER),
        by("pool-normal/smtp", queue_id=second, status="deferred", when=EARLIER),
        by("pool-normal/smtp", queue_id=second),
    ]
    audit = audited(log, row(), is_express=True, since=CUT)
    assert (kinds(audit), audit.counts.pools["normal"].statuses) == ([], {"sent": 1})


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([tagged("normal", when=EARLIER)], [Kind.ROW_LOST]),
        ([tagged("normal", when=EARLIER), removed(when=EARLIER)], [Kind.NO_DECISION]),
        ([tagged("normal", when=EARLIER), by("pool-normal/smtp", when=EARLIER), begun()], [Kind.NO_DECISION]),
        ([begun(when=EARLIER)], [Kind.BEFORE_DECISION_LOG]),
        ([line("delivery-pools", f"{QUEUE_ID}: pass=egress pool=normal rule=x", when=EARLIER)], []),
    ],
    ids=["tagged", "removed", "id used again", "begun", "decided"],
)
def test_since_remembers_queue_files(before, expected):
    recorded_since = CUT if expected == [Kind.BEFORE_DECISION_LOG] else LONG_AGO
    assert kinds(audited([*before, by("pool-normal/smtp")], since=CUT, recorded_since=recorded_since)) == expected


def test_what_looks_like_a_delivery_is_counted_with_an_example():
    text = f"\x1b[31m {QUEUE_ID}: to=<a@b.example>, status=sent ("
    counts = audited([text + "x" * 1000, "second: to=<a>, status=sent"], since=CUT).counts
    assert (counts.lines, counts.headless, counts.not_understood, counts.of_postfix) == (2, 2, 0, 0)
    assert counts.headless_example.startswith(f"?[31m {QUEUE_ID}: to=<a@b.example>")
    assert len(counts.headless_example) == 200


def test_memory_is_bounded_and_that_is_said():
    log = [begun(f"4jXRH73GqlzJ{one}{two}{three}") for one in "bcd" for two in "bcdfg" for three in "bcdfg"]
    audit = audited(log, most_open=10)
    assert (audit.open_now, audit.counts.forgotten) == (10, 65)


def test_findings_are_bounded_and_all_are_counted():
    audit = audited([by("pool-relay/smtp")] * 20, row(), most_findings=3)
    assert (len(audit.findings), audit.counts.failures) == (3, {Kind.WRONG_POOL: 20})


def test_names_of_transports_are_bounded():
    audit = audited([delivery("postfix/pipe", relay=f"t{number}") for number in range(1500)])
    assert (len(audit.counts.transports), audit.counts.transports[OTHERS]) == (1001, {"sent": 500})


def test_what_is_counted():
    log = [
        line("postfix/cleanup", f"{QUEUE_ID}: milter-hold: END-OF-MESSAGE from x"),
        line("postfix/cleanup", f"{QUEUE_ID}: discard: header Subject: x"),
        by("discard", relay="none"),
        line("postfix/qmgr", f"{QUEUE_ID}: from=<>, status=expired, returned to sender"),
        by("pipe", relay="smtp", status="deferred"),
        by("smtp", relay="none", status="deferred"),
        "no line",
        line("sshd", "x", when="2020-01-01T00:00:00Z"),
    ]
    counts = audited(log).counts
    assert (counts.held, counts.discarded, counts.expired, counts.caught, counts.astray) == (1, 2, 1, 1, 1)
    assert (counts.lines, counts.not_understood, counts.of_postfix) == (8, 1, 6)
    assert (counts.begins, counts.ends) == (NOW - 309, NOW - 309)


def test_a_message_that_qmgr_puts_off_counts_for_its_pool():
    log = [tagged("normal"), by("error", relay="none", status="deferred"), by("pool-normal/smtp")]
    assert audited(log, row()).counts.pools["normal"].statuses == {"deferred": 1, "sent": 1}


AT = NOW - 309  # the time in the lines


class TestBeforeTheInstallation:
    LEAK = (by("smtp", relay="mx.example.net[198.51.100.1]:25"),)

    @pytest.mark.parametrize(
        ("installed_at", "recorded_since", "failures"),
        [
            (NOW + 10, None, 0),
            (NOW + 10, LONG_AGO, 0),
            (AT - 3600, NOW + 3600, 1),
            (None, NOW + 10, 0),
            (None, AT - 10, 1),
            (None, None, 1),
        ],
    )
    def test_a_delivery_without_a_pool(self, installed_at, recorded_since, failures):
        audit = audited(self.LEAK, recorded_since=recorded_since, installed_at=installed_at)
        assert audit.counts.failures.total() == failures
        assert audit.counts.before_installation == 1 - failures

    def test_agents_of_before_finish_what_they_deliver(self):
        assert audited(self.LEAK, installed_at=AT - 30).counts.before_installation == 1

    def test_a_wrong_pool_is_a_failure_at_any_time(self):
        audit = audited((by("pool-relay/smtp"),), row("normal"), installed_at=NOW + 10)
        assert kinds(audit) == [Kind.WRONG_POOL]
