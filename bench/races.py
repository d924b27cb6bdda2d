"""What do the local AWS and its peers make of the same requests? All are up at the same time and asked in turn."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.measure import Cores, on_core, rss_mib_of, run
from bench.report import Line, NotMeasured
from bench.servers import REPOSITORY, Server, local_aws, ministack, moto

PAGE = 1000
REGIONS_MIN = 31
"""The shortest list of all Regions among the servers; the local AWS and moto say 34."""
ROUNDS = 3
RATE, CPU = "per_second", "server_cpu_ms"


@dataclass(frozen=True, slots=True)
class Race:
    """One operation asked of every server. A response counts with `occurrences` (at least) of `marker` in it.

    `targets` says, by peer, how many times better ours has to be, and `figure` in what: RATE or CPU.
    """

    name: str
    what: str
    params: Mapping[str, str]
    occurrences: int
    figure: str
    targets: Mapping[str, float]
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
            # The peers list every Region, asked or not; AWS, and so the local AWS, only the enabled ones.
            {**version, "Action": "DescribeRegions", "AllRegions": "true"},
            occurrences=REGIONS_MIN,
            figure=RATE,
            targets={"moto_server": 50, "ministack": 3},
            marker="<regionName>",
            at_least=True,
        ),
        Race(
            "DescribeInstances",
            f"DescribeInstances, a page of {PAGE:,}",
            {**version, "Action": "DescribeInstances", "MaxResults": str(PAGE)},
            occurrences=PAGE,
            figure=CPU,
            targets={"moto_server": 300, "ministack": 3},
            connections=(1, 4),
        ),
        Race(
            "RunInstances",
            f"RunInstances, with {PAGE:,} instances there",
            {**version, "Action": "RunInstances", **launch},
            occurrences=1,
            figure=CPU,
            targets={"moto_server": 50, "ministack": 1.5},
            requests_max=PAGE,
        ),
    ]


def race_servers(python: Path | None, cores: Cores, seconds: float) -> tuple[list[Line], dict[str, Any], list[str]]:
    """Ask all servers the same. Returns the lines, the raw figures and what was left out, with its reason.

    `python` is an interpreter that has the peers. All are up all the time and asked in turn, so that a busy moment of
    this machine meets all; each keeps its best run. Raises NotMeasured, ServerFailed.
    """
    with tempfile.TemporaryDirectory(prefix="imdsctl-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        servers = {"imdsctl": stack.enter_context(local_aws(directory, cores.server, accounts=2, instances=0))}
        left_out = []
        if python is None or not python.exists():
            left_out.append("moto_server and ministack: no interpreter that has them (--peers-python)")
        else:
            servers["moto_server"] = stack.enter_context(moto(python, directory, cores.server))
            servers["ministack"] = stack.enter_context(ministack(python, directory, cores.server))
        measured = measure_servers(servers, cores, seconds)
    ours = measured["imdsctl"]
    lines = [line for name, peer in measured.items() if peer is not ours for line in server_lines(ours, peer, name)]
    return lines or server_lines(ours, None, "nobody"), measured, left_out


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


def server_lines(ours: Mapping[str, Any], peer: Mapping[str, Any] | None, name: str) -> list[Line]:
    """The table's lines for our server beside one peer, or alone."""
    section = f"local AWS against {name} (each on one core)"
    lines = []
    for race in races(""):
        mine = ours["rates"][race.name]
        other = peer["rates"][race.name] if peer else None
        target = race.targets.get(name)
        for figure, what in ((RATE, race.what), (CPU, "  server CPU a request")):
            text = "{:,.2f}/s" if figure == RATE else "{:,.3f} ms"
            ratio = None
            if other and mine[figure]:
                ratio = mine[figure] / other[figure] if figure == RATE else other[figure] / mine[figure]
            aimed = target is not None and figure == race.figure
            lines.append(
                Line(
                    section,
                    what,
                    text.format(mine[figure]),
                    text.format(other[figure]) if other else "-",
                    ratio,
                    f">= {target:g}x" if aimed else "",
                    ratio >= target if aimed and target is not None and ratio is not None else None,
                )
            )
        of_peer = f"{other['response_bytes']:,}" if other else "-"
        lines.append(Line(section, "  bytes of a response", f"{mine['response_bytes']:,}", of_peer))
    for what, key, unit, digits in (("start-up", "start_seconds", "s", 2), ("peak memory", "peak_rss_mib", "MiB", 0)):
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
