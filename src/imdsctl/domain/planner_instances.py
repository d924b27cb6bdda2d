"""Instances: what runs keeps its options until somebody changes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import InstanceSeen
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import NOT_GATHERED, Change, ChangeDraft, Stage, Surface
from imdsctl.domain.planner_here import Here
from imdsctl.domain.planner_hops import hop_limit

TRANSIENT_STATES = frozenset({"pending", "stopping", "shutting-down"})
"""Instance states in which AWS may refuse a change, or in which it comes to nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an instance with some options has to become. A fleet has few such pairs: they are made once and shared."""

    stage: Stage
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    reason: str
    risk: str

    @property
    def takes_v1(self) -> bool:
        """True when the change takes IMDSv1 away."""
        return bool(self.risk)


class Instances:
    """Judges a Region's instances."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self._verdicts: dict[tuple[int, int, str | None], Verdict | None] = {}
        self._by_value: dict[tuple[int, MetadataOptions, str | None], Verdict | None] = {}
        self._waves = {here.wave_here: here.wave_texts(here.wave_here)}
        self._target = here.region.target
        self._containers = bool(here.containers) or here.tagged_as_containers
        self._prefix = f"{self._target.account_id}/{self._target.region}/{Surface.INSTANCE}/"

    def plan(self, replaced: frozenset[str]) -> None:
        """Plan every instance but those that an instance refresh replaces."""
        here = self.here
        left_alone = here.whole.exclude_resources | replaced
        for instance in here.region.instances:
            verdict = self.verdict(instance)
            if verdict is None or instance.instance_id in left_alone:
                continue
            if here.exemptions:
                here.admit(self._change(instance, verdict), self._exemption(instance))
            else:
                here.changes.append(self._change(instance, verdict))

    def exempt(self, instance: InstanceSeen) -> bool:
        """Whether the register of exceptions, or an exclusion, covers an instance."""
        return instance.instance_id in self.here.whole.exclude_resources or self._exemption(instance) is not None

    def verdict(self, instance: InstanceSeen) -> Verdict | None:
        """What has to become of an instance; None when it is right, or left alone because its endpoint is off."""
        here = self.here
        container = here.container(instance.instance_id, instance.tags) if self._containers else None
        wanted = here.wanted(here.names_of(instance), instance.tags) if here.picky else here.intent
        # `here` keeps every intent that it gives and every instance, so that identity stands for both; hashing
        # would cost more than all the rest.
        key = (id(wanted), id(instance.options), container)
        try:
            return self._verdicts[key]
        except KeyError:
            return self._verdicts.setdefault(key, self._same_verdict(wanted, instance.options, container))

    def _same_verdict(self, wanted: Intent, options: MetadataOptions, container: str | None) -> Verdict | None:
        key = (id(wanted), options, container)
        if key not in self._by_value:
            self._by_value[key] = _verdict(wanted, options, container)
        return self._by_value[key]

    def _exemption(self, instance: InstanceSeen) -> Any:
        here = self.here
        return here.exemption(here.names_of(instance), instance.tags) if here.exemptions else None

    def _change(self, instance: InstanceSeen, verdict: Verdict) -> Change:
        here = self.here
        number = here.wave(here.names_of(instance), instance.tags) if here.picky else here.wave_here
        if number not in self._waves:
            self._waves[number] = here.wave_texts(number)
        wave, gate, unassigned = self._waves[number]
        group = here.groups.get(instance.instance_id) if here.groups else None
        change = ChangeDraft()
        change.id = self._prefix + instance.instance_id
        change.stage = verdict.stage
        change.surface = Surface.INSTANCE
        change.target = self._target
        change.resource = instance.instance_id
        change.before = verdict.before
        change.after = verdict.after
        change.reason = verdict.reason
        change.risk = verdict.risk
        change.held = _held(instance) or unassigned
        change.name = name_tag(instance.tags)
        change.wave = wave
        change.evidence = NOT_GATHERED if here.evidence is None else here.use_by(instance)
        change.blast_radius = (f"runs in Auto Scaling group {group.name}",) if group else ()
        change.gate = gate
        return change.done()


def _verdict(intent: Intent, current: MetadataOptions, container: str | None) -> Verdict | None:
    if current.http_endpoint is Switch.DISABLED:
        return None  # No version of the service answers there, and nothing of ours may switch it on.
    wanted = intent.instances
    after = wanted.options.differing_from(current)
    tokens_change = after.http_tokens is HttpTokens.REQUIRED
    hop, rule = hop_limit(wanted, current.http_put_response_hop_limit, container, intent, tokens_change=tokens_change)
    if hop is not None:
        after = MetadataOptions(http_put_response_hop_limit=hop).over(after)
    if not after:
        return None
    if after.http_endpoint is Switch.DISABLED:
        # With the service off the other options mean nothing, and AWS takes them only with an enabled endpoint.
        after, rule = MetadataOptions(http_endpoint=Switch.DISABLED), ""
    reasons = ["HttpTokens=optional: IMDSv1 answers"] if tokens_change else [] if rule else ["the intent wants it"]
    if rule:
        reasons.append(rule)
    elif container and tokens_change:
        reasons.append(f"a container host ({container})")
    return Verdict(
        stage=Stage.CONTAINER_HOSTS if container else Stage.INSTANCES,
        before=current.to_aws(),
        after=after.to_aws(),
        reason="; ".join(reasons),
        risk="software on it that knows only IMDSv1 loses its credentials and metadata" if tokens_change else "",
    )


def _held(instance: InstanceSeen) -> str:
    if instance.managed_by:
        return f"a managed instance: only its operator ({instance.managed_by}) can change it"
    if instance.options.http_tokens is None:
        return "unknown: the scan did not see its HttpTokens"
    if instance.state in TRANSIENT_STATES:
        return f"it is {instance.state}: scan again when it has settled"
    if instance.options_pending:
        return "an earlier change of its options is still pending: scan again when it is applied"
    return ""


def name_tag(tags: Iterable[tuple[str, str]]) -> str:
    """The value of the tag `Name`, or nothing."""
    for key, value in tags:
        if key == "Name":
            return value
    return ""
