"""Evidence of decisions: whatever a message holds, it is bounded, and what was not cut decides the same again."""

import json

from hypothesis import given
from hypothesis import strategies as st
from test_core_property import FACTS, SITES

from deliverypools.core.evidence import MOST_BYTES, evidence_text, read_evidence
from deliverypools.core.rules import classify

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)
KEYS = (
    "v",
    "to",
    "origin",
    "asked",
    "counters",
    "kind",
    "scan",
    "was_scanned",
    "size",
    "sender_domain",
    "srs",
    "first",
)


@given(FACTS, st.sampled_from(SITES))
def test_what_is_written_can_be_read_and_decides_the_same(facts, settings):
    decision = classify(facts, settings)
    text = evidence_text(settings, recipients=facts.recipients, facts=facts, asked=decision.asked)
    assert len(text.encode()) <= MOST_BYTES
    assert all(c.isprintable() for c in text)
    found = read_evidence(text)
    assert found is not None
    assert found.is_cut or found.facts is not None
    if found.facts is not None and not found.is_cut and all(one.isprintable() for one in _texts(facts)):
        again = classify(found.facts, settings)
        assert (again.pool, again.rule) == (decision.pool, decision.rule)


def _texts(facts):
    origin = facts.origin
    texts = [facts.envelope_sender, facts.forwarded_by, facts.mailing_list]
    return [*texts, *((origin.envelope_sender, origin.account, origin.client_address) if origin else ())]


@given(st.text())
def test_any_text_is_read_or_not_and_never_raises(text):
    assert read_evidence(text) is None or text


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_object_is_read_or_not_and_never_raises(values):
    found = read_evidence(json.dumps(values | {"v": 1})[:MOST_BYTES])
    assert found is None or found.internal >= 0
