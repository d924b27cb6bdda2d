"""`make bench`: what a scan and the local AWS cost, beside boto3 and moto, measured in the same minutes.

Prints one table; every figure that has a target says PASS or MISS. The raw figures go to bench/results/ as JSON.
Exits with 0 when everything was measured, with 1 when something could not be; with --check also when a target is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Cores, Cost, cpu_seconds_of, on_core, pick_cores, rss_mib_of, run
from bench.servers import REPOSITORY, Server, ServerFailed, imdsctl, local_aws, moto

RESULTS = REPOSITORY / "bench" / "results"
REGIONS = 17
REGIONS_ALL = 34
INSTANCES = 20
PAGE = 1000
SCAN_SECONDS_MAX = 600.0
ROUNDS = 3


class NotMeasured(Exception):
    """A measurement that could not be made, with the reason."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. `ratio` is how many times better we are; None where no peer stands beside."""

    section: str
    what: str
    ours: str
    peer: str
    ratio: float | None = None
    target: str = ""
    passed: bool | None = None


# -- scan against boto3 ----------------------------------------------------------------------------------------------


def weigh_scans(accounts: int, cores: Cores) -> tuple[list[Line], dict[str, Any]]:
    """`imdsctl scan` and bench/boto3_scan.py over the same organization. Raises NotMeasured, ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name:
        directory = Path(name)
        with local_aws(directory, cores.server, accounts=accounts, instances=INSTANCES) as server:
            env = dict(server.env)
            # The fleet is generated when it is touched for the first time; that is neither client's cost.
            _weigh(boto3_command(), env, cores, "boto3 script (to touch the fleet)")
            ours_at, ours = cpu_seconds_of(server.pid), _weigh(scan_command(directory), env, cores, "imdsctl scan")
            peer_at, peer = cpu_seconds_of(server.pid), _weigh(boto3_command(), env, cores, "boto3 script")
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
    cpu_line = _less(section, "CPU", ours.cpu_seconds, peer.cpu_seconds, "s", cpu_target)
    if cpu_bound is not None:
        cpu_line = Line(
            section, "CPU", cpu_line.ours, cpu_line.peer, cpu_line.ratio, "<= 1.2 s", ours.cpu_seconds <= cpu_bound
        )
    lines = [
        cpu_line,
        _less(section, "wall", ours.wall_seconds, peer.wall_seconds, "s", None),
        _less(section, "peak memory", ours.peak_rss_mib, peer.peak_rss_mib, "MiB", memory_target),
        Line(section, "calls", str(ours_counts["calls"]), str(peer_counts["calls"])),
        Line(section, "instances seen", str(ours_counts["instances"]), str(peer_counts["instances"])),
    ]
    raw = {
        "accounts": accounts,
        "imdsctl": _raw(ours) | {"counts": ours_counts, "server_cpu_seconds": peer_at - ours_at},
        "boto3": _raw(peer) | {"counts": peer_counts, "server_cpu_seconds": done_at - peer_at},
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


def _weigh(command: Sequence[str], env: Mapping[str, str], cores: Cores, what: str) -> Cost:
    cost = run(command, env=env, core=cores.clients, seconds_max=SCAN_SECONDS_MAX, cwd=REPOSITORY)
    if cost.exit_code or cost.timed_out:
        raise NotMeasured(f"{what}: {cost.complaint}")
    return cost


def _less(section: str, what: str, ours: float, peer: float, unit: str, times: float | None) -> Line:
    ratio = peer / ours if ours else float("inf")
    digits = 0 if unit == "MiB" else 2
    return Line(
        section,
        what,
        f"{ours:,.{digits}f} {unit}",
        f"{peer:,.{digits}f} {unit}",
        ratio,
        f">= {times:g}x less" if times else "",
        ratio >= times if times else None,
    )


def _raw(cost: Cost) -> dict[str, Any]:
    kept = asdict(cost)
    for bulky in ("stdout", "stderr"):
        del kept[bulky]
    return kept


# -- the local AWS against moto --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Race:
    """One operation asked of both servers. A response counts with `occurrences` (at least) of `marker` in it."""

    name: str
    what: str
    params: Mapping[str, str]
    occurrences: int
    target: float
    marker: str = "<instanceId>"
    at_least: bool = False
    connections: tuple[int, ...] = (8, 16)
    requests_max: int = 1_000_000


def races(image_id: str) -> list[Race]:
    """What both servers are asked, in this order: launches last, because they make the fleet grow."""
    version = {"Version": "2016-11-15"}
    launch = {"ImageId": image_id, "InstanceType": "t3.micro", "MinCount": "1", "MaxCount": "1"}
    return [
        Race(
            "DescribeRegions",
            "DescribeRegions, all Regions",
            # moto lists every Region, asked or not; AWS, and so the local AWS, only the enabled ones.
            {**version, "Action": "DescribeRegions", "AllRegions": "true"},
            occurrences=REGIONS_ALL,
            target=20,
            marker="<regionName>",
            at_least=True,
        ),
        Race(
            "DescribeInstances",
            f"DescribeInstances, a page of {PAGE:,}",
            {**version, "Action": "DescribeInstances", "MaxResults": str(PAGE)},
            occurrences=PAGE,
            target=100,
            connections=(1, 4),
        ),
        Race(
            "RunInstances",
            f"RunInstances, with {PAGE:,} instances there",
            {**version, "Action": "RunInstances", **launch},
            occurrences=1,
            target=20,
            requests_max=PAGE,
        ),
    ]


def race_servers(
    moto_python: Path | None, cores: Cores, seconds: float
) -> tuple[list[Line], dict[str, Any], list[str]]:
    """Ask both servers the same. Returns the lines, the raw figures and what was left out, with its reason.

    Both are up all the time and asked in turn, so that a busy moment of this machine meets both; each keeps its best
    run. Raises NotMeasured, ServerFailed.
    """
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        servers = {"imdsctl": stack.enter_context(local_aws(directory, cores.server, accounts=2, instances=0))}
        left_out = []
        if moto_python is None or not moto_python.exists():
            left_out.append("moto_server: no interpreter that has it (--moto-python)")
        else:
            servers["moto"] = stack.enter_context(moto(moto_python, directory, cores.server))
        measured = measure_servers(servers, cores, seconds)
    return server_lines(measured["imdsctl"], measured.get("moto")), measured, left_out


def measure_servers(servers: Mapping[str, Server], cores: Cores, seconds: float) -> dict[str, dict[str, Any]]:
    """The best rate of every operation, and what each process weighs. Raises NotMeasured."""
    planned = {name: races(an_image(server, cores)) for name, server in servers.items()}
    tried: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in servers}
    for name, server in servers.items():
        launch = planned[name][-1]
        hundred = replace(launch, params={**launch.params, "MinCount": "100", "MaxCount": "100"}, occurrences=100)
        for _ in range(PAGE // 100):
            load(server, cores, replace(hundred, requests_max=1), connections=1, seconds=1, warm_up=0)
    for position in range(len(races(""))):
        for _ in range(ROUNDS):
            for name, server in servers.items():
                race = planned[name][position]
                runs = [load(server, cores, race, connections=each, seconds=seconds) for each in race.connections]
                tried[name].setdefault(race.name, []).extend(runs)
    return {
        name: {
            "start_seconds": server.start_seconds,
            "peak_rss_mib": rss_mib_of(server.pid),
            "rates": {
                race: {**max(runs, key=lambda run: float(run["per_second"])), "tried": runs}
                for race, runs in tried[name].items()
            },
        }
        for name, server in servers.items()
    }


def an_image(server: Server, cores: Cores) -> str:
    """An image that the server has published."""
    region = server.env["AWS_REGION"]
    code = (
        f"import boto3; images = boto3.client('ec2', region_name={region!r}).describe_images(Owners=['amazon'])"
        "['Images']; print(min(i['ImageId'] for i in images if i.get('Architecture') == 'x86_64'))"
    )
    cost = run([sys.executable, "-c", code], env=server.env, core=cores.clients, seconds_max=60, cwd=REPOSITORY)
    if cost.exit_code:
        raise NotMeasured(f"DescribeImages of {server.name}: {cost.complaint}")
    return cost.stdout.strip()


def load(
    server: Server, cores: Cores, race: Race, *, connections: int, seconds: float, warm_up: int = 1
) -> dict[str, Any]:
    """One run of bench/load.py, on the clients' core. Raises NotMeasured."""
    job = {
        "target": {
            "host": "127.0.0.1",
            "port": server.port,
            "access_key": server.env["AWS_ACCESS_KEY_ID"],
            "secret_key": server.env["AWS_SECRET_ACCESS_KEY"],
            "token": server.env.get("AWS_SESSION_TOKEN"),
            "region": server.env["AWS_REGION"],
        },
        "question": {
            "params": race.params,
            "marker": race.marker,
            "occurrences": race.occurrences,
            "at_least": race.at_least,
        },
        "volume": {
            "connections": connections,
            "seconds": seconds,
            "requests_max": race.requests_max,
            "warm_up": warm_up,
        },
        "server_pid": server.pid,
    }
    with on_core(cores.clients):
        done = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=json.dumps(job),
            cwd=REPOSITORY,
            env=dict(server.env),
            capture_output=True,
            text=True,
            timeout=2 * seconds + 120,
            check=False,
        )
    try:
        rate: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise NotMeasured(f"{race.name} of {server.name}: {done.stderr[-500:]}") from None
    if "error" in rate:
        raise NotMeasured(f"{race.name} of {server.name}: {rate['error']}")
    return rate | {"per_second": rate["requests"] / rate["seconds"]}


