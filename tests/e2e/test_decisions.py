"""What leaves by which address, rule by rule."""

from __future__ import annotations

from mailing import (
    ALICE,
    HIGH_RISK,
    NORMAL,
    RELAY,
    arrived,
    decision,
    fresh,
    from_outside,
    from_trusted,
    mail,
    submit,
)

from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import REFUSE
from deliverypools.lab.waiting import wait_until

REPORT = mail(
    sender="mailer-daemon@example.org", Content_Type='multipart/report; report-type="delivery-status"; boundary=b'
)


def test_ordinary_mail_leaves_by_normal_with_that_pools_helo(lab: Lab):
    recipient = fresh()
    submit(lab, recipient)
    message = arrived(lab, recipient)
    assert message.source_address in NORMAL
    assert message.helo_name == "mail.example.org"
    assert "rule=default" in decision(lab, recipient)


def test_no_header_of_ours_is_on_the_wire(lab: Lab):
    recipient = fresh()
    submit(lab, recipient)
    assert b"X-Delivery-Pool" not in arrived(lab, recipient).data


def test_mail_that_a_scanner_called_spam_leaves_by_high_risk(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, mail(X_Spam_Status="Yes, score=12.3 required=5.0"))
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=spam" in decision(lab, recipient)


def test_null_sender_leaves_by_high_risk(lab: Lab):
    recipient = fresh()
    from_trusted(lab, recipient, sender="")
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=delivery_status_notification" in decision(lab, recipient)


def test_delivery_status_report_with_a_sender_leaves_by_high_risk(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, REPORT)
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=delivery_status_notification" in decision(lab, recipient)


def test_ndr_to_an_outside_sender_leaves_by_high_risk(lab: Lab):
    lab.postfix.set_main({"virtual_alias_maps": "inline:{refused@example.org=refused@example.net}"})
    lab.receiver.answer("refused@example.net", REFUSE)
    sender = fresh("other.example")
    try:
        from_outside(lab, "refused@example.org", sender=sender)
        ndr = arrived(lab, sender)
    finally:
        lab.postfix.set_main({"virtual_alias_maps": "texthash:$config_directory/virtual"})
    assert ndr.envelope_sender == ""
    assert ndr.source_address in HIGH_RISK
    assert ndr.helo_name == "mail-high-risk.example.org"
    assert "made by this Postfix" in decision(lab, sender)
    assert lab.receiver.not_accepted[-1][0] in RELAY


def test_ndr_to_a_user_of_ours_is_delivered_locally(lab: Lab):
    recipient = fresh("example.net")
    lab.receiver.answer(recipient, REFUSE)
    before = len(lab.mailbox("alice"))
    submit(lab, recipient)
    wait_until(lambda: len(lab.mailbox("alice")) > before, timeout_seconds=30, what="an NDR for alice")
    assert recipient in lab.mailbox("alice")[-1].as_string()


def test_sender_domain_without_mx_and_a_leaves_by_high_risk(lab: Lab):
    for domain in ("bare.example", "no-such-domain.example"):
        recipient = fresh()
        from_trusted(lab, recipient, sender=f"alice@{domain}")
        assert arrived(lab, recipient).source_address in HIGH_RISK
        assert "rule=sender_domain_without_mx_or_a" in decision(lab, recipient)


def test_client_of_ours_with_a_foreign_sender_leaves_by_relay(lab: Lab):
    recipient = fresh()
    from_trusted(lab, recipient, sender="carol@elsewhere.example")
    assert arrived(lab, recipient).source_address in RELAY
    assert "rule=forwarded" in decision(lab, recipient)


def test_outside_alias_outside_leaves_by_relay(lab: Lab):
    from_outside(lab, "alias@example.org")
    message = arrived(lab, "via-alias@example.net")
    assert message.source_address in RELAY
    assert message.helo_name == "mail-relay.example.org"


def test_outside_dot_forward_outside_leaves_by_relay_and_names_the_mailbox(lab: Lab):
    from_outside(lab, "games@example.org")
    assert arrived(lab, "via-forward@example.net").source_address in RELAY
    assert "forwarded by games@example.org" in decision(lab, "via-forward@example.net")


def test_sender_of_ours_from_outside_never_leaves_by_normal(lab: Lab):
    lab.receiver.clear()
    from_outside(lab, "alias@example.org", sender="alice@example.org")
    assert arrived(lab, "via-alias@example.net").source_address in RELAY


def test_bounce_from_outside_through_an_alias_leaves_by_high_risk(lab: Lab):
    lab.receiver.clear()
    from_outside(lab, "alias@example.org", sender="")
    assert arrived(lab, "via-alias@example.net").source_address in HIGH_RISK


def test_one_message_to_local_and_external_recipients_is_delivered_to_both(lab: Lab):
    recipient = fresh()
    before = len(lab.mailbox("bob"))
    submit(lab, ["bob@example.org", recipient])
    assert arrived(lab, recipient).source_address in NORMAL
    wait_until(lambda: len(lab.mailbox("bob")) > before, timeout_seconds=30, what="the local copy")
    local = lab.mailbox("bob")[-1]
    assert local["Return-Path"] == f"<{ALICE[0]}>"
    assert local["X-Delivery-Pool"] is None


def test_own_alias_to_outside_leaves_by_normal_for_a_user_of_ours(lab: Lab):
    lab.receiver.clear()
    submit(lab, "alias@example.org")
    assert arrived(lab, "via-alias@example.net").source_address in NORMAL


def test_ipv6_destination_sees_the_pools_ipv6_address(lab: Lab):
    if not lab.network.has_ipv6:
        return  # the lab's server then speaks IPv4 only, and there is nothing to leak
    recipient = fresh("six.example")
    submit(lab, recipient, mail(X_Spam_Flag="YES"))
    assert arrived(lab, recipient).source_address == "2001:db8::20"


def test_sendmail_by_a_user_leaves_by_normal_and_is_charged_to_the_user_id(lab: Lab):
    recipient = fresh()
    lab.sendmail("alice@example.org", [recipient], mail(), user="nobody")
    assert arrived(lab, recipient).source_address in NORMAL
    assert "account=uid:65534" in decision(lab, recipient)


def test_sendmail_with_a_foreign_sender_leaves_by_relay(lab: Lab):
    recipient = fresh()
    lab.sendmail("carol@elsewhere.example", [recipient], mail(), user="nobody")
    assert arrived(lab, recipient).source_address in RELAY


def test_mail_made_by_a_mailing_list_through_sendmail_is_ours(lab: Lab):
    recipient = fresh()
    lab.sendmail("list-bounces@example.org", [recipient], mail(sender="erin@example.com"), user="nobody")
    assert arrived(lab, recipient).source_address in NORMAL
