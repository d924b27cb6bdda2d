"""What does it cost to know who still uses IMDSv1, beside a boto3 script that asks CloudWatch for the same?"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.measure import Cores
from bench.report import Line, NotMeasured, less
from bench.scans import raw_cost, scan_command, weigh
from bench.servers import REPOSITORY, imdsctl, local_aws

ACCOUNTS, INSTANCES = 10, 75
"""About 10,000 instances, half of which allow IMDSv1."""


def weigh_evidence(cores: Cores) -> tuple[list[Line], dict[str, Any]]:
    """`imdsctl scan` with `imdsctl evidence`, and bench/boto3_evidence.py. Raises NotMeasured, ServerFailed."""
    peer_command = [sys.executable, str(REPOSITORY / "bench" / "boto3_evidence.py")]
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name:
        directory = Path(name)
        with local_aws(directory, cores.server, accounts=ACCOUNTS, instances=INSTANCES) as server:
            env = dict(server.env)
            # The fleet is generated when it is touched for the first time; that is neither client's cost.
            weigh(scan_command(directory), env, cores, "imdsctl scan (to touch the fleet)")
            scan = weigh(scan_command(directory), env, cores, "imdsctl scan")
            ours = weigh(evidence_command(directory), env, cores, "imdsctl evidence")
            peer = weigh(peer_command, env, cores, "boto3 script")
    told, peer_told = json.loads(ours.stdout), json.loads(peer.stdout)
    totals = told["totals"]
    seen = {"instances": sum(totals.values()), "known": totals["used"] + totals["unused"], "used": totals["used"]}
    differing = {name: (value, peer_told[name]) for name, value in seen.items() if value != peer_told[name]}
    if differing:
        raise NotMeasured(f"the two did not see the same use (ours, boto3's): {differing}")
    calls = json.loads(scan.stdout)["calls"] + told["asked"]["calls"]
    section = f"evidence of IMDSv1 use: {ACCOUNTS} accounts, {seen['instances']:,} instances that allow it"
    cpu = scan.cpu_seconds + ours.cpu_seconds
    lines = [
        less(section, "CPU (scan and evidence)", cpu, peer.cpu_seconds, "s", None),
        less(section, "wall", scan.wall_seconds + ours.wall_seconds, peer.wall_seconds, "s", None),
        less(section, "peak memory", max(scan.peak_rss_mib, ours.peak_rss_mib), peer.peak_rss_mib, "MiB", None, 0),
        Line(section, "calls", str(calls), str(peer_told["calls"])),
        Line(section, "metrics paid for", str(told["asked"]["metrics"]), str(peer_told["instances"])),
        Line(section, "CPU of evidence alone", f"{ours.cpu_seconds:.2f} s", "-"),
    ]
    return lines, {"scan": raw_cost(scan), "evidence": raw_cost(ours), "boto3": raw_cost(peer), "counts": seen}


def evidence_command(directory: Path) -> list[str]:
    """The whole command, on the database of the scan."""
    return imdsctl("evidence", "--json", "--db", f"sqlite:///{directory / 'scan.sqlite'}")
