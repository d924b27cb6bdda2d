# ruff: noqa: E501 (lines of the page)
"""Writes docs/scale.md: what an organization of any size costs, from the program's own limits and what was measured.

`make docs` calls it. The figures of MEASURED come from `python -m bench --only sweep` (and `plan`, `evidence`); when they
are measured anew they are written here by hand, with the day.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from imdsctl.domain.buckets import CALLS, EC2_READ, Limit
from imdsctl.domain.metric_asks import USD_PER_METRIC
from imdsctl.fleet import limits

PAGE = Path(__file__).with_name("scale.md")
ACCOUNTS_PER_PAGE = 20
"""Source: Organizations API Reference, ListAccounts, MaxResults."""
SERIES_PER_CALL = 500
"""Source: CloudWatch API Reference, GetMetricData."""
LATENCY_SECONDS = 0.12
ROUNDS = 3
"""What needs no other is asked at once: first the lists, then tags and versions in use, then the images in use."""


@dataclass(frozen=True)
class Organization:
    """So many accounts and Regions, and instances in all."""

    accounts: int
    regions: int
    instances: int

    @property
    def targets(self) -> int:
        """Accounts times Regions."""
        return self.accounts * self.regions


@dataclass(frozen=True)
class Measured:
    """One run of the sweep against the local AWS on the other core, EC2's surfaces."""

    accounts: int
    targets: int
    instances: int
    calls: int
    cpu_seconds: float
    peak_mib: float


DAY = "2026-11-27"
MEASURED = (
    Measured(10, 170, 3_244, 1_924, 1.21, 102.9),
    Measured(100, 1_700, 33_449, 18_543, 5.14, 114.6),
    Measured(1_000, 17_017, 335_472, 184_961, 43.14, 139.2),
)
SLOWEST_CPU_SECONDS = 68.9
"""What the largest run took on the slowest day of the same machine, where the peers were as much slower."""
DATABASE_BYTES_PER_TARGET = 23 * 1024 * 1024 / 17_000
"""SQLite, 20 instances a target: 340,000 instances in 17,000 targets took 23 MiB."""
PLAN_CPU_SECONDS_PER_MILLION = 10.2
PLAN_MIB_PER_MILLION = 588
WHOLE = Organization(50_000, 34, 10_000_000)
"""The most accounts that an organization can have, every Region of the partition `aws`."""
LARGEST_REGION = 10_000
"""Instances of the largest account and Region, for what only one bucket feeds."""


def calls_per_target(instances: int, templates: int = 6) -> int:
    """What one account's Region is asked, when it has the templates and images that the local AWS generates."""
    lists = 5  # Auto Scaling groups, launch configurations, EC2 Fleets, Spot Fleet requests, Spot requests
    return (
        1  # GetInstanceMetadataDefaults
        + max(1, ceil(instances / limits.INSTANCES_PER_PAGE))
        + max(1, ceil(2 * templates / limits.TEMPLATE_VERSIONS_PER_PAGE))
        + 1  # versions in use that are neither $Default nor $Latest
        + 1  # their tags
        + 1  # own images
        + 1  # images in use
        + lists
    )


def seconds_in(limit: Limit, calls: float) -> float:
    """How long a full bucket feeds so many calls."""
    return max(0.0, (calls - limit.capacity) / limit.refill_per_second)


def spoken(seconds: float) -> str:
    """A time for a reader."""
    if seconds < 1:
        return "no wait"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def per_target() -> tuple[float, float, float]:
    """CPU in ms, MiB of memory and calls for one more target: between the smallest and the largest run."""
    small, large = MEASURED[0], MEASURED[-1]
    more = large.targets - small.targets
    return (
        1000 * (large.cpu_seconds - small.cpu_seconds) / more,
        (large.peak_mib - small.peak_mib) / more,
        large.calls / large.targets,
    )


