"""Sites that an install stumbled over: what the plan makes of them."""

import pytest
from originals import example, options, original, parameters, plan, said, settings

from deliverypools.core.postfix_check.configuration import Entry, PostfixConfiguration, Table
from deliverypools.core.postfix_check.routes import transport_map_round_the_hop
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import answering_tables
from deliverypools.core.postfix_install.make import make_plan
from deliverypools.core.postfix_install.manifest import Manifest, Phase, Was
from deliverypools.core.postfix_install.plan import Original, Written
from deliverypools.core.postfix_install.routes import MOST_ROUTES
from deliverypools.core.postfix_install.still_named import kept_for, our_transports, still_named, tables_with_routes

RELAY = {"relay_domains": "example.org, sub.example.org"}


def planned_with(busy):
    site = original({"transport_maps": "hash:/t"}, tables={"hash:/t": {"p.example": "smtp:[gw.example]"}})
    site = Original(written=site.written, postfix=site.postfix, busy_ports=frozenset(busy))
    return make_plan(site, settings(), example("hop"))


class TestPorts:
    def test_busy_ones_are_left_alone(self):
        made = planned_with({10027, 10029})
        assert parameters(made)["default_transport"] == "egress:[127.0.0.1]:10028"
        assert options(made, "egress")["smtp_tcp_port"] == "10028"
        assert "egress:[127.0.0.1]:10030" in made.files["routes"]
        assert any("10027 is in use" in text for text in said(made, "later"))

    def test_what_audit_does_not_know_is_said(self):
        made = planned_with(range(10027, 10077))
        assert "10078" in said(made, "warning")[0]
        assert "10077" not in said(made, "warning")[0]
        assert any("--listener 10078" in one.remedy for one in made.remarks)


class TestTables:
    @pytest.mark.parametrize(
        ("text", "tables"),
        [
            ("hash:/a, proxy:hash:/b", (("hash:/a", "hash:/a"), ("hash:/b", "hash:/b"))),
            (
                "pipemap:{regexp:/a, hash:/b} cidr:/c",
                (("pipemap:{regexp:/a, hash:/b}", "hash:/b"), ("cidr:/c", "cidr:/c")),
            ),
            ("unionmap:{static:x, randmap:{a, b}}", (("static:x", "static:x"), ("randmap:{a, b}", "randmap:{a, b}"))),
            ("pipemap:{} plain", ()),
        ],
    )
    def test_which_of_them_answer(self, text, tables):
        assert answering_tables(text) == tables

    def test_random_answers_cannot_be_overridden(self):
        spec = "randmap:{smtp:, out2:}"
        out2 = "out2 unix - - y - - smtp -o smtp_bind_address=192.0.2.99\n"
        made = plan({"transport_maps": spec}, out2, {spec: {"a": "smtp:", "b": "out2:"}})
        assert [text.split(": ")[1:3] for text in said(made, "error")] == [[spec, "a smtp:"], [spec, "b out2:"]]

    def test_of_a_pipemap_only_the_last_counts(self):
        first, last = "inline:{p.example=smtp:}", "inline:{smtp:=discard:}"
        tables = {first: {"p.example": "smtp:"}, last: {"smtp:": "discard:"}}
        pipe = f"pipemap:{{{first}, {last}}}"
        made = plan({"transport_maps": pipe}, tables=tables)
        assert "routes" not in made.files
        assert said(made, "error") == said(made, "warning") == []
        leaking = plan({"transport_maps": pipe}, tables=tables | {last: {"x": "smtp:[gw.example]"}})
        assert "pipemap:" in said(leaking, "error")[0]
        site = Site(original({"transport_maps": pipe}, tables=tables | {last: {"x": "smtp:[gw]"}}).postfix, settings())
        assert len(list(transport_map_round_the_hop.find(site))) == 1


