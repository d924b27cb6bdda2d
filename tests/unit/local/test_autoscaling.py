"""What groups do by themselves depends on the writes only: not on who looked, how often, or when."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.local import autoscaling, ec2
from imdsctl.local.generator import make_world
from imdsctl.local.log import Record
from imdsctl.local.pipeline import LocalAws
from imdsctl.local.spec import WorldSpec

REGION = "eu-west-1"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
OPERATIONS = {"ec2": ec2.OPERATIONS, "autoscaling": autoscaling.OPERATIONS}

NAMES = st.sampled_from(["one", "two"])
SIZES = st.integers(0, 5)


class Lab:
    """A world that is written to, without signatures or wires; `looks` settles it between the writes as reads would."""

    def __init__(self, settle_seconds: float, *, looks: bool) -> None:
        self.world = make_world(WorldSpec(3, CREATED, accounts=3, instances=2, settle_seconds=settle_seconds))
        self.now = CREATED
        self.aws = LocalAws(self.world, {}, OPERATIONS, lambda: self.now)
        self.looks = looks
        self.caller = self.world.admin_credentials(self.world.management.id).caller
        self.state = self.world.region(self.caller.account_id, REGION)
        image = next(iter(self.state.images)) if self.state.images else None
        self.image = image or next(iter(ec2.public_images.public_images(REGION)))

    def write(self, service: str, action: str, **params: Any) -> bool:
        """Whether the write was accepted."""
        record = Record(self.world.sequence + 1, self.now, "", service, action, REGION, self.caller, params)
        try:
            self.aws.replay(record)
        except DiagnosticError:
            return False
        return True

    def passes(self, seconds: float) -> None:
        for _ in range(7):
            self.now += timedelta(seconds=seconds) / 7
            if self.looks:
                self.state.settle(self.now)

    def chosen(self, step: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Service, action and parameters of a step, as somebody chooses them who has just looked."""
        self.state.settle(self.now)
        kind, name = step["kind"], step["group"]
        group = self.state.scaling.groups.get(name) if self.state.scaling else None
        if kind == "lose":
            mine = sorted(id for id, owner in self.state.scaled.items() if owner == name)
            chosen = [mine[step["size"] % len(mine)]] if mine else ["i-0123456789abcdef0"]
            return "ec2", step["act"], {"InstanceIds": chosen}
        if kind == "enforce":
            return "ec2", "ModifyInstanceMetadataDefaults", {"HttpTokensEnforced": step["switch"]}
        if kind == "version":
            options = {"HttpTokens": "required" if step["size"] % 2 else "optional"}
            named = {"LaunchTemplateName": "base", "SourceVersion": "1"}
            return (
                "ec2",
                "CreateLaunchTemplateVersion",
                {**named, "LaunchTemplateData": {"MetadataOptions": options}},
            )
        if kind == "create":
            return (
                "autoscaling",
                "CreateAutoScalingGroup",
                {
                    "AutoScalingGroupName": name,
                    "MinSize": 0,
                    "MaxSize": 6,
                    "DesiredCapacity": step["size"],
                    "AvailabilityZones": [f"{REGION}a", f"{REGION}c"],
                    "LaunchTemplate": {"LaunchTemplateName": "base", "Version": "$Latest"},
                },
            )
        if kind == "member":
            members = sorted(group.members) if group else []
            chosen = members[: step["size"]] or ["i-0123456789abcdef0"]
            return (
                "autoscaling",
                step["aside"],
                {
                    "AutoScalingGroupName": name,
                    "InstanceIds": chosen,
                    "ShouldDecrementDesiredCapacity": step["switch"] == "enabled",
                    "ProtectedFromScaleIn": step["switch"] == "enabled",
                },
            )
        params: dict[str, Any] = {
            "SetDesiredCapacity": {"DesiredCapacity": step["size"]},
            "UpdateAutoScalingGroup": {"MaxSize": max(step["size"], 1)},
            "StartInstanceRefresh": {
                "Preferences": {"MinHealthyPercentage": step["size"] * 20, "ScaleInProtectedInstances": "Refresh"}
            },
            "DeleteAutoScalingGroup": {"ForceDelete": step["switch"] == "enabled"},
        }.get(kind, {})
        return "autoscaling", kind, {"AutoScalingGroupName": name, **params}

    def seen(self) -> str:
        """Everything that the Region's groups and instances are."""
        self.state.settle(self.now)
        scaling = self.state.scaling
        return json.dumps(
            [
                [
                    (
                        each.id,
                        each.state,
                        each.subnet.id,
                        each.private_ip,
                        each.launch_time,
                        str(each.options),
                        self.state.tags.get(each.id),
                    )
                    for each in self.state.instances.values()
                ],
                [repr(group) for group in scaling.groups.values()] if scaling else [],
                [repr(each) for each in scaling.ended] if scaling else [],
            ],
            default=str,
        )


STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(
                [
                    *("create", "create", "lose", "lose", "enforce", "version", "member"),
                    *("SetDesiredCapacity", "UpdateAutoScalingGroup", "StartInstanceRefresh", "CancelInstanceRefresh"),
                    *("DeleteAutoScalingGroup", "SuspendProcesses", "ResumeProcesses"),
                ]
            ),
            "group": NAMES,
            "size": SIZES,
            "switch": st.sampled_from(["enabled", "disabled"]),
            "act": st.sampled_from(["TerminateInstances", "StopInstances", "StartInstances"]),
            "aside": st.sampled_from(["EnterStandby", "ExitStandby", "DetachInstances", "SetInstanceProtection"]),
            "after": st.sampled_from([0.0, 1.0, 20.0, 100.0, 4000.0]),
        }
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, settle_seconds=st.sampled_from([0.0, 15.0]))
def test_reads_between_the_writes_change_nothing(steps: list[dict[str, Any]], settle_seconds: float) -> None:
    labs = [Lab(settle_seconds, looks=looks) for looks in (True, False)]
    for lab in labs:
        lab.write(
            "ec2",
            "CreateLaunchTemplate",
            LaunchTemplateName="base",
            LaunchTemplateData={"ImageId": lab.image, "InstanceType": "t3.micro"},
        )
    for step in steps:
        for lab in labs:
            lab.passes(step["after"])
        service, action, params = labs[0].chosen(step)
        accepted = [lab.write(service, action, **params) for lab in labs]
        assert accepted[0] == accepted[1], step
    for lab in labs:
        lab.passes(30.0)
    looked, unseen = (lab.seen() for lab in labs)
    assert looked == unseen


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_left_alone_a_group_has_what_it_wants(steps: list[dict[str, Any]]) -> None:
    lab = Lab(0.0, looks=False)
    lab.write(
        "ec2",
        "CreateLaunchTemplate",
        LaunchTemplateName="base",
        LaunchTemplateData={"ImageId": lab.image, "InstanceType": "t3.micro"},
    )
    for step in steps:
        lab.passes(step["after"])
        service, action, params = lab.chosen(step)
        lab.write(service, action, **params)
    lab.write("ec2", "ModifyInstanceMetadataDefaults", HttpTokens="required", HttpTokensEnforced="disabled")
    scaling = lab.state.scaling
    for name, group in list(scaling.groups.items()) if scaling else ():
        lab.write("autoscaling", "ResumeProcesses", AutoScalingGroupName=name)
        if group.members:
            lab.write(
                "autoscaling",
                "SetInstanceProtection",
                AutoScalingGroupName=name,
                InstanceIds=list(group.members),
                ProtectedFromScaleIn=False,
            )
    lab.passes(3 * 3600.0)
    lab.state.settle(lab.now)
    for group in scaling.groups.values() if scaling else ():
        assert (group.capacity(), group.refresh) == (group.desired, None)
        assert all(lab.state.scaled[each] == group.name for each in group.members)
        alive = {each.lifecycle for each in group.members.values()}
        assert alive <= {"InService", "Standby"}
    members = {each for group in scaling.groups.values() for each in group.members} if scaling else set()
    assert set(lab.state.scaled) == members