def page() -> str:
    """The whole page."""
    cpu_ms, mib, calls = per_target()
    small = MEASURED[0]
    per = WHOLE.instances / WHOLE.targets
    organizations = CALLS["organizations"]
    list_accounts = ceil(WHOLE.accounts / ACCOUNTS_PER_PAGE)
    cpu = WHOLE.targets * cpu_ms / 1000
    waiting = WHOLE.targets * ROUNDS * LATENCY_SECONDS / limits.TARGETS_CONCURRENT_MAX
    lines = [
        "# Scale, on paper",
        "",
        "What an organization of the largest size would take, computed from AWS's limits and from what the benchmark measured on",
        f"one core of a 2-core machine against the local AWS on the other ({DAY}). `docs/scale.py` computes it. Nobody has run it",
        "against an organization of that size.",
        "",
        f"**{WHOLE.accounts:,} accounts x {WHOLE.regions} Regions, {WHOLE.instances:,} instances**: {WHOLE.targets:,} targets of"
        f" {per:.1f} instances on average; the largest Region of an account has {LARGEST_REGION:,}.",
        "",
        "## What was measured",
        "",
        "| accounts | targets | instances | calls | CPU | CPU a target | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each.accounts:,} | {each.targets:,} | {each.instances:,} | {each.calls:,} | {each.cpu_seconds:.1f} s"
        f" | {1000 * each.cpu_seconds / each.targets:.2f} ms | {each.peak_mib:.0f} MiB |"
        for each in MEASURED
    ]
    expected = calls_per_target(20)
    lines += [
        "",
        f"One more target costs {cpu_ms:.2f} ms and {1024 * mib:.1f} KiB. It is asked {calls:.1f} calls; the formula below gives"
        f" {expected} where a Region has everything, and fewer where it is empty or its versions in use are current.",
        f"The machine's speed differs from day to day: the largest run has also taken {SLOWEST_CPU_SECONDS:.0f} CPU-s.",
        "",
        "## Reading: calls against each bucket",
        "",
        "Buckets of EC2 belong to one account, one Region and one API, and a target asks each API once or a few times: the sweep is",
        "as wide as the organization, and empties no bucket.",
        "",
        "| API | calls in all | calls of the largest target | bucket (size, a second) | wait |",
        "| --- | --- | --- | --- | --- |",
        f"| organizations ListAccounts | {list_accounts:,} | - | {_bucket(organizations['ListAccounts'])} |"
        f" {spoken(seconds_in(organizations['ListAccounts'], list_accounts))} |",
        f"| organizations ListAccountsForParent | {list_accounts:,} | - | {_bucket(organizations['ListAccountsForParent'])} |"
        f" {spoken(seconds_in(organizations['ListAccountsForParent'], list_accounts))} |",
        f"| sts AssumeRole | {WHOLE.accounts:,} | - | none published | |",
        f"| account ListRegions | {WHOLE.accounts:,} | 1 | {_bucket(CALLS['account']['ListRegions'])} an account | no wait |",
        f"| ec2 DescribeInstances | {WHOLE.targets:,} | {ceil(LARGEST_REGION / limits.INSTANCES_PER_PAGE)} |"
        f" {_bucket(EC2_READ)} | no wait |",
        f"| every other EC2 and Auto Scaling list | {WHOLE.targets:,} each | 1 to 2 | {_bucket(EC2_READ)} | no wait |",
        f"| all of it | {round(WHOLE.targets * calls):,} | | | |",
        "",
        "## Reading: time, memory, workers",
        "",
        f"- CPU: {WHOLE.targets:,} x {cpu_ms:.2f} ms = {spoken(cpu)} on one core.",
        f"- Waiting: {ROUNDS} rounds of calls of {1000 * LATENCY_SECONDS:.0f} ms, {limits.TARGETS_CONCURRENT_MAX} targets at once:"
        f" {spoken(waiting)}, at the same time as the CPU's.",
        f"- Memory of one process: {small.peak_mib:.0f} MiB and {1024 * mib:.1f} KiB a target:"
        f" {small.peak_mib + WHOLE.targets * mib:,.0f} MiB for all.",
        "- Finding the accounts, before that: the longer of the two waits above, for they are read at the same time.",
        "",
        "| workers (`--dask`) | accounts each | reading | memory each |",
        "| --- | --- | --- | --- |",
    ]
    for workers in (1, 4, 16, 64):
        share = WHOLE.targets / workers
        lines.append(
            f"| {workers} | {WHOLE.accounts // workers:,} | {spoken(max(cpu, waiting) / workers)}"
            f" | {small.peak_mib + share * mib:,.0f} MiB |"
        )
    metrics = WHOLE.instances
    rows = WHOLE.targets
    modify = CALLS["ec2"]["ModifyInstanceMetadataOptions"]
    defaults = CALLS["ec2"]["ModifyInstanceMetadataDefaults"]
    lines += [
        "",
        "A role's session lasts an hour; longer sweeps renew it in flight.",
        "",
        "## Database",
        "",
        f"One row a target: {rows:,} rows a scan, {rows * DATABASE_BYTES_PER_TARGET / 2**30:.1f} GiB at 20 instances a target (less here)."
        " `imdsctl scans prune` keeps it in bounds. At this size use PostgreSQL.",
        "",
        "## CloudWatch",
        "",
        f"At most one metric an instance: {metrics:,} metrics, USD {metrics * float(USD_PER_METRIC):,.0f}; only instances that allow IMDSv1 are"
        f" asked about. {SERIES_PER_CALL} series a call, at least one call for each Region that has such instances:"
        f" {ceil(metrics / SERIES_PER_CALL):,} to {WHOLE.targets:,} calls; the bucket is {_bucket(CALLS['cloudwatch']['GetMetricData'])}.",
        "",
        "## Planning and writing",
        "",
        f"- Planning: {PLAN_CPU_SECONDS_PER_MILLION} CPU-s and {PLAN_MIB_PER_MILLION} MiB for a million instances that all change"
        f" (measured), so {WHOLE.instances / 1e6 * PLAN_CPU_SECONDS_PER_MILLION / 60:.0f} min and"
        f" {WHOLE.instances / 1e6 * PLAN_MIB_PER_MILLION / 1024:.1f} GiB for all at once. Plan by unit (`--ou` at the scan) instead:"
        " a wave is reviewed by people in any case.",
        f"- Region defaults: 2 calls a target, bucket {_bucket(defaults)}: no wait; {2 * WHOLE.targets:,} calls.",
        f"- Instances: one call each, bucket {_bucket(modify)}. The largest Region takes"
        f" {spoken(seconds_in(modify, LARGEST_REGION))}; the others are done meanwhile.",
        "- Launch templates: two calls each, bucket "
        f"{_bucket(CALLS['ec2']['CreateLaunchTemplateVersion'])}: 200 of them in one Region take"
        f" {spoken(seconds_in(CALLS['ec2']['CreateLaunchTemplateVersion'], 200))}.",
        "",
        "## What would give way first",
        "",
        "Organizations' lists are the only ones that all accounts share: their quotas, not ours, are the floor of a sweep. After that the",
        "one CPU of a worker; then, in a plan that is made for everything at once, memory.",
    ]
    return "\n".join(lines) + "\n"


def _bucket(limit: Limit) -> str:
    return f"{limit.capacity:g}, {limit.refill_per_second:g}/s"


if __name__ == "__main__":
    PAGE.write_text(page())
