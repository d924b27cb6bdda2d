"""How each surface is read and written through EC2's API. Reads give all that a resource says; writes send a change."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, ClassVar, Protocol, TypeAlias

from imdsctl.domain.options import AccountDefaults, MetadataOptions
from imdsctl.domain.plan import Change, Surface, Values
from imdsctl.fleet.ports import Aws, Credentials
from imdsctl.wire.errors import ServiceError
from imdsctl.wire.service import Projection

STOPPED_STATES = frozenset({"stopped", "stopping"})
"""A stopped instance stores its options and applies them at its next start: `pending` is all there is to wait for."""


@dataclass(frozen=True, slots=True)
class Ec2:
    """EC2, or what stands beside it (`autoscaling`), of one account in one Region."""

    aws: Aws
    credentials: Credentials | None
    region: str

    service: str = "ec2"

    async def call(self, operation: str, params: Mapping[str, Any], projection: Projection | None = None) -> Any:
        """One call. Raises ServiceError and Unreachable."""
        return await self.aws.call(self.credentials, self.service, self.region, operation, params, projection)

    def pages(self, operation: str, params: Mapping[str, Any], projection: Projection) -> AsyncIterator[dict[str, Any]]:
        """Every page of an answer. Raises ServiceError and Unreachable."""
        return self.aws.paginate(self.credentials, self.service, self.region, operation, params, projection)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a resource says now."""

    values: Values
    settled: bool = True
    """False while AWS is still applying an earlier call."""
    made: Mapping[str, int] = field(default_factory=dict)
    """Launch template: the versions that this plan made before it was interrupted, by part."""
    failure: tuple[str, str] | None = None
    """Code and message of what was begun and has come to a bad end."""
    busy: str = ""
    """Why nothing may be begun, in a clause: somebody else is at work on it."""


class Standing(Enum):
    """Where a resource stands between a change's `before` and `after`."""

    DONE = auto()
    READY = auto()
    STALE = auto()


def standing(change: Change, seen: Seen) -> Standing:
    """Compare what a resource says with a change: is it done, may it be made, or did somebody else change things?"""
    if change.surface is Surface.AUTO_SCALING_GROUP:
        return Standing.DONE if REFRESH in seen.values else Standing.STALE if seen.busy else Standing.READY
    if _satisfied(change, seen.values):
        return Standing.DONE
    return Standing.READY if seen.made or dict(seen.values) == dict(change.before) else Standing.STALE


def _satisfied(change: Change, values: Values) -> bool:
    if change.surface is not Surface.LAUNCH_TEMPLATE:
        return _says(values, change.after)
    return all(_part_satisfied(change, values, part) for part in ("Default", "Latest"))


def _part_satisfied(change: Change, values: Values, part: str) -> bool:
    """A part that the change leaves alone has to be as the plan saw it, or as the other one becomes: `$Latest` may be a
    version that the plan knows nothing of."""
    says = values.get(part, values["Default"])
    if part in change.after:
        return _says(says, change.after[part])
    return says == change.before.get(part) or any(_says(says, wanted) for wanted in change.after.values())


def _says(values: Values, wanted: Values) -> bool:
    return all(values.get(name) == value for name, value in wanted.items())


TEMPLATE_GONE = "InvalidLaunchTemplateId.NotFound"
"""A template is asked for by its id, and of one that is gone AWS says so. Source: EC2 API Reference, "Error codes"."""
REFRESH = "Refresh"
"""In what an Auto Scaling group says: the instance refresh that this plan began."""
SETTLE_SECONDS_MAX = 120.0
"""How long to wait for AWS to show a change as applied before it is left in doubt."""
Begun: TypeAlias = Mapping[str, Values]
"""What was recorded when the changes that are begun and not ended were begun last, by change id."""


class Handler(Protocol):
    """One surface."""

    settle_seconds_max: float

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str, begun: Begun) -> dict[str, Seen]:
        """What the resources of these changes say, by change id. One that AWS no longer has is left out."""
        ...

    async def write(self, ec2: Ec2, change: Change, seen: Seen, plan_digest: str) -> None:
        """Make the change. Sends what differs and nothing else."""
        ...


