"""`imdsctl demo --attack`: a role's credentials stolen through IMDSv1, and which layer refuses it afterwards.

Everything shown is what really came back; the demo fails when an attack succeeds that should not, or the reverse.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from imdsctl.cli.demo import Stage, say
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.regions import DEFAULT_REGIONS
from imdsctl.views.text import table_text

ROLE = "shop-web"
SECRET_NAME = "/shop/database-password"
SECRET = "correct horse battery staple"
IMAGE = "/aws/service/ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-gp2"
"""Amazon Linux 2: its images do not ask for IMDSv2, those of Amazon Linux 2023 do."""

ROLE_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "ssm:GetParameter", "Resource": f"arn:aws:ssm:*:*:parameter{SECRET_NAME}"},
    ],
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
REQUIRE_V2_ROLES = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "RequireAllEc2RolesToUseV2",
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"NumericLessThan": {"ec2:RoleDelivery": "2.0"}},
        }
    ],
}
"""AWS's own example. Source: EC2 User Guide, "Example policies", "Work with instance metadata"."""


@dataclass(frozen=True, slots=True)
class Result:
    """What an attack came to: what the metadata service said to each request, and the credentials or None."""

    requests: list[dict[str, Any]]
    credentials: dict[str, str] | None

    @property
    def status(self) -> int:
        """Of the last answer."""
        return int(self.requests[-1]["status"])


def play(stage: Stage, seed: int) -> None:
    """The whole story, on a local AWS that it starts."""
    # botocore reads the environment of this process, too: nothing of the user's may count.
    os.environ.clear()
    os.environ.update(stage.env)
    stage.open("--port", "0", "--accounts", "4", "--instances", "0", "--seed", str(seed))
    management = dict(stage.env)
    account = _member(_client(management, "organizations"))
    stage.take(*("--account", account))
    stage.env["AWS_REGION"] = stage.env["AWS_DEFAULT_REGION"] = region = _open_region(stage.env)
    owner = dict(stage.env)

    stage.namespaces = sys.platform == "linux" and not stage.run("run", "--", "true", shown=False, allowed=(0, 1, 2))
    say("\n# 1. A team of the organization launches a web server. Nobody has said anything about IMDSv2.")
    instance = _web_server(owner)
    say(f"\n$ aws ec2 run-instances ...  # no metadata options; with the role {ROLE}\n{instance}")
    stage.run("explain", instance)

    say(
        "\n# 2. Its application shows previews of links, and fetches whatever a visitor asks for: an SSRF bug. One"
        "\n#    visitor asks for the metadata. (`imdsctl run` gives a program the instance's 169.254.169.254.)"
    )
    stolen = _attack(stage, instance, "preview")
    first = _had(stolen, "IMDSv1 gave them to a plain GET")

    say("\n# 3. The visitor is now the web server, from any place in the world:")
    _use(owner, first, "the password is gone")
    say(f"\n# What AWS recorded of it: {_recorded(owner, instance, first)}")

    say("\n# 4. imdsctl: scan, plan, apply. (As the owner of the account; for all accounts it is the same command.)")
    for line in (("scan", "--current-account", "--regions", region), ("plan", "-o", "plan.json")):
        stage.run_abridged(*line)
    count = json.loads((stage.folder / "plan.json").read_text())["count"]
    stage.run("apply", "plan.json", "--confirm", str(count))

    say("\n# 5. The same attack again.")
    rows = [["ATTACK", "BEFORE", "NOW", "REFUSED BY"]]
    after = _attack(stage, instance, "preview")
    _refused(after, 401)
    rows.append(["GET through the preview", "credentials", "401", "HttpTokens=required: a GET without a token"])

    say("\n# 6. A proxy that lets its visitors choose method and headers asks for a token. It says for whom it asks:")
    after = _attack(stage, instance, "forward")
    _refused(after, 403)
    rows.append(["PUT through a proxy", "-", "403", "IMDSv2: no token for a request with X-Forwarded-For"])

    say("\n# 7. A bug that gives everything away: any method, any header. This time the application is in a container:")
    if stage.namespaces:
        after = _attack(stage, instance, "webhook", "--hops", "1")
        _refused(after, 504)
        rows.append(
            ["PUT from a container", "-", "no answer", "hop limit 1: the kernel dropped the token one hop too far"]
        )
    else:
        say("(left out: this system has no network namespaces for us, so there is no hop to be limited)")
    say(
        "\n#    And on the instance itself? There the attacker does what the application does, and no setting of the"
        "\n#    metadata service tells them apart:"
    )
    after = _attack(stage, instance, "webhook")
    second = _had(after, "IMDSv2 does not help against somebody who chooses method and headers on the instance")
    rows.append(["PUT on the instance", "-", "credentials", "(nothing: mend the bug, and give the role little)"])

    say("\n# 8. What was stolen before is still good, for hours: credentials do not change because the options did.")
    _use(owner, first, "still gone")
    say("\n# An SCP ends that: RequireAllEc2RolesToUseV2 refuses credentials that IMDSv1 handed out.")
    _attach(management, account)
    said = _denied(owner, first)
    say(f"\n$ aws ssm get-parameter --name {SECRET_NAME}  # with the credentials of step 2\n{said}")
    rows.append(["the credentials of step 2", "good", "AccessDenied", "the SCP: ec2:RoleDelivery is 1.0"])
    _use(owner, second, "by IMDSv2: the application itself goes on working")

    say("\n# Before and now\n")
    say(table_text(rows))


