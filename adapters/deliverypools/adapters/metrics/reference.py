"""docs/metrics.md, made from the definitions and the alert rules (`make docs`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from deliverypools.adapters.metrics.definitions import METRICS, OTHER, Kind, Label, Metric

_MOST_VALUES: Final = 14

_HEAD: Final = """\
# Metrics

The policy daemon answers `GET http://127.0.0.1:9641/metrics` for all processes of this host: itself and every worker of
the milter. [Prometheus](https://prometheus.io/) reads it, and so does `curl`:

```
$ curl -s http://127.0.0.1:9641/metrics | grep decisions
delivery_pools_decisions_total{pass="egress",pool="normal",rule="default"} 4711.0
delivery_pools_decisions_total{pass="egress",pool="high-risk",rule="delivery_status_notification"} 42.0
```

## Set it up

It is on, for this host alone. `[metrics]` in the [settings](settings.md) changes that; a change needs a restart of both
daemons.

```toml
[metrics]
listen = "192.0.2.5:9641"     # a Prometheus elsewhere; "off" measures nothing
allow = ["192.0.2.9"]         # who may ask, beside this host itself; everybody else is disconnected
```

There is no password and no TLS: `allow` and the network do that. What can be read are counts and times. No address, no
account, no subject and no domain is in them: values of labels are from closed sets and the names of your pools, so that
nobody's mail can fill the memory of a Prometheus server either. Two instances on a host need a port and a `directory`
each.

In prometheus.yml:

```yaml
rule_files: [/etc/prometheus/delivery-pools.rules.yml]
scrape_configs:
  - job_name: delivery-pools
    static_configs: [{targets: ["127.0.0.1:9641"]}]
```

[prometheus/delivery-pools.rules.yml](../prometheus/delivery-pools.rules.yml) holds the alert rules below, which
`make test-alerts` tests with promtool, and [grafana/delivery-pools.json](../grafana/delivery-pools.json) a dashboard:
import it.

## How it works, and what it does when something fails

A process counts in its own memory; every 2 s a thread of its own writes the numbers into a small file in
`metrics.directory`. The policy daemon adds them up when it is asked. Counters never go back: not when a worker ends or
is killed, not at a reload, not when a daemon starts again; they begin at zero when the folder is emptied, as /run is
when the machine starts. A worker that is killed takes the last 2 s with it.

Mail does not depend on any of that.

| what | then |
|---|---|
| the folder cannot be written (full disk, permissions) | one warning in the log; the last numbers stay until it can |
| the port is in use | an error in the log; tried again every 30 s |
| the policy daemon is down | no metrics, which is an alert; workers go on counting |
| the state does not answer | `delivery_pools_state_up` is 0, restrictions are left out, the rest is there |
| many or hostile clients | 16 connections, 8 kB and 10 s each; the rest is closed |

What it costs: `make bench-metrics` measures it.
"""


def metrics_reference(alerts: Sequence[Mapping[str, Any]]) -> str:
    """Return the page; `alerts` are the rules of the file for Prometheus."""
    return "\n".join([_HEAD, *_alerts(alerts), "", *_metrics(), ""])


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from ["## Alerts", "", "| alert | severity | says |", "|---|---|---|"]
    for alert in alerts:
        notes = alert["annotations"]
        text = f"**{_plain(notes['summary'])}** {_plain(notes['description'])}"
        yield f"| `{alert['alert']}` | {alert['labels']['severity']} | {text} |"


def _plain(text: str) -> str:
    """Return a text of an alert without the templates of Prometheus."""
    text = text.replace('{{ $value | printf "%.0f" }}', "N").replace("{{ $value | humanizePercentage }}", "N %")
    text = text.replace("{{ $value | humanizeDuration }}", "N s").replace("{{ $value }}", "N")
    return text.replace("{{ $labels.scanner }}", "A scanner").replace("{{ $labels.pass }}", "first or egress")


def _metrics() -> Iterator[str]:
    yield from ["## All metrics", ""]
    yield "This page is made from the code (`make docs`). Histograms have `_bucket`, `_sum` and `_count`."
    yield f"A label is `{OTHER}` where its value is none of these."
    yield from ["", "| metric | kind | what | labels |", "|---|---|---|---|"]
    for metric in METRICS:
        yield f"| `{metric.full_name}` | {metric.kind} | {metric.text} | {_labels(metric)} |"


def _labels(metric: Metric) -> str:
    labels = "; ".join(f"`{label.name}`: {_values(label)}" for label in metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        bounds = ", ".join(f"{bound:g}" for bound in metric.buckets)
        return f"{labels}; up to {bounds} s" if labels else f"up to {bounds} s"
    return labels


def _values(label: Label) -> str:
    if label.has_pools:
        return "the pools, `refused`, `undecided`"
    if not label.values:
        return "any"
    values = sorted(label.values if label.name == "stage" else label.values - {OTHER})
    if label.name == "rule":
        return "the [rules](rules.md), `probe`"
    if len(values) > _MOST_VALUES:
        return "the calls in `State` (adapters/state.py)"
    return ", ".join(f"`{value}`" for value in values)
