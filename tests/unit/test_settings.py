"""Settings: what is accepted and how it is understood, and every mistake with its line and its remedy."""

import re
from ipaddress import ip_address, ip_network

import pytest
from pydantic import ValidationError

from deliverypools.core.accounts import UNKNOWN_USER_ID, user_account
from deliverypools.core.settings import Settings, SettingsError, built_in_defaults, parse_settings
from deliverypools.core.settings.errors import tables
from deliverypools.core.settings.tables import Table, setting
from deliverypools.core.settings.text import effective_lines, keys_without_effect, notes_of
from deliverypools.core.settings.values import InetSocket, Nameserver, UnixSocket, account, socket_address

TOP = 'accepted_domains = ["example.org"]\n'
POOLS = """\
[pools.normal]
addresses = ["192.0.2.10", "2001:db8::10"]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["192.0.2.20", "2001:db8::20"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["192.0.2.30", "2001:db8::30"]
helo = "mail-relay.example.org"
"""
FIRST_LINE_AFTER_POOLS = 11


def settings(below="", top=""):
    return parse_settings(TOP + top + POOLS + below, "pools.toml")


def errors(text):
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "pools.toml")
    assert str(caught.value) == "\n".join(caught.value.errors)
    return [error.removeprefix("pools.toml:") for error in caught.value.errors]


def errors_below(below):
    return errors(TOP + POOLS + below)


def errors_at_top(top):
    return errors(TOP + top + POOLS)


