"""The settings of `[spam]`: scanners, scores, what is skipped; and what is less than it says because of other keys."""

import pytest
from written_settings import FIRST_LINE_AFTER_POOLS, errors_below, settings

from deliverypools.core.settings import SpamSkip

BULK = '[pools.bulk]\naddresses = ["192.0.2.40"]\nhelo = "bulk.example.org"\n'
NAMES = "sender, domain, sasl_username, client, recipient"
RSPAMD = 'rspamd = "http://127.0.0.1:11333"\n'


def spam(text, below=""):
    return settings(f"[spam]\n{text}\n{below}").spam


def the_error(text, below=""):
    """The one error of a key of [spam], without line and table."""
    (found,) = errors_below(f"[spam]\n{text}\n{below}")
    line, place, message = found.split(": ", 2)
    assert int(line) == FIRST_LINE_AFTER_POOLS + 1
    return f"{place.removeprefix('spam.')}: {message}"


class TestWhatIsUnderstood:
    def test_defaults(self):
        read = spam("")
        assert (read.rspamd, read.spamd, read.clamd, read.rspamd_settings_id, read.spamd_user) == (None,) * 5
        assert (read.rspamd_scores, read.spamd_scores, read.skip) == ({}, {}, ())
        assert (read.malware, read.scan, read.oversized, read.unknown_verdict) == (
            "high-risk",
            "both",
            "unscanned",
            "wait",
        )
        assert (read.size_limit, read.timeout_seconds, read.first_pass_timeout_seconds) == (10_000_000, 30.0, 5.0)
        assert read.scans_at_once == 8

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("1", 1),
            ("1000000000", 10**9),
            ('"1B"', 1),
            ('"500kB"', 500_000),
            ('"500 KB"', 500_000),
            ('" 25MB "', 25_000_000),
            ('"1000MB"', 10**9),
        ],
    )
    def test_sizes(self, written, expected):
        assert spam(f"size_limit = {written}").size_limit == expected

    @pytest.mark.parametrize(
        ("size", "shown"), [("10000000", '"10MB"'), ("1500000", '"1500kB"'), ("1500", "1500"), ('"2kB"', '"2kB"')]
    )
    def test_the_log_shows_a_size_as_an_operator_would_write_it(self, size, shown):
        assert f"spam.size_limit = {shown}" in settings(f"[spam]\nsize_limit = {size}").effective_lines()

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("127.0.0.1:783", "127.0.0.1:783"),
            ("Spam.Example.org:783", "spam.example.org:783"),
            ("[::1]:783", "[::1]:783"),
            ("[0:0::1]:783", "[::1]:783"),
            ("unix:/run/spamd.sock", "unix:/run/spamd.sock"),
        ],
    )
    def test_addresses_of_services(self, written, expected):
        read = spam(f'spamd = "{written}"')
        assert read.spamd == expected

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("http://127.0.0.1:11333/", "http://127.0.0.1:11333"),
            ("HTTPS://user:Secret@Scan.example.org", "https://user:Secret@Scan.example.org"),
            ("http://rspamd_1:11333", "http://rspamd_1:11333"),
            ("http://127.0.0.1:11333/checkv2/", "http://127.0.0.1:11333"),
            ("https://www.example.org/rspamd/", "https://www.example.org/rspamd"),
        ],
    )
    def test_urls_of_rspamd(self, written, expected):
        assert spam(f'rspamd = "{written}"').rspamd == expected

    def test_scores_are_numbers_by_name(self):
        text = "rspamd_scores = {bulk = 4, high-risk = 6.5, hold = 6.6, reject = 100000}\nspamd_scores.hold = 0.1"
        read = spam(text, BULK)
        assert read.rspamd_scores == {"bulk": 4.0, "high-risk": 6.5, "hold": 6.6, "reject": 100000.0}
        assert read.spamd_scores == {"hold": 0.1}

    def test_what_is_skipped(self):
        names = ('sender = "News@Example.org"', 'client = "192.0.2.64/28"', 'recipient = "Spam@Reports.example.net"')
        assert spam("", "".join(f"[[spam.skip]]\n{name}\n" for name in names)).skip == (
            SpamSkip(sender="news@example.org"),
            SpamSkip(client="192.0.2.64/28"),
            SpamSkip(recipient="spam@reports.example.net"),
        )

    def test_pools_named_hold_and_reject_are_pools_where_no_score_names_them(self):
        pools = BULK.replace("bulk", "hold") + BULK.replace("bulk", "reject").replace("2.40", "2.41")
        assert set(settings(pools).pools) >= {"hold", "reject"}


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("size_limit = 0", 'size_limit: got 0; write a size between 1 byte and "1000MB"'),
            ("size_limit = -1", 'size_limit: got -1; write a size between 1 byte and "1000MB"'),
            ("size_limit = 1000000001", 'got 1000000001; write a size between 1 byte and "1000MB"'),
            ('size_limit = "999999999999MB"', 'write a size between 1 byte and "1000MB"'),
            (f"size_limit = 0x{'f' * 9000}", "got a very large number; write a size"),
            ('size_limit = "10"', 'got "10"; write a number and B, kB or MB, for example "25MB"'),
            ('size_limit = "10M"', 'got "10M"; write a number and B, kB or MB'),
            ('size_limit = "\u0661MB"', "write a number and B, kB or MB"),
            ("size_limit = true", "got true; write a number and B, kB or MB"),
            ("size_limit = 1e7", "got 10000000.0; write a number and B, kB or MB"),
            ("size_limit = nan", "got nan; write a number and B, kB or MB"),
            ('rspamd_settings_id = "two words"', 'got "two words"; write one word of ASCII characters'),
            ('rspamd_settings_id = "a\\r\\nB: c"', "write it without control characters"),
            ('spamd_user = "j\u00f6rg"', 'spamd_user: got "j\u00f6rg"; write one word of ASCII characters'),
            ('clamd = "unix:run/clamd"', 'clamd: got "unix:run/clamd"; write "HOST:PORT" or "unix:/path/of/the.sock"'),
            ('clamd = "::1:3310"', 'write "HOST:PORT" or "unix:/path/of/the.sock"'),
            ("malware = 'bulk'", 'malware: got "bulk"; Choices: "high-risk", "hold", "reject"'),
            ("scan = 'outbound'", 'scan: got "outbound"; Choices: "both", "submitted", "forwarded"'),
            ("oversized = 'reject'", 'oversized: got "reject"; Choices: "unscanned", "high-risk"'),
            ("unknown_verdict = 'normal'", 'unknown_verdict: got "normal"; Choices: "wait", "high-risk"'),
            ("timeout_seconds = 0", "timeout_seconds: got 0.0; write more than 0"),
            ("timeout_seconds = 90.5", "timeout_seconds: got 90.5; write 90 or less"),
            ("first_pass_timeout_seconds = 31", "first_pass_timeout_seconds: got 31.0; write 30 or less"),
            ("scans_at_once = 0", "scans_at_once: got 0; write 1 or more"),
            ("scans_at_once = 1001", "scans_at_once: got 1001; write 1000 or less"),
        ],
    )
    def test_of_one_value(self, text, expected):
        assert expected in the_error(text)

    @pytest.mark.parametrize(
        "url", ["/?password=s3cret", "?s3cret", "#s3cret", "/#", "/?", "/s3cr\u00e9t", ":s3cret", " s3cret", "\\u0007"]
    )
    def test_of_the_url_whose_text_is_not_repeated(self, url):
        found = the_error(f'rspamd = "http://u:s3cret@127.0.0.1:11333{url}"')
        assert found.startswith(("rspamd: is more than a URL of rspamd; write it in ASCII", "rspamd: is no URL;"))
        assert found.endswith('for example "http://127.0.0.1:11333"')
        assert "s3c" not in found

    @pytest.mark.parametrize("port", ["99999", "0", "65536", "0" * 9000])
    def test_of_the_port_of_the_url(self, port):
        assert the_error(f'rspamd = "http://u:s3cret@[::1]:{port}/x"') == (
            'rspamd: names a port that is none; write 1 to 65535, for example "http://127.0.0.1:11333"'
        )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("= 6", ": got 6; write a table, [spam.rspamd_scores] with a number for each name"),
            ("= [6]", ": got a list; write a table, [spam.rspamd_scores] with a number for each name"),
            ('.hold = "6"', '.hold: got "6"; write a number without quotes, for example 6.5'),
            (".hold = true", ".hold: got true; write a number without quotes"),
            (".hold = nan", ".hold: got nan; write a number without quotes"),
            (".hold = inf", ".hold: got inf; write a number without quotes"),
            (".hold = 100000.1", ".hold: got 100000.1; write a number without quotes"),
            (f".hold = 0x{'f' * 9000}", ".hold: got a very large number; write a number without quotes"),
            (".hold = 0", ".hold: got 0, the score of good mail; write more than 0, or delete the line"),
            (".high-risk = -0.5", ".high-risk: got -0.5, the score of good mail; write more than 0"),
            ('."add header" = 6', '."add header": is no name for a pool; use lower-case letters'),
            (".High-Risk = 6", ".High-Risk: is no name for a pool; use lower-case letters, digits and hyphens"),
            (
                ".add-header = 6",
                ".add-header: is not defined; write [pools.add-header], or bulk, high-risk, hold or reject",
            ),
            (".hihg-risk = 6", '.hihg-risk: is not defined; did you mean "high-risk"?'),
            (".rejected = 6", '.rejected: is not defined; did you mean "reject"?'),
            (".refused = 6", '.refused: is no pool; write "reject"'),
            (".normal = 6", ".normal: is no pool that a score leads to; write bulk, high-risk, hold or reject"),
            (".relay = 6", ".relay: is no pool that a score leads to; write bulk, high-risk, hold or reject"),
        ],
    )
    @pytest.mark.parametrize("key", ["rspamd_scores", "spamd_scores"])
    def test_of_one_score(self, key, text, expected):
        expected = expected.replace("rspamd_scores", key)
        assert the_error(f"{key}{text}", BULK).startswith(f"{key}{expected}")

    @pytest.mark.parametrize(
        ("scores", "expected"),
        [
            (
                "{hold = 15, reject = 15}",
                ["hold: has no effect, as reject begins at 15; write less than that, or delete it"],
            ),
            ("{hold = 15.5, high-risk = 20}", ["high-risk: has no effect, as hold begins at 15.5; write less"]),
            ("{high-risk = 20, reject = 15}", ["high-risk: has no effect, as reject begins at 15; write less"]),
            ("{bulk = 6, high-risk = 6}", ["bulk: has no effect, as high-risk begins at 6; write less"]),
            ("{bulk = 6, reject = 5}", ["bulk: has no effect, as reject begins at 5; write less"]),
            (
                "{reject = 5, hold = 5, high-risk = 5, bulk = 4}",
                ["high-risk: has no effect, as hold begins", "hold: has no effect, as reject begins at 5"],
            ),
            (
                "{mass = 4, bulk = 4}",
                ["bulk: has no effect, as mass begins at 4 too; write another score"],
            ),
        ],
    )
    def test_scores_that_no_message_leaves_by(self, scores, expected):
        pools = BULK + BULK.replace("bulk", "mass").replace("2.40", "2.41")
        found = errors_below(f"[spam]\nspamd_scores = {scores}\n{pools}")
        prefix = f"{FIRST_LINE_AFTER_POOLS + 1}: spam.spamd_scores."
        assert len(found) == len(expected)
        assert all(one.startswith(prefix + start) for one, start in zip(found, expected, strict=True)), found

    def test_one_mistake_is_not_reported_as_two(self):
        assert the_error("rspamd_scores = {high-rsik = 30, hold = 20}").startswith("rspamd_scores.high-rsik: is not")
        assert the_error('rspamd_scores = {high-risk = "30", hold = 20}').startswith("rspamd_scores.high-risk: got")

    def test_scores_of_two_scanners_have_nothing_to_do_with_each_other(self):
        assert spam("rspamd_scores.hold = 6\nspamd_scores.high-risk = 6").spamd_scores == {"high-risk": 6.0}

    @pytest.mark.parametrize("name", ["hold", "reject"])
    @pytest.mark.parametrize("key", ["rspamd_scores", "spamd_scores"])
    def test_a_pool_that_a_score_seems_to_name(self, key, name):
        (found,) = errors_below(BULK.replace("bulk", name) + f"[spam]\n{key}.{name} = 6")
        assert found == (
            f"{FIRST_LINE_AFTER_POOLS}: pools.{name}: spam.{key}.{name} does not mean this pool;"
            " give the pool another name"
        )

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ('spamd = "127.0.0.1:783"', 'clamd = "127.0.0.1:783"'),
            ('spamd = "unix:/run/one.sock"', 'clamd = "unix:/run/one.sock"'),
            ('spamd = "Spam.example.org.:1"', 'clamd = "spam.example.org:1"'),
            ('rspamd = "http://127.0.0.1:11333"', 'spamd = "127.0.0.1:11333"'),
            ('rspamd = "https://u:s3cret@Spam.example.org"', 'spamd = "spam.example.org:443"'),
            ('rspamd = "http://[0::1]:80"', 'clamd = "[::1]:80"'),
        ],
    )
    def test_two_scanners_at_one_address(self, first, second):
        (found,) = errors_below(f"[spam]\n{first}\n{second}")
        name, owner = second.split(" ", 1)[0], first.split(" ", 1)[0]
        place = f"{FIRST_LINE_AFTER_POOLS + 2}: spam.{name}"
        assert found == f"{place}: is the address of both {owner} and {name}; write the one of {name}"

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ("{}", f"says for no mail; write one of {NAMES}"),
            (
                '{sender = "a@b.example", recipient = "c@d.example"}',
                "has sender and recipient; write a [[spam.skip]] table for each",
            ),
            ('{sendr = "a@b.example"}', 'is no setting; did you mean "sender"?'),
            ('{pool = "relay"}', "is no setting here; it belongs in [[pins]]"),
            ('{recipient = "reports.example.net"}', 'got "reports.example.net"; write one address'),
            ('{recipient = ""}', 'is empty; write for example "spam@reports.example.net"'),
            ('{client = "192.0.2.1/24"}', 'write "192.0.2.0/24" for the whole network'),
            ('"a@b.example"', 'got "a@b.example"; write a table, [[spam.skip]]'),
        ],
    )
    def test_of_one_entry_of_what_is_skipped(self, entry, expected):
        found = the_error(f"skip = [{entry}]")
        assert found.startswith("skip[0]")
        assert expected in found

    def test_one_bracket_where_two_belong(self):
        (found,) = errors_below('[spam.skip]\nsender = "a@b.example"')
        assert found.endswith("spam.skip: got a table; write a [[spam.skip]] table for each")

    @pytest.mark.timeout(30)
    def test_many_mistakes_take_no_longer(self):
        scores = "\n".join(f"x{n} = {n + 1}" for n in range(20_000))
        pools = "\n".join(f"[pools.y{n}]" for n in range(2_000))
        assert errors_below(f"{pools}\n[spam.rspamd_scores]\n{scores}\n[spam.spamd_scores]\n{scores}\n")


