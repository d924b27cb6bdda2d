"""The metadata services of the local AWS's instances: what EC2, IAM and STS say, the instance sees, and back again.

botocore speaks to the control plane; requests to a metadata service go to it as they would off the wire.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from imdsctl.imds.messages import Request
from imdsctl.local.metadata.services import Place

TTL, TOKEN = b"x-aws-ec2-metadata-token-ttl-seconds", b"x-aws-ec2-metadata-token"
TRUSTS_EC2 = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
ROLES_USE_V2 = {
    "Sid": "RequireAllEc2RolesToUseV2",
    "Effect": "Deny",
    "Action": "*",
    "Resource": "*",
    "Condition": {"NumericLessThan": {"ec2:RoleDelivery": "2.0"}},
}
"""Organizations User Guide, "Example SCPs for Amazon EC2"."""


def document(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class _Wire:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.content)


class Node:
    """An instance of a member account, with a role, and a program that runs on it."""

    def __init__(self, offline: Any, **launch: Any) -> None:
        self.offline = offline
        self.account = offline.member
        self.ec2 = offline.client("ec2", self.account)
        self.iam = offline.client("iam", self.account)
        if not any(each["RoleName"] == "app" for each in self.iam.list_roles()["Roles"]):
            self.iam.create_role(RoleName="app", AssumeRolePolicyDocument=document(TRUSTS_EC2))
            self.iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=document(ALLOW_ALL))
            self.iam.create_instance_profile(InstanceProfileName="app")
            self.iam.add_role_to_instance_profile(InstanceProfileName="app", RoleName="app")
        images = self.ec2.describe_images(Owners=["amazon"])["Images"]
        image = next(each for each in images if each["Name"].startswith("amzn2") and each["Architecture"] == "x86_64")
        asked = {
            "ImageId": image["ImageId"],
            "InstanceType": "t3.micro",
            "MinCount": 1,
            "MaxCount": 1,
            "IamInstanceProfile": {"Name": "app"},
            **launch,
        }
        self.id = str(self.ec2.run_instances(**asked)["Instances"][0]["InstanceId"])
        self.place = Place(self.account, "us-east-1", self.id)

    def described(self) -> dict[str, Any]:
        """The instance, as DescribeInstances has it."""
        return dict(self.ec2.describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0])

    def options(self, **options: Any) -> None:
        self.ec2.modify_instance_metadata_options(InstanceId=self.id, **options)

    # -- the program on the instance

    def request(self, method: str, target: str, *headers: tuple[bytes, bytes]) -> tuple[int, str] | None:
        """Status and body; None when nothing listens."""
        reply = self.offline.aws.metadata.respond(self.place, Request(method, target.encode(), headers))
        if reply is None:
            return None
        response = HTTPResponse(_Wire(reply.content), method=method)
        response.begin()
        return response.status, response.read().decode()

    def v1(self, path: str) -> tuple[int, str] | None:
        return self.request("GET", f"/latest/{path}")

    def token(self) -> bytes:
        answer = self.request("PUT", "/latest/api/token", (TTL, b"21600"))
        assert answer is not None
        assert answer[0] == 200
        return answer[1].encode()

    def v2(self, path: str) -> tuple[int, str] | None:
        return self.request("GET", f"/latest/{path}", (TOKEN, self.token()))

    def read(self, path: str) -> str:
        """What is at a path of `meta-data`, which has to be there."""
        answer = self.v2(f"meta-data/{path}")
        assert answer is not None
        assert answer[0] == 200, (path, answer)
        return answer[1]

    def credentials(self, fetch: Callable[[str], tuple[int, str] | None] | None = None) -> dict[str, Any]:
        """The role's credentials, in the shape of STS; by IMDSv2 unless `fetch` is another way."""
        answer = (fetch or self.v2)("meta-data/iam/security-credentials/app")
        assert answer is not None
        found = json.loads(answer[1])
        assert found["Code"] == "Success", found
        return {
            "AccessKeyId": found["AccessKeyId"],
            "SecretAccessKey": found["SecretAccessKey"],
            "SessionToken": found["Token"],
            **found,
        }

    def client(self, service: str, credentials: dict[str, Any]) -> Any:
        return self.offline.client(service, credentials=credentials)


@pytest.fixture
def node(offline: Any) -> Node:
    return Node(offline)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


