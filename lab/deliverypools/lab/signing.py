"""Mail of the outside world that can prove where it is from: DKIM signatures, ARC seals, and their keys in the DNS."""

import base64
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deliverypools.lab.dns_server import Records, txt

RSA: Final = "rsa"
ED25519: Final = "ed25519"
"""The selectors that every signing domain of the lab has."""

_RSA_BITS = 2048
_PUBLIC_EXPONENT = 65537
_SEALED_FIELDS = [b"from", b"to", b"subject", b"date", b"message-id"]


@dataclass(frozen=True, slots=True)
class _Key:
    algorithm: bytes
    private: bytes
    """As dkimpy wants it: PEM, or the Base64 of an Ed25519 seed."""
    record: str
    """The text of the TXT record (RFC 6376 section 3.6.1, RFC 8463 section 4)."""


@functools.cache
def _keys() -> Mapping[str, _Key]:
    """Return a key for each selector; they are made once a process, and serve all its labs and domains."""
    rsa, ed25519 = generate_private_key(_PUBLIC_EXPONENT, _RSA_BITS), Ed25519PrivateKey.generate()
    rsa_public = rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    rsa_private = rsa.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    ed25519_public, ed25519_private = ed25519.public_key().public_bytes_raw(), ed25519.private_bytes_raw()
    return {
        RSA: _Key(b"rsa-sha256", rsa_private, f"v=DKIM1; k=rsa; p={_base64(rsa_public)}"),
        ED25519: _Key(
            b"ed25519-sha256", _base64(ed25519_private).encode(), f"v=DKIM1; k=ed25519; p={_base64(ed25519_public)}"
        ),
    }


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def key_records(domain: str) -> dict[str, Records]:
    """Return the zone data that let everybody verify what `signed` and `sealed` make for `domain`."""
    return {f"{selector}._domainkey.{domain}": {"TXT": [txt(key.record)]} for selector, key in _keys().items()}


def signed(
    message: bytes,
    domain: str,
    *,
    selector: str = RSA,
    canonicalization: tuple[bytes, bytes] = (b"relaxed", b"relaxed"),
    body_length: bool = False,
) -> bytes:
    """Return `message`, with CRLF line ends, and a DKIM signature of `domain` (RFC 6376) on top.

    Args:
        message: head and body.
        domain: d=; any domain, also one that is not the author's or has no key in the DNS.
        selector: RSA or ED25519.
        canonicalization: of head and body.
        body_length: sign no more than the body's present length (l=).

    """
    key, message = _keys()[selector], _with_crlf(message)
    signature = dkim.sign(
        message,
        selector.encode(),
        domain.encode(),
        key.private,
        canonicalize=canonicalization,
        signature_algorithm=key.algorithm,
        length=body_length,
    )
    return bytes(signature) + message


def sealed(message: bytes, domain: str, results: str) -> bytes:
    """Return `message` with one more ARC set (RFC 8617) of `domain` on top, as a forwarder adds it.

    `results` is what that forwarder found, without its authserv-id: "spf=pass smtp.mailfrom=a.example; dkim=none". A
    further set says there what it found of those before: "arc=pass" becomes its chain value.
    """
    key, message = _keys()[RSA], _with_crlf(message)
    judged = f"Authentication-Results: {domain}; {results}\r\n".encode() + message
    fields = dkim.arc_sign(
        judged, RSA.encode(), domain.encode(), key.private, domain.encode(), include_headers=_SEALED_FIELDS
    )
    return b"".join(fields) + message


def _with_crlf(message: bytes) -> bytes:
    return message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
