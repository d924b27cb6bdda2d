"""botocore as the client of the local AWS: signatures, roles, the organization, Regions, and what outlives a restart.

botocore signs and parses; its requests are handed to the pipeline without a socket in between.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import botocore
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imdsctl.adapters.http_server import Connection, HttpServer
from imdsctl.adapters.local_server import OPERATIONS, Services, local_aws
from imdsctl.adapters.models import load_service
from imdsctl.adapters.state_directory import StateDirectory
from imdsctl.domain.regions import COMMERCIAL_REGIONS, DEFAULT_REGIONS, OPT_IN_REGIONS
from imdsctl.local.generator import make_world
from imdsctl.local.pipeline import LocalAws
from imdsctl.local.spec import WorldSpec
from imdsctl.local.world import ROLE_NAME
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.sigv4 import presign, sign

SESSION = botocore.session.Session()
CREATED = datetime.now(UTC).replace(microsecond=0)
ENDPOINT = "http://127.0.0.1:16925"


class Stage:
    """A local AWS with a clock that can be moved, and botocore clients for it."""

    def __init__(self, state: StateDirectory | None = None, **spec: Any) -> None:
        self.offset = timedelta()
        self.bugs: list[str] = []
        self.requests: list[HttpRequest] = []
        self.spec = WorldSpec(**{"seed": 11, "created": CREATED, "instances": 5, **spec})
        if state is not None and state.manifest() is None:
            state.write_manifest(self.spec)
        self.world = make_world(self.spec)
        self.aws: LocalAws = local_aws(
            self.world, state, clock=lambda: datetime.now(UTC) + self.offset, report=self.bugs.append
        )
        self.management = self.world.management.id

    def handle(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        response = self.aws.handle(request)
        assert not self.bugs, self.bugs[-1]
        return response

    def client(
        self,
        service: str,
        account: str | None = None,
        region: str = "us-east-1",
        credentials: dict[str, str] | None = None,
        *,
        checked: bool = True,
    ) -> Any:
        """A botocore client of an account's administrator (the management account's when none is named).

        One that is not `checked` leaves the checking of parameters to the server.
        """
        key = self.world.admin_credentials(account or self.management)
        settings = {
            "aws_access_key_id": key.access_key_id,
            "aws_secret_access_key": key.secret_access_key,
            "aws_session_token": None,
        }
        if credentials is not None:
            settings = {
                "aws_access_key_id": credentials["AccessKeyId"],
                "aws_secret_access_key": credentials["SecretAccessKey"],
                "aws_session_token": credentials.get("SessionToken"),
            }
        client = SESSION.create_client(
            service,
            region_name=region,
            endpoint_url=ENDPOINT,
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=checked),
            **settings,
        )
        client.meta.events.register("before-send", self.send)
        return client

    def send(self, request: Any, **_: Any) -> AWSResponse:
        parts = urlsplit(request.url)
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        headers.setdefault("host", parts.netloc)
        body = request.body or b""
        response = self.handle(
            HttpRequest(
                request.method,
                parts.path or "/",
                parts.query,
                headers,
                body.encode() if isinstance(body, str) else bytes(body),
            )
        )
        return AWSResponse(request.url, response.status, dict(response.headers), Raw(response.body))


class Raw:
    """A body, as urllib3 would hand it to botocore."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.body


@pytest.fixture(scope="module")
def stage() -> Stage:
    """A stage that no test changes."""
    return Stage(accounts=45)


def refused(call: Callable[[], Any]) -> tuple[str, int, str]:
    """The code, status and message of AWS's refusal."""
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def member(stage: Stage, position: int = 3) -> str:
    return list(stage.world.accounts)[position]


def role(account: str, name: str = ROLE_NAME) -> str:
    return f"arn:aws:iam::{account}:role/{name}"


# -- signatures ------------------------------------------------------------------------------------------------------

PROBES: dict[str, Callable[[Any], Any]] = {
    "sts": lambda client: client.get_caller_identity(),
    "ec2": lambda client: client.describe_regions(),
    "organizations": lambda client: client.describe_organization(),
    "account": lambda client: client.list_regions(),
}
NOT_VALIDATED = "AWS was not able to validate the provided access credentials"


@pytest.mark.parametrize("service", PROBES)
def test_a_right_signature_is_accepted_by_every_service(stage: Stage, service: str) -> None:
    answer = PROBES[service](stage.client(service))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36