# -- what an instance sees -------------------------------------------------------------------------------------------


def test_the_metadata_says_what_ec2_says(offline: Any) -> None:
    mappings = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
    node = Node(offline, UserData="#!/bin/sh", BlockDeviceMappings=mappings, Monitoring={"Enabled": True})
    said = node.described()
    [interface] = node.ec2.describe_network_interfaces(
        Filters=[{"Name": "attachment.instance-id", "Values": [node.id]}]
    )["NetworkInterfaces"]
    mac = interface["MacAddress"]
    there = f"network/interfaces/macs/{mac}"
    assert {
        path: node.read(path)
        for path in (
            "instance-id",
            "ami-id",
            "ami-launch-index",
            "instance-type",
            "instance-life-cycle",
            "local-ipv4",
            "local-hostname",
            "public-ipv4",
            "public-hostname",
            "mac",
            "security-groups",
            "placement/availability-zone",
            "placement/availability-zone-id",
            "placement/region",
            f"{there}/interface-id",
            f"{there}/owner-id",
            f"{there}/subnet-id",
            f"{there}/vpc-id",
            f"{there}/security-group-ids",
            f"{there}/vpc-ipv4-cidr-block",
        )
    } == {
        "instance-id": node.id,
        "ami-id": said["ImageId"],
        "ami-launch-index": "0",
        "instance-type": "t3.micro",
        "instance-life-cycle": "on-demand",
        "local-ipv4": said["PrivateIpAddress"],
        "local-hostname": said["PrivateDnsName"],
        "public-ipv4": said["PublicIpAddress"],
        "public-hostname": said["PublicDnsName"],
        "mac": mac,
        "security-groups": "default",
        "placement/availability-zone": said["Placement"]["AvailabilityZone"],
        "placement/availability-zone-id": said["Placement"]["AvailabilityZoneId"],
        "placement/region": "us-east-1",
        f"{there}/interface-id": interface["NetworkInterfaceId"],
        f"{there}/owner-id": node.account,
        f"{there}/subnet-id": said["SubnetId"],
        f"{there}/vpc-id": said["VpcId"],
        f"{there}/security-group-ids": said["SecurityGroups"][0]["GroupId"],
        f"{there}/vpc-ipv4-cidr-block": "172.31.0.0/16",
    }
    assert node.read("block-device-mapping/root") == said["RootDeviceName"]
    assert node.read("block-device-mapping/ebs1") == "sdf"
    assert node.v2("user-data") == (200, "#!/bin/sh")
    assert node.v2("dynamic/fws/instance-monitoring") == (200, "enabled")
    identity = json.loads((node.v2("dynamic/instance-identity/document") or (0, "{}"))[1])
    assert (identity["instanceId"], identity["accountId"], identity["privateIp"], identity["imageId"]) == (
        node.id,
        node.account,
        said["PrivateIpAddress"],
        said["ImageId"],
    )


def test_user_data_changes_while_the_instance_is_stopped(node: Node) -> None:
    node.ec2.stop_instances(InstanceIds=[node.id])
    node.ec2.modify_instance_attribute(InstanceId=node.id, UserData={"Value": b"new\xff"})
    asked = node.ec2.describe_instance_attribute(InstanceId=node.id, Attribute="userData")
    assert asked["UserData"]["Value"] == b64encode(b"new\xff").decode()
    node.ec2.start_instances(InstanceIds=[node.id])
    reply = node.offline.aws.metadata.respond(node.place, Request("GET", b"/latest/user-data"))
    assert reply.content.endswith(b"\r\n\r\nnew\xff")


def test_the_key_of_the_launch_stays_when_its_key_pair_is_deleted(offline: Any) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB" + "A" * 42 + " ann"
    ec2 = offline.client("ec2", offline.member)
    ec2.import_key_pair(KeyName="ann", PublicKeyMaterial=key.encode())
    node = Node(offline, KeyName="ann")
    ec2.delete_key_pair(KeyName="ann")
    assert node.read("public-keys/") == "0=ann"
    assert node.read("public-keys/0/openssh-key").strip() == key


