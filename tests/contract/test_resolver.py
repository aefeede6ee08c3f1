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
from resolving import NO_SUCH_NAME, SECONDS, ZONES, addresses, asked
from scripted_dns import TTL_SECONDS, response

from deliverypools.adapters import resolver as resolver_module
from deliverypools.adapters.resolver import DnsServerFailure, DnsUnavailable, Reply, Resolver
from deliverypools.core.settings.tables import Dns
from deliverypools.lab.dns_server import DnsFailure, DnsServer, txt

NO_DATA = Reply()


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
    def test_addresses(self, make_resolver, name, found):
        reply = make_resolver().look_up(name, "A", SECONDS)
        assert reply.exists
        assert addresses(reply) == found

    @pytest.mark.parametrize("name", ["nowhere.invalid", "alias-to-nowhere.example"])
    def test_no_such_name(self, make_resolver, name):
        assert make_resolver().look_up(name, "A", SECONDS) == NO_SUCH_NAME

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a..b", ".a", "x" * 64, "x." * 128, "\udcff.example", "\u2028.example", "x" * 100_000]
    )
    def test_what_is_no_name_does_not_exist_and_is_not_asked(self, make_resolver, nameserver, name):
        assert make_resolver().look_up(name, "A", SECONDS) == NO_SUCH_NAME
        assert nameserver.asked == []

    def test_backslash_escapes_nothing(self, make_resolver, nameserver):
        assert make_resolver().look_up("\\097.example", "A", SECONDS) == NO_SUCH_NAME
        assert asked(nameserver, "a.example") == []

    def test_strings_of_a_text_are_joined(self, make_resolver):
        assert sorted(make_resolver().start_txt("a.example").result(SECONDS)) == [b"one", b"two " + b"x" * 300]
        assert make_resolver().start_txt("b.example").result(SECONDS) == ()
        assert make_resolver().start_txt("nowhere.invalid").result(SECONDS) == ()

    def test_long_text_comes_by_tcp(self, make_resolver):
        assert make_resolver().start_txt("long.example").result(SECONDS) == (b"x" * 15_000,)


class TestFailures:
    @pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.REFUSED])
    def test_error_of_the_server(self, make_resolver, nameserver, failure):
        nameserver.fail("a.example", failure)
        with pytest.raises(DnsServerFailure, match=failure.value.upper()):
            make_resolver().look_up("a.example", "A", SECONDS)

    @pytest.mark.parametrize("failure", [DnsFailure.CNAME_LOOP, DnsFailure.OTHER_RECORDS])
    def test_nonsense_is_an_error_of_the_server(self, make_resolver, nameserver, failure):
        nameserver.fail("a.example", failure)
        with pytest.raises(DnsServerFailure):
            make_resolver().look_up("a.example", "A", SECONDS)

    @pytest.mark.parametrize(
        "failure", [DnsFailure.TIMEOUT, DnsFailure.GARBAGE, DnsFailure.WRONG_ID, DnsFailure.OTHER_QUESTION]
    )
    def test_what_is_no_answer_is_ignored_until_time_is_up(self, make_resolver, nameserver, failure):
        nameserver.fail("a.example", failure)
        with pytest.raises(DnsUnavailable, match="timed out") as caught:
            make_resolver(timeout_seconds=0.5).look_up("a.example", "A", SECONDS)
        assert caught.type is DnsUnavailable

    def test_truncated_answer_is_fetched_by_tcp(self, make_resolver, nameserver):
        nameserver.fail("a.example", DnsFailure.TRUNCATED)
        assert addresses(make_resolver().look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_truncated_answer_is_never_taken_for_the_whole(self, make_resolver, nameserver):
        nameserver.fail("a.example", DnsFailure.TRUNCATED_WITHOUT_TCP)
        with pytest.raises(DnsUnavailable):
            make_resolver().look_up("a.example", "A", SECONDS)

    def test_server_down(self, make_resolver, nameserver):
        nameserver.stop()
        with pytest.raises(DnsUnavailable, match="no server reached") as caught:
            make_resolver().look_up("a.example", "A", SECONDS)
        assert caught.type is DnsUnavailable

    @pytest.mark.parametrize(
        ("name", "rtype"), [("giant.example", "TXT"), ("giant.example", "A"), ("many-txt.example", "TXT")]
    )
    def test_giant_answer_is_not_read(self, make_resolver, name, rtype):
        with pytest.raises(DnsServerFailure, match="AnswerTooLong"):
            make_resolver().look_up(name, rtype, SECONDS)

    def test_text_without_any_string_is_malformed(self, make_resolver, script):
        def answer(wire, send):
            query = dns.message.from_wire(wire, ignore_trailing=True)
            question = query.question[0].name.to_wire() + struct.pack("!HH", 16, 1)
            record = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 60, 0)
            send(struct.pack("!HHHHHH", query.id, 0x8180, 1, 1, 0, 0) + question + record)

        with pytest.raises(DnsUnavailable):
            make_resolver(script(answer).address, timeout_seconds=0.5).start_txt("a.example").result(SECONDS)


