"""The contract of the shared state, over every store: what is seen, restricted, recorded and posted, and how long."""

import random
from dataclasses import replace

import pytest
from invented import ODD_NAMES, START, record, restriction

from deliverypools.core.accounts import Account
from deliverypools.core.facts import Answer, Finding, Ingress
from deliverypools.core.restrictions import following_day
from deliverypools.core.tallies import DAY, HOUR

ALICE = Account(Ingress.SUBMISSION, "alice")


class TestSee:
    def test_tells_how_many_are_new(self, state):
        assert state.see("alice", ["a@x", "b@x", "a@x"], 100, renew=True) == 2
        assert state.see("alice", ["b@x", "c@x"], 100, renew=True) == 1
        assert state.see("bob", ["a@x"], 100, renew=True) == 1
        assert state.see("alice", [], 100, renew=True) == 0

    def test_with_renew_the_time_begins_again(self, state, clock):
        for _ in range(3):
            state.see("alice", ["a@x"], 100, renew=True)
            clock.now += 99
        assert state.see("alice", ["a@x"], 100, renew=True) == 0

    def test_without_renew_it_ends_when_it_was_first_to_end(self, state, clock):
        state.see("alice", ["a@x"], 100, renew=False)
        clock.now += 99
        assert state.see("alice", ["a@x"], 100, renew=False) == 0
        clock.now += 1
        assert state.see("alice", ["a@x"], 100, renew=False) == 1

    def test_a_thousand_members(self, state, clock):
        members = [f"{number}@x" for number in range(1000)]
        assert state.see("alice", members, 100, renew=True) == 1000
        clock.now += 101
        assert state.see("alice", [*members, "new@x"], 100, renew=True) == 1001

    @pytest.mark.parametrize("member", ODD_NAMES)
    def test_any_member_is_its_own(self, state, member):
        assert state.see("alice", [member, "other"], 100, renew=True) == 2
        assert state.see("alice", [member], 100, renew=True) == 0


class TestFirstTime:
    def test_is_told_once_in_its_time(self, state, clock):
        assert [state.first_time("name", 100) for _ in range(3)] == [True, False, False]
        clock.now += 99
        assert not state.first_time("name", 100)
        clock.now += 1
        assert state.first_time("name", 100)

    def test_asking_in_vain_does_not_begin_again(self, state, clock):
        state.first_time("name", 100)
        clock.now += 60
        state.first_time("name", 100)
        clock.now += 60
        assert state.first_time("name", 100)

    def test_names_are_apart(self, state):
        assert [state.first_time(name, 100) for name in ODD_NAMES] == [True] * len(ODD_NAMES)


class TestUseTicket:
    def test_every_queue_file_is_one_use(self, state):
        assert [state.use_ticket("ticket", f"4Q{number}", 3, 100) for number in range(5)] == [True] * 3 + [False] * 2

    def test_the_same_queue_file_again_is_no_use(self, state):
        assert [state.use_ticket("ticket", "4Q1", 1, 100) for _ in range(5)] == [True] * 5

    def test_what_was_refused_is_refused_again(self, state):
        state.use_ticket("ticket", "4Q1", 1, 100)
        assert [state.use_ticket("ticket", "4Q2", 1, 100) for _ in range(3)] == [False] * 3

    def test_tickets_do_not_share_uses(self, state):
        assert state.use_ticket("one", "4Q1", 1, 100)
        assert state.use_ticket("two", "4Q2", 1, 100)


class TestSenderDomains:
    finding = Finding(Answer.YES, "example.org: has MX")

    def test_what_was_remembered_is_known(self, opened):
        opened().remember_sender_domain("example.org", self.finding, 100)
        assert opened().last_known_sender_domain("example.org") == self.finding

    def test_the_last_answer_counts(self, state):
        state.remember_sender_domain("example.org", self.finding, 100)
        state.remember_sender_domain("example.org", Finding(Answer.NO, "NXDOMAIN"), 100)
        assert state.last_known_sender_domain("example.org") == Finding(Answer.NO, "NXDOMAIN")

    def test_it_is_forgotten_after_its_time(self, state, clock):
        state.remember_sender_domain("example.org", self.finding, 100)
        clock.now += 101
        assert state.last_known_sender_domain("example.org") is None

    def test_nothing_is_known_of_another_domain(self, state):
        assert state.last_known_sender_domain("example.net") is None


