"""The tables that a plan looks at, beyond those of the checks."""

from __future__ import annotations

from typing import Final

from deliverypools.core.postfix_check.configuration import PostfixConfiguration
from deliverypools.core.postfix_check.syntax import file_specs, table_specs

_LISTED: Final = (
    "sender_dependent_default_transport_maps",
    "sender_dependent_relayhost_maps",
    "relay_domains",
    "mailbox_transport_maps",
    "fallback_transport_maps",
)


def tables_of_the_plan(postfix: PostfixConfiguration) -> set[str]:
    """Return the tables, `type:name`, and the files that lists name."""
    values = [postfix.value(parameter) for parameter in _LISTED]
    return {spec for value in values for spec in (*table_specs(value), *file_specs(value))}
