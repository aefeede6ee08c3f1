"""End-to-end tests: a real Postfix, the real daemons, a real receiving server. What counts is the address it saw."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from debian_package import built, copy, installed
from mailing import running

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site

__all__ = ["built", "copy", "installed"]


@pytest.fixture
def make_lab() -> Iterator[Callable[..., Lab]]:
    """Start labs for one test; at its end they are stopped."""
    with contextlib.ExitStack() as labs:
        yield lambda **arguments: labs.enter_context(running(**arguments))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Provide the hop on a plain server with an alias and a ~/.forward that lead outside."""
    site = Site(virtual={"alias@example.org": "via-alias@example.net"}, forwards={"games": "via-forward@example.net"})
    with running(site=site) as lab:
        yield lab


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the logs of the labs that run with a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        report.sections += [("lab", lab.logs()) for lab in running.labs]