class TestLessThanItSays:
    def warnings(self, text, top="", below=""):
        found = settings(f"[spam]\n{text}\n{below}", top).not_in_effect()
        assert all(one.startswith("spam.") for one in found), found
        return [one.removeprefix("spam.") for one in found]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('rspamd_settings_id = "outbound"', "rspamd_settings_id: has no effect without spam.rspamd"),
            ("rspamd_scores.hold = 6", "rspamd_scores: has no effect without spam.rspamd"),
            ('spamd_user = "outbound"', "spamd_user: has no effect without spam.spamd"),
            ("spamd_scores.hold = 6", "spamd_scores: has no effect without spam.spamd"),
            ('spamd_size_limit = "1MB"', "spamd_size_limit: has no effect without spam.spamd"),
            ('malware = "reject"', "malware: has no effect without spam.clamd"),
        ],
    )
    @pytest.mark.parametrize("another", [False, True])
    def test_a_key_of_a_scanner_that_is_not_asked(self, text, expected, another):
        other = 'clamd = "127.0.0.1:3310"' if "malware" not in text else RSPAMD
        assert self.warnings(f"{text}\n{other if another else ''}") == [expected]

    @pytest.mark.parametrize(
        "text",
        [
            'scan = "both"',
            'skip = [{sender = "a@b.example"}]',
            'size_limit = "1MB"',
            'oversized = "high-risk"',
            'unknown_verdict = "wait"',
            "timeout_seconds = 10",
            "first_pass_timeout_seconds = 10",
            "scans_at_once = 2",
        ],
    )
    def test_a_key_of_scanning_where_nobody_scans(self, text):
        key = text.partition(" ")[0]
        assert self.warnings(text) == [f"{key}: has no effect without a scanner: spam.rspamd, spam.spamd or spam.clamd"]

    @pytest.mark.parametrize(
        ("profile", "key"), [("express", "timeout_seconds"), ("hop", "first_pass_timeout_seconds")]
    )
    def test_the_time_of_the_pass_that_the_profile_does_not_have(self, profile, key):
        text = f"{RSPAMD}timeout_seconds = 10\nfirst_pass_timeout_seconds = 10"
        assert self.warnings(text, f'profile = "{profile}"\n') == [f'{key}: has no effect with profile = "{profile}"']

    @pytest.mark.parametrize(
        ("text", "top", "below", "expected"),
        [
            (
                f"{RSPAMD}scans_at_once = 3",
                "",
                "",
                ["scans_at_once: is raised to 4, as each of milter.workers asks about one message at least"],
            ),
            (
                RSPAMD,
                "",
                "[milter]\nworkers = 16",
                ["scans_at_once: is raised to 16, as each of milter.workers asks about one message at least"],
            ),
            (
                'rspamd = "http://scan.example.org"',
                "",
                "",
                ["rspamd: names no port, which means 80; rspamd's own is 11333"],
            ),
            (
                'clamd = "127.0.0.1:3310"\nmalware = "hold"',
                "shadow = true\n",
                "",
                ["malware: with shadow = true it is only logged what would be done"],
            ),
            (f'{RSPAMD}malware = "hold"', "shadow = true\n", "", ["malware: has no effect without spam.clamd"]),
            (
                f"{RSPAMD}rspamd_scores = {{bulk = 1, high-risk = 2, hold = 3, reject = 4}}\nspamd_scores.hold = 3",
                "shadow = true\n",
                BULK,
                [
                    "spamd_scores: has no effect without spam.spamd",
                    "rspamd_scores.hold: with shadow = true it is only logged what would be done",
                    "rspamd_scores.reject: with shadow = true it is only logged what would be done",
                ],
            ),
            (
                f'{RSPAMD}scan = "forwarded"\nrspamd_scores = {{bulk = 1, high-risk = 2}}',
                "",
                BULK,
                [
                    (
                        'rspamd_scores.bulk: with spam.scan = "forwarded" it is for posts to mailing lists only, as'
                        " other forwarded mail leaves by its own pool"
                    )
                ],
            ),
            (
                f'{RSPAMD}size_limit = "53MB"',
                "",
                "",
                [
                    (
                        "size_limit: is not to be above rspamd's max_message, 50 MB by default:"
                        " about larger mail it gives no verdict"
                    )
                ],
            ),
            (
                'clamd = "127.0.0.1:3310"\nsize_limit = "27MB"',
                "",
                "",
                [
                    (
                        "size_limit: is not to be above clamd's StreamMaxLength, 25 MB on Debian:"
                        " about larger mail it gives no verdict"
                    )
                ],
            ),
            (
                f'{RSPAMD}spamd = "127.0.0.1:783"\nsize_limit = "400kB"\nspamd_size_limit = "401kB"',
                "",
                "",
                ['spamd_size_limit: has no effect above spam.size_limit ("400kB")'],
            ),
            (
                'spamd = "127.0.0.1:783"\nsize_limit = "1MB"',
                "",
                "",
                ['size_limit: has no effect above spam.spamd_size_limit ("500kB"), as only spamd is asked'],
            ),
            (
                "headers = []\nceilings.verdicts_per_account_per_hour = 5",
                "",
                "",
                [
                    (
                        "ceilings.verdicts_per_account_per_hour: has no effect, as spam.headers is empty and spam names"
                        " no scanner"
                    )
                ],
            ),
        ],
    )
    def test_what_other_keys_take_away(self, text, top, below, expected):
        assert self.warnings(text, top, below) == expected

    @pytest.mark.parametrize(
        ("text", "top"),
        [
            ("", ""),
            ("rspamd_scores = {}\nskip = []", ""),
            ("ceilings.verdicts_per_account_per_hour = 5", ""),
            (f"headers = []\n{RSPAMD}ceilings.verdicts_per_account_per_hour = 5\ntimeout_seconds = 9", ""),
            ('rspamd = "https://scan.example.org"\nrspamd_scores.hold = 6\nrspamd_settings_id = "x"', ""),
            (f"{RSPAMD}scans_at_once = 4\nrspamd_scores.high-risk = 6", "shadow = true\n"),
            ('clamd = "127.0.0.1:3310"\nmalware = "high-risk"', "shadow = true\n"),
            ('clamd = "127.0.0.1:3310"\nmalware = "reject"\nfirst_pass_timeout_seconds = 9', 'profile = "express"\n'),
            (f'{RSPAMD}clamd = "127.0.0.1:3310"\nsize_limit = "25MB"', ""),
            (f'{RSPAMD}size_limit = "50MB"', ""),
            ('spamd = "127.0.0.1:783"\nsize_limit = "53MB"\nspamd_size_limit = "53MB"', ""),
            (f'{RSPAMD}spamd = "127.0.0.1:783"\nsize_limit = "100kB"', ""),
            (f'{RSPAMD}spamd = "127.0.0.1:783"\nsize_limit = "1MB"\nspamd_size_limit = "1MB"', ""),
            ('spamd = "127.0.0.1:783"\nspamd_user = "x"\nspamd_scores.high-risk = 6\nscan = "forwarded"', ""),
        ],
    )
    def test_nothing_is_said_where_all_is_well(self, text, top):
        assert self.warnings(text, top) == []
