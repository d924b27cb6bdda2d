"""What a trace says: to a person, to a program, to Prometheus."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imdsctl.host.calls import Asked, Call, Kind, Outcome
from imdsctl.host.processes import Place, Process
from imdsctl.host.trace import Health
from imdsctl.host.trace_table import TraceTable, Unattributed
from imdsctl.views import trace_metrics as metrics
from imdsctl.views.trace import lost_packets, trace_json, trace_text
from imdsctl.views.trace_metrics import trace_metrics

HEALTH = Health(60.0, 1200, 0, 0, None)
NASTY = 'a"b\\c{}=,\N{SNOWMAN}'


def counted(table: TraceTable, who: Process | Unattributed, *calls: tuple[Kind, Outcome, str]) -> None:
    tally = table.of(who)
    tally.connections += len(calls)
    for number, (kind, outcome, path) in enumerate(calls):
        tally.add(Call(Asked(kind, "GET", path), outcome, 1_800_000_000.0 + number))


@pytest.fixture
def table() -> TraceTable:
    table = TraceTable()
    old = Process(
        812,
        "backup",
        "/usr/bin/python3",
        "python3 /opt/backup.py",
        0,
        5.0,
        ((1, "systemd"),),
        Place(unit="backup.service"),
    )
    counted(
        table,
        old,
        (Kind.TOKEN, Outcome.HOP_LIMIT, "/latest/api/token"),
        (Kind.V1, Outcome.ANSWERED, "/latest/meta-data/iam/security-credentials/"),
        (Kind.V1, Outcome.REFUSED, "/latest/meta-data/iam/security-credentials/web"),
    )
    modern = Process(900, "java", "/usr/bin/java", "java -jar app.jar", 1000, 6.0, (), Place("docker:3f4a3f4a3f4a"))
    counted(table, modern, (Kind.TOKEN, Outcome.ANSWERED, "/latest/api/token"), (Kind.V2, Outcome.ANSWERED, "/latest/"))
    counted(table, Process(901, "gone"), (Kind.V2, Outcome.ANSWERED, "/"))
    counted(table, Unattributed.SOCKET_GONE, (Kind.V1, Outcome.ANSWERED, "/x"))
    return table  # fmt: skip


def test_the_table_says_who_how_where_and_what_it_comes_to(table: TraceTable) -> None:
    assert trace_text(table, HEALTH).splitlines() == [
        "  PROGRAM           IMDSv1  IMDSv2  TOKENS  OTHER  REFUSED  NO ANSWER  PROCESS  RUNS IN              PATHS",
        "  backup            2       -       1       -      1        1          812      backup.service       "
        "/latest/api/token ... /latest/meta-data/iam/security-credentials/web",
        "      python3 /opt/backup.py  [child of systemd]",
        "  java              -       1       1       -      -        -          900      docker:3f4a3f4a3f4a  "
        "/latest/api/token ... /latest/",
        "      java -jar app.jar",
        "  gone              -       1       -       -      -        -          901      -                    /",
        "      (it ended before its command line could be read)",
        "  (not attributed)  1       -       -       -      -        -          -        -                    /x",
        "",
        "note: backup fell back to IMDSv1: 1 of 1 request for a token got none",
        "note: 1 answer to backup stopped on this host: the hop limit is too low for where it runs",
        "note: 1 connection not attributed: no socket of this host has the connection: closed before it was looked up, "
        "or a virtual machine's",
        "",
        "7 calls in 60 s, 3 IMDSv1 calls by 1 known program: these need a token once HttpTokens=required.",
    ]


def test_a_quiet_host_is_no_proof() -> None:
    assert (
        trace_text(TraceTable(), HEALTH)
        == "0 calls in 60 s: nothing on this host asked the metadata service for anything."
    )
    modern = TraceTable()
    counted(modern, Process(1, "app"), (Kind.V2, Outcome.ANSWERED, "/"))
    assert trace_text(modern, HEALTH).endswith(
        "1 call in 60 s, none by IMDSv1. What runs rarely shows only in a long trace."
    )


def test_connections_out_of_sight_are_no_silence() -> None:
    hidden = TraceTable()
    hidden.of(Process(1, "app")).unseen = 2
    said = trace_text(hidden, HEALTH)
    assert "note: app made 2 connections whose packets did not come by" in said
    assert said.endswith("0 calls in 60 s: no call came by, 2 connections stayed out of sight.")
    assert samples(trace_metrics(hidden, HEALTH))["imdsctl_trace_connections_unseen_total", "app"] == 2


def test_json_says_everything_in_one_line(table: TraceTable) -> None:
    text = trace_json(table, HEALTH, final=True)
    assert text.count("\n") == 1
    said = json.loads(text)
    assert (said["kind"], said["format_version"], said["final"], said["attribution"]) == (
        "trace",
        1,
        True,
        "connect-hooks",
    )
    assert [each["name"] for each in said["programs"]] == ["backup", "java", "gone"]
    backup = said["programs"][0]
    assert backup["calls"]["v1"] == {"answered": 1, "refused": 1, "hop-limit": 0, "no-answer": 0}
    assert backup["falls_back_to_v1"] is True
    assert backup["unit"] == "backup.service"
    assert backup["parents"] == [{"pid": 1, "name": "systemd"}]
    assert backup["first_seen"] == "2027-01-15T08:00:00.000+00:00"
    assert said["programs"][1]["container"] == "docker:3f4a3f4a3f4a"
    assert said["programs"][2]["command"] is None
    assert said["not_attributed"][0]["reason"] == "socket-gone"
    assert said["total"]["calls"]["v1"]["answered"] == 2


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (each.name, *(value for _, value in sorted(each.labels.items()) if value)): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def test_prometheus_reads_the_metrics(table: TraceTable) -> None:
    said = samples(trace_metrics(table, HEALTH))
    calls = "imdsctl_trace_calls_total"
    assert said[calls, "v1", "answered", "backup", "backup.service"] == 1
    assert said[calls, "v1", "refused", "backup", "backup.service"] == 1
    assert said[calls, "docker:3f4a3f4a3f4a", "v2", "answered", "java"] == 1
    assert said["imdsctl_trace_connections_total", "backup", "backup.service"] == 3
    assert said["imdsctl_trace_unattributed_calls_total", "socket-gone"] == 1
    assert said["imdsctl_trace_packets_total",] == 1200
    assert said["imdsctl_trace_connect_hooks_active",] == 1
    assert sum(value for (name, *_), value in said.items() if name == calls) == 7
    kinds = {family.name: family.type for family in text_string_to_metric_families(trace_metrics(table, HEALTH))}
    assert kinds["imdsctl_trace_calls"] == "counter"
    assert kinds["imdsctl_trace_connect_hooks_active"] == "gauge"


def test_a_label_may_hold_anything(table: TraceTable) -> None:
    nasty = TraceTable()
    counted(nasty, Process(1, NASTY, place=Place(unit=NASTY)), (Kind.V1, Outcome.ANSWERED, "/"))
    assert samples(trace_metrics(nasty, HEALTH))["imdsctl_trace_connections_total", NASTY, NASTY] == 1


def test_a_program_that_only_used_imdsv2_has_a_zero_for_imdsv1(table: TraceTable) -> None:
    said = samples(trace_metrics(table, HEALTH))
    assert said["imdsctl_trace_calls_total", "v1", "answered", "gone"] == 0


def test_series_are_bounded_and_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SERIES_MAX", 5)
    many = TraceTable()
    for number in range(20):
        counted(many, Process(number, f"app{number}"), (Kind.V1, Outcome.ANSWERED, "/"))
    said = samples(trace_metrics(many, HEALTH))
    connections = {key: value for key, value in said.items() if key[0] == "imdsctl_trace_connections_total"}
    assert len(connections) == 6
    assert sum(connections.values()) == 20
    assert connections["imdsctl_trace_connections_total", metrics.OTHERS] == 15


def test_command_lines_that_differ_share_a_series() -> None:
    several = TraceTable()
    for number in range(3):
        counted(several, Process(number, "app", command=f"app {number}"), (Kind.V1, Outcome.ANSWERED, "/"))
    assert samples(trace_metrics(several, HEALTH))["imdsctl_trace_calls_total", "v1", "answered", "app"] == 3


def test_lost_packets_are_a_warning() -> None:
    assert lost_packets(HEALTH) is None
    warning = lost_packets(Health(60.0, 1200, 7, 0, None))
    assert warning is not None
    assert "7 of 1,200 packets" in warning.summary
