"""Invents hours of bounces and refusals whose cause is known: incidents, harmless ones, and quiet hours.

Everything comes from one seed. Sizes, shapes over time, mixtures of reasons, numbers of clients and the usual traffic
behind it are drawn anew for each scenario. The tests use seeds of their own, `make bench-surges` fresh ones.

Nothing here knows how a cause is found: what two causes have in common overlaps as it does in the world, and no number
stays clear of a limit there. Only the two settings are known, so that an incident is one and a quiet hour is none.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from deliverypools.core.dsn.was_it_ours import Verdict
from deliverypools.core.surges.baseline import account_stream, noted
from deliverypools.core.surges.causes import Cause
from deliverypools.core.surges.events import Category, NdrEvent, Way
from deliverypools.core.surges.groups import ALL_ACCOUNTS

NOW: Final = 1_795_352_709.0
"""2026-11-22 13:05:09 UTC."""
HOUR: Final = 3600.0
MINIMUM: Final = 50
FACTOR: Final = 5
QUIET: Final = "quiet"
_SMALLEST: Final = MINIMUM + 10
_LARGEST: Final = 8000
INCIDENTS: Final = tuple(cause for cause in Cause if cause not in (Cause.UNCLEAR, Cause.OLD_LIST_OR_STOLEN_PASSWORD))
"""What may happen besides trouble of our own."""
_NEARLY_NO: Final = 0.02
_MUCH: Final = 0.2
_SETTLED: Final = 200.0
"""Seconds: the incidents began longer ago than that."""


@dataclass(frozen=True)
class Incident:
    """What happened."""

    cause: Cause
    variant: str
    subjects: frozenset[str]
    """Any of these may be named."""
    also: Cause | None = None
    """Would be no wrong answer either: it says this and another cause, and asks to look."""

    def is_told_by(self, cause: Cause) -> bool:
        """Tell whether an answer is right, or says so among other things."""
        return cause in (self.cause, self.also)


@dataclass
class Scenario:
    """An hour."""

    seed: int
    events: list[NdrEvent] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    usual: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Usual number of an hour, by stream."""


