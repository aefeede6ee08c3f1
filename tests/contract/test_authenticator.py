"""Whole examinations of a message: what is waited for and for how long, what breaks, what others have found."""

import contextlib
from concurrent.futures import Future

import dns.rdata
import pytest
from dkim_mail import MESSAGE, parts, rsa_key, signed

from deliverypools.adapters.authentication import authenticator as authenticator_module
from deliverypools.adapters.authentication.arc_check import ArcCheck
from deliverypools.adapters.authentication.authenticator import Authenticator, HeaderFields
from deliverypools.adapters.authentication.dkim_check import SignatureCheck
from deliverypools.adapters.resolver import DnsUnavailable, Reply, Resolver
from deliverypools.core.authentication import Authentication, DmarcResult, Result
from deliverypools.core.facts import NOT_ASKED, Answer
from deliverypools.core.settings import Settings
from deliverypools.core.settings.tables import Dns
from deliverypools.lab.dns_server import DnsFailure, DnsServer, txt

CLIENT = "192.0.2.1"
SECONDS = 20.0
AGAIN_SECONDS = 2.0
GRACE_SECONDS = 0.2
HANGS = 1000.0
SPF, DMARC, KEY = "example.org", "_dmarc.example.org", "sel._domainkey.example.org"
ZONES = {
    SPF: ["v=spf1 ip4:192.0.2.1 -all"],
    DMARC: ["v=DMARC1; p=reject"],
    KEY: [rsa_key()[1].decode()],
}
POOLS = {
    name: {"addresses": [f"203.0.113.{number}"], "helo": f"{name}.example.net"}
    for number, name in enumerate(("normal", "high-risk", "relay"), 1)
}
UNSIGNED = MESSAGE
SIGNED = signed()


class LaterAnswer(Future):
    """Done at a certain time; who waits for it moves the clock."""

    def __init__(self, clock, seconds, answer):
        super().__init__()
        self._clock = clock
        self._at = clock.now + seconds
        self._answer = answer

    def done(self):
        return self._clock.now >= self._at

    def result(self, timeout=None):
        if self._clock.now + timeout < self._at:
            self._clock.now += timeout
            raise TimeoutError
        self._clock.now = max(self._clock.now, self._at)
        return self._answer()

    def exception(self, timeout=None):
        with contextlib.suppress(DnsUnavailable):
            self.result(timeout)


class InventedResolver:
    """Answers from `zones`, after as many seconds as `delays` says; SPF by a delay of its own, or from the cache."""

    def __init__(self, clock, zones=ZONES, delays=None, spf_delay=None, delay=0.0):
        self.clock, self.zones, self.delays, self.spf_delay, self.delay = clock, zones, delays or {}, spf_delay, delay
        self.asked = []

    def look_up(self, name, rdtype, seconds):
        if self.spf_delay is not None and seconds <= 0:
            raise DnsUnavailable("timed out")
        texts = self.zones.get(name, []) if rdtype == "TXT" else []
        return Reply(tuple(dns.rdata.from_text("IN", "TXT", txt(text)) for text in texts))

    def start(self, function, seconds):
        return LaterAnswer(self.clock, self.spf_delay, lambda: function(seconds))

    def start_txt(self, name):
        self.asked.append(name)
        texts = tuple(text.encode() for text in self.zones.get(name, ()))
        return LaterAnswer(self.clock, self.delays.get(name, self.delay), lambda: texts)


def settings(**tables):
    return Settings.model_validate({"accepted_domains": ["example.net"], "pools": POOLS} | tables)


def header_of(message):
    header = HeaderFields()
    for name, value in parts(message)[0]:
        header.add(name.decode(), value.decode())
    return header


def begin(authenticator, *, sender="a@example.org", client=CLIENT, again=False):
    start = authenticator.examine_again if again else authenticator.examine
    return start(client_address=client, helo_name="mail.example.org", envelope_sender=sender)


def end(examination, message, header=None):
    examination.take_header(header or header_of(message))
    body = parts(message)[1]
    for at in range(0, len(body), 10):
        if not examination.feed(body[at : at + 10]):
            break
    found = examination.finish()
    examination.close()
    return found


def examined(resolver, message=SIGNED, clock=None, **options):
    changes = options.pop("settings", {})
    authenticator = Authenticator(settings(**changes), resolver, *([clock] if clock else []))
    return end(begin(authenticator, **options), message)


