"""The core is total: odd mail gives an answer, never an exception but the documented one."""

import contextlib
import dataclasses
import json

import pytest
from cryptography.fernet import Fernet
from hypothesis import example, given
from hypothesis import strategies as st

from deliverypools.adapters.seal import TicketSealer
from deliverypools.core.addresses import domain_of, normalise_address, normalise_domain
from deliverypools.core.decisions import UNDECIDED
from deliverypools.core.facts import Answer, Finding, Ingress, MessageFacts, Origin, printable
from deliverypools.core.headers import Headers
from deliverypools.core.received import date_of, own_received
from deliverypools.core.rules import RULES, after_waiting, classify, rule_name
from deliverypools.core.sender import header_sender
from deliverypools.core.settings import Settings
from deliverypools.core.spam_headers import spam_evidence
from deliverypools.core.ticket import Binding, BodyDigest, Ticket, TicketError, fold, recipient_digests, unfold
from deliverypools.milter.collector import MessageCollector
from deliverypools.milter.verdict import log_line

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30), ("bulk", 40))
}
PINNED = {
    "accepted_domains": ["example.org"],
    "pools": POOLS,
    "pins": [
        {"domain": "example.org", "pool": "bulk"},
        {"sasl_username": "alice", "pool": "relay"},
        {"client": "192.0.2.0/24", "pool": "high-risk"},
    ],
}
SITES = [Settings.model_validate(PINNED), Settings.model_validate(PINNED | {"pins": []})]
HOST = "mx.example.org"

