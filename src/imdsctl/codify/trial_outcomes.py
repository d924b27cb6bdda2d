"""What a statement decided about every sample call of one action, and what is wrong with that.

The samples differ in one thing at a time, so that pairs of them tell: denied whatever is said; denied when it is right
and not when it is wrong; denied although nothing was said of it; never denied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.samples import (
    SHORT,
    Sample,
    Trial,
    changes,
    configurations,
    defaults,
    images,
    launches,
    trial,
    where,
)
from imdsctl.codify.statements import Test
from imdsctl.codify.vocabulary import ASKED, CONFIGURATION, DEFAULTS, IMAGE, KEYS, OPTIONS, RUN, Flaw
from imdsctl.policy.patterns import like, pieces_of

INSTANCES = "arn:aws:ec2:*:*:instance/*"
_RIGHT = {"HttpTokens": "required", "HttpPutResponseHopLimit": "1", "HttpTokensEnforced": "enabled"}
_WRONG = {"HttpTokens": "optional", "HttpPutResponseHopLimit": "64", "HttpTokensEnforced": "disabled"}


def _hops(statement: Mapping[str, Any]) -> list[str]:
    return [str(v) for t in statements.about_imds(statement) for v in t.values if KEYS[t.key.lower()].numeric]


GRIDS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Sample]]] = {
    RUN: lambda statement: launches(where(statement), _hops(statement)),
    CONFIGURATION: lambda statement: configurations(statement, _hops(statement)),
    OPTIONS: lambda statement: changes(where(statement), _hops(statement)),
    DEFAULTS: lambda statement: defaults(_hops(statement)),
    IMAGE: lambda statement: images(where(statement)),
}


def covers(statement: Mapping[str, Any], action: str) -> bool:
    if "NotAction" in statement:
        return not any(
            like(pieces_of(name.lower()))(action.lower()) for name in statements.strings(statement["NotAction"])
        )
    return any(like(pieces_of(name))(action.lower()) for name in statements.actions(statement))


def only(sample: Sample, **asked: str) -> bool:
    return {name: value for name, value in sample.asked.items() if value is not None} == asked


def _concerned(about: Sequence[Test], action: str) -> list[str]:
    """The parameters that the conditions are about, where the action is what it is."""
    names = []
    for test in about:
        key = KEYS[test.key.lower()].name
        name = key.removeprefix(ASKED) if key.startswith(ASKED) else SHORT.get(key) if action != OPTIONS else None
        if name and name not in names:
            names.append(name)
    return names


def judged(
    statement: Mapping[str, Any], tried: Trial, about: Sequence[Test], action: str, grid: list[Sample], denying: bool
) -> Iterator[Flaw]:
    denied = {id(sample): tried.denies(sample) for sample in grid}
    concerned = _concerned(about, action)
    first = about[0]
    if not denying:
        yield from _judged_allow(statement, tried, about, action, grid, denied, concerned)
        return
    if all(denied.values()):
        yield _everything(statement, tried, about, action, grid, concerned)
        return
    if not any(denied.values()):
        names = statements.actions(statement)
        alone = len(names) == 1 and names[0] not in _ALL_ACTIONS and action != IMAGE
        if alone or (action == DEFAULTS and DEFAULTS.lower() in names):
            yield _nothing(statement, about, action)
        return
    flipped = _flipped(grid, denied, concerned)
    if flipped is not None:
        name, right, wrong = flipped
        test = next((test for test in about if name in test.key), first)
        meant = _turned(statement, test)
        yield Flaw(
            "reversed", test.path, f"Proven: {right.words} is denied, and {wrong.words} passes",
            "turn the operator around" if meant else "say what is to be denied", corrected=meant,
        )  # fmt: skip
        return
    if action in (RUN, CONFIGURATION):
        if "HttpTokens" in concerned:
            yield from _said(about, grid, denied)
        yield from _any_hop_limit(about, grid, denied)
    if action in (OPTIONS, DEFAULTS, IMAGE):
        yield from _silent(statement, about, grid, denied, concerned)
    if action in (OPTIONS, DEFAULTS) and not statements.exempts(statement):
        yield from _hardening(grid, denied, first)
    yield from _joined(statement, about, grid, denied, concerned, action)


_ALL_ACTIONS = ("*", "ec2:*", "autoscaling:*")


def _said(about: Sequence[Test], grid: list[Sample], denied: Mapping[int, bool]) -> Iterator[Flaw]:
    """Launches that say HttpTokens are all treated alike, whatever they say."""
    test = next(test for test in about if KEYS[test.key.lower()].name.endswith("MetadataHttpTokens"))
    right = [sample for sample in grid if sample.asked["HttpTokens"] == "required"]
    wrong = [sample for sample in grid if sample.asked["HttpTokens"] == "optional"]
    if all(denied[id(sample)] for sample in right):
        message = f"Proven: every launch that says HttpTokens is denied, {right[0].words} too"
        yield Flaw("locks-out", test.path, message, "name the value that is to be denied alone")
    elif test.base != "Null" and not any(denied[id(sample)] for sample in wrong):
        message = f"it denies only who says nothing. Proven: {wrong[0].words} passes, whatever else it says"
        yield Flaw("no-effect", test.path, message, "leave out the value that is to be denied")


def _any_hop_limit(about: Sequence[Test], grid: list[Sample], denied: Mapping[int, bool]) -> Iterator[Flaw]:
    """Launches that say a hop limit are all denied, the lowest one too."""
    test = next((test for test in about if KEYS[test.key.lower()].numeric and test.base != "Null"), None)
    said = [sample for sample in grid if sample.asked["HttpPutResponseHopLimit"] is not None]
    if test is not None and all(denied[id(sample)] for sample in said):
        lowest = next(sample for sample in said if only(sample, HttpPutResponseHopLimit="1"))
        message = f"Proven: every launch that says a hop limit is denied, {lowest.words} too"
        yield Flaw("locks-out", test.path, message, "name the hop limits that are to be denied alone")


def _everything(
    statement: Mapping[str, Any],
    tried: Trial,
    about: Sequence[Test],
    action: str,
    grid: list[Sample],
    concerned: list[str],
) -> Flaw:
    best = _best(grid, concerned)
    elsewhere = [arn for arn in (_refused_at(tried, best, each) for each in range(len(best.resources))) if arn]
    kinds = [arn.split(":", 5)[-1].partition("/")[0] for arn in elsewhere]
    test = next((test for test in about if test.matches_absent), about[0])
    if action == RUN and any(kind != "instance" for kind in kinds):
        shown = next(arn for arn, kind in zip(elsewhere, kinds, strict=True) if kind != "instance")
        return Flaw(
            "absent-key",
            "Resource" if "Resource" in statement else "NotResource",
            f"`{test.key}` is a key of the instance; a launch is tested on its image, subnet, ... as well, where it is "
            f"absent, and {test.operator} matches an absent key. Proven: {best.words} is denied too, for {shown}",
            f"put it on `{INSTANCES}` alone",
            corrected=_on_instances(statement),
        )
    return Flaw(
        "locks-out",
        test.path,
        f"Proven: every call of {action} is denied, {best.words} too",
        "say which values are to be denied",
    )


def _refused_at(tried: Trial, sample: Sample, index: int) -> str | None:
    alone = Sample(sample.action, sample.asked, (sample.resources[index],), sample.had, sample.keys)
    return sample.resources[index].arn if tried.denies(alone) else None


def _best(grid: list[Sample], concerned: list[str]) -> Sample:
    """The call that asks for what is right and for nothing else."""
    wanted = {name: _RIGHT[name] for name in concerned if name in _RIGHT} or {"HttpTokens": "required"}
    return next((sample for sample in grid if only(sample, **wanted)), grid[0])


def _on_instances(statement: Mapping[str, Any]) -> Any:
    """The statement on instances; only where it is about launches alone."""
    if statements.actions(statement) != [RUN.lower()]:
        return None
    right = {name: value for name, value in copy.deepcopy(dict(statement)).items() if name != "NotResource"}
    partition = where(statement).partition
    right["Resource"] = INSTANCES.replace("arn:aws:", f"arn:{partition}:")
    made = trial([statements.reduced(right)])
    usual = next(s for s in launches(where(right)) if only(s, HttpTokens="required", HttpPutResponseHopLimit="1"))
    return right if made is not None and not made.denies(usual) else None


def _nothing(statement: Mapping[str, Any], about: Sequence[Test], action: str) -> Flaw:
    if action == DEFAULTS and statement.get("Resource") != "*":
        right = {**copy.deepcopy(dict(statement)), "Resource": "*"}
        message = f"{action} has no resource: it is tested on `*` only. Proven: no call of it is denied"
        return Flaw("no-effect", "Resource", message, "write `*`", corrected=right)
    if action in (RUN, OPTIONS):
        right = {**copy.deepcopy(dict(statement)), "Resource": INSTANCES}
        made = trial([statements.reduced(right)])
        if made is not None and any(made.denies(sample) for sample in GRIDS[action](right)):
            message = (
                f"`{about[0].key}` is a key of the instance, which this resource is not. Proven: nothing is denied"
            )
            return Flaw("no-effect", "Resource", message, f"write `{INSTANCES}`", corrected=right)
    message = f"the condition can never hold. Proven: no call of {action} is denied, whatever it says"
    return Flaw("no-effect", about[0].path, message, "say which values are to be denied")


def _flipped(grid: list[Sample], denied: Mapping[int, bool], concerned: list[str]) -> tuple[str, Sample, Sample] | None:
    """Two calls that differ in one parameter: the right one is denied, the wrong one passes."""
    for name in concerned:
        if name not in _RIGHT or name not in grid[0].asked:
            continue
        by: dict[Any, dict[str | None, Sample]] = {}
        for sample in grid:
            rest = tuple((k, v) for k, v in sample.asked.items() if k != name), tuple(sample.had.items())
            by.setdefault(rest, {})[sample.asked[name]] = sample
        pairs = sorted(
            by.values(), key=lambda same: sum(v is not None for s in same.values() for v in s.asked.values())
        )
        for same in pairs:
            right, wrong = same.get(_RIGHT[name]), same.get(_WRONG[name])
            if right and wrong and denied[id(right)] and not denied[id(wrong)]:
                return name, right, wrong
    return None


_TURNED = {
    "StringEquals": "StringNotEquals",
    "StringNotEquals": "StringEquals",
    "StringLike": "StringNotLike",
    "StringNotLike": "StringLike",
    "NumericLessThan": "NumericGreaterThan",
    "NumericLessThanEquals": "NumericGreaterThan",
}


def _turned(statement: Mapping[str, Any], test: Test) -> Any:
    """The statement with the operator turned around, when it then does what it is for."""
    if test.operator not in _TURNED:
        return None
    right = copy.deepcopy(dict(statement))
    statements.renamed(right, test, operator=_TURNED[test.operator])
    new = Test(_TURNED[test.operator], test.key, test.values)
    if new.negated and test.key.lower().startswith(ASKED.lower()):
        statements.with_condition(right, "Null", test.key, "false")
    tried = trial([statements.reduced(right)])
    about = statements.about_imds(right)
    actions = [action for action in GRIDS if covers(right, action)]
    if tried is None or any(
        next(judged(right, tried, about, action, list(GRIDS[action](right)), True), None) for action in actions
    ):
        return None
    return right


def _hardening(grid: list[Sample], denied: Mapping[int, bool], test: Test) -> Iterator[Flaw]:
    """Closing and opening are denied alike, whatever an instance has, and nobody is exempt."""
    closing = [sample for sample in grid if only(sample, HttpTokens="required")]
    opening = [sample for sample in grid if only(sample, HttpTokens="optional")]
    if all(denied[id(sample)] for sample in (*closing, *opening)):
        yield Flaw(
            "enforcer-locked-out",
            test.path,
            f"it denies the hardening too. Proven: {closing[0].words} is denied, for everybody",
            'exempt who enforces (`"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/imdsctl"}`), or deny the '
            "weakening alone",
        )


def _silent(
    statement: Mapping[str, Any],
    about: Sequence[Test],
    grid: list[Sample],
    denied: Mapping[int, bool],
    concerned: list[str],
) -> Iterator[Flaw]:
    """A change that says nothing of what the conditions are about is denied."""
    others = [s for s in grid if all(s.asked[name] is None for name in concerned if name in s.asked)]
    hit = next((sample for sample in others if denied[id(sample)]), None)
    test = next((test for test in about if test.negated and test.key.lower().startswith(ASKED.lower())), None)
    if hit is None or test is None:
        return
    right = copy.deepcopy(dict(statement))
    for each in about:
        if each.base == "Null" and each.matches_absent:
            statements.without(right, each)
    for each in about:
        if each.negated and each.key.lower().startswith(ASKED.lower()):
            statements.with_condition(right, "Null", each.key, "false")
    null = next((each for each in about if each.base == "Null" and each.matches_absent), None)
    if null is not None:
        message = f"Null `true` holds where the key is absent. Proven: {hit.words}, and nothing else, is denied"
        remedy = f'write `"Null": {{"{null.key}": "false"}}`'
        yield Flaw("reversed", null.path, message, remedy, corrected=right)
        return
    yield Flaw(
        "negated-without-null",
        test.path,
        f"a change need not say `{test.key}`, and {test.operator} matches an absent key. Proven: {hit.words}, and "
        "nothing else, is denied too",
        f'add `"Null": {{"{test.key}": "false"}}`',
        corrected=right,
    )


def _joined(
    statement: Mapping[str, Any], about: Sequence[Test], grid: list[Sample], denied: Mapping[int, bool],
    concerned: list[str], action: str,
) -> Iterator[Flaw]:  # fmt: skip
    """Two wrongs are denied together only."""
    pairs = [name for name in concerned if name in _RIGHT]
    if len(pairs) < 2:
        return
    one, two = pairs[:2]

    def call(**asked: str) -> Sample | None:
        return next((sample for sample in grid if only(sample, **asked)), None)

    both = call(**{one: _WRONG[one], two: _WRONG[two]})
    first = call(**{one: _WRONG[one], two: _RIGHT[two]})
    second = call(**{one: _RIGHT[one], two: _WRONG[two]})
    if both is None or first is None or second is None:
        return
    if denied[id(both)] and not denied[id(first)] and not denied[id(second)]:
        test = next(test for test in about if two in test.key)
        yield Flaw(
            "conditions-joined",
            test.path,
            f"all conditions of a statement have to hold. Proven: {first.words} passes, and {second.words} passes",
            "make a statement of each",
            corrected=_split(statement, about),
        )


def _split(statement: Mapping[str, Any], about: Sequence[Test]) -> list[dict[str, Any]]:
    keys = list(dict.fromkeys(test.key.lower() for test in about))
    made = []
    for number, key in enumerate(keys, 1):
        each = copy.deepcopy(dict(statement))
        for test in about:
            if test.key.lower() != key:
                statements.without(each, test)
        for test in about:
            if test.key.lower() == key and test.negated and key.startswith(ASKED.lower()):
                statements.with_condition(each, "Null", test.key, "false")
        if "Sid" in each:
            each["Sid"] = f"{each['Sid']}{number}"
        made.append(each)
    return made


def _judged_allow(
    statement: Mapping[str, Any], tried: Trial, about: Sequence[Test], action: str, grid: list[Sample],
    denied: Mapping[int, bool], concerned: list[str],
) -> Iterator[Flaw]:  # fmt: skip
    """An Allow that never allows, or allows the wrong thing only.

    Other statements may allow the image and the subnet of a launch: what its conditions ask for shows on the instance.
    """
    best = _best(grid, concerned)
    alone = {id(each): tried.denies(replace(each, resources=each.resources[:1])) for each in grid}
    flipped = _flipped(grid, alone, concerned)
    if flipped is not None:
        name, right, wrong = flipped
        test = next((test for test in about if name in test.key), about[0])
        message = f"Proven: {wrong.words} is allowed, and {right.words} is not"
        yield Flaw("reversed", test.path, message, "ask for what is right")
        return
    if not all(denied.values()):
        return
    instance = [_refused_at(tried, best, index) is None for index in range(len(best.resources))]
    names = statements.strings(statement.get("Resource"))
    if action == RUN and instance[0] and not all(instance) and "*" in names:
        only = {**copy.deepcopy(dict(statement)), "Resource": INSTANCES}
        kinds = (
            "image",
            "subnet",
            "network-interface",
            "security-group",
            "volume",
            "key-pair",
            "launch-template",
            "snapshot",
        )
        rest = {"Effect": "Allow", "Action": "ec2:RunInstances"}
        rest["Resource"] = [f"arn:aws:ec2:*:{'' if kind in ('image', 'snapshot') else '*'}:{kind}/*" for kind in kinds]  # type: ignore[assignment]
        yield Flaw(
            "absent-key",
            "Resource",
            f"`{about[0].key}` is absent for the image, the subnet, ... of a launch, and {about[0].operator} does not "
            f"match an absent key. Proven: {best.words} is not allowed",
            "one statement for the instance, one without the condition for the rest",
            corrected=[only, rest] if statements.actions(statement) == [RUN.lower()] else None,
        )
    elif action == DEFAULTS and "*" not in names:
        message = f"{action} has no resource: it is tested on `*` only. Proven: no call of it is allowed"
        yield Flaw("no-effect", "Resource", message, "write `*`")