@pytest.mark.parametrize(
    ("service", "code", "status"),
    [
        ("ec2", "AuthFailure", 401),
        ("sts", "InvalidClientTokenId", 403),
        ("organizations", "UnrecognizedClientException", 400),
        ("account", "UnrecognizedClientException", 403),
    ],
)
def test_an_unknown_access_key(stage: Stage, service: str, code: str, status: int) -> None:
    client = stage.client(service, credentials={"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "x"})
    assert refused(lambda: PROBES[service](client))[:2] == (code, status)


@pytest.mark.parametrize(
    ("service", "code", "status"),
    [
        ("ec2", "AuthFailure", 401),
        ("sts", "SignatureDoesNotMatch", 403),
        ("organizations", "InvalidSignatureException", 400),
        ("account", "InvalidSignatureException", 403),
    ],
)
def test_a_wrong_secret(stage: Stage, service: str, code: str, status: int) -> None:
    key = stage.world.management.access_key_id
    client = stage.client(service, credentials={"AccessKeyId": key, "SecretAccessKey": "x"})
    assert refused(lambda: PROBES[service](client))[:2] == (code, status)


def test_an_unsigned_request(stage: Stage) -> None:
    assert post(stage, "Action=DescribeRegions&Version=2016-11-15") == (400, "MissingParameter")
    assert post(stage, "Action=GetCallerIdentity&Version=2011-06-15") == (403, "MissingAuthenticationToken")


@pytest.mark.parametrize(
    ("service", "call", "code", "status"),
    [
        ("ec2", "describe_regions", "MissingParameter", 400),
        ("sts", "get_caller_identity", "MissingAuthenticationToken", 403),
        ("iam", "list_users", "MissingAuthenticationToken", 403),
        ("autoscaling", "describe_auto_scaling_groups", "MissingAuthenticationToken", 403),
        ("account", "list_regions", "MissingAuthenticationTokenException", 403),
        ("organizations", "describe_organization", "MissingAuthenticationTokenException", 400),
        ("ssm", "describe_parameters", "MissingAuthenticationTokenException", 400),
        ("cloudtrail", "lookup_events", "MissingAuthenticationTokenException", 400),
        ("cloudwatch", "list_metrics", "MissingAuthenticationTokenException", 400),
    ],
)
def test_an_unsigned_request_is_refused_in_the_form_of_its_service(
    stage: Stage, service: str, call: str, code: str, status: int
) -> None:
    client = stage.client(service)
    client.meta.events.register("choose-signer", lambda **_: botocore.UNSIGNED)
    assert refused(getattr(client, call))[:2] == (code, status)


@pytest.mark.parametrize(
    "header",
    ["", "x", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/20261124/us-east-1/sts/aws4_request", "Bearer abc"],
)
def test_half_a_signature(stage: Stage, header: str) -> None:
    status, code = post(stage, "Action=GetCallerIdentity&Version=2011-06-15", authorization=header)
    assert (status, code) in {(400, "IncompleteSignature"), (403, "MissingAuthenticationToken")}


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_signature_fifteen_minutes_off(minutes: int) -> None:
    stage = Stage()
    stage.offset = timedelta(minutes=minutes)
    code, status, message = refused(lambda: PROBES["sts"](stage.client("sts")))
    assert (code, status) == ("SignatureDoesNotMatch", 403)
    assert "Signature expired" in message if minutes > 0 else "Signature not yet current" in message
    assert refused(lambda: PROBES["ec2"](stage.client("ec2")))[:2] == ("RequestExpired", 400)


def test_a_body_that_was_changed_on_the_way(stage: Stage) -> None:
    stage.client("sts").get_caller_identity()
    sent = stage.requests[-1]
    response = stage.handle(HttpRequest(sent.method, sent.path, sent.query, sent.headers, sent.body + b"&x=1"))
    assert response.status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in response.body


def test_a_presigned_request_is_good_until_it_expires() -> None:
    stage = Stage()
    key = stage.world.admin_credentials(stage.management)
    query = presign(
        "GET",
        "/",
        "Action=GetCallerIdentity&Version=2011-06-15",
        {"host": "x"},
        b"",
        access_key=key.access_key_id,
        secret_key=key.secret_access_key,
        token=None,
        region="eu-west-1",
        service="sts",
        amz_date=datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        expires_seconds=3600,
    )
    request = HttpRequest("GET", "/", query, {"host": "x"}, b"")
    assert stage.handle(request).status == 200
    stage.offset = timedelta(minutes=59)
    assert stage.handle(request).status == 200
    stage.offset = timedelta(minutes=61)
    assert stage.handle(request).status == 403


def test_a_service_that_is_not_here_is_said_in_words(stage: Stage) -> None:
    code, status, message = refused(lambda: stage.client("rds").describe_db_instances())
    assert (code, status) == ("UnsupportedOperation", 400)
    assert "does not implement rds" in message
    code, _, message = refused(lambda: stage.client("logs").describe_log_groups())
    assert code == "UnsupportedOperation"
    assert "logs:DescribeLogGroups" in message


def test_an_operation_that_is_not_here_is_said_in_words(stage: Stage) -> None:
    code, status, message = refused(lambda: stage.client("organizations").list_handshakes_for_organization())
    assert (code, status) == ("UnsupportedOperation", 400)
    assert "organizations:ListHandshakesForOrganization" in message


def test_an_action_that_does_not_exist(stage: Stage) -> None:
    body = "Action=DescribeUnicorns&Version=2016-11-15"
    response = signed(stage, "ec2", body)
    assert response.status == 400
    assert b"<Code>InvalidAction</Code>" in response.body
    assert b"The action DescribeUnicorns is not valid for this web service." in response.body


def test_a_region_that_does_not_exist(stage: Stage) -> None:
    client = stage.client("sts", region="mars-north-1")
    code, status, message = refused(lambda: client.get_caller_identity())
    assert (code, status) == ("SignatureDoesNotMatch", 403)
    assert "valid region" in message


# -- sts -------------------------------------------------------------------------------------------------------------


def test_who_am_i(stage: Stage) -> None:
    account = member(stage)
    identity = stage.client("sts", account).get_caller_identity()
    assert identity["Account"] == account
    assert identity["Arn"] == f"arn:aws:iam::{account}:user/imdsctl-admin"
    assert identity["UserId"].startswith("AIDA")


def test_the_management_account_becomes_a_member(stage: Stage) -> None:
    account = member(stage)
    made = stage.client("sts").assume_role(RoleArn=role(account), RoleSessionName="me@work", DurationSeconds=900)
    assert made["Credentials"]["AccessKeyId"].startswith("ASIA")
    assert made["Credentials"]["Expiration"] - datetime.now(UTC) <= timedelta(seconds=900)
    identity = stage.client("sts", region="eu-west-3", credentials=made["Credentials"]).get_caller_identity()
    assert identity["Account"] == account
    assert identity["Arn"] == f"arn:aws:sts::{account}:assumed-role/{ROLE_NAME}/me@work"
    assert identity["UserId"] == made["AssumedRoleUser"]["AssumedRoleId"]


def test_temporary_credentials_end() -> None:
    stage = Stage()
    made = stage.client("sts").assume_role(RoleArn=role(member(stage)), RoleSessionName="me", DurationSeconds=900)
    stage.offset = timedelta(seconds=901)
    credentials = made["Credentials"]
    assert refused(lambda: PROBES["sts"](stage.client("sts", credentials=credentials)))[:2] == ("ExpiredToken", 403)
    assert refused(lambda: PROBES["ec2"](stage.client("ec2", credentials=credentials)))[:2] == ("RequestExpired", 400)
    organizations = stage.client("organizations", credentials=credentials)
    assert refused(lambda: PROBES["organizations"](organizations))[:2] == ("ExpiredTokenException", 400)


def test_a_token_of_another_session_is_not_valid(stage: Stage) -> None:
    sts = stage.client("sts")
    first = sts.assume_role(RoleArn=role(member(stage)), RoleSessionName="first")["Credentials"]
    second = sts.assume_role(RoleArn=role(member(stage)), RoleSessionName="second")["Credentials"]
    mixed = {**first, "SessionToken": second["SessionToken"]}
    assert refused(lambda: PROBES["sts"](stage.client("sts", credentials=mixed)))[0] == "InvalidClientTokenId"


def test_who_may_not_assume_a_role(stage: Stage) -> None:
    accounts = list(stage.world.accounts.values())
    refusing = next(each.id for each in accounts if each.refuses_role)
    suspended = next(each.id for each in accounts if each.state == "SUSPENDED")
    management, ordinary = stage.management, member(stage)
    for caller, arn in [
        (management, role(refusing)),
        (management, role(suspended)),
        (management, role(management)),
        (management, role("000000000000")),
        (management, role(ordinary, "NoSuchRole")),
        (ordinary, role(member(stage, 4))),
    ]:
        sts = stage.client("sts", caller)
        code, status, message = refused(partial(sts.assume_role, RoleArn=arn, RoleSessionName="me"))
        assert (code, status) == ("AccessDenied", 403)
        user = f"arn:aws:iam::{caller}:user/imdsctl-admin"
        assert message == f"User: {user} is not authorized to perform: sts:AssumeRole on resource: {arn}"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"RoleSessionName": "a b"}, "failed to satisfy constraint: Member must satisfy regular expression pattern"),
        ({"RoleSessionName": "x"}, "'roleSessionName' failed to satisfy constraint: Member must have length greater"),
        ({"RoleSessionName": "x" * 65}, "Member must have length less than or equal to 64"),
        ({"DurationSeconds": 899}, "'durationSeconds' failed to satisfy constraint: Member must have value greater"),
        ({"DurationSeconds": 43201}, "Member must have value less than or equal to 43200"),
        ({"DurationSeconds": 3601}, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."),
        ({"RoleArn": "arn:aws:s3:::a-bucket-of-mine"}, "arn:aws:s3:::a-bucket-of-mine is invalid"),
    ],
)
def test_the_limits_of_assume_role(stage: Stage, params: dict[str, Any], message: str) -> None:
    asked = {"RoleArn": role(member(stage)), "RoleSessionName": "me", **params}
    sts = stage.client("sts", checked=False)
    code, status, said = refused(lambda: sts.assume_role(**asked))
    assert (code, status) == ("ValidationError", 400)
    assert message in said