def server_lines(ours: Mapping[str, Any], peer: Mapping[str, Any] | None) -> list[Line]:
    """The table's lines for two measured servers, or for one."""
    section = "local AWS against moto_server (each on one core)"
    lines = []
    for race in races(""):
        mine = ours["rates"][race.name]
        other = peer["rates"][race.name] if peer else None
        ratio = mine["per_second"] / other["per_second"] if other else None
        lines.append(
            Line(
                section,
                race.what,
                f"{mine['per_second']:,.0f}/s",
                f"{other['per_second']:,.2f}/s" if other else "-",
                ratio,
                f">= {race.target:g}x",
                ratio >= race.target if ratio is not None else None,
            )
        )
        lines.append(
            Line(
                section,
                "  server CPU a request",
                f"{mine['server_cpu_ms']:,.3f} ms",
                f"{other['server_cpu_ms']:,.2f} ms" if other else "-",
                other["server_cpu_ms"] / mine["server_cpu_ms"] if other and mine["server_cpu_ms"] else None,
            )
        )
        lines.append(
            Line(
                section,
                "  bytes of a response",
                f"{mine['response_bytes']:,}",
                f"{other['response_bytes']:,}" if other else "-",
            )
        )
    for what, key, unit in (("start-up", "start_seconds", "s"), ("peak memory", "peak_rss_mib", "MiB")):
        digits = 2 if unit == "s" else 0
        lines.append(
            Line(
                section,
                what,
                f"{ours[key]:.{digits}f} {unit}",
                f"{peer[key]:.{digits}f} {unit}" if peer else "-",
                peer[key] / ours[key] if peer else None,
            )
        )
    return lines


