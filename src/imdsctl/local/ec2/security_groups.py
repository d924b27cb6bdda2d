"""Security groups of the default VPC and their rules.

Source: EC2 API Reference (CreateSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups, DescribeSecurityGroupRules,
Authorize/RevokeSecurityGroupIngress/Egress, UpdateSecurityGroupRuleDescriptionsIngress/Egress). The rules are held and
shown; no traffic flows that they could stop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state, tag_specifications
from imdsctl.local.ec2.errors import (
    check_identifiers,
    invalid_combination,
    invalid_value,
    missing,
    not_found,
    refuse,
)
from imdsctl.local.ec2.filters import Filters, boolean, nothing
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import TERMINATED, Permission, SecurityGroup, SecurityGroupRule, everything
from imdsctl.local.ec2.state import RegionState

NAME_LENGTH_MAX = 255
TEXT = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}")
RULES_MAX = 60
"""Amazon VPC quotas: inbound or outbound rules of a security group."""
PROTOCOLS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}
PROTOCOLS_WITH_PORTS = ("tcp", "udp", "icmp", "icmpv6")
ALL_PROTOCOLS = "-1"


# -- finding ---------------------------------------------------------------------------------------------------------


def find_group(state: RegionState, group_id: str | None, name: str | None) -> SecurityGroup:
    """A group by its identifier, or by its name in the default VPC.

    Raises MissingParameter, InvalidParameterCombination, InvalidGroupId.Malformed and InvalidGroup.NotFound.
    """
    if group_id and name:
        raise invalid_combination("The parameter GroupId may not be used in combination with GroupName")
    if group_id:
        check_identifiers("sg", [group_id])
        if group_id not in state.security_groups:
            raise not_found("sg", group_id)
        return state.security_groups[group_id]
    if not name:
        raise refuse("MissingParameter", "The request must contain the parameter groupName or groupId")
    for group in state.security_groups.values():
        if group.name == name:
            return group
    raise refuse("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC '{state.vpc_id}'")


# -- groups ----------------------------------------------------------------------------------------------------------


def create_security_group(call: Call) -> dict[str, Any]:
    """Make a group that lets everything out and nothing in.

    Raises MissingParameter, InvalidParameterValue, InvalidGroup.Reserved, InvalidGroup.Duplicate and
    InvalidVpcID.NotFound.
    """
    state, params = region_state(call), call.params
    name, description = params.get("GroupName"), params.get("Description")
    if not name:
        raise missing("GroupName")
    if not description:
        raise missing("GroupDescription")
    if name == "default":
        raise refuse("InvalidGroup.Reserved", "The security group 'default' is reserved")
    if name.startswith("sg-"):
        raise invalid_value("Group names may not be in the format sg-*.")
    for what, text in (("group name", name), ("group description", description)):
        if not TEXT.fullmatch(text):
            raise invalid_value(
                f"Value ({text}) for parameter {what.replace(' ', '')} is invalid. Character sets beyond ASCII are "
                "not supported."
            )
    vpc_id = params.get("VpcId") or state.vpc_id
    if vpc_id != state.vpc_id:
        raise refuse("InvalidVpcID.NotFound", f"The vpc ID '{vpc_id}' does not exist")
    tags = tag_specifications(params.get("TagSpecifications"), ["security-group"]).get("security-group")
    if any(group.name == name for group in state.security_groups.values()):
        raise refuse("InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{state.vpc_id}'")
    group = SecurityGroup(f"sg-{call.ids.hex17()}", name, description)
    _add(group, everything(egress=True), None, call)
    state.security_groups[group.id] = group
    if tags:
        state.tags[group.id] = tags
    return {"GroupId": group.id, "SecurityGroupArn": group_arn(state, group), "Tags": aws_tags(tags)}


def group_arn(state: RegionState, group: SecurityGroup) -> str:
    """The group's ARN."""
    return f"arn:aws:ec2:{state.region}:{state.account_id}:security-group/{group.id}"


def delete_security_group(call: Call) -> dict[str, Any]:
    """Delete a group that nothing uses.

    Raises like `find_group`, CannotDelete for the default group, and DependencyViolation while an instance or a rule of
    another group names it.
    """
    state, params = region_state(call), call.params
    group = find_group(state, params.get("GroupId"), params.get("GroupName"))
    if group is state.default_security_group:
        raise refuse("CannotDelete", f'the specified group: "{group.id}" name: "default" cannot be deleted by a user')
    used = any(group in instance.security_groups for instance in state.instances.values() if _on_network(instance))
    named = any(
        permission.kind == "group" and permission.peer == group.id
        for other in state.security_groups.values()
        if other is not group
        for permission in other.rules
    )
    if used or named:
        raise refuse("DependencyViolation", f"resource {group.id} has a dependent object")
    del state.security_groups[group.id]
    state.tags.pop(group.id, None)
    for rule in group.rules.values():
        state.tags.pop(rule.id, None)
    return {"Return": True, "GroupId": group.id}