class TestServices:
    def test_one_that_stands_there_twice_is_changed_once(self):
        site = original({}, "submission inet n - y - - smtpd -o smtpd_sender_restrictions=permit\n")
        services = (*site.postfix.services, site.postfix.services[-1])
        object.__setattr__(site.postfix, "services", services)
        made = make_plan(site, settings(), example("hop"))
        found = options(made, "submission", "inet")["smtpd_sender_restrictions"]
        assert found == "check_policy_service $delivery_pools_policy, permit"
        assert "submission/inet stands there 2 times" in said(made, "warning")[0]

    def test_switched_off_ones_are_named(self):
        made = plan({"master_service_disable": "inet"})
        assert said(made, "error")[0].startswith("master_service_disable = inet:")
        remedy = made.remarks[0].remedy
        assert remedy == "master_service_disable = !127.0.0.1:10027/inet, inet"
        assert said(plan({"master_service_disable": remedy.partition(" = ")[2]}), "error") == []

    def test_a_site_without_the_service_relay(self):
        made = plan({"relay_transport": "gone"})
        assert said(made, "error") == []
        assert said(plan({"relay_transport": "gone", "relay_domains": "a.example"}), "error")

    @pytest.mark.parametrize("name", ["127.0.0.1:10025", "[127.0.0.1]:10025", "localhost:10025"])
    def test_what_amavis_hands_back(self, name):
        made = plan(
            {"content_filter": "scan:[127.0.0.1]:10024"},
            f"scan unix - - y - 2 smtp\n{name} inet n - y - - smtpd -o content_filter=\n",
        )
        assert options(made, name, "inet")["milter_macro_daemon_name"] == "REINJECT"
        assert said(made, "warning") == []


class TestLmtp:
    @pytest.mark.parametrize("next_hop", ["unix:private/x", "inet:10.0.0.5:24", "inet:[10.0.0.5]:24", "m.example.org"])
    def test_to_servers_inside_stays(self, next_hop):
        made = plan(RELAY | {"relay_transport": f"lmtp:{next_hop}"})
        assert said(made, "error") == []
        assert "relay_transport" not in parameters(made)
        assert parameters(made)["address_verify_relay_transport"] == f"lmtp:{next_hop}"

    def test_elsewhere_is_an_error(self):
        made = plan({"relay_domains": "a.example", "relay_transport": "lmtp:mail.a.example"})
        assert "lmtp" in said(made, "error")[0]

    def test_next_hops_of_relay_domains_go_by_it(self):
        made = plan(
            RELAY | {"relay_transport": "lmtp:inet:10.0.0.5", "transport_maps": "hash:/t"},
            tables={"hash:/t": {"sub.example.org": ":inet:10.0.0.6"}},
        )
        assert "sub.example.org\tlmtp:inet:10.0.0.6\n" in made.files["routes"]


def test_too_many_routes_are_one_error():
    entries = {f"d{number}.example": f"smtp:[gw{number}.example]" for number in range(MOST_ROUTES + 9)}
    made = plan(
        {"transport_maps": "hash:/t", "relay_domains": "a.example", "relay_transport": "relay:[zz.example]"},
        tables={"hash:/t": entries},
    )
    assert len(said(made, "error")) == 1
    assert "accepted_domains" in made.remarks[0].remedy
    assert made.files["routes"].count("egress:") == len(entries)


