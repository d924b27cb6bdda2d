"""A plan is a value: what to change, in which order, from what to what, and what it could not decide."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent, parse_document
from imdsctl.domain.observations import Target
from imdsctl.domain.waves import EVERYTHING, Gates, OnFailure, OnUnknown, PlannedWave

PLAN_FORMAT = "imdsctl-plan"
PLAN_FORMAT_VERSION = 2
NOT_GATHERED = "not gathered"
"""A change's evidence when nobody asked CloudWatch."""

Values = Mapping[str, Any]
"""AWS's names to AWS's values. A launch template nests one structure each for `Default` and `Latest`."""


class Surface(StrEnum):
    """What kind of thing a change is made to."""

    REGION_DEFAULT = "region-default"
    LAUNCH_TEMPLATE = "launch-template"
    INSTANCE = "instance"
    IMAGE = "image"
    AUTO_SCALING_GROUP = "auto-scaling-group"
    """An instance refresh, so that what runs is launched anew."""
    LAUNCH_CONFIGURATION = "launch-configuration"
    """Never written: it cannot be changed. Planned as deferred, with the way out."""
    SERVICE = "service"
    """Never written: another service's setting. Planned as deferred, with the command that changes it."""
    FLEET = "fleet"
    """Never written: an EC2 Fleet, a Spot Fleet or a Spot request. Planned as deferred, with the way out."""


class Stage(Enum):
    """The order within a wave, by risk. A stage begins when the one before it is through.

    What only new launches notice comes first: images (they cannot be undone, and only on request), launch templates,
    Region defaults; then what runs, the container hosts after the others because they break more easily; then what
    replaces instances; enforcement last, when nothing is left for it to break (EC2 User Guide, "Transition to using
    Instance Metadata Service Version 2").
    """

    IMAGES = (1, "images")
    LAUNCH_TEMPLATES = (2, "launch templates")
    REGION_DEFAULTS = (3, "region defaults")
    INSTANCES = (4, "instances")
    CONTAINER_HOSTS = (5, "container hosts")
    REFRESHES = (6, "instance refreshes")
    ENFORCEMENT = (7, "enforcement")

    def __init__(self, number: int, title: str) -> None:
        self.number = number
        self.title = title


@dataclass(frozen=True, slots=True)
class Change:
    """One resource, from `before` to `after`."""

    id: str
    """Its address, the same in every plan: `111122223333/eu-west-1/instance/i-0abc`."""
    stage: Stage
    surface: Surface
    target: Target
    resource: str
    """AWS's id; for a Region default the Region's name."""
    before: Values
    """All that the resource says when the change's turn comes."""
    after: Values
    """Only what differs."""
    reason: str
    risk: str = ""
    held: str = ""
    """Why the change is deferred: apply leaves it alone. Empty: it can be made."""
    name: str = ""
    """The resource's name for a person, where it has one."""
    wave: str = EVERYTHING.name
    """The name of the planned wave that it belongs to."""
    evidence: str = ""
    """What is known of IMDSv1 use, in a clause. Empty: evidence says nothing about such a thing."""
    blast_radius: tuple[str, ...] = ()
    """What launches from it, or runs on it: one clause each, with counts."""
    gate: str = ""
    """What has to hold before its wave begins, and after it, for a person; apply obeys the wave's own `gates`."""


class ChangeDraft:
    """A change while its fields are set one by one; every one of them has to be, before `done`.

    The constructor of a frozen dataclass goes through `object.__setattr__` for each field. For a million instances that
    is half of what planning them costs; this is a tenth of it.
    """

    __slots__ = tuple(field.name for field in fields(Change))

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...

    def done(self) -> Change:
        """The change. The draft becomes it: an object whose class has the same slots may change its class."""
        self.__class__ = Change  # type: ignore[assignment]
        return self  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the scan could not see, so that the plan cannot speak about it."""

    subject: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exempt:
    """A change that is wanted and not planned, because the intent's register of exceptions covers the resource."""

    id: str
    """The change's address."""
    reason: str
    """Why it would change."""
    owner: str
    why: str
    expires: date
    place: str = ""
    """The line of the intent that says so."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that apply needs, and what a reviewer has to know. `changes` are in order, deferred ones included."""

    scan_id: str
    scan_digest: str
    """Over the scan's header and, for each target, its default, what was not read, and how much of each kind was."""
    made_at: datetime
    intent: Intent
    changes: tuple[Change, ...] = ()
    unknown: tuple[Gap, ...] = ()
    waves: tuple[PlannedWave, ...] = (EVERYTHING,)
    exempt: tuple[Exempt, ...] = ()
    digest: str = field(default="", compare=False)

    @property
    def complete(self) -> bool:
        """True when every target was seen. An incomplete plan is right as far as it goes."""
        return not self.unknown

    @property
    def ready(self) -> tuple[Change, ...]:
        """The changes that apply makes."""
        return tuple(change for change in self.changes if not change.held)

    @property
    def deferred(self) -> tuple[Change, ...]:
        """The changes that are wanted and cannot be made now."""
        return tuple(change for change in self.changes if change.held)

    def steps(self) -> tuple[tuple[PlannedWave, Stage, tuple[Change, ...]], ...]:
        """The changes that apply makes, by wave and stage, in order; steps without any are left out."""
        by_step: dict[tuple[str, Stage], list[Change]] = {}
        members: list[Change] = []
        last: tuple[str, Stage] | None = None
        for change in self.changes:
            if change.held:
                continue
            # Changes come in order: the dictionary is asked once a step, not once a change.
            if last is None or change.stage is not last[1] or change.wave != last[0]:
                last = change.wave, change.stage
                members = by_step.setdefault(last, [])
            members.append(change)
        return tuple(
            (wave, stage, tuple(by_step[wave.name, stage]))
            for wave in self.waves
            for stage in Stage
            if (wave.name, stage) in by_step
        )

    def counts(self) -> dict[Surface, int]:
        """How many changes apply makes on each surface."""
        counted = Counter(change.surface for change in self.ready)
        return {surface: counted[surface] for surface in Surface}