def test_the_role_does_not_trust_tags(stage: Stage) -> None:
    sts = stage.client("sts")
    tags = [{"Key": "a", "Value": "b"}]
    asked = {"RoleArn": role(member(stage)), "RoleSessionName": "me", "Tags": tags}
    code, _, message = refused(lambda: sts.assume_role(**asked))
    assert code == "AccessDenied"
    assert "sts:TagSession" in message


# -- organizations -----------------------------------------------------------------------------------------------------


def test_forty_five_accounts_come_in_pages_of_twenty(stage: Stage) -> None:
    organizations = stage.client("organizations")
    pages = list(organizations.get_paginator("list_accounts").paginate())
    assert [len(page["Accounts"]) for page in pages] == [20, 20, 5]
    accounts = [account for page in pages for account in page["Accounts"]]
    assert [account["Id"] for account in accounts] == list(stage.world.accounts)
    assert {account["State"] for account in accounts} == {"ACTIVE", "SUSPENDED"}
    assert all(account["State"] == account["Status"] for account in accounts)
    assert all(account["Paths"][0].endswith(f"/{account['Id']}/") for account in accounts)


def test_a_page_may_be_smaller_but_not_larger(stage: Stage) -> None:
    organizations = stage.client("organizations", checked=False)
    assert len(organizations.list_accounts(MaxResults=3)["Accounts"]) == 3
    assert refused(lambda: organizations.list_accounts(MaxResults=21))[0] == "InvalidInputException"
    assert refused(lambda: organizations.list_accounts(MaxResults=0))[0] == "InvalidInputException"
    code, _, _ = refused(lambda: organizations.list_accounts(NextToken="not mine"))
    assert code == "InvalidInputException"


