"""ARC (RFC 8617) as evidence: what a sealer that the operator trusts says it saw when the message came to it.

Only a chain whose last sealer is trusted is looked at. Anybody may add sets below that one, so what is believed is read
from the last set downwards, and only as long as the sealers are trusted.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from deliverypools.adapters.authentication.dkim_check import BodyHashes, field_name, verify
from deliverypools.adapters.authentication.dkim_keys import KeyLookups
from deliverypools.adapters.authentication.dkim_signature import (
    Field,
    Refused,
    Signature,
    Tags,
    check_header_size,
    labelled,
    read_message_signature,
    read_seal,
    read_tags,
)
from deliverypools.adapters.resolver import Resolver
from deliverypools.core.addresses import is_same_or_subdomain
from deliverypools.core.authentication import ArcResult, DkimResult, Result
from deliverypools.core.authentication.results_field import sealed_results

_MOST_SETS: Final = 10
_MOST_RESULTS_BYTES: Final = 16_384
_RESULTS: Final = b"arc-authentication-results"
_MESSAGE_SIGNATURE: Final = b"arc-message-signature"
_SEAL: Final = b"arc-seal"
_SET: Final = (_RESULTS, _MESSAGE_SIGNATURE, _SEAL)
"""The fields of one set, in the order in which they are signed (RFC 8617 section 5.1.1)."""
_INSTANCE: Final = re.compile(rb"\s*i\s*=\s*([0-9]{1,2})\s*;")


class ArcCheck:
    """The ARC chain of one message: `start` once, `feed` for each part of the body, `finish` at its end."""

    def __init__(self, fields: Sequence[Field], trusted_sealers: frozenset[str]) -> None:
        """Read the chain of a header, its fields from top to bottom; `trusted_sealers` are lower-case A-labels."""
        self._fields = list(fields)
        self._trusted_sealers = trusted_sealers
        self._lookups = KeyLookups()
        self._chain: _Chain | None = None
        self._sealer = ""
        self._refusal: Refused | None = None
        try:
            self._read()
        except Refused as refusal:
            self._refusal = refusal
        self._bodies = BodyHashes([self._chain.message_signature] if self._chain else [])

    @property
    def wants_body(self) -> bool:
        """Whether there is a chain to verify; if not, the body need not be fed."""
        return self._chain is not None

    @property
    def look_ups(self) -> list[Future[tuple[bytes, ...]]]:
        """What is to be waited for before `finish`, or there."""
        return self._lookups.futures

    def start(self, resolver: Resolver) -> None:
        """Begin to look up all keys."""
        if self._chain:
            self._lookups.start(resolver, self._chain.signatures)

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body."""
        self._bodies.feed(chunk)

    def finish(self, seconds: float) -> ArcResult:
        """Return what the chain shows; waits at most `seconds` for keys.

        NONE: there is no chain, or its last sealer is not trusted.
        """
        deadline = time.monotonic() + seconds
        try:
            if self._refusal:
                raise self._refusal
            if self._chain is None:
                return ArcResult(result=Result.NONE, sealer=self._sealer)
            self._verify(self._chain, deadline)
        except Refused as refusal:
            return ArcResult(result=_arc_result(refusal), sealer=self._sealer, reason=str(refusal))
        return ArcResult(result=Result.PASS, sealer=self._sealer, vouches=self._vouches(self._chain))

    def _read(self) -> None:
        """Read the chain if its last sealer is trusted; raises Refused."""
        seals = [seal for seal in self._fields if field_name(seal) == _SEAL]
        if not seals:
            return
        if len(seals) > _MOST_SETS:
            raise Refused(Result.NONE, f"{len(seals)} ARC seals; more than {_MOST_SETS} are not looked at")
        self._sealer = _last_sealer(seals)
        if self._sealer in self._trusted_sealers:
            check_header_size(self._fields)
            self._chain = _chain(self._fields)

    def _verify(self, chain: _Chain, deadline: float) -> None:
        """Verify a chain as RFC 8617 section 5.2 has it; raises Refused."""
        self._bodies.check(chain.message_signature)
        for signature, fields in chain.steps(self._fields):
            verify(signature, fields, self._lookups.keys(signature, deadline))

    def _vouches(self, chain: _Chain) -> str:
        for instance in range(chain.length, 0, -1):
            if chain.seals[instance - 1].domain not in self._trusted_sealers:
                break
            if evidence := _evidence(chain.sets[instance][_RESULTS]):
                return evidence
        return ""


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain that is complete: sets 1 to `length`, each with its three fields."""

    sets: dict[int, dict[bytes, Field]]
    message_signature: Signature
    """That of the last set: no other needs to be valid still (RFC 8617 section 5.2)."""
    seals: tuple[Signature, ...]
    """Lowest instance first."""

    @property
    def length(self) -> int:
        return len(self.sets)

    @property
    def signatures(self) -> list[Signature]:
        return [self.message_signature, *self.seals]

    def steps(self, header: Sequence[Field]) -> Iterator[tuple[Signature, Sequence[Field]]]:
        """Yield each signature with the fields it covers, the last one first."""
        yield self.message_signature, header
        for instance in range(self.length, 0, -1):
            # A signature covers fields from the bottom up: the first set has to be lowest, wherever it stood.
            sealed = [self.sets[i][name] for i in range(instance, 0, -1) for name in reversed(_SET)]
            yield self.seals[instance - 1], sealed[1:]


def _last_sealer(seals: Sequence[Field]) -> str:
    """Return d= of the seal with the highest instance; "" where none can be read."""
    found = [(0, "")]
    for _, value in seals:
        with contextlib.suppress(Refused):
            tags = read_tags(value)
            found.append((_instance_of(tags), labelled(tags, Result.NONE).domain))
    return max(found)[1]


def _chain(fields: Sequence[Field]) -> _Chain:
    """Return the chain of a header; raises Refused."""
    sets = _sets(fields)
    last = sets[len(sets)][_MESSAGE_SIGNATURE]
    signature = read_message_signature(last, read_tags(last[1]))
    return _Chain(sets, signature, tuple(_seal(sets[instance][_SEAL], instance) for instance in sorted(sets)))


def _seal(field: Field, instance: int) -> Signature:
    tags = read_tags(field[1])
    seal = read_seal(field, tags, (_SET * instance)[:-1])
    expected = b"none" if instance == 1 else b"pass"
    if tags[b"cv"] != expected:
        raise Refused(Result.FAIL, f"cv= of seal {instance} is not {expected.decode()}")
    return seal


def _sets(fields: Sequence[Field]) -> dict[int, dict[bytes, Field]]:
    """Return the fields of each instance; raises Refused where one is missing or there twice (section 5.2)."""
    sets: defaultdict[int, dict[bytes, Field]] = defaultdict(dict)
    for each in fields:
        name = field_name(each)
        if name not in _SET:
            continue
        instance = _results_instance(each[1]) if name == _RESULTS else _instance_of(read_tags(each[1]))
        if name in sets[instance]:
            raise Refused(Result.FAIL, f"set {instance} has a field twice")
        sets[instance][name] = each
    if sorted(sets) != list(range(1, len(sets) + 1)) or any(len(each) != len(_SET) for each in sets.values()):
        raise Refused(Result.FAIL, "the chain is not complete")
    return dict(sets)


def _instance_of(tags: Tags) -> int:
    value = tags.get(b"i", b"")
    if not re.fullmatch(rb"[0-9]{1,2}", value):
        raise Refused(Result.FAIL, "an ARC field has no valid i=")
    return int(value)


def _results_instance(value: bytes) -> int:
    instance = _INSTANCE.match(value) if len(value) <= _MOST_RESULTS_BYTES else None
    if instance is None:
        raise Refused(Result.FAIL, "an ARC-Authentication-Results field has no valid i=, or is too long")
    return int(instance[1])


def _evidence(results: Field) -> str:
    """Return what sealed results say for the sender: DMARC passed; or no DMARC record, and SPF or DKIM passed."""
    found = sealed_results(results[1].decode("utf-8", "replace"))
    dmarc = found.dmarc
    if dmarc is None:
        return ""
    if dmarc.result is Result.PASS:
        return "dmarc=pass"
    if dmarc.result is not Result.NONE:
        return ""
    if found.spf and found.spf.result is Result.PASS and found.spf.identity == "mailfrom":
        return "dmarc=none spf=pass"
    if any(_is_of_author(signature, dmarc.domain) for signature in found.dkim or ()):
        return "dmarc=none dkim=pass"
    return ""


def _is_of_author(signature: DkimResult, author_domain: str) -> bool:
    """Tell whether a signature passed and is of the domain of From or one above it: anybody may sign for his own."""
    return bool(
        signature.result is Result.PASS and signature.domain and is_same_or_subdomain(author_domain, signature.domain)
    )


def _arc_result(refusal: Refused) -> Result:
    """ARC knows fail, not its many reasons (RFC 8617 section 4.4); what DNS cannot tell is unknown."""
    return refusal.result if refusal.result in (Result.NONE, Result.TEMPERROR) else Result.FAIL
