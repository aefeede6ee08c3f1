"""DKIM (RFC 6376): the signatures of one message, verified without keeping its body.

Signatures are read, and their keys begin to be looked up, at the end of the header; the body is hashed in the parts in
which it comes; at the end dkimpy hashes the header and verifies. Whatever a message holds, nothing is raised, and
neither time nor memory grows beyond what the bounds of `dkim_signature` and `dkim_keys` allow.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

import dkim

from deliverypools.adapters.authentication.dkim_keys import KeyLookups
from deliverypools.adapters.authentication.dkim_signature import (
    Field,
    Refused,
    Signature,
    Tags,
    check_header_size,
    labelled,
    read_dkim_signature,
    read_tags,
)
from deliverypools.adapters.resolver import Resolver
from deliverypools.core.authentication import DkimResult, Result
from deliverypools.core.authentication.canonical_body import BodyAlgorithm, CanonicalBody
from deliverypools.core.facts import printable

_MOST_SIGNATURES: Final = 10
_SILENT: Final = logging.getLogger("dkimpy")
_SILENT.disabled = True
"""dkimpy logs what the message holds."""


class SignatureCheck:
    """The DKIM signatures of one message: `start` once, `feed` for each part of the body, `finish` at its end."""

    def __init__(self, fields: Sequence[Field]) -> None:
        """Read the signatures of a header: its fields from top to bottom."""
        self._fields = list(fields)
        self._lookups = KeyLookups()
        signatures = [field for field in self._fields if field_name(field) == b"dkim-signature"]
        self._ignored = len(signatures[_MOST_SIGNATURES:])
        self._signatures = [_read(field, self._fields) for field in signatures[:_MOST_SIGNATURES]]
        self._bodies = BodyHashes(self._pending)

    @property
    def _pending(self) -> list[Signature]:
        return [read.outcome for read in self._signatures if isinstance(read.outcome, Signature)]

    @property
    def wants_body(self) -> bool:
        """Whether there is a signature to verify; if not, the body need not be fed."""
        return bool(self._pending)

    @property
    def look_ups(self) -> list[Future[tuple[bytes, ...]]]:
        """What is to be waited for before `finish`, or there."""
        return self._lookups.futures

    def start(self, resolver: Resolver) -> None:
        """Begin to look up all keys."""
        self._lookups.start(resolver, self._pending)

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body."""
        self._bodies.feed(chunk)

    def finish(self, seconds: float) -> tuple[DkimResult, ...]:
        """Return a result for each signature, top to bottom; waits at most `seconds` for keys."""
        deadline = time.monotonic() + seconds
        results = [self._result(read, deadline) for read in self._signatures]
        if self._ignored:
            reason = f"{self._ignored} more signatures were not looked at; {results[-1].reason}".rstrip("; ")
            results[-1] = replace(results[-1], reason=printable(reason))
        return tuple(results)

    def _result(self, read: _Read, deadline: float) -> DkimResult:
        if isinstance(read.outcome, DkimResult):
            return read.outcome
        try:
            # Before the key: what was changed cannot pass, whatever DNS says.
            self._bodies.check(read.outcome)
            verify(read.outcome, self._fields, self._lookups.keys(read.outcome, deadline))
        except Refused as refusal:
            return labelled(read.tags, refusal.result, str(refusal))
        return labelled(read.tags, Result.PASS)


class BodyHashes:
    """The body of a message in each canonical form that its signatures need."""

    def __init__(self, signatures: Iterable[Signature]) -> None:
        algorithms: set[BodyAlgorithm] = {signature.body_algorithm for signature in signatures}
        self._bodies = {algorithm: CanonicalBody(algorithm) for algorithm in algorithms}

    def feed(self, chunk: bytes) -> None:
        """Take the next part of the body."""
        for body in self._bodies.values():
            body.feed(chunk)

    def check(self, signature: Signature) -> None:
        """Compare the whole body with what was signed; raises Refused."""
        body = self._bodies[signature.body_algorithm]
        signature.check_body(body.digest(), body.length)


def verify(signature: Signature, fields: Sequence[Field], keys: Iterable[bytes]) -> None:
    """Verify the signature over the header with any of the keys; raises Refused."""
    signed = _signed_fields(fields, Counter(signature.signed_names))
    if not any(_is_valid(signature, signed, key) for key in keys):
        raise Refused(Result.FAIL, "the header was changed, or signed with another key")


def field_name(field: Field) -> bytes:
    """Return the name of a field as names are compared."""
    return field[0].strip().lower()


@dataclass(frozen=True, slots=True)
class _Read:
    """A signature field as it was read: to be verified, or refused already."""

    tags: Tags
    outcome: Signature | DkimResult


def _read(field: Field, fields: list[Field]) -> _Read:
    tags: Tags = {}
    try:
        tags = read_tags(field[1])
        check_header_size(fields)
        return _Read(tags, read_dkim_signature(field, tags))
    except Refused as refusal:
        return _Read(tags, labelled(tags, refusal.result, str(refusal)))


def _signed_fields(fields: Sequence[Field], wanted: Counter[bytes]) -> list[Field]:
    """Return what dkimpy would select of these fields, and one From more: it looks for each name in all it is given.

    Of a name that h= has N times the lowest N fields are signed (RFC 6376 section 5.4.2); an unsigned From must not
    go unnoticed.
    """
    wanted = wanted + Counter([b"from"])
    chosen: list[Field] = []
    for field in reversed(fields):
        name = field_name(field)
        if wanted[name] > 0:
            wanted[name] -= 1
            chosen.append(field)
    return chosen[::-1]


def _is_valid(signature: Signature, signed: Sequence[Field], key: bytes) -> bool:
    try:
        signer = dkim.DKIM(logger=_SILENT)
        signer.headers = [(name, value + b"\r\n") for name, value in signed]
        name, value = signature.field
        names = list(signature.signed_names)
        return signer.verify_sig(dict(signature.tags), names, (name, value + b"\r\n"), lambda *_, **__: key)
    except Exception as error:  # noqa: BLE001  (dkimpy, PyNaCl and base64 raise what they like on what they get)
        raise Refused(Result.PERMERROR, f"the signature cannot be verified ({type(error).__name__})") from None
