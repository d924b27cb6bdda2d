"""`make bench`: what a scan, the local AWS and the metadata service cost, beside their peers, in the same minutes.

Prints one table; every figure that has a target says PASS or MISS. The raw figures go to bench/results/ as JSON.
Exits with 0 when everything was measured, with 1 when something could not be; with --check also when a target is
missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.evidence import weigh_evidence
from bench.latency import weigh_latency
from bench.measure import Cores, pick_cores
from bench.metadata import weigh_metadata
from bench.metadata_room import weigh_room
from bench.plan import INSTANCES as PLAN_INSTANCES
from bench.plan import weigh_plan
from bench.policy import weigh_policy
from bench.races import race_servers
from bench.report import Line, NotMeasured, machine, save, table
from bench.scale import weigh_fleets, weigh_lookups, weigh_starts
from bench.scans import weigh_scans, weigh_sweeps
from bench.servers import REPOSITORY, ServerFailed
from bench.trace import weigh_trace

PARTS = ("scan", "sweep", "plan", "evidence", "latency", "local", "scale", "imds", "trace", "policy")
LATENCY_ACCOUNTS = 100
FLEETS = (10_000, 100_000, 1_000_000)


class Bench:
    """Collects what was measured, what was left out and what failed, each with its reason."""

    def __init__(self, cores: Cores) -> None:
        self.cores = cores
        self.lines: list[Line] = []
        self.left_out: list[str] = []
        self.failed: list[str] = []
        self.results: dict[str, Any] = {
            "measured": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "machine": machine(cores),
        }

    def measure(self, what: str, key: str, measurement: Callable[[], tuple[list[Line], Any]]) -> None:
        """Run one measurement; one that cannot be made does not stop the others."""
        print(f"{what} ...", file=sys.stderr, flush=True)
        try:
            lines, raw = measurement()
        except (NotMeasured, ServerFailed, subprocess.SubprocessError) as error:
            self.failed.append(f"{what}: {error}")
        else:
            self.lines += lines
            self.results.setdefault(key, []).append(raw)

    def races(self, python: Path | None, seconds: float) -> tuple[list[Line], Any]:
        """The peers, with a word on those that are not there."""
        lines, raw, left_out = race_servers(python, self.cores, seconds)
        self.left_out += left_out
        return lines, raw

    def metadata(self, python: Path | None, seconds: float) -> tuple[list[Line], Any]:
        """The metadata service's peers, with a word on those that are not there."""
        lines, raw, left_out = weigh_metadata(python, self.cores, seconds)
        self.left_out += left_out
        return lines, raw


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; see the module's first lines for the exit code."""
    arguments = parse(argv)
    cores = pick_cores()
    bench = Bench(cores)
    if not cores.apart:
        bench.left_out.append("cores of their own for server and clients: this process may use one core only")
    if arguments.only in (None, "scan"):
        for accounts in arguments.accounts:
            what = f"scanning {accounts} accounts with imdsctl and with boto3"
            bench.measure(what, "scan", lambda accounts=accounts: weigh_scans(accounts, cores))  # type: ignore[misc]
    if arguments.only in (None, "plan"):
        what = f"planning a fleet of {arguments.plan_instances:,} instances"
        bench.measure(what, "plan", lambda: weigh_plan(cores, arguments.plan_instances))
    if arguments.only in (None, "sweep"):
        what = f"sweeping {', '.join(f'{each:,}' for each in arguments.sweeps)} accounts"
        bench.measure(what, "sweeps", lambda: weigh_sweeps(sorted(arguments.sweeps), cores))
    if arguments.only in (None, "latency"):
        what = "scanning with every answer late"
        bench.measure(what, "latency", lambda: weigh_latency(LATENCY_ACCOUNTS, cores))
    if arguments.only in (None, "evidence"):
        what = "asking CloudWatch who uses IMDSv1 with imdsctl and with boto3"
        bench.measure(what, "evidence", lambda: weigh_evidence(cores))
    if arguments.only in (None, "local"):
        what = "asking the local AWS, moto_server and ministack"
        bench.measure(what, "local", lambda: bench.races(arguments.peers_python, arguments.seconds))
    if arguments.only in (None, "scale"):
        bench.measure("starting organizations of different sizes", "starts", lambda: weigh_starts(cores))
        fleets = sorted(arguments.fleets)
        what = f"filling the local AWS with {', '.join(f'{each:,}' for each in fleets)} instances"
        bench.measure(what, "fleets", lambda: weigh_fleets(fleets, cores, arguments.seconds))
        what = "looking instances up in Regions of different sizes"
        bench.measure(what, "lookups", lambda: weigh_lookups(cores, arguments.seconds))
    if arguments.only in (None, "trace"):
        what = "tracing a host's calls to the metadata service"
        bench.measure(what, "trace", lambda: weigh_trace(cores))
    if arguments.only in (None, "policy"):
        bench.measure("replaying a million CloudTrail events", "policy", lambda: weigh_policy(cores))
    if arguments.only in (None, "imds"):
        what = "asking the metadata service, nginx, Starlette and amazon-ec2-metadata-mock"
        bench.measure(what, "metadata", lambda: bench.metadata(arguments.peers_python, arguments.seconds))
        what = "weighing ten thousand metadata services and a million tokens"
        bench.measure(what, "metadata_room", lambda: weigh_room(cores))
    bench.results["lines"] = [asdict(line) for line in bench.lines]
    print(table(bench.lines))
    print()
    for reason in bench.left_out:
        print(f"left out: {reason}")
    for reason in bench.failed:
        print(f"NOT MEASURED: {reason}")
    missed = [line for line in bench.lines if line.passed is False]
    print(f"{sum(line.passed is True for line in bench.lines)} targets met, {len(missed)} missed")
    print(f"raw figures: {save(bench.results).relative_to(REPOSITORY)}")
    return 1 if bench.failed or (arguments.check and missed) else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    parser.add_argument("--accounts", type=int, nargs="+", default=[5], help="sizes of the organization that all scan")
    parser.add_argument("--sweeps", type=int, nargs="+", default=[10, 100, 1_000], help="sizes of the swept ones")
    parser.add_argument("--plan-instances", type=int, default=PLAN_INSTANCES, help="instances of the planned fleet")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long one run of an operation lasts")
    parser.add_argument("--fleets", type=int, nargs="+", default=list(FLEETS), help="instances of the local AWS")
    parser.add_argument(
        "--peers-python", type=Path, default=_default_peers(), help="an interpreter that has moto[server] and ministack"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args(argv)


def _default_peers() -> Path | None:
    named = os.environ.get("IMDSCTL_BENCH_PEERS_PYTHON")
    beside = REPOSITORY / ".venv-bench" / "bin" / "python"
    return Path(named) if named else beside if beside.exists() else None


if __name__ == "__main__":
    sys.exit(main())