# -- the stage --------------------------------------------------------------------------------------------------------


def _client(env: Mapping[str, str], service: str, keys: Mapping[str, str] | None = None) -> Any:
    """A client of the local AWS, with the environment's credentials or with stolen ones."""
    import botocore.config
    import botocore.session

    credentials = {
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
    }
    if keys is not None:
        credentials = {
            "aws_access_key_id": keys["AccessKeyId"],
            "aws_secret_access_key": keys["SecretAccessKey"],
            "aws_session_token": keys["Token"],
        }
    return botocore.session.Session().create_client(
        service,
        region_name=env["AWS_REGION"],
        endpoint_url=env["AWS_ENDPOINT_URL"],
        config=botocore.config.Config(proxies={}, retries={"mode": "standard"}),
        **credentials,
    )


def _member(organizations: Any) -> str:
    """An account that SCPs bind: not the management account."""
    management = organizations.describe_organization()["Organization"]["MasterAccountId"]
    accounts = organizations.list_accounts()["Accounts"]
    return next(
        str(each["Id"])
        for each in accounts
        if each["Id"] != management and each["State"] == "ACTIVE" and each["JoinedMethod"] == "CREATED"
    )


def _open_region(env: Mapping[str, str]) -> str:
    """A Region in which the account has not said that IMDSv2 is required, as it is everywhere until somebody does."""
    for region in DEFAULT_REGIONS:
        found = _client({**env, "AWS_REGION": region}, "ec2").get_instance_metadata_defaults()["AccountLevel"]
        if found.get("HttpTokens") != "required" and found.get("HttpEndpoint") != "disabled":
            return region
    raise _unexpected("the account requires IMDSv2 in all Regions; another `--seed` makes another organization")


