"""DNS lists of servers that send backscatter, with a real Postfix: who is refused, who is tagged, and who waits."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from mailing import ALICE, delivered, fresh_subject, mail, running
from test_srs_addresses import srs

from deliverypools.core.dns_lists import query_name
from deliverypools.lab.dns_server import DnsFailure, txt
from deliverypools.lab.lab import Lab, SendResult
from deliverypools.lab.postfix import Site
from deliverypools.lab.waiting import wait_until

LISTS = "lists.example"
CODED = "coded.example"
LISTED, NOT_LISTED, OTHER_CODE, REFUSING, INVENTED, EXCEPTED, RIGHT_CODE = (
    f"203.0.113.{number}" for number in (1, 2, 3, 4, 5, 6, 7)
)
TRUSTED = "127.0.0.7"
LISTED6 = "2001:db8:113::1"
HEADER = "X-Delivery-Pool-Backscatter"
ANSWERS = {
    (LISTED, LISTS): {"A": ["127.0.0.2"], "TXT": [txt(f"see http://{LISTS}/?ip={LISTED}")]},
    (LISTED6, LISTS): {"A": ["127.0.0.2"]},
    (EXCEPTED, LISTS): {"A": ["127.0.0.2"]},
    (TRUSTED, LISTS): {"A": ["127.0.0.2"]},
    (REFUSING, LISTS): {"A": ["127.255.255.254"]},
    (INVENTED, LISTS): {"A": ["198.51.100.25"]},
    (OTHER_CODE, CODED): {"A": ["127.0.0.3"]},
    (RIGHT_CODE, CODED): {"A": ["127.0.0.3", "127.0.0.4"]},
}
ZONES = {query_name(ip_address(client), name): records for (client, name), records in ANSWERS.items()}
BOUNCES: dict[str, Any] = {
    "backscatter_lists": [LISTS, f"{CODED}=127.0.0.[2;4..8]"],
    "backscatter_list_exceptions": [EXCEPTED],
}


@pytest.fixture(scope="module")
def rejecting() -> Iterator[Lab]:
    with running(zones=ZONES, settings={"bounces": BOUNCES}) as lab:
        yield lab


@pytest.fixture(scope="module")
def tagging() -> Iterator[Lab]:
    site = Site(
        files={"header_checks": f"/^{HEADER}:/ WARN seen by header_checks\n"},
        adapted={"header_checks": "regexp:{config}/header_checks"},
    )
    with running(zones=ZONES, site=site, settings={"bounces": BOUNCES | {"backscatter_list_action": "tag"}}) as lab:
        yield lab


def send(lab: Lab, client: str, sender: str = "", recipients: str | list[str] = "bob@example.org") -> SendResult:
    return lab.send(sender, recipients, mail(sender or "mailer-daemon@example.com"), client_address=client)


def sent(lab: Lab, client: str, recipients: list[str], sender: str = "") -> str:
    """Send a message that is accepted; return its subject."""
    subject = fresh_subject()
    data = mail(sender or "mailer-daemon@example.com", Subject=subject)
    result = lab.send(sender, recipients, data, client_address=client)
    assert result.accepted, result
    return subject


def headers(lab: Lab, mailbox: str, subject: str) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in delivered(lab, mailbox, subject).items()]


class TestRefused:
    @pytest.mark.parametrize("sender", ["", "postmaster@example.com", '"PostMaster"@elsewhere.example'])
    def test_bounces_and_mail_of_postmasters_from_a_listed_client(self, rejecting: Lab, sender: str):
        result = send(rejecting, LISTED, sender)
        assert result.code == 550
        assert result.text.startswith("5.7.1 <")
        assert f"refused from {LISTED}, which {LISTS} lists for sending backscatter" in result.text
        # A refusal waits a second for what the list says of it, and goes without it on a busy machine.
        wait_until(
            lambda: f"(see http://{LISTS}/?ip={LISTED})" in send(rejecting, LISTED, sender).text,
            timeout_seconds=20,
            what="the reason of the list",
        )

    def test_a_client_with_an_ipv6_address(self, rejecting: Lab):
        assert f"refused from {LISTED6}, which {LISTS} lists" in send(rejecting, LISTED6).text

    def test_a_code_that_counts(self, rejecting: Lab):
        assert f"refused from {RIGHT_CODE}, which {CODED} lists" in send(rejecting, RIGHT_CODE).text

    def test_the_log_tells(self, rejecting: Lab):
        assert send(rejecting, LISTED).code == 550
        assert f" {LISTED} is listed by {LISTS}: mail refused" in rejecting.policy.log()


class TestAccepted:
    @pytest.mark.parametrize("sender", ["erin@example.com", "erin@elsewhere.example", "postmasters@example.com"])
    def test_ordinary_mail_from_a_listed_client(self, rejecting: Lab, sender: str):
        subject = sent(rejecting, LISTED, ["bob@example.org"], sender)
        assert HEADER not in delivered(rejecting, "bob", subject)

    @pytest.mark.parametrize(
        "client",
        [
            pytest.param(NOT_LISTED, id="not listed"),
            pytest.param(EXCEPTED, id="exception"),
            pytest.param(OTHER_CODE, id="another code"),
            pytest.param(REFUSING, id="the list refuses to answer"),
            pytest.param(INVENTED, id="an invented answer"),
            pytest.param(TRUSTED, id="trusted"),
        ],
    )
    def test_bounces_of_others(self, rejecting: Lab, client: str):
        subject = sent(rejecting, client, ["bob@example.org"])
        assert HEADER not in delivered(rejecting, "bob", subject)

    def test_a_bounce_to_a_rewritten_sender_of_ours(self, rejecting: Lab):
        with rejecting.session(client_address=LISTED) as smtp:
            smtp.mail("")
            assert smtp.rcpt(srs(rejecting, "erin@example.com"))[0] == 250
            assert smtp.rcpt("bob@example.org")[0] == 550

    def test_our_users_wherever_they_are(self, rejecting: Lab):
        result = rejecting.send(
            "postmaster@example.org", "bob@example.org", mail(), port=587, auth=ALICE, client_address=LISTED
        )
        assert result.accepted, result

    def test_the_administrator_hears_of_useless_answers(self, rejecting: Lab):
        assert send(rejecting, REFUSING).accepted
        assert f"WARNING: {LISTS}: 127.255.255.254: it refuses to answer" in rejecting.policy.log()


class TestTagged:
    def test_once_for_all_recipients_also_when_the_first_is_refused(self, tagging: Lab):
        subject = fresh_subject()
        recipients = ["nobody-here@example.org", "x@relay.example", "bob@example.org", "alice@example.org"]
        result = tagging.send("", recipients, mail(Subject=subject), client_address=LISTED)
        assert result.accepted
        assert sorted(result.refused) == ["nobody-here@example.org", "x@relay.example"]
        for mailbox in ("bob", "alice"):
            assert [value for name, value in headers(tagging, mailbox, subject) if name == HEADER] == [LISTS]

    def test_the_header_is_above_received_and_header_checks_see_it(self, tagging: Lab):
        subject = sent(tagging, LISTED, ["bob@example.org"], "postmaster@example.com")
        names = [name for name, _ in headers(tagging, "bob", subject)]
        assert names[names.index(HEADER) + 1] == "Received"
        assert names.count("Received") == 1
        tagging.postfix.wait_for_log(re.escape(f"warning: header {HEADER}: {LISTS} from unknown[{LISTED}]"))

    def test_the_next_message_of_a_session_is_another_one(self, tagging: Lab):
        subjects = [fresh_subject() for _ in range(3)]
        with tagging.session(client_address=LISTED) as smtp:
            smtp.mail("")
            smtp.rcpt("bob@example.org")
            smtp.rset()
            for sender, subject in zip(("erin@example.com", "", ""), subjects, strict=True):
                smtp.mail(sender)
                assert smtp.rcpt("bob@example.org")[0] == 250
                assert smtp.data(mail(Subject=subject))[0] == 250
        tagged = [delivered(tagging, "bob", subject).get_all(HEADER, []) for subject in subjects]
        assert tagged == [[], [LISTS], [LISTS]]

    def test_others_are_not_tagged(self, tagging: Lab):
        for client, sender in ((NOT_LISTED, ""), (LISTED, "erin@example.com"), (EXCEPTED, "")):
            subject = sent(tagging, client, ["bob@example.org"], sender)
            assert HEADER not in delivered(tagging, "bob", subject)


def test_a_dead_list_holds_up_nobody_but_the_bounce_that_asks(make_lab: Callable[..., Lab]):
    lab = make_lab(zones=ZONES, settings={"bounces": BOUNCES | {"backscatter_list_timeout_seconds": 4.0}})
    lab.dns.fail(LISTS, DnsFailure.TIMEOUT)
    bounces = []
    bounce = threading.Thread(target=lambda: bounces.append(send(lab, LISTED)))
    bounce.start()
    wait_until(lambda: _was_asked(lab), timeout_seconds=20, what="question to the list")
    assert send(lab, NOT_LISTED, "erin@example.com").accepted
    assert lab.send(ALICE[0], "bob@example.org", mail(), port=587, auth=ALICE).accepted
    assert bounces == []
    bounce.join(60)
    assert [result.accepted for result in bounces] == [True]
    assert f"WARNING: {LISTS} did not answer in time; no verdict" in lab.policy.log()


def test_a_reload_takes_new_lists(make_lab: Callable[..., Lab]):
    lab = make_lab(zones=ZONES)
    assert send(lab, LISTED).accepted
    lab.write_settings({"bounces": BOUNCES})
    lab.policy.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings reloaded" in lab.policy.log(), timeout_seconds=20, what="reload")
    assert send(lab, LISTED).code == 550


def _was_asked(lab: Lab) -> bool:
    return (query_name(ip_address(LISTED), LISTS), "A") in lab.dns.asked
