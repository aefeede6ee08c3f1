"""Scanners that hang, trickle, talk nonsense, too much or too little: a client says so in time, or has the answer."""

import array
import fcntl
import mmap
import socket
import tempfile
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from scanner_kinds import (
    CLAMD,
    ENVELOPE,
    KINDS,
    LARGE,
    LATE,
    MESSAGE,
    RSPAMD,
    RSPAMD_BODY,
    SOON,
    SPAMD,
    SPAMD_ANSWER,
    after_request,
    ask,
    http_answer,
    in_time,
)
from scripted_server import ScriptedServer

from deliverypools.adapters.scanning.clients import client_for
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.core.scanning.answers import Scanner, ScanVerdict
from deliverypools.core.settings import Settings
from deliverypools.lab.waiting import wait_until


@pytest.fixture(params=KINDS, ids=repr)
def kind(request):
    return request.param


def is_stuck(connection):
    """Tell whether nothing more comes, though what has come is not read."""
    counts = []
    for _ in range(2):
        count = array.array("i", [0])
        fcntl.ioctl(connection, termios.FIONREAD, count)
        counts += count
        time.sleep(0.2)
    return counts[0] == counts[1] > 0


class TestAnswers:
    def test_at_once(self, kind):
        with ScriptedServer(after_request(kind, lambda c: c.say(kind.answer))) as server:
            answer = ask(kind, server)
        assert answer.verdict is ScanVerdict.SPAM
        assert answer.scanner == kind.name

    def test_byte_by_byte(self, kind):
        with ScriptedServer(after_request(kind, lambda c: c.say_slowly(kind.answer))) as server:
            assert ask(kind, server).verdict is ScanVerdict.SPAM

    def test_and_keeps_the_connection_open(self, kind):
        script = after_request(kind, lambda c: c.say(kind.answer), lambda c: c.say_nothing())
        with ScriptedServer(script) as server:
            assert ask(kind, server).verdict is ScanVerdict.SPAM

    def test_over_ipv6(self, kind):
        with ScriptedServer(after_request(kind, lambda c: c.say(kind.answer)), family=socket.AF_INET6) as server:
            assert ask(kind, server).verdict is ScanVerdict.SPAM

    def test_a_large_message_in_a_file(self, kind):
        with (
            tempfile.TemporaryFile() as file,
            ScriptedServer(after_request(kind, lambda c: c.say(kind.answer))) as server,
        ):
            file.write(LARGE)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                assert ask(kind, server, content).verdict is ScanVerdict.SPAM
                # Several scanners read it at the same time: nobody may move its position.
                assert content.tell() == 0

    def test_before_it_has_read_everything(self, kind):
        def script(conversation):
            conversation.connection.recv(1000)
            conversation.say(kind.answer)
            conversation.say_nothing()

        with ScriptedServer(script) as server:
            assert ask(kind, server, LARGE).verdict is ScanVerdict.SPAM

    def test_a_ping(self, kind):
        def script(conversation):
            conversation.heard(kind.end_of_ping)
            conversation.say(kind.pong)

        with ScriptedServer(script) as server:
            kind.client(server).ping(in_time())

    def test_many_at_once(self, kind):
        with ScriptedServer(after_request(kind, lambda c: c.say(kind.answer))) as server, ThreadPoolExecutor(8) as pool:
            client = kind.client(server)
            answers = list(pool.map(lambda _: client.ask(MESSAGE, ENVELOPE, in_time()), range(50)))
            client.close()
        assert {answer.verdict for answer in answers} == {ScanVerdict.SPAM}


