"""Postfix's configuration, read by Postfix's own commands: postconf(1) and postmap(1). Nothing is changed."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deliverypools.adapters.commands import postfix_environment, printing
from deliverypools.adapters.compiled_tables import outdated_tables
from deliverypools.core.facts import printable
from deliverypools.core.postfix_check.configuration import Entry, PostfixConfiguration, Service, Table, Unread
from deliverypools.core.postfix_check.fast_doors import fast_services, is_wanted
from deliverypools.core.postfix_check.fast_path import fast_path_tables
from deliverypools.core.postfix_check.routes import RESOLVER
from deliverypools.core.postfix_check.site import Site
from deliverypools.core.postfix_check.syntax import FILE, is_file, is_table, split_list, table_specs, without_braces
from deliverypools.core.postfix_check.tables import pattern_entries, tables_to_ask, tables_to_list
from deliverypools.core.postfix_install.service_line import ServiceLine, parse_service
from deliverypools.core.settings import Settings

_MOST_SECONDS: Final = 30.0
_MOST_BYTES: Final = 16 << 20
"""Of a table, or of what a command prints: some hundred thousand entries."""
_MOST_WARNINGS: Final = 50
_WRITTEN_TWICE: Final = re.compile(r": warning: .{1,9000}: (?:overriding earlier|duplicate) entry: ")
_NO_MAIN_CF: Final = re.compile(r"open \S{1,4096}/main\.cf: No such file or directory")

_PATTERN_TABLES: Final = frozenset({"regexp", "pcre", "cidr"})
_LISTABLE: Final = frozenset({"texthash", "hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "inline"})
_RANDOM: Final = "randmap"
"""Answers any of the elements that its name lists, whatever the key."""
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
    }
)


class PostfixUnreadable(Exception):  # noqa: N818  (as StateUnavailable and ScannerUnavailable)
    """There is no Postfix configuration to read; the text says why."""


class PostfixAbsent(PostfixUnreadable):
    """There is no Postfix on this machine, or it has no main.cf yet."""


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
        self._environment = postfix_environment()

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
        postfix = replace(postfix, outdated=tuple(outdated_tables(postfix)))
        postfix = replace(postfix, services=self._with_what_refers(postfix, settings))
        site = Site(postfix, settings)
        tables = {spec: self._listed(spec) for spec in (*tables_to_list(site), *fast_path_tables(site))}
        answers: dict[tuple[str, str], str] = {}
        for spec, (keys, _) in tables_to_ask(site).items():
            known = tables.get(spec)
            if known is None or not (known.problem or known.is_asked_elsewhere):
                found, tables[spec] = self._asked(spec, keys, known or Table())
                answers |= found
        return replace(postfix, tables=tables, answers=answers)

    def _with_what_refers(self, postfix: PostfixConfiguration, settings: Settings) -> tuple[Service, ...]:
        """Return the services; those that the fast path depends on with all that differs from main.cf.

        A parameter that refers to one that the service sets with -o (`virtual_alias_maps = $our_maps`) differs too.
        """
        site = Site(postfix, settings)
        concerned = (*fast_services(site), *postfix.running(RESOLVER)) if is_wanted(site) else ()
        fast = {one.label for one in concerned if one.options}
        written = {"/".join(line.key): line.options for line in self._lines()} if fast else {}
        return tuple(
            replace(one, options=self._differing(written.get(one.label, {}), postfix)) if one.label in fast else one
            for one in postfix.services
        )

    def _differing(self, options: Mapping[str, str], postfix: PostfixConfiguration) -> dict[str, str]:
        """Return what a service with these options sees otherwise than main.cf says it, and the options themselves."""
        arguments = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        seen = _parameters(self._postconf("-x", *arguments).text)
        return {name: value for name, value in seen.items() if name in options or value != postfix.parameters.get(name)}

    def _lines(self) -> Iterator[ServiceLine]:
        return (parse_service(line) for line in self._postconf("-M").text.splitlines() if line.strip())

    def parameters(self) -> dict[str, str]:
        """Return what main.cf and the defaults say, expanded.

        Raises:
            PostfixUnreadable: postconf cannot read the file.
        """
        return _parameters(self._postconf("-x").text)

    def listed(self, specs: Iterable[str]) -> dict[str, Table]:
        """Return what further tables hold, each named as `type:name`."""
        return {spec: self._listed(spec) for spec in specs}

    def answer(self, tables: str, keys: Sequence[str]) -> str:
        """Return what the first table of a list says that knows one of some keys; "" if none does, or can be asked."""
        for spec in table_specs(tables):
            answers, _ = self._asked(spec, tuple(keys), Table())
            for key in keys:
                if found := answers.get((spec, key)):
                    return found
        return ""

    def entries_of_master(self) -> str:
        """Return the services as master.cf says them, `$names` not expanded (`postconf -M`).

        Raises:
            PostfixUnreadable: postconf cannot read the file.
        """
        return self._postconf("-M").text

    def _postconf(self, *options: str) -> _Output:
        output = self._run("postconf", *options)
        if output.status != 0 or output.is_cut:
            said = output.complaints[-1] if output.complaints else f"exit status {output.status}"
            kind = PostfixAbsent if _NO_MAIN_CF.search(said) else PostfixUnreadable
            raise kind(printable(said, 500))
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
        if kind in ("static", _RANDOM):
            answers = split_list(without_braces(name)) if kind == _RANDOM else (name,)
            return _table(*(Entry(key="*", value=without_braces(one)) for one in answers))
        if kind == FILE:
            return _read(name, _list_entries)
        if kind in _PATTERN_TABLES:
            return _patterns(kind, name)
        if kind in _LISTABLE:
            return self._dumped(spec)
        return Table()

    def _dumped(self, spec: str) -> Table:
        output = self._postmap("-s", spec)
        if output.status not in (0, 1) or (output.status == 1 and output.complaints):
            return _table_with(output.complaints)
        pairs = (line.partition("\t") for line in output.text.splitlines())
        table = _table(*(Entry(key=key, value=value) for key, _, value in pairs))
        return _cut(table) if output.is_cut else table

    def _asked(self, spec: str, keys: tuple[str, ...], known: Table) -> tuple[dict[tuple[str, str], str], Table]:
        if spec.partition(":")[0] in _OF_SERVERS | {_RANDOM}:
            return {}, replace(known, is_asked_elsewhere=True)
        output = self._postmap("-q", "-", spec, given="".join(f"{key}\n" for key in keys))
        if output.complaints and output.status != 0:
            return {}, replace(_table_with(output.complaints), entries=known.entries)
        pairs = (line.partition("\t") for line in output.text.splitlines())
        return {(spec, key): _one_line(value) for key, _, value in pairs}, known

    # ---- commands

    def _postmap(self, *arguments: str, given: str = "") -> _Output:
        """Ask a table. What is written twice, there or in main.cf, is no fault of it: Postfix goes on with one."""
        output = self._run("postmap", *arguments, given=given)
        return replace(output, complaints=tuple(one for one in output.complaints if not _WRITTEN_TWICE.search(one)))

    def _run(self, command: str, *arguments: str, given: str = "") -> _Output:
        """Run a command, at most for `_MOST_SECONDS`, and keep at most `_MOST_BYTES` of what it prints."""
        with tempfile.TemporaryFile() as stdin:
            stdin.write(given.encode())
            stdin.seek(0)
            words = [command, *self._instance, *arguments]
            try:
                with printing(words, environment=self._environment, stdin=stdin, most_seconds=_MOST_SECONDS) as asked:
                    printed = asked.output.read(_MOST_BYTES + 1)
                    asked.output.close()
            except OSError as error:
                raise PostfixAbsent(f"{command}: {error.strerror}; is Postfix installed here?") from None
        is_cut = len(printed) > _MOST_BYTES
        said = asked.complaints.splitlines()
        if asked.status < 0 and not is_cut:
            said.append(f"{command}: not done within {_MOST_SECONDS:g} seconds")
        text = _whole_lines(printed)
        return _Output(0 if is_cut else asked.status, text, tuple(said), is_cut)


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
            name, service_type, private, command = words[0], words[1], words[2], words[7]
            label = f"{name}/{service_type}"
            # Where a service stands there twice, those of both are told by its name.
            named = parse_service(line).options
            own_options = {name: value for name, value in own.get(label, {}).items() if name in named}
            found.append(
                Service(
                    name=name,
                    type=service_type,
                    private=private,
                    chroot=words[4],
                    command=command,
                    options=own_options,
                )
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
    return Table(entries=tuple(replace(one, key=printable(one.key), value=_one_line(one.value)) for one in entries))


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