def test_a_token_of_one_list_is_no_token_of_another(stage: Stage) -> None:
    organizations = stage.client("organizations")
    token = organizations.list_accounts(MaxResults=1)["NextToken"]
    with pytest.raises(ClientError) as caught:
        organizations.list_roots(NextToken=token)
    assert caught.value.response["Error"]["Code"] == "InvalidInputException"
    assert caught.value.response["Reason"] == "INVALID_NEXT_TOKEN"


def test_the_tree_from_the_root_holds_every_account_once(stage: Stage) -> None:
    organizations = stage.client("organizations")
    [root] = organizations.list_roots()["Roots"]
    found: list[str] = []
    names: dict[str, str] = {}
    waiting = [(root["Id"], "")]
    while waiting:
        parent, path = waiting.pop()
        for page in organizations.get_paginator("list_accounts_for_parent").paginate(ParentId=parent):
            found += [account["Id"] for account in page["Accounts"]]
        pages = organizations.get_paginator("list_organizational_units_for_parent").paginate(ParentId=parent)
        for unit in itertools.chain.from_iterable(page["OrganizationalUnits"] for page in pages):
            names[unit["Id"]] = f"{path}/{unit['Name']}"
            waiting.append((unit["Id"], names[unit["Id"]]))
            [above] = organizations.list_parents(ChildId=unit["Id"])["Parents"]
            assert above["Id"] == parent
    assert sorted(found) == sorted(stage.world.accounts)
    assert {"/Workloads/Prod", "/Workloads/Dev", "/Security", "/Suspended"} <= set(names.values())


def test_the_management_account_hangs_under_the_root(stage: Stage) -> None:
    organizations = stage.client("organizations")
    [parent] = organizations.list_parents(ChildId=stage.management)["Parents"]
    assert parent == {"Id": stage.world.organization.root_id, "Type": "ROOT"}


def test_a_member_may_describe_the_organization_but_not_list_it(stage: Stage) -> None:
    organizations = stage.client("organizations", member(stage))
    assert organizations.describe_organization()["Organization"]["MasterAccountId"] == stage.management
    for call in (organizations.list_accounts, organizations.list_roots):
        code, status, message = refused(call)
        assert (code, status) == ("AccessDeniedException", 400)
        assert message == "You don't have permissions to access this resource."


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("list_parents", {"ChildId": "000000000000"}, "ChildNotFoundException"),
        ("list_parents", {"ChildId": "nobody"}, "InvalidInputException"),
        ("list_accounts_for_parent", {"ParentId": "r-0000"}, "ParentNotFoundException"),
        ("list_accounts_for_parent", {"ParentId": "x"}, "InvalidInputException"),
        ("list_organizational_units_for_parent", {"ParentId": "ou-0000-00000000"}, "ParentNotFoundException"),
        ("describe_account", {"AccountId": "000000000000"}, "AccountNotFoundException"),
    ],
)
def test_what_is_not_in_the_tree(stage: Stage, operation: str, params: dict[str, str], code: str) -> None:
    client = stage.client("organizations", checked=False)
    assert refused(lambda: getattr(client, operation)(**params))[0] == code


# -- account ---------------------------------------------------------------------------------------------------------