class TestRestrictions:
    def test_nobody_is_restricted_at_first(self, state):
        assert state.restrictions_on([ALICE]) == [None]
        assert state.restrictions_on([]) == []
        assert state.restrictions() == []

    def test_one_way_of_sending_is_closed(self, opened):
        assert opened().restrict(restriction()) == restriction()
        others = [Account(ingress, "alice") for ingress in Ingress if ingress is not Ingress.SUBMISSION]
        asked = [ALICE, *others, Account(Ingress.SUBMISSION, "bob"), ALICE]
        assert opened().restrictions_on(asked) == [restriction(), *[None] * len(others), None, restriction()]
        assert opened().restrictions() == [restriction()]

    def test_an_administrator_closes_all_of_them(self, state):
        by_hand = restriction(ingress=None)
        assert state.restrict(by_hand, by_hand=True) == by_hand
        assert state.restrictions_on([Account(ingress, "alice") for ingress in Ingress]) == [by_hand] * len(Ingress)

    def test_it_ends_when_it_was_to_end(self, state, clock):
        until = following_day(START)
        state.restrict(restriction(until=until))
        clock.now = until - 1
        assert state.restrictions_on([ALICE]) == [restriction(until=until)]
        clock.now = until
        assert state.restrictions_on([ALICE]) == [None]
        assert state.restrictions() == []

    def test_one_without_end_replaces_one_that_ends(self, state, clock):
        state.restrict(restriction(until=START + 100))
        endless = restriction(since=START + 1, reason="worse")
        assert state.restrict(endless) == endless
        clock.now += 1000
        state.restrict(restriction("bob"))
        assert state.restrictions_on([ALICE]) == [endless]

    @pytest.mark.parametrize("until", [None, START + 100])
    @pytest.mark.parametrize("later", [START + 50, START + 200])
    def test_one_that_ends_replaces_nothing(self, state, until, later):
        first = restriction(until=until)
        state.restrict(first)
        assert state.restrict(restriction(since=START + 1, until=later, reason="again")) == first
        assert state.restrictions() == [first]

    def test_the_first_without_end_stands(self, state):
        state.restrict(restriction())
        assert state.restrict(restriction(since=START + 1, reason="again")) == restriction()

    def test_one_that_has_ended_does_not_stand(self, state, clock):
        state.restrict(restriction(until=START + 100))
        clock.now += 100
        again = restriction(since=START + 100, until=START + 200)
        assert state.restrict(again) == again
        assert state.restrictions() == [again]

    def test_the_longer_one_is_told(self, state):
        state.restrict(restriction(until=START + 100))
        state.restrict(restriction(ingress=None, until=START + 200))
        state.restrict(restriction("bob", until=START + 200))
        state.restrict(restriction("bob", ingress=None, until=START + 100))
        state.restrict(restriction("carol", until=START + 200))
        state.restrict(restriction("carol", ingress=None))
        asked = [Account(Ingress.SUBMISSION, name) for name in ("alice", "bob", "carol")]
        assert [(one.ingress, one.until) for one in state.restrictions_on(asked)] == [
            (None, START + 200),
            (Ingress.SUBMISSION, START + 200),
            (None, None),
        ]

    def test_all_are_told_oldest_first(self, state):
        found = [
            restriction("zoe", since=START - 5),
            restriction("alice"),
            restriction("bob", Ingress.TRUSTED),
            restriction("aaron", None, since=START + 5),
        ]
        for one in reversed(found):
            state.restrict(one)
        assert state.restrictions() == found

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_any_account_and_reason(self, state, name):
        odd = restriction(name, reason=f"100 % of <{name}>")
        state.restrict(odd)
        assert state.restrictions_on([Account(Ingress.SUBMISSION, name), ALICE]) == [odd, None]
        assert state.release(name) == [odd]
        assert state.was_released_today(name)
        assert not state.was_released_today("alice")


