"""What a launch needs here: codify/launch.py says it, and asks this world what it has to know.

Source: Service Authorization Reference, RunInstances (its resource types and their keys).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imdsctl.codify.launch import launch_needs as needs_of_launch
from imdsctl.codify.needs import Need
from imdsctl.local.authorization.ec2_resources import existing
from imdsctl.local.authorization.iam import pass_role
from imdsctl.local.call import Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.launch_templates import find_template, find_version
from imdsctl.local.iam.state import InstanceProfile
from imdsctl.local.ssm.resolve import image_of
from imdsctl.policy.request import ResourceContext
from imdsctl.wire.errors import ServiceError


def launch_needs(call: Call, params: Mapping[str, Any]) -> list[Need]:
    """ec2:RunInstances on every resource of the launch, ec2:CreateTags for its tags, iam:PassRole for its role.

    `params` are those of RunInstances, which a call that launches in another way does not have itself.
    """
    return needs_of_launch(_Here(call), params, call.action)


class _Here:
    """The account and Region of a call, as a launch sees them."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._state = region_state(call)
        self.account_id = call.account_id
        self.region = call.region

    def image_id(self, named: str) -> str:
        return image_of(self._call, named)

    def existing(self, kind: str, identifier: str) -> ResourceContext:
        return existing(self._call, kind, identifier)

    def template(self, specification: Any) -> tuple[str, Mapping[str, Any]]:
        """One that is not there has an id and no data: the handler says so."""
        if not isinstance(specification, Mapping) or not specification:
            return "", {}
        try:
            template = find_template(
                self._state,
                specification.get("LaunchTemplateId") or None,
                specification.get("LaunchTemplateName") or None,
            )
            return template.id, find_version(template, specification.get("Version")).data
        except ServiceError:
            return str(specification.get("LaunchTemplateId") or "*"), {}

    def subnet(self, zone: str | None) -> str:
        roomiest = self._state.roomiest_subnet(zone)
        return roomiest.id if roomiest is not None else "*"

    def security_groups(self, names: Iterable[str]) -> Iterable[str]:
        named = tuple(names) or (self._state.default_security_group.name,)
        return [group.id for group in self._state.security_groups.values() if group.name in named]

    def vpc_id(self) -> str:
        return self._state.vpc_id

    def profile(self, named: str) -> tuple[str, ResourceContext | None] | None:
        profile = self._call.world.iam(self._call.account_id).profile(named)
        if profile is None:
            return None
        role = profile.role
        passed = pass_role(self._call, role, "ec2.amazonaws.com").resources[0] if role is not None else None
        return profile.arn, passed


def named_profile(call: Call, params: Mapping[str, Any]) -> InstanceProfile | None:
    """The instance profile that a request names in `IamInstanceProfile`; None when there is none."""
    profile = params.get("IamInstanceProfile") or {}
    name = str(profile.get("Name") or str(profile.get("Arn") or "").rpartition("/")[2])
    return call.world.iam(call.account_id).profile(name) if name else None
