"""The three kinds of scanners as a scripted server plays them: what a question ends with, and what the answer is."""

import contextlib
import time

from deliverypools.adapters.scanning.clamd_client import ClamdClient
from deliverypools.adapters.scanning.rspamd_client import RspamdClient
from deliverypools.adapters.scanning.spamd_client import SpamdClient
from deliverypools.core.scanning.answers import ScanEnvelope

MESSAGE = b"Subject: hello\n\nhello\nthe end\n"
LARGE = b"Subject: hello\n\n" + b"hello\n" * 2_000_000 + b"the end\n"
ENVELOPE = ScanEnvelope(envelope_sender="alice@example.org", recipients=("bob@example.net",), sasl_username="alice")
SOON, LATE = 0.3, 20.0

RSPAMD_BODY = b'{"is_skipped":false,"score":7.5,"required_score":15.0,"action":"add header","symbols":{}}'
RSPAMD_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
SPAMD_ANSWER = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\nSpam: True ; 7.5 / 5.0\r\n\r\nGTUBE"


def http_answer(body, head=RSPAMD_HEAD):
    return head % len(body) + body


class Kind:
    """One scanner: its client, what ends a request, and what it answers."""

    def __init__(self, name, client, *, end_of_request, answer, clean, end_of_ping, pong):
        self.name = name
        self.client = client
        self.end_of_request = end_of_request
        self.answer = answer
        self.clean = clean
        self.end_of_ping = end_of_ping
        self.pong = pong

    def __repr__(self):
        return self.name


RSPAMD = Kind(
    "rspamd",
    lambda server: RspamdClient(f"http://{server.address}", None),
    end_of_request=b"the end\n",
    answer=http_answer(RSPAMD_BODY),
    clean=http_answer(RSPAMD_BODY.replace(b"add header", b"no action")),
    end_of_ping=b"\r\n\r\n",
    pong=http_answer(b"pong\r\n"),
)
SPAMD = Kind(
    "spamd",
    lambda server: SpamdClient(server.address, None),
    end_of_request=b"the end\n",
    answer=SPAMD_ANSWER,
    clean=SPAMD_ANSWER.replace(b"True", b"False"),
    end_of_ping=b"\r\n\r\n",
    pong=b"SPAMD/1.5 0 PONG\r\n",
)
CLAMD = Kind(
    "clamd",
    lambda server: ClamdClient(server.address),
    end_of_request=b"the end\n\0\0\0\0",
    answer=b"1: stream: Lab.Test FOUND\0",
    clean=b"1: stream: OK\0",
    end_of_ping=b"zPING\0",
    pong=b"1: PONG\0",
)
KINDS = [RSPAMD, SPAMD, CLAMD]


def in_time(seconds=LATE):
    return time.monotonic() + seconds


def after_request(kind, *says):
    """A script: hear the request, then do what is wanted."""

    def script(conversation):
        conversation.hear_all_of(kind.end_of_request)
        for say in says:
            say(conversation)

    return script


def answer_questions(kind, conversation, most):
    """Answer that many questions of a connection, the numbers of clamd's as they should be."""
    for number in range(1, most + 1):
        conversation.hear_all_of(kind.end_of_request)
        conversation.say(kind.answer.replace(b"1: ", b"%d: " % number))


def ask(kind, server, content=MESSAGE, seconds=LATE):
    """Ask a server by a client of its own."""
    with contextlib.closing(kind.client(server)) as client:
        return client.ask(content, ENVELOPE, in_time(seconds))
