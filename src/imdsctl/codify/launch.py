"""What a launch needs: RunInstances, and the calls that launch as it does.

Source: Service Authorization Reference, RunInstances (its resource types and their keys); EC2 User Guide, "Example
policies to control access the Amazon EC2 API", "Launch instances (RunInstances)".

The local AWS and the simulator ask the same functions; they differ in what they know of the place (`Surroundings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from imdsctl.codify.needs import Need, loose_tags, option_values, request_tags
from imdsctl.policy.request import Keys, ResourceContext, context_keys

RUN_INSTANCES = "ec2:RunInstances"
DEFAULT_INSTANCE_TYPE = "m1.small"
"""EC2 API Reference, RunInstances, InstanceType: "Default: m1.small"."""
WITHOUT_ACCOUNT = frozenset({"image", "snapshot"})
"""Types whose ARNs name no account."""


class Surroundings(Protocol):
    """What is known of the account's Region in which a launch happens."""

    @property
    def account_id(self) -> str:
        """The account that launches."""

    @property
    def region(self) -> str:
        """The Region's name."""

    def image_id(self, named: str) -> str:
        """The image's id behind what a request names (an id, or `resolve:ssm:...`)."""

    def existing(self, kind: str, identifier: str) -> ResourceContext:
        """A resource that is there, with its keys; without keys when it is not."""

    def template(self, specification: Any) -> tuple[str, Mapping[str, Any]]:
        """Id and data of a launch template; empty when there is none or it is not there."""

    def subnet(self, zone: str | None) -> str:
        """The subnet of a launch that names none; `*` when it is not known."""

    def security_groups(self, names: Iterable[str]) -> Iterable[str]:
        """The ids of security groups by name; the default one's for no names."""

    def vpc_id(self) -> str:
        """The VPC of a launch; empty when it is not known."""

    def profile(self, named: str) -> tuple[str, ResourceContext | None] | None:
        """ARN of an instance profile, and its role; None when there is no such profile."""


def arn(place: Surroundings, kind: str, identifier: str) -> str:
    """`arn:aws:ec2:REGION:ACCOUNT:KIND/ID`."""
    account = "" if kind in WITHOUT_ACCOUNT else place.account_id
    return f"arn:aws:ec2:{place.region}:{account}:{kind}/{identifier}"


def without_empty(value: Mapping[str, Any]) -> dict[str, Any]:
    """A structure without the texts, lists and structures that hold nothing: AWS takes them as not given."""
    out = {}
    for name, member in value.items():
        if isinstance(member, Mapping):
            member = without_empty(member)
        if member is not None and member != "" and member != {} and member != []:
            out[name] = member
    return out


def launch_needs(place: Surroundings, params: Mapping[str, Any], action: str = "RunInstances") -> list[Need]:
    """ec2:RunInstances on every resource of the launch, ec2:CreateTags for its tags, iam:PassRole for its role.

    `params` are those of RunInstances; `action` is the call that launches (`ec2:CreateAction`).
    `ec2:MetadataHttpTokens` and its siblings carry what the request, else its launch template, says; where neither says
    anything the key is **absent**, whatever the Region or the image would decide: AWS does not document another
    reading, and the absent key is the one that lets a negated deny act.
    """
    template_id, data = place.template(params.get("LaunchTemplate"))
    request = without_empty(params)
    merged = {**data, **request}
    options = {**(data.get("MetadataOptions") or {}), **(request.get("MetadataOptions") or {})}
    template_keys = {"ec2:launchtemplate": arn(place, "launch-template", template_id)} if template_id else {}
    tags = _tags(data, request)

    def keyed(resource: ResourceContext, more: Keys, *, said_here: bool) -> ResourceContext:
        keys = {**resource.keys, **more, **template_keys}
        if template_id:
            keys["ec2:islaunchtemplateresource"] = "false" if said_here else "true"
        return ResourceContext(resource.arn, keys, resource.account_id)

    resources = [
        keyed(each, {}, said_here=said_here) for each, said_here in _existing(place, merged, request, template_id)
    ]
    zone = (merged.get("Placement") or {}).get("AvailabilityZone")
    profile = named_profile(place, merged)
    instance: dict[str, Any] = {
        "ec2:InstanceType": merged.get("InstanceType") or DEFAULT_INSTANCE_TYPE,
        "ec2:AvailabilityZone": zone,
        "ec2:EbsOptimized": bool(merged.get("EbsOptimized")),
        "ec2:InstanceMarketType": (merged.get("InstanceMarketOptions") or {}).get("MarketType") or "on-demand",
        "ec2:InstanceProfile": profile[0] if profile is not None else None,
        "ec2:KeyPairName": merged.get("KeyName"),
        "ec2:RootDeviceType": "ebs",
        "ec2:Tenancy": (merged.get("Placement") or {}).get("Tenancy") or "default",
        **option_values(
            tokens=options.get("HttpTokens"),
            hop_limit=options.get("HttpPutResponseHopLimit"),
            endpoint=options.get("HttpEndpoint"),
            tags=options.get("InstanceMetadataTags"),
        ),
    }
    new = ResourceContext(arn(place, "instance", "*"), context_keys(instance))
    resources.append(keyed(new, request_tags(tags.get("instance", {})), said_here=not template_id))
    for volume in _volumes(place, merged):
        resources.append(keyed(volume, request_tags(tags.get("volume", {})), said_here=True))
    vpc = place.vpc_id()
    interface = ResourceContext(
        arn(place, "network-interface", "*"),
        context_keys(
            {
                "ec2:AssociatePublicIpAddress": interface_of(merged).get("AssociatePublicIpAddress"),
                "ec2:AvailabilityZone": zone,
                "ec2:Vpc": arn(place, "vpc", vpc) if vpc else None,
            }
        ),
    )
    resources.append(keyed(interface, request_tags(tags.get("network-interface", {})), said_here=True))

    region = {"ec2:region": place.region}
    wanted = [Need(RUN_INSTANCES, tuple(resources), region)]
    for kind, each in tags.items():
        if each:
            keys = {**request_tags(each), "ec2:createaction": action, **region}
            wanted.append(Need("ec2:CreateTags", (ResourceContext(arn(place, kind, "*")),), keys))
    if profile is not None and profile[1] is not None:
        wanted.append(Need("iam:PassRole", (profile[1],), {"iam:passedtoservice": "ec2.amazonaws.com"}))
    return wanted


