"""DescribeInstances and DescribeInstanceStatus.

Source: EC2 API Reference, both pages (filters, MaxResults 5 to 1000, not together with InstanceIds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2 import render
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.errors import check_identifiers, invalid_combination, not_found
from imdsctl.local.ec2.filters import Filters, boolean, nothing
from imdsctl.local.ec2.launch_templates import timestamp
from imdsctl.local.ec2.pages import invalid_token, opened, page, page_size, sealed
from imdsctl.local.ec2.resources import RUNNING, STATE_CODES, Instance, Reservation, derived
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.visibility import operator, shows_managed

PAGE_MAX = 1000


class Seen(NamedTuple):
    """An instance with the Region it is in: what a filter looks at."""

    state: RegionState
    instance: Instance


def find_instances(state: RegionState, ids: Iterable[str]) -> list[Instance]:
    """The instances of these ids, each once.

    Raises InvalidInstanceID.Malformed and InvalidInstanceID.NotFound (with all that are missing).
    """
    found, absent = [], []
    for each in dict.fromkeys(ids):
        instance = state.instances.get(each)
        if instance is not None:
            found.append(instance)
        else:
            check_identifiers("i", [each])
            absent.append(each)
    if absent:
        raise not_found("i", *absent)
    return found


def _field(name: str) -> Callable[[Seen], Any]:
    return lambda seen: getattr(seen.instance, name)


def _truth(name: str) -> Callable[[Seen], str]:
    return lambda seen: boolean(getattr(seen.instance, name))


def _option(name: str) -> Callable[[Seen], str]:
    return lambda seen: str(getattr(seen.instance.options, name))


def _constant(value: str) -> Callable[[Seen], str]:
    return lambda seen: value


def _attached(name: str) -> Callable[[Seen], list[str]]:
    return lambda seen: [str(getattr(device, name)) for device in seen.instance.block_devices]


def _groups(name: str) -> Callable[[Seen], list[str]]:
    return lambda seen: [getattr(group, name) for group in seen.instance.security_groups]


def _launched(seen: Seen) -> str:
    return timestamp(seen.instance.launch_time)


def _zone(seen: Seen) -> str:
    return seen.instance.subnet.zone.name


def _zone_id(seen: Seen) -> str:
    return seen.instance.subnet.zone.id


def _boot_mode(seen: Seen) -> str:
    return "uefi" if seen.instance.boot_mode in ("uefi", "uefi-preferred") else "legacy-bios"


INTERFACE_FIELDS: dict[str, Callable[[Seen], Any]] = {
    "addresses.association.public-ip": lambda seen: render.public_ip(seen.instance),
    "addresses.association.public-dns-name": lambda seen: render.public_dns_name(seen.instance) or None,
    "addresses.association.ip-owner-id": lambda seen: "amazon" if render.public_ip(seen.instance) else None,
    "addresses.primary": _constant("true"),
    "addresses.private-dns-name": lambda seen: render.private_dns_name(seen.instance),
    "addresses.private-ip-address": _field("private_ip"),
    "association.public-ip": lambda seen: render.public_ip(seen.instance),
    "association.public-dns-name": lambda seen: render.public_dns_name(seen.instance) or None,
    "association.ip-owner-id": lambda seen: "amazon" if render.public_ip(seen.instance) else None,
    "attachment.attach-time": _launched,
    "attachment.attachment-id": lambda seen: f"eni-attach-{derived('eni-attach', seen.instance.id)}",
    "attachment.delete-on-termination": _constant("true"),
    "attachment.device-index": _constant("0"),
    "attachment.instance-id": _field("id"),
    "attachment.instance-owner-id": lambda seen: seen.state.account_id,
    "attachment.network-card-index": _constant("0"),
    "attachment.status": _constant("attached"),
    "availability-zone": _zone,
    "description": _constant(""),
    "group-id": _groups("id"),
    "group-name": _groups("name"),
    "mac-address": lambda seen: render.mac_address(seen.instance),
    "network-interface-id": lambda seen: render.interface_id(seen.instance),
    "operator.managed": _truth("managed_by"),
    "operator.principal": _field("managed_by"),
    "owner-id": lambda seen: seen.state.account_id,
    "private-dns-name": lambda seen: render.private_dns_name(seen.instance),
    "private-ip-address": _field("private_ip"),
    "public-dns-name": lambda seen: render.public_dns_name(seen.instance) or None,
    "requester-managed": _constant("false"),
    "source-dest-check": _truth("source_dest_check"),
    "status": _constant("in-use"),
    "subnet-id": lambda seen: seen.instance.subnet.id,
    "vpc-id": lambda seen: seen.state.vpc_id,
}
"""What an instance's network interface has, by the filter's name after `network-interface.`."""

INTERFACE_FIELDS_ABSENT = (
    "addresses.association.allocation-id",
    "addresses.association.association-id",
    "addresses.association.carrier-ip",
    "addresses.association.customer-owned-ip",
    "association.allocation-id",
    "association.association-id",
    "association.carrier-ip",
    "association.customer-owned-ip",
    "deny-all-igw-traffic",
    "ipv4-prefixes.ipv4-prefix",
    "ipv6-address",
    "ipv6-addresses.ipv6-address",
    "ipv6-addresses.is-primary-ipv6",
    "ipv6-native",
    "ipv6-prefixes.ipv6-prefix",
    "outpost-arn",
    "requester-id",
    "tag-key",
    "tag-value",
)
"""Filters of network interfaces that AWS knows and for which none has a value here."""


def _on_network(field: Callable[[Seen], Any]) -> Callable[[Seen], Any]:
    """Terminated instances have no network interface any more."""
    return lambda seen: None if seen.instance.state == "terminated" else field(seen)


ABSENT = (
    "affinity",
    "capacity-reservation-id",
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
    "host-id",
    "ipv6-address",
    "kernel-id",
    "outpost-arn",
    "placement-group-name",
    "placement-partition-number",
    "product-code",
    "product-code.type",
    "ramdisk-id",
    "tpm-support",
)
"""Filters that AWS knows and for which no instance has a value here."""

INSTANCE_FILTERS: Filters[Seen] = Filters(
    {
        **dict.fromkeys(ABSENT, nothing),
        **{f"network-interface.{name}": _on_network(field) for name, field in INTERFACE_FIELDS.items()},
        **{f"network-interface.{name}": nothing for name in INTERFACE_FIELDS_ABSENT},
        "architecture": _field("architecture"),
        "availability-zone": _zone,
        "availability-zone-id": _zone_id,
        "block-device-mapping.attach-time": lambda seen: [_launched(seen)] if seen.instance.block_devices else [],
        "block-device-mapping.delete-on-termination": lambda seen: [
            boolean(device.delete_on_termination) for device in seen.instance.block_devices
        ],
        "block-device-mapping.device-name": _attached("device_name"),
        "block-device-mapping.status": lambda seen: ["attached"] if seen.instance.block_devices else [],
        "block-device-mapping.volume-id": _attached("volume_id"),
        "boot-mode": _field("boot_mode"),
        "capacity-reservation-specification.capacity-reservation-preference": _constant("open"),
        "client-token": _field("client_token"),
        "current-instance-boot-mode": _boot_mode,
        "dns-name": lambda seen: render.public_dns_name(seen.instance) or None,
        "ebs-optimized": _truth("ebs_optimized"),
        "ena-support": _constant("true"),
        "enclave-options.enabled": _constant("false"),
        "hibernation-options.configured": _constant("false"),
        "hypervisor": _constant("xen"),
        "iam-instance-profile.arn": _field("profile_arn"),
        "iam-instance-profile.id": _field("profile_id"),
        "image-id": _field("image_id"),
        "instance-id": _field("id"),
        "instance-lifecycle": _field("lifecycle"),
        "instance-state-code": lambda seen: str(STATE_CODES[seen.instance.state]),
        "instance-state-name": _field("state"),
        "instance-type": _field("instance_type"),
        "instance.group-id": _on_network(_groups("id")),
        "instance.group-name": _on_network(_groups("name")),
        "ip-address": lambda seen: render.public_ip(seen.instance),
        "key-name": _field("key_name"),
        "launch-index": lambda seen: str(seen.instance.launch_index),
        "launch-time": _launched,
        "maintenance-options.auto-recovery": _constant("default"),
        "metadata-options.http-endpoint": _option("http_endpoint"),
        # The service answers on IPv4 whenever it is on.
        "metadata-options.http-protocol-ipv4": _option("http_endpoint"),
        "metadata-options.http-protocol-ipv6": _option("http_protocol_ipv6"),
        "metadata-options.http-put-response-hop-limit": _option("http_put_response_hop_limit"),
        "metadata-options.http-tokens": _option("http_tokens"),
        "metadata-options.instance-metadata-tags": _option("instance_metadata_tags"),
        "metadata-options.state": _field("options_state"),
        "monitoring-state": _field("monitoring"),
        "network-performance-options.bandwidth-weighting": _constant("default"),
        "operator.managed": lambda seen: boolean(seen.instance.managed_by),
        "operator.principal": _field("managed_by"),
        "owner-id": lambda seen: seen.state.account_id,
        "platform": _field("platform"),
        "platform-details": _field("platform_details"),
        "private-dns-name": _on_network(lambda seen: render.private_dns_name(seen.instance)),
        "private-dns-name-options.enable-resource-name-dns-a-record": _constant("false"),
        "private-dns-name-options.enable-resource-name-dns-aaaa-record": _constant("false"),
        "private-dns-name-options.hostname-type": _constant("ip-name"),
        "private-ip-address": _on_network(_field("private_ip")),
        "reason": _field("transition_reason"),
        "requester-id": lambda seen: seen.instance.reservation.requester_id,
        "reservation-id": lambda seen: seen.instance.reservation.id,
        "root-device-name": _field("root_device_name"),
        "root-device-type": _constant("ebs"),
        "source-dest-check": _truth("source_dest_check"),
        "spot-instance-request-id": lambda seen: (seen.instance.extra or {}).get("SpotInstanceRequestId"),
        "state-reason-code": lambda seen: seen.instance.state_reason[0] if seen.instance.state_reason else None,
        "state-reason-message": lambda seen: seen.instance.state_reason[1] if seen.instance.state_reason else None,
        "subnet-id": _on_network(lambda seen: seen.instance.subnet.id),
        "tenancy": _field("tenancy"),
        "usage-operation": _field("usage_operation"),
        "usage-operation-update-time": _launched,
        "virtualization-type": _constant("hvm"),
        "vpc-id": _on_network(lambda seen: seen.state.vpc_id),
    },
    lambda seen: seen.state.tags.get(seen.instance.id, {}),
    tag_value=True,
)


def describe_instances(call: Call) -> dict[str, Any]:
    """The instances, grouped by reservation, in the order of their launch.

    A page holds up to MaxResults instances; a reservation that does not fit is continued on the next page. Raises
    InvalidParameterValue, InvalidParameterCombination, InvalidInstanceID.*, InvalidNextToken.
    """
    state, params = region_state(call), call.params
    ids = params.get("InstanceIds")
    size = page_size(params)
    if ids and size is not None:
        raise invalid_combination("The parameter instancesSet cannot be used with the parameter maxResults")
    after = _position(call)
    test = _shown(call, INSTANCE_FILTERS.compile(params.get("Filters")))
    encode = render.encoder(call)
    if after is not None:
        size = size or PAGE_MAX

    if ids or test is not None or not _whole_reservations(state, size):
        chosen = _chosen(state, find_instances(state, ids) if ids else None, test)
        shown, token = _cut(call, chosen, after, size)
        groups: list[Any] = [
            render.reservation(state, reservation, encode, instances) for reservation, instances in _grouped(shown)
        ]
    else:
        reservations, token = _cut_reservations(call, state, after, size)
        groups = [render.reservation(state, reservation, encode) for reservation in reservations]
    out: dict[str, Any] = {"Reservations": groups}
    if token:
        out["NextToken"] = token
    return out


def _shown(call: Call, test: Callable[[Seen], bool] | None) -> Callable[[Seen], bool] | None:
    """A request's test and, where the account hides managed instances, that an instance is not managed."""
    if shows_managed(call):
        return test
    return lambda seen: seen.instance.managed_by is None and (test is None or test(seen))