def test_every_commercial_region_has_a_status(stage: Stage) -> None:
    account = stage.client("account")
    pages = list(account.get_paginator("list_regions").paginate(PaginationConfig={"PageSize": 20}))
    assert [len(page["Regions"]) for page in pages] == [20, 14]
    found = {each["RegionName"]: each["RegionOptStatus"] for page in pages for each in page["Regions"]}
    assert sorted(found) == list(COMMERCIAL_REGIONS)
    assert {found[name] for name in DEFAULT_REGIONS} == {"ENABLED_BY_DEFAULT"}
    assert {found[name] for name in OPT_IN_REGIONS} == {"DISABLED"}
    enabled = account.list_regions(RegionOptStatusContains=["ENABLED", "ENABLED_BY_DEFAULT"])["Regions"]
    assert [each["RegionName"] for each in enabled] == sorted(DEFAULT_REGIONS)


def test_opting_in_and_out_takes_its_time() -> None:
    stage = Stage(settle_seconds=60)
    account, region = stage.client("account"), "eu-south-2"

    def status() -> str:
        return str(account.get_region_opt_status(RegionName=region)["RegionOptStatus"])

    account.enable_region(RegionName=region)
    assert status() == "ENABLING"
    assert refused(lambda: account.disable_region(RegionName=region))[:2] == ("ConflictException", 409)
    stage.offset = timedelta(seconds=61)
    assert status() == "ENABLED"
    account.enable_region(RegionName=region)
    assert status() == "ENABLED"
    account.disable_region(RegionName=region)
    assert status() == "DISABLING"
    stage.offset = timedelta(seconds=122)
    assert status() == "DISABLED"


def test_a_region_that_is_on_by_default_cannot_be_changed(stage: Stage) -> None:
    account = stage.client("account")
    for change in (account.enable_region, account.disable_region):
        assert refused(partial(change, RegionName="us-east-1"))[:2] == ("ValidationException", 400)
        assert refused(partial(change, RegionName="mars-north-1"))[:2] == ("ValidationException", 400)


def test_only_the_management_account_speaks_for_others(stage: Stage) -> None:
    other = member(stage)
    assert len(stage.client("account").list_regions(AccountId=other, MaxResults=50)["Regions"]) == 34
    assert refused(lambda: stage.client("account").list_regions(AccountId=stage.management))[0] == "ValidationException"
    client = stage.client("account", other)
    assert refused(lambda: client.list_regions(AccountId=member(stage, 4)))[:2] == ("AccessDeniedException", 403)


def test_the_limits_of_list_regions(stage: Stage) -> None:
    account = stage.client("account", checked=False)
    assert refused(lambda: account.list_regions(MaxResults=51))[0] == "ValidationException"
    assert refused(lambda: account.list_regions(RegionOptStatusContains=["MAYBE"]))[0] == "ValidationException"
    assert refused(lambda: account.list_regions(NextToken="x"))[0] == "ValidationException"


def test_a_region_serves_those_who_opted_in() -> None:
    stage = Stage()
    ec2 = stage.client("ec2", region="af-south-1")
    sts = stage.client("sts", region="af-south-1")
    assert refused(lambda: PROBES["ec2"](ec2)) == ("AuthFailure", 401, NOT_VALIDATED)
    assert refused(lambda: PROBES["sts"](sts))[:2] == ("InvalidClientTokenId", 403)
    stage.client("account").enable_region(RegionName="af-south-1")
    assert PROBES["ec2"](ec2)
    assert PROBES["sts"](sts)
    other = stage.client("ec2", member(stage), region="af-south-1")
    assert refused(lambda: PROBES["ec2"](other))[0] == "AuthFailure"


# -- EC2's part of the pipeline --------------------------------------------------------------------------------------


def test_a_dry_run_says_so_and_changes_nothing() -> None:
    stage = Stage()
    ec2 = stage.client("ec2")
    before = ec2.get_instance_metadata_defaults()["AccountLevel"]
    code, status, message = refused(
        lambda: ec2.modify_instance_metadata_defaults(HttpTokens="required", HttpEndpoint="disabled", DryRun=True)
    )
    assert (code, status) == ("DryRunOperation", 412)
    assert message == "Request would have succeeded, but DryRun flag is set."
    assert ec2.get_instance_metadata_defaults()["AccountLevel"] == before
    assert stage.world.sequence == 0


def dry_runnable() -> list[str]:
    """The operations of EC2 that are here and have DryRun in AWS's model."""
    model = SESSION.get_service_model("ec2")
    shapes = {name: model.operation_model(name).input_shape for name in OPERATIONS["ec2"]}
    return sorted(name for name, shape in shapes.items() if shape is not None and "DryRun" in shape.members)


ATTRIBUTES: dict[str, dict[str, Any]] = {
    "DescribeFleetHistory": {"StartTime": datetime(2026, 1, 1, tzinfo=UTC)},
    "DescribeSpotFleetRequestHistory": {"StartTime": datetime(2026, 1, 1, tzinfo=UTC)},
    "DescribeImageAttribute": {"Attribute": "imdsSupport"},
    "DescribeInstanceAttribute": {"Attribute": "userData"},
    "DescribeVpcAttribute": {"Attribute": "enableDnsHostnames"},
}
"""What one operation alone takes, and a parameter that is called the same in three and means another list of values."""


