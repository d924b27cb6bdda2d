"""Does a plan of a very large fleet stay quick and small? The real command, from a stored scan to a written plan file.

No peer plans; the bounds are our own. As a program (`python -m bench.plan FILE INSTANCES`) it writes the stored scan,
so that its memory is not counted with anybody's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Cores, run
from bench.report import Line, NotMeasured, at_most
from bench.servers import REPOSITORY
from imdsctl.domain.observations import (
    Account,
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    LaunchSource,
    RegionSeen,
    ScanEnd,
    ScanHeader,
    Target,
    TemplateVersionSeen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.regions import DEFAULT_REGIONS

INSTANCES = 1_000_000
INSTANCES_PER_REGION = 60
SECONDS_MAX = 15.0
MIB_MAX = 1536.0
GIVE_UP_SECONDS = 600.0
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED, Switch.DISABLED, Switch.DISABLED)
IMAGE = "ami-0123456789abcdef0"
TEMPLATES = 3
GROUP_SIZE = 20


def weigh_plan(cores: Cores, instances: int = INSTANCES) -> tuple[list[Line], Any]:
    """Wall time and memory of `imdsctl plan -o FILE`. Raises NotMeasured."""
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name:
        folder = Path(name)
        stored = str(folder / "scans.sqlite3")
        env = {**os.environ, "NO_COLOR": "1"}
        made = subprocess.run(
            [sys.executable, "-m", "bench.plan", stored, str(instances)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=GIVE_UP_SECONDS,
            check=False,
        )
        if made.returncode:
            raise NotMeasured(f"storing a scan of {instances:,} instances: {made.stderr[-500:]}")
        command = [sys.executable, "-m", "imdsctl", "plan", "--db", stored, "-o", str(folder / "plan.json")]
        cost = run(command, env=env, core=cores.clients, seconds_max=GIVE_UP_SECONDS, cwd=folder)
        if cost.exit_code:
            raise NotMeasured(f"imdsctl plan: {cost.complaint}")
        size = (folder / "plan.json").stat().st_size
    section = f"planning {instances:,} instances, from a stored scan to a plan file of {size / 1e6:,.0f} MB"
    figures = {"cpu": cost.cpu_seconds, "wall": cost.wall_seconds, "mib": cost.peak_rss_mib, "bytes": size}
    return [
        at_most(section, "wall", cost.wall_seconds, SECONDS_MAX, "s"),
        Line(section, "CPU", f"{cost.cpu_seconds:,.2f} s", "-"),
        at_most(section, "peak memory", cost.peak_rss_mib, MIB_MAX, "MiB"),
    ], {"instances": instances, **figures, "said": cost.stdout.splitlines()[-2:]}


def regions(instances: int) -> Iterator[RegionSeen]:
    """An organization in which every instance answers IMDSv1, until so many instances are there."""
    made = account = 0
    while made < instances:
        account += 1
        for region in DEFAULT_REGIONS:
            count = min(INSTANCES_PER_REGION, instances - made)
            if count:
                yield _region(account, Target(f"{account:012}", region), count)
                made += count


def _region(account: int, target: Target, count: int) -> RegionSeen:
    template_ids = [f"lt-{account:06x}{number:011x}" for number in range(TEMPLATES)]
    seen = tuple(
        InstanceSeen(
            f"i-{account:07x}{number:010x}",
            "running",
            V1,
            IMAGE,
            "t3.micro",
            NOON,
            template_ids[number % TEMPLATES],
            "1",
            tags=(("Name", f"web-{number}"), ("env", "prod"), ("team", f"team-{account % 40}")),
        )
        for number in range(count)
    )
    return RegionSeen(
        target,
        AccountDefaults(),
        seen,
        tuple(TemplateVersionSeen(each, each, 1, True, True, MetadataOptions(), IMAGE) for each in template_ids),
        (ImageSeen(IMAGE, "al2023", False),),
        groups=(
            GroupSeen(
                "web",
                (LaunchSource(template_ids[0]),),
                tuple(each.instance_id for each in seen[:GROUP_SIZE]),
                GROUP_SIZE,
            ),
        ),
    )


def store(path: str, instances: int) -> None:
    """Write the scan as a sweep would: target by target."""
    from imdsctl.adapters.database import ScanDatabase

    accounts = -(-instances // (INSTANCES_PER_REGION * len(DEFAULT_REGIONS)))
    known = tuple(Account(f"{n:012}", f"account-{n}", ou_path="Root/Workloads/Prod") for n in range(1, accounts + 1))
    writer = ScanDatabase(path).begin(ScanHeader("bench", NOON, known))
    for region in regions(instances):
        writer.add(region)
    writer.finish(ScanEnd(NOON))


if __name__ == "__main__":
    store(sys.argv[1], int(sys.argv[2]))