def _chosen(state: RegionState, named: list[Instance] | None, test: Callable[[Seen], bool] | None) -> list[Instance]:
    instances: Iterable[Instance] = state.instances.values()
    if named is not None:
        instances = sorted(named, key=_order)
    if test is None:
        return list(instances)
    return [instance for instance in instances if test(Seen(state, instance))]


def _order(instance: Instance) -> tuple[int, int]:
    return instance.reservation.order, instance.launch_index


def _grouped(instances: Iterable[Instance]) -> list[tuple[Reservation, list[Instance]]]:
    groups: dict[int, tuple[Reservation, list[Instance]]] = {}
    for instance in instances:
        reservation = instance.reservation
        groups.setdefault(reservation.order, (reservation, []))[1].append(instance)
    return list(groups.values())


def _whole_reservations(state: RegionState, size: int | None) -> bool:
    """Whether pages can be cut between reservations: there is one page, or each reservation has one instance."""
    return size is None or len(state.reservations) == len(state.instances)


def _list_name(call: Call) -> str:
    return f"{call.account_id}/{call.region}/instances"


def _position(call: Call) -> tuple[int, int] | None:
    key = opened(call.params.get("NextToken"), _list_name(call))
    if key is None:
        return None
    order, _, index = key.partition("/")
    if not (order.isdigit() and index.isdigit()):
        raise invalid_token()
    return int(order), int(index)


