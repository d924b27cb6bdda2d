"""Exposed instances rolled up to what somebody owns: a group, a cluster, a template; with the evidence of its use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from imdsctl.domain.evidence import Use, combined_use
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import INSTANCE, Finding, evidence_text
from imdsctl.domain.observations import Target

INSTANCES_NAMED_MAX = 5
"""Instances of a workload that a report names one by one."""
_ORDER = {Use.USED: 0, Use.UNKNOWN: 1, Use.UNUSED: 2}


@dataclass
class ExposedWorkload:
    """A workload in one account and Region, while its instances are counted."""

    target: Target
    name: str
    exposed: int = 0
    uses: set[Use] = field(default_factory=set)
    used: int = 0
    examples: list[Finding] = field(default_factory=list)
    accepted: str = ""

    def add(self, finding: Finding) -> None:
        """One more of its exposed instances; those that used IMDSv1 are the ones to name."""
        use = finding.use or Use.UNKNOWN
        self.exposed += 1
        self.uses.add(use)
        self.accepted = self.accepted or finding.accepted
        self.used += use is Use.USED
        if len(self.examples) < INSTANCES_NAMED_MAX:
            self.examples.append(finding)
        elif use is Use.USED and (idle := next((each for each in self.examples if each.use is not Use.USED), None)):
            self.examples[self.examples.index(idle)] = finding

    @property
    def use(self) -> Use:
        """USED if any instance used IMDSv1, UNUSED only if every one is known not to have."""
        return combined_use(self.uses)

    @property
    def evidence(self) -> str:
        """The evidence in a clause."""
        if self.use is Use.USED:
            busiest = next(each for each in self.examples if each.use is Use.USED)
            return f"{self.used} of {self.exposed} use IMDSv1; {busiest.resource}: {evidence_text(busiest.evidence)}"
        return evidence_text(self.examples[0].evidence) if self.examples else ""

    @property
    def next_step(self) -> str:
        """What to do."""
        worst = min(self.examples, key=lambda each: _ORDER[each.use or Use.UNKNOWN])
        return worst.next_step


def exposed_workloads(findings: Iterable[Finding]) -> list[ExposedWorkload]:
    """Workloads with exposed instances, the ones that use IMDSv1 first, then by size."""
    found: dict[tuple[Target, str], ExposedWorkload] = {}
    for finding in findings:
        if finding.rule is not INSTANCE or finding.verdict is not Verdict.EXPOSED or finding.target is None:
            continue
        name = finding.workload or f"instance {finding.name or finding.resource}"
        key = finding.target, name
        if key not in found:
            found[key] = ExposedWorkload(finding.target, name)
        found[key].add(finding)
    return sorted(found.values(), key=lambda each: (_ORDER[each.use], -each.exposed, each.target, each.name))
