"""What does a scan of an organization cost, beside scripts for boto3 and botocore that ask for the same?

All EC2 surfaces are read, other services are left out. Two peers: `naive` boto3 (a session an account, clients an
account and Region) and botocore with one `shared` client per Region. The peers are measured over a small organization
and compared per target, because over a large one they take hours.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import botocore.session

from bench.measure import Cores, Cost, cpu_seconds_of, run
from bench.report import Line, NotMeasured, at_most, less
from bench.servers import REPOSITORY, Server, imdsctl, local_aws

REGIONS = 17
INSTANCES = 20
SCAN_SECONDS_MAX = 3600.0
RESERVE = 3
"""Accounts of a generated organization that cannot be visited (suspended, or without the role), and a reserve."""
RUNS = 3
"""Of each size but the largest."""
NAIVE_TIMES = 25.0
SHARED_TIMES = 8.0
CPU_SECONDS_MAX = 60.0
MEMORY_MIB_MAX = 400.0
GROWTH_MAX = 1.10
"""How much more a target may cost from 100 to 1,000 accounts than from 10 to 100."""
LARGE = 1_000


def weigh_scans(accounts: int, cores: Cores) -> tuple[list[Line], dict[str, Any]]:
    """`imdsctl scan` and its two peers over the same organization. Raises NotMeasured, ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name, _organization(Path(name), accounts, cores) as up:
        directory, server = up
        began = cpu_seconds_of(server.pid)
        ours = weigh(scan_command(directory), server.env, cores, "imdsctl scan")
        server_seconds = cpu_seconds_of(server.pid) - began
        naive = weigh(boto3_command("naive"), server.env, cores, "boto3 script")
        shared = weigh(boto3_command("shared"), server.env, cores, "botocore script")
    counts = scan_counts(ours.stdout)
    peers = {"boto3": json.loads(naive.stdout), "botocore": json.loads(shared.stdout)}
    for peer, seen in peers.items():
        _same(counts, seen, peer)
    section = f"scan: {accounts} accounts x {REGIONS} Regions x {INSTANCES} instances"
    large = accounts >= 50
    lines = [
        less(section, "CPU, boto3", ours.cpu_seconds, naive.cpu_seconds, "s", NAIVE_TIMES if large else None),
        less(section, "CPU, botocore", ours.cpu_seconds, shared.cpu_seconds, "s", SHARED_TIMES if large else None),
        less(section, "wall, boto3", ours.wall_seconds, naive.wall_seconds, "s", None),
        less(section, "peak memory, boto3", ours.peak_rss_mib, naive.peak_rss_mib, "MiB", 4.0 if large else None, 0),
        less(section, "peak memory, botocore", ours.peak_rss_mib, shared.peak_rss_mib, "MiB", None, 0),
        Line(section, "calls", str(counts["calls"]), str(peers["boto3"]["calls"])),
        Line(section, "instances seen", str(counts["instances"]), str(peers["boto3"]["instances"])),
    ]
    raw = {
        "accounts": accounts,
        "imdsctl": raw_cost(ours) | {"counts": counts, "server_cpu_seconds": server_seconds},
        "boto3": raw_cost(naive) | {"counts": peers["boto3"]},
        "botocore": raw_cost(shared) | {"counts": peers["botocore"]},
    }
    return lines, raw


