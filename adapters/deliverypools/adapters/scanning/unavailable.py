"""A scanner that gives no answer, whatever the reason."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

from deliverypools.core.scanning.nonsense import NonsenseError


class ScannerUnavailable(Exception):  # noqa: N818  (what it is for whoever asked; nothing is wrong with us)
    """A scanner cannot be reached, hangs, or answers nonsense. The text says which, in one printable, bounded line."""


@contextlib.contextmanager
def said_as_unavailable(deadline: float) -> Iterator[None]:
    """Turn all that can go wrong with a scanner into `ScannerUnavailable`.

    Only the system's own words go into its text: an exception of a library may repeat the URL, so a password.

    Raises:
        ScannerUnavailable: something went wrong.
    """
    seconds = max(deadline - time.monotonic(), 0.0)
    try:
        yield
    except TimeoutError:
        raise ScannerUnavailable(f"no answer in {seconds:.1f} s") from None
    except NonsenseError as error:
        raise ScannerUnavailable(f"it answers nonsense: {error}") from None
    except ssl.SSLError as error:
        raise ScannerUnavailable(f"TLS: {error.reason or type(error).__name__}") from None
    except socket.gaierror:
        raise ScannerUnavailable("its name cannot be looked up") from None
    # RuntimeError: no thread can be started to look a name up.
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ScannerUnavailable((reason or str(error) or type(error).__name__).lower()) from None
