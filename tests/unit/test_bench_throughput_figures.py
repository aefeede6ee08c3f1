"""What `make bench` concludes from what it has seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from cpu_meter import CpuMeter, tree
from smtp_load import Sent, recipients_of
from smtp_receiver import Arrived, arrived_in
from throughput_report import Figures, as_json, closing_line, percentile, ratios, table
from throughput_subjects import Run

_DUMP = b"""\
X-Client-Addr: 192.0.2.10
X-Client-Proto: ESMTP
X-Helo-Args: mail.example.org
X-Mail-Args: <user1@example.org> SIZE=5977
X-Rcpt-Args: <r1.0.0@example.com> ORCPT=rfc822;r1.0.0@example.com
X-Rcpt-Args: <r1.0.1@example.com>
Received: from mail.example.org ([192.0.2.10])
Subject: one
%s
text
X-Client-Addr: 192.0.2.20
X-Client-Proto: ESMTP
X-Helo-Args: mail.example.org
X-Mail-Args: <>
X-Rcpt-Args: <r1.1.0@example.com>
Subject: two
"""


def _run(messages_per_second: float, latency: float = 2.0) -> Run:
    sent = Sent(accepted=100, began=10.0, ended=10.0 + 50 / messages_per_second, latencies=[latency] * 100)
    return Run(
        sent=sent,
        delivered_at=10.0 + 100 / messages_per_second,
        cpu_seconds={"postfix": 0.2, "sink": 0.01},
        megabytes={"postfix": 40.0, "sink": 2.0},
    )


def _figures(name: str, *messages_per_second: float, latency: float = 2.0) -> Figures:
    figures = Figures(name)
    for speed in messages_per_second:
        figures.add(_run(speed), _run(speed, latency))
    return figures


def test_what_smtp_sink_has_kept_tells_recipients_and_sources():
    arrived = arrived_in(_DUMP % b"To: somebody")
    assert arrived.recipients == Counter(["r1.0.0@example.com", "r1.0.1@example.com", "r1.1.0@example.com"])
    assert arrived.sources == {"192.0.2.10": 2, "192.0.2.20": 1}
    assert arrived.marked == 0


@pytest.mark.parametrize("field", [b"X-Delivery-Pool: normal", b"x-delivery-pool-ticket: abc"])
def test_a_field_of_ours_on_the_wire_is_seen(field):
    assert arrived_in(_DUMP % field).marked == 1


@pytest.mark.parametrize(
    ("recipients", "sources", "marked", "problem"),
    [
        ({"a": 1, "b": 1}, {"192.0.2.10": 2}, 0, ""),
        ({"a": 1}, {"192.0.2.10": 1}, 0, "1 lost"),
        ({"a": 1, "b": 2}, {"192.0.2.10": 3}, 0, "1 doubled"),
        ({"a": 1, "b": 1, "c": 1}, {"192.0.2.10": 3}, 0, "1 that nobody sent"),
        ({"a": 1, "b": 1}, {"192.0.2.10": 1, "192.0.2.1": 1}, 0, "1 by a wrong address"),
        ({"a": 1, "b": 1}, {"192.0.2.10": 2}, 1, "1 fields of ours on the wire"),
    ],
    ids=["right", "lost", "doubled", "foreign", "address", "marked"],
)
def test_each_copy_has_to_arrive_once_by_its_address(recipients, sources, marked, problem):
    problems = list(Arrived(Counter(recipients), Counter(sources), marked).problems(["a", "b"], "192.0.2.10"))
    assert len(problems) == bool(problem)
    assert "".join(problems).startswith(problem)


def test_no_two_messages_have_a_recipient_in_common():
    lists = [recipients_of(prefix, number, 3, "example.com") for prefix in ("r1", "r11") for number in range(20)]
    assert len({one for recipients in lists for one in recipients}) == len(lists) * 3


def test_the_ratio_is_to_bare_postfix_in_the_same_round():
    bare, express = _figures("bare Postfix", 100, 200, 400), _figures("express + policy", 90, 150, 200)
    assert ratios(express, bare) == pytest.approx([0.9, 0.75, 0.5])


def test_the_closing_line_has_the_medians_of_the_ratios_with_the_policy_service():
    all_figures = [
        _figures("bare Postfix", 100, 200, 400),
        _figures("express", 1, 1, 1),
        _figures("express + policy", 90, 150, 200),
        _figures("fast path + policy", 70, 140, 280),
        _figures("hop + policy", 40, 80, 160),
        _figures("rspamd-lean", 60, 120, 240),
        _figures("opendkim+opendmarc", 50, 100, 200),
    ]
    assert closing_line(all_figures) == (
        "bench: express 0.75 fast-path 0.70 hop 0.40 of bare Postfix; peers: rspamd-lean 0.60 opendkim+opendmarc 0.50"
    )


def test_the_closing_line_has_a_dash_for_what_was_not_measured():
    assert closing_line([_figures("bare Postfix", 100)]) == (
        "bench: express - fast-path - hop - of bare Postfix; peers: rspamd-lean - opendkim+opendmarc -"
    )


def test_table_and_json_have_every_subject_and_the_added_latency():
    all_figures = [_figures("bare Postfix", 100, 100), _figures("hop + policy", 50, 50, latency=3.5)]
    lines = list(table(all_figures))
    assert sum(line.startswith("hop + policy") for line in lines) == 4
    assert any("1.50 (1.50 to 1.50)" in line for line in lines)
    written = as_json(all_figures, {"rounds": 2})
    assert written["subjects"]["hop + policy"]["of_bare"] == pytest.approx([0.5, 0.5])
    assert written["options"] == {"rounds": 2}


@pytest.mark.parametrize(("share", "value"), [(0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentile(share, value):
    assert percentile(range(1, 101), share) == value


@pytest.mark.parametrize("has_groups", [True, False], ids=["as it is here", "without control groups"])
def test_processor_time_of_children_that_have_ended_is_counted(monkeypatch, has_groups):
    if not has_groups:
        monkeypatch.setattr("cpu_meter._own_group", lambda: None)
    burning = "import time\nwhile time.process_time() < 0.3: pass"
    script = (
        f"import subprocess, sys\ninput()\nsubprocess.run([sys.executable, '-c', {burning!r}])\nprint('x')\ninput()"
    )
    with CpuMeter() as meter, subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        meter.watch("burning", [parent.pid])
        before = meter.seconds()["burning"]
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == b"x\n"
        assert meter.seconds()["burning"] - before >= 0.25
        assert 1 < meter.megabytes()["burning"] < 500
        assert meter.peak_megabytes("burning") > 1
        parent.stdin.write(b"\n")


def test_a_process_is_in_its_own_tree_and_one_that_has_ended_has_none():
    assert next(tree(os.getpid())) == os.getpid()
    with subprocess.Popen(["true"]) as ended:
        pass
    assert list(tree(ended.pid)) == []
