"""Metrics of the real daemons, as Prometheus asks for them: over all workers, whatever dies, whoever asks."""

import contextlib
import dataclasses
import http.client
import os
import signal
import socket
import threading

import pytest
from daemons import Daemon, Site
from mail import Mail, connected, received
from policy_client import ANSWER, Client
from prometheus_client.parser import text_string_to_metric_families as families

from deliverypools.core.facts import Ingress
from deliverypools.core.restrictions import Restriction
from deliverypools.lab.waiting import wait_until

MAIL = Mail()
LIMIT_SECONDS = 20


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Measured:
    """A site whose metrics are on, and how to read them."""

    def __init__(self, make_site, **changes):
        self.port = free_port()
        self.site = make_site(metrics={"listen": f"127.0.0.1:{self.port}"}, **changes)
        self.folder = self.site.folder / "metrics"

    def ask(self, method="GET", path="/metrics", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def values(self):
        status, _, body = self.ask()
        assert status == 200, body
        return {
            (sample.name.removeprefix("delivery_pools_"), *sorted(sample.labels.values())): sample.value
            for family in families(body.decode())
            for sample in family.samples
        }

    def value(self, name, *labels):
        return self.values().get((name, *sorted(labels)), 0.0)

    def wait_for(self, expected, name, *labels):
        def is_so():
            return self.value(name, *labels) == expected

        wait_until(is_so, timeout_seconds=LIMIT_SECONDS, what=f"{name}{labels} is {expected}")


@pytest.fixture
def measured(make_site, start):
    """A site with both daemons."""

    def make(**changes):
        made = Measured(make_site, **changes)
        made.milter, made.policy = start("milter", made.site), start("policy", made.site)
        made.policy.wait_for_log("metrics at http://127.0.0.1:")
        return made

    return make


@pytest.fixture(scope="module")
def shared(stack, tmp_path_factory):
    """A policy service that all hostile clients talk to."""
    site = Measured(lambda **changes: Site(tmp_path_factory.mktemp("site"), **changes))
    stack.callback(site.site.dns.stop)
    daemon = Daemon("policy", site.site)
    stack.callback(daemon.end)
    daemon.wait_for_log("metrics at")
    return site


def submit(site, times=1):
    """Send a message through both passes, so many times."""
    for _ in range(times):
        with connected(site.site.milter_socket, "SUBMISSION", "198.51.100.7") as client:
            outcome = MAIL.through(client, sasl_username="alice")
        with connected(site.site.milter_socket, "EGRESS") as client:
            assert MAIL.after(outcome).below(received()).through(client).reply == b"c"


class TestNumbers:
    def test_both_passes_of_all_workers(self, measured):
        site = measured(milter={"workers": 3})
        threads = [threading.Thread(target=submit, args=(site, 4)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Each worker tells its own, one after the other.
        for expected, *of in (
            (12, "decisions_total", "egress", "normal", "default"),
            (12, "messages_total", "submission"),
            (12, "replies_total", "continue", "first"),
            (12, "replies_total", "continue", "egress"),
            (12, "end_of_message_seconds_count", "egress"),
            (12, "waited_seconds_count", "decided"),
            (24, "state_seconds_count", "record"),
        ):
            site.wait_for(expected, *of)
        body = site.ask()[2]
        for word in (b"alice", b"example", b"Minutes", b"198.51.100"):
            assert word not in body
        values = site.values()
        assert values["waited_seconds_bucket", "10.0", "decided"] == 12
        assert values["dns_seconds_count", "found"] >= 1
        assert values["processes", "worker"] == 3
        assert values["processes", "policy"] == 1
        assert values["state_up",] == 1

    def test_what_waits_and_why(self, measured):
        site = measured()
        with connected(site.site.milter_socket, "EGRESS") as client:
            assert MAIL.below(received(600)).through(client).text.startswith("451 4.7.1")
        site.wait_for(1, "decisions_total", "egress", "undecided", "undecided")
        values = site.values()
        assert values["tickets_refused_total", "missing"] == 1
        assert values["replies_total", "egress", "tempfail"] == 1
        assert values["waited_seconds_sum", "undecided"] == pytest.approx(600, abs=60)

    def test_what_the_policy_service_answers(self, measured):
        site = measured()
        with site.site.opened_state() as state:
            state.restrict(
                Restriction(account="bob", ingress=Ingress.SUBMISSION, since=1.0, until=None, reason="a test"),
                by_hand=True,
            )
        with Client(site.site.policy_socket) as client:
            assert client.ask(sasl_username="alice") == ANSWER
            assert client.ask(sasl_username="bob").startswith(b"action=550 5.7.1")
            assert client.ask(protocol_state="ANYTHING", sasl_username="carol") == ANSWER
        values = site.values()
        assert values["policy_answers_total", "END-OF-MESSAGE", "dunno"] == 1
        assert values["policy_answers_total", "END-OF-MESSAGE", "reject"] == 1
        assert values["policy_answers_total", "dunno", "other"] == 1
        assert values["policy_seconds_count", "END-OF-MESSAGE"] == 2
        assert values["restrictions", "by_hand"] == 1

    def test_limits(self, measured):
        site = measured(limits={"recipients_per_message": 1})
        with connected(site.site.milter_socket, "SUBMISSION") as client:
            many = dataclasses.replace(MAIL, recipients=(b"<a@example.net>", b"<b@example.net>"))
            assert many.through(client, sasl_username="alice").reply == b"c"
        site.wait_for(1, "over_limit_total", "recipients_per_message")


class TestProcesses:
    def test_counters_never_go_back(self, measured):
        site = measured()
        submit(site, 3)
        site.wait_for(3, "decisions_total", "egress", "normal", "default")
        for worker in site.milter.workers:
            os.kill(worker, signal.SIGKILL)
        site.wait_for(2, "worker_ends_total", "signal")
        assert site.value("decisions_total", "egress", "normal", "default") == 3
        submit(site)
        site.wait_for(4, "decisions_total", "egress", "normal", "default")

    def test_reloads_leave_no_files(self, measured):
        site = measured()
        submit(site)
        for reloads in range(1, 4):
            site.milter.signal(signal.SIGHUP)
            wait_until(
                lambda count=reloads: site.milter.log.count("settings reloaded") == count,
                timeout_seconds=LIMIT_SECONDS,
                what="reloaded",
            )
        site.wait_for(1, "decisions_total", "egress", "normal", "default")
        site.wait_for(2, "processes", "worker")
        wait_until(
            lambda: site.values() and len(list(site.folder.glob("*.json"))) <= 5,
            timeout_seconds=LIMIT_SECONDS,
            what="five files: two workers, the master, the policy service, and those that ended",
        )

    def test_a_policy_service_that_starts_again_knows_what_was_counted(self, measured, start):
        site = measured()
        submit(site, 2)
        site.wait_for(2, "decisions_total", "egress", "normal", "default")
        site.policy.signal(signal.SIGTERM)
        assert site.policy.wait() == 0
        site.milter.signal(signal.SIGTERM)
        assert site.milter.wait() == 0
        start("policy", site.site).wait_for_log("metrics at")
        assert site.value("decisions_total", "egress", "normal", "default") == 2
        assert site.value("processes", "worker") == 0

    def test_off(self, make_site, start):
        site = make_site()
        start("milter", site)
        start("policy", site)
        assert not (site.folder / "metrics").exists()


class TestTrouble:
    def test_mail_goes_on_without_a_folder_and_when_it_is_removed(self, make_site, start):
        site = Measured(make_site)
        site.folder.write_text("in the way")
        site.milter, policy = start("milter", site.site), start("policy", site.site)
        submit(site)
        policy.wait_for_log("metrics at")
        status, _, body = site.ask()
        assert (status, body) == (503, b"Service Unavailable. Metrics are at /metrics\n")
        assert "metrics cannot be handed on" in site.milter.log
        site.folder.unlink()
        submit(site)
        wait_until(lambda: site.ask()[0] == 200, timeout_seconds=LIMIT_SECONDS, what="the folder was made")
        site.wait_for(2, "decisions_total", "egress", "normal", "default")
        site.folder.rename(site.folder.with_name("removed"))
        submit(site)
        wait_until(lambda: site.ask()[0] == 200, timeout_seconds=LIMIT_SECONDS, what="the folder was made again")
        site.wait_for(1, "decisions_total", "egress", "normal", "default")

    def test_an_address_in_use_is_reported_and_the_service_goes_on(self, make_site, start):
        site = Measured(make_site)
        with socket.create_server(("127.0.0.1", site.port)):
            policy = start("policy", site.site)
            policy.wait_for_log("no metrics: ")
            with Client(site.site.policy_socket) as client:
                assert client.ask() == ANSWER

    def test_the_state_that_is_down(self, measured):
        site = measured()
        database = site.site.folder / "state.db"
        for path in site.site.folder.glob("state.db*"):
            path.unlink(missing_ok=True)
        database.mkdir()
        site.wait_for(0, "state_up")
        assert sum(value for (name, *_), value in site.values().items() if name == "state_failures_total") > 0


class TestHostileClients:
    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"GET /metrics HTTP/1.1\r\n\r\n", 200),
            (b"GET /metrics?x=1 HTTP/1.0\n\n", 200),
            (b"GET /metrics HTTP/1.1\r\nAccept: " + b"application/openmetrics-text;q=,;;" * 100 + b"\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\n\r\n", 404),
            (b"GET /../metrics HTTP/1.1\r\n\r\n", 404),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
            (b"GET /metrics\r\n\r\n", 400),
            (b"\r\n\r\n", 400),
            (b"\xff\x00 /metrics HTTP/1.1\r\n\r\n", 405),
            (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 8200, 431),
            (b"x" * 8193, 431),
            (b"GET /metrics HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", 200),
        ],
    )
    def test_one_request_one_answer(self, shared, sent, status):
        with socket.create_connection(("127.0.0.1", shared.port), LIMIT_SECONDS) as client:
            client.sendall(sent)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert answer.count(b"HTTP/1.1 ") == 1

    def test_head_has_no_body(self, shared):
        status, headers, body = shared.ask("HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 1000

    def test_openmetrics(self, shared):
        _, headers, body = shared.ask(Accept="application/openmetrics-text; version=1.0.0")
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")

    def test_a_request_byte_by_byte(self, shared):
        with socket.create_connection(("127.0.0.1", shared.port), LIMIT_SECONDS) as client:
            for byte in b"GET /metrics HTTP/1.1\r\n\r\n":
                client.sendall(bytes([byte]))
            assert client.recv(12) == b"HTTP/1.1 200"
