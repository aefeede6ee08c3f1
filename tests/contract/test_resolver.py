"""The resolver of a process, asked of a real DNS server on loopback that fails, hangs and lies."""

import contextlib
import socket
import struct
import threading

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_dns import TTL_SECONDS, Hanging, Script, response

from deliverypools.adapters import resolver as resolver_module
from deliverypools.adapters.resolver import DnsServerFailure, DnsUnavailable, Reply, Resolver
from deliverypools.core.settings.tables import Dns
from deliverypools.lab.dns_server import DnsFailure, DnsServer, Slow, txt
from deliverypools.lab.waiting import wait_until

NO_SUCH_NAME = Reply(exists=False)
NO_DATA = Reply()
SECONDS = 10
ZONES = {
    "a.example": {"A": ["198.51.100.1"], "TXT": [txt("one"), txt("two " + "x" * 300)]},
    "b.example": {"A": ["198.51.100.2"]},
    "alias.example": {"CNAME": ["a.example."]},
    "alias-to-nowhere.example": {"CNAME": ["nowhere.invalid."]},
    "xn--bcher-kva.example": {"A": ["198.51.100.3"]},
    "long.example": {"TXT": [txt("x" * 15_000)]},
    "giant.example": {"TXT": [txt("x" * 60_000)], "A": [f"10.0.{n // 250}.{n % 250}" for n in range(4000)]},
    "many-txt.example": {"TXT": [txt(str(n)) for n in range(3000)]},
}


@pytest.fixture
def server():
    server = DnsServer(ZONES)
    server.start("127.0.0.1", 0)
    yield server
    server.stop()


@pytest.fixture
def resolve(server, clock):
    """Make resolvers that know nothing yet."""
    with contextlib.ExitStack() as stack:

        def make(*nameservers, **dns):
            nameservers = [f"{host}:{port}" for host, port in nameservers or [server.address]]
            options = {"timeout_seconds": 5.0, "servfail_cache_seconds": 30, "nameservers": nameservers} | dns
            made = Resolver(Dns(**options), clock=clock)
            stack.callback(made.close)
            return made

        yield make


def addresses(reply):
    return [record.address for record in reply.records]


def asked(server, name):
    return [rtype for asked_name, rtype in server.asked if asked_name == name]


@pytest.fixture
def script():
    with contextlib.ExitStack() as stack:

        def make(answers=lambda _wire, _send: None):
            made = Script(answers)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def hanging(script):
    """The address of a server that does not answer while the test runs."""
    answers = Hanging()
    yield script(answers).address
    answers.answer_all()


@pytest.fixture
def only_hanging(script):
    """The address of a server that does not answer about names below hanging.example while the test runs."""
    hanging = Hanging()

    def answers(wire, send):
        if b"hanging" in wire:
            hanging(wire, send)
        else:
            send(response(wire))

    yield script(answers).address
    hanging.answer_all()


class TestAnswers:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("a.example", ["198.51.100.1"]),
            ("A.Example.", ["198.51.100.1"]),
            ("alias.example", ["198.51.100.1"]),
            ("b\u00fccher.example", ["198.51.100.3"]),
            ("long.example", []),
        ],
    )
    def test_addresses(self, resolve, name, found):
        reply = resolve().look_up(name, "A", SECONDS)
        assert reply.exists
        assert addresses(reply) == found

    @pytest.mark.parametrize("name", ["nowhere.invalid", "alias-to-nowhere.example"])
    def test_no_such_name(self, resolve, name):
        assert resolve().look_up(name, "A", SECONDS) == NO_SUCH_NAME

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a..b", ".a", "x" * 64, "x." * 128, "\udcff.example", "\u2028.example", "x" * 100_000]
    )
    def test_what_is_no_name_does_not_exist_and_is_not_asked(self, resolve, server, name):
        assert resolve().look_up(name, "A", SECONDS) == NO_SUCH_NAME
        assert server.asked == []

    def test_backslash_escapes_nothing(self, resolve, server):
        assert resolve().look_up("\\097.example", "A", SECONDS) == NO_SUCH_NAME
        assert asked(server, "a.example") == []

    def test_strings_of_a_text_are_joined(self, resolve):
        assert sorted(resolve().start_txt("a.example").result(SECONDS)) == [b"one", b"two " + b"x" * 300]
        assert resolve().start_txt("b.example").result(SECONDS) == ()
        assert resolve().start_txt("nowhere.invalid").result(SECONDS) == ()

    def test_long_text_comes_by_tcp(self, resolve):
        assert resolve().start_txt("long.example").result(SECONDS) == (b"x" * 15_000,)


