"""The shared state on a server: what happens when the server is away, slow, full, read-only or somebody else's."""

import datetime as dt
import ipaddress
import json
import logging
import multiprocessing
import socket
import threading
import time
import traceback
from dataclasses import astuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from invented import ODD_NAMES, START, dropped_notice, held, ndr_event, record, reserve, restriction, tally
from stores import RedisServer

from deliverypools.adapters import log_times
from deliverypools.adapters.redis_state import RedisState
from deliverypools.adapters.state import RESERVATION_SECONDS, Reservation, StateUnavailable, open_state
from deliverypools.core.accounts import Account
from deliverypools.core.facts import Answer, Finding, Ingress
from deliverypools.core.settings import Settings
from deliverypools.core.tallies import DAY, MINUTE

SECRET = "Corre%20ct-horse"
ALICE = Account(Ingress.SUBMISSION, "alice")
SECONDS_AT_MOST = 6
"""About two, on a machine that is very busy; eight calls one after the other would take eight or more."""


@pytest.fixture
def store(redis_store):
    return redis_store


@pytest.fixture
def own_server(tmp_path):
    """A server that a test may stop, let hang, and configure."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_state(own_server, clock):
    state = RedisState(own_server.url, clock)
    yield state
    state.close()


def self_signed(folder):
    """Write a certificate for 127.0.0.1 and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis.example.org")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


def calls_of(state):
    """Every method of the contract that asks the server."""
    finding = Finding(Answer.YES, "example.org: has MX")
    return {
        "reserve": lambda: state.reserve([Reservation("4Q1", "i", tally(1))]),
        "commit": lambda: state.commit("4Q1", tally(1)),
        "cancel": lambda: state.cancel("4Q1"),
        "count": lambda: state.count(tally(1)),
        "count_once": lambda: state.count_once("ticket", tally(1)),
        "used": lambda: held(state),
        "see": lambda: state.see("alice", ["a@x"], 100, renew=True),
        "first_time": lambda: state.first_time("name", 100),
        "use_ticket": lambda: state.use_ticket("ticket", "4Q1", 3, 100),
        "remember_sender_domain": lambda: state.remember_sender_domain("example.org", finding, 100),
        "last_known_sender_domain": lambda: state.last_known_sender_domain("example.org"),
        "restrictions_on": lambda: state.restrictions_on([ALICE]),
        "restrictions": state.restrictions,
        "restrict": lambda: state.restrict(restriction()),
        "release": lambda: state.release("bob"),
        "last_ending": lambda: state.last_ending(ALICE),
        "was_released_today": lambda: state.was_released_today("alice"),
        "record": lambda: state.record(record(), DAY),
        "record_of": lambda: state.record_of("mx1.example.org", "4Q1"),
        "records_of": lambda: state.records_of("alice"),
        "sent": lambda: state.sent(["<1@example.org>"], [("mx1.example.org", "4Q1")]),
        "records_about": lambda: state.records_about("4Q1"),
        "recorded_since": state.recorded_since,
        "drop": lambda: state.drop(dropped_notice(), DAY, 100),
        "dropped": state.dropped,
        "count_dropped": state.count_dropped,
        "remember_scan": lambda: state.remember_scan("key", "answer", 100),
        "known_scans": lambda: state.known_scans(["key"]),
        "note_ndr": lambda: state.note_ndr(ndr_event()),
        "ndrs": lambda: state.ndrs(since=0.0, most=10),
        "post": lambda: state.post("one", DAY, [("mail", "text")]),
        "claim_notices": lambda: state.claim_notices(10, 60),
        "settle_notice": lambda: state.settle_notice("1"),
        "postpone_notice": lambda: state.postpone_notice("1", START),
    }


def test_the_settings_name_the_server(own_server, clock):
    pools = {
        name: {"addresses": [f"192.0.2.{number}"], "helo": f"{name}.example.org"}
        for name, number in (("normal", 10), ("high-risk", 20), ("relay", 30))
    }
    settings = Settings.model_validate({"accepted_domains": ["example.org"], "pools": pools, "state": own_server.url})
    own_server.stop()
    state = open_state(settings, clock)
    own_server.start()
    assert state.count(tally(1)) == (0,)
    state.close()


