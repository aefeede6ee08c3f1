"""The resolver of a process, asked many questions at once: who waits, how long, and who is refused."""

import threading

import pytest
from resolving import SECONDS, addresses, asked
from scripted_dns import TTL_SECONDS, Hanging, response

from deliverypools.adapters import resolver as resolver_module
from deliverypools.adapters.resolver import DnsServerFailure, DnsUnavailable
from deliverypools.lab.dns_server import DnsFailure, Slow
from deliverypools.lab.waiting import wait_until


@pytest.fixture
def hanging(script):
    """The address of a server that does not answer while the test runs."""
    answers = Hanging()
    yield script(answers).address
    answers.answer_all()


@pytest.fixture
def only_hanging(script):
    """The address of a server that does not answer about names below hanging.example while the test runs."""
    hanging = Hanging()

    def answers(wire, send):
        if b"hanging" in wire:
            hanging(wire, send)
        else:
            send(response(wire))

    yield script(answers).address
    hanging.answer_all()


class TestManyAtOnce:
    def test_equal_questions_are_asked_once(self, make_resolver, nameserver):
        nameserver.fail("a.example", Slow(0.3))
        resolver = make_resolver(timeout_seconds=5)
        futures = [resolver.start(resolver.look_up, "a.example", "A", SECONDS) for _ in range(30)]
        assert {tuple(addresses(future.result(SECONDS))) for future in futures} == {("198.51.100.1",)}
        assert asked(nameserver, "a.example") == ["A"]

    def test_who_gives_up_early_leaves_the_answer_to_the_next(self, make_resolver, nameserver):
        nameserver.fail("a.example", Slow(0.3))
        resolver = make_resolver(timeout_seconds=5)
        with pytest.raises(DnsUnavailable):
            resolver.look_up("a.example", "A", 0.01)
        assert addresses(resolver.look_up("a.example", "A", SECONDS)) == ["198.51.100.1"]
        assert asked(nameserver, "a.example") == ["A"]

    def test_only_some_wait_in_full_when_dns_hangs(self, make_resolver, hanging):
        resolver = make_resolver(hanging, timeout_seconds=60)
        answers = []
        callers = [
            threading.Thread(target=lambda n=n: answers.append(_outcome(resolver, f"{n}.example")), daemon=True)
            for n in range(40)
        ]
        for caller in callers:
            caller.start()
        wait_until(lambda: len(answers) == 24, timeout_seconds=SECONDS, what="the impatient give up")
        assert answers == ["timed out"] * 24
        assert resolver._patient == 16

    def test_name_that_failed_lately_is_not_waited_for_in_full(self, make_resolver, nameserver, clock):
        resolver = make_resolver(timeout_seconds=5)
        nameserver.fail("a.example", DnsFailure.SERVFAIL)
        assert _outcome(resolver, "a.example") == "SERVFAIL"
        clock.now += 31
        nameserver.fail("a.example", Slow(1.5))
        assert _outcome(resolver, "a.example") == "timed out"
        assert _outcome(resolver, "b.example").exists

    def test_too_many_questions_are_refused_at_once(self, make_resolver, hanging, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_QUEUED", 3)
        resolver = make_resolver(hanging, timeout_seconds=60)
        outcomes = [_outcome(resolver, f"{number}.example", 0) for number in range(4)]
        assert outcomes == ["timed out"] * 3 + ["too many questions under way"]

    def test_too_many_tasks_are_refused_at_once(self, make_resolver, monkeypatch):
        monkeypatch.setattr(resolver_module, "_MOST_QUEUED", 3)
        resolver = make_resolver()
        may_end = threading.Event()
        tasks = [resolver.start(may_end.wait, SECONDS) for _ in range(3)]
        with pytest.raises(DnsUnavailable, match="too many look-ups"):
            resolver.start(may_end.wait, SECONDS).result(0)
        may_end.set()
        assert all(task.result(SECONDS) for task in tasks)
        wait_until(lambda: resolver._tasks_under_way == 0, timeout_seconds=SECONDS, what="the tasks have ended")
        assert resolver.start(lambda: "again").result(SECONDS) == "again"

    def test_names_that_hang_hold_no_task(self, make_resolver, only_hanging):
        resolver = make_resolver(only_hanging, timeout_seconds=60)
        with pytest.raises(DnsServerFailure):  # it has nothing but addresses, which is as well known as a text
            resolver.start_txt("known.example").result(SECONDS)
        waiting = [resolver.start_txt(f"{number}.hanging.example") for number in range(300)]
        assert resolver._tasks_under_way == 0
        assert resolver.start_txt("known.example").done()
        assert resolver.start(lambda: "task").result(SECONDS) == "task"
        assert not any(future.done() for future in waiting)

    def test_names_that_had_an_answer_before_do_not_queue_behind_names_that_hang(
        self, make_resolver, only_hanging, clock, monkeypatch
    ):
        monkeypatch.setattr(resolver_module, "_QUESTION_THREADS", 1)
        monkeypatch.setattr(resolver_module, "_MOST_QUEUED", 2)
        resolver = make_resolver(only_hanging, timeout_seconds=60)
        assert addresses(resolver.look_up("known.example", "A", SECONDS)) == ["198.51.100.1"]
        clock.now += TTL_SECONDS + 1
        waiting = [resolver.start_txt(f"{number}.hanging.example") for number in range(2)]
        assert _outcome(resolver, "new.example") == "too many questions under way"
        assert addresses(resolver.look_up("known.example", "A", SECONDS)) == ["198.51.100.1"]
        assert resolver._familiar_under_way == 0
        assert not any(future.done() for future in waiting)

    def test_who_cancels_takes_nothing_from_the_others(self, make_resolver, nameserver):
        nameserver.fail("a.example", Slow(0.3))
        resolver = make_resolver(timeout_seconds=5)
        first, second = resolver.start_txt("a.example"), resolver.start_txt("a.example")
        assert first.cancel()
        assert len(second.result(SECONDS)) == 2
        assert asked(nameserver, "a.example") == ["TXT"]

    def test_failures_are_told_each_time(self, make_resolver, nameserver):
        nameserver.fail("a.example", DnsFailure.SERVFAIL)
        resolver = make_resolver()
        for _ in range(2):
            with pytest.raises(DnsServerFailure, match="SERVFAIL"):
                resolver.start_txt("a.example").result(SECONDS)
        assert asked(nameserver, "a.example") == ["TXT"]

    @pytest.mark.parametrize("name", ["", "a..b", "x" * 100_000])
    def test_what_is_no_name_has_no_texts(self, make_resolver, name):
        assert make_resolver().start_txt(name).result(0) == ()

    def test_who_waits_for_a_question_that_has_not_begun_hears_that_the_resolver_was_closed(
        self, make_resolver, hanging, monkeypatch
    ):
        monkeypatch.setattr(resolver_module, "_QUESTION_THREADS", 1)
        resolver = make_resolver(hanging, timeout_seconds=60)
        resolver.start_txt("a.example")
        queued = resolver.start_txt("b.example")
        resolver.close()
        with pytest.raises(DnsUnavailable, match="stopping"):
            queued.result(SECONDS)

    def test_a_closed_resolver_cannot_tell(self, make_resolver):
        resolver = make_resolver()
        resolver.close()
        assert _outcome(resolver, "a.example") == "stopping"
        with pytest.raises(DnsUnavailable, match="stopping"):
            resolver.start(lambda: None).result(0)
        with pytest.raises(DnsUnavailable, match="stopping"):
            resolver.start_txt("a.example").result(0)


def _outcome(resolver, name, seconds=60):
    try:
        return resolver.look_up(name, "A", seconds)
    except DnsUnavailable as error:
        return str(error)