class TestTime:
    def test_a_client_that_is_slow_costs_no_time(self, clock):
        resolver = InventedResolver(clock, delay=5.0, spf_delay=0.0)
        examination = begin(Authenticator(settings(), resolver, clock))
        clock.now += 10 * SECONDS
        start = clock.now
        found = end(examination, SIGNED)
        assert found.summary == "spf=pass dkim=pass dmarc=pass"
        assert clock.now - start == 5.0

    def test_all_is_waited_for_at_the_same_time(self, clock):
        start = clock.now
        resolver = InventedResolver(clock, delays={KEY: 3.0, DMARC: 19.0}, spf_delay=8.0)
        assert examined(resolver, clock=clock).summary == "spf=pass dkim=pass dmarc=pass"
        assert clock.now - start == 19.0

    @pytest.mark.parametrize(
        ("again", "seconds"), [(False, SECONDS), (True, AGAIN_SECONDS)], ids=["on arrival", "again"]
    )
    def test_when_dns_hangs_one_budget_and_one_grace_are_all(self, clock, again, seconds):
        """Ten signatures of deep domains below the author domain: as many DMARC names as a message can make us ask."""
        start = clock.now
        signer = ".".join("bcdefghijk")
        fields = [
            field for n in range(10) for field in parts(signed(domain=f"s{n}.{signer}.example.org".encode()))[0][:1]
        ]
        message = b"".join(name + b":" + value + b"\r\n" for name, value in fields) + UNSIGNED
        resolver = InventedResolver(clock, delay=HANGS, spf_delay=HANGS)
        found = examined(resolver, message, clock, again=again)
        assert found.summary == "spf=temperror dkim=temperror dmarc=temperror"
        assert found.authenticated.answer is Answer.UNKNOWN
        assert len([name for name in resolver.asked if name.startswith("_dmarc.")]) > 10
        assert seconds <= clock.now - start <= seconds + GRACE_SECONDS + 0.001

    @pytest.mark.parametrize(
        ("delay", "result"), [(0.0, Result.PASS), (0.1, Result.PASS), (0.3, Result.TEMPERROR)], ids=str
    )
    def test_names_for_alignment_have_the_rest_of_the_time_or_a_moment(self, clock, delay, result):
        bounce = "bounce.example.org"
        zones = ZONES | {bounce: ZONES[SPF]}
        delays = {KEY: HANGS, f"_dmarc.{bounce}": delay}
        resolver = InventedResolver(clock, zones, delays)
        found = examined(resolver, SIGNED, clock, sender=f"x@{bounce}")
        assert (found.spf.result, found.dkim_result, found.dmarc.result) == (Result.PASS, Result.TEMPERROR, result)

    def test_cached_spf_needs_no_thread(self, clock):
        resolver = InventedResolver(clock)
        resolver.start = None
        assert examined(resolver, clock=clock).spf.result is Result.PASS

    def test_spf_that_came_into_the_cache_needs_no_thread_any_more(self, clock):
        resolver = InventedResolver(clock, spf_delay=HANGS)
        examination = begin(Authenticator(settings(), resolver, clock))
        resolver.spf_delay = None
        start = clock.now
        assert end(examination, SIGNED).summary == "spf=pass dkim=pass dmarc=pass"
        assert clock.now == start


class TestAgain:
    def test_only_so_many_at_the_same_time(self, clock):
        authenticator = Authenticator(settings(), InventedResolver(clock), clock)
        begun = [begin(authenticator, again=True) for _ in range(8)]
        assert None not in begun
        assert begin(authenticator, again=True) is None
        assert begin(authenticator) is not None
        for _ in range(2):
            begun[0].close()
        assert begin(authenticator, again=True) is not None
        assert begin(authenticator, again=True) is None

    def test_it_never_takes_longer_than_on_arrival(self, clock):
        start = clock.now
        changes = {"authentication": {"timeout_seconds": 0.5}}
        resolver = InventedResolver(clock, delay=HANGS, spf_delay=HANGS)
        assert examined(resolver, clock=clock, again=True, settings=changes).spf.result is Result.TEMPERROR
        assert clock.now - start <= 0.5 + GRACE_SECONDS + 0.001


def fail(*_arguments, **_options):
    raise ValueError("broken")


def breaking(monkeypatch, where):
    owner, _, name = where.rpartition(".")
    owners = {"SignatureCheck": SignatureCheck, "ArcCheck": ArcCheck, "": authenticator_module}
    monkeypatch.setattr(owners[owner], name, fail)


