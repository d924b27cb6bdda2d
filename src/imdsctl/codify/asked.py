"""A call that is simulated: who asks for what, where, and what is known of the place.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from imdsctl.codify.launch import arn, fleet_launches, launch_needs
from imdsctl.codify.needs import Need, attribute_keys, loose_tags, option_values, request_tags, resource_tags
from imdsctl.domain.options import AccountDefaults, MetadataOptions
from imdsctl.policy.request import Keys, Principal, ResourceContext, context_keys

LAUNCHES = frozenset({"RunInstances", "CreateFleet"})


@dataclass(frozen=True, slots=True)
class TemplateKnown:
    """A launch template: its id, and the data of each version; `default` is what a launch without a version takes."""

    template_id: str
    versions: Mapping[str, Mapping[str, Any]]
    default: str = "1"

    def data(self, version: Any) -> Mapping[str, Any] | None:
        """The data of a version (`$Default`, `$Latest`, a number); None when that version is not known."""
        asked = str(version or "$Default")
        if asked == "$Default":
            asked = self.default
        elif asked == "$Latest":
            asked = max(self.versions, key=int, default="")
        return self.versions.get(asked)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an account's Region. What is not here has its ARN and no keys, as if it had none."""

    defaults: AccountDefaults = field(default_factory=AccountDefaults)
    """The account's own defaults: a declarative policy is laid over them."""
    imds_support: Mapping[str, str | None] = field(default_factory=dict)
    """Image id to its `ImdsSupport`."""
    templates: Mapping[str, TemplateKnown] = field(default_factory=dict)
    """By id and by name."""
    instances: Mapping[str, MetadataOptions] = field(default_factory=dict)
    """Instance id to its options as they are."""
    keys: Mapping[str, Keys] = field(default_factory=dict)
    """Resource id to its condition keys, by lower-case name."""
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Resource id to its tags."""
    subnet_id: str = "*"
    vpc: str = ""
    group_ids: tuple[str, ...] = ("*",)
    profiles: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Instance profile's name to its ARN and its role's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call. `parameters` are AWS's, `keys` the condition keys that no parameter gives (lower-case names)."""

    action: str
    parameters: Mapping[str, Any]
    principal: Principal
    region: str = "us-east-1"
    keys: Keys = field(default_factory=dict)
    known: Known = field(default_factory=Known)

    @property
    def account_id(self) -> str:
        """The caller's account: what a call launches is launched there."""
        return self.principal.account_id

    def context(self) -> dict[str, str | tuple[str, ...]]:
        """The keys that every permission of the call has."""
        return {**self.principal.keys(), "aws:requestedregion": self.region, **self.keys}

    def asking(self, **changed: Any) -> Asked:
        """The same call with other parameters."""
        return replace(self, parameters={**self.parameters, **changed})


def needs_of(asked: Asked) -> list[Need]:
    """The permissions that a call needs, its own action first."""
    place = _Place(asked)
    params = asked.parameters
    if asked.action == "RunInstances":
        return launch_needs(place, params)
    keys: dict[str, Any] = {"ec2:region": asked.region}
    if asked.action.startswith("Modify"):
        keys.update(attribute_keys(params))
    specified = {
        str(each.get("ResourceType") or "*"): loose_tags(each.get("Tags"))
        for each in params.get("TagSpecifications") or ()
        if isinstance(each, Mapping)
    }
    kind = _MADE.get(asked.action)
    if kind is not None:
        keys.update(request_tags(specified.get(kind, {})))
        resources: tuple[ResourceContext, ...] = (ResourceContext(arn(place, kind, "*")),)
    else:
        resources = tuple(_touched(place, asked)) or (ResourceContext(),)
    wanted = [Need(f"ec2:{asked.action}", resources, keys)]
    for created, tags in specified.items():
        if tags:
            more = {**request_tags(tags), "ec2:createaction": asked.action, "ec2:region": asked.region}
            wanted.append(Need("ec2:CreateTags", (ResourceContext(arn(place, created, "*")),), more))
    if asked.action == "CreateFleet":
        for each in fleet_launches(params):
            wanted += launch_needs(place, each, asked.action)
    return wanted


_MADE = {"CreateFleet": "fleet", "CreateLaunchTemplate": "launch-template"}


def _touched(place: _Place, asked: Asked) -> Iterable[ResourceContext]:
    params = asked.parameters
    if asked.action == "ModifyInstanceMetadataOptions" and params.get("InstanceId"):
        yield place.existing("instance", str(params["InstanceId"]))
    elif asked.action == "CreateLaunchTemplateVersion":
        named = str(params.get("LaunchTemplateId") or params.get("LaunchTemplateName") or "*")
        known = asked.known.templates.get(named)
        found = known.template_id if known is not None else named if named.startswith("lt-") else "*"
        yield place.existing("launch-template", found)


class _Place:
    """The surroundings of a call, as far as they are known."""

    def __init__(self, asked: Asked) -> None:
        self._known = asked.known
        self.account_id = asked.account_id
        self.region = asked.region

    def image_id(self, named: str) -> str:
        return named

    def existing(self, kind: str, identifier: str) -> ResourceContext:
        known = self._known
        keys: dict[str, Any] = dict(known.keys.get(identifier, {}))
        options = known.instances.get(identifier) if kind == "instance" else None
        if options is not None:
            values = option_values(
                tokens=options.http_tokens,
                hop_limit=options.http_put_response_hop_limit,
                endpoint=options.http_endpoint,
                tags=options.instance_metadata_tags,
            )
            keys = {**context_keys({"ec2:InstanceID": identifier, **values}), **keys}
        elif kind == "launch-template" and identifier.startswith("lt-"):
            keys.setdefault("ec2:launchtemplate", arn(self, kind, identifier))
        elif kind == "subnet" and known.vpc:
            keys.setdefault("ec2:vpc", arn(self, "vpc", known.vpc))
        keys.update(resource_tags(known.tags.get(identifier), "ec2"))
        keys["aws:resourceaccount"] = self.account_id
        return ResourceContext(arn(self, kind, identifier), keys)

    def template(self, specification: Any) -> tuple[str, Mapping[str, Any]]:
        if not isinstance(specification, Mapping) or not specification:
            return "", {}
        named = specification.get("LaunchTemplateId") or specification.get("LaunchTemplateName")
        known = self._known.templates.get(str(named))
        if known is None:
            return str(specification.get("LaunchTemplateId") or "*"), {}
        return known.template_id, known.data(specification.get("Version")) or {}

    def subnet(self, zone: str | None) -> str:
        return self._known.subnet_id

    def security_groups(self, names: Iterable[str]) -> Iterable[str]:
        return self._known.group_ids

    def vpc_id(self) -> str:
        return self._known.vpc

    def profile(self, named: str) -> tuple[str, ResourceContext | None] | None:
        profile_arn, role = self._known.profiles.get(named, ("", ""))
        return (profile_arn, ResourceContext(role) if role else None) if profile_arn else None
