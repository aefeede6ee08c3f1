"""What scanners are told, and how their answers are read."""

import json

import pytest

from deliverypools.core.scanning import clamd, rspamd, spamd
from deliverypools.core.scanning.answers import LONGEST_SYMBOL, MOST_SYMBOLS, ScanEnvelope, ScannerAnswer, ScanVerdict
from deliverypools.core.scanning.nonsense import NonsenseError

ENVELOPE = ScanEnvelope(
    queue_id="4ckz3y1Qz0z1",
    envelope_sender="alice@example.org",
    recipients=("bob@example.net", "carol@example.com"),
    sasl_username="alice",
    client_address="203.0.113.9",
    client_name="dialup.example.net",
    helo_name="client.example.org",
    hostname="mail.example.org",
)
NOTHING_SAID = "no verdict, it says "


def headers(settings_id=None, **envelope):
    return rspamd.request_headers(ScanEnvelope(**envelope), settings_id)


def forward_paths(*recipients):
    return [value.decode() for name, value in headers(recipients=recipients) if name == "Rcpt"]


def rspamd_answer(status=200, **values):
    usual = {"is_skipped": False, "score": 1.5, "required_score": 15.0, "action": "no action", "symbols": {}}
    return rspamd.read_answer(status, json.dumps(usual | values).encode())


def spamd_answer(line, symbols="ALL_TRUSTED,GTUBE"):
    content = symbols.encode()
    head = f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(content)}\r\n{line}\r\n\r\n"
    return spamd.read_answer(head.encode() + content)