class TestServerAway:
    def test_no_call_hangs_or_works_and_all_work_again(self, own_server, own_state):
        held(own_state)
        own_server.stop()
        for name, call in calls_of(own_state).items():
            with pytest.raises(StateUnavailable, match=rf"^redis://127\.0\.0\.1:{own_server.port}: .*refused"):
                pytest.fail(f"{name} returned {call()}")
        own_server.start()
        for call in calls_of(own_state).values():
            call()

    def test_a_server_that_was_started_again_is_found_at_once(self, own_server, own_state):
        own_state.count(tally(1))
        own_server.stop()
        own_server.start()
        assert own_state.count(tally(1)) == (0,), "it keeps nothing, as we start it"

    def test_a_server_that_hangs_is_given_up_in_about_two_seconds(self, own_server, own_state, clock):
        held(own_state)
        own_server.hang()
        for state in (own_state, RedisState(own_server.url, clock)):
            before = time.monotonic()
            with pytest.raises(StateUnavailable, match=r"[Tt]ime"):
                state.restrictions()
            assert time.monotonic() - before < SECONDS_AT_MOST
        own_server.resume()
        assert held(own_state) == 0

    def test_threads_do_not_wait_for_it_one_after_the_other(self, own_server, own_state):
        held(own_state)
        own_server.hang()
        failures = []

        def count_one():
            try:
                own_state.restrictions()
            except StateUnavailable as error:
                failures.append(error)

        threads = [threading.Thread(target=count_one) for _ in range(8)]
        before = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(failures) == 8
        assert time.monotonic() - before < SECONDS_AT_MOST

    def test_a_name_that_cannot_be_looked_up(self, clock):
        with pytest.raises(StateUnavailable, match=r"^redis://a\.\.b:6379: "):
            RedisState("redis://a..b:6379/0", clock).restrictions()


class TestServerRefuses:
    def test_a_server_that_has_forgotten_our_scripts_is_told_them_again(self, own_server, own_state):
        own_state.count(tally(1))
        own_server.client.script_flush()
        assert own_state.count(tally(1)) == (1,)
        assert held(own_state) == 2

    def test_a_full_server_and_recovery(self, own_server, own_state):
        own_state.count(tally(3))
        reserve(own_state, "4Q1", tally(2))
        own_server.client.config_set("maxmemory", 1)
        for call in (
            lambda: own_state.count(tally(1)),
            lambda: reserve(own_state, "4Q2", tally(1)),
            lambda: reserve(own_state, "4Q1", tally(1)),
            lambda: own_state.count_once("ticket", tally(1)),
            lambda: own_state.restrict(restriction()),
            lambda: own_state.post("one", DAY, [("mail", "text")]),
        ):
            with pytest.raises(StateUnavailable, match="maxmemory"):
                call()
        own_server.client.config_set("maxmemory", 0)
        assert held(own_state) == 5, "nothing is counted or given back by a call that failed"
        assert own_state.post("one", DAY, [("mail", "text")])
        assert own_state.restrictions() == []

    def test_a_full_server_does_not_lose_what_lapses(self, own_server, own_state, clock):
        reserve(own_state, "4Q1", tally(2))
        clock.now += RESERVATION_SECONDS + 1
        own_server.client.config_set("maxmemory", 1)
        with pytest.raises(StateUnavailable):
            own_state.count(tally(1))
        own_server.client.config_set("maxmemory", 0)
        assert held(own_state) == 0

    def test_a_replica_is_read_only_and_recovery(self, own_server, own_state, redis_server):
        own_state.count(tally(1))
        own_server.client.replicaof("127.0.0.1", redis_server.port)
        with pytest.raises(StateUnavailable, match=r"READONLY|read only"):
            own_state.count(tally(1))
        own_server.client.replicaof("NO", "ONE")
        own_state.count(tally(1))

    @pytest.mark.parametrize(
        ("key", "name"),
        [
            ("counter:alice/recipients", "reserve"),
            ("reservations", "commit"),
            ("once:name", "first_time"),
            ("seen:alice", "see"),
            ("restrictions", "restrictions_on"),
            ("endings:submission:alice", "last_ending"),
            ("decision:4Q1/mx1.example.org", "record"),
            ("decisions-of:alice", "records_of"),
            ("decision:4Q1/mx1.example.org", "sent"),
            ("hosts", "record"),
            ("hosts", "records_about"),
            ("log-times", "record"),
            ("log-times", "recorded_since"),
            ("dropped", "drop"),
            ("dropped-by-time", "dropped"),
            ("dropped-ending", "count_dropped"),
            ("ndrs", "note_ndr"),
            ("ndrs-by-time", "ndrs"),
            ("notices", "claim_notices"),
        ],
    )
    def test_a_key_of_another_type(self, state, redis_server, key, name):
        redis_server.client.rpush(f"delivery-pools:{key}", "a list")
        with pytest.raises(StateUnavailable, match=r"WRONGTYPE|wrong kind of value"):
            calls_of(state)[name]()

    @pytest.mark.parametrize(
        "row",
        ["nonsense", "[]", "{}", '{"account": "alice", "ingress": "by carrier pigeon"}', "[" * 100_000],
        ids=lambda row: row[:20],
    )
    def test_a_row_that_somebody_else_wrote(self, state, redis_server, row):
        redis_server.client.hset("delivery-pools:restrictions", "submission:alice", row)
        redis_server.client.hset("delivery-pools:decision:4Q1/mx1.example.org", mapping={"row": row, "expires_at": 9e9})
        with pytest.raises(StateUnavailable):
            state.restrictions_on([ALICE])
        with pytest.raises(StateUnavailable):
            state.record_of("mx1.example.org", "4Q1")
        redis_server.client.set("delivery-pools:scan:key", row)
        with pytest.raises(StateUnavailable):
            state.known_scans(["key"])
        state.remember_scan("key", "answer", 100)
        assert state.known_scans(["key"]) == {"key": "answer"}
        redis_server.client.set("delivery-pools:sender-domain:example.org", row)
        with pytest.raises(StateUnavailable):
            state.last_known_sender_domain("example.org")

    @pytest.mark.parametrize("end", ["9" * 400, "9" * 5000, '"soon"', "null", "[]"], ids=lambda end: end[:20])
    def test_a_row_with_an_absurd_end(self, state, redis_server, end):
        row = f'{{"text": "x", "answer": "yes", "evidence": "x", "expires_at": {end}}}'
        redis_server.client.set("delivery-pools:scan:key", row)
        redis_server.client.set("delivery-pools:sender-domain:example.org", row)
        with pytest.raises(StateUnavailable):
            state.known_scans(["key"])
        with pytest.raises(StateUnavailable):
            state.last_known_sender_domain("example.org")


