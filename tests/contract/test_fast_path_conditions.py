"""What lets mail skip the hop, by the real postconf and postmap; what does not is in test_fast_path_excluded.py."""

import pytest
from fast_path_sites import AUTO, main, reasons, site, with_files
from good_postfix import REINJECT
from postfix_files import OURS, Change, findings, settings_of
from realistic_sites import HOP_SITES
from test_postfix_install_sites import apply, plan_for, settings_for, write_site

from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.core.postfix_check.checks import Severity
from deliverypools.core.postfix_check.fast_path import conditions, watched_tables
from deliverypools.core.postfix_check.site import Site

HOLDS = {
    "the example": Change(),
    "aliases of our own domains": main(
        virtual_alias_maps="inline:{{sales@example.org = a@example.net}, {example.org = x}, {root = a@example.net}}"
    ),
    "aliases of a domain that is delivered here": main(
        virtual_alias_domains="inline:{{hosted.example = x}}",
        virtual_alias_maps="inline:{{a@hosted.example = a@example.net}, {@HOSTED.example = b@example.net}}",
    ),
    "bare keys, myorigin is delivered here": main(
        myorigin="mx.example.org", virtual_alias_maps="inline:{{root = a@example.net}}"
    ),
    "bare keys, myorigin in a file": with_files(
        main(myorigin="{config}/mailname", virtual_alias_maps="inline:{{root = a@example.net}}"),
        mailname="mx.example.org\n",
    ),
    "patterns that end in a domain of ours": with_files(
        main(virtual_alias_maps="regexp:{config}/p"),
        p="/^sales-.*@example\\.org$/ sales@example.org\n/^(a)@MX\\.example\\.org$/i b\n",
    ),
    "copies of what our own users get": main(recipient_bcc_maps="inline:{{@example.org = archive@example.org}}"),
    "rewritten senders in headers only": main(
        sender_canonical_maps="inline:{{a@example.org = b@example.org}}", sender_canonical_classes="header_sender"
    ),
    "masquerading in headers only": main(masquerade_domains="example.org", masquerade_classes="header_sender"),
    "mappings that the doors switch off": Change(
        main={"always_bcc": "archive@example.org", "canonical_maps": "tcp:127.0.0.1:9"},
        options={
            name: {"receive_override_options": "no_address_mappings"} for name in ("smtp/inet", "submission/inet")
        },
    ),
    "checks that the doors switch off": Change(
        main={"header_checks": "inline:{{x = HOLD}}"},
        options={
            name: {"receive_override_options": "no_header_body_checks"} for name in ("smtp/inet", "submission/inet")
        },
    ),
    "checks that only refuse": main(
        header_checks="regexp:{{/^X-Evil:/ REJECT no}, {/^X-Old:/ IGNORE}}",
        body_checks="regexp:{{/evil/ DISCARD}}",
        smtpd_client_restrictions="check_client_access cidr:{{192.0.2.0/24 REJECT check_that hash:x}}",
        smtpd_recipient_restrictions="check_recipient_access inline:{{a@example.org = 550 5.1.1 gone},"
        " {b@example.org = reject_unverified_recipient, permit}, {c@example.org = DUNNO}}",
    ),
    "a restriction class that only refuses": main(
        smtpd_restriction_classes="strict",
        strict="reject_unknown_client_hostname",
        smtpd_client_restrictions="check_client_access inline:{{192.0.2.1 = strict}}",
    ),
    "clients whose mail no milter sees": main(smtpd_milter_maps="cidr:{{10.0.0.0/8 DISABLE}}"),
    "a milter that is vouched for": Change(
        main={"smtpd_milters": f"inet:127.0.0.1:8891, {OURS}"}, settings={"fast_path_milters": ["inet:127.0.0.1:8891"]}
    ),
    "routes of any kind": with_files(
        main(
            transport_maps="inline:{{a.example = internal:[10.0.0.1]}}, regexp:{config}/r, randmap:{internal:,local:}"
        ),
        r="/@b\\.example$/ discard:\n",
    ),
    "a content filter of another door": Change(
        master=REINJECT, options={"smtp/inet": {"content_filter": "scan:[127.0.0.1]:10024"}}
    ),
}


@pytest.mark.parametrize("change", HOLDS.values(), ids=HOLDS.keys())
def test_what_lets_mail_skip_the_hop(tmp_path, change):
    assert reasons(tmp_path / "etc", change) == []


