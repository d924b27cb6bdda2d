"""The look at a Region right before its enforcement is enabled: days may lie between a plan and its last stage."""

from __future__ import annotations

from datetime import datetime

from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Target
from imdsctl.domain.planner_region import LAUNCH_PARTS, launches_that_would_fail
from imdsctl.fleet.ports import Aws, Credentials
from imdsctl.fleet.services import READERS, Serves
from imdsctl.fleet.target_reader import PublicImages, read_target

LAUNCHING = tuple(reader for reader in READERS.values() if reader.what in LAUNCH_PARTS)
"""A plan enforces only what a scan with other services has seen: this look is no more lenient. The services that launch
nothing in the account are not asked."""
NAMED_MAX = 5
"""So many launches are named before the rest is only counted."""


async def why_not(
    aws: Aws, credentials: Credentials | None, target: Target, *, intent: Intent, serves: Serves, now: datetime
) -> str:
    """What would, or may, fail in a Region under enforcement, in a clause; empty when it can be enabled.

    Read as a sweep reads it and judged as a plan judges it. What could not be read may fail.
    """
    services = [reader for reader in LAUNCHING if serves(reader.service, target.region)]
    seen = await read_target(aws, credentials, target, PublicImages(), services)
    failing = launches_that_would_fail(seen, intent, now)
    more = f"; and {len(failing) - NAMED_MAX} more" if len(failing) > NAMED_MAX else ""
    return "; ".join(failing[:NAMED_MAX]) + more