def _on_network(instance: Any) -> bool:
    return bool(instance.state != TERMINATED)


@dataclass(frozen=True, slots=True)
class _Listed:
    state: RegionState
    group: SecurityGroup

    @property
    def tags(self) -> Mapping[str, str]:
        return self.state.tags.get(self.group.id, {})


def _rules(egress: bool, value: Callable[[Permission], Any]) -> Callable[[_Listed], list[str]]:
    return lambda listed: [
        str(found)
        for permission in listed.group.rules
        if permission.egress is egress and (found := value(permission)) is not None
    ]


def _peer(kind: str) -> Callable[[Permission], str | None]:
    return lambda permission: permission.peer if permission.kind == kind else None


def _rule_filters(prefix: str, egress: bool) -> dict[str, Callable[[_Listed], Any]]:
    def names(listed: _Listed) -> list[str]:
        groups = (listed.state.security_groups.get(each) for each in _rules(egress, _peer("group"))(listed))
        return [group.name for group in groups if group is not None]

    def owner(listed: _Listed) -> str | None:
        return listed.state.account_id if _rules(egress, _peer("group"))(listed) else None

    return {
        f"{prefix}.cidr": _rules(egress, _peer("ipv4")),
        f"{prefix}.from-port": _rules(egress, lambda permission: permission.from_port),
        f"{prefix}.group-id": _rules(egress, _peer("group")),
        f"{prefix}.group-name": names,
        f"{prefix}.ipv6-cidr": _rules(egress, _peer("ipv6")),
        f"{prefix}.prefix-list-id": _rules(egress, _peer("prefix-list")),
        f"{prefix}.protocol": _rules(egress, lambda permission: permission.protocol),
        f"{prefix}.to-port": _rules(egress, lambda permission: permission.to_port),
        f"{prefix}.user-id": owner,
    }


GROUP_FILTERS: Filters[_Listed] = Filters(
    {
        "description": lambda listed: listed.group.description,
        **_rule_filters("egress.ip-permission", egress=True),
        "group-id": lambda listed: listed.group.id,
        "group-name": lambda listed: listed.group.name,
        **_rule_filters("ip-permission", egress=False),
        "owner-id": lambda listed: listed.state.account_id,
        "vpc-id": lambda listed: listed.state.vpc_id,
    },
    lambda listed: listed.tags,
)


def describe_security_groups(call: Call) -> dict[str, Any]:
    """The groups by id, by name, or all, in pages of 5 to 1000.

    Raises InvalidGroupId.Malformed, InvalidGroup.NotFound, InvalidParameterCombination, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids, names = params.get("GroupIds"), params.get("GroupNames")
    if (ids or names) and params.get("MaxResults") is not None:
        raise invalid_combination("The parameter groupIds cannot be used with the parameter maxResults")
    groups = [find_group(state, each, None) for each in ids or ()]
    groups += [find_group(state, None, each) for each in names or ()]
    if not ids and not names:
        groups = list(state.security_groups.values())
    unique = {group.id: group for group in groups}
    listed = GROUP_FILTERS.select((_Listed(state, unique[each]) for each in sorted(unique)), params.get("Filters"))
    shown, token = page(listed, lambda each: each.group.id, params, f"{call.account_id}/security-groups")
    out: dict[str, Any] = {"SecurityGroups": [_structure(state, each.group) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _structure(state: RegionState, group: SecurityGroup) -> dict[str, Any]:
    out: dict[str, Any] = {
        "GroupId": group.id,
        "GroupName": group.name,
        "Description": group.description,
        "OwnerId": state.account_id,
        "VpcId": state.vpc_id,
        "SecurityGroupArn": group_arn(state, group),
        "IpPermissions": _permissions(state, group, egress=False),
        "IpPermissionsEgress": _permissions(state, group, egress=True),
    }
    tags = state.tags.get(group.id)
    if tags:
        out["Tags"] = aws_tags(tags)
    return out


def _permissions(state: RegionState, group: SecurityGroup, *, egress: bool) -> list[dict[str, Any]]:
    """AWS's `IpPermission`s: the rules with the same protocol and ports are one of them."""
    together: dict[tuple[str, int | None, int | None], dict[str, Any]] = {}
    for permission, rule in group.rules.items():
        if permission.egress is not egress:
            continue
        ports = {"FromPort": permission.from_port, "ToPort": permission.to_port}
        entry = together.setdefault(
            (permission.protocol, permission.from_port, permission.to_port),
            {
                "IpProtocol": permission.protocol,
                **{name: port for name, port in ports.items() if port is not None},
                "IpRanges": [],
                "Ipv6Ranges": [],
                "PrefixListIds": [],
                "UserIdGroupPairs": [],
            },
        )
        range_ = {} if rule.description is None else {"Description": rule.description}
        if permission.kind == "group":
            entry["UserIdGroupPairs"].append({"GroupId": permission.peer, "UserId": state.account_id, **range_})
        else:
            member, name = RANGES[permission.kind]
            entry[member].append({name: permission.peer, **range_})
    return list(together.values())


