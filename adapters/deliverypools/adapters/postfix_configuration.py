"""Postfix's configuration, read by Postfix's own commands: postconf(1) and postmap(1). Nothing is changed."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deliverypools.core.facts import printable
from deliverypools.core.postfix_check.configuration import Entry, PostfixConfiguration, Service, Table, Unread
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import FILE, is_file, is_table, split_list, without_braces
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
            return _table(Entry(key="*", value=without_braces(name)))
        if kind == FILE:
            return _read(name, _list_entries)
        if kind in _PATTERN_TABLES:
            return _patterns(kind, name)
        if kind in _LISTABLE:
            return self._dumped(spec)
        return Table()

    def _dumped(self, spec: str) -> Table:
        output = self._run("postmap", "-s", spec)
        if output.status not in (0, 1) or (output.status == 1 and output.complaints):
            return _table_with(output.complaints)
        pairs = (line.partition("\t") for line in output.text.splitlines())
        table = _table(*(Entry(key=key, value=value) for key, _, value in pairs))
        return _cut(table) if output.is_cut else table

    def _asked(self, spec: str, keys: tuple[str, ...], known: Table) -> tuple[dict[tuple[str, str], str], Table]:
        if spec.partition(":")[0] in _OF_SERVERS:
            return {}, replace(known, is_asked_elsewhere=True)
        output = self._run("postmap", "-q", "-", spec, given="".join(f"{key}\n" for key in keys))
        if output.complaints and output.status != 0:
            return {}, replace(_table_with(output.complaints), entries=known.entries)
        pairs = (line.partition("\t") for line in output.text.splitlines())
        return {(spec, key): _one_line(value) for key, _, value in pairs}, known

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


def _patterns(kind: str, name: str) -> Table:
    if name.startswith("{"):
        return _table(*pattern_entries("\n".join(_inline_rules(name)), kind))
    return _read(name, lambda text: pattern_entries(text, kind))


def _read(name: str, entries_of: Callable[[str], Iterable[Entry]]) -> Table:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        return Table(problem=error.strerror or str(error), unread=_BY_ERROR.get(error.errno or 0, Unread.FAILED))
    table = _table(*entries_of(_whole_lines(data)))
    if len(data) > _MOST_BYTES:
        return _cut(table)
    further = next((one.key for one in table.entries if not one.value and _is_further(one.key)), None)
    if entries_of is _list_entries and further:
        return replace(table, problem=f"it names {further}, which is not followed from a file")
    return table


_BY_ERROR: Final = {errno.ENOENT: Unread.MISSING, errno.EACCES: Unread.FORBIDDEN, errno.EPERM: Unread.FORBIDDEN}


def _is_further(element: str) -> bool:
    """Tell whether an element stands for others: a file or a table."""
    return is_file(element.lstrip("!")) or is_table(element)


def _list_entries(text: str) -> Iterator[Entry]:
    """Yield the elements in a file that a list names; what follows `#` is a comment."""
    for line in text.split("\n"):
        for element in split_list(line):
            if element.startswith("#"):
                break
            yield Entry(key=element, value="")


def _table(*entries: Entry) -> Table:
    """Return a table with entries that are fit for messages."""
    return Table(entries=tuple(Entry(key=printable(one.key), value=_one_line(one.value)) for one in entries))


def _one_line(value: str) -> str:
    """Return a value with single spaces: tabs would not be printable, and separate words as spaces do."""
    return printable(" ".join(value.split()), 500)


def _cut(table: Table) -> Table:
    return replace(table, problem=_TOO_LARGE, unread=Unread.TOO_LARGE)


def _inline_rules(name: str) -> list[str]:
    """Return the rules of `regexp:{{/pattern/ action}, ...}` (Postfix 3.7)."""
    return [without_braces(rule) for rule in split_list(without_braces(name))]


def _table_with(complaints: tuple[str, ...]) -> Table:
    """Return a table that could not be read, with what the command said."""
    said = complaints[-1] if complaints else "no reason given"
    text = said.partition("fatal: ")[2] or said.partition("error: ")[2] or said
    unread = next((kind for words, kind in _BY_WORDS.items() if words in said), Unread.FAILED)
    return Table(problem=printable(text, 500), unread=unread)


_BY_WORDS: Final = {
    "No such file": Unread.MISSING,
    "Permission denied": Unread.FORBIDDEN,
    "Operation not permitted": Unread.FORBIDDEN,
}