def _web_server(env: Mapping[str, str]) -> str:
    """A web server with its role and its secret; the instance's id."""
    iam, ssm, ec2 = (_client(env, name) for name in ("iam", "ssm", "ec2"))
    ssm.put_parameter(Name=SECRET_NAME, Value=SECRET, Type="SecureString")
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.put_role_policy(RoleName=ROLE, PolicyName="read-the-password", PolicyDocument=json.dumps(ROLE_POLICY))
    iam.create_instance_profile(InstanceProfileName=ROLE)
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)
    image = ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"]
    made = ec2.run_instances(
        ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1, IamInstanceProfile={"Name": ROLE}
    )
    found: str = made["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[found], WaiterConfig={"Delay": 1})
    return found


# -- the attacks ------------------------------------------------------------------------------------------------------


def _attack(stage: Stage, instance: str, attack: str, *options: str) -> Result:
    program = (sys.executable, "-m", "imdsctl.adapters.attacker", attack)
    if not stage.namespaces:
        options = (*options, "--no-namespaces")
    say(f"\n$ imdsctl run --instance {instance} {' '.join([*options, ''])}-- attacker {attack}")
    said = stage.output("run", "--instance", instance, *options, "--", *program, aws=False)
    answer = json.loads(said.strip().splitlines()[-1])
    for request in answer["requests"]:
        status = "no answer" if request["status"] == 504 else request["status"]
        say(f"  {request['method']} {request['path']} -> {status}")
    return Result(answer["requests"], answer["credentials"])


def _had(result: Result, because: str) -> dict[str, str]:
    if result.credentials is None:
        raise _unexpected(f"the attack got no credentials, where it should have ({because})")
    say(f"  stolen: {result.credentials['AccessKeyId']} of the role {ROLE}: {because}")
    return result.credentials


def _refused(result: Result, status: int) -> None:
    if result.credentials is not None or result.status != status:
        raise _unexpected(f"the attack ended with {result.status}, and should have been refused with {status}")
    say("  nothing stolen")


def _use(env: Mapping[str, str], keys: Mapping[str, str], comment: str) -> None:
    who = _client(env, "sts", keys).get_caller_identity()["Arn"]
    value = _client(env, "ssm", keys).get_parameter(Name=SECRET_NAME, WithDecryption=True)["Parameter"]["Value"]
    if value != SECRET:
        raise _unexpected("the parameter is not what was put there")
    say(f"\n$ aws sts get-caller-identity  # with {keys['AccessKeyId']}\n{who}")
    say(f"$ aws ssm get-parameter --name {SECRET_NAME} --with-decryption\n{value}   <- {comment}")


def _denied(env: Mapping[str, str], keys: Mapping[str, str]) -> str:
    from botocore.exceptions import ClientError

    try:
        _client(env, "ssm", keys).get_parameter(Name=SECRET_NAME, WithDecryption=True)
    except ClientError as refused:
        said = str(refused)
        if "service control policy" in said:
            return said
        raise _unexpected(f"refused, but not by the SCP: {said}") from None
    raise _unexpected("credentials of IMDSv1 still work under RequireAllEc2RolesToUseV2")


def _recorded(env: Mapping[str, str], instance: str, keys: Mapping[str, str]) -> str:
    """What CloudTrail says of the use of stolen credentials, and CloudWatch of how they were fetched."""
    trail, watch = _client(env, "cloudtrail"), _client(env, "cloudwatch")
    events = trail.lookup_events(
        LookupAttributes=[{"AttributeKey": "AccessKeyId", "AttributeValue": keys["AccessKeyId"]}]
    )
    deliveries = {
        json.loads(event["CloudTrailEvent"])["userIdentity"]["sessionContext"].get("ec2RoleDelivery")
        for event in events["Events"]
    }
    now = datetime.now(UTC)
    points = watch.get_metric_statistics(
        Namespace="AWS/EC2",
        MetricName="MetadataNoToken",
        Dimensions=[{"Name": "InstanceId", "Value": instance}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=5),
        Period=3600,
        Statistics=["Sum"],
    )["Datapoints"]
    count = sum(point["Sum"] for point in points)
    if deliveries != {"1.0"} or count < 2:
        raise _unexpected(f"CloudTrail says {deliveries}, CloudWatch {count} calls without a token")
    return (
        f"CloudTrail has {len(events['Events'])} events with ec2RoleDelivery 1.0,"
        f"\n# CloudWatch {count:.0f} calls without a token (MetadataNoToken) at {instance}."
    )


def _attach(env: Mapping[str, str], account: str) -> None:
    organizations = _client(env, "organizations")
    made = organizations.create_policy(
        Name="RequireAllEc2RolesToUseV2",
        Description="Refuse role credentials that IMDSv1 handed out",
        Type="SERVICE_CONTROL_POLICY",
        Content=json.dumps(REQUIRE_V2_ROLES),
    )
    organizations.attach_policy(PolicyId=made["Policy"]["PolicySummary"]["Id"], TargetId=account)


def _unexpected(what: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic("demo-failed", what, hint="this is a bug of imdsctl: the local AWS of the demo has been stopped")
    )