def test_tags_show_when_they_are_enabled_and_change_at_once(node: Node) -> None:
    node.ec2.create_tags(Resources=[node.id], Tags=[{"Key": "team", "Value": "blue"}])
    assert node.v2("meta-data/tags/instance/team") == (404, node.v2("meta-data/none")[1])
    node.options(InstanceMetadataTags="enabled")
    assert node.read("tags/instance/team") == "blue"
    node.ec2.create_tags(Resources=[node.id], Tags=[{"Key": "team", "Value": "red"}])
    assert node.read("tags/instance/team") == "red"
    node.ec2.delete_tags(Resources=[node.id], Tags=[{"Key": "team"}])
    assert node.v2("meta-data/tags/instance/team")[0] == 404


def test_an_instance_of_a_group_knows_where_the_group_takes_it(offline: Any) -> None:
    node = Node(offline)
    assert node.v2("meta-data/autoscaling/target-lifecycle-state")[0] == 404
    scaling = offline.client("autoscaling", node.account)
    zone = node.described()["Placement"]["AvailabilityZone"]
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="web", InstanceId=node.id, MinSize=0, MaxSize=2, AvailabilityZones=[zone]
    )
    scaling.attach_instances(AutoScalingGroupName="web", InstanceIds=[node.id])
    assert node.read("autoscaling/target-lifecycle-state") == "InService"
    node.v1("meta-data/instance-id")
    assert counted(node, "MetadataNoToken", "AutoScalingGroupName", "web") == 1
    scaling.enter_standby(AutoScalingGroupName="web", InstanceIds=[node.id], ShouldDecrementDesiredCapacity=True)
    assert node.read("autoscaling/target-lifecycle-state") == "Standby"


def test_a_world_keeps_the_keys_of_its_identity_documents(make_offline: Any, tmp_path: Path) -> None:
    node = Node(make_offline(tmp_path))
    first = node.v2("dynamic/instance-identity/signature")
    assert first is not None
    assert first[0] == 200
    certificates = node.offline.aws.metadata.identity.certificates()
    node.offline = make_offline(tmp_path)
    assert node.v2("dynamic/instance-identity/signature") == first
    assert node.offline.aws.metadata.identity.certificates() == certificates


# -- options ---------------------------------------------------------------------------------------------------------


def test_options_hold_from_the_next_request_on(node: Node) -> None:
    node.options(HttpTokens="optional", HttpEndpoint="enabled")
    assert node.v1("meta-data/instance-id") == (200, node.id)
    node.options(HttpTokens="required", HttpEndpoint="enabled")
    assert node.v1("meta-data/instance-id")[0] == 401
    assert node.v2("meta-data/instance-id") == (200, node.id)
    token = node.token()
    node.options(HttpEndpoint="disabled")
    assert node.request("GET", "/latest/meta-data/", (TOKEN, token))[0] == 403
    node.options(HttpEndpoint="enabled")
    assert node.request("GET", "/latest/meta-data/instance-id", (TOKEN, token)) == (200, node.id)


def test_a_change_that_takes_time_holds_when_it_is_applied(make_offline: Any) -> None:
    offline = make_offline(settle_seconds=60.0)
    node = Node(offline)
    assert node.v1("meta-data/instance-id") is None  # it has not started yet
    offline.offset += timedelta(seconds=61)
    assert node.v1("meta-data/instance-id") == (200, node.id)
    node.options(HttpTokens="required", HttpEndpoint="enabled")
    assert node.described()["MetadataOptions"]["State"] == "pending"
    assert node.v1("meta-data/instance-id") == (200, node.id)
    offline.offset += timedelta(seconds=30)
    node.options(HttpPutResponseHopLimit=5, HttpEndpoint="enabled")
    offline.offset += timedelta(seconds=31)  # the first change is applied, the second is not
    reply = offline.aws.metadata.respond(node.place, Request("PUT", b"/latest/api/token", [(TTL, b"60")]))
    assert reply.hop_limit != 5
    assert node.v1("meta-data/instance-id")[0] == 401
    offline.offset += timedelta(seconds=30)
    reply = offline.aws.metadata.respond(node.place, Request("PUT", b"/latest/api/token", [(TTL, b"60")]))
    assert reply.hop_limit == 5


def test_only_what_runs_has_a_metadata_service(node: Node) -> None:
    node.ec2.stop_instances(InstanceIds=[node.id])
    assert node.v1("meta-data/instance-id") is None
    node.ec2.start_instances(InstanceIds=[node.id])
    assert node.v1("meta-data/instance-id") == (200, node.id)
    node.ec2.terminate_instances(InstanceIds=[node.id])
    assert node.v1("meta-data/instance-id") is None
    node.place = Place("000000000000", "us-east-1", node.id)
    assert node.v1("meta-data/instance-id") is None
    node.place = Place(node.account, "us-east-1", "i-0none")
    assert node.v1("meta-data/instance-id") is None


