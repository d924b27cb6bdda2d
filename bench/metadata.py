"""The metadata service beside others: CPU a request, requests a second and p99, with a connection for every request.

All servers are up at the same time and asked in turn, so that a busy moment of this machine meets all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.measure import Cores, on_core
from bench.metadata_servers import PUT, V1_GET, V2_GET, Contender, Sizes, contenders, ours
from bench.report import Line, NotMeasured
from bench.servers import REPOSITORY, ServerFailed

CONNECTIONS = 32
ROUNDS = 3
NGINX_TIMES_MAX = 1.4
OURS = "imdsctl"


def weigh_metadata(python: Path | None, cores: Cores, seconds: float) -> tuple[list[Line], dict[str, Any], list[str]]:
    """Ask everybody. Returns the lines, the raw figures and what was left out, with its reason.

    Raises NotMeasured, ServerFailed.
    """
    left_out = []
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        servers = {OURS: stack.enter_context(ours(directory, cores.server))}
        asked = servers[OURS].asked
        sizes = Sizes(credentials=asked[V1_GET].body_bytes, token=asked[PUT].body_bytes)
        for peer, start in contenders(python, directory, cores.server, sizes).items():
            try:
                servers[peer] = stack.enter_context(start())
            except (NotMeasured, ServerFailed) as error:
                left_out.append(f"{peer}: {error}")
        tried: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in servers}
        for what in (V1_GET, V2_GET, PUT):
            for _ in range(ROUNDS):
                for server, contender in servers.items():
                    tried[server].setdefault(what, []).append(_ask(server, contender, what, cores, seconds))
    best = {server: {what: _best(runs) for what, runs in asked.items()} for server, asked in tried.items()}
    lines = [line for peer in best if peer != OURS for line in _lines(best[OURS], best[peer], peer)]
    return lines or _lines(best[OURS], None, "nobody"), {"best": best, "tried": tried}, left_out


def _ask(name: str, server: Contender, what: str, cores: Cores, seconds: float) -> dict[str, Any]:
    """One run of bench/connections.py, on the clients' core. Raises NotMeasured."""
    job = {
        "port": server.port,
        "request": server.asked[what].request,
        "body_bytes": server.asked[what].body_bytes,
        "connections": CONNECTIONS,
        "seconds": seconds,
        "server_pid": server.pid,
    }
    with on_core(cores.clients):
        done = subprocess.run(
            [sys.executable, "-m", "bench.connections"],
            input=json.dumps(job),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=2 * seconds + 60,
            check=False,
        )
    try:
        rate: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise NotMeasured(f"{what} of {name}: {done.stderr[-500:]}") from None
    if "error" in rate:
        raise NotMeasured(f"{what} of {name}: {rate['error']}")
    return rate


def _best(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Each figure's best: what else the machine did can only make it worse."""
    return {
        "server_cpu_us": min(float(run["server_cpu_us"]) for run in runs),
        "per_second": max(float(run["per_second"]) for run in runs),
        "p99_ms": min(float(run["p99_ms"]) for run in runs),
    }


def _lines(mine: dict[str, dict[str, float]], peer: dict[str, dict[str, float]] | None, name: str) -> list[Line]:
    section = f"metadata service against {name} (each on one core, a connection for every request)"
    lines = []
    for what, figures in mine.items():
        other = peer[what] if peer else None
        cost, rate, slow = figures["server_cpu_us"], figures["per_second"], figures["p99_ms"]
        ratio = other["server_cpu_us"] / cost if other else None
        aimed = name == "nginx" and ratio is not None
        lines += [
            Line(
                section,
                f"{what}: server CPU a request",
                f"{cost:,.1f} us",
                f"{other['server_cpu_us']:,.1f} us" if other else "-",
                ratio,
                f"<= {NGINX_TIMES_MAX:g}x nginx's" if aimed else "",
                1 / ratio <= NGINX_TIMES_MAX if aimed and ratio is not None else None,
            ),
            Line(
                section,
                "  requests a second (the load's core is the bound)",
                f"{rate:,.0f}/s",
                f"{other['per_second']:,.0f}/s" if other else "-",
                rate / other["per_second"] if other else None,
            ),
            Line(
                section,
                f"  p99 with {CONNECTIONS} at a time",
                f"{slow:,.2f} ms",
                f"{other['p99_ms']:,.2f} ms" if other else "-",
                other["p99_ms"] / slow if other else None,
            ),
        ]
    return lines