def _token(call: Call, last: Instance) -> str:
    order, index = _order(last)
    return sealed(f"{order}/{index}", _list_name(call))


def _cut(
    call: Call, instances: Sequence[Instance], after: tuple[int, int] | None, size: int | None
) -> tuple[Sequence[Instance], str | None]:
    if after is not None:
        instances = [instance for instance in instances if _order(instance) > after]
    if size is None or len(instances) <= size:
        return instances, None
    return instances[:size], _token(call, instances[size - 1])


def _cut_reservations(
    call: Call, state: RegionState, after: tuple[int, int] | None, size: int | None
) -> tuple[Sequence[Reservation], str | None]:
    reservations = list(state.reservations.values())
    if after is not None:
        order = after[0]
        reservations = [reservation for reservation in reservations if reservation.order > order]
    if size is None or len(reservations) <= size:
        return reservations, None
    return reservations[:size], _token(call, reservations[size - 1].instances[-1])


# -- status ----------------------------------------------------------------------------------------------------------


def _reachability(seen: Seen) -> str | None:
    return "passed" if seen.instance.state == RUNNING else None


def _health(seen: Seen) -> str:
    return "ok" if seen.instance.state == RUNNING else "not-applicable"


def _event_structures(seen: Seen) -> list[dict[str, Any]]:
    """AWS's `InstanceStatusEvent`s."""
    notices = seen.state.notices.get(seen.instance.id)
    if notices is None:
        return []
    return [
        {
            "InstanceEventId": event.event_id,
            "Code": event.code,
            "Description": event.description,
            "NotBefore": event.not_before,
            "NotAfter": event.not_after,
            "NotBeforeDeadline": event.not_before_deadline,
        }
        for event in (*notices.scheduled, *notices.past)
    ]


