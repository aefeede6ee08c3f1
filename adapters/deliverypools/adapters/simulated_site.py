"""A site as other settings would have made it, for replays of a mail log: limits are counted by the time of the log.

It counts in a state of its own, by the same code as the real one, in a file that is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deliverypools.adapters.enforcement import restrict_beyond
from deliverypools.adapters.sqlite_state import SQLiteState
from deliverypools.adapters.state import Reservation
from deliverypools.core.account_names import account_name
from deliverypools.core.accounts import Account, account_of, is_internal, smtp_account, smtp_ingress, user_account
from deliverypools.core.decisions import REFUSED_TAG, RESTRICTED_SENDER
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Ingress, MessageFacts, Origin
from deliverypools.core.limits import (
    RESTRICTING,
    Charge,
    Exceeded,
    charge_for,
    judge,
    limits_for,
    over_limit,
    tally_of,
)
from deliverypools.core.probe import is_to_nobody
from deliverypools.core.replay.decided_again import outcome_of
from deliverypools.core.replay.fold import Mail, Messages
from deliverypools.core.replay.mail_lines import MailLine
from deliverypools.core.replay.results import Results
from deliverypools.core.restrictions import Restriction, duration_of
from deliverypools.core.rules import classify
from deliverypools.core.settings import Settings

AUTHENTICATION = "whether forwarded mail was authenticated (SPF, DKIM, DMARC)"
FORWARDER = "which mailbox has forwarded it"
ORIGIN = "who has sent it: the log begins too late, or does not say"
RULES_NOT_JUDGED = {
    "sender_domain_without_mx_or_a": "whether the sender's domain has MX or A (DNS)",
    "spam": "what scanners would say (spam)",
    "malware": "what scanners would say (malware)",
}


@dataclass(slots=True)
class _Accepted:
    """What was found when a message was accepted."""

    origin: Origin
    is_refused: bool = False
    is_counted: bool = False
    """It is one of `Results.messages`."""
    is_probe: bool = False
    """Of `check --live`: no mail."""


class SimulatedSite:
    """Takes messages of a log in their order; `results` is what these settings would have done with them."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Count in a file in `folder`, which is to be empty."""
        # What would have been done is asked, also of settings that only watch.
        self._settings = settings.model_copy(update={"shadow": False})
        self.results = Results()
        self._now = 0.0
        self._state = SQLiteState(str(folder / "state.db"), lambda: self._now)
        self._charges = 0
        self._ever_restricted: set[str] = set()
        self._messages = Messages(
            lambda recipient: is_internal(recipient, settings), counted=self._accept, left=self._leave
        )

    def close(self) -> None:
        """Close the file."""
        self._state.close()

    def add(self, line: MailLine) -> None:
        """Take the next line of the log."""
        self._messages.add(line)

    def end(self) -> int:
        """Count what is still open at the end; return how many messages were forgotten because there were too many."""
        self._messages.end()
        return self._messages.forgotten

    def _accept(self, mail: Mail) -> None:
        """Count a message that was accepted."""
        self._go_to(mail.at)
        origin = self._origin(mail)
        account = account_of(origin.ingress, origin.account, origin.envelope_sender, self._settings)
        accepted = mail.found = _Accepted(origin, is_probe=is_to_nobody(tuple(mail.recipients)))
        if account is None or accepted.is_probe:
            return
        accepted.is_counted = True
        self.results.messages += 1
        restriction = self._restriction_on(account)
        if restriction is not None and origin.ingress is not Ingress.LOCAL:
            self._refuse(accepted, account, restriction, mail.at)
            return
        charge = charge_for(account, mail.recipients, self._settings)
        charge = replace(charge, external=charge.external + mail.further_recipients)
        accepted.origin = replace(origin, over_limit=self._counted(accepted, charge, mail.at))

    def _leave(self, mail: Mail | None, at: float, recipients: int) -> None:
        """Decide a queue file that leaves."""
        accepted = mail.found if mail else None
        if mail is None or not isinstance(accepted, _Accepted):
            self.results.not_judged[ORIGIN] += 1
            return
        if accepted.is_refused or accepted.is_probe:
            return
        self._note_outcome(accepted)
        self._go_to(at)
        origin, forwarder = accepted.origin, ""
        if origin.ingress is Ingress.OUTSIDE:
            forwarder = self._forwarder(mail)
            origin = self._forward_counted(origin, forwarder, at, recipients)
        account = account_of(origin.ingress, origin.account, origin.envelope_sender, self._settings)
        facts = MessageFacts(
            envelope_sender=mail.envelope_sender,
            recipients=("",) * min(recipients, 2),
            size_bytes=mail.size_bytes,
            origin=origin,
            account_restricted=self._restricted(account),
            forwarded_by=forwarder,
        )
        decision = classify(facts, self._settings)
        self.results.note(at, outcome_of(decision), decision.rule)
        for rule in decision.not_asked:
            self.results.not_judged[RULES_NOT_JUDGED.get(rule, rule)] += 1

    # ---- who, and how much

    def _go_to(self, at: float) -> None:
        # Queue files that are open at the same time come a little out of order.
        self._now = max(self._now, at)

    def _origin(self, mail: Mail) -> Origin:
        settings = self._settings
        if mail.is_made_here:
            return Origin(ingress=Ingress.BOUNCE)
        if mail.user_id is not None:
            name = user_account(mail.user_id)
            return Origin(ingress=Ingress.LOCAL, account=name, envelope_sender=mail.envelope_sender)
        ingress = smtp_ingress(mail.sasl_username, mail.client_address, settings)
        name = smtp_account(
            ingress,
            sasl_username=mail.sasl_username,
            client_address=mail.client_address,
            envelope_sender=mail.envelope_sender,
            settings=settings,
        )
        return Origin(
            ingress=ingress,
            account=name,
            envelope_sender=mail.envelope_sender,
            client_address=mail.client_address,
            authenticated=NOT_ASKED,
        )

    def _note_outcome(self, accepted: _Accepted) -> None:
        """Count a message of ours the first time that anything becomes of it."""
        self.results.outcomes += accepted.is_counted
        accepted.is_counted = False

    def _refuse(self, accepted: _Accepted, account: Account, restriction: Restriction, at: float) -> None:
        accepted.is_refused = True
        self._note_outcome(accepted)
        why = f"restricted {duration_of(restriction)}: {restriction.reason}"
        self.results.note_refused(account.name, at, why)
        self.results.note(at, REFUSED_TAG, RESTRICTED_SENDER)

    def _counted(self, accepted: _Accepted, charge: Charge, at: float) -> Finding:
        """Count what a message costs; return whether it is over a limit."""
        account = charge.account
        found = limits_for(charge, self._settings)
        tally = tally_of(charge, found)
        if not any(limit.action in RESTRICTING for limit in found):
            exceeded = judge(found, self._state.count(tally), account.name)
            self._note(exceeded, account, at, restricted=False)
            return over_limit(exceeded)
        # What gets its account restricted is refused, and so not counted.
        self._charges += 1
        name = str(self._charges)
        (used,) = self._state.reserve([Reservation(name, None, tally)])
        exceeded = judge(found, used, account.name)
        restriction = self._restrict(exceeded, account)
        self._note(exceeded, account, at, restricted=restriction is not None)
        if restriction is not None and account.ingress in (Ingress.SUBMISSION, Ingress.TRUSTED):
            self._state.cancel(name)
            self._refuse(accepted, account, restriction, at)
        else:
            self._state.commit(name, tally)
        return over_limit(exceeded)

    def _restrict(self, exceeded: Sequence[Exceeded], account: Account) -> Restriction | None:
        effect = None
        for one in exceeded:
            if one.limit.action in RESTRICTING:
                restriction, _ = restrict_beyond(one, account, self._state, self._now)
                effect = restriction or effect
        if effect is not None:
            self._ever_restricted.add(account.name)
        return effect

    def _restriction_on(self, account: Account) -> Restriction | None:
        return self._state.restrictions_on([account])[0] if account.name in self._ever_restricted else None

    def _note(self, exceeded: Sequence[Exceeded], account: Account, at: float, *, restricted: bool) -> None:
        if exceeded:
            evidence = "; ".join(one.evidence for one in exceeded)
            self.results.note_over_limit(account.name, at, evidence, restricted=restricted)

    # ---- what leaves

    def _forwarder(self, mail: Mail) -> str:
        """Return the mailbox of ours that forwards a message from outside, "" where it cannot be told."""
        mailboxes = [one for one in mail.recipients if is_internal(one, self._settings)]
        return mailboxes[0] if len(mailboxes) == 1 and not mail.further_recipients else ""

    def _forward_counted(self, origin: Origin, forwarder: str, at: float, recipients: int) -> Origin:
        self.results.not_judged[AUTHENTICATION] += 1
        if not forwarder:
            self.results.not_judged[FORWARDER] += 1
            return replace(origin, over_limit=Finding(Answer.NO))
        account = account_of(Ingress.OUTSIDE, account_name(forwarder), origin.envelope_sender, self._settings)
        if account is None or not origin.envelope_sender:
            return origin
        finding = self._counted(_Accepted(origin), Charge(account, 0, recipients), at)
        return replace(origin, account=account.name, over_limit=finding)

    def _restricted(self, account: Account | None) -> Finding:
        restriction = self._restriction_on(account) if account else None
        if restriction is None:
            return Finding(Answer.NO)
        return Finding(Answer.YES, f"{restriction.account} is restricted {duration_of(restriction)}")
