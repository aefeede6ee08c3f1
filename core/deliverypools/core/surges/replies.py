"""What servers said, so that the same reply to many recipients is one reply."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_CODE: Final = re.compile(r"[245]\d\d|[245]\.\d{1,3}\.\d{1,3}|[245]\d\d-[245]\.\d{1,3}\.\d{1,3}")
"""A reply code (RFC 5321 section 4.2.1), an enhanced status code (RFC 3463 section 2), or both in a long reply."""
_PARTICULAR: Final = re.compile(r"[@\d]")
PARTICULAR: Final = "#"


@lru_cache(maxsize=8192)
def without_particulars(reply: str) -> str:
    """Return a reply with `#` for words that hold an address, a number or a name with digits; its codes stay."""
    words = (PARTICULAR if _PARTICULAR.search(word) and not _CODE.fullmatch(word) else word for word in reply.split())
    return " ".join(words)
