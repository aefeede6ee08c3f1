"""What is used of dkimpy 1.1.8."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

class _LookUp(Protocol):
    def __call__(self, name: bytes, timeout: int = ...) -> bytes | None: ...

class DKIMException(Exception): ...
class ValidationError(DKIMException): ...
class KeyFormatError(DKIMException): ...

def validate_signature_fields(
    sig: dict[bytes, bytes], mandatory_fields: Sequence[bytes] = ..., arc: bool = ...
) -> None: ...
def verify(
    message: bytes,
    logger: logging.Logger | None = ...,
    dnsfunc: _LookUp = ...,
    minkey: int = ...,
    timeout: int = ...,
) -> bool: ...
def sign(
    message: bytes,
    selector: bytes,
    domain: bytes,
    privkey: bytes,
    identity: bytes | None = ...,
    canonicalize: tuple[bytes, bytes] = ...,
    signature_algorithm: bytes = ...,
    include_headers: list[bytes] | None = ...,
    length: bool = ...,
) -> bytes: ...
def arc_sign(
    message: bytes,
    selector: bytes,
    domain: bytes,
    privkey: bytes,
    srv_id: bytes,
    signature_algorithm: bytes = ...,
    include_headers: list[bytes] | None = ...,
) -> list[bytes]: ...

class DomainSigner:
    headers: Sequence[tuple[bytes, bytes]]
    def __init__(
        self,
        message: bytes | None = ...,
        logger: logging.Logger | None = ...,
        signature_algorithm: bytes = ...,
        minkey: int = ...,
    ) -> None: ...
    def verify_sig(
        self,
        sig: dict[bytes, bytes],
        include_headers: list[bytes],
        sig_header: tuple[bytes, bytes],
        dnsfunc: Callable[..., bytes],
    ) -> bool: ...

class DKIM(DomainSigner):
    def verify(self, idx: int = ..., dnsfunc: _LookUp = ...) -> bool: ...
