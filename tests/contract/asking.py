"""The scanners of a process with invented clients, for the tests of whoever asks them."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from deliverypools.adapters.scanning.scanners import Scanners
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer, ScanVerdict
from deliverypools.core.settings import Settings
from deliverypools.lab.waiting import wait_until

RSPAMD, SPAMD, CLAMD = Scanner.RSPAMD, Scanner.SPAMD, Scanner.CLAMD
MESSAGE = b"Subject: hello\n\nhello\n"
ENVELOPE = ScanEnvelope(
    queue_id="4ckz3y1Qz0z1",
    envelope_sender="alice@example.org",
    recipients=("bob@example.net",),
    sasl_username="alice",
    client_address="203.0.113.9",
    helo_name="client.example.org",
    hostname="mail.example.org",
)
LONG = 60.0
SHORT = 0.2
POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}


def make_settings(*, at_once=4, workers=1, **spam):
    usual = {"rspamd": "http://127.0.0.1:11333", "spamd": "127.0.0.1:783", "clamd": "unix:/run/clamd.ctl"}
    return Settings.model_validate(
        {
            "accepted_domains": ["example.org"],
            "pools": POOLS,
            "milter": {"workers": workers},
            "alerts": {"mail_to": ["postmaster@example.org"]},
            "spam": usual | {"scans_at_once": at_once} | spam,
        }
    )


def ham(scanner, score=0.5):
    return ScannerAnswer(scanner=scanner, verdict=ScanVerdict.HAM, score=score, symbols=("R_SPF_ALLOW -0.2",))


class InventedClient:
    """Answers what it is told to, and blocks while it is told to."""

    def __init__(self, scanner, answer=None):
        self.answer = answer or ham(scanner)
        self.asked = []
        self.deadlines = []
        self.is_closed = False
        self._free = threading.Event()
        self._free.set()
        self._lock = threading.Lock()
        self._inside = 0
        self.most_inside = 0

    def ask(self, content, envelope, deadline):
        with self._lock:
            self.asked.append((bytes(content), envelope))
            self.deadlines.append(deadline)
            self._inside += 1
            self.most_inside = max(self.most_inside, self._inside)
        try:
            self._free.wait(LONG)
        finally:
            with self._lock:
                self._inside -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self):
        self.is_closed = True

    def block(self):
        self._free.clear()

    def go_on(self):
        self._free.set()

    def has_begun(self, count=1):
        wait_until(lambda: len(self.asked) >= count, timeout_seconds=20, what=f"question {count} has begun")


def scan(scanners, wanted=(RSPAMD,), content=MESSAGE, envelope=ENVELOPE, seconds=LONG):
    return scanners.scan(wanted, content, envelope, seconds)


def verdicts(found):
    return {answer.scanner: answer.verdict for answer in found.answers}


def numbered(number):
    return MESSAGE + b"%d" % number


@contextlib.contextmanager
def processes(state, clients, clock):
    """Yield what makes the scanners of a process, with the same clients for all; at the end they are closed."""
    made = []

    def make(settings=None, **values):
        usual = {"state": state, "clients": clients, "clock": clock, "epoch_clock": clock}
        made.append(Scanners(settings or make_settings(), **usual | values))
        return made[-1]

    try:
        yield make
    finally:
        free(clients)
        for scanners in made:
            scanners.close()


@contextlib.contextmanager
def callers(clients):
    """Yield threads to ask from; at the end no client blocks them any more."""
    with ThreadPoolExecutor(32) as executor:
        try:
            yield executor
        finally:
            free(clients)


def free(clients):
    for client in clients.values():
        client.go_on()
