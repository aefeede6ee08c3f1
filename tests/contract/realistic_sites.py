"""Servers as administrators have them, without anything of ours, for `postfix install` to be planned on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a server has beyond Debian's own main.cf and master.cf; "{config}" is its configuration directory."""

    main: dict[str, str] = field(default_factory=dict)
    master: str = ""
    files: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


DEBIAN_MAIN = {
    "compatibility_level": "3.6",
    "biff": "no",
    "append_dot_mydomain": "no",
    "myhostname": "mx.example.org",
    "mydomain": "example.org",
    "myorigin": "example.org",
    "mydestination": "$myhostname, example.org, localhost.example.org, localhost",
    "alias_maps": "",
    "alias_database": "",
    "mynetworks": "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "recipient_delimiter": "+",
    "smtpd_relay_restrictions": "permit_mynetworks permit_sasl_authenticated defer_unauth_destination",
    "smtp_tls_security_level": "may",
}

SUBMISSION = """
submission inet n - y - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sender_restrictions=$mua_sender_restrictions
  -o smtpd_recipient_restrictions=
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o milter_macro_daemon_name=ORIGINATING
submissions inet n - y - - smtpd
  -o syslog_name=postfix/submissions
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o { smtpd_milters = inet:127.0.0.1:8891, $rspamd }
  -o { smtpd_end_of_data_restrictions = check_client_access inline:{{127.0.0.1=OK}} }
"""
AMAVIS = """
smtp-amavis unix - - y - 2 smtp
  -o syslog_name=postfix/amavis
  -o smtp_data_done_timeout=1200
  -o smtp_send_xforward_command=yes
  -o disable_dns_lookups=yes
  -o max_use=20
127.0.0.1:10025 inet n - y - - smtpd
  -o syslog_name=postfix/10025
  -o content_filter=
  -o mynetworks=127.0.0.0/8
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o receive_override_options=no_header_body_checks,no_unknown_recipient_checks,no_milters
pickup unix n - y 60 1 pickup
  -o content_filter=
  -o receive_override_options=no_header_body_checks
"""

SRS = {"srs_domain": "srs.example.org", "srs_secret_file": "/etc/delivery-pools/srs.secrets"}

