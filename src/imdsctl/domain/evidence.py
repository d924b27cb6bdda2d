"""Evidence of IMDSv1 use: what CloudWatch and CloudTrail say an instance did, and what they cannot say.

"No datapoints" is not zero: a stopped, a new or an unmonitored instance is unknown. Source: EC2 User Guide,
"Transition to using Instance Metadata Service Version 2" (MetadataNoToken, MetadataNoTokenRejected); CloudTrail User
Guide, "CloudTrail userIdentity element" (ec2RoleDelivery).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from imdsctl.domain.observations import Target

LOOK_BACK = timedelta(days=14)
"""How far back is looked when nobody says otherwise: two weeks, so that a weekly job is seen twice."""


class Use(StrEnum):
    """Was IMDSv1 used in the look-back?"""

    USED = "used"
    UNUSED = "unused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class InstanceEvidence:
    """What is known of one instance in a look-back.

    `no_token` and `rejected` are sums of MetadataNoToken and MetadataNoTokenRejected, None without any datapoint.
    """

    target: Target
    instance_id: str
    no_token: float | None = None
    rejected: float | None = None
    last_used: datetime | None = None
    """The end of the latest period with an IMDSv1 call (aware)."""
    role_delivery_v1: int | None = None
    """Events in CloudTrail signed with credentials that IMDSv1 delivered; None when CloudTrail was not asked."""
    since: datetime | None = None
    """From when the evidence speaks, when that is later than the look-back's start (a young instance)."""
    reason: str = ""
    """Why it is unknown, or what the evidence leaves out ("no datapoints after ..."), in a clause."""

    @property
    def use(self) -> Use:
        """USED by any trace of it; UNUSED only by datapoints that say zero."""
        if self.no_token or self.rejected or self.role_delivery_v1:
            return Use.USED
        if self.no_token is None and self.rejected is None:
            return Use.UNKNOWN
        return Use.UNUSED


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was gathered for a scan."""

    scan_id: str
    taken: datetime
    look_back: timedelta
    instances: Mapping[tuple[Target, str], InstanceEvidence] = field(default_factory=dict)
    unseen: tuple[tuple[Target, str], ...] = ()
    """Targets in which CloudWatch could not be asked, with the reason."""
    metrics_requested: int = 0
    """What CloudWatch bills."""

    def of(self, target: Target, instance_id: str) -> InstanceEvidence:
        """One instance's evidence; unknown when none was gathered."""
        found = self.instances.get((target, instance_id))
        return found or InstanceEvidence(target, instance_id, reason="no evidence was gathered")


def combined_use(uses: Iterable[Use]) -> Use:
    """The use by a whole: used if any part is, unknown if any part is or there is none, else unused."""
    seen = set(uses)
    if Use.USED in seen:
        return Use.USED
    return Use.UNUSED if seen == {Use.UNUSED} else Use.UNKNOWN


def joined(earlier: Evidence | None, now: Evidence) -> Evidence:
    """Evidence of a part of a scan, with what was gathered of the rest before.

    The whole is as old as its older part. What looked back over another time is dropped: it answers another question.
    """
    if earlier is None or earlier.look_back != now.look_back:
        return now
    asked = {target for target, _ in now.instances} | {target for target, _ in now.unseen}
    kept = {key: each for key, each in earlier.instances.items() if key[0] not in asked}
    unseen = [each for each in earlier.unseen if each[0] not in asked]
    return replace(
        now,
        taken=min(earlier.taken, now.taken),
        instances=dict(sorted({**kept, **now.instances}.items())),
        unseen=tuple(sorted((*unseen, *now.unseen))),
        metrics_requested=earlier.metrics_requested + now.metrics_requested,
    )


def is_missing(earlier: Evidence, target: Target, instance_ids: Iterable[str]) -> bool:
    """Whether a target is still to be asked: some of the instances were not, or AWS did not answer there."""
    if any(target == unseen for unseen, _ in earlier.unseen):
        return True
    return any((target, each) not in earlier.instances for each in instance_ids)
