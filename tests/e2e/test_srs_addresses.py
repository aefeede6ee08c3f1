"""Bounces to rewritten senders (SRS) on a real Postfix: who gets in, where they go, what waits without the daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.message import EmailMessage

import pytest
from mailing import arrived, fresh, mail, running

from deliverypools.adapters.srs_secrets import read_srs_secrets
from deliverypools.core.settings import parse_settings
from deliverypools.core.srs import SenderRewriter
from deliverypools.lab.lab import OUTSIDE_CLIENT, TRUSTED_CLIENT, Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until

DAY = 86400
LOOK_UP_FAILURE = 451
MAPS = (
    "inline:{old-name@example.org=alice@example.org}, "
    "pipemap:{regexp:{config}/delivery-pools/srs_addresses, socketmap:unix:delivery-pools/socketmap.sock:srs}"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Provide the hop on a server that has canonical maps of its own, and keeps them in front of ours."""
    with running(site=Site(adapted={"recipient_canonical_maps": MAPS})) as lab:
        yield lab


def srs(lab: Lab, original: str, days_ago: int = 0) -> str:
    """Return what the milter makes, or made, of a sender."""
    forwarding = parse_settings(lab.settings_file.read_text(), "").forwarding
    assert forwarding.srs_domain is not None
    assert forwarding.srs_secret_file is not None
    secrets = read_srs_secrets(forwarding.srs_secret_file)
    rewriter = SenderRewriter(secrets, forwarding.srs_domain, lambda: time.time() - days_ago * DAY, 120)
    address = rewriter.forward(original)
    assert isinstance(address, str)
    return address


def reply(lab: Lab, recipient: str, sender: str = "", client_address: str = OUTSIDE_CLIENT) -> tuple[int, str]:
    """Return what Postfix says to a recipient."""
    with lab.session(client_address=client_address) as smtp:
        assert smtp.mail(sender)[0] == 250
        code, text = smtp.docmd(f"RCPT TO:<{recipient}>")
    return code, text.decode()


@pytest.mark.parametrize(
    "local_part",
    [
        "Sender",
        "plus+extension",
        '"john doe"',
        r'"a\"b\\c"',
        '"two..dots"',
        '"a,b;c(d)"',
        "SRS0=abcd=TT=x.example=u",
        "a=b",
    ],
)
def test_a_bounce_goes_to_the_original_sender(lab: Lab, local_part: str):
    original = f"{local_part}@example.com"
    result = lab.send("", srs(lab, original), mail("MAILER-DAEMON@example.net"), client_address=OUTSIDE_CLIENT)
    assert result.accepted, result
    received = arrived(lab, original)
    assert received.envelope_sender == ""
    assert lab.pool_of(received) == "high-risk"


@pytest.mark.parametrize("separator", "=-+")
def test_any_spelling_of_an_address_gets_in(lab: Lab, separator: str):
    address = srs(lab, "sender@example.com")
    assert reply(lab, f"SRS0{separator}{address[5:]}")[0] == 250
    assert reply(lab, f"srs0{separator}{address[5:]}".lower())[0] == 250


def test_hashes_with_the_delimiter_of_extensions_get_in(lab: Lab):
    addresses = (srs(lab, f"u{number}@example.com") for number in range(10_000))
    with_plus = next(address for address in addresses if "+" in address)
    assert reply(lab, with_plus)[0] == 250


@pytest.mark.parametrize("client_address", [OUTSIDE_CLIENT, TRUSTED_CLIENT])
def test_what_may_not_get_in_is_told_why(lab: Lab, client_address: str):
    right = srs(lab, "sender@example.com")
    for recipient, sender, text in (
        (right, "bob@example.com", "5.7.1 <bob@example.com>: Sender address rejected: SRS addresses take bounces only"),
        (
            right.replace("sender", "victim"),
            "",
            "5.7.7 <>: Sender address rejected: The SRS address of the recipient was",
        ),
        (
            srs(lab, "sender@example.com", 22),
            "",
            "5.4.7 <>: Sender address rejected: The SRS address of the recipient has",
        ),
    ):
        code, said = reply(lab, recipient, sender, client_address)
        assert (code, said[: len(text)]) == (550, text)


def test_a_part_of_the_hash_is_no_way_in(lab: Lab):
    head, digest, rest = srs(lab, "sender@example.com").split("=", 2)
    for length in range(1, len(digest)):
        code, said = reply(lab, f"{head}={digest[:length]}={rest}")
        assert (code, "was not made here" in said) == (550, True)


def test_other_addresses_of_the_domain_are_postfixs_business(lab: Lab):
    assert reply(lab, "postmaster@srs.example.org", "bob@example.com")[0] == 250
    code, said = reply(lab, "SRS0=x@srs.example.org")
    assert (code, "User unknown" in said) == (550, True)


def test_only_mail_to_srs_addresses_needs_the_daemon(lab: Lab):
    address = srs(lab, fresh())
    lab.policy.stop()
    try:
        assert reply(lab, "old-name@example.org", "bob@example.com")[0] == 250
        assert reply(lab, "postmaster@srs.example.org")[0] == 250
        code, said = reply(lab, address)
        assert (code, said.startswith("4.3.0 ")) == (LOOK_UP_FAILURE, True)
        before = len(lab.mailbox("alice"))
        local = EmailMessage()
        local["From"] = "bob@example.com"
        local.set_content("delivered without the policy service\n")
        assert lab.send(
            "bob@example.com", "alice@example.org", local.as_bytes(), client_address=OUTSIDE_CLIENT
        ).accepted
        wait_until(lambda: len(lab.mailbox("alice")) > before, timeout_seconds=20, what="the message in the mailbox")
    finally:
        lab.policy.start()
    # No process of Postfix has to be restarted.
    wait_until(lambda: reply(lab, address)[0] == 250, timeout_seconds=20, what="the SRS address gets in again")