class TestRelease:
    def test_ends_all_and_tells_which(self, state):
        both = [restriction(), restriction(ingress=None)]
        for one in (*both, restriction("bob")):
            state.restrict(one)
        assert sorted(state.release("alice"), key=lambda one: str(one.ingress)) == both[::-1]
        assert state.restrictions() == [restriction("bob")]
        assert state.release("alice") == []

    def test_what_had_ended_already_is_not_told(self, state, clock):
        state.restrict(restriction(until=START + 100))
        clock.now += 100
        assert state.release("alice") == []

    def test_on_that_day_only_a_hand_restricts_again(self, state):
        state.restrict(restriction())
        state.release("alice")
        assert state.was_released_today("alice")
        assert state.restrict(restriction()) is None
        assert state.restrict(restriction(ingress=Ingress.TRUSTED)) is None
        assert state.restrictions() == []
        assert state.restrict(restriction(), by_hand=True) == restriction()
        assert state.restrictions_on([ALICE]) == [restriction()]

    def test_others_are_restricted_as_before(self, state):
        state.release("alice")
        assert state.restrict(restriction("bob")) == restriction("bob")
        assert not state.was_released_today("bob")

    def test_from_midnight_utc_on_it_may_be_restricted_again(self, state, clock):
        state.release("alice")
        midnight = following_day(START)
        clock.now = midnight - 1
        assert state.was_released_today("alice")
        assert state.restrict(restriction(since=clock.now)) is None
        clock.now = midnight
        assert not state.was_released_today("alice")
        assert state.restrict(restriction(since=midnight)) == restriction(since=midnight)

    def test_a_release_of_somebody_who_was_not_restricted_counts(self, state):
        assert state.release("alice") == []
        assert state.restrict(restriction()) is None


class TestLastEnding:
    def test_none_is_known_at_first(self, state):
        assert state.last_ending(ALICE) is None

    def test_is_when_the_restriction_was_to_end_not_before(self, state, clock):
        until = START + 100.25
        state.restrict(restriction(until=until))
        clock.now = until - 0.25
        assert state.last_ending(ALICE) is None
        clock.now = until
        assert state.last_ending(ALICE) == until

    def test_is_known_for_two_days(self, state, clock):
        state.restrict(restriction(until=START + 100))
        clock.now = START + 100 + 2 * DAY - 1
        state.restrict(restriction("bob", until=clock.now + 100))
        assert state.last_ending(ALICE) == START + 100
        clock.now += 1
        assert state.last_ending(ALICE) is None

    def test_is_known_for_two_days_also_after_a_long_restriction(self, opened, clock):
        opened().restrict(restriction(until=START + 100 * DAY))
        clock.now += 101 * DAY
        assert opened().last_ending(ALICE) == START + 100 * DAY

    def test_is_that_of_the_way_of_sending_or_of_all(self, state, clock):
        state.restrict(restriction(until=START + 100))
        state.restrict(restriction("bob", ingress=None, until=START + 100))
        clock.now += 100
        assert state.last_ending(Account(Ingress.TRUSTED, "alice")) is None
        assert [state.last_ending(Account(ingress, "bob")) for ingress in Ingress] == [START + 100] * len(Ingress)

    def test_is_the_release_for_all_ways_of_sending(self, state, clock):
        state.restrict(restriction())
        clock.now += 50.5
        state.release("alice")
        clock.now += HOUR
        assert [state.last_ending(Account(ingress, "alice")) for ingress in Ingress] == [START + 50.5] * len(Ingress)
        assert state.last_ending(Account(Ingress.SUBMISSION, "bob")) is None

    def test_a_restriction_that_was_released_does_not_end_later(self, state, clock):
        for ingress in (Ingress.SUBMISSION, None):
            state.restrict(restriction(ingress=ingress, until=START + 100))
        clock.now += 50
        state.release("alice")
        clock.now += 100
        assert state.last_ending(ALICE) == START + 50

    def test_nor_does_one_that_was_replaced_by_one_without_end(self, state, clock):
        state.restrict(restriction(until=START + 100))
        state.restrict(restriction(since=START + 1))
        clock.now += 200
        assert state.last_ending(ALICE) is None

    def test_one_that_was_not_written_because_another_stands_does_not_end(self, state, clock):
        state.restrict(restriction(until=START + 100))
        state.restrict(restriction(until=START + 50))
        state.restrict(restriction("bob"))
        state.restrict(restriction("bob", until=START + 50))
        clock.now += 50
        assert state.last_ending(ALICE) is None
        assert state.last_ending(Account(Ingress.SUBMISSION, "bob")) is None

    def test_the_latest_counts_while_the_next_has_not_ended(self, state, clock):
        for until in (START + 100, START + 200, START + 1000):
            state.restrict(restriction(since=clock.now, until=until))
            clock.now = until
        clock.now = START + 300
        assert state.last_ending(ALICE) == START + 200

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_any_account(self, state, name):
        state.restrict(restriction(name))
        state.release(name)
        assert state.last_ending(Account(Ingress.SUBMISSION, name)) == START
        assert state.last_ending(ALICE) is None


