"""The trouble that bench/soak.py makes: at random moments something is killed, stopped, paused, locked or reloaded."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable

from deliverypools.lab.daemons import Daemon
from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import DEFER

_LONGEST_REST_SECONDS = 0.8
_LONGEST_PAUSE_SECONDS = 3.0
_LONGEST_OUTAGE_SECONDS = 1.5


class Chaos:
    """Makes trouble in a thread of its own until it is stopped; then everything runs again."""

    def __init__(self, lab: Lab, chance: random.Random) -> None:
        """Begin."""
        self._lab = lab
        self._chance = chance
        self._stopping = threading.Event()
        self.done: Counter[str] = Counter()
        """How often each trouble was made."""
        self.postfix_ended: list[float] = []
        """When Postfix was killed or stopped, in epoch seconds."""
        self.problem: BaseException | None = None
        self._troubles: tuple[Callable[[], None], ...] = (
            self._milter_killed,
            self._milter_stopped,
            self._milter_worker_killed,
            self._milter_paused,
            self._milter_reloaded,
            self._policy_killed,
            self._policy_stopped,
            self._policy_paused,
            self._policy_reloaded,
            self._state_locked,
            self._postfix_killed,
            self._postfix_stopped,
            self._postfix_reloaded,
            self._deferred_mail_requeued,
        )
        self._thread = threading.Thread(target=self._run, name="chaos")
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        """Whether it makes further trouble: it does not when something did not come up again."""
        return self._thread.is_alive()

    def wait_for_one(self) -> None:
        """Wait a moment for the next trouble."""
        self._thread.join(_LONGEST_REST_SECONDS)

    def stop(self) -> None:
        """End it.

        Raises:
            RuntimeError: something did not come up again.

        """
        self._stopping.set()
        self._thread.join()
        if self.problem is not None:
            raise RuntimeError("something did not come up again") from self.problem

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._chance.uniform(0.1, _LONGEST_REST_SECONDS)):
                trouble = self._chance.choice(self._troubles)
                trouble()
                self.done[trouble.__name__.strip("_").replace("_", " ")] += 1
        except BaseException as error:  # noqa: BLE001 -- told by stop()
            self.problem = error

    # ---- our daemons

    def _milter_killed(self) -> None:
        self._outage(self._lab.milter, self._lab.milter.kill)

    def _milter_stopped(self) -> None:
        self._outage(self._lab.milter, self._lab.milter.stop)

    def _milter_worker_killed(self) -> None:
        with contextlib.suppress(ProcessLookupError, IndexError):
            self._lab.kill_milter_worker()

    def _milter_paused(self) -> None:
        self._pause(self._lab.milter)

    def _milter_reloaded(self) -> None:
        self._lab.milter.send_signal(signal.SIGHUP)

    def _policy_killed(self) -> None:
        self._outage(self._lab.policy, self._lab.policy.kill)

    def _policy_stopped(self) -> None:
        self._outage(self._lab.policy, self._lab.policy.stop)

    def _policy_paused(self) -> None:
        self._pause(self._lab.policy)

    def _policy_reloaded(self) -> None:
        self._lab.policy.send_signal(signal.SIGHUP)

    def _outage(self, daemon: Daemon, end: Callable[[], None]) -> None:
        end()
        self._wait(_LONGEST_OUTAGE_SECONDS)
        daemon.start()

    def _pause(self, daemon: Daemon) -> None:
        processes = [daemon.pid, *daemon.workers]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number is signal.SIGSTOP:
                self._wait(_LONGEST_PAUSE_SECONDS)

    # ---- the state

    def _state_locked(self) -> None:
        with contextlib.closing(sqlite3.connect(self._lab.directory / "state.db", isolation_level=None)) as blocker:
            blocker.execute("PRAGMA busy_timeout = 5000")
            blocker.execute("BEGIN EXCLUSIVE")
            self._wait(_LONGEST_PAUSE_SECONDS)
            blocker.execute("ROLLBACK")

    # ---- Postfix

    def _postfix_killed(self) -> None:
        master = int((self._lab.postfix.queue_directory / "pid" / "master.pid").read_text())
        os.killpg(master, signal.SIGKILL)
        self._postfix_away()

    def _postfix_stopped(self) -> None:
        self._postfix_away()

    def _postfix_away(self) -> None:
        self.postfix_ended.append(time.time())
        self._lab.postfix.stop()
        self._wait(_LONGEST_OUTAGE_SECONDS)
        with self._lab.network.inside():
            self._lab.postfix.start()

    def _postfix_reloaded(self) -> None:
        self._lab.postfix.run("postfix", "reload")

    def _deferred_mail_requeued(self) -> None:
        """Requeue what its destination has deferred: an attempt that is being made now ends in the queue again.

        What waits before the hop may be taken by it at this moment: requeued too, it would arrive twice.
        """
        for entry in self._lab.postfix.queue():
            reasons = [recipient.get("delay_reason", "") for recipient in entry["recipients"]]
            deferred_there = entry["queue_name"] == "deferred" and all(DEFER.text in reason for reason in reasons)
            if reasons and deferred_there and self._chance.random() < 0.3:  # noqa: PLR2004
                with contextlib.suppress(RuntimeError):  # it is on its way again
                    self._lab.postfix.postsuper("-r", entry["queue_id"])

    def _wait(self, longest_seconds: float) -> None:
        self._stopping.wait(self._chance.uniform(0.1, longest_seconds))