def test_a_token_is_good_for_its_instance_only(offline: Any) -> None:
    first, second = Node(offline), Node(offline)
    assert second.request("GET", "/latest/meta-data/", (TOKEN, first.token()))[0] == 401


# -- credentials -----------------------------------------------------------------------------------------------------


def test_an_scp_refuses_what_was_fetched_by_imdsv1_and_lets_imdsv2_through(make_org: Any) -> None:
    org = make_org()
    node = Node(org.offline)
    scp = org.policy(document(ROLES_USE_V2))
    org.api.attach_policy(PolicyId=scp, TargetId=node.account)
    by_v1, by_v2 = node.credentials(node.v1), node.credentials()
    assert refusal(node.client("ec2", by_v1).describe_instances) == "UnauthorizedOperation"
    node.client("ec2", by_v2).describe_instances()
    identity = node.client("sts", by_v2).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{node.account}:assumed-role/app/{node.id}"
    assert identity["UserId"].endswith(f":{node.id}")


def test_conditions_see_the_instance_behind_the_credentials(node: Node) -> None:
    said = node.described()
    ec2 = node.client("ec2", node.credentials())
    keys = {
        "ec2:SourceInstanceARN": f"arn:aws:ec2:us-east-1:{node.account}:instance/{node.id}",
        "aws:Ec2InstanceSourceVpc": said["VpcId"],
        "aws:Ec2InstanceSourcePrivateIPv4": said["PrivateIpAddress"],
    }
    for key, value in keys.items():
        allow = {**ALLOW_ALL, "Condition": {"StringEquals": {key: value}}}
        node.iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=document(allow))
        ec2.describe_instances()
        allow = {**ALLOW_ALL, "Condition": {"StringEquals": {key: f"{value}0"}}}
        node.iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=document(allow))
        assert refusal(ec2.describe_instances) == "UnauthorizedOperation"


def test_credentials_are_renewed_before_they_expire_and_the_old_ones_last(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def now(remove_tzinfo: bool = True) -> datetime:
        return (datetime.now(UTC) + node.offline.offset).replace(tzinfo=None)

    monkeypatch.setattr("botocore.auth.get_current_datetime", now)
    first = node.credentials()
    lifetime = datetime.fromisoformat(first["Expiration"]) - datetime.fromisoformat(first["LastUpdated"])
    assert lifetime == timedelta(hours=6)
    assert node.credentials() == first
    node.offline.offset += timedelta(hours=5, minutes=30)
    second = node.credentials()
    assert second["AccessKeyId"] != first["AccessKeyId"]
    node.client("ec2", first).describe_regions()
    node.offline.offset += timedelta(hours=1)
    assert refusal(node.client("ec2", first).describe_regions) == "RequestExpired"
    node.client("ec2", second).describe_regions()


def test_credentials_outlive_their_instance_and_a_restart(make_offline: Any, tmp_path: Path) -> None:
    node = Node(make_offline(tmp_path))
    found = node.credentials()
    node.ec2.terminate_instances(InstanceIds=[node.id])
    node.client("ec2", found).describe_regions()
    make_offline(tmp_path).client("ec2", credentials=found).describe_regions()


def test_the_identity_role_says_who_the_instance_is_and_may_nothing(node: Node) -> None:
    found = json.loads(node.read("identity-credentials/ec2/security-credentials/ec2-instance"))
    given = {**found, "SessionToken": found["Token"]}
    assert node.client("sts", given).get_caller_identity()["Arn"] == (
        f"arn:aws:sts::{node.account}:assumed-role/aws:ec2-instance/{node.id}"
    )
    assert refusal(node.client("ec2", given).describe_regions) == "UnauthorizedOperation"


def test_without_a_profile_there_is_no_iam(node: Node) -> None:
    [association] = node.ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    node.ec2.disassociate_iam_instance_profile(AssociationId=association["AssociationId"])
    assert node.v2("meta-data/iam/info")[0] == 404
    node.ec2.associate_iam_instance_profile(InstanceId=node.id, IamInstanceProfile={"Name": "app"})
    assert json.loads(node.read("iam/info"))["InstanceProfileArn"].endswith(":instance-profile/app")


def test_what_is_wrong_with_a_role_is_said_in_awss_codes(node: Node) -> None:
    nobody = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    node.iam.update_assume_role_policy(RoleName="app", PolicyDocument=document(nobody))
    assert json.loads(node.read("iam/security-credentials/app"))["Code"] == "AssumeRoleUnauthorizedAccess"
    node.iam.update_assume_role_policy(RoleName="app", PolicyDocument=document(TRUSTS_EC2))
    assert json.loads(node.read("iam/security-credentials/app"))["Code"] == "Success"
    node.iam.remove_role_from_instance_profile(InstanceProfileName="app", RoleName="app")
    assert "does not contain a role" in json.loads(node.read("iam/info"))["Message"]
    assert node.v2("meta-data/iam/security-credentials/app")[0] == 404
    node.iam.delete_instance_profile(InstanceProfileName="app")
    assert json.loads(node.read("iam/info"))["Code"] == "InstanceProfileNotFound"


# -- what is counted -------------------------------------------------------------------------------------------------


def counted(node: Node, metric: str, name: str = "InstanceId", value: str | None = None) -> float:
    """The sum of a metric of the last hour, as GetMetricData has it."""
    cloudwatch = node.offline.client("cloudwatch", node.account)
    dimensions = [{"Name": name, "Value": value or node.id}]
    stat = {
        "Metric": {"Namespace": "AWS/EC2", "MetricName": metric, "Dimensions": dimensions},
        "Period": 300,
        "Stat": "Sum",
    }
    now = datetime.now(UTC) + node.offline.offset
    found = cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "q", "MetricStat": stat}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=5),
    )
    return float(sum(found["MetricDataResults"][0]["Values"]))


