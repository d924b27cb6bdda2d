"""From what a local AWS is made. Apart from the world itself, so that whoever only names one does not load it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from imdsctl.domain.regions import DEFAULT_REGIONS

V1_PERCENT = 55
"""How many of a hundred use IMDSv1 where nobody has looked after it."""


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """From what a world is made. Two worlds of one spec give the same answers, on every machine.

    `regions` are the Regions that get generated resources, and the opt-in Regions among them are enabled;
    `instances` is the average number of instances in each; `created` (aware, UTC, whole seconds) dates everything.
    `v1_percent` is how many of the generated instances with optional tokens use IMDSv1, of a hundred.
    """

    seed: int
    created: datetime
    accounts: int = 12
    regions: tuple[str, ...] = DEFAULT_REGIONS
    instances: int = 20
    settle_seconds: float = 0.0
    v1_percent: int = V1_PERCENT

    @property
    def old_stacks(self) -> bool:
        """Whether other services, and what launches by itself, may allow IMDSv1: where somebody uses it."""
        return self.v1_percent > 0
