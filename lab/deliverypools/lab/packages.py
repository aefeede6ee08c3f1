"""What this machine must have before a lab can run on it: root, and Debian packages."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deliverypools.lab.namespace import LabUnavailableError
from deliverypools.lab.site import MASTER_CF

_POSTFIX: Final[Mapping[str, Path]] = {
    "postfix": MASTER_CF,
    "sasl2-bin": Path("/usr/sbin/saslpasswd2"),
    "util-linux": Path("/usr/bin/setpriv"),
}
_DOVECOT: Final[Mapping[str, Path]] = {
    "dovecot-core": Path("/usr/sbin/dovecot"),
    "dovecot-lmtpd": Path("/usr/lib/dovecot/lmtp"),
    "dovecot-sieve": Path("/usr/lib/dovecot/modules/lib90_sieve_plugin.so"),
}


def require_system(*, dovecot: bool = False) -> None:
    """Make sure that this machine can run a private Postfix, and a private Dovecot if that is wanted.

    Raises:
        LabUnavailableError: not root, or a package is missing.

    """
    if os.geteuid() != 0:
        raise LabUnavailableError("a private Postfix needs root: run this as root, or in a container as root")
    needed = {**_POSTFIX, **(_DOVECOT if dovecot else {})}
    if missing := sorted(package for package, path in needed.items() if not path.exists()):
        raise LabUnavailableError(f"packages are missing: {' '.join(missing)}")
