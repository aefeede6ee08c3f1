"""What the passes need of the world: handed in, so that a test can hand in something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deliverypools.adapters.authentication.authenticator import Authenticator
from deliverypools.adapters.fast_path import FastPathWatch
from deliverypools.adapters.scanning.scanners import Scanners
from deliverypools.adapters.seal import TicketSealer
from deliverypools.adapters.sender_domains import SenderDomains
from deliverypools.adapters.state import State
from deliverypools.core.settings import Settings
from deliverypools.core.srs import SenderRewriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The settings and the shared resources of one worker process."""

    settings: Settings
    state: State
    sealer: TicketSealer
    sender_domains: SenderDomains
    authenticator: Authenticator
    scanners: Scanners
    rewriter: SenderRewriter | None
    """Writes rewritten senders (SRS); None where the settings name no domain for them."""
    fast_path: FastPathWatch
    clock: Callable[[], float]
    """Seconds since the epoch."""
    new_ticket_id: Callable[[], str]