RANGES = {
    "ipv4": ("IpRanges", "CidrIp"),
    "ipv6": ("Ipv6Ranges", "CidrIpv6"),
    "prefix-list": ("PrefixListIds", "PrefixListId"),
}
"""A permission's kind to the member of `IpPermission`, and the name in it."""


# -- rules -----------------------------------------------------------------------------------------------------------


def _requested(
    state: RegionState, group: SecurityGroup, params: Mapping[str, Any], egress: bool
) -> dict[Permission, str | None]:
    """The permissions that a request names, with their descriptions.

    Raises MissingParameter, InvalidParameterValue, InvalidParameterCombination, InvalidPermission.Malformed,
    InvalidGroupId.Malformed, InvalidGroup.NotFound.
    """
    given = list(params.get("IpPermissions") or ())
    flat = {name: params[name] for name in ("IpProtocol", "FromPort", "ToPort") if params.get(name) is not None}
    if params.get("CidrIp"):
        flat["IpRanges"] = [{"CidrIp": params["CidrIp"]}]
    if params.get("SourceSecurityGroupName"):
        flat.setdefault("IpProtocol", ALL_PROTOCOLS)
        flat["UserIdGroupPairs"] = [{"GroupName": params["SourceSecurityGroupName"]}]
    if flat and given:
        raise invalid_combination("The parameter ipPermissions may not be used in combination with ipProtocol")
    out: dict[Permission, str | None] = {}
    for entry in given or ([flat] if flat else ()):
        for permission, description in _spread(state, entry, egress):
            if permission in out:
                raise invalid_value("The same permission must not appear multiple times")
            out[permission] = description
    if not out:
        raise missing("ipPermissions")
    return out


def _spread(state: RegionState, entry: Mapping[str, Any], egress: bool) -> Iterable[tuple[Permission, str | None]]:
    protocol, from_port, to_port = _protocol_and_ports(entry)
    found = False
    for kind, (member, name) in RANGES.items():
        for each in entry.get(member) or ():
            found = True
            peer = _cidr(kind, each.get(name) or "")
            yield Permission(egress, protocol, from_port, to_port, kind, peer), _description(each)
    for pair in entry.get("UserIdGroupPairs") or ():
        found = True
        if pair.get("UserId") and pair["UserId"] != state.account_id:
            raise refuse("InvalidGroup.NotFound", f"You have specified a group of another account: {pair['UserId']}")
        peer_group = find_group(
            state, pair.get("GroupId") or None, None if pair.get("GroupId") else pair.get("GroupName")
        )
        yield Permission(egress, protocol, from_port, to_port, "group", peer_group.id), _description(pair)
    if not found:
        raise missing("ipRanges, ipv6Ranges, prefixListIds or userIdGroupPairs")


def _protocol_and_ports(entry: Mapping[str, Any]) -> tuple[str, int | None, int | None]:
    protocol = str(entry.get("IpProtocol") or "").lower()
    if not protocol:
        raise missing("ipProtocol")
    protocol = PROTOCOLS.get(protocol, protocol)
    if protocol == ALL_PROTOCOLS:
        return protocol, None, None
    from_port, to_port = entry.get("FromPort"), entry.get("ToPort")
    if protocol not in PROTOCOLS_WITH_PORTS:
        if not (protocol.isdigit() and int(protocol) < 256):
            raise refuse("InvalidPermission.Malformed", f"Invalid protocol: {protocol}")
        return protocol, None, None
    if protocol == "icmpv6" and from_port is None and to_port is None:
        return protocol, -1, -1
    if from_port is None or to_port is None:
        raise invalid_value(f"Invalid value '{protocol}' for IP protocol: ports are missing.")
    if protocol in ("tcp", "udp"):
        for port in (from_port, to_port):
            if not 0 <= port <= 65535:
                raise invalid_value(f"Invalid value '{port}' for portRange. Must be between 0 and 65535.")
        if from_port > to_port:
            raise invalid_value(f"Invalid TCP/UDP port range ({from_port}:{to_port})")
    return protocol, from_port, to_port


