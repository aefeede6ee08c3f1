"""Lists of servers that send backscatter, asked of a real DNS server on loopback that fails, hangs and lies."""

import asyncio
import contextlib
import itertools
import logging
from ipaddress import ip_address

import pytest
from scripted_dns import Hanging, Script

from deliverypools.core.dns_lists import DnsList, parse_code, query_name
from deliverypools.core.settings import built_in_defaults
from deliverypools.lab.dns_server import DnsFailure, DnsServer, Slow, txt
from deliverypools.policy import backscatter
from deliverypools.policy.backscatter import BackscatterLists, Suspect

CLIENT = ip_address("192.0.2.99")
CLIENT6 = ip_address("2001:db8::99")
SECONDS = 4.0
LISTS = "lists.example"
REJECTED = (
    "550 5.7.1 Bounces and mail of postmasters are refused from 192.0.2.99,"
    f" which {LISTS} lists for sending backscatter"
)
PREPENDED = f"PREPEND X-Delivery-Pool-Backscatter: {LISTS}"


def listed(*answers, client=CLIENT, dns_list=LISTS, **records):
    """Return the zone of a list that answers so about a client."""
    return {query_name(client, dns_list): {"A": answers or ("127.0.0.2",)} | records}


@pytest.fixture
def server():
    server = DnsServer(listed())
    server.start("127.0.0.1", 0)
    yield server
    server.stop()


@pytest.fixture
def settings(server):
    """Make settings whose resolver is the server, or another one."""

    def make(*lists, nameserver=server, shadow=False, **bounces):
        host, port = nameserver.address
        lists = lists or (DnsList(LISTS),)
        defaults = built_in_defaults()
        return defaults.model_copy(
            update={
                "shadow": shadow,
                "dns": defaults.dns.model_copy(update={"nameservers": ((host, port),)}),
                "bounces": defaults.bounces.model_copy(update={"backscatter_lists": lists} | bounces),
            }
        )

    return make


@pytest.fixture
def hanging():
    """A DNS server that does not answer while the test runs."""
    answers = Hanging()
    script = Script(answers)
    yield script
    answers.answer_all()
    script.stop()


@pytest.fixture
def run(clock):
    """Run a scenario on an event loop, with lists that know nothing yet."""

    def run(scenario):
        async def running():
            lists = BackscatterLists(clock)
            try:
                return await scenario(lists)
            finally:
                lists.close()

        return asyncio.run(running())

    return run


