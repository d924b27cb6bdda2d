"""What `trace` counts, as metrics.

Source: Prometheus, "Exposition formats" (text, version 0.0.4) and "Metric and label naming".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from imdsctl.host.calls import Kind, Outcome
from imdsctl.host.trace import Health
from imdsctl.host.trace_table import Tally, TraceTable

SERIES_MAX = 1_000
"""So many programs have series of their own; the rest is `(other programs)`."""
OTHERS = "(other programs)"

Labels = tuple[tuple[str, str], ...]


def trace_metrics(table: TraceTable, health: Health) -> str:
    """The text that a scrape gets. Command lines and paths are no labels: there is no end to them."""
    calls: Counter[Labels] = Counter()
    connections: Counter[Labels] = Counter()
    unseen: Counter[Labels] = Counter()
    programs: set[Labels] = set()
    for row in table.sorted_rows():
        place = row.identity.place
        labels: Labels = (
            ("program", row.identity.name),
            ("container", place.container or ""),
            ("pod", place.pod or ""),
            ("unit", place.unit or ""),
        )
        if labels not in programs and len(programs) >= SERIES_MAX:
            labels = _OTHERS
        programs.add(labels)
        _count(calls, connections, unseen, labels, row.tally)
    _count(calls, connections, unseen, _OTHERS, table.others)
    unattributed: dict[Labels, float] = {}
    for reason, tally in table.unattributed.items():
        unattributed[("reason", str(reason)),] = sum(tally.calls.values())
        for (kind, outcome), number in tally.calls.items():
            calls[(*_NOBODY, ("kind", str(kind)), ("outcome", str(outcome)))] += number
        connections[_NOBODY] += tally.connections
    lines = [
        *_metric("calls_total", "counter", "Calls to the instance metadata service.", calls),
        *_metric("connections_total", "counter", "Connections to the instance metadata service.", connections),
        *_metric("connections_unseen_total", "counter", "Connections whose packets did not come by.", unseen),
        *_metric("unattributed_calls_total", "counter", "Calls of which nobody knows who made them.", unattributed),
        *_metric("packets_total", "counter", "Packets that were captured.", {(): health.packets}),
        *_metric("packets_lost_total", "counter", "Packets lost before they could be read.", {(): health.packets_lost}),
        *_metric(
            "connections_given_up_total",
            "counter",
            "Connections forgotten early to stay within memory.",
            {(): health.connections_given_up},
        ),
        *_metric(
            "connect_hooks_active",
            "gauge",
            "1 while connect hooks attribute calls, 0 while only sockets are looked up.",
            {(): 0 if health.hooks_problem else 1},
        ),
    ]
    return "\n".join(lines) + "\n"


_OTHERS: Labels = (("program", OTHERS), ("container", ""), ("pod", ""), ("unit", ""))
_NOBODY: Labels = (("program", ""), ("container", ""), ("pod", ""), ("unit", ""))


def _count(
    calls: Counter[Labels], connections: Counter[Labels], unseen: Counter[Labels], labels: Labels, tally: Tally
) -> None:
    if tally.unseen:
        unseen[labels] += tally.unseen
    if not tally.connections and not tally.calls:
        return
    connections[labels] += tally.connections
    # A series that is there from the beginning shows its first call as an increase.
    calls[(*labels, ("kind", str(Kind.V1)), ("outcome", str(Outcome.ANSWERED)))] += 0
    for (kind, outcome), number in tally.calls.items():
        calls[(*labels, ("kind", str(kind)), ("outcome", str(outcome)))] += number


def _metric(name: str, kind: str, about: str, values: Mapping[Labels, float]) -> Iterable[str]:
    full = f"imdsctl_trace_{name}"
    yield f"# HELP {full} {about}"
    yield f"# TYPE {full} {kind}"
    for labels, value in values.items():
        text = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels)
        yield f"{full}{{{text}}} {value}" if text else f"{full} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
