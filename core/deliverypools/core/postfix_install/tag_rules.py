"""The tables that turn the tag into a transport, and those that take it off: from the example, for these pools."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from deliverypools.core.pool_transports import PoolTransport, all_transports
from deliverypools.core.postfix_install.draft import Draft
from deliverypools.core.postfix_install.pools import Client

TAG_CHECKS: Final = "tag_checks"
_SRS_ADDRESSES: Final = "srs_addresses"
_POOL_RULE: Final = re.compile(r"/\^X-Delivery-Pool:.*\bFILTER\s+pool-")
_PROBE_RULE: Final = re.compile(r"/\^X-Delivery-Pool:.*probe-[46].*\bFILTER\s+pool-")
_NUMBER_RULE: Final = re.compile(r"/\^X-Delivery-Pool:.*\[0-9\]\+\[.*\bFILTER\s+pool-")
_EXAMPLE_SRS_DOMAIN: Final = r"srs\.example\.org"
GENERATED: Final = """\
# Made by `delivery-pools postfix install`, which writes it anew each time: changes made here do not last.
"""
_SPACE: Final = "[[:space:]]"


def set_files(draft: Draft, base: Client) -> None:
    """Write the tables of the example; the rules for the tag are those of the settings' pools."""
    for name, text in draft.example.maps.items():
        if name == TAG_CHECKS:
            draft.files[name] = tag_checks(draft, base)
        elif name == _SRS_ADDRESSES:
            if domain := draft.settings.forwarding.srs_domain:
                draft.files[name] = GENERATED + text.replace(_EXAMPLE_SRS_DOMAIN, domain.replace(".", r"\."))
        else:
            draft.files[name] = GENERATED + text


def tag_checks(draft: Draft, client: Client, next_hop: str = "") -> str:
    """Return the rules for the tag; with a next-hop, those of a route of its own."""
    pools = all_transports(draft.settings.pools)
    ours = {
        _POOL_RULE: [f"{_pattern(pool.tag)} FILTER {client.transport(pool)}:{next_hop}" for pool in pools],
        _NUMBER_RULE: [
            f"{_pattern(pool.tag, '[0-9]+')} FILTER {client.transport(pool)}:{next_hop}"
            for pool in pools
            if pool.number == 1
        ],
        _PROBE_RULE: [rule for pool in pools for rule in _probe_rules(client.transport(pool), pool)],
    }
    lines: list[str] = []
    for line in draft.example.maps[TAG_CHECKS].splitlines():
        kind = next((one for one in (_PROBE_RULE, _NUMBER_RULE, _POOL_RULE) if one.match(line)), None)
        lines += [line] if kind is None else ours.pop(kind, [])
    return GENERATED + "".join(f"{line}\n" for line in lines)


def _probe_rules(transport: str, pool: PoolTransport) -> Iterator[str]:
    for family, sink in ((4, "127.0.0.1"), (6, "::1")):
        yield f"{_pattern(pool.tag, f'probe-{family}', '([0-9]+)')} FILTER {transport}:[{sink}]:$1"


def _pattern(*words: str) -> str:
    """Return the pattern for a tag of these words: Postfix may fold the header between them."""
    text = f"{_SPACE}+".join(word for part in words for word in part.split(" "))
    return f"/^X-Delivery-Pool:{_SPACE}*{text}{_SPACE}*$/"
