"""The documentation cannot go stale."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deliverypools.cli.main import parser
from deliverypools.core.rules_reference import rules_reference

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").glob("*.md"),
    *ROOT.glob("postfix-examples/*/README.md"),
]


def test_rules_page_is_that_of_the_code():
    assert (ROOT / "docs/rules.md").read_text() == rules_reference(), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_is_in_the_documentation():
    (commands,) = (action.choices for action in parser()._subparsers._group_actions)
    documented = "".join(page.read_text() for page in PAGES)
    assert [name for name in commands if f"{name}" not in documented] == []