def test_every_operation_of_ec2_that_has_a_dry_run_only_rehearses() -> None:
    stage = Stage()
    ec2 = stage.client("ec2", checked=False)
    instance = ec2.describe_instances()["Reservations"][0]["Instances"][0]
    group = instance["SecurityGroups"][0]["GroupId"]
    template = ec2.describe_launch_templates()["LaunchTemplates"][0]["LaunchTemplateId"]
    volume = ec2.describe_volumes()["Volumes"][0]
    interface = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    real: dict[str, Any] = {
        "InstanceId": instance["InstanceId"],
        "InstanceIds": [instance["InstanceId"]],
        "ImageId": instance["ImageId"],
        "LaunchTemplateId": template,
        "GroupId": group,
        "SubnetId": instance["SubnetId"],
        "VpcId": instance["VpcId"],
        "Resources": [instance["InstanceId"]],
        "Tags": [{"Key": "a", "Value": "b"}],
        "HttpTokens": "required",
        "SourceRegion": "eu-west-1",
        "SourceImageId": instance["ImageId"],
        "SourceSnapshotId": volume["SnapshotId"],
        "SnapshotId": volume["SnapshotId"],
        "VolumeId": volume["VolumeId"],
        "NetworkInterfaceId": interface,
        "Name": "rehearsal",
        "GroupName": "rehearsal",
        "Description": "a rehearsal",
        "KeyName": "rehearsal",
        "PublicKeyMaterial": b"ssh-ed25519 AAAA",
        "LaunchTemplateName": "rehearsal",
        "LaunchTemplateData": {"ImageId": instance["ImageId"]},
        "Versions": ["1"],
        "InstanceCreditSpecifications": [{"InstanceId": instance["InstanceId"], "CpuCredits": "standard"}],
        "MinCount": 1,
        "MaxCount": 1,
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"}}],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1},
        "FleetId": "fleet-11111111-2222-3333-4444-555555555555",
        "FleetIds": ["fleet-11111111-2222-3333-4444-555555555555"],
        "TerminateInstances": True,
        "SpotInstanceRequestIds": ["sir-abcd1234"],
        "SpotFleetRequestId": "sfr-11111111-2222-3333-4444-555555555555",
        "SpotFleetRequestIds": ["sfr-11111111-2222-3333-4444-555555555555"],
        "SpotFleetRequestConfig": {
            "IamFleetRole": role(stage.world.organization.management_id),
            "TargetCapacity": 1,
            "LaunchSpecifications": [{"ImageId": instance["ImageId"]}],
        },
        "S3Bucket": "rehearsal",
        "TargetId": stage.world.organization.root_id,
        "ReportId": "p-0123456789abcdef0",
        "DefaultVisibility": "hidden",
    }
    before = described(stage)
    names = dry_runnable()
    assert len(names) > 60
    answers = {}
    for name in names:
        members = SESSION.get_service_model("ec2").operation_model(name).input_shape.members
        fits = {str: "string", bytes: "blob", bool: "boolean", int: "integer", list: "list", dict: "structure"}
        params = {
            member: value
            for member, value in real.items()
            if member in members and members[member].type_name == fits[type(value)]
        }
        params |= ATTRIBUTES.get(name, {})
        if name != "CreateLaunchTemplate" and "LaunchTemplateId" in params:
            params.pop("LaunchTemplateName", None)
        answers[name] = refused(partial(getattr(ec2, botocore.xform_name(name)), **params, DryRun=True))[:2]
    assert {name: answer for name, answer in answers.items() if answer != ("DryRunOperation", 412)} == {}
    assert stage.world.sequence == 0
    assert described(stage) == before


# -- what outlives a restart -------------------------------------------------------------------------------------------


def described(stage: Stage) -> list[Any]:
    """What clients see of a few places."""
    seen: list[Any] = []
    for region in ("us-east-1", "eu-west-1"):
        ec2 = stage.client("ec2", region=region)
        seen.append(ec2.get_instance_metadata_defaults()["AccountLevel"])
        seen.append(ec2.describe_instances()["Reservations"])
        seen.append(ec2.describe_tags()["Tags"])
    seen.append(stage.client("account").list_regions()["Regions"])
    return seen


def change(stage: Stage) -> dict[str, Any]:
    """A few writes of every kind, and a role session."""
    ec2 = stage.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    launched = ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2, InstanceType="t3.micro", ClientToken="once")
    ids = [instance["InstanceId"] for instance in launched["Instances"]]
    ec2.modify_instance_metadata_options(InstanceId=ids[0], HttpTokens="required", HttpPutResponseHopLimit=3)
    ec2.create_tags(Resources=ids, Tags=[{"Key": "$map", "Value": "ünï"}])
    ec2.terminate_instances(InstanceIds=ids[1:])
    stage.client("ec2", region="eu-west-1").modify_instance_metadata_defaults(HttpTokens="required")
    stage.client("account").enable_region(RegionName="me-central-1")
    made: dict[str, Any] = stage.client("sts").assume_role(RoleArn=role(member(stage)), RoleSessionName="me")
    return made


