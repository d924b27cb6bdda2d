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
from urllib.parse import unquote

import pytest
from tests.faulty_aws import REGIONS, Done, FaultyAws

from imdsctl import bootstrap
from imdsctl.domain.observations import RegionSeen, Scan
from imdsctl.local.faults import Asked
from imdsctl.local.spec import WorldSpec

SCAN = ("scan", "--regions", ",".join(REGIONS))
SPEC = WorldSpec(
    seed=11, created=datetime(2026, 1, 5, tzinfo=UTC), accounts=4, instances=3, regions=REGIONS, v1_percent=0
)
"""Nobody in it uses IMDSv1: no gate stands in the way."""
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
        folder.mkdir(exist_ok=True)
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
    scan = scanned(aws)
    assert regions(scan) == before
    assert not scan.unseen
    assert aws.hits >= 8, "it was disturbed, in every account and Region"


@pytest.mark.parametrize(
    ("fault", "when"),
    [
        *((fault, when) for fault in ("500", "503", "timeout", "reset") for when in ("before", "after")),
        ("truncate", "after"),
    ],
)
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
            assert got.defaults == whole.defaults, "the other parts of it are seen"
            assert got.images
            assert set(got.images) <= set(whole.images)
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


def test_an_account_that_refuses_by_then_is_left_as_it_was_and_the_same_command_goes_on(
    aws: FaultyAws, before: list[RegionSeen], after: list[RegionSeen], tmp_path: Path
) -> None:
    """Its administrator trusts us no more: the role is there, and lets nobody in."""
    plan = Plan(aws, tmp_path)
    other = aws.members[1]
    trusted = close_the_door(aws, other)
    aws.misbehave()
    done = plan.apply()
    assert (done.code, codes(done)) == (1, ["apply-failed", "apply-held-back"])
    assert f"  {other}/" in done.err
    assert "AccessDenied" in done.err
    assert not [each for each in aws.asked if each.account == other], "nobody came in"
    left = [each for each in before if each.target.account_id == other]
    set_trust(aws, other, trusted)
    assert [each for each in regions(scanned(aws)) if each.target.account_id == other] == left
    plan.goes_on(after)


ROLE = "OrganizationAccountAccessRole"


