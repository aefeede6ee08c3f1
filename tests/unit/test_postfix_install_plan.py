"""What `postfix install` carries over from a site, thing by thing (postfix-examples/hop/README.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from originals import POOLS, example, line_of, options, original, parameters, plan, said, settings

from deliverypools.core.postfix_install.examples import parse_main
from deliverypools.core.postfix_install.make import make_plan
from deliverypools.core.postfix_install.service_line import parse_service

OURS = "$delivery_pools_milter"
POLICY = "check_policy_service $delivery_pools_policy"
STRIP = "regexp:$config_directory/delivery-pools/strip_headers"
HOP = "egress:[127.0.0.1]:10027"


def test_a_plain_site_gets_what_the_example_says():
    made = plan()
    main = parameters(made)
    for name, value in example("hop").main.items():
        if name not in {"recipient_canonical_maps", "sender_dependent_default_transport_maps"}:
            assert main[name] == " ".join(value.split()), name
    assert {one.key for one in made.services} == set(example("hop").master) | {("smtp", "inet")}
    assert set(made.files) == set(example("hop").maps) - {"srs_addresses"}
    assert said(made, "error") == said(made, "warning") == []


def test_every_change_has_its_reason():
    made = plan({"relayhost": "[a.example]"}, tables={})
    assert [one for one in (*made.parameters, *made.services) if not one.reason] == []


def test_what_the_site_has_already_is_no_change():
    assert "enable_long_queue_ids" not in parameters(plan({"enable_long_queue_ids": "yes"}))


class TestMilters:
    def test_the_sites_come_first(self):
        main = parameters(plan({"smtpd_milters": "inet:127.0.0.1:8891", "non_smtpd_milters": "$smtpd_milters"}))
        assert main["smtpd_milters"] == main["non_smtpd_milters"] == f"inet:127.0.0.1:8891, {OURS}"

    def test_a_list_by_another_name_keeps_it(self):
        main = parameters(plan({"mine": "unix:a", "smtpd_milters": "$mine"}))
        assert main["smtpd_milters"] == f"$mine, {OURS}"

    def test_a_name_that_leads_to_a_list_of_ours_is_spelt_out(self):
        main = {"smtpd_milters": "unix:a", "mine": "${smtpd_milters} unix:b"}
        made = plan(main, "submission inet n - y - - smtpd -o smtpd_milters=$mine\n")
        assert options(made, "submission", "inet")["smtpd_milters"] == f"unix:a unix:b, {OURS}"

    def test_services_with_lists_of_their_own_get_ours_too(self):
        made = plan(master="smtp inet n - y - - smtpd -o smtpd_milters=\n", fast_path="off")
        assert options(made, "smtp", "inet") == {"smtpd_milters": OURS}

    def test_no_milters_meant_the_sites(self):
        made = plan(
            {"smtpd_milters": "unix:a"},
            "10026 inet n - y - - smtpd -o receive_override_options=no_milters,no_address_mappings\n",
            fast_path="off",
        )
        assert options(made, "10026", "inet") == {
            "receive_override_options": "no_address_mappings",
            "smtpd_milters": OURS,
        }

    def test_no_milters_in_main_cf(self):
        main = parameters(plan({"smtpd_milters": "unix:a", "receive_override_options": "no_milters"}))
        assert (main["smtpd_milters"], main["receive_override_options"]) == (OURS, "")

    def test_milters_that_are_switched_off_for_clients_are_an_error(self):
        maps = "inline:{{10.0.0.1=DISABLE}}"
        made = plan({"smtpd_milter_maps": maps}, tables={maps: {"10.0.0.1": "DISABLE"}})
        assert "10.0.0.1 DISABLE" in said(made, "error")[0]

    def test_a_verifier_may_write_in_our_name(self):
        assert "mx.example.org" in said(plan({"smtpd_milters": "unix:a"}, authserv_id="mx.example.org"), "warning")[0]
        assert said(plan(authserv_id="mx.example.org"), "warning") == []

    def test_a_proxy_hides_clients(self):
        assert said(plan({"smtpd_proxy_filter": "127.0.0.1:10024"}), "error")

    def test_postsrsd_is_named(self):
        made = plan({"sender_canonical_maps": "tcp:localhost:10001"})
        assert "postsrsd" in said(made, "warning")[0]

    def test_notices_get_ours_only(self):
        made = plan({"smtpd_milters": "unix:a", "non_smtpd_milters": "unix:a"})
        assert options(made, "cleanup-bounce")["non_smtpd_milters"] == OURS


class TestRestrictions:
    def test_ours_come_first_among_senders_and_last_at_the_end(self):
        main = {"smtpd_sender_restrictions": "permit_mynetworks", "smtpd_end_of_data_restrictions": "permit"}
        found = parameters(plan(main))
        assert found["smtpd_sender_restrictions"] == f"{POLICY}, permit_mynetworks"
        assert found["smtpd_end_of_data_restrictions"] == f"permit, {POLICY}"

    def test_services_with_lists_of_their_own(self):
        made = plan(master="submission inet n - y - - smtpd -o smtpd_sender_restrictions=$mua_sender_restrictions\n")
        found = options(made, "submission", "inet")["smtpd_sender_restrictions"]
        assert found == f"{POLICY}, $mua_sender_restrictions"

    def test_a_service_that_needs_nothing_stays_as_it_is(self):
        made = plan(master="submission inet n - y - - smtpd -o smtpd_sasl_auth_enable=yes\n", fast_path="off")
        assert ("submission", "inet") not in {one.key for one in made.services}


class TestContentFilters:
    BACK = "127.0.0.1:10025 inet n - y - - smtpd -o content_filter= -o receive_override_options=no_milters\n"

    def test_what_comes_back_is_named_and_not_counted_again(self):
        made = plan({"content_filter": "scan:[127.0.0.1]:10024"}, "scan unix - - y - 2 smtp\n" + self.BACK)
        assert options(made, "127.0.0.1:10025", "inet") == {
            "content_filter": "",
            "receive_override_options": "",
            "smtpd_milters": OURS,
            "milter_macro_daemon_name": "REINJECT",
            "smtpd_sender_restrictions": "",
            "smtpd_end_of_data_restrictions": "",
        }
        assert "content_filter" not in parameters(made)

    def test_a_scanner_behind_a_tripwire_gets_its_own_transport(self):
        made = plan(
            {"content_filter": "smtp:[127.0.0.1]:10024"},
            "smtp unix - - y - 7 smtp -o smtp_send_xforward_command=yes\n" + self.BACK,
        )
        assert parameters(made)["content_filter"] == "scan:[127.0.0.1]:10024"
        scan = line_of(made, "scan")
        assert (scan.command, scan.process_limit, scan.options) == ("smtp", "7", {"smtp_send_xforward_command": "yes"})

    def test_its_name_may_be_taken(self):
        made = plan(
            master="scan unix - - y - - pipe\nsmtp inet n - y - - smtpd -o content_filter=relay:[127.0.0.1]:1\n"
        )
        assert options(made, "smtp", "inet")["content_filter"] == "scan-2:[127.0.0.1]:1"

    def test_a_filter_that_nobody_listens_for_is_a_warning(self):
        made = plan({"content_filter": "scan:dummy"}, "scan unix - n n - - pipe\n")
        assert "scan:dummy" in said(made, "warning")[0]


class TestPools:
    def test_addresses_and_names_are_those_of_the_settings(self):
        pools = {
            "normal": {"addresses": ["192.0.2.7", "192.0.2.8"], "helo": "a.example.org"},
            "high-risk": {"addresses": ["192.0.2.20"], "helo": "b.example.org"},
            "relay": {"addresses": ["192.0.2.30"], "helo": "c.example.org"},
            "bulk": {"addresses": ["192.0.2.40"], "helo": "d.example.org"},
        }
        made = plan({"inet_protocols": "ipv4"}, pools=pools)
        bound = {
            one.key[0]: (found["smtp_bind_address"], found["smtp_helo_name"], found["smtp_bind_address_enforce"])
            for one in made.services
            if one.key[0].startswith("pool-") and (found := parse_service(one.line).options)
        }
        assert bound == {
            "pool-normal": ("192.0.2.7", "a.example.org", "yes"),
            "pool-normal-2": ("192.0.2.8", "a.example.org", "yes"),
            "pool-high-risk": ("192.0.2.20", "b.example.org", "yes"),
            "pool-relay": ("192.0.2.30", "c.example.org", "yes"),
            "pool-bulk": ("192.0.2.40", "d.example.org", "yes"),
        }
        rules = made.files["tag_checks"]
        assert "*normal[[:space:]]+2[[:space:]]*$/ FILTER pool-normal-2:\n" in rules
        assert "*bulk[[:space:]]*$/ FILTER pool-bulk:\n" in rules
        assert "+2[[:space:]]+probe-4[[:space:]]+([0-9]+)[[:space:]]*$/ FILTER pool-normal-2:[127.0.0.1]:$1\n" in rules
        assert rules.index("FILTER error:") > rules.index("pool-bulk")
        assert rules.splitlines()[-1].endswith("HOLD Delivery Pools: no transport for this pool")

    def test_options_of_the_sites_client_go_on_beneath_ours(self):
        made = plan(master="smtp unix - - n - 30 smtp -o smtp_bind_address=192.0.2.1 -o smtp_tls_loglevel=1\n")
        line = line_of(made, "pool-normal")
        assert (line.chroot, line.process_limit) == ("n", "30")
        assert line.options["smtp_bind_address"] == "192.0.2.10"
        assert line.options["smtp_tls_loglevel"] == options(made, "internal")["smtp_tls_loglevel"] == "1"

    def test_the_sites_header_checks_come_behind_ours(self):
        made = plan({"smtp_header_checks": "regexp:/a", "smtp_body_checks": "regexp:/b"})
        assert parameters(made)["delivery_pools_smtp_header_checks"] == f"{STRIP}, regexp:/a"
        assert options(made, "pool-high-risk")["smtp_body_checks"].endswith("strip_body, regexp:/b")
        assert "smtp_body_checks" not in options(made, "pool-normal")

    def test_also_those_of_the_client_alone(self):
        made = plan(master="smtp unix - - y - - smtp -o smtp_header_checks=regexp:/a -o smtp_body_checks=regexp:/b\n")
        assert options(made, "pool-relay")["smtp_header_checks"] == f"{STRIP}, regexp:/a"
        assert options(made, "pool-relay")["smtp_body_checks"] == "regexp:/b"
        assert options(made, "pool-high-risk")["smtp_body_checks"].endswith("strip_body, regexp:/b")

    def test_tuning_by_name_is_said_of_each_pool(self):
        main = parameters(plan({"smtp_destination_rate_delay": "1s", "smtp_initial_destination_concurrency": "2"}))
        for name in ("pool-normal", "pool-high-risk", "pool-relay", "internal"):
            assert main[f"{name}_destination_rate_delay"] == "1s"
            assert main[f"{name}_initial_destination_concurrency"] == "2"

    def test_a_default_transport_of_the_sites_own_is_what_they_go_on_with(self):
        made = plan({"default_transport": "out:[a.example]:587"}, "out unix - - y - - smtp -o smtp_tls_loglevel=1\n")
        assert parameters(made)["default_filter_nexthop"] == "[a.example]:587"
        assert options(made, "pool-normal")["smtp_tls_loglevel"] == "1"

    def test_a_default_transport_that_is_no_smtp_client_is_an_error(self):
        assert "error:" in said(plan({"default_transport": "error:no mail"}), "error")[0]

    @pytest.mark.parametrize(
        ("interfaces", "wanted"),
        [
            ("all", None),
            ("loopback-only", None),
            ("127.0.0.1, [::1], 192.0.2.1", "127.0.0.1, 192.0.2.1"),
            ("$myhostname", "192.0.2.20"),
        ],
    )
    def test_a_pool_without_ipv6_uses_ipv4_only(self, interfaces, wanted):
        pools = {**POOLS, "high-risk": {"addresses": ["192.0.2.20"], "helo": "b.example.org"}}
        made = plan({"inet_interfaces": interfaces}, pools=pools)
        found = options(made, "pool-high-risk")
        assert (found["inet_protocols"], found.get("inet_interfaces")) == ("ipv4", wanted)
        assert "smtp_bind_address6" not in found
        assert "inet_protocols" not in options(made, "pool-normal")
        assert "Pools without an IPv6 address, while Postfix uses IPv6: high-risk" in said(made, "warning")[0]

    def test_pools_without_ipv6_are_told_once_and_not_behind_an_ipv4_smarthost(self):
        pools = {name: {"addresses": [one["addresses"][0]], "helo": one["helo"]} for name, one in POOLS.items()}
        (once,) = (text for text in said(plan(pools=pools), "warning") if "IPv6 address" in text)
        assert all(name in once for name in POOLS)
        smarthost = plan({"relayhost": "[192.0.2.99]:587"}, pools=pools)
        assert not any("IPv6 address" in text for text in said(smarthost, "warning"))

    def test_without_ipv6_in_postfix_that_is_nothing_special(self):
        pools = {**POOLS, "high-risk": {"addresses": ["192.0.2.20"], "helo": "b.example.org"}}
        made = plan({"inet_protocols": "ipv4"}, pools=pools)
        assert "inet_protocols" not in options(made, "pool-high-risk")
        assert said(made, "warning") == []

    def test_a_pool_without_ipv4_is_an_error(self):
        pools = {**POOLS, "relay": {"addresses": ["2001:db8::30"], "helo": "b.example.org"}}
        assert "pools.relay has no IPv4 address" in said(plan(pools=pools), "error")[0]


class TestEndpoints:
    def test_inside_the_queue_directory_the_path_is_relative(self):
        made = plan({"queue_directory": "/srv/spool"}, milter={"socket": "unix:/srv/spool/dp/m.sock"})
        assert parameters(made)["delivery_pools_milter"].startswith("{ unix:dp/m.sock, default_action=tempfail")

    def test_elsewhere_it_must_not_be_chrooted(self):
        changes = {"milter": {"socket": "unix:/run/m.sock"}}
        assert "milter.socket" in said(plan(**changes), "error")[0]
        loose = "smtp inet n - n - - smtpd\ncleanup unix n - n - 0 cleanup\n"
        made = plan(master=loose, **changes)
        assert said(made, "error") == []
        assert parameters(made)["delivery_pools_milter"].startswith("{ unix:/run/m.sock,")

    def test_tcp_is_as_it_is(self):
        made = plan(policy={"socket": "inet:127.0.0.1:8892"})
        assert parameters(made)["delivery_pools_policy"].startswith("{ inet:127.0.0.1:8892, default_action=DUNNO")


class TestSources:
    def test_the_sites_own_options_stay(self):
        made = plan(
            master="pickup fifo n - n 60 1 pickup -o content_filter= -o receive_override_options=no_milters\n"
            "cleanup unix n - n - 0 cleanup -o header_checks=regexp:/a -o non_smtpd_milters=unix:a\n"
        )
        assert options(made, "cleanup-pickup") == {
            "header_checks": "regexp:/a",
            "non_smtpd_milters": f"unix:a, {OURS}",
            "milter_macro_daemon_name": "PICKUP",
        }
        assert options(made, "cleanup-bounce")["header_checks"] == ""
        assert line_of(made, "cleanup-pickup").chroot == "n"

    def test_the_limit_of_hops_is_one_more(self):
        made = plan({"hopcount_limit": "30"})
        assert options(made, "cleanup-egress")["hopcount_limit"] == "31"

    def test_an_old_pickup_of_type_fifo_is_replaced_as_such(self):
        site = original()
        services = {key: line for key, line in site.written.services.items() if key[0] != "pickup"}
        services["pickup", "fifo"] = "pickup fifo n - y 60 1 pickup"
        object.__setattr__(site.written, "services", services)
        keys = {one.key for one in make_plan(site, settings(), example("hop")).services}
        assert ("pickup", "fifo") in keys
        assert ("pickup", "unix") not in keys


SRS = {"srs_domain": "b.srs-1.example.org", "srs_secret_file": "/etc/x"}


class TestRewrittenSenders:
    def test_the_way_back_comes_behind_the_sites_own(self):
        made = plan({"recipient_canonical_maps": "hash:/a"}, forwarding=SRS)
        main = parameters(made)
        assert main["recipient_canonical_maps"].startswith("hash:/a, pipemap:{regexp:$config_directory/")
        assert main["mydestination"] == "$myhostname, localhost.$mydomain, localhost, b.srs-1.example.org"
        assert r"@b\.srs-1\.example\.org)$/" in made.files["srs_addresses"]

    def test_a_domain_that_is_there_already(self):
        made = plan({"virtual_alias_domains": "b.srs-1.example.org"}, forwarding=SRS)
        assert "mydestination" not in parameters(made)


def test_an_old_postfix_is_an_error():
    assert "3.6.4" in said(plan({"mail_version": "3.6.4"}), "error")[0]


class TestExpress:
    def test_it_sets_the_conditions(self):
        made = plan({"mydestination": ""}, profile="express")
        main = parameters(made)
        assert said(made, "error") == []
        assert main["default_transport"] == "pool-high-risk"
        assert main["milter_header_checks"].endswith("tag_checks")
        assert ("egress", "unix") not in {one.key for one in made.services}

    @pytest.mark.parametrize(
        "main",
        [
            {"mydestination": "example.org"},
            {"transport_maps": "hash:/a"},
            {"content_filter": "scan:x"},
            {"always_bcc": "a@example.org"},
            {"sender_dependent_relayhost_maps": "hash:/a"},
        ],
    )
    def test_a_site_that_does_more_is_refused(self, main):
        (text,) = said(plan({"mydestination": ""} | main, profile="express"), "error")
        assert next(iter(main)) in text

    @pytest.mark.parametrize(
        ("main", "blamed"),
        [
            ({"relay_transport": "smtp:[198.51.100.27]"}, "relay_transport = smtp:[198.51.100.27]"),
            ({"relay_transport": "lmtp:unix:x"}, "relay_transport = lmtp:unix:x"),
            ({"relay_transport": "error"}, "relay_transport = error"),
            ({"default_transport": "smtp:[gw.example.net]"}, "default_transport names [gw.example.net]"),
        ],
    )
    def test_a_way_of_its_own_for_relay_domains_is_refused(self, main, blamed):
        site = {"mydestination": "", "relay_domains": "inside.example"}
        (text,) = said(plan(site | main, profile="express"), "error")
        assert text.startswith(blamed)
        assert said(plan({"mydestination": ""} | main, profile="express"), "error") == []

    @pytest.mark.parametrize(
        "main", [{}, {"relayhost": "gw"}, {"relayhost": "[gw.example]", "default_transport": "smtp:[gw.example]"}]
    )
    def test_relay_domains_that_go_as_all_other_mail(self, main):
        made = plan({"mydestination": "", "relay_domains": "inside.example"} | main, profile="express")
        assert said(made, "error") == []

    def test_also_where_a_service_does(self):
        made = plan({"mydestination": ""}, "smtp inet n - y - - smtpd -o content_filter=x:y\n", profile="express")
        assert "smtp/inet: -o content_filter=x:y" in said(made, "error")[0]

    def test_requeued_mail_meets_the_sites_checks_behind_ours(self):
        made = plan({"mydestination": "", "header_checks": "regexp:/a"}, profile="express")
        assert options(made, "cleanup-pickup")["header_checks"].endswith("/tag_checks, regexp:/a")


_NAMES = st.sampled_from(
    [
        "smtpd_milters",
        "non_smtpd_milters",
        "transport_maps",
        "relayhost",
        "content_filter",
        "default_transport",
        "relay_transport",
        "sender_dependent_relayhost_maps",
        "smtpd_sender_restrictions",
        "inet_interfaces",
        "x",
    ]
)
_TEXTS = st.text(st.sampled_from("$smtpd_milters{}:[],/=x1. \t@*"), max_size=40) | st.sampled_from(
    ["$smtpd_milters", "${x}", "$non_smtpd_milters", "smtp:[10.0.0.1]", "relay:", "hash:/t", "smtp:"]
)


@given(
    main=st.dictionaries(_NAMES, _TEXTS),
    entries=st.dictionaries(_TEXTS, _TEXTS, max_size=4),
    profile=st.sampled_from(["hop", "express"]),
)
def test_any_site_gets_a_plan_and_always_the_same(main, entries, profile):
    tables = {"hash:/t": entries}
    first = plan(main, tables=tables, profile=profile)
    assert first == plan(main, tables=tables, profile=profile)
    assert all("\n" not in one.value for one in first.parameters if one.value is not None)
    assert all(parse_service(one.line).render() == one.line for one in first.services)


def test_names_that_lead_to_each_other_are_left_alone_at_some_point():
    chain = {f"p{number}": f"$p{number + 1} " * 3 for number in range(50)}
    site = original({"smtpd_milters": "x " + "{" * 64_000, "non_smtpd_milters": "$smtpd_milters"})
    object.__setattr__(site.written, "parameters", site.written.parameters | chain | {"p50": "$smtpd_milters"})
    object.__setattr__(site.written, "parameters", site.written.parameters | {"non_smtpd_milters": "$p0"})
    value = parameters(make_plan(site, settings(), example("hop")))["non_smtpd_milters"]
    assert value.endswith(OURS)


def test_comments_of_the_example_are_the_reasons():
    text = "# One.\n# Two.\na = 1\n\nb = 2\n"
    assert parse_main(text) == {"a": "1", "b": "2"}
    reasons = {one.name: one.reason for one in plan().parameters}
    assert reasons["enable_long_queue_ids"].startswith("Short queue ids are reused")


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ("a unix - - y - - smtp -o x=1,2 -v", "x", "1,2"),
        ("a unix - - y - - smtp -o { x = 1, { 2 3 } }", "x", "1, { 2 3 }"),
        ("a unix - - y - - smtp -ox=", "x", ""),
        ("a unix - - y - - smtp -o x=${y?{a b}:{c}}", "x", "${y?{a"),
    ],
)
def test_services_are_read_as_master_reads_them(line, option, value):
    parsed = parse_service(line)
    assert parsed.options[option] == value
    assert parse_service(parsed.render()).options[option] == value


def test_a_pipe_keeps_its_words():
    line = "x unix - n n - - pipe user=nobody argv=/bin/sh -c { echo a; exit 75 }"
    assert parse_service(line).render() == line


def test_the_hop_is_where_the_route_says():
    assert parameters(plan())["default_transport"] == HOP
