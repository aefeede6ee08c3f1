"""Mail addresses as text: splitting, comparing, normalising (RFC 5321 section 2.3.11)."""

from __future__ import annotations

import functools
import re
from typing import Final

import idna

_SPECIAL = r"\s@%!\"\\()<>\[\]:;,"
_PLAIN = re.compile(rf'(?:[^{_SPECIAL}]+|"[^"\\@%!]*")@[^{_SPECIAL}.]+(?:\.[^{_SPECIAL}.]+)+\.?')
_FINAL_DOTS = re.compile(r"[\s.]+\Z")
_MOST_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 255


def domain_of(address: str) -> str:
    """Return the domain of an address as a lower-case A-label, or "" where there is none.

    The domain follows the *last* `@`: a quoted local part may hold others (RFC 5321 section 4.1.2).
    """
    _, at, domain = address.rpartition("@")
    return normalise_domain(domain) if at else ""


def normalise_domain(domain: str) -> str:
    """Return the domain in lower case, without a final dot, U-labels as A-labels (RFC 5890).

    What is no valid internationalised name stays as it is, in lower case: it is compared, never believed.
    """
    return _remembered(domain) if len(domain) <= _LONGEST_REMEMBERED else _normalised(domain)


def _normalised(domain: str) -> str:
    domain = _FINAL_DOTS.sub("", domain.strip()).lower()
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return domain


_remembered = functools.lru_cache(maxsize=_MOST_REMEMBERED)(_normalised)


def normalise_address(address: str) -> str:
    """Return the form in which addresses are compared and counted: no angle brackets, lower case, domain as A-label.

    Local parts are compared without case: RFC 5321 section 2.4 lets a host tell them apart, none of ours does.
    """
    address = strip_brackets(address)
    local_part, at, domain = address.rpartition("@")
    return f"{local_part.lower()}@{normalise_domain(domain)}" if at else address.lower()


def strip_brackets(address: str) -> str:
    """Return a path without its angle brackets; "" is the null reverse-path.

    Postfix hands `<>` to a milter for SMTP mail and `` (nothing) for mail that did not come by SMTP.
    """
    address = address.strip()
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address


def is_routed(address: str) -> bool:
    """Tell whether an address may lead elsewhere than it says.

    Postfix by default delivers `user%elsewhere@ours`, `elsewhere!user@ours` and `"user@elsewhere"@ours` to elsewhere
    (allow_percent_hack, swap_bangpath, resolve_dequoted_address).
    """
    local_part, at, domain = strip_brackets(address).rpartition("@")
    if '"' in domain:
        # The quotes are round an address: there is no domain of its own.
        return True
    return any(sign in (local_part if at else domain) for sign in "@%!")


def is_plain(address: str) -> bool:
    """Tell whether an address can be read in one way only: `local@domain.tld`, without routes, comments and groups.

    Anything else Postfix may take for another address than whoever looks at its text.
    """
    return _PLAIN.fullmatch(strip_brackets(address)) is not None


def is_same_or_subdomain(domain: str, parent: str) -> bool:
    """Tell whether `domain` is `parent` or lies below it; both normalised."""
    return domain == parent or domain.endswith("." + parent)
