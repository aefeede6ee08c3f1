"""Postfix configurations that no check may blame: the examples, and what their READMEs say of other settings."""

from postfix_files import OURS, Change

REINJECT = """\
scan unix - - y - 2 smtp
  -o smtp_send_xforward_command=yes
127.0.0.1:10025 inet n - y - - smtpd
  -o content_filter=
  -o milter_macro_daemon_name=REINJECT
  -o smtpd_sender_restrictions=
  -o smtpd_end_of_data_restrictions=
  -o mynetworks=127.0.0.0/8
"""
SOCKETS = "/var/spool/postfix/delivery-pools"
PROBED = {"4": "[127.0.0.1]", "6": "[::1]"}


def probe_rules(tag, transport):
    rule = "/^X-Delivery-Pool: {} probe-{} ([0-9]+)$/ FILTER {}:{}:$1\n"
    return "".join(rule.format(tag, family, transport, host) for family, host in PROBED.items())


TAG_CHECKS = {
    name: f"/^X-Delivery-Pool: {name}$/ FILTER pool-{name}:\n" + probe_rules(name, f"pool-{name}")
    for name in ("normal", "high-risk", "relay")
}
REFUSED = "/^X-Delivery-Pool: refused/ FILTER error:5.7.1 no\n"
HOLD = "/^X-Delivery-Pool:/ HOLD no rule\n"

