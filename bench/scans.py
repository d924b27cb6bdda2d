"""What does a scan of an organization cost, beside a boto3 script that asks for the same?"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measure import Cores, Cost, cpu_seconds_of, run
from bench.report import Line, NotMeasured, less
from bench.servers import REPOSITORY, imdsctl, local_aws

REGIONS = 17
INSTANCES = 20
SCAN_SECONDS_MAX = 600.0


def weigh_scans(accounts: int, cores: Cores) -> tuple[list[Line], dict[str, Any]]:
    """`imdsctl scan` and bench/boto3_scan.py over the same organization. Raises NotMeasured, ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name:
        directory = Path(name)
        with local_aws(directory, cores.server, accounts=accounts, instances=INSTANCES) as server:
            env = dict(server.env)
            # The fleet is generated when it is touched for the first time; that is neither client's cost.
            weigh(boto3_command(), env, cores, "boto3 script (to touch the fleet)")
            ours_at, ours = cpu_seconds_of(server.pid), weigh(scan_command(directory), env, cores, "imdsctl scan")
            peer_at, peer = cpu_seconds_of(server.pid), weigh(boto3_command(), env, cores, "boto3 script")
            done_at = cpu_seconds_of(server.pid)
    ours_counts, peer_counts = scan_counts(ours.stdout), json.loads(peer.stdout)
    differing = {
        name: (value, peer_counts.get(name, 0))
        for name, value in ours_counts.items()
        if name != "calls" and value != peer_counts.get(name, 0)
    }
    if differing:
        raise NotMeasured(f"the two scans did not see the same things (ours, boto3's): {differing}")
    section = f"scan: {accounts} accounts x {REGIONS} Regions x {INSTANCES} instances"
    cpu_target, memory_target = (5.0, 4.0) if accounts >= 50 else (None, None)
    cpu_bound = 1.2 if accounts <= 5 else None
    cpu_line = less(section, "CPU", ours.cpu_seconds, peer.cpu_seconds, "s", cpu_target)
    if cpu_bound is not None:
        cpu_line = Line(
            section, "CPU", cpu_line.ours, cpu_line.peer, cpu_line.ratio, "<= 1.2 s", ours.cpu_seconds <= cpu_bound
        )
    lines = [
        cpu_line,
        less(section, "wall", ours.wall_seconds, peer.wall_seconds, "s", None),
        less(section, "peak memory", ours.peak_rss_mib, peer.peak_rss_mib, "MiB", memory_target, 0),
        Line(section, "calls", str(ours_counts["calls"]), str(peer_counts["calls"])),
        Line(section, "instances seen", str(ours_counts["instances"]), str(peer_counts["instances"])),
    ]
    raw = {
        "accounts": accounts,
        "imdsctl": raw_cost(ours) | {"counts": ours_counts, "server_cpu_seconds": peer_at - ours_at},
        "boto3": raw_cost(peer) | {"counts": peer_counts, "server_cpu_seconds": done_at - peer_at},
    }
    return lines, raw


def scan_command(directory: Path) -> list[str]:
    """The whole command, writing its scan to a database of its own."""
    return imdsctl("scan", "--json", "--db", f"sqlite:///{directory / 'scan.sqlite'}")


def boto3_command() -> list[str]:
    """The peer's whole command."""
    return [sys.executable, str(REPOSITORY / "bench" / "boto3_scan.py")]


def scan_counts(stdout: str) -> dict[str, int]:
    """Our scan's counts, under the names that bench/boto3_scan.py gives them."""
    scan = json.loads(stdout)
    targets = scan["targets"]
    instances = [each for target in targets for each in target["instances"]]
    templates = [each for target in targets for each in target["launch_templates"]]
    images = [each for target in targets for each in target["images"]]
    defaults = [target["default"]["options"] or {} for target in targets]
    return {
        "calls": scan["calls"],
        "regions": len(targets),
        "regions_requiring_v2": sum(each.get("HttpTokens") == "required" for each in defaults),
        "regions_unreadable": sum(bool(target["unseen"]) for target in targets),
        "accounts_unreachable": sum(each["what"] == "account" for each in scan["unknown"]),
        "instances": len(instances),
        "instances_optional": sum(each["options"].get("HttpTokens") == "optional" for each in instances),
        "template_versions": sum(each["default"] or each["latest"] for each in templates),
        "images": len(images),
        "images_v2": sum(each["imds_support"] == "v2.0" for each in images),
    }


def weigh(command: Sequence[str], env: Mapping[str, str], cores: Cores, what: str) -> Cost:
    """One command to its end. Raises NotMeasured when it fails."""
    cost = run(command, env=env, core=cores.clients, seconds_max=SCAN_SECONDS_MAX, cwd=REPOSITORY)
    if cost.exit_code or cost.timed_out:
        raise NotMeasured(f"{what}: {cost.complaint}")
    return cost


def raw_cost(cost: Cost) -> dict[str, Any]:
    """A cost without what was printed."""
    kept = asdict(cost)
    for bulky in ("stdout", "stderr"):
        del kept[bulky]
    return kept
