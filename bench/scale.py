"""Does the local AWS stay small and quick when the fleet is large? No peer stands beside; the bounds are our own.

The fleets are generated ones: the account and Region that is asked is the same in every fleet, the rest is elsewhere.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.measure import Cores, on_core, rss_mib_now, run
from bench.races import CPU, Race, an_image, load
from bench.report import Line, NotMeasured, at_most
from bench.servers import REPOSITORY, Server, local_aws
from imdsctl.domain.regions import DEFAULT_REGIONS

INSTANCES_PER_REGION = 600
ACCOUNTS_WITHOUT = 3
"""Accounts of a large organization that cannot be visited: the suspended, the one without the role, and a reserve."""
REGION_SIZES = (100, 1_000, 10_000)
ORGANIZATIONS = (1, 10_000, 50_000)
"""Accounts; the last is the most that an organization can have."""
START_SECONDS_MAX = 0.5
INSTANCE_KIB_MAX = 2.0
GROWTH_MAX = 1.5
"""How much more a call may cost at the far end before it counts as growth: small figures, on a busy machine."""
VISIT_SECONDS_MAX = 3600.0
LAUNCHES_MAX = 300
ROUNDS = 3
VERSION = {"Version": "2016-11-15"}


def weigh_fleets(fleets: Sequence[int], cores: Cores, seconds: float) -> tuple[list[Line], Any]:
    """Start-up, memory of an instance and cost of a call with ever more instances elsewhere. Raises NotMeasured."""
    measured = [_weigh_fleet(instances, cores, seconds) for instances in fleets]
    lines = []
    for fleet in measured:
        section = f"local AWS with {fleet['instances']:,} instances in {fleet['regions']:,} Regions of its accounts"
        lines.append(at_most(section, "start-up", fleet["start_seconds"], START_SECONDS_MAX, "s"))
        for what, key in (("memory of an instance", "kib"), ("  when every one was described", "kib_described")):
            bounded = fleet is measured[-1]
            line = at_most(section, what, fleet[key], INSTANCE_KIB_MAX, "KiB")
            lines.append(line if bounded else Line(section, what, line.ours, "-"))
        lines += _calls(section, fleet["calls"], measured[0]["calls"] if fleet is not measured[0] else None)
    return lines, measured


def weigh_starts(cores: Cores) -> tuple[list[Line], Any]:
    """Start-up, to the first answer, of organizations of different sizes: the best of some. Raises NotMeasured."""
    lines, measured = [], []
    for accounts in ORGANIZATIONS:
        times = []
        for _ in range(ROUNDS):
            with _running(accounts, INSTANCES_PER_REGION, cores) as server:
                times.append(server.start_seconds)
        measured.append({"accounts": accounts, "start_seconds": times})
        line = at_most("local AWS, start-up", f"{accounts:,} accounts", min(times), START_SECONDS_MAX, "s")
        lines.append(line)
    return lines, measured


def weigh_lookups(cores: Cores, seconds: float) -> tuple[list[Line], Any]:
    """A look-up by id in Regions of different sizes. Raises NotMeasured."""
    measured: list[dict[str, Any]] = []
    for size in REGION_SIZES:
        with _running(1, size, cores) as server:
            ids = instance_ids(server, cores)
            cost = _least(server, cores, _by_id(ids[len(ids) // 2]), seconds)
        measured.append({"instances": len(ids), "calls": {f"{len(ids):,} instances": cost}})
    section = "DescribeInstances by id, by the number of instances of the Region"
    lines = _calls(section, measured[0]["calls"])
    for each in measured[1:]:
        lines += _calls(section, each["calls"], measured[0]["calls"])
    return lines, measured


@contextmanager
def _running(accounts: int, instances: int, cores: Cores) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name, ExitStack() as stack:
        yield stack.enter_context(local_aws(Path(name), cores.server, accounts=accounts, instances=instances))


def _weigh_fleet(instances: int, cores: Cores, seconds: float) -> dict[str, Any]:
    of_an_account = len(DEFAULT_REGIONS) * INSTANCES_PER_REGION
    accounts = math.ceil(instances / of_an_account)
    accounts += ACCOUNTS_WITHOUT if accounts > ACCOUNTS_WITHOUT else 0
    with _running(accounts, INSTANCES_PER_REGION, cores) as server:
        before = rss_mib_now(server.pid)
        visit(server, cores, read=False)
        touched = rss_mib_now(server.pid)
        image_id, ids = an_image(server, cores), instance_ids(server, cores)
        calls = {
            race.what: _least(server, cores, race, seconds)
            for race in (_regions(), _by_id(ids[len(ids) // 2]), _launch(image_id))
        }
        seen = visit(server, cores, read=True)
        described = rss_mib_now(server.pid)
        return {
            **seen,
            "start_seconds": server.start_seconds,
            "kib": (touched - before) * 1024 / seen["instances"],
            "kib_described": (described - before) * 1024 / seen["instances"],
            "calls": calls,
        }


def _regions() -> Race:
    params = {**VERSION, "Action": "DescribeRegions"}
    return Race("DescribeRegions", "DescribeRegions", params, len(DEFAULT_REGIONS), CPU, {}, "<regionName>", True)


def _by_id(instance_id: str) -> Race:
    params = {**VERSION, "Action": "DescribeInstances", "InstanceId.1": instance_id}
    return Race("DescribeInstances", "DescribeInstances by id", params, 1, CPU, {})


def _launch(image_id: str) -> Race:
    params = {**VERSION, "Action": "RunInstances", "ImageId": image_id, "InstanceType": "t3.micro"}
    params |= {"MinCount": "1", "MaxCount": "1"}
    return Race("RunInstances", "RunInstances", params, 1, CPU, {}, requests_max=LAUNCHES_MAX)


def _least(server: Server, cores: Cores, race: Race, seconds: float) -> float:
    """The least CPU time of the server for a request, in ms: what disturbs a run only makes it dearer."""
    return min(float(load(server, cores, race, connections=8, seconds=seconds)[CPU]) for _ in range(ROUNDS))


def _calls(section: str, calls: Mapping[str, float], first: Mapping[str, float] | None = None) -> list[Line]:
    """A line for each call; `first` are the costs with the smallest fleet, in the same order."""
    firsts = None if first is None else list(first.values())
    lines = []
    for position, (what, cost) in enumerate(calls.items()):
        ours = f"{cost:,.3f} ms"
        if firsts is None:
            lines.append(Line(section, f"{what}, server CPU", ours, "-"))
        else:
            grown = cost / firsts[position] if firsts[position] else 1.0
            target = f"<= {GROWTH_MAX:g}x the smallest's (is {grown:.2f}x)"
            lines.append(Line(section, f"{what}, server CPU", ours, "-", None, target, grown <= GROWTH_MAX))
    return lines


def visit(server: Server, cores: Cores, *, read: bool) -> dict[str, int]:
    """Touch every Region of every account, or describe every instance. Raises NotMeasured."""
    job = json.dumps({"regions": DEFAULT_REGIONS, "read": read})
    with on_core(cores.clients):
        done = subprocess.run(
            [sys.executable, "-m", "bench.fleet"],
            input=job,
            cwd=REPOSITORY,
            env=dict(server.env),
            capture_output=True,
            text=True,
            timeout=VISIT_SECONDS_MAX,
            check=False,
        )
    if done.returncode:
        raise NotMeasured(f"visiting the fleet: {done.stderr[-500:]}")
    seen: dict[str, int] = json.loads(done.stdout)
    return seen


def instance_ids(server: Server, cores: Cores) -> list[str]:
    """The ids of the administrator's instances in its Region. Raises NotMeasured."""
    code = (
        f"import boto3, json; pages = boto3.client('ec2', region_name={server.env['AWS_REGION']!r})"
        ".get_paginator('describe_instances').paginate(PaginationConfig={'PageSize': 1000}); print(json.dumps("
        "[i['InstanceId'] for p in pages for r in p['Reservations'] for i in r['Instances']]))"
    )
    cost = run([sys.executable, "-c", code], env=server.env, core=cores.clients, seconds_max=600, cwd=REPOSITORY)
    if cost.exit_code:
        raise NotMeasured(f"DescribeInstances of {server.name}: {cost.complaint}")
    ids: list[str] = json.loads(cost.stdout)
    if not ids:
        raise NotMeasured(f"no instance in {server.env['AWS_REGION']}")
    return ids
