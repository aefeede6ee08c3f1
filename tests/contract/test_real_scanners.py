"""The real rspamd, spamd and clamd, asked by our clients."""

import mmap
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from deliverypools.adapters.scanning.clamd_client import ClamdClient
from deliverypools.adapters.scanning.rspamd_client import RspamdClient
from deliverypools.adapters.scanning.spamd_client import SpamdClient
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScanVerdict
from deliverypools.lab.scanners import EICAR, GTUBE, SIGNATURE, ClamdServer, RspamdServer, SpamdServer
from deliverypools.lab.waiting import wait_until

HEAD = b"""\
Received: from client.example.org (client.example.org [203.0.113.9])
\tby mail.example.org (Postfix) with ESMTPSA id 4ckz3y1Qz0z1
\tfor <bob@example.net>; Sun, 22 Nov 2026 10:00:00 +0000 (UTC)
From: Alice <alice@example.org>
To: Bob <bob@example.net>
Subject: The minutes of our meeting
Message-ID: <20261122100000.1@example.org>
Date: Sun, 22 Nov 2026 10:00:00 +0000
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

Dear Bob,

here are the minutes of the meeting that we had on Friday.

"""
HAM = HEAD + b"Regards, Alice\n"
SPAM = HEAD + GTUBE.encode() + b"\n"
INFECTED = HEAD + EICAR.encode() + b"\n"
LARGE = HEAD + b"And a long list of all that was said, of which no scanner minds a word.\n" * 140_000
ENVELOPE = ScanEnvelope(
    queue_id="4ckz3y1Qz0z1",
    envelope_sender="alice@example.org",
    recipients=("bob@example.net",),
    sasl_username="alice@example.org",
    client_address="203.0.113.9",
    helo_name="client.example.org",
    hostname="mail.example.org",
)
OUTBOUND = 'outbound { id = "outbound"; apply { actions { "add header" = -50; reject = 900; } } }'


def in_time(seconds=60.0):
    return time.monotonic() + seconds


@pytest.fixture(scope="module")
def rspamd():
    with RspamdServer(overrides={"settings.conf": OUTBOUND}) as server:
        yield server


@pytest.fixture(scope="module")
def spamd():
    with SpamdServer() as server:
        yield server


@pytest.fixture(scope="module")
def clamd():
    with ClamdServer(stream_max_length="11M") as server:
        yield server


@pytest.fixture
def clients(rspamd, spamd, clamd):
    """Each way to each scanner, and its server."""
    made = {
        "rspamd": (RspamdClient(rspamd.url, None), rspamd),
        "spamd": (SpamdClient(spamd.address, None), spamd),
        "spamd by its socket": (SpamdClient(spamd.unix_address, "outbound"), spamd),
        "clamd": (ClamdClient(clamd.address), clamd),
        "clamd by its socket": (ClamdClient(clamd.unix_address), clamd),
    }
    yield made
    for client, _ in made.values():
        client.close()


@pytest.fixture(params=["rspamd", "spamd", "spamd by its socket", "clamd", "clamd by its socket"])
def way(request, clients):
    return clients[request.param]


class TestEveryScanner:
    def test_a_ping(self, way):
        client, _ = way
        client.ping(in_time())

    def test_ordinary_mail(self, way):
        client, _ = way
        answer = client.ask(HAM, ENVELOPE, in_time())
        assert answer.verdict is ScanVerdict.HAM
        assert answer.scanner is client.scanner

    def test_what_it_is_to_find(self, way):
        client, _ = way
        answer = client.ask(INFECTED if client.scanner is Scanner.CLAMD else SPAM, ENVELOPE, in_time())
        assert answer.verdict is ScanVerdict.SPAM
        expected = SIGNATURE if client.scanner is Scanner.CLAMD else "GTUBE"
        assert any(expected in symbol for symbol in answer.symbols)

    def test_ten_megabytes_from_a_file(self, way):
        client, _ = way
        assert len(LARGE) > 10_000_000
        with tempfile.TemporaryFile() as file:
            file.write(LARGE)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                assert client.ask(content, ENVELOPE, in_time()).verdict is ScanVerdict.HAM

    @pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 1000, bytes(range(256)) * 500, b"x" * 200_000])
    def test_what_is_no_message(self, way, content):
        client, _ = way
        assert client.ask(content, ENVELOPE, in_time()).verdict in (ScanVerdict.HAM, ScanVerdict.SPAM)

    def test_many_at_once_and_each_gets_its_own_answer(self, way):
        client, _ = way
        contents = [HAM, INFECTED if client.scanner is Scanner.CLAMD else SPAM] * 20
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda content: client.ask(content, ENVELOPE, in_time()), contents))
        assert [answer.verdict for answer in answers] == [ScanVerdict.HAM, ScanVerdict.SPAM] * 20

    def test_one_that_hangs_and_goes_on(self, way):
        client, server = way
        client.ask(HAM, ENVELOPE, in_time())
        server.pause()
        try:
            for content in (HAM, LARGE):
                with pytest.raises(ScannerUnavailable, match=r"no answer in 0\.3 s"):
                    client.ask(content, ENVELOPE, in_time(0.3))
            with pytest.raises(ScannerUnavailable, match=r"no answer in 0\.3 s"):
                client.ping(in_time(0.3))
        finally:
            server.resume()
        assert client.ask(HAM, ENVELOPE, in_time()).verdict is ScanVerdict.HAM

    def test_one_that_is_stopped_and_started_again(self, way):
        client, server = way
        client.ask(HAM, ENVELOPE, in_time())
        server.stop()
        try:
            with pytest.raises(ScannerUnavailable, match=r"connection refused|no such file"):
                client.ask(HAM, ENVELOPE, in_time())
            with pytest.raises(ScannerUnavailable, match=r"connection refused|no such file"):
                client.ping(in_time())
        finally:
            server.start()
        assert client.ask(HAM, ENVELOPE, in_time()).verdict is ScanVerdict.HAM