class Inventor:
    """Draws one scenario."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  (reproducible, not secret)
        self.scenario = Scenario(seed)
        self.domains = [f"customer{number}.example" for number in range(self.random.choice((1, 3, 12, 60)))]
        self._networks = 0
        self._events = 0

    # ---- parts

    def size(self) -> int:
        """Return how large an incident is: small ones are as frequent as large ones."""
        return int(_SMALLEST * (_LARGEST / _SMALLEST) ** self.random.random())

    def is_so(self, probability: float) -> bool:
        """Throw a die."""
        return self.random.random() < probability

    def times(self, count: int) -> list[float]:
        """Return times in the hour, oldest first: even, growing, a burst, or only the last minutes."""
        draw: Callable[[], float] = self.random.choice(
            (
                self.random.random,
                lambda: self.random.random() ** 0.4,
                lambda: self.random.betavariate(8, 3),
                lambda: 1 - 0.12 * self.random.random(),
            )
        )
        return sorted(NOW - 1 - (HOUR - 60) * (1 - draw()) for _ in range(count))

    def network(self) -> str:
        """Return the first three parts of an IPv4 network that nobody else has, now and then an IPv6 network."""
        self._networks += 1
        if self.is_so(0.1):
            return f"2001:db8:{self._networks % 0xFFFF:x}:"
        return f"{11 + self._networks // 65_536}.{self._networks // 256 % 256}.{self._networks % 256}"

    def client(self, network: str) -> str:
        """Return a client in a network, as events have it."""
        if ":" in network:
            return f"{network}{self.random.randrange(256):x}::/64"
        return f"{network}.{self.random.randrange(1, 255)}"

    def crowd(self, count: int) -> Callable[[], str]:
        """Return a source of clients of `count` networks: a few large providers, many small ones."""
        networks = [self.network() for _ in range(count)]
        weights = [1 / (number + 3) for number in range(count)]
        return lambda: self.client(self.random.choices(networks, weights)[0])

    def some_remotes(self, count: int) -> Callable[[], str]:
        """Return a source of destinations, a few of them large."""
        remotes = [f"remote{self.random.randrange(10**6)}.example" for _ in range(count)]
        weights = [1 / (number + 2) for number in range(count)]
        return lambda: self.random.choices(remotes, weights)[0]

    def reasons(self, **shares: float) -> Callable[[], Category]:
        """Return a source of reasons; what is left of 1 is `OTHER`."""
        names = [Category[name.upper()] for name in shares]
        weights = [*shares.values(), max(0.0, 1 - sum(shares.values()))]
        return lambda: self.random.choices([*names, Category.OTHER], weights)[0]

    def word(self) -> str:
        """Return some text that does not come again."""
        return f"{self.random.getrandbits(48):012x}"

    def add(self, at: float, way: Way, domain: str, **values: Any) -> None:
        """Add an event."""
        self._events += 1
        event = NdrEvent(event_id=f"mx/{self._events}", at=at, way=way, domain=domain, **values)
        self.scenario.events.append(event)

    def happened(self, cause: Cause, variant: str, *subjects: str, also: Cause | None = None) -> None:
        """Note the label."""
        self.scenario.incidents.append(Incident(cause, variant, frozenset(subjects), also))

    def sent(self, at: float, user: str, **values: Any) -> None:
        """Add a notice of ours about mail of one of our users."""
        domain = user.rpartition("@")[2]
        self.add(at, Way.MADE, domain, address=user, account=user, verdict=Verdict.GENUINE, **values)

    # ---- what is usual

    def background(self) -> None:
        """Add the usual traffic, at up to three times its mean; in a new installation, nothing is usual yet."""
        is_new = self.is_so(0.25)
        for domain in self.domains:
            for draw in (self._usual_backscatter, self._usual_refusals, self._usual_own):
                mean = self.random.choice((0.0, 0.3, 2.0, 12.0)) if is_new else 40 * self.random.random() ** 4
                before = len(self.scenario.events)
                draw(domain, min(round(mean * self.random.uniform(0.3, 3)), MINIMUM - 12 if is_new else 200))
                if not is_new:
                    self._learn(self.scenario.events[before:], mean)

    def _learn(self, events: Sequence[NdrEvent], mean: float) -> None:
        """Say that these events are usual: so many an hour."""
        per_stream: dict[str, float] = defaultdict(float)
        for event in events:
            for entry in noted(event).entries:
                per_stream[entry.stream] += entry.amount
        total = max(per_stream.values(), default=0.0)
        for stream, amount in per_stream.items():
            self.scenario.usual[stream] += amount * mean / total

    def _usual_backscatter(self, domain: str, count: int) -> None:
        clients, reason = self.crowd(40), self.reasons(unknown_user=0.4, spam=0.2, mailbox_full=0.2)
        for at in self.times(count):
            verdict = self.random.choice((Verdict.BACKSCATTER, Verdict.UNKNOWN))
            user = f"user{self.random.randrange(20)}@{domain}"
            self.add(
                at, Way.ARRIVED, domain, address=user, verdict=verdict, client=clients(), category=reason(),
                remote=f"{self.word()}.example", original=self.random.choice(("", self.word())),
            )  # fmt: skip

    def _usual_refusals(self, domain: str, count: int) -> None:
        clients = self.crowd(60)
        for at in self.times(count):
            self.add(
                at, Way.REFUSED, domain, address=f"gone{self.random.randrange(30)}@{domain}", client=clients(),
                category=Category.UNKNOWN_USER,
            )  # fmt: skip

    def _usual_own(self, domain: str, count: int) -> None:
        reason, remotes = self.reasons(unknown_user=0.5, mailbox_full=0.2, spam=0.1), self.some_remotes(30)
        for at in self.times(count):
            user = f"user{self.random.randrange(20)}@{domain}"
            self.add(
                at, Way.MADE, domain, address=user, account=user, verdict=Verdict.GENUINE,
                client=f"10.0.0.{at % 90:.0f}",
                category=reason(), remote=remotes(), original=self.word(),
            )  # fmt: skip

    # ---- incidents

    def spoofing_campaign(self) -> None:
        """Somebody sends as one of our domains."""
        domain, size = self.random.choice(self.domains), self.size()
        clients = self.crowd(self.random.randint(5, max(30, size // 2)))
        is_known, nameless = self.random.uniform(0.05, 1.0), self.random.uniform(0.0, 0.5)
        spam = self.random.uniform(0.05, 0.6)
        reason = self.reasons(spam=spam, unknown_user=(1 - spam) * 0.7, mailbox_full=(1 - spam) * 0.1)
        victims = [f"{self.word()[:6]}@{domain}" for _ in range(self.random.choice((1, 5, size)))]
        same = self.word() if self.is_so(0.15) else ""
        for at in self.times(size):
            verdict = Verdict.BACKSCATTER if self.is_so(is_known) else Verdict.UNKNOWN
            original = "" if self.is_so(nameless) else same or self.word()
            self.add(
                at, Way.ARRIVED, domain, address=self.random.choice(victims), verdict=verdict, client=clients(),
                category=reason(), remote=f"{self.word()[:3]}.example", original=original,
                amount=self.random.choice((1, 1, 3)),
            )  # fmt: skip
        self.happened(Cause.SPOOFING_CAMPAIGN, "same message" if same else "many messages", domain)

    def directory_harvest(self) -> None:
        """Somebody tries which addresses exist: one client, a network, or many machines of a botnet."""
        variant = self.random.choice(("client", "network", "botnet"))
        domains = self.random.sample(self.domains, self.random.randint(1, min(6, len(self.domains))))
        size = self.size()
        networks = [self.network() for _ in range(self.random.randint(5, 80) if variant == "botnet" else 1)]
        size = max(size, len(networks) * self.random.randint(3, 30)) if variant == "botnet" else size
        hosts = {
            network: [self.client(network) for _ in range(20 if variant == "network" else 1)] for network in networks
        }
        a_time = self.random.choice((1, 3, 20, 90))
        tells_first = self.is_so(0.7)
        knows = self.random.uniform(0.0, 0.3)
        for at in self.times(max(1, size // a_time)):
            domain = self.random.choice(domains)
            client = self.random.choice(hosts[self.random.choice(networks)])
            amount = max(1, round(a_time * (1 - knows)))
            self.add(
                at, Way.REFUSED, domain, address=f"{self.word()}@{domain}" if tells_first else "", client=client,
                category=Category.UNKNOWN_USER, amount=amount, local_parts=amount,
            )  # fmt: skip
        self.happened(Cause.DIRECTORY_HARVEST, variant, *domains, *networks)

    def spam_attack(self) -> None:
        """A password of one of our users is known to others, or a website of ours sends for them."""
        domain, size = self.random.choice(self.domains), self.size()
        user = f"{self.word()[:6]}@{domain}"
        spam = self.random.uniform(0.05, 0.9)
        unknown = (1 - spam) * self.random.uniform(0.3, 0.95)
        reason, remotes = self.reasons(spam=spam, unknown_user=unknown), self.some_remotes(self.random.randint(5, 400))
        clients = self.crowd(self.random.choice((1, 3, 40)))
        message, arrives = self.word(), self.random.uniform(0.0, 0.4)
        is_one_message = self.is_so(0.3)
        for at in self.times(size):
            has_arrived = self.is_so(arrives)
            self.add(
                at, Way.ARRIVED if has_arrived else Way.MADE, domain, address=user, account=user,
                verdict=Verdict.GENUINE,
                client=self.client(self.network()) if has_arrived else clients(), category=reason(), remote=remotes(),
                original=message if is_one_message else self.word(),
            )  # fmt: skip
        variant = f"{'one message' if is_one_message else 'many messages'}, {_some(spam)} spam"
        self.happened(Cause.SPAM_ATTACK, variant, user, also=Cause.OLD_LIST_OR_STOLEN_PASSWORD)

    def listed_address(self) -> None:
        """Addresses of ours are on a block list: mail of everybody is refused in many places."""
        users = [f"user{number}@{self.random.choice(self.domains)}" for number in range(self.random.randint(8, 300))]
        weights = [1 / (number + self.random.choice((3, 100))) for number in range(len(users))]
        remotes = self.some_remotes(self.random.randint(4, 100))
        spam = self.random.uniform(0.5, 1.0)
        reason = self.reasons(spam=spam, unknown_user=(1 - spam) * 0.6)
        is_webmail, webmail = self.is_so(0.5), self.client(self.network())
        for at in self.times(self.size()):
            (user,) = self.random.choices(users, weights)
            self.sent(
                at, user, client=webmail if is_webmail else f"10.1.{users.index(user) % 256}.7", category=reason(),
                remote=remotes(), original=self.word(),
            )  # fmt: skip
        self.happened(Cause.LISTED_ADDRESS, "webmail" if is_webmail else "many clients", ALL_ACCOUNTS)

    def rogue_server(self) -> None:
        """One host behaves unlike all others."""
        self.random.choice((self._rogue_notices, self._rogue_notices, self._rogue_client, self._rogue_destination))()

    def _rogue_notices(self) -> None:
        domains = self.random.sample(self.domains, self.random.randint(1, min(8, len(self.domains))))
        network = self.network()
        client = self.client(network)
        originals = self.random.choice(([""], [self.word()], [self.word() for _ in range(5)]))
        reason = self.reasons(unknown_user=self.random.random() / 2, mailbox_full=self.random.random() / 2)
        users = [f"{self.word()[:4]}@{domain}" for domain in domains for _ in range(self.random.choice((1, 10)))]
        for at in self.times(self.size()):
            user = self.random.choice(users)
            verdict = self.random.choice((Verdict.BACKSCATTER, Verdict.UNKNOWN))
            self.add(
                at, Way.ARRIVED, user.rpartition("@")[2], address=user, verdict=verdict, client=client,
                category=reason(),
                remote=f"{self.word()[:2]}.example", original=self.random.choice(originals),
            )  # fmt: skip
        self.happened(Cause.ROGUE_SERVER, "notices", network)

    def _rogue_client(self) -> None:
        domain, network = self.random.choice(self.domains), self.network()
        users = [f"{self.word()[:4]}@{domain}" for _ in range(self.random.choice((1, 2, 5)))]
        for at in self.times(self.size()):
            self.add(
                at, Way.REFUSED, domain, address=self.random.choice(users), client=self.client(network),
                category=Category.UNKNOWN_USER,
            )  # fmt: skip
        self.happened(Cause.ROGUE_SERVER, "same recipients", network)

    def _rogue_destination(self) -> None:
        remote = f"{self.word()}.example"
        reason = self.reasons(spam=self.random.choice((0.0, 1.0)), unreachable=self.random.uniform(0.0, 0.4))
        self._to_one_destination(remote, self.random.randint(3, 60), reason)
        self.happened(Cause.ROGUE_SERVER, "destination", remote)

    def _to_one_destination(self, remote: str, count: int, reason: Callable[[], Category]) -> None:
        users = [f"user{number}@{self.random.choice(self.domains)}" for number in range(count)]
        for at in self.times(self.size()):
            user = self.random.choice(users)
            self.sent(
                at, user, client=f"10.0.{users.index(user)}.7", category=reason(), remote=remote, original=self.word()
            )

    def destination_down(self) -> None:
        """The mail server of a partner does not answer for days: what waited for it comes back."""
        remote = f"{self.word()}.example"
        is_program = self.is_so(0.3)
        reason = self.reasons(unreachable=self.random.uniform(0.5, 1.0))
        self._to_one_destination(remote, 1 if is_program else self.random.randint(3, 60), reason)
        self.happened(Cause.DESTINATION_DOWN, "one program" if is_program else "many accounts", remote)

    def old_list(self) -> None:
        """A newsletter to addresses that are gone; of some the sending account is known for that."""
        domain, size = self.random.choice(self.domains), self.size()
        user = f"newsletter@{domain}"
        spam = self.random.uniform(0.0, 0.12)
        full = self.random.uniform(0.05, 0.35)
        reason = self.reasons(
            spam=spam, mailbox_full=full, unknown_user=(1 - spam - full) * self.random.uniform(0.85, 1)
        )
        remotes = self.some_remotes(self.random.randint(15, 300))
        client, arrives = self.client(self.network()), self.random.uniform(0.0, 0.6)
        is_personal = self.is_so(0.4)
        mailings = [self.word() for _ in range(self.random.choice((1, 1, 3)))]
        for at in self.times(size):
            has_arrived = self.is_so(arrives)
            self.add(
                at, Way.ARRIVED if has_arrived else Way.MADE, domain, address=user, account=user,
                verdict=Verdict.GENUINE,
                client=self.client(self.network()) if has_arrived else client, category=reason(), remote=remotes(),
                original=self.word() if is_personal else self.random.choice(mailings),
            )  # fmt: skip
        is_known = self.is_so(0.3)
        if is_known:
            self.scenario.usual[account_stream(user)] = size / self.random.uniform(12, 96)
        kind = "known, " if is_known else ""
        kind += "each reader a message" if is_personal else "one message"
        also = Cause.OLD_LIST_OR_STOLEN_PASSWORD
        self.happened(Cause.OLD_LIST, f"{kind}, {_some(spam)} spam", user, also=also)

    def unclear(self) -> None:
        """Trouble of our own: nobody attacks, and yet somebody should look."""
        self.random.choice((self._lost_users, self._broken_relay, self._first_days))()

    def _first_days(self) -> None:
        """A mailing from before the decision log began comes back: nothing tells that it was ours."""
        domain = self.random.choice(self.domains)
        clients, remotes = self.crowd(self.random.randint(5, 100)), self.some_remotes(self.random.randint(5, 100))
        reason = self.reasons(unknown_user=0.7, mailbox_full=0.15, spam=0.03)
        has_reader_addresses, mailing = self.is_so(0.5), self.word()
        for at in self.times(self.size()):
            user = f"news+{self.word()}@{domain}" if has_reader_addresses else f"news@{domain}"
            self.add(
                at, Way.ARRIVED, domain, address=user, verdict=Verdict.UNKNOWN, client=clients(), category=reason(),
                remote=remotes(), original=self.word() if has_reader_addresses else mailing,
            )  # fmt: skip
        self.happened(Cause.UNCLEAR, "first days", domain)

    def _lost_users(self) -> None:
        """Our table of recipients is broken: users that exist are refused."""
        domain = self.random.choice(self.domains)
        users = [f"user{number}@{domain}" for number in range(self.random.randint(5, 150))]
        size = self.size()
        clients = self.crowd(max(40, size // 4))
        for at in self.times(size):
            self.add(
                at,
                Way.REFUSED,
                domain,
                address=self.random.choice(users),
                client=clients(),
                category=Category.UNKNOWN_USER,
            )
        self.happened(Cause.UNCLEAR, "lost users", domain)

    def _broken_relay(self) -> None:
        """Nothing leaves any more: mail of everybody fails."""
        remotes = self.some_remotes(200)
        users = [f"user{number}@{self.random.choice(self.domains)}" for number in range(100)]
        for at in self.times(self.size() + 60 * len(self.domains)):
            user = self.random.choice(users)
            self.add(
                at, Way.MADE, user.rpartition("@")[2], address=user, account=user, verdict=Verdict.GENUINE,
                client=f"10.0.{users.index(user)}.7", category=Category.UNREACHABLE, remote=remotes(),
                original=self.word(),
            )  # fmt: skip
        self.happened(Cause.UNCLEAR, "broken relay", *self.domains, *users)


def _some(share: float) -> str:
    """Return a share of spam as the table by variants has it."""
    return "no" if share < _NEARLY_NO else "some" if share < _MUCH else "much"


def invent(seed: int, causes: Sequence[Cause]) -> Scenario:
    """Return an hour in which these things happen, none for a quiet one."""
    inventor = Inventor(seed)
    inventor.background()
    for cause in causes:
        getattr(inventor, cause.name.lower())()
    scenario = inventor.scenario
    # So late a beginning is not told before it has settled.
    scenario.events = [replace(event, at=event.at - _SETTLED) for event in scenario.events]
    inventor.random.shuffle(scenario.events)
    return scenario
