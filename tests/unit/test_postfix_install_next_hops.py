"""A next-hop that is this machine: `postfix install` refuses it."""

from dataclasses import replace

import pytest
from originals import example, original, said, settings

from deliverypools.core.postfix_install.make import make_plan
from deliverypools.core.postfix_install.next_hops import hosts_of_next_hops

HERE = frozenset({"192.0.2.2", "2001:db8::2"})


@pytest.mark.parametrize("profile", ["hop", "express"])
@pytest.mark.parametrize(
    ("main", "is_here"),
    [
        ({"relayhost": "[127.0.0.1]:2525"}, True),
        ({"relayhost": "[gw.example.net], [localhost]:2525"}, True),
        ({"relayhost": "[192.0.2.2]:2525"}, True),
        ({"relayhost": "[ipv6:2001:DB8::2]:2525"}, True),
        ({"relayhost": "[mx.example.org]:2525"}, True),
        ({"default_transport": "smtp:[::1]:2525", "relayhost": "gw.example.net"}, True),
        ({"relayhost": "[192.0.2.3]:2525"}, False),
        ({"relayhost": "gw.mx.example.org"}, False),
        ({"default_transport": "smtp:[gw.example.net]", "relayhost": "[127.0.0.1]"}, False),
    ],
)
def test_a_usual_next_hop_on_this_machine_is_refused(main, is_here, profile):
    own = settings(profile=profile)
    site = replace(original({"mydestination": ""} | main), own_addresses=HERE)
    errors = said(make_plan(site, own, example(profile)), "error")
    assert [text.partition(" = ")[0] for text in errors] == [next(iter(main))] * is_here
    assert all("that is this machine" in text for text in errors)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("sender_dependent_relayhost_maps", "[127.0.0.1]:2525"),
        ("sender_dependent_default_transport_maps", "smtp:[192.0.2.2]:25"),
    ],
)
def test_a_next_hop_of_a_sender_on_this_machine_is_refused(parameter, value):
    site = original({parameter: "hash:/a"}, tables={"hash:/a": {"a@example.org": value, "b@example.org": "DUNNO"}})
    (text,) = said(make_plan(replace(site, own_addresses=HERE), settings(), example("hop")), "error")
    assert text.startswith(f"{parameter}: a@example.org ")
    assert hosts_of_next_hops(site.postfix) >= {value.partition("[")[2].partition("]")[0]}