def _events(name: str) -> Callable[[Seen], list[str]]:
    def values(seen: Seen) -> list[str]:
        found = (each[name] for each in _event_structures(seen))
        return [timestamp(each) if isinstance(each, datetime) else each for each in found]

    return values


STATUS_FILTERS: Filters[Seen] = Filters(
    {
        "event.code": _events("Code"),
        "event.description": _events("Description"),
        "event.instance-event-id": _events("InstanceEventId"),
        "event.not-after": _events("NotAfter"),
        "event.not-before": _events("NotBefore"),
        "event.not-before-deadline": _events("NotBeforeDeadline"),
        "attached-ebs-status.status": _health,
        "availability-zone": _zone,
        "availability-zone-id": _zone_id,
        "instance-state-code": lambda seen: str(STATE_CODES[seen.instance.state]),
        "instance-state-name": _field("state"),
        "instance-status.reachability": _reachability,
        "instance-status.status": _health,
        "operator.managed": lambda seen: boolean(seen.instance.managed_by),
        "operator.principal": _field("managed_by"),
        "system-status.reachability": _reachability,
        "system-status.status": _health,
    }
)


def describe_instance_status(call: Call) -> dict[str, Any]:
    """The health of the running instances, or with IncludeAllInstances of all. Raises like `describe_instances`."""
    state, params = region_state(call), call.params
    ids = params.get("InstanceIds")
    if ids and params.get("MaxResults") is not None:
        raise invalid_combination("The parameter instancesSet cannot be used with the parameter maxResults")
    instances = find_instances(state, ids) if ids else list(state.instances.values())
    if not params.get("IncludeAllInstances"):
        instances = [instance for instance in instances if instance.state == RUNNING]
    if not shows_managed(call):
        instances = [instance for instance in instances if instance.managed_by is None]
    seen = STATUS_FILTERS.select(
        (Seen(state, instance) for instance in sorted(instances, key=lambda each: each.id)), params.get("Filters")
    )
    shown, token = page(seen, lambda each: each.instance.id, params, f"{call.account_id}/instance-status")
    out: dict[str, Any] = {"InstanceStatuses": [_status(each) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _status(seen: Seen) -> dict[str, Any]:
    instance = seen.instance
    summary: dict[str, Any] = {"Status": _health(seen)}
    ebs: dict[str, Any] = {"Status": _health(seen)}
    if instance.state == RUNNING:
        summary["Details"] = [{"Name": "reachability", "Status": "passed"}]
        ebs["Details"] = [{"Name": "reachability", "Status": "passed"}]
    events = _event_structures(seen)
    return {
        "AvailabilityZone": _zone(seen),
        "AvailabilityZoneId": _zone_id(seen),
        **({"Events": events} if events else {}),
        "InstanceId": instance.id,
        "InstanceState": render.state_of(instance.state),
        "InstanceStatus": summary,
        "SystemStatus": summary,
        "AttachedEbsStatus": ebs,
        "Operator": operator(seen.state, instance.managed_by),
    }


OPERATIONS = {
    "DescribeInstances": Operation(describe_instances),
    "DescribeInstanceStatus": Operation(describe_instance_status),
}
