"""Small Postfix configurations for plans to be made on, without a Postfix: with the defaults that count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from deliverypools.core.postfix_check.configuration import Entry, PostfixConfiguration, Service, Table
from deliverypools.core.postfix_install.examples import Example, parse_example, parse_master
from deliverypools.core.postfix_install.make import make_plan
from deliverypools.core.postfix_install.plan import Original, Plan, Written
from deliverypools.core.postfix_install.service_line import parse_service
from deliverypools.core.settings import Settings

ROOT = Path(__file__).parents[2]
MASTER = """\
smtp inet n - y - - smtpd
pickup unix n - y 60 1 pickup
cleanup unix n - y - 0 cleanup
rewrite unix - - y - - trivial-rewrite
bounce unix - - y - 0 bounce
defer unix - - y - 0 bounce
trace unix - - y - 0 bounce
smtp unix - - y - - smtp
relay unix - - y - - smtp -o syslog_name=postfix/$service_name
error unix - - y - - error
local unix - n n - - local
lmtp unix - - y - - lmtp
"""
DEFAULTS = {
    "compatibility_level": "3.6",
    "mail_version": "3.7.11",
    "config_directory": "/etc/postfix",
    "queue_directory": "/var/spool/postfix",
    "default_transport": "smtp",
    "relay_transport": "relay",
    "mydestination": "$myhostname, localhost",
    "myhostname": "mx.example.org",
    "inet_protocols": "all",
    "inet_interfaces": "all",
    "hopcount_limit": "50",
    "message_size_limit": "10240000",
    "local_transport": "local:$myhostname",
    "cleanup_service_name": "cleanup",
}
POOLS: dict[str, Any] = {
    "normal": {"addresses": ["192.0.2.10", "2001:db8::10"], "helo": "mail.example.org"},
    "high-risk": {"addresses": ["192.0.2.20", "2001:db8::20"], "helo": "mail-high-risk.example.org"},
    "relay": {"addresses": ["192.0.2.30", "2001:db8::30"], "helo": "mail-relay.example.org"},
}
_REFERENCE = re.compile(r"\$\{?(\w+)\}?")


def example(profile: str) -> Example:
    directory = ROOT / "postfix-examples" / profile
    maps = {path.name: path.read_text() for path in (directory / "delivery-pools").iterdir()}
    return parse_example((directory / "main.cf").read_text(), (directory / "master.cf").read_text(), maps)


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({"accepted_domains": ["example.org"], "pools": POOLS} | changes)


def original(main: dict[str, str] | None = None, master: str = "", tables: dict[str, dict[str, str]] | None = None):
    """Return a site; `tables` are entries by `type:name`."""
    written = dict(main or {})
    services = {key: " ".join(line.split()) for key, line in (parse_master(MASTER) | parse_master(master)).items()}
    known = DEFAULTS | written

    def expanded(text: str, levels: int = 9) -> str:
        return _REFERENCE.sub(lambda found: expanded(known.get(found[1], ""), levels - 1), text) if levels else text

    lines = map(parse_service, services.values())
    return Original(
        written=Written(parameters=written, services=services),
        postfix=PostfixConfiguration(
            parameters={name: expanded(value) for name, value in known.items()},
            services=tuple(
                Service(
                    name=line.key[0],
                    type=line.key[1],
                    private=line.fields[2],
                    chroot=line.chroot,
                    command=line.command,
                    options={name: expanded(value) for name, value in line.options.items()},
                )
                for line in lines
            ),
            tables={
                spec: Table(entries=tuple(Entry(key=key, value=value) for key, value in entries.items()))
                for spec, entries in (tables or {}).items()
            },
        ),
    )


def plan(
    main: dict[str, str] | None = None,
    master: str = "",
    tables: dict[str, dict[str, str]] | None = None,
    **changes: Any,
) -> Plan:
    own = settings(**changes)
    return make_plan(original(main, master, tables), own, example(own.profile))


def parameters(made: Plan) -> dict[str, str | None]:
    return {one.name: one.value for one in made.parameters}


def options(made: Plan, name: str, kind: str = "unix") -> dict[str, str]:
    """Return what a planned service sets with `-o`."""
    return dict(line_of(made, name, kind).options)


def line_of(made: Plan, name: str, kind: str = "unix"):
    return next(parse_service(one.line) for one in made.services if one.key == (name, kind))


def said(made: Plan, severity: str) -> list[str]:
    return [one.text for one in made.remarks if one.severity == severity]
