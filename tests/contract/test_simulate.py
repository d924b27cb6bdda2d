"""A simulation equals what the local AWS does: random policies are attached by botocore, random calls made by it."""

from __future__ import annotations

import json
import os
import random
import re
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.contract.conftest import Org

from imdsctl.codify.asked import Asked, Known, TemplateKnown, needs_of
from imdsctl.codify.policy_set import FULL_ACCESS, FULL_ACCESS_NAME, PolicySet, Written, written
from imdsctl.codify.simulate import Outcome, Result, Says, Simulator
from imdsctl.codify.three_valued import Answer, rule
from imdsctl.domain.options import AccountDefaults, MetadataOptions
from imdsctl.policy.declarative import NOTHING_DECLARED, effective_policy, parse_declarative_policy
from imdsctl.policy.document import PolicyKind
from imdsctl.policy.request import Principal, PrincipalKind, context_keys

PAIRS = int(os.environ.get("IMDSCTL_SOAK_POLICIES", "200"))
SEED = int(os.environ.get("IMDSCTL_SOAK_SEED", "1"))
FULL = "p-FullAWSAccess"
REGIONS = ("us-east-1", "eu-west-1")
ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
TRUST = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}


def document(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class Dice:
    """Random policies and calls; a function of the seed."""

    def __init__(self, seed: int, world: Surroundings) -> None:
        self.random = random.Random(seed)
        self.world = world

    def one(self, *of: Any) -> Any:
        return self.random.choice(of)

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def statement(self, *, denies: float) -> dict[str, Any]:
        allows = not self.maybe(denies)
        out: dict[str, Any] = {"Effect": "Allow" if allows else "Deny"}
        if self.maybe(0.1):
            out["NotAction"] = self.one("iam:*", "ec2:Modify*", "ec2:Describe*")
        else:
            out["Action"] = (
                self.one("*", "*", "*", "ec2:*", "ec2:Run*")
                if allows
                else self.one(
                    "*",
                    "ec2:RunInstances",
                    "ec2:RunInstances",
                    ["ec2:RunInstances", "ec2:CreateFleet"],
                    "ec2:ModifyInstanceMetadataOptions",
                    "ec2:ModifyInstanceMetadataDefaults",
                    ["ec2:CreateTags", "ec2:CreateLaunchTemplate*"],
                    "ec2:modifyinstance*",
                )
            )
        out["Resource"] = self.one(
            *("*", "*", "arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*:*:*/*"),
            *(["arn:aws:ec2:*::image/*", "arn:aws:ec2:*:*:subnet/*"], "arn:aws:ec2:us-east-1:*:*"),
        )
        if self.maybe(0.85 if not allows else 0.3):
            out["Condition"] = {}
            for _ in range(self.one(1, 1, 1, 2)):
                operator, keys = self.condition()
                out["Condition"].setdefault(operator, {}).update(keys)
        return out

    def condition(self) -> tuple[str, dict[str, Any]]:
        text = self.one(
            "StringEquals", "StringNotEquals", "StringLike", "StringEqualsIfExists", "StringNotEqualsIfExists"
        )
        number = self.one("NumericGreaterThan", "NumericLessThanEquals", "NumericEqualsIfExists", "NumericNotEquals")
        kind = self.random.randrange(14)
        if kind < 4:
            return text, {"ec2:MetadataHttpTokens": self.one("required", "optional", ["required"])}
        if kind == 4:
            return number, {"ec2:MetadataHttpPutResponseHopLimit": self.one("1", "2", "3")}
        if kind == 5:
            return "Null", {self.one("ec2:MetadataHttpTokens", "ec2:Attribute/HttpTokens"): self.one("true", "false")}
        if kind == 6:
            return text, {"ec2:Attribute/HttpTokens": self.one("required", "optional")}
        if kind == 7:
            return text, {"aws:RequestTag/team": self.one("red", "r*", "blue")}
        if kind == 8:
            return text, {self.one("aws:RequestedRegion", "ec2:Region"): self.one(*REGIONS)}
        if kind == 9:
            return self.one("ArnLike", "ArnNotLike"), {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}
        if kind == 10:
            return text, {"ec2:InstanceType": self.one("t3.*", "t3.micro")}
        if kind == 11:
            return self.one("ForAnyValue:StringEquals", "ForAllValues:StringEquals"), {
                "aws:TagKeys": self.one("team", "x")
            }
        if kind == 12:
            return self.one("Bool", "BoolIfExists"), {"ec2:IsLaunchTemplateResource": self.one("true", "false")}
        return text, {"aws:PrincipalTag/env": self.one("prod", "test")}

    def policy(self, *, denies: float, allow_all: float = 0.0) -> str:
        statements = [self.statement(denies=denies) for _ in range(self.one(1, 2, 3))]
        return document(*statements, *([ALLOW_ALL] if self.maybe(allow_all) else []))

    def options(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.maybe(0.7):
            out["HttpTokens"] = self.one("required", "optional")
        if self.maybe(0.4):
            out["HttpPutResponseHopLimit"] = self.one(1, 2, 3)
        if self.maybe(0.1):
            out["HttpEndpoint"] = self.one("enabled", "disabled")
        return out

    def call(self) -> tuple[str, dict[str, Any]]:
        kind = self.random.randrange(10)
        if kind < 5:
            return "RunInstances", self.launch()
        if kind == 5:
            template = {"LaunchTemplateName": self.one(*self.world.templates), "Version": "1"}
            target = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": self.one("on-demand", "spot")}
            configs = [{"LaunchTemplateSpecification": template}]
            return "CreateFleet", {
                "Type": "instant",
                "LaunchTemplateConfigs": configs,
                "TargetCapacitySpecification": target,
            }
        if kind < 8:
            return "ModifyInstanceMetadataOptions", {**(self.options() or {"HttpTokens": "optional"}), "InstanceId": ""}
        if kind == 8:
            return "ModifyInstanceMetadataDefaults", {"HttpTokens": self.one("required", "optional", "no-preference")}
        return "CreateLaunchTemplate", {
            "LaunchTemplateName": "",
            "LaunchTemplateData": {"MetadataOptions": self.options() or {"HttpTokens": "required"}},
        }

    def launch(self) -> dict[str, Any]:
        out: dict[str, Any] = {"MinCount": 1, "MaxCount": 1}
        if self.maybe(0.4):
            out["LaunchTemplate"] = {"LaunchTemplateName": self.one(*self.world.templates)}
            if self.maybe(0.5):
                out["LaunchTemplate"]["Version"] = self.one("1", "$Latest", "$Default")
        else:
            out |= {"ImageId": "", "InstanceType": self.one("t3.micro", "m5.large")}
        options = self.options()
        if options and self.maybe(0.7):
            out["MetadataOptions"] = options
        if self.maybe(0.4):
            tags = [{"Key": "team", "Value": self.one("red", "blue")}]
            out["TagSpecifications"] = [{"ResourceType": self.one("instance", "instance", "volume"), "Tags": tags}]
        return out


class Surroundings:
    """A member account with a user, a role, templates and an instance in two Regions."""

    templates = ("required", "optional", "silent")

    def __init__(self, org: Org) -> None:
        self.org, self.account = org, org.member
        offline = org.offline
        self.iam = offline.client("iam", self.account)
        self.iam.create_user(UserName="ann", Tags=[{"Key": "env", "Value": "prod"}])
        self.key = self.iam.create_access_key(UserName="ann")["AccessKey"]
        self.iam.create_role(RoleName="deployer", AssumeRolePolicyDocument=document(TRUST))
        self.boundary = self.iam.create_policy(PolicyName="edge", PolicyDocument=document(ALLOW_ALL))["Policy"]["Arn"]
        self.admin = {name: offline.client("ec2", self.account, region=name) for name in REGIONS}
        self.scps = {target: org.policy(document(ALLOW_ALL), f"at-{target}") for target in (org.root, self.account)}
        self.units = 0
        parent = org.api.list_parents(ChildId=self.account)["Parents"][0]
        while parent["Type"] != "ROOT":
            self.units += 1
            parent = org.api.list_parents(ChildId=parent["Id"])["Parents"][0]
        self.declared = org.declare(org.declared(http_tokens="no_preference"), self.account)
        org.api.detach_policy(PolicyId=self.declared, TargetId=self.account)
        self.managed = False
        self.known = {name: self._known(name) for name in REGIONS}

    def _known(self, region: str) -> dict[str, Any]:
        ec2 = self.admin[region]
        filters = [{"Name": "architecture", "Values": ["x86_64"]}]
        images = [
            ec2.describe_images(Owners=["amazon"], Filters=[*filters, {"Name": "name", "Values": [name]}])["Images"][0]
            for name in ("al2023-ami-2023*", "amzn2-ami-kernel*")
        ]
        templates = {}
        for name in self.templates:
            data: dict[str, Any] = {"ImageId": images[1]["ImageId"], "InstanceType": "t3.micro"}
            if name != "silent":
                data["MetadataOptions"] = {"HttpTokens": name, "HttpPutResponseHopLimit": 2}
            made = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]
            templates[name] = TemplateKnown(made["LaunchTemplateId"], {"1": data})
        launched = ec2.run_instances(ImageId=images[1]["ImageId"], InstanceType="t3.micro", MinCount=1, MaxCount=1)
        return {
            "images": [each["ImageId"] for each in images],
            "imds_support": {each["ImageId"]: each.get("ImdsSupport") for each in images},
            "templates": templates,
            "instance": launched["Instances"][0]["InstanceId"],
            "keys": {
                each["ImageId"]: context_keys({"ec2:Owner": "amazon", "ec2:Public": True, "ec2:RootDeviceType": "ebs"})
                for each in images
            },
        }

    def known_of(self, region: str) -> Known:
        ec2, known = self.admin[region], self.known[region]
        instance = self.instance(region, known["instance"])
        keys = {
            **known["keys"],
            known["instance"]: context_keys({"ec2:InstanceType": "t3.micro", "ec2:RootDeviceType": "ebs"}),
        }
        current = ec2.get_instance_metadata_defaults()["AccountLevel"] if not self.managed else {}
        return Known(
            AccountDefaults.from_aws(current),
            known["imds_support"],
            known["templates"],
            {known["instance"]: MetadataOptions.from_aws(instance["MetadataOptions"])},
            keys,
        )

    def bind(self, full: bool) -> None:
        """Let the SCPs act; without `full` the account has no FullAWSAccess."""
        for target, policy in self.scps.items():
            self.org.api.attach_policy(PolicyId=policy, TargetId=target)
        if not full:
            self.org.api.detach_policy(PolicyId=FULL, TargetId=self.account)

    def free(self, full: bool) -> None:
        """Take them off, so that the account's administrator can look and prepare."""
        if not full:
            self.org.api.attach_policy(PolicyId=FULL, TargetId=self.account)
        for target, policy in self.scps.items():
            self.org.api.detach_policy(PolicyId=policy, TargetId=target)

    def instance(self, region: str, instance_id: str) -> dict[str, Any]:
        answer = self.admin[region].describe_instances(InstanceIds=[instance_id])
        return dict(answer["Reservations"][0]["Instances"][0])


@pytest.fixture
def surroundings(org: Org) -> Surroundings:
    return Surroundings(org)


def attach(there: Surroundings, dice: Dice) -> tuple[PolicySet, Principal, Any, bool]:
    """Random policies, attached through the API; the same as a set; the caller they bind, and its credentials."""
    org, account = there.org, there.account
    at = {target: dice.policy(denies=0.8, allow_all=0.5) for target in there.scps}
    for target, policy in there.scps.items():
        org.api.update_policy(PolicyId=policy, Content=at[target])
    full = dice.maybe(0.8)
    everything = written(FULL_ACCESS, name=FULL_ACCESS_NAME, kind=PolicyKind.SCP)
    levels: list[tuple[str, tuple[Written, ...]]] = [
        ("root", (everything, written(at[org.root], name="root", kind=PolicyKind.SCP))),
        *((f"unit {number}", (everything,)) for number in range(there.units)),
        (
            "account",
            (*((everything,) if full else ()), written(at[account], name="account", kind=PolicyKind.SCP)),
        ),
    ]
    own = dice.policy(denies=0.3, allow_all=0.7)
    boundary = dice.policy(denies=0.3, allow_all=0.8) if dice.maybe(0.3) else None
    session = dice.policy(denies=0.3, allow_all=0.8) if dice.maybe(0.3) else None
    role = dice.maybe(0.5)
    arn, credentials = _caller(there, role, own, boundary, session)
    identity = (written(own, name="own", kind=PolicyKind.IDENTITY),)
    principal = Principal(
        PrincipalKind.ROLE_SESSION if role else PrincipalKind.USER,
        arn,
        account,
        f"arn:aws:iam::{account}:role/deployer" if role else "",
    )
    policies = PolicySet(
        tuple(levels),
        identity,
        written(boundary, name="edge", kind=PolicyKind.BOUNDARY) if boundary else None,
        (written(session, name="session", kind=PolicyKind.SESSION),) if session and role else None,
        _declare(there, dice),
    )
    return policies, principal, credentials, full


def _caller(there: Surroundings, role: bool, own: str, boundary: str | None, session: str | None) -> tuple[str, Any]:
    iam = there.iam
    kind, name = ("role", {"RoleName": "deployer"}) if role else ("user", {"UserName": "ann"})
    getattr(iam, f"put_{kind}_policy")(**name, PolicyName="own", PolicyDocument=own)
    if boundary is None:
        for member in ("role", "user"):
            named = {"RoleName": "deployer"} if member == "role" else {"UserName": "ann"}
            with suppress(iam.exceptions.NoSuchEntityException):
                getattr(iam, f"delete_{member}_permissions_boundary")(**named)
    else:
        old = iam.list_policy_versions(PolicyArn=there.boundary)["Versions"]
        for each in old:
            if not each["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=there.boundary, VersionId=each["VersionId"])
        iam.create_policy_version(PolicyArn=there.boundary, PolicyDocument=boundary, SetAsDefault=True)
        getattr(iam, f"put_{kind}_permissions_boundary")(**name, PermissionsBoundary=there.boundary)
    if not role:
        return f"arn:aws:iam::{there.account}:user/ann", there.key
    sts = there.org.offline.client("sts")
    given = {"Policy": session} if session else {}
    answer = sts.assume_role(RoleArn=f"arn:aws:iam::{there.account}:role/deployer", RoleSessionName="build-7", **given)
    return answer["AssumedRoleUser"]["Arn"], answer["Credentials"]


def _declare(there: Surroundings, dice: Dice) -> Any:
    """Now and then a declarative policy for the account."""
    api = there.org.api
    wanted = dice.maybe(0.2)
    if wanted != there.managed:
        (api.attach_policy if wanted else api.detach_policy)(PolicyId=there.declared, TargetId=there.account)
        there.managed = wanted
    if not wanted:
        return NOTHING_DECLARED
    content = there.org.declared(
        http_tokens=dice.one("required", "optional"), http_tokens_enforced=dice.one("enabled", "disabled")
    )
    api.update_policy(PolicyId=there.declared, Content=content)
    return effective_policy([[parse_declarative_policy(content, name="d")]])


def test_a_simulation_equals_what_the_local_aws_does(surroundings: Surroundings) -> None:
    there = surroundings
    dice = Dice(SEED, there)
    seen: dict[str, int] = {}
    for number in range(PAIRS):
        policies, principal, credentials, full = attach(there, dice)
        action, params = dice.call()
        region = dice.one(*REGIONS)
        if "ImageId" in params:
            params["ImageId"] = dice.one(*there.known[region]["images"])
        if "InstanceId" in params:
            params["InstanceId"] = there.known[region]["instance"]
        if "LaunchTemplateName" in params:
            params["LaunchTemplateName"] = f"new-{number}"
        keys = {"aws:principaltag/env": "prod"} if principal.kind is PrincipalKind.USER else {}
        asked = Asked(action, params, principal, region, keys, there.known_of(region))
        expected = Simulator(policies).outcome(asked)
        assert Simulator(policies).result(asked) is expected.result
        _same_when_everything_is_known(policies, asked)
        there.bind(full)
        answer = _call(there, action, params, region, credentials)
        there.free(full)
        happened = _happened(there, action, params, region, answer)
        text = json.dumps(params, indent=1)
        assert happened == _said(expected, action), f"pair {number} (seed {SEED}): {action} {text}\n{expected}"
        seen[f"{action} {expected.result}"] = seen.get(f"{action} {expected.result}", 0) + 1
    assert {"RunInstances allowed", "RunInstances denied", "RunInstances refused"} <= seen.keys(), seen
    assert {"ModifyInstanceMetadataOptions allowed", "ModifyInstanceMetadataOptions denied"} <= seen.keys(), seen


def _same_when_everything_is_known(policies: PolicySet, asked: Asked) -> None:
    """The decision that a replay takes, with nothing unknown, is the one of the SCPs alone."""
    assert policies.scps is not None
    levels = [level for _, level in policies.scps]
    ruled = rule(needs_of(asked), asked.principal, asked.context(), levels, lambda resource, key: False)
    alone = Simulator(PolicySet(policies.scps)).result(asked)
    assert (ruled.answer is Answer.STOPPED) is (alone is Result.DENIED)
    assert ruled.answer is not Answer.UNKNOWN


def _said(expected: Outcome, action: str) -> tuple[Any, ...]:
    if expected.result is Result.DENIED:
        explicit = [part.kind for part in expected.parts if part.says is Says.DENIES]
        return ("denied", expected.action, expected.resource, bool(explicit), str(explicit[0]) if explicit else "")
    if expected.result is Result.REFUSED:
        return ("refused", expected.error_code)
    return ("allowed", expected.options if action in ("RunInstances", "ModifyInstanceMetadataOptions") else None)


def _call(there: Surroundings, action: str, params: dict[str, Any], region: str, credentials: Any) -> Any:
    ec2 = there.org.offline.client("ec2", credentials=credentials, region=region)
    method = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in action)[1:]
    try:
        return getattr(ec2, method)(**params)
    except ClientError as error:
        return error


def _happened(there: Surroundings, action: str, params: dict[str, Any], region: str, answer: Any) -> tuple[Any, ...]:
    if isinstance(answer, ClientError):
        code, message = answer.response["Error"]["Code"], answer.response["Error"]["Message"]
        if code != "UnauthorizedOperation":
            return ("refused", code)
        sentence = message.partition("perform: ")[2].partition(". Encoded")[0]
        denied_action, _, rest = sentence.partition(" ")
        explicit = "with an explicit deny in " in rest
        kind = rest.partition("explicit deny in ")[2].split(" ", 1)[1] if explicit else ""
        resource = rest.removeprefix("on resource: ").partition(" ")[0] if rest.startswith("on resource") else "*"
        # Which subnet and group a launch without them gets is not what is simulated.
        resource = re.sub(r"/(subnet|sg)-\w+$", "/*", resource)
        return ("denied", denied_action, resource, explicit, kind)
    if action == "RunInstances":
        instance_id = answer["Instances"][0]["InstanceId"]
        options = MetadataOptions.from_aws(there.instance(region, instance_id)["MetadataOptions"])
        there.admin[region].terminate_instances(InstanceIds=[instance_id])
        return ("allowed", options)
    if action == "ModifyInstanceMetadataOptions":
        instance = there.instance(region, params["InstanceId"])
        return ("allowed", MetadataOptions.from_aws(instance["MetadataOptions"]))
    return ("allowed", None)