@pytest.mark.parametrize("name", ["post fix", "post,fix", "post{fix", "post}fix"])
def test_directory_that_postfix_cannot_tell_a_milter(tmp_path, name):
    directory = tmp_path / name
    assert any(one.startswith(f"config_directory = {directory}: ") for one in conditions(site(directory, Change())))


@pytest.mark.parametrize("name", ["post=fix", "post-fix.d", "pöstfix", "post(fix)", "post@fix#1"])
def test_directory_that_it_can(tmp_path, name):
    assert reasons(tmp_path / name, Change()) == []


def test_it_is_information(tmp_path):
    listed = findings(tmp_path / "etc", "hop", Change(main={"always_bcc": "archive@example.org"}, settings=AUTO))
    assert [(one.check, one.severity, one.found) for one in listed] == [
        ("fast_path_not_possible", Severity.LATER, "always_bcc = archive@example.org")
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"fast_path": "off"}, 'fast_path = "off"'), ({"profile": "express"}, 'profile = "express": there is no hop')],
)
def test_what_is_not_wanted_is_not_looked_at(tmp_path, changes, expected):
    postfix = site(tmp_path / "etc", main(always_bcc="archive@example.org")).postfix
    settings = settings_of("hop", AUTO | changes)
    assert list(conditions(Site(postfix, settings))) == [expected]


class TestWatched:
    CHANGE = Change(
        main={
            "virtual_alias_maps": "proxy:hash:{config}/virtual, pipemap:{hash:{config}/a, regexp:{config}/b}",
            "canonical_maps": "inline:{{a@example.org = b@example.org}}",
            "recipient_bcc_maps": "hash:{config}/copies, hash:{config}/access",
            "header_checks": "pcre:{config}/h",
            "smtpd_client_restrictions": "check_client_access { hash:{config}/access }, cidr:{config}/c",
            "transport_maps": "hash:{config}/transport",
            "mydestination": "{config}/domains, localhost",
            "myorigin": "{config}/mailname",
            "smtpd_milter_maps": "cidr:{config}/milters",
            "smtpd_restriction_classes": "strict",
            "strict": "check_sender_access hash:{config}/strict",
        },
    )
    WATCHED = (
        "hash:transport",
        "hash:access",
        "hash:strict",
        "file:domains",
        "file:mailname",
        "cidr:c",
        "cidr:milters",
        "hash:virtual",
        "hash:a",
        "regexp:b",
        "regexp:delivery-pools/srs_addresses",
        "pcre:h",
        "regexp:delivery-pools/tag_checks",
        "hash:copies",
    )

    def named(self, directory, specs):
        return {spec.replace(f"{directory}/", "") for spec in specs}

    def test_all_tables_that_matter(self, tmp_path):
        found = watched_tables(site(tmp_path / "etc", self.CHANGE))
        assert self.named(tmp_path / "etc", found) == set(self.WATCHED)

    def test_of_the_example(self, tmp_path):
        found = watched_tables(site(tmp_path / "etc", Change()))
        assert self.named(tmp_path / "etc", found) == {
            "regexp:delivery-pools/srs_addresses",
            "regexp:delivery-pools/tag_checks",
        }


NO_FAST_PATH = {
    "opendkim and a relayhost": "local:opendkim/opendkim.sock may add recipients",
    "amavis": "no smtpd service has the fast path",
    "amavis at an address in brackets": "no smtpd service has the fast path",
    "a scanner by smtp": "no smtpd service has the fast path",
    "scanners and a fallback relay": "no smtpd service has the fast path",
    "rspamd and opendmarc": "inet:127.0.0.1:11332 may add recipients",
    "submission services": "inet:127.0.0.1:8891 may add recipients",
    "port 10027 taken": "inet:127.0.0.1:10028 may add recipients",
}
"""Realistic sites without a fast path, and the reason; the others have it."""


@pytest.mark.parametrize("name", HOP_SITES)
def test_realistic_sites(tmp_path, name):
    before = HOP_SITES[name]
    before = type(before)(main=before.main, master=before.master, files=before.files, settings=AUTO | before.settings)
    write_site(tmp_path, before)
    original, plan = plan_for(tmp_path, before)
    apply(tmp_path, original, plan)
    settings = settings_for(before)
    found = list(conditions(Site(PostfixReader(str(tmp_path)).read(settings), settings)))
    expected = NO_FAST_PATH.get(name)
    assert any(expected in one for one in found) if expected else found == []
