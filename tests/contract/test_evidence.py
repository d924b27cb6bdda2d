"""Evidence against the local AWS's CloudWatch and CloudTrail, with botocore as transport or as second opinion."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from imdsctl.adapters.aws import open_aws
from imdsctl.adapters.cloudtrail_files import read_trail_files
from imdsctl.domain.evidence import Evidence, Use
from imdsctl.domain.metric_asks import Budget, Estimate, Price, look_back_span
from imdsctl.domain.observations import RegionSeen, Target
from imdsctl.domain.role_delivery import Deliveries
from imdsctl.fleet.evidence import Gathering, gather, questions
from imdsctl.fleet.gauge import CloudWatchGauge
from imdsctl.fleet.ports import Credentials
from imdsctl.fleet.role_delivery import look_up
from imdsctl.fleet.selection import ROLE_NAME
from imdsctl.fleet.sessions import Sessions
from imdsctl.fleet.target_reader import TargetReader
from imdsctl.fleet.targets import who_am_i
from imdsctl.imds.messages import Request
from imdsctl.local.metadata.services import Place
from imdsctl.wire.errors import ServiceError

DAYS_14 = timedelta(days=14)


def gathered(aws: Any, enter: Any, regions: list[RegionSeen], span: Any, *, everything: bool) -> tuple[Evidence, Price]:
    asks = Estimate.of(questions(regions, span, everything=everything))
    budget = Budget(asks.by_id.metrics + 5000, asks.by_id.metrics)
    into = Gathering("s", span, DAYS_14)
    asyncio.run(gather(aws, enter, regions, into, budget, everything=everything))
    return into.evidence(), into.price


# -- the program's own client, and boto3's numbers -------------------------------------------------------------------


def boto_sum(cloudwatch: Any, name: str, instance_id: str, start: datetime, end: datetime) -> float | None:
    """What boto3 counts by GetMetricStatistics, an operation that the program does not use."""
    asked = {
        "Namespace": "AWS/EC2",
        "MetricName": name,
        "Dimensions": [{"Name": "InstanceId", "Value": instance_id}],
        "StartTime": start,
        "EndTime": end,
        "Period": 3600,
        "Statistics": ["Sum"],
    }
    points = cloudwatch.get_metric_statistics(**asked)["Datapoints"]
    return sum(point["Sum"] for point in points) if points else None


def test_the_sums_are_boto3s_in_every_region_and_account(
    aws_shell: Any, client: Any, accounts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws_shell.env.items():
        if name.startswith(("AWS_", "HOME")):
            monkeypatch.setenv(name, value)
    now = datetime.now(UTC)
    mine = client("sts").get_caller_identity()["Account"]
    others = [each["Id"] for each in accounts if each["State"] == "ACTIVE" and each["Id"] != mine][:3]
    targets = [Target(account, region) for account in (mine, *others) for region in ("eu-west-1", "us-west-2")]

    async def run() -> tuple[list[RegionSeen], Evidence, Price]:
        async with open_aws() as aws:
            enter = Sessions(aws, await who_am_i(aws), ROLE_NAME, lambda: now)
            regions = []
            for target in targets:
                reader = TargetReader(aws, await enter(target.account_id), target.region)
                regions.append(RegionSeen(target, instances=tuple(await reader.instances())))
            into = Gathering("s", look_back_span(DAYS_14, now), DAYS_14)
            asks = Estimate.of(questions(regions, into.span, everything=True))
            budget = Budget(asks.by_id.metrics + 5000, asks.by_id.metrics)
            await gather(aws, enter, regions, into, budget, everything=True)
            return regions, into.evidence(), into.price

    regions, evidence, price = asyncio.run(run())
    assert evidence.unseen == ()
    assert price.metrics > 0
    span = look_back_span(DAYS_14, now)
    compared = 0
    for region in regions:
        credentials = None
        if region.target.account_id != mine:
            arn = f"arn:aws:iam::{region.target.account_id}:role/{ROLE_NAME}"
            credentials = client("sts").assume_role(RoleArn=arn, RoleSessionName="check")["Credentials"]
        cloudwatch = client("cloudwatch", region.target.region, credentials)
        for instance in region.instances:
            found = evidence.instances.get((region.target, instance.instance_id))
            if found is None:
                assert instance.options.http_endpoint == "disabled"
                continue
            metric = "MetadataNoTokenRejected" if instance.options.http_tokens == "required" else "MetadataNoToken"
            told = found.rejected if found.no_token is None else found.no_token
            assert told == boto_sum(cloudwatch, metric, instance.instance_id, span.start, span.end), instance
            assert found.use is (Use.UNKNOWN if told is None else Use.USED if told else Use.UNUSED)
            compared += 1
    assert compared > len(targets)


# -- botocore as the transport, with a clock that can be moved ------------------------------------------------------


class BotoAws:
    """The port `Aws` by botocore's clients: our questions on botocore's wire."""

    default_region = "us-east-1"

    def __init__(self, offline: Any) -> None:
        self._offline = offline

    async def call(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Any = None,
    ) -> Any:
        given = None
        if credentials is not None:
            given = {"AccessKeyId": credentials.access_key, "SecretAccessKey": credentials.secret_key}
            given["SessionToken"] = credentials.token
        client = self._offline.client(service, credentials=given, region=region)
        try:
            return client._make_api_call(operation, dict(params))
        except ClientError as error:
            said = error.response["Error"]
            raise ServiceError(
                said["Code"], said["Message"], error.response["ResponseMetadata"]["HTTPStatusCode"]
            ) from None

    async def paginate(self, *args: Any) -> AsyncIterator[Any]:
        *place, params, projection = args
        while True:
            page = await self.call(*place, params, projection)
            yield page
            if not page.get("NextToken"):
                return
            params = {**params, "NextToken": page["NextToken"]}


class _Wire:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.content)


class Host:
    """An instance with a role in a member account, and a program on it that knows IMDSv1 only."""

    def __init__(self, offline: Any) -> None:
        self.offline = offline
        self.target = Target(offline.member, "us-east-1")
        self.ec2 = offline.client("ec2", offline.member)
        iam = offline.client("iam", offline.member)
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        iam.create_role(RoleName="app", AssumeRolePolicyDocument=_document(trust))
        iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=_document(allow))
        iam.create_instance_profile(InstanceProfileName="app")
        iam.add_role_to_instance_profile(InstanceProfileName="app", RoleName="app")
        image = next(
            each["ImageId"]
            for each in self.ec2.describe_images(Owners=["amazon"])["Images"]
            if each["Name"].startswith("amzn2") and each["Architecture"] == "x86_64"
        )
        launched = self.ec2.run_instances(
            ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": "app"}
        )
        self.id = launched["Instances"][0]["InstanceId"]
        self.key = self.target, self.id

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.offline.offset

    def v1(self, path: str = "meta-data/instance-id") -> str:
        place = Place(self.target.account_id, self.target.region, self.id)
        reply = self.offline.aws.metadata.respond(place, Request("GET", f"/latest/{path}".encode(), ()))
        response = HTTPResponse(_Wire(reply.content), method="GET")  # type: ignore[arg-type]
        response.begin()
        return response.read().decode()

    def enter(self) -> Any:
        async def enter(account_id: str) -> Credentials:
            key = self.offline.world.admin_credentials(account_id)
            return Credentials(key.access_key_id, key.secret_access_key)

        return enter

    def seen(self) -> RegionSeen:
        reader = TargetReader(BotoAws(self.offline), None, self.target.region)
        found = self.ec2.describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0]
        return RegionSeen(self.target, instances=(reader.instance(found),))

    def evidence(self, *, everything: bool = False) -> Any:
        span = look_back_span(DAYS_14, self.now)
        found, _ = gathered(BotoAws(self.offline), self.enter(), [self.seen()], span, everything=everything)
        return found.of(*self.key)


def _document(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def host(offline: Any, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The clock of botocore's signatures moves with the local AWS's."""

    def now(remove_tzinfo: bool = True) -> datetime:
        return (datetime.now(UTC) + offline.offset).replace(tzinfo=None)

    monkeypatch.setattr("botocore.auth.get_current_datetime", now)
    return Host(offline)


