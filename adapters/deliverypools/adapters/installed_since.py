"""Since when this machine's Postfix sends by pools, from what `postfix install` has left beside its configuration."""

from __future__ import annotations

from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.adapters.postfix_stage import FOLDER
from deliverypools.adapters.postfix_swap import BEFORE, MANIFEST
from deliverypools.core.postfix_install.manifest import ManifestError, manifest_from_json


def installed_since(config_directory: str | None) -> float | None:
    """Return when it was installed (seconds since the epoch); None where that cannot be told: by hand, or elsewhere."""
    try:
        directory = PostfixInstance(config_directory).directory
        text = (directory / FOLDER / BEFORE / MANIFEST).read_text(encoding="utf-8")
        return manifest_from_json(text).made_at
    except (PostfixError, ManifestError, OSError, UnicodeDecodeError):
        return None
