"""The site's own routes go on: to servers inside by `internal`, to others by listeners with their next-hop."""

from originals import options, parameters, plan, said

from deliverypools.core.postfix_install.routes import MOST_ROUTES

MAPS = "hash:/t"


def mapped(entries, main=None, master="", **changes):
    return plan({"transport_maps": MAPS} | (main or {}), master, {MAPS: entries}, **changes)


def table(made, name="routes"):
    lines = [line for line in made.files.get(name, "").splitlines() if not line.startswith("#")]
    return dict(line.split("\t") for line in lines)


def fail_safe(made, number):
    return options(made, f"127.0.0.1:{10026 + number}", "inet")["content_filter"]


class TestByDestination:
    def test_servers_inside(self):
        made = mapped(
            {
                "a.example": "smtp:[10.0.0.5]",
                "b.example": "relay:[fd00::1]:26",
                "c.example": ":[127.0.0.1]:8025",
                "example.org": "smtp:[exchange.example.org]",
                "sub.example.org": "relay:[mailhub.example.org]:2525",
            }
        )
        assert table(made) == table(made, "probe_routes")
        assert table(made) == {
            "a.example": "internal:[10.0.0.5]",
            "b.example": "internal:[fd00::1]:26",
            "c.example": "internal:[127.0.0.1]:8025",
            "example.org": "internal:[exchange.example.org]",
            "sub.example.org": "internal:[mailhub.example.org]:2525",
        }
        assert parameters(made)["transport_maps"] == f"texthash:$config_directory/delivery-pools/routes, {MAPS}"

    def test_what_lies_below_an_accepted_domain_may_be_a_providers(self):
        made = mapped({"news.example.org": "smtp:[in.provider.example]", "sub.example.org": "relay:"})
        assert table(made) == {
            "news.example.org": "egress:[127.0.0.1]:10028",
            "sub.example.org": "egress:[127.0.0.1]:10027",
        }

    def test_the_same_next_hop_is_the_same_route(self):
        made = mapped({"p.example": "smtp:[gw.example]", "q.example": ":[gw.example]", "r.example": "smtp:[z.example]"})
        assert table(made) == {
            "p.example": "egress:[127.0.0.1]:10028",
            "q.example": "egress:[127.0.0.1]:10028",
            "r.example": "egress:[127.0.0.1]:10029",
        }
        assert table(made, "probe_routes")["p.example"] == "pool-normal:[gw.example]"
        assert fail_safe(made, 2) == "pool-high-risk:[gw.example]"
        assert options(made, "127.0.0.1:10028", "inet")["cleanup_service_name"] == "cleanup-egress-2"
        assert options(made, "cleanup-egress-2")["milter_header_checks"].endswith("/tag_checks_2")
        assert "FILTER pool-relay:[gw.example]\n" in made.files["tag_checks_2"]

    def test_what_the_order_of_the_table_is_does_not_matter(self):
        entries = {f"d{number}.example": f"smtp:[gw{number}.example]" for number in range(9)}
        assert mapped(entries) == mapped(dict(reversed(entries.items())))

    def test_a_transport_alone_repeats_the_default(self):
        assert table(mapped({"p.example": "smtp:", ".q.example": "relay:"})) == {
            ".q.example": "egress:[127.0.0.1]:10027",
            "p.example": "egress:[127.0.0.1]:10027",
        }

    def test_with_a_relayhost_it_meant_the_domain_itself(self):
        made = mapped({"p.example": "smtp:", "u@q.example": "smtp:"}, {"relayhost": "[r.example]"})
        assert {fail_safe(made, 2), fail_safe(made, 3)} == {"pool-high-risk:p.example", "pool-high-risk:q.example"}

    def test_which_no_route_can_say_of_many_domains(self):
        made = mapped({".p.example": "smtp:", "*": "relay:"}, {"relayhost": "[r.example]"})
        assert [text.split(": ")[2] for text in said(made, "error")] == [".p.example smtp:", "* relay:"]

    def test_everybody_is_no_server_inside(self):
        made = mapped({"*": "smtp:[10.0.0.5]"})
        assert fail_safe(made, 2) == "pool-high-risk:[10.0.0.5]"

    def test_what_does_not_go_outside_stays(self):
        made = mapped(
            {
                "a.example": "lmtp:unix:private/x",
                "b.example": "error:5.1.2 no",
                "c.example": ":",
                "d.example": "local:",
                "e.example": "scan:[127.0.0.1]:10024",
                "localhost": ":[gw.example]",
                "f.example": "nosuch:",
            },
            master="scan unix - - y - - smtp\n",
        )
        assert "routes" not in made.files
        assert "transport_maps" not in parameters(made)

    def test_a_client_of_the_sites_own_keeps_its_options_limit_and_tuning(self):
        made = mapped(
            {"big.example": "slow:", "p.example": "slow:[gw.example]", "q.example": "other:[gw.example]"},
            {"slow_destination_rate_delay": "3s"},
            "slow unix - - y - 2 smtp -o smtp_connect_timeout=5\nother unix - - y - - smtp -o syslog_name=other\n",
        )
        assert [fail_safe(made, number) for number in (2, 3, 4)] == [
            "pool-high-risk:[gw.example]",
            "pool-high-risk-101:",
            "pool-high-risk-101:[gw.example]",
        ]
        assert options(made, "pool-normal-101")["smtp_connect_timeout"] == "5"
        assert "smtp_connect_timeout" not in options(made, "pool-normal")
        assert parameters(made)["pool-relay-101_destination_rate_delay"] == "3s"
        assert "FILTER pool-normal-101:[gw.example]\n" in made.files["tag_checks_4"]

    def test_the_first_table_that_has_a_key_is_the_one_that_counts(self):
        made = plan(
            {"transport_maps": "hash:/a, proxy:hash:/b"},
            tables={"hash:/a": {"p.example": "local:"}, "hash:/b": {"p.example": "smtp:[gw.example]"}},
        )
        assert "routes" not in made.files

    def test_patterns_cannot_be_overridden(self):
        spec = "regexp:/r"
        made = plan(
            {"transport_maps": spec},
            tables={spec: {"/a/": "smtp:[10.0.0.5]", "/b/": "smtp:[gw.example]", "/c/": "smtp:", "/d/": "discard:"}},
        )
        remedies = [one.remedy for one in made.remarks if one.severity == "error"]
        assert [text[:20] for text in remedies] == [
            "Write internal:[10.0",
            "Write its domains in",
            "Delete the entry: it",
        ]

    def test_servers_cannot_be_listed(self):
        assert "ldap" in said(plan({"transport_maps": "proxy:ldap:/l"}), "warning")[0]

    def test_keys_that_a_text_table_cannot_hold(self):
        assert said(mapped({"a b@p.example": "smtp:[gw.example]"}), "error")

    def test_there_is_a_bound(self):
        made = mapped({f"d{number}.example": f"smtp:[gw{number}.example]" for number in range(MOST_ROUTES + 1)})
        assert str(MOST_ROUTES + 1) in said(made, "error")[0]

    def test_ports_that_are_taken_are_left_out(self):
        made = mapped({"p.example": "smtp:[gw.example]"}, {"smtpd_milters": "inet:localhost:10027"})
        assert parameters(made)["default_transport"] == "egress:[127.0.0.1]:10028"
        assert options(made, "egress")["smtp_tcp_port"] == "10028"
        assert table(made) == {"p.example": "egress:[127.0.0.1]:10029"}


