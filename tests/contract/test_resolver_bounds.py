"""What a resolver takes of memory, sockets and threads, and that it goes on when there were none for a while."""

import socket
import threading
import time
import tracemalloc

import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from deliverypools.adapters import nameserver, resolver
from deliverypools.adapters.resolver import DnsUnavailable, Reply

LONG = ".".join(["ab"] * 78)
SHAPES = {
    "MX": [f"{number} {LONG}." for number in range(239)],
    "PTR": [f"{LONG}." for _ in range(200)],
    "A": [f"10.0.{number // 250}.{number % 250}" for number in range(4000)],
    "TXT": [f'"{number}"' for number in range(3000)],
}
MOST_TIMES = 6
"""What Python needs for a record, to what is counted for it."""


@pytest.mark.parametrize("rdtype", SHAPES)
def test_what_is_kept_is_counted_about_as_large_as_it_is(rdtype):
    kind = dns.rdatatype.from_text(rdtype)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        reply = Reply(tuple(dns.rdata.from_text(dns.rdataclass.IN, kind, text) for text in SHAPES[rdtype]))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / MOST_TIMES < resolver._size_bytes(reply) < held * MOST_TIMES


def test_a_family_that_the_machine_does_not_speak_takes_no_socket(monkeypatch):
    class NoIpv6(socket.socket):
        def __init__(self, family=-1, *arguments):
            if family == socket.AF_INET6:
                raise OSError("Address family not supported by protocol")
            super().__init__(family, *arguments)

    further = threading.BoundedSemaphore(4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setattr(nameserver.socket, "socket", NoIpv6)
        addresses = (silent.getsockname(), ("2001:db8::1", 53), ("2001:db8::2", 53))
        question = nameserver.OpenQuestion(
            [nameserver.Server(*address, time.monotonic) for address in addresses], 1, further
        )
        query = dns.message.make_query("a.example", "MX")
        first, *others = question.nameservers
        question.send(query, first)
        for other in others:
            with pytest.raises(OSError, match="Address family"):
                question.send(query, other)
        question.close()
    assert [further.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]


def test_with_none_to_spare_the_socket_before_is_closed_first(monkeypatch):
    open_at_once = []

    class Counted(socket.socket):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)
            open_at_once.append(sum(each.fileno() >= 0 for each in made))

    made = []
    monkeypatch.setattr(nameserver.socket, "socket", Counted)
    servers = [nameserver.Server("127.0.0.1", port, time.monotonic) for port in (5301, 5302, 5303)]
    question = nameserver.OpenQuestion(servers, 1, threading.BoundedSemaphore(1))
    for each in question.nameservers:
        question.send(dns.message.make_query("a.example", "MX"), each)
    question.close()
    assert open_at_once == [1, 2, 1]


def test_a_thread_that_could_not_be_started_leaves_nothing_behind(make_resolver, monkeypatch):
    resolve = make_resolver()
    with monkeypatch.context() as patch:

        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(DnsUnavailable):
            resolve.look_up("a.example", "A", 1)
    for name in ("a.example", "b.example", "a.example"):
        assert resolve.look_up(name, "A", 5).exists
    assert resolve._under_way == {}
