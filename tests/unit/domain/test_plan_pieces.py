"""The text of a plan file is its canonical form, whatever its instances are called and however they take turns."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Account, InstanceSeen, RegionSeen, Scan, Target
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import canonical, change_to_plain, plan_from_plain
from imdsctl.domain.plan_pieces import plan_pieces
from imdsctl.domain.planner import make_plan

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
OPTIONS = [MetadataOptions(HttpTokens.OPTIONAL, hops, Switch.ENABLED) for hops in (1, 2)]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

instances = st.builds(
    lambda options, state, name, operator: InstanceSeen(
        "", state, options, managed_by=operator, tags=(("Name", name),)
    ),
    st.sampled_from(OPTIONS),
    st.sampled_from(["running", "pending"]),
    TEXTS | st.sampled_from(['","name":"', '","resource":"i-0",', "%s {0} \\", "\x7f\x00\x1f\b\f\n\r\t/\u2028é😀"]),
    TEXTS,
)


@given(st.lists(instances, max_size=12), st.booleans())
@example([InstanceSeen("", "running", OPTIONS[0], tags=(("Name", ',"resource":"i-0",'),), managed_by="a")] * 2, True)
def test_every_line_is_the_change_in_canonical_form(seen: list[InstanceSeen], two_regions: bool) -> None:
    named = tuple(
        InstanceSeen(f"i-{number}", each.state, each.options, managed_by=each.managed_by, tags=each.tags)
        for number, each in enumerate(seen)
    )
    regions = ["eu-west-1", "us-east-1"] if two_regions else ["eu-west-1"]
    scan = Scan(
        "s1",
        NOON,
        NOON,
        (Account("111122223333", "a"),),
        [RegionSeen(Target("111122223333", region), AccountDefaults(), named) for region in regions],
    )
    plan = make_plan(scan, Intent(), made_at=NOON)
    text = b"".join(plan_pieces(plan))
    lines = [line.rstrip(b",") for line in text.split(b"\n") if line.startswith(b'{"account"')]
    assert lines == [canonical(change_to_plain(change)) for change in plan.changes]
    assert plan_from_plain(orjson.loads(text)) == plan
