"""What fails, and what becomes of mail then: the table that tests/e2e/test_failures_*.py prove, and docs/failures.md.

The tests break each dependency, send one message of every kind, and compare what they see with this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from deliverypools.lab.failure_kinds import BY_SMTP, LEAVING, QUEUED_BEFORE, WHEN_WELL, Kind, Meanwhile, Place


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One way in which a dependency fails."""

    name: str
    """Of its test, and its row."""
    title: str
    broken: str
    """What the test does."""
    seen: str
    """What an administrator sees."""
    mend: str
    """What an administrator does."""
    stops: Mapping[Meanwhile, Iterable[Kind]] = field(default_factory=lambda: MappingProxyType({}))
    """What does not arrive while it lasts; everything else does."""
    elsewhere: Mapping[Kind, Place] = field(default_factory=lambda: MappingProxyType({}))
    """What arrives at another place than it does while nothing fails."""

    @property
    def meanwhile(self) -> dict[Kind, Meanwhile]:
        """What is seen of each kind while it lasts."""
        stopped = {kind: how for how, kinds in self.stops.items() for kind in kinds}
        return {kind: stopped.get(kind, Meanwhile.ARRIVES) for kind in Kind}

    @property
    def places(self) -> dict[Kind, Place]:
        """Where each kind arrives in the end."""
        return {**WHEN_WELL, **self.elsewhere}


_MILTER_AWAY: Final = {Meanwhile.REFUSED: BY_SMTP, Meanwhile.WAITS: (Kind.SENDMAIL, *QUEUED_BEFORE)}
_STATE_AWAY: Final = {Meanwhile.WAITS: LEAVING}
_UNMARKED: Final = {Kind.DSN: Place.MAILBOX_UNMARKED}
_STATE_SEEN: Final = (
    "`delivery_pools_state_failures_total` rises and `delivery_pools_state_up` is 0. The milter logs ERROR with the "
    "path; "
    "waiting mail has `451 4.7.1 Not yet decided by which address this message leaves` in `mailq`."
)