class TestStillNamed:
    MANIFEST = Manifest(
        product_version="1",
        made_at=0.0,
        phase=Phase.LEAVING,
        hashes={},
        originals={},
        parameters={},
        services={
            ("internal", "unix"): Was(None, "internal unix - - y - - smtp"),
            ("egress", "unix"): Was("egress unix - - y - - smtp", "x"),
            ("pool-normal", "unix"): Was(None, "x"),
            ("127.0.0.1:10027", "inet"): Was(None, "x"),
        },
        files=(),
    )

    def test_the_sites_tables_are_looked_through(self):
        entries = (
            Entry(key="a.example", value="internal:[10.0.0.5]"),
            Entry(key="b.example", value="smtp:"),
            Entry(key="c.example", value="egress:[127.0.0.1]:10027"),
        )
        checks = (Entry(key="/x/", value="FILTER pool-normal:"), Entry(key="/y/", value="REJECT internal:"))
        postfix = PostfixConfiguration(
            parameters={"transport_maps": "hash:/t", "header_checks": "regexp:/h", "virtual_transport": "internal:[b]"},
            services=(),
            tables={"hash:/t": Table(entries=entries), "regexp:/h": Table(entries=checks)},
        )
        assert tables_with_routes(postfix) == {"hash:/t", "regexp:/h"}
        assert [one.where for one in still_named(postfix, our_transports(self.MANIFEST))] == [
            "virtual_transport = internal:[b]",
            "transport_maps: hash:/t: a.example internal:[10.0.0.5]",
            "header_checks: regexp:/h: /x/ FILTER pool-normal:",
        ]

    def test_what_is_kept_for_them(self):
        site = Written(parameters={"a": "1"}, services={})
        ours = Written(
            parameters={"a": "2", "delivery_pools_x": "y", "internal_mail_filter_classes": "b", "internal_x": "1"},
            services={("internal", "unix"): "i", ("pool-normal", "unix"): "p"},
        )
        kept = kept_for(frozenset({"internal"}), site, ours)
        assert kept.parameters == {"delivery_pools_x": "y", "internal_x": "1"}
        assert kept.services == {("internal", "unix"): "i"}


EXCHANGE = "exchange unix - - n - 5 smtp -o smtp_sasl_auth_enable=yes -o smtp_tls_security_level=encrypt\n"


class TestServersOfTheSite:
    @pytest.mark.parametrize(
        ("main", "tables", "named"),
        [
            (
                {"transport_maps": "hash:/t"},
                {"hash:/t": {"example.org": "exchange:[10.0.0.5]"}},
                "transport_maps: hash:/t: example.org exchange:[10.0.0.5]",
            ),
            ({"virtual_transport": "exchange:[10.0.0.5]"}, {}, "virtual_transport = exchange:[10.0.0.5]"),
            (RELAY | {"relay_transport": "exchange:[10.0.0.5]"}, {}, "relay_transport = exchange:[10.0.0.5]"),
            (
                {"mailbox_transport_maps": "hash:/m"},
                {"hash:/m": {"user": "exchange:[10.0.0.5]"}},
                "mailbox_transport_maps: hash:/m: user exchange:[10.0.0.5]",
            ),
        ],
    )
    def test_one_with_a_login_is_not_spoken_to_without(self, main, tables, named):
        refused = said(plan(main, EXCHANGE, tables), "error")
        assert len(refused) == 1
        assert refused[0].startswith(f"{named}: ")
        assert refused[0].endswith("has: -o smtp_sasl_auth_enable=yes, -o smtp_tls_security_level=encrypt")

    @pytest.mark.parametrize(
        "options", ["-o syslog_name=inside", "-o smtp_connect_timeout=5s", "-o smtp_tls_security_level=may"]
    )
    def test_what_does_not_matter_or_is_the_same_is_no_error(self, options):
        main = {"transport_maps": "hash:/t", "smtp_tls_security_level": "may"}
        tables = {"hash:/t": {"example.org": "inside:[10.0.0.5]"}}
        made = plan(main, f"inside unix - - n - 5 smtp {options}\n", tables)
        assert said(made, "error") == []
        assert "internal:[10.0.0.5]" in made.files["routes"]

    @pytest.mark.parametrize("line", ["internal unix - - n - 5 smtp\n", "internal unix - n n - - pipe argv=/bin/x\n"])
    def test_a_service_of_theirs_by_our_name_is_not_overwritten(self, line):
        assert any("internal/unix is a service of yours" in text for text in said(plan({}, line), "error"))
