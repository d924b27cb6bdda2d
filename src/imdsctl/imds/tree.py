"""The tree of the metadata as one table: path -> what is there, as a function of an instance's facts.

Nothing is built per instance: a request walks the table and calls the functions on its way. Source of the paths and of
the versions that introduced them: EC2 User Guide, "Instance metadata categories".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from imdsctl.imds import documents
from imdsctl.imds.facts import Facts, NetworkInterface
from imdsctl.imds.versions import KNOWN_VERSIONS, VERSIONS


class Asked(Enum):
    """Leaves that the facts do not hold: the service asks its source, or its signer, when one of them is fetched."""

    ROLE_CREDENTIALS = "credentials of the profile's role"
    IDENTITY_CREDENTIALS = "credentials of the instance identity role"
    SIGNATURE = "signature"
    PKCS7 = "pkcs7"
    RSA2048 = "rsa2048"


@dataclass(frozen=True, slots=True)
class Since:
    """A node that is there from a version on."""

    version: str
    node: Node


@dataclass(frozen=True, slots=True)
class Lines:
    """A directory whose listing is not made of its children's names."""

    lines: Sequence[str]
    children: Mapping[str, Node]


Leaf = str | bytes | Asked
Node = Any
"""A leaf; None, for what is not there; a directory (a mapping, or Lines); a Since; or a function of the facts to one of
these."""


@dataclass(frozen=True, slots=True)
class View:
    """Facts, whether the instance's tags are shown (its options say so), and whether its document can be signed."""

    facts: Facts
    tags: bool
    signed: bool = True


def _resolved(node: Node, view: View, version: str) -> Node:
    while True:
        if isinstance(node, Since):
            node = node.node if version >= node.version else None
        elif callable(node):
            node = node(view)
        else:
            return node


def find(view: View, segments: Sequence[str]) -> Leaf | None:
    """What stands at a path: the leaf, the listing of a directory, or None when there is nothing.

    `segments` are the path's, from the version on; a leaf is found with and without a slash behind it. The facts'
    overrides go before everything, in every version.
    """
    if not segments:
        return "\n".join(VERSIONS)
    version, rest = segments[0], segments[1:]
    if version not in KNOWN_VERSIONS:
        return None
    overrides = view.facts.overrides
    if overrides and (given := overrides.get("/".join(rest))) is not None:
        return given
    node = _resolved(ROOT, view, version)
    for segment in rest:
        children = _children(node)
        node = _resolved(children.get(segment), view, version) if children is not None else None
    if isinstance(node, str | bytes | Asked):
        return node
    lines = _listing(node, view, version) if node is not None else []
    if overrides:
        lines = _with_overrides(lines, overrides, rest)
    if not rest:
        lines = [line.rstrip("/") for line in lines]  # as observed: a version lists its directories without slashes
    return "\n".join(lines) if lines else None


def _children(node: Node) -> Mapping[str, Node] | None:
    if isinstance(node, Lines):
        return node.children
    return node if isinstance(node, Mapping) else None


def _listing(node: Node, view: View, version: str) -> list[str]:
    """The names in a directory, with a slash behind those of directories. An empty directory is not there."""
    if isinstance(node, Lines):
        return list(node.lines)
    lines = []
    for name, child in node.items():
        found = _resolved(child, view, version)
        if found is None:
            continue
        if isinstance(found, str | bytes | Asked):
            lines.append(name)
        elif _listing(found, view, version):
            lines.append(f"{name}/")
    return lines


def _with_overrides(lines: Sequence[str], overrides: Mapping[str, bytes], rest: Sequence[str]) -> list[str]:
    """A directory's listing with what the overrides add to it."""
    prefix = "".join(f"{segment}/" for segment in rest)
    listed = {line.rstrip("/") for line in lines} | {line.partition("=")[0] for line in lines}  # `0=name` lists `0`
    below = {path[len(prefix) :].partition("/")[:2] for path in overrides if path.startswith(prefix)}
    return sorted([*lines, *(name + slash for name, slash in below if name not in listed)])


# -- functions of the facts --------------------------------------------------------------------------------------------


def _fact(name: str) -> Callable[[View], Node]:
    """The fact of that name, as text."""

    def leaf(view: View) -> str | None:
        value = getattr(view.facts, name)
        return None if value is None or value == "" else str(value)

    return leaf


