"""The keys of signatures: looked up in DNS, and judged before dkimpy computes with them (RFC 6376 section 3.6)."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final

from dkim.crypto import parse_public_key
from dkim.util import InvalidTagValueList, parse_tag_value

from deliverypools.adapters.authentication.dkim_signature import Refused, Signature, Tags
from deliverypools.adapters.resolver import DnsUnavailable, Resolver
from deliverypools.core.authentication import Result

_MOST_RECORDS: Final = 3
"""So many keys of one name are tried; RFC 6376 section 3.6.2.2 allows one and leaves open what several mean."""
_MOST_RECORD_BYTES: Final = 4096
_LEAST_MODULUS_BITS: Final = 1024
_MOST_MODULUS_BITS: Final = 4096
"""RFC 8301 section 3.2. A key of 16 kbit would keep dkimpy, and the whole process, busy for seconds."""
_MOST_EXPONENT_BITS: Final = 64
_ED25519_BYTES: Final = 32


class KeyLookups:
    """The key look-ups of one message, all at the same time."""

    def __init__(self) -> None:
        self._futures: dict[str, Future[tuple[bytes, ...]]] = {}

    @property
    def futures(self) -> list[Future[tuple[bytes, ...]]]:
        """What is to be waited for."""
        return list(self._futures.values())

    def start(self, resolver: Resolver, signatures: Iterable[Signature]) -> None:
        """Begin to look up the key of each signature; a key of several signatures once."""
        for name in dict.fromkeys(signature.key_name for signature in signatures):
            self._futures[name] = resolver.start_txt(name)

    def keys(self, signature: Signature, deadline: float) -> list[bytes]:
        """Return the key records to verify with; waits until `deadline` (time.monotonic); raises Refused."""
        future = self._futures.get(signature.key_name)
        if future is None:
            raise Refused(Result.TEMPERROR, "the key was not looked up")
        try:
            records = future.result(max(0.0, deadline - time.monotonic()))
        except DnsUnavailable as error:
            raise Refused(Result.TEMPERROR, f"{signature.key_name}: {error}") from None
        except (FutureTimeout, CancelledError):
            raise Refused(Result.TEMPERROR, f"{signature.key_name}: no answer from DNS in time") from None
        except Exception as error:  # noqa: BLE001  (whatever it is, the key may be there: it is not known)
            raise Refused(Result.TEMPERROR, f"{signature.key_name}: {type(error).__name__}") from None
        return judge_keys(records, signature)


def judge_keys(records: Iterable[bytes], signature: Signature) -> list[bytes]:
    """Return the records that may be verified with, written anew for dkimpy; raises Refused where there is none."""
    usable: list[bytes] = []
    refusals: list[Refused] = []
    # In an order of their own: that of DNS changes from answer to answer.
    for record in sorted(record for record in records if _is_key(record))[:_MOST_RECORDS]:
        try:
            usable.append(_usable_key(record, signature))
        except Refused as refusal:
            refusals.append(refusal)
    if not usable:
        raise next(iter(refusals), Refused(Result.PERMERROR, f"{signature.key_name}: no key"))
    return usable


def _is_key(record: bytes) -> bool:
    """Tell whether a TXT record is meant to be a key: a wildcard may give others, such as SPF."""
    start = b"".join(record[:_MOST_RECORD_BYTES].split())
    return b"p=" in start and (not start.startswith(b"v=") or start.startswith(b"v=DKIM1"))


def _usable_key(record: bytes, signature: Signature) -> bytes:
    if len(record) > _MOST_RECORD_BYTES:
        raise Refused(Result.PERMERROR, f"the key record is longer than {_MOST_RECORD_BYTES} octets")
    try:
        tags = parse_tag_value(record)
    except InvalidTagValueList:
        raise Refused(Result.PERMERROR, "the key record is no list of tags") from None
    _check_use(tags, signature)
    try:
        key = base64.b64decode(b"".join(tags[b"p"].split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(Result.PERMERROR, "p= of the key is not base64") from None
    if signature.key_type == b"rsa":
        _check_rsa(key)
    elif len(key) != _ED25519_BYTES:
        raise Refused(Result.PERMERROR, "p= is no Ed25519 key")
    return b"v=DKIM1; k=" + signature.key_type + b"; p=" + base64.b64encode(key)


def _check_use(tags: Tags, signature: Signature) -> None:
    """Judge what the record says the key is for; raises Refused."""
    flags = _items(tags.get(b"t", b""))
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        raise Refused(Result.PERMERROR, "v= of the key is not DKIM1")
    if b"p" not in tags:
        raise Refused(Result.PERMERROR, "the key record has no p=")
    if not tags[b"p"]:
        raise Refused(Result.PERMERROR, "the key is revoked")
    if tags.get(b"k", b"rsa") != signature.key_type:
        raise Refused(Result.PERMERROR, "k= of the key does not fit a= of the signature")
    if b"h" in tags and b"sha256" not in _items(tags[b"h"]):
        raise Refused(Result.PERMERROR, "h= of the key does not allow SHA-256")
    if not {b"*", b"email"} & _items(tags.get(b"s", b"*")):
        raise Refused(Result.PERMERROR, "s= of the key does not allow mail")
    if b"s" in flags and signature.is_below_domain:
        raise Refused(Result.PERMERROR, "t=s of the key does not allow i= of a subdomain")
    if b"y" in flags:
        # Section 3.6.1: no better than an unsigned message, so it never passes.
        raise Refused(Result.POLICY, "the key is being tested (t=y)")


def _check_rsa(key: bytes) -> None:
    try:
        parts = parse_public_key(key)
    except Exception:  # noqa: BLE001  (besides its own errors it raises AssertionError and IndexError)
        raise Refused(Result.PERMERROR, "p= is no RSA key") from None
    bits = parts["modulus"].bit_length()
    if bits < _LEAST_MODULUS_BITS:
        raise Refused(Result.POLICY, f"the RSA key has {bits} bits; less than {_LEAST_MODULUS_BITS} is not accepted")
    if bits > _MOST_MODULUS_BITS:
        raise Refused(Result.POLICY, f"the RSA key has {bits} bits; more than {_MOST_MODULUS_BITS} is not accepted")
    if parts["publicExponent"].bit_length() > _MOST_EXPONENT_BITS:
        raise Refused(Result.POLICY, f"the RSA exponent has more than {_MOST_EXPONENT_BITS} bits")


def _items(value: bytes) -> set[bytes]:
    return {item.strip().lower() for item in value.split(b":")}
