"""The hop on a server that already has settings: each of these broke it once, because the listener inherits main.cf."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mailing import ALICE, HIGH_RISK, NORMAL, RELAY, arrived, decision, fresh, from_outside, from_trusted, mail, submit

from deliverypools.lab.dns_server import DnsFailure
from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site
from deliverypools.lab.receiver import REFUSE
from deliverypools.lab.waiting import wait_until

SITES = {
    "header_checks PREPEND": Site(
        main={"header_checks": "regexp:{config}/hc"}, files={"hc": "/^Subject:/ PREPEND X-Site: yes\n"}
    ),
    "client limits": Site(
        main={
            "smtpd_client_message_rate_limit": "5",
            "smtpd_client_connection_rate_limit": "9",
            "smtpd_client_recipient_rate_limit": "20",
            "smtpd_client_connection_count_limit": "9",
            "smtpd_client_event_limit_exceptions": "",
        }
    ),
    "milters disabled for 127.0.0.0/8": Site(
        main={"smtpd_milter_maps": "cidr:{config}/mm"},
        files={"mm": "127.0.0.0/8 DISABLE\n"},
        adapted={"smtpd_milter_maps": ""},
    ),
    "command filter, EHLO keywords, error limits": Site(
        main={
            "smtpd_command_filter": "regexp:{config}/cf",
            "smtpd_discard_ehlo_keywords": "dsn,8bitmime,smtputf8,xforward,size",
            "smtpd_error_sleep_time": "1s",
            "smtpd_soft_error_limit": "1",
            "smtpd_hard_error_limit": "2",
            "strict_rfc821_envelopes": "yes",
        },
        files={"cf": "/^XFORWARD/ BOGUS\n/^EHLO mx/ BOGUS\n/^HELO mx/ BOGUS\n"},
    ),
    "TLS demanded of every server": Site(
        main={"smtp_tls_security_level": "encrypt", "smtp_tls_policy_maps": "static:encrypt"},
        adapted={"smtp_tls_security_level": "none", "smtp_tls_policy_maps": ""},
        adapted_master="",
    ),
    "SASL, generic maps and EHLO keywords of the SMTP client": Site(
        main={
            "smtp_sasl_password_maps": "inline:{example.test=u:p}",
            "smtp_generic_maps": "inline:{nobody@example.org=other@example.org}",
            "smtp_discard_ehlo_keywords": "xforward",
            "smtp_sasl_auth_enable": "yes",
        }
    ),
    "restrictions that know the clients": Site(
        main={
            "smtpd_helo_required": "yes",
            "smtpd_helo_restrictions": "check_helo_access regexp:{config}/helo",
            "smtpd_client_restrictions": "check_client_access cidr:{config}/clients",
            "smtpd_data_restrictions": "check_client_access cidr:{config}/clients",
            "smtpd_sender_restrictions": "reject_unknown_sender_domain",
            "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
            "smtpd_reject_unlisted_sender": "yes",
        },
        files={"clients": "127.0.0.1 REJECT\n", "helo": "/^client/ OK\n/./ REJECT\n"},
    ),
    "no_address_mappings for a content filter": Site(main={"receive_override_options": "no_unknown_recipient_checks"}),
    "old milter protocol, accept by default": Site(
        main={
            "milter_protocol": "2",
            "milter_default_action": "accept",
            "milter_macro_daemon_name": "ORIGINATING",
            "milter_connect_macros": "_",
        }
    ),
    "sender-dependent transports": Site(
        main={
            "sender_dependent_default_transport_maps": "static:smtp",
            "sender_dependent_relayhost_maps": "static:[198.51.100.28]",
        }
    ),
    "slow destinations": Site(
        main={"default_destination_concurrency_limit": "1", "default_destination_recipient_limit": "1000"}
    ),
    "IPv4 only": Site(main={"inet_protocols": "ipv4", "inet_interfaces": "127.0.0.1, 192.0.2.1"}),
    "header rewriting and short lines": Site(
        main={
            "always_add_missing_headers": "yes",
            "remote_header_rewrite_domain": "domain.invalid",
            "smtp_line_length_limit": "100",
        }
    ),
    "canonical maps and masquerading": Site(
        main={
            "canonical_maps": "inline:{alice@mx.example.org=alice@example.org}",
            "masquerade_domains": "example.org",
        }
    ),
    "short queue ids": Site(adapted={"enable_long_queue_ids": "no"}),
    "another mail name": Site(main={"mail_name": "Our Mailer"}),
    "not chrooted": Site(adapted_master="rewrite unix - - n - - trivial-rewrite\nverify unix - - n - 1 verify\n"),
}


def _client(lab: Lab, recipients: list[str], data: bytes) -> None:
    submit(lab, recipients, data, ALICE)


@pytest.mark.parametrize("site", SITES.values(), ids=SITES.keys())
def test_every_kind_of_mail_leaves_by_its_pool(make_lab: Callable[..., Lab], site: Site):
    lab = make_lab(site=site)
    normal, spam, foreign, refused = fresh(), fresh(), fresh(), fresh()
    lab.receiver.answer(refused, REFUSE)
    _client(lab, [normal, "bob@example.org"], mail())
    _client(lab, [spam], mail(X_Spam_Flag="YES"))
    lab.sendmail("carol@elsewhere.example", [foreign], mail(), user="nobody")
    _client(lab, [refused], mail())
    assert arrived(lab, normal).source_address in NORMAL
    assert arrived(lab, spam).source_address in HIGH_RISK
    assert arrived(lab, foreign).source_address in RELAY
    wait_until(lambda: len(lab.mailbox("alice")) == 1, timeout_seconds=30, what="alice's NDR")
    lab.postfix.wait_until_queue_is_empty()
    assert len(lab.mailbox("bob")) == 1
    assert [len(m.recipients) for m in lab.messages] == [1, 1, 1], "each exactly once"
    assert all(b"X-Delivery-Pool" not in message.data for message in lab.messages)
    assert all(message.data.count(b"X-Site: yes") <= 1 for message in lab.messages), "site checks are applied once"


def test_header_check_that_redirects_is_applied_once_and_never_leaves_by_normal(make_lab: Callable[..., Lab]):
    """Postfix skips all milters for a message that REDIRECT met: without a ticket nothing is known about it."""
    checks = {"hc": "/^Subject: redirect/ REDIRECT other@example.net\n"}
    lab = make_lab(
        site=Site(main={"header_checks": "regexp:{config}/hc"}, files=checks),
        settings={"milter": {"undecided_after": "2s"}},
    )
    submit(lab, fresh(), mail(Subject="redirect"))
    assert arrived(lab, "other@example.net").source_address in HIGH_RISK
    assert "no ticket" in decision(lab, "other@example.net")
    lab.postfix.wait_until_queue_is_empty()
    assert len(lab.messages) == 1


def test_header_check_that_holds_holds_once(make_lab: Callable[..., Lab]):
    lab = make_lab(site=Site(main={"header_checks": "regexp:{config}/hc"}, files={"hc": "/^Subject: hold/ HOLD\n"}))
    recipient = fresh()
    submit(lab, recipient, mail(Subject="hold"))
    wait_until(lambda: [m["queue_name"] for m in lab.postfix.queue()] == ["hold"], timeout_seconds=20, what="the hold")
    lab.postfix.postsuper("-H", "ALL")
    assert arrived(lab, recipient).source_address in NORMAL


def test_checks_that_discard_bounces_lose_no_ndr_of_our_users(make_lab: Callable[..., Lab]):
    files = {"hc": "/^Subject: Undelivered/ DISCARD\n", "bc": "/^This is the mail system/ DISCARD\n"}
    lab = make_lab(
        site=Site(main={"header_checks": "regexp:{config}/hc", "body_checks": "regexp:{config}/bc"}, files=files)
    )
    recipient = fresh()
    lab.receiver.answer(recipient, REFUSE)
    submit(lab, recipient)
    wait_until(lambda: len(lab.mailbox("alice")) == 1, timeout_seconds=30, what="alice's NDR")


def test_fallback_relay_takes_no_undecided_mail_away(make_lab: Callable[..., Lab]):
    lab = make_lab(
        site=Site(main={"smtp_fallback_relay": "[198.51.100.29]"}),
        settings={"dns": {"servfail_cache_seconds": 0.5}},
    )
    recipient = fresh()
    lab.dns.fail("elsewhere.example", DnsFailure.SERVFAIL)
    from_trusted(lab, recipient, sender="carol@elsewhere.example")
    lab.postfix.wait_for_log(r"status=deferred.*451 4.7.1")
    assert lab.messages == []
    lab.dns.fail("elsewhere.example", None)
    message = arrived(lab, recipient)
    assert (message.source_address in RELAY, message.local_address) == (True, "198.51.100.25")


def test_relayhost_goes_on_being_used_with_the_pools_address(make_lab: Callable[..., Lab]):
    lab = make_lab(site=Site(main={"relayhost": "[198.51.100.29]"}))
    recipient = fresh()
    submit(lab, recipient, mail(X_Spam_Flag="YES"))
    message = arrived(lab, recipient)
    assert (message.source_address in HIGH_RISK, message.local_address) == (True, "198.51.100.29")


def test_content_filter_with_reinjection_keeps_what_the_first_pass_knew(make_lab: Callable[..., Lab]):
    master = (
        "scan unix - - y - - smtp -o smtp_bind_address=127.0.0.1\n"
        "127.0.0.1:10026 inet n - y - - smtpd -o content_filter= -o milter_macro_daemon_name=REINJECT"
        " -o smtpd_sender_restrictions= -o smtpd_end_of_data_restrictions=\n"
    )
    strict = {"name": "strict", "senders": ["alice@example.org"], "recipients_per_day": 3, "over_limit": "restrict"}
    lab = make_lab(
        site=Site(
            main={"content_filter": "scan:[127.0.0.1]:10026"},
            master=master,
            virtual={"alias@example.org": "via-alias@example.net"},
        ),
        settings={"outbound_policies": [strict]},
    )
    for _ in range(4):
        from_outside(lab, "bob@example.org", sender="alice@example.org")
    recipient = fresh()
    submit(lab, recipient)
    from_outside(lab, "alias@example.org", sender="alice@example.org")
    assert arrived(lab, recipient).source_address in NORMAL
    assert arrived(lab, "via-alias@example.net").source_address in RELAY


def test_internal_servers_get_mail_without_pool_and_without_ticket(make_lab: Callable[..., Lab]):
    lab = make_lab(
        site=Site(
            main={"relay_domains": "example.net, other.example", "transport_maps": "texthash:{config}/transport"},
            files={"transport": "other.example internal:[198.51.100.28]\n"},
        )
    )
    inside, backup = fresh("other.example"), fresh("example.net")
    from_outside(lab, inside)
    from_outside(lab, backup)
    message = arrived(lab, inside)
    assert message.source_address == "192.0.2.1"
    assert b"X-Delivery-Pool" not in message.data
    assert arrived(lab, backup).source_address in RELAY


def test_routes_without_a_transport_reach_nothing_from_the_hop(make_lab: Callable[..., Lab]):
    """`domain :[gateway]` gives the hop's client another next-hop, which must not be delivered to without a pool."""
    routes = "example.net :[mx.example.net]\nsix.example :[mx.six.example]\n"
    lab = make_lab(
        site=Site(main={"transport_maps": "texthash:{config}/transport"}, files={"transport": routes}),
    )
    submit(lab, [fresh("example.net"), fresh("six.example")], mail(X_Spam_Flag="YES"))
    lab.postfix.wait_for_log(r"to=<r\d+@example.net>.*status=deferred.*:10027")
    lab.postfix.wait_for_log(r"to=<r\d+@six.example>.*status=deferred.*:10027")
    assert (lab.messages, lab.receiver.not_accepted) == ([], [])


