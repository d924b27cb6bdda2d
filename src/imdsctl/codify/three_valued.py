"""A decision when not everything is known: SCPs on a call of which CloudTrail recorded only a part.

A condition that looks at a key whose value nobody knows is neither true nor false. From there Kleene's logic: one false
condition makes a statement not apply, one Deny that surely applies stops the call, and otherwise one that may apply
makes the answer unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from imdsctl.codify.needs import Need
from imdsctl.codify.policy_set import Written
from imdsctl.policy.document import Statement
from imdsctl.policy.request import Principal, ResourceContext

IsUnknown = Callable[[ResourceContext, str], bool]
"""Whether a key of a resource (lower-case name) may have a value that is not known."""


class Answer(StrEnum):
    """What the policies say."""

    STOPPED = "stopped"
    PASSES = "passes"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ruled:
    """The answer; the statement that stops (policy and Sid, or its number), or the keys that nobody knows."""

    answer: Answer
    statement: str = ""
    action: str = ""
    resource: str = ""
    unknown: frozenset[str] = frozenset()


class _Keys(dict[str, Any]):
    """Condition keys that remember which unknown ones were looked at."""

    __slots__ = ("asked", "unknown")

    def __init__(self, values: Mapping[str, Any], unknown: Callable[[str], bool]) -> None:
        super().__init__(values)
        self.unknown = unknown
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        value = dict.get(self, key)
        if value is None and self.unknown(key):
            self.asked.add(key)
        return value if value is not None else default


def rule(
    needs: Iterable[Need],
    principal: Principal,
    context: Mapping[str, Any],
    levels: Sequence[Sequence[Written]],
    is_unknown: IsUnknown,
) -> Ruled:
    """What the SCPs of every level say of a call that is allowed otherwise."""
    unknown: set[str] = set()
    for need in needs:
        shared = {**context, **need.keys}
        for resource in need.resources:
            keys = _Keys({**shared, **resource.keys}, partial(is_unknown, resource))
            for level in levels:
                ruled = _level(need.action, resource, principal, keys, level)
                if ruled.answer is Answer.STOPPED:
                    return ruled
                unknown |= ruled.unknown
    return Ruled(Answer.UNKNOWN, unknown=frozenset(unknown)) if unknown else Ruled(Answer.PASSES)


def _level(
    action: str, resource: ResourceContext, principal: Principal, keys: _Keys, level: Sequence[Written]
) -> Ruled:
    allowed: bool | None = False
    unknown: set[str] = set()
    maybe: set[str] = set()
    for each in level:
        for statement in each.policy.about(action):
            applies = _applies(statement, resource.arn, principal, keys)
            if applies is False and _may_name(each.statements[statement.index], resource.arn, statement, keys):
                applies, keys.asked = None, {"the id of the " + _kind(resource.arn)}
            if statement.allows:
                if applies is None:
                    maybe |= keys.asked
                if applies or (applies is None and allowed is False):
                    allowed = applies
            elif applies:
                name = f"{each.policy.name}: {statement.sid or f'statement {statement.index + 1}'}"
                return Ruled(Answer.STOPPED, name, action, resource.arn)
            elif applies is None:
                unknown |= keys.asked
    if allowed is False:
        return Ruled(Answer.STOPPED, "no SCP of this level allows it", action, resource.arn)
    if allowed is None:
        unknown |= maybe
    return Ruled(Answer.UNKNOWN, unknown=frozenset(unknown)) if unknown else Ruled(Answer.PASSES)


def _applies(statement: Statement, arn: str, principal: Principal, keys: _Keys) -> bool | None:
    """None: it depends on the keys in `keys.asked`."""
    keys.asked = set()
    if statement.resources is not None and not statement.resources(arn, keys):
        return None if keys.asked else False
    if statement.principals is not None and not statement.principals(principal):
        return False
    unknown: set[str] = set(keys.asked)
    for condition in statement.conditions:
        keys.asked = set()
        holds = condition(keys)
        if keys.asked:
            unknown |= keys.asked
        elif not holds:
            keys.asked = set()
            return False
    keys.asked = unknown
    return None if unknown else True


_CHOSEN_BY_AWS = frozenset({"subnet", "security-group", "image"})
"""Of these a request may name none, and the event then does not tell which one it got."""


def _kind(arn: str) -> str:
    return arn.partition("/")[0].rpartition(":")[2]


def _may_name(written: Mapping[str, Any], arn: str, statement: Statement, keys: _Keys) -> bool:
    """Whether the statement is about single resources of a type of which the call's own is not known."""
    kind = _kind(arn)
    if kind not in _CHOSEN_BY_AWS or not arn.endswith("/*"):
        return False
    if statement.resources is None or statement.resources(arn, keys):
        return False
    named = written.get("Resource", written.get("NotResource"))
    return any(f":{kind}/" in str(each) for each in (named if isinstance(named, list) else [named]))
