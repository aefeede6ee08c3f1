"""Connections and batches of the policy service in this process, with short times: who is waited for, and how long."""

import asyncio
import contextlib
import threading
import time
from ipaddress import ip_address

import pytest

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Ingress
from deliverypools.policy import batches, connections
from deliverypools.policy.backscatter import Suspect
from deliverypools.policy.batches import Batches
from deliverypools.policy.connections import Connections
from deliverypools.policy.service import DUNNO, Question
from deliverypools.policy.wire import POLICY

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\n\n"
ANSWER = b"action=DUNNO\n\n"
SECONDS = 10


@contextlib.asynccontextmanager
async def serving(path, ask, most=10, wire=POLICY):
    loop = asyncio.get_running_loop()
    kept = Connections(most)
    server = await loop.create_unix_server(kept.serving(wire, ask), path)
    try:
        yield kept
    finally:
        kept.close()
        server.close()


def at_once(request, reply):
    asyncio.get_running_loop().call_soon(reply, DUNNO)


async def answered(reader):
    return await asyncio.wait_for(reader.readuntil(b"\n\n"), SECONDS)


async def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def count(answers):
    return sum(map(len, answers.values()))


async def is_closed(reader):
    return await asyncio.wait_for(reader.read(), SECONDS) == b""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "_SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(connections, "_YIELDS_AFTER_SECONDS", 0.0)
    return str(tmp_path / "policy.sock")


@pytest.mark.parametrize(
    ("setting", "begun"),
    [("_REQUEST_SECONDS", b"request=smtpd_acc"), ("_REQUEST_SECONDS", REQUEST + b"r"), ("_IDLE_SECONDS", b"")],
    ids=["half a request", "an answer, then half a request", "nothing"],
)
def test_a_connection_that_keeps_us_waiting_is_closed(path, monkeypatch, setting, begun):
    monkeypatch.setattr(connections, setting, 0.1)

    async def scenario():
        async with serving(path, at_once):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(begun)
            if REQUEST in begun:
                assert await answered(reader) == ANSWER
            assert await is_closed(reader)
            writer.close()

    asyncio.run(scenario())


def test_whoever_waits_for_an_answer_is_neither_idle_nor_late(path, monkeypatch):
    async def scenario():
        replies = []
        async with serving(path, lambda request, reply: replies.append(reply), most=1):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST + b"the next one is begun")
            await until(lambda: replies)
            monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.1)
            monkeypatch.setattr(connections, "_REQUEST_SECONDS", 0.1)
            # The only place is taken by one that waits for us.
            other, closing = await asyncio.open_unix_connection(path)
            assert await is_closed(other)
            closing.close()
            idle, impatient = await asyncio.open_unix_connection(path)
            assert await is_closed(idle)
            impatient.close()
            replies[0](DUNNO)
            assert await answered(reader) == ANSWER
            writer.close()

    asyncio.run(scenario())


def test_a_new_connection_takes_the_place_of_the_one_that_is_idle_longest(path):
    async def scenario():
        async with serving(path, at_once, most=2):
            first, second = [await asyncio.open_unix_connection(path) for _ in range(2)]
            for reader, writer in (second, first):
                writer.write(REQUEST)
                assert await answered(reader) == ANSWER
            third = await asyncio.open_unix_connection(path)
            assert await is_closed(second[0])
            for reader, writer in (first, third):
                writer.write(REQUEST)
                assert await answered(reader) == ANSWER
            for _, writer in (first, second, third):
                writer.close()

    asyncio.run(scenario())


def test_a_client_that_does_not_read_its_answers_is_closed_and_takes_no_memory(path, monkeypatch):
    monkeypatch.setattr(connections, "_REQUEST_SECONDS", 0.3)
    asked = 0

    def ask(request, reply):
        nonlocal asked
        asked += 1
        at_once(request, lambda _: reply("x" * 10_000))

    async def scenario():
        async with serving(path, ask):
            _, writer = await asyncio.open_unix_connection(path, limit=1)
            with contextlib.suppress(OSError):
                while not writer.is_closing():
                    writer.write(REQUEST * 1000)
                    await asyncio.wait_for(writer.drain(), SECONDS)
            writer.close()

    asyncio.run(scenario())
    # Some kilobytes of answers in the kernel and as many here: not one for each request that was sent.
    assert asked < 1000


# ---- batches


class Service:
    """Answers when it is let; notes what was asked together."""

    def __init__(self):
        self.go_on = threading.Event()
        self.together = []
        self.looked_up = asyncio.Event()
        self.seconds = []

    def question(self, request, settings, deadline):
        if "client" in request:
            return Suspect(ip_address(request["client"]), "")
        account = Account(Ingress.SUBMISSION, request["sasl_username"])
        return Question(account, None, deadline) if request["sasl_username"] else DUNNO

    def answers(self, questions, settings):
        self.together.append(len(questions))
        assert self.go_on.wait(SECONDS)
        if any(question.account.name == "broken" for question in questions):
            raise ZeroDivisionError
        return [f"550 {question.account.name}" for question in questions]

    async def look_up(self, suspect, settings, seconds):
        self.seconds.append(seconds)
        await self.looked_up.wait()
        if suspect.client.is_loopback:
            raise ZeroDivisionError
        return f"550 {suspect.client}" if suspect.client.version == 4 else None