class RegionDefaults:
    """`GetInstanceMetadataDefaults` and `ModifyInstanceMetadataDefaults`, which leaves alone what is not sent."""

    settle_seconds_max = SETTLE_SECONDS_MAX

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str, begun: Begun) -> dict[str, Seen]:
        answer = await ec2.call("GetInstanceMetadataDefaults", {})
        seen = Seen(AccountDefaults.from_aws(answer.get("AccountLevel")).to_aws())
        return {change.id: seen for change in changes}

    async def write(self, ec2: Ec2, change: Change, seen: Seen, plan_digest: str) -> None:
        await ec2.call("ModifyInstanceMetadataDefaults", change.after)


class Instances:
    """`DescribeInstances` and `ModifyInstanceMetadataOptions`, which leaves alone what is not sent."""

    settle_seconds_max = SETTLE_SECONDS_MAX
    projection: ClassVar[Projection] = {
        "Reservations": {"Instances": {"InstanceId": None, "State": {"Name": None}, "MetadataOptions": None}},
        "NextToken": None,
    }

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str, begun: Begun) -> dict[str, Seen]:
        by_resource = {change.resource: change.id for change in changes}
        found: dict[str, Seen] = {}
        # A filter, not InstanceIds: one instance that is gone would make AWS refuse to speak of the others.
        params = {"Filters": [{"Name": "instance-id", "Values": sorted(by_resource)}]}
        async for page in ec2.pages("DescribeInstances", params, self.projection):
            for instance in _instances(page):
                state = instance.get("State", {}).get("Name")
                change = by_resource.get(instance["InstanceId"])
                if change is None or state in ("terminated", "shutting-down"):
                    continue
                options = instance.get("MetadataOptions") or {}
                found[change] = Seen(
                    MetadataOptions.from_aws(options).to_aws(),
                    settled=options.get("State") != "pending" or state in STOPPED_STATES,
                )
        return found

    async def write(self, ec2: Ec2, change: Change, seen: Seen, plan_digest: str) -> None:
        await ec2.call("ModifyInstanceMetadataOptions", {"InstanceId": change.resource, **change.after})