class TestSecrets:
    @pytest.fixture
    def guarded(self, tmp_path):
        server = RedisServer(tmp_path, "--requirepass", "Corre ct-horse")
        server.client.connection_pool.connection_kwargs["password"] = "Corre ct-horse"
        server.start()
        yield server
        server.stop()

    def test_the_password_opens_the_server(self, guarded, clock):
        state = RedisState(f"redis://:{SECRET}@127.0.0.1:{guarded.port}/2", clock)
        assert state.count(tally(1)) == (0,)
        assert guarded.client.info("keyspace").keys() == {"db2"}
        state.close()

    @pytest.mark.parametrize("user", ["", "default", "nobody"])
    def test_a_wrong_one_is_told_to_nobody(self, guarded, clock, caplog, user):
        caplog.set_level(logging.DEBUG)
        state = RedisState(f"redis://{user}:{SECRET}x@127.0.0.1:{guarded.port}/0", clock)
        with pytest.raises(StateUnavailable, match="invalid username-password pair") as caught:
            state.count(tally(1))
        told = "".join(traceback.format_exception(caught.value)) + repr(state) + caplog.text
        assert "horse" not in told

    def test_none_at_all(self, guarded, clock):
        with pytest.raises(StateUnavailable, match="Authentication required"):
            RedisState(guarded.url, clock).count(tally(1))

    @pytest.mark.parametrize(
        "url",
        [
            f"redis://:12{SECRET}/@127.0.0.1:6379/0",
            f"redis://:{SECRET}@127.0.0.1:{SECRET}/0",
            f"redis://:{SECRET}@127.0.0.1:6379/0?socket_timeout={SECRET}",
            f"redis://:{SECRET}@127.0.0.1:6379/0?nonsense={SECRET}",
            f"redis://:{SECRET}@[127.0.0.1/0",
        ],
    )
    def test_a_wrong_url_is_not_repeated(self, clock, url):
        state = RedisState(url, clock)
        with pytest.raises(StateUnavailable, match="the URL of the server, or an option in it, is wrong") as caught:
            state.count(tally(1))
        assert "horse" not in "".join(traceback.format_exception(caught.value))


