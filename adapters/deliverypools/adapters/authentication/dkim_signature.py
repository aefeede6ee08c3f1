"""One DKIM-Signature field as it is written: read, bounded and judged before anything is computed with it.

dkimpy parses the tags and checks what RFC 6376 section 6.1.1 asks of them; t= and x= it compares with the system
clock, with ten hours of leeway. What it leaves out, and what would cost it time, is done here.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, cast

import dkim
from dkim.util import InvalidTagValueList, parse_tag_value

from deliverypools.core.addresses import is_same_or_subdomain, normalise_domain
from deliverypools.core.authentication import DkimResult, Result
from deliverypools.core.authentication.canonical_body import BodyAlgorithm
from deliverypools.core.facts import printable

Field: TypeAlias = tuple[bytes, bytes]
"""Name and value as on the wire: all bytes after the colon, folds with CRLF, no final CRLF."""
Tags: TypeAlias = dict[bytes, bytes]

MOST_HEADER_FIELDS: Final = 1000
MOST_HEADER_BYTES: Final = 256 * 1024
_MOST_FIELD_BYTES: Final = 8192
_MOST_WHITE_SPACE: Final = re.compile(rb"\s{101}")
"""dkimpy removes b= with an expression that is quadratic on white space."""
_MOST_SIGNED_NAMES: Final = 200
_SHA256_BYTES: Final = 32
_LONGEST_NAME: Final = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_SELECTOR: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SHOWN_SIGNATURE: Final = re.compile(rb"[A-Za-z0-9+/]{1,12}")
_KEY_TYPES: Final = {b"rsa-sha256": b"rsa", b"ed25519-sha256": b"ed25519"}
_BODY_TAGS: Final = (b"bh", b"l")
_DKIM_TAGS: Final = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")


class Refused(Exception):  # noqa: N818  (an outcome, as DnsUnavailable is)
    """The signature does not pass: with which result, and why."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(printable(reason))
        self.result = result


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature that is worth looking its key up."""

    field: Field
    tags: Tags
    """The tags dkimpy verifies with; none that would make it look at a body."""
    domain: str
    selector: str
    key_type: bytes
    signed_names: tuple[bytes, ...]
    """h=, in lower case."""
    is_below_domain: bool = False
    """i= names a subdomain of d=."""
    body_algorithm: BodyAlgorithm = "simple"
    body_hash: bytes = b""
    body_length: int | None = None
    """l=; None: the whole body is signed."""

    @property
    def key_name(self) -> str:
        """Where its key is (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    def check_body(self, digest: bytes, length: int) -> None:
        """Compare the body as it came with bh= and l=; raises Refused."""
        if self.body_length is not None and self.body_length < length:
            raise Refused(Result.POLICY, f"l= leaves {length - self.body_length} octets of the body unsigned")
        if self.body_length is not None and self.body_length > length:
            raise Refused(Result.PERMERROR, "l= is longer than the body")
        if digest != self.body_hash:
            raise Refused(Result.FAIL, "the body was changed: its hash is not that of bh=")


def check_header_size(fields: list[Field]) -> None:
    """Refuse to verify anything in a header that nobody's mail has; raises Refused."""
    if len(fields) > MOST_HEADER_FIELDS:
        raise Refused(Result.PERMERROR, f"the message has more than {MOST_HEADER_FIELDS} header fields")
    if sum(len(name) + len(value) for name, value in fields) > MOST_HEADER_BYTES:
        raise Refused(Result.PERMERROR, f"the header is larger than {MOST_HEADER_BYTES // 1024} kB")


def read_tags(value: bytes) -> Tags:
    """Return the tags of a signature or seal, without white space where none counts; raises Refused."""
    if len(value) > _MOST_FIELD_BYTES:
        raise Refused(Result.PERMERROR, f"the signature field is longer than {_MOST_FIELD_BYTES} octets")
    if _MOST_WHITE_SPACE.search(value):
        raise Refused(Result.PERMERROR, "the signature field holds more than 100 white-space characters in a row")
    try:
        tags = parse_tag_value(value)
    except InvalidTagValueList:
        raise Refused(Result.PERMERROR, "the signature is no list of tags") from None
    for name in (b"a", b"b", b"bh", b"c", b"d", b"q", b"s"):
        if name in tags:
            tags[name] = b"".join(tags[name].split())
    for name in (b"a", b"c"):
        if name in tags:
            tags[name] = tags[name].lower()
    return tags


def labelled(tags: Tags, result: Result, reason: str = "") -> DkimResult:
    """Return a result with what tells its signature from others, as far as that can be read."""
    shown = _SHOWN_SIGNATURE.match(tags.get(b"b", b""))
    return DkimResult(
        result=result,
        domain=_name(tags, b"d", _DOMAIN),
        selector=_name(tags, b"s", _SELECTOR),
        signature=shown.group().decode() if shown else "",
        reason=printable(reason),
    )


def read_dkim_signature(field: Field, tags: Tags) -> Signature:
    """Return the signature of a DKIM-Signature field; raises Refused."""
    _validate(tags, _DKIM_TAGS)
    return read_signature(field, tags, is_below_domain=_is_below_domain(tags))


def read_message_signature(field: Field, tags: Tags) -> Signature:
    """Return the signature of an ARC-Message-Signature field (RFC 8617 section 4.1.2); raises Refused."""
    _validate(tags, _DKIM_TAGS[1:])
    signature = read_signature(field, tags)
    if b"arc-seal" in signature.signed_names:
        raise Refused(Result.PERMERROR, "ARC-Message-Signature signs an ARC-Seal")
    return signature


def read_seal(field: Field, tags: Tags, signed_names: tuple[bytes, ...]) -> Signature:
    """Return the signature of an ARC-Seal field (RFC 8617 section 4.1.3), which covers no body; raises Refused."""
    if b"h" in tags:
        raise Refused(Result.PERMERROR, "ARC-Seal has a tag h=")
    _validate(tags, (b"a", b"b", b"cv", b"d", b"s"))
    return _signature(field, tags | {b"c": b"relaxed/relaxed"}, signed_names)


def read_signature(field: Field, tags: Tags, *, is_below_domain: bool = False) -> Signature:
    """Return a signature over header and body; raises Refused."""
    names = tuple(name.strip().lower() for name in tags[b"h"].split(b":"))
    if len(names) > _MOST_SIGNED_NAMES:
        raise Refused(Result.PERMERROR, f"h= names more than {_MOST_SIGNED_NAMES} fields")
    if b"from" not in names:
        raise Refused(Result.PERMERROR, "From is not signed")
    return replace(
        _signature(field, tags, names),
        is_below_domain=is_below_domain,
        body_algorithm=_body_algorithm(tags),
        body_hash=_body_hash(tags),
        body_length=_body_length(tags),
    )


def _signature(field: Field, tags: Tags, signed_names: tuple[bytes, ...]) -> Signature:
    """Return a signature over the header alone; raises Refused."""
    signature = Signature(
        field=field,
        tags={name: value for name, value in tags.items() if name not in _BODY_TAGS},
        domain=_name(tags, b"d", _DOMAIN),
        selector=_name(tags, b"s", _SELECTOR),
        key_type=_key_type(tags),
        signed_names=signed_names,
    )
    if not signature.domain or not signature.selector or len(signature.key_name) > _LONGEST_NAME:
        raise Refused(Result.PERMERROR, "d= and s= do not name a key")
    return signature


def _key_type(tags: Tags) -> bytes:
    algorithm = tags[b"a"]
    if algorithm == b"rsa-sha1":
        # RFC 8301 section 3.1: never valid, whatever it says. Nothing is verified: RFC 8601 calls that `policy`.
        raise Refused(Result.POLICY, "rsa-sha1 is not accepted (RFC 8301)")
    if algorithm not in _KEY_TYPES:
        raise Refused(Result.PERMERROR, "a= is an unknown algorithm")
    return _KEY_TYPES[algorithm]


def _validate(tags: Tags, mandatory: tuple[bytes, ...]) -> None:
    """Check the tags as dkimpy does; raises Refused."""
    for name in mandatory:
        if not tags.get(name):
            raise Refused(Result.PERMERROR, f"the signature has no {name.decode()}=")
    # i= is an instance in ARC, and dkimpy's own look at it may raise IndexError: see _is_below_domain.
    checked = {name: value for name, value in tags.items() if name != b"i"}
    if b"q" in checked and b"dns/txt" in checked[b"q"].split(b":"):
        checked[b"q"] = b"dns/txt"
    try:
        dkim.validate_signature_fields(checked, mandatory)
    except dkim.ValidationError as error:
        # What follows is the value, in Python's notation.
        raise Refused(Result.PERMERROR, str(error).partition(" (")[0]) from None
    except Exception:  # noqa: BLE001  (dkimpy is total for no input)
        raise Refused(Result.PERMERROR, "a tag of the signature cannot be read") from None


def _name(tags: Tags, tag: bytes, form: re.Pattern[str]) -> str:
    """Return a domain or selector as a lower-case A-label (RFC 8616); "" for what is none."""
    text = _text(tags.get(tag, b""))
    name = normalise_domain(text) if len(text) <= _LONGEST_NAME else ""
    return name if len(name) <= _LONGEST_NAME and form.fullmatch(name) else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _is_below_domain(tags: Tags) -> bool:
    """Tell whether the agent of i= is of a subdomain of d=; raises Refused where it is of neither."""
    if b"i" not in tags:
        return False
    _, at, identity = tags[b"i"].rpartition(b"@")
    identity_domain = _name({b"i": identity}, b"i", _DOMAIN)
    domain = _name(tags, b"d", _DOMAIN)
    if not at or not identity_domain or not is_same_or_subdomain(identity_domain, domain):
        raise Refused(Result.PERMERROR, "i= is neither of d= nor of a subdomain")
    return identity_domain != domain


def _body_algorithm(tags: Tags) -> BodyAlgorithm:
    header, _, body = tags.get(b"c", b"simple").partition(b"/")
    if header not in (b"simple", b"relaxed") or body not in (b"", b"simple", b"relaxed"):
        raise Refused(Result.PERMERROR, "c= is an unknown canonicalisation")
    return cast("BodyAlgorithm", body.decode() or "simple")


def _body_hash(tags: Tags) -> bytes:
    try:
        value = base64.b64decode(tags[b"bh"], validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != _SHA256_BYTES:
        raise Refused(Result.PERMERROR, "bh= is no SHA-256 hash in base64")
    return value


def _body_length(tags: Tags) -> int | None:
    if b"l" not in tags:
        return None
    if not tags[b"l"]:
        raise Refused(Result.PERMERROR, "l= is empty")
    return int(tags[b"l"])