@pytest.mark.parametrize("seed", range(4))
def test_all_stores_restrict_and_release_alike(sqlite_store, redis_store, clock, seed):
    chance = random.Random(seed)
    states = [store.open(clock) for store in (sqlite_store, redis_store)]
    accounts = [Account(ingress, name) for name in ("alice", "bob") for ingress in Ingress]
    for _ in range(400):
        name, ingress = chance.choice(["alice", "bob"]), chance.choice([None, *Ingress])
        until = chance.choice([None, following_day(clock.now), clock.now + chance.choice([0.5, HOUR, 3 * DAY])])
        is_release = chance.random() < 0.2
        for state in states:
            if is_release:
                state.release(name)
            else:
                state.restrict(restriction(name, ingress, since=clock.now, until=until), by_hand=until is None)
        clock.now += chance.choice([0.25, 100, HOUR, 7 * HOUR, DAY])
        endings, others = ([state.last_ending(account) for account in accounts] for state in states)
        assert endings == others
        assert states[0].restrictions_on(accounts) == states[1].restrictions_on(accounts)
    for state in states:
        state.close()


class TestDecisionLog:
    def test_what_was_recorded_is_found_again(self, opened):
        opened().record(record(), DAY)
        assert opened().record_of("mx1.example.org", "4Q1") == record()
        assert opened().records_of("alice") == [record()]

    def test_nothing_is_on_record(self, state):
        state.record(record(), DAY)
        assert state.record_of("mx2.example.org", "4Q1") is None
        assert state.record_of("mx1.example.org", "4Q2") is None
        assert state.records_of("bob") == []

    def test_a_later_one_about_the_same_queue_file_takes_its_place(self, state):
        state.record(record(), DAY)
        state.record(record(host="mx2.example.org"), DAY)
        later = record(at=START + 60, pool="high-risk")
        state.record(later, DAY)
        assert state.record_of("mx1.example.org", "4Q1") == later
        assert state.records_of("alice") == [later, record(host="mx2.example.org")]

    def test_also_if_it_is_of_another_account(self, state):
        state.record(record(), DAY)
        state.record(record(account="bob"), DAY)
        assert state.records_of("alice") == []
        assert state.records_of("bob") == [record(account="bob")]

    def test_newest_first_since_a_time_and_not_too_many(self, state):
        rows = [record(f"4Q{number}", at=START + number) for number in range(10)]
        for row in rows:
            state.record(row, DAY)
        assert state.records_of("alice") == rows[::-1]
        assert state.records_of("alice", since=START + 7) == rows[:6:-1]
        assert state.records_of("alice", most=3) == rows[:6:-1]
        assert state.records_of("alice", since=START + 100) == []

    def test_more_than_two_thousand(self, state):
        for number in range(2345):
            state.record(record(f"4Q{number}", at=START + number % 100), DAY)
        found = state.records_of("alice")
        assert len({row.queue_id for row in found}) == len(found) == 2345
        assert [row.at for row in found] == sorted((row.at for row in found), reverse=True)
        assert len(state.records_of("alice", most=2001)) == 2001
        assert len(state.records_of("alice", since=START + 50)) == 1150

    def test_they_are_forgotten_after_their_time(self, state, clock):
        state.record(record(), DAY)
        clock.now += DAY + 1
        state.record(record("4Q2", at=clock.now), DAY)
        assert state.record_of("mx1.example.org", "4Q1") is None
        assert state.records_of("alice") == [record("4Q2", at=clock.now)]

    def test_they_are_forgotten_to_the_second_though_nothing_is_written(self, state, clock):
        state.record(record(), 100)
        clock.now += 99
        assert state.record_of("mx1.example.org", "4Q1") == record()
        assert state.records_of("alice") == [record()]
        clock.now += 1
        assert state.record_of("mx1.example.org", "4Q1") is None
        assert state.records_of("alice") == []

    def test_mail_of_nobody(self, state):
        state.record(record(account="", subject=""), DAY)
        assert state.record_of("mx1.example.org", "4Q1") == record(account="", subject="")


