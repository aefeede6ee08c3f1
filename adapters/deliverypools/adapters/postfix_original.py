"""A site's Postfix configuration with everything that a plan is made from: as written, expanded, and its tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deliverypools.adapters.postfix_configuration import PostfixReader, PostfixUnreadable
from deliverypools.core.postfix_check.configuration import PostfixConfiguration
from deliverypools.core.postfix_install.plan import Original, Written
from deliverypools.core.postfix_install.still_named import tables_with_routes
from deliverypools.core.postfix_install.tables import tables_of_the_plan
from deliverypools.core.postfix_install.written import parameters_in, services_in
from deliverypools.core.settings import Settings


def read_routes(config_directory: str) -> PostfixConfiguration:
    """Return the parameters of an instance, and the tables that route its mail as far as they can be listed.

    Raises:
        PostfixUnreadable: its files cannot be read.
    """
    reader = PostfixReader(config_directory)
    postfix = PostfixConfiguration(parameters=reader.parameters(), services=())
    return replace(postfix, tables=reader.listed(tables_with_routes(postfix)))


def read_original(config_directory: str | None, settings: Settings) -> Original:
    """Return the configuration of an instance, which must have nothing of ours; None is the default instance.

    Raises:
        PostfixUnreadable: there is no Postfix, or its files cannot be read.
    """
    reader = PostfixReader(config_directory)
    postfix = reader.read(settings)
    tables = reader.listed(tables_of_the_plan(postfix) - postfix.tables.keys())
    main = Path(config_directory or postfix.value("config_directory")) / "main.cf"
    try:
        text = main.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise PostfixUnreadable(f"{main}: {error.strerror}") from None
    return Original(
        written=Written(parameters=parameters_in(text), services=services_in(reader.entries_of_master())),
        postfix=replace(postfix, tables={**postfix.tables, **tables}),
    )