FAILURES: Final[tuple[Failure, ...]] = (
    Failure(
        name="milter_killed",
        title="Milter stopped or killed",
        broken="SIGKILL to the milter and all its workers.",
        seen="`warning: connect to Milter service unix:delivery-pools/milter.sock: Connection refused` in the mail "
        "log; "
        "`451 4.7.1 Service unavailable` for clients; `status=deferred (bounce failed)` for NDRs. A single worker "
        "that dies is started again at once and counted in `delivery_pools_worker_ends_total`.",
        mend="Start it; its log says why it ended. All that waits leaves by itself; `postqueue -f` makes it quicker, "
        "also for "
        "mail of sendmail(1), which waits in the maildrop.",
        stops=_MILTER_AWAY,
    ),
    Failure(
        name="milter_hung",
        title="Milter hangs",
        broken="SIGSTOP to the milter and all its workers.",
        seen="`can't read SMFIC_OPTNEG reply packet header: Connection timed out` in the mail log, 30 seconds after "
        "each attempt "
        "(`command_timeout`; a message that it had begun to read, after 120, `content_timeout`).",
        mend="Restart it; keep the output of `py-spy dump` or a core file for a report.",
        stops=_MILTER_AWAY,
    ),
    Failure(
        name="milter_socket_gone",
        title="Socket of the milter removed",
        broken="The socket file is deleted while the milter runs.",
        seen="`connect to Milter service unix:delivery-pools/milter.sock: No such file or directory`.",
        mend="Restart the milter: it makes the socket anew.",
        stops=_MILTER_AWAY,
    ),
    Failure(
        name="policy_killed",
        title="Policy service stopped or killed",
        broken="SIGKILL to the policy service.",
        seen="`warning: problem talking to server delivery-pools/policy.sock` in the mail log; metrics are missing, "
        "for it serves "
        "them; alerts are sent when it is back. Messages are counted by the milter, and restricted accounts refused "
        "there.",
        mend="Start it.",
        stops={Meanwhile.REFUSED: (Kind.SRS_BOUNCE,)},
    ),
    Failure(
        name="policy_hung",
        title="Policy service hangs",
        broken="SIGSTOP to the policy service.",
        seen="As above, with `Connection timed out`, and each message takes ten seconds longer at RCPT and at its "
        "end (`timeout=` in "
        "`delivery_pools_policy`). Clients that bring bounces to SRS addresses wait up to 100 seconds, Postfix's own "
        "time-out "
        "for socketmaps.",
        mend="Restart it.",
        stops={Meanwhile.NO_ANSWER: (Kind.SRS_BOUNCE,)},
    ),
    Failure(
        name="policy_sockets_gone",
        title="Sockets of the policy service removed",
        broken="policy.sock and socketmap.sock are deleted while it runs.",
        seen="`connect to delivery-pools/policy.sock: No such file or directory`.",
        mend="Restart it.",
        stops={Meanwhile.REFUSED: (Kind.SRS_BOUNCE,)},
    ),
    Failure(
        name="state_locked",
        title="State (SQLite) locked",
        broken="Another process holds an exclusive lock on the file.",
        seen=_STATE_SEEN + " `database is locked`. Everything takes seconds longer.",
        mend="End the program that holds it: `fuser -v /var/lib/delivery-pools/state.db`.",
        stops=_STATE_AWAY,
        elsewhere={Kind.DSN: Place.MAILBOX_PERHAPS_MARKED},
    ),
    Failure(
        name="state_damaged",
        title="State (SQLite) damaged",
        broken="Garbage in the place of all its pages; both daemons are restarted.",
        seen=_STATE_SEEN + " `file is not a database`.",
        mend="Stop both daemons, move state.db, state.db-wal and state.db-shm away (or recover them: `sqlite3 "
        "state.db .recover`), and "
        "start the daemons. Without recovery counters, restrictions and the decision log begin anew: restrict again "
        "whom "
        "the alerts name.",
        stops=_STATE_AWAY,
        elsewhere=_UNMARKED,
    ),
    Failure(
        name="state_directory_gone",
        title="Directory of the state removed",
        broken="The directory is deleted with all files while the daemons run.",
        seen="Nothing: the daemons make it anew, empty.",
        mend="Restore state.db while both daemons are stopped, if there is a copy; else restrict again whom the "
        "alerts name.",
        elsewhere=_UNMARKED,
    ),
    Failure(
        name="state_read_only",
        title="State on a read-only file system",
        broken="Remounted read-only; the daemons are restarted on it.",
        seen=_STATE_SEEN + " `unable to open database file`, or `attempt to write a readonly database`.",
        mend="Mount it writable; nothing needs a restart.",
        stops=_STATE_AWAY,
        elsewhere={Kind.DSN: Place.MAILBOX_PERHAPS_MARKED},
    ),
    Failure(
        name="state_disk_full",
        title="Disk of the state full",
        broken="A small file system that holds the state is filled.",
        seen=_STATE_SEEN + " `database or disk is full`.",
        mend="Make room; nothing needs a restart.",
        stops=_STATE_AWAY,
    ),
    Failure(
        name="redis_stopped",
        title="State (Redis) stopped",
        broken="SIGKILL to the Redis server.",
        seen=_STATE_SEEN,
        mend="Start it, with the data it had (`appendonly yes`).",
        stops=_STATE_AWAY,
        elsewhere=_UNMARKED,
    ),
    Failure(
        name="redis_hung",
        title="State (Redis) hangs",
        broken="SIGSTOP to the Redis server.",
        seen=_STATE_SEEN + " `Timeout reading from socket`.",
        mend="Restart it.",
        stops=_STATE_AWAY,
        elsewhere=_UNMARKED,
    ),
    Failure(
        name="dns_silent",
        title="DNS does not answer",
        broken="No question gets an answer, neither ours nor Postfix's.",
        seen="`DNS cannot tell (MX timed out, ...)` in the reasons of the decision log, and `Host or domain name not "
        "found. Name "
        "service error` from Postfix, which finds no server of any destination; "
        '`delivery_pools_dns_seconds{result="silent"}` rises.',
        mend="Mend the resolver that `dns.nameservers` or resolv.conf names.",
        stops={Meanwhile.WAITS: (*LEAVING, Kind.NOTICE_TO_US)},
    ),
    Failure(
        name="dns_of_senders_fails",
        title="DNS of our domain and of the senders fails",
        broken="SERVFAIL for example.org and for the domain whose mail is forwarded.",
        seen="`pool=undecided ... DNS cannot tell (MX SERVFAIL, ...)` in the decision log, for mail of other "
        "domains; for accepted domains "
        "the last answer serves for a week.",
        mend="Nothing; a domain that fails for longer than `milter.undecided_after` leaves by high-risk.",
        stops={Meanwhile.WAITS: (Kind.ALIAS, Kind.DOT_FORWARD)},
    ),
    Failure(
        name="scanner_down",
        title="Scanner stopped",
        broken="Nobody listens on the scanner's socket.",
        seen="After five failures in a row `spamd is left alone for 30 s: ...` in the milter's log, an alert, and "
        "`delivery_pools_scanner_answers_total`.",
        mend='Start it. With `spam.unknown_verdict = "high-risk"` mail does not wait.',
        stops={
            Meanwhile.WAITS: (
                Kind.SUBMISSION,
                Kind.MIXED_OUTSIDE,
                Kind.SENDMAIL,
                Kind.ALIAS,
                Kind.DOT_FORWARD,
                Kind.REQUEUED,
            ),
        },
    ),
    Failure(
        name="scanner_hung",
        title="Scanner hangs",
        broken="It takes connections and never answers.",
        seen="As above; the first messages wait for its time-out, later ones do not ask.",
        mend="Restart it. It is tried again 30 seconds after it failed.",
        stops={
            Meanwhile.WAITS: (
                Kind.SUBMISSION,
                Kind.MIXED_OUTSIDE,
                Kind.SENDMAIL,
                Kind.ALIAS,
                Kind.DOT_FORWARD,
                Kind.REQUEUED,
            ),
        },
    ),
    Failure(
        name="disk_full",
        title="Disk of the queue and of the state full",
        broken="One small file system holds Postfix's queue, the state, and the logs of our daemons, and is filled.",
        seen="`452 4.3.1 Insufficient system storage` for clients; `No space left on device` in the mail log, if "
        "that has room.",
        mend="Make room; nothing needs a restart.",
        stops={Meanwhile.REFUSED: BY_SMTP, Meanwhile.NOT_TAKEN: (Kind.SENDMAIL,), Meanwhile.WAITS: QUEUED_BEFORE},
    ),
    Failure(
        name="key_file_missing",
        title="Ticket key file missing",
        broken="The file is deleted, and the milter restarted. (A milter that runs has its keys in memory and goes "
        "on.)",
        seen="The milter does not start, exit 78, and names the file; then as with a milter that is stopped.",
        mend="Restore the file. Without a copy: `delivery-pools keys rotate`; then `systemctl start` both daemons if "
        "they are down (exit status 78: systemd does not try again), else `systemctl reload`. Mail queued before that "
        "has no pool yet is undecided, and leaves by high-risk after `milter.undecided_after`. Several hosts: copy the "
        "file to the others.",
        stops=_MILTER_AWAY,
    ),
    Failure(
        name="key_file_replaced",
        title="Ticket key file replaced",
        broken="A new key in the place of the old one, without rotation; both daemons are restarted.",
        seen="`not made by us, or changed` in the reasons of the decision log, and "
        "`delivery_pools_tickets_refused_total`. Mail that was queued "
        "before is undecided: it waits, and leaves by high-risk after `milter.undecided_after`.",
        mend="Put the old key behind the new one in the file, and SIGHUP both daemons. `keys rotate` keeps old keys.",
        stops={Meanwhile.WAITS: (Kind.REQUEUED,)},
        elsewhere={Kind.REQUEUED: Place.HIGH_RISK},
    ),
    Failure(
        name="clock_two_days_ahead",
        title="Clock jumps two days ahead, and back",
        broken="Both daemons see a clock that is 48 hours ahead.",
        seen="Limits of the day begin anew; times in the decision log are wrong.",
        mend="Set the clock; a restart is not needed.",
    ),
    Failure(
        name="clock_an_hour_behind",
        title="Clock jumps an hour back, and on again",
        broken="Both daemons see a clock that is an hour behind.",
        seen="Times in the decision log are wrong.",
        mend="Set the clock.",
    ),
    Failure(
        name="clock_sixty_days_ahead",
        title="Clock jumps sixty days ahead",
        broken="Both daemons see a clock that is 60 days ahead.",
        seen="`550` for bounces to SRS addresses: they look older than 21 days. `is too old` in the reasons, "
        "`delivery_pools_tickets_refused_total`.",
        mend="Set the clock.",
        stops={Meanwhile.REFUSED_FOR_GOOD: (Kind.SRS_BOUNCE,)},
        elsewhere={Kind.SRS_BOUNCE: Place.NOWHERE, Kind.REQUEUED: Place.HIGH_RISK, **_UNMARKED},
    ),
    Failure(
        name="postfix_reloads",
        title="Postfix reload",
        broken="Three reloads while the mail is sent.",
        seen="`reload -- version` in the mail log.",
        mend="Nothing.",
    ),
    Failure(
        name="postfix_stopped",
        title="Postfix stopped, and started",
        broken="master(8) and all its processes are ended.",
        seen="Clients find nobody. sendmail(1) takes mail all the same.",
        mend="`postfix start`.",
        stops={Meanwhile.UNREACHABLE: BY_SMTP, Meanwhile.WAITS: (Kind.SENDMAIL, *QUEUED_BEFORE)},
    ),
    Failure(
        name="sendmail_missing",
        title="No sendmail(1) for our own mail",
        broken="`alerts.sendmail` names a program that is missing.",
        seen="`mail alert not sent, next attempt in ...` in the log of the policy service; "
        "`delivery_pools_alerts_waiting`. Alerts "
        "are tried again for a day, and are in the log besides.",
        mend="Correct `alerts.sendmail`, SIGHUP the policy service.",
    ),
)
"""In the order of the page."""