class LaunchTemplates:
    """A launch template's version cannot be changed: each one that is wrong gets a successor.

    The successor of `$Default` is made first and the one of `$Latest` last, because the version that was made last is
    `$Latest`; then `$Default` moves to its successor. A change that is for `$Latest` alone makes that one version and
    moves nothing. Every version carries a mark of the plan in its description and a client token, so that a second try
    finds what the first one made.
    """

    settle_seconds_max = SETTLE_SECONDS_MAX
    projection: ClassVar[Projection] = {
        "LaunchTemplateVersions": {
            "VersionNumber": None,
            "VersionDescription": None,
            "DefaultVersion": None,
            "LaunchTemplateData": {"MetadataOptions": None},
        },
        "NextToken": None,
    }

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str, begun: Begun) -> dict[str, Seen]:
        return {
            change.id: seen
            for change in changes
            if (seen := await self._read_one(ec2, change, plan_digest)) is not None
        }

    async def _read_one(self, ec2: Ec2, change: Change, plan_digest: str) -> Seen | None:
        try:
            named = await self._versions(ec2, change, Versions=["$Default", "$Latest"])
        except ServiceError as error:
            if error.code == TEMPLATE_GONE:
                return None
            raise
        default = next((version for version in named if version.get("DefaultVersion")), None)
        if default is None:
            return None
        latest = max(named, key=_number)
        values: dict[str, Any] = {
            "DefaultVersion": _number(default),
            "LatestVersion": _number(latest),
            "Default": _options(default),
        }
        if latest is not default or "Latest" in change.before:
            values["Latest"] = _options(latest)
        seen = Seen(values)
        if standing(change, seen) is not Standing.STALE or values["DefaultVersion"] != change.before["DefaultVersion"]:
            return seen
        newer = await self.newer(ec2, change)
        made = made_by(change, newer, plan_digest)
        ours = bool(newer) and len(made) == len(newer) and list(change.after)[: len(made)] == list(made)
        return Seen(values, made=made if ours else {})

    async def newer(self, ec2: Ec2, change: Change) -> list[dict[str, Any]]:
        """The versions that came after the change was planned."""
        return await self._versions(ec2, change, MinVersion=str(change.before["LatestVersion"] + 1))

    async def _versions(self, ec2: Ec2, change: Change, **which: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        params = {"LaunchTemplateId": change.resource, **which}
        async for page in ec2.pages("DescribeLaunchTemplateVersions", params, self.projection):
            found += page.get("LaunchTemplateVersions") or []
        return sorted({_number(version): version for version in found}.values(), key=_number)

    async def write(self, ec2: Ec2, change: Change, seen: Seen, plan_digest: str) -> None:
        made = dict(seen.made)
        for part in ("Default", "Latest"):
            if part in change.after and part not in made:
                made[part] = await self._create(ec2, change, part, plan_digest)
        if "Default" in change.after:
            await ec2.call(
                "ModifyLaunchTemplate",
                {
                    "LaunchTemplateId": change.resource,
                    "DefaultVersion": str(made["Default"]),
                    "ClientToken": _token(change, "set default", plan_digest),
                },
            )

    async def _create(self, ec2: Ec2, change: Change, part: str, plan_digest: str) -> int:
        # All of the template's options are said again: whether AWS merges MetadataOptions with those of the source
        # version or replaces them is not documented, and this way both come out the same.
        answer = await ec2.call(
            "CreateLaunchTemplateVersion",
            {
                "LaunchTemplateId": change.resource,
                "SourceVersion": str(change.before[f"{part}Version"]),
                "VersionDescription": mark(change, part, plan_digest),
                "ClientToken": _token(change, part, plan_digest),
                "LaunchTemplateData": {"MetadataOptions": {**change.before[part], **change.after[part]}},
            },
        )
        return _number(answer["LaunchTemplateVersion"])


class Images:
    """`DescribeImages` and `ModifyImageAttribute`, for which AWS knows no way back."""

    settle_seconds_max = SETTLE_SECONDS_MAX
    projection: ClassVar[Projection] = {"Images": {"ImageId": None, "ImdsSupport": None}, "NextToken": None}

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str, begun: Begun) -> dict[str, Seen]:
        by_resource = {change.resource: change.id for change in changes}
        found: dict[str, Seen] = {}
        params = {"Owners": ["self"], "Filters": [{"Name": "image-id", "Values": sorted(by_resource)}]}
        async for page in ec2.pages("DescribeImages", params, self.projection):
            for image in page.get("Images") or []:
                if change := by_resource.get(image["ImageId"]):
                    found[change] = Seen({"ImdsSupport": image.get("ImdsSupport")})
        return found

    async def write(self, ec2: Ec2, change: Change, seen: Seen, plan_digest: str) -> None:
        wanted = {"Value": change.after["ImdsSupport"]}
        await ec2.call("ModifyImageAttribute", {"ImageId": change.resource, "ImdsSupport": wanted})


def made_by(change: Change, versions: Iterable[Mapping[str, Any]], plan_digest: str) -> dict[str, int]:
    """Those of some versions that a plan has made for a change, by part, the oldest first."""
    marks = {mark(change, part, plan_digest): part for part in change.after}
    return {
        part: _number(version) for version in versions if (part := marks.get(version.get("VersionDescription", "")))
    }


def mark(change: Change, part: str, plan_digest: str) -> str:
    """The description of a launch template version that this plan makes; `part` is `Default` or `Latest`."""
    source = change.before[f"{part}Version"]
    return f"imdsctl {plan_digest.removeprefix('sha256:')[:16]}: ${part} version {source} with IMDSv2"


def _token(change: Change, part: str, plan_digest: str) -> str:
    return hashlib.sha256(f"{plan_digest} {change.id} {part}".encode()).hexdigest()


def _instances(page: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for reservation in page.get("Reservations") or []:
        yield from reservation.get("Instances") or []


def _number(version: Mapping[str, Any]) -> int:
    return int(version["VersionNumber"])


def _options(version: Mapping[str, Any]) -> dict[str, Any]:
    return MetadataOptions.from_aws((version.get("LaunchTemplateData") or {}).get("MetadataOptions")).to_aws()