class TestFailures:
    @pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.REFUSED])
    def test_error_of_the_server(self, resolve, server, failure):
        server.fail("a.example", failure)
        with pytest.raises(DnsServerFailure, match=failure.value.upper()):
            resolve().look_up("a.example", "A", SECONDS)

    @pytest.mark.parametrize("failure", [DnsFailure.CNAME_LOOP, DnsFailure.OTHER_RECORDS])
    def test_nonsense_is_an_error_of_the_server(self, resolve, server, failure):
        server.fail("a.example", failure)
        with pytest.raises(DnsServerFailure):
            resolve().look_up("a.example", "A", SECONDS)

    @pytest.mark.parametrize(
        "failure", [DnsFailure.TIMEOUT, DnsFailure.GARBAGE, DnsFailure.WRONG_ID, DnsFailure.OTHER_QUESTION]
    )
    def test_what_is_no_answer_is_ignored_until_time_is_up(self, resolve, server, failure):
        server.fail("a.example", failure)
        with pytest.raises(DnsUnavailable, match="timed out") as caught:
            resolve(timeout_seconds=0.5).look_up("a.example", "A", SECONDS)
        assert caught.type is DnsUnavailable

    def test_truncated_answer_is_fetched_by_tcp(self, resolve, server):
        server.fail("a.example", DnsFailure.TRUNCATED)
        assert addresses(resolve().look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_truncated_answer_is_never_taken_for_the_whole(self, resolve, server):
        server.fail("a.example", DnsFailure.TRUNCATED_WITHOUT_TCP)
        with pytest.raises(DnsUnavailable):
            resolve().look_up("a.example", "A", SECONDS)

    def test_server_down(self, resolve, server):
        server.stop()
        with pytest.raises(DnsUnavailable, match="no server reached") as caught:
            resolve().look_up("a.example", "A", SECONDS)
        assert caught.type is DnsUnavailable

    @pytest.mark.parametrize(
        ("name", "rtype"), [("giant.example", "TXT"), ("giant.example", "A"), ("many-txt.example", "TXT")]
    )
    def test_giant_answer_is_not_read(self, resolve, name, rtype):
        with pytest.raises(DnsServerFailure, match="AnswerTooLong"):
            resolve().look_up(name, rtype, SECONDS)

    def test_text_without_any_string_is_malformed(self, resolve, script):
        def answer(wire, send):
            query = dns.message.from_wire(wire, ignore_trailing=True)
            question = query.question[0].name.to_wire() + struct.pack("!HH", 16, 1)
            record = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 60, 0)
            send(struct.pack("!HHHHHH", query.id, 0x8180, 1, 1, 0, 0) + question + record)

        with pytest.raises(DnsUnavailable):
            resolve(script(answer).address, timeout_seconds=0.5).start_txt("a.example").result(SECONDS)