class TestWhatRspamdIsTold:
    def test_the_envelope(self):
        assert rspamd.request_headers(ENVELOPE, "outbound") == [
            ("From", b"<alice@example.org>"),
            ("Rcpt", b"<bob@example.net>"),
            ("Rcpt", b"<carol@example.com>"),
            ("User", b"alice"),
            ("IP", b"203.0.113.9"),
            ("Hostname", b"dialup.example.net"),
            ("Helo", b"client.example.org"),
            ("Queue-Id", b"4ckz3y1Qz0z1"),
            ("MTA-Name", b"mail.example.org"),
            ("Settings-ID", b"outbound"),
        ]

    def test_the_null_sender_and_nothing_else(self):
        assert headers() == [("From", b"<>")]

    @pytest.mark.parametrize(
        ("client", "told"),
        [
            ("2001:db8::9", [("IP", b"2001:db8::9")]),
            ("::ffff:192.0.2.9", [("IP", b"192.0.2.9")]),
            ("unknown", []),
            ("203.0.113.9\r\nUser: root", []),
        ],
    )
    def test_only_an_address_is_the_address_of_a_client(self, client, told):
        assert headers(client_address=client)[1:] == told

    @pytest.mark.parametrize("text", ["a\r\nUser: root", "a\nb", "a\0b", "a\x7fb", "\ud800"])
    @pytest.mark.parametrize("field", ["sasl_username", "helo_name", "client_name", "queue_id", "hostname"])
    def test_nobody_writes_a_field_of_their_own(self, field, text):
        (value,) = [value for _, value in headers(**{field: text})[1:]]
        assert not set(value) & set(b"\r\n\0\x7f")

    def test_bytes_that_are_no_utf_8_are_told_as_they_are(self):
        assert headers(sasl_username="\udcff")[1:] == [("User", b"\xff")]

    def test_values_are_bounded(self):
        assert headers(sasl_username="x" * 100_000)[1:] == [("User", b"x" * 1000)]

    @pytest.mark.parametrize(
        ("address", "told"),
        [
            ("Bob+1@example.net", "<Bob+1@example.net>"),
            ('"a b"@example.net', '<"a b"@example.net>'),
            ('"a\\"b"@example.net', '<"a\\"b"@example.net>'),
            ("bob@[192.0.2.1]", "<bob@[192.0.2.1]>"),
            ("bob@[IPv6:2001:db8::1]", "<bob@[IPv6:2001:db8::1]>"),
            ("bob@b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "<bob@xn--bcher-kva.example>"),
        ],
    )
    def test_addresses_that_rspamd_can_read(self, address, told):
        assert forward_paths(address) == [told]
        assert headers(envelope_sender=address) == [("From", told.encode())]

    @pytest.mark.parametrize(
        "address",
        [
            *("postmaster", "a b@example.net", "a..b@example.net", ".a@example.net", "a@b@example.net", "a@-b.example"),
            *("a,b@example.net", '"a,b"@example.net', ">@example.net", "a@example.net>", "a@example.net\n", "<@x>"),
            "\N{LATIN SMALL LETTER U WITH DIAERESIS}@example.net",
            "x" * 400 + "@example.net",
            "a@" + "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 400,
        ],
    )
    def test_addresses_that_it_would_take_for_a_broken_message_are_left_out(self, address):
        assert forward_paths("bob@example.net", address) == ["<bob@example.net>"]
        assert headers(envelope_sender=address) == []

    def test_so_many_recipients_as_it_takes(self):
        assert len(forward_paths(*(f"{number}@example.net" for number in range(5000)))) == rspamd.MOST_RECIPIENTS

    def test_long_recipients_are_fewer(self):
        paths = forward_paths(*(f"{number:0300}@example.net" for number in range(500)))
        assert 40_000 < sum(map(len, paths)) <= 48 * 1024

    @pytest.mark.parametrize("start", ["", '"'])
    @pytest.mark.parametrize("piece", ["a", "a.", "a-", "-", '"', "\\", "@", "[", "."])
    def test_hostile_addresses_are_soon_read(self, start, piece):
        # A slow expression would run into the time-out of the test.
        assert len(forward_paths(*[start + piece * (300 // len(piece)) + "@!"] * 500)) == 0


class TestRspamdAnswers:
    @pytest.mark.parametrize("action", ["no action", "greylist"])
    def test_ham(self, action):
        answer = rspamd_answer(action=action)
        assert (answer.verdict, answer.score, answer.action) == (ScanVerdict.HAM, 1.5, action)
        assert not answer.is_forced

    @pytest.mark.parametrize("action", ["add header", "rewrite subject"])
    @pytest.mark.parametrize("is_skipped", [False, True])
    def test_marked_mail_is_spam_by_its_score_unless_a_rule_has_ended_the_scan(self, action, is_skipped):
        answer = rspamd_answer(action=action, score=20, is_skipped=is_skipped)
        assert (answer.verdict, answer.score, answer.is_forced) == (ScanVerdict.SPAM, 20.0, is_skipped)

    @pytest.mark.parametrize("action", ["reject", "quarantine", "discard", "ours alone"])
    @pytest.mark.parametrize("score", [-1.0, 20.0])
    def test_every_other_action_is_spam_whatever_the_score(self, action, score):
        answer = rspamd_answer(action=action, score=score)
        assert (answer.verdict, answer.score, answer.is_forced) == (ScanVerdict.SPAM, score, True)

    @pytest.mark.parametrize("symbols", [{}, None, {"GREYLIST": {"score": 0.0}}, {"RATELIMIT": {"score": 1.0}}])
    def test_soft_reject_is_no_verdict(self, symbols):
        answer = rspamd_answer(action="soft reject", messages={"smtp_message": "try\nlater"}, symbols=symbols)
        assert (answer.verdict, answer.action) == (ScanVerdict.UNKNOWN, "soft reject")
        assert answer.problem == "soft reject: try?later"

    def test_what_ends_the_scan_is_not_clean_for_it(self):
        gtube = rspamd_answer(
            is_skipped=True,
            score=15.0,
            action="reject",
            symbols={"GTUBE": {"name": "GTUBE", "score": 0.0, "metric_score": 0.0}},
        )
        assert gtube.verdict is ScanVerdict.SPAM
        assert gtube.is_forced
        assert gtube.symbols == ("GTUBE 0.0",)

    def test_what_its_administrator_does_not_scan_is_ham(self):
        answer = rspamd_answer(is_skipped=True, score=0.0)
        assert (answer.verdict, answer.is_forced) == (ScanVerdict.HAM, False)

    def test_the_symbols_that_weigh_most_and_those_for_spam_first(self):
        weights = {"LITTLE": 0.1, "MUCH": 5.05, "AGAINST": -7, "NONE": 0.0, "SOME": 2}
        answer = rspamd_answer(symbols={name: {"score": weight} for name, weight in weights.items()})
        assert answer.symbols == ("MUCH 5.0", "SOME 2.0", "LITTLE 0.1", "AGAINST -7.0")

    def test_symbols_are_bounded(self):
        symbols = {f"{'LONG' * 100}{number}\n": {"score": 1e9 - number} for number in range(100)}
        answer = rspamd_answer(symbols=symbols)
        assert len(answer.symbols) == MOST_SYMBOLS
        assert all(len(symbol) <= LONGEST_SYMBOL and symbol.isprintable() for symbol in answer.symbols)
        assert all(symbol.endswith(".0") for symbol in answer.symbols)

    @pytest.mark.parametrize("symbols", [None, [], "A", {"A": None}, {"A": {"score": "9"}}, {"A": {"score": True}}])
    def test_odd_symbols_are_none(self, symbols):
        assert rspamd_answer(symbols=symbols).symbols == ()

    def test_an_error_of_its_own_is_no_verdict(self):
        answer = rspamd.read_answer(500, b'{"error":"invalid command","error_domain":"protocol-error"}')
        assert answer.evidence == f"rspamd: {NOTHING_SAID}invalid command"

    @pytest.mark.parametrize(
        "values",
        [
            {"action": None},
            {"action": ""},
            {"action": 1},
            {"score": None},
            {"score": "1.5"},
            {"score": True},
            {"score": float("nan")},
            {"score": float("inf")},
            {"score": 10**400},
            {"error": None},
            {"status": 502},
            {"status": 204},
        ],
    )
    def test_no_answer_without_action_and_score(self, values):
        with pytest.raises(NonsenseError, match="without an action and a score"):
            rspamd_answer(**values)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>Bad Gateway</html>",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"action":"no action","score":' + b"9" * 5000 + b"}",
        ],
    )
    def test_what_is_no_json(self, body):
        with pytest.raises(NonsenseError, match="no JSON"):
            rspamd.read_answer(200, body)

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"no action"', b"0"])
    def test_json_that_is_no_object(self, body):
        with pytest.raises(NonsenseError, match="no object"):
            rspamd.read_answer(200, body)


class TestSpamd:
    def test_the_question(self):
        assert spamd.request_head(123, None) == b"SYMBOLS SPAMC/1.5\r\nContent-length: 123\r\n\r\n"

    def test_the_question_with_a_user(self):
        assert spamd.request_head(0, "out\r\nX: y").splitlines()[2:] == [b"User: out??X: y", b""]

    def test_spam(self):
        answer = spamd_answer("Spam: True ; 999.0 / 5.0")
        assert (answer.verdict, answer.score, answer.is_forced) == (ScanVerdict.SPAM, 999.0, False)
        assert answer.symbols == ("ALL_TRUSTED", "GTUBE")

    def test_ham(self):
        answer = spamd_answer("Spam: False ; -1.4 / 5.0", "")
        assert (answer.verdict, answer.score, answer.symbols) == (ScanVerdict.HAM, -1.4, ())

    def test_a_verdict_that_the_score_does_not_bear_is_forced(self):
        assert spamd_answer("Spam: True ; 4.9 / 5.0").is_forced

    def test_symbols_are_bounded(self):
        answer = spamd_answer("Spam: True ; 6 / 5", ",".join(f"{'LONG' * 100}\x01{number}" for number in range(100)))
        assert len(answer.symbols) == MOST_SYMBOLS
        assert all(len(symbol) <= LONGEST_SYMBOL and symbol.isprintable() for symbol in answer.symbols)

    def test_what_follows_the_announced_length_is_not_read(self):
        raw = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: True ; 9.0 / 5.0\r\n\r\nGTUBE,OTHER"
        assert spamd.read_answer(raw).symbols == ("GTUBE",)

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            (b"SPAMD/1.0 76 Bad header line: (EOF)\r\n", "76 Bad header line: (EOF)"),
            (b"SPAMD/1.0 79 Timeout: (300 second timeout while trying to SYMBOLS)\r\n", "79 Timeout: (300 second"),
            (b"SPAMD/1.0 75 EX_TEMPFAIL \x1b[2J\r\n", "75 EX_TEMPFAIL ?[2J"),
        ],
    )
    def test_an_error_of_its_own_is_no_verdict(self, raw, problem):
        answer = spamd.read_answer(raw)
        assert answer.verdict is ScanVerdict.UNKNOWN
        assert answer.evidence.startswith(f"spamd: {NOTHING_SAID}{problem}")

    @pytest.mark.parametrize(
        "line",
        [
            *("", "Spam: True", "Spam: Maybe ; 1 / 5", "Spam: True ; nan / 5.0", "Spam: True ; inf / 5.0"),
            *("Spam: True ; 1e9 / 5.0", "Spam: False ; 1.0 / ", "Spam: False ; 1.0", "Spam: False ; 9999999 / 5"),
            *("Spam: False ; 1 / 5 ; 9", "Spam: True ; \u0661 / 5"),
        ],
    )
    def test_no_answer_without_a_verdict(self, line):
        with pytest.raises(NonsenseError, match=r"begins 'SPAMD/1\.1 0 EX_OK"):
            spamd_answer(line)

    @pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 1000, b"SPAMD/1.1 x\r\n\r\n"])
    def test_what_no_spamd_says(self, raw):
        with pytest.raises(NonsenseError):
            spamd.read_answer(raw)

    @pytest.mark.parametrize("length", ["", "-1", "5x", "9" * 30])
    def test_no_answer_without_a_length(self, length):
        with pytest.raises(NonsenseError):
            spamd.read_answer(
                f"SPAMD/1.1 0 EX_OK\r\nContent-length: {length}\r\nSpam: False ; 1 / 5\r\n\r\nGTUBE".encode()
            )

    def test_a_pong(self):
        assert spamd.is_pong(b"SPAMD/1.5 0 PONG\r\n")
        assert not spamd.is_pong(b"SPAMD/1.5 0 EX_OK\r\n")
        assert not spamd.is_pong(b"PONG\r\n")


