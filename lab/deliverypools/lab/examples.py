"""The files of postfix-examples/, laid over a site's files as their README.md tells an operator to."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_COMMENT_OR_EMPTY = re.compile(r"\s*(#.*)?$")


@dataclass(frozen=True, slots=True)
class Example:
    """One example: parameters for main.cf, services for master.cf, and the maps below delivery-pools/."""

    main: Mapping[str, str]
    master: Mapping[tuple[str, str], str]
    maps: Mapping[str, str]


def example_directory(profile: str) -> Path:
    """Return where the example `profile` ("hop" or "express") is: in a wheel, or in the repository.

    Raises:
        FileNotFoundError: it is in neither place.

    """
    candidates = (_HERE / "postfix-examples" / profile, _HERE.parents[2] / "postfix-examples" / profile)
    for directory in candidates:
        if (directory / "main.cf").is_file():
            return directory
    raise FileNotFoundError(f"no Postfix example {profile!r} in {' or '.join(str(path.parent) for path in candidates)}")


def load_example(profile: str, substitute: Callable[[str], str]) -> Example:
    """Read one example; `substitute` turns its addresses into the ones of this lab."""
    directory = example_directory(profile)
    return Example(
        parse_main(substitute((directory / "main.cf").read_text())),
        parse_master(substitute((directory / "master.cf").read_text())),
        {path.name: path.read_text() for path in (directory / "delivery-pools").iterdir()},
    )


def _logical_lines(text: str) -> list[str]:
    """Return logical lines as in postconf(5): white space continues, comments and empty lines are left out anywhere."""
    logical: list[str] = []
    for line in text.splitlines():
        if _COMMENT_OR_EMPTY.match(line):
            continue
        if line[0].isspace() and logical:
            logical[-1] += "\n" + line
        else:
            logical.append(line)
    return logical


def parse_main(text: str) -> dict[str, str]:
    """Return the parameters of a main.cf; a later line replaces an earlier one."""
    parameters: dict[str, str] = {}
    for line in _logical_lines(text):
        name, _, value = line.partition("=")
        parameters[name.strip()] = value.strip()
    return parameters


def parse_master(text: str) -> dict[tuple[str, str], str]:
    """Return the services of a master.cf by name and type."""
    services: dict[tuple[str, str], str] = {}
    for line in _logical_lines(text):
        name, service_type, *_ = line.split()
        services[name, service_type] = line
    return services


def render_main(parameters: Mapping[str, str]) -> str:
    """Return a main.cf, one entry a parameter."""
    return "".join(f"{name} = {value}\n" for name, value in parameters.items())


def render_master(services: Mapping[tuple[str, str], str]) -> str:
    """Return a master.cf."""
    return "\n".join(services.values()) + "\n"
