"""For which domains an alias is no reason against the fast path: those whose recipients take the hop in any case."""

import pytest
from fast_path_sites import main, reasons, site, with_files
from postfix_files import Change

from deliverypools.core.postfix_check.fast_path import watched_tables

TO_THE_HOP = "egress:[127.0.0.1]:10027"
OLD = "inline:{{old@shop.example = bob@example.org}}"
ROOT = "inline:{{root = bob@example.org}}"
HERE = "mx.example.org, localhost.example.org, localhost"
REWRITE = "rewrite unix - - y - - trivial-rewrite\n"
OTHER_REWRITE = "rewrite2 unix - - y - - trivial-rewrite\n"
CLEANUP = "cleanup-fast/unix"


def shop(**parameters):
    """Return a site with an alias of a domain that is none of the accepted ones."""
    return main(virtual_alias_maps=OLD, **parameters)


def routed(routes):
    return shop(mydestination=f"shop.example, {HERE}", transport_maps=routes)


def bare(change):
    return Change(
        main={"virtual_alias_maps": ROOT} | dict(change.main),
        options=change.options,
        files=change.files,
        master=change.master,
    )


def of_cleanup(**options):
    return bare(Change(options={CLEANUP: options}))


HOLDS = {
    "listed": shop(mydestination=f"shop.example, {HERE}"),
    "listed in capitals": shop(mydestination="SHOP.example"),
    "in a table": shop(virtual_mailbox_domains="inline:{{shop.example = x}}"),
    "in a file": with_files(shop(mydestination="{config}/names"), names="localhost\nshop.example\n"),
    "in either of two tables": shop(virtual_alias_domains="unionmap:{inline:{{shop.example = x}}, inline:{{a.b = x}}}"),
    "in the list of each rewriter": Change(
        main=shop(virtual_mailbox_domains="shop.example").main,
        master=f"{REWRITE}  -o virtual_mailbox_domains=shop.example,other.example\n",
    ),
    "routes to the hop for other domains": routed(
        f"inline:{{{{partner.example = {TO_THE_HOP}}}, {{.sub.shop.example = {TO_THE_HOP}}}}}"
    ),
    "other routes for this domain": routed("inline:{{shop.example = internal:[10.0.0.1]}, {old@shop.example = :}}"),
    "other routes for any domain": routed("regexp:{{/^old@/ error:gone}}"),
    "bare keys, domains without a dot": bare(main(mydestination="localhost")),
    "bare keys, domains in a table": bare(main(mydestination="inline:{{mx.example.org = x}, {example.org = x}}")),
    "bare keys of another cleanup service": bare(
        Change(options={"cleanup-pickup/unix": {"myorigin": "example.net", "mydestination": "example.net"}})
    ),
}


@pytest.mark.parametrize("change", HOLDS.values(), ids=HOLDS.keys())
def test_what_is_certainly_delivered_here(tmp_path, change):
    assert reasons(tmp_path / "etc", change) == []


OUTSIDE = {
    "in no list": shop(),
    "taken out of the list": shop(mydestination=f"!shop.example, inline:{{{{shop.example = x}}}}, {HERE}"),
    "taken out in a file": with_files(shop(mydestination="{config}/names"), names="!shop.example\nshop.example\n"),
    "taken out by a file": with_files(shop(mydestination="!{config}/names, shop.example"), names="shop.example\n"),
    "below a listed domain": main(
        mydestination="shop.example", virtual_alias_maps="inline:{{old@sub.shop.example = bob@example.org}}"
    ),
    "listed in another spelling": shop(mydestination="shop.example."),
    "in the first half of a pipemap": shop(
        virtual_mailbox_domains="pipemap:{inline:{{shop.example = a}}, inline:{{b = c}}}"
    ),
    "not in the list of one rewriter": Change(
        main=shop(mydestination=f"shop.example, {HERE}").main, master=f"{REWRITE}  -o mydestination=localhost\n"
    ),
    "not in the list of one rewriter, by what it refers to": Change(
        main=shop(mydestination="$own_name, localhost", own_name="shop.example").main,
        master=f"{REWRITE}  -o own_name=mx.example.org\n",
    ),
    "a route of the domain": routed(f"inline:{{{{shop.example = {TO_THE_HOP}}}}}"),
    "a route of the address": routed(f"inline:{{{{old@shop.example = {TO_THE_HOP}}}}}"),
    "a route in capitals": routed(f"inline:{{{{Old@SHOP.example = {TO_THE_HOP}}}}}"),
    "a route of all domains": routed(f"inline:{{{{* = {TO_THE_HOP}}}}}"),
    "a route of the domains above": routed(f"inline:{{{{.example = {TO_THE_HOP}}}}}"),
    "a route whose key is too long to be read": routed(f"inline:{{{{{'a' * 190}@shop.example = {TO_THE_HOP}}}}}"),
    "a pattern": routed(f"regexp:{{{{/^old@/ {TO_THE_HOP}}}}}"),
    "a pattern that says where": with_files(routed("regexp:{config}/routes"), routes="/^old@(.*)$/ ${1}\n"),
    "a route by two steps": routed(f"pipemap:{{inline:{{{{shop.example = x}}}}, inline:{{{{x = {TO_THE_HOP}}}}}}}"),
    "a route of one rewriter": Change(
        main=shop(mydestination=f"shop.example, {HERE}").main,
        master=f"{OTHER_REWRITE}  -o transport_maps=inline:{{{{shop.example={TO_THE_HOP}}}}}\n",
    ),
    "all that is delivered here is led to the hop": shop(
        mydestination=f"shop.example, {HERE}", local_transport=TO_THE_HOP
    ),
    "all mailboxes are led to the hop": shop(virtual_mailbox_domains="shop.example", virtual_transport=TO_THE_HOP),
}


