"""Actions that reroute, copy or hold a message, in checks and access tables; and who else may say them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from deliverypools.core.postfix_check.configuration import Entry, Service
from deliverypools.core.postfix_check.fast_addresses import named
from deliverypools.core.postfix_check.fast_tables import entries_of, why_unknown
from deliverypools.core.postfix_check.routes import CHECK_PARAMETERS, RESTRICTION_PARAMETERS, access_tables
from deliverypools.core.postfix_check.site import POLICY_CHECK, Site
from deliverypools.core.postfix_check.syntax import action_of, client_of, is_table, split_list, table_specs

_REROUTING: Final = frozenset({"BCC", "REDIRECT", "FILTER", "HOLD"})
_WITH_TEXT: Final = frozenset(
    {
        *("OK", "PERMIT", "DUNNO", "REJECT", "DEFER", "DEFER_IF_REJECT", "DEFER_IF_PERMIT"),
        *("DISCARD", "PREPEND", "INFO", "WARN"),
    }
)
"""Of access(5): what follows is text, and names no further restriction."""
_TAG: Final = "/^X-Delivery-Pool:"
"""How the rules for the tag begin."""
_TAG_CHECKS: Final = "/delivery-pools/tag_checks"


def rerouting_checks(site: Site, door: Service, cleanup: Service) -> Iterator[str]:
    """Yield the header and body checks that reroute mail of a door."""
    is_off = "no_header_body_checks" in site.postfix.words("receive_override_options", door)
    for parameter in (*(() if is_off else CHECK_PARAMETERS), "milter_header_checks"):
        for spec in table_specs(site.postfix.value(parameter, cleanup)):
            if problem := why_unknown(site, spec):
                yield f"{named(parameter, cleanup)}: {problem}"
            for entry in entries_of(site, spec):
                action, rest = action_of(entry.value)
                if action in _REROUTING and not _is_rule_for_the_tag(spec, entry):
                    yield f"{named(parameter, cleanup)}: {spec}: {entry.key} {action} {rest}".rstrip()


def _is_rule_for_the_tag(spec: str, entry: Entry) -> bool:
    return spec.endswith(_TAG_CHECKS) and entry.key.startswith(_TAG) and not entry.is_negated


def restriction_lists(site: Site, door: Service) -> Iterator[tuple[str, str]]:
    """Yield the restrictions of a door, with the parameters that hold them; those with names of the site's too."""
    for parameter in (*RESTRICTION_PARAMETERS, *site.postfix.words("smtpd_restriction_classes", door)):
        yield parameter, site.postfix.value(parameter, door)


def rerouting_restrictions(site: Site, door: Service) -> Iterator[str]:
    """Yield what a door's restrictions may reroute: by access tables, or by policy services."""
    classes = site.postfix.words("smtpd_restriction_classes", door)
    for parameter, value in restriction_lists(site, door):
        label = named(parameter, door)
        for spec in (spec for table in access_tables(value) for spec in table_specs(table)):
            if problem := why_unknown(site, spec):
                yield f"{label}: {problem}"
            for entry in entries_of(site, spec):
                if _may_reroute(entry.value, classes):
                    yield f"{label}: {spec}: {entry.key} {entry.value}"
        yield from (f"{label}: {found}" for found in _policies(site, door, value))


def _may_reroute(answer: str, classes: tuple[str, ...]) -> bool:
    action, _ = action_of(answer)
    if action in _REROUTING or "$" in action:
        return True
    if action in _WITH_TEXT or action[:1].isdigit():
        return False
    # A list of restrictions (access(5)): those that have tables or ask somebody are not followed.
    return any(
        word.lower().startswith("check_") or is_table(word) or word.endswith("...")
        for word in split_list(answer)
        if word not in classes
    )


def _policies(site: Site, door: Service, restrictions: str) -> Iterator[str]:
    for before, word in pairwise(split_list(restrictions)):
        if before.lower() != POLICY_CHECK:
            continue
        client = client_of(word)
        if not site.is_ours(client.endpoint, site.settings.policy.socket):
            yield f"{client.endpoint}: a policy service may answer FILTER, REDIRECT or HOLD"
            continue
        default = client.options.get("default_action") or site.postfix.value(
            "smtpd_policy_service_default_action", door
        )
        if _may_reroute(default, ()):
            yield f"{client.endpoint}: default_action = {default}"
