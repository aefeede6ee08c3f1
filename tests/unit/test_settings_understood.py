"""Settings: what is accepted, how it is understood, and what the log says of it."""

import re
from ipaddress import ip_address, ip_network

import pytest
from pydantic import ValidationError
from written_settings import POOLS, settings

from deliverypools.core.accounts import UNKNOWN_USER_ID, user_account
from deliverypools.core.settings import Settings, built_in_defaults, parse_settings
from deliverypools.core.settings.errors import tables
from deliverypools.core.settings.tables import Table, setting
from deliverypools.core.settings.text import effective_lines, keys_without_effect
from deliverypools.core.settings.values import InetSocket, Nameserver, UnixSocket, account, socket_address


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
