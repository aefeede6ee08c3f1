"""Writes the pages of docs/ that are made from the code."""

from pathlib import Path

from deliverypools.core.postfix_check.examine import checks_reference
from deliverypools.core.rules_reference import rules_reference
from deliverypools.core.settings.reference import settings_reference

DOCS = Path(__file__).parents[1] / "docs"

(DOCS / "checks.md").write_text(checks_reference(), encoding="utf-8")
(DOCS / "rules.md").write_text(rules_reference(), encoding="utf-8")
(DOCS / "settings.md").write_text(settings_reference(), encoding="utf-8")