PARTS = {
    "check_spf": "spf",
    "SignatureCheck": "dkim",
    "SignatureCheck.start": "dkim",
    "SignatureCheck.feed": "dkim",
    "SignatureCheck.finish": "dkim",
    "ArcCheck": "arc",
    "ArcCheck.start": "arc",
    "ArcCheck.feed": "arc",
    "ArcCheck.finish": "arc",
    "author_domains": "dmarc",
    "tree_walk_names": "dmarc",
    "names_to_ask": "dmarc",
    "evaluate": "dmarc",
}


class TestParts:
    @pytest.mark.parametrize("where", PARTS)
    def test_what_breaks_is_unknown_and_nothing_else(self, monkeypatch, caplog, clock, where):
        breaking(monkeypatch, where)
        if where == "ArcCheck.feed":
            monkeypatch.setattr(ArcCheck, "wants_body", True)
        changes = {"authentication": {"trusted_arc_sealers": ["one.example"]}}
        found = examined(InventedResolver(clock), clock=clock, settings=changes)
        results = {
            "spf": found.spf.result,
            "dkim": found.dkim_result,
            "dmarc": found.dmarc.result,
            "arc": found.arc.result,
        }
        whole = {"spf": Result.PASS, "dkim": Result.PASS, "dmarc": Result.PASS, "arc": Result.NONE}
        assert results == whole | {PARTS[where]: Result.TEMPERROR}
        assert found.authenticated.answer is (Answer.UNKNOWN if where == "author_domains" else Answer.YES)
        (line,) = [line for line in caplog.records if line.exc_info]
        assert "ValueError: broken" in line.exc_text

    def test_a_message_that_fails(self, clock):
        """What those below would be if nothing broke."""
        assert examined(InventedResolver(clock), UNSIGNED, clock, client="192.0.2.9").authenticated.answer is Answer.NO

    @pytest.mark.parametrize("where", ["check_spf", "SignatureCheck.finish", "judge_authentication"])
    def test_what_breaks_is_never_no(self, monkeypatch, clock, where):
        breaking(monkeypatch, where)
        found = examined(InventedResolver(clock), UNSIGNED, clock, client="192.0.2.9")
        assert found.authenticated.answer is Answer.UNKNOWN

    def test_trusted_results_that_cannot_be_read_are_not_there(self, monkeypatch, clock):
        breaking(monkeypatch, "trusted_results")
        changes = {"trusted_authserv_ids": ["filter.example.net"]}
        found = examined(InventedResolver(clock), clock=clock, settings=changes)
        assert found.summary == "spf=pass dkim=pass dmarc=pass"
        changes["authentication"] = {"enabled": False}
        found = examined(InventedResolver(clock), clock=clock, settings=changes)
        assert found.authenticated.answer is Answer.UNKNOWN

    def test_a_look_up_of_spf_that_raises(self, clock, caplog):
        resolver = InventedResolver(clock, spf_delay=1.0)
        resolver.start = lambda _function, _seconds: LaterAnswer(clock, 0.0, fail)
        found = examined(resolver, clock=clock)
        assert found.summary == "spf=temperror dkim=pass dmarc=pass"
        assert "ValueError: broken" in caplog.text

    def test_too_many_look_ups(self, clock):
        resolver = InventedResolver(clock, spf_delay=1.0)
        refused = Future()
        refused.set_exception(DnsUnavailable("too many look-ups under way"))
        resolver.start = lambda _function, _seconds: refused
        resolver.start_txt = lambda _name: refused
        found = examined(resolver, clock=clock)
        assert found.summary == "spf=temperror dkim=temperror dmarc=temperror"
        assert (found.spf.domain, found.spf.identity) == ("example.org", "mailfrom")


REPORTED = b"spf=pass smtp.mailfrom=x@other.example; dkim=none; dmarc=fail header.from=example.org"
TRUSTED = b"Authentication-Results: filter.example.net; " + REPORTED + b"\r\n"


