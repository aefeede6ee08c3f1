from typing import TypedDict

class UnparsableKeyError(Exception): ...

class _PublicKey(TypedDict):
    modulus: int
    publicExponent: int

def parse_public_key(data: bytes) -> _PublicKey: ...