SENDER_MAPS = {"sender_dependent_default_transport_maps": "hash:/s", "sender_dependent_relayhost_maps": "hash:/r"}


class TestBySender:
    def test_both_maps_become_one(self):
        made = plan(
            SENDER_MAPS,
            "slow unix - - y - 1 smtp\n",
            {
                "hash:/s": {"a@x.example": "slow:", "@y.example": "error:no", "@z.example": "smtp:[s.example]"},
                "hash:/r": {"@x.example": "[r.example]", "b@x.example": "DUNNO", "c@z.example": "[10.0.0.9]"},
            },
        )
        assert table(made, "sender_routes") == {
            "@x.example": "egress:[127.0.0.1]:10028",
            "@y.example": "error:no",
            "@z.example": "egress:[127.0.0.1]:10029",
            "a@x.example": "egress:[127.0.0.1]:10030",
            "b@x.example": "egress:[127.0.0.1]:10027",
            "c@z.example": "egress:[127.0.0.1]:10029",
        }
        assert [fail_safe(made, number) for number in (2, 3, 4)] == [
            "pool-high-risk:[r.example]",
            "pool-high-risk:[s.example]",
            "pool-high-risk-101:[r.example]",
        ]
        main = parameters(made)
        assert (
            main["sender_dependent_default_transport_maps"] == "texthash:$config_directory/delivery-pools/sender_routes"
        )
        assert main["sender_dependent_relayhost_maps"] == ""

    def test_probes_do_not_take_the_hop_by_their_sender(self):
        made = plan({"sender_dependent_relayhost_maps": "hash:/r"}, tables={"hash:/r": {"@x.example": "[r.example]"}})
        assert parameters(made)["address_verify_sender_dependent_default_transport_maps"] == ""

    def test_patterns_and_servers_are_named(self):
        assert "regexp" in said(plan({"sender_dependent_relayhost_maps": "regexp:/r"}), "error")[0]
        assert "mysql" in said(plan({"sender_dependent_relayhost_maps": "mysql:/r"}), "warning")[0]