class TestWhatOthersFound:
    CHANGES = {"trusted_authserv_ids": ["filter.example.net"]}  # noqa: RUF012

    def test_it_is_used_and_nothing_is_looked_up(self, clock):
        resolver = InventedResolver(clock, spf_delay=0.0)
        found = examined(resolver, TRUSTED + SIGNED, clock, settings=self.CHANGES)
        assert (found.spf.domain, found.dkim) == ("other.example", ())
        assert found.dmarc == DmarcResult(result=Result.FAIL, domain="example.org")
        assert found.authenticated.answer is Answer.NO
        assert resolver.asked == []

    @pytest.mark.parametrize("field", [b"", TRUSTED.replace(b"filter", b"other")], ids=["none", "another's"])
    def test_without_it_everything_is_examined(self, clock, field):
        found = examined(InventedResolver(clock), field + SIGNED, clock, settings=self.CHANGES)
        assert found.summary == "spf=pass dkim=pass dmarc=pass"

    def test_what_is_not_reported_is_examined(self, clock):
        field = b"Authentication-Results: filter.example.net; spf=fail smtp.mailfrom=other.example\r\n"
        found = examined(InventedResolver(clock), field + SIGNED, clock, settings=self.CHANGES)
        assert found.summary == "spf=fail dkim=pass dmarc=pass"

    def test_it_is_used_without_examination(self, clock):
        resolver = InventedResolver(clock)
        changes = self.CHANGES | {"authentication": {"enabled": False}}
        passed = TRUSTED.replace(b"dmarc=fail", b"dmarc=pass")
        found = examined(resolver, passed + SIGNED, clock, settings=changes)
        assert found.authenticated.answer is Answer.YES
        found = examined(resolver, TRUSTED[: TRUSTED.index(b"; dkim")] + b"\r\n" + SIGNED, clock, settings=changes)
        assert (found.spf.result, found.authenticated.answer) == (Result.PASS, Answer.NO)
        assert resolver.asked == []

    def test_without_examination_nothing_is_found(self, clock):
        resolver = InventedResolver(clock)
        found = examined(resolver, TRUSTED + SIGNED, clock, settings={"authentication": {"enabled": False}})
        assert found == Authentication()
        assert found.authenticated == NOT_ASKED
        assert resolver.asked == []


@pytest.mark.parametrize(("fields", "result"), [(990, Result.PASS), (1001, Result.PERMERROR)])
def test_a_header_that_was_cut_has_no_author_domain(clock, fields, result):
    """A second From may be in what was left out."""
    message = UNSIGNED.replace(b"\r\n\r\n", b"\r\n" + b"X: y\r\n" * fields + b"\r\n", 1)
    resolver = InventedResolver(clock)
    found = examined(resolver, message, clock)
    assert (found.spf.result, found.dmarc.result) == (Result.PASS, result)
    assert (DMARC in resolver.asked) is (result is Result.PASS)


class TestWithDns:
    @pytest.fixture
    def server(self):
        server = DnsServer({name: {"TXT": [txt(text) for text in texts]} for name, texts in ZONES.items()})
        server.start("127.0.0.1", 0)
        yield server
        server.stop()

    @pytest.fixture
    def authenticator(self, server, clock):
        host, port = server.address
        dns_settings = Dns(nameservers=[f"{host}:{port}"], timeout_seconds=5, servfail_cache_seconds=30)
        with contextlib.closing(Resolver(dns_settings, clock=clock)) as resolver:
            yield Authenticator(settings(), resolver)

    @pytest.mark.parametrize("again", [False, True], ids=["on arrival", "again"])
    def test_everything_passes(self, authenticator, again):
        found = end(begin(authenticator, again=again), SIGNED)
        assert found.summary == "spf=pass dkim=pass dmarc=pass"
        assert (found.dmarc.domain, found.dmarc.policy) == ("example.org", "reject")
        assert found.authenticated.answer is Answer.YES

    @pytest.mark.parametrize(
        ("name", "message", "outcome"),
        [
            (".", SIGNED, ("spf=temperror dkim=temperror dmarc=temperror", Answer.UNKNOWN)),
            (SPF, SIGNED, ("spf=temperror dkim=temperror dmarc=temperror", Answer.UNKNOWN)),
            (KEY, SIGNED, ("spf=pass dkim=temperror dmarc=pass", Answer.YES)),
            (DMARC, UNSIGNED, ("spf=pass dkim=none dmarc=temperror", Answer.YES)),
            (SPF, UNSIGNED, ("spf=temperror dkim=none dmarc=temperror", Answer.UNKNOWN)),
        ],
    )
    def test_what_fails_is_unknown_and_known_when_dns_is_back(self, server, authenticator, name, message, outcome):
        server.fail(name, DnsFailure.SERVFAIL)
        found = end(begin(authenticator), message)
        assert (found.summary, found.authenticated.answer) == outcome
        server.fail(name, None)
        assert end(begin(authenticator), message).summary == outcome[0]
        authenticator._resolver._clock.now += 31
        found = end(begin(authenticator), message)
        assert "temperror" not in found.summary
        assert (found.dmarc.result, found.authenticated.answer) == (Result.PASS, Answer.YES)