def change_id(target: Target, surface: Surface, resource: str, part: str = "") -> str:
    """A change's id from its address."""
    path = [target.account_id, target.region, str(surface)]
    if surface is not Surface.REGION_DEFAULT:
        path.append(resource)
    return "/".join([*path, part] if part else path)


def canonical(value: Any) -> bytes:
    """Any JSON value to the one byte string that stands for it: sorted keys, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_of(value: Any) -> str:
    """The digest of a JSON value's canonical form. Dataclasses and datetimes are taken as orjson writes them."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def plan_to_plain(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values, with its digest over everything else."""
    body = {"changes": [change_to_plain(change) for change in plan.changes], **rest_to_plain(plan)}
    return {**body, "digest": digest_of(body)}


def rest_to_plain(plan: Plan) -> dict[str, Any]:
    """Everything of a plan but its changes and its digest. (In canonical order, `changes` comes first.)"""
    return {
        "format": PLAN_FORMAT,
        "format_version": PLAN_FORMAT_VERSION,
        "made_at": plan.made_at.isoformat(),
        "scan": {"id": plan.scan_id, "digest": plan.scan_digest},
        "intent": plan.intent.to_plain(),
        "complete": plan.complete,
        "unknown": [{"subject": gap.subject, "what": gap.what, "reason": gap.reason} for gap in plan.unknown],
        "waves": [wave_to_plain(wave) for wave in plan.waves],
        "exempt": [exempt_to_plain(each) for each in plan.exempt],
        "count": sum(not change.held for change in plan.changes),
    }


def exempt_to_plain(exempt: Exempt) -> dict[str, Any]:
    """An exempt resource as JSON values."""
    return {
        "id": exempt.id,
        "reason": exempt.reason,
        "owner": exempt.owner,
        "why": exempt.why,
        "expires": exempt.expires.isoformat(),
        "place": exempt.place,
    }


def change_to_plain(change: Change) -> dict[str, Any]:
    """A change as JSON values."""
    return {
        "id": change.id,
        "wave": change.wave,
        "stage": change.stage.title,
        "surface": str(change.surface),
        "account": change.target.account_id,
        "region": change.target.region,
        "resource": change.resource,
        "name": change.name,
        "before": dict(change.before),
        "after": dict(change.after),
        "reason": change.reason,
        "risk": change.risk,
        "held": change.held,
        "evidence": change.evidence,
        "blast_radius": list(change.blast_radius),
        "gate": change.gate,
    }


def wave_to_plain(wave: PlannedWave) -> dict[str, Any]:
    """A wave as JSON values; durations are whole seconds."""
    gates = wave.gates
    return {
        "name": wave.name,
        "on_failure": str(wave.on_failure),
        "gates": {
            "no_v1_calls_seconds": None if gates.no_v1_calls is None else round(gates.no_v1_calls.total_seconds()),
            "unknown_evidence": str(gates.unknown_evidence),
            "approval": gates.approval,
            "windows": list(gates.windows),
            "soak_seconds": round(gates.soak.total_seconds()),
            "rejected_calls_max": gates.rejected_calls_max,
        },
    }


_STAGES = {stage.title: stage for stage in Stage}


def plan_from_plain(value: Any) -> Plan:
    """JSON values to a plan. Raises DiagnosticError `plan-invalid` when it is no plan, or not the one that was made."""
    body = {key: member for key, member in value.items() if key != "digest"} if isinstance(value, Mapping) else {}
    return plan_of(value, lambda: (change_from_plain(each) for each in value["changes"]), lambda: digest_of(body))