class TestNoAnswer:
    @pytest.fixture
    def unavailable(self, kind):
        def text(script, content=MESSAGE, seconds=LATE, of=kind):
            with ScriptedServer(script) as server, pytest.raises(ScannerUnavailable) as raised:
                ask(of, server, content, seconds)
            assert str(raised.value).isprintable()
            assert len(str(raised.value)) < 300
            return str(raised.value)

        return text

    def test_nobody_listens(self, kind):
        with ScriptedServer(lambda _: None) as server:
            pass
        with pytest.raises(ScannerUnavailable, match="connection refused"):
            ask(kind, server)
        with pytest.raises(ScannerUnavailable, match="connection refused"):
            kind.client(server).ping(in_time())

    @pytest.mark.parametrize("unix_kind", [SPAMD, CLAMD], ids=repr)
    def test_no_socket(self, unix_kind, tmp_path):
        class NoServer:
            address = f"unix:{tmp_path}/no.socket"

        with pytest.raises(ScannerUnavailable, match="no such file"):
            unix_kind.client(NoServer).ask(MESSAGE, ENVELOPE, in_time())

    def test_it_hangs(self, unavailable):
        assert unavailable(lambda c: c.say_nothing(), seconds=SOON) == "no answer in 0.3 s"

    def test_it_hangs_and_reads_nothing_of_a_large_message(self, unavailable):
        assert unavailable(lambda c: c.say_nothing(), LARGE, SOON) == "no answer in 0.3 s"

    def test_it_hangs_in_the_middle(self, kind, unavailable):
        half = kind.answer[: len(kind.answer) // 2]
        script = after_request(kind, lambda c: c.say(half), lambda c: c.say_nothing())
        assert unavailable(script, seconds=SOON) == "no answer in 0.3 s"

    def test_it_trickles(self, kind, unavailable):
        assert unavailable(after_request(kind, lambda c: c.say_for_ever(b" ")), seconds=SOON) == "no answer in 0.3 s"

    def test_the_time_is_over_before(self, kind, unavailable):
        assert unavailable(after_request(kind, lambda c: c.say(kind.answer)), seconds=-1) == "no answer in 0.0 s"

    def test_it_hangs_up_at_once(self, unavailable):
        # Whether the end or the reset of the connection is seen first is chance.
        assert "connection" in unavailable(lambda _: None)

    def test_it_hangs_up_during_a_large_message(self, unavailable):
        assert "connection" in unavailable(lambda c: c.connection.recv(1000), LARGE)

    def test_it_hangs_up_after_the_request(self, kind, unavailable):
        assert "connection" in unavailable(after_request(kind))

    def test_it_calls_clean_what_it_has_not_read(self, kind, unavailable):
        def script(conversation):
            conversation.connection.recv(1000)
            conversation.say(kind.clean)
            conversation.say_nothing()

        assert unavailable(script, LARGE) == "it answers nonsense: clean, to a part of the message"

    def test_it_calls_clean_what_it_does_not_read_on(self, kind, unavailable):
        """The answer comes when nothing more can be sent, and nothing ever will be."""

        def script(conversation):
            conversation.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            conversation.connection.recv(1000)
            wait_until(lambda: is_stuck(conversation.connection), timeout_seconds=10, what="full buffers")
            conversation.say(kind.clean)
            conversation.say_nothing()

        assert unavailable(script, LARGE) == "it answers nonsense: clean, to a part of the message"

    def test_half_an_answer(self, kind, unavailable):
        half = kind.answer[: len(kind.answer) // 2]
        assert "nonsense" in unavailable(after_request(kind, lambda c: c.say(half)))

    @pytest.mark.parametrize(
        "garbage",
        [b"\0", b"\xff" * 500, b"hello\r\n", b"{}", b"220 mail.example.org ESMTP\r\n", bytes(range(256)) * 20],
    )
    def test_garbage(self, kind, unavailable, garbage):
        assert "nonsense" in unavailable(after_request(kind, lambda c: c.say(garbage)))

    def test_the_answer_of_another_scanner(self, kind, unavailable):
        other = KINDS[KINDS.index(kind) - 1]
        assert "nonsense" in unavailable(after_request(kind, lambda c: c.say(other.answer)))

    @pytest.mark.parametrize("line", [b"x" * 10_000_000, b"x\r\n" * 3_000_000], ids=["one line", "many lines"])
    def test_ten_megabytes(self, kind, unavailable, line):
        begin = kind.answer[: len(kind.answer) // 2]
        assert "nonsense" in unavailable(after_request(kind, lambda c: c.say(begin + line)))

    def test_ten_megabytes_in_the_right_form(self, kind, unavailable):
        names = b"A" * 10_000_000
        answer = {
            "rspamd": http_answer(RSPAMD_BODY.replace(b"{}", b'{"%s":{}}' % names)),
            "spamd": SPAMD_ANSWER.replace(b"5\r\nSpam", b"10000000\r\nSpam").replace(b"GTUBE", names),
            "clamd": b"1: stream: %s FOUND\0" % names,
        }[kind.name]
        assert "nonsense" in unavailable(after_request(kind, lambda c: c.say(answer)))

    def test_a_ping_that_is_answered_with_something_else(self, kind):
        def script(conversation):
            conversation.heard(kind.end_of_ping)
            conversation.say(kind.answer)

        with ScriptedServer(script) as server, pytest.raises(ScannerUnavailable, match="nonsense"):
            kind.client(server).ping(in_time())

    def test_a_ping_that_is_not_answered(self, kind):
        with (
            ScriptedServer(lambda c: c.say_nothing()) as server,
            pytest.raises(ScannerUnavailable, match="no answer in"),
        ):
            kind.client(server).ping(in_time(SOON))


class TestNames:
    """Of hosts: the system's resolver cannot be told when to give up."""

    class Named:
        address = "scanner.example:783"

    @pytest.fixture
    def look_ups(self, monkeypatch):
        """Say what names mean; the list has those that were looked up."""
        asked = []
        real = socket.getaddrinfo

        def means(answer):
            def getaddrinfo(host, port, **others):
                if host != "scanner.example":
                    return real(host, port, **others)
                asked.append(host)
                return answer()

            monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
            return asked

        return means

    def test_a_name_that_hangs(self, kind, look_ups):
        is_over = threading.Event()
        asked = look_ups(lambda: is_over.wait(LATE) and [])
        client = kind.client(self.Named)
        for _ in range(3):
            with pytest.raises(ScannerUnavailable, match=r"no answer in 0\.\d s"):
                client.ask(MESSAGE, ENVELOPE, in_time(SOON))
        # One look-up for all, else they would pile up.
        assert len(asked) == 1
        is_over.set()

    def test_a_name_that_is_none(self, kind, look_ups):
        def fail():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        look_ups(fail)
        client = kind.client(self.Named)
        for _ in range(2):
            with pytest.raises(ScannerUnavailable, match="its name cannot be looked up"):
                client.ask(MESSAGE, ENVELOPE, in_time())

    @pytest.mark.parametrize("error", [UnicodeError("label too long"), RuntimeError("can't start new thread")])
    def test_a_name_that_cannot_be_asked_for(self, kind, look_ups, error):
        def fail():
            raise error

        look_ups(fail)
        with pytest.raises(ScannerUnavailable, match=r"its name cannot be looked up|can't start new thread"):
            kind.client(self.Named).ask(MESSAGE, ENVELOPE, in_time())

    def test_a_name_without_addresses(self, kind, look_ups):
        look_ups(list)
        with pytest.raises(ScannerUnavailable, match="its name cannot be looked up"):
            kind.client(self.Named).ask(MESSAGE, ENVELOPE, in_time())

    def test_the_second_of_two_addresses(self, kind, look_ups):
        with ScriptedServer(after_request(kind, lambda c: c.say(kind.answer))) as server:
            with ScriptedServer(lambda _: None) as gone:
                pass
            asked = look_ups(
                lambda: [
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
                    for port in (gone.port, server.port)
                ]
            )
            client = kind.client(self.Named)
            for _ in range(2):
                assert client.ask(MESSAGE, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
            client.close()
        assert asked


class TestClientsOfTheSettings:
    def settings(self, **spam):
        pools = {
            name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
            for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
        }
        return Settings.model_validate({"accepted_domains": ["example.org"], "pools": pools, "spam": spam})

    @pytest.mark.parametrize("kind", KINDS, ids=repr)
    def test_each_is_asked_where_it_is(self, kind):
        with ScriptedServer(after_request(kind, lambda c: c.say(kind.answer))) as server:
            place = f"http://{server.address}" if kind is RSPAMD else server.address
            client = client_for(Scanner(kind.name), self.settings(**{kind.name: place}))
            assert client.scanner == kind.name
            assert client.ask(MESSAGE, ENVELOPE, in_time()).verdict is ScanVerdict.SPAM
            client.close()

    @pytest.mark.parametrize("scanner", list(Scanner))
    def test_one_that_is_not_set_is_an_error(self, scanner):
        with pytest.raises(ValueError, match=f"spam.{scanner} is not set"):
            client_for(scanner, self.settings())
