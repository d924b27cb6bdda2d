"""A plan is a value: what to change, in which order, from what to what, and what it could not decide."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any

import orjson

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent, parse_document
from imdsctl.domain.observations import Target

PLAN_FORMAT = "imdsctl-plan"
PLAN_FORMAT_VERSION = 1

Values = Mapping[str, Any]
"""AWS's names to AWS's values. A launch template nests one structure each for `Default` and `Latest`."""


class Surface(StrEnum):
    """What kind of thing a change is made to."""

    REGION_DEFAULT = "region-default"
    LAUNCH_TEMPLATE = "launch-template"
    INSTANCE = "instance"
    IMAGE = "image"


class Wave(Enum):
    """The order of a plan. A wave begins when the one before it is through.

    New launches first, so that nothing new needs repair; then what runs; the container hosts after the others because
    they break more easily; what cannot be undone late; enforcement last, when nothing is left for it to break
    (EC2 User Guide, "Transition to using Instance Metadata Service Version 2").
    """

    REGION_DEFAULTS = (1, "region defaults")
    LAUNCH_TEMPLATES = (2, "launch templates")
    INSTANCES = (3, "instances")
    CONTAINER_HOSTS = (4, "container hosts")
    IMAGES = (5, "images")
    ENFORCEMENT = (6, "enforcement")

    def __init__(self, number: int, title: str) -> None:
        self.number = number
        self.title = title


@dataclass(frozen=True, slots=True)
class Change:
    """One resource, from `before` to `after`."""

    id: str
    """Its address, the same in every plan: `111122223333/eu-west-1/instance/i-0abc`."""
    wave: Wave
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


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the scan could not see, so that the plan cannot speak about it."""

    subject: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that apply needs, and what a reviewer has to know. `changes` are in order, deferred ones included."""

    scan_id: str
    scan_digest: str
    made_at: datetime
    intent: Intent
    changes: tuple[Change, ...] = ()
    unknown: tuple[Gap, ...] = ()
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

    def waves(self) -> tuple[tuple[Wave, tuple[Change, ...]], ...]:
        """The changes that apply makes, by wave, in order; waves without any are left out."""
        ready = self.ready
        return tuple(
            (wave, members) for wave in Wave if (members := tuple(change for change in ready if change.wave is wave))
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
    body: dict[str, Any] = {
        "format": PLAN_FORMAT,
        "format_version": PLAN_FORMAT_VERSION,
        "made_at": plan.made_at.isoformat(),
        "scan": {"id": plan.scan_id, "digest": plan.scan_digest},
        "intent": plan.intent.to_plain(),
        "complete": plan.complete,
        "unknown": [{"subject": gap.subject, "what": gap.what, "reason": gap.reason} for gap in plan.unknown],
        "changes": [change_to_plain(change) for change in plan.changes],
        "count": len(plan.ready),
    }
    return {**body, "digest": digest_of(body)}


def change_to_plain(change: Change) -> dict[str, Any]:
    """A change as JSON values."""
    return {
        "id": change.id,
        "wave": change.wave.title,
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
    }


_WAVES = {wave.title: wave for wave in Wave}


def plan_from_plain(value: Any) -> Plan:
    """JSON values to a plan. Raises DiagnosticError `plan-invalid` when it is no plan, or not the one that was made."""
    if not isinstance(value, Mapping) or value.get("format") != PLAN_FORMAT:
        raise _invalid("this is not a plan of imdsctl")
    if value.get("format_version") != PLAN_FORMAT_VERSION:
        raise _invalid(
            f"format_version `{value.get('format_version')}` is not known: this imdsctl reads {PLAN_FORMAT_VERSION}"
        )
    body = {key: member for key, member in value.items() if key != "digest"}
    digest = digest_of(body)
    if value.get("digest") != digest:
        raise _invalid("its digest does not match its content: it was edited or cut after it was made")
    try:
        plan = Plan(
            scan_id=value["scan"]["id"],
            scan_digest=value["scan"]["digest"],
            made_at=datetime.fromisoformat(value["made_at"]),
            intent=parse_document(value["intent"]),
            changes=tuple(_change(each) for each in value["changes"]),
            unknown=tuple(Gap(each["subject"], each["what"], each["reason"]) for each in value["unknown"]),
            digest=digest,
        )
    except (KeyError, TypeError, ValueError, AttributeError, DiagnosticError) as error:
        raise _invalid(f"a member is missing or of the wrong type ({type(error).__name__}: {error})") from None
    if len({change.id for change in plan.changes}) != len(plan.changes):
        raise _invalid("two changes have the same id")
    return plan


def _change(value: Mapping[str, Any]) -> Change:
    surface = Surface(value["surface"])
    text = {name: value[name] for name in ("id", "resource", "reason", "risk", "held", "name", "account", "region")}
    for name, member in text.items():
        if not isinstance(member, str):
            raise TypeError(f"{name} is not a text")
    for name in ("before", "after"):
        if not isinstance(value[name], Mapping):
            raise TypeError(f"{name} is not an object")
    target = Target(text.pop("account"), text.pop("region"))
    return Change(
        wave=_WAVES[value["wave"]], surface=surface, target=target, before=value["before"], after=value["after"], **text
    )


def _invalid(why: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic("plan-invalid", why, hint="run `imdsctl plan -o FILE` again, and apply the new file"), exit_code=2
    )


def affected_targets(changes: Iterable[Change]) -> tuple[Target, ...]:
    """The accounts and Regions of some changes, sorted."""
    return tuple(sorted({change.target for change in changes}))