# What a milter sees: UTF-8 with lone bytes as surrogates; never other surrogates.
FROM_THE_WIRE = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
TEXT = st.one_of(FROM_THE_WIRE, st.text(max_size=60))
FRAGMENTS = st.sampled_from(
    [
        "multipart/report",
        "report-type",
        "delivery-status",
        ";",
        "=",
        "(",
        ")",
        '"',
        "by",
        "from",
        "with",
        "id",
        "(Postfix,",
        "userid",
        "1003)",
        "<",
        ">",
        "@",
        ",",
        ".",
        "example.org",
        "mx.example.org",
        "yes",
        "YES",
        "no",
        "auto-replied",
        "Tue,",
        "21",
        "Nov",
        "2023",
        "10:00:00",
        "+0000",
        "-9999",
        "99999999999",
        "xn--",
        "é",
        "�",
        "\u2028",
        "\x00",
        "%",
        "[192.0.2.1]",
        "ESMTPSA",
        "4SZPlw1CyQz3wkL",
    ]
)
STRUCTURED = st.lists(FRAGMENTS, max_size=25).map(" ".join) | st.lists(FRAGMENTS, max_size=25).map("".join)
VALUES = st.one_of(TEXT, STRUCTURED)
NAMES = st.sampled_from(
    ["Content-Type", "Auto-Submitted", "X-Spam", "X-Spam-Status", "X-Spam-Flag", "From", "Return-Path", "Received"]
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
HEADERS = st.builds(Headers.of, FIELDS, is_complete=st.booleans())
FINDINGS = st.builds(Finding, st.sampled_from(Answer), TEXT)
ADDRESSES = st.one_of(st.just(""), VALUES, st.sampled_from(["alice@example.org", "eve@example.net"]))
ORIGINS = st.builds(
    Origin,
    ingress=st.sampled_from(Ingress),
    account=ADDRESSES,
    envelope_sender=ADDRESSES,
    client_address=st.one_of(TEXT, st.ip_addresses().map(str)),
    over_limit=FINDINGS,
    spam=st.one_of(st.just(""), TEXT),
)
FACTS = st.builds(
    MessageFacts,
    envelope_sender=ADDRESSES,
    headers=HEADERS,
    origin=st.none() | ORIGINS,
    origin_problem=TEXT,
    sender_domain_has_mx_or_address=FINDINGS,
    forwarded_by=ADDRESSES,
)
TICKETS = st.builds(
    Ticket,
    ticket_id=TEXT,
    made_at=st.integers(-1, 2**40).map(float),
    first_queue_id=TEXT,
    origin=ORIGINS,
    binding=st.builds(Binding, TEXT, TEXT, TEXT),
    recipient_count=st.integers(0, 100_000),
    recipient_digests=st.frozensets(TEXT, max_size=4),
    pool=TEXT,
    rule=TEXT,
)
SEALER = TicketSealer([Fernet.generate_key()])


@given(FACTS, st.sampled_from(SITES))
def test_classify_always_answers(facts, settings):
    decision = classify(facts, settings)
    assert decision.pool in (None, *POOLS)
    assert decision.rule in (UNDECIDED, *map(rule_name, RULES))
    assert (decision.pool is None) is (decision.rule == UNDECIDED)
    assert decision.reasons


@given(FACTS, st.sampled_from(SITES))
def test_unknown_never_leads_to_normal(facts, settings):
    unknown = dataclasses.replace(facts, origin=None, origin_problem="no ticket")
    assert classify(unknown, settings).pool != "normal"


@given(FACTS, st.sampled_from(SITES), st.none() | st.floats(0, 1e9))
def test_undecided_mail_waits_or_leaves_by_high_risk(facts, settings, waited):
    before = classify(facts, settings)
    after = after_waiting(before, waited, settings)
    assert after == before if before.pool else after.pool in (None, "high-risk")


@given(FACTS, st.sampled_from(SITES))
def test_a_decision_does_not_change_when_it_is_asked_again(facts, settings):
    assert classify(facts, settings) == classify(facts, settings)


@given(FIELDS.map(Headers.of))
def test_spam_evidence_is_printable(headers):
    assert (spam_evidence(headers, ("X-Spam-Flag: YES", "X-Spam", "X-Spam-Status: Yes")) or "x").isprintable()


@given(st.lists(VALUES, max_size=4))
def test_own_received_is_total(values):
    for received in own_received(Headers.of(("Received", value) for value in values), HOST):
        assert received.queue_id.isascii()
        assert received.queue_id.isalnum()


@given(VALUES)
@example("Tue, 21 Nov 99999 10:00:00 +0000")
@example("0 Jan 0 00:00:00 +0000")
@example("1 Jan 2023 00:00:00 +99999999999999999999")
def test_date_of_is_a_number_or_none(text):
    date = date_of(text)
    assert date is None or isinstance(date, float)


@given(FIELDS.map(Headers.of))
def test_header_sender_is_total(headers):
    assert isinstance(header_sender(headers), str | None)


@given(VALUES)
@example("a@" + "\u00fc." * 200)
@example("@\u200d")
@example("@\u06dd.\u0661")
def test_addresses_are_normalised_once(address):
    normal = normalise_address(address)
    assert domain_of(f"x@{normalise_domain(domain_of(address))}") == domain_of(address)
    assert isinstance(normal, str)


@given(VALUES)
def test_domains_that_differ_in_case_only_are_the_same(domain):
    if domain.isascii():
        assert normalise_domain(domain.upper()) == normalise_domain(domain.lower())


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
VALID = Ticket(
    ticket_id="x",
    made_at=1.0,
    first_queue_id="q",
    origin=Origin(ingress=Ingress.LOCAL),
    binding=Binding("a", "b", "c"),
    recipient_count=1,
)


@given(TICKETS)
def test_a_ticket_comes_back_from_json(ticket):
    assert Ticket.from_json(ticket.to_json()) == ticket


@given(st.one_of(st.binary(max_size=100), JSON_LIKE.map(lambda value: json.dumps(value).encode())))
def test_reading_what_is_no_ticket_raises_ticket_error_only(content):
    with pytest.raises(TicketError):
        Ticket.from_json(content)


@given(st.sampled_from(["v", "id", "t", "q", "b", "n", "r", "d", "o", "p"]), st.data())
def test_reading_a_ticket_with_one_odd_value_raises_ticket_error_only(key, data):
    values = json.loads(VALID.to_json())
    values[key] = data.draw(JSON_LIKE)
    with contextlib.suppress(TicketError):
        Ticket.from_json(json.dumps(values).encode())


@given(st.sampled_from(["i", "a", "s", "c", "l", "x"]), JSON_LIKE)
def test_reading_an_origin_with_one_odd_value_raises_ticket_error_only(key, value):
    values = json.loads(VALID.to_json())
    values["o"][key] = value
    with contextlib.suppress(TicketError):
        Ticket.from_json(json.dumps(values).encode())


@given(st.one_of(VALUES, st.text("ABCDEFabcdef0123-_= \n", max_size=200).map(lambda text: "gAAAAA" + text)))
def test_opening_what_is_not_sealed_raises_ticket_error_only(value):
    with pytest.raises(TicketError):
        SEALER.open(value)


@given(st.binary(max_size=2000))
def test_folding_can_be_undone(token):
    text = token.hex()
    assert unfold(fold(text)) == text


@given(FROM_THE_WIRE, st.lists(FROM_THE_WIRE, max_size=4))
def test_recipient_digests_take_any_address(ticket_id, addresses):
    assert len(recipient_digests(ticket_id, addresses)) <= len(addresses)


@given(st.binary(max_size=500), st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_chunks_do_not_change_the_digest_of_a_body(body, sizes):
    whole, parts = BodyDigest(), BodyDigest()
    whole.feed(body)
    start = turn = 0
    while start < len(body):
        parts.feed(body[start : start + sizes[turn % len(sizes)]])
        start += sizes[turn % len(sizes)]
        turn += 1
    assert parts.hexdigest() == whole.hexdigest()


@given(
    FROM_THE_WIRE, st.lists(FROM_THE_WIRE, max_size=4), st.lists(st.tuples(FROM_THE_WIRE, FROM_THE_WIRE), max_size=6)
)
def test_a_collector_takes_anything_from_the_wire(sender, recipients, fields):
    collector = MessageCollector(sender)
    for recipient in recipients:
        collector.add_recipient(recipient)
    for name, value in fields:
        collector.add_header(name, value)
    message = collector.end("4SZPlw1CyQz3wkL")
    assert len(message.recipients) == len(recipients)
    assert message.binding.difference(message.binding) == ""


@given(TEXT, st.dictionaries(st.sampled_from(["pool", "rule", "reasons", "message_id"]), VALUES | st.integers()))
def test_a_log_line_is_one_printable_line(queue_id, values):
    line = log_line(queue_id, **values)
    assert line.isprintable()
    line.encode()


@given(VALUES, st.integers(3, 50))
def test_printable_is_bounded(text, most):
    clean = printable(text, most)
    assert clean.isprintable()
    assert len(clean) <= most