def test_imdsv1_calls_are_in_cloudwatch_at_once(node: Node) -> None:
    assert (counted(node, "MetadataNoToken"), counted(node, "MetadataNoTokenRejected")) == (0, 0)
    for _ in range(3):
        node.v1("meta-data/instance-id")
    node.v2("meta-data/instance-id")
    assert (counted(node, "MetadataNoToken"), counted(node, "MetadataNoTokenRejected")) == (3, 0)
    node.options(HttpTokens="required", HttpEndpoint="enabled")
    node.v1("meta-data/instance-id")
    node.v2("meta-data/instance-id")
    node.request("GET", "/latest/meta-data/", (TOKEN, b"nonsense"))
    assert (counted(node, "MetadataNoToken"), counted(node, "MetadataNoTokenRejected")) == (3, 1)
    node.options(HttpEndpoint="disabled")
    node.v1("meta-data/instance-id")
    assert (counted(node, "MetadataNoToken"), counted(node, "MetadataNoTokenRejected")) == (3, 1)


def test_a_search_finds_them_and_detailed_monitoring_adds_dimensions(offline: Any) -> None:
    node = Node(offline, Monitoring={"Enabled": True})
    node.v1("meta-data/instance-id")
    assert counted(node, "MetadataNoToken", "InstanceType", "t3.micro") == 1
    assert counted(node, "MetadataNoToken", "ImageId", node.described()["ImageId"]) == 1
    now = datetime.now(UTC)
    search = f"SEARCH('{{AWS/EC2,InstanceId}} MetadataNoToken {node.id}', 'Sum', 300)"
    [result] = offline.client("cloudwatch", node.account).get_metric_data(
        MetricDataQueries=[{"Id": "q", "Expression": search}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=5),
    )["MetricDataResults"]
    assert sum(result["Values"]) == 1


def test_a_generated_instances_calls_are_added_to_its_evidence(offline: Any) -> None:
    node = Node(offline)
    silent = next(
        each
        for reservation in node.ec2.describe_instances()["Reservations"]
        for each in reservation["Instances"]
        if each["State"]["Name"] == "running"
        and each["MetadataOptions"]["HttpTokens"] == "optional"
        and each["MetadataOptions"]["HttpEndpoint"] == "enabled"
        and each["InstanceId"] != node.id
    )
    node.id = silent["InstanceId"]
    node.place = Place(node.account, "us-east-1", node.id)
    before = counted(node, "MetadataNoToken")
    node.v1("meta-data/instance-id")
    node.v1("meta-data/instance-id")
    assert counted(node, "MetadataNoToken") == before + 2


