"""How long does a scan take when every answer is as late as from the other side of the world?

With an answer 120 ms away, a scan that asked one thing after another would take hours for what one machine can ask at
once. A first scan is not measured: it makes the fleet, which is the server's work.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure import Cores, Cost, cpu_seconds_of, run
from bench.report import Line, NotMeasured, at_most
from bench.scans import REGIONS, SCAN_SECONDS_MAX, sweep_totals
from bench.servers import REPOSITORY, Server, imdsctl, local_aws

LATENCY_MS = 120
INSTANCES = 20
WALL_SECONDS_MAX = 8.0
PARTS_MIN = 9
"""Calls that even an empty Region takes: a Region that refuses takes fewer."""


def weigh_latency(accounts: int, cores: Cores) -> tuple[list[Line], dict[str, Any]]:
    """`imdsctl scan` over an organization whose every answer is late: EC2's surfaces, which have the target, and all.

    Raises NotMeasured, ServerFailed.
    """
    lines: list[Line] = []
    raw: dict[str, Any] = {"accounts": accounts, "latency_ms": LATENCY_MS}
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name:
        directory = Path(name)
        late = ("--latency-ms", str(LATENCY_MS))
        with local_aws(directory, cores.server, accounts=accounts, instances=INSTANCES, options=late) as server:
            _scan(server, directory, cores, ())
            for what, options in (("EC2's surfaces", ("--no-services",)), ("every surface", ())):
                cost, counts, server_cpu = _scan(server, directory, cores, options)
                section = f"scan of {what} with {LATENCY_MS} ms latency: {accounts} accounts x {REGIONS} Regions"
                section += f" x {INSTANCES} instances"
                one_by_one = counts["calls"] * LATENCY_MS / 1000
                wall = at_most(section, "wall", cost.wall_seconds, WALL_SECONDS_MAX, "s")
                lines += [
                    wall if options else Line(section, "wall", wall.ours, "-"),
                    Line(section, "  one call after another it would be", f"{one_by_one:,.0f} s", "-"),
                    Line(section, "CPU (of the server)", f"{cost.cpu_seconds:,.2f} s ({server_cpu:,.2f} s)", "-"),
                    Line(section, "calls", f"{counts['calls']:,}", "-"),
                ]
                kept = {name: value for name, value in asdict(cost).items() if name not in ("stdout", "stderr")}
                raw[what] = {"server_cpu_seconds": server_cpu, **kept, **counts}
    return lines, raw


def _scan(
    server: Server, directory: Path, cores: Cores, options: tuple[str, ...]
) -> tuple[Cost, dict[str, int], float]:
    """One scan: its cost, what it counted, and the CPU seconds of the server."""
    began = cpu_seconds_of(server.pid)
    cost = run(
        [*imdsctl("scan", "--db", f"sqlite:///{directory / 'sweep.sqlite'}"), *options],
        env=server.env,
        core=cores.clients,
        seconds_max=SCAN_SECONDS_MAX,
        cwd=REPOSITORY,
    )
    if cost.exit_code or cost.timed_out:
        raise NotMeasured(f"imdsctl scan with {LATENCY_MS} ms of latency: {cost.complaint}")
    totals = sweep_totals(cost.stdout)
    if totals["calls"] < PARTS_MIN * totals["targets"]:
        raise NotMeasured(f"{totals['calls']} calls cannot have read {totals['targets']} Regions")
    return cost, totals, cpu_seconds_of(server.pid) - began
