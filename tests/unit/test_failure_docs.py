"""docs/failures.md says what the failure tests prove: no row without a test, no text that names what is not there."""

from __future__ import annotations

import re
from pathlib import Path

from deliverypools.lab.failure_kinds import WHEN_WELL, Kind
from deliverypools.lab.failure_matrix import FAILURES
from deliverypools.lab.failures_reference import failures_reference

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/failures.md").read_text()


def test_page_is_that_of_the_table():
    assert failures_reference() == PAGE, "run: make docs"


def test_every_failure_is_made_by_a_test():
    tests = "".join(path.read_text() for path in (ROOT / "tests/e2e").glob("test_failures_*.py"))
    assert [failure.name for failure in FAILURES if f'"{failure.name}"' not in tests] == []


def test_every_kind_of_mail_has_its_place():
    assert set(WHEN_WELL) == set(Kind)


def test_links_within_the_page_lead_to_headings():
    titles = (line.removeprefix("## ").lower() for line in PAGE.splitlines() if line.startswith("## "))
    headings = {re.sub(r"[^a-z0-9 _-]", "", title).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings


def test_metrics_that_it_names_exist():
    named = set(re.findall(r"delivery_pools_[a-z_]+", PAGE)) - {"delivery_pools_policy"}
    documented = set(re.findall(r"delivery_pools_[a-z_]+", (ROOT / "docs/metrics.md").read_text()))
    assert named <= documented, named - documented