def test_an_instance_that_nobody_asks_has_samples_of_zero(node: Node) -> None:
    node.offline.offset += timedelta(minutes=14)
    now = datetime.now(UTC) + node.offline.offset
    asked = {
        "Namespace": "AWS/EC2",
        "Dimensions": [{"Name": "InstanceId", "Value": node.id}],
        "Period": 300,
        "Statistics": ["Sum"],
        "StartTime": now - timedelta(hours=1),
        "EndTime": now,
    }
    cloudwatch = node.offline.client("cloudwatch", node.account)
    points = cloudwatch.get_metric_statistics(MetricName="MetadataNoToken", **asked)["Datapoints"]
    assert {point["Sum"] for point in points} == {0.0}
    assert not cloudwatch.get_metric_statistics(MetricName="MetadataNoTokenRejected", **asked)["Datapoints"]


def test_counts_outlive_a_restart(make_offline: Any, tmp_path: Path) -> None:
    node = Node(make_offline(tmp_path))
    for _ in range(3):
        node.v1("meta-data/instance-id")
    node.offline.aws.keep_metadata_counts()
    node.v1("meta-data/instance-id")
    node.offline.aws.keep_metadata_counts()
    node.offline.aws.keep_metadata_counts()  # there is nothing left to keep
    node.offline = make_offline(tmp_path)
    assert counted(node, "MetadataNoToken") == 4
    events = node.offline.client("cloudtrail", node.account).lookup_events()["Events"]
    assert events
    assert all(each["EventSource"] != "imdsctl.amazonaws.com" for each in events)


def test_cloudtrail_says_how_the_credentials_were_delivered(node: Node) -> None:
    for fetch, delivery in ((node.v1, "1.0"), (node.v2, "2.0")):
        found = node.credentials(fetch)
        node.client("ec2", found).describe_key_pairs()
        [event] = node.offline.client("cloudtrail", node.account).lookup_events(
            LookupAttributes=[{"AttributeKey": "AccessKeyId", "AttributeValue": found["AccessKeyId"]}]
        )["Events"]
        identity = json.loads(event["CloudTrailEvent"])["userIdentity"]
        assert identity["type"] == "AssumedRole"
        assert identity["principalId"].endswith(f":{node.id}")
        assert identity["sessionContext"]["sessionIssuer"]["userName"] == "app"
        assert identity["sessionContext"]["ec2RoleDelivery"] == delivery


def test_cloudtrail_says_to_which_instance_a_key_was_given(node: Node) -> None:
    found = node.credentials()
    trail = node.offline.client("cloudtrail", node.account)
    asked = [{"AttributeKey": "EventName", "AttributeValue": "AssumeRole"}]
    [event] = trail.lookup_events(LookupAttributes=asked)["Events"]
    record = json.loads(event["CloudTrailEvent"])
    assert record["userIdentity"] == {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
    assert record["sourceIPAddress"] == record["userAgent"] == "ec2.amazonaws.com"
    assert record["requestParameters"] == {
        "roleArn": f"arn:aws:iam::{node.account}:role/app",
        "roleSessionName": node.id,
    }
    assert record["responseElements"]["credentials"]["accessKeyId"] == found["AccessKeyId"]
    assert found["SecretAccessKey"] not in event["CloudTrailEvent"]


def test_no_client_may_ask_for_our_own_writes(node: Node) -> None:
    import botocore.awsrequest
    from botocore.auth import SigV4Auth
    from botocore.credentials import Credentials

    from imdsctl.wire.http import HttpRequest

    key = node.offline.world.admin_credentials(node.account)
    body = b"Action=RecordMetadataCalls&Version=2016-11-15"
    request = botocore.awsrequest.AWSRequest("POST", "http://127.0.0.1/", data=body)
    SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "imdsctl", "us-east-1").add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()} | {"host": "127.0.0.1"}
    answer = node.offline.aws.handle(HttpRequest("POST", "/", "", headers, body))
    assert answer.status == 400
    assert b"does not implement imdsctl:" in answer.body


# -- what AWS announces ----------------------------------------------------------------------------------------------


