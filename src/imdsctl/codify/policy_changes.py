"""Policies together, where enforcement is concerned: who has to close IMDSv1 must be able to.

Changes of instances, of Region defaults and of launch templates are tried on all Deny statements at once: as an
ordinary role, as every role that one of them exempts, and as the enforcer's own role where it is named.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.declarative_check import wanted
from imdsctl.codify.findings import CodeFinding
from imdsctl.codify.json_places import Document
from imdsctl.codify.policy_file import File, Read, finding
from imdsctl.codify.samples import Sample, Where, changes, defaults, launches, templates, trial, where
from imdsctl.codify.trial_outcomes import covers
from imdsctl.codify.vocabulary import DEFAULTS, NEW_VERSION, OPTIONS, RUN, TEMPLATE_DEFAULT, Flaw
from imdsctl.policy.declarative import METADATA_DEFAULTS, ROOT_ELEMENT
from imdsctl.policy.patterns import like, pieces_of

ENFORCER = "arn:aws:iam::*:role/imdsctl"
_CALLER = "aws:principalarn"


@dataclass(frozen=True, slots=True)
class _Deny:
    """A Deny statement and where it stands; `statement` has only the conditions that are about IMDS or the caller."""

    read: Read
    path: str
    statement: Mapping[str, Any]
    written: Mapping[str, Any]

    @property
    def name(self) -> str:
        sid = self.written.get("Sid")
        place = self.read.document.place(self.path)
        return f"`{sid}`" if isinstance(sid, str) and sid else f"the statement at {self.read.file.name}:{place.line}"

    @property
    def exempt(self) -> list[str]:
        """The principals that a negated condition spares."""
        spared = [test for test in statements.tests(self.written) if test.key.lower() == _CALLER and test.negated]
        return [str(value) for test in spared for value in test.values]

    def refuses(self, sample: Sample, caller: str = "") -> bool:
        tried = trial([self.statement])
        return tried is not None and tried.denies(sample, caller)


_WHAT = {
    OPTIONS: "setting HttpTokens=required on an instance",
    DEFAULTS: "making HttpTokens=required a Region's default",
    NEW_VERSION: "a launch template version that says HttpTokens=required",
    TEMPLATE_DEFAULT: "making such a version the default one",
}


def _hardening(action: str, at: Where) -> list[Sample]:
    """Everything that closes IMDSv1 by this call, with whatever else it says."""
    if action == OPTIONS:
        return [each for each in changes(at) if each.asked["HttpTokens"] == "required"]
    if action == DEFAULTS:
        return [each for each in defaults() if each.asked["HttpTokens"] == "required"]
    return [each for each in templates(at) if each.action == action]


def enforcement(
    read: Sequence[Read], declared: Sequence[tuple[File, Document]], enforcer: str | None = None
) -> Iterator[CodeFinding]:
    """What stands in the way of enforcement, of several statements and files together."""
    denies = list(_denies(read))
    for action in (OPTIONS, DEFAULTS):
        yield from _nobody_left(action, [each for each in denies if covers(each.written, action)])
    yield from _templates_locked(denies)
    for file, document in declared:
        yield from _denied_setting(file, document, denies)
    if enforcer is not None:
        yield from _enforcer_denied(denies, enforcer)


def _denies(read: Sequence[Read]) -> Iterator[_Deny]:
    for one in read:
        for path, statement in zip(one.paths, one.mended, strict=True):
            if statement.get("Effect") != "Deny" or "NotAction" in statement:
                continue
            others = [test for test in statements.others(statement) if test.key.lower() != _CALLER]
            # One for some tags or Regions only is left out: what it denies is open elsewhere.
            if all(test.matches_absent for test in others):
                yield _Deny(one, path, statements.reduced(statement, keep=frozenset({_CALLER})), statement)


def _closes(denies: Sequence[_Deny], samples: Sequence[Sample], caller: str = "") -> bool:
    tried = trial([each.statement for each in denies])
    return tried is not None and all(tried.denies(sample, caller) for sample in samples)


def _nobody_left(action: str, denies: Sequence[_Deny]) -> Iterator[CodeFinding]:
    """Each alone lets somebody close IMDSv1 somehow; all together, nobody."""
    if len(denies) < 2:
        return
    samples = _hardening(action, where(denies[0].written))
    callers = ["", *dict.fromkeys(_filled(each) for deny in denies for each in deny.exempt)]

    def nobody(chosen: Sequence[_Deny]) -> bool:
        return bool(chosen) and all(_closes(chosen, samples, caller) for caller in callers)

    denies = [each for each in denies if not nobody([each])]
    if not nobody(denies):
        return
    needed = list(denies)
    for each in denies:
        fewer = [one for one in needed if one is not each]
        if nobody(fewer):
            needed = fewer
    last = needed[-1]
    others = ", ".join(each.name for each in needed[:-1])
    spared = list(dict.fromkeys(value for each in needed for value in each.exempt)) or [ENFORCER]
    message = (
        f"together with {others} it denies {_WHAT[action]} to everybody. Proven on {len(samples)} calls as "
        f"{len(callers)} callers"
    )
    if last.exempt:
        message += ": whom one of them exempts, another denies"
    corrected = _spared(last.written, spared)
    remedy = "exempt the same principals in each of them" if len(callers) > 1 else "exempt who enforces"
    yield finding(
        last.read.file,
        last.read.document,
        Flaw("enforcer-locked-out", "", message, remedy, corrected=corrected),
        last.path,
    )


def _filled(pattern: str) -> str:
    """A principal that a pattern matches."""
    parts = pattern.split(":", 5)
    if len(parts) == 6 and parts[4] in ("*", ""):
        parts[4] = "111122223333"
    return ":".join(parts).replace("*", "x").replace("?", "x")


def _spared(statement: Mapping[str, Any], principals: Sequence[str]) -> dict[str, Any]:
    """The statement with these principals exempt, beside those that are."""
    right = copy.deepcopy(dict(statement))
    for test in statements.tests(statement):
        if test.key.lower() == _CALLER and test.negated:
            values = list(dict.fromkeys([*map(str, test.values), *principals]))
            right["Condition"][test.operator][test.key] = values if len(values) > 1 else values[0]
            return right
    values = list(principals)
    statements.with_condition(right, "ArnNotLike", "aws:PrincipalArn", values if len(values) > 1 else values[0])
    return right


def _templates_locked(denies: Sequence[_Deny]) -> Iterator[CodeFinding]:
    """Launches have to say HttpTokens=required, and nobody may write it into a template."""
    grid = [each for each in launches(Where()) if each.asked["HttpTokens"] is None]
    demanding = next(
        (
            each
            for each in denies
            if covers(each.written, RUN) and statements.about_imds(each.written) and _closes([each], grid)
        ),
        None,
    )
    if demanding is None:
        return
    for action in (NEW_VERSION, TEMPLATE_DEFAULT):
        for deny in denies:
            names = statements.actions(deny.written)
            closely = any(len(name) > len("ec2:create*") and like(pieces_of(name))(action.lower()) for name in names)
            if not closely or deny.exempt or not _closes([deny], _hardening(action, where(deny.written))):
                continue
            message = (
                f"{demanding.name} denies launches that do not say HttpTokens=required, and this denies "
                f"{_WHAT[action]}, for everybody: a template that says nothing cannot be mended"
            )
            flaw = Flaw(
                "enforcer-locked-out", "Action", message, "exempt who enforces",
                corrected=_spared(deny.written, [ENFORCER]),
            )  # fmt: skip
            yield finding(deny.read.file, deny.read.document, flaw, deny.path)
            return


_SETTINGS = {
    "HttpTokens": "http_tokens",
    "HttpPutResponseHopLimit": "http_put_response_hop_limit",
    "HttpEndpoint": "http_endpoint",
    "InstanceMetadataTags": "instance_metadata_tags",
}
_OF = {OPTIONS: "changing an instance to it", DEFAULTS: "setting it by ModifyInstanceMetadataDefaults"}


def _denied_setting(file: File, document: Document, denies: Sequence[_Deny]) -> Iterator[CodeFinding]:
    """A default of an EC2 policy to which nobody may change what is there already."""
    for parameter, value in wanted(document.value).items():
        for deny in denies:
            found = next((each for each in _OF if _denies_value(deny, each, parameter, value)), None)
            if found is None or deny.exempt:
                continue
            path = f"{ROOT_ELEMENT}.{METADATA_DEFAULTS}.{_SETTINGS[parameter]}"
            where_it_is = f"{deny.name} in {deny.read.file.name}"
            message = f"it makes {parameter}={value} the default, and {where_it_is} denies {_OF[found]}"
            corrected = _spared(deny.written, [ENFORCER])
            remedy = "make both say the same, or exempt who enforces (the statement beside this)"
            yield finding(file, document, Flaw("contradicts-declarative", path, message, remedy, corrected=corrected))
            break


def _denies_value(deny: _Deny, action: str, parameter: str, value: str) -> bool:
    """It denies this value for what it is: another value of the same parameter passes."""
    if not covers(deny.written, action) or not statements.about_imds(deny.written):
        return False
    hops = [value] if parameter == "HttpPutResponseHopLimit" else []
    grid = list(changes(where(deny.written), hops) if action == OPTIONS else defaults(hops))
    alone = [each for each in grid if [k for k, v in each.asked.items() if v is not None] == [parameter]]
    saying = [each for each in alone if each.asked[parameter] == value]
    other = [each for each in alone if each.asked[parameter] != value]
    return bool(saying) and _closes([deny], saying) and not _closes([deny], other)


def _enforcer_denied(denies: Sequence[_Deny], enforcer: str) -> Iterator[CodeFinding]:
    """What the enforcer's own role is denied."""
    caller = _filled(enforcer)
    for deny in denies:
        for action, what in _WHAT.items():
            if not covers(deny.written, action):
                continue
            usual = [each for each in _hardening(action, where(deny.written)) if _is_usual(each)]
            hit = next((each for each in usual if deny.refuses(each, caller)), None)
            if hit is None:
                continue
            message = f"it denies {what} to {enforcer}, which enforces"
            flaw = Flaw(
                "enforcer-locked-out", "Action", message, "exempt it", corrected=_spared(deny.written, [enforcer])
            )
            yield finding(deny.read.file, deny.read.document, flaw, deny.path)
            break


def _is_usual(sample: Sample) -> bool:
    return [name for name, value in sample.asked.items() if value is not None] == ["HttpTokens"]
