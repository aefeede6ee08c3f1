"""Settings: names and addresses of domains, pools and accounts, where they are none."""

import pytest
from written_settings import POOLS, TOP, errors, errors_below


class TestMistakes:
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
