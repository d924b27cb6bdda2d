"""What one statement does, proven: it is tried on sample calls, and what it decides is compared with what it is for.

A condition about IMDS says what somebody cares about. The statement's other conditions (who asks, which tags) are taken
to hold. Then the calls that differ in that one thing tell everything: denied whatever is said; denied when it is right
and not when it is wrong; denied although nothing was said of it; never denied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.samples import (
    SHORT,
    Sample,
    Trial,
    changes,
    configurations,
    defaults,
    deliveries,
    launches,
    trial,
    where,
)
from imdsctl.codify.statement_words import Flaw
from imdsctl.codify.statements import Test
from imdsctl.codify.vocabulary import ASKED, CONFIGURATION, DEFAULTS, KEYS, KEYS_OF, OPTIONS, ROLE_DELIVERY, RUN, TOKENS
from imdsctl.policy.patterns import like, pieces_of

_RIGHT = {"HttpTokens": "required", "HttpPutResponseHopLimit": "1", "HttpTokensEnforced": "enabled"}
_WRONG = {"HttpTokens": "optional", "HttpPutResponseHopLimit": "64", "HttpTokensEnforced": "disabled"}


def effects(statement: Mapping[str, Any]) -> Iterator[Flaw]:
    """What is wrong with what a well-spelt statement does. It has to parse."""
    if statement.get("Effect") not in ("Allow", "Deny"):
        return
    about = statements.about_imds(statement)
    denying = statement["Effect"] == "Deny"
    if not about:
        yield from _outright(statement) if denying else _not_action_allow(statement)
        return
    kept = statements.reduced(statement)
    tried = trial([kept], alone=not denying)
    if tried is None:
        return
    if denying and "NotAction" in statement and any(test.matches_absent for test in about if not _delivers(test)):
        yield _not_action(about)
        return
    if any(_delivers(test) for test in about):
        yield from _delivery(statement, tried, denying)
        return
    foreign = _foreign(statement, about)
    if foreign is not None:
        yield foreign
        return
    yield from _current(statement, tried, about, denying)
    for action, made in _GRIDS.items():
        if _covers(statement, action):
            found = next(_judged(statement, tried, about, action, list(made(statement)), denying), None)
            if found is not None:
                yield found
                return


def effect_words(statement: Mapping[str, Any]) -> str:
    """What follows from a misspelt statement for launches, as a sentence; empty when nothing certain does."""
    if statement.get("Effect") != "Deny" or not statements.about_imds(statement) or not _covers(statement, RUN):
        return ""
    tried = trial([statements.reduced(statement)])
    if tried is None:
        return ""
    grid = list(launches(where(statement)))
    denied = [tried.denies(sample) for sample in grid]
    right = next(sample for sample in grid if sample.asked["HttpTokens"] == "required")
    if all(denied):
        return f"Proven: every launch is denied, {right.words} too"
    return "" if any(denied) else "Proven: no launch is denied, whatever it says"


# -- statements without a condition about IMDS -----------------------------------------------------------------------


def _outright(statement: Mapping[str, Any]) -> Iterator[Flaw]:
    """A Deny of the hardening itself, without any exemption."""
    if statements.others(statement) or "Condition" in statement or statement.get("NotAction") is not None:
        return
    tried = trial([statement])
    if tried is None:
        return
    for action, grid in ((OPTIONS, changes(where(statement))), (DEFAULTS, defaults())):
        if not any(_names_closely(name, action) for name in statements.actions(statement)):
            continue
        hardening = next(sample for sample in grid if _only(sample, HttpTokens="required"))
        if tried.denies(hardening):
            names = statements.listed(statement.get("Action"))
            several = isinstance(statement.get("Action"), list)
            index = next(
                n for n, name in enumerate(names) if isinstance(name, str) and _names_closely(name.lower(), action)
            )
            yield Flaw(
                "enforcer-locked-out",
                f"Action[{index}]" if several else "Action",
                f"it denies every change, the hardening too. Proven: {hardening.words} is denied, for everybody",
                'exempt who enforces (`"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/imdsctl"}`), or '
                f"deny the weakening alone: `{ASKED}HttpTokens` with StringNotEquals `required` and Null `false`",
            )
            return
        message = f"{action} has no resource: it is tested on `*` only, so that this statement never applies"
        if action == DEFAULTS and len(statements.actions(statement)) == 1:
            yield Flaw("no-effect", "Resource", message, "write `*`, and exempt who enforces")
            return


def _names_closely(name: str, action: str) -> bool:
    """Is it about this action, and not about EC2 as a whole?"""
    return len(name) > len("ec2:modify*") and like(pieces_of(name))(action.lower())


def _not_action_allow(statement: Mapping[str, Any]) -> Iterator[Flaw]:
    spared = [name.lower() for name in statements.strings(statement.get("NotAction"))]
    if any(_names_closely(name, action) for name in spared for action in (RUN, OPTIONS, DEFAULTS)):
        yield Flaw(
            "not-action",
            "NotAction",
            "an Allow with NotAction gives every other action of AWS, iam:* among them, and denies nothing: another "
            "policy (in an SCP, FullAWSAccess) still allows what it leaves out",
            "deny the action instead",
        )


# -- conditions about IMDS -------------------------------------------------------------------------------------------


def _not_action(about: Sequence[Test]) -> Flaw:
    test = next(test for test in about if test.matches_absent)
    return Flaw(
        "not-action",
        "NotAction",
        f"a Deny with NotAction is about every other action of AWS; s3:GetObject has no `{test.key}`, which "
        f"{test.operator} matches: nearly everything is denied",
        "name the action: `ec2:RunInstances` on `arn:aws:ec2:*:*:instance/*`",
    )


def _delivers(test: Test) -> bool:
    return test.key.lower() == ROLE_DELIVERY.lower()


def _delivery(statement: Mapping[str, Any], tried: Trial, denying: bool) -> Iterator[Flaw]:
    test = next(test for test in statements.about_imds(statement) if _delivers(test))
    old, new, nobody = deliveries(statement)
    passes_old, passes_new, passes_nobody = (not tried.denies(each) for each in (old, new, nobody))
    right = copy.deepcopy(dict(statement))
    if denying:
        statements.without(right, test)
        statements.with_condition(right, "NumericLessThan", ROLE_DELIVERY, "2.0")
        if not passes_nobody:
            yield Flaw(
                "absent-key",
                test.path,
                f"`{ROLE_DELIVERY}` is there only for roles delivered by an EC2 instance, and {test.operator} matches "
                f"an absent key. Proven: {old.action} by a user, or by the role of a service, is denied too",
                "use NumericLessThan, which an absent key does not match",
                corrected=right,
            )
        elif passes_old and not passes_new:
            message = "Proven: a role that IMDSv1 delivered passes, and one that IMDSv2 delivered is denied"
            yield Flaw("reversed", test.path, message, "use NumericLessThan 2.0", corrected=right)
        elif not passes_old and not passes_new:
            message = "Proven: a role that IMDSv2 delivered is denied as well: every instance loses every call"
            yield Flaw("locks-out", test.path, message, "use NumericLessThan 2.0", corrected=right)
        elif passes_old:
            message = "Proven: a role that IMDSv1 delivered is not denied"
            yield Flaw("no-effect", test.path, message, "use NumericLessThan 2.0", corrected=right)
    elif passes_old and not passes_new:
        statements.without(right, test)
        statements.with_condition(right, "NumericGreaterThanEquals", ROLE_DELIVERY, "2.0")
        message = "Proven: a role that IMDSv1 delivered is allowed, and one that IMDSv2 delivered is not"
        yield Flaw("reversed", test.path, message, "use NumericGreaterThanEquals 2.0", corrected=right)


def _foreign(statement: Mapping[str, Any], about: Sequence[Test]) -> Flaw | None:
    """A key on actions of which at least one, known here, never has it."""
    names = statements.actions(statement)
    if not names or any("*" in name or "?" in name for name in names):
        return None
    for test in about:
        key = KEYS[test.key.lower()].name
        lacking = [name for name in names if name in KEYS_OF and key not in KEYS_OF[name]]
        if not lacking or (key.startswith(("ec2:Metadata", "ec2:Instance")) and OPTIONS.lower() in lacking):
            continue
        action = next(each for each in statements.strings(statement["Action"]) if each.lower() == lacking[0])
        denied = statement["Effect"] == "Deny" and test.matches_absent
        follows = (
            f"{test.operator} matches an absent key, so that every call of it is denied"
            if denied
            else "the condition never holds for it, so that the statement says nothing about it"
        )
        right, hint = _own_key(statement, test, names, lacking)
        return Flaw("key-not-on-action", test.path, f"{action} never has `{key}`: {follows}", hint, corrected=right)
    return None


def _own_key(statement: Mapping[str, Any], test: Test, names: list[str], lacking: list[str]) -> tuple[Any, str]:
    """The same statement with the key that its action does have, and a sentence."""
    key = KEYS[test.key.lower()].name
    parameter = SHORT.get(key) or key.removeprefix(ASKED)
    wanted = {
        RUN.lower(): f"ec2:Metadata{parameter}" if parameter != "InstanceMetadataTags" else f"ec2:{parameter}",
        CONFIGURATION.lower(): f"autoscaling:Metadata{parameter}",
        DEFAULTS.lower(): f"{ASKED}{parameter}",
        OPTIONS.lower(): f"{ASKED}{parameter}",
    }
    if len(names) == 1 and names[0] in wanted and wanted[names[0]].lower() in KEYS:
        right = copy.deepcopy(dict(statement))
        new = wanted[names[0]]
        statements.renamed(right, test, key=new)
        if new.startswith(ASKED) and test.negated and right["Effect"] == "Deny":
            statements.with_condition(right, "Null", new, "false")
        resource = right.get("Resource")
        if names[0] == DEFAULTS.lower():
            right["Resource"] = "*"
        elif names[0] == CONFIGURATION.lower() and resource != "*":
            right["Resource"] = "arn:aws:autoscaling:*:*:launchConfiguration:*:launchConfigurationName/*"
        elif names[0] == RUN.lower():
            right["Resource"] = _INSTANCES
        return right, f"use `{new}`"
    if len(lacking) < len(names) and isinstance(statement.get("Action"), list):
        right = copy.deepcopy(dict(statement))
        kept = [each for each in right["Action"] if each.lower() not in lacking]
        right["Action"] = kept if len(kept) > 1 else kept[0]
        return right, "take the action out; what it launches is authorized as ec2:RunInstances"
    return None, "what it launches is authorized as ec2:RunInstances: put the condition there"


_INSTANCES = "arn:aws:ec2:*:*:instance/*"


def _current(statement: Mapping[str, Any], tried: Trial, about: Sequence[Test], denying: bool) -> Iterator[Flaw]:
    """ec2:Metadata... on ModifyInstanceMetadataOptions, where what is asked for was meant."""
    if not _covers(statement, OPTIONS) or any(test.key.lower().startswith(ASKED.lower()) for test in about):
        return
    grid = list(changes(where(statement)))
    hardening = next(s for s in grid if _only(s, HttpTokens="required") and s.had["HttpTokens"] == "optional")
    weakening = next(s for s in grid if _only(s, HttpTokens="optional") and s.had["HttpTokens"] == "required")
    test = next((test for test in about if KEYS[test.key.lower()].name == TOKENS), about[0])
    if KEYS[test.key.lower()].name != TOKENS:
        hardening = next(
            s for s in grid if _only(s, HttpPutResponseHopLimit="1") and s.had["HttpPutResponseHopLimit"] == "64"
        )
        weakening = next(
            s for s in grid if _only(s, HttpPutResponseHopLimit="64") and s.had["HttpPutResponseHopLimit"] == "1"
        )
    if not tried.denies(hardening) or tried.denies(weakening):
        return
    right: Any = None
    if statements.actions(statement) == [OPTIONS.lower()] and SHORT.get(KEYS[test.key.lower()].name):
        key = f"{ASKED}{SHORT[KEYS[test.key.lower()].name]}"
        right = copy.deepcopy(dict(statement))
        statements.renamed(right, test, key=key)
        if denying and test.negated:
            statements.with_condition(right, "Null", key, "false")
        if denying and not _passes([right], hardening):
            right = None
    elif sorted(statements.actions(statement)) == sorted((RUN.lower(), OPTIONS.lower())) and denying:
        right = _apart(statement, test)
    refused = "is denied" if denying else "is not allowed"
    passes = "passes" if denying else "is allowed"
    yield Flaw(
        "current-value",
        test.path,
        f"on {OPTIONS} `{test.key}` is what the instance has, not what is asked for. Proven: {hardening.words} "
        f"{refused}; {weakening.words} {passes}",
        f"use `{ASKED}{SHORT.get(KEYS[test.key.lower()].name, 'HttpTokens')}`, in a statement of its own",
        corrected=right,
    )


def _apart(statement: Mapping[str, Any], test: Test) -> list[dict[str, Any]] | None:
    """Launches and changes in statements of their own, each with its own key."""
    parameter = SHORT.get(KEYS[test.key.lower()].name)
    if parameter is None:
        return None
    launch, change = copy.deepcopy(dict(statement)), copy.deepcopy(dict(statement))
    launch["Action"], change["Action"] = RUN, OPTIONS
    statements.renamed(change, test, key=f"{ASKED}{parameter}")
    if test.negated:
        statements.with_condition(change, "Null", f"{ASKED}{parameter}", "false")
    if "Sid" in statement:
        launch["Sid"], change["Sid"] = f"{statement['Sid']}1", f"{statement['Sid']}2"
    return [launch, change]


def _passes(tried: Sequence[Mapping[str, Any]], sample: Sample) -> bool:
    made = trial([statements.reduced(each) for each in tried])
    return made is not None and not made.denies(sample)


# -- trying ----------------------------------------------------------------------------------------------------------


def _hops(statement: Mapping[str, Any]) -> list[str]:
    return [str(v) for t in statements.about_imds(statement) for v in t.values if KEYS[t.key.lower()].numeric]


_GRIDS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Sample]]] = {
    RUN: lambda statement: launches(where(statement), _hops(statement)),
    CONFIGURATION: lambda statement: configurations(statement, _hops(statement)),
    OPTIONS: lambda statement: changes(where(statement), _hops(statement)),
    DEFAULTS: lambda statement: defaults(_hops(statement)),
}


def _covers(statement: Mapping[str, Any], action: str) -> bool:
    if "NotAction" in statement:
        return not any(
            like(pieces_of(name.lower()))(action.lower()) for name in statements.strings(statement["NotAction"])
        )
    return any(like(pieces_of(name))(action.lower()) for name in statements.actions(statement))


def _only(sample: Sample, **asked: str) -> bool:
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


def _judged(
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
        if len(statements.actions(statement)) == 1:
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
    if action in (OPTIONS, DEFAULTS):
        yield from _silent(statement, about, grid, denied, concerned)
        if not statements.others(statement):
            yield from _hardening(grid, denied, first)
    yield from _joined(statement, about, grid, denied, concerned, action)


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
            f"put it on `{_INSTANCES}` alone",
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
    return next((sample for sample in grid if _only(sample, **wanted)), grid[0])


def _on_instances(statement: Mapping[str, Any]) -> Any:
    """The statement on instances; only where it is about launches alone."""
    if statements.actions(statement) != [RUN.lower()]:
        return None
    right = {name: value for name, value in copy.deepcopy(dict(statement)).items() if name != "NotResource"}
    partition = where(statement).partition
    right["Resource"] = _INSTANCES.replace("arn:aws:", f"arn:{partition}:")
    made = trial([statements.reduced(right)])
    usual = next(s for s in launches(where(right)) if _only(s, HttpTokens="required", HttpPutResponseHopLimit="1"))
    return right if made is not None and not made.denies(usual) else None


def _nothing(statement: Mapping[str, Any], about: Sequence[Test], action: str) -> Flaw:
    if action == DEFAULTS and statement.get("Resource") != "*":
        right = {**copy.deepcopy(dict(statement)), "Resource": "*"}
        message = f"{action} has no resource: it is tested on `*` only. Proven: no call of it is denied"
        return Flaw("no-effect", "Resource", message, "write `*`", corrected=right)
    if action in (RUN, OPTIONS):
        right = {**copy.deepcopy(dict(statement)), "Resource": _INSTANCES}
        made = trial([statements.reduced(right)])
        if made is not None and any(made.denies(sample) for sample in _GRIDS[action](right)):
            message = (
                f"`{about[0].key}` is a key of the instance, which this resource is not. Proven: nothing is denied"
            )
            return Flaw("no-effect", "Resource", message, f"write `{_INSTANCES}`", corrected=right)
    message = f"the condition can never hold. Proven: no call of {action} is denied, whatever it says"
    return Flaw("no-effect", about[0].path, message, "say which values are to be denied")


def _flipped(grid: list[Sample], denied: Mapping[int, bool], concerned: list[str]) -> tuple[str, Sample, Sample] | None:
    """Two calls that differ in one parameter: the right one is denied, the wrong one passes."""
    for name in concerned:
        if name not in _RIGHT:
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
    return right if next(effects(right), None) is None else None


def _hardening(grid: list[Sample], denied: Mapping[int, bool], test: Test) -> Iterator[Flaw]:
    """Closing and opening are denied alike, whatever an instance has, and nobody is exempt."""
    closing = [sample for sample in grid if _only(sample, HttpTokens="required")]
    opening = [sample for sample in grid if _only(sample, HttpTokens="optional")]
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
        if each.negated and each.key.lower().startswith(ASKED.lower()):
            statements.with_condition(right, "Null", each.key, "false")
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
        return next((sample for sample in grid if _only(sample, **asked)), None)

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
    """An Allow that never allows, or allows the wrong thing only."""
    best = _best(grid, concerned)
    if not all(denied.values()):
        flipped = _flipped(grid, denied, concerned)
        if flipped is not None:
            name, right, wrong = flipped
            test = next((test for test in about if name in test.key), about[0])
            yield Flaw(
                "reversed",
                test.path,
                f"Proven: {wrong.words} is allowed, and {right.words} is not",
                "ask for what is right",
            )
        return
    instance = [_refused_at(tried, best, index) is None for index in range(len(best.resources))]
    names = statements.strings(statement.get("Resource"))
    if action == RUN and instance[0] and not all(instance) and "*" in names:
        only = {**copy.deepcopy(dict(statement)), "Resource": _INSTANCES}
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
