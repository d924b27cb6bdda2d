"""The words of policies about IMDS: condition keys, the values they can have, the actions that know them.

Source: Service Authorization Reference, "Actions, resources, and condition keys" of Amazon EC2, EC2 Auto Scaling,
SageMaker and Image Builder; IAM User Guide, "AWS global condition context keys".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN


@dataclass(frozen=True, slots=True)
class Key:
    """A condition key: its spelling, the values it can carry (none listed: not checked), and whether it is a number."""

    name: str
    values: tuple[str, ...] = ()
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What is read from botocore's models: the operations of some services, by IAM prefix."""

    operations: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong at a path below a statement. `mended`: the copy was put right; the correction is certain."""

    rule: str
    path: str
    message: str
    remedy: str = ""
    mended: bool = False
    corrected: Any = None
    """A correction of its own, where the mended copy of the statement is not it."""


_TOKENS = ("optional", "required")
_SWITCH = ("disabled", "enabled")
_HOPS = tuple(map(str, range(HOP_LIMIT_MIN, HOP_LIMIT_MAX + 1)))
_NONE = "no-preference"

TOKENS, HOPS = "ec2:MetadataHttpTokens", "ec2:MetadataHttpPutResponseHopLimit"
ENDPOINT, TAGS = "ec2:MetadataHttpEndpoint", "ec2:InstanceMetadataTags"
ROLE_DELIVERY = "ec2:RoleDelivery"
ASKED = "ec2:Attribute/"
"""What a Modify call asks for; the name of its parameter follows."""

_ALL = (
    Key(TOKENS, _TOKENS),
    Key(HOPS, _HOPS, numeric=True),
    Key(ENDPOINT, _SWITCH),
    Key(TAGS, _SWITCH),
    Key(ROLE_DELIVERY, ("1.0", "2.0"), numeric=True),
    Key("ec2:Attribute"),
    Key(f"{ASKED}HttpTokens", (*_TOKENS, _NONE)),
    Key(f"{ASKED}HttpPutResponseHopLimit", ("-1", *_HOPS), numeric=True),
    Key(f"{ASKED}HttpEndpoint", (*_SWITCH, _NONE)),
    Key(f"{ASKED}HttpProtocolIpv6", _SWITCH),
    Key(f"{ASKED}InstanceMetadataTags", (*_SWITCH, _NONE)),
    Key(f"{ASKED}HttpTokensEnforced", (*_SWITCH, _NONE)),
    Key(f"{ASKED}ImdsSupport", ("v2.0",)),
    Key("autoscaling:MetadataHttpTokens", _TOKENS),
    Key("autoscaling:MetadataHttpPutResponseHopLimit", _HOPS, numeric=True),
    Key("autoscaling:MetadataHttpEndpoint", _SWITCH),
    Key("sagemaker:MinimumInstanceMetadataServiceVersion", ("1", "2")),
    Key("imagebuilder:Ec2MetadataHttpTokens", _TOKENS),
)
KEYS: Mapping[str, Key] = MappingProxyType({key.name.lower(): key for key in _ALL})
"""The keys that say something about IMDS, by lower-case name."""

_OF_INSTANCE = frozenset({TOKENS, HOPS, ENDPOINT, TAGS})
_OF_CHANGE = frozenset(key.name for key in _ALL if key.name.startswith("ec2:Attribute"))
_OF_CONFIGURATION = frozenset(key.name for key in _ALL if key.name.startswith("autoscaling:"))
_OF_NOTEBOOK = frozenset({"sagemaker:MinimumInstanceMetadataServiceVersion"})
_OF_IMAGE_BUILD = frozenset({"imagebuilder:Ec2MetadataHttpTokens"})

RUN, OPTIONS, DEFAULTS = "ec2:RunInstances", "ec2:ModifyInstanceMetadataOptions", "ec2:ModifyInstanceMetadataDefaults"
CONFIGURATION, IMAGE = "autoscaling:CreateLaunchConfiguration", "ec2:ModifyImageAttribute"
NEW_VERSION, TEMPLATE_DEFAULT = "ec2:CreateLaunchTemplateVersion", "ec2:ModifyLaunchTemplate"

KEYS_OF: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        RUN.lower(): _OF_INSTANCE,
        **{f"ec2:{name}instances": _OF_INSTANCE for name in ("start", "stop", "reboot", "terminate")},
        OPTIONS.lower(): _OF_INSTANCE | _OF_CHANGE - {f"{ASKED}HttpTokensEnforced", f"{ASKED}ImdsSupport"},
        DEFAULTS.lower(): _OF_CHANGE - {f"{ASKED}HttpProtocolIpv6", f"{ASKED}ImdsSupport"},
        "ec2:modifyinstanceattribute": _OF_INSTANCE | {"ec2:Attribute"},
        CONFIGURATION.lower(): _OF_CONFIGURATION,
        "sagemaker:createnotebookinstance": _OF_NOTEBOOK,
        "sagemaker:updatenotebookinstance": _OF_NOTEBOOK,
        "imagebuilder:createinfrastructureconfiguration": _OF_IMAGE_BUILD,
        "imagebuilder:updateinfrastructureconfiguration": _OF_IMAGE_BUILD,
        IMAGE.lower(): frozenset({"ec2:Attribute", f"{ASKED}ImdsSupport"}),
        "ec2:modifylaunchtemplate": frozenset({"ec2:Attribute"}),
        "ec2:createfleet": frozenset(),
        "ec2:requestspotfleet": frozenset(),
        "ec2:requestspotinstances": frozenset(),
        "ec2:createlaunchtemplate": frozenset(),
        "ec2:createlaunchtemplateversion": frozenset(),
        "ec2:registerimage": frozenset(),
        "autoscaling:createautoscalinggroup": frozenset(),
        "autoscaling:updateautoscalinggroup": frozenset(),
    }
)
"""By action, which of KEYS a request for it can have. Actions that are not here are not judged."""

GLOBAL_KEYS = (
    "aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalOrgID", "aws:PrincipalOrgPaths", "aws:PrincipalType",
    "aws:PrincipalIsAWSService", "aws:PrincipalServiceName", "aws:PrincipalServiceNamesList", "aws:PrincipalTag",
    "aws:RequestTag", "aws:ResourceTag", "aws:TagKeys", "aws:RequestedRegion", "aws:ViaAWSService", "aws:CalledVia",
    "aws:CalledViaFirst", "aws:CalledViaLast", "aws:SourceArn", "aws:SourceAccount", "aws:SourceIp", "aws:SourceVpc",
    "aws:SourceVpce", "aws:VpcSourceIp", "aws:SecureTransport", "aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge",
    "aws:CurrentTime", "aws:EpochTime", "aws:TokenIssueTime", "aws:UserAgent", "aws:userid", "aws:username",
    "aws:ResourceAccount", "aws:ResourceOrgID", "aws:ResourceOrgPaths", "aws:SourceOrgID", "aws:SourceOrgPaths",
    "aws:SourceIdentity", "aws:FederatedProvider", "aws:Ec2InstanceSourceVpc", "aws:Ec2InstanceSourcePrivateIPv4",
    "aws:AssumedRoot", "aws:ChatbotSourceArn", "aws:Referer", "aws:SourceVpcArn", "aws:VpceAccount", "aws:VpceOrgID",
    "aws:VpceOrgPaths", "aws:SignInSessionArn",
)  # fmt: skip
"""AWS's global keys; of those that take a tag's name, the part before it."""

_EC2_NAMES = (
    "AccepterVpc", "AssociatePublicIpAddress", "AuthenticationType", "AuthorizedService", "AuthorizedUser",
    "AutoPlacement", "AvailabilityZone", "AvailabilityZoneId", "CapacityReservationFleet", "CpuOptionsAmdSevSnp",
    "CreateAction", "CreateDate", "DestinationCapacityReservationId", "DirectoryArn", "Domain", "EbsOptimized",
    "ElasticGpuType", "Encrypted", "FisActionId", "FisTargetArns", "GatewayType", "HostRecovery", "ImageID",
    "ImageType", "InstanceAutoRecovery", "InstanceBandwidthWeighting", "InstanceID", "InstanceMarketType",
    "InstanceProfile", "InstanceType", "InternetGatewayID", "Ipv4IpamPoolId", "Ipv6IpamPoolId",
    "IsLaunchTemplateResource", "KeyPairName", "KeyPairType", "KmsKeyId", "LaunchTemplate", "ManagedResourceOperator",
    "NetworkAclID", "NetworkInterfaceID", "NewInstanceProfile", "ParentSnapshot", "ParentVolume", "Permission",
    "PlacementGroup", "PlacementGroupName", "PlacementGroupStrategy", "ProductCode", "Public", "PublicIpAddress",
    "Quantity", "Region", "RequesterVpc", "ReservedInstancesOfferingType", "ResourceTag", "RootDeviceType",
    "RouteTableID", "SecurityGroupID", "SnapshotCoolOffPeriod", "SnapshotID", "SnapshotLockDuration", "SnapshotTime",
    "SourceInstanceARN", "SourceOutpostArn", "SubnetID", "Tenancy", "VolumeID", "VolumeInitializationRate",
    "VolumeIops", "VolumeSize", "VolumeThroughput", "VolumeType", "Vpc", "VpcID", "VpceMultiRegion",
    "VpceServiceName", "VpceServiceOwner", "VpceServicePrivateDnsName", "VpceServiceRegion", "VpcPeeringConnectionID",
)  # fmt: skip
EC2_KEYS = frozenset(f"ec2:{each}".lower() for each in _EC2_NAMES)
"""EC2's other keys, so that none of them is taken for a slip of the pen."""

