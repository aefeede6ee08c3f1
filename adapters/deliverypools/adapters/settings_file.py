"""The settings file: where it is, and its text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deliverypools.core.settings import Settings, SettingsError, parse_settings

DEFAULT_PATH: Final = Path("/etc/delivery-pools/delivery-pools.toml")
PATH_VARIABLE: Final = "DELIVERY_POOLS_CONFIG"
MOST_BYTES: Final = 1_000_000
_HOW_TO_NAME_IT: Final = f"name the settings file with --config FILE or the variable {PATH_VARIABLE}"


def settings_path(option: str | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """Return the path of the settings file, and whether somebody asked for it rather than the default.

    The option `--config` comes before the variable DELIVERY_POOLS_CONFIG; an empty one of either counts as none.
    """
    named = option or environ.get(PATH_VARIABLE)
    return (Path(named), True) if named else (DEFAULT_PATH, False)


def log_refusal(error: SettingsError, log: logging.Logger) -> None:
    """Say what is wrong with settings that were to be reloaded, and that nothing has changed."""
    for line in error.errors:
        log.error("%s", line)
    log.error("the settings were not reloaded: those read before stay in force")


def keep_until_restart(new: Settings, old: Settings, tables: Sequence[str], log: logging.Logger) -> Settings:
    """Return the new settings with what a reload cannot change as it was: state, metrics, the sockets of `tables`, SRS.

    Of SRS it cannot be switched on: bounces to what the milter rewrites have to find the socketmap.
    """
    kept: dict[str, object] = {"state": old.state}
    if new.state != old.state:
        log.error("state changed: that needs a restart of both daemons; the old one stays, other settings are reloaded")
    for table in tables:
        socket = getattr(old, table).socket
        if getattr(new, table).socket != socket:
            log.error(
                "%s.socket changed: that needs a restart; the old socket stays, other settings are reloaded", table
            )
        kept[table] = getattr(new, table).model_copy(update={"socket": socket})
    if new.metrics != old.metrics:
        log.error("metrics changed: that needs a restart of both daemons; the old stay, other settings are reloaded")
        kept["metrics"] = old.metrics
    if new.forwarding.srs_domain is not None and old.forwarding.srs_domain is None:
        log.error(
            "forwarding.srs_domain is new: that needs a restart of both daemons; no sender is rewritten until then,"
            " other settings are reloaded"
        )
        kept["forwarding"] = new.forwarding.model_copy(update={"srs_domain": None})
    return new.model_copy(update=kept)


def load_settings(path: Path) -> Settings:
    """Return the settings of a file. Raises SettingsError where it cannot be read or is wrong; nothing else."""
    return parse_settings(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError((f"{path}: there is no such file; create it, or {_HOW_TO_NAME_IT}",)) from None
    except IsADirectoryError:
        raise SettingsError((f"{path}: is a directory; {_HOW_TO_NAME_IT}",)) from None
    except PermissionError:
        raise SettingsError(
            (f"{path}: may not be read by this user; run this as root, or as the user delivery-pools",)
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SettingsError((f"{path}: cannot be read: {error}; {_HOW_TO_NAME_IT}",)) from None
    if len(content) > MOST_BYTES:
        raise SettingsError((f"{path}: is larger than {MOST_BYTES} bytes; {_HOW_TO_NAME_IT}",))
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError((f"{path}:{line}: holds a byte that is no UTF-8; save the file as UTF-8",)) from None
