"""What a launch needs: RunInstances, and the calls that launch as it does.

Source: Service Authorization Reference, RunInstances (its resource types and their keys); EC2 User Guide, "Example
policies to control access the Amazon EC2 API", "Launch instances (RunInstances)".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imdsctl.local.authorization.ec2_resources import arn, existing, option_values
from imdsctl.local.authorization.iam import pass_role
from imdsctl.local.authorization.needs import Need, loose_tags, request_tags
from imdsctl.local.call import Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.launch_parameters import DEFAULT_INSTANCE_TYPE
from imdsctl.local.ec2.launch_templates import find_template, find_version, without_empty
from imdsctl.local.iam.state import InstanceProfile
from imdsctl.local.ssm.resolve import image_of
from imdsctl.policy.request import Keys, ResourceContext, context_keys
from imdsctl.wire.errors import ServiceError

RUN_INSTANCES = "ec2:RunInstances"


def launch_needs(call: Call, params: Mapping[str, Any]) -> list[Need]:
    """ec2:RunInstances on every resource of the launch, ec2:CreateTags for its tags, iam:PassRole for its role.

    `params` are those of RunInstances. `ec2:MetadataHttpTokens` and its siblings carry what the request, else its
    launch template, says; where neither says anything the key is **absent**, whatever the Region or the image would
    decide: AWS does not document another reading, and the absent key is the one that lets a negated deny act.
    """
    template_id, data = _template(call, params.get("LaunchTemplate"))
    request = without_empty(params)
    merged = {**data, **request}
    options = {**(data.get("MetadataOptions") or {}), **(request.get("MetadataOptions") or {})}
    template_keys = {"ec2:launchtemplate": arn(call, "launch-template", template_id)} if template_id else {}
    tags = _tags(data, request)

    def keyed(resource: ResourceContext, more: Keys, *, said_here: bool) -> ResourceContext:
        keys = {**resource.keys, **more, **template_keys}
        if template_id:
            keys["ec2:islaunchtemplateresource"] = "false" if said_here else "true"
        return ResourceContext(resource.arn, keys, resource.account_id)

    resources = [
        keyed(each, {}, said_here=said_here) for each, said_here in _existing(call, merged, request, template_id)
    ]
    zone = (merged.get("Placement") or {}).get("AvailabilityZone")
    profile = named_profile(call, merged)
    instance: dict[str, Any] = {
        "ec2:InstanceType": merged.get("InstanceType") or DEFAULT_INSTANCE_TYPE,
        "ec2:AvailabilityZone": zone,
        "ec2:EbsOptimized": bool(merged.get("EbsOptimized")),
        "ec2:InstanceMarketType": (merged.get("InstanceMarketOptions") or {}).get("MarketType") or "on-demand",
        "ec2:InstanceProfile": profile.arn if profile is not None else None,
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
    new = ResourceContext(arn(call, "instance", "*"), context_keys(instance))
    resources.append(keyed(new, request_tags(tags.get("instance", {})), said_here=not template_id))
    for volume in _volumes(call, merged):
        resources.append(keyed(volume, request_tags(tags.get("volume", {})), said_here=True))
    interface = ResourceContext(
        arn(call, "network-interface", "*"),
        context_keys(
            {
                "ec2:AssociatePublicIpAddress": _interface(merged).get("AssociatePublicIpAddress"),
                "ec2:AvailabilityZone": zone,
                "ec2:Vpc": arn(call, "vpc", region_state(call).vpc_id),
            }
        ),
    )
    resources.append(keyed(interface, request_tags(tags.get("network-interface", {})), said_here=True))

    region = {"ec2:region": call.region}
    wanted = [Need(RUN_INSTANCES, tuple(resources), region)]
    for kind, each in tags.items():
        if each:
            keys = {**request_tags(each), "ec2:createaction": call.action, **region}
            wanted.append(Need("ec2:CreateTags", (ResourceContext(arn(call, kind, "*")),), keys))
    if profile is not None and profile.role is not None:
        wanted.append(pass_role(call, profile.role, "ec2.amazonaws.com"))
    return wanted


def _template(call: Call, specification: Any) -> tuple[str, Mapping[str, Any]]:
    """The id and data of the launch template; empty when there is none or it is not there (the handler says so)."""
    if not isinstance(specification, Mapping) or not specification:
        return "", {}
    try:
        template = find_template(
            region_state(call),
            specification.get("LaunchTemplateId") or None,
            specification.get("LaunchTemplateName") or None,
        )
        return template.id, find_version(template, specification.get("Version")).data
    except ServiceError:
        return str(specification.get("LaunchTemplateId") or "*"), {}


def _existing(
    call: Call, merged: Mapping[str, Any], request: Mapping[str, Any], template_id: str
) -> Iterator[tuple[ResourceContext, bool]]:
    """What a launch uses, each with whether the request itself names it."""
    state = region_state(call)
    yield existing(call, "image", image_of(call, str(merged.get("ImageId") or "*"))), "ImageId" in request
    if template_id:
        yield existing(call, "launch-template", template_id), True
    subnet = merged.get("SubnetId") or _interface(merged).get("SubnetId")
    if not subnet:
        roomiest = state.roomiest_subnet((merged.get("Placement") or {}).get("AvailabilityZone"))
        subnet = roomiest.id if roomiest is not None else "*"
    yield existing(call, "subnet", str(subnet)), "SubnetId" in request
    groups = merged.get("SecurityGroupIds") or _interface(merged).get("Groups") or ()
    if not groups:
        named = merged.get("SecurityGroups") or (state.default_security_group.name,)
        groups = [group.id for group in state.security_groups.values() if group.name in named]
    for group in groups:
        yield existing(call, "security-group", str(group)), "SecurityGroupIds" in request
    if merged.get("KeyName"):
        yield existing(call, "key-pair", str(merged["KeyName"])), "KeyName" in request
    for device in merged.get("BlockDeviceMappings") or ():
        snapshot = (device.get("Ebs") or {}).get("SnapshotId")
        if snapshot:
            yield existing(call, "snapshot", str(snapshot)), "BlockDeviceMappings" in request


def _volumes(call: Call, merged: Mapping[str, Any]) -> Iterator[ResourceContext]:
    """The new volumes: one for each device that the launch describes, at least the root's."""
    zone = (merged.get("Placement") or {}).get("AvailabilityZone")
    devices = [each.get("Ebs") for each in merged.get("BlockDeviceMappings") or () if each.get("Ebs")]
    for ebs in devices or [{}]:
        snapshot = ebs.get("SnapshotId")
        values = {
            "ec2:AvailabilityZone": zone,
            "ec2:Encrypted": bool(ebs.get("Encrypted")),
            "ec2:ParentSnapshot": arn(call, "snapshot", snapshot) if snapshot else None,
            "ec2:VolumeIops": ebs.get("Iops"),
            "ec2:VolumeSize": ebs.get("VolumeSize"),
            "ec2:VolumeType": ebs.get("VolumeType"),
        }
        yield ResourceContext(arn(call, "volume", "*"), context_keys(values))


def _tags(data: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Tags by resource type, the request's over the template's."""
    found: dict[str, dict[str, str]] = {}
    for source in (data, request):
        for each in source.get("TagSpecifications") or ():
            if isinstance(each, Mapping):
                found.setdefault(str(each.get("ResourceType") or "*"), {}).update(loose_tags(each.get("Tags")))
    return found


def _interface(merged: Mapping[str, Any]) -> Mapping[str, Any]:
    interfaces = merged.get("NetworkInterfaces") or ()
    return next((each for each in interfaces if each.get("DeviceIndex", 0) == 0), {})


def named_profile(call: Call, params: Mapping[str, Any]) -> InstanceProfile | None:
    """The instance profile that a request names in `IamInstanceProfile`; None when there is none."""
    profile = params.get("IamInstanceProfile") or {}
    name = str(profile.get("Name") or str(profile.get("Arn") or "").rpartition("/")[2])
    return call.world.iam(call.account_id).profile(name) if name else None
