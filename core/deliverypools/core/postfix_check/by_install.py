"""Checks whose cause `delivery-pools postfix install` takes away: what they look at is made from the settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from deliverypools.core.postfix_check.checks import Check

BY_INSTALL: Final = "delivery-pools postfix install. By hand: "
"""How their remedies begin."""
MENDED_BY_INSTALL: Final = frozenset(
    {
        *("pool_transport_missing", "pool_transport_is_no_smtp_client", "pool_without_address"),
        *("pool_address_not_enforced", "pool_address_differs", "pool_address_unused", "pool_helo_differs"),
        *("tag_stays_on_the_wire", "tag_stays_in_notices", "tripwire_missing"),
        *("default_route_misses_the_decision", "transport_map_leads_nowhere", "probes_are_not_asked_outside"),
        *("smarthost_not_followed", "fallback_relay_round_the_decision", "tuning_not_copied", "queue_ids_are_reused"),
        *("tag_without_its_transport", "probe_rules_missing", "last_tag_rule_missing", "refused_tag_missing"),
        "tag_not_looked_at",
        *("milter_missing", "milter_missing_for_local_mail", "notices_not_shown_to_milter"),
        *("milter_does_not_tempfail", "milter_protocol_too_old", "milter_not_last", "daemon_name_wrong"),
        *("hop_missing", "listener_open_to_others", "listener_without_fail_safe", "listener_refuses_mail"),
        *("listener_applies_site_settings_again", "listener_changes_mail", "hop_counts_against_mail"),
        *("hop_client_loses_mail", "hop_client_changes_mail"),
        *("policy_not_asked_about_senders", "policy_not_asked_at_the_end", "policy_stops_mail"),
        *("rewritten_senders_lead_nowhere", "fast_path_half_set_up"),
    }
)


def with_install(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks, with the command first in the remedies of those that it mends."""
    return tuple(
        replace(one, remedy=f"{BY_INSTALL}{one.remedy}") if one.name in MENDED_BY_INSTALL else one for one in checks
    )