def plan_of(value: Any, changes: Callable[[], Iterable[Change]], digest_now: Callable[[], str]) -> Plan:
    """A plan from everything but its changes as JSON values, its changes, and the digest of what was read.

    Raises DiagnosticError `plan-invalid`.
    """
    if not isinstance(value, Mapping) or value.get("format") != PLAN_FORMAT:
        raise _invalid("this is not a plan of imdsctl")
    if value.get("format_version") != PLAN_FORMAT_VERSION:
        raise _invalid(
            f"format_version `{value.get('format_version')}` is not known: this imdsctl reads {PLAN_FORMAT_VERSION}"
        )
    try:
        digest = digest_now()
    except TypeError:  # orjson reads deeper than it writes
        raise _invalid("brackets are nested too deep") from None
    if value.get("digest") != digest:
        raise _invalid("its digest does not match its content: it was edited or cut after it was made")
    try:
        plan = Plan(
            scan_id=value["scan"]["id"],
            scan_digest=value["scan"]["digest"],
            made_at=datetime.fromisoformat(value["made_at"]),
            intent=parse_document(value["intent"]),
            changes=tuple(changes()),
            unknown=tuple(Gap(each["subject"], each["what"], each["reason"]) for each in value["unknown"]),
            waves=tuple(_wave(each) for each in value["waves"]),
            exempt=tuple(_exempt(each) for each in value["exempt"]),
            digest=digest,
        )
    except (KeyError, TypeError, ValueError, AttributeError, DiagnosticError) as error:
        raise _invalid(f"a member is missing or of the wrong type ({type(error).__name__}: {error})") from None
    if len({change.id for change in plan.changes}) != len(plan.changes):
        raise _invalid("two changes have the same id")
    names = [wave.name for wave in plan.waves]
    if len(set(names)) != len(names):
        raise _invalid("two waves have the same name")
    if lost := sorted({change.wave for change in plan.changes} - set(names)):
        raise _invalid(f"a change is in wave `{lost[0]}`, which the plan does not have")
    return plan


def _wave(value: Mapping[str, Any]) -> PlannedWave:
    gates = value["gates"]
    look_back = gates["no_v1_calls_seconds"]
    return PlannedWave(
        value["name"],
        Gates(
            no_v1_calls=None if look_back is None else timedelta(seconds=look_back),
            unknown_evidence=OnUnknown(gates["unknown_evidence"]),
            approval=gates["approval"],
            windows=tuple(gates["windows"]),
            soak=timedelta(seconds=gates["soak_seconds"]),
            rejected_calls_max=gates["rejected_calls_max"],
        ),
        OnFailure(value["on_failure"]),
    )


def change_from_plain(value: Mapping[str, Any]) -> Change:
    """JSON values to a change. Raises KeyError, TypeError or ValueError."""
    surface = Surface(value["surface"])
    text = {name: value[name] for name in _TEXTS}
    for name, member in text.items():
        if not isinstance(member, str):
            raise TypeError(f"{name} is not a text")
    for name in ("before", "after"):
        if not isinstance(value[name], Mapping):
            raise TypeError(f"{name} is not an object")
    target = Target(text.pop("account"), text.pop("region"))
    return Change(
        stage=_STAGES[value["stage"]],
        surface=surface,
        target=target,
        before=value["before"],
        after=value["after"],
        blast_radius=tuple(value["blast_radius"]),
        **text,
    )


_TEXTS = ("id", "resource", "reason", "risk", "held", "name", "account", "region", "wave", "evidence", "gate")


def _exempt(value: Mapping[str, Any]) -> Exempt:
    return Exempt(**{**value, "expires": date.fromisoformat(value["expires"])})


def _invalid(why: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic("plan-invalid", why, hint="run `imdsctl plan -o FILE` again, and apply the new file"), exit_code=2
    )


def affected_targets(changes: Iterable[Change]) -> tuple[Target, ...]:
    """The accounts and Regions of some changes, sorted."""
    found = set()
    last: Target | None = None
    for change in changes:
        if change.target is not last:  # changes come in order: the set is asked once a target, not once a change
            last = change.target
            found.add(last)
    return tuple(sorted(found))


def by_target(changes: Iterable[Change]) -> dict[Target, list[Change]]:
    """Some changes by account and Region, sorted."""
    found: dict[Target, list[Change]] = {}
    members: list[Change] = []
    last: Target | None = None
    for change in changes:
        if change.target is not last:
            last = change.target
            members = found.setdefault(last, [])
        members.append(change)
    return dict(sorted(found.items()))
