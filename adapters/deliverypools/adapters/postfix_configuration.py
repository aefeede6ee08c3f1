"""Postfix's configuration, read by Postfix's own commands: postconf(1) and postmap(1). Nothing is changed."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.postfix_check.configuration import Entry, PostfixConfiguration, Service, Table
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import split_list, without_braces
from deliverypools.core.postfix_check.tables import pattern_entries, tables_to_ask, tables_to_list
from deliverypools.core.settings import Settings

_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_SECONDS: Final = 30.0
_MOST_BYTES: Final = 16 << 20
"""Of a table, or of what a command prints: some hundred thousand entries."""
_MOST_WARNINGS: Final = 50

_PATTERN_TABLES: Final = frozenset({"regexp", "pcre", "cidr"})
_LISTABLE: Final = frozenset({"texthash", "hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "inline"})
_OF_SERVERS: Final = frozenset(
    {
        "ldap",
        "mysql",
        "pgsql",
        "sqlite",
        "mongodb",
        "socketmap",
        "tcp",
        "memcache",
        "nis",
        "nisplus",
        "hesiod",
        "randmap",
    }
)


class PostfixUnreadable(Exception):  # noqa: N818  (as StateUnavailable and ScannerUnavailable)
    """There is no Postfix configuration to read; the text says why."""


@dataclass(frozen=True, slots=True)
class _Output:
    status: int
    text: str
    complaints: tuple[str, ...]
    is_cut: bool


class PostfixReader:
    """Reads the configuration of one Postfix instance."""

    def __init__(self, config_directory: str | None = None) -> None:
        """Name the instance by its configuration directory; None is the default one (postconf's, MAIL_CONFIG's)."""
        self._instance = ["-c", os.path.abspath(config_directory)] if config_directory else []  # noqa: PTH100
        self._environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}", "LC_ALL": "C"}

    def read(self, settings: Settings) -> PostfixConfiguration:
        """Return everything that the checks look at.

        Raises:
            PostfixUnreadable: there is no Postfix, or postconf cannot read its files.
        """
        main = self._postconf("-x")
        postfix = PostfixConfiguration(
            parameters=_parameters(main.text),
            services=_services(self._postconf("-M").text, self._postconf("-Px").text),
            warnings=self._warnings(),
        )
        site = Site(postfix, settings)
        tables = {spec: self._listed(spec) for spec in tables_to_list(site)}
        answers: dict[tuple[str, str], str] = {}
        for spec, (keys, _) in tables_to_ask(site).items():
            known = tables.get(spec)
            if known is None or not (known.problem or known.is_asked_elsewhere):
                found, tables[spec] = self._asked(spec, keys, known or Table())
                answers |= found
        return replace(postfix, tables=tables, answers=answers)

    def _postconf(self, option: str) -> _Output:
        output = self._run("postconf", option)
        if output.status != 0 or output.is_cut:
            said = output.complaints[-1] if output.complaints else f"exit status {output.status}"
            raise PostfixUnreadable(printable(said, 500))
        return output

    def _warnings(self) -> tuple[str, ...]:
        """Return what postconf says of main.cf and master.cf: unused parameters, lines that override others."""
        said = (line for option in ("-n", "-P") for line in self._postconf(option).complaints)
        texts = (printable(line.partition("warning: ")[2], 500) for line in said if "warning: " in line)
        return tuple(dict.fromkeys(texts))[:_MOST_WARNINGS]

    # ---- tables

    def _listed(self, spec: str) -> Table:
        kind, _, name = spec.partition(":")
        if kind in _OF_SERVERS:
            return Table(is_asked_elsewhere=True)
        if kind == "static":
            return Table(entries=(Entry(key="*", value=name),))
        if kind in _PATTERN_TABLES and not name.startswith("{"):
            return _read_patterns(name)
        if kind in _PATTERN_TABLES:
            return Table(entries=tuple(pattern_entries("\n".join(_inline_rules(name)))))
        if kind in _LISTABLE:
            return self._dumped(spec)
        return Table()

    def _dumped(self, spec: str) -> Table:
        output = self._run("postmap", "-s", spec)
        if output.status not in (0, 1) or (output.status == 1 and output.complaints):
            return _table_with(output.complaints)
        pairs = (line.partition("\t") for line in output.text.splitlines())
        entries = tuple(Entry(key=printable(key), value=printable(value.strip())) for key, _, value in pairs)
        return Table(entries=entries, problem=_TOO_LARGE if output.is_cut else "")

    def _asked(self, spec: str, keys: tuple[str, ...], known: Table) -> tuple[dict[tuple[str, str], str], Table]:
        if spec.partition(":")[0] in _OF_SERVERS:
            return {}, replace(known, is_asked_elsewhere=True)
        output = self._run("postmap", "-q", "-", spec, given="".join(f"{key}\n" for key in keys))
        if output.complaints and output.status != 0:
            return {}, replace(_table_with(output.complaints), entries=known.entries)
        pairs = (line.partition("\t") for line in output.text.splitlines())
        return {(spec, key): printable(value.strip(), 500) for key, _, value in pairs}, known

    # ---- commands

    def _run(self, command: str, *arguments: str, given: str = "") -> _Output:
        """Run a command, at most for `_MOST_SECONDS`, and keep at most `_MOST_BYTES` of what it prints."""
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as complaints:
            stdin.write(given.encode())
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    [command, *self._instance, *arguments],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=self._environment,
                )
            except OSError as error:
                raise PostfixUnreadable(f"{command}: {error.strerror}; is Postfix installed here?") from None
            deadline = threading.Timer(_MOST_SECONDS, process.kill)
            deadline.start()
            try:
                printed = process.stdout.read(_MOST_BYTES + 1) if process.stdout else b""
                is_cut = len(printed) > _MOST_BYTES
                if is_cut:
                    process.kill()
                status = process.wait()
            finally:
                deadline.cancel()
                process.kill()
                process.communicate()
            complaints.seek(0)
            said = complaints.read(100_000).decode(errors="replace").splitlines()
        if status < 0 and not is_cut:
            said.append(f"{command}: not done within {_MOST_SECONDS:g} seconds")
        text = _whole_lines(printed)
        return _Output(0 if is_cut else status, text, tuple(said), is_cut)


_TOO_LARGE: Final = f"larger than {_MOST_BYTES >> 20} MB; only its beginning was examined"


def _whole_lines(data: bytes) -> str:
    """Return what was read up to the bound; half a line would say something else than the whole."""
    if len(data) > _MOST_BYTES:
        data = data[:_MOST_BYTES].rpartition(b"\n")[0]
    return data.decode(errors="replace")


def _parameters(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _services(services: str, options: str) -> tuple[Service, ...]:
    """Return the services of `postconf -M`, with the options of `postconf -Px` (`name/type/parameter = value`)."""
    own: dict[str, dict[str, str]] = {}
    for line in options.splitlines():
        name, _, value = line.partition("=")
        service, _, parameter = name.strip().rpartition("/")
        own.setdefault(service, {})[parameter] = value.strip()
    found = []
    for line in services.splitlines():
        words = line.split(None, 8)
        if len(words) >= _FIELDS:
            name, service_type, command = words[0], words[1], words[7]
            label = f"{name}/{service_type}"
            found.append(
                Service(name=name, type=service_type, chroot=words[4], command=command, options=own.get(label, {}))
            )
    return tuple(found)


_FIELDS: Final = 8
"""Of a line of master.cf, up to the command."""


def _read_patterns(name: str) -> Table:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        return Table(problem=error.strerror or str(error), is_missing=error.errno == errno.ENOENT)
    text = _whole_lines(data)
    return Table(
        entries=tuple(
            Entry(key=printable(entry.key), value=printable(entry.value, 500)) for entry in pattern_entries(text)
        ),
        problem=_TOO_LARGE if len(data) > _MOST_BYTES else "",
    )


def _inline_rules(name: str) -> list[str]:
    """Return the rules of `regexp:{{/pattern/ action}, ...}` (Postfix 3.7)."""
    return [without_braces(rule) for rule in split_list(without_braces(name))]


def _table_with(complaints: tuple[str, ...]) -> Table:
    """Return a table that could not be read, with what the command said."""
    said = complaints[-1] if complaints else "no reason given"
    text = said.partition("fatal: ")[2] or said.partition("error: ")[2] or said
    return Table(problem=printable(text, 500), is_missing="No such file" in said)
