"""Events of surges, written by hand."""

from deliverypools.core.dsn.was_it_ours import Verdict
from deliverypools.core.surges.events import Category, NdrEvent, Way
from deliverypools.core.surges.find import Level, find_surges

NOW = 1_795_352_709.0  # 2026-11-22 13:05:09 UTC
LEVEL = Level(50, 5, lambda streams: dict.fromkeys(streams, 0.0))


def usually(**numbers):
    """A level with usual numbers; `all` is that of every stream that is not named."""
    every = numbers.pop("all", 0.0)
    return Level(50, 5, lambda streams: {stream: numbers.get(stream.rpartition("/")[2], every) for stream in streams})


def event(number, **values):
    """An event, one every ten seconds, the last of 200 five minutes ago."""
    usual = {
        "event_id": f"mx/{number}",
        "at": NOW - 300 - (number % 200) * 10,
        "way": Way.ARRIVED,
        "domain": "example.org",
    }
    return NdrEvent(**usual | values)


def backscatter(count, *, first=0, networks=100, **values):
    """Notices about mail that was not ours, from many servers."""
    return [
        event(
            first + n,
            **{
                "address": f"user{n % 40}@example.org",
                "verdict": Verdict.BACKSCATTER if n % 4 else Verdict.UNKNOWN,
                "client": f"198.{n % networks // 250}.{n % networks % 250}.25",
                "category": [Category.UNKNOWN_USER, Category.SPAM, Category.OTHER][n % 3],
                "remote": f"remote{n}.example",
                "original": f"message{n}",
            }
            | values,
        )
        for n in range(count)
    ]


def refusals(count, *, first=10_000, client="203.0.113.7", **values):
    """Recipients that do not exist, each another one, asked for by one client."""
    return [
        event(
            first + n,
            **{
                "way": Way.REFUSED,
                "address": f"name{first + n}@example.org",
                "client": client,
                "category": Category.UNKNOWN_USER,
            }
            | values,
        )
        for n in range(count)
    ]


def own_failures(count, *, first=20_000, account="alice@example.org", spam=0.0, remotes=40, **values):
    """Mail of an account that failed: a share of it refused as spam, the rest unknown users."""
    return [
        event(
            first + n,
            **{
                "way": Way.MADE,
                "address": account,
                "account": account,
                "verdict": Verdict.GENUINE,
                "client": "192.0.2.40",
                "category": Category.SPAM if n % 100 < spam * 100 else Category.UNKNOWN_USER,
                "remote": f"remote{n % remotes}.example",
                "original": "one mailing",
            }
            | values,
        )
        for n in range(count)
    ]


def found(events, level=LEVEL, now=NOW):
    """What is found: cause, kind of subject and name, largest first."""
    surges = sorted(find_surges(events, now=now, level=level), key=lambda surge: -surge.group.volume)
    return [(surge.cause.value, surge.group.subject.value, surge.group.name) for surge in surges]


def only(events, level=LEVEL, now=NOW):
    """The one surge there is."""
    (surge,) = find_surges(events, now=now, level=level)
    return surge