def _cidr(kind: str, text: str) -> str:
    """The CIDR block as AWS stores it: without host bits, IPv6 in its short form."""
    if kind == "prefix-list":
        if not re.fullmatch(r"pl-[0-9a-f]{8,17}", text):
            raise refuse("InvalidPrefixListID.NotFound", f"The prefix list ID '{text}' does not exist")
        return text
    try:
        network = IPv4Network(text, strict=False) if kind == "ipv4" else IPv6Network(text, strict=False)
    except ValueError:
        raise invalid_value(f"CIDR block {text} is malformed") from None
    if "/" not in text:
        raise invalid_value(f"CIDR block {text} is malformed")
    return str(network)


def _description(each: Mapping[str, Any]) -> str | None:
    text: str | None = each.get("Description") or None
    if text is not None and not TEXT.fullmatch(text):
        raise invalid_value(
            "Invalid rule description. Valid descriptions are strings less than 256 characters from the following "
            "set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"
        )
    return text


def _add(group: SecurityGroup, permission: Permission, description: str | None, call: Call) -> SecurityGroupRule:
    rule = SecurityGroupRule(f"sgr-{call.ids.hex17()}", permission, description)
    group.rules[permission] = rule
    return rule


def _group_of(call: Call) -> tuple[RegionState, SecurityGroup]:
    state, params = region_state(call), call.params
    return state, find_group(state, params.get("GroupId") or None, params.get("GroupName") or None)


def _authorize(egress: bool) -> Callable[[Call], dict[str, Any]]:
    def authorize(call: Call) -> dict[str, Any]:
        """Add rules, all or none.

        Raises InvalidPermission.Duplicate, RulesPerSecurityGroupLimitExceeded, and what makes a request malformed.
        """
        state, group = _group_of(call)
        requested = _requested(state, group, call.params, egress)
        tags = tag_specifications(call.params.get("TagSpecifications"), ["security-group-rule"])
        for permission in requested:
            if permission in group.rules:
                raise refuse(
                    "InvalidPermission.Duplicate", f'the specified rule "{_sentence(permission)}" already exists'
                )
        if sum(permission.egress is egress for permission in group.rules) + len(requested) > RULES_MAX:
            raise refuse(
                "RulesPerSecurityGroupLimitExceeded",
                "The maximum number of rules per security group has been reached.",
            )
        added = [_add(group, permission, description, call) for permission, description in requested.items()]
        for rule in added:
            if tags:
                state.tags[rule.id] = dict(tags["security-group-rule"])
        return {"Return": True, "SecurityGroupRules": [_rule(state, group, rule) for rule in added]}

    return authorize


def _sentence(permission: Permission) -> str:
    protocol = "ALL" if permission.protocol == ALL_PROTOCOLS else permission.protocol.upper()
    ports = (
        "" if permission.from_port is None else f" from port: {permission.from_port}, to port: {permission.to_port},"
    )
    return f"peer: {permission.peer}, {protocol},{ports} ALLOW"


