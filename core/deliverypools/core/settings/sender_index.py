"""Finds the first of many entries that names a sender: a site with ten thousand pins pays for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Generic, TypeVar

from deliverypools.core.settings.tables import NamedSender
from deliverypools.core.settings.values import IpAddress, client_ip

_SENDER: Final = "sender"
_DOMAIN: Final = "domain"
_LOGIN: Final = "sasl_username"
_CLIENT: Final = "client"

EntryT = TypeVar("EntryT", bound=NamedSender)
Key = tuple[str, str]
"""What an entry names, and its name."""


class SenderIndex(Generic[EntryT]):
    """Entries in their order, by what they name."""

    def __init__(self, entries: Sequence[EntryT]) -> None:
        self._entries = entries
        self._places: dict[Key, int] = {}
        """The first entry of each key."""
        self._prefixes: set[tuple[int, int]] = set()
        """IP version and length of the prefix of the networks that are named."""
        for place, entry in enumerate(entries):
            for key in self._keys_of(entry):
                self._places.setdefault(key, place)

    def _keys_of(self, entry: EntryT) -> Iterator[Key]:
        if entry.sender is not None:
            yield _SENDER, entry.sender
        if entry.domain is not None:
            yield _DOMAIN, entry.domain
        if entry.sasl_username is not None:
            yield _LOGIN, entry.sasl_username
        if entry.client is not None:
            self._prefixes.add((entry.client.version, entry.client.prefixlen))
            yield _network_key(entry.client.network_address, entry.client.prefixlen)

    def first(self, *, sender: str, sasl_username: str | None, client_address: str) -> EntryT | None:
        """Return the first entry that names one of these; None where none does.

        Args:
            sender: the envelope sender, normalised.
            sasl_username: the account of a login; None where nobody logged in.
            client_address: as MTAs write it.

        """
        keys = self._keys_for(sender, sasl_username, client_address)
        place = min((self._places[key] for key in keys if key in self._places), default=None)
        return None if place is None else self._entries[place]

    def _keys_for(self, sender: str, sasl_username: str | None, client_address: str) -> Iterator[Key]:
        yield _SENDER, sender
        domain = sender.rpartition("@")[2] if "@" in sender else ""
        while domain:
            yield _DOMAIN, domain
            domain = domain.partition(".")[2]
        if sasl_username is not None:
            yield _LOGIN, sasl_username
        if self._prefixes and (address := client_ip(client_address)) is not None:
            for version, length in self._prefixes:
                if version == address.version:
                    yield _network_key(address, length)


def _network_key(address: IpAddress, length: int) -> Key:
    """Return the key of the network of so many leading bits that an address lies in."""
    return _CLIENT, f"{address.version}/{length}/{int(address) >> (address.max_prefixlen - length):x}"
