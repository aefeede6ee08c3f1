"""pyspf 2.0.14: what is used of it."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

MAX_PTR: Final[int]
MAX_VOID_LOOKUPS: Final[int]
EXPLANATIONS: Final[dict[str, str]]

class TempError(Exception):
    def __init__(self, msg: object, mech: str | None = None, ext: object = None) -> None: ...

class PermError(Exception):
    def __init__(self, msg: str, mech: str | None = None, ext: object = None) -> None: ...

class query:
    l: str
    o: str
    d: str
    i: str
    A: str
    cidrmax: int
    ipaddr: IPv4Address | IPv6Address
    void_lookups: int
    mechanism: str | None
    def __init__(
        self, i: str, s: str, h: str, local: str | None = None, receiver: str | None = None, strict: bool | int = True
    ) -> None: ...
    def check(self, spf: str | None = None) -> tuple[str, int, str]: ...
    def dns(
        self, name: str, qtype: str, cnames: dict[str, str] | None = None, ignore_void: bool = False
    ) -> list[Any]: ...
    def dns_a(self, domainname: str, A: str = "A") -> list[str]: ...
    def dns_ptr(self, i: str) -> list[str]: ...
    def validated_ptrs(self) -> list[str]: ...
    def cidrmatch(self, ipaddrs: list[str], n: int) -> bool: ...