@pytest.fixture
def action(run):
    """Return what happens to a message from a client under some settings."""
    return lambda settings, client=CLIENT, seconds=SECONDS: run(
        lambda lists: lists.action(Suspect(client, "1.2.3"), settings, seconds)
    )


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class TestListed:
    def test_refused_with_the_name_of_the_list(self, action, settings):
        assert action(settings()) == REJECTED

    def test_refused_with_what_the_list_says(self, action, settings, server):
        server.set(query_name(CLIENT, LISTS), {"A": ["127.0.0.2"], "TXT": [txt("see http://lists.example/99")]})
        assert action(settings()) == f"{REJECTED} (see http://lists.example/99)"

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("100%s <b>", "100?s ?b?"),
            ("a\r\naction=OK\n\n", "a??action=OK"),
            ("\x00\u00e4\u202e", "??????)"),
            ("x" * 3000, "x" * 157 + "..."),
            (" ", ""),
        ],
    )
    def test_what_the_list_says_is_one_line_of_plain_text(self, action, settings, server, said, shown):
        server.set(query_name(CLIENT, LISTS), {"A": ["127.0.0.2"], "TXT": [txt(said)]})
        answer = action(settings())
        assert answer.startswith(REJECTED)
        assert answer.isascii()
        assert answer.isprintable()
        assert len(answer) < 400
        assert answer.removeprefix(REJECTED).startswith(f" ({shown}") is bool(shown)

    @pytest.mark.parametrize("failure", [DnsFailure.SERVFAIL, DnsFailure.TIMEOUT, DnsFailure.NXDOMAIN, Slow(60)])
    def test_refused_without_what_the_list_says_where_that_fails(self, action, settings, server, failure):
        server.fail(LISTS, failure, "TXT")
        assert action(settings()) == REJECTED

    def test_tagged(self, action, settings, server):
        assert action(settings(backscatter_list_action="tag")) == PREPENDED
        # Its listing, and whether it lists 127.0.0.1: no text.
        assert [rtype for _, rtype in server.asked] == ["A", "A"]

    def test_ipv6(self, action, settings, server):
        assert action(settings(), client=CLIENT6) is None
        for name, records in listed(client=CLIENT6).items():
            server.set(name, records)
        assert action(settings(), client=CLIENT6).startswith("550 5.7.1 Bounces and mail of postmasters are refused")

    def test_only_the_code_counts_where_one_is_given(self, action, settings, server):
        server.set(query_name(CLIENT, LISTS), {"A": ["127.0.0.3", "127.0.0.5"]})
        assert action(settings(DnsList(LISTS, parse_code("127.0.0.[2;4]")))) is None
        assert action(settings(DnsList(LISTS, parse_code("127.0.0.[2;5]")))) == REJECTED

    def test_two_hundred_answers(self, action, settings, server):
        server.set(query_name(CLIENT, LISTS), {"A": [f"127.0.{n}.2" for n in range(200)]})
        assert action(settings(DnsList(LISTS, parse_code("127.0.199.2")))) == REJECTED

    def test_all_lists_are_asked_and_one_that_is_enough_is_not_waited_for(self, action, settings, server):
        server.fail("hanging.example", DnsFailure.TIMEOUT)
        dead, other, useful = (DnsList(f"{name}.example") for name in ("hanging", "other", "lists"))
        assert action(settings(dead, other, useful)) == REJECTED
        assert {query_name(CLIENT, one.domain) for one in (dead, other, useful)} <= {name for name, _ in server.asked}

    def test_the_first_list_of_the_file_is_named_when_both_are_known(self, run, settings, server):
        for name, records in listed(dns_list="other.example").items():
            server.set(name, records)
        both = settings(DnsList("other.example"), DnsList(LISTS), backscatter_list_action="tag")
        first = "PREPEND X-Delivery-Pool-Backscatter: other.example"

        async def scenario(lists):
            messages = (Suspect(CLIENT, str(number)) for number in itertools.count())
            # Until the first has answered, which it does in its own time, the other one is named.
            async with asyncio.timeout(20):
                while await lists.action(next(messages), both, SECONDS) != first:
                    pass
            return {await lists.action(next(messages), both, SECONDS) for _ in range(50)}

        assert run(scenario) == {first}

    def test_in_shadow_nothing_happens_but_a_log_line(self, action, settings, caplog):
        caplog.set_level(logging.INFO)
        assert action(settings(shadow=True)) is None
        assert "192.0.2.99 is listed by lists.example: mail would be refused" in caplog.messages


class TestNoVerdict:
    @pytest.mark.parametrize(
        "answers",
        [
            *(["127.255.255.252"], ["127.255.255.254"], ["127.255.255.255"], ["127.0.0.2", "127.255.255.254"]),
            *(["198.51.100.1"], ["127.0.0.2", "198.51.100.1"]),
        ],
    )
    def test_answers_of_no_working_list(self, action, settings, server, caplog, answers):
        server.set(query_name(CLIENT, LISTS), {"A": answers})
        assert action(settings()) is None
        (warning,) = warnings(caplog)
        assert warning.startswith(f"{LISTS}: {answers[-1]}: ")
        assert warning.endswith("; no verdict")

    @pytest.mark.parametrize("answers", [["127.0.0.1"], []])
    def test_answers_that_list_nobody(self, action, settings, server, caplog, answers):
        server.set(query_name(CLIENT, LISTS), {"A": answers} if answers else {"TXT": ['"x"']})
        assert action(settings()) is None
        assert warnings(caplog) == []

    def test_clients_that_are_not_listed(self, action, settings, caplog):
        assert action(settings(), client=ip_address("192.0.2.98")) is None
        assert warnings(caplog) == []

    @pytest.mark.parametrize(
        "failure",
        [
            *(DnsFailure.SERVFAIL, DnsFailure.REFUSED, DnsFailure.TIMEOUT, DnsFailure.WRONG_ID, DnsFailure.GARBAGE),
            *(DnsFailure.OTHER_QUESTION, DnsFailure.OTHER_RECORDS, DnsFailure.CNAME_LOOP),
            *(DnsFailure.TRUNCATED_WITHOUT_TCP, Slow(60)),
        ],
        ids=str,
    )
    def test_a_list_that_fails(self, action, settings, server, caplog, failure):
        server.fail(LISTS, failure)
        assert action(settings(backscatter_list_timeout_seconds=0.6)) is None
        (warning,) = warnings(caplog)
        assert warning.startswith(LISTS)
        assert warning.endswith("; no verdict")

    def test_an_answer_of_thousands_of_records(self, action, settings, server):
        server.set(query_name(CLIENT, LISTS), {"A": [f"127.0.{n // 250}.{n % 250}" for n in range(4000)]})
        assert action(settings()) is None

    def test_no_server_at_all(self, action, settings, server):
        server.stop()
        assert action(settings()) is None

    def test_who_asks_may_have_less_time_than_the_settings(self, action, settings, hanging):
        assert action(settings(nameserver=hanging), seconds=0.1) is None
        assert action(settings(nameserver=hanging), seconds=-1.0) is None