def test_a_spot_interruption_is_announced_and_two_minutes_later_it_happens(make_offline: Any, tmp_path: Path) -> None:
    offline = make_offline(tmp_path)
    node = Node(offline, InstanceMarketOptions={"MarketType": "spot"})
    assert node.read("instance-life-cycle") == "spot"
    assert node.v2("meta-data/spot/instance-action")[0] == 404
    offline.aws.write("RecommendRebalance", node.account, "us-east-1", {"InstanceId": node.id})
    assert "noticeTime" in json.loads(node.read("events/recommendations/rebalance"))
    offline.aws.write("AnnounceInterruption", node.account, "us-east-1", {"InstanceId": node.id})
    notice = json.loads(node.read("spot/instance-action"))
    assert notice["action"] == "terminate"
    ahead = datetime.fromisoformat(notice["time"]) - datetime.now(UTC)
    assert timedelta(seconds=100) < ahead <= timedelta(minutes=2)
    [request] = node.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert request["Status"]["Code"] == "marked-for-termination"

    node.offline = make_offline(tmp_path)  # the announcement is a write like any other
    node.ec2 = node.offline.client("ec2", node.account)
    assert json.loads(node.read("spot/instance-action")) == notice
    node.offline.offset += timedelta(minutes=3)
    assert node.v1("meta-data/instance-id") is None
    said = node.described()
    assert said["State"]["Name"] == "terminated"
    assert said["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    [request] = node.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert (request["State"], request["Status"]["Code"]) == ("closed", "instance-terminated-no-capacity")


def test_an_on_demand_instance_is_not_interrupted(node: Node) -> None:
    from imdsctl.local.call import AwsError

    with pytest.raises(AwsError, match="not a Spot Instance"):
        node.offline.aws.write("AnnounceInterruption", node.account, "us-east-1", {"InstanceId": node.id})


def test_a_scheduled_event_is_in_the_metadata_and_in_describe_instance_status(node: Node) -> None:
    def status() -> list[dict[str, Any]]:
        [found] = node.ec2.describe_instance_status(InstanceIds=[node.id])["InstanceStatuses"]
        return list(found.get("Events", []))

    assert status() == []
    asked = {"InstanceId": node.id, "Code": "instance-stop"}
    made = node.offline.aws.write("ScheduleEvent", node.account, "us-east-1", asked)
    [event] = json.loads(node.read("events/maintenance/scheduled"))
    assert (event["Code"], event["State"], event["EventId"]) == ("instance-stop", "active", made["EventId"])
    [described] = status()
    assert (described["InstanceEventId"], described["Code"]) == (made["EventId"], "instance-stop")
    filtered = node.ec2.describe_instance_status(Filters=[{"Name": "event.code", "Values": ["instance-stop"]}])
    assert [each["InstanceId"] for each in filtered["InstanceStatuses"]] == [node.id]
    node.ec2.stop_instances(InstanceIds=[node.id])
    node.ec2.start_instances(InstanceIds=[node.id])
    assert json.loads(node.read("events/maintenance/scheduled")) == []
    [past] = json.loads(node.read("events/maintenance/history"))
    assert (past["State"], past["EventId"]) == ("completed", made["EventId"])
    assert past["Description"].startswith("[Completed] ")
    assert status()[0]["Description"] == past["Description"]


# -- what it costs ---------------------------------------------------------------------------------------------------


def test_the_service_of_an_instance_costs_less_than_20_kib(make_offline: Any) -> None:
    offline = make_offline(instances=400, accounts=1, regions=("us-east-1",))
    state = offline.world.region(offline.management, "us-east-1")
    places = [Place(offline.management, "us-east-1", each) for each in state.instances]
    paths = ("", "instance-id", "placement/", "identity-credentials/ec2/security-credentials/ec2-instance")

    def ask(place: Place) -> None:
        reply = offline.aws.metadata.respond(place, Request("PUT", b"/latest/api/token", [(TTL, b"60")]))
        token = b"" if reply is None else reply.content.rpartition(b"\r\n\r\n")[2]
        for path in paths:
            offline.aws.metadata.respond(place, Request("GET", b"/latest/meta-data/" + path.encode(), [(TOKEN, token)]))

    ask(places.pop())
    gc.collect()
    tracemalloc.start()
    try:
        for place in places:
            ask(place)
        gc.collect()
        each = tracemalloc.get_traced_memory()[0] / len(places)
    finally:
        tracemalloc.stop()
    assert 500 < each < 20 * 1024
