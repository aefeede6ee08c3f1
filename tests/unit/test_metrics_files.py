"""The files for Prometheus and Grafana name only what there is; `make test-alerts` runs the rules."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml

from deliverypools.adapters.metrics.definitions import METRICS, OTHER, Kind
from deliverypools.adapters.metrics.reference import metrics_reference

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "prometheus/delivery-pools.rules.yml").read_text())["groups"][0]["rules"]
TESTS = yaml.safe_load((ROOT / "prometheus/delivery-pools.tests.yml").read_text())["tests"]
DASHBOARD = json.loads((ROOT / "grafana/delivery-pools.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SHOWN = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [*((rule["alert"], rule["expr"]) for rule in RULES), *SHOWN]

SERIES = {
    f"{metric.full_name}{suffix}": metric
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
}
OF_PROMETHEUS = {"instance", "job", "le"}


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=lambda value: value[:40])
class TestExpressions:
    def test_names_are_of_metrics_that_there_are(self, name, expression):
        assert set(re.findall(r"\bdelivery_pools_\w+", expression)) <= set(SERIES)

    def test_labels_and_their_values_are_those_of_the_metric(self, name, expression):
        for metric_name, matchers in re.findall(r"\b(delivery_pools_\w+)\{([^}]*)\}", expression):
            labels = {label.name: label for label in SERIES[metric_name].labels}
            for label, values in re.findall(r'(\w+)!?=~?"([^"]*)"', matchers):
                if label not in OF_PROMETHEUS:
                    assert set(values.split("|")) <= labels[label].values - {OTHER}

    def test_what_is_grouped_by_is_a_label_of_the_metric(self, name, expression):
        known = {label.name for metric in SERIES.values() for label in metric.labels if metric.full_name in expression}
        grouped = itertools.chain(*(by.split(",") for by in re.findall(r"\bby \(([^)]*)\)", expression)))
        assert {label.strip() for label in grouped} <= known | OF_PROMETHEUS

    def test_counters_are_looked_at_by_what_they_rise(self, name, expression):
        for metric_name, metric in SERIES.items():
            for found in re.finditer(rf"{metric_name}\b(\{{[^}}]*\}})?(\[?)", expression):
                assert bool(found[2]) == (metric.kind is not Kind.GAUGE), metric_name


def test_every_metric_is_on_the_dashboard():
    shown = " ".join(expression for _, expression in SHOWN)
    assert [metric.name for metric in METRICS if metric.full_name not in shown] == []


def test_panels_do_not_overlap_and_have_their_own_ids():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells


def test_every_alert_says_what_and_why():
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["annotations"]["summary"].endswith(".")


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    for rule in RULES:
        mine = {test["name"]: test["promql_expr_test"][0] for test in TESTS if test["name"].split()[0] == rule["alert"]}
        assert list(mine) == [f"{rule['alert']} fires", f"{rule['alert']} is quiet"]
        fires, quiet = mine.values()
        assert rule["alert"] in fires["expr"]
        assert fires["expr"] == quiet["expr"]
        assert (bool(fires["exp_samples"]), quiet["exp_samples"]) == (True, [])


def test_metrics_page_is_that_of_the_code():
    assert (ROOT / "docs/metrics.md").read_text() == metrics_reference(RULES), "run: make docs"


def test_the_metrics_page_has_no_templates_of_prometheus():
    assert "{{" not in metrics_reference(RULES)
