"""Messages of odd size and shape."""

from __future__ import annotations

from collections.abc import Callable

from mailing import ALICE, HIGH_RISK, NORMAL, RELAY, arrived, decision, fresh, from_outside, from_trusted, mail, submit

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until


def test_120_recipients_in_one_message_all_leave_by_normal(lab: Lab):
    recipients = [fresh() for _ in range(120)]
    submit(lab, recipients)
    seen = {arrived(lab, recipient).source_address for recipient in recipients}
    assert seen <= NORMAL
    arrivals = [r for message in lab.messages for r in message.recipients if r in recipients]
    assert sorted(arrivals) == sorted(recipients)


def test_message_without_any_header(lab: Lab):
    recipient = fresh()
    from_trusted(lab, recipient, b"\r\nno header at all\r\n")
    assert arrived(lab, recipient).source_address in NORMAL


def test_message_from_outside_without_date_from_and_message_id_keeps_its_ticket(lab: Lab):
    from_outside(lab, "alias@example.org", b"Subject: bare\r\n\r\nhello\r\n")
    message = arrived(lab, "via-alias@example.net")
    assert message.source_address in RELAY
    assert message.header("From") is None, "the hop adds no header"


def test_headers_of_1500_characters_in_one_line_do_not_break_the_ticket(lab: Lab):
    recipient = fresh()
    long = "x" * 1500
    submit(lab, recipient, mail(Subject=long, From=f"{'y' * 1500} <alice@example.org>", X_Other=long))
    assert arrived(lab, recipient).source_address in NORMAL


def test_body_lines_of_5000_characters_do_not_break_the_ticket(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, mail(body="z" * 5000 + "\r\n"))
    assert arrived(lab, recipient).source_address in NORMAL


def test_eight_bit_headers_and_body(lab: Lab):
    recipient = fresh()
    data = mail(body="caf").replace(b"caf", b"caf\xe9\xff").replace(b"Subject: hello", b"Subject: \xe4\xf6\xfc \xff")
    submit(lab, recipient, data)
    assert arrived(lab, recipient).source_address in NORMAL


def test_line_with_an_eight_bit_field_name_ends_the_header_and_hangs_nothing(lab: Lab):
    recipient = fresh()
    from_trusted(lab, recipient, b"From: alice@example.org\r\nX-\xff\xe9: odd\r\nX-Spam-Flag: YES\r\n\r\nhello\r\n")
    # Postfix takes such a line for the first of the body, and so do we.
    assert arrived(lab, recipient, seconds=20).source_address in NORMAL


def test_message_near_the_size_limit_passes_the_hop(make_lab: Callable[..., Lab]):
    """The largest message that the first pass takes grows by our headers in the second."""
    lab = make_lab(site=Site(main={"message_size_limit": "60000"}))
    recipient = fresh()
    sizes = range(60_000, 50_000, -100)
    largest = next(size for size in sizes if _is_taken(lab, recipient, mail(body="0123456789\r\n" * (size // 12))))
    assert largest < sizes[0], "the limit was not reached"
    assert arrived(lab, recipient).source_address in NORMAL


def _is_taken(lab: Lab, recipient: str, data: bytes) -> bool:
    return lab.send(ALICE[0], recipient, data, port=587, auth=ALICE).accepted


def test_large_message_passes_in_both_directions(lab: Lab):
    recipient = fresh()
    data = mail(body="0123456789abcdef\r\n" * 400_000)
    submit(lab, recipient, data)
    assert len(arrived(lab, recipient, seconds=60).data) > 7_000_000


def test_smtputf8_sender_and_recipient_pass_the_hop(lab: Lab):
    recipient = "empfänger@example.com"
    result = lab.send("alice@example.org", [recipient], mail(Subject="grüße"), port=587, auth=ALICE, smtputf8=True)
    assert result.accepted, result
    message = arrived(lab, recipient)
    assert message.source_address in NORMAL
    assert "SMTPUTF8" in message.mail_parameters


def test_dsn_parameters_arrive_unchanged(lab: Lab):
    recipient = fresh()
    result = lab.send(
        ALICE[0],
        [recipient],
        mail(),
        port=587,
        auth=ALICE,
        mail_options=["RET=HDRS", "ENVID=QQ314159"],
        rcpt_options=["NOTIFY=FAILURE,DELAY", f"ORCPT=rfc822;{recipient}"],
    )
    assert result.accepted, result
    message = arrived(lab, recipient)
    assert {"RET=HDRS", "ENVID=QQ314159"} <= set(message.mail_parameters)
    assert {"NOTIFY=FAILURE,DELAY", f"ORCPT=rfc822;{recipient}"} <= set(message.recipient_parameters[recipient])


def test_success_dsn_leaves_by_high_risk_or_stays_here(lab: Lab):
    before = len(lab.mailbox("alice"))
    recipient = fresh()
    result = lab.send(ALICE[0], [recipient], mail(), port=587, auth=ALICE, rcpt_options=["NOTIFY=SUCCESS"])
    assert result.accepted, result
    arrived(lab, recipient)
    # The receiving server announces DSN and is asked for the report: the hop itself makes none.
    assert "NOTIFY=SUCCESS" in arrived(lab, recipient).recipient_parameters[recipient]
    assert len(lab.mailbox("alice")) == before


def test_quoted_local_part_and_bang_and_percent_addresses(lab: Lab):
    for local_part in ('"odd local"', "a!b", "a%b"):
        recipient = f"{local_part}@example.com"
        submit(lab, recipient)
        assert arrived(lab, recipient).source_address in NORMAL


def test_always_bcc_copy_is_delivered_once_and_carries_no_tag(make_lab: Callable[..., Lab]):
    lab = make_lab(site=Site(main={"always_bcc": "bob@example.org"}))
    recipient = fresh()
    submit(lab, recipient)
    assert arrived(lab, recipient).source_address in NORMAL
    wait_until(lambda: len(lab.mailbox("bob")) > 0, timeout_seconds=30, what="the bcc copy")
    lab.postfix.wait_until_queue_is_empty()
    assert [message["X-Delivery-Pool"] for message in lab.mailbox("bob")] == [None]


def test_body_that_looks_like_our_headers_is_left_alone(lab: Lab):
    recipient = fresh()
    submit(lab, recipient, mail(body="X-Delivery-Pool: normal\r\nX-Delivery-Pool-Ticket: a\r\n"))
    assert b"\r\n\r\nX-Delivery-Pool: normal\r\n" in arrived(lab, recipient).data


def test_attached_message_with_our_headers_is_not_changed_on_the_way_out(lab: Lab):
    recipient = fresh()
    attached = (
        "--b\r\nContent-Type: message/rfc822\r\n\r\nX-Delivery-Pool-Ticket: a\r\nSubject: in\r\n\r\nhi\r\n--b--\r\n"
    )
    submit(lab, recipient, mail(body=attached, MIME_Version="1.0", Content_Type='multipart/mixed; boundary="b"'))
    # Taking it out would break the DKIM signature that a signer in the first pass has made.
    assert b"X-Delivery-Pool-Ticket: a" in arrived(lab, recipient).data


def test_spam_header_behind_600_others_is_seen_or_waits(lab: Lab):
    recipient = fresh()
    submit(
        lab,
        recipient,
        b"Received: from nowhere\r\n" * 40 + b"X-Spam-Flag: NO\r\n" * 400 + b"X-Spam-Flag: YES\r\n" + mail(),
    )
    assert arrived(lab, recipient).source_address in HIGH_RISK
    assert "rule=spam" in decision(lab, recipient)
