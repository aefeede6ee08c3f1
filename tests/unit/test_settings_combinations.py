"""Keys of `[bounces]` that do less than they say because of others."""

import pytest

from deliverypools.core.settings import Settings

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
TOLD = {"alerts": {"mail_to": ["postmaster@example.org"]}}


def warnings(bounces, **others):
    read = Settings.model_validate({"accepted_domains": ["example.org"], "pools": POOLS, "bounces": bounces} | others)
    return read.not_in_effect()


@pytest.mark.parametrize(
    ("bounces", "others", "warning"),
    [
        ({"drop_backscatter": True}, {"profile": "express"}, "drop_backscatter: has no effect with profile"),
        (
            {"drop_backscatter": True},
            TOLD | {"authentication": {"enabled": False}},
            "drop_backscatter: only notices about spam",
        ),
        ({"drop_backscatter": True}, {}, "drop_backscatter: nobody gets the daily digest"),
        ({"drop_backscatter": True, "ledger_lifetime": "1h"}, TOLD, "ledger_lifetime: below a day"),
        ({"drop_backscatter": True}, TOLD | {"shadow": True}, "drop_backscatter: with shadow = true"),
        ({"reject_backscatter": True}, {"shadow": True}, "reject_backscatter: with shadow = true"),
        ({"backscatter_lists": ["a.example"]}, {"shadow": True}, "backscatter_lists: with shadow = true"),
        ({"backscatter_list_action": "tag"}, {}, "backscatter_list_action: has no effect without"),
        ({"backscatter_list_exceptions": ["192.0.2.0/24"]}, {}, "backscatter_list_exceptions: has no effect without"),
    ],
)
def test_each_has_one_warning(bounces, others, warning):
    (found,) = warnings(bounces, **others)
    assert found.startswith(f"bounces.{warning}")


@pytest.mark.parametrize(
    ("bounces", "others"),
    [
        ({}, {}),
        ({"drop_backscatter": True}, TOLD),
        ({"drop_backscatter": True}, {"alerts": {"webhook": "https://alerts.example.org/"}}),
        (
            {"drop_backscatter": True},
            TOLD | {"authentication": {"enabled": False}, "trusted_authserv_ids": ["mx.example.org"]},
        ),
        ({"reject_backscatter": True, "backscatter_lists": ["a.example"], "backscatter_list_action": "tag"}, {}),
        ({"ledger_lifetime": "1h"}, {}),
    ],
)
def test_no_warning_where_all_is_well(bounces, others):
    assert warnings(bounces, **others) == ()
