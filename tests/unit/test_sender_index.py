"""The index of pins finds what a look at each of them, in their order, would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deliverypools.core.addresses import normalise_address
from deliverypools.core.facts import Ingress, Origin
from deliverypools.core.named_senders import named_by
from deliverypools.core.settings.sender_index import SenderIndex
from deliverypools.core.settings.tables import NamedSender

ADDRESSES = ("alice@example.org", "bob@news.example.org", "carol@example.com", "alice", "a@b.c.d.example.org")
CLIENTS = ("192.0.2.7", "192.0.2.200", "::ffff:192.0.2.7", "2001:db8::7", "::7", "0.0.0.7", "unknown", "")

entries = st.one_of(
    st.builds(lambda one: NamedSender(sender=one), st.sampled_from(ADDRESSES[:3])),
    st.builds(
        lambda one: NamedSender(domain=one), st.sampled_from(("example.org", "news.example.org", "c.d.example.org"))
    ),
    st.builds(lambda one: NamedSender(sasl_username=one), st.sampled_from(ADDRESSES)),
    st.builds(
        lambda one: NamedSender.model_validate({"client": one}),
        st.sampled_from(("192.0.2.0/24", "192.0.2.7", "192.0.2.0/28", "2001:db8::/32", "::/64", "0.0.0.0/8")),
    ),
)
origins = st.builds(
    Origin,
    ingress=st.sampled_from((Ingress.SUBMISSION, Ingress.TRUSTED)),
    account=st.sampled_from(ADDRESSES),
    envelope_sender=st.sampled_from((*ADDRESSES, "", "<alice@example.org>", "ALICE@Example.ORG")),
    client_address=st.sampled_from(CLIENTS),
)


@given(st.lists(entries, max_size=8), origins)
def test_finds_the_first_that_names_the_sender(named, origin):
    first = next((one for one in named if named_by(one, origin)), None)
    found = SenderIndex(named).first(
        sender=normalise_address(origin.envelope_sender),
        sasl_username=origin.account if origin.ingress is Ingress.SUBMISSION else None,
        client_address=origin.client_address,
    )
    assert found is first
