"""What the dispatcher talks to in tests: a clock, a program in the place of sendmail(1), a webhook."""

import email
import email.policy
import http.server
import json
import threading
import time
from pathlib import Path

from cryptography.fernet import Fernet

from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.state import StateUnavailable
from deliverypools.lab.waiting import wait_until

SEALER = TicketSealer([Fernet.generate_key()])
SECONDS = 20
DAY = 86_400
SECRET = "hook-secret"
SENDMAIL = """\
#!/bin/sh
call=$(mktemp -d "$0.calls/XXXXXXXX")
printf '%s\\0' "$@" > "$call/argv"
cat > "$call/stdin"
mv "$call" "$call.done"
while [ -e "$0.hangs" ]; do sleep 0.05; done
if [ -e "$0.fails" ]; then echo "mail system is down" >&2; exit 75; fi
"""


class Clock:
    """The time of day, with what a test adds to it."""

    ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


class Mailer:
    """A program in the place of sendmail(1): writes down what it is given, and fails or hangs when told so."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sendmail"
        self.path.write_text(SENDMAIL)
        self.path.chmod(0o755)
        self._calls = folder / "sendmail.calls"
        self._calls.mkdir()
        self.fails = folder / "sendmail.fails"
        self.hangs = folder / "sendmail.hangs"

    @property
    def calls(self):
        """Arguments and message of each call, oldest first."""
        done = sorted(self._calls.glob("*.done"), key=lambda call: call.stat().st_mtime_ns)
        return [((call / "argv").read_text().split("\0")[:-1], (call / "stdin").read_bytes()) for call in done]

    def wait_for(self, count):
        wait_until(lambda: len(self.calls) >= count, timeout_seconds=SECONDS, what=f"{count} calls of sendmail")
        return [email.message_from_bytes(content, policy=email.policy.default) for _, content in self.calls]


class Hook(http.server.ThreadingHTTPServer):
    """A webhook that answers with `statuses`, one after the other, the last one for ever; None: not at all."""

    daemon_threads = True

    def __init__(self, *statuses, drips=False):
        self.statuses = list(statuses)
        self.drips = drips
        self.requests = []
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", 0), HookHandler)
        self.url = f"http://user:{SECRET}@127.0.0.1:{self.server_address[1]}/{SECRET}?{SECRET}=ü"

    def wait_for(self, count):
        wait_until(lambda: len(self.requests) >= count, timeout_seconds=SECONDS, what=f"{count} requests")
        return self.requests

    def handle_error(self, *_):
        """A client that goes away is what some tests are about."""


class HookHandler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        hook = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = hook.statuses.pop(0) if len(hook.statuses) > 1 else hook.statuses[0]
        hook.requests.append((self.path, dict(self.headers), json.loads(body)))
        if status is None:
            hook.ended.wait()
            return
        if hook.drips:
            self.wfile.write(b"HTTP/1.0 200 ")
            while not hook.ended.wait(0.05):
                self.wfile.write(b"x")
            return
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", f"http://127.0.0.1:{hook.server_address[1]}/elsewhere")
        self.end_headers()
        self.wfile.write(b"thank you" * 10_000)

    do_GET = do_POST  # noqa: N815  (what a redirect would be followed with)

    def log_message(self, *_):
        pass


class Failing:
    """A state some of whose methods fail."""

    def __init__(self, state):
        self._state = state
        self.methods = set()
        self.failures = 0

    def __getattr__(self, name):
        if name in self.methods:
            self.failures += 1
            raise StateUnavailable("the disk is gone")
        return getattr(self._state, name) if name != "close" else lambda: None


def due_times(state):
    """When each notice in the outbox of an SQLite state is due again: also those that are being sent, or put off."""
    with state._file.reading() as connection:
        return [due_at for (due_at,) in connection.execute("SELECT due_at FROM notices")]


def wait_until_nothing_is_left(state):
    wait_until(lambda: not due_times(state), timeout_seconds=SECONDS, what="an empty outbox")


def wait_for_log(caplog, text, count=1):
    wait_until(lambda: caplog.text.count(text) >= count, timeout_seconds=SECONDS, what=f"{text!r} in the log")
