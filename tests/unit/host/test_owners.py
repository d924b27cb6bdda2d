"""Who made a connection, from what the hooks told and what was found later: never a guess."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imdsctl.host import owners as bounds
from imdsctl.host import processes
from imdsctl.host.calls import Asked, Call, Kind, Outcome
from imdsctl.host.connect_hooks import Address, Caller, cgroup2_root
from imdsctl.host.owners import Owner, Owners, cgroup_place
from imdsctl.host.packets import Client
from imdsctl.host.processes import Place, Process, place_of, read_process
from imdsctl.host.trace_table import TraceTable, Unattributed

if sys.platform != "linux":
    pytest.skip("/proc is Linux's", allow_module_level=True)

CLIENT: Client = (bytes([10, 0, 0, 9]), 40_000)
NOW = time.clock_gettime(time.CLOCK_BOOTTIME)
GONE = 2**22 + 1
CALL = Call(Asked(Kind.V1, "GET", "/"), Outcome.ANSWERED, 1.0)


@dataclass
class Lookup:
    """A lookup that answers when the test says so."""

    room: bool = True
    asked: list[tuple[Client, Owner]] = field(default_factory=list)
    found: list[tuple[Owner, Process | Unattributed]] = field(default_factory=list)

    def ask(self, client: Client, about: Any) -> bool:
        self.asked.append((client, about))
        return self.room

    def answers(self) -> Iterator[tuple[Any, Process | Unattributed]]:
        while self.found:
            yield self.found.pop()


def caller(pid: int = os.getpid(), at: float = NOW, cookie: int = 7, name: str = "curl") -> Caller:
    return Caller(cookie, pid, at, 1000, 0, name)


@pytest.fixture
def table() -> TraceTable:
    return TraceTable()


@pytest.fixture
def lookup() -> Lookup:
    return Lookup()


@pytest.fixture
def owners(table: TraceTable, lookup: Lookup) -> Owners:
    return Owners(table, lookup)  # type: ignore[arg-type]


def test_a_hook_that_told_the_process_and_one_that_told_the_address_make_an_owner(
    owners: Owners, table: TraceTable, lookup: Lookup
) -> None:
    owners.heard([caller(), Address(7, CLIENT)])
    owners.of(CLIENT).tally.add(CALL)
    [row] = table.rows.values()
    assert (row.last.pid, row.tally.count(Kind.V1), row.tally.connections) == (os.getpid(), 1, 1)
    assert lookup.asked == []


def test_a_process_that_is_gone_is_known_by_what_the_hook_told(owners: Owners, table: TraceTable) -> None:
    owners.heard([caller(GONE), Address(7, CLIENT)])
    owners.of(CLIENT)
    [row] = table.rows.values()
    assert (row.identity.name, row.identity.uid, row.identity.command) == ("curl", 1000, "")


def test_a_process_that_began_after_the_connect_is_not_the_one(owners: Owners, table: TraceTable) -> None:
    me = read_process(os.getpid())
    assert me is not None
    assert me.started is not None
    owners.heard([caller(at=me.started - 1), Address(7, CLIENT)])
    owners.of(CLIENT)
    [row] = table.rows.values()
    assert (row.identity.name, row.identity.executable) == ("curl", "")


def test_a_process_that_ended_since_it_was_read_is_still_itself(
    owners: Owners, table: TraceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    there: dict[int, Process] = {GONE: Process(GONE, "curl", "/usr/bin/curl", "curl http://x", 1000, 1.0)}
    monkeypatch.setattr(bounds.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(bounds, "read_process", there.get)
    owners.heard([caller(GONE), Address(7, CLIENT)])
    owners.of(CLIENT)
    there.clear()
    clock[0] += bounds.PID_SECONDS_MAX
    owners.heard([caller(GONE, cookie=8), Address(8, CLIENT)])
    owners.of(CLIENT)
    [row] = table.rows.values()
    assert (row.identity.command, row.tally.connections) == ("curl http://x", 2)
    # Another name, or much later: it may be another process, so only what the hook told counts.
    owners.heard([caller(GONE, cookie=9, name="wget"), Address(9, CLIENT)])
    owners.of(CLIENT)
    clock[0] += bounds.PID_SECONDS_MAX
    owners.heard([caller(GONE, cookie=10), Address(10, CLIENT)])
    owners.of(CLIENT)
    assert [(each.identity.name, each.identity.command) for each in table.rows.values()][1:] == [
        ("wget", ""),
        ("curl", ""),
    ]


def test_without_a_hook_calls_wait_for_the_answer(owners: Owners, table: TraceTable, lookup: Lookup) -> None:
    owner = owners.of(CLIENT)
    owner.tally.add(CALL)
    assert table.rows == {}
    lookup.found.append((owner, Process(5, "app")))
    owners.take_answers()
    owner.tally.add(CALL)
    [row] = table.rows.values()
    assert (row.identity.name, row.tally.count(Kind.V1), row.tally.connections) == ("app", 2, 1)


def test_too_many_questions_are_counted_as_such(owners: Owners, table: TraceTable, lookup: Lookup) -> None:
    lookup.room = False
    owners.of(CLIENT).tally.add(CALL)
    assert table.unattributed[Unattributed.TOO_MANY].count(Kind.V1) == 1


def test_a_connect_counts_for_one_connection_only(owners: Owners, lookup: Lookup) -> None:
    owners.heard([caller(), Address(7, CLIENT)])
    owners.of(CLIENT)
    owners.of(CLIENT)
    assert len(lookup.asked) == 1


def test_a_connect_without_packets_is_told_and_does_not_answer_for_a_later_one(
    owners: Owners, table: TraceTable, lookup: Lookup
) -> None:
    owners.heard([caller(GONE), Address(7, CLIENT)])
    owners.expire(time.monotonic())
    assert table.rows == {}
    owners.expire(time.monotonic() + bounds.UNSEEN_SECONDS)
    [row] = table.rows.values()
    assert (row.tally.unseen, row.tally.connections) == (1, 0)
    owners.of(CLIENT)
    assert len(lookup.asked) == 1


def test_memory_is_bounded(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "CALLERS_MAX", 10)
    monkeypatch.setattr(bounds, "CLIENTS_MAX", 10)
    monkeypatch.setattr(bounds, "PROCESSES_MAX", 1)
    for number in range(100):
        owners.heard([caller(GONE, cookie=number), Address(number, (bytes(4), number)), caller(GONE, cookie=-number)])
    assert len(owners._callers) == len(owners._clients) == 10


def test_a_token_on_a_command_line_is_not_shown(tmp_path: Path) -> None:
    home = tmp_path / "5"
    home.mkdir()
    (home / "stat").write_text("5 (curl) S 0 " + "0 " * 17 + "100 0")
    (home / "cmdline").write_bytes(b"curl\0-H\0X-aws-ec2-metadata-token: AQAEAsecret\0http://169.254.169.254/\0")
    process = read_process(5, tmp_path)
    assert process is not None
    assert process.command == "curl -H X-aws-ec2-metadata-token: *** http://169.254.169.254/"


def test_a_cgroup_is_found_by_its_number() -> None:
    root = cgroup2_root(Path("/proc/self/mounts").read_text())
    if root is None or os.geteuid() != 0:
        pytest.skip("finding a cgroup by its number needs root and a cgroup2 hierarchy")
    assert cgroup_place(root, root.stat().st_ino) == place_of(str(root))


def test_a_cgroup_that_is_gone_is_no_place(tmp_path: Path) -> None:
    assert cgroup_place(tmp_path, 2**40) == Place()


def test_names_of_processes_may_hold_anything(tmp_path: Path) -> None:
    home = tmp_path / "5"
    home.mkdir()
    (home / "stat").write_bytes(b"5 (a) \xff(\x1b[2J) S 1 " + b"0 " * 17 + b"100 0")
    process = read_process(5, tmp_path)
    assert process is not None
    assert process.name == "a) \N{REPLACEMENT CHARACTER}(\N{REPLACEMENT CHARACTER}[2J"
    assert process.name.isprintable()
    assert processes.parent_of(5, tmp_path) == 1
