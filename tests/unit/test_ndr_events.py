"""What the milter counts for the surges: refused recipients, and by what a message is known."""

import pytest

from deliverypools.core.settings import built_in_defaults
from deliverypools.milter.collector import Connection
from deliverypools.milter.ndr_events import RefusedRecipients, digest_of, refused_with

SETTINGS = built_in_defaults().model_copy(update={"accepted_domains": ("example.org",)})
CLIENT = Connection(hostname="mx.example.org", client_address="203.0.113.9")
REPLY = "Recipient address rejected: User unknown in local recipient table"


@pytest.mark.parametrize(
    ("mailer", "host", "address", "code"),
    [
        ("error", "5.1.1", REPLY, "5.1.1"),
        ("error", "4.2.0", "Recipient address rejected: Greylisted", "4.2.0"),
        ("error", "5.7.1", "no", "5.7.1"),
        # Accepted: in virtual_alias_domains, and behind transport_maps "error:5.1.1".
        ("error", "5.1.1 User unknown in virtual alias table", "bob@virt.example", ""),
        ("error", "5.1.1", "bob@old.example", ""),
        ("error", "5.1.1", '"a b"@old.example', ""),
        ("local", "example.org", "bob@example.org", ""),
        ("smtp", "5.1.1", REPLY, ""),
        ("", "", "", ""),
    ],
)
def test_who_is_refused(mailer, host, address, code):
    assert refused_with(mailer, host, address) == code


class TestRefusedRecipients:
    def test_nothing_without_any(self):
        assert RefusedRecipients().take("c", CLIENT, 1.0) is None

    @pytest.mark.parametrize(
        ("recipient", "code"),
        [("<bob@example.org>", "4.2.0"), ("<bob@example.org>", "5.7.1"), ("<bob@stranger.example>", "5.1.1")],
    )
    def test_only_unknown_users_of_ours_count(self, recipient, code):
        refused = RefusedRecipients()
        refused.add(recipient, code, SETTINGS)
        assert refused.take("c", CLIENT, 1.0) is None

    def test_are_one_event_and_then_begin_anew(self):
        refused = RefusedRecipients()
        for name in ("ann", "ben", "ann", "Ben"):
            refused.add(f"<{name}@Example.ORG>", "5.1.1", SETTINGS)
        event = refused.take("c", CLIENT, 1.0)
        assert (event.event_id, event.address, event.domain) == ("mx.example.org/c", "ann@example.org", "example.org")
        assert (event.amount, event.local_parts, event.client) == (4, 2, "203.0.113.9")
        assert refused.take("d", CLIENT, 2.0) is None

    def test_memory_is_bounded(self):
        refused = RefusedRecipients()
        for number in range(5000):
            refused.add(f"<{number}@example.org>", "5.1.1", SETTINGS)
        assert refused.is_many
        event = refused.take("c", CLIENT, 1.0)
        assert (event.amount, event.local_parts) == (5000, 1000)


@pytest.mark.parametrize("message_id", [None, "", "  \n"])
def test_no_digest_without_a_message_id(message_id):
    assert digest_of(message_id) == ""


def test_digest_is_blind_to_folds_and_takes_any_bytes():
    assert digest_of("<a.\n b@x>") == digest_of("<a.b@x>") != digest_of("<a@x>")
    assert digest_of("<\udcff>").isalnum()
