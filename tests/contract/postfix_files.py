"""Postfix configurations on disk, for real postconf and postmap to read: the examples, and changes to them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.adapters.postfix_examples import load_example
from deliverypools.core.postfix_check.checks import Finding
from deliverypools.core.postfix_check.examine import examine
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_install.examples import parse_main, parse_master, render_main, render_master
from deliverypools.core.settings import Settings
from deliverypools.lab.site import MASTER_CF, MASTER_CHANGES, SITE_MAIN, with_fast_doors

OURS = "{ unix:delivery-pools/milter.sock, default_action=tempfail, protocol=6 }"
POOLS = {"normal": (10, "mail"), "high-risk": (20, "mail-high-risk"), "relay": (30, "mail-relay")}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What differs from an example."""

    main: dict[str, str] = field(default_factory=dict)
    """Parameters of main.cf; "{config}" stands for the configuration directory."""
    options: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """Options of services, by "name/type"; None takes an option away."""
    master: str = ""
    """Services in place of the example's."""
    without: tuple[str, ...] = ()
    """Services that are not there, "name/type"."""
    files: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def settings_of(profile: str, changes: dict[str, Any]) -> Settings:
    own: dict[str, Any] = {
        "accepted_domains": ["example.org"],
        "profile": profile,
        "fast_path": "off",  # what excludes it is no fault
        "pools": {
            name: {"addresses": [f"192.0.2.{host}", f"2001:db8::{host}"], "helo": f"{helo}.example.org"}
            for name, (host, helo) in POOLS.items()
        },
    }
    if profile == "hop":
        own["forwarding"] = {"srs_domain": "srs.example.org", "srs_secret_file": "/etc/delivery-pools/srs.secrets"}
    return Settings.model_validate(own | changes)


def write(directory: Path, profile: str, change: Change) -> None:
    """Write a configuration directory: Debian's master.cf, a plain main.cf, the example, the change."""
    example = load_example(profile, lambda text: text)
    site = parse_main(f"{SITE_MAIN}\nmynetworks = 127.0.0.0/8 [::1]/128\ninet_interfaces = loopback-only\n")
    changed = {name: value.replace("{config}", str(directory)) for name, value in change.main.items()}
    main = site | dict(example.main) | changed
    services = parse_master(MASTER_CF.read_text()) | parse_master(MASTER_CHANGES) | dict(example.master)
    services |= parse_master(change.master)
    for label, options in change.options.items():
        key = label.rpartition("/")[0], label.rpartition("/")[2]
        services[key] = with_options(services[key], options)
    for label in change.without:
        del services[label.rpartition("/")[0], label.rpartition("/")[2]]
    if profile == "hop":
        services = with_fast_doors(services, main.get("milter_macro_defaults", ""))
    (directory / "delivery-pools").mkdir(parents=True)
    (directory / "main.cf").write_text(render_main(main))
    (directory / "master.cf").write_text(render_master(services))
    for name, text in dict(example.maps).items():
        (directory / "delivery-pools" / name).write_text(text)
    for name, text in change.files.items():
        (directory / name).write_text(text)
    for path in directory.rglob("*"):
        os.utime(path, (0, 0))  # Postfix waits for files that have changed within the last second


def with_options(service: str, options: dict[str, str | None]) -> str:
    """Return a service of master.cf with other options, one a line."""
    lines = [line for line in service.split("\n") if not any(f"-o {name}=" in line for name in options)]
    return "\n".join([*lines, *(f"  -o {name}={value}" for name, value in options.items() if value is not None)])


def findings(directory: Path, profile: str = "hop", change: Change | None = None) -> tuple[Finding, ...]:
    """Return what the checks find in an example with a change, read by the real commands."""
    change = change or Change()
    write(directory, profile, change)
    settings = settings_of(profile, change.settings)
    return examine(Site(PostfixReader(str(directory)).read(settings), settings))