class TestTags:
    def test_a_message_is_tagged_once_whatever_the_number_of_its_recipients(self, run, settings):
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            return [await lists.action(Suspect(CLIENT, name), tagging, SECONDS) for name in "aaba"]

        assert run(scenario) == [PREPENDED, None, PREPENDED, None]

    def test_requests_without_a_name_of_the_message_are_tagged_each(self, run, settings):
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            return [await lists.action(Suspect(CLIENT, name), tagging, SECONDS) for name in ("", "", "x" * 129)]

        assert run(scenario) == [PREPENDED] * 3

    def test_what_is_remembered_is_bounded(self, run, settings, monkeypatch):
        monkeypatch.setattr(backscatter, "_MOST_TAGGED", 2)
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            return [await lists.action(Suspect(CLIENT, name), tagging, SECONDS) for name in "aabca"]

        assert run(scenario) == [PREPENDED, None, PREPENDED, PREPENDED, PREPENDED]


class TestBounds:
    def test_answers_are_kept_and_asked_again_when_they_are_out_of_date(self, run, settings, server, clock):
        rejecting = settings(backscatter_list_action="tag")

        async def scenario(lists):
            for name in "abc":
                await lists.action(Suspect(CLIENT, name), rejecting, SECONDS)
            asked = len(server.asked)
            clock.now += 3600
            await lists.action(Suspect(CLIENT, "d"), rejecting, SECONDS)
            return asked, len(server.asked)

        assert run(scenario) == (2, 4)

    def test_the_same_question_at_the_same_time_is_asked_once(self, run, settings, server):
        server.fail(LISTS, Slow(0.3))
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            return await asyncio.gather(*(lists.action(Suspect(CLIENT, str(n)), tagging, SECONDS) for n in range(50)))

        assert run(scenario) == [PREPENDED] * 50
        assert len(server.asked) == 2  # its listing, and that of 127.0.0.1

    def test_a_list_that_names_everybody_is_not_believed(self, action, settings, server):
        server.set(query_name(ip_address("127.0.0.1"), LISTS), {"A": ["127.0.0.2"]})
        assert action(settings()) is None

    def test_a_list_that_does_not_answer_whether_it_names_everybody_is_not_believed(self, action, settings, server):
        server.fail(query_name(ip_address("127.0.0.1"), LISTS), DnsFailure.SERVFAIL)
        assert action(settings()) is None

    def test_beyond_a_number_of_look_ups_there_is_no_verdict(self, run, settings, hanging, caplog, monkeypatch):
        monkeypatch.setattr(backscatter, "_MOST_UNDER_WAY", 5)
        slow = settings(nameserver=hanging)

        async def scenario(lists):
            waiting = [asyncio.create_task(lists.action(suspect(n), slow, SECONDS)) for n in range(5)]
            await asyncio.sleep(0)
            beyond = [await lists.action(suspect(n), slow, SECONDS) for n in range(5, 60)]
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            # What was given up makes room again.
            await lists.action(suspect(60), slow, 0.01)
            return beyond

        assert run(scenario) == [None] * 55
        assert [text for text in warnings(caplog) if "5 look-ups under way" in text] == [
            "5 look-ups under way: 192.0.2.5 was not looked up"
        ]
        assert len(warnings(caplog)) == 2

    def test_the_event_loop_goes_on_while_a_list_hangs(self, run, settings, hanging):
        slow = settings(nameserver=hanging)

        async def scenario(lists):
            waiting = [asyncio.create_task(lists.action(suspect(n), slow, SECONDS)) for n in range(100)]
            for _ in range(100):
                await asyncio.sleep(0)
            answered = [task.done() for task in waiting]
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            return answered

        assert run(scenario) == [False] * 100


