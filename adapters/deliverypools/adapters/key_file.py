"""The ticket's keys: one Fernet key a line, the newest first; the first seals, all of them open."""

from __future__ import annotations

from cryptography.fernet import Fernet

from deliverypools.adapters.key_lines import put_first, read_lines


def read_keys(path: str) -> tuple[bytes, ...]:
    """Return the keys in a key file, newest first.

    Raises:
        KeyFileError: the file is missing, unreadable, empty, or holds something else.
    """
    return read_lines(path, "ascii", _key)


def rotate_keys(path: str) -> int:
    """Put a new key first, keep the last four, make the file if it is missing; return how many keys there are now.

    Older keys still open the tickets of mail that lies in the queue or in mailboxes.

    Raises:
        KeyFileError: an existing file cannot be read, or the new one not be written.
    """
    return put_first(path, Fernet.generate_key(), read_keys)


def _key(line: str) -> bytes:
    try:
        Fernet(line.strip())
    except ValueError:
        raise ValueError(
            "not a key (32 bytes in URL-safe base64): delete this line; if no key is left, `delivery-pools keys"
            " rotate` makes one"
        ) from None
    return line.strip().encode()