def test_a_restart_gives_the_same_answers(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    stage = Stage(state)
    session = change(stage)["Credentials"]
    before = described(stage)
    state.sync()
    state.close()  # no goodbye: the process is gone after its last answer

    again = Stage(reopened := StateDirectory(tmp_path))
    assert described(again) == before
    assert again.world.sequence == stage.world.sequence
    assert again.client("sts", credentials=session).get_caller_identity()["Account"] == member(again)
    # A ClientToken from before still names the same launch, and new ids do not repeat old ones.
    ec2 = again.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    asked: dict[str, Any] = {"ImageId": image, "MinCount": 2, "MaxCount": 2, "InstanceType": "t3.micro"}
    repeated = ec2.run_instances(**asked, ClientToken="once")
    assert all(each["InstanceId"] in str(before) for each in repeated["Instances"])
    fresh = ec2.run_instances(**asked)
    assert not any(each["InstanceId"] in str(before) for each in fresh["Instances"])
    reopened.close()


def test_every_prefix_of_the_log_is_a_state(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "whole")
    stage = Stage(state)
    change(stage)
    state.sync()
    state.close()
    lines = (tmp_path / "whole" / "log").read_bytes().splitlines(keepends=True)
    assert len(lines) == stage.world.sequence == 6
    for count in range(len(lines)):
        folder = tmp_path / str(count)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / "log").write_bytes(b"".join(lines[:count]) + lines[count][:-1])
        part = Stage(cut := StateDirectory(folder))
        assert part.world.sequence == count
        cut.close()