GOOD = {
    "the example hop": ("hop", Change()),
    "the example express": ("express", Change()),
    "amavis: content_filter and its return listener": (
        "hop",
        Change(main={"content_filter": "scan:[127.0.0.1]:10024"}, master=REINJECT),
    ),
    "opendkim in front": (
        "hop",
        Change(
            main={
                "smtpd_milters": f"inet:127.0.0.1:8891, {OURS}",
                "non_smtpd_milters": f"inet:127.0.0.1:8891, {OURS}",
            }
        ),
    ),
    "relayhost": ("hop", Change(main={"relayhost": "[198.51.100.25]:587"})),
    "relayhost, express": ("express", Change(main={"relayhost": "[198.51.100.25]:587"})),
    "not chrooted": ("hop", Change(options={}, master="rewrite unix - - n - - trivial-rewrite\n")),
    "an absolute path to the socket, not chrooted": (
        "hop",
        Change(
            main={"smtpd_milters": "{ unix:/var/spool/postfix/delivery-pools/milter.sock, default_action=tempfail }"},
            master="smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n",
        ),
    ),
    "submissions and restrictions behind ours": (
        "hop",
        Change(
            master="submissions inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n"
            "  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject\n",
            main={
                "smtpd_sender_restrictions": "check_policy_service $delivery_pools_policy, permit_mynetworks",
                "smtpd_end_of_data_restrictions": "check_client_access cidr:{config}/c,"
                " check_policy_service $delivery_pools_policy",
            },
            files={"c": "203.0.113.0/24 REJECT\n"},
        ),
    ),
    "internal servers, local transports, refused destinations": (
        "hop",
        Change(
            main={"transport_maps": "texthash:{config}/t, regexp:{config}/r"},
            files={
                "t": "intern.example internal:[10.0.0.5]\nlist.example lmtp:unix:private/x\nbad.example error:no\n",
                "r": "/^root@/ local:\n",
            },
        ),
    ),
    "the site's header checks": (
        "hop",
        Change(
            main={"header_checks": "regexp:{config}/h regexp:{config}/r"},
            files={"r": "/^Subject: spam/ HOLD\n", "h": "if /^X/\n/^X-Mailer: evil/i REJECT no\nendif\n"},
        ),
    ),
    "two transports of one pool": (
        "hop",
        Change(
            master="pool-normal-2 unix - - y - - smtp\n  -o smtp_bind_address=192.0.2.11\n"
            "  -o smtp_bind_address6=2001:db8::10\n  -o smtp_bind_address_enforce=yes\n"
            "  -o smtp_helo_name=mail.example.org\n  -o smtp_header_checks=$delivery_pools_smtp_header_checks\n",
            files={
                "delivery-pools/tag_checks": "".join(TAG_CHECKS.values())
                + "/^X-Delivery-Pool: normal 2$/ FILTER pool-normal-2:\n"
                + probe_rules("normal 2", "pool-normal-2")
                + REFUSED
                + HOLD
            },
            settings={
                "pools": {
                    "normal": {"addresses": ["192.0.2.10", "192.0.2.11", "2001:db8::10"], "helo": "mail.example.org"},
                    "high-risk": {
                        "addresses": ["192.0.2.20", "2001:db8::20"],
                        "helo": "mail-high-risk.example.org",
                    },
                    "relay": {"addresses": ["192.0.2.30", "2001:db8::30"], "helo": "mail-relay.example.org"},
                }
            },
        ),
    ),
    "IPv4 only": (
        "hop",
        Change(
            main={"inet_protocols": "ipv4"},
            options={f"pool-{pool}/unix": {"smtp_bind_address6": None} for pool in ("normal", "high-risk", "relay")},
        ),
    ),
    "a scanner for some mail, by FILTER": (
        "hop",
        Change(
            main={"header_checks": "regexp:{config}/h"},
            files={"h": "/^Subject: scan/ FILTER scan:[127.0.0.1]:10024\n/^X-Old:/ FILTER discard:\n"},
            master=REINJECT,
        ),
    ),
    "postscreen, and a second instance that only sends": (
        "hop",
        Change(
            master="smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\n"
            "old inet n - y - - smtpd\n  -o smtpd_milters=\n",
            main={"master_service_disable": "old/inet"},
        ),
    ),
    "a canonical map of the site, SRS behind it": (
        "hop",
        Change(
            main={
                "recipient_canonical_maps": "inline:{old@example.org=new@example.org}, pipemap:{regexp:"
                "{config}/delivery-pools/srs_addresses, socketmap:unix:delivery-pools/socketmap.sock:srs}"
            }
        ),
    ),
    "another instance, daemons on TCP": (
        "hop",
        Change(
            main={
                "queue_directory": "/var/spool/postfix-out",
                "multi_instance_name": "postfix-out",
                "delivery_pools_milter": "{ inet:192.0.2.9:8891, default_action=tempfail, protocol=6 }",
                "delivery_pools_policy": "{ inet:192.0.2.9:8892, default_action=DUNNO }",
            },
            settings={
                "milter": {"socket": "inet:192.0.2.9:8891"},
                "policy": {"socket": "inet:192.0.2.9:8892"},
                "socketmap": {"socket": "unix:/var/spool/postfix-out/delivery-pools/socketmap.sock"},
            },
        ),
    ),
    "mynetworks as Debian writes them": (
        "hop",
        Change(main={"mynetworks": "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128"}),
    ),
    "domains, networks and trusted hosts in files": (
        "hop",
        Change(
            main={"mydestination": "{config}/d, localhost", "mynetworks": "{config}/n"},
            files={"d": "# ours\nexample.org, localhost.localdomain\n", "n": "127.0.0.0/8 # here\n[::1]/128\n"},
        ),
    ),
    "mailboxes behind a client of the site on this machine, and on a server of ours": (
        "hop",
        Change(
            main={"virtual_transport": "mailboxes:[127.0.0.1]:24", "fallback_transport": "internal:[10.0.0.5]"},
            master="mailboxes unix - - y - - smtp\n",
        ),
    ),
    "servers of ours behind internal: by domain, by name, by address": (
        "hop",
        Change(
            main={
                "transport_maps": "inline:{example.org=internal:, sub.example.org=internal:[mail.example.org],"
                " p.example=internal:[10.0.0.5]:26, {q.example=internal:[fd00::5]}}",
                "mailbox_transport_maps": "inline:{joe=internal:[mail.example.org]}",
                "relay_transport": "internal:",
                "relay_domains": "example.org",
            }
        ),
    ),
    "other people's domains behind a private address": (
        "hop",
        Change(main={"relay_transport": "internal:[10.0.0.5]", "relay_domains": "example.net"}),
    ),
    "a fallback relay for the pools, and none for scanners": (
        "hop",
        Change(
            main={"smtp_fallback_relay": "[198.51.100.27]", "content_filter": "scan:[127.0.0.1]:10024"},
            master=REINJECT.replace("- 2 smtp", "- 2 smtp\n  -o smtp_fallback_relay="),
        ),
    ),
    "before compatibility level 1: absolute inside the chroot": (
        "hop",
        Change(
            main={
                "compatibility_level": "0",
                "smtpd_milters": OURS.replace("unix:", "unix:/"),
                "append_dot_mydomain": "no",
            },
            master="smtp inet n - - - - smtpd\nsubmission inet n - - - - smtpd\n",
        ),
    ),
    "sockets of the policy service and of the socketmap, not chrooted": (
        "hop",
        Change(
            main={
                "delivery_pools_policy": f"{{ unix:{SOCKETS}/policy.sock, default_action=DUNNO }}",
                "recipient_canonical_maps": "pipemap:{regexp:{config}/delivery-pools/srs_addresses,"
                f" proxy:socketmap:unix:{SOCKETS}/socketmap.sock:srs}}",
            },
            master="smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n",
        ),
    ),
    "our milter in the lists of some clients": (
        "hop",
        Change(
            main={"smtpd_milter_maps": f"cidr:{{{{10.0.0.0/8 {OURS}}}}}"},
            options={"127.0.0.1:10027/inet": {"smtpd_milter_maps": ""}},
        ),
    ),
    "restriction classes, tables in braces, tabs": (
        "hop",
        Change(
            main={
                "smtpd_restriction_classes": "partner",
                "partner": "check_sender_access { texthash:{config}/a }, permit",
                "smtpd_recipient_restrictions": "check_client_access cidr:{config}/c,"
                " check_helo_access static:{REJECT no}",
                "header_checks": "regexp:{config}/h",
            },
            files={
                "a": "a@example.org\tREJECT\tFILTER slow:\n",
                "c": "192.0.2.0/24\tpartner\n",
                "h": "/^X-Mailer: evil/i\tFILTER\tdiscard:\n/^X-Old:/\tIGNORE\n",
            },
        ),
    ),
    "a content filter by pipe(8), or by LMTP": (
        "hop",
        Change(
            main={"content_filter": "lmtp-scan:[127.0.0.1]:10024"},
            master="spamassassin unix - n n - - pipe\n  user=nobody argv=/usr/bin/spamc ${recipient}\n"
            "lmtp-scan unix - - y - 2 lmtp\n" + REINJECT,
            options={"smtp/inet": {"content_filter": "spamassassin"}},
        ),
    ),
    "entries of the site that a table in front answers": (
        "hop",
        Change(
            main={
                "transport_maps": "texthash:{config}/delivery-pools/routes, inline:{"
                "{own.example=smtp:[10.0.0.1]}, {usual.example=smtp:}}"
            },
            files={
                "delivery-pools/routes": "own.example internal:[10.0.0.1]\nusual.example egress:[127.0.0.1]:10027\n"
            },
        ),
    ),
    "senders that take the hop, or no way out": (
        "hop",
        Change(
            main={
                "sender_dependent_default_transport_maps": "inline:{{a@example.org=egress:[127.0.0.1]:10027},"
                " {b@example.org=DUNNO}, {@example.net=error:5.7.1 no}}"
            }
        ),
    ),
    "a transport of one family, with interfaces of that family": (
        "hop",
        Change(
            main={"inet_interfaces": "127.0.0.1, [::1]"},
            options={"pool-relay/unix": {"inet_protocols": "ipv4", "inet_interfaces": "127.0.0.1"}},
        ),
    ),
    "the routes of probes named once more": (
        "hop",
        Change(
            main={
                "address_verify_transport_maps": "inline:{intern.example=internal:[10.0.0.5], a.example=pool-relay:}",
                "address_verify_local_transport": "local:",
            }
        ),
    ),
    "express: overrides that change nothing": (
        "express",
        Change(options={"submission/inet": {"receive_override_options": "no_address_mappings"}}),
    ),
    "the tags' table with tabs": (
        "express",
        Change(
            files={
                "delivery-pools/tag_checks": "".join(TAG_CHECKS.values()).replace(" FILTER ", "\tFILTER\t")
                + HOLD.replace(" HOLD ", "\tHOLD\t")
            }
        ),
    ),
}
