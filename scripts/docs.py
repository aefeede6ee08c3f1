"""Writes the pages of docs/ that are made from the code."""

from pathlib import Path

import yaml

from deliverypools.adapters.metrics.reference import metrics_reference
from deliverypools.core.checks_reference import checks_reference
from deliverypools.core.rules_reference import rules_reference
from deliverypools.core.settings.reference import settings_reference
from deliverypools.lab.failures_reference import failures_reference

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ALERTS = yaml.safe_load((ROOT / "prometheus/delivery-pools.rules.yml").read_text(encoding="utf-8"))["groups"][0][
    "rules"
]

(DOCS / "checks.md").write_text(checks_reference(), encoding="utf-8")
(DOCS / "failures.md").write_text(failures_reference(), encoding="utf-8")
(DOCS / "metrics.md").write_text(metrics_reference(ALERTS), encoding="utf-8")
(DOCS / "rules.md").write_text(rules_reference(), encoding="utf-8")
(DOCS / "settings.md").write_text(settings_reference(), encoding="utf-8")
