"""Sends policy requests as Postfix does, over many connections, and measures: one process, nothing but that.

    python bench/load.py '{"socket": "/path", "stage": "RCPT", "first": 0, "seconds": 3.0, "rate": 0}'

Prints one line of JSON. `rate` 0 is the closed loop: each connection sends its next request when it has the answer.
With a rate, requests have times at which they are due, whatever the server does, and a latency is counted from then:
a server that stalls makes all requests late that were due meanwhile, as it makes mail wait.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Final

CONNECTIONS: Final = 50
ACCOUNTS: Final = 1000
GRACE_SECONDS: Final = 10.0
"""After the last request is due; what is not sent by then never is."""
PATIENCE_SECONDS: Final = 60.0
"""What was sent is waited for: policyd-rate-limit ends when a client closes before it has its answer."""
_END: Final = b"\n\n"
_STRIDE: Final = 7919
"""A prime: every account has its turn."""

# What smtpd(8) of Postfix 3.8 sends for an authenticated client with TLS.
_REQUEST: Final = (
    b"request=smtpd_access_policy\nprotocol_state=%b\nprotocol_name=ESMTP\nclient_address=198.51.100.7\n"
    b"client_name=client.example.net\nclient_port=52814\nreverse_client_name=client.example.net\n"
    b"server_address=192.0.2.25\nserver_port=587\nhelo_name=laptop.example.net\nsender=user%d@example.org\n"
    b"recipient=bob@example.com\nrecipient_count=%d\nqueue_id=%b\ninstance=1a2b.6740c1d2.%x.0\nsize=2048\n"
    b"etrn_domain=\nstress=\nsasl_method=plain\nsasl_username=user%d@example.org\nsasl_sender=\nccert_subject=\n"
    b"ccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\nencryption_protocol=TLSv1.3\n"
    b"encryption_cipher=TLS_AES_256_GCM_SHA384\nencryption_keysize=256\npolicy_context=\n"
    b"compatibility_level=3.6\nmail_version=3.8.6\n\n"
)


@dataclass
class Result:
    """What one run has seen."""

    answers: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    """How often each action came."""
    unanswered: int = 0
    elapsed_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Milliseconds, from the time at which a request was due."""


def request(stage: str, number: int, accounts: int) -> bytes:
    """Return the request about message `number`, a message of one recipient."""
    # Not one account after the other: those next to each other in a database are read together.
    account = number * _STRIDE % accounts
    # At RCPT Postfix does not know the number of recipients yet.
    count = int(stage == "END-OF-MESSAGE")
    return _REQUEST % (stage.encode(), account, count, b"4B%09XZ" % number, number, account)


class Connection:
    """A connection, with the requests that are due and not answered."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.due: deque[tuple[float, bytes]] = deque()
        self.is_busy = False
        self._received = b""

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self.socket.fileno()

    def send(self, data: bytes) -> None:
        """Send a request."""
        self.socket.sendall(data)
        self.is_busy = True

    def answer(self) -> bytes | None:
        """Return the answer that has come, None if it is not complete."""
        chunk = self.socket.recv(4096)
        if not chunk:
            raise ConnectionError("the server closed a connection")
        self._received += chunk
        if not self._received.endswith(_END):
            return None
        whole, self._received = self._received, b""
        self.is_busy = False
        return whole


def closed_loop(path: str, stage: str, first: int, seconds: float, accounts: int) -> Result:
    """Send as fast as answers come."""
    result = Result()
    connections = {connection.fileno(): connection for connection in (Connection(path) for _ in range(CONNECTIONS))}
    poller = select.epoll()
    number = first
    begin = time.perf_counter()
    for descriptor, connection in connections.items():
        poller.register(descriptor, select.EPOLLIN)
        connection.send(request(stage, number, accounts))
        number += 1
    busy = len(connections)
    while busy:
        is_over = time.perf_counter() - begin >= seconds
        events = poller.poll(PATIENCE_SECONDS)
        if not events:
            break
        for descriptor, _ in events:
            connection = connections[descriptor]
            answer = connection.answer()
            if answer is None:
                continue
            _note(result, answer)
            if is_over:
                busy -= 1
                continue
            connection.send(request(stage, number, accounts))
            number += 1
    result.unanswered = busy
    result.elapsed_seconds = time.perf_counter() - begin
    return result


def paced(path: str, stage: str, first: int, seconds: float, accounts: int, *, rate: float) -> Result:
    """Send so many requests a second, over the connections in turn."""
    result = Result()
    connections = [Connection(path) for _ in range(CONNECTIONS)]
    total = int(seconds * rate)
    requests = [request(stage, first + number, accounts) for number in range(total)]
    begin = time.perf_counter() + 0.1
    last_sending = begin + seconds + GRACE_SECONDS
    end = last_sending + PATIENCE_SECONDS
    number = 0
    while result.answers < total and (now := time.perf_counter()) < end:
        if now > last_sending and not any(connection.is_busy for connection in connections):
            break
        while number < total and begin + number / rate <= now:
            connection = connections[number % CONNECTIONS]
            connection.due.append((begin + number / rate, requests[number]))
            if not connection.is_busy:
                connection.send(connection.due[0][1])
            number += 1
        until_next = begin + number / rate - time.perf_counter() if number < total else 1.0
        # select() waits for microseconds, epoll for milliseconds.
        readable, _, _ = select.select([one for one in connections if one.is_busy], [], [], max(0.0, until_next))
        for connection in readable:
            answer = connection.answer()
            if answer is None:
                continue
            due_at, _ = connection.due.popleft()
            result.latencies.append((time.perf_counter() - due_at) * 1000)
            _note(result, answer)
            if connection.due and now <= last_sending:
                connection.send(connection.due[0][1])
    result.unanswered = total - result.answers
    result.elapsed_seconds = time.perf_counter() - begin
    return result


def _note(result: Result, answer: bytes) -> None:
    result.answers += 1
    action = answer.decode("utf-8", "replace").strip()
    result.actions[action] = result.actions.get(action, 0) + 1


def main() -> None:
    """Run what the argument describes."""
    order = json.loads(sys.argv[1])
    rate = order.pop("rate")
    path = order.pop("socket")
    order.setdefault("accounts", ACCOUNTS)
    result = paced(path, rate=rate, **order) if rate else closed_loop(path, **order)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
