"""What would change the outcome: the smallest change of a request after which it goes the other way.

Changes are tried one at a time, then two at a time: metadata options first, then whatever the policies' conditions look
at and a request can say (tags, instance type, Region). It is a search, not a proof: an empty answer means that none of
the tried changes is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from imdsctl.codify.asked import Asked
from imdsctl.codify.policy_set import tested_keys
from imdsctl.codify.simulate import Result, Simulator
from imdsctl.domain.options import InvalidOption

TRIES_MAX = 400
_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "HttpTokens": ("required", "optional", None),
    "HttpPutResponseHopLimit": (1, 2, None),
    "HttpEndpoint": ("enabled", "disabled", None),
    "InstanceMetadataTags": ("disabled", "enabled", None),
}
_KEYS = {
    "ec2:metadatahttptokens": "HttpTokens",
    "ec2:metadatahttpputresponsehoplimit": "HttpPutResponseHopLimit",
    "ec2:metadatahttpendpoint": "HttpEndpoint",
    "ec2:instancemetadatatags": "InstanceMetadataTags",
}


@dataclass(frozen=True, slots=True)
class Flip:
    """A change in words (`set MetadataOptions.HttpTokens=required`), and what becomes of the call then."""

    changes: tuple[str, ...]
    result: Result


@dataclass(frozen=True, slots=True)
class _Edit:
    about: str
    says: str
    apply: Callable[[Asked], Asked]


def smallest_flip(simulator: Simulator, asked: Asked) -> Flip | None:
    """The first change that turns an allowed call into a stopped one, or a stopped one into an allowed one."""
    before = simulator.result(asked) is Result.ALLOWED
    edits = [each for each in _edits(simulator, asked) if each.apply(asked) != asked]
    tries = 0
    for size in (1, 2):
        for chosen in combinations(edits, size):
            if len({each.about for each in chosen}) < size:
                continue
            tries += 1
            if tries > TRIES_MAX:
                return None
            changed = asked
            for each in chosen:
                changed = each.apply(changed)
            try:
                result = simulator.result(changed)
            except InvalidOption:
                continue
            if (result is Result.ALLOWED) is not before:
                return Flip(tuple(each.says for each in chosen), result)
    return None


def _edits(simulator: Simulator, asked: Asked) -> Iterator[_Edit]:
    tested = tested_keys(simulator.policies.policies())
    if asked.action in ("RunInstances", "ModifyInstanceMetadataOptions", "ModifyInstanceMetadataDefaults"):
        for name, values in _OPTIONS.items():
            for value in dict.fromkeys((*values, *_compared(tested, name))):
                yield _option(asked.action, name, value)
    for key, compared in tested.items():
        known = [
            value for value in dict.fromkeys(compared) if "*" not in value and "?" not in value and "$" not in value
        ]
        if key.startswith("aws:requesttag/"):
            tag = key.partition("/")[2]
            yield from (_tag(tag, value) for value in known)
            yield _tag(tag, None)
        elif key in ("aws:requestedregion", "ec2:region"):
            yield from (_region(value) for value in known)
        elif key == "ec2:instancetype" and asked.action == "RunInstances":
            yield from (_parameter("InstanceType", value) for value in known)


def _compared(tested: Mapping[str, list[str]], name: str) -> list[Any]:
    """Values that policies compare an option with; of a limit also its neighbours."""
    found: list[Any] = []
    for key, values in tested.items():
        if _KEYS.get(key) != name and key != f"ec2:attribute/{name.lower()}":
            continue
        for value in values:
            if name != "HttpPutResponseHopLimit":
                found += [value] if value in ("required", "optional", "enabled", "disabled") else []
            elif value.isdigit():
                found += [each for each in (int(value), int(value) - 1, int(value) + 1) if 1 <= each <= 64]
    return found


def _option(action: str, name: str, value: Any) -> _Edit:
    inner = action == "RunInstances"
    shown = f"{'MetadataOptions.' if inner else ''}{name}"
    says = f"leave {shown} out" if value is None else f"set {shown}={value}"

    def apply(asked: Asked) -> Asked:
        options = dict((asked.parameters.get("MetadataOptions") or {}) if inner else asked.parameters)
        if value is None:
            options.pop(name, None)
        else:
            options[name] = value
        if not inner:
            return replace(asked, parameters=options)
        if not options:
            return replace(asked, parameters={k: v for k, v in asked.parameters.items() if k != "MetadataOptions"})
        return asked.asking(MetadataOptions=options)

    return _Edit(name, says, apply)


def _tag(key: str, value: str | None) -> _Edit:
    says = f"leave the tag {key} out" if value is None else f"set the instance's tag {key}={value}"

    def apply(asked: Asked) -> Asked:
        specifications = [dict(each) for each in asked.parameters.get("TagSpecifications") or ()]
        kind = "launch-template" if asked.action == "CreateLaunchTemplate" else "instance"
        mine = next((each for each in specifications if each.get("ResourceType") == kind), None)
        if mine is None:
            mine = {"ResourceType": kind, "Tags": []}
            specifications.append(mine)
        tags = [each for each in mine["Tags"] if str(each.get("Key")).lower() != key]
        mine["Tags"] = tags if value is None else [*tags, {"Key": key, "Value": value}]
        kept = [each for each in specifications if each["Tags"]]
        if not kept:
            return replace(asked, parameters={k: v for k, v in asked.parameters.items() if k != "TagSpecifications"})
        return asked.asking(TagSpecifications=kept)

    return _Edit(f"tag {key}", says, apply)


def _region(name: str) -> _Edit:
    return _Edit("Region", f"ask in {name}", lambda asked: replace(asked, region=name))


def _parameter(name: str, value: str) -> _Edit:
    return _Edit(name, f"set {name}={value}", lambda asked: asked.asking(**{name: value}))