class TestForgedAnswers:
    def test_right_answer_after_wrong_ones(self, resolve, script):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.1", 0))

            def answer(wire, send):
                query_id = dns.message.from_wire(wire).id
                send(response(wire, "203.0.113.1"), stranger)
                send(response(wire, "203.0.113.2", id=query_id ^ 1))
                send(response(wire, "203.0.113.3", question=dns.message.make_query("b.example", "A").question))
                send(wire)
                send(wire[:2] + b"\xff" * 30)
                send(b"")
                send(response(wire))

            reply = resolve(script(answer).address).look_up("a.example", "A", SECONDS)
        assert addresses(reply) == ["198.51.100.1"]

    def test_truncated_answer_under_a_wrong_id_is_ignored(self, resolve, script):
        def answer(wire, send):
            query_id = dns.message.from_wire(wire).id
            send(response(wire, id=query_id ^ 1, flags=dns.flags.QR | dns.flags.TC))
            send(response(wire))

        assert addresses(resolve(script(answer).address).look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_flood_of_wrong_answers_ends_with_the_time(self, resolve, script):
        given_up = threading.Event()

        def flood(wire, send):
            wrong = response(wire, id=dns.message.from_wire(wire).id ^ 1)
            while not given_up.is_set():
                send(wrong)

        server = script(flood)
        try:
            with pytest.raises(DnsUnavailable):
                resolve(server.address, timeout_seconds=0.3).look_up("a.example", "A", SECONDS)
        finally:
            given_up.set()


class TestSeveralServers:
    def test_one_that_hangs_is_asked_last_from_then_on(self, resolve, server, script):
        silent = script()
        resolver = resolve(silent.address, server.address, timeout_seconds=3)
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]
        assert addresses(resolver.look_up("b.example", "A", SECONDS)) == ["198.51.100.2"]
        assert silent.queries == 1

    def test_it_is_asked_first_again_after_a_while(self, resolve, server, script, clock):
        silent = script()
        resolver = resolve(silent.address, server.address, timeout_seconds=3)
        resolver.look_up("a.example", "A", SECONDS)
        clock.now += 31
        resolver.look_up("b.example", "A", SECONDS)
        assert silent.queries == 2

    @pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.REFUSED, DnsFailure.CNAME_LOOP])
    def test_error_of_the_first_is_no_error_of_all(self, resolve, server, failure):
        lame = DnsServer(ZONES)
        lame.fail(".", failure)
        lame.start("127.0.0.1", 0)
        try:
            reply = resolve(lame.address, server.address).look_up("a.example", "A", SECONDS)
        finally:
            lame.stop()
        assert addresses(reply) == ["198.51.100.1"]