def _revoke(egress: bool) -> Callable[[Call], dict[str, Any]]:
    def revoke(call: Call) -> dict[str, Any]:
        """Take rules away, by identifier or by what they let through, all or none.

        Raises InvalidPermission.NotFound, InvalidSecurityGroupRuleId.NotFound, and what makes a request malformed.
        """
        state, group = _group_of(call)
        ids = call.params.get("SecurityGroupRuleIds")
        if ids:
            by_id = {rule.id: permission for permission, rule in group.rules.items() if permission.egress is egress}
            for each in ids:
                if each not in by_id:
                    raise _rule_not_found(each)
            wanted = [by_id[each] for each in dict.fromkeys(ids)]
        else:
            wanted = list(_requested(state, group, call.params, egress))
            if any(permission not in group.rules for permission in wanted):
                raise refuse("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
        revoked = [group.rules.pop(permission) for permission in wanted]
        for rule in revoked:
            state.tags.pop(rule.id, None)
        return {"Return": True}

    return revoke


def _redescribe(egress: bool) -> Callable[[Call], dict[str, Any]]:
    def redescribe(call: Call) -> dict[str, Any]:
        """Change the descriptions of rules; one without a description loses it. Raises like revoking."""
        state, group = _group_of(call)
        by_id = {rule.id: rule for permission, rule in group.rules.items() if permission.egress is egress}
        changes: list[tuple[SecurityGroupRule, str | None]] = []
        for each in call.params.get("SecurityGroupRuleDescriptions") or ():
            rule_id = each.get("SecurityGroupRuleId") or ""
            if rule_id not in by_id:
                raise _rule_not_found(rule_id)
            changes.append((by_id[rule_id], _description(each)))
        if not changes:
            for permission, description in _requested(state, group, call.params, egress).items():
                if permission not in group.rules:
                    raise refuse(
                        "InvalidPermission.NotFound", "The specified rule does not exist in this security group."
                    )
                changes.append((group.rules[permission], description))
        for rule, description in changes:
            rule.description = description
        return {"Return": True}

    return redescribe


def _rule_not_found(rule_id: str) -> Exception:
    return refuse("InvalidSecurityGroupRuleId.NotFound", f"The security group rule ID '{rule_id}' does not exist")


def _rule(state: RegionState, group: SecurityGroup, rule: SecurityGroupRule) -> dict[str, Any]:
    permission = rule.permission
    out: dict[str, Any] = {
        "SecurityGroupRuleId": rule.id,
        "GroupId": group.id,
        "GroupOwnerId": state.account_id,
        "IsEgress": permission.egress,
        "IpProtocol": permission.protocol,
        "FromPort": -1 if permission.from_port is None else permission.from_port,
        "ToPort": -1 if permission.to_port is None else permission.to_port,
        "SecurityGroupRuleArn": f"arn:aws:ec2:{state.region}:{state.account_id}:security-group-rule/{rule.id}",
    }
    if permission.kind == "group":
        out["ReferencedGroupInfo"] = {"GroupId": permission.peer, "UserId": state.account_id}
    else:
        out[{"ipv4": "CidrIpv4", "ipv6": "CidrIpv6", "prefix-list": "PrefixListId"}[permission.kind]] = permission.peer
    if rule.description is not None:
        out["Description"] = rule.description
    tags = state.tags.get(rule.id)
    if tags:
        out["Tags"] = aws_tags(tags)
    return out


@dataclass(frozen=True, slots=True)
class _ListedRule:
    group: SecurityGroup
    rule: SecurityGroupRule
    tags: Mapping[str, str]


RULE_FILTERS: Filters[_ListedRule] = Filters(
    {
        "group-id": lambda listed: listed.group.id,
        "security-group-rule-id": lambda listed: listed.rule.id,
        "is-egress": lambda listed: boolean(listed.rule.permission.egress),
        "tag-value": nothing,
    },
    lambda listed: listed.tags,
)


def describe_security_group_rules(call: Call) -> dict[str, Any]:
    """The rules of all groups, by id and filter, in pages of 5 to 1000.

    Raises InvalidSecurityGroupRuleId.NotFound, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    rules = {
        rule.id: _ListedRule(group, rule, state.tags.get(rule.id, {}))
        for group in state.security_groups.values()
        for rule in group.rules.values()
    }
    ids = params.get("SecurityGroupRuleIds")
    for each in ids or ():
        if each not in rules:
            raise _rule_not_found(each)
    listed = RULE_FILTERS.select((rules[each] for each in sorted(set(ids or rules))), params.get("Filters"))
    shown, token = page(listed, lambda each: each.rule.id, params, f"{call.account_id}/security-group-rules")
    out: dict[str, Any] = {"SecurityGroupRules": [_rule(state, each.group, each.rule) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


OPERATIONS = {
    "CreateSecurityGroup": Operation(create_security_group, writes=True),
    "DeleteSecurityGroup": Operation(delete_security_group, writes=True),
    "DescribeSecurityGroups": Operation(describe_security_groups),
    "DescribeSecurityGroupRules": Operation(describe_security_group_rules),
    "AuthorizeSecurityGroupIngress": Operation(_authorize(egress=False), writes=True),
    "AuthorizeSecurityGroupEgress": Operation(_authorize(egress=True), writes=True),
    "RevokeSecurityGroupIngress": Operation(_revoke(egress=False), writes=True),
    "RevokeSecurityGroupEgress": Operation(_revoke(egress=True), writes=True),
    "UpdateSecurityGroupRuleDescriptionsIngress": Operation(_redescribe(egress=False), writes=True),
    "UpdateSecurityGroupRuleDescriptionsEgress": Operation(_redescribe(egress=True), writes=True),
}
