"""Look-ups of sender domains, asked of a real DNS server on loopback."""

import contextlib
import functools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from deliverypools.adapters.sender_domains import LAST_KNOWN_SECONDS, SenderDomains
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.core.facts import Answer, Finding
from deliverypools.core.settings import Settings
from deliverypools.lab.dns_server import DnsFailure, DnsServer, Slow
from deliverypools.lab.waiting import wait_until

POOLS = {
    name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
    for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
ZONES = {
    "mx.example": {"MX": ["10 mail.mx.example."]},
    "a.example": {"A": ["198.51.100.1"]},
    "aaaa.example": {"AAAA": ["2001:db8::1"]},
    "null-mx.example": {"MX": ["0 ."]},
    "null-mx-and-a.example": {"MX": ["0 ."], "A": ["198.51.100.1"]},
    "null-and-other-mx.example": {"MX": ["0 .", "10 mail.mx.example."]},
    "nothing.example": {"TXT": ['"v=spf1 -all"']},
    "alias.example": {"CNAME": ["mx.example."]},
    "alias-to-nowhere.example": {"CNAME": ["nowhere.invalid."]},
    "example.org": {"MX": ["10 mx.example.org."]},
    "xn--bcher-kva.example": {"MX": ["10 mail.mx.example."]},
}


class InventedClock:
    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


class Dns(DnsServer):
    """The lab's server, on a free port; one record type of a name may fail, and answers may be kept back."""

    def __init__(self):
        super().__init__(ZONES)
        self.queries = []
        self.failing_types = {}
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.start("127.0.0.1", 0)
        self.port = self._servers[0].server_address[1]

    def answer(self, wire):
        question = dns.message.from_wire(wire).question[0]
        self.queries.append(dns.rdatatype.to_text(question.rdtype))
        self.may_answer.wait(10)
        failure = self.failing_types.get(dns.rdatatype.to_text(question.rdtype))
        if failure is DnsFailure.TIMEOUT:
            return None
        if failure is DnsFailure.SERVFAIL:
            response = dns.message.make_response(dns.message.from_wire(wire))
            response.set_rcode(dns.rcode.SERVFAIL)
            return response.to_wire()
        return super().answer(wire)

    def times_asked(self, domain):
        return sum(name == domain for name, _ in self.asked)


@pytest.fixture
def dns_server():
    server = Dns()
    yield server
    server.may_answer.set()
    server.stop()


@pytest.fixture
def clock():
    return InventedClock()


@pytest.fixture
def domains(dns_server, clock, tmp_path):
    """Make SenderDomains, each without anything in its cache, all with the same state."""
    with contextlib.ExitStack() as stack:
        state = SQLiteState(str(tmp_path / "state.db"), clock)
        stack.callback(state.close)

        def make(**dns):
            nameservers = [f"127.0.0.1:{dns_server.port}"]
            settings = Settings.model_validate(
                {
                    "accepted_domains": ["example.org"],
                    "pools": POOLS,
                    "dns": {"nameservers": nameservers, "timeout_seconds": 0.5, "servfail_cache_seconds": 30} | dns,
                }
            )
            made = SenderDomains(settings, state, clock)
            stack.callback(made.close)
            return made

        yield make


def look_up(domains, domain):
    return domains.wait(domains.start(domain), domain)


@pytest.mark.parametrize(
    ("domain", "answer", "evidence"),
    [
        ("mx.example", Answer.YES, "mx.example: has MX"),
        ("a.example", Answer.YES, "a.example: has A"),
        ("aaaa.example", Answer.YES, "aaaa.example: has AAAA"),
        ("null-mx.example", Answer.NO, "null-mx.example: neither MX nor A nor AAAA"),
        ("null-mx-and-a.example", Answer.YES, "null-mx-and-a.example: has A"),
        ("null-and-other-mx.example", Answer.YES, "null-and-other-mx.example: has MX"),
        ("nothing.example", Answer.NO, "nothing.example: neither MX nor A nor AAAA"),
        ("alias.example", Answer.YES, "alias.example: has MX"),
        ("nowhere.invalid", Answer.NO, "nowhere.invalid: no such domain (NXDOMAIN)"),
        ("alias-to-nowhere.example", Answer.NO, "alias-to-nowhere.example: no such domain (NXDOMAIN)"),
        ("xn--bcher-kva.example", Answer.YES, "xn--bcher-kva.example: has MX"),
        ("", Answer.NO, "(none): not a domain name"),
        (".", Answer.NO, ".: not a domain name"),
        ("a..b", Answer.NO, "a..b: not a domain name"),
        ("x" * 64 + ".example", Answer.NO, "x" * 64 + ".example: not a domain name"),
        ("\udcff.example", Answer.NO, "?.example: not a domain name"),
    ],
)
def test_what_dns_says(domains, domain, answer, evidence):
    assert look_up(domains(), domain) == Finding(answer, evidence)


def test_servfail_is_unknown(domains, dns_server):
    dns_server.fail("mx.example", DnsFailure.SERVFAIL)
    finding = look_up(domains(), "mx.example")
    assert finding.answer is Answer.UNKNOWN
    assert finding.evidence == "mx.example: DNS cannot tell (MX SERVFAIL, A SERVFAIL, AAAA SERVFAIL)"


def test_time_out_is_unknown(domains, dns_server):
    dns_server.fail("mx.example", DnsFailure.TIMEOUT)
    finding = look_up(domains(), "mx.example")
    assert finding.answer is Answer.UNKNOWN
    assert finding.evidence == "mx.example: DNS cannot tell (MX timed out, A timed out, AAAA timed out)"


def test_a_resolver_that_is_not_there_is_unknown(domains, dns_server):
    dns_server.stop()
    assert look_up(domains(), "mx.example").answer is Answer.UNKNOWN


def test_servfail_for_mx_but_an_address_is_yes(domains, dns_server):
    dns_server.failing_types = {"MX": DnsFailure.SERVFAIL}
    assert look_up(domains(), "a.example") == Finding(Answer.YES, "a.example: has A")


def test_servfail_for_the_address_but_an_mx_is_yes(domains, dns_server):
    dns_server.failing_types = {"A": DnsFailure.SERVFAIL, "AAAA": DnsFailure.SERVFAIL}
    assert look_up(domains(), "mx.example").answer is Answer.YES


def test_servfail_for_the_address_without_an_mx_is_unknown(domains, dns_server):
    dns_server.failing_types = {"AAAA": DnsFailure.SERVFAIL}
    finding = look_up(domains(), "nothing.example")
    assert finding == Finding(Answer.UNKNOWN, "nothing.example: DNS cannot tell (AAAA SERVFAIL)")


def test_a_server_that_hangs_leaves_time_for_the_next(domains, dns_server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        both = [f"127.0.0.1:{silent.getsockname()[1]}", f"127.0.0.1:{dns_server.port}"]
        assert look_up(domains(nameservers=both, timeout_seconds=3), "mx.example").answer is Answer.YES


def test_an_answer_is_asked_once(domains, dns_server):
    asked = domains()
    assert [look_up(asked, "mx.example").answer for _ in range(3)] == [Answer.YES] * 3
    assert dns_server.times_asked("mx.example") == 1


def test_a_failure_is_remembered_for_its_time(domains, dns_server, clock):
    asked = domains()
    dns_server.fail("mx.example", DnsFailure.SERVFAIL)
    first = look_up(asked, "mx.example")
    questions = dns_server.times_asked("mx.example")
    dns_server.fail("mx.example", None)
    clock.now += 29
    assert look_up(asked, "mx.example") == first
    assert dns_server.times_asked("mx.example") == questions
    clock.now += 2
    assert look_up(asked, "mx.example").answer is Answer.YES


def test_many_at_once_ask_once(domains, dns_server):
    asked = domains(timeout_seconds=5)
    dns_server.may_answer.clear()
    futures = [asked.start("mx.example") for _ in range(20)]
    dns_server.may_answer.set()
    assert {asked.wait(future, "mx.example").answer for future in futures} == {Answer.YES}
    assert dns_server.times_asked("mx.example") == 1


def test_a_slow_domain_does_not_hold_up_another(domains, dns_server):
    asked = domains(timeout_seconds=2)
    dns_server.fail("a.example", DnsFailure.TIMEOUT)
    slow = asked.start("a.example")
    assert look_up(asked, "mx.example").answer is Answer.YES
    assert not slow.done()


class TestLastKnownAnswer:
    def test_serves_an_accepted_domain_while_dns_fails(self, domains, dns_server):
        known = look_up(domains(), "example.org")
        dns_server.fail("example.org", DnsFailure.SERVFAIL)
        assert look_up(domains(), "example.org") == known

    def test_serves_for_a_week(self, domains, dns_server, clock):
        look_up(domains(), "example.org")
        dns_server.fail("example.org", DnsFailure.SERVFAIL)
        clock.now += LAST_KNOWN_SECONDS - 1
        assert look_up(domains(), "example.org").answer is Answer.YES
        clock.now += 2
        assert look_up(domains(), "example.org").answer is Answer.UNKNOWN

    def test_serves_no_other_domain(self, domains, dns_server):
        look_up(domains(), "mx.example")
        dns_server.fail("mx.example", DnsFailure.SERVFAIL)
        assert look_up(domains(), "mx.example").answer is Answer.UNKNOWN

    def test_does_not_stand_against_a_true_answer(self, domains, dns_server):
        look_up(domains(), "example.org")
        dns_server.remove("example.org")
        assert look_up(domains(), "example.org").answer is Answer.NO

    def test_a_state_that_fails_does_not_hinder_the_answer(self, domains, tmp_path):
        (tmp_path / "state.db").mkdir()
        assert look_up(domains(), "example.org").answer is Answer.YES


@pytest.mark.parametrize("domain", ["mx.example", "nothing.example", "nowhere.invalid", ""])
def test_a_look_up_that_ends_at_once_blocks_nobody(domains, domain):
    asked = domains()
    for rdtype in ("MX", "A", "AAAA"):  # From now on all of it comes back in the thread that asks.
        asked._resolver.look_up(domain, rdtype, 10)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(look_up(asked, domain)), daemon=True)
    thread.start()
    thread.join(10)
    assert [finding.answer for finding in answers] == [Answer.YES if domain == "mx.example" else Answer.NO]


class TestSlowServer:
    def test_two_seconds_for_each_answer_are_in_time(self, domains, dns_server):
        dns_server.fail(".", Slow(2.0))
        asked = domains(timeout_seconds=5)
        names = ("mx.example", "a.example", "aaaa.example", "nothing.example")
        with ThreadPoolExecutor() as messages:
            found = messages.map(functools.partial(look_up, asked), names)
            assert [finding.answer for finding in found] == [Answer.YES, Answer.YES, Answer.YES, Answer.NO]

    def test_other_types_are_not_asked_while_nobody_waits(self, domains, dns_server):
        asked = domains(timeout_seconds=10)
        dns_server.may_answer.clear()
        future = asked.start("mx.example")
        wait_until(lambda: dns_server.queries == ["MX"], timeout_seconds=10, what="the question")
        dns_server.may_answer.set()
        assert future.result(10).answer is Answer.YES
        assert dns_server.queries == ["MX"]

    def test_other_types_are_asked_beside_mx_when_a_message_waits(self, domains, dns_server):
        dns_server.failing_types = {"MX": DnsFailure.TIMEOUT}
        asked = domains(timeout_seconds=30)
        assert look_up(asked, "a.example") == Finding(Answer.YES, "a.example: has A")

    def test_no_such_domain_is_believed_when_mx_has_answered_too(self, domains, dns_server):
        dns_server.fail("mx.example", DnsFailure.NXDOMAIN, "A")
        dns_server.fail("mx.example", Slow(0.6), "MX")
        assert look_up(domains(timeout_seconds=5), "mx.example").answer is Answer.YES

    def test_what_nobody_waited_for_serves_the_next_message(self, domains, dns_server):
        dns_server.fail("a.example", Slow(0.4))
        asked = domains(timeout_seconds=5)
        assert asked.start("a.example").result(10).answer is Answer.YES
        questions = dns_server.times_asked("a.example")
        assert asked.start("a.example").result(0).answer is Answer.YES
        assert dns_server.times_asked("a.example") == questions


def test_an_error_of_ours_reaches_who_waits_and_the_domain_is_asked_again(domains, dns_server, monkeypatch):
    asked = domains()

    def break_down(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(asked._state, "remember_sender_domain", break_down)
        with pytest.raises(ZeroDivisionError):
            look_up(asked, "example.org")
    assert look_up(asked, "example.org").answer is Answer.YES
