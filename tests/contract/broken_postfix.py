"""Postfix configurations that are broken in one way each, by the check that has to name it, and what else follows."""

from good_postfix import HOLD, REFUSED, REINJECT, SOCKETS, TAG_CHECKS, probe_rules
from postfix_files import OURS, Change

SLOW = "slow unix - - y - - smtp\n"
"""An SMTP client that a site made for itself."""
LISTENER = "127.0.0.1:10027/inet"
FALLBACK = "smtp_fallback_relay"
SRS_ONLY = "pipemap:{regexp:{config}/delivery-pools/srs_addresses,"


def tag_checks(**changes: str) -> dict[str, str]:
    rules = TAG_CHECKS | {name.replace("_", "-"): text for name, text in changes.items()}
    return {"delivery-pools/tag_checks": "".join(rules.values()) + REFUSED + HOLD}


BROKEN = {
    # ---- pools
    "pool_transport_missing": ("hop", Change(without=("pool-relay/unix",)), {"tag_without_its_transport"}),
    "pool_transport_is_no_smtp_client": ("hop", Change(master="pool-relay unix - - y - - lmtp\n"), set()),
    "pool_without_address": (
        "hop",
        Change(options={"pool-normal/unix": {"smtp_bind_address6": None}}),
        {"pool_address_unused"},
    ),
    "pool_address_not_enforced": (
        "hop",
        Change(options={"pool-normal/unix": {"smtp_bind_address_enforce": "no"}}),
        set(),
    ),
    "pool_address_differs": (
        "hop",
        Change(options={"pool-normal/unix": {"smtp_bind_address": "192.0.2.20"}}),
        {"pool_address_unused"},
    ),
    "pool_helo_differs": ("hop", Change(options={"pool-relay/unix": {"smtp_helo_name": "mail.example.org"}}), set()),
    "protocols_set_on_a_transport": (
        "hop",
        Change(
            main={"inet_interfaces": "127.0.0.1, [::1]"},
            options={"pool-relay/unix": {"inet_protocols": "ipv4"}},
        ),
        set(),
    ),
    "tag_stays_on_the_wire": (
        "hop",
        Change(
            main={
                "delivery_pools_smtp_header_checks": "regexp:{config}/own, regexp:{config}/delivery-pools/strip_headers"
            },
            files={"own": "/^X-Delivery/ WARN ours first\n"},
        ),
        set(),
    ),
    "tag_stays_in_notices": ("hop", Change(options={"pool-high-risk/unix": {"smtp_body_checks": None}}), set()),
    "tripwire_missing": ("hop", Change(master="relay unix - - y - - smtp\n"), set()),
    # ---- routes
    "default_route_misses_the_decision": ("hop", Change(main={"relay_transport": "smtp"}), set()),
    "routes_out_of_date": (
        "hop",
        Change(
            main={
                "transport_maps": "texthash:{config}/delivery-pools/routes, texthash:{config}/transport",
            },
            files={
                "delivery-pools/routes": "one.example internal:[10.0.0.1]\ntwo.example internal:[10.0.0.2]\n",
                "transport": "one.example smtp:[10.0.0.7]\ntwo.example smtp:[10.0.0.2]\n",
            },
        ),
        set(),
    ),
    "transport_by_sender": (
        "hop",
        Change(main={"sender_dependent_default_transport_maps": "static:smtp"}),
        set(),
    ),
    "transport_map_round_the_hop": (
        "hop",
        Change(
            main={"transport_maps": "texthash:{config}/t"},
            files={"t": "partner.example slow:[gw.partner.example]\n"},
            master="slow unix - - y - - smtp\n",
        ),
        set(),
    ),
    "transport_map_to_this_machine": (
        "hop",
        Change(
            main={"transport_maps": "inline:{intern.example=stunnel:[127.0.0.1]:2525}"},
            master="stunnel unix - - y - - smtp\n",
        ),
        set(),
    ),
    "transport_map_leads_nowhere": (
        "hop",
        Change(main={"transport_maps": "inline:{a.example=smtp:, b.example=slwo:, c.example=:[gw.example]}"}),
        set(),
    ),
    "transport_map_names_a_pool": ("hop", Change(main={"transport_maps": "inline:{a.example=pool-normal:}"}), set()),
    "local_route_leads_nowhere": ("hop", Change(main={"virtual_transport": "smtp:[10.0.0.5]"}), set()),
    "local_route_round_the_hop": (
        "hop",
        Change(main={"fallback_transport": "slow:[mx.other.example]"}, master=SLOW),
        set(),
    ),
    "internal_takes_mail_outside": (
        "hop",
        Change(main={"transport_maps": "inline:{example.org=internal:, a.example=internal:}"}),
        set(),
    ),
    "internal_server_is_not_ours": (
        "hop",
        Change(main={"transport_maps": "inline:{a.example=internal:[198.51.100.27]}"}),
        set(),
    ),
    "fallback_relay_round_the_decision": (
        "hop",
        Change(main={"smtp_fallback_relay": "[198.51.100.27]"}, options={"internal/unix": {FALLBACK: None}}),
        set(),
    ),
    "content_filter_round_the_decision": ("hop", Change(main={"content_filter": "slow:"}, master=SLOW), set()),
    "content_filter_on_another_host": (
        "hop",
        Change(main={"content_filter": "slow:[scanner.example]:10024"}, master=SLOW),
        set(),
    ),
    "probe_leaves_by_no_pool": (
        "hop",
        Change(main={"address_verify_transport_maps": "inline:{a.example=slow:}"}, master=SLOW),
        set(),
    ),
    "smarthost_not_followed": (
        "hop",
        Change(main={"relayhost": "[198.51.100.25]", "default_filter_nexthop": ""}),
        set(),
    ),
    "smarthost_by_sender": (
        "hop",
        Change(main={"sender_dependent_relayhost_maps": "inline:{a@b.c=[x.example]}"}),
        set(),
    ),
    "probes_are_not_asked_outside": (
        "hop",
        Change(main={"address_verify_default_transport": "$default_transport"}),
        set(),
    ),
    "action_that_reroutes": (
        "hop",
        Change(
            main={"header_checks": "regexp:{config}/h"}, files={"h": "/^Subject: x/ REDIRECT postmaster@example.org\n"}
        ),
        set(),
    ),
    # ---- the tag
    "tag_not_looked_at": ("hop", Change(options={"cleanup-egress/unix": {"milter_header_checks": None}}), set()),
    "tag_without_its_transport": (
        "hop",
        Change(
            files=tag_checks(
                relay="/^X-Delivery-Pool: relay$/ FILTER pool-relay\n" + probe_rules("relay", "pool-relay")
            )
        ),
        set(),
    ),
    "probe_rules_missing": (
        "hop",
        Change(
            files=tag_checks(
                relay="/^X-Delivery-Pool: relay$/ FILTER pool-relay:\n" + probe_rules("relay", "pool-normal")
            )
        ),
        set(),
    ),
    "last_tag_rule_missing": (
        "express",
        Change(files={"delivery-pools/tag_checks": "".join(TAG_CHECKS.values())}),
        set(),
    ),
    "refused_tag_missing": (
        "hop",
        Change(files={"delivery-pools/tag_checks": "".join(TAG_CHECKS.values()) + HOLD}),
        set(),
    ),
    "clients_choose_the_pool": (
        "express",
        Change(main={"header_checks": "regexp:{config}/delivery-pools/tag_checks"}),
        set(),
    ),
    "tag_chosen_before_the_hop": (
        "hop",
        Change(main={"milter_header_checks": "regexp:{config}/delivery-pools/tag_checks"}),
        set(),
    ),
    "requeue_loses_the_pool": ("express", Change(options={"cleanup-pickup/unix": {"header_checks": None}}), set()),
    # ---- the milter
    "milter_missing": (
        "hop",
        Change(options={"submission/inet": {"smtpd_milters": "inet:127.0.0.1:8891"}}),
        set(),
    ),
    "milter_missing_for_local_mail": (
        "hop",
        Change(main={"non_smtpd_milters": "inet:127.0.0.1:8891"}),
        set(),
    ),
    "notices_not_shown_to_milter": (
        "hop",
        Change(main={"internal_mail_filter_classes": "notify"}),
        set(),
    ),
    "postmaster_notices_not_shown_to_milter": ("hop", Change(main={"internal_mail_filter_classes": "bounce"}), set()),
    "milter_does_not_tempfail": (
        "hop",
        Change(main={"delivery_pools_milter": "{ unix:delivery-pools/milter.sock, default_action=accept }"}),
        set(),
    ),
    "milter_protocol_too_old": (
        "hop",
        Change(
            main={
                "delivery_pools_milter": "{ unix:delivery-pools/milter.sock, default_action=tempfail }",
                "milter_protocol": "2",
            }
        ),
        set(),
    ),
    "milter_socket_and_chroot": (
        "hop",
        Change(
            main={
                "smtpd_milters": "{ unix:/var/spool/postfix/delivery-pools/milter.sock, default_action=tempfail }",
            }
        ),
        set(),
    ),
    "milter_switched_off_for_clients": (
        "hop",
        Change(main={"smtpd_milter_maps": "cidr:{config}/m"}, files={"m": "127.0.0.0/8 DISABLE\n"}),
        set(),
    ),
    "milter_not_last": ("express", Change(main={"smtpd_milters": f"{OURS}, inet:127.0.0.1:8891"}), set()),
    "other_milters_in_the_hop": (
        "hop",
        Change(options={LISTENER: {"smtpd_milters": "inet:127.0.0.1:8891,$delivery_pools_milter"}}),
        set(),
    ),
    "daemon_name_wrong": (
        "hop",
        Change(options={"submission/inet": {"milter_macro_daemon_name": "BOUNCE"}}),
        set(),
    ),
    "notices_meet_site_checks": (
        "hop",
        Change(
            main={"header_checks": "regexp:{config}/h"},
            files={"h": "/^Subject: Undelivered/ DISCARD\n"},
            options={"cleanup-bounce/unix": {"header_checks": None}},
        ),
        set(),
    ),
    # ---- the hop
    "hop_missing": (
        "hop",
        Change(without=("egress/unix",)),
        {"default_route_misses_the_decision", "postconf_complains"},
    ),
    "listener_open_to_others": ("hop", Change(options={LISTENER: {"mynetworks": "192.0.2.0/24"}}), set()),
    "listener_without_fail_safe": ("hop", Change(options={LISTENER: {"content_filter": "pool-normal:"}}), set()),
    "listener_applies_site_settings_again": (
        "hop",
        Change(options={LISTENER: {"receive_override_options": "no_header_body_checks"}}),
        set(),
    ),
    "listener_refuses_mail": ("hop", Change(options={"cleanup-egress/unix": {"message_size_limit": None}}), set()),
    "listener_changes_mail": (
        "hop",
        Change(main={"smtpd_discard_ehlo_keywords": "dsn"}, options={LISTENER: {"smtpd_discard_ehlo_keywords": None}}),
        set(),
    ),
    "hop_client_loses_mail": (
        "hop",
        Change(main={"smtp_fallback_relay": "[x.example]"}, options={"egress/unix": {"smtp_fallback_relay": None}}),
        set(),
    ),
    "hop_client_changes_mail": (
        "hop",
        Change(
            options={"egress/unix": {"smtp_header_checks": "$delivery_pools_smtp_header_checks"}},
        ),
        set(),
    ),
    "hop_is_slowed_down": ("hop", Change(main={"egress_destination_rate_delay": "1s"}), set()),
    "hop_counts_against_mail": ("hop", Change(main={"hopcount_limit": "60"}), set()),
    # ---- express
    "express_with_local_domains": ("express", Change(main={"mydestination": "example.org"}), set()),
    "express_with_copies": ("express", Change(main={"always_bcc": "archive@example.org"}), set()),
    "express_with_rewritten_recipients": (
        "express",
        Change(main={"virtual_alias_maps": "inline:{a@example.org=b@example.net}"}),
        set(),
    ),
    "express_with_routes": ("express", Change(main={"content_filter": "pool-normal:"}), set()),
    "express_with_overrides": (
        "express",
        Change(main={"receive_override_options": "no_header_body_checks"}),
        set(),
    ),
    "filter_takes_the_ticket": (
        "hop",
        Change(
            main={
                "content_filter": "scan:[127.0.0.1]:10024",
                "smtp_header_checks": "$delivery_pools_smtp_header_checks",
            },
            master=REINJECT,
        ),
        set(),
    ),
    # ---- the server
    "postconf_complains": ("hop", Change(main={"deliver_pools_milter": "typing error"}), set()),
    "queue_ids_are_reused": ("hop", Change(main={"enable_long_queue_ids": "no"}), set()),
    "queue_lifetime_too_short": ("hop", Change(main={"bounce_queue_lifetime": "3h"}), set()),
    "ticket_expires_in_the_queue": ("hop", Change(main={"maximal_queue_lifetime": "14d"}), set()),
    "domain_not_accepted": (
        "hop",
        Change(
            main={"virtual_mailbox_domains": "texthash:{config}/v"},
            files={"v": "example.org x\nother.example x\n"},
        ),
        set(),
    ),
    "trusted_networks_differ": ("hop", Change(main={"mynetworks": "127.0.0.0/8 [::1]/128 192.0.2.0/24"}), set()),
    "rewritten_senders_lead_nowhere": ("hop", Change(main={"recipient_canonical_maps": ""}), set()),
    "every_recipient_is_asked_for": (
        "hop",
        Change(main={"recipient_canonical_maps": "socketmap:unix:delivery-pools/socketmap.sock:srs"}),
        set(),
    ),
    "short_domains_are_completed": ("hop", Change(main={"append_dot_mydomain": "yes"}), set()),
    "policy_not_asked_about_senders": (
        "hop",
        Change(main={"smtpd_sender_restrictions": "permit_mynetworks, check_policy_service $delivery_pools_policy"}),
        set(),
    ),
    "policy_not_asked_at_the_end": (
        "hop",
        Change(options={"smtp/inet": {"smtpd_end_of_data_restrictions": ""}}),
        set(),
    ),
    "policy_stops_mail": ("hop", Change(main={"delivery_pools_policy": "unix:delivery-pools/policy.sock"}), set()),
    "policy_socket_and_chroot": (
        "hop",
        Change(main={"delivery_pools_policy": f"{{ unix:{SOCKETS}/policy.sock, default_action=DUNNO }}"}),
        set(),
    ),
    "socketmap_socket_and_chroot": (
        "hop",
        Change(main={"recipient_canonical_maps": f"{SRS_ONLY} socketmap:unix:{SOCKETS}/socketmap.sock:srs}}"}),
        set(),
    ),
    "filtered_mail_is_counted_again": (
        "hop",
        Change(
            main={"content_filter": "scan:[127.0.0.1]:10024"},
            master=REINJECT.replace("  -o smtpd_sender_restrictions=\n", ""),
        ),
        set(),
    ),
    "filtered_mail_is_taken_for_new": (
        "hop",
        Change(
            main={"content_filter": "scan:[127.0.0.1]:10024"},
            master=REINJECT.replace("  -o milter_macro_daemon_name=REINJECT\n", ""),
        ),
        set(),
    ),
    "proxy_hides_the_client": ("hop", Change(options={"smtp/inet": {"smtpd_proxy_filter": "127.0.0.1:10024"}}), set()),
    # ---- the fast path
    "cleanup_service_missing": (
        "hop",
        Change(options={"smtp/inet": {"cleanup_service_name": "claenup"}}),
        set(),
    ),
    "fast_path_half_set_up": (
        "hop",
        Change(
            options={"smtp/inet": {"cleanup_service_name": "cleanup-fast", "milter_macro_defaults": ""}},
            settings={"fast_path": "auto"},
        ),
        {"fast_path_not_possible"},
    ),
    "fast_path_in_the_wrong_place": (
        "hop",
        Change(
            options={"cleanup-pickup/unix": {"milter_macro_defaults": "delivery_pools_fast_path=$config_directory"}},
            settings={"fast_path": "auto"},
        ),
        {"fast_path_not_possible"},
    ),
    "fast_path_not_possible": (
        "hop",
        Change(main={"always_bcc": "archive@example.org"}, settings={"fast_path": "auto"}),
        set(),
    ),
    # ---- queues and transports
    "pool_is_deferred": ("hop", Change(main={"defer_transports": "uucp, pool-relay"}), set()),
    "tuning_not_copied": ("hop", Change(main={"smtp_destination_rate_delay": "1s"}), set()),
    "other_instances_not_examined": (
        "hop",
        Change(main={"multi_instance_directories": "/etc/postfix-out"}),
        set(),
    ),
    # ---- tables
    "table_missing": ("hop", Change(main={"transport_maps": "texthash:{config}/no-such-file"}), set()),
    "table_fails": ("hop", Change(main={"transport_maps": "inline:{a.example}"}), set()),
    "table_asked_elsewhere": ("hop", Change(main={"transport_maps": "tcp:127.0.0.1:9"}), set()),
}
