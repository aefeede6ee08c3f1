"""The fast path on a real Postfix: which mail skips the hop, and which does not; nobody outside sees a difference."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from mailing import ALICE, HIGH_RISK, NORMAL, RELAY, arrived, fresh, from_trusted, mail, notice_to, said_in, submit

from deliverypools.adapters.fast_path import remove_proof
from deliverypools.adapters.settings_file import load_settings
from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import ACCEPT, DEFER, REFUSE
from deliverypools.lab.site import Site

SLOW_QUEUE = Site(main={"minimal_backoff_time": "600s", "maximal_backoff_time": "600s"})
HOP = ["first", "egress"]


@pytest.fixture(scope="module", autouse=True)
def has_fast_path(lab: Lab):
    """Open it, whatever the environment says of other tests."""
    assert lab.prove_fast_path().holds


class Message:
    """A message that can be found again."""

    def __init__(self, **headers: str | None) -> None:
        self.recipient = fresh()
        self.message_id = f"<{self.recipient}>"
        self.data = mail(Message_ID=self.message_id, **headers)

    def passes(self, lab: Lab) -> list[str]:
        """Return the passes that it went through."""
        return re.findall(rf"pass=(\S+) .*message-id={re.escape(self.message_id)}$", lab.milter.log(), re.MULTILINE)


@pytest.mark.parametrize("send", [submit, from_trusted])
def test_mail_with_recipients_outside_only_skips_the_hop(lab: Lab, send: Callable[..., str]):
    message = Message()
    send(lab, message.recipient, message.data)
    seen = arrived(lab, message.recipient)
    assert seen.source_address in NORMAL
    assert b"X-Delivery-Pool" not in seen.data
    assert message.passes(lab) == ["fast"]
    assert len(re.findall(rb"(?m)^\s*by mx\.example\.org", seen.data)) == 1


def test_many_recipients_outside_skip_the_hop_together(lab: Lab):
    message = Message()
    others = [fresh("example.net"), fresh("spf.example")]
    submit(lab, [message.recipient, *others], message.data)
    assert all(arrived(lab, recipient).source_address in NORMAL for recipient in (message.recipient, *others))
    assert message.passes(lab) == ["fast"]


def test_one_recipient_inside_sends_all_to_the_hop(lab: Lab):
    message = Message()
    submit(lab, [message.recipient, "bob@example.org"], message.data)
    assert arrived(lab, message.recipient).source_address in NORMAL
    assert message.passes(lab) == HOP


def test_alias_that_leads_outside_takes_the_hop(lab: Lab):
    message = Message()
    submit(lab, "alias@example.org", message.data)
    seen = lab.wait_for(lambda one: one.header("Message-ID") == message.message_id)[0]
    assert seen.recipients == ("via-alias@example.net",) or list(seen.recipients) == ["via-alias@example.net"]
    assert message.passes(lab) == HOP


@pytest.mark.parametrize(
    "recipient",
    ["{0}%example.com@example.net", '"{0}"@example.com', "{0}@[198.51.100.27]", "@example.net:{0}@example.com"],
    ids=["percent", "quoted", "literal", "source-route"],
)
def test_address_that_may_say_two_things_takes_the_hop(lab: Lab, recipient: str):
    message = Message()
    lab.send(ALICE[0], [recipient.format(fresh().partition("@")[0])], message.data, client_address=TRUSTED_CLIENT)
    lab.wait_for(lambda one: one.header("Message-ID") == message.message_id)
    assert message.passes(lab) == HOP


def test_null_sender_takes_the_hop(lab: Lab):
    message = Message()
    lab.send("", [message.recipient], message.data, client_address=TRUSTED_CLIENT)
    arrived(lab, message.recipient)
    assert message.passes(lab) == HOP


def test_sender_without_domain_takes_the_hop(lab: Lab):
    message = Message()
    lab.send("alice", [message.recipient], message.data, client_address=TRUSTED_CLIENT)
    assert arrived(lab, message.recipient).envelope_sender == "alice@example.org"
    assert message.passes(lab) == HOP


def test_sendmail_takes_the_hop(lab: Lab):
    message = Message()
    lab.postfix.sendmail(ALICE[0], [message.recipient], message.data)
    assert arrived(lab, message.recipient).source_address in NORMAL
    assert message.passes(lab) == HOP


def test_what_comes_from_outside_takes_the_hop(lab: Lab):
    message = Message()
    lab.send("erin@spf.example", ["games@example.org"], message.data, client_address=OUTSIDE_CLIENT)
    seen = lab.wait_for(lambda one: one.header("Message-ID") == message.message_id)[0]
    assert seen.source_address in RELAY
    assert message.passes(lab) == HOP


def test_header_of_a_forward_takes_the_hop(lab: Lab):
    message = Message(Delivered_To="games@example.org")
    from_trusted(lab, message.recipient, message.data)
    arrived(lab, message.recipient)
    assert message.passes(lab) == HOP


def test_spam_of_a_user_leaves_by_high_risk_at_once(lab: Lab):
    message = Message(X_Spam_Flag="YES")
    submit(lab, message.recipient, message.data)
    assert arrived(lab, message.recipient).source_address in HIGH_RISK
    assert message.passes(lab) == ["fast"]


def test_forged_tag_and_ticket_choose_nothing(lab: Lab):
    message = Message(X_Delivery_Pool="relay", X_Delivery_Pool_Ticket="abc")
    submit(lab, message.recipient, message.data)
    seen = arrived(lab, message.recipient)
    assert seen.source_address in NORMAL
    assert b"X-Delivery-Pool" not in seen.data
    assert message.passes(lab) == ["fast"]


def test_notice_about_it_reaches_the_sender_clean(lab: Lab):
    message = Message()
    lab.receiver.answer(message.recipient, REFUSE)
    from_trusted(lab, message.recipient, message.data, sender="carol@spf.example")
    notice = notice_to(lab, "carol@spf.example")
    assert message.recipient in said_in(notice)
    assert b"X-Delivery-Pool" not in notice.data
    assert message.passes(lab) == ["fast"]


def test_requeued_it_is_decided_again_in_the_hop(make_lab: Callable[..., Lab]):
    lab = make_lab(site=SLOW_QUEUE)
    lab.prove_fast_path()
    message = Message()
    lab.receiver.answer("example.com", DEFER)
    submit(lab, message.recipient, message.data)
    lab.postfix.wait_until_deferred(1)
    lab.write_settings({"pins": [{"sasl_username": ALICE[0], "pool": "relay"}]})
    lab.restart_milter()
    lab.postfix.requeue("ALL")
    lab.receiver.answer("example.com", ACCEPT)
    seen = arrived(lab, message.recipient)
    assert seen.source_address in RELAY
    assert b"X-Delivery-Pool" not in seen.data
    assert message.passes(lab) == ["fast", "egress"]


def test_without_a_proof_all_mail_takes_the_hop(make_lab: Callable[..., Lab]):
    lab = make_lab()
    lab.prove_fast_path()
    remove_proof(load_settings(lab.settings_file))
    message = Message()
    submit(lab, message.recipient, message.data)
    arrived(lab, message.recipient)
    assert message.passes(lab) == HOP


@pytest.mark.parametrize("settings", [{"fast_path": "off"}, {"shadow": True}], ids=["off", "shadow"])
def test_settings_that_close_it(make_lab: Callable[..., Lab], settings: dict[str, object]):
    lab = make_lab(settings=settings)
    lab.prove_fast_path()
    message = Message()
    submit(lab, message.recipient, message.data)
    arrived(lab, message.recipient)
    assert message.passes(lab) == HOP


@pytest.mark.parametrize("option", ["XVERP", "xverp=+="])
def test_sender_for_each_recipient_takes_the_hop(make_lab: Callable[..., Lab], option: str):
    """Postfix makes these senders when it delivers: it is decided about them, not about the one they are made of."""
    lab = make_lab(site=Site(adapted={"smtpd_authorized_verp_clients": TRUSTED_CLIENT}))
    assert lab.prove_fast_path().holds
    message, without = Message(), Message()
    result = lab.send(
        ALICE[0], message.recipient, message.data, client_address=TRUSTED_CLIENT, mail_options=["RET=HDRS", option]
    )
    assert result.accepted, result
    from_trusted(lab, without.recipient, without.data)
    sender = f"alice+{message.recipient.replace('@', '=')}@example.org"
    assert arrived(lab, message.recipient).envelope_sender == sender
    assert arrived(lab, without.recipient).envelope_sender == ALICE[0]
    assert message.passes(lab) == HOP
    assert without.passes(lab) == ["fast"]


def test_undecided_mail_takes_the_hop_and_waits_there(make_lab: Callable[..., Lab]):
    lab = make_lab(site=SLOW_QUEUE)
    lab.prove_fast_path()
    lab.stop_dns()
    message = Message(From="alice@slow.example")
    lab.send("alice@slow.example", [message.recipient], message.data, client_address=TRUSTED_CLIENT)
    lab.postfix.wait_until_deferred(1)
    assert message.passes(lab)[:2] == HOP
    assert not lab.messages
