"""What was changed in a site's configuration: kept beside it, so that it can be taken back, today or in a year."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from deliverypools.core.postfix_install.plan import ServiceKey, Written
from deliverypools.core.postfix_install.written import changes_between

FORMAT: Final = 1
MAIN: Final = "main.cf"
MASTER: Final = "master.cf"


class ManifestError(Exception):
    """A manifest cannot be understood; the text says why."""


class Phase(StrEnum):
    """How much of ours a configuration holds."""

    ENTERING = "entering"
    """Mail is routed as before; what would show on the wire of ours is taken off already."""
    INSTALLED = "installed"
    LEAVING = "leaving"
    """Mail is routed as before; what queued mail of ours needs is still there."""
    NAMED = "named"
    """Nothing of ours is queued; only services that the site's own tables name are still there."""


@dataclass(frozen=True, slots=True)
class Was:
    """A parameter or a service: before us, and as we left it. None: there was none."""

    old: str | None
    ours: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """When Postfix had read a configuration: processes that began earlier may work by the one of before."""

    at: float
    """Seconds since the epoch."""
    uptime_seconds: float
    """The same, counted from the start of the machine as /proc does it: no change of the clock moves that."""
    boot_id: str
    """Tells one start of the machine from the next: no process outlives it."""
    ended_at: float | None = None
    """When the processes that began earlier were seen to have ended. None: some were still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One configuration of ours."""

    product_version: str
    made_at: float
    """Since when ours is in place, in seconds since the epoch."""
    phase: Phase
    hashes: Mapping[str, str]
    """SHA-256 of main.cf and master.cf as we left them, by name."""
    originals: Mapping[str, str]
    """Which file of `before/` holds the configuration without ours, by name."""
    parameters: Mapping[str, Was]
    services: Mapping[ServiceKey, Was]
    files: tuple[str, ...]
    """Files of `delivery-pools/` that we wrote."""
    reload: Reload | None = None
    """While leaving: when Postfix had been led back. None: it has not been told yet."""


def differences(original: Written, ours: Written) -> tuple[dict[str, Was], dict[ServiceKey, Was]]:
    """Return what a manifest keeps about parameters and services."""
    changes = changes_between(original, ours)
    return (
        {name: Was(original.parameters.get(name), value) for name, value in changes.parameters.items()},
        {key: Was(original.services.get(key), line) for key, line in changes.services.items()},
    )


def manifest_to_json(manifest: Manifest) -> str:
    """Return the text of manifest.json."""
    return json.dumps(
        {
            "format": FORMAT,
            "product_version": manifest.product_version,
            "made_at": manifest.made_at,
            "phase": manifest.phase.value,
            "hashes": dict(manifest.hashes),
            "originals": dict(manifest.originals),
            "parameters": {name: _was(was) for name, was in manifest.parameters.items()},
            "services": {"/".join(key): _was(was) for key, was in manifest.services.items()},
            "files": list(manifest.files),
            "reload": None if manifest.reload is None else asdict(manifest.reload),
        },
        indent=1,
    )


def manifest_from_json(text: str) -> Manifest:
    """Return the manifest in the text of manifest.json.

    Raises:
        ManifestError: it is no manifest, or one of a later version.
    """
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ManifestError(f"has format {found['format']!r}; this version knows format {FORMAT} only")
        return Manifest(
            product_version=str(found["product_version"]),
            made_at=float(found["made_at"]),
            phase=Phase(found["phase"]),
            hashes=_texts(found["hashes"]),
            originals=_texts(found["originals"]),
            parameters={name: _from_was(was) for name, was in found["parameters"].items()},
            services={_key(name): _from_was(was) for name, was in found["services"].items()},
            files=tuple(map(str, found["files"])),
            reload=_reload(found.get("reload")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError(f"is no manifest of ours: {error!r}") from None


def _reload(found: Any) -> Reload | None:
    if found is None:
        return None
    ended_at = found["ended_at"]
    return Reload(
        at=float(found["at"]),
        uptime_seconds=float(found["uptime_seconds"]),
        boot_id=str(found["boot_id"]),
        ended_at=None if ended_at is None else float(ended_at),
    )


def _was(was: Was) -> dict[str, str | None]:
    return {"old": was.old, "ours": was.ours}


def _from_was(was: Any) -> Was:
    return Was(_text_or_none(was["old"]), _text_or_none(was["ours"]))


def _text_or_none(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(values: Any) -> dict[str, str]:
    texts = {str(name): str(value) for name, value in values.items()}
    if set(texts) != {MAIN, MASTER}:
        raise ValueError(f"names {sorted(texts)} instead of {MAIN} and {MASTER}")
    return texts


def _key(label: str) -> ServiceKey:
    # A service's name may hold a slash ("private/x"), its type none.
    name, slash, service_type = label.rpartition("/")
    if not slash:
        raise ValueError(f"{label!r} is no service")
    return name, service_type
