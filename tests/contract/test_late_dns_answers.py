"""Answers that come when their server's turn is over, and what is open while they may come."""

import contextlib
import threading
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from scripted_dns import response

from deliverypools.adapters import resolver as resolver_module
from deliverypools.adapters.resolver import DnsUnavailable, Resolver
from deliverypools.core.settings.tables import Dns
from deliverypools.lab.dns_server import DnsServer, Slow, txt
from deliverypools.lab.waiting import wait_until

SECONDS = 30
TIMEOUT = 2.4
"""A third of it is a turn."""
LATE = 1.2
ZONES = {"a.example": {"A": ["198.51.100.1"], "TXT": [txt("x" * 5000)]}}
ALIAS_LOOP = [
    dns.rrset.from_text(name, 1, "IN", "CNAME", target)
    for name, target in (("a.example.", "b.example."), ("b.example.", "a.example."))
]


class Late:
    """A server that keeps its queries until `answer` is called."""

    def __init__(self):
        self._kept = []

    def __call__(self, wire, send):
        self._kept.append((wire, send))

    def answer(self, **changes):
        # Not what is asked as soon as the first of them has come.
        for wire, send in tuple(self._kept):
            send(response(wire, **changes))


@pytest.fixture
def server():
    server = DnsServer(ZONES)
    server.start("127.0.0.1", 0)
    yield server
    server.stop()


@pytest.fixture
def resolve(clock):
    with contextlib.ExitStack() as stack:

        def make(*servers, timeout_seconds=TIMEOUT):
            nameservers = ["{}:{}".format(*server.address) for server in servers]
            made = Resolver(Dns(nameservers=nameservers, timeout_seconds=timeout_seconds), clock=clock)
            stack.callback(made.close)
            return made

        yield make


def addresses(resolver, name="a.example"):
    return [record.address for record in resolver.look_up(name, "A", SECONDS).records]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


class TestOneServer:
    def test_answer_after_its_turn(self, resolve, server):
        server.fail(".", Slow(LATE))
        assert addresses(resolve(server)) == ["198.51.100.1"]

    def test_answer_that_is_too_large_for_udp(self, resolve, server):
        server.fail(".", Slow(LATE))
        assert resolve(server, timeout_seconds=3 * LATE).start_txt("a.example").result(SECONDS) == (b"x" * 5000,)

    def test_answer_after_all_its_time(self, resolve, server):
        server.fail(".", Slow(5.0))
        with pytest.raises(DnsUnavailable, match="timed out"):
            addresses(resolve(server, timeout_seconds=0.6))


class TestTwoServers:
    @pytest.fixture
    def late(self):
        return Late()

    @pytest.fixture
    def first(self, script, late):
        return script(late)

    def test_first_is_silent_and_the_second_late(self, resolve, script, server):
        server.fail(".", Slow(LATE))
        assert addresses(resolve(script(), server)) == ["198.51.100.1"]

    def test_first_is_late_and_the_second_silent(self, resolve, server, script):
        server.fail(".", Slow(LATE))
        assert addresses(resolve(server, script())) == ["198.51.100.1"]

    def test_first_is_late_and_the_second_not(self, resolve, script, first, late):
        second = script(lambda wire, send: send(response(wire, "198.51.100.2")))
        assert addresses(resolve(first, second)) == ["198.51.100.2"]

    @pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.YXDOMAIN])
    def test_late_error_is_none_of_the_server_that_is_asked_meanwhile(self, resolve, script, first, late, rcode):
        def second(wire, send):
            late.answer(flags=dns.flags.QR | rcode)
            send(response(wire, "198.51.100.2"))

        assert addresses(resolve(first, script(second))) == ["198.51.100.2"]

    @pytest.mark.parametrize(
        "error",
        [{"flags": dns.flags.QR | dns.rcode.REFUSED}, {"answer": ALIAS_LOOP}, {"flags": dns.flags.QR | dns.flags.TC}],
        ids=["refused", "alias-loop", "truncated-without-tcp"],
    )
    def test_server_with_a_late_error_is_not_asked_again(self, resolve, script, first, late, error):
        queries = []

        def second(wire, send):
            queries.append(wire)
            if len(queries) == 1:
                late.answer(**error)
            else:
                send(response(wire, "198.51.100.2"))

        assert addresses(resolve(first, script(second))) == ["198.51.100.2"]
        assert first.queries == 1

    def test_late_forgery_is_ignored(self, resolve, script, first, late):
        def second(wire, send):
            late.answer(id=dns.message.from_wire(wire).id ^ 1)
            late.answer(question=dns.message.make_query("b.example", "A").question)
            send(response(wire, "198.51.100.2"))

        assert addresses(resolve(first, script(second))) == ["198.51.100.2"]

    def test_flood_of_the_first_does_not_hinder_the_second(self, resolve, script, server):
        is_over = threading.Event()

        def flood(wire, send):
            wrong = response(wire, id=dns.message.from_wire(wire).id ^ 1)
            while not is_over.is_set():
                send(wrong)

        resolver = resolve(script(flood), server)
        try:
            assert addresses(resolver) == ["198.51.100.1"]
        finally:
            is_over.set()

    def test_server_that_was_late_is_still_the_first_to_ask(self, resolve, script, first, late):
        second = script(lambda _wire, _send: late.answer())
        resolver = resolve(first, second)
        assert addresses(resolver, "a.example") == ["198.51.100.1"]
        assert addresses(resolver, "b.example") == ["198.51.100.1"]
        assert (first.queries, second.queries) == (2, 2)


class TestDescriptors:
    def test_all_are_closed_in_the_end_and_bounded_meanwhile(self, resolve, script, monkeypatch):
        questions, further = 500, 10
        monkeypatch.setattr(resolver_module, "_MOST_FURTHER_SOCKETS", further)
        silent = [script(), script()]
        before = open_files()
        resolver = resolve(*silent)
        futures = [resolver.start_txt(f"{number}.example") for number in range(questions)]
        wait_until(lambda: silent[1].queries > questions / 2, timeout_seconds=SECONDS, what="the second is asked")
        assert open_files() <= before + questions + further
        assert {type(future.exception(SECONDS)) for future in futures} == {DnsUnavailable}
        # One of a test before may have been open still.
        assert open_files() <= before

    def test_without_any_to_spare_the_second_server_is_asked_still(self, resolve, script, server, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_FURTHER_SOCKETS", 0)
        assert addresses(resolve(script(), server)) == ["198.51.100.1"]

    def test_those_of_answers_are_closed(self, resolve, script, server):
        silent = script()
        before = open_files()
        resolver = resolve(silent, server)
        for name in ("a.example", "nowhere.invalid"):
            resolver.look_up(name, "A", SECONDS)
        # As above.
        assert open_files() <= before