class TestForgedAnswers:
    def test_right_answer_after_wrong_ones(self, make_resolver, script):
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

            reply = make_resolver(script(answer).address).look_up("a.example", "A", SECONDS)
        assert addresses(reply) == ["198.51.100.1"]

    def test_truncated_answer_under_a_wrong_id_is_ignored(self, make_resolver, script):
        def answer(wire, send):
            query_id = dns.message.from_wire(wire).id
            send(response(wire, id=query_id ^ 1, flags=dns.flags.QR | dns.flags.TC))
            send(response(wire))

        assert addresses(make_resolver(script(answer).address).look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_flood_of_wrong_answers_ends_with_the_time(self, make_resolver, script):
        given_up = threading.Event()

        def flood(wire, send):
            wrong = response(wire, id=dns.message.from_wire(wire).id ^ 1)
            while not given_up.is_set():
                send(wrong)

        server = script(flood)
        try:
            with pytest.raises(DnsUnavailable):
                make_resolver(server.address, timeout_seconds=0.3).look_up("a.example", "A", SECONDS)
        finally:
            given_up.set()


class TestSeveralServers:
    def test_one_that_hangs_is_asked_last_from_then_on(self, make_resolver, nameserver, script):
        silent = script()
        resolver = make_resolver(silent.address, nameserver.address, timeout_seconds=3)
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]
        assert addresses(resolver.look_up("b.example", "A", SECONDS)) == ["198.51.100.2"]
        assert silent.queries == 1

    def test_it_is_asked_first_again_after_a_while(self, make_resolver, nameserver, script, clock):
        silent = script()
        resolver = make_resolver(silent.address, nameserver.address, timeout_seconds=3)
        resolver.look_up("a.example", "A", SECONDS)
        clock.now += 31
        resolver.look_up("b.example", "A", SECONDS)
        assert silent.queries == 2

    @pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.REFUSED, DnsFailure.CNAME_LOOP])
    def test_error_of_the_first_is_no_error_of_all(self, make_resolver, nameserver, failure):
        lame = DnsServer(ZONES)
        lame.fail(".", failure)
        lame.start("127.0.0.1", 0)
        try:
            reply = make_resolver(lame.address, nameserver.address).look_up("a.example", "A", SECONDS)
        finally:
            lame.stop()
        assert addresses(reply) == ["198.51.100.1"]


class TestMemory:
    def test_answer_is_asked_once_in_its_time_to_live(self, make_resolver, nameserver, clock):
        resolver = make_resolver()
        first = resolver.look_up("a.example", "A", SECONDS)
        clock.now += TTL_SECONDS / 2
        assert resolver.look_up("a.EXAMPLE.", "A", SECONDS) == first
        assert asked(nameserver, "a.example") == ["A"]
        clock.now += TTL_SECONDS
        resolver.look_up("a.example", "A", SECONDS)
        assert asked(nameserver, "a.example") == ["A", "A"]

    def test_name_that_does_not_exist_is_asked_once_for_all_types(self, make_resolver, nameserver, clock):
        resolver = make_resolver()
        assert {resolver.look_up("nowhere.invalid", rtype, SECONDS) for rtype in ("A", "MX", "TXT")} == {NO_SUCH_NAME}
        assert asked(nameserver, "nowhere.invalid") == ["A"]
        nameserver.set("nowhere.invalid", {"A": ["198.51.100.9"]})
        clock.now += 61
        assert addresses(resolver.look_up("nowhere.invalid", "A", SECONDS)) == ["198.51.100.9"]

    def test_no_data_is_kept_for_its_type_only(self, make_resolver, nameserver):
        resolver = make_resolver()
        assert [resolver.look_up("b.example", "TXT", SECONDS) for _ in range(2)] == [NO_DATA, NO_DATA]
        assert addresses(resolver.look_up("b.example", "A", SECONDS)) == ["198.51.100.2"]
        assert asked(nameserver, "b.example") == ["TXT", "A"]

    @pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.TIMEOUT, DnsFailure.CNAME_LOOP])
    def test_failure_is_kept_for_its_time_and_then_forgotten(self, make_resolver, nameserver, clock, failure):
        resolver = make_resolver(timeout_seconds=0.5)
        nameserver.fail("a.example", failure)
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", SECONDS)
        questions = len(nameserver.asked)
        nameserver.fail("a.example", None)
        clock.now += 29
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", SECONDS)
        assert len(nameserver.asked) == questions
        clock.now += 2
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_server_that_comes_back(self, make_resolver, nameserver, clock):
        resolver = make_resolver()
        nameserver.stop()
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", SECONDS)
        nameserver.start(*nameserver.address)
        clock.now += 31
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]

    def test_what_is_kept_is_bounded(self, make_resolver, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_KEPT", 10)
        resolver = make_resolver()
        for number in range(30):
            resolver.look_up(f"{number}.invalid", "A", SECONDS)
        assert len(resolver._kept) == 10

    def test_size_of_what_is_kept_is_bounded(self, make_resolver, nameserver, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_KEPT_BYTES", 50_000)
        resolver = make_resolver()
        for number in range(10):
            nameserver.set(f"{number}.example", {"TXT": [txt("x" * 10_000)]})
            resolver.start_txt(f"{number}.example").result(SECONDS)
        assert 0 < len(resolver._kept) < 5
        assert resolver._kept_bytes == sum(kept.size_bytes for kept in resolver._kept.values())


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