_PERMISSIONS = (
    "AssociateVerifiedAccessInstanceWebAcl", "DisassociateVerifiedAccessInstanceWebAcl",
    "GetVerifiedAccessInstanceWebAcl", "DescribeVerifiedAccessInstanceWebAclAssociations", "InjectApiError",
    "InjectVolumeIOLatency", "PauseVolumeIO", "SendSpotInstanceInterruptions", "GetResourcePolicy",
    "PutResourcePolicy", "DeleteResourcePolicy", "BundleInstance", "DescribeFpgaImages",
    "AcceptVpcEndpointConnections",
)  # fmt: skip
WITHOUT_OPERATION = frozenset(f"ec2:{each}".lower() for each in _PERMISSIONS)
"""Actions that are permissions only: the API has no operation of that name."""

RESOURCE_TYPES = (
    "capacity-reservation", "dedicated-host", "elastic-gpu", "elastic-ip", "elastic-inference", "fleet", "fpga-image",
    "host-reservation", "image", "instance", "internet-gateway", "key-pair", "launch-template", "natgateway",
    "network-acl", "network-interface", "placement-group", "reserved-instances", "route-table", "security-group",
    "snapshot", "spot-fleet-request", "spot-instances-request", "subnet", "volume", "vpc", "vpc-endpoint",
    "license-configuration", "group", "security-group-rule", "export-instance-task", "import-image-task",
    "instance-event-window",
)  # fmt: skip
"""Resource types of EC2's ARNs that come with launches."""