def test_a_programs_calls_are_evidence_and_a_young_instance_says_since_when(host: Host) -> None:
    assert host.evidence().use is Use.UNKNOWN
    assert "no datapoints yet" in host.evidence().reason
    host.offline.offset += timedelta(minutes=20)
    quiet = host.evidence()
    assert (quiet.use, quiet.no_token) == (Use.UNUSED, 0.0)
    assert quiet.since is not None
    assert host.now - quiet.since < timedelta(minutes=25)
    for _ in range(3):
        host.v1()
    used = host.evidence()
    assert (used.use, used.no_token) == (Use.USED, 3.0)
    assert used.last_used <= host.now


def test_a_stopped_instance_is_unknown_once_its_datapoints_are_too_old(host: Host) -> None:
    """Then a search no longer finds its series either."""
    host.offline.offset += timedelta(minutes=20)
    host.v1()
    host.offline.offset += timedelta(minutes=10)
    host.ec2.stop_instances(InstanceIds=[host.id])
    host.offline.offset += timedelta(days=3)
    assert host.evidence().use is Use.USED
    assert host.evidence().reason.startswith("no datapoints after")
    host.offline.offset += timedelta(days=20)
    assert host.evidence().use is Use.UNKNOWN
    assert host.evidence().reason.startswith("stopped when it was scanned")


