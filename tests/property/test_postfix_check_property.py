"""Whatever a configuration says, it is read and judged: no check raises, and none takes long over hostile text."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deliverypools.core.postfix_check.configuration import (
    Entry,
    PostfixConfiguration,
    Service,
    Table,
    Unread,
    is_on_this_machine,
)
from deliverypools.core.postfix_check.examine import CHECKS, examine
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import action_of, client_of, route_of, split_list, table_specs
from deliverypools.core.postfix_check.tables import pattern_entries, tables_to_ask, tables_to_list
from deliverypools.core.settings import built_in_defaults

PARAMETERS = (
    *("smtpd_milters", "non_smtpd_milters", "default_transport", "relay_transport", "transport_maps", "mynetworks"),
    *(
        "inet_protocols",
        "smtp_bind_address",
        "smtp_bind_address6",
        "header_checks",
        "milter_header_checks",
        "relayhost",
    ),
    *("address_verify_transport_maps", "fallback_transport", "mailbox_transport_maps", "smtpd_restriction_classes"),
    *("always_bcc", "receive_override_options", "virtual_transport", "smtpd_client_restrictions"),
    *(
        "smtpd_sender_restrictions",
        "recipient_canonical_maps",
        "content_filter",
        "cleanup_service_name",
        "mail_version",
    ),
    *("maximal_queue_lifetime", "hopcount_limit", "milter_macro_daemon_name", "mydestination", "smtpd_milter_maps"),
    *("delivery_pools_milter", "milter_protocol", "virtual_mailbox_domains", "smtp_header_checks", "myhostname"),
)
WORDS = st.sampled_from(
    [
        *(
            "{",
            "}",
            ",",
            " ",
            ":",
            "/",
            "smtp",
            "pool-normal-2:",
            "FILTER",
            "pipemap:{",
            "regexp:/a",
            "check_policy_service",
        ),
        *("unix:delivery-pools/milter.sock", "egress:[127.0.0.1]:10027", "[::1]/128", "10.0.0.0/8", "3.7.11", "5d"),
    ]
)
VALUES = st.one_of(st.text(max_size=40), st.lists(WORDS, max_size=8).map("".join))
OPTIONS = st.dictionaries(st.sampled_from(PARAMETERS), VALUES, max_size=5)
SERVICES = st.builds(
    Service,
    name=st.sampled_from(
        ["smtp", "relay", "egress", "127.0.0.1:10027", "pool-normal", "pool-x-2", "cleanup", "pickup"]
    ),
    type=st.sampled_from(["inet", "unix", "pass"]),
    chroot=st.sampled_from("yn-"),
    command=st.sampled_from(
        ["trivial-rewrite", "local", "smtpd", "smtp", "lmtp", "cleanup", "pickup", "bounce", "pipe"]
    ),
    options=OPTIONS,
)
TABLES = st.builds(
    Table,
    entries=st.lists(st.builds(Entry, key=VALUES, value=VALUES), max_size=4).map(tuple),
    problem=st.text(max_size=5),
    unread=st.sampled_from(Unread),
)
CONFIGURATIONS = st.builds(
    PostfixConfiguration,
    parameters=OPTIONS,
    services=st.lists(SERVICES, max_size=6).map(tuple),
    tables=st.dictionaries(st.sampled_from(["regexp:/a", "socketmap:x", "file:/"]), TABLES),
    answers=st.dictionaries(st.tuples(st.just("regexp:/a"), st.just("X-Delivery-Pool: normal")), VALUES),
    warnings=st.lists(st.text(min_size=1, max_size=20), max_size=2).map(tuple),
)


@pytest.mark.parametrize("profile", ["hop", "express"])
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(postfix=CONFIGURATIONS)
def test_no_configuration_breaks_a_check(profile, postfix):
    site = Site(postfix, built_in_defaults().model_copy(update={"profile": profile}))
    names = {one.name for one in CHECKS}
    found = examine(site)
    assert {one.check for one in found} <= names
    assert all(one.found and one.can_happen and one.remedy for one in found)
    assert all(spec.partition(":")[1] for spec in (*tables_to_list(site), *tables_to_ask(site)))


def without_separators(text: str) -> str:
    return "".join(character for character in text if not character.isspace() and character != ",")


@given(text=st.text())
def test_no_value_breaks_a_reader(text):
    assert without_separators("".join(split_list(text))) == without_separators(text)
    client_of(text)
    route_of(text)
    is_on_this_machine(text)
    action_of(text)
    table_specs(text)
    for kind in ("regexp", "cidr"):
        list(pattern_entries(text, kind))


@pytest.mark.parametrize("text", ["{" * 65536, "pipemap:{" * 8192, "/\\" * 32768, "a," * 32768, "proxy:" * 11000])
def test_64_kb_of_hostile_text_are_read(text):
    assert len(split_list(text)) <= len(text)
    assert len(table_specs(text)) <= len(text)
    assert all(len(list(pattern_entries(text, kind))) <= 1 for kind in ("regexp", "cidr"))
