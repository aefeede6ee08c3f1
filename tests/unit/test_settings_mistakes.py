"""Settings: every mistake with its line and its remedy."""

import pytest
from written_settings import FIRST_LINE_AFTER_POOLS, POOLS, TOP, errors, errors_at_top, errors_below, settings

from deliverypools.core.settings import Settings
from deliverypools.core.settings.errors import tables
from deliverypools.core.settings.text import notes_of


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
