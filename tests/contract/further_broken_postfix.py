"""Further forms of the leaks in broken_postfix.py: each is named by this check, and by no other."""

from broken_postfix import LISTENER, SLOW, SRS_ONLY
from good_postfix import REINJECT
from postfix_files import OURS, Change

ASK = "check_policy_service $delivery_pools_policy"
OUTSIDE = "internal_takes_mail_outside"
NO_MAPS = {LISTENER: {"smtpd_milter_maps": ""}}

MORE = {
    "a site's recipient restrictions on the listener": (
        "hop",
        Change(options={LISTENER: {"smtpd_recipient_restrictions": "reject_unverified_recipient"}}),
        "listener_refuses_mail",
    ),
    "the default error limit on the listener": (
        "hop",
        Change(options={LISTENER: {"smtpd_hard_error_limit": None}}),
        "listener_changes_mail",
    ),
    "express: no rules for the tag behind sendmail(1)": (
        "express",
        Change(options={"cleanup-pickup/unix": {"milter_header_checks": ""}}),
        "tag_not_looked_at",
    ),
    "no_milters on one service": (
        "hop",
        Change(options={"submission/inet": {"receive_override_options": "no_milters"}}),
        "milter_missing",
    ),
    "the default transport of the express profile is the normal pool": (
        "express",
        Change(main={"default_transport": "pool-normal"}),
        "default_route_misses_the_decision",
    ),
    "REDIRECT in an access table": (
        "hop",
        Change(
            main={
                "smtpd_recipient_restrictions": "check_recipient_access inline:{{a@b.example = REDIRECT c@b.example}}"
            }
        ),
        "action_that_reroutes",
    ),
    "a smarthost by transport_maps, in a regular expression table": (
        "hop",
        Change(main={"transport_maps": "regexp:{config}/t"}, files={"t": "/./ relay:[smarthost.example]\n"}),
        "transport_map_leads_nowhere",
    ),
    "a table of the pools' transports that is not there": (
        "hop",
        Change(options={"pool-relay/unix": {"smtp_header_checks": "regexp:/nonexistent"}}),
        "table_missing",
    ),
    "HOLD in the express profile": (
        "express",
        Change(main={"body_checks": "regexp:{config}/b"}, files={"b": "/virus/ HOLD\n"}),
        "action_that_reroutes",
    ),
    "a content filter by the tripwire": (
        "hop",
        Change(options={"smtp/inet": {"content_filter": "smtp:[127.0.0.1]:10024"}}),
        "local_route_leads_nowhere",
    ),
    "a tab between pattern and action": (
        "hop",
        Change(main={"header_checks": "regexp:{config}/h"}, files={"h": "/^Subject: x/\tFILTER slow:\n"}, master=SLOW),
        "action_that_reroutes",
    ),
    "a tab between FILTER and its transport": (
        "hop",
        Change(main={"header_checks": "regexp:{config}/h"}, files={"h": "/^Subject: x/ FILTER\tslow:\n"}, master=SLOW),
        "action_that_reroutes",
    ),
    "a tab behind a network": (
        "hop",
        Change(
            main={"smtpd_client_restrictions": "check_client_access cidr:{config}/c"},
            files={"c": "10.0.0.0/8\tFILTER\tslow:\n"},
            master=SLOW,
        ),
        "action_that_reroutes",
    ),
    "a tab in a hashed table": (
        "hop",
        Change(
            main={"smtpd_sender_restrictions": f"{ASK}, check_sender_access texthash:{{config}}/a"},
            files={"a": "a@example.org\tFILTER\tslow:\n"},
            master=SLOW,
        ),
        "action_that_reroutes",
    ),
    "a tab in transport_maps": (
        "hop",
        Change(main={"transport_maps": "pcre:{config}/t"}, files={"t": "/@example\\.com$/\tslow:\n"}, master=SLOW),
        "transport_map_round_the_hop",
    ),
    "a content filter that is a pool, on one service": (
        "hop",
        Change(options={"submission/inet": {"content_filter": "pool-relay:"}}),
        "content_filter_round_the_decision",
    ),
    "a content filter behind sendmail(1)": (
        "hop",
        Change(options={"pickup/unix": {"content_filter": "slow:"}}, master=SLOW),
        "content_filter_round_the_decision",
    ),
    "mail for this machine by a pool": (
        "hop",
        Change(main={"local_transport": "pool-normal:[mx.other.example]"}),
        "local_route_round_the_hop",
    ),
    "mail for virtual mailboxes by a client of the site": (
        "hop",
        Change(main={"virtual_transport": "slow:[mx.other.example]"}, master=SLOW),
        "local_route_round_the_hop",
    ),
    "mailboxes elsewhere, by a table": (
        "hop",
        Change(main={"mailbox_transport_maps": "inline:{joe=slow:[mx.other.example]}"}, master=SLOW),
        "local_route_round_the_hop",
    ),
    "unknown users elsewhere, by a table of local(8)": (
        "hop",
        Change(
            options={"local/unix": {"fallback_transport_maps": "inline:{joe=slow:[mx.other.example]}"}}, master=SLOW
        ),
        "local_route_round_the_hop",
    ),
    "mailboxes by a tripwire, in a table": (
        "hop",
        Change(main={"mailbox_transport_maps": "inline:{joe=smtp:[mx.other.example]}"}),
        "local_route_leads_nowhere",
    ),
    "an access table in a restriction class": (
        "hop",
        Change(
            main={
                "smtpd_restriction_classes": "partner",
                "partner": "check_sender_access texthash:{config}/a",
                "smtpd_recipient_restrictions": "check_client_access inline:{192.0.2.1=partner}",
            },
            files={"a": "a@example.org FILTER slow:\n"},
            master=SLOW,
        ),
        "action_that_reroutes",
    ),
    "an access table without its check": (
        "hop",
        Change(
            main={"smtpd_client_restrictions": "texthash:{config}/a"},
            files={"a": "192.0.2.1 FILTER slow:\n"},
            master=SLOW,
        ),
        "action_that_reroutes",
    ),
    "FILTER in braces": (
        "hop",
        Change(main={"smtpd_data_restrictions": "check_client_access static:{FILTER slow:}"}, master=SLOW),
        "action_that_reroutes",
    ),
    "an access table in braces": (
        "hop",
        Change(
            main={"smtpd_sender_restrictions": f"{ASK}, check_sender_access {{ texthash:{{config}}/a }}"},
            files={"a": "a@example.org FILTER slow:\n"},
            master=SLOW,
        ),
        "action_that_reroutes",
    ),
    "transport_maps of the resolver": (
        "hop",
        Change(options={"rewrite/unix": {"transport_maps": "inline:{example.com=slow:}"}}, master=SLOW),
        "transport_map_round_the_hop",
    ),
    "default_transport of a second resolver": (
        "hop",
        Change(
            options={"qmgr/unix": {"rewrite_service_name": "rewrite2"}},
            master=f"{SLOW}rewrite2 unix - - y - - trivial-rewrite\n  -o default_transport=slow:\n",
        ),
        "default_route_misses_the_decision",
    ),
    "transports by sender, of the resolver": (
        "hop",
        Change(options={"rewrite/unix": {"sender_dependent_default_transport_maps": "static:slow:"}}, master=SLOW),
        "transport_by_sender",
    ),
    "a table of transports by sender": (
        "hop",
        Change(
            main={"sender_dependent_default_transport_maps": "inline:{{a@example.org=slow:}}"},
            master=SLOW,
        ),
        "transport_by_sender",
    ),
    "a port by sender where nobody listens": (
        "hop",
        Change(main={"sender_dependent_default_transport_maps": "inline:{{a@example.org=egress:[127.0.0.1]:10099}}"}),
        "transport_by_sender",
    ),
    "FILTER to a tripwire": (
        "hop",
        Change(main={"body_checks": "regexp:{config}/b"}, files={"b": "/x/ FILTER smtp:[127.0.0.1]:10024\n"}),
        "action_that_reroutes",
    ),
    "a generated route for an entry that is gone": (
        "hop",
        Change(
            main={"transport_maps": "texthash:{config}/delivery-pools/routes"},
            files={"delivery-pools/routes": "gone.example internal:[10.0.0.1]\n"},
        ),
        "routes_out_of_date",
    ),
    "a generated route to a gateway that has moved": (
        "hop",
        Change(
            main={"transport_maps": "texthash:{config}/delivery-pools/routes, inline:{{p.example=smtp:[new.example]}}"},
            files={"delivery-pools/routes": "p.example egress:[127.0.0.1]:10027\n"},
        ),
        "routes_out_of_date",
    ),
    "relayhost of the resolver": (
        "hop",
        Change(options={"rewrite/unix": {"relayhost": "[198.51.100.25]"}}),
        "smarthost_not_followed",
    ),
    "relayhost by sender, of the resolver": (
        "hop",
        Change(options={"rewrite/unix": {"sender_dependent_relayhost_maps": "static:[198.51.100.25]"}}),
        "smarthost_by_sender",
    ),
    "probes by sender": (
        "hop",
        Change(main={"address_verify_sender_dependent_default_transport_maps": "static:slow:"}, master=SLOW),
        "probe_leaves_by_no_pool",
    ),
    "probes of virtual mailboxes": (
        "hop",
        Change(main={"address_verify_virtual_transport": "slow:"}, master=SLOW),
        "probe_leaves_by_no_pool",
    ),
    "probes of everything": (
        "hop",
        Change(options={"rewrite/unix": {"address_verify_default_transport": "slow:"}}, master=SLOW),
        "probe_leaves_by_no_pool",
    ),
    "express: no header checks on one service": (
        "express",
        Change(options={"submission/inet": {"receive_override_options": "no_header_body_checks"}}),
        "express_with_overrides",
    ),
    "express: no header checks behind sendmail(1)": (
        "express",
        Change(options={"pickup/unix": {"receive_override_options": "no_header_body_checks"}}),
        "express_with_overrides",
    ),
    "express: aliases in one cleanup service": (
        "express",
        Change(options={"cleanup/unix": {"virtual_alias_maps": "inline:{a@b.example=c@d.example}"}}),
        "express_with_rewritten_recipients",
    ),
    "express: copies in one cleanup service": (
        "express",
        Change(options={"cleanup-pickup/unix": {"always_bcc": "archive@example.org"}}),
        "express_with_copies",
    ),
    "express: a content filter on one service": (
        "express",
        Change(options={"submission/inet": {"content_filter": "scan:[127.0.0.1]:10024"}}, master=REINJECT),
        "express_with_routes",
    ),
    "express: a next-hop of relay_domains": (
        "express",
        Change(main={"relay_domains": "inside.example", "relay_transport": "pool-high-risk:[198.51.100.27]"}),
        "express_with_routes",
    ),
    "express: local domains of the resolver": (
        "express",
        Change(options={"rewrite/unix": {"mydestination": "example.org"}}),
        "express_with_local_domains",
    ),
    "domains in a file": (
        "hop",
        Change(
            main={"virtual_mailbox_domains": "{config}/v"},
            files={"v": "# ours\nexample.org\nother.example # theirs\n"},
        ),
        "domain_not_accepted",
    ),
    "networks in a file": (
        "hop",
        Change(main={"mynetworks": "{config}/n"}, files={"n": "127.0.0.0/8\n[::1]/128\n192.0.2.0/24\n"}),
        "trusted_networks_differ",
    ),
    "a file of domains that is not there": (
        "hop",
        Change(main={"mydestination": "/nonexistent/domains"}),
        "table_missing",
    ),
    "a file that names another": (
        "hop",
        Change(main={"virtual_mailbox_domains": "{config}/v"}, files={"v": "example.org\n/etc/more\n"}),
        "table_fails",
    ),
    # ---- internal leads outside
    "all mail by internal": ("hop", Change(main={"transport_maps": "inline:{*=internal:}"}), OUTSIDE),
    "all mail by internal, to a private address": (
        "hop",
        Change(main={"transport_maps": "static:internal:[10.0.0.5]"}),
        OUTSIDE,
    ),
    "internal by a pattern, without a next-hop": (
        "hop",
        Change(main={"transport_maps": "regexp:{config}/t"}, files={"t": "/example/ internal:\n"}),
        OUTSIDE,
    ),
    "domains below an accepted one by internal": (
        "hop",
        Change(main={"transport_maps": "inline:{.example.org=internal:}"}),
        OUTSIDE,
    ),
    "relay_domains by internal that are not accepted": (
        "hop",
        Change(main={"relay_transport": "internal:", "relay_domains": "example.org, example.net"}),
        OUTSIDE,
    ),
    "relay_domains of a table, by internal": (
        "hop",
        Change(
            main={"relay_transport": "internal:", "relay_domains": "texthash:{config}/r"},
            files={"r": "example.net ok\n"},
        ),
        OUTSIDE,
    ),
    "relay_domains by internal, to a stranger": (
        "hop",
        Change(main={"relay_transport": "internal:[198.51.100.27]", "relay_domains": "example.net"}),
        "internal_server_is_not_ours",
    ),
    "users that are not known here, by internal to a stranger": (
        "hop",
        Change(main={"fallback_transport": "internal:[198.51.100.27]"}),
        "internal_server_is_not_ours",
    ),
    "mailboxes by internal, wherever DNS says": (
        "hop",
        Change(main={"virtual_transport": "internal:"}),
        "internal_server_is_not_ours",
    ),
    # ---- fallback relays
    "a fallback relay for the mail of a scanner": (
        "hop",
        Change(
            main={"smtp_fallback_relay": "[198.51.100.27]", "content_filter": "scan:[127.0.0.1]:10024"},
            master=REINJECT,
        ),
        "fallback_relay_round_the_decision",
    ),
    "a fallback relay for a scanner that FILTER names": (
        "hop",
        Change(
            main={"header_checks": "regexp:{config}/h"},
            files={"h": "/^Subject: scan/ FILTER scan:[127.0.0.1]:10024\n"},
            master=REINJECT.replace("- 2 smtp", "- 2 smtp\n  -o smtp_fallback_relay=[198.51.100.27]"),
        ),
        "fallback_relay_round_the_decision",
    ),
    # ---- transports that are not reached
    "internal is not private": (
        "hop",
        Change(
            without=("internal/unix",),
            master="internal unix n - y - - smtp\n",
            main={"transport_maps": "inline:{a.example=internal:[10.0.0.5]}"},
        ),
        "transport_map_leads_nowhere",
    ),
    "a mailbox server's transport that is switched off": (
        "hop",
        Change(main={"virtual_transport": "internal:[10.0.0.5]", "master_service_disable": "internal/unix"}),
        "local_route_leads_nowhere",
    ),
    # ---- sockets
    "before compatibility level 1, - in the column chroot is yes": (
        "hop",
        Change(
            main={
                "compatibility_level": "0",
                "smtpd_milters": OURS.replace("unix:", "unix:/var/spool/postfix/"),
                "append_dot_mydomain": "no",
            },
            master="smtp inet n - - - - smtpd\nsubmission inet n - - - - smtpd\n",
        ),
        "milter_socket_and_chroot",
    ),
    "the socketmap behind a chrooted proxymap": (
        "hop",
        Change(
            main={
                "recipient_canonical_maps": f"{SRS_ONLY} proxy:socketmap:unix:/var/spool/postfix/delivery-pools/"
                "socketmap.sock:srs}"
            },
            master="proxymap unix - - y - - proxymap\n",
        ),
        "socketmap_socket_and_chroot",
    ),
    # ---- milters of some clients
    "our milter for some clients, with another default": (
        "hop",
        Change(
            main={
                "smtpd_milter_maps": "cidr:{{10.0.0.0/8 {unix:delivery-pools/milter.sock,default_action=accept}}}",
                "milter_protocol": "6",
            },
            options=NO_MAPS,
        ),
        "milter_does_not_tempfail",
    ),
    "our milter for some clients, with the default of all": (
        "hop",
        Change(
            main={
                "smtpd_milter_maps": "cidr:{config}/m",
                "milter_default_action": "accept",
                "milter_protocol": "6",
            },
            files={"m": "10.0.0.0/8 inet:127.0.0.1:8891, unix:delivery-pools/milter.sock\n"},
            options=NO_MAPS,
        ),
        "milter_does_not_tempfail",
    ),
}