class TestWhatIsUnderstood:
    def test_a_small_file_has_the_documented_defaults(self):
        read = settings()
        assert read.trusted_networks == (ip_network("127.0.0.0/8"), ip_network("::1"))
        assert (read.authserv_id, read.trusted_authserv_ids) == (None, ())
        assert read.state_path == "/var/lib/delivery-pools/state.db"
        assert read.ticket_key_file == "/etc/delivery-pools/ticket.keys"
        assert (read.profile, read.fast_path, read.shadow) == ("hop", "auto", False)
        assert read.dns.nameservers == ()
        assert (read.dns.timeout_seconds, read.dns.servfail_cache_seconds) == (5.0, 30.0)
        assert (read.milter.workers, read.milter.undecided_after, read.milter.ticket_lifetime) == (4, 14400, 14 * 86400)
        assert read.milter.drain_seconds == 20
        assert socket_address(read.milter.socket) == UnixSocket("/var/spool/postfix/delivery-pools/milter.sock")
        assert read.policy.socket == "unix:/var/spool/postfix/delivery-pools/policy.sock"
        assert (read.limits.recipients_per_day, read.limits.messages_per_minute) == (10000, 30)
        assert set(read.limits.trusted.model_dump().values()) == {0}
        assert read.spam.headers == ("X-Spam-Flag: YES", "X-Spam: Yes", "X-Spam-Status: Yes")
        assert (read.forwarding.authenticated_forward_pool, read.forwarding.unauthenticated_forward) == ("relay",) * 2
        assert read.pins == ()

    def test_pools_by_name(self):
        pools = settings('[pools.bulk-2]\naddresses = ["192.0.2.40"]\nhelo = "BULK.Example.org."\n').pools
        assert list(pools) == ["normal", "high-risk", "relay", "bulk-2"]
        assert pools["normal"].addresses == (ip_address("192.0.2.10"), ip_address("2001:db8::10"))
        assert pools["bulk-2"].helo == "bulk.example.org"

    def test_nothing_can_be_changed(self):
        with pytest.raises(ValidationError):
            settings().shadow = True

    @pytest.mark.parametrize(
        "spelling", ["bücher.example", "BÜCHER.example.", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE"]
    )
    def test_unicode_domains_are_a_labels(self, spelling):
        read = parse_settings(f'accepted_domains = ["{spelling}"]\n' + POOLS, "x")
        assert read.accepted_domains == ("xn--bcher-kva.example",)
        assert read.is_accepted_domain("Bücher.Example")
        assert read.is_accepted_domain("xn--bcher-kva.example.")

    @pytest.mark.parametrize(
        "domain", ["", "example.com", "sub.example.org", "org", ".", "\x00", "a" * 5000, "ü" * 5000]
    )
    def test_other_domains_are_not_ours(self, domain):
        assert not settings().is_accepted_domain(domain)

    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("127.0.0.1", True),
            ("127.255.0.1", True),
            ("::1", True),
            ("::ffff:127.0.0.1", True),
            ("192.0.2.1", False),
            ("::ffff:192.0.2.1", False),
            ("fe80::1%eth0", False),
            ("", False),
            ("unknown", False),
            ("127.0.0.1 ", False),
            ("127.1", False),
            ("\ud800", False),
        ],
    )
    def test_trusted_clients(self, address, expected):
        assert settings().is_trusted_client(address) is expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("127.0.0.1", Nameserver("127.0.0.1", 53)),
            ("127.0.0.1:5353", Nameserver("127.0.0.1", 5353)),
            ("::1", Nameserver("::1", 53)),
            ("[::1]", Nameserver("::1", 53)),
            ("[2001:DB8::0:1]:5353", Nameserver("2001:db8::1", 5353)),
        ],
    )
    def test_nameservers(self, text, expected):
        assert settings(f'[dns]\nnameservers = ["{text}"]').dns.nameservers == (expected,)

    @pytest.mark.parametrize(
        ("text", "normal", "parts"),
        [
            ("unix:/run/x.sock", "unix:/run/x.sock", UnixSocket("/run/x.sock")),
            ("unix:/" + "x" * 106, "unix:/" + "x" * 106, UnixSocket("/" + "x" * 106)),
            ("inet:127.0.0.1:8891", "inet:127.0.0.1:8891", InetSocket("127.0.0.1", 8891)),
            ("inet:LocalHost:1", "inet:localhost:1", InetSocket("localhost", 1)),
            ("inet:[::0:1]:65535", "inet:[::1]:65535", InetSocket("::1", 65535)),
        ],
    )
    def test_sockets(self, text, normal, parts):
        milter = settings(f'[milter]\nsocket = "{text}"').milter
        assert (milter.socket, socket_address(milter.socket)) == (normal, parts)

    @pytest.mark.parametrize(
        ("text", "seconds"), [('"90s"', 90), ('"30m"', 1800), ('"4h"', 14400), ('"2d"', 172800), ('" 5 m "', 300)]
    )
    def test_times(self, text, seconds):
        assert settings(f"[milter]\nundecided_after = {text}").milter.undecided_after == seconds

    @pytest.mark.parametrize(("text", "seconds"), [('"1m"', 60), ("30", 30), ("0.5", 0.5), ("0", 0)])
    def test_drain_seconds_are_seconds_or_a_time(self, text, seconds):
        assert settings(f"[milter]\ndrain_seconds = {text}").milter.drain_seconds == seconds

    def test_pins_are_in_the_form_that_is_compared(self):
        pins = settings(
            """
            [[pins]]
            sender = "News@Bücher.Example"
            pool = "relay"
            [[pins]]
            domain = "Lists.EXAMPLE.org."
            pool = "normal"
            [[pins]]
            sasl_username = "NewsLetter@Example.org"
            pool = "normal"
            [[pins]]
            client = "192.0.2.64/28"
            pool = "high-risk"
            """
        ).pins
        assert pins[0].sender == "news@xn--bcher-kva.example"
        assert pins[1].domain == "lists.example.org"
        assert pins[2].sasl_username == "newsletter@example.org"
        assert pins[3].client == ip_network("192.0.2.64/28")
        assert [pin.pool for pin in pins] == ["relay", "normal", "normal", "high-risk"]
        assert pins[3].contains("192.0.2.65")
        assert pins[3].contains("::ffff:192.0.2.65")
        assert not pins[3].contains("192.0.2.1")
        assert not pins[3].contains("unknown")
        assert not pins[0].contains("192.0.2.65")

    def test_spam_headers_have_one_form(self):
        assert settings('[spam]\nheaders = ["X-A:yes", "X-B"]').spam.headers == ("X-A: yes", "X-B")

    def test_limits_of_trusted_clients_are_their_own(self):
        limits = settings("[limits]\nrecipients_per_day = 5\n[limits.trusted]\nrecipients_per_day = 7").limits
        assert (limits.recipients_per_day, limits.trusted.recipients_per_day) == (5, 7)

    def test_accounts_of_policies_and_groups_are_in_the_form_that_is_counted(self):
        read = settings(
            """
            [[outbound_policies]]
            name = "a"
            senders = ["Alice+news@Bücher.Example", "CORP\\\\Bob", "UID:33", "2001:DB8:0::1", "::ffff:192.0.2.7"]
            except_senders = ["Boss@Example.org"]
            [groups]
            web = ["uid:33", "prvs=0123456789=carol@example.org"]
            """
        )
        assert read.outbound_policies[0].senders == (
            "alice@xn--bcher-kva.example",
            "corp\\bob",
            "uid:33",
            "2001:db8::1",
            "192.0.2.7",
        )
        assert read.outbound_policies[0].except_senders == ("boss@example.org",)
        assert read.members_of("web") == {"uid:33", "carol@example.org"}
        assert read.members_of("none") == frozenset()

    @pytest.mark.parametrize(
        "name",
        ["alice", "corp\\bob", "12345", "dead", "a:b", UNKNOWN_USER_ID, user_account(0), user_account(4294967294)],
    )
    def test_logins_and_system_users_are_accounts(self, name):
        assert account(name) == name

    def test_a_login_may_look_like_a_domain_that_is_not_accepted(self):
        read = settings('[groups]\na = ["example.net", "sub.example.org"]')
        assert read.members_of("a") == {"example.net", "sub.example.org"}

    def test_a_policy_may_allow_any_number_per_day(self):
        read = settings('[[outbound_policies]]\nname = "default"\nrecipients_per_day = 50000')
        assert read.default_policy.recipients_per_day == 50000

    def test_signs_of_compromise_are_off_by_default(self):
        read = settings()
        assert read.suspicion.model_dump() == {
            "first_time_recipients_per_day": 0,
            "client_addresses_per_hour": 0,
            "refused_recipients_percent": 0,
            "refused_recipients_minimum": 20,
        }
        assert set(read.spam.ceilings.model_dump().values()) == {0}

    def test_who_is_asked_by_default(self):
        read = settings()
        assert read.alerts.contact_address(read.accepted_domains) == "postmaster@example.org"
        assert built_in_defaults().alerts.contact_address(()) == "postmaster@localhost"

    @pytest.mark.parametrize(
        "state", ["redis://127.0.0.1:6379/0", "rediss://u:p%2Fw@redis.example.org", "redis://[::1]/15"]
    )
    def test_the_state_may_be_a_server(self, state):
        assert settings(top=f'state = "{state}"\n').state_path is None

    def test_built_in_defaults_have_three_pools_and_no_domain_of_ours(self):
        read = built_in_defaults()
        assert list(read.pools) == ["normal", "high-risk", "relay"]
        assert read.accepted_domains == ()
        assert read.pools == settings().pools


