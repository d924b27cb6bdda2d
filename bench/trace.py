"""`imdsctl trace` under load: does it see every call, and what does it cost?

A host with a metadata service and a container are made of network namespaces (tests/contract/imds_bed.py). A client in
the container makes 5,000 calls a second, each with a connection of its own, as every client of EC2's service does; each
packet crosses two of the host's interfaces and is captured twice. Needs root.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from bench.measure import Cores, cpu_seconds_of, on_core, rss_mib_of
from bench.report import Line, NotMeasured, at_most
from bench.servers import REPOSITORY

CALLS_PER_SECOND = 5_000
SECONDS = 6
CPU_SHARE_MAX = 0.6
BED = REPOSITORY / "tests" / "contract" / "imds_bed.py"
SECONDS_MAX = 60.0


def weigh_trace(cores: Cores) -> tuple[list[Line], Any]:
    """Calls seen of calls made, packets lost, and the share of a core, with connect hooks."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotMeasured("capturing packets and making network namespaces needs root on Linux")
    with _bed(cores) as places:
        result = _trace(places["host"], places["container"], cores)
    return _lines(result), result


@contextmanager
def _bed(cores: Cores) -> Iterator[dict[str, str]]:
    """The paths of the namespaces."""
    with TemporaryDirectory() as home, on_core(cores.clients):
        bed = subprocess.Popen(
            [sys.executable, str(BED), "serve", os.devnull, "64"],
            env={**os.environ, "HOME": home, "XDG_DATA_HOME": home, "XDG_STATE_HOME": home, "XDG_CONFIG_HOME": home},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        yield from _ready(bed)


def _ready(bed: subprocess.Popen[str]) -> Iterator[dict[str, str]]:
    try:
        assert bed.stdout is not None
        line = bed.stdout.readline()
        if not line:
            raise NotMeasured("network namespaces cannot be made here")
        made = json.loads(line)
        yield {name: f"/proc/{made['pid']}/fd/{fd}" for name, fd in made["spaces"].items()}
    finally:
        assert bed.stdin is not None
        bed.stdin.close()
        bed.wait(SECONDS_MAX)


def _trace(host: str, container: str, cores: Cores) -> dict[str, Any]:
    bed = [sys.executable, str(BED)]
    asked = CALLS_PER_SECOND * 102 // 100  # the first and the last call take their time
    with on_core(cores.server):
        trace = subprocess.Popen(
            [*bed, "enter", host, sys.executable, "-m", "imdsctl", "trace", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        assert trace.stderr is not None
        said = []
        for line in trace.stderr:
            said.append(line)
            if line.startswith("observing"):
                break
        else:
            raise NotMeasured("".join(said).strip())
        before = cpu_seconds_of(trace.pid)
        with on_core(cores.clients):
            load = json.loads(
                subprocess.check_output(
                    [*bed, "enter", container, *bed, "load", str(asked), str(asked * SECONDS)],
                    text=True,
                    timeout=SECONDS_MAX,
                )
            )
        cpu, memory = cpu_seconds_of(trace.pid) - before, rss_mib_of(trace.pid)
        trace.send_signal(signal.SIGINT)
        output, _ = trace.communicate(timeout=SECONDS_MAX)
    finally:
        trace.kill()
        trace.wait()
    seen = json.loads(output.splitlines()[-1])
    return {
        "calls": load["calls"] - load["failed"] + 1,  # and the token
        "calls_per_second": (load["calls"] - load["failed"]) / load["seconds"],
        "seconds": load["seconds"],
        "seen": sum(sum(each.values()) for each in seen["total"]["calls"].values()),
        "attributed": sum(sum(kind.values()) for each in seen["programs"] for kind in each["calls"].values()),
        "attribution": seen["attribution"],
        "packets": seen["packets"],
        "packets_lost": seen["packets_lost"],
        "cpu_share": cpu / load["seconds"],
        "cpu_us_per_call": cpu / load["calls"] * 1e6,
        "rss_mib": memory,
    }


def _lines(result: dict[str, Any]) -> list[Line]:
    section = f"trace, {result['calls']:,} calls with a connection each, from a container"
    rate = result["calls_per_second"]
    if rate < 0.95 * CALLS_PER_SECOND:
        raise NotMeasured(f"the client could make only {rate:,.0f} calls a second on its core")
    lines = [
        Line(section, "calls a second", f"{rate:,.0f}", "-"),
        at_most(section, "calls not seen, or seen twice", abs(result["calls"] - result["seen"]), 0, "calls", 0),
        at_most(section, "packets lost", result["packets_lost"], 0, "packets", 0),
    ]
    if result["attribution"] == "connect-hooks":
        missed = result["calls"] - result["attributed"]
        lines.append(at_most(section, "calls not attributed, with connect hooks", missed, 0, "calls", 0))
    return [
        *lines,
        at_most(section, "of one core", 100 * result["cpu_share"], 100 * CPU_SHARE_MAX, "%", 0),
        Line(section, "CPU a call", f"{result['cpu_us_per_call']:.0f} us", "-"),
        Line(section, "memory", f"{result['rss_mib']:.0f} MiB", "-"),
    ]