# -- the report ------------------------------------------------------------------------------------------------------


def table(lines: Sequence[Line]) -> str:
    """The lines as text, grouped by section."""
    rows: list[tuple[str, ...]] = []
    section = None
    for line in lines:
        if line.section != section:
            section = line.section
            rows += [("",), (section,)]
        ratio = "" if line.ratio is None else f"{line.ratio:,.1f}x"
        verdict = {True: "PASS", False: "MISS", None: "" if not line.target else "not measured"}[line.passed]
        rows.append((f"  {line.what}", line.ours, line.peer, ratio, line.target, verdict))
    header = ("", "imdsctl", "peer", "ratio", "target", "")
    full = [header, *(row for row in rows if len(row) > 1)]
    widths = [max(len(row[column]) for row in full) for column in range(len(header))]
    text = []
    for row in [header, *rows]:
        if len(row) == 1:
            text.append(row[0])
        else:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True)]
            cells += [row[4].ljust(widths[4]), row[5]]
            text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def machine(cores: Cores) -> dict[str, Any]:
    """Where this was measured."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "server_core": cores.server,
        "clients_core": cores.clients,
    }


def save(results: Mapping[str, Any]) -> Path:
    """Write the raw figures; returns where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{results['measured'].replace(':', '').replace('-', '')}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; see the module's first lines for the exit code."""
    arguments = parse(argv)
    cores = pick_cores()
    lines: list[Line] = []
    left_out: list[str] = []
    failed: list[str] = []
    results: dict[str, Any] = {"measured": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "machine": machine(cores)}
    if not cores.apart:
        left_out.append("cores of their own for server and clients: this process may use one core only")
    if arguments.only in (None, "scan"):
        results["scan"] = []
        for accounts in arguments.accounts:
            _say(f"scanning {accounts} accounts with imdsctl and with boto3 ...")
            try:
                scanned, raw = weigh_scans(accounts, cores)
            except (NotMeasured, ServerFailed, subprocess.SubprocessError) as error:
                failed.append(f"scan of {accounts} accounts: {error}")
            else:
                lines += scanned
                results["scan"].append(raw)
    if arguments.only in (None, "local"):
        _say("asking the local AWS and moto_server ...")
        try:
            raced, raw, skipped = race_servers(arguments.moto_python, cores, arguments.seconds)
        except (NotMeasured, ServerFailed, subprocess.SubprocessError) as error:
            failed.append(f"local AWS: {error}")
        else:
            lines += raced
            left_out += skipped
            results["local"] = raw
    results["lines"] = [asdict(line) for line in lines]
    print(table(lines))
    print()
    for reason in left_out:
        print(f"left out: {reason}")
    for reason in failed:
        print(f"NOT MEASURED: {reason}")
    missed = [line for line in lines if line.passed is False]
    print(f"{sum(line.passed is True for line in lines)} targets met, {len(missed)} missed")
    print(f"raw figures: {save(results).relative_to(REPOSITORY)}")
    return 1 if failed or (arguments.check and missed) else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("scan", "local"), help="one half of the comparison")
    parser.add_argument("--accounts", type=int, nargs="+", default=[5, 50], help="sizes of the scanned organization")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long one run of an operation lasts")
    parser.add_argument(
        "--moto-python", type=Path, default=_default_moto(), help="an interpreter that has moto[server]"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    return parser.parse_args(argv)


def _default_moto() -> Path | None:
    named = os.environ.get("IMDSCTL_BENCH_MOTO_PYTHON")
    beside = REPOSITORY / ".venv-bench" / "bin" / "python"
    return Path(named) if named else beside if beside.exists() else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