class TestMemory:
    def test_answer_is_asked_once_in_its_time_to_live(self, resolve, server, clock):
        resolver = resolve()
        first = resolver.look_up("a.example", "A", SECONDS)
        clock.now += TTL_SECONDS / 2
        assert resolver.look_up("a.EXAMPLE.", "A", SECONDS) == first
        assert asked(server, "a.example") == ["A"]
        clock.now += TTL_SECONDS
        resolver.look_up("a.example", "A", SECONDS)
        assert asked(server, "a.example") == ["A", "A"]

    def test_name_that_does_not_exist_is_asked_once_for_all_types(self, resolve, server, clock):
        resolver = resolve()
        assert {resolver.look_up("nowhere.invalid", rtype, SECONDS) for rtype in ("A", "MX", "TXT")} == {NO_SUCH_NAME}
        assert asked(server, "nowhere.invalid") == ["A"]
        server.set("nowhere.invalid", {"A": ["198.51.100.9"]})
        clock.now += 61
        assert addresses(resolver.look_up("nowhere.invalid", "A", SECONDS)) == ["198.51.100.9"]

    def test_no_data_is_kept_for_its_type_only(self, resolve, server):
        resolver = resolve()
        assert [resolver.look_up("b.example", "TXT", SECONDS) for _ in range(2)] == [NO_DATA, NO_DATA]
        assert addresses(resolver.look_up("b.example", "A", SECONDS)) == ["198.51.100.2"]
        assert asked(server, "b.example") == ["TXT", "A"]

    @pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.TIMEOUT, DnsFailure.CNAME_LOOP])
    def test_failure_is_kept_for_its_time_and_then_forgotten(self, resolve, server, clock, failure):
        resolver = resolve(timeout_seconds=0.5)
        server.fail("a.example", failure)
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", SECONDS)
        questions = len(server.asked)
        server.fail("a.example", None)
        clock.now += 29
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", SECONDS)
        assert len(server.asked) == questions
        clock.now += 2
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_server_that_comes_back(self, resolve, server, clock):
        resolver = resolve()
        server.stop()
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", SECONDS)
        server.start(*server.address)
        clock.now += 31
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_what_is_kept_is_bounded(self, resolve, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_KEPT", 10)
        resolver = resolve()
        for number in range(30):
            resolver.look_up(f"{number}.invalid", "A", SECONDS)
        assert len(resolver._kept) == 10

    def test_size_of_what_is_kept_is_bounded(self, resolve, server, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_KEPT_BYTES", 50_000)
        resolver = resolve()
        for number in range(10):
            server.set(f"{number}.example", {"TXT": [txt("x" * 10_000)]})
            resolver.start_txt(f"{number}.example").result(SECONDS)
        assert 0 < len(resolver._kept) < 5
        assert resolver._kept_bytes == sum(kept.size_bytes for kept in resolver._kept.values())


class TestManyAtOnce:
    def test_equal_questions_are_asked_once(self, resolve, server):
        server.fail("a.example", Slow(0.3))
        resolver = resolve(timeout_seconds=5)
        futures = [resolver.start(resolver.look_up, "a.example", "A", SECONDS) for _ in range(30)]
        assert {tuple(addresses(future.result(SECONDS))) for future in futures} == {("198.51.100.1",)}
        assert asked(server, "a.example") == ["A"]

    def test_who_gives_up_early_leaves_the_answer_to_the_next(self, resolve, server):
        server.fail("a.example", Slow(0.3))
        resolver = resolve(timeout_seconds=5)
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", 0.01)
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]
        assert asked(server, "a.example") == ["A"]

    def test_only_some_wait_in_full_when_dns_hangs(self, resolve, hanging):
        resolver = resolve(hanging, timeout_seconds=60)
        answers = []
        callers = [
            threading.Thread(target=lambda n=n: answers.append(_outcome(resolver, f"{n}.example")), daemon=True)
            for n in range(40)
        ]
        for caller in callers:
            caller.start()
        wait_until(lambda: len(answers) == 24, timeout_seconds=SECONDS, what="the impatient give up")
        assert answers == ["timed out"] * 24
        assert resolver._patient == 16

    def test_name_that_failed_lately_is_not_waited_for_in_full(self, resolve, server, clock):
        resolver = resolve(timeout_seconds=5)
        server.fail("a.example", DnsFailure.SERVFAIL)
        assert _outcome(resolver, "a.example") == "SERVFAIL"
        clock.now += 31
        server.fail("a.example", Slow(1.5))
        assert _outcome(resolver, "a.example") == "timed out"
        assert _outcome(resolver, "b.example").exists

    def test_too_many_questions_are_refused_at_once(self, resolve, hanging, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_QUEUED", 3)
        resolver = resolve(hanging, timeout_seconds=60)
        outcomes = [_outcome(resolver, f"{number}.example", 0) for number in range(4)]
        assert outcomes == ["timed out"] * 3 + ["too many questions under way"]

    def test_too_many_tasks_are_refused_at_once(self, resolve, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_QUEUED", 3)
        resolver = resolve()
        may_end = threading.Event()
        tasks = [resolver.start(may_end.wait, SECONDS) for _ in range(3)]
        with pytest.raises(DnsUnavailable, match="too many look-ups"):
            resolver.start(may_end.wait, SECONDS).result(0)
        may_end.set()
        assert all(task.result(SECONDS) for task in tasks)
        wait_until(lambda: resolver._tasks_under_way == 0, timeout_seconds=SECONDS, what="the tasks have ended")
        assert resolver.start(lambda: "again").result(SECONDS) == "again"

    def test_names_that_hang_hold_no_task(self, resolve, only_hanging):
        resolver = resolve(only_hanging, timeout_seconds=60)
        with pytest.raises(DnsServerFailure):  # it has nothing but addresses, which is as well known as a text
            resolver.start_txt("known.example").result(SECONDS)
        waiting = [resolver.start_txt(f"{number}.hanging.example") for number in range(300)]
        assert resolver._tasks_under_way == 0
        assert resolver.start_txt("known.example").done()
        assert resolver.start(lambda: "task").result(SECONDS) == "task"
        assert not any(future.done() for future in waiting)

    def test_names_that_had_an_answer_before_do_not_queue_behind_names_that_hang(
        self, resolve, only_hanging, clock, monkeypatch
    ):
        monkeypatch.setattr(resolver_module, "_QUESTION_THREADS", 1)
        monkeypatch.setattr(resolver_module, "_MOST_QUEUED", 2)
        resolver = resolve(only_hanging, timeout_seconds=60)
        assert addresses(resolver.look_up("known.example", "A", SECONDS)) == ["198.51.100.1"]
        clock.now += TTL_SECONDS + 1
        waiting = [resolver.start_txt(f"{number}.hanging.example") for number in range(2)]
        assert _outcome(resolver, "new.example") == "too many questions under way"
        assert addresses(resolver.look_up("known.example", "A", SECONDS)) == ["198.51.100.1"]
        assert resolver._familiar_under_way == 0
        assert not any(future.done() for future in waiting)

    def test_who_cancels_takes_nothing_from_the_others(self, resolve, server):
        server.fail("a.example", Slow(0.3))
        resolver = resolve(timeout_seconds=5)
        first, second = resolver.start_txt("a.example"), resolver.start_txt("a.example")
        assert first.cancel()
        assert len(second.result(SECONDS)) == 2
        assert asked(server, "a.example") == ["TXT"]

    def test_failures_are_told_each_time(self, resolve, server):
        server.fail("a.example", DnsFailure.SERVFAIL)
        resolver = resolve()
        for _ in range(2):
            with pytest.raises(DnsServerFailure, match="SERVFAIL"):
                resolver.start_txt("a.example").result(SECONDS)
        assert asked(server, "a.example") == ["TXT"]

    @pytest.mark.parametrize("name", ["", "a..b", "x" * 100_000])
    def test_what_is_no_name_has_no_texts(self, resolve, name):
        assert resolve().start_txt(name).result(0) == ()

    def test_who_waits_for_a_question_that_has_not_begun_hears_that_the_resolver_was_closed(
        self, resolve, hanging, monkeypatch
    ):
        monkeypatch.setattr(resolver_module, "_QUESTION_THREADS", 1)
        resolver = resolve(hanging, timeout_seconds=60)
        resolver.start_txt("a.example")
        queued = resolver.start_txt("b.example")
        resolver.close()
        with pytest.raises(DnsUnavailable, match="stopping"):
            queued.result(SECONDS)

    def test_a_closed_resolver_cannot_tell(self, resolve):
        resolver = resolve()
        resolver.close()
        assert _outcome(resolver, "a.example") == "stopping"
        with pytest.raises(DnsUnavailable, match="stopping"):
            resolver.start(lambda: None).result(0)
        with pytest.raises(DnsUnavailable, match="stopping"):
            resolver.start_txt("a.example").result(0)


def _outcome(resolver, name, seconds=60):
    try:
        return resolver.look_up(name, "A", seconds)
    except DnsUnavailable as error:
        return str(error)


@given(
    name=st.text(st.characters(exclude_categories=())) | st.from_regex(r"[a-z0-9.\\%@ ]{0,70}"),
    rtype=st.sampled_from(["A", "MX", "TXT", "PTR"]),
)
def test_no_name_raises_anything_else(name, rtype):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        closed = taken.getsockname()[1]
    resolver = Resolver(Dns(nameservers=[f"127.0.0.1:{closed}"], timeout_seconds=0.2))
    with contextlib.closing(resolver), contextlib.suppress(DnsUnavailable):
        assert resolver.look_up(name, rtype, 1) == NO_SUCH_NAME
