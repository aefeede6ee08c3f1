"""Whom the policy service looks up in lists of servers that send backscatter, and what comes before."""

import pytest

from deliverypools.core.dns_lists import DnsList
from deliverypools.core.settings import built_in_defaults
from deliverypools.core.settings.values import client_ip, ip_network
from deliverypools.core.srs import SenderRewriter
from deliverypools.policy.backscatter import Suspect
from deliverypools.policy.service import DUNNO, PolicyService, Question

CLIENT = "198.51.100.7"
DEFAULTS = built_in_defaults()
SRS_DOMAIN = "srs.example.org"


def settings(**bounces):
    chosen = DEFAULTS.bounces.model_copy(update={"backscatter_lists": (DnsList("lists.example"),)} | bounces)
    networks = (ip_network("127.0.0.0/8"), ip_network("198.51.100.77"))
    return DEFAULTS.model_copy(update={"bounces": chosen, "trusted_networks": networks})


def rewriter(secret=b"the secret of this site"):
    return SenderRewriter([secret], SRS_DOMAIN, lambda: 1_700_000_000.0)


def question(chosen=None, **changes):
    request = {
        "protocol_state": "RCPT",
        "client_address": CLIENT,
        "sender": "",
        "recipient": "alice@example.org",
        "instance": "1.2.3",
        "sasl_username": "",
    } | changes
    return PolicyService(None, lambda: 0.0, rewriter).question(request, chosen or settings(), float("inf"))


@pytest.mark.parametrize(
    "sender",
    [
        *("", "<>", "postmaster@example.net", "PostMaster@EXAMPLE.NET", "postmaster", "<postmaster@example.net>"),
        *('"postmaster"@example.net', '"Post\\master"@example.net', "postmaster@[192.0.2.1]", '"postmaster"'),
    ],
)
def test_null_senders_and_postmasters_are_looked_up(sender):
    assert question(sender=sender) == Suspect(client_ip(CLIENT), "1.2.3")


@pytest.mark.parametrize("address", [CLIENT, f"::ffff:{CLIENT}", "2001:db8::7", "2001:DB8:0::7"])
def test_clients_of_both_address_families_are_looked_up(address):
    assert question(client_address=address).client == client_ip(address)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sender": "erin@example.net"}, id="ordinary sender"),
        pytest.param({"sender": "postmaster-x@example.net"}, id="no postmaster"),
        pytest.param({"sender": "postmaster+x@example.net"}, id="extension"),
        pytest.param({"sender": "the.postmaster@example.net"}, id="longer name"),
        pytest.param({"sender": '"'}, id="one quote"),
        pytest.param({"sender": '""@example.net'}, id="empty local part"),
        pytest.param({"sender": "@example.net"}, id="no local part"),
        pytest.param({"sender": '"postmaster@example.net"@example.net'}, id="address in quotes"),
        pytest.param({"sender": "erin@postmaster"}, id="domain"),
        pytest.param({"sender": "\\" * 3000}, id="backslashes"),
        pytest.param({"client_address": "10.0.0.7"}, id="private"),
        pytest.param({"client_address": "::ffff:192.168.0.7"}, id="private and mapped"),
        pytest.param({"client_address": "169.254.0.7"}, id="link-local"),
        pytest.param({"client_address": "fe80::7"}, id="link-local IPv6"),
        pytest.param({"client_address": "::1"}, id="loopback IPv6"),
        pytest.param({"client_address": "unknown"}, id="no address"),
        pytest.param({"client_address": ""}, id="empty"),
        pytest.param({"client_address": f"{CLIENT}.evil.example"}, id="name"),
        pytest.param({"client_address": "\udcff"}, id="odd bytes"),
        *(
            pytest.param({"protocol_state": state}, id=state or "no state")
            for state in ("", "CONNECT", "EHLO", "MAIL", "VRFY", "DATA", "END-OF-MESSAGE")
        ),
    ],
)
def test_nobody_else_is_looked_up(changes):
    assert question(**changes) == DUNNO


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sasl_username": "alice@example.org"}, id="our user"),
        pytest.param({"client_address": "198.51.100.77"}, id="trusted client"),
        pytest.param({"client_address": "127.0.0.1"}, id="this host"),
    ],
)
def test_our_own_clients_are_asked_about_as_ever(changes):
    assert isinstance(question(**changes), Question)


def test_exceptions_are_not_looked_up():
    excepted = settings(backscatter_list_exceptions=(ip_network("198.51.100.0/24"), ip_network("2001:db8::/32")))
    assert question(excepted, client_address=f"::ffff:{CLIENT}") == DUNNO
    assert question(excepted, client_address="2001:db8::7") == DUNNO
    assert isinstance(question(excepted, client_address="203.0.113.7"), Suspect)


def test_without_lists_nobody_is_looked_up():
    assert question(DEFAULTS) == DUNNO


def test_srs_addresses_are_judged_first():
    valid = rewriter().forward("erin@example.net")
    assert question(recipient=valid, sender="postmaster@example.net").startswith("550 5.7.1 SRS addresses take bounces")
    forged = rewriter(b"guessed").forward("erin@example.net")
    assert question(recipient=forged).startswith("550 5.7.7 ")


def test_a_bounce_to_a_valid_srs_address_is_about_mail_of_ours():
    assert question(recipient=rewriter().forward("erin@example.net")) == DUNNO


def test_a_recipient_that_only_looks_like_an_srs_address_does_not_help():
    assert isinstance(question(recipient=f"SRS0=x@{SRS_DOMAIN}x"), Suspect)
