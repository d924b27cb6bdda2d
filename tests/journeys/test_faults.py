"""AWS and the network at their worst, the local AWS being the adversary: what `imdsctl` says is right or an honest
unknown, nothing is half done, and the same command goes on.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imdsctl import bootstrap
from imdsctl.adapters.breaker import FAILURES_MAX
from imdsctl.domain.observations import RegionSeen, Scan
from imdsctl.local.faults import Asked
from imdsctl.local.world import WorldSpec
from tests.faulty_aws import REGIONS, Done, FaultyAws

SCAN = ("scan", "--regions", ",".join(REGIONS))
SPEC = WorldSpec(seed=11, created=datetime(2026, 1, 5, tzinfo=UTC), accounts=4, instances=3, regions=REGIONS)
READS = "[DGL]*"
"""Describe, Get, List."""
WRITES = "[MC]*"
"""Modify, Create."""


@contextmanager
def organization(folder: Path) -> Iterator[FaultyAws]:
    """An organization of four accounts, and the environment of a user who manages it."""
    aws = FaultyAws(SPEC)
    key = aws.world.admin_credentials(aws.management)
    with pytest.MonkeyPatch.context() as user, aws.listening() as url:
        for name in os.environ:
            if name.startswith("AWS_") or name.lower().endswith("_proxy"):
                user.delenv(name)
        settings = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
            "AWS_REGION": "us-east-1",
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "NO_COLOR": "1",
        }
        for name, value in settings.items():
            user.setenv(name, value)
        yield aws


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[FaultyAws]:
    """An organization of this test's own."""
    with organization(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[RegionSeen], list[RegionSeen]]:
    """What a scan sees before and after a plan is applied when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with organization(folder) as aws:
        before = regions(scanned(aws))
        assert Plan(aws, folder).apply().code == 0
        return before, regions(scanned(aws))


@pytest.fixture
def before(undisturbed: tuple[list[RegionSeen], list[RegionSeen]]) -> list[RegionSeen]:
    """What there is to see at first."""
    return undisturbed[0]


@pytest.fixture
def after(undisturbed: tuple[list[RegionSeen], list[RegionSeen]]) -> list[RegionSeen]:
    """What there is to see when the plan was applied, every change once."""
    return undisturbed[1]


def scanned(aws: FaultyAws, *options: str) -> Scan:
    """A scan that ended well, as it is kept."""
    done = aws.imdsctl(*SCAN, *options)
    assert done.code == 0, done.err
    return kept()


def kept() -> Scan:
    """The latest scan."""
    found = bootstrap.dependencies().scans(None).latest()
    assert found is not None
    return found


def regions(scan: Scan) -> list[RegionSeen]:
    """What a scan saw. Which account is the first to look a public image up decides where the image stands."""
    return [replace(each, images=tuple(sorted(each.images, key=lambda image: image.image_id))) for each in scan.regions]


class Plan:
    """A plan of what a fresh scan finds, and the command that carries it out."""

    def __init__(self, aws: FaultyAws, folder: Path) -> None:
        self.aws = aws
        self.file = folder / "plan.json"
        self.journal = folder / "plan.json.journal"
        scanned(aws)
        made = aws.imdsctl("plan", "-o", str(self.file))
        assert made.code == 0, made.err
        self.content = json.loads(self.file.read_text())
        self.argv = ("apply", str(self.file), "--confirm", str(self.content["count"]))

    def apply(self) -> Done:
        return self.aws.imdsctl(*self.argv)

    def goes_on(self, after: list[RegionSeen]) -> None:
        """Everything works again: the same command ends well, and every change was made, once."""
        self.aws.misbehave()
        done = self.apply()
        assert done.code == 0, done.err
        assert regions(scanned(self.aws)) == after


def codes(done: Done) -> list[str]:
    """The diagnostics that a command ended with."""
    assert "Traceback" not in done.err
    return re.findall(r"^(?:error|warning)\[([a-z-]+)\]", done.err, re.MULTILINE)


def rule(fault: str, **settings: Any) -> dict[str, Any]:
    return {"fault": fault, **settings}


# -- what passes by ----------------------------------------------------------------------------------------------------

PASSING = [
    pytest.param([rule("throttle", each=True, first=3)], id="a throttling storm"),
    pytest.param([rule("500", each=True, first=2)], id="500"),
    pytest.param([rule("503", each=True, first=2)], id="503"),
    pytest.param([rule("timeout", operation="DescribeInstances", each=True, first=1)], id="timeouts"),
    pytest.param([rule("reset", each=True, first=2)], id="resets"),
    pytest.param([rule("truncate", each=True, first=2)], id="truncated bodies"),
    pytest.param([rule("slow", seconds=0.2, operation="DescribeI*", each=True, first=1)], id="slow answers"),
    pytest.param(
        [rule(fault, probability=0.06) for fault in ("throttle", "500", "503", "reset", "truncate")],
        id="everything at once",
    ),
]


@pytest.mark.parametrize("rules", PASSING)
def test_a_scan_sees_everything_through_what_passes(
    aws: FaultyAws, before: list[RegionSeen], rules: list[dict[str, Any]]
) -> None:
    aws.misbehave(*rules)
    scan = scanned(aws, "--fail-on", "unknown")
    assert regions(scan) == before
    assert not scan.unseen
    assert aws.hits >= 8, "it was disturbed, in every account and Region"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", ["500", "503", "timeout", "reset"])
def test_an_apply_makes_every_change_once_although_its_answers_are_lost(
    aws: FaultyAws, after: list[RegionSeen], tmp_path: Path, fault: str, when: str
) -> None:
    plan = Plan(aws, tmp_path)
    aws.misbehave(rule(fault, operation=WRITES, when=when, each=True, first=1))
    done = plan.apply()
    assert (done.code, codes(done)) == (0, []), done.err
    assert aws.hits >= 24, "in every account and Region, for every API that writes"
    assert regions(scanned(aws)) == after


def test_an_apply_through_a_throttling_storm_makes_every_change_once(
    aws: FaultyAws, after: list[RegionSeen], tmp_path: Path
) -> None:
    plan = Plan(aws, tmp_path)
    aws.misbehave(rule("throttle", probability=0.25))
    assert plan.apply().code == 0
    aws.misbehave()
    assert regions(scanned(aws)) == after


# -- what does not pass ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("throttle", "RequestLimitExceeded"),
        ("500", "InternalError"),
        ("503", "Unavailable"),
        ("timeout", "Unreachable"),
        ("reset", "Unreachable"),
        ("truncate", "Unreachable"),
        ("access-denied", "UnauthorizedOperation"),
    ],
)
def test_what_stays_unseen_is_unknown_with_the_reason_and_all_else_is_seen(
    aws: FaultyAws, before: list[RegionSeen], fault: str, code: str
) -> None:
    member = aws.members[0]
    aws.misbehave(rule(fault, operation="DescribeInstances", account=member, region="eu-west-1"))
    done = aws.imdsctl(*SCAN, "--fail-on", "unknown")
    assert (done.code, codes(done)) == (1, [])
    seen = {each.target: each for each in regions(kept())}
    for whole in before:
        got = seen[whole.target]
        if str(whole.target) == f"{member}/eu-west-1":
            assert [(each.what, each.code) for each in got.unseen] == [("instances", code)]
            assert got.instances == ()
            assert (got.defaults, got.images) == (whole.defaults, whole.images), "the other parts of it are seen"
        else:
            assert got == whole


def test_an_account_that_refuses_is_unknown_and_the_others_are_scanned(
    aws: FaultyAws, before: list[RegionSeen]
) -> None:
    other = aws.members[1]
    aws.before_call = deny_role(aws, other)
    scan = scanned(aws)
    assert regions(scan) == [each for each in before if each.target.account_id != other]
    assert [(each.account_id, each.unseen.code) for each in scan.unseen] == [(other, "AccessDenied")]
    assert aws.imdsctl(*SCAN, "--fail-on", "unknown").code == 1
    assert aws.imdsctl("plan", "--detailed-exitcode").code == 3


def deny_role(aws: FaultyAws, account_id: str) -> Callable[[Asked], None]:
    """The account's administrator deletes the role as soon as anybody asks anything."""

    def delete(_: Asked) -> None:
        aws.world.accounts[account_id].refuses_role = True

    return delete