TYPE = "imdsctl:type"
"""No key of AWS: in sample calls it carries the type of the resource that a condition is tested on."""

_ONLY_ON = {
    "instance": (
        "ec2:EbsOptimized", "ec2:InstanceAutoRecovery", "ec2:InstanceBandwidthWeighting", "ec2:InstanceID",
        "ec2:InstanceMarketType", "ec2:InstanceProfile", "ec2:InstanceType", "ec2:Tenancy",
        "aws:RequestTag", "aws:ResourceTag", "ec2:ResourceTag", "aws:TagKeys",
    ),
    "image": ("ec2:ImageID", "ec2:ImageType", "ec2:Owner", "ec2:Public"),
    "network-interface": ("ec2:AssociatePublicIpAddress", "ec2:NetworkInterfaceID"),
    "security-group": ("ec2:SecurityGroupID",),
    "subnet": ("ec2:SubnetID",),
    "volume": (
        "ec2:Encrypted", "ec2:KmsKeyId", "ec2:ParentSnapshot", "ec2:VolumeID", "ec2:VolumeIops", "ec2:VolumeSize",
        "ec2:VolumeThroughput", "ec2:VolumeType",
    ),
}  # fmt: skip
ONLY_ON: Mapping[str, str] = MappingProxyType({key.lower(): kind for kind, keys in _ONLY_ON.items() for key in keys})
"""Keys that a launch has on one type of its resources only. Tags are on more than the instance; which ones depends on
the request, so that they are taken to be on the one whose options are meant."""

