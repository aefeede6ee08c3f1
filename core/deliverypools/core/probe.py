"""Probes of `delivery-pools check --live`: messages that ask for one transport, and go to a port of this machine.

The header that asks is sealed with the ticket keys, so nobody else can choose a pool by it. Its recipient is in a
domain that cannot exist (RFC 2606), and the transport is given a loopback address as next-hop: whatever is wrong with
the configuration, a probe is no mail to anybody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from deliverypools.core.settings.values import LAST_PORT

HEADER: Final = "X-Delivery-Pool-Probe"
DOMAIN: Final = "delivery-pools-probe.invalid"
RULE: Final = "probe"
"""What stands in the place of a rule in the log."""
LIFETIME_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a probe asks for."""

    transport_tag: str
    """Of the transport: `normal`, `normal 2` (`core.pool_transports`)."""
    family: int
    """4 or 6: over which protocol it is to leave."""
    port: int
    """Of the sink, on 127.0.0.1 or ::1."""
    message_id: str
    """Of the message that may carry it."""

    @property
    def tag(self) -> str:
        """The value of X-Delivery-Pool that leads there."""
        return f"{self.transport_tag} probe-{self.family} {self.port}"

    def to_json(self) -> bytes:
        """Return it as it is sealed."""
        return json.dumps([self.transport_tag, self.family, self.port, self.message_id]).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Probe:
        """Read what was sealed.

        Raises:
            ValueError: another version of this program has made it.
        """
        transport_tag, family, port, message_id = json.loads(content)
        if family not in (4, 6) or not isinstance(port, int) or not 0 < port <= LAST_PORT:
            raise ValueError("no probe")
        return cls(transport_tag=str(transport_tag), family=family, port=port, message_id=str(message_id))


def is_to_nobody(recipients: tuple[str, ...]) -> bool:
    """Tell whether a message is to probes only."""
    return bool(recipients) and all(one.lower().endswith(f"@{DOMAIN}") for one in recipients)
