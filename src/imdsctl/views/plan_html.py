"""A plan as one self-contained HTML page for reviewers: no script, nothing loaded, every text from AWS escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from imdsctl import __version__
from imdsctl.domain.plan import NOT_GATHERED, Change, Plan, Stage
from imdsctl.domain.shown import shown
from imdsctl.domain.waves import PlannedWave
from imdsctl.views.plan import change_text, counted, exempt_text, plan_summary

if TYPE_CHECKING:
    from jinja2 import Template

CHANGES_MAX = 2_000
"""Changes that the page lists one by one, over all waves; the rest is counted, and stands in the plan file."""
LISTED_MAX = 500
"""Deferred, exempt and unknown entries that the page lists one by one."""


@dataclass
class StageRows:
    """One stage of a wave: how much it is, by account, and its changes as far as there is room."""

    title: str
    count: int
    accounts: list[tuple[str, str, int]]
    """Account id, its name, and how many changes."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        """How many changes the page does not list."""
        return self.count - len(self.rows)


@dataclass
class WaveRows:
    """One wave with its gates."""

    wave: PlannedWave
    stages: list[StageRows] = field(default_factory=list)

    @property
    def count(self) -> int:
        """All its changes."""
        return sum(each.count for each in self.stages)


def plan_html(plan: Plan, names: Mapping[str, str], *, file: str | None = None) -> Iterator[str]:
    """The whole page, in pieces. `names` are account names by id, `file` is where the plan itself was written."""
    deferred = [(each.id, each.reason, each.held) for each in islice(plan.deferred, LISTED_MAX)]
    exempt = [(each.id, each.reason, exempt_text(each)) for each in plan.exempt[:LISTED_MAX]]
    unknown = [(each.subject, each.what, each.reason) for each in plan.unknown[:LISTED_MAX]]
    yield from _template().generate(
        plan=plan,
        version=__version__,
        file=file,
        summary=plan_summary(plan),
        waves=_waves(plan, names),
        named=len(plan.waves) > 1,
        gathered=any(each.evidence not in ("", NOT_GATHERED) for each in plan.changes),
        lists=[
            (
                "Deferred",
                "wanted, and not changed now",
                ("Resource", "Why it would change", "What has to happen"),
                deferred,
                len(plan.deferred),
            ),
            (
                "Exempt",
                "in the register of exceptions",
                ("Resource", "Why it would change", "Who answers for it"),
                exempt,
                len(plan.exempt),
            ),
            (
                "Unknown",
                "nobody could see it, so that the plan cannot speak about it",
                ("Where", "What", "Why"),
                unknown,
                len(plan.unknown),
            ),
        ],
    )


def _waves(plan: Plan, names: Mapping[str, str]) -> list[WaveRows]:
    found: dict[str, WaveRows] = {}
    room = CHANGES_MAX
    for wave, stage, members in plan.steps():
        rows = found.setdefault(wave.name, WaveRows(wave))
        accounts: dict[str, int] = {}
        for change in members:
            accounts[change.target.account_id] = accounts.get(change.target.account_id, 0) + 1
        listed = members[:room]
        room -= len(listed)
        rows.stages.append(
            StageRows(
                _titled(stage),
                len(members),
                [(each, names.get(each, ""), count) for each, count in accounts.items()],
                [_row(change, names) for change in listed],
            )
        )
    return list(found.values())


def _titled(stage: Stage) -> str:
    return stage.title[:1].upper() + stage.title[1:]


def _row(change: Change, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "account": change.target.account_id,
        "name": names.get(change.target.account_id, ""),
        "region": change.target.region,
        "what": change_text(change),
        "reason": change.reason,
        "risk": change.risk,
        "evidence": "" if change.evidence == NOT_GATHERED else change.evidence,
        "reach": change.blast_radius,
    }


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("imdsctl.views", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters["counted"] = counted
    return environment.get_template("plan.html.j2")


def _finalized(value: Any) -> Any:
    """Nothing that turns the direction of text, or breaks a line, comes from a name."""
    return shown(value) if type(value) is str else value