class TestClamd:
    def test_clean(self):
        assert clamd.read_answer(b"2: stream: OK\0") == ScannerAnswer(
            scanner=rspamd.Scanner.CLAMD, verdict=ScanVerdict.HAM
        )

    def test_found(self):
        answer = clamd.read_answer(b"1: stream: Lab.Test.EICAR.UNOFFICIAL FOUND\0")
        assert answer.verdict is ScanVerdict.SPAM
        assert answer.symbols == ("Lab.Test.EICAR.UNOFFICIAL",)
        assert answer.evidence == "clamd: found (Lab.Test.EICAR.UNOFFICIAL)"

    @pytest.mark.parametrize("name", ["x" * 5000, "\x1b[2J", "\N{SNOWMAN}", " "])
    def test_names_are_bounded(self, name):
        (symbol,) = clamd.read_answer(f"stream: {name} FOUND\0".encode()).symbols
        assert len(symbol) <= LONGEST_SYMBOL
        assert symbol.isprintable()

    @pytest.mark.parametrize(
        ("raw", "problem"),
        [
            (b"INSTREAM size limit exceeded. ERROR\0", "INSTREAM size limit exceeded."),
            (b"1: stream: Can't allocate memory ERROR\0", "Can't allocate memory"),
        ],
    )
    def test_an_error_of_its_own_is_no_verdict(self, raw, problem):
        answer = clamd.read_answer(raw)
        assert answer.verdict is ScanVerdict.UNKNOWN
        assert answer.evidence == f"clamd: {NOTHING_SAID}{problem}"

    @pytest.mark.parametrize(
        "raw",
        [
            *(b"", b"\0", b"OK\0", b"1: OK\0", b"stream: OK", b"stream: OK\n\0", b"stream:  FOUND\0", b"FOUND\0"),
            *(b"stream: x FOUND", b"UNKNOWN COMMAND\0", b"1: stream: OK\02: stream: OK\0", b"\xff\0", b"PONG\0"),
            b"12345678901: stream: OK\0",
        ],
    )
    def test_what_no_clamd_says(self, raw):
        with pytest.raises(NonsenseError):
            clamd.read_answer(raw)

    def test_the_number_of_the_question(self):
        assert clamd.answered_question(b"12: stream: OK\0") == 12
        assert clamd.answered_question(b"stream: OK\0") is None
        assert clamd.answered_question(b"12: stream: OK") is None

    def test_a_pong(self):
        assert clamd.is_pong(b"3: PONG\0")
        assert not clamd.is_pong(b"3: PONG")
        assert not clamd.is_pong(b"UNKNOWN COMMAND\0")

    def test_a_chunk(self):
        assert clamd.chunk_head(65536) == b"\0\x01\0\0"


