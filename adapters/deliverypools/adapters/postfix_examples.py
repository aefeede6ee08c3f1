"""Where the files of postfix-examples/ are: in a wheel beside this file, or in the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from deliverypools.core.postfix_install.examples import Example, parse_example, substituted

_HERE: Final = Path(__file__).parent


def example_directory(profile: str) -> Path:
    """Return where the example `profile` ("hop" or "express") is: in a wheel, or in the repository.

    Raises:
        FileNotFoundError: it is in neither place.

    """
    candidates = (_HERE / "postfix-examples" / profile, _HERE.parents[2] / "postfix-examples" / profile)
    for directory in candidates:
        if (directory / "main.cf").is_file():
            return directory
    raise FileNotFoundError(f"no Postfix example {profile!r} in {' or '.join(str(path.parent) for path in candidates)}")


def load_example(profile: str, substitute: Callable[[str], str] | None = None) -> Example:
    """Read one example; `substitute` turns the addresses in main.cf and master.cf into other ones.

    Raises:
        OSError: the files are not there, or cannot be read.

    """
    directory = example_directory(profile)
    example = parse_example(
        (directory / "main.cf").read_text(encoding="utf-8"),
        (directory / "master.cf").read_text(encoding="utf-8"),
        {path.name: path.read_text(encoding="utf-8") for path in sorted((directory / "delivery-pools").iterdir())},
    )
    return substituted(example, substitute) if substitute else example
