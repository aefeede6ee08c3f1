"""The secrets of SRS: one a line, the newest first; the first makes addresses, all of them lead back."""

from __future__ import annotations

import re
import secrets
from typing import Final

from deliverypools.adapters.key_lines import put_first, read_lines

_FEWEST_CHARACTERS: Final = 16
_NEW_SECRET_BYTES: Final = 24
_NO_TEXT: Final = re.compile("[\x00-\x1f\x7f]")


def read_srs_secrets(path: str) -> tuple[bytes, ...]:
    """Return the secrets in a file, newest first. The file of postsrsd works as it is.

    Raises:
        KeyFileError: the file is missing, unreadable, empty, or holds something else.
    """
    # Latin-1 gives every byte back as it was.
    return read_lines(path, "latin-1", _secret)


def rotate_srs_secrets(path: str) -> int:
    """Put a new secret first, keep the last four, make the file if it is missing; return how many there are now.

    Raises:
        KeyFileError: an existing file cannot be read, or the new one not be written.
    """
    return put_first(path, secrets.token_urlsafe(_NEW_SECRET_BYTES).encode(), read_srs_secrets)


def _secret(line: str) -> bytes:
    # To postsrsd blanks belong to the secret, also at its end.
    secret = line.rstrip("\r")
    if len(secret) < _FEWEST_CHARACTERS or _NO_TEXT.search(secret):
        raise ValueError(
            f"not a secret; a secret has at least {_FEWEST_CHARACTERS} characters, none of them a control character;"
            " delete the line, then make one with: delivery-pools keys rotate --only srs"
        )
    return secret.encode("latin-1")
