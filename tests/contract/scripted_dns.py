"""A DNS server over UDP that sends what a test wants: wrong ids, several answers, none before the test has ended."""

import functools
import socket
import threading

import dns.message
import dns.rrset

TTL_SECONDS = 1


class Script:
    """A UDP socket that answers each query as told: with any number of datagrams, from its own address or another."""

    def __init__(self, answers):
        self._answers = answers
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self.queries = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while True:
            wire, client = self._socket.recvfrom(4096)
            if not wire:
                return
            self.queries += 1
            self._answers(wire, functools.partial(self._send, client))

    def _send(self, client, answer, sender=None):
        (sender or self._socket).sendto(answer, client)

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(10)
        self._socket.close()


class Hanging:
    """Keeps queries unanswered until the end of the test."""

    def __init__(self):
        self._kept = []

    def __call__(self, wire, send):
        self._kept.append((wire, send))

    def answer_all(self):
        for wire, send in self._kept:
            send(response(wire))


def response(wire, address="198.51.100.1", **changes):
    """Return the wire of the answer to a query, with another id or name where told."""
    query = dns.message.from_wire(wire)
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text(query.question[0].name, TTL_SECONDS, "IN", "A", address))
    for name, value in changes.items():
        setattr(answer, name, value)
    return answer.to_wire()
