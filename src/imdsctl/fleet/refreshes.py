"""Auto Scaling groups: an instance refresh, so that what runs is launched anew. Begun once, followed to its end.

Source: Amazon EC2 Auto Scaling API Reference, StartInstanceRefresh, DescribeInstanceRefreshes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from imdsctl.domain.plan import Change
from imdsctl.fleet.surfaces import REFRESH, Begun, Ec2, Seen
from imdsctl.wire.service import Projection

SERVICE = "autoscaling"
REFRESH_SECONDS_MAX = 24 * 3600.0
"""How long a refresh is followed. What still runs then is left in doubt: the same command follows it further."""
ENDED_WELL = "Successful"
ENDED_BADLY = frozenset({"Failed", "Cancelled", "RollbackFailed", "RollbackSuccessful"})
"""`Status` of a refresh after which it changes no more; any other is under way (API Reference, `InstanceRefresh`)."""
PREFERENCES: Mapping[str, Any] = {"MinHealthyPercentage": 90, "SkipMatching": False}
"""What a plan that says nothing asks for. SkipMatching would leave instances of an unchanged template as they are,
although the Region default under it has changed."""
LAST = "LastRefresh"


class Groups:
    """`StartInstanceRefresh` takes no client token: what an interrupted run began is known by not being the refresh
    that was the last one when it began. Whoever began it, it replaces what ran before the change."""

    settle_seconds_max = REFRESH_SECONDS_MAX
    groups: ClassVar[Projection] = {
        "AutoScalingGroups": {"AutoScalingGroupName": None, "Instances": {"InstanceId": None}},
        "NextToken": None,
    }
    refreshes: ClassVar[Projection] = {
        "InstanceRefreshes": {
            "InstanceRefreshId": None,
            "Status": None,
            "StatusReason": None,
            "PercentageComplete": None,
        },
        "NextToken": None,
    }

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str, begun: Begun) -> dict[str, Seen]:
        there = await group_instances(ec2, [change.resource for change in changes])
        return {
            change.id: await self._read_one(ec2, change, begun.get(change.id), there[change.resource])
            for change in changes
            if change.resource in there
        }

    async def _read_one(
        self, ec2: Ec2, change: Change, begun: Mapping[str, Any] | None, members: Sequence[str]
    ) -> Seen:
        params = {"AutoScalingGroupName": change.resource, "MaxRecords": 1}
        answer = await replace(ec2, service=SERVICE).call("DescribeInstanceRefreshes", params, self.refreshes)
        last: Mapping[str, Any] = next(iter(answer.get("InstanceRefreshes") or []), {})
        name, status = last.get("InstanceRefreshId"), last.get("Status", "")
        values = {LAST: name}
        over = not name or status == ENDED_WELL or status in ENDED_BADLY
        replaced = change.before.get("Instances")
        if begun is None and over and replaced and not set(replaced) & set(members):
            return Seen({**values, REFRESH: name})  # all that was to be replaced is gone
        if begun is None or begun.get(LAST) == name:
            share = last.get("PercentageComplete", 0)
            return Seen(values, busy="" if over else f"another instance refresh runs: {name}, {status}, {share} % done")
        if status in ENDED_BADLY:
            why = last.get("StatusReason") or "AWS says no reason"
            return Seen(values, failure=(f"InstanceRefresh{status}", f"{name}: {why}"))
        return Seen({**values, REFRESH: name}, settled=over)

    async def write(self, ec2: Ec2, change: Change, seen: Seen, plan_digest: str) -> None:
        preferences = change.after.get("Preferences") or PREFERENCES
        params = {"AutoScalingGroupName": change.resource, "Strategy": "Rolling", "Preferences": preferences}
        await replace(ec2, service=SERVICE).call("StartInstanceRefresh", params)


async def group_instances(ec2: Ec2, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The instances of some groups, by group; one that AWS does not have is left out."""
    found: dict[str, tuple[str, ...]] = {}
    params = {"AutoScalingGroupNames": list(names)}
    async for page in replace(ec2, service=SERVICE).pages("DescribeAutoScalingGroups", params, Groups.groups):
        for group in page.get("AutoScalingGroups") or []:
            found[group["AutoScalingGroupName"]] = tuple(each["InstanceId"] for each in group.get("Instances") or [])
    return found
