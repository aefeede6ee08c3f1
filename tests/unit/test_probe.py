"""Probes: sealed, for one message and one hour, and to nobody."""

import pytest
from cryptography.fernet import Fernet

from deliverypools.adapters.seal import TicketSealer
from deliverypools.core.probe import Probe, is_to_nobody

KEY = Fernet.generate_key()
PROBE = Probe(transport_tag="high-risk 2", family=6, port=45123, message_id="<1@mx.example.org>")


@pytest.fixture
def sealer():
    return TicketSealer([KEY])


def test_its_tag_names_transport_protocol_and_port():
    assert PROBE.tag == "high-risk 2 probe-6 45123"


def test_what_was_sealed_is_read_again_also_folded(sealer):
    value = sealer.seal_probe(PROBE)
    assert sealer.open_probe(value, PROBE.message_id) == PROBE
    assert sealer.open_probe(value.replace("\n\t", "\r\n\t "), PROBE.message_id) == PROBE


def test_it_is_for_one_message(sealer):
    assert sealer.open_probe(sealer.seal_probe(PROBE), "<2@mx.example.org>") is None


def test_other_seals_of_ours_are_no_probes(sealer):
    assert sealer.open_probe(sealer.mark_notice("<1@mx.example.org>"), "<1@mx.example.org>") is None
    assert not sealer.is_notice(sealer.seal_probe(PROBE), "<1@mx.example.org>")


@pytest.mark.parametrize("value", ["", "gAAAAA", "é", "x" * 100_000])
def test_nonsense_is_no_probe(sealer, value):
    assert sealer.open_probe(value, "<1@mx.example.org>") is None


def test_a_probe_of_other_keys_is_none(sealer):
    assert sealer.open_probe(TicketSealer([Fernet.generate_key()]).seal_probe(PROBE), PROBE.message_id) is None


def test_it_lives_for_an_hour(sealer):
    old = Fernet(KEY).encrypt_at_time(b"probe\0" + PROBE.to_json(), 1_000_000).decode()
    assert sealer.open_probe(old, PROBE.message_id) is None


@pytest.mark.parametrize(
    "content",
    [b"[]", b"{}", b"null", b'["normal", 5, 25, "<1>"]', b'["normal", 4, 0, "<1>"]', b"[1", b'["a", 4, "25", ""]'],
)
def test_what_another_version_seals_is_none(sealer, content):
    value = Fernet(KEY).encrypt(b"probe\0" + content).decode()
    assert sealer.open_probe(value, "<1>") is None


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        (("probe@delivery-pools-probe.invalid",), True),
        (("a@DELIVERY-pools-probe.invalid", "b@delivery-pools-probe.invalid"), True),
        ((), False),
        (("probe@delivery-pools-probe.invalid", "bob@example.net"), False),
        (("bob@example.net",), False),
        (("bob@x.delivery-pools-probe.invalid",), False),
    ],
)
def test_its_recipients_are_in_a_domain_that_cannot_exist(recipients, expected):
    assert is_to_nobody(recipients) is expected
