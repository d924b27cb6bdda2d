"""How often instances were asked by IMDSv1: CloudWatch's MetadataNoToken and MetadataNoTokenRejected.

Source: EC2 User Guide, "CloudWatch metrics that are available for your instances": the number of times the service "was
successfully accessed using a method that does not use a token", and of calls "attempted after IMDSv1 was disabled";
with the dimensions InstanceId and AutoScalingGroupName, and with detailed monitoring ImageId and InstanceType.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from imdsctl.imds.messages import Access
from imdsctl.local.call import Call
from imdsctl.local.cloudwatch.evidence import NAMESPACE, NO_TOKEN, REJECTED, UNIT
from imdsctl.local.cloudwatch.state import FIVE_MINUTES, MINUTE
from imdsctl.local.ec2.resources import Instance
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.metadata.facts import group_of
from imdsctl.local.world import World

METRICS = {Access.V1: NO_TOKEN, Access.V1_REFUSED: REJECTED}

Sample = tuple[str, int, str, str]
"""A metric's name, the beginning of a period in seconds since 1970, a dimension's name and value."""


class Counts:
    """Counts calls: in CloudWatch at once, and for the log until they are taken, where there is one (`logged`)."""

    def __init__(self, world: World, *, logged: bool) -> None:
        self._world = world
        self._logged = logged
        self._pending: dict[tuple[str, str], Counter[Sample]] = {}  # by account and Region

    def add(self, state: RegionState, instance: Instance, access: Access, now: datetime) -> None:
        """Count a request, if it is one of IMDSv1."""
        name = METRICS.get(access)
        if name is None:
            return
        period = MINUTE if instance.monitoring == "enabled" else FIVE_MINUTES
        second = int(now.timestamp())
        samples = [(name, second - second % period, *dimension) for dimension in _dimensions(state, instance)]
        for sample in samples:
            _put(self._world, state.account_id, state.region, sample, 1, now)
        if self._logged:
            self._pending.setdefault((state.account_id, state.region), Counter()).update(samples)

    def take(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What is to be logged: account, Region and the parameters of `RecordMetadataCalls`."""
        taken = [
            (account_id, region, {"Samples": [[*sample, count] for sample, count in counted.items()]})
            for (account_id, region), counted in self._pending.items()
        ]
        self._pending.clear()
        return taken


def record_metadata_calls(call: Call) -> Mapping[str, Any]:
    """Counts of an earlier run, out of the log."""
    for *sample, count in call.params["Samples"]:
        name, at, dimension, value = sample
        _put(call.world, call.account_id, call.region, (name, at, dimension, value), count, call.now)
    return {}


def _dimensions(state: RegionState, instance: Instance) -> Iterator[tuple[str, str]]:
    yield "InstanceId", instance.id
    group = group_of(state, instance)
    if group is not None:
        yield "AutoScalingGroupName", group
    if instance.monitoring == "enabled":
        yield "ImageId", instance.image_id
        yield "InstanceType", instance.instance_type


def _put(world: World, account_id: str, region: str, sample: Sample, count: float, now: datetime) -> None:
    """Samples of 1, so that the sum is the number of calls."""
    name, at, dimension, value = sample
    world.metrics(account_id, region).put(
        NAMESPACE, name, {dimension: value}, datetime.fromtimestamp(at, UTC), 1.0, count=count, unit=UNIT, now=now
    )
