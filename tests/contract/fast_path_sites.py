"""Sites with the fast path, and why all mail takes the hop there."""

from postfix_files import Change, settings_of, write

from deliverypools.adapters.postfix_configuration import PostfixReader
from deliverypools.core.postfix_check.fast_path import conditions
from deliverypools.core.postfix_check.site import Site

AUTO = {"fast_path": "auto"}


def site(directory, change):
    write(directory, "hop", change)
    settings = settings_of("hop", AUTO | change.settings)
    return Site(PostfixReader(str(directory)).read(settings), settings)


def reasons(directory, change):
    """Return why all mail takes the hop, with names below the configuration directory."""
    return [one.replace(f"{directory}/", "") for one in conditions(site(directory, change))]


def main(**parameters):
    return Change(main=parameters)


def with_files(change, **files):
    return Change(main=change.main, options=change.options, files=files)
