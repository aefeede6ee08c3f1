"""From the site's configuration to ours on a Postfix that runs: no SMTP client that would show a ticket ever gets one.

Two reloads. After the first every SMTP client takes our headers off, and those of before have ended; only then do the
milters and the routes come, by the second. Between the renaming of main.cf and the moment at which master(8) knows the
new master.cf, new processes have the one with the options of the other: so the removal is in main.cf until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from deliverypools.adapters.after_reload import watch
from deliverypools.adapters.busy_ports import ports_of
from deliverypools.adapters.cut_over import SENDS_MAIL, told, wait_for_old_processes
from deliverypools.adapters.leftover_mail import QueueFiles
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance, Process
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.adapters.postfix_queue import PostfixQueue, QueueError
from deliverypools.adapters.postfix_swap import State
from deliverypools.cli.postfix_proposal import Proposal
from deliverypools.core.postfix_install.leaving import entering, stripping
from deliverypools.core.postfix_install.manifest import Phase, Reload
from deliverypools.core.postfix_install.written import Changes


@dataclass(frozen=True, slots=True)
class ChangeOver:
    """What every step needs."""

    instance: PostfixInstance
    editor: PostfixEditor
    settle_seconds: float
    """So long processes of before are waited for, at each of the two reloads."""
    note: Callable[[], None]
    """Notes what is queued."""
    say: Callable[[str], None]

    def carry_out(self, proposal: Proposal, *, is_new: bool) -> set[Process]:
        """Make the planned configuration the one that Postfix works by; return which processes of before are left.

        `is_new`: Postfix may not have worked by ours yet.

        Raises:
            PostfixError: Postfix refuses it; what was there before was put back.
        """
        before = self.editor.state()
        entered = self._enter(proposal, before) if is_new else before
        planned = self.editor.installed(proposal.original.stage, proposal.planned, proposal.plan.files, Phase.INSTALLED)
        self.note()
        self.editor.swap_to(self._covered(proposal) if is_new else planned)
        try:
            reload = told(self.instance, self.instance.reload)
            watch(self.instance, ports_of(planned.manifest))
        except PostfixError as error:
            raise PostfixError(f"{error}. {self._put_back(before, entered)}") from None
        if is_new:
            self.editor.swap_to(planned)
        self.note()
        return wait_for_old_processes(self.instance, reload, self.settle_seconds, self.note)

    def _enter(self, proposal: Proposal, before: State) -> State:
        """Let every SMTP client take our headers off, and those that do not end; return the configuration of that."""
        phase = before.manifest.phase if before.manifest else Phase.ENTERING
        if phase is Phase.INSTALLED:
            return before  # an interrupted run got further than this
        entered = before
        if phase is not Phase.LEAVING:
            original, files = proposal.original.stage, proposal.plan.files
            # What is named by the site's own tables stays.
            base = self.editor.live() if phase is Phase.NAMED else original
            stage = self.editor.stage("entering", base.main, base.master)
            stage.apply(entering(base.written()), files)
            entered = self.editor.installed(original, stage, files, Phase.ENTERING)
            self.editor.swap_to(entered)
        try:
            reload = told(self.instance, self.instance.reload)
        except PostfixError as error:
            raise PostfixError(f"{error}. {self._put_back(before, before)}") from None
        if left := wait_for_old_processes(self.instance, reload, self.settle_seconds, commands=SENDS_MAIL):
            self.say(f"{len(left)} SMTP clients of before the first reload still deliver: they take no other message")
        return entered

    def _covered(self, proposal: Proposal) -> State:
        """Return the planned configuration with the removal of our headers in main.cf, for all SMTP clients."""
        planned, files = proposal.planned, proposal.plan.files
        stage = self.editor.stage("covered", planned.main, planned.master)
        stage.apply(Changes(stripping(proposal.original.stage.written()), {}), files)
        return self.editor.installed(proposal.original.stage, stage, files, Phase.INSTALLED)

    # ---- back

    def _put_back(self, before: State, entered: State) -> str:
        """Put the configuration of before back, as far as that can be done; return what there is to tell of it."""
        try:
            return self._go_back(before, entered)
        except (PostfixError, QueueError) as error:
            return f"{error}. `delivery-pools postfix uninstall` puts the site's own configuration back"

    def _go_back(self, before: State, entered: State) -> str:
        """Put the configuration of before back.

        Mail may have got our headers meanwhile: until none is queued any more they are taken off.
        """
        self.editor.swap_to(entered, main_first=True)
        self.editor.finish()
        reload, ended = self._revived()
        if entered is not before:
            if reload is None or self._may_be_ours_queued(reload):
                return (
                    f"The configuration was put back{ended}; but mail may have got our headers, and they are still"
                    " taken off what is sent. `delivery-pools postfix uninstall` finishes that"
                )
            self.editor.swap_to(before, main_first=True)
            self.editor.finish()
            with suppress(PostfixError):
                self.instance.reread()
        return f"The configuration was put back as it was before{ended}"

    def _may_be_ours_queued(self, reload: Reload) -> bool:
        return bool(
            wait_for_old_processes(self.instance, reload, self.settle_seconds)
            or QueueFiles(self.instance.directory, ()).ours(PostfixQueue(str(self.instance.directory)))
        )

    def _revived(self) -> tuple[Reload | None, str]:
        """Let Postfix run by what was put back; return when it did, and what there is to tell of that."""
        if self.instance.is_running():
            with suppress(PostfixError):
                # `postfix reload` may rename what is being delivered; its notices would be lost.
                return told(self.instance, self.instance.reread), ""
            return None, ""
        try:
            self.instance.start()
        except PostfixError as error:
            return None, f"; Postfix does not run, and cannot be started: {error}"
        # What worked by the configuration of before has ended with the master(8) of before.
        return Reload(at=time.time(), uptime_seconds=0.0, boot_id=""), ", and Postfix started again"