def close_the_door(aws: FaultyAws, account_id: str) -> str:
    """From now on nobody may assume the account's role. Gives the trust policy that let them."""
    role = aws.as_administrator(account_id, "iam", "us-east-1", "GetRole", {"RoleName": ROLE})["Role"]
    statement = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    set_trust(aws, account_id, json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return unquote(role["AssumeRolePolicyDocument"])


def set_trust(aws: FaultyAws, account_id: str, document: str) -> None:
    params = {"RoleName": ROLE, "PolicyDocument": document}
    aws.as_administrator(account_id, "iam", "us-east-1", "UpdateAssumeRolePolicy", params)


@pytest.mark.parametrize(("fault", "when"), [("500", "after"), ("timeout", "after"), ("reset", "before")])
def test_a_write_whose_end_is_never_seen_is_read_back_and_the_same_command_goes_on(
    aws: FaultyAws, after: list[RegionSeen], tmp_path: Path, fault: str, when: str
) -> None:
    plan = Plan(aws, tmp_path)
    aws.misbehave(
        rule(fault, operation="ModifyInstanceMetadataDefaults", account=aws.members[0], region="us-east-1", when=when),
        rule("500", operation="GetInstanceMetadataDefaults", account=aws.members[0], region="us-east-1", after=1),
    )
    done = plan.apply()
    assert (done.code, codes(done)) == (1, ["apply-in-doubt", "apply-held-back"])
    assert "run `imdsctl apply" in done.err
    plan.goes_on(after)


def test_writes_that_aws_denies_are_reported_with_its_words_and_nothing_is_changed(
    aws: FaultyAws, before: list[RegionSeen], after: list[RegionSeen], tmp_path: Path
) -> None:
    plan = Plan(aws, tmp_path)
    statement = {"Effect": "Deny", "Action": ["ec2:Modify*", "ec2:CreateLaunchTemplateVersion"], "Resource": "*"}
    policy = attach_scp(aws, statement)
    aws.misbehave()
    done = plan.apply()
    assert (done.code, codes(done)) == (1, ["apply-failed", "apply-held-back"])
    assert "UnauthorizedOperation" in done.err
    assert "explicit deny in a service control policy" in done.err
    denied = {each.account for each in aws.asked if each.operation == "CreateLaunchTemplateVersion"}
    assert denied & set(aws.members), "it was tried: a plan cannot know what a policy will deny"
    seen = regions(scanned(aws))
    members = [each for each in seen if each.target.account_id != aws.management]
    assert members == [each for each in before if each.target.account_id != aws.management]
    detach_scp(aws, policy)
    plan.goes_on(after)


def organizations(aws: FaultyAws, action: str, **params: Any) -> dict[str, Any]:
    """One call of the management account."""
    return aws.as_administrator(aws.management, "organizations", "us-east-1", action, params)


def attach_scp(aws: FaultyAws, statement: dict[str, Any]) -> str:
    """An SCP at the root; the id."""
    content = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = organizations(
        aws, "CreatePolicy", Name="frozen", Description="", Type="SERVICE_CONTROL_POLICY", Content=content
    )
    policy = str(made["Policy"]["PolicySummary"]["Id"])
    organizations(aws, "AttachPolicy", PolicyId=policy, TargetId=aws.world.organization.root_id)
    return policy


def detach_scp(aws: FaultyAws, policy: str) -> None:
    organizations(aws, "DetachPolicy", PolicyId=policy, TargetId=aws.world.organization.root_id)


def test_resources_that_vanish_or_change_between_plan_and_apply_are_left_alone_and_the_rest_is_done(
    aws: FaultyAws, tmp_path: Path
) -> None:
    """Of each kind that is written: an instance, a launch template, a Region default."""
    plan = Plan(aws, tmp_path)
    member = aws.members[0]

    def planned(surface: str) -> list[dict[str, Any]]:
        mine = (each for each in plan.content["changes"] if each["account"] == member and each["surface"] == surface)
        return [each for each in mine if each["region"] == "us-east-1" and not each["held"]]

    def somebody_else(operation: str, **params: Any) -> None:
        aws.as_administrator(member, "ec2", "us-east-1", operation, params)

    gone, changed = planned("instance")[:2]
    lost, moved = planned("launch-template")[:2]
    somebody_else("TerminateInstances", InstanceIds=[gone["resource"]])
    somebody_else("ModifyInstanceMetadataOptions", InstanceId=changed["resource"], HttpPutResponseHopLimit=7)
    somebody_else("DeleteLaunchTemplate", LaunchTemplateId=lost["resource"])
    data = {"MetadataOptions": {"HttpPutResponseHopLimit": 6}}
    somebody_else("CreateLaunchTemplateVersion", LaunchTemplateId=moved["resource"], LaunchTemplateData=data)
    somebody_else("ModifyInstanceMetadataDefaults", HttpPutResponseHopLimit=5)
    done = plan.apply()
    assert (done.code, codes(done)[0]) == (1, "plan-stale"), done.err + done.out
    assert "2 gone, 3 stale" in done.out
    assert f"HttpPutResponseHopLimit was {changed['before']['HttpPutResponseHopLimit']}, is 7" in done.err
    again = plan.apply()
    assert (again.code, codes(again)[0]) == (1, "plan-stale"), "it stays so until somebody plans again"
    anew = Plan(aws, tmp_path / "anew")
    assert anew.apply().code == 0
    assert aws.imdsctl("verify", "--regions", ",".join(REGIONS)).code == 0
    (here,) = (region for region in kept().regions if str(region.target) == f"{member}/us-east-1")
    (instance,) = (each for each in here.instances if each.instance_id == changed["resource"])
    assert instance.options.http_put_response_hop_limit == 7, "what somebody else chose is kept"
    assert here.defaults is not None
    assert here.defaults.http_put_response_hop_limit == 5
    assert {6} == {
        each.options.http_put_response_hop_limit
        for each in here.templates
        if each.template_id == moved["resource"] and each.is_latest
    }


# -- credentials -------------------------------------------------------------------------------------------------------


def test_sessions_that_end_in_the_middle_of_a_scan_are_renewed(aws: FaultyAws, before: list[RegionSeen]) -> None:
    members = [rule("expired-token", account=member, each=True, first=1) for member in aws.members]
    aws.misbehave(*members)
    scan = scanned(aws)
    assert regions(scan) == before
    assert aws.hits >= 3


def test_sessions_that_end_in_the_middle_of_an_apply_are_renewed(
    aws: FaultyAws, after: list[RegionSeen], tmp_path: Path
) -> None:
    plan = Plan(aws, tmp_path)
    aws.misbehave(rule("expired-token", account=aws.members[0], operation=WRITES, each=True, first=1))
    assert plan.apply().code == 0
    assert aws.hits >= 1
    assert regions(scanned(aws)) == after


def test_a_machine_that_slept_through_the_end_of_its_sessions_goes_on(aws: FaultyAws, before: list[RegionSeen]) -> None:
    """AWS's clock jumps two hours: every session has ended, and every signature is too old by the same."""
    asked = 0

    def jump(each: Asked) -> None:
        nonlocal asked
        asked += each.operation == "DescribeInstances"
        if asked == 3:
            aws.ahead = timedelta(hours=2)

    aws.before_call = jump
    done = aws.imdsctl(*SCAN)
    assert (done.code, codes(done)) == (0, ["clock-off"])
    assert "120 minutes behind" in done.err
    assert [(each.target, each.unseen) for each in kept().regions] == [(each.target, each.unseen) for each in before]


def test_ones_own_credentials_that_have_expired_are_said_so(aws: FaultyAws) -> None:
    aws.misbehave(rule("expired-token", account=aws.management))
    done = aws.imdsctl(*SCAN)
    assert (done.code, codes(done)) == (1, ["credentials-refused"])
    assert "ExpiredToken" in done.err


def test_a_role_that_is_revoked_in_the_middle_of_a_scan_leaves_unknowns(aws: FaultyAws) -> None:
    member = aws.members[0]
    aws.misbehave(rule("access-denied", account=member, after=8))
    done = aws.imdsctl(*SCAN, "--fail-on", "unknown")
    assert (done.code, codes(done)) == (1, [])
    scan = kept()
    unseen = [each.code for region in scan.regions for each in region.unseen if region.target.account_id == member]
    assert unseen
    assert set(unseen) <= {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}
    assert all(not region.unseen for region in scan.regions if region.target.account_id != member)


@pytest.mark.parametrize("calls", [0, 30])
def test_an_apply_whose_own_credentials_end_says_so_and_goes_on_with_new_ones(
    aws: FaultyAws, after: list[RegionSeen], tmp_path: Path, calls: int
) -> None:
    plan = Plan(aws, tmp_path)
    aws.misbehave(rule("expired-token", account=aws.management, after=calls))
    done = plan.apply()
    assert done.code == 1
    if calls == 0:
        assert codes(done) == ["credentials-refused"]
        assert not [each for each in aws.asked if each.operation.startswith(("Modify", "Create"))]
    else:
        assert "apply-held-back" in codes(done)
        assert "Expired" in done.err
    plan.goes_on(after)


@pytest.mark.parametrize("operation", ["*", WRITES])
def test_a_role_that_is_revoked_in_the_middle_of_an_apply_stops_it_and_the_same_command_goes_on(
    aws: FaultyAws, after: list[RegionSeen], tmp_path: Path, operation: str
) -> None:
    plan = Plan(aws, tmp_path)
    member = aws.members[0]
    aws.misbehave(rule("access-denied", account=member, operation=operation, after=3))
    done = plan.apply()
    assert done.code == 1
    assert codes(done)[-1] == "apply-held-back"
    assert "UnauthorizedOperation" in done.err
    assert aws.hits
    plan.goes_on(after)


# -- a clock that is off, a Region that is down ------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "said"), [(10, "10 minutes behind"), (-10, "10 minutes ahead of")])
def test_a_clock_ten_minutes_off_is_corrected_and_told_once(
    aws: FaultyAws, before: list[RegionSeen], after: list[RegionSeen], tmp_path: Path, minutes: int, said: str
) -> None:
    aws.misbehave(rule("wrong-clock", minutes=minutes))
    done = aws.imdsctl(*SCAN)
    assert (done.code, codes(done)) == (0, ["clock-off"])
    assert said in done.err
    assert regions(kept()) == before
    made = aws.imdsctl("plan", "-o", str(tmp_path / "plan.json"))
    assert made.code == 0
    count = json.loads((tmp_path / "plan.json").read_text())["count"]
    done = aws.imdsctl("apply", str(tmp_path / "plan.json"), "--confirm", str(count))
    assert (done.code, codes(done)) == (0, ["clock-off"])
    aws.misbehave()
    assert regions(scanned(aws)) == after


def test_a_region_that_is_down_is_unknown_and_does_not_hold_up_the_others(
    aws: FaultyAws, before: list[RegionSeen]
) -> None:
    aws.misbehave(rule("region-down", region="eu-west-1"))
    aws.clock.seconds_per_attempt = 3.0  # what a refused connection and the wait for the next one may take
    done = aws.imdsctl(*SCAN, "--fail-on", "unknown")
    assert (done.code, codes(done)) == (1, [])
    seen = regions(kept())
    assert [each for each in seen if each.target.region == "us-east-1"] == [
        each for each in before if each.target.region == "us-east-1"
    ]
    down = [each for each in seen if each.target.region == "eu-west-1"]
    assert len(down) == 4
    for region in down:
        assert (region.defaults, region.instances, region.templates) == (None, (), ())
        assert {each.code for each in region.unseen} == {"Unreachable"}
    sent = sum(each.region == "eu-west-1" for each in aws.asked)
    parts = sum(len(region.unseen) for region in down)
    assert sent < 3 * parts, "not every call of every account has cost its six attempts"


@pytest.mark.parametrize("calls", [0, 20])
def test_an_apply_during_which_a_region_goes_down_stops_and_the_same_command_goes_on(
    aws: FaultyAws, before: list[RegionSeen], after: list[RegionSeen], tmp_path: Path, calls: int
) -> None:
    plan = Plan(aws, tmp_path)
    aws.misbehave(rule("region-down", region="eu-west-1", after=calls))
    aws.clock.seconds_per_attempt = 3.0
    done = plan.apply()
    assert done.code == 1
    assert codes(done)[-1] == "apply-held-back"
    assert set(re.findall(r"^  \d{12}/([a-z0-9-]+)/", done.err, re.MULTILINE)) == {"eu-west-1"}
    aws.misbehave()
    aws.clock.seconds_per_attempt = 0.0
    seen = [each for each in regions(scanned(aws)) if each.target.region == "us-east-1"]
    assert seen != [each for each in before if each.target.region == "us-east-1"], "the other Region was served"
    plan.goes_on(after)


# -- a full disk -------------------------------------------------------------------------------------------------------


def in_a_small_disk(limit_bytes: int, *argv: str) -> Done:
    """Run a command in a process whose files cannot grow beyond a limit: what a full disk is to a program."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = subprocess.run(
        [sys.executable, "-m", "imdsctl", *argv],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=limited,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_an_apply_stops_when_its_journal_cannot_grow_and_goes_on_when_it_can(
    aws: FaultyAws, after: list[RegionSeen], tmp_path: Path
) -> None:
    plan = Plan(aws, tmp_path)
    aws.misbehave()
    done = in_a_small_disk(3000, *plan.argv)
    assert (done.code, codes(done)) == (1, ["journal-unwritable"]), done.err
    assert "file too large" in done.err
    assert plan.journal.stat().st_size <= 3000
    writes = [each for each in aws.asked if each.operation.startswith(("Modify", "Create"))]
    assert len(writes) < plan.content["count"], "nothing is written to AWS without a record"
    plan.goes_on(after)


def test_a_scan_that_cannot_be_kept_says_so_and_leaves_the_ones_before(aws: FaultyAws) -> None:
    first = scanned(aws)
    size = (Path(os.environ["XDG_DATA_HOME"]) / "imdsctl" / "scans.sqlite3").stat().st_size
    done = in_a_small_disk(size, *SCAN)
    assert (done.code, codes(done)) == (1, ["database-unavailable"]), done.err
    assert kept() == first
    assert scanned(aws).scan_id != first.scan_id


def test_a_plan_that_cannot_be_written_is_not_there_by_half(aws: FaultyAws, tmp_path: Path) -> None:
    scanned(aws)
    done = in_a_small_disk(1000, "plan", "-o", str(tmp_path / "plan.json"))
    assert codes(done) == ["plan-unwritable"]
    assert "hint: make room, or name a file on another disk" in done.err
    assert done.code != 0
    assert not (tmp_path / "plan.json").exists()
