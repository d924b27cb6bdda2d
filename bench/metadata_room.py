"""What metadata services weigh: ten thousand of them in one process, and a million tokens that are over.

Run as a process of its own, so that nothing else is weighed with them; prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.measure import Cores, on_core, rss_mib_now
from bench.report import Line, NotMeasured, at_most
from bench.servers import REPOSITORY
from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts
from imdsctl.imds.messages import Access, Request
from imdsctl.imds.service import MetadataService

SERVICES = 10_000
SERVICE_KIB_MAX = 20
TOKENS = 1_000_000
TOKENS_GROWTH_MIB_MAX = 1
TTL_SECONDS = 60
SECONDS_MAX = 600.0
NOON = 1_790_000_000.0
ROLE = "web"

PATHS = (
    b"/",
    b"/latest/meta-data/",
    b"/latest/meta-data/hostname",
    b"/latest/meta-data/iam/security-credentials/",
    b"/latest/meta-data/iam/security-credentials/web",
    b"/latest/meta-data/instance-id",
    b"/latest/meta-data/mac",
    b"/latest/dynamic/instance-identity/document",
    b"/latest/user-data",
)


def service(name: str) -> MetadataService:
    """A service of an instance of its own."""
    source = FixedSource(DEFAULT_OPTIONS, example_facts(role=ROLE, name=name), example_credentials)
    return MetadataService(source, b"the key of this world")


def weigh_services() -> float:
    """KiB of each service, its instance's facts with it, after it was asked for what clients ask for."""
    one = service("first")
    for path in PATHS:
        one.respond(Request("GET", path), NOON)
    gc.collect()
    before = rss_mib_now(os.getpid())
    kept = [service(str(number)) for number in range(SERVICES)]
    for each in kept:
        token = _token(each, NOON)
        for path in PATHS:
            each.respond(Request("GET", path, [(b"x-aws-ec2-metadata-token", token)]), NOON)
    gc.collect()
    return (rss_mib_now(os.getpid()) - before) * 1024 / len(kept)


def weigh_tokens() -> float:
    """MiB by which the process grows while tokens are given, used and over. The first hundredth warms it up."""
    one = service("tokens")
    now = NOON
    before = 0.0
    for number in range(TOKENS + TOKENS // 100):
        if number == TOKENS // 100:
            gc.collect()
            before = rss_mib_now(os.getpid())
        now += 0.01
        token = _token(one, now)
        asked = Request("GET", b"/latest/meta-data/instance-id", [(b"x-aws-ec2-metadata-token", token)])
        assert one.respond(asked, now).access is Access.V2
        if number % 100 == 0:
            assert one.respond(asked, now + TTL_SECONDS + 1).access is Access.V2_REFUSED
    gc.collect()
    return rss_mib_now(os.getpid()) - before


def _token(of: MetadataService, now: float) -> bytes:
    asked = Request("PUT", b"/latest/api/token", [(b"x-aws-ec2-metadata-token-ttl-seconds", b"%d" % TTL_SECONDS)])
    return of.respond(asked, now).content.rpartition(b"\r\n\r\n")[2]


def weigh_room(cores: Cores) -> tuple[list[Line], dict[str, Any]]:
    """Both, in a process of their own. Raises NotMeasured."""
    with on_core(cores.server):
        done = subprocess.run(
            [sys.executable, "-m", "bench.metadata_room"],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(Path("src"))},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    if done.returncode:
        raise NotMeasured(done.stderr[-500:])
    raw: dict[str, Any] = json.loads(done.stdout)
    section = "metadata services in one process"
    return [
        at_most(section, f"a service of {SERVICES:,}", raw["service_kib"], SERVICE_KIB_MAX, "KiB", 1),
        at_most(section, f"growth by {TOKENS:,} tokens", raw["tokens_growth_mib"], TOKENS_GROWTH_MIB_MAX, "MiB"),
    ], raw


def main() -> None:
    """The process."""
    # Tokens first: what the services leave free would hide a growth.
    growth = weigh_tokens()
    print(json.dumps({"tokens_growth_mib": growth, "service_kib": weigh_services()}))


if __name__ == "__main__":
    main()
