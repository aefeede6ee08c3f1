"""What is counted, in one process: names, closed sets of labels, histograms; and nothing of it reaches the caller."""

import logging
import re
from pathlib import Path

import pytest
from written_settings import settings

from deliverypools.adapters.metrics import definitions, measure
from deliverypools.adapters.metrics.definitions import (
    DECISIONS,
    DNS_SECONDS,
    DROPPED,
    LIMIT_NAMES,
    METRICS,
    OTHER,
    STATE_FAILURES,
    STATE_SECONDS,
    TICKETS_REFUSED,
    Kind,
    Metric,
)
from deliverypools.adapters.metrics.measured_state import measured
from deliverypools.adapters.metrics.recorder import Recorder
from deliverypools.adapters.state import State, StateUnavailable
from deliverypools.core.rules import RULES, rule_name

ROOT = Path(__file__).parents[2]


@pytest.fixture
def measuring(tmp_path):
    """Measure in this process, until the end of the test."""
    folder = tmp_path / "metrics"
    measure.start(settings(f'[metrics]\ndirectory = "{folder}"'), "worker", has_thread=False)
    yield folder
    measure.stop()


class TestDefinitions:
    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
    def test_names_follow_the_conventions_of_prometheus(self, metric):
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.name.endswith("_seconds") == (metric.kind is Kind.HISTOGRAM)
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
        assert list(metric.buckets) == sorted(metric.buckets)
        assert metric.text.endswith((".", ")", "version."))

    def test_every_metric_is_in_the_list_once(self):
        defined = [value for value in vars(definitions).values() if isinstance(value, Metric)]
        assert sorted(metric.name for metric in METRICS) == sorted(metric.name for metric in defined)
        assert len({metric.name for metric in METRICS}) == len(METRICS)

    def test_every_rule_and_every_call_of_the_state_is_known(self):
        rule = next(label for label in DECISIONS.labels if label.name == "rule")
        assert {rule_name(each) for each in RULES} < rule.values
        (operation,) = STATE_SECONDS.labels
        assert {"record", "restrictions_on", "use_ticket"} < operation.values
        assert operation.values - {OTHER} == {name for name in dir(State) if not name.startswith("_")}

    def test_every_limit_is_known(self):
        text = (ROOT / "core/deliverypools/core/limits.py").read_text()
        assert set(re.findall(r'\bname="([a-z_]+)"', text)) == set(LIMIT_NAMES)


class TestRecorder:
    def test_counts_by_labels(self):
        recorder = Recorder(["bulk"])
        recorder.add(DECISIONS, ("egress", "normal", "default"))
        recorder.add(DECISIONS, ("egress", "normal", "default"))
        recorder.add(DECISIONS, ("egress", "bulk", "pinned"))
        assert recorder.snapshot() == {
            (DECISIONS, ("egress", "normal", "default")): [2.0],
            (DECISIONS, ("egress", "bulk", "pinned")): [1.0],
        }

    def test_values_that_nobody_foresaw_are_one_series_however_many_they_are(self):
        recorder = Recorder()
        for number in range(1000):
            recorder.add(DECISIONS, ("egress", f"pool-{number}", "default"))
        assert recorder.snapshot() == {(DECISIONS, ("egress", OTHER, "default")): [1000.0]}

    def test_a_bucket_holds_its_upper_bound(self):
        recorder = Recorder()
        first, second = DNS_SECONDS.buckets[:2]
        for seconds in (first, first + 1e-9, second, 1e9):
            recorder.observe(DNS_SECONDS, ("found",), seconds)
        (numbers,) = recorder.snapshot().values()
        assert numbers[:2] == [1.0, 2.0]
        assert numbers[len(DNS_SECONDS.buckets)] == 1.0
        assert numbers[-1] == pytest.approx(1e9)
        assert sum(numbers[:-1]) == 4

    @pytest.mark.parametrize("values", [(), ("egress",), ("a", "b", "c", "d")])
    def test_a_wrong_number_of_labels_is_a_mistake(self, values):
        with pytest.raises(ValueError, match="argument"):
            Recorder().add(DECISIONS, values)

    def test_what_somebody_else_keeps_is_taken_away_and_the_rest_stays(self):
        recorder = Recorder()
        recorder.add(DROPPED, ())
        known = recorder.snapshot()
        recorder.add(DROPPED, ())
        recorder.add(DECISIONS, ("egress", "normal", "default"))
        recorder.forget(known)
        assert recorder.snapshot() == {(DROPPED, ()): [1.0], (DECISIONS, ("egress", "normal", "default")): [1.0]}


class TestMeasuring:
    def test_nothing_is_measured_before_it_was_started(self):
        measure.add(DROPPED)
        measure.observe(DNS_SECONDS, 1.0, "found")
        measure.publish()
        assert measure._measuring is None

    def test_off_makes_no_folder(self, tmp_path):
        folder = tmp_path / "metrics"
        measure.start(settings(f'[metrics]\nlisten = "off"\ndirectory = "{folder}"'), "worker")
        measure.add(DROPPED)
        measure.publish()
        measure.stop()
        assert not folder.exists()

    def test_a_mistake_is_logged_once_and_goes_no_further(self, measuring, caplog):
        def fail():
            raise LookupError("what is counted")

        with caplog.at_level(logging.ERROR):
            measure.add(DECISIONS, "too few")
            measure.observe(DNS_SECONDS, 1.0)
            measure.quietly(fail)
        assert [record.levelname for record in caplog.records] == ["ERROR"]

    def test_a_start_begins_at_zero(self, measuring, tmp_path):
        measure.add(DROPPED)
        measure.start(settings(f'[metrics]\ndirectory = "{tmp_path}/other"'), "worker", has_thread=False)
        assert measure._measuring.recorder.snapshot() == {}


class TestMeasuredState:
    """Whoever uses it notices nothing; `Store` stands for a state that answers, or does not."""

    class Store:
        def use_ticket(self, ticket_id, *, is_within):
            return is_within

        def drop(self, notice):
            if not notice:
                raise StateUnavailable("the disk is full")

    @pytest.fixture
    def state(self, measuring):
        return measured(self.Store())

    def counted(self, metric):
        snapshot = measure._measuring.recorder.snapshot()
        return {values: numbers for (one, values), numbers in snapshot.items() if one is metric}

    def test_answers_and_arguments_are_those_of_the_state(self, state):
        assert state.use_ticket("id", is_within=True) is True
        assert state.use_ticket("id", is_within=False) is False
        assert self.counted(TICKETS_REFUSED) == {("used_too_often",): [1.0]}
        assert sum(self.counted(STATE_SECONDS)["use_ticket",][:-1]) == 2

    def test_failures_are_counted_and_go_on(self, state):
        state.drop("a notice")
        with pytest.raises(StateUnavailable, match="full"):
            state.drop("")
        assert self.counted(STATE_FAILURES) == {("drop",): [1.0]}
        assert self.counted(DROPPED) == {(): [1.0]}
        assert sum(self.counted(STATE_SECONDS)["drop",][:-1]) == 2
