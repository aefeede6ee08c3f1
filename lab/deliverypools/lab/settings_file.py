"""The lab's settings file: the TOML of a site whose Postfix follows the examples."""

import base64
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

TICKET_FILE: Final = "ticket.keys"
SRS_FILE: Final = "srs.secrets"


def lab_settings(
    *, directory: Path, queue_directory: Path, profile: str, nameserver: str, isolated: bool
) -> dict[str, Any]:
    """Return the settings, with the addresses of the examples (not substituted yet)."""
    sockets = queue_directory / "delivery-pools"
    hosts = {"normal": (10, "mail"), "high-risk": (20, "mail-high-risk"), "relay": (30, "mail-relay")}
    settings: dict[str, Any] = {
        "accepted_domains": ["example.org"],
        "trusted_networks": ["127.0.0.0/8" if isolated else "127.0.0.0/16", "::1"],
        "authserv_id": "mx.example.org",
        "state": f"sqlite:///{directory / 'state.db'}",
        "ticket_key_file": str(directory / TICKET_FILE),
        "profile": profile,
        "pools": {
            pool: {
                "addresses": [f"192.0.2.{host}", *([f"2001:db8::{host}"] if isolated else [])],
                "helo": f"{name}.example.org",
            }
            for pool, (host, name) in hosts.items()
        },
        # Failures are over soon in the tests, as all records are (TTL).
        "dns": {"nameservers": [nameserver], "servfail_cache_seconds": 1.0},
        "milter": {"socket": f"unix:{sockets / 'milter.sock'}", "workers": 2},
        "policy": {"socket": f"unix:{sockets / 'policy.sock'}"},
        "alerts": {"spool": str(directory / "spool")},
        # Many labs run at the same time.
        "metrics": {"listen": "off", "directory": str(directory / "metrics")},
    }
    if profile == "hop":
        settings["forwarding"] = {"srs_domain": "srs.example.org", "srs_secret_file": str(directory / SRS_FILE)}
        settings["socketmap"] = {"socket": f"unix:{sockets / 'socketmap.sock'}"}
    return settings


def merged(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` with `overrides` laid over them, table by table; None removes a key."""
    result = dict(settings)
    for key, value in overrides.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def render_toml(table: Mapping[str, Any], path: str = "") -> str:
    """Return TOML. Values: str, bool, int, float, lists of these, tables, and lists of tables."""
    own, below = "", ""
    for key, value in table.items():
        full = f"{path}.{_key(key)}" if path else _key(key)
        if isinstance(value, Mapping):
            below += f"\n[{full}]\n{render_toml(value, full)}"
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            below += "".join(f"\n[[{full}]]\n{render_toml(entry, full)}" for entry in value)
        else:
            # JSON's strings, numbers, booleans and lists are TOML's too.
            own += f"{_key(key)} = {json.dumps(value)}\n"
    return own + below


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def write_key_file(path: Path, count: int = 1) -> None:
    """Write `count` fresh Fernet keys, one a line, readable by root only."""
    _write_secrets(path, [base64.urlsafe_b64encode(os.urandom(32)).decode() for _ in range(count)])


def write_srs_secret_file(path: Path, count: int = 1) -> None:
    """Write `count` fresh secrets of SRS, one a line, readable by root only."""
    _write_secrets(path, [secrets.token_urlsafe(24) for _ in range(count)])


def _write_secrets(path: Path, lines: Iterable[str]) -> None:
    path.touch(mode=0o600)
    path.write_text("".join(f"{line}\n" for line in lines))