def named_profile(place: Surroundings, params: Mapping[str, Any]) -> tuple[str, ResourceContext | None] | None:
    """The instance profile that a request names in `IamInstanceProfile`; None when there is none."""
    profile = params.get("IamInstanceProfile") or {}
    name = str(profile.get("Name") or str(profile.get("Arn") or "").rpartition("/")[2])
    return place.profile(name) if name else None


def fleet_launches(params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What RunInstances is asked for each of a fleet's templates and overrides, on each market it launches on.

    `params` are those of CreateFleet.
    """
    target = params.get("TargetCapacitySpecification") or {}
    default = target.get("DefaultTargetCapacityType") or "on-demand"
    markets = {default} | ({"spot"} if target.get("SpotTargetCapacity") else set())
    markets |= {"on-demand"} if target.get("OnDemandTargetCapacity") else set()
    for config in params.get("LaunchTemplateConfigs") or ():
        overrides: Iterable[Mapping[str, Any]] = config.get("Overrides") or ({},)
        for override in overrides:
            asked = {name: override[name] for name in OVERRIDES if override.get(name)}
            asked["LaunchTemplate"] = config.get("LaunchTemplateSpecification") or {}
            if override.get("AvailabilityZone"):
                asked["Placement"] = {"AvailabilityZone": override["AvailabilityZone"]}
            for market in sorted(markets):
                yield {**asked, "InstanceMarketOptions": {"MarketType": "spot"}} if market == "spot" else asked


OVERRIDES = ("ImageId", "InstanceType", "SubnetId", "BlockDeviceMappings")


def interface_of(merged: Mapping[str, Any]) -> Mapping[str, Any]:
    """The primary network interface of a request, or nothing."""
    interfaces = merged.get("NetworkInterfaces") or ()
    return next((each for each in interfaces if each.get("DeviceIndex", 0) == 0), {})


def _existing(
    place: Surroundings, merged: Mapping[str, Any], request: Mapping[str, Any], template_id: str
) -> Iterator[tuple[ResourceContext, bool]]:
    """What a launch uses, each with whether the request itself names it."""
    yield place.existing("image", place.image_id(str(merged.get("ImageId") or "*"))), "ImageId" in request
    if template_id:
        yield place.existing("launch-template", template_id), True
    subnet = merged.get("SubnetId") or interface_of(merged).get("SubnetId")
    if not subnet:
        subnet = place.subnet((merged.get("Placement") or {}).get("AvailabilityZone"))
    yield place.existing("subnet", str(subnet)), "SubnetId" in request
    groups = merged.get("SecurityGroupIds") or interface_of(merged).get("Groups") or ()
    for group in groups or place.security_groups(merged.get("SecurityGroups") or ()):
        yield place.existing("security-group", str(group)), "SecurityGroupIds" in request
    if merged.get("KeyName"):
        yield place.existing("key-pair", str(merged["KeyName"])), "KeyName" in request
    for device in merged.get("BlockDeviceMappings") or ():
        snapshot = (device.get("Ebs") or {}).get("SnapshotId")
        if snapshot:
            yield place.existing("snapshot", str(snapshot)), "BlockDeviceMappings" in request


def _volumes(place: Surroundings, merged: Mapping[str, Any]) -> Iterator[ResourceContext]:
    """The new volumes: one for each device that the launch describes, at least the root's."""
    zone = (merged.get("Placement") or {}).get("AvailabilityZone")
    devices = [each.get("Ebs") for each in merged.get("BlockDeviceMappings") or () if each.get("Ebs")]
    for ebs in devices or [{}]:
        snapshot = ebs.get("SnapshotId")
        values = {
            "ec2:AvailabilityZone": zone,
            "ec2:Encrypted": bool(ebs.get("Encrypted")),
            "ec2:ParentSnapshot": arn(place, "snapshot", snapshot) if snapshot else None,
            "ec2:VolumeIops": ebs.get("Iops"),
            "ec2:VolumeSize": ebs.get("VolumeSize"),
            "ec2:VolumeType": ebs.get("VolumeType"),
        }
        yield ResourceContext(arn(place, "volume", "*"), context_keys(values))


def _tags(data: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Tags by resource type, the request's over the template's."""
    found: dict[str, dict[str, str]] = {}
    for source in (data, request):
        for each in source.get("TagSpecifications") or ():
            if isinstance(each, Mapping):
                found.setdefault(str(each.get("ResourceType") or "*"), {}).update(loose_tags(each.get("Tags")))
    return found
