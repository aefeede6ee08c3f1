"""Who answers for a message that came over SMTP."""

import pytest

from deliverypools.core.account_names import UNREADABLE
from deliverypools.core.accounts import (
    Account,
    account_of,
    is_internal,
    smtp_account,
    smtp_ingress,
    tenant_of,
    user_account,
)
from deliverypools.core.facts import Ingress
from deliverypools.core.settings import Settings

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
SETTINGS = Settings.model_validate(
    {
        "accepted_domains": ["example.org", "bücher.example"],
        "trusted_networks": ["198.51.100.0/28", "2001:db8::/64"],
        "pools": POOLS,
    }
)


@pytest.mark.parametrize(
    ("sasl_username", "client_address", "ingress"),
    [
        ("alice", "203.0.113.5", Ingress.SUBMISSION),
        ("alice", "198.51.100.1", Ingress.SUBMISSION),
        ("", "198.51.100.15", Ingress.TRUSTED),
        ("", "2001:db8::1", Ingress.TRUSTED),
        ("", "198.51.100.16", Ingress.OUTSIDE),
        ("", "2001:db8:0:1::1", Ingress.OUTSIDE),
        ("", "", Ingress.OUTSIDE),
        ("", "unknown", Ingress.OUTSIDE),
    ],
)
def test_ingress_over_smtp(sasl_username, client_address, ingress):
    assert smtp_ingress(sasl_username, client_address, SETTINGS) is ingress


def account(ingress, *, login="", sender="", client="198.51.100.1"):
    return smtp_account(ingress, sasl_username=login, client_address=client, envelope_sender=sender, settings=SETTINGS)


@pytest.mark.parametrize(
    ("ingress", "sender", "expected"),
    [
        (Ingress.SUBMISSION, "eve@example.net", "alice@example.org"),
        (Ingress.SUBMISSION, "", "alice@example.org"),
        (Ingress.TRUSTED, "News@Example.org", "news@example.org"),
        (Ingress.TRUSTED, "news@BÜCHER.example", "news@xn--bcher-kva.example"),
        (Ingress.TRUSTED, "eve@example.net", "198.51.100.1"),
        (Ingress.TRUSTED, "eve@sub.example.org", "198.51.100.1"),
        (Ingress.TRUSTED, "", "198.51.100.1"),
        (Ingress.OUTSIDE, "alice@example.org", ""),
        (Ingress.LOCAL, "alice@example.org", ""),
        (Ingress.BOUNCE, "", ""),
    ],
)
def test_account_over_smtp(ingress, sender, expected):
    assert account(ingress, login=" Alice@Example.org", sender=sender) == expected


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        pytest.param("news+1234@example.org", "news@example.org", id="plus extension"),
        pytest.param("prvs=0123abcdef=news@example.org", "news@example.org", id="BATV of ours"),
        pytest.param("SRS0=h=t=example.org=news@fwd.example", "news@example.org", id="SRS of ours"),
        pytest.param("SRS0=h=t=example.net=eve@example.org", "198.51.100.1", id="SRS of a foreign sender"),
        pytest.param('"a@example.net"@example.org', "a@example.net@example.org", id="an @ in quotes"),
        pytest.param("prvs=x=" * 30 + "a@example.org", "198.51.100.1", id="unreadable"),
    ],
)
def test_a_trusted_client_is_charged_to_whom_its_sender_stands_for(sender, expected):
    assert account(Ingress.TRUSTED, sender=sender) == expected


@pytest.mark.parametrize("login", [" ", "<>", "x" * 5000])
def test_a_login_without_a_name_is_charged_all_the_same(login):
    assert account(smtp_ingress(login, "203.0.113.5", SETTINGS), login=login) == UNREADABLE


def test_account_of_a_system_user():
    assert user_account(1003) == "uid:1003"


def test_accounts_are_counted_apart_by_how_the_mail_came_in():
    keys = {Account(ingress, "alice@example.org").key for ingress in Ingress}
    assert len(keys) == len(Ingress)


@pytest.mark.parametrize(
    ("name", "tenant"),
    [
        pytest.param("alice@example.org", "example.org", id="its own domain"),
        pytest.param("alice@elsewhere.example", "", id="a domain that is not accepted"),
        pytest.param("alice@sub.example.org", "", id="a subdomain is another domain"),
        pytest.param("alice", "", id="a login without a domain may be of any tenant"),
        pytest.param("uid:33", "", id="a system user too"),
    ],
)
def test_the_tenant_is_the_accepted_domain_of_the_account(name, tenant):
    assert tenant_of(name, SETTINGS) == tenant
    assert account_of(Ingress.SUBMISSION, name, "eve@example.net", SETTINGS).tenant == tenant


def test_the_only_accepted_domain_is_the_tenant_of_a_login_without_one():
    alone = SETTINGS.model_copy(update={"accepted_domains": ("example.org",)})
    assert tenant_of("alice", alone) == "example.org"
    assert tenant_of("alice@elsewhere.example", alone) == ""


@pytest.mark.parametrize(
    ("recipient", "internal"),
    [
        ("bob@example.org", True),
        ("<Bob+x@EXAMPLE.org>", True),
        ("bob@example.com", False),
        ("bob@sub.example.org", False),
        ("v%example.com@example.org", False),
        ("example.com!v@example.org", False),
        ('"v@example.com"@example.org', False),
        ("postmaster", False),
        ("", False),
    ],
)
def test_what_postfix_sends_through_our_domain_to_elsewhere_is_not_internal(recipient, internal):
    assert is_internal(recipient, SETTINGS) is internal


@pytest.mark.parametrize(
    ("ingress", "name", "sender", "domain"),
    [
        (Ingress.SUBMISSION, "alice@sub.example.org", "eve@example.net", "sub.example.org"),
        (Ingress.SUBMISSION, "alice", "prvs=0123abcdef=alice@Example.NET", "example.net"),
        (Ingress.LOCAL, "uid:33", "www@example.org", "example.org"),
        (Ingress.LOCAL, "uid:33", "", ""),
        (Ingress.TRUSTED, "news@example.org", "news@example.org", "example.org"),
        (Ingress.TRUSTED, "198.51.100.1", "eve@example.net", ""),
    ],
)
def test_the_domain_that_policies_look_at(ingress, name, sender, domain):
    assert account_of(ingress, name, sender, SETTINGS).domain == domain


def test_nobody_is_charged_where_there_is_no_name():
    assert account_of(Ingress.OUTSIDE, "", "alice@example.org", SETTINGS) is None