class TestMistakes:
    def test_five_mistakes_are_five_lines(self):
        text = """\
accepted_domains = ["example.org"]
shaddow = true

[pools.normal]
addresses = [
  "192.0.2.10",
  "192.0.2.300",
]
helo = "mail.example.org"
[pools.high-risk]
addresses = ["192.0.2.20"]
helo = "mail-high-risk.example.org"
[pools.relay]
addresses = ["192.0.2.30"]
helo = "mail-relay.example.org"

[milter]
undecided_after = "4 hours"
workers = 0

[[pins]]
sender = "alice@example.org"
pool = "high-rsik"
"""
        address = 'got "192.0.2.300"; write an IPv4 or IPv6 address, for example "192.0.2.10" or "2001:db8::10"'
        assert errors(text) == [
            '2: shaddow: is no setting; did you mean "shadow"?',
            f"7: pools.normal.addresses[1]: {address}",
            '18: milter.undecided_after: got "4 hours"; write a number and a unit, for example "4h" or "30m"',
            "19: milter.workers: got 0; write 1 or more",
            '23: pins[0].pool: "high-rsik" is not defined. Defined pools: high-risk, normal, relay.',
        ]

    @pytest.mark.parametrize(
        ("below", "expected"),
        [
            ("[milter]\nworker = 4", 'milter.worker: is no setting; did you mean "workers"?'),
            ("[milter]\nshadow = true", "milter.shadow: is no setting here; it belongs in the top of the file"),
            ("[policy]\nworkers = 4", "policy.workers: is no setting here; it belongs in [milter]"),
            ("[policy]\nx = 4", "policy.x: is no setting; [policy] can have socket"),
            ("[spam]\n'a\\u0000b' = 4", 'spam."a\\\\u0000b": is no setting'),
            ("[milter]\nworkers = true", "milter.workers: got true; write a whole number without quotes"),
            ('[milter]\nworkers = "4"', 'milter.workers: got "4"; write a whole number'),
            ("[milter]\nworkers = 4.0", "milter.workers: got 4.0; write a whole number"),
            ("[milter]\nworkers = 65", "milter.workers: got 65; write 64 or less"),
            ("[milter]\nworkers = 1979-05-27", "milter.workers: got 1979-05-27; write a whole number"),
            ("[milter]\nundecided_after = 4", "milter.undecided_after: got 4; write a number and a unit"),
            ('[milter]\nundecided_after = "0s"', 'milter.undecided_after: got "0s"; write a time between'),
            ('[milter]\nundecided_after = "999999d"', 'milter.undecided_after: got "999999d"; write a time between'),
            ('[milter]\nticket_lifetime = "4h"', 'milter.ticket_lifetime: ticket_lifetime ("4h") must be longer'),
            ('[milter]\nundecided_after = "14d"', 'milter.undecided_after: ticket_lifetime ("14d") must be longer'),
            ('[milter]\ndecision_log_lifetime = "13d"', "milter.decision_log_lifetime: must be at least ticket"),
            ('[milter]\nsocket = "unix:x.sock"', 'milter.socket: got "unix:x.sock"; write an absolute path'),
            (
                '[forwarding]\nsrs_domain = "srs.example.org"',
                'forwarding.srs_domain: needs secrets; add srs_secret_file = "/etc/delivery-pools/srs.secrets"',
            ),
            (
                '[forwarding]\nsrs_secret_file = "/etc/srs"',
                'forwarding.srs_secret_file: is of no use alone; add srs_domain = "srs.example.org"',
            ),
            (
                '[forwarding]\nsrs_domain = "a.example"\nsrs_secret_file = "/etc/delivery-pools/ticket.keys"',
                "forwarding.srs_secret_file: is the ticket_key_file; give the secrets a file of their own",
            ),
            (f'[milter]\nsocket = "unix:/{"x" * 107}"', "milter.socket: the path has 108 bytes"),
            ('[milter]\nsocket = "inet:8891"', 'milter.socket: got "inet:8891"; write "unix:'),
            ('[milter]\nsocket = "inet:localhost:0"', 'milter.socket: got "inet:localhost:0"; write'),
            ('[milter]\nsocket = "inet:::1:8891"', 'milter.socket: got "inet:::1:8891"; write'),
            ('[policy]\nsocket = "inet:a:1"\n[milter]\nsocket = "inet:A:1"', "policy.socket: is the socket of both"),
            ("[dns]\ntimeout_seconds = 0", "dns.timeout_seconds: got 0.0; write more than 0"),
            ("[dns]\ntimeout_seconds = nan", "dns.timeout_seconds: got nan; write a number of seconds"),
            ("[dns]\ntimeout_seconds = 61.5", "dns.timeout_seconds: got 61.5; write 60 or less"),
            ('[dns]\nnameservers = "::1"', 'dns.nameservers: got "::1"; write a list, for example ["127.0.0.1", '),
            ('[dns]\nnameservers = ["ns.example"]', 'dns.nameservers[0]: got "ns.example"; write an address'),
            ('[dns]\nnameservers = ["[::1]:x"]', 'dns.nameservers[0]: got "[::1]:x"; write an address'),
            ("[limits]\nrecipients_per_day = -1", "limits.recipients_per_day: got -1; write 0 or more"),
            ("[limits.trusted]\ntrusted = 1", "limits.trusted.trusted: is no setting"),
            ("[limits]\ntrusted = 1", "limits.trusted: got 1; write a table, [limits.trusted]"),
            ('[spam]\nheaders = ["X Spam: yes"]', 'spam.headers[0]: got "X Spam: yes"; write "Name" or "Name: value"'),
            ('[spam]\nheaders = ["X-Spam:"]', 'spam.headers[0]: got "X-Spam:"; write "Name" or "Name: value"'),
            ('[spam]\nspamd = "127.0.0.1"', 'spam.spamd: got "127.0.0.1"; write "HOST:PORT"'),
            ('[spam]\nrspamd = "127.0.0.1:1"', "spam.rspamd: is no URL; write http://"),
            (
                '[forwarding]\nunauthenticated_forward = "hig-risk"',
                'did you mean "high-risk"? Choices: "relay", "high-',
            ),
            ('[bounces]\ndrop_backscatter = "yes"', 'bounces.drop_backscatter: got "yes"; write true or false'),
            ('[alerts]\nmail_to = ["a b@c.example"]', 'alerts.mail_to[0]: got "a b@c.example"; write one address'),
            (
                '[[pins]]\npool = "relay"',
                "pins[0]: says for no mail; write one of sender, domain, sasl_username, client",
            ),
            ('[[pins]]\nsender = "a@b.example"', 'pins[0].pool: is missing; write it, for example pool = "high-risk"'),
            ('[[pins]]\npool = "relay"\nclient = "::1"\ndomain = "a.example"', "pins[0]: has domain and client; write"),
            ('[[pins]]\npool = "relay"\nclient = "192.0.2.1/24"', 'write "192.0.2.0/24" for the whole network'),
            ('[[pins]]\npool = "relay"\ndomain = "a@b.example"', 'write only the domain, "b.example"'),
            ('[[pins]]\npool = "relay"\nsender = ""', "pins[0].sender: is empty; write"),
            ('[[pins]]\npool = "relay"\nsasl_username = "a\\nb"', 'got "a\\nb"; write it without control characters'),
            ('[[outbound_policies]]\nname = "a"\ngroups = ["g"]', '"g" is not defined. Defined groups: none.'),
            ('[[outbound_policies]]\nname = "default"\nsenders = ["a@b.example"]', 'the policy "default" applies to'),
            (
                '[[outbound_policies]]\nname = "default"\n[[outbound_policies]]\nname = " default "',
                'outbound_policies[1].name: "default" is the name of another policy already; choose another',
            ),
            (
                '[[outbound_policies]]\nname = "sales"\nexternal_recipients_per_hour = 5',
                'domains, groups, except_senders, except_domains, except_groups, or name it "default" to make it the',
            ),
            ('[[outbound_policies]]\nname = "sales"\nsenders = []', "outbound_policies[0]: does not say for whom"),
            (
                '[[outbound_policies]]\nname = "sales"\nsendrs = ["a@b.example"]',
                'outbound_policies[0].sendrs: is no setting; did you mean "senders"?',
            ),
            (
                '[[outbound_policies]]\nname = "a"\nsenders = ["a@b.example"]\nbcc_suspicious_mail = ["c@d.example"]',
                'outbound_policies[0].bcc_suspicious_mail: is for the policy "default" only',
            ),
            (
                '[[outbound_policies]]\nname = "default"\nover_limit = "restrict-until-tomorow"',
                'did you mean "restrict-until-tomorrow"? Choices: "high-risk", "restrict-until-tomorrow", "restrict",',
            ),
            ('[[outbound_policies]]\nname = "default"\nnotify = ["all"]', 'notify[0]: got "all"; write one address'),
            (
                '[[outbound_policies]]\nname = "a"\nsenders = ["a b@c.example"]',
                'outbound_policies[0].senders[0]: got "a b@c.example"; write one address',
            ),
            ("[groups]\na = [33]", "groups.a[0]: got 33; write text in quotes"),
            ('[groups]\na = ["<>"]', 'groups.a[0]: got "<>"; write an address, a login or "uid:33"'),
            ("[suspicion]\nrefused_recipients_percent = 101", "got 101; write 100 or less"),
            ("[suspicion]\nrefused_recipients_minimum = 0", "got 0; write 1 or more"),
            (
                '[alerts]\nspool = "spool/"',
                'alerts.spool: got "spool/"; write an absolute path, for example "/var/lib/delivery-pools/spool"',
            ),
            (
                '[alerts]\nspool = "/srv/spool/"',
                'got "/srv/spool/"; write a path that does not end in a slash, for example "/var/lib/delivery-pools/sp',
            ),
            (
                '[alerts]\nsendmail = "sendmail"',
                'got "sendmail"; write an absolute path, for example "/usr/sbin/sendmail"',
            ),
            (
                '[alerts]\ncontact = " "',
                'alerts.contact: is empty; write for example "helpdesk@example.org or extension 4711"',
            ),
            ("[alerts]\ncontact = 1", 'got 1; write text in quotes, for example "helpdesk@example.org or extension 47'),
            ('[alerts]\nmail_to = [""]', 'mail_to[0]: is empty; write for example "postmaster@example.org"'),
            ('[policy]\nsocket = ""', 'policy.socket: is empty; write for example "inet:127.0.0.1:8892"'),
            ('[spam]\nrspamd = "x"', 'is no URL; write http:// or https://, for example "http://127.0.0.1:11333"'),
            ('[limits]\nrecipients_per_day = "x"', "write a whole number without quotes, for example 10000"),
            (
                "[limits]\nrecipients_per_day = 1000000000000000000",
                "limits.recipients_per_day: got 1000000000000000000; write a number of at most 18 digits",
            ),
            (
                f"[suspicion]\nclient_addresses_per_hour = {10**30}",
                "got a very large number; write a number of at most 18 digits",
            ),
            ('[groups]\na = ["alice", "example.org"]', 'groups.a[1]: "example.org" is a domain, not an account; write'),
            (
                '[[outbound_policies]]\nname = "a"\nsenders = ["Example.ORG."]',
                'outbound_policies[0].senders[0]: "Example.ORG." is a domain, not an account; write it in domains',
            ),
            (
                '[[outbound_policies]]\nname = "a"\nexcept_senders = ["example.org"]',
                '[0].except_senders[0]: "example.org" is a domain, not an account; write it in except_domains',
            ),
            ('[groups]\na = "b@c.example"', 'groups.a: got "b@c.example"; write a list'),
        ],
    )
    def test_one_mistake_is_one_line_below(self, below, expected):
        found = errors_below(below)
        assert len(found) == 1, found
        assert expected in found[0]
        line = int(found[0].partition(":")[0])
        assert FIRST_LINE_AFTER_POOLS <= line < FIRST_LINE_AFTER_POOLS + 1 + below.count("\n")

    @pytest.mark.parametrize(
        ("top", "expected"),
        [
            ('profile = "hopp"', '2: profile: got "hopp"; did you mean "hop"? Choices: "hop", "express"'),
            ("profile = []", '2: profile: got a list; Choices: "hop", "express"'),
            ('shadow = "true"', '2: shadow: got "true"; write true or false, without quotes'),
            ("shadow = 1", "2: shadow: got 1; write true or false"),
            (
                'state = "redis://host/x"',
                '2: state: is no URL of a Redis server; write for example "redis://127.0.0.1:6379/0"',
            ),
            ('state = "redis://host/0/1"', "2: state: is no URL of a Redis server; write"),
            ('state = "redis://host:0"', "2: state: is no URL of a Redis server; write"),
            ('state = "redis:host"', "2: state: is no URL of a Redis server; write"),
            ('state = "REDIS://host/0"', "2: state: is no URL of a Redis server; write"),
            ('state = "postgres://u:pw@host/x"', "2: state: is no URL of a Redis server; write"),
            ("state = 1", "2: state: got 1; write text in quotes"),
            ('state = " "', "2: state: is empty; write for example"),
            ('state = "sqlite:///state.db"', '2: state: got "sqlite:///state.db"; write sqlite:/// and an absolute'),
            ('state = "/var/lib/state.db"', '2: state: got "/var/lib/state.db"; write sqlite:///'),
            ('ticket_key_file = "keys"', '2: ticket_key_file: got "keys"; write an absolute path'),
            (
                'authserv_id = "mx.example.org"\ntrusted_authserv_ids = ["other", "MX.example.org."]',
                '3: trusted_authserv_ids[1]: "MX.example.org." is our own authserv_id, and what claims that is removed',
            ),
            ('authserv_id = "mx"', '2: authserv_id: got "mx"; write the whole host name, for example "mx.example.org"'),
            ('trusted_networks = ["10.0.0.1/8"]', '2: trusted_networks[0]: got "10.0.0.1/8", an address inside a netw'),
            ('trusted_networks = ["::ffff:10.0.0.0/104"]', 'write it as IPv4, "10.0.0.0/8"'),
            ('trusted_networks = ["0.0.0.0/0"]', "which is the whole Internet"),
            ('trusted_networks = ["[::1]"]', 'got "[::1]"; write an address or a network'),
            ("trusted_networks = [\n\n1]", "4: trusted_networks[0]: got 1; write text in quotes"),
            ("dns = 1", "2: dns: got 1; write a table, [dns]"),
            ("pins = [1]", "2: pins[0]: got 1; write a table, [[pins]]"),
            ("groups = 1", "2: groups: got 1; write a table, [groups] with a list for each name"),
        ],
    )
    def test_one_mistake_is_one_line_at_the_top(self, top, expected):
        found = errors_at_top(top + "\n")
        assert len(found) == 1, found
        assert expected in found[0]

    def test_srs_has_no_way_back_with_the_profile_express(self):
        srs = '[forwarding]\nsrs_domain = "srs.example.org"\nsrs_secret_file = "/etc/srs"\n'
        assert settings(srs, 'profile = "hop"\n').forwarding.srs_domain == "srs.example.org"
        (found,) = errors(TOP + 'profile = "express"\n' + POOLS + srs)
        assert found.startswith('13: forwarding.srs_domain: is for the profile "hop": with "express" bounces')

    @pytest.mark.parametrize(
        ("domain", "advice"),
        [
            ("", "is empty"),
            ("a..b", "write a domain"),
            ("-a.example", "write a domain"),
            ("*.example.org", "write a domain"),
            ("a_b.example", "write a domain"),
            ("192.0.2.1", "write a domain"),
            ("xn--a", "write a domain"),
            ("bü\u200bcher.example", "without control characters"),
            ("alice@example.org", 'write only the domain, "example.org"'),
            ("a" * 64 + ".example", "write a domain"),
            ("ü" * 300, "write a domain"),
            ("a." * 127 + "a", "write a domain"),
        ],
    )
    def test_domains_that_are_none(self, domain, advice):
        (found,) = errors(f'accepted_domains = ["{domain}"]\n' + POOLS)
        assert found.startswith("1: accepted_domains[0]: ")
        assert advice in found

    @pytest.mark.parametrize(
        ("addresses", "advice"),
        [
            ("[]", 'got a list; write at least one, for example ["192.0.2.10", "2001:db8::10"]'),
            ('["192.0.2.0/24"]', "write one address, without a network length"),
            ('["0.0.0.0"]', "write an address that belongs to this host"),
            ('["ff02::1"]', "write an address that belongs to this host"),
            ('["fe80::1%eth0"]', "write an address without a zone"),
            ('["::ffff:192.0.2.1"]', 'write it as IPv4, "192.0.2.1"'),
            ('["192.0.2.40", "192.0.2.40"]', "192.0.2.40 is listed twice"),
            ('["2001:db8:0::20"]', "2001:db8::20 is in [pools.high-risk] already; give each pool its own addresses"),
            ("[3221225994]", "got 3221225994; write text in quotes"),
        ],
    )
    def test_addresses_of_a_pool(self, addresses, advice):
        (found,) = errors_below(f'[pools.x]\naddresses = {addresses}\nhelo = "x.example.org"')
        assert found.startswith("12: pools.x.addresses")
        assert advice in found

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (
                "[pools.high_risk]",
                "5: pools.high_risk: is no name for a pool; use lower-case letters, digits and hyphens",
            ),
            ("[pools.high-rsik]", '5: pools.high-rsik: pool "high-risk" is missing; rename this one or write'),
            ("[pools.bulk]", '2: pools: pool "high-risk" is missing; write a table [pools.high-risk] with addresses'),
        ],
    )
    def test_a_required_pool_under_another_name_is_one_mistake(self, written, expected):
        (found,) = errors(
            TOP + POOLS.replace("[pools.high-risk]", written) + '[[pins]]\nsender="a@b.c"\npool="high-risk"'
        )
        assert found.startswith(expected)

    @pytest.mark.parametrize("name", ["Bulk", "a b", "a.b", "-a", "a-", "a" * 31, "ä", ""])
    def test_names_of_pools(self, name):
        (found,) = errors_below(f'[pools."{name}"]\naddresses = ["192.0.2.40"]\nhelo = "x.example.org"')
        assert "is no name for a pool; use lower-case letters, digits and hyphens, at most 30" in found

    def test_a_pool_named_like_a_single_address_of_another(self):
        (found,) = errors_below('[pools.relay-2]\naddresses = ["192.0.2.40"]\nhelo = "x.example.org"')
        assert found.startswith(
            '11: pools.relay-2: pool "relay" uses names like "pool-relay-2" for its single addresses;'
        )

    @pytest.mark.parametrize(
        "name", ["uid:www-data", "uid:-1", "UID:", "uid: 33", "uid:033", "uid:4294967295", "uid:unknown2"]
    )
    def test_system_users_that_nobody_is(self, name):
        (found,) = errors_below(f'[groups]\na = ["{name}"]')
        assert found.endswith(f'a[0]: got "{name}"; write uid: and the number of the user, for example "uid:33"')

    @pytest.mark.parametrize(
        "name",
        [
            "192.0.2.0/24",
            "192.0.2.70:25",
            "[192.0.2.70]",
            "[2001:db8::1]:25",
            "2001:db8::/32",
            "192.0.2.300",
            "1.2.3.4+x",
        ],
    )
    def test_client_addresses_that_nobody_has(self, name):
        (found,) = errors_below(f'[groups]\na = ["{name}"]')
        assert found.endswith(f'a[0]: got "{name}"; write one address, for example "192.0.2.70" or "2001:db8::70"')

    @pytest.mark.parametrize("name", ["*@example.org", "@example.org"])
    def test_patterns_are_no_accounts(self, name):
        (found,) = errors_below(f'[groups]\na = ["{name}"]')
        assert found.endswith(f'a[0]: got "{name}"; write one address, for example "alice@example.org"')

    def test_every_kind_of_value_has_an_example_of_its_key(self):
        """A key that is empty text is told its own example, as far as its kind takes text with an example."""
        for path, table in tables(Settings):
            for name, field in table.model_fields.items():
                example = notes_of(field).get("example", "")
                if example.startswith('"') and "NAME" not in path and 0 not in path and field.annotation is not float:
                    section = f"[{'.'.join(path)}]\n" if path else ""
                    text = f'{section}{name} = ""\n'
                    (found,) = errors_below(text) if path else errors_at_top(text)
                    assert example in found or "Choices:" in found, found

    def test_missing_settings_are_named_with_an_example(self):
        assert errors("") == [
            '1: accepted_domains: is missing; write it, for example accepted_domains = ["example.org"]',
            "1: pools: is missing; write the tables [pools.normal], [pools.high-risk] and [pools.relay]",
        ]

    def test_a_misspelt_required_key_is_one_mistake(self):
        assert errors('accepted_domain = ["example.org"]\n' + POOLS) == [
            '1: accepted_domain: is no setting; did you mean "accepted_domains"?'
        ]
        assert errors(TOP + POOLS.replace("pools", "pool")) == ['2: pool: is no setting; did you mean "pools"?']

    def test_no_accepted_domain(self):
        assert errors("accepted_domains = []\n" + POOLS) == [
            '1: accepted_domains: is empty; write the domains whose users are yours, for example ["example.org"]'
        ]

    @pytest.mark.parametrize(
        "state",
        [
            "redis://:s3cret/@host/0",
            "redis://:s3cret#@host/0",
            "redis://u:s3cret@/0",
            "redis://u:s3cret@host/0/0",
            "redis://u:s3cret@host/s3cret",
            "redis://u:s3cret @host/0",
            "redis://u:s3cret\\u0007@host/0",
            "redis:/u:s3cret@host/0",
            "Redis://u:s3cret@host/0",
            "valkey://u:s3cret@host/0",
            "u:s3cret@host",
            "redis://[u:s3cret@host/0",
        ],
    )
    def test_the_password_of_a_server_is_not_repeated(self, state):
        (found,) = errors_at_top(f'state = "{state}"\n')
        assert found.startswith("2: state: is no URL of a Redis server; write for example")
        assert "s3cret" not in found

    @pytest.mark.parametrize("webhook", ["hooks.example.org/s3cret", "https://h/s3cret\\u0007", "https://h/s3cret x"])
    def test_the_secret_in_a_webhook_is_not_repeated(self, webhook):
        (found,) = errors_below(f'[alerts]\nwebhook = "{webhook}"\n')
        assert "alerts.webhook: is no URL; write http:// or https://" in found
        assert "s3cret" not in found