class TestEncrypted:
    @pytest.fixture
    def encrypted(self, tmp_path):
        certificate, key = self_signed(tmp_path)
        server = RedisServer(
            tmp_path, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"
        )
        server.start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            server.tls_port = free.getsockname()[1]
        server.client.config_set("tls-port", server.tls_port)
        yield server
        server.stop()

    def test_a_certificate_that_we_trust(self, encrypted, tmp_path, clock):
        state = RedisState(f"rediss://127.0.0.1:{encrypted.tls_port}/0?ssl_ca_certs={tmp_path}/cert.pem", clock)
        assert state.count(tally(1)) == (0,)
        assert held(state) == 1
        state.close()

    def test_a_certificate_that_nobody_vouches_for(self, encrypted, clock):
        with pytest.raises(StateUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            RedisState(f"rediss://127.0.0.1:{encrypted.tls_port}/0", clock).count(tally(1))

    def test_a_server_without_tls(self, redis_server, clock):
        with pytest.raises(StateUnavailable, match=rf"^rediss://127\.0\.0\.1:{redis_server.port}: "):
            RedisState(redis_server.url.replace("redis:", "rediss:"), clock).count(tally(1))


class TestBounds:
    def test_all_keys_are_ours_and_all_but_a_few_expire(self, state, redis_server):
        for call in calls_of(state).values():
            call()
        reserve(state, "4Q2", tally(1))
        keys = [key.decode() for key in redis_server.client.scan_iter()]
        assert all(key.startswith("delivery-pools:") for key in keys)
        lasting = {key for key in keys if redis_server.client.ttl(key) == -1}
        # What an administrator ends, the outbox's order, a number.
        assert lasting == {"delivery-pools:restrictions", "delivery-pools:notices", "delivery-pools:last-notice"}

    def test_reservations_and_their_order_end_together(self, state, redis_server, clock):
        for number in range(50):
            reserve(state, f"4Q{number}", tally(1))
        clock.now += RESERVATION_SECONDS + 1
        held(state)
        assert redis_server.client.keys() == []

    def test_old_members_are_dropped_with_the_next_write(self, state, redis_server, clock):
        for number in range(50):
            state.see("alice", [f"{number}@x"], 60, renew=True)
            state.record(record(f"4Q{number}", at=clock.now), 60)
            state.use_ticket("ticket", f"4Q{number}", 100, 60)
            state.restrict(restriction(f"user{number}", until=clock.now + 60))
        clock.now += MINUTE + 1
        state.see("alice", ["new@x"], 60, renew=True)
        state.record(record("4Q", at=clock.now), 60)
        state.use_ticket("ticket", "4Q", 100, 60)
        state.restrict(restriction("new", until=clock.now + 60))
        client = redis_server.client
        assert client.zcard("delivery-pools:seen:alice") == 1
        assert client.zcard("delivery-pools:decisions-of:alice") == 1
        assert client.zcard("delivery-pools:ticket:ticket") == 1
        assert client.hlen("delivery-pools:restrictions") == client.zcard("delivery-pools:restrictions-ending") == 1

    def test_old_endings_are_dropped_with_the_next_one(self, state, redis_server, clock):
        for _ in range(10):
            state.restrict(restriction(since=clock.now, until=clock.now + 60))
            clock.now += DAY
        assert redis_server.client.zcard("delivery-pools:endings:submission:alice") == 3
        assert 2 * DAY < redis_server.client.ttl("delivery-pools:endings:submission:alice") < 4 * DAY

    def test_the_drop_ledger_and_the_events_keep_nothing_of_what_is_gone(self, state, redis_server, clock):
        for number in range(30):
            state.drop(dropped_notice(f"4Q{number}"), 60, 10)
            state.note_ndr(ndr_event(f"mx/{number}"))
        client = redis_server.client
        sizes = [client.hlen("delivery-pools:dropped"), client.zcard("delivery-pools:dropped-by-time")]
        assert sizes == [10, 10]
        clock.now += DAY + 1
        state.drop(dropped_notice("4R", at=clock.now), 60, 10)
        state.note_ndr(ndr_event("mx/new", at=clock.now))
        for name in ("dropped", "ndrs"):
            assert client.hlen(f"delivery-pools:{name}") == client.zcard(f"delivery-pools:{name}-by-time") == 1
        assert client.zcard("delivery-pools:dropped-ending") == 1

    def test_a_long_message_id_makes_a_short_key(self, state, redis_server):
        state.record(record(message_id="<" + "x" * 100_000), DAY)
        assert max(map(len, redis_server.client.scan_iter())) < 100

    def test_times_that_rows_are_kept_for_are_a_few(self, state, redis_server):
        for number in range(100):
            state.record(record(at=START + number), DAY + number)
        assert redis_server.client.hlen("delivery-pools:log-times") == log_times.MOST

    @pytest.mark.parametrize(
        "row",
        ["nonsense", "[]", "{}", '["a", 1]', '{"queue_id": 1}', "[" * 100_000],
        ids=lambda row: row[:20],
    )
    def test_an_entry_or_event_that_somebody_else_wrote_hides_none_of_ours(self, state, redis_server, row):
        state.drop(dropped_notice(), DAY, 10)
        state.note_ndr(ndr_event())
        for name in ("dropped", "ndrs"):
            redis_server.client.hset(f"delivery-pools:{name}", "one", row)
            redis_server.client.zadd(f"delivery-pools:{name}-by-time", {"one": START})
        assert state.dropped() == [dropped_notice()]
        assert state.ndrs(since=0.0, most=10) == [ndr_event()]

    def test_events_of_a_version_that_knows_fewer_or_more_of_them(self, state, redis_server):
        """Hosts with one state are not changed to a new version in the same second."""
        row = list(astuple(ndr_event("one", reply="550 5.1.1 gone")))
        for name, values in (("fewer", row[:-1]), ("more", [*row, "new"])):
            redis_server.client.hset("delivery-pools:ndrs", name, json.dumps([name, *values[1:]]))
            redis_server.client.zadd("delivery-pools:ndrs-by-time", {name: START})
        assert {(one.event_id, one.reply) for one in state.ndrs(since=0.0, most=10)} == {
            ("fewer", ""),
            ("more", "550 5.1.1 gone"),
        }

    def test_a_shorter_time_does_not_let_the_server_drop_what_is_kept_longer(self, state, redis_server):
        state.see("alice", ["a@x"], 100 * DAY, renew=True)
        state.see("alice", ["b@x"], 60, renew=True)
        assert redis_server.client.ttl("delivery-pools:seen:alice") > 99 * DAY

    def test_a_notice_that_the_server_dropped_is_not_claimed(self, state, redis_server):
        state.post("one", DAY, [("mail", "first"), ("mail", "second")])
        redis_server.client.delete("delivery-pools:notice:0000000000000001")
        assert [one.payload for one in state.claim_notices(10, 60)] == ["second"]

    @pytest.mark.parametrize("name", [*ODD_NAMES, "half a surrogate \udcff \ud800"])
    def test_any_text_is_kept_as_it_is(self, state, name):
        state.restrict(restriction(name, reason=name))
        assert state.restrictions() == [restriction(name, reason=name)]
        state.record(record(account=name, subject=name), DAY)
        assert state.records_of(name) == [record(account=name, subject=name)]
        state.post(name, DAY, [("mail", name)])
        assert [one.payload for one in state.claim_notices(10, 60)] == [name]
        state.remember_sender_domain(name, Finding(Answer.YES, name), 60)
        assert state.last_known_sender_domain(name) == Finding(Answer.YES, name)
        assert reserve(state, name, tally(1, name)) == 0
        assert state.commit(name, tally(1, name)) == (0,)
        assert held(state, name) == 1


def count_in_a_child(store, counted):
    counted.put(store.open(time.time).count(tally(1)))


def test_a_forked_child_makes_its_own(store):
    parent = store.open(time.time)
    parent.count(tally(1))
    fork = multiprocessing.get_context("fork")
    counted = fork.Queue()
    child = fork.Process(target=count_in_a_child, args=(store, counted))
    child.start()
    assert counted.get(timeout=30) == (1,)
    child.join()
    assert parent.count(tally(1)) == (2,)
    parent.close()