def test_macros_that_the_site_no_longer_sends_are_asked_for(make_lab: Callable[..., Lab]):
    macros = {
        "milter_mail_macros": "{mail_addr}",
        "milter_end_of_data_macros": "{rcpt_addr}",
        "milter_connect_macros": "v",
    }
    lab = make_lab(site=Site(main=macros))
    recipient, by_sendmail = fresh(), fresh()
    submit(lab, recipient)
    lab.sendmail("alice@example.org", [by_sendmail], mail(), user="nobody")
    assert arrived(lab, recipient).source_address in NORMAL
    assert "account=alice@example.org" in decision(lab, recipient)
    assert arrived(lab, by_sendmail).source_address in NORMAL
    assert "account=uid:65534" in decision(lab, by_sendmail)


def test_address_probes_do_not_enter_the_hop(make_lab: Callable[..., Lab]):
    lab = make_lab(site=Site(main={"smtpd_recipient_restrictions": "reject_unverified_recipient"}))
    recipient = fresh()
    lab.receiver.answer(recipient, REFUSE)

    def is_refused() -> bool:
        return not lab.send(ALICE[0], recipient, mail(), client_address="127.0.0.1").accepted

    wait_until(is_refused, timeout_seconds=30, what="the verdict of the probe")
    assert {address for address, _ in lab.receiver.not_accepted} <= NORMAL
    assert lab.messages == []


@pytest.mark.parametrize(("size", "options"), [(1000, ["RET=HDRS"]), (1000, []), (120_000, [])])
def test_ndr_to_an_outside_sender_carries_nothing_of_ours_on_the_wire(
    make_lab: Callable[..., Lab], size: int, options: list[str]
):
    lab = make_lab(site=Site(virtual={"alias@example.org": "refused@example.net"}))
    lab.receiver.answer("refused@example.net", REFUSE)
    data = mail(sender="erin@other.example", body="0123456789\r\n" * (size // 12))
    result = lab.send("erin@other.example", "alias@example.org", data, mail_options=options)
    assert result.accepted, result
    ndr = arrived(lab, "erin@other.example")
    assert ndr.source_address in HIGH_RISK
    assert b"Subject: hello" in ndr.data, "the original's header is returned"
    assert b"X-Delivery-Pool" not in ndr.data
    assert b".dp." not in ndr.data
    assert b"gAAAAA" not in ndr.data