def run_batches(scenario, drain_seconds=SECONDS):
    service = Service()

    async def run():
        group = Batches(service, lambda: None, service.look_up)
        answers = {}

        def ask(name, **request):
            group.ask({"sasl_username": name} | request, lambda action: answers.setdefault(name, []).append(action))

        try:
            await scenario(service, ask, answers)
        finally:
            service.go_on.set()
            await group.close(drain_seconds)
            await until(lambda: not group._looking_up)
        return answers

    service.answers_given = asyncio.run(run())
    return service


def test_requests_that_wait_together_are_asked_about_together():
    async def scenario(service, ask, answers):
        ask("first")
        await until(lambda: service.together)
        for number in range(30):
            ask(f"n{number}")
        service.go_on.set()
        await until(lambda: count(answers) == 31)
        assert answers["n7"] == ["550 n7"]

    assert run_batches(scenario).together == [1, 30]


def test_who_needs_no_state_does_not_wait_for_it():
    async def scenario(service, ask, answers):
        ask("somebody")
        await until(lambda: service.together)
        ask("")
        await until(lambda: count(answers) == 1)
        assert answers == {"": [DUNNO]}

    run_batches(scenario)


def test_a_batch_that_breaks_is_answered():
    async def scenario(service, ask, answers):
        service.go_on.set()
        ask("broken")
        await until(lambda: count(answers) == 1)
        ask("whole")
        await until(lambda: count(answers) == 2)
        assert answers == {"broken": [DUNNO], "whole": ["550 whole"]}

    run_batches(scenario)


def test_a_state_that_does_not_answer_is_given_up_in_time_and_once(monkeypatch):
    monkeypatch.setattr(batches, "ANSWER_SECONDS", 0.4)
    monkeypatch.setattr(batches, "_GIVE_UP_EVERY_SECONDS", 0.1)

    async def scenario(service, ask, answers):
        ask("running")
        await until(lambda: service.together)
        ask("waiting")
        await until(lambda: count(answers) == 2)
        assert answers == {"running": [DUNNO], "waiting": [DUNNO]}
        monkeypatch.setattr(batches, "ANSWER_SECONDS", SECONDS)
        ask("later")
        service.go_on.set()
        await until(lambda: count(answers) == 3)
        assert answers == {"running": [DUNNO], "waiting": [DUNNO], "later": ["550 later"]}

    # The one that was given up while it waited was never asked about.
    assert run_batches(scenario).together == [1, 1]


def test_nobody_waits_for_a_look_up_but_who_asked_for_it():
    async def scenario(service, ask, answers):
        service.go_on.set()
        for number in range(300):
            ask(f"suspect {number}", client=f"192.0.2.{number % 256}")
        ask("somebody")
        ask("")
        await until(lambda: count(answers) == 2)
        assert answers == {"somebody": ["550 somebody"], "": [DUNNO]}
        assert len(service.seconds) == 300
        assert max(service.seconds) < batches.ANSWER_SECONDS
        service.looked_up.set()
        await until(lambda: count(answers) == 302)
        assert answers["suspect 7"] == ["550 192.0.2.7"]

    run_batches(scenario)


def test_a_look_up_does_not_wait_for_the_state():
    async def scenario(service, ask, answers):
        ask("somebody")
        await until(lambda: service.together)
        service.looked_up.set()
        ask("suspect", client="192.0.2.1")
        await until(lambda: count(answers) == 1)
        assert answers == {"suspect": ["550 192.0.2.1"]}

    run_batches(scenario)


def test_a_look_up_without_objection_or_that_breaks_is_dunno():
    async def scenario(service, ask, answers):
        service.looked_up.set()
        ask("no objection", client="2001:db8::1")
        ask("broken", client="127.0.0.1")
        await until(lambda: count(answers) == 2)
        assert answers == {"no objection": [DUNNO], "broken": [DUNNO]}

    run_batches(scenario)


def test_the_end_waits_for_look_ups_and_gives_up_those_that_hang():
    async def asked(service, ask, answers):
        ask("suspect", client="192.0.2.1")
        await until(lambda: service.seconds)

    async def answered(service, ask, answers):
        await asked(service, ask, answers)
        asyncio.get_running_loop().call_soon(service.looked_up.set)

    assert run_batches(answered).answers_given == {"suspect": ["550 192.0.2.1"]}
    assert run_batches(asked, drain_seconds=0.05).answers_given == {"suspect": [DUNNO]}
