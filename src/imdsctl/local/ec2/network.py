"""The default VPC of a Region and what is in it: subnets, route table, network ACL, network interfaces.

Source: EC2 API Reference (the operations below); Amazon VPC User Guide, "Default VPCs": 172.31.0.0/16 with a /20 subnet
in each zone. Nothing else can be made here: launches need a place to go, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2 import render
from imdsctl.local.ec2.common import aws_tags, region_state
from imdsctl.local.ec2.errors import (
    check_choice,
    check_identifiers,
    invalid_combination,
    invalid_value,
    missing,
    not_found,
    refuse,
)
from imdsctl.local.ec2.filters import Filters, boolean, nothing
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import TERMINATED, Instance, Subnet, derived
from imdsctl.local.ec2.security_groups import find_group
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.visibility import shows_managed

VPC_CIDR = "172.31.0.0/16"
INTERNET = "0.0.0.0/0"


def vpc_part(state: RegionState, prefix: str) -> str:
    """The identifier of the one thing of its kind that comes with the default VPC."""
    return f"{prefix}-{derived(prefix, state.vpc_id)}"


def _tags(state: RegionState, resource_id: str) -> dict[str, Any]:
    return {"Tags": aws_tags(state.tags.get(resource_id))}


# -- VPCs ------------------------------------------------------------------------------------------------------------

VPC_FILTERS: Filters[RegionState] = Filters(
    {
        "cidr": lambda state: VPC_CIDR,
        "cidr-block-association.association-id": lambda state: vpc_part(state, "vpc-cidr-assoc"),
        "cidr-block-association.cidr-block": lambda state: VPC_CIDR,
        "cidr-block-association.state": lambda state: "associated",
        "dhcp-options-id": lambda state: vpc_part(state, "dopt"),
        "ipv6-cidr-block-association.association-id": nothing,
        "ipv6-cidr-block-association.ipv6-cidr-block": nothing,
        "ipv6-cidr-block-association.ipv6-pool": nothing,
        "ipv6-cidr-block-association.state": nothing,
        "is-default": lambda state: "true",
        "isDefault": lambda state: "true",
        "owner-id": lambda state: state.account_id,
        "state": lambda state: "available",
        "vpc-id": lambda state: state.vpc_id,
    },
    lambda state: state.tags.get(state.vpc_id, {}),
)


def _vpc_not_found(vpc_id: str) -> AwsError:
    return refuse("InvalidVpcID.NotFound", f"The vpc ID '{vpc_id}' does not exist")


def describe_vpcs(call: Call) -> dict[str, Any]:
    """The default VPC. Raises InvalidVpcID.NotFound, InvalidParameterValue."""
    state, params = region_state(call), call.params
    for vpc_id in params.get("VpcIds") or ():
        if vpc_id != state.vpc_id:
            raise _vpc_not_found(vpc_id)
    found = VPC_FILTERS.select([state], params.get("Filters"))
    shown, _ = page(found, lambda each: each.vpc_id, params, f"{call.account_id}/vpcs")
    return {"Vpcs": [_vpc(each) for each in shown]}


def _vpc(state: RegionState) -> dict[str, Any]:
    return {
        "VpcId": state.vpc_id,
        "CidrBlock": VPC_CIDR,
        "CidrBlockAssociationSet": [
            {
                "AssociationId": vpc_part(state, "vpc-cidr-assoc"),
                "CidrBlock": VPC_CIDR,
                "CidrBlockState": {"State": "associated"},
            }
        ],
        "DhcpOptionsId": vpc_part(state, "dopt"),
        "InstanceTenancy": "default",
        "IsDefault": True,
        "OwnerId": state.account_id,
        "State": "available",
        **_tags(state, state.vpc_id),
    }


VPC_ATTRIBUTES = {
    "enableDnsHostnames": "EnableDnsHostnames",
    "enableDnsSupport": "EnableDnsSupport",
    "enableNetworkAddressUsageMetrics": "EnableNetworkAddressUsageMetrics",
}
"""What `Attribute` names, and the member that carries it."""


def describe_vpc_attribute(call: Call) -> dict[str, Any]:
    """One attribute of the VPC. Raises MissingParameter, InvalidParameterValue, InvalidVpcID.NotFound."""
    state, params = region_state(call), call.params
    _check_vpc(state, params)
    attribute = params.get("Attribute")
    if not attribute:
        raise missing("attribute")
    check_choice(attribute, "Attribute", VPC_ATTRIBUTES)
    return {"VpcId": state.vpc_id, VPC_ATTRIBUTES[attribute]: {"Value": state.vpc_attributes[attribute]}}


def modify_vpc_attribute(call: Call) -> dict[str, Any]:
    """Change one attribute of the VPC.

    Raises MissingParameter, InvalidParameterCombination for more than one, InvalidVpcID.NotFound.
    """
    state, params = region_state(call), call.params
    _check_vpc(state, params)
    named = [name for name, member in VPC_ATTRIBUTES.items() if params.get(member) is not None]
    if not named:
        raise missing("attribute")
    if len(named) > 1:
        raise invalid_combination("Fields for multiple attribute types specified")
    state.vpc_attributes[named[0]] = bool(params[VPC_ATTRIBUTES[named[0]]].get("Value"))
    return {}


def _check_vpc(state: RegionState, params: Mapping[str, Any]) -> None:
    vpc_id = params.get("VpcId")
    if not vpc_id:
        raise missing("vpcId")
    if vpc_id != state.vpc_id:
        raise _vpc_not_found(vpc_id)


# -- subnets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ListedSubnet:
    state: RegionState
    subnet: Subnet


def _subnet_arn(listed: _ListedSubnet) -> str:
    return f"arn:aws:ec2:{listed.state.region}:{listed.state.account_id}:subnet/{listed.subnet.id}"


SUBNET_FILTERS: Filters[_ListedSubnet] = Filters(
    {
        **dict.fromkeys(("availability-zone", "availabilityZone"), lambda listed: listed.subnet.zone.name),
        **dict.fromkeys(("availability-zone-id", "availabilityZoneId"), lambda listed: listed.subnet.zone.id),
        "available-ip-address-count": lambda listed: str(listed.subnet.available),
        **dict.fromkeys(("cidr-block", "cidr", "cidrBlock"), lambda listed: listed.subnet.cidr),
        "customer-owned-ipv4-pool": nothing,
        **dict.fromkeys(("default-for-az", "defaultForAz"), lambda listed: "true"),
        "enable-dns64": lambda listed: "false",
        "enable-lni-at-device-index": nothing,
        "ipv6-cidr-block-association.association-id": nothing,
        "ipv6-cidr-block-association.ipv6-cidr-block": nothing,
        "ipv6-cidr-block-association.state": nothing,
        "ipv6-native": lambda listed: "false",
        "map-customer-owned-ip-on-launch": lambda listed: "false",
        "map-public-ip-on-launch": lambda listed: boolean(listed.subnet.public),
        "outpost-arn": nothing,
        "owner-id": lambda listed: listed.state.account_id,
        "private-dns-name-options-on-launch.enable-resource-name-dns-a-record": lambda listed: "false",
        "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record": lambda listed: "false",
        "private-dns-name-options-on-launch.hostname-type": lambda listed: "ip-name",
        "state": lambda listed: "available",
        "subnet-arn": _subnet_arn,
        "subnet-id": lambda listed: listed.subnet.id,
        "vpc-id": lambda listed: listed.state.vpc_id,
    },
    lambda listed: listed.state.tags.get(listed.subnet.id, {}),
)


def _subnet(state: RegionState, subnet_id: str) -> Subnet:
    check_identifiers("subnet", [subnet_id])
    if subnet_id not in state.subnets:
        raise not_found("subnet", subnet_id)
    return state.subnets[subnet_id]


def describe_subnets(call: Call) -> dict[str, Any]:
    """The subnets, one in each zone, by id and filter, in pages of 5 to 1000.

    Raises InvalidSubnetID.Malformed/.NotFound, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids = params.get("SubnetIds")
    found = {each: _subnet(state, each) for each in ids} if ids else state.subnets
    listed = SUBNET_FILTERS.select((_ListedSubnet(state, found[each]) for each in sorted(found)), params.get("Filters"))
    shown, token = page(listed, lambda each: each.subnet.id, params, f"{call.account_id}/subnets")
    out: dict[str, Any] = {"Subnets": [_subnet_structure(each) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _subnet_structure(listed: _ListedSubnet) -> dict[str, Any]:
    state, subnet = listed.state, listed.subnet
    return {
        "SubnetId": subnet.id,
        "SubnetArn": _subnet_arn(listed),
        "VpcId": state.vpc_id,
        "OwnerId": state.account_id,
        "State": "available",
        "CidrBlock": subnet.cidr,
        "AvailableIpAddressCount": subnet.available,
        "AvailabilityZone": subnet.zone.name,
        "AvailabilityZoneId": subnet.zone.id,
        "DefaultForAz": True,
        "MapPublicIpOnLaunch": subnet.public,
        "MapCustomerOwnedIpOnLaunch": False,
        "AssignIpv6AddressOnCreation": False,
        "Ipv6CidrBlockAssociationSet": [],
        "EnableDns64": False,
        "Ipv6Native": False,
        "PrivateDnsNameOptionsOnLaunch": render.PRIVATE_DNS_NAME_OPTIONS,
        **_tags(state, subnet.id),
    }


def modify_subnet_attribute(call: Call) -> dict[str, Any]:
    """Change whether instances of a subnet get a public address.

    Raises MissingParameter, InvalidSubnetID.*, and UnsupportedOperation for the attributes that the default subnets
    here do not have.
    """
    state, params = region_state(call), call.params
    if not params.get("SubnetId"):
        raise missing("subnetId")
    subnet = _subnet(state, params["SubnetId"])
    named = [name for name in params if name not in ("SubnetId", "DryRun")]
    if not named:
        raise missing("attribute")
    if len(named) > 1:
        raise invalid_combination("Fields for multiple attribute types specified")
    if named != ["MapPublicIpOnLaunch"]:
        raise refuse("UnsupportedOperation", f"The local AWS of imdsctl does not change {named[0]} of a subnet.")
    subnet.public = bool(params["MapPublicIpOnLaunch"].get("Value"))
    return {}


# -- route table and network ACL -------------------------------------------------------------------------------------

ROUTE_TABLE_FILTERS: Filters[RegionState] = Filters(
    {
        "association.gateway-id": nothing,
        "association.main": lambda state: "true",
        "association.route-table-association-id": lambda state: vpc_part(state, "rtbassoc"),
        "association.route-table-id": lambda state: vpc_part(state, "rtb"),
        "association.subnet-id": nothing,
        "owner-id": lambda state: state.account_id,
        "route-table-id": lambda state: vpc_part(state, "rtb"),
        "route.destination-cidr-block": lambda state: [VPC_CIDR, INTERNET],
        "route.destination-ipv6-cidr-block": nothing,
        "route.destination-prefix-list-id": nothing,
        "route.egress-only-internet-gateway-id": nothing,
        "route.gateway-id": lambda state: ["local", vpc_part(state, "igw")],
        "route.instance-id": nothing,
        "route.nat-gateway-id": nothing,
        "route.origin": lambda state: ["CreateRouteTable", "CreateRoute"],
        "route.state": lambda state: "active",
        "route.transit-gateway-id": nothing,
        "route.vpc-peering-connection-id": nothing,
        "vpc-id": lambda state: state.vpc_id,
    },
    lambda state: state.tags.get(vpc_part(state, "rtb"), {}),
)


def describe_route_tables(call: Call) -> dict[str, Any]:
    """The main route table of the VPC. Raises InvalidRouteTableID.NotFound, InvalidParameterValue."""
    state, params = region_state(call), call.params
    table_id = vpc_part(state, "rtb")
    for each in params.get("RouteTableIds") or ():
        if each != table_id:
            raise refuse("InvalidRouteTableID.NotFound", f"The routeTable ID '{each}' does not exist")
    found = ROUTE_TABLE_FILTERS.select([state], params.get("Filters"))
    page(found, lambda each: each.vpc_id, params, f"{call.account_id}/route-tables")
    table = {
        "RouteTableId": table_id,
        "VpcId": state.vpc_id,
        "OwnerId": state.account_id,
        "Associations": [
            {
                "Main": True,
                "RouteTableAssociationId": vpc_part(state, "rtbassoc"),
                "RouteTableId": table_id,
                "AssociationState": {"State": "associated"},
            }
        ],
        "PropagatingVgws": [],
        "Routes": [
            {
                "DestinationCidrBlock": VPC_CIDR,
                "GatewayId": "local",
                "Origin": "CreateRouteTable",
                "State": "active",
            },
            {
                "DestinationCidrBlock": INTERNET,
                "GatewayId": vpc_part(state, "igw"),
                "Origin": "CreateRoute",
                "State": "active",
            },
        ],
        **_tags(state, table_id),
    }
    return {"RouteTables": [table for _ in found]}


ACL_LAST_RULE = 32767
ACL_RULES = [(100, "allow"), (ACL_LAST_RULE, "deny")]

NETWORK_ACL_FILTERS: Filters[RegionState] = Filters(
    {
        "association.association-id": lambda state: [_acl_association(each) for each in state.subnets],
        "association.network-acl-id": lambda state: vpc_part(state, "acl"),
        "association.subnet-id": lambda state: list(state.subnets),
        "default": lambda state: "true",
        "entry.cidr": lambda state: INTERNET,
        "entry.icmp.code": nothing,
        "entry.icmp.type": nothing,
        "entry.ipv6-cidr": nothing,
        "entry.port-range.from": nothing,
        "entry.port-range.to": nothing,
        "entry.protocol": lambda state: "-1",
        "entry.rule-action": lambda state: [action for _, action in ACL_RULES],
        "entry.egress": lambda state: ["true", "false"],
        "entry.rule-number": lambda state: [str(number) for number, _ in ACL_RULES],
        "network-acl-id": lambda state: vpc_part(state, "acl"),
        "owner-id": lambda state: state.account_id,
        "vpc-id": lambda state: state.vpc_id,
    },
    lambda state: state.tags.get(vpc_part(state, "acl"), {}),
)


def _acl_association(subnet_id: str) -> str:
    return f"aclassoc-{derived('aclassoc', subnet_id)}"


def describe_network_acls(call: Call) -> dict[str, Any]:
    """The default network ACL. Raises InvalidNetworkAclID.NotFound, InvalidParameterValue."""
    state, params = region_state(call), call.params
    acl_id = vpc_part(state, "acl")
    for each in params.get("NetworkAclIds") or ():
        if each != acl_id:
            raise refuse("InvalidNetworkAclID.NotFound", f"The networkAcl ID '{each}' does not exist")
    found = NETWORK_ACL_FILTERS.select([state], params.get("Filters"))
    page(found, lambda each: each.vpc_id, params, f"{call.account_id}/network-acls")
    acl = {
        "NetworkAclId": acl_id,
        "VpcId": state.vpc_id,
        "OwnerId": state.account_id,
        "IsDefault": True,
        "Associations": [
            {"NetworkAclAssociationId": _acl_association(each), "NetworkAclId": acl_id, "SubnetId": each}
            for each in state.subnets
        ],
        "Entries": [
            {"CidrBlock": INTERNET, "Egress": egress, "Protocol": "-1", "RuleAction": action, "RuleNumber": number}
            for egress in (True, False)
            for number, action in ACL_RULES
        ],
        **_tags(state, acl_id),
    }
    return {"NetworkAcls": [acl for _ in found]}


# -- network interfaces ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Interface:
    state: RegionState
    instance: Instance

    @property
    def id(self) -> str:
        return render.interface_id(self.instance)


def _interfaces(state: RegionState) -> list[_Interface]:
    """The primary interfaces of all instances that have not gone, which are all there are."""
    return [_Interface(state, each) for each in state.instances.values() if each.state != TERMINATED]


def _of(field: Callable[[Instance], Any]) -> Callable[[_Interface], Any]:
    return lambda interface: field(interface.instance)


def _fixed(value: str) -> Callable[[_Interface], Any]:
    return lambda interface: value


INTERFACE_FILTERS: Filters[_Interface] = Filters(
    {
        **dict.fromkeys(
            (
                "association.allocation-id",
                "association.association-id",
                "addresses.association.owner-id",
                "ipv6-addresses.ipv6-address",
                "requester-id",
            ),
            nothing,
        ),
        "addresses.association.public-ip": _of(render.public_ip),
        "addresses.primary": _fixed("true"),
        "addresses.private-ip-address": _of(lambda each: each.private_ip),
        "association.ip-owner-id": _of(lambda each: "amazon" if render.public_ip(each) else None),
        "association.public-dns-name": _of(lambda each: render.public_dns_name(each) or None),
        "association.public-ip": _of(render.public_ip),
        "attachment.attachment-id": _of(lambda each: f"eni-attach-{derived('eni-attach', each.id)}"),
        "attachment.delete-on-termination": _fixed("true"),
        "attachment.device-index": _fixed("0"),
        "attachment.instance-id": _of(lambda each: each.id),
        "attachment.instance-owner-id": lambda interface: interface.state.account_id,
        "attachment.status": _fixed("attached"),
        "availability-zone": _of(lambda each: each.subnet.zone.name),
        "description": _fixed(""),
        "group-id": _of(lambda each: [group.id for group in each.security_groups]),
        "group-name": _of(lambda each: [group.name for group in each.security_groups]),
        "interface-type": _fixed("interface"),
        "mac-address": _of(render.mac_address),
        "network-interface-id": lambda interface: interface.id,
        "operator.managed": _of(lambda each: boolean(each.managed_by)),
        "operator.principal": _of(lambda each: each.managed_by),
        "owner-id": lambda interface: interface.state.account_id,
        "private-dns-name": _of(render.private_dns_name),
        "private-ip-address": _of(lambda each: each.private_ip),
        "requester-managed": _fixed("false"),
        "source-dest-check": _of(lambda each: boolean(each.source_dest_check)),
        "status": _fixed("in-use"),
        "subnet-id": _of(lambda each: each.subnet.id),
        "vpc-id": lambda interface: interface.state.vpc_id,
    },
    lambda interface: interface.state.tags.get(interface.id, {}),
)


def _interface(state: RegionState, interface_id: str) -> _Interface:
    found = next((each for each in _interfaces(state) if each.id == interface_id), None)
    if found is None:
        raise refuse("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{interface_id}' does not exist")
    return found


def describe_network_interfaces(call: Call) -> dict[str, Any]:
    """The instances' network interfaces, by id and filter, in pages of 5 to 1000.

    Raises InvalidNetworkInterfaceID.NotFound, InvalidParameterValue, InvalidParameterCombination.
    """
    state, params = region_state(call), call.params
    ids = params.get("NetworkInterfaceIds")
    if ids and params.get("MaxResults") is not None:
        raise invalid_combination("The parameter networkInterfaceIds cannot be used with the parameter maxResults")
    found = [_interface(state, each) for each in dict.fromkeys(ids)] if ids else _interfaces(state)
    if not shows_managed(call):
        found = [each for each in found if each.instance.managed_by is None]
    listed = INTERFACE_FILTERS.select(sorted(found, key=lambda each: each.id), params.get("Filters"))
    shown, token = page(listed, lambda each: each.id, params, f"{call.account_id}/network-interfaces")
    out: dict[str, Any] = {"NetworkInterfaces": [_interface_structure(each) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _interface_structure(interface: _Interface) -> dict[str, Any]:
    state, instance = interface.state, interface.instance
    shown = dict(render.interface(state, instance))
    attachment = {**shown["Attachment"], "InstanceId": instance.id, "InstanceOwnerId": state.account_id}
    return {
        **shown,
        "Attachment": attachment,
        "AvailabilityZone": instance.subnet.zone.name,
        "RequesterManaged": False,
        "TagSet": aws_tags(state.tags.get(interface.id)),
    }


def modify_network_interface_attribute(call: Call) -> dict[str, Any]:
    """Change the groups or the source/destination check of an instance's interface.

    Raises MissingParameter, InvalidParameterCombination for more than one attribute,
    InvalidNetworkInterfaceID.NotFound, InvalidGroupId.Malformed, InvalidGroup.NotFound, and UnsupportedOperation for
    other attributes.
    """
    state, params = region_state(call), call.params
    if not params.get("NetworkInterfaceId"):
        raise missing("networkInterfaceId")
    instance = _interface(state, params["NetworkInterfaceId"]).instance
    named = [name for name, value in params.items() if name not in ("NetworkInterfaceId", "DryRun") and value != []]
    if not named:
        raise missing("attribute")
    if len(named) > 1:
        raise invalid_combination("Fields for multiple attribute types specified")
    if named == ["Groups"]:
        instance.security_groups = tuple(find_group(state, each, None) for each in dict.fromkeys(params["Groups"]))
    elif named == ["SourceDestCheck"]:
        value = params["SourceDestCheck"].get("Value")
        if value is None:
            raise missing("sourceDestCheck")
        instance.source_dest_check = value
    else:
        raise refuse("UnsupportedOperation", f"The local AWS of imdsctl does not change {named[0]} of an interface.")
    instance.changed()
    return {}


# -- account ---------------------------------------------------------------------------------------------------------

ACCOUNT_ATTRIBUTES: dict[str, Callable[[RegionState], str]] = {
    "supported-platforms": lambda state: "VPC",
    "default-vpc": lambda state: state.vpc_id,
    "max-instances": lambda state: "1000",
    "vpc-max-security-groups-per-interface": lambda state: "5",
    "max-elastic-ips": lambda state: "5",
    "vpc-max-elastic-ips": lambda state: "5",
}
"""EC2 API Reference, DescribeAccountAttributes. The number of instances is the one that RunInstances allows."""


def describe_account_attributes(call: Call) -> dict[str, Any]:
    """The account's attributes in the Region. Raises InvalidParameterValue for one that AWS does not have."""
    state = region_state(call)
    names = call.params.get("AttributeNames") or list(ACCOUNT_ATTRIBUTES)
    for name in names:
        if name not in ACCOUNT_ATTRIBUTES:
            raise invalid_value(f"Value ({name}) for parameter attributeName is invalid. Invalid attribute name")
    return {
        "AccountAttributes": [
            {"AttributeName": name, "AttributeValues": [{"AttributeValue": ACCOUNT_ATTRIBUTES[name](state)}]}
            for name in dict.fromkeys(names)
        ]
    }


OPERATIONS = {
    "DescribeVpcs": Operation(describe_vpcs),
    "DescribeVpcAttribute": Operation(describe_vpc_attribute),
    "ModifyVpcAttribute": Operation(modify_vpc_attribute, writes=True),
    "DescribeSubnets": Operation(describe_subnets),
    "ModifySubnetAttribute": Operation(modify_subnet_attribute, writes=True),
    "DescribeRouteTables": Operation(describe_route_tables),
    "DescribeNetworkAcls": Operation(describe_network_acls),
    "DescribeNetworkInterfaces": Operation(describe_network_interfaces),
    "ModifyNetworkInterfaceAttribute": Operation(modify_network_interface_attribute, writes=True),
    "DescribeAccountAttributes": Operation(describe_account_attributes),
}