def test_rejected_calls_of_what_requires_tokens_are_evidence_on_demand(host: Host) -> None:
    host.ec2.modify_instance_metadata_options(InstanceId=host.id, HttpTokens="required")
    host.offline.offset += timedelta(minutes=20)
    host.v1()
    assert host.evidence().reason == "no evidence was gathered"
    found = host.evidence(everything=True)
    assert (found.use, found.no_token, found.rejected) == (Use.USED, None, 1.0)


def test_the_gauge_sees_what_happens_after_a_change_and_not_what_was_before(host: Host) -> None:
    gauge = CloudWatchGauge(BotoAws(host.offline), host.enter(), lambda: host.now)
    host.v1()
    host.offline.offset += timedelta(minutes=20)
    changed = host.now
    host.ec2.modify_instance_metadata_options(InstanceId=host.id, HttpTokens="required")
    host.offline.offset += timedelta(minutes=20)

    def rejected() -> Any:
        return asyncio.run(gauge.rejected([host.key], changed))[host.key]

    def no_token(since: datetime) -> Any:
        return asyncio.run(gauge.no_token([host.key], since))[host.key].no_token

    assert rejected().rejected == 0.0
    host.v1()
    host.v1()
    assert rejected().rejected == 2.0
    assert no_token(changed - timedelta(hours=2)) == 1.0
    assert not no_token(changed)
    assert gauge.price.metrics == 4


def test_credentials_that_v1_delivered_are_found_in_the_event_history_and_in_files(host: Host, tmp_path: Path) -> None:
    held = json.loads(host.v1("meta-data/iam/security-credentials/app"))
    keys = {
        "AccessKeyId": held["AccessKeyId"],
        "SecretAccessKey": held["SecretAccessKey"],
        "SessionToken": held["Token"],
    }
    host.offline.client("ec2", credentials=keys).describe_key_pairs()
    wanted = frozenset({(host.target.account_id, host.id)})
    start, end = host.now - timedelta(days=1), host.now + timedelta(seconds=1)
    history = Deliveries(start, end, wanted)
    assert asyncio.run(look_up(BotoAws(host.offline), host.enter(), [host.key], history)) == []
    events = host.offline.client("cloudtrail", host.target.account_id).lookup_events()["Events"]
    (tmp_path / "trail.json").write_text(
        json.dumps({"Records": [json.loads(each["CloudTrailEvent"]) for each in events]})
    )
    files = Deliveries(start, end, wanted)
    assert read_trail_files([tmp_path / "trail.json"], files) == []
    assert history.by_instance == files.by_instance
    assert history.by_instance[host.target.account_id, host.id][0] == 1
