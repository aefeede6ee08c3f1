"""A mail log holds what strangers write: no line of it raises, costs more than another, or passes for a delivery."""

from hypothesis import given
from hypothesis import strategies as st

from deliverypools.core.audit import lines
from deliverypools.core.audit.fold import Audit
from deliverypools.core.audit.lines import read_line
from deliverypools.core.audit.times import LogTimes
from deliverypools.core.audit.transports import Surroundings

HEAD = "2026-11-22T13:00:00Z mx"
QUEUE_ID = "4jXRH70hlRzJs3l"
TIMES = LogTimes(1_795_352_709.0, lambda _: 0.0)
SITE = Surroundings(pools=frozenset(("normal", "high-risk", "relay")))
FORGED = "relay=x[198.51.100.99]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (x)"

programs = st.sampled_from(sorted({*lines.DELIVERY_PROGRAMS, "qmgr", "cleanup", "pickup", "smtpd", "postsuper"}))
# What Postfix lets through into its log: no line ends.
logged = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=300)
pieces = st.lists(
    st.one_of(
        logged,
        st.sampled_from([
            HEAD, QUEUE_ID, ": ", "to=<", ">, ", '"', "\\", "relay=", "status=sent", FORGED, "removed", "message-id=",
            "filter: header X-Delivery-Pool: normal from ", "pass=egress pool=normal rule=x", "orig_id=",
            "uid=1 from=<",
        ]),
    ),
    max_size=12,
).map("".join)  # fmt: skip


def an_audit():
    return Audit(SITE, lambda _: [], 0.0, most_open=50, most_findings=50)


@given(
    st.lists(st.one_of(pieces, st.tuples(programs, pieces).map(lambda two: f"{HEAD} postfix/{two[0]}[1]: {two[1]}")))
)
def test_no_line_raises_and_memory_is_bounded(texts):
    audit = an_audit()
    for text in texts:
        audit.add(read_line(text, TIMES))
    assert audit.counts.lines == len(texts)
    assert audit.open_now <= 50
    assert len(audit.findings) <= 50


@given(logged, st.sampled_from(["cleanup", "qmgr", "smtpd", "pickup", "bounce", "sshd"]))
def test_only_delivery_agents_deliver(text, program):
    line = read_line(f"{HEAD} postfix/{program}[1]: {QUEUE_ID}: {text}", TIMES)
    assert not isinstance(line.event, lines.Delivery)


def quoted(local_part):
    """Return an address as Postfix logs it (info_log_address_format = external, RFC 5321 section 4.1.2)."""
    return '"' + local_part.replace("\\", "\\\\").replace('"', '\\"') + '"@example.com'


@given(logged | st.just(f">, {FORGED}") | pieces, logged | st.just(f"to=<a>, {FORGED}"))
def test_neither_recipient_nor_reply_can_forge_a_delivery(local_part, reply):
    text = (
        f"{QUEUE_ID}: to=<{quoted(local_part)}>, orig_to=<{quoted(local_part)}>, relay=none, delay=1, delays=1/0/0/0,"
        f" dsn=4.4.1, status=deferred ({reply})"
    )
    delivery = read_line(f"{HEAD} postfix/pool-normal/smtp[1]: {text}", TIMES).event
    assert delivery == lines.Delivery(QUEUE_ID, quoted(local_part), "postfix/pool-normal/smtp", "none", "deferred")


@given(logged)
def test_a_recipient_that_postfix_did_not_quote_is_a_delivery_or_told(local_part):
    text = f"{QUEUE_ID}: to=<{local_part}@example.com>, {FORGED}"
    event = read_line(f"{HEAD} postfix/smtp[1]: {text}", TIMES).event
    assert isinstance(event, lines.Delivery | lines.Unreadable)


def test_hostile_lines_cost_no_more_than_others():
    bombs = [
        "to=<" + "a" * 65_536,
        "to=<" + '"' * 65_536,
        'to=<"' + "\\" * 65_536,
        "to=<" + '"a"' * 20_000 + "<",
        "to=<" + '"a' * 30_000,
        "to=<a>, relay=" + "[" * 65_536,
        "to=<a>, relay=" + "a[" * 30_000 + ", delay=1, delays=1, dsn=2.0.0, status=sent (x",
        "to=<a>, relay=x, delay=1, delays=1, " + "tls=x, " * 9000,
        "to=<a>, relay=x, delay=1, delays=1, tls=" + "x" * 65_536,
        "uid=1 from=<" + '"\\"' * 20_000,
        "filter: header X-Delivery-Pool:" + " " * 65_536,
        "1 - - [" * 10_000,
    ]
    audit = an_audit()
    for bomb in bombs:
        for program in sorted(lines.DELIVERY_PROGRAMS | {"cleanup", "pickup", "qmgr"}):
            audit.add(read_line(f"{HEAD} postfix/{program}[1]: {QUEUE_ID}: {bomb}", TIMES))
    for start in (
        "<1>" * 20_000,
        "Nov 22 " * 9000,
        f"{HEAD} " * 3000,
        f"{HEAD} " + "x" * 65_536,
        "9" * 65_536,
        "Nov 22 13:00:00" + " " * 65_536,
        ": to=<" * 9000,
        f"{HEAD} a.b" * 5000,
    ):
        audit.add(read_line(start, TIMES))
    assert audit.counts.lines == len(bombs) * 10 + 8
