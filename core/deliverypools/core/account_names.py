"""The one name of an account, of all the forms in which its address or login is written."""

from __future__ import annotations

import re
from typing import Final

from deliverypools.core.addresses import normalise_address

UNREADABLE: Final = "unreadable"
"""Names that nobody has, too long or wrapped too often: all of those share one account."""
LONGEST: Final = 1000
"""Characters. An address has 254 at most (RFC 5321), a login somewhat more."""

# draft-levine-smtp-batv: prvs=TAG=LOCAL, and the older prvs=LOCAL/TAG; Barracuda writes btv1==TAG==LOCAL.
_BATV: Final = (
    re.compile(r"prvs=[0-9a-z]{1,20}=(?P<local>.+)"),
    re.compile(r"prvs=(?P<local>.+)/[0-9a-z]{1,20}"),
    re.compile(r"btv1==[0-9a-z]{1,20}==(?P<local>.+)"),
)
# SRS0=HASH=TIME=DOMAIN=LOCAL, SRS1=HASH=FORWARDER==HASH=TIME=DOMAIN=LOCAL; the separator may be "-" or "+" too. Only
# LOCAL, which comes last, may hold "=" itself.
_SRS: Final = re.compile(
    r"(?:srs0[=+-]|srs1[=+-][^=]{1,40}=[^=]{1,253}=[=+-])[^=]{1,40}=[^=]{1,10}=(?P<domain>[^=]{1,253})=(?P<local>.+)"
)
_QUOTED: Final = re.compile(r'"(?P<content>(?:[^"\\]|\\.)+)"')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_MOST_STEPS: Final = 20


def account_name(address: str) -> str:
    """Return the one name of an account, of all the forms in which its address or login is written.

    Lower case, domain as A-label, local part without quotes and without a plus extension, and taken out of BATV and
    SRS. The hash of SRS is not verified: who writes such an address could as well write the one inside. A name that was
    returned stays as it is. "" where the address is empty.
    """
    if len(address) > LONGEST:
        return UNREADABLE
    name = address
    for _ in range(_MOST_STEPS):
        plainer = _one_step(name)
        if plainer == name:
            # Names may hold bytes that are not UTF-8; any database takes this.
            name = name.encode("utf-8", "backslashreplace").decode()
            return name if len(name) <= LONGEST else UNREADABLE
        name = plainer
    return UNREADABLE


def _one_step(name: str) -> str:
    """Return a name with the outermost of its wrappings taken off. Extensions come last: a SRS hash may hold a plus."""
    name = normalise_address(name)
    local_part, at, domain = name.rpartition("@")
    if not at:
        return _without_extension(name)
    if found := _QUOTED.fullmatch(local_part):
        return _QUOTED_PAIR.sub(r"\1", found["content"]) + at + domain
    for form in _BATV:
        if found := form.fullmatch(local_part):
            return f"{found['local']}@{domain}"
    if found := _SRS.fullmatch(local_part):
        return f"{found['local']}@{found['domain']}"
    return f"{_without_extension(local_part)}@{domain}"


def _without_extension(local_part: str) -> str:
    return local_part.partition("+")[0] or local_part
