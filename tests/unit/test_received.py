"""Received fields as Postfix 3.7 writes them, and what is none of ours."""

import pytest

from deliverypools.core.headers import Headers
from deliverypools.core.received import Received, date_of, own_received

HOST = "mx.example.org"
AT_TEN = 1700560800.0  # 2023-11-21 10:00:00 UTC
DATE = "Tue, 21 Nov 2023 11:00:00 +0100 (CET)"

PLAIN = (
    "from client.example.net (client.example.net [198.51.100.7])\n"
    "\tby mx.example.org (Postfix) with ESMTP id 4SZPlw1CyQz3wkL\n"
    f"\tfor <alice@example.org>; {DATE}"
)
SEVERAL_RECIPIENTS = (
    "from client.example.net (unknown [IPv6:2001:db8::7])\n"
    f"\tby mx.example.org (Postfix) with SMTP id 4SZPlw1CyQz3wkL; {DATE}"
)
TLS = (
    "from laptop (dyn.example.net [198.51.100.7])\n"
    "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\n"
    "\t key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256)\n"
    "\t(No client certificate requested)\n"
    "\t(Authenticated sender: alice)\n"
    "\tby mx.example.org (Postfix) with ESMTPSA id 4SZPlw1CyQz3wkL\n"
    f"\tfor <bob@example.net>; {DATE}"
)
TLS_WITH_CERTIFICATE = (
    "from relay.example.net (relay.example.net [198.51.100.7])\n"
    "\t(using TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits))\n"
    '\t(Client CN "relay.example.net", Issuer "Example CA (R3)" (verified OK))\n'
    "\tby mx.example.org (Postfix) with ESMTPS id 4SZPlw1CyQz3wkL\n"
    f"\tfor <alice@example.org>; {DATE}"
)
SMTPUTF8 = PLAIN.replace("ESMTP", "UTF8SMTPSA")
SHORT_QUEUE_ID = PLAIN.replace("4SZPlw1CyQz3wkL", "9A1B2C3D4E")
PICKUP = f"by mx.example.org (Postfix, from userid 1003)\n\tid 4SZPlw1CyQz3wkL; {DATE}"
LOCAL_FORWARD = f"by mx.example.org (Postfix)\n\tid 4SZPlw1CyQz3wkL; {DATE}"
OTHER_MAIL_NAME = PLAIN.replace("(Postfix)", "(Postfix - Example Ltd.)")


def read(*values, host=HOST):
    return list(own_received(Headers.of(("Received", value) for value in values), host))


@pytest.mark.parametrize(
    "value",
    [PLAIN, SEVERAL_RECIPIENTS, TLS, TLS_WITH_CERTIFICATE, SMTPUTF8, LOCAL_FORWARD, OTHER_MAIL_NAME],
    ids=["plain", "several-recipients", "tls", "certificate", "smtputf8", "local-forward", "other-mail-name"],
)
def test_field_of_our_own_postfix(value):
    (received,) = read(value)
    assert (received.queue_id, received.user_id, received.received_at) == ("4SZPlw1CyQz3wkL", None, AT_TEN)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (PLAIN, ("198.51.100.7", "client.example.net", False, "")),
        (SEVERAL_RECIPIENTS, ("2001:db8::7", "", False, "")),
        (TLS, ("198.51.100.7", "dyn.example.net", True, "alice")),
        (TLS_WITH_CERTIFICATE, ("198.51.100.7", "relay.example.net", False, "")),
        (PICKUP, ("", "", False, "")),
        (LOCAL_FORWARD, ("", "", False, "")),
        (
            PLAIN.replace("from client.example.net", "from a (b [192.0.2.1])"),
            ("198.51.100.7", "client.example.net", False, ""),
        ),
        (
            PLAIN.replace("from client.example.net", "from (Authenticated sender: eve)"),
            ("198.51.100.7", "client.example.net", False, ""),
        ),
        (TLS.replace("alice)", "al (i) ce)"), ("198.51.100.7", "dyn.example.net", True, "al (i) ce")),
        (PLAIN.replace("ESMTP", "ESMTPA"), ("198.51.100.7", "client.example.net", True, "")),
    ],
    ids=[
        "plain",
        "ipv6",
        "login",
        "certificate",
        "pickup",
        "forward",
        "helo-client",
        "helo-login",
        "odd-login",
        "no-name",
    ],
)
def test_what_it_says_of_the_client(value, client):
    (received,) = read(value)
    assert (
        received.client_address,
        received.client_name,
        received.is_authenticated,
        received.sasl_username,
    ) == client


def test_pickup_tells_the_user_id():
    assert read(PICKUP) == [Received(queue_id="4SZPlw1CyQz3wkL", user_id=1003, received_at=AT_TEN)]


def test_short_queue_id():
    assert read(SHORT_QUEUE_ID)[0].queue_id == "9A1B2C3D4E"


def test_host_name_in_any_case():
    assert len(read(PLAIN, host="MX.Example.Org")) == 1


def test_what_a_client_says_in_helo_is_not_read():
    helo = "by mx.example.org (Postfix, from userid 0) id FORGED99"
    assert read(PLAIN.replace("from ", f"from {helo} ", 1)) == read(PLAIN)


@pytest.mark.parametrize("host", ["mx2.example.org", "x.mx.example.org", "example.org", "mx.example.org.net", ""])
def test_field_of_another_host_is_left_out(host):
    assert read(PLAIN, host=host) == []


@pytest.mark.parametrize(
    "value",
    [
        "from mx.example.org (mx.example.org [192.0.2.1]) by other.example.net (Postfix) with ESMTP id ABCDEF1; "
        + DATE,
        "from x by mx.example.org with SMTP id ABCDEF1; " + DATE,
        "from x by mx.example.org (8.17.1/8.17.1) with ESMTPS; " + DATE,
        "by mx.example.org (Postfix) id ; " + DATE,
        "(qmail 12345 invoked by uid 89); 21 Nov 2023 10:00:00 -0000",
        "",
    ],
)
def test_what_our_postfix_did_not_write_is_left_out(value):
    assert read(value) == []


def test_field_of_another_product_on_this_host_tells_no_user():
    exim = "from alice by mx.example.org with local (Exim 4.96) id 1r5NbX-0001; " + DATE
    assert read(exim) == []


def test_topmost_first():
    assert [received.queue_id for received in read(PICKUP, SHORT_QUEUE_ID)] == ["4SZPlw1CyQz3wkL", "9A1B2C3D4E"]


def test_time_is_none_where_the_date_cannot_be_read():
    assert read(LOCAL_FORWARD.replace(DATE, "yesterday"))[0].received_at is None


def test_a_long_field_is_read_in_no_time():
    assert read("by " * 100_000 + "(" * 100_000) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Tue, 21 Nov 2023 10:00:00 +0000", AT_TEN),
        ("21 Nov 2023 10:00:00 GMT", AT_TEN),
        (" Tue, 21 Nov 2023 05:00:00 EST ", AT_TEN),
        ("", None),
        ("never", None),
    ],
)
def test_date_of(text, seconds):
    assert date_of(text) == seconds
