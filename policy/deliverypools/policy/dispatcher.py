"""Sends what administrators are told, by mail and webhook; copies of suspicious mail; and watches restrictions.

It runs beside the policy service, in threads of its own with a connection of its own to the state, so that neither a
slow webhook nor a slow sendmail delays an answer; webhooks do not delay mail either. What fails is tried again for a
day, then given up with an error in the log that says it all. Everything is sent at least once: a crash between sending
and noting it sends it again, with the same Message-ID (or `id` in the JSON).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deliverypools.adapters import copies
from deliverypools.adapters.metrics.definitions import ALERTS
from deliverypools.adapters.metrics.measure import add
from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.sendmail import SendmailError, new_message, send, set_text
from deliverypools.adapters.state import Notice, State, StateUnavailable
from deliverypools.adapters.telling import MAIL, WEBHOOK
from deliverypools.adapters.webhook import WebhookError, post_json
from deliverypools.core.alert_text import Samples, samples_of
from deliverypools.core.facts import printable
from deliverypools.core.restrictions import Restriction, iso_time
from deliverypools.core.settings import Settings
from deliverypools.core.settings.values import masked_url
from deliverypools.core.tallies import DAY
from deliverypools.core.told import Told, from_payload
from deliverypools.policy.digest_watch import DigestWatch
from deliverypools.policy.surge_watch import SurgeWatch
from deliverypools.policy.watches import Watch, Watches

REQUEUE_FILE: Final = "requeue"
"""In `alerts.spool`: changes when restrictions do; delivery-pools-requeue.path watches it."""
_PAUSE_SECONDS: Final = 1.0
_LEASE_SECONDS: Final = 180.0
_STALE_SECONDS: Final = 60.0
"""What has waited so long in a lane is left to whoever claims it next: sending it may take another minute."""
_FIRST_DELAY_SECONDS: Final = 10.0
_LONGEST_DELAY_SECONDS: Final = 3600.0
_LANE_LENGTH: Final = 64
_LANE_THREADS: Final = {MAIL: 1, WEBHOOK: 4}
_LANE_FULL_SECONDS: Final = 5.0
_MOST_CLAIMED: Final = 16
_MOST_RECORDS: Final = 100
_WATCH_EVERY_SECONDS: Final = 2.0
_MOST_COPIES_A_TURN: Final = 50
_MOST_FAILURES_IN_A_ROW: Final = 3
_STOP_SECONDS: Final = 2.0

WATCHES: Final[tuple[Callable[[], Watch], ...]] = (DigestWatch, SurgeWatch)
"""What looks at the state from time to time, and tells administrators what it finds."""

_log = logging.getLogger(__name__)


class GivenUp(Exception):  # noqa: N818  (a verdict, not a fault of ours)
    """A notice will not be sent, now or later; the text says why."""


@dataclass(frozen=True, slots=True)
class _Claimed:
    notice: Notice
    told: Told
    at: float
    """On the monotonic clock."""


class Dispatcher:
    """Runs until it is cancelled. `settings` and `sealer` are asked each time, so that a reload takes effect."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        open_state: Callable[[], State],
        sealer: Callable[[], TicketSealer],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._sealer = sealer
        self._open_state = open_state
        self._clock = clock
        self._stopping = threading.Event()
        self._lanes: dict[str, queue.Queue[_Claimed | None]] = {
            name: queue.Queue(_LANE_LENGTH) for name in _LANE_THREADS
        }
        self._senders: Mapping[str, Callable[[Told, Samples, Settings], None]] = {
            MAIL: self._send_mail,
            WEBHOOK: self._post_webhook,
        }
        self._sent: set[tuple[str, str]] = set()
        """Sent, but the state could not be told so: not to be sent again when they are claimed again."""
        self._waiting: dict[tuple[str, str], float] = {}
        """Those that could not be sent, and are tried again; since when there is something to tell."""
        self._restrictions: frozenset[Restriction] | None = None
        self._watched_at = float("-inf")
        self._troubles: set[str] = set()
        self._watches = Watches(WATCHES)

    def waiting(self) -> int:
        """Return how many alerts this daemon could not send yet; nobody sends those that are older than a day."""
        return sum(self._clock() - since < DAY for since in tuple(self._waiting.values()))

    async def run(self) -> None:
        """Send until cancelled. What is being sent then is left to its thread, which keeps no process alive."""
        state = self._open_state()
        threads = [
            threading.Thread(target=self._repeat, args=(self._outbox_turn, state), name="outbox", daemon=True),
            threading.Thread(target=self._repeat, args=(self._copies_turn,), name="copies", daemon=True),
            threading.Thread(target=self._repeat, args=(self._watches_turn, state), name="watches", daemon=True),
            *(
                threading.Thread(target=self._repeat, args=(self._lane_turn, name, state), name=name, daemon=True)
                for name, count in _LANE_THREADS.items()
                for _ in range(count)
            ),
        ]
        for thread in threads:
            thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stopping.set()
            await asyncio.to_thread(self._end, threads, state)

    def _end(self, threads: list[threading.Thread], state: State) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        for name, count in _LANE_THREADS.items():
            for _ in range(count):
                with contextlib.suppress(queue.Full):
                    self._lanes[name].put_nowait(None)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        try:
            for lane in self._lanes.values():
                while not lane.empty():
                    if claimed := lane.get_nowait():
                        state.postpone_notice(claimed.notice.notice_id, self._clock())
        except (StateUnavailable, queue.Empty) as error:
            _log.warning("alerts that were not sent are due in %.0f s: %s", _LEASE_SECONDS, error)
        state.close()

    def _repeat(self, turn: Callable[..., bool], *arguments: object) -> None:
        """Take turns; pause where one had nothing to do."""
        while not self._stopping.is_set():
            try:
                is_busy = turn(*arguments)
            except StateUnavailable as error:
                self._report("state", f"alerts wait: {error}")
                is_busy = False
            except Exception:  # noqa: BLE001  (whatever it is, the next alert may pass)
                _log.exception("untrapped exception in the thread %s", threading.current_thread().name)
                is_busy = False
            if not is_busy:
                self._stopping.wait(_PAUSE_SECONDS)

    def _report(self, trouble: str, text: str) -> None:
        """Log a trouble once until it has passed."""
        if trouble not in self._troubles:
            self._troubles.add(trouble)
            _log.error("%s", text)

    def _is_over(self, trouble: str) -> None:
        if trouble in self._troubles:
            self._troubles.discard(trouble)
            _log.info("%s: works again", trouble)

    # ---- the outbox

    def _outbox_turn(self, state: State) -> bool:
        """Give notices that are due to their lanes, and look whether restrictions have changed."""
        notices = state.claim_notices(_MOST_CLAIMED, _LEASE_SECONDS)
        self._is_over("state")
        for notice in notices:
            self._give_to_lane(notice, state)
        if time.monotonic() - self._watched_at >= _WATCH_EVERY_SECONDS:
            self._watch_restrictions(state)
            self._watched_at = time.monotonic()
        return len(notices) == _MOST_CLAIMED

    def _give_to_lane(self, notice: Notice, state: State) -> None:
        if self._was_sent(notice):
            self._settle(notice, state)
            return
        try:
            told = from_payload(notice.payload)
            lane = self._lanes[notice.channel]
        except (ValueError, KeyError) as error:
            _log.error("alert dropped: %s: %s", error, printable(notice.payload, 2000))
            state.settle_notice(notice.notice_id)
            return
        try:
            lane.put_nowait(_Claimed(notice, told, time.monotonic()))
        except queue.Full:
            # So a channel that hangs does not keep the others from being claimed.
            state.postpone_notice(notice.notice_id, self._clock() + _LANE_FULL_SECONDS)

    def _lane_turn(self, name: str, state: State) -> bool:
        """Send one notice."""
        try:
            claimed = self._lanes[name].get(timeout=_PAUSE_SECONDS)
        except queue.Empty:
            return True
        if claimed is None or time.monotonic() - claimed.at > _STALE_SECONDS:
            return True
        try:
            self._senders[name](claimed.told, _samples(claimed.told, state), self._settings())
        except GivenUp as reason:
            add(ALERTS, name, "given_up")
            _log.error("%s alert given up: %s: %s", name, reason, _whole(claimed.told))
        except (SendmailError, WebhookError) as error:
            if self._is_to_be_tried_again(name, claimed, str(error), state):
                return True
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not be tried for ever)
            _log.exception("untrapped exception while an alert was sent")
            if self._is_to_be_tried_again(name, claimed, type(error).__name__, state):
                return True
        else:
            add(ALERTS, name, "sent")
        self._settle(claimed.notice, state)
        return True

    def _is_to_be_tried_again(self, name: str, claimed: _Claimed, error: str, state: State) -> bool:
        """Put a notice off that could not be sent; tell whether it was young enough for that."""
        if self._clock() - claimed.told.at >= DAY:
            add(ALERTS, name, "given_up")
            _log.error("%s alert given up after a day: %s: %s", name, error, _whole(claimed.told))
            return False
        delay = _delay(claimed.notice.attempts)
        _log.warning("%s alert not sent, next attempt in %.0f s: %s", name, delay, error)
        add(ALERTS, name, "failed")
        self._waiting[_identity(claimed.notice)] = claimed.told.at
        state.postpone_notice(claimed.notice.notice_id, self._clock() + delay)
        return True

    def _was_sent(self, notice: Notice) -> bool:
        return _identity(notice) in self._sent

    def _settle(self, notice: Notice, state: State) -> None:
        self._sent.add(_identity(notice))
        state.settle_notice(notice.notice_id)
        self._sent.discard(_identity(notice))
        self._waiting.pop(_identity(notice), None)

    def _send_mail(self, told: Told, samples: Samples, settings: Settings) -> None:
        recipients = told.notify or settings.alerts.mail_to
        if not recipients:
            raise GivenUp("nobody is to be told any more")
        message = new_message(told.subject(), recipients, message_id=told.once, settings=settings, now=told.at)
        set_text(message, told.body(samples))
        send(message.as_bytes(), recipients, settings.alerts.sendmail, self._sealer())
        _log.info("alert mailed: %s", told.subject())

    @staticmethod
    def _post_webhook(told: Told, samples: Samples, settings: Settings) -> None:
        url = settings.alerts.webhook
        if url is None:
            raise GivenUp("there is no webhook any more")
        try:
            post_json(url, told.webhook(samples))
        except WebhookError as error:
            raise WebhookError(f"{masked_url(url)}: {error}") from None
        _log.info("alert posted: %s", told.subject())

    # ---- what is told by itself

    def _watches_turn(self, state: State) -> bool:
        """Let those watches look whose time has come."""
        self._watches.look(state, self._settings(), self._clock())
        return False

    # ---- restrictions

    def _watch_restrictions(self, state: State) -> None:
        """Write the file `requeue` when restrictions began or ended; once at the start, where that is not known."""
        restrictions = frozenset(state.restrictions())
        if restrictions == self._restrictions:
            return
        path = Path(self._settings().alerts.spool) / REQUEUE_FILE
        try:
            path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            path.write_text(f"restrictions changed, {iso_time(self._clock())}\n", encoding="ascii")
        except OSError as error:
            self._report(REQUEUE_FILE, f"{path}: {error}; queued mail of restricted accounts is not decided again")
            return
        self._is_over(REQUEUE_FILE)
        self._restrictions = restrictions

    # ---- copies

    def _copies_turn(self) -> bool:
        """Send copies that are due, oldest first; tell whether more may be due."""
        settings = self._settings()
        failures = sent = 0
        trouble: OSError | None = None
        try:
            waiting = copies.waiting_copies(Path(settings.alerts.spool))
        except OSError as error:
            waiting, trouble = [], error
        for copy in waiting:
            if copy.due_at > self._clock():
                continue
            try:
                is_done = self._send_copy(copy, settings)
            except OSError as error:
                is_done, trouble = False, error
            sent += is_done
            failures = 0 if is_done else failures + 1
            if failures >= _MOST_FAILURES_IN_A_ROW or sent >= _MOST_COPIES_A_TURN or self._stopping.is_set():
                break
        if trouble is None:
            self._is_over("copies")
        else:
            self._report("copies", f"copies of suspicious mail wait: {trouble}")
        return sent >= _MOST_COPIES_A_TURN

    def _send_copy(self, copy: copies.WaitingCopy, settings: Settings) -> bool:
        """Send one copy; tell whether it is done with.

        Raises:
            OSError: the spool cannot be read or written.
        """
        recipients = settings.default_policy.bcc_suspicious_mail
        if not recipients:
            _log.error("copy dropped: nobody gets copies of suspicious mail any more: %s", copy.path)
            copy.path.unlink(missing_ok=True)
            return True
        age = max(self._clock() - copy.kept_at, 0.0)
        try:
            send(copy.path.read_bytes(), recipients, settings.alerts.sendmail, self._sealer())
        except SendmailError as error:
            if age >= DAY:
                _log.error("copy given up after a day: %s: %s: %s", copy.path.name, error, copies.subject_of(copy.path))
                copy.path.unlink(missing_ok=True)
                return True
            delay = min(max(age, _FIRST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS)
            _log.warning("copy not sent, next attempt in %.0f s: %s: %s", delay, copy.path.name, error)
            copies.postpone(copy.path, self._clock() + delay)
            return False
        copy.path.unlink(missing_ok=True)
        return True


def _delay(attempts: int) -> float:
    """Return how long to wait after an attempt when there were `attempts` before it."""
    return min(_FIRST_DELAY_SECONDS * 2.0 ** min(attempts, 20), _LONGEST_DELAY_SECONDS)


def _identity(notice: Notice) -> tuple[str, str]:
    """A store that was made anew gives the same ids to others."""
    return notice.notice_id, notice.payload


def _samples(told: Told, state: State) -> Samples:
    """Look up what the account has sent. An alert without samples is better than none."""
    if not told.account:
        return Samples()
    try:
        return samples_of(state.records_of(told.account, most=_MOST_RECORDS), told.ingress)
    except (StateUnavailable, ValueError):  # ValueError: a name that the store cannot hold
        return Samples()


def _whole(told: Told) -> str:
    return json.dumps(told.webhook(Samples()))
