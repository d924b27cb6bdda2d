"""Launch templates: a version cannot be changed, so what is wrong gets a successor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from imdsctl.domain.observations import TemplateVersionSeen
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Change, Stage, Surface, change_id
from imdsctl.domain.planner_here import Here, some
from imdsctl.domain.planner_hops import hop_limit
from imdsctl.domain.planner_launches import State, allows_v1
from imdsctl.domain.precedence import Resolution

INTENTS_REMEMBERED_MAX = 256


@dataclass
class TemplatePlans:
    """What the plan makes of a Region's templates: what they will say, and which versions a launch is refused from."""

    said: dict[tuple[str, str], MetadataOptions]
    refused: list[str]


def plan_templates(here: Here, state: State) -> TemplatePlans:
    """Plan every template under `state`: the Region default and the images as this plan leaves them."""
    plans = TemplatePlans({}, [])
    for template_id in sorted(here.launches.templates):
        if template_id not in here.whole.exclude_resources:
            _Template(here, state, template_id).plan(plans)
    return plans


class _Template:
    """One template, with everything that its changes need."""

    def __init__(self, here: Here, state: State, template_id: str) -> None:
        self.here, self.state, self.template_id = here, state, template_id
        self.versions = sorted(here.launches.templates[template_id], key=lambda each: each.version)
        any_version = self.versions[0]
        self.name = any_version.template_name
        self.names = (template_id, self.name)
        self.tags = next((each.tags for each in self.versions if each.is_default), any_version.tags)
        self.intent = here.wanted(self.names, self.tags)
        self.exemption = here.exemption(self.names, self.tags)
        self.wave = here.wave(self.names, self.tags)

    def plan(self, plans: TemplatePlans) -> None:
        default = next((each for each in self.versions if each.is_default), None)
        latest = next((each for each in self.versions if each.is_latest), None)
        if default is not None and latest is not None:
            first = self._after(default)
            wanted = {"Default": first, "Latest": first if latest is default else self._after(latest)}
            if not self.intent.move_default:
                if first[0]:
                    self._kept(default, latest, first[0], plans)
                wanted["Default"] = (MetadataOptions(), "")
            if any(options for options, _ in wanted.values()):
                change = self._change(default, latest, wanted)
                said = dict(self._said(change, default, latest))
                if losing := self.here.exempt_and_losing(self.state, replace(self.state, templates=said)):
                    held = (
                        f"{some(losing)} is exempt, so that this would take IMDSv1 from its next launch: give it a "
                        "launch template of its own, then plan again"
                    )
                    change = replace(change, held=held)
                if self.here.admit(change, self.exemption):
                    plans.said.update(said)
        for version in self.versions:
            if not version.is_default and not version.is_latest and version.in_use:
                self._pinned(version, plans)

    def _said(
        self, change: Change, default: TemplateVersionSeen, latest: TemplateVersionSeen
    ) -> Iterator[tuple[tuple[str, str], MetadataOptions]]:
        """What `$Default` and `$Latest` say once the change is made."""
        for part, source in (("Default", default), ("Latest", latest)):
            # One successor is both when one version was: `$Latest` then follows `$Default`.
            after = change.after.get(part, change.after.get("Default") if default is latest else None)
            if after is not None:
                yield (self.template_id, f"${part}"), MetadataOptions.from_aws(after).over(source.options)

    def _kept(
        self, default: TemplateVersionSeen, latest: TemplateVersionSeen, after: MetadataOptions, plans: TemplatePlans
    ) -> None:
        """`$Default` is not as wanted, and the intent does not move it: what launches from it stays as it is."""
        if allows_v1(self.here.launches.of_version(default, self.state)):
            plans.refused.append(f"launch template {self.template_id} version {default.version}")
        self.here.admit(
            self._made(
                "default",
                before={"Version": default.version, "Options": default.options.to_aws()},
                after=after.to_aws(),
                reason=self._why(default, after),
                held=(
                    f"the intent keeps $Default at version {default.version}, and what launches from it as it is: when "
                    f"$Latest ({_newest(default, latest)}) is proven, move $Default to it, or say `move-default = true`"
                ),
            ),
            self.exemption,
        )

    def _pinned(self, version: TemplateVersionSeen, plans: TemplatePlans) -> None:
        """A version that something was launched from by number: nobody can change it, and enforcement settles it."""
        # Not after enforcement, which may yet be held back: the version by itself.
        resolution = self.here.launches.of_version(version, self.state)
        if not allows_v1(resolution):
            return
        plans.refused.append(f"launch template {self.template_id} version {version.version}")
        if self.state.defaults.enforced:
            return  # Launches from it are refused already.
        self.here.admit(
            self._made(
                f"version-{version.version}",
                before={"Version": version.version, "Options": version.options.to_aws()},
                after={"HttpTokens": str(HttpTokens.REQUIRED)},
                reason=_reason(version, resolution),
                held=(
                    f"version {version.version} is in use and a version cannot be changed: move its users to $Default; "
                    "when the Region enforces IMDSv2, launches from it are refused"
                ),
            ),
            self.exemption,
        )

    def _after(self, version: TemplateVersionSeen) -> tuple[MetadataOptions, str]:
        """What a successor of this version has to say differently, and the rule that decided the hop limit; the first
        is empty when the version is right as it is."""
        wanted = self.intent.launch_templates
        after = MetadataOptions()
        if version.options.http_endpoint is Switch.DISABLED:
            return after, ""
        resolution = self.here.launches.of_version(version, self.state)
        wants_v2 = wanted.options.http_tokens is HttpTokens.REQUIRED
        explicit = self.intent.explicit_templates and version.options.http_tokens is None
        if wants_v2 and (allows_v1(resolution) or explicit):
            after = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
        if others := _others(wanted.options):
            after = after.over(others.differing_from(version.options))
        container = self.here.container(self.template_id, version.tags, version.template_name)
        becomes_v2 = (
            container is not None and wants_v2 and allows_v1(self.here.launches.of_version(version, self._today()))
        )
        now = resolution.http_put_response_hop_limit.value
        hop, rule = hop_limit(wanted, now, container, self.intent, tokens_change=becomes_v2)
        return (after if hop is None else replace(after, http_put_response_hop_limit=hop)), rule

    def _today(self) -> State:
        """The Region as it is: what launches from this version can use before the plan takes it away."""
        return replace(self.state, defaults=self.here.defaults, images=frozenset())

    def _change(
        self,
        default: TemplateVersionSeen,
        latest: TemplateVersionSeen,
        wanted: dict[str, tuple[MetadataOptions, str]],
    ) -> Change:
        before: dict[str, Any] = {
            "DefaultVersion": default.version,
            "LatestVersion": latest.version,
            "Default": default.options.to_aws(),
        }
        (default_after, default_rule), (latest_after, latest_rule) = wanted["Default"], wanted["Latest"]
        after: dict[str, Any] = {}
        reasons = []
        risk = "launches from it get IMDSv2 only; what runs stays as it is"
        if not self.intent.move_default:
            before["Latest"] = latest.options.to_aws()
            after["Latest"] = latest_after.to_aws()
            reasons += [self._why(latest, latest_after), latest_rule]
            risk = (
                f"launches from $Latest get it; $Default stays version {default.version}, and what launches from it "
                "stays as it is"
            )
        elif default.version == latest.version:
            after["Default"] = default_after.to_aws()
            reasons += [self._why(default, default_after), default_rule]
        else:
            before["Latest"] = latest.options.to_aws()
            if default_after:
                after["Default"] = default_after.to_aws()
                # The successor of $Default becomes $Latest: what $Latest said has to be said again by one more version,
                # or everything that launches $Latest would launch something else.
                required = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
                after["Latest"] = (latest_after or required.differing_from(latest.options)).to_aws()
                reasons += [
                    self._why(default, default_after),
                    f"$Latest (version {latest.version}) too"
                    if latest_after
                    else f"$Latest (version {latest.version}) is made again so that it stays the latest",
                    default_rule or latest_rule,
                ]
                risk += "; between two calls $Latest is the successor of $Default"
            else:
                after["Latest"] = latest_after.to_aws()
                reasons += [self._why(latest, latest_after), latest_rule]
        return self._made("", before, after, reason="; ".join(filter(None, reasons)), risk=risk)

    def _why(self, version: TemplateVersionSeen, after: MetadataOptions) -> str:
        if after.http_tokens is None and after.http_put_response_hop_limit is not None:
            return f"version {version.version} ({_place(version)}) has a hop limit that is not as wanted"
        return _reason(version, None)

    def _made(
        self, part: str, before: dict[str, Any], after: dict[str, Any], reason: str, risk: str = "", held: str = ""
    ) -> Change:
        here = self.here
        launched = here.launched.get(self.template_id, [])
        return Change(
            id=change_id(here.region.target, Surface.LAUNCH_TEMPLATE, self.template_id, part),
            stage=Stage.LAUNCH_TEMPLATES,
            surface=Surface.LAUNCH_TEMPLATE,
            target=here.region.target,
            resource=self.template_id,
            before=before,
            after=after,
            reason=reason,
            risk=risk,
            held=held or here.unassigned(self.wave),
            name=self.name,
            wave=here.wave_name(self.wave),
            evidence=here.use_of(launched),
            blast_radius=tuple(self._radius(len(launched))),
            gate=here.gate(self.wave),
        )

    def _radius(self, launched: int) -> Iterator[str]:
        yield from self.here.launches.users(self.template_id)
        if launched:
            yield f"{launched} running or stopped {'instance' if launched == 1 else 'instances'} came from it"


@lru_cache(maxsize=INTENTS_REMEMBERED_MAX)
def _others(wanted: MetadataOptions) -> MetadataOptions:
    """What is wanted beside HttpTokens: the same for every template that a scope of the intent is about."""
    return replace(wanted, http_tokens=None)


def _newest(default: TemplateVersionSeen, latest: TemplateVersionSeen) -> str:
    return "the version that apply makes" if default is latest else f"now version {latest.version}"


def _place(version: TemplateVersionSeen) -> str:
    return "$Default" if version.is_default else "$Latest" if version.is_latest else "in use"


def _reason(version: TemplateVersionSeen, resolution: Resolution | None) -> str:
    place, says = _place(version), version.options.http_tokens
    if says is None and resolution is not None:
        return (
            f"version {version.version} ({place}) says nothing, and the {resolution.http_tokens.layer} decides IMDSv1"
        )
    if says is None:
        return f"version {version.version} ({place}) says nothing"
    return f"version {version.version} ({place}) says HttpTokens={says}"
