"""Who answers for a message that came over SMTP."""

import pytest

from deliverypools.core.accounts import limits_for, smtp_account, smtp_ingress, user_account
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
        "limits": {"recipients_per_day": 7, "trusted": {"recipients_per_day": 9}},
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


@pytest.mark.parametrize(
    ("ingress", "sender", "account"),
    [
        (Ingress.SUBMISSION, "eve@example.net", "alice@example.org"),
        (Ingress.SUBMISSION, "", "alice@example.org"),
        (Ingress.TRUSTED, "News@Example.org", "news@example.org"),
        (Ingress.TRUSTED, "news@BÜCHER.example", "news@xn--bcher-kva.example"),
        (Ingress.TRUSTED, "eve@example.net", "198.51.100.1"),
        (Ingress.TRUSTED, "", "198.51.100.1"),
        (Ingress.OUTSIDE, "alice@example.org", ""),
        (Ingress.LOCAL, "alice@example.org", ""),
        (Ingress.BOUNCE, "", ""),
    ],
)
def test_account_over_smtp(ingress, sender, account):
    found = smtp_account(
        ingress,
        sasl_username=" Alice@Example.org",
        client_address="198.51.100.1",
        envelope_sender=sender,
        settings=SETTINGS,
    )
    assert found == account


def test_account_of_a_system_user():
    assert user_account(1003) == "uid:1003"


@pytest.mark.parametrize("ingress", list(Ingress))
def test_trusted_networks_have_limits_of_their_own(ingress):
    assert limits_for(ingress, SETTINGS).recipients_per_day == (9 if ingress is Ingress.TRUSTED else 7)
