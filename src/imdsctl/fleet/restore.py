"""How each surface is put back: to the values that the journal recorded, never to a default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from imdsctl.domain.options import HOP_LIMIT_NO_PREFERENCE, NO_PREFERENCE, HttpTokens, Switch
from imdsctl.domain.plan import Change, Surface, Values
from imdsctl.fleet.handlers import HANDLERS
from imdsctl.fleet.surfaces import Ec2, LaunchTemplates, Seen, Standing, made_by
from imdsctl.wire.errors import ServiceError

NOTHING: Mapping[str, Any] = {}
_TEMPLATES = LaunchTemplates()
_ENFORCED = "httpTokensEnforced"
"""In AWS's refusal of an instance that is set to `optional`, or launched so, where the Region enforces IMDSv2."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the journal knows of a change, and what it may not judge by."""

    old: Values
    """All that the resource said before apply touched it."""
    now: Values
    """All that it said when apply had done its work; what it would say, where nobody saw it."""
    others: frozenset[str] = frozenset()
    """Names of values that other changes of the same plan write on the same resource."""


class Restorer(Protocol):
    """One surface."""

    @property
    def irreversible(self) -> str:
        """Why AWS knows no way back, in a clause; empty when it does."""
        ...

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str) -> dict[str, Seen]:
        """What the resources of these changes say, by change id. One that AWS no longer has is left out."""
        ...

    def standing(self, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> Standing:
        """DONE: the old values are there. READY: it is as apply left it. STALE: somebody has changed it since."""
        ...

    async def write(self, ec2: Ec2, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> None:
        """Write the old values back. Sends what the change had changed and nothing else."""
        ...

    def stays(self, change: Change, seen: Seen) -> str:
        """What is left of the change although the old values are back, in a clause; empty when nothing is."""
        ...


@dataclass(frozen=True)
class Options:
    """Region defaults and instances: what is absent in the old values gets the API's word for "no preference"."""

    surface: Surface
    operation: str
    unset: Mapping[str, Any] = field(default_factory=dict)
    irreversible: str = ""

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str) -> dict[str, Seen]:
        return await HANDLERS[self.surface].read(ec2, changes, plan_digest, NOTHING)

    def standing(self, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> Standing:
        if all(seen.values.get(name) == recorded.old.get(name) for name in change.after):
            return Standing.DONE
        names = {*seen.values, *recorded.now} - recorded.others | set(change.after)
        # A part that AWS let go back before it refused the rest is no change by somebody else.
        same = all(
            seen.values.get(name) == recorded.now.get(name)
            or (name in change.after and seen.values.get(name) == recorded.old.get(name))
            for name in names
        )
        return Standing.READY if same else Standing.STALE

    async def write(self, ec2: Ec2, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> None:
        wanted = {name: recorded.old.get(name, self.unset.get(name)) for name in change.after}
        sent = {name: value for name, value in wanted.items() if value is not None and value != seen.values.get(name)}
        where = {"InstanceId": change.resource} if self.surface is Surface.INSTANCE else {}
        try:
            if _is_enforced(seen.values) and not _requires(sent.get("HttpTokens", HttpTokens.REQUIRED)):
                raise _would_be_refused("a launch that says nothing")  # A Region default: an instance does not say it.
            await ec2.call(self.operation, {**where, **sent})
        except ServiceError as error:
            if _ENFORCED not in error.message or "HttpTokens" not in sent:
                raise
            rest = {name: value for name, value in sent.items() if name != "HttpTokens"}
            if rest:
                await ec2.call(self.operation, {**where, **rest})
            others = f"{', '.join(rest)} restored, HttpTokens not" if rest else "HttpTokens not restored"
            raise _enforced(error, others) from error

    def stays(self, change: Change, seen: Seen) -> str:
        return ""


def _is_enforced(region_default: Values) -> bool:
    return region_default.get("HttpTokensEnforced") == Switch.ENABLED


def _requires(tokens: str | None) -> bool:
    return tokens == HttpTokens.REQUIRED


async def _refuses(ec2: Ec2, versions: Sequence[Values]) -> bool:
    """Whether the Region refuses launches from template versions that say this.

    For one that says nothing the Region default speaks: an image's v2.0 is not asked for.
    """
    if all(_requires(each.get("HttpTokens")) for each in versions):
        return False
    answer = await ec2.call("GetInstanceMetadataDefaults", {})
    default: Values = answer.get("AccountLevel") or {}
    return _is_enforced(default) and not all(
        _requires(each.get("HttpTokens", default.get("HttpTokens"))) for each in versions
    )


def _would_be_refused(what: str) -> ServiceError:
    """AWS takes these old values, and refuses the launches: it is told as AWS tells of an instance."""
    message = f"{what} would be refused, because {_ENFORCED} is enabled for this account."
    return ServiceError("UnsupportedOperation", message, 400)


def _enforced(error: ServiceError, others: str) -> ServiceError:
    """A refusal, with what is left as it is, what is not, and the way to the remainder."""
    way = (
        "the Region enforces IMDSv2 still, because it did so before this plan, or its enforcement is not rolled back; "
        "to restore `optional`, roll that back first, or set HttpTokensEnforced=disabled there, and run the same "
        "rollback again"
    )
    return ServiceError(error.code, f"{error.message} {others}: {way}", error.status)


@dataclass(frozen=True)
class Templates:
    """`$Default` moves back. The versions that apply made stay, or are deleted when that is asked for."""

    irreversible: str = ""

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str) -> dict[str, Seen]:
        found = await _TEMPLATES.read(ec2, changes, plan_digest, NOTHING)
        for change in changes:
            if seen := found.get(change.id):
                newer = await _TEMPLATES.newer(ec2, change)
                made = made_by(change, newer, plan_digest)
                busy = "somebody else has made a version since" if len(newer) > len(made) else ""
                found[change.id] = replace(seen, made=made, busy=busy)
        return found

    def standing(self, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> Standing:
        default, old = seen.values["DefaultVersion"], recorded.old["DefaultVersion"]
        if default == old and not (seen.made and delete_versions):
            return Standing.DONE
        ours = default in (old, seen.made.get("Default"))
        return Standing.READY if ours and not seen.busy else Standing.STALE

    async def write(self, ec2: Ec2, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> None:
        template = {"LaunchTemplateId": change.resource}
        old = recorded.old["DefaultVersion"]
        moves = seen.values["DefaultVersion"] != old
        back = ["Default"] * moves + ["Latest"] * (delete_versions and bool(seen.made))
        if await _refuses(ec2, [recorded.old.get(part, recorded.old["Default"]) for part in back]):
            what = " and ".join(f"${part}" for part in back)
            raise _enforced(_would_be_refused(f"a launch from {what} as it was"), f"{what} not restored")
        if moves:
            await ec2.call("ModifyLaunchTemplate", {**template, "DefaultVersion": str(old)})
        if delete_versions and seen.made:
            versions = [str(number) for number in sorted(seen.made.values())]
            answer = await ec2.call("DeleteLaunchTemplateVersions", {**template, "Versions": versions})
            for refused in answer.get("UnsuccessfullyDeletedLaunchTemplateVersions") or []:
                error = refused.get("ResponseError") or {}
                raise ServiceError(error.get("Code") or "unexpectedError", error.get("Message") or "not deleted", 400)

    def stays(self, change: Change, seen: Seen) -> str:
        if not seen.made:
            return ""
        numbers = sorted(seen.made.values())
        what = f"version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        latest = f", and $Latest is {numbers[-1]}" if seen.values["LatestVersion"] == numbers[-1] else ""
        return f"{what} stay{'s' if len(numbers) == 1 else ''}{latest}: `--delete-versions` deletes what apply made"


@dataclass(frozen=True)
class NoWayBack:
    """A surface that AWS cannot put back."""

    irreversible: str

    async def read(self, ec2: Ec2, changes: Sequence[Change], plan_digest: str) -> dict[str, Seen]:
        raise AssertionError(self.irreversible)

    def standing(self, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> Standing:
        raise AssertionError(self.irreversible)

    async def write(self, ec2: Ec2, change: Change, recorded: Recorded, seen: Seen, *, delete_versions: bool) -> None:
        raise AssertionError(self.irreversible)

    def stays(self, change: Change, seen: Seen) -> str:
        return self.irreversible


_DEFAULTS = ("HttpTokens", "HttpEndpoint", "InstanceMetadataTags", "HttpTokensEnforced")
RESTORERS: Mapping[Surface, Restorer] = {
    Surface.REGION_DEFAULT: Options(
        Surface.REGION_DEFAULT,
        "ModifyInstanceMetadataDefaults",
        {**dict.fromkeys(_DEFAULTS, NO_PREFERENCE), "HttpPutResponseHopLimit": HOP_LIMIT_NO_PREFERENCE},
    ),
    Surface.INSTANCE: Options(Surface.INSTANCE, "ModifyInstanceMetadataOptions"),
    Surface.LAUNCH_TEMPLATE: Templates(),
    Surface.IMAGE: NoWayBack("ImdsSupport=v2.0 of an image cannot be taken back: make a new image from its snapshot"),
    Surface.AUTO_SCALING_GROUP: NoWayBack(
        "instances that a refresh has launched stay: refresh the group again when its launch source is as before"
    ),
}