class TestRspamd:
    @pytest.fixture
    def client(self, rspamd):
        client = RspamdClient(rspamd.url, None)
        yield client
        client.close()

    @staticmethod
    def log_line(rspamd, message_id):
        """Return what it logs of a message, once it has done so."""
        found = []

        def is_logged():
            found[:] = [
                line for line in rspamd.log().splitlines() if "rspamd_task_write_log" in line and message_id in line
            ]
            return bool(found)

        wait_until(is_logged, timeout_seconds=10, what="the line in rspamd's log")
        return found[-1]

    def test_what_ends_the_scan_is_forced(self, client):
        answer = client.ask(SPAM, ENVELOPE, in_time())
        assert (answer.action, answer.is_forced, answer.symbols) == ("reject", True, ("GTUBE 0.0",))

    def test_it_learns_of_the_envelope(self, rspamd, client):
        client.ask(HAM.replace(b"100000.1@", b"envelope@"), ENVELOPE, in_time())
        line = self.log_line(rspamd, "20261122envelope@example.org")
        for part in (
            "qid: <4ckz3y1Qz0z1>",
            "ip: 203.0.113.9",
            "user: alice@example.org",
            "from: <alice@example.org>",
            "rcpts: <bob@example.net>",
        ):
            assert part in line

    def test_its_own_settings_are_used(self, rspamd):
        client = RspamdClient(rspamd.url, "outbound")
        answer = client.ask(HAM, ENVELOPE, in_time())
        client.close()
        assert (answer.verdict, answer.action, answer.is_forced) == (ScanVerdict.SPAM, "add header", False)

    @pytest.mark.parametrize(
        "address",
        [
            *(
                "\N{LATIN SMALL LETTER U WITH DIAERESIS}@example.net",
                "a..b@example.net",
                "postmaster",
                "a,b@example.net",
            ),
            *(
                '"a, b"@example.net',
                "a\r\nUser: root@example.net",
                "x" * 5000 + "@example.net",
                "bob@b\xfccher.example",
            ),
            *('"a b"@example.net', "a@[192.0.2.1]", "a_b@c_d.example"),
        ],
    )
    def test_no_address_makes_a_message_broken(self, client, address):
        plain = client.ask(HAM, replace(ENVELOPE, envelope_sender="bob@example.net"), in_time())
        for odd in (
            replace(ENVELOPE, envelope_sender="bob@example.net", recipients=(address, "bob@example.net")),
            replace(ENVELOPE, envelope_sender=address),
        ):
            answer = client.ask(HAM, odd, in_time())
            assert answer.verdict is ScanVerdict.HAM
            assert answer.score <= plain.score + 1.0
            assert not any("BROKEN" in symbol for symbol in answer.symbols)

    @pytest.mark.parametrize("length", [16, 60, 250, 310])
    def test_many_recipients(self, client, length):
        recipients = tuple(f"{number:0{length - 12}}@example.net" for number in range(1000))
        assert client.ask(HAM, replace(ENVELOPE, recipients=recipients), in_time()).verdict is ScanVerdict.HAM

    def test_the_longest_envelope(self, client):
        long = "x" * 100_000
        envelope = ScanEnvelope(
            queue_id=long,
            envelope_sender="x" * 300 + "@example.org",
            recipients=tuple(f"{number:0300}@example.net" for number in range(500)),
            sasl_username=long,
            client_address="2001:db8::1",
            helo_name=long,
            hostname=long,
        )
        assert client.ask(HAM, envelope, in_time()).verdict in (ScanVerdict.HAM, ScanVerdict.SPAM)

    def test_soft_reject_is_no_verdict(self):
        rule = 'rules { LATER { action = "soft reject"; message = "Try later"; expression = "MISSING_SUBJECT"; } }'
        with RspamdServer(overrides={"force_actions.conf": rule}) as server:
            client = RspamdClient(server.url, None)
            message = HAM.replace(b"Subject: The minutes of our meeting\n", b"")
            answer = client.ask(message, ENVELOPE, in_time())
            client.close()
        assert (answer.verdict, answer.action) == (ScanVerdict.UNKNOWN, "soft reject")
        assert answer.problem == "soft reject: Try later"

    def test_what_it_greylists_it_has_not_judged(self, redis_server):
        """Its answer about the second message is the same, of which it has seen nothing but the envelope."""
        redis_server.client.flushall()
        address = redis_server.url.removeprefix("redis://").partition("/")[0]
        overrides = {"redis.conf": f'servers = "{address}";\n', "actions.conf": "greylist = -50; add_header = 6;\n"}
        stranger = replace(ENVELOPE, sasl_username="", envelope_sender="carol@example.com")
        with RspamdServer(overrides=overrides) as server:
            client = RspamdClient(server.url, None)
            for message in (HAM, HAM.replace(b"Regards", b"Buy it now")):
                answer = client.ask(message, stranger, in_time())
                assert (answer.verdict, answer.action) == (ScanVerdict.UNKNOWN, "soft reject")
            client.close()

    @pytest.mark.parametrize("action", ["reject", "discard", "quarantine"])
    def test_a_rule_of_its_administrator_is_forced(self, action):
        rule = f'rules {{ OURS {{ action = "{action}"; expression = "MISSING_SUBJECT"; }} }}'
        # rspamd knows an action only if it has a threshold.
        overrides = {"force_actions.conf": rule, "actions.conf": f"{action} = 15;\n"}
        with RspamdServer(overrides=overrides) as server:
            client = RspamdClient(server.url, None)
            message = HAM.replace(b"Subject: The minutes of our meeting\n", b"")
            answer = client.ask(message, ENVELOPE, in_time())
            client.close()
        assert (answer.verdict, answer.action, answer.is_forced) == (ScanVerdict.SPAM, action, True)
        assert answer.score < 15

    def test_a_path_that_it_does_not_know_is_no_verdict(self, rspamd):
        client = RspamdClient(f"{rspamd.url}/elsewhere", None)
        answer = client.ask(HAM, ENVELOPE, in_time())
        client.close()
        assert answer.verdict is ScanVerdict.UNKNOWN
        assert "invalid command" in answer.problem