class TestReceivedFieldForSpamd:
    def test_as_postfix_writes_it(self):
        assert spamd.received_field(ENVELOPE, "Sun, 22 Nov 2026 10:00:00 -0000") == (
            b"Received: from client.example.org (dialup.example.net [203.0.113.9])\n"
            b"\tby mail.example.org (Postfix) with ESMTPSA id 4ckz3y1Qz0z1;\n"
            b"\tSun, 22 Nov 2026 10:00:00 -0000\n"
        )

    def test_of_a_client_without_name_or_login(self):
        field = spamd.received_field(ScanEnvelope(client_address="2001:db8::9"), "today")
        assert field.startswith(
            b"Received: from unknown (unknown [2001:db8::9])\n\tby unknown (Postfix) with ESMTP id "
        )

    @pytest.mark.parametrize("text", ["a\r\nX-Spam: No", "a)\n\nbody", "\ud800", "x" * 5000, "(", "a b"])
    @pytest.mark.parametrize("field", ["helo_name", "client_name", "client_address", "queue_id", "hostname"])
    def test_nobody_writes_more_than_a_word_into_it(self, field, text):
        received = spamd.received_field(ScanEnvelope(**{field: text}), "today")
        assert received.count(b"\n") == 3
        assert received.isascii()
        assert len(received) < 500
