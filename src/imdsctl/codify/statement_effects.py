"""What one statement does, proven: it is tried on sample calls, and what it decides is compared with what it is for.

A condition about IMDS says what somebody cares about. The statement's other conditions (who asks, which tags) are taken
to hold. What the outcomes mean is in trial_outcomes.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.samples import SHORT, Sample, Trial, changes, defaults, deliveries, launches, trial, where
from imdsctl.codify.statements import Test
from imdsctl.codify.trial_outcomes import GRIDS, INSTANCES, covers, judged, only
from imdsctl.codify.vocabulary import (
    ASKED,
    CONFIGURATION,
    DEFAULTS,
    IMAGE,
    KEYS,
    KEYS_OF,
    OPTIONS,
    ROLE_DELIVERY,
    RUN,
    TOKENS,
    Flaw,
)
from imdsctl.policy.patterns import like, pieces_of


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
    for action, made in GRIDS.items():
        if covers(statement, action):
            found = next(judged(statement, tried, about, action, list(made(statement)), denying), None)
            if found is not None:
                yield found
                return


def effect_words(statement: Mapping[str, Any]) -> str:
    """What follows from a misspelt statement for launches, as a sentence; empty when nothing certain does."""
    if statement.get("Effect") != "Deny" or not statements.about_imds(statement) or not covers(statement, RUN):
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
    if statements.exempts(statement) or "NotAction" in statement:
        return
    tried = trial([statements.reduced(statement)])
    if tried is None:
        return
    for action, grid in ((OPTIONS, changes(where(statement))), (DEFAULTS, defaults())):
        if not any(_names_closely(name, action) for name in statements.actions(statement)):
            continue
        hardening = next(sample for sample in grid if only(sample, HttpTokens="required"))
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
        for each in filter(_delivers, statements.about_imds(statement)):
            statements.without(right, each)
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
    for test in about:
        key = KEYS[test.key.lower()].name
        lacking = [name for name in names if _lacks(name, key)]
        if not lacking:
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


def _lacks(name: str, key: str) -> bool:
    """Does no action that a name stands for have the key? False where that is not known."""
    meant = [action for action in KEYS_OF if like(pieces_of(name))(action)]
    return bool(meant) and not any(key in KEYS_OF[action] for action in meant)


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
    if key.startswith(ASKED) and len(lacking) == len(names) and not {RUN.lower(), CONFIGURATION.lower()} & set(names):
        has = next(each for each in (OPTIONS, DEFAULTS, IMAGE) if not _lacks(each.lower(), key))
        return None, f"only {has} has it: name that action"
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
            right["Resource"] = INSTANCES
        return right, f"use `{new}`"
    if len(lacking) < len(names) and isinstance(statement.get("Action"), list):
        right = copy.deepcopy(dict(statement))
        kept = [each for each in right["Action"] if each.lower() not in lacking]
        right["Action"] = kept if len(kept) > 1 else kept[0]
        launches = "" if key.startswith(ASKED) else "; what it launches is authorized as ec2:RunInstances"
        return right, f"take the action out{launches}"
    return None, "what it launches is authorized as ec2:RunInstances: put the condition there"


def _current(statement: Mapping[str, Any], tried: Trial, about: Sequence[Test], denying: bool) -> Iterator[Flaw]:
    """ec2:Metadata... on ModifyInstanceMetadataOptions, where what is asked for was meant."""
    if not covers(statement, OPTIONS) or any(test.key.lower().startswith(ASKED.lower()) for test in about):
        return
    grid = list(changes(where(statement)))
    hardening = next(s for s in grid if only(s, HttpTokens="required") and s.had["HttpTokens"] == "optional")
    weakening = next(s for s in grid if only(s, HttpTokens="optional") and s.had["HttpTokens"] == "required")
    test = next((test for test in about if KEYS[test.key.lower()].name == TOKENS), about[0])
    if KEYS[test.key.lower()].name != TOKENS:
        hardening = next(
            s for s in grid if only(s, HttpPutResponseHopLimit="1") and s.had["HttpPutResponseHopLimit"] == "64"
        )
        weakening = next(
            s for s in grid if only(s, HttpPutResponseHopLimit="64") and s.had["HttpPutResponseHopLimit"] == "1"
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
