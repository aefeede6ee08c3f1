"""pymilter callbacks: the only module that imports Milter. They translate events, and carry out verdicts.

Traps that shape this file (all seen): an exception in a no-reply callback leaves Postfix waiting for 300 s, so
nothing escapes a callback; the null sender is `<>` over SMTP and nothing at all otherwise; `@Milter.symlist` is
broken on Python 3; addheader() passes CR and LF through.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, TypeVar

import Milter

from deliverypools.adapters.authentication.authenticator import Examination, HeaderFields
from deliverypools.adapters.copies import MOST_MESSAGE_BYTES
from deliverypools.adapters.message_spool import MessageSpool
from deliverypools.adapters.metrics.definitions import EXCEPTIONS
from deliverypools.adapters.metrics.measure import add
from deliverypools.core.accounts import smtp_ingress
from deliverypools.core.addresses import domain_of, strip_brackets
from deliverypools.core.dsn.kinds import BODY_BYTES_READ
from deliverypools.core.dsn.report import REPORT_BYTES_READ
from deliverypools.core.facts import NOT_ASKED, Finding, Ingress
from deliverypools.core.fast_path import MACRO, is_certainly_outside
from deliverypools.core.settings.values import LONGEST_DOMAIN
from deliverypools.core.spam import scan_is_possible, scans_null_senders
from deliverypools.core.srs import original_sender
from deliverypools.milter.accounting import give_back
from deliverypools.milter.authenticating import origin_to_ask_again
from deliverypools.milter.collector import EGRESS, CollectedMessage, Connection, MessageCollector
from deliverypools.milter.counting import count_message
from deliverypools.milter.egress_pass import egress_pass, failed_pass
from deliverypools.milter.express_pass import express_pass
from deliverypools.milter.first_pass import BOUNCE, PICKUP, REINJECT, first_pass
from deliverypools.milter.ndr_events import RefusedRecipients, note_event, refused_with
from deliverypools.milter.services import Services
from deliverypools.milter.verdict import Reply, Verdict

_log = logging.getLogger(__name__)

_REPLIES = {
    Reply.CONTINUE: (Milter.CONTINUE, "", ""),
    Reply.TEMPFAIL: (Milter.TEMPFAIL, "451", "4.7.1"),
    Reply.REJECT: (Milter.REJECT, "550", "5.7.1"),
    Reply.DISCARD: (Milter.DISCARD, "", ""),
}

F = TypeVar("F", bound=Callable[..., int])


class Activity:
    """How many messages a worker has in hand: a drain waits for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages = 0

    def add(self, messages: int) -> None:
        """Count messages that begin (or, negative, end)."""
        with self._changed:
            self._messages += messages
            self._changed.notify_all()

    def wait_for_messages(self, timeout_seconds: float) -> bool:
        """Wait until no message is in progress; tell whether that came to be."""
        with self._changed:
            return self._changed.wait_for(lambda: self._messages <= 0, timeout_seconds)


def guarded(callback: F) -> F:
    """Keep every exception inside: the message is then answered with 451 at its end, and nothing hangs."""

    @functools.wraps(callback)
    def wrapper(self: PoolMilter, *arguments: Any) -> int:
        try:
            return callback(self, *arguments)
        except BaseException:  # noqa: BLE001  (SystemExit here would end the worker)
            self.note_failure(callback.__name__)
            return Milter.CONTINUE

    return wrapper  # type: ignore[return-value]


def unanswered(callback: Callable[..., None]) -> Callable[..., int]:
    """Keep every exception inside, as `guarded`, and have Postfix not wait for a reply where it can do without.

    One wrapper for both, as it runs for every field of the header: pymilter's `noreply` would be a second one.
    """
    no_reply = Milter.OPTIONAL_CALLBACKS[callback.__name__][0]

    @functools.wraps(callback)
    def wrapper(self: PoolMilter, *arguments: Any) -> int:
        try:
            callback(self, *arguments)
        except BaseException:  # noqa: BLE001
            self.note_failure(callback.__name__)
        return Milter.NOREPLY if self._protocol & no_reply else Milter.CONTINUE

    wrapper.milter_protocol = no_reply  # type: ignore[attr-defined]
    return wrapper