class TestLinesForTheLog:
    def test_one_line_for_every_setting(self):
        lines = settings().effective_lines()
        assert 'milter.undecided_after = "4h"' in lines
        assert 'pools.high-risk.addresses = ["192.0.2.20", "2001:db8::20"]' in lines
        assert "limits.trusted.recipients_per_day = 0" in lines
        assert "spam.rspamd = (not set)" in lines
        assert "spam.rspamd_scores = {}" in lines
        assert 'spam.size_limit = "10MB"' in lines
        assert "limits.messages_per_minute = 30" in lines
        assert "suspicion.refused_recipients_minimum = 20" in lines
        for path, table in tables(Settings):
            if all(isinstance(part, str) and part != "NAME" for part in path):
                tops = [".".join((*path, name)) for name in table.model_fields]
                assert all(any(re.match(rf"{re.escape(top)}[ .]", line) for line in lines) for top in tops)

    def test_policies_and_pins_are_a_line_for_each_key_that_was_set(self):
        lines = settings(
            """
            [[outbound_policies]]
            name = "default"
            over_limit = "high-risk"
            automatic_forwarding = "off"
            [[outbound_policies]]
            name = "sales"
            senders = ["Alice@example.org", "uid:33"]
            [[pins]]
            client = "192.0.2.64/28"
            pool = "relay"
            """
        ).effective_lines()
        assert [line for line in lines if line.startswith(("outbound_policies", "pins"))] == [
            'outbound_policies[0].name = "default"',
            'outbound_policies[0].over_limit = "high-risk"',
            'outbound_policies[0].automatic_forwarding = "off"',
            'outbound_policies[1].name = "sales"',
            'outbound_policies[1].senders = ["alice@example.org", "uid:33"]',
            'pins[0].client = "192.0.2.64/28"',
            'pins[0].pool = "relay"',
        ]
        none = settings().effective_lines()
        assert [line for line in none if line.startswith(("outbound_policies", "pins"))] == [
            "outbound_policies = []",
            "pins = []",
        ]

    def test_secrets_are_masked(self):
        lines = settings(
            '[alerts]\nwebhook = "https://u:s3cret@hooks.example.org/s3cret?s3cret"\n'
            '[spam]\nrspamd = "HTTP://u:s3cret@127.0.0.1:11333"'
        ).effective_lines()
        assert any(line.startswith('alerts.webhook = "https://hooks.example.org/***"') for line in lines)
        assert any(line.startswith('spam.rspamd = "http://127.0.0.1:11333/***"') for line in lines)
        assert not any("s3cret" in line for line in lines)

    @pytest.mark.parametrize(
        ("state", "shown"),
        [
            ("redis://192.0.2.5:6379/0", "redis://192.0.2.5:6379/0"),
            ("redis://:s3cret@host:6379/0", "redis://***@host:6379/0"),
            ("rediss://user:s3c%40ret@host", "rediss://***@host"),
            ("redis://:s3c@ret@[::1]:6379/2", "redis://***@[::1]:6379/2"),
            ("redis://host/0?password=s3cret", "redis://host/0?***"),
            ("sqlite:////srv/a@b/state.db", "sqlite:////srv/a@b/state.db"),
        ],
    )
    def test_the_state_is_shown_without_its_password(self, state, shown):
        read = settings(top=f'state = "{state}"\n')
        assert read.state == state
        assert f'state = "{shown}"' in read.effective_lines()