class TestSpamd:
    def test_the_score(self, spamd):
        client = SpamdClient(spamd.address, None)
        answer = client.ask(SPAM, ENVELOPE, in_time())
        assert answer.score > 900
        assert not answer.is_forced

    def test_the_user(self, spamd):
        SpamdClient(spamd.address, "outbound").ask(HAM.replace(b"100000.1@", b"user@"), ENVELOPE, in_time())
        wait_until(
            lambda: "checking message <20261122user@example.org> for outbound:" in spamd.log(),
            timeout_seconds=10,
            what="the line in spamd's log",
        )

    def test_its_own_threshold(self):
        with SpamdServer(local_cf=["required_score -50"]) as server:
            answer = SpamdClient(server.address, None).ask(HAM, ENVELOPE, in_time())
        assert answer.verdict is ScanVerdict.SPAM
        assert answer.score < 5


class TestClamd:
    def test_a_session_goes_on_after_everything_that_is_answered(self, clamd):
        client = ClamdClient(clamd.address)
        for content, verdict in [(HAM, ScanVerdict.HAM), (INFECTED, ScanVerdict.SPAM), (b"", ScanVerdict.HAM)] * 5:
            assert client.ask(content, ENVELOPE, in_time()).verdict is verdict
            client.ping(in_time())
            ((connection, _),) = client._connections._idle
        assert connection.questions == 30
        client.close()

    def test_more_than_it_takes_is_no_verdict(self, clamd):
        client = ClamdClient(clamd.address)
        answer = client.ask(LARGE * 2, ENVELOPE, in_time())
        assert answer.verdict is ScanVerdict.UNKNOWN
        assert "size limit exceeded" in answer.problem
        assert client.ask(INFECTED, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
        client.close()