class TestRelayDomains:
    def test_a_backup_mx_takes_the_hop(self):
        assert parameters(plan({"relay_domains": "b.example"}))["relay_transport"] == "egress:[127.0.0.1]:10027"

    def test_a_server_behind_this_one(self):
        made = plan({"relay_transport": "relay:[10.0.0.5]", "relay_domains": "b.example"})
        assert parameters(made)["relay_transport"] == "internal:[10.0.0.5]"
        assert parameters(made)["address_verify_relay_transport"] == "internal:[10.0.0.5]"

    def test_by_its_name_if_the_domains_are_ours(self):
        made = plan({"relay_transport": "smtp:mail.example.org", "relay_domains": "example.org, sub.example.org"})
        assert parameters(made)["relay_transport"] == "internal:mail.example.org"

    def test_a_gateway_of_others_has_a_route(self):
        made = plan({"relay_transport": "relay:[gw.example]", "relay_domains": "b.example"})
        assert parameters(made)["relay_transport"] == "egress:[127.0.0.1]:10028"
        assert parameters(made)["address_verify_relay_transport"] == "pool-normal:[gw.example]"

    def test_its_own_options_go_on(self):
        master = "relay unix - - y - - smtp -o smtp_tls_security_level=encrypt\n"
        made = plan({"relay_domains": "b.example"}, master)
        assert parameters(made)["relay_transport"] == "egress:[127.0.0.1]:10028"
        assert options(made, "pool-relay-101")["smtp_tls_security_level"] == "encrypt"
        assert parameters(plan({}, master))["relay_transport"] == "egress:[127.0.0.1]:10027"

    def test_the_next_hop_of_default_transport_is_not_theirs(self):
        main = {"default_transport": "smtp:[a.example]", "relay_domains": "b.example"}
        made = plan(main | {"relayhost": "[r.example]"})
        assert fail_safe(made, 2) == "pool-high-risk:[r.example]"
        assert parameters(made)["address_verify_default_transport"] == "pool-normal:[a.example]"
        assert "[a.example]" in said(plan(main), "warning")[0]

    def test_what_is_no_smtp_client_is_an_error(self):
        made = plan({"relay_transport": "cyrus:x"}, "cyrus unix - n n - - pipe\n")
        assert "cyrus" in said(made, "error")[0]


class TestInside:
    def test_mailbox_servers(self):
        main = parameters(
            plan(
                {
                    "virtual_transport": "smtp:[store.example.org]",
                    "mailbox_transport": "lmtp:unix:private/x",
                    "fallback_transport": "relay:[10.0.0.6]",
                    "local_transport": "own:[store.example.org]",
                },
                "own unix - - y - - smtp\n",
            )
        )
        assert main["virtual_transport"] == "internal:[store.example.org]"
        assert main["fallback_transport"] == "internal:[10.0.0.6]"
        assert main["local_transport"] == "internal:[store.example.org]"
        assert "mailbox_transport" not in main

    def test_those_of_single_mailboxes(self):
        made = plan(
            {"mailbox_transport_maps": "hash:/m"},
            tables={"hash:/m": {"alice": "smtp:[store.example.org]", "bob": "lmtp:unix:private/x"}},
        )
        assert table(made, "mailbox_routes") == {"alice": "internal:[store.example.org]"}
        assert parameters(made)["mailbox_transport_maps"].endswith("/mailbox_routes, hash:/m")

    def test_those_in_patterns_are_an_error(self):
        made = plan({"fallback_transport_maps": "pcre:/m"}, tables={"pcre:/m": {"/./": "smtp:[store.example.org]"}})
        assert "pcre:/m" in said(made, "error")[0]


class TestFallbackRelay:
    """What no pool carries has none: it would take mail away undecided, from a scanner with its ticket."""

    MASTER = "amavis unix - - y - 2 smtp\nlists unix - - y - - smtp\nslow unix - - y - - smtp\n"

    def made(self, **main):
        return mapped(
            {"lists.example": "lists:[127.0.0.1]:8024", "slow.example": "slow:"},
            {"content_filter": "amavis:[127.0.0.1]:10024", **main},
            self.MASTER,
        )

    def test_scanners_and_programs_of_this_machine(self):
        made = self.made(smtp_fallback_relay="[fallback.example]")
        assert [options(made, name)["smtp_fallback_relay"] for name in ("amavis", "lists", "internal")] == ["", "", ""]
        assert "amavis/unix: -o smtp_fallback_relay=: only what leaves by a pool has a fallback relay." in said(
            made, "later"
        )

    def test_pools_and_clients_whose_mail_takes_the_hop_keep_it(self):
        made = self.made(smtp_fallback_relay="[fallback.example]")
        assert "smtp_fallback_relay" not in options(made, "pool-normal")
        assert ("slow", "unix") not in [one.key for one in made.services]

    def test_a_scanner_by_smtp(self):
        made = self.made(smtp_fallback_relay="[fallback.example]", content_filter="smtp:[127.0.0.1]:10024")
        assert options(made, "scan")["smtp_fallback_relay"] == ""

    def test_without_one_nothing_is_changed(self):
        keys = [one.key for one in self.made().services]
        assert ("amavis", "unix") not in keys
        assert ("lists", "unix") not in keys
