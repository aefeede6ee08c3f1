"""Numbers of several processes, by real files: summed up, never lost to a reload, never counted twice."""

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families

from deliverypools.adapters.metrics import exchange
from deliverypools.adapters.metrics.definitions import BUILD, DECISIONS, DNS_SECONDS, DROPPED, METRICS, Kind
from deliverypools.adapters.metrics.exchange import Gatherer, Publisher
from deliverypools.adapters.metrics.exposition import page
from deliverypools.adapters.metrics.recorder import Recorder

NORMAL = ("egress", "normal", "default")


class Process:
    """What a process has: numbers, and a file."""

    def __init__(self, folder, role="worker"):
        self.recorder = Recorder()
        self.publisher = Publisher(folder, role, self.recorder)

    def count(self, times=1):
        for _ in range(times):
            self.recorder.add(DECISIONS, NORMAL)
        self.publisher.publish()
        return self


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "metrics"


def total(folder, clock=time.time):
    return Gatherer(folder, clock).gather().numbers.get((DECISIONS, NORMAL), [0.0])[0]


@contextlib.contextmanager
def being_read(folder):
    """Hold the folder as a reader does that takes files over."""
    with (folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def later():
    return time.time() + 600


class TestExchange:
    def test_all_processes_are_added_up(self, folder):
        for times in (1, 2, 3):
            Process(folder).count(times)
        Process(folder, "policy").count(4)
        gathered = Gatherer(folder).gather()
        assert gathered.numbers == {(DECISIONS, NORMAL): [10.0]}
        assert gathered.living == {"worker": 3, "policy": 1}

    def test_the_folder_is_not_for_everybody(self, folder):
        Process(folder).count()
        assert folder.stat().st_mode & 0o007 == 0

    def test_who_ends_takes_nothing_away(self, folder):
        ending, other = Process(folder).count(5), Process(folder).count(2)
        ending.publisher.publish(is_last=True)
        gathered = Gatherer(folder).gather()
        assert gathered.numbers == {(DECISIONS, NORMAL): [7.0]}
        assert gathered.living == {"worker": 1}
        other.count()
        assert total(folder) == 8

    def test_who_ends_waits_for_a_reader_and_for_its_other_thread(self, folder, monkeypatch):
        monkeypatch.setattr(exchange, "_LAST_WAITS_SECONDS", 30.0)
        process = Process(folder).count(5)
        process.recorder.add(DECISIONS, NORMAL)
        with being_read(folder):
            threads = [
                threading.Thread(target=process.publisher.publish, kwargs={"is_last": is_last})
                for is_last in (True, False)
            ]
            for thread in threads:
                thread.start()
            threads[0].join(0.1)
            assert threads[0].is_alive()
        for thread in threads:
            thread.join()
        gathered = Gatherer(folder).gather()
        assert gathered.numbers == {(DECISIONS, NORMAL): [6.0]}
        assert gathered.living == {}

    def test_a_reader_that_hangs_keeps_nobody_from_ending(self, folder, monkeypatch):
        monkeypatch.setattr(exchange, "_LAST_WAITS_SECONDS", 0.05)
        process = Process(folder).count(5)
        process.recorder.add(DECISIONS, NORMAL)
        with being_read(folder):
            process.publisher.publish(is_last=True)
        assert total(folder) == 5

    def test_many_reloads_leave_few_files(self, folder):
        for _ in range(50):
            Process(folder).count().publisher.publish(is_last=True)
            Gatherer(folder).gather()
        assert total(folder) == 50
        assert len([path for path in folder.iterdir() if path.suffix == ".json"]) == 1

    def test_who_was_killed_is_taken_over_when_its_file_is_old(self, folder):
        Process(folder).count(5)
        assert Gatherer(folder, lambda: time.time() + 60).gather().living == {}
        assert total(folder, later) == 5
        assert [path.name for path in folder.glob("*.json")] == ["ended.json"]
        assert total(folder) == 5

    def test_who_was_only_stopped_goes_on_with_what_is_new(self, folder):
        process = Process(folder).count(5)
        assert total(folder, later) == 5
        process.count(2)
        assert total(folder) == 7
        process.count()
        assert total(folder) == 8

    def test_who_counts_nothing_still_lives(self, folder):
        process = Process(folder).count()
        (path,) = folder.glob("*.json")
        os.utime(path, (0, 0))
        process.publisher.publish()
        assert Gatherer(folder).gather().living == {"worker": 1}

    def test_a_crash_while_files_are_taken_over_counts_nothing_twice(self, folder, monkeypatch):
        Process(folder).count(5).publisher.publish(is_last=True)
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.unlink", lambda *_, **__: os._exit)  # it is killed before this
            assert total(folder) == 5
        assert len(list(folder.glob("*.json"))) == 2
        assert total(folder) == 5
        assert len(list(folder.glob("*.json"))) == 1
        assert total(folder) == 5

    def test_two_readers_do_not_disturb_each_other(self, folder):
        process = Process(folder)
        for _ in range(20):
            process.count()
            assert total(folder) == total(folder, later)


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b"[" * 100_000,
            b'{"format": 2, "role": "worker", "has_ended": false, "series": []}',
            b'{"format": 1, "role": "worker", "has_ended": false, "series": 5}',
            b'{"format": 1, "role": "worker", "has_ended": false, "series": [["decisions_total", [[], [], []], [1]]]}',
            b"x" * 5_000_000,
        ],
        ids=lambda content: repr(content[:60]),
    )
    def test_files_that_are_none_of_ours_are_left_out(self, folder, content):
        Process(folder).count(3)
        (folder / "worker-1-x.json").write_bytes(content)
        assert total(folder) == 3

    @pytest.mark.parametrize(
        "series",
        [
            ["unknown_total", [], [1]],
            ["decisions_total", ["egress"], [1]],
            ["decisions_total", ["egress", "a pool?", "default"], [1]],
            ["decisions_total", ["egress", "normal", "no_such_rule"], [1]],
            ["decisions_total", list(NORMAL), [1, 2]],
            ["decisions_total", list(NORMAL), [float("nan")]],
            ["decisions_total", list(NORMAL), [float("inf")]],
            ["dns_seconds", ["found"], [1]],
        ],
    )
    def test_series_of_another_version_are_left_out(self, folder, series):
        Process(folder).count(3)
        content = {"format": 1, "role": "worker", "has_ended": False, "series": [series]}
        (folder / "worker-1-x.json").write_text(json.dumps(content))
        assert Gatherer(folder).gather().numbers == {(DECISIONS, NORMAL): [3.0]}

    def test_a_pool_that_was_renamed_keeps_its_numbers(self, folder):
        process = Process(folder)
        process.recorder = Recorder(["bulk"])
        process.publisher = Publisher(folder, "worker", process.recorder)
        process.recorder.add(DECISIONS, ("egress", "bulk", "pinned"))
        process.publisher.publish()
        assert Gatherer(folder).gather().numbers == {(DECISIONS, ("egress", "bulk", "pinned")): [1.0]}

    def test_a_folder_that_cannot_be_made_is_told_once_and_tried_again(self, folder, caplog):
        folder.parent.write_text("in the way")
        with caplog.at_level(logging.WARNING):
            process = Process(folder).count().count()
        (line,) = caplog.messages
        assert "mail goes on" in line
        folder.parent.unlink()
        process.count()
        assert total(folder) == 3

    def test_a_folder_that_vanishes_is_made_again(self, folder):
        process = Process(folder).count(4)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        process.count()
        # What the folder held is gone with it; what came since is not.
        assert total(folder) == 1

    def test_a_full_disk_leaves_the_last_numbers_and_the_process_alive(self, folder):
        """A limit on the size of files is like a full disk to whoever writes."""
        script = f"""
import resource, signal
from pathlib import Path
from deliverypools.adapters.metrics.definitions import DECISIONS, METRICS, DNS_SECONDS
from deliverypools.adapters.metrics.exchange import Publisher
from deliverypools.adapters.metrics.recorder import Recorder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder()
publisher = Publisher(Path({str(folder)!r}), "worker", recorder)
recorder.add(DECISIONS, {NORMAL!r})
publisher.publish()
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
recorder.add(DECISIONS, {NORMAL!r})
publisher.publish()
print("alive")
"""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        answer = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
        )
        assert answer.stdout == "alive\n"
        assert total(folder) == 1
        assert not list(folder.glob("*.new"))


