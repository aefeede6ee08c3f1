"""End-to-end tests: a real Postfix, the real daemons, a real receiving server. What counts is the address it saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from deliverypools.lab.lab import Lab
from deliverypools.lab.postfix import Site


@pytest.fixture(scope="session")
def make_lab() -> Iterator[Callable[..., Lab]]:
    """Start labs; what is still running at the end is stopped."""
    labs: list[Lab] = []

    def make(**arguments: object) -> Lab:
        lab = Lab(**arguments).start()  # type: ignore[arg-type]
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.stop()


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """Provide the hop on a plain server with an alias and a ~/.forward that lead outside."""
    lab = make_lab(
        site=Site(
            virtual={"alias@example.org": "via-alias@example.net"},
            forwards={"games": "via-forward@example.net"},
        )
    )
    yield lab
    lab.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the logs of the lab with a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        for lab in getattr(item, "funcargs", {}).values():
            if isinstance(lab, Lab) and hasattr(lab, "postfix"):
                report.sections.append(("lab", lab.logs()[-12000:]))