HOP_SITES: dict[str, Before] = {
    "plain Debian": Before(),
    "opendkim and a relayhost": Before(
        main={
            "relayhost": "[smtp.provider.example]:587",
            "smtpd_milters": "local:opendkim/opendkim.sock",
            "non_smtpd_milters": "$smtpd_milters",
            "milter_default_action": "accept",
            "milter_protocol": "6",
        }
    ),
    "amavis": Before(main={"content_filter": "smtp-amavis:[127.0.0.1]:10024"}, master=AMAVIS),
    "amavis at an address in brackets": Before(
        main={"content_filter": "smtp-amavis:[127.0.0.1]:10024"},
        master=AMAVIS.replace("127.0.0.1:10025 inet", "[127.0.0.1]:10025 inet"),
    ),
    "relay by LMTP": Before(
        main={
            "relay_domains": "example.org, sub.example.org",
            "mydestination": "localhost",
            "relay_transport": "lmtp:inet:10.1.2.3:24",
            "transport_maps": "texthash:{config}/transport",
        },
        files={"transport": "sub.example.org :inet:10.1.2.4:24\n"},
    ),
    "a pipemap that decides": Before(
        main={"transport_maps": "pipemap:{inline:{{p.example = smtp:}}, inline:{{smtp: = discard:}}}"},
    ),
    "a scanner by smtp": Before(
        main={"content_filter": "smtp:[127.0.0.1]:10024"},
        master="127.0.0.1:10025 inet n - y - - smtpd\n  -o content_filter=\n  -o smtpd_milters=\n",
    ),
    "scanners and a fallback relay": Before(
        main={
            "smtp_fallback_relay": "[198.51.100.27]",
            "content_filter": "smtp-amavis:[127.0.0.1]:10024",
            "header_checks": "regexp:{config}/checks",
            "transport_maps": "inline:{{lists.example.org = lists:[127.0.0.1]:8024}, {slow.example = slow:}}",
            "mailbox_transport": "smtp:[mailstore.example.org]",
        },
        master=f"{AMAVIS}scan unix - - y - - smtp\nlists unix - - y - - smtp\nslow unix - - y - - smtp\n"
        "submission inet n - y - - smtpd\n  -o content_filter=smtp:[127.0.0.1]:10026\n",
        files={"checks": "/^X-Scan:/ FILTER scan:[127.0.0.1]:10028\n"},
    ),
    "rspamd and opendmarc": Before(
        main={
            "rspamd": "inet:127.0.0.1:11332",
            "opendmarc": "unix:opendmarc/opendmarc.sock",
            "smtpd_milters": "$rspamd $opendmarc",
            "non_smtpd_milters": "$rspamd",
        },
        settings={"authserv_id": "mx.example.org"},
    ),
    "gateway to internal servers": Before(
        main={
            "mydestination": "localhost",
            "relay_domains": "example.org, example.net, backup.example.com",
            "transport_maps": "texthash:{config}/transport",
            "relay_recipient_maps": "",
        },
        files={"transport": "example.org\tsmtp:[10.1.2.3]\nexample.net relay:[exchange.example.net]:2525\n"},
        settings={"accepted_domains": ["example.org", "example.net"]},
    ),
    "partner routes and a slow transport": Before(
        main={
            "relayhost": "[smtp.provider.example]",
            "transport_maps": "texthash:{config}/transport, regexp:{config}/local_transport",
            "slow_destination_rate_delay": "2s",
            "slow_destination_concurrency_limit": "1",
            "smtp_destination_concurrency_limit": "10",
            "smtp_transport_rate_delay": "0s",
        },
        master="slow unix - - y - 2 smtp\n  -o syslog_name=postfix-slow\n  -o smtp_connect_timeout=5\n",
        files={
            "transport": "partner.example smtp:[gw.partner.example]\nfriend.example :[gw.partner.example]\n"
            "big.example slow:\ndirect.example smtp:\nhere.example.org local:\nbad.example error:5.1.2 gone\n"
            "user@one.example slow:[mx.one.example]:26\n.sub.example relay:[gw.partner.example]\n",
            "local_transport": "/@lists\\.example\\.org$/ discard:\n",
        },
    ),
    "relayhosts by sender": Before(
        main={
            "relayhost": "[smtp.provider.example]",
            "sender_dependent_relayhost_maps": "texthash:{config}/relayhosts",
            "sender_dependent_default_transport_maps": "texthash:{config}/sender_transports",
            "smtp_sender_dependent_authentication": "yes",
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_sasl_password_maps": "texthash:{config}/passwords",
        },
        files={
            "relayhosts": "alice@example.org [smtp.alice.example]:587\n@example.net [10.0.0.9]\n"
            "bob@example.net DUNNO\n",
            "sender_transports": "news@example.org slow:\n@blocked.example.org error:5.7.1 no\n",
            "passwords": "alice@example.org alice:secret\n",
        },
        master="slow unix - - y - 1 smtp\n",
    ),
    "submission services": Before(
        main={
            "rspamd": "inet:127.0.0.1:11332",
            "mua_sender_restrictions": "reject_sender_login_mismatch",
            "smtpd_sender_login_maps": "inline:{{alice@example.org=alice}}",
            "smtpd_sender_restrictions": "reject_unknown_sender_domain, $mua_sender_restrictions",
            "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject_unverified_recipient",
        },
        master=SUBMISSION,
    ),
    "unchrooted, an older master.cf": Before(
        main={"smtp_header_checks": "regexp:{config}/outgoing", "header_checks": "regexp:{config}/incoming"},
        master="smtp inet n - n - - smtpd\ncleanup unix n - n - 0 cleanup\nsmtp unix - - n - - smtp\n"
        "relay unix - - n - - smtp\n  -o smtp_fallback_relay=\nbounce unix - - n - 0 bounce\n"
        "defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\npickup unix n - n 60 1 pickup\n",
        files={"outgoing": "/^User-Agent:/ IGNORE\n", "incoming": "/^Subject: buy/ REJECT\n"},
    ),
    "IPv4 only": Before(
        main={"inet_protocols": "ipv4", "smtp_bind_address": "192.0.2.1"},
    ),
    "a pool with IPv4 only": Before(
        main={"inet_interfaces": "127.0.0.1, [::1]"},
        settings={
            "pools": {
                "normal": {"addresses": ["192.0.2.10", "192.0.2.11", "2001:db8::10"], "helo": "mail.example.org"},
                "high-risk": {"addresses": ["192.0.2.20"], "helo": "mail-high-risk.example.org"},
                "relay": {"addresses": ["192.0.2.30", "2001:db8::30"], "helo": "mail-relay.example.org"},
                "bulk": {"addresses": ["192.0.2.40", "192.0.2.41", "2001:db8::40"], "helo": "bulk.example.org"},
            }
        },
    ),
    "smarthost with TLS and a login": Before(
        main={
            "default_transport": "smtp:[smtp.provider.example]:587",
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_password_maps": "texthash:{config}/passwords",
            "smtp_tls_security_level": "encrypt",
            "smtp_tls_policy_maps": "inline:{{[smtp.provider.example]:587=secure}}",
        },
        master="smtp unix - - y - 20 smtp\n  -o smtp_tls_loglevel=1\n"
        "  -o { smtp_header_checks = regexp:{config}/own }\n",
        files={"passwords": "[smtp.provider.example]:587 alice:secret\n", "own": "/^X-Internal:/ IGNORE\n"},
    ),
    "virtual mailboxes by LMTP": Before(
        main={
            "mydestination": "localhost",
            "virtual_mailbox_domains": "example.org",
            "virtual_transport": "lmtp:unix:private/dovecot-lmtp",
            "virtual_mailbox_maps": "inline:{{alice@example.org=1}}",
        },
    ),
    "mailboxes on another server": Before(
        main={
            "mydestination": "localhost",
            "virtual_mailbox_domains": "example.org",
            "virtual_transport": "smtp:[mailstore.example.org]",
            "mailbox_transport_maps": "texthash:{config}/mailboxes",
            "relay_transport": "relay:[10.9.9.9]",
            "relay_domains": "example.net",
        },
        files={"mailboxes": "alice smtp:[mailstore.example.org]\nbob lmtp:unix:private/dovecot-lmtp\n"},
        settings={"accepted_domains": ["example.org", "example.net"]},
    ),
    "rewritten senders": Before(
        main={"recipient_canonical_maps": "inline:{{old@example.org=alice@example.org}}"},
        settings={"forwarding": SRS},
    ),
    "port 10027 taken": Before(
        main={"smtpd_milters": "inet:127.0.0.1:10028"},
        master="127.0.0.1:10027 inet n - y - - smtpd\n  -o smtpd_milters=\n",
    ),
}

EXPRESS = Before(
    main={
        "mydestination": "",
        "myorigin": "example.org",
        "mynetworks": "127.0.0.0/8 [::1]/128",
        "relayhost": "[smtp.provider.example]",
        "header_checks": "regexp:{config}/incoming",
        "smtp_destination_rate_delay": "1s",
    },
    files={"incoming": "/^Subject: buy/ REJECT\n"},
    settings={"profile": "express"},
)