class TestPage:
    def numbers(self):
        recorder = Recorder()
        recorder.add(DECISIONS, NORMAL)
        for seconds in (0.001, 0.02, 99.0):
            recorder.observe(DNS_SECONDS, ("found",), seconds)
        return recorder.snapshot() | {(BUILD, ('1.0 "x"\\\n',)): [1.0]}

    @pytest.mark.parametrize(
        ("accept", "parse", "content_type"),
        [
            ("", families, "text/plain"),
            ("text/html", families, "text/plain"),
            ("application/openmetrics-text; version=1.0.0", openmetrics, "application/openmetrics-text"),
        ],
    )
    def test_prometheus_reads_it(self, accept, parse, content_type):
        made = page(self.numbers(), accept)
        assert made.content_type.startswith(content_type)
        found = {family.name: family for family in parse(made.body.decode())}
        assert set(found) == {metric.full_name.removesuffix("_total") for metric in METRICS}
        samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in found.values()
            for sample in family.samples
        }
        labels = (("pass", "egress"), ("pool", "normal"), ("rule", "default"))
        assert samples["delivery_pools_decisions_total", *labels] == 1
        assert samples["delivery_pools_build_info", ("version", '1.0 "x"\\\n')] == 1
        assert samples["delivery_pools_dns_seconds_count", ("result", "found")] == 3
        assert samples["delivery_pools_dns_seconds_sum", ("result", "found")] == pytest.approx(99.021)
        buckets = [value for (name, *_), value in samples.items() if name == "delivery_pools_dns_seconds_bucket"]
        assert buckets == sorted(buckets)
        assert buckets[0] == 1
        assert buckets[-1] == 3

    def test_small_counters_are_there_from_the_beginning(self):
        text = page({}, "").body.decode()
        assert "delivery_pools_notices_dropped_total 0.0\n" in text
        assert 'delivery_pools_tickets_refused_total{reason="missing"} 0.0\n' in text
        assert 'delivery_pools_worker_ends_total{how="signal"} 0.0\n' in text
        assert 'delivery_pools_decisions_total{pass="egress",pool="high-risk",rule="undecided"} 0.0\n' in text
        assert "other" not in text.replace("other_message", "").replace("another", "")

    def test_kinds(self):
        text = page({}, "").body.decode()
        for metric in METRICS:
            assert f"# TYPE {metric.full_name} {metric.kind}\n" in text

    def test_nothing_is_invented_of_a_gauge(self):
        text = page({}, "").body.decode()
        assert not [m for m in METRICS if m.kind is Kind.GAUGE and f"\n{m.full_name} " in text]

    def test_a_counter_without_labels(self):
        assert "delivery_pools_notices_dropped_total 2.0\n" in page({(DROPPED, ()): [2.0]}, "").body.decode()