def _lines(name: str) -> Callable[[View], Node]:
    """The fact of that name, which is a sequence, a line each; nothing when it is empty."""
    return lambda view: "\n".join(getattr(view.facts, name)) or None


def _document(make: Callable[[Facts], str | None]) -> Callable[[View], Node]:
    return lambda view: make(view.facts)


def _primary(get: Callable[[NetworkInterface], Node]) -> Callable[[View], Node]:
    """Something of the first network interface."""
    return lambda view: get(view.facts.interfaces[0]) if view.facts.interfaces else None


def _first(addresses: Sequence[str]) -> str | None:
    return addresses[0] if addresses else None


def _joined(lines: Sequence[str]) -> str | None:
    return "\n".join(lines) or None


def _public_keys(view: View) -> Node:
    key = view.facts.public_key
    return None if key is None else Lines([f"0={key[0]}"], {"0": {"openssh-key": key[1]}})


def _interfaces(view: View) -> Node:
    return {interface.mac: _interface(interface) for interface in view.facts.interfaces}


def _interface(interface: NetworkInterface) -> Node:
    """`network/interfaces/macs/MAC/`; what has no version here was there from the first (2011-01-01)."""
    return {
        "device-number": str(interface.device_number),
        "interface-id": interface.interface_id,
        "ipv4-associations": _associations(interface),
        "ipv6s": Since("2016-06-30", _joined(interface.ipv6s)),
        "local-hostname": interface.local_hostname,
        "local-ipv4s": _joined(interface.private_ipv4s),
        "mac": interface.mac,
        "network-card": Since("2020-11-01", str(interface.network_card)),
        "owner-id": interface.owner_id,
        "public-hostname": interface.public_hostname,
        "public-ipv4s": _joined(interface.public_ipv4s),
        "security-group-ids": _joined([identifier for identifier, _ in interface.security_groups]),
        "security-groups": _joined([name for _, name in interface.security_groups]),
        "subnet-id": interface.subnet_id,
        "subnet-ipv4-cidr-block": interface.subnet_ipv4_cidr,
        "subnet-ipv6-cidr-blocks": Since("2016-06-30", _joined(interface.subnet_ipv6_cidrs)),
        "vpc-id": interface.vpc_id,
        "vpc-ipv4-cidr-block": _first(interface.vpc_ipv4_cidrs),
        "vpc-ipv4-cidr-blocks": Since("2016-06-30", _joined(interface.vpc_ipv4_cidrs)),
        "vpc-ipv6-cidr-blocks": Since("2016-06-30", _joined(interface.vpc_ipv6_cidrs)),
    }


def _associations(interface: NetworkInterface) -> Node:
    """Which private address each public one belongs to."""
    return dict(zip(interface.public_ipv4s, interface.private_ipv4s, strict=False)) or None


def _iam(view: View) -> Node:
    """Only for an instance with a profile."""
    info = documents.profile_document(view.facts)
    if info is None:
        return None
    role = view.facts.role
    # The role's name is a leaf, and the listing of its directory.
    return {"info": info, "security-credentials": None if role is None else {role: Asked.ROLE_CREDENTIALS}}


def _tags(view: View) -> Node:
    """Only while the options show them, and only keys that can stand in a path: AWS takes no others."""
    if not view.tags:
        return None
    return {"instance": {key: value for key, value in view.facts.tags.items() if is_tag_key(key)}}


def is_tag_key(key: str) -> bool:
    """Whether a tag of that key can be shown. Source: EC2 User Guide, "View tags ... using instance metadata"."""
    return _TAG_KEY.fullmatch(key) is not None and key not in (".", "..", "_index")


_TAG_KEY = re.compile(r"[A-Za-z0-9+\-=.,_:@]+")


def _spot(view: View) -> Node:
    notice = view.facts.spot_action
    if notice is None:
        return None
    # `termination-time` is of the notices that end in the instance's termination.
    ends = documents.timestamp(notice.time) if notice.action == "terminate" else None
    return {
        "instance-action": Since("2016-11-15", documents.spot_action_document(view.facts)),
        "termination-time": Since("2014-11-05", ends),
    }


def _signature(which: Asked) -> Callable[[View], Asked | None]:
    """Listed only where it can be made: cloud-init asks for all that is listed, and retries a 404 five times."""
    return lambda view: which if view.signed else None