def test_what_was_refused_is_not_in_the_log(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    stage = Stage(state)
    with pytest.raises(ClientError):
        stage.client("ec2").terminate_instances(InstanceIds=["i-00000000000000000"])
    with pytest.raises(ClientError):
        stage.client("account").enable_region(RegionName="us-east-1")
    assert state.position == 0
    state.close()


# -- nothing that is sent makes a 5xx ----------------------------------------------------------------------------------

FUZZED = Stage(accounts=9, instances=4)
TEXT = st.text(st.characters(codec="latin-1", min_codepoint=32), max_size=12)
NAMES = st.sampled_from(
    [
        *("Filter.1.Name", "Filter.1.Value.1", "Filter", "InstanceId.1", "InstanceId", "MaxResults", "NextToken"),
        *("MetadataOptions.HttpTokens", "HttpTokens", "HttpPutResponseHopLimit", "MinCount", "MaxCount", "ImageId"),
        *("LaunchTemplate.LaunchTemplateName", "LaunchTemplate.Version", "LaunchTemplateVersion.1", "DryRun"),
        *("LaunchTemplateId", "LaunchTemplateName", "LaunchTemplateData.MetadataOptions.HttpTokens", "ClientToken"),
        *("ResourceId.1", "Tag.1.Key", "Tag.1.Value", "TagSpecification.1.ResourceType", "AvailabilityZone", "Size"),
        *("RoleArn", "RoleSessionName", "DurationSeconds", "Attribute", "ImdsSupport.Value", "SnapshotId", "Name"),
        *("UserName", "RoleName", "PolicyName", "PolicyDocument", "PolicyArn", "InstanceProfileName", "VersionId"),
        *("AssumeRolePolicyDocument", "Path", "Marker", "MaxItems", "Tags.member.1.Key", "Tags.member.1.Value"),
        *("TagKeys.member.1", "PathPrefix", "AccessKeyId", "Status", "Policy", "PolicyArns.member.1.arn"),
        *("BlockDeviceMapping.1.Ebs.SnapshotId", "BlockDeviceMapping.1.DeviceName", "Owner.1", "RegionName.1"),
    ]
)
VALUES = st.sampled_from(
    [
        "imdsctl-admin",
        "x",
        "/",
        "required",
        "optional",
        "1",
        "-1",
        "0",
        "true",
        "99999999999999999999",
        "1e400",
        "i-00000000000000000",
        "$Default",
    ]
)
FORMS = st.dictionaries(NAMES | TEXT, VALUES | TEXT, max_size=7)
FORM_ACTIONS = st.sampled_from(
    [
        (service, action)
        for service in ("ec2", "sts", "iam")
        for action in (*OPERATIONS[service], "DescribeVpcs", "Nothing")
    ]
)
JSON_ACTIONS = st.sampled_from([*OPERATIONS["organizations"], "ListPolicies", "Nothing", ""])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
JSON_BODIES = st.dictionaries(
    st.sampled_from(["MaxResults", "NextToken", "ParentId", "ChildId", "AccountId", "RegionName"]) | TEXT,
    JSON_VALUES,
    max_size=4,
)
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def post(stage: Stage, body: str, **headers: str) -> tuple[int, str]:
    """The status and code of the answer to a form that is not signed, or signed by hand."""
    response = stage.handle(
        HttpRequest("POST", "/", "", {"host": "x", "content-type": FORM_TYPE, **headers}, body.encode())
    )
    return response.status, response.body.decode().partition("<Code>")[2].partition("</Code>")[0]


FORM_TYPE = "application/x-www-form-urlencoded; charset=utf-8"


def signed(
    stage: Stage,
    service: str,
    body: str | bytes,
    *,
    method: str = "POST",
    path: str = "/",
    query: str = "",
    **headers: str,
) -> HttpResponse:
    """The answer to anything at all, with a right signature on it."""
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    key = stage.world.admin_credentials(stage.management)
    all_headers = {"host": "x", "content-type": FORM_TYPE} | {k.replace("_", "-"): v for k, v in headers.items()}
    added = sign(
        method,
        path,
        query,
        all_headers,
        data,
        access_key=key.access_key_id,
        secret_key=key.secret_access_key,
        token=None,
        region="us-east-1",
        service=service,
        amz_date=datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
    )
    return stage.handle(HttpRequest(method, path, query, all_headers | added, data))


@FUZZ
@given(FORM_ACTIONS, FORMS)
def test_no_form_makes_a_5xx(action: tuple[str, str], form: dict[str, str]) -> None:
    service, name = action
    version = load_service(service).api_version
    response = signed(FUZZED, service, urlencode({"Action": name, "Version": version, **form}, encoding="latin-1"))
    assert response.status < 500, response.body


@FUZZ
@given(FORM_ACTIONS, st.binary(max_size=60) | st.text(max_size=60))
def test_no_body_makes_a_5xx(action: tuple[str, str], body: bytes | str) -> None:
    service, name = action
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    assert signed(FUZZED, service, f"Action={name}&".encode() + data).status < 500
    assert signed(FUZZED, service, data).status < 500


@FUZZ
@given(JSON_ACTIONS, JSON_BODIES | JSON_VALUES, st.booleans())
def test_no_json_makes_a_5xx(action: str, body: Any, account: bool) -> None:
    text = json.dumps(body)
    if account:
        response = signed(FUZZED, "account", text, path=f"/{action[:1].lower()}{action[1:]}")
        assert response.status < 500
        paths = ("/listRegions", "/enableRegion", "/disableRegion", "/getRegionOptStatus")
        assert all(signed(FUZZED, "account", text, path=path).status < 500 for path in paths)
    else:
        target = f"AWSOrganizationsV20161128.{action}"
        response = signed(FUZZED, "organizations", text, x_amz_target=target)
        assert response.status < 500


@FUZZ
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    st.text(st.characters(codec="latin-1", min_codepoint=33), max_size=20).map(lambda text: "/" + text),
    TEXT,
    st.dictionaries(
        st.sampled_from(["authorization", "x-amz-target", "content-type", "smithy-protocol", "x-amz-date", "accept"]),
        TEXT | st.sampled_from(["rpc-v2-cbor", "application/cbor", "AWS4-HMAC-SHA256 Credential=a/b/us-east-1/ec2/c"]),
        max_size=4,
    ),
    st.binary(max_size=30),
    st.sampled_from(["ec2", "sts", "organizations", "account", "s3", ""]),
)
def test_no_request_line_or_header_makes_a_5xx(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, service: str
) -> None:
    assert FUZZED.handle(HttpRequest(method, path, query, {"host": "x", **headers}, body)).status < 500
    headers.pop("authorization", None)
    headers.pop("x-amz-date", None)
    renamed = {name.replace("-", "_"): value for name, value in headers.items()}
    assert signed(FUZZED, service, body, method=method, path=path, query=query, **renamed).status < 500


class Wire(asyncio.Transport):
    """A connection's other end, which only reads."""

    def __init__(self) -> None:
        super().__init__()
        self.received = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.received += bytes(data)

    def close(self) -> None:
        pass


HEADS = st.sampled_from([b"GET / HTTP/1.1\r\nhost: x\r\n", b"POST /listRegions HTTP/1.1\r\ncontent-length: 3\r\n"])
PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r\n\r\n",
        b"transfer-encoding: chunked\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"content-length: 1\r\n",
        b"\0",
        b"authorization: AWS4-HMAC-SHA256 Credential=a/20261124/us-east-1/ec2/aws4_request\r\n",
        b"expect: 100-continue\r\n",
    ]
)


@FUZZ
@given(st.lists(HEADS | PIECES | st.binary(max_size=20), max_size=8))
def test_no_bytes_on_a_connection_make_a_5xx(pieces: list[bytes]) -> None:
    async def conversation() -> bytes:
        connection, wire = Connection(HttpServer(FUZZED.handle)), Wire()
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
        return wire.received

    assert b"HTTP/1.1 5" not in asyncio.run(conversation())


def test_every_service_that_is_implemented_has_its_model() -> None:
    for name in Services():
        service = Services()[name]
        assert set(OPERATIONS[name]) <= set(service.operation_names)