@pytest.mark.parametrize("change", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_may_be_outside(tmp_path, change):
    assert any(one.startswith("virtual_alias_maps: ") for one in reasons(tmp_path / "etc", change))


BARE = {
    "myorigin of cleanup-fast": of_cleanup(myorigin="example.net"),
    "mydestination of cleanup-fast": of_cleanup(mydestination="example.net"),
    "mydestination of cleanup-fast, by what it refers to": bare(
        Change(main={"mydestination": "localhost, $own_name"}, options={CLEANUP: {"own_name": "example.net"}})
    ),
    "mydestination, led to the hop": bare(
        main(mydestination="shop.example", transport_maps=f"inline:{{{{shop.example = {TO_THE_HOP}}}}}")
    ),
    "a table of cleanup-fast": of_cleanup(mydestination="inline:{{example.net=x}}"),
    "a table that cannot be listed": of_cleanup(mydestination="regexp:{{/example/x}}"),
    "a file": bare(
        Change(options={CLEANUP: {"mydestination": "$config_directory/names"}}, files={"names": "example.net\n"})
    ),
    "an exception of a file that is not read": of_cleanup(mydestination="!$config_directory/names"),
    "no such file": of_cleanup(myorigin="$config_directory/mailname"),
    "an exception counts as a name": of_cleanup(mydestination="!example.net,localhost"),
}


@pytest.mark.parametrize("change", BARE.values(), ids=BARE.keys())
def test_bare_keys_for_what_may_be_outside(tmp_path, change):
    assert f"virtual_alias_maps: {ROOT}: root" in reasons(tmp_path / "etc", change)


def test_names_of_cleanup_are_watched(tmp_path):
    change = Change(
        options={CLEANUP: {"myorigin": "$config_directory/mailname", "mydestination": "$config_directory/names"}},
        files={"mailname": "example.org\n", "names": "example.org\n"},
    )
    found = site(tmp_path / "etc", change)
    wanted = {f"file:{tmp_path}/etc/mailname", f"file:{tmp_path}/etc/names"}
    assert wanted <= set(watched_tables(found))


def test_smarthosts_by_sender_are_watched(tmp_path):
    found = site(tmp_path / "etc", main(sender_dependent_relayhost_maps="hash:{config}/smarthosts"))
    assert f"hash:{tmp_path}/etc/smarthosts" in watched_tables(found)


@pytest.mark.parametrize("parameter", ["default_transport", "transport_maps"])
def test_what_a_rewriter_refers_to(tmp_path, parameter):
    """`transport_maps = $own` where rewrite has `-o own=`: another value than that of main.cf."""
    wrong = {"default_transport": "pool-normal", "transport_maps": "tcp:127.0.0.1:9"}[parameter]
    usual = {"default_transport": TO_THE_HOP, "transport_maps": ""}[parameter]
    change = Change(main={"own": usual, parameter: "$own"}, master=f"{REWRITE}  -o own={wrong}\n")
    found = reasons(tmp_path / "etc", change)
    assert any(one.startswith(f"rewrite/unix: {parameter}") for one in found)


@pytest.mark.parametrize("command", ["qmgr", "oqmgr"])
def test_queue_manager_with_routes_of_its_own(tmp_path, command):
    change = Change(master=f"qmgr unix n - n 300 1 {command}\n  -o rewrite_service_name=rewrite2\n{OTHER_REWRITE}")
    assert reasons(tmp_path / "etc", change) == [
        "qmgr/unix: rewrite_service_name = rewrite2: other addresses and routes than everybody else's"
    ]


def test_many_aliases_of_many_domains(tmp_path):
    """An alias does not go through all domains again: that would not end."""
    change = with_files(
        main(virtual_alias_domains="texthash:{config}/d", virtual_alias_maps="texthash:{config}/a"),
        d="".join(f"d{number}.example x\n" for number in range(20_000)),
        a="".join(f"a@d{number}.example bob@example.org\n" for number in range(20_000)),
    )
    assert reasons(tmp_path / "etc", change) == []