@Milter.rejected_recipients  # many of them from one client are a directory harvest attack
@Milter.header_leading_space  # DKIM's "simple" canonicalisation counts it
class PoolMilter(Milter.Base):
    """One connection from Postfix; one `MessageCollector` for each of its messages."""

    services: ClassVar[Services]
    activity: ClassVar[Activity]
    # pymilter sets it in a negotiation that succeeds, and its @noreply asks for it outside our guard.
    _protocol = 0

    def __init__(self) -> None:
        self.has_failed = False
        self._connection: Connection | None = None
        self._collector: MessageCollector | None = None
        self._look_up: Future[Finding] | None = None
        self._fields = HeaderFields()
        self._examination: Examination | None = None
        self._queue_id = ""
        self._refused = RefusedRecipients()

    def negotiate(self, opts: list[int]) -> int:
        """Ask for the macros by name, whatever milter_connect_macros and the like say in main.cf."""
        try:
            self._ctx.setsymlist(Milter.M_CONNECT, f"j {{daemon_name}} {MACRO}")
            self._ctx.setsymlist(Milter.M_ENVFROM, "i {auth_authen}")
            self._ctx.setsymlist(Milter.M_ENVRCPT, "{rcpt_mailer} {rcpt_host} {rcpt_addr}")
            self._ctx.setsymlist(Milter.M_DATA, "i")
            self._ctx.setsymlist(Milter.M_EOM, "i")
        except Exception:  # noqa: BLE001  (libmilter would negotiate everything instead)
            _log.exception("the macros could not be asked for; main.cf must send j, {daemon_name}, i and {auth_authen}")
        return super().negotiate(opts)

    @unanswered
    def connect(self, hostname: str, _family: int, hostaddr: Any) -> None:
        """Take the connection."""
        # Without a name Postfix says "unknown", other MTAs the address.
        has_name = hostname != "unknown" and "[" not in hostname
        self._connection = Connection(
            daemon_name=self._macro("{daemon_name}"),
            hostname=self._macro("j"),
            client_address=str(hostaddr[0]) if isinstance(hostaddr, tuple) and hostaddr else "",
            client_name=hostname[:LONGEST_DOMAIN] if has_name else "",
            proof_seen=self.services.fast_path.proof_seen(self._macro(MACRO), self._macro("j")),
        )

    @unanswered
    def hello(self, hostname: str) -> None:
        """Take the name in HELO or EHLO, for SPF."""
        if self._connection:
            self._connection = dataclasses.replace(self._connection, helo_name=hostname)

    @Milter.nocallback
    def unknown(self, _command: str) -> int:
        """Not asked for."""
        return Milter.CONTINUE

    @unanswered
    def data(self) -> None:
        """Learn the queue id, which an abort does not tell; all recipients are known."""
        self._queue_id = self._macro("i")
        if self._collector and not self._decides and self._may_be_fast:
            self._gather(self._collector)

    @unanswered
    def eoh(self) -> None:
        """Begin to examine signatures, and to look up their keys."""
        if self._collector:
            self._collector.end_header()
        if self._is_egress and self._collector:
            self._ask_again(self._collector.ticket_values)
        if self._examination:
            self._examination.take_header(self._fields)

    @unanswered
    def envfrom(self, sender: str, *parameters: str) -> None:
        """Begin a message: nothing is left of the one before."""
        self._end_message()
        self.has_failed = False
        settings = self.services.settings
        self._collector = MessageCollector(
            sender,
            parameters,
            sasl_username=self._macro("{auth_authen}"),
            spam_signs=settings.spam.headers,
            authserv_id=settings.authserv_id,
            body_bytes_kept=REPORT_BYTES_READ if self._daemon_name == BOUNCE else BODY_BYTES_READ,
        )
        if self._decides:
            self._gather(self._collector)
        self.activity.add(1)

    # Not @noreply: Postfix would keep what it has to say until something needs a reply, and throw it away where the
    # client leaves before. That is what those do who try which recipients exist.
    @guarded
    def envrcpt(self, recipient: str, *parameters: str) -> int:
        """Take a recipient; one that Postfix refuses is only counted."""
        transport, nexthop, resolved = map(self._macro, ("{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}"))
        if code := refused_with(transport, nexthop, resolved):
            self._take_refused(recipient, code)
            return Milter.CONTINUE
        if self._collector is None:
            return Milter.CONTINUE
        is_outside = self._has_proof and is_certainly_outside(
            strip_brackets(recipient),
            transport=transport,
            nexthop=nexthop,
            resolved=resolved,
            hop=self.services.fast_path.hop,
            settings=self.services.settings,
        )
        self._collector.add_recipient(recipient, parameters, is_outside=is_outside)
        if self._look_up is None and self._collector.envelope_sender and (self._decides or self._may_be_fast):
            # Not before a recipient was accepted: strangers must not make us look up whatever they say in MAIL FROM.
            sender = original_sender(self._collector.envelope_sender, self.services.rewriter)
            self._look_up = self.services.sender_domains.start(domain_of(sender))
        if self._examination is None and self._connection and self._is_from_outside(self._collector.sasl_username):
            self._examination = self.services.authenticator.examine(
                client_address=self._connection.client_address,
                helo_name=self._connection.helo_name,
                envelope_sender=self._collector.envelope_sender,
            )
        return Milter.CONTINUE

    @unanswered
    def header(self, name: str, value: str) -> None:
        """Take a header field."""
        if self._collector:
            if self._examination or self._is_egress:
                self._fields.add(name, value if self._has_leading_space else f" {value}")
            self._collector.add_header(name, value.removeprefix(" "))

    @guarded
    def body(self, chunk: bytes) -> int:
        """Take a part of the body; the rest is not sent once enough was seen."""
        if self._collector is None:
            return Milter.CONTINUE
        is_wanted = self._collector.add_body(chunk)
        if self._examination:
            is_wanted = self._examination.feed(chunk) or is_wanted
        return Milter.CONTINUE if is_wanted else int(Milter.SKIP)

    def eom(self) -> int:
        """Decide, carry out, answer. Whatever fails here, the message is tried again: it never goes on undecided."""
        queue_id, began = "", time.perf_counter()
        try:
            queue_id = self._macro("i")
            if self._collector is None or self._connection is None or self.has_failed:
                return self._answer(Verdict(reply=Reply.TEMPFAIL, text="Internal error, please try again later"))
            message = self._collector.end(queue_id)
            verdict = self._judge(message, self._connection)
            self._edit(verdict)
            if verdict.log:
                _log.info(verdict.log)
            count_message(verdict, message, self._connection, self.services, began)
            return self._answer(verdict)
        except BaseException:  # noqa: BLE001
            _log.exception("%s: untrapped exception at the end of the message", queue_id or "noqueue")
            add(EXCEPTIONS, "eom")
            return int(Milter.TEMPFAIL)
        finally:
            self._end_message()

    @guarded
    def abort(self) -> int:
        """Drop the message in progress: RSET, another milter's refusal, a client that vanished."""
        if self._collector is not None and self._queue_id and not self._is_egress:
            give_back(self._queue_id, self.services)
        self._end_message()
        return Milter.CONTINUE

    @guarded
    def close(self) -> int:
        """End the connection."""
        self._end_message()
        self._note_refused()
        return Milter.CONTINUE

    @property
    def _decides(self) -> bool:
        return self._is_egress or self.services.settings.profile == "express"

    @property
    def _has_proof(self) -> bool:
        """Whether there was a proof for the fast path when the client connected."""
        return self._connection is not None and self._connection.proof_seen is not None

    @property
    def _may_be_fast(self) -> bool:
        """Whether the message may be decided in the first pass, as far as its recipients tell."""
        collector = self._collector
        if collector is None or not self._has_proof:
            return False
        return collector.has_only_outside_recipients and not self._is_from_outside(collector.sasl_username)

    @property
    def _daemon_name(self) -> str:
        return self._connection.daemon_name if self._connection else ""

    @property
    def _is_egress(self) -> bool:
        return self._daemon_name == EGRESS

    def _gather(self, collector: MessageCollector) -> None:
        """Have the whole message gathered, where somebody may need it."""
        settings = self.services.settings
        most_bytes = MOST_MESSAGE_BYTES if settings.default_policy.bcc_suspicious_mail else 0
        if scans_null_senders(settings) or (collector.envelope_sender and scan_is_possible(settings)):
            most_bytes = max(most_bytes, settings.spam.size_limit)
        if most_bytes:
            collector.gather(MessageSpool(most_bytes))

    def note_failure(self, callback: str) -> None:
        """Note an exception in a callback: the message is answered with 451 at its end."""
        _log.exception("untrapped exception in %s", callback)
        add(EXCEPTIONS, callback)
        self.has_failed = True

    def _macro(self, name: str) -> str:
        """Return a macro, "" where Postfix sent none; one that is not UTF-8 is a value that nothing else has."""
        try:
            return self.getsymval(name) or ""
        except UnicodeDecodeError:
            return f"(undecodable {name.strip('{}')})"

    def _judge(self, message: CollectedMessage, connection: Connection) -> Verdict:
        found = self._examination.finish() if self._examination else None
        if not self._decides:
            return first_pass(message, connection, self.services, found, lambda: self._sender_domain(message))
        if not self._is_egress and self.services.settings.profile == "express":
            return express_pass(message, connection, self._sender_domain(message), self.services, found)
        try:
            return egress_pass(message, connection, self._sender_domain(message), self.services, found)
        except Exception:  # noqa: BLE001  (whatever it is, the message waits, and leaves by high-risk at last)
            _log.exception("%s: untrapped exception in the egress pass", message.queue_id)
            add(EXCEPTIONS, "eom")
            return failed_pass(message, connection, self.services)

    def _sender_domain(self, message: CollectedMessage) -> Finding:
        if self._look_up is None:
            return NOT_ASKED
        sender = original_sender(message.envelope_sender, self.services.rewriter)
        return self.services.sender_domains.wait(self._look_up, domain_of(sender))

    def _is_from_outside(self, sasl_username: str) -> bool:
        connection = self._connection
        if connection is None or connection.daemon_name in (EGRESS, BOUNCE, PICKUP, REINJECT):
            return False
        return smtp_ingress(sasl_username, connection.client_address, self.services.settings) is Ingress.OUTSIDE

    def _take_refused(self, recipient: str, code: str) -> None:
        sasl_username = self._collector.sasl_username if self._collector else ""
        if not self._is_from_outside(sasl_username):
            return
        self._refused.add(recipient, code, self.services.settings)
        if self._refused.is_many:
            self._note_refused()

    def _note_refused(self) -> None:
        """Note the refused recipients of this connection; its name is made up, it has no other."""
        if self._connection and (
            event := self._refused.take(self.services.new_ticket_id(), self._connection, self.services.clock())
        ):
            note_event(event, self.services)

    def _ask_again(self, ticket_values: Sequence[str]) -> None:
        origin = origin_to_ask_again(ticket_values, self.services)
        if origin is not None:
            self._examination = self.services.authenticator.examine_again(
                client_address=origin.client_address,
                helo_name=origin.helo_name,
                envelope_sender=origin.envelope_sender,
            )

    @property
    def _has_leading_space(self) -> bool:
        """Whether values of header fields come with the blank after the colon, and have to be given back with one."""
        return bool(self._protocol & Milter.P_HDR_LEADSPC)

    def _edit(self, verdict: Verdict) -> None:
        # Highest index first: deleting a field renumbers the ones after it.
        for name, count in verdict.delete:
            for index in range(count, 0, -1):
                self.chgheader(name, index, "")
        for name, index in sorted(verdict.delete_single, reverse=True):
            self.chgheader(name, index, "")
        blank = " " if self._has_leading_space else ""
        for name, value in verdict.add:
            self.addheader(name, blank + value, 0)
        if verdict.new_sender:
            self.chgfrom(f"<{verdict.new_sender}>", "RET=HDRS" if verdict.returns_header_only else None)
        for recipient in verdict.notify_of_failure:
            self.delrcpt(f"<{recipient}>")
            self.addrcpt(f"<{recipient}>", "NOTIFY=FAILURE")
        if verdict.hold:
            self.quarantine(verdict.hold)

    def _answer(self, verdict: Verdict) -> int:
        code, smtp_code, enhanced_code = _REPLIES[verdict.reply]
        if verdict.text:
            self.setreply(smtp_code, verdict.enhanced_code or enhanced_code, verdict.text)
        return int(code)

    def _end_message(self) -> None:
        if self._collector is not None:
            self._collector.close()
            self._collector = None
            self.activity.add(-1)
        self._look_up = None
        if self._examination is not None:
            self._examination.close()
            self._examination = None
        self._fields = HeaderFields()
        self._queue_id = ""