class TestWhatThisVersionDoesNotDo:
    def test_nothing_set_nothing_said(self):
        assert settings().not_in_effect() == ()
        assert built_in_defaults().not_in_effect() == ()

    def test_each_key_that_is_set_to_something_else_is_named(self):
        class Invented(Table):
            idle: bool = setting("For later.", default=False, example="true", later="obeyed")
            also_idle: bool = setting("For later.", default=False, example="true", later="used")

        class Outer(Table):
            inner: Invented

        read = Outer(inner=Invented(idle=True, also_idle=False))
        assert list(keys_without_effect(read)) == ["inner.idle: not obeyed by this version"]
        assert effective_lines(read) == [
            "inner.idle = true  # not obeyed by this version",
            "inner.also_idle = false  # not used by this version",
        ]

    def test_of_this_file_only_what_other_keys_take_away(self):
        read = settings(
            """
            [limits]
            recipients_per_day = 5
            messages_per_minute = 31
            [limits.trusted]
            recipients_per_day = 5
            recipients_per_message = 1
            [socketmap]
            socket = "inet:127.0.0.1:1"
            [[outbound_policies]]
            name = "default"
            over_limit = "restrict"
            [groups]
            g = []
            [spam]
            headers = []
            clamd = "unix:/run/clamd.ctl"
            ceilings.verdicts_per_account_per_hour = 1
            [forwarding]
            srs_domain = "srs.example.org"
            srs_secret_file = "/etc/delivery-pools/srs.secrets"
            [bounces]
            drop_backscatter = true
            [alerts]
            mail_to = ["postmaster@example.org"]
            [milter]
            workers = 3
            """,
            top='authserv_id = "mx.example.org"\nshadow = true\nfast_path = "off"\n',
        )
        assert read.not_in_effect() == (
            "bounces.drop_backscatter: with shadow = true it is only logged what would be done",
        )
