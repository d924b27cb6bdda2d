"""EC2's resources as authorization sees them: their ARNs, and the condition keys of what they are now.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2". A key of an existing
resource has its **current** value, not the one that a request asks for (EC2 User Guide, "Example policies for working
with the AWS CLI or an AWS SDK": use `ec2:Attribute/...` for the requested one). A resource that is not there has an ARN
and no keys; its absence is the handler's to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imdsctl.codify.launch import WITHOUT_ACCOUNT
from imdsctl.codify.needs import option_values
from imdsctl.local.authorization.needs import resource_tags
from imdsctl.local.call import Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.errors import check_identifiers
from imdsctl.local.ec2.images import find_image
from imdsctl.local.ec2.resources import Image, Instance, LaunchTemplate, SecurityGroup, Snapshot, Subnet, Volume
from imdsctl.local.ec2.state import RegionState
from imdsctl.policy.request import ResourceContext, context_keys
from imdsctl.wire.errors import ServiceError

Values = Mapping[str, Any]


def arn(call: Call, kind: str, identifier: str) -> str:
    """`arn:aws:ec2:REGION:ACCOUNT:KIND/ID`."""
    account = "" if kind in WITHOUT_ACCOUNT else call.account_id
    return f"arn:aws:ec2:{call.region}:{account}:{kind}/{identifier}"


def existing(call: Call, kind: str, identifier: str) -> ResourceContext:
    """A resource that a request names by its id."""
    state = region_state(call)
    read = _READ.get(kind)
    values: Values = read(call, state, identifier) if read is not None else {}
    tags = state.tags.get(identifier)
    keys = context_keys(values)
    if tags:
        keys = {**keys, **resource_tags(tags, "ec2")}
    return ResourceContext(arn(call, kind, identifier), {**keys, "aws:resourceaccount": call.account_id})


def instance_values(state: RegionState, instance: Instance) -> Values:
    """The keys of an instance that is there."""
    options = instance.options
    return {
        "ec2:InstanceID": instance.id,
        "ec2:InstanceType": instance.instance_type,
        "ec2:AvailabilityZone": instance.subnet.zone.name,
        "ec2:EbsOptimized": instance.ebs_optimized,
        "ec2:InstanceMarketType": instance.lifecycle or "on-demand",
        "ec2:InstanceProfile": instance.profile_arn,
        "ec2:RootDeviceType": "ebs",
        "ec2:Tenancy": instance.tenancy,
        **option_values(
            tokens=options.http_tokens,
            hop_limit=options.http_put_response_hop_limit,
            endpoint=options.http_endpoint,
            tags=options.instance_metadata_tags,
        ),
    }


def _instance(call: Call, state: RegionState, identifier: str) -> Values:
    found = state.instances.get(identifier)
    return instance_values(state, found) if found is not None else {}


def _image(call: Call, state: RegionState, identifier: str) -> Values:
    try:
        check_identifiers("ami", [identifier])
        return image_values(call, find_image(call, identifier))
    except ServiceError:
        return {}


def image_values(call: Call, image: Image) -> Values:
    """The keys of an image, whoever owns it."""
    return {
        "ec2:ImageID": image.id,
        "ec2:ImageType": "machine",
        "ec2:Owner": image.owner_alias or image.owner_id,
        "ec2:Public": image.public,
        "ec2:RootDeviceType": image.root_device_type,
    }


def _volume(call: Call, state: RegionState, identifier: str) -> Values:
    found: Volume | None = state.volumes.get(identifier)
    if found is None:
        return {}
    return {
        "ec2:VolumeID": found.id,
        "ec2:AvailabilityZone": found.zone,
        "ec2:Encrypted": found.encrypted,
        "ec2:ParentSnapshot": arn(call, "snapshot", found.snapshot_id) if found.snapshot_id else None,
        "ec2:VolumeIops": found.iops,
        "ec2:VolumeSize": found.size,
        "ec2:VolumeType": found.volume_type,
    }


def _snapshot(call: Call, state: RegionState, identifier: str) -> Values:
    found: Snapshot | None = state.snapshots.get(identifier)
    if found is None:
        return {}
    return {
        "ec2:SnapshotID": found.id,
        "ec2:Owner": call.account_id,
        "ec2:ParentVolume": arn(call, "volume", found.volume_id),
        "ec2:SnapshotTime": f"{found.started:%Y-%m-%dT%H:%M:%SZ}",
        "ec2:VolumeSize": found.size,
    }


def _subnet(call: Call, state: RegionState, identifier: str) -> Values:
    found: Subnet | None = state.subnets.get(identifier)
    if found is None:
        return {}
    return {
        "ec2:SubnetID": found.id,
        "ec2:AvailabilityZone": found.zone.name,
        "ec2:Vpc": arn(call, "vpc", state.vpc_id),
    }


def _security_group(call: Call, state: RegionState, identifier: str) -> Values:
    found: SecurityGroup | None = state.security_groups.get(identifier)
    return {"ec2:SecurityGroupID": found.id, "ec2:Vpc": arn(call, "vpc", state.vpc_id)} if found is not None else {}


def _template(call: Call, state: RegionState, identifier: str) -> Values:
    found: LaunchTemplate | None = state.templates.get(identifier)
    return {"ec2:LaunchTemplate": arn(call, "launch-template", identifier)} if found is not None else {}


_READ: Mapping[str, Callable[[Call, RegionState, str], Values]] = {
    "instance": _instance,
    "image": _image,
    "volume": _volume,
    "snapshot": _snapshot,
    "subnet": _subnet,
    "security-group": _security_group,
    "launch-template": _template,
}
