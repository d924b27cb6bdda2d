"""What an account's Auto Scaling keeps in one Region: launch configurations, groups, activities, refreshes.

Nothing here reads a clock or draws a random number. What happens by itself happens in `reconcile`, as of the time it
was due, with identifiers that depend on the group and a count only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.zones import Zone

PENDING = "Pending"
IN_SERVICE = "InService"
TERMINATING = "Terminating"
STANDBY = "Standby"

IN_PROGRESS = "InProgress"
SUCCESSFUL = "Successful"
FAILED = "Failed"
CANCELLING = "Cancelling"
CANCELLED = "Cancelled"
REFRESHING = (PENDING, IN_PROGRESS, CANCELLING)
"""The states of an instance refresh that is not over."""

ACTIVITIES_KEPT = 500


@dataclass(frozen=True, slots=True)
class LaunchConfiguration:
    """An immutable launch configuration; `data` is AWS's `LaunchConfiguration` without name, ARN and time."""

    name: str
    arn: str
    created: datetime
    data: dict[str, Any]


@dataclass(slots=True)
class GroupTag:
    """A tag of a group; `propagate`: instances get it at launch."""

    value: str
    propagate: bool


@dataclass(frozen=True, slots=True)
class Source:
    """From what a group launches: a launch configuration's name, a template or a mixed instances policy.

    Templates are named by AWS's `LaunchTemplateSpecification` with id, name and version.
    """

    configuration: str | None = None
    template: dict[str, str] | None = None
    mixed: dict[str, Any] | None = None


@dataclass(slots=True)
class Activity:
    """A scaling activity."""

    id: str
    description: str
    cause: str
    started: datetime
    status: str = IN_PROGRESS
    message: str | None = None
    ended: datetime | None = None
    progress: int = 50
    details: str = "{}"

    def end(self, when: datetime, status: str = SUCCESSFUL) -> None:
        """The activity is over."""
        self.status, self.ended, self.progress = status, when, 100


@dataclass(slots=True)
class Member:
    """An instance of a group. `configuration` or `template` (with its version's number) is what it was launched from.

    `started` is the activity that launched it, until that is over; `leaving` the one that terminates it.
    """

    instance_id: str
    instance_type: str
    image_id: str
    zone: Zone
    launched: datetime
    lifecycle: str = PENDING
    configuration: str | None = None
    template: dict[str, str] | None = None
    protected: bool = False
    healthy: bool = True
    weight: str | None = None
    spot: bool = False
    started: Activity | None = None
    leaving: Activity | None = None

    @property
    def units(self) -> int:
        """How much of the group's capacity the instance is."""
        return int(self.weight or 1)


@dataclass(slots=True)
class Refresh:
    """An instance refresh; `preferences` are all there.

    `waiting` are the instances to replace, by id, in the order of their turn.
    """

    id: str
    started: datetime
    preferences: dict[str, Any]
    wanted: Source | None
    desired_configuration: dict[str, Any] | None
    status: str = PENDING
    reason: str | None = None
    ended: datetime | None = None
    total: int = 0
    waiting: list[str] = field(default_factory=list)
    stalled: datetime | None = None

    @property
    def launches_first(self) -> bool:
        """Whether an instance is replaced before it is terminated: nothing may be missing meanwhile."""
        return bool(self.preferences["MinHealthyPercentage"] >= 100)


@dataclass(slots=True)
class Group:
    """An Auto Scaling group.

    `settings` are the members of AWS's `AutoScalingGroup` that are stored and shown as they are; `because` says, in
    AWS's words, which request brought about the difference in capacity that is being made up.
    """

    name: str
    arn: str
    created: datetime
    source: Source
    least: int
    most: int
    desired: int
    zones: list[str]
    subnets: list[str]
    role: str
    role_arn: str
    role_id: str
    settings: dict[str, Any]
    tags: dict[str, GroupTag] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    suspended: dict[str, str] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    activities: deque[Activity] = field(default_factory=lambda: deque(maxlen=ACTIVITIES_KEPT))
    refreshes: list[Refresh] = field(default_factory=list)
    protect_new: bool = False
    deleting: bool = False
    because: str = ""
    failures: int = 0
    retry_at: datetime | None = None
    made: int = 0  # activities and launches so far; identifiers are counted by it

    @property
    def refresh(self) -> Refresh | None:
        """The refresh that is under way."""
        return self.refreshes[-1] if self.refreshes and self.refreshes[-1].status in REFRESHING else None

    def active(self) -> list[Member]:
        """The members that count towards the desired capacity."""
        return [each for each in self.members.values() if each.lifecycle in (PENDING, IN_SERVICE)]

    def capacity(self) -> int:
        """The capacity that is there or on its way."""
        return sum(each.units for each in self.active())


class ScalingState:
    """An account's Auto Scaling in a Region; `ec2` is its EC2 there. Both tables are by name.

    `ended` are the activities of groups that were deleted, newest last, each with its group's name and ARN.
    """

    def __init__(self, ec2: RegionState) -> None:
        self.ec2 = ec2
        self.configurations: dict[str, LaunchConfiguration] = {}
        self.groups: dict[str, Group] = {}
        self.ended: deque[tuple[str, str, Activity]] = deque(maxlen=ACTIVITIES_KEPT)