class TestRest:
    def miss(self, number, lists, settings, seconds=0.05):
        return asyncio.gather(*(lists.action(suspect(n), settings, seconds) for n in range(number)))

    def test_a_list_that_answers_nobody_rests_and_is_asked_again(self, run, settings, server, clock, caplog):
        server.fail(LISTS, DnsFailure.TIMEOUT)
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            await self.miss(10, lists, tagging)
            assert f"{LISTS} answers nobody: not asked for 30 s" in caplog.text
            server.fail(LISTS, None)
            assert await lists.action(Suspect(CLIENT, "a"), tagging, SECONDS) is None
            assert query_name(CLIENT, LISTS) not in {name for name, _ in server.asked}
            clock.now += 31
            return await lists.action(Suspect(CLIENT, "b"), tagging, SECONDS)

        assert run(scenario) == PREPENDED

    def test_after_its_rest_one_miss_is_enough(self, run, settings, server, clock):
        server.fail(LISTS, DnsFailure.TIMEOUT)
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            await self.miss(10, lists, tagging)
            clock.now += 31
            await lists.action(suspect(77), tagging, 0.05)
            server.fail(LISTS, None)
            return await lists.action(Suspect(CLIENT, "b"), tagging, SECONDS)

        assert run(scenario) is None

    @pytest.mark.parametrize("number", [1, 9])
    def test_a_few_misses_are_no_reason(self, run, settings, server, number):
        server.fail(LISTS, DnsFailure.TIMEOUT)
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            for _ in range(3):
                await self.miss(number, lists, tagging)
            server.fail(LISTS, None)
            return await lists.action(Suspect(CLIENT, "b"), tagging, SECONDS)

        assert run(scenario) == PREPENDED

    def test_ipv6_that_a_list_does_not_know_is_no_reason_for_ipv4(self, run, settings, server):
        server.fail(LISTS, DnsFailure.TIMEOUT)
        tagging = settings(backscatter_list_action="tag")

        async def scenario(lists):
            clients = [Suspect(ip_address(f"2001:db8::{n}"), "") for n in range(1, 21)]
            await asyncio.gather(*(lists.action(client, tagging, 0.05) for client in clients))
            server.fail(LISTS, None)
            return await lists.action(Suspect(CLIENT, "b"), tagging, SECONDS)

        assert run(scenario) == PREPENDED

    def test_another_list_is_asked_all_the_same(self, run, settings, server):
        server.fail("dead.example", DnsFailure.TIMEOUT)
        both = settings(DnsList("dead.example"), DnsList(LISTS), backscatter_list_action="tag")

        async def scenario(lists):
            await self.miss(10, lists, both, seconds=SECONDS)  # time for the answers of the other one
            return await lists.action(Suspect(CLIENT, "b"), both, SECONDS)

        assert run(scenario) == PREPENDED
        assert query_name(CLIENT, "dead.example") not in {name for name, _ in server.asked}


def test_new_settings_are_taken_at_once_and_old_look_ups_end(run, settings, server, hanging):
    old, new = settings(nameserver=hanging), settings(backscatter_list_action="tag")

    async def scenario(lists):
        waiting = asyncio.create_task(lists.action(Suspect(CLIENT, "a"), old, 0.3))
        await asyncio.sleep(0)
        answer = await lists.action(Suspect(CLIENT, "b"), new, SECONDS)
        return answer, await waiting

    assert run(scenario) == (PREPENDED, None)


def test_the_end_while_a_list_hangs(settings, hanging, clock):
    async def scenario():
        lists = BackscatterLists(clock)
        task = asyncio.create_task(lists.action(Suspect(CLIENT, "a"), settings(nameserver=hanging), SECONDS))
        await asyncio.sleep(0)
        lists.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(scenario())


def suspect(number):
    return Suspect(ip_address(f"192.0.2.{number}"), f"1.{number}")