class TestOutbox:
    def test_what_is_posted_is_claimed_oldest_first(self, opened, clock):
        assert opened().post("one", DAY, [("mail", "first"), ("webhook", "second")])
        clock.now += 1
        assert opened().post("two", DAY, [("mail", "third \N{SNOWMAN}")])
        found = opened().claim_notices(10, 60)
        assert [(one.channel, one.payload, one.attempts) for one in found] == [
            ("mail", "first", 0),
            ("webhook", "second", 0),
            ("mail", "third \N{SNOWMAN}", 0),
        ]
        assert len({one.notice_id for one in found}) == 3

    def test_the_same_is_posted_once(self, state, clock):
        assert [state.post("one", 100, [("mail", "text")]) for _ in range(3)] == [True, False, False]
        clock.now += 100
        assert state.post("one", 100, [("mail", "text")])
        assert len(state.claim_notices(10, 60)) == 2

    def test_nothing_to_send_is_posted_once_too(self, state):
        assert [state.post("one", 100, []) for _ in range(2)] == [True, False]
        assert state.claim_notices(10, 60) == []

    def test_nobody_else_gets_what_was_claimed_before_the_lease_has_passed(self, opened, clock):
        opened().post("one", DAY, [("mail", "text")])
        (claimed,) = opened().claim_notices(10, 60)
        clock.now += 59
        assert opened().claim_notices(10, 60) == []
        clock.now += 1
        (again,) = opened().claim_notices(10, 60)
        assert again == replace(claimed, attempts=1)

    def test_more_than_a_few_are_claimed_in_turn(self, state):
        state.post("one", DAY, [("mail", str(number)) for number in range(25)])
        found = [[one.payload for one in state.claim_notices(10, 60)] for _ in range(4)]
        assert found == [[str(number) for number in part] for part in (range(10), range(10, 20), range(20, 25), ())]

    def test_what_was_settled_is_gone(self, state, clock):
        state.post("one", DAY, [("mail", "text"), ("webhook", "text")])
        first, second = state.claim_notices(10, 60)
        state.settle_notice(first.notice_id)
        state.settle_notice(first.notice_id)
        clock.now += 60
        assert state.claim_notices(10, 60) == [replace(second, attempts=1)]

    def test_what_was_postponed_is_due_then(self, state, clock):
        state.post("one", DAY, [("mail", "text")])
        (notice,) = state.claim_notices(10, 60)
        state.postpone_notice(notice.notice_id, START + 300.5)
        clock.now = START + 300
        assert state.claim_notices(10, 60) == []
        clock.now = START + 300.5
        assert state.claim_notices(10, 60) == [replace(notice, attempts=1)]

    def test_what_was_settled_is_not_postponed(self, state, clock):
        state.post("one", DAY, [("mail", "text")])
        (notice,) = state.claim_notices(10, 60)
        state.settle_notice(notice.notice_id)
        state.postpone_notice(notice.notice_id, START)
        assert state.claim_notices(10, 60) == []
