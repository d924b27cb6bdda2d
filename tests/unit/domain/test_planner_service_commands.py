"""Every kind of resource of another service that says IMDSv1 is allowed has a next command in the plan."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Account, RegionSeen, Scan, ServiceKind, ServiceSeen, Target
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions
from imdsctl.domain.planner import make_plan

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HERE = Target("111122223333", "eu-west-1")


@pytest.mark.parametrize("kind", ServiceKind)
def test_the_plan_names_the_next_command_of_every_kind(kind: ServiceKind) -> None:
    seen = ServiceSeen(kind, "resource", "name", MetadataOptions(HttpTokens.OPTIONAL), parent="parent")
    region = RegionSeen(HERE, AccountDefaults(), services=(seen,))
    scan = Scan("s", NOON, NOON, (Account(HERE.account_id, ""),), (region,))
    held = [each.held for each in make_plan(scan, Intent(), made_at=NOON).changes if each.resource == "resource"]
    assert held == [] or "`aws " in held[0]  # an ECS host is an instance, and planned as one
    assert held or kind is ServiceKind.ECS_CONTAINER_INSTANCE