PARTITIONS = ("aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc")

_PARAMETERS = {
    "httptokensenforced": "HttpTokensEnforced",
    "httptokens": "HttpTokens",
    "httpputresponsehoplimit": "HttpPutResponseHopLimit",
    "hoplimit": "HttpPutResponseHopLimit",
    "httpendpoint": "HttpEndpoint",
}
"""Parameters by how their names end in what is taken for a key: letters only, without capitals."""
_CALLERS = {f"aws:{name}": "aws:PrincipalArn" for name in ("arn", "callerarn", "principal", "rolearn", "userarn")}


def closest(word: str, among: Iterable[str], cutoff: float = 0.8) -> str | None:
    """The word that was probably meant; the case of letters does not count. None when nothing is close."""
    known = {each.lower(): each for each in among}
    found = get_close_matches(word.lower(), known, 1, cutoff)
    return known[found[0]] if found else None


def key_meant(name: str, actions: Iterable[str]) -> str | None:
    """The key that a name, which is no key, stands for where these (lower-case) actions are asked for; None when the
    name is a key, or nobody can tell."""
    lower = name.lower()
    stem = lower.partition("/")[0]
    if lower in KEYS or lower in EC2_KEYS or stem in EC2_KEYS or stem in {each.lower() for each in GLOBAL_KEYS}:
        return None
    if lower in _CALLERS:
        return _CALLERS[lower]
    prefix, _, rest = lower.partition(":")
    letters = re.sub(r"[^a-z]", "", rest)
    parameter = next((each for end, each in _PARAMETERS.items() if letters.endswith(end)), None)
    if parameter and prefix in ("ec2", "aws", "autoscaling"):
        return _of_parameter(parameter, list(actions), wrote_attribute="attribute" in rest)
    if lower.startswith("ec2:attribute/"):
        return closest(lower, [name for name in _OF_CHANGE if name != "ec2:Attribute"], 0.9)
    if prefix == "aws":
        meant = closest(stem, GLOBAL_KEYS, 0.85)
        return meant + name[len(stem) :] if meant else closest(f"ec2:{rest}", (ROLE_DELIVERY,), 0.9)
    return closest(lower, [key.name for key in _ALL], 0.87)


def no_key(name: str) -> bool:
    """Is a name about IMDS, by the sound of it, and no key?"""
    lower = name.lower()
    stem = lower.partition("/")[0]
    if lower in KEYS or stem in EC2_KEYS:
        return False
    return stem.startswith(("ec2:", "aws:", "autoscaling:")) and ("imds" in stem or "metadata" in stem)


def _of_parameter(parameter: str, actions: list[str], *, wrote_attribute: bool) -> str:
    if wrote_attribute or parameter == "HttpTokensEnforced" or set(actions) & {OPTIONS.lower(), DEFAULTS.lower()}:
        return f"{ASKED}{parameter}"
    return f"{'autoscaling' if CONFIGURATION.lower() in actions else 'ec2'}:Metadata{parameter}"