META_DATA: Mapping[str, Node] = {
    "ami-id": _fact("image_id"),
    "ami-launch-index": _fact("launch_index"),
    "ami-manifest-path": _fact("ami_manifest_path"),
    "ancestor-ami-ids": Since("2007-10-10", _lines("ancestor_ami_ids")),
    "autoscaling": Since("2021-07-15", {"target-lifecycle-state": _fact("target_lifecycle_state")}),
    "block-device-mapping": Since("2007-12-15", lambda view: dict(view.facts.block_devices)),
    "events": {
        "maintenance": Since(
            "2018-08-17",
            {
                "history": lambda view: documents.events_document(view.facts.past_events),
                "scheduled": lambda view: documents.events_document(view.facts.scheduled_events),
            },
        ),
        "recommendations": Since("2020-10-27", {"rebalance": _document(documents.rebalance_document)}),
    },
    "hostname": _primary(lambda interface: interface.local_hostname),
    "iam": Since("2012-01-12", _iam),
    "identity-credentials": Since(
        "2018-05-23",
        {
            "ec2": {
                "info": _document(documents.identity_info_document),
                "security-credentials": {"ec2-instance": Asked.IDENTITY_CREDENTIALS},
            }
        },
    ),
    "instance-action": Since("2008-09-01", _fact("instance_action")),
    "instance-id": _fact("instance_id"),
    "instance-life-cycle": Since("2019-10-01", _fact("life_cycle")),
    "instance-type": Since("2007-08-29", _fact("instance_type")),
    "ipv6": Since("2021-01-03", _primary(lambda interface: _first(interface.ipv6s))),
    "kernel-id": Since("2008-02-01", _fact("kernel_id")),
    "local-hostname": Since("2007-01-19", _primary(lambda interface: interface.local_hostname)),
    "local-ipv4": _primary(lambda interface: _first(interface.private_ipv4s)),
    "mac": Since("2011-01-01", _primary(lambda interface: interface.mac)),
    "metrics": Since(
        "2011-05-01", {"vhostmd": '<?xml version="1.0" encoding="UTF-8"?>'}
    ),  # "no longer available", and still listed
    "network": Since("2011-01-01", {"interfaces": {"macs": _interfaces}}),
    "placement": Since(
        "2008-02-01",
        {
            "availability-zone": _fact("availability_zone"),
            "availability-zone-id": Since("2019-10-01", _fact("availability_zone_id")),
            "group-name": Since("2020-08-24", _fact("placement_group")),
            "host-id": Since("2020-08-24", _fact("host_id")),
            "partition-number": Since("2020-08-24", _fact("partition_number")),
            "region": Since("2020-08-24", _fact("region")),
        },
    ),
    "product-codes": Since("2007-03-01", _lines("product_codes")),
    "profile": _fact("profile"),
    "public-hostname": Since("2007-01-19", _primary(lambda interface: interface.public_hostname)),
    "public-ipv4": Since("2007-01-19", _primary(lambda interface: _first(interface.public_ipv4s))),
    "public-keys": _public_keys,
    "ramdisk-id": Since("2007-10-10", _fact("ramdisk_id")),
    "reservation-id": _fact("reservation_id"),
    "security-groups": _lines("security_groups"),
    "services": Since("2014-02-25", {"domain": _fact("domain"), "partition": Since("2015-10-20", _fact("partition"))}),
    "spot": _spot,
    "system": Since("2022-09-24", _fact("hypervisor")),
    "tags": Since("2021-03-23", _tags),
}

DYNAMIC: Mapping[str, Node] = {
    "fws": {"instance-monitoring": lambda view: "enabled" if view.facts.monitoring else "disabled"},
    "instance-identity": {
        "document": _document(documents.identity_document),
        "pkcs7": _signature(Asked.PKCS7),
        "rsa2048": _signature(Asked.RSA2048),
        "signature": _signature(Asked.SIGNATURE),
    },
}

ROOT: Mapping[str, Node] = {
    "dynamic": Since("2009-04-04", DYNAMIC),
    "meta-data": META_DATA,
    "user-data": lambda view: view.facts.user_data,
}

assert sorted(VERSIONS) == list(VERSIONS), "versions are compared as text"