def weigh_sweeps(sizes: Sequence[int], cores: Cores) -> tuple[list[Line], list[dict[str, Any]]]:
    """`imdsctl scan` of ever more accounts of one organization, and per target beside its peers over a small one.

    All sizes meet the same server, that has nothing of theirs at hand: one that answers from what it keeps lets its
    client work without a pause, and a target then costs less of it than where answers are waited for. A small sweep is
    over while the machine is fast or slow: it is made several times, each of other accounts, and the median counts.

    Raises NotMeasured, ServerFailed.
    """
    small, *_, whole = sorted(sizes)
    measured: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name,
        _organization(Path(name), whole + RESERVE, cores) as (directory, server),
    ):
        left = cycle(_accounts(server))
        for accounts in sorted(sizes, reverse=True):
            runs = []
            for _ in range(1 if accounts == whole else RUNS):
                only = [] if accounts == whole else ["--accounts", ",".join(islice(left, accounts))]
                (directory / "sweep.sqlite").unlink()
                command = [*sweep_command(directory), *only]
                cost = weigh(command, server.env, cores, f"imdsctl scan of {accounts} accounts")
                runs.append(raw_cost(cost) | {"accounts": accounts, **sweep_totals(cost.stdout)})
            measured.insert(0, sorted(runs, key=_cpu_a_target)[len(runs) // 2])
    peers: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name,
        _organization(Path(name), small + RESERVE, cores) as (_, server),
    ):
        for way in ("naive", "shared"):
            peer = weigh(boto3_command(way), server.env, cores, f"boto3_scan.py {way}")
            peers[way] = raw_cost(peer) | {"counts": json.loads(peer.stdout)}
    section = f"sweep: accounts x {REGIONS} Regions x {INSTANCES} instances, all EC2 surfaces"
    lines = []
    for each in measured:
        what = f"{each['accounts']:,} accounts, {each['targets']:,} targets, {each['instances']:,} instances"
        if each["accounts"] >= LARGE:
            lines.append(at_most(section, f"{what}: CPU", each["cpu_seconds"], CPU_SECONDS_MAX, "s"))
            lines.append(at_most(section, f"{what}: peak memory", each["peak_rss_mib"], MEMORY_MIB_MAX, "MiB", 0))
        else:
            lines.append(Line(section, f"{what}: CPU", f"{each['cpu_seconds']:.2f} s", "-"))
    steps = [_between(low, high) for low, high in pairwise(measured)]
    if len(steps) > 1:
        grown = steps[-1] / steps[0]
        text = f"{steps[0] * 1e3:.2f} ms, then {steps[-1] * 1e3:.2f} ms"
        target = f"<= {GROWTH_MAX:g}x (is {grown:.2f}x)"
        lines.append(Line(section, "CPU of one more target", text, "-", None, target, grown <= GROWTH_MAX))
    ours = measured[-1]["cpu_seconds"] / measured[-1]["targets"]
    for way, times in (("naive", NAIVE_TIMES), ("shared", SHARED_TIMES)):
        theirs = peers[way]["cpu_seconds"] / peers[way]["counts"]["regions"]
        lines.append(less(section, f"CPU a target, {way} client", ours * 1e3, theirs * 1e3, "ms", times))
    return lines, [{"sweeps": measured, "peers": peers}]


def scan_command(directory: Path) -> list[str]:
    """The whole command, writing its scan to a database of its own."""
    return imdsctl("scan", "--json", "--no-services", "--db", f"sqlite:///{directory / 'scan.sqlite'}")


def sweep_command(directory: Path) -> list[str]:
    """The same for a large organization: the scan is kept and summed up, and not printed thing by thing."""
    return imdsctl("scan", "--no-services", "--db", f"sqlite:///{directory / 'sweep.sqlite'}")


def boto3_command(way: str) -> list[str]:
    """A peer's whole command."""
    return [sys.executable, str(REPOSITORY / "bench" / "boto3_scan.py"), way]


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
        "configurations": sum(len(target["launch_configurations"]) for target in targets),
        "groups": sum(len(target["auto_scaling_groups"]) for target in targets),
        "fleets": sum(len(target["fleets"]) for target in targets),
        "images": len(images),
        "images_v2": sum(each["imds_support"] == "v2.0" for each in images),
    }


@contextmanager
def _organization(directory: Path, accounts: int, cores: Cores) -> Iterator[tuple[Path, Server]]:
    """A local AWS with an organization whose fleet is there already: that is nobody's cost but the server's."""
    with local_aws(directory, cores.server, accounts=accounts, instances=INSTANCES) as server:
        weigh(sweep_command(directory), server.env, cores, "imdsctl scan (to touch the fleet)")
        yield directory, server


def _accounts(server: Server) -> list[str]:
    """The organization's active accounts, in AWS's order."""
    session = botocore.session.Session()
    session.set_credentials(server.env["AWS_ACCESS_KEY_ID"], server.env["AWS_SECRET_ACCESS_KEY"])
    client = session.create_client("organizations", "us-east-1", endpoint_url=server.env["AWS_ENDPOINT_URL"])
    pages = client.get_paginator("list_accounts").paginate()
    return [each["Id"] for page in pages for each in page["Accounts"] if each["Status"] == "ACTIVE"]


def sweep_totals(text: str) -> dict[str, int]:
    """The numbers of the line that ends the scan's table."""
    found = re.search(r"^([\d,]+) Regions? in ([\d,]+) accounts?, ([\d,]+) instances?; ([\d,]+) calls", text, re.M)
    if found is None:
        raise NotMeasured(f"the scan does not say what it saw: {text[-300:]}")
    targets, accounts, instances, calls = (int(each.replace(",", "")) for each in found.groups())
    return {"targets": targets, "entered": accounts, "instances": instances, "calls": calls}


def _cpu_a_target(measured: Mapping[str, Any]) -> float:
    return float(measured["cpu_seconds"] / measured["targets"])


def _between(low: Mapping[str, Any], high: Mapping[str, Any]) -> float:
    """CPU seconds of a target more: what a program's start costs is in neither."""
    return float((high["cpu_seconds"] - low["cpu_seconds"]) / (high["targets"] - low["targets"]))


def _same(ours: Mapping[str, int], theirs: Mapping[str, int], peer: str) -> None:
    """Raises NotMeasured when the two did not see the same things."""
    differing = {
        name: (value, theirs.get(name, 0))
        for name, value in ours.items()
        if name != "calls" and value != theirs.get(name, 0)
    }
    if differing:
        raise NotMeasured(f"the two scans did not see the same things (ours, {peer}'s): {differing}")


def weigh(command: Sequence[str], env: Mapping[str, str], cores: Cores, what: str) -> Cost:
    cost = run(command, env=env, core=cores.clients, seconds_max=SCAN_SECONDS_MAX, cwd=REPOSITORY)
    if cost.exit_code or cost.timed_out:
        raise NotMeasured(f"{what}: {cost.complaint}")
    return cost


def raw_cost(cost: Cost) -> dict[str, Any]:
    kept = asdict(cost)
    for bulky in ("stdout", "stderr"):
        del kept[bulky]
    return kept
