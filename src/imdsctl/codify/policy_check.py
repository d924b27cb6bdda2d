"""Policies, checked before they are attached: each by itself, then together.

A statement is first put right as far as it is certain what was meant (statement_words.py), then tried on sample calls
(statement_effects.py): so a statement with a misspelt value and the wrong resource gets both findings, and one
corrected statement that has neither.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.declarative_check import declarative_flaws, is_declarative, settings, wanted
from imdsctl.codify.findings import CodeFinding
from imdsctl.codify.json_places import Document, read_json
from imdsctl.codify.policy_rules import RULE
from imdsctl.codify.samples import Sample, launches, trial, where
from imdsctl.codify.statement_effects import effect_words, effects
from imdsctl.codify.statement_words import Flaw, misspelt
from imdsctl.codify.vocabulary import RUN, Vocabulary, closest
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.policy.declarative import METADATA_DEFAULTS, ROOT_ELEMENT
from imdsctl.policy.document import VERSION, PolicyKind, parse_policy
from imdsctl.policy.limits import MANAGED_POLICY_CHARACTERS_MAX, check_declarative_size, check_iam_size, check_scp_size
from imdsctl.policy.operators import OPERATORS
from imdsctl.policy.patterns import like, pieces_of
from imdsctl.policy.problems import MalformedPolicy, Problem

CHARACTERS_MAX = 200_000
"""Of a file; the longest policy that AWS takes has 32,768, white space apart."""


class Kind(StrEnum):
    """What a file is to be attached as."""

    SCP = "scp"
    IAM = "iam"
    BOUNDARY = "boundary"
    DECLARATIVE = "declarative"


@dataclass(frozen=True, slots=True)
class File:
    """A text to check. `kind` None: its name (`NAME.scp.json`) or its content says."""

    name: str
    text: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, file by file and in the order of the text; `unread` are the files that could not be judged."""

    findings: tuple[CodeFinding, ...]
    files: int
    unread: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """A policy of statements, put right where it was misspelt."""

    file: File
    document: Document
    kind: Kind | None
    paths: tuple[str, ...]
    mended: tuple[dict[str, Any], ...]


def check_policies(files: Sequence[File], words: Vocabulary) -> Checked:
    """Check files, each by itself and then together."""
    findings: list[CodeFinding] = []
    unread: list[Diagnostic] = []
    read: list[_Read] = []
    declared: list[tuple[File, Document]] = []
    for file in files:
        found, problem = _one(file, words, read, declared)
        findings += _once(found)
        if problem is not None:
            unread.append(problem)
    findings += _together(read, declared)
    order = {file.name: number for number, file in enumerate(files)}
    findings.sort(key=lambda each: (order[each.file], each.line, each.column))
    return Checked(tuple(findings), len(files), tuple(unread))


def _once(found: Sequence[CodeFinding]) -> Iterator[CodeFinding]:
    seen: set[tuple[str, int, int, str]] = set()
    for each in found:
        name = (each.rule.id, each.line, each.column, each.message)
        if name not in seen:
            seen.add(name)
            yield each


# -- one file --------------------------------------------------------------------------------------------------------


def _one(
    file: File, words: Vocabulary, read: list[_Read], declared: list[tuple[File, Document]]
) -> tuple[list[CodeFinding], Diagnostic | None]:
    if len(file.text) > CHARACTERS_MAX:
        why = f"{len(file.text):,} characters; no policy has more than {CHARACTERS_MAX:,}"
        return [], Diagnostic("policy-unreadable", why, file.name, "name files that hold one policy each")
    document = read_json(file.text)
    findings = [
        _fault_finding(file, fault.code, fault.message, fault.place) for fault in document.faults if not fault.fatal
    ]
    for fault in document.faults:
        if fault.fatal:
            subject = f"{file.name}:{fault.place.line}:{fault.place.column}"
            return findings, Diagnostic(
                "policy-unreadable", f"not JSON: {fault.message}", subject, "see what stands there"
            )
    value = document.value
    if not isinstance(value, dict):
        return findings, Diagnostic("policy-unreadable", "a policy is a JSON object", f"{file.name}:1:1")
    if file.kind is Kind.DECLARATIVE or (file.kind is None and is_declarative(value)):
        declared.append((file, document))
        findings += [_finding(file, document, flaw) for flaw in declarative_flaws(value)]
        findings += _sizes(file, document, check_declarative_size(file.text))
        return findings, None
    if "Statement" not in value and closest_element(value) is None:
        hint = "it has neither `Statement` nor `ec2_attributes`"
        return findings, Diagnostic("policy-unreadable", "not a policy", f"{file.name}:1:1", hint)
    kind = file.kind or _kind_of_name(file.name)
    findings += _statements(file, document, kind, words, read)
    if kind is Kind.SCP:
        minified = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        findings += _sizes(file, document, check_scp_size(minified))
    elif kind in (Kind.IAM, Kind.BOUNDARY):
        findings += _sizes(file, document, check_iam_size(file.text, MANAGED_POLICY_CHARACTERS_MAX, "a managed policy"))
    return findings, None


def closest_element(value: Mapping[str, Any]) -> str | None:
    """A member that was to be `Statement`."""
    return next((name for name in value if closest(name, ("Statement",), 0.7)), None)


def _kind_of_name(name: str) -> Kind | None:
    parts = name.rpartition("/")[2].split(".")
    return next((kind for kind in Kind if kind is not Kind.DECLARATIVE and str(kind) in parts), None)


def _fault_finding(file: File, code: str, message: str, place: Any) -> CodeFinding:
    rule = RULE["not-json"]
    remedy = "keep the comment outside" if code == "json-comment" else "take it out"
    return CodeFinding(rule, rule.severity, file.name, place.line, place.column, message, remedy)


def _finding(file: File, document: Document, flaw: Flaw, under: str = "", corrected: Any = None) -> CodeFinding:
    rule = RULE[flaw.rule]
    place = document.place(f"{under}.{flaw.path}" if under and flaw.path else flaw.path or under)
    fixed = flaw.corrected if flaw.corrected is not None else corrected
    return CodeFinding(rule, rule.severity, file.name, place.line, place.column, flaw.message, flaw.remedy, fixed)


def _sizes(file: File, document: Document, problems: Sequence[Problem]) -> list[CodeFinding]:
    return [_finding(file, document, Flaw("too-long", "", each.message, "shorten or split it")) for each in problems]


def _statements(
    file: File, document: Document, kind: Kind | None, words: Vocabulary, read: list[_Read]
) -> list[CodeFinding]:
    body = copy.deepcopy(document.value)
    findings: list[CodeFinding] = []
    for name in [name for name in body if name not in ("Version", "Id", "Statement")]:
        meant = closest(name, ("Version", "Id", "Statement"), 0.7)
        message = f"`{name}` is not an element of a policy"
        findings.append(
            _finding(file, document, Flaw("unknown-element", name, message, f"write `{meant}`" if meant else ""))
        )
        inner = body.pop(name)
        if meant and meant not in body:
            body[meant] = inner
    single = isinstance(body.get("Statement"), dict)
    listed = [body["Statement"]] if single else body.get("Statement")
    spelling = closest_element(document.value) or "Statement"
    paths: list[str] = []
    mended: list[dict[str, Any]] = []
    for index, statement in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(statement, dict):
            continue
        path = spelling if single else f"{spelling}[{index}]"
        findings += _statement(file, document, path, statement, words)
        paths.append(path)
        mended.append(statement)
    if not findings or all(each.rule.id != "unknown-operator" for each in findings):
        findings += _left(file, document, body, kind, spelling)
    if body.get("Version") != VERSION and "${" in json.dumps(body):
        message = "`${...}` is plain text in this version: what it stands for is never filled in"
        findings.append(
            _finding(file, document, Flaw("old-version", "Version", message, f'write `"Version": "{VERSION}"`'))
        )
    one = _Read(file, document, kind, tuple(paths), tuple(mended))
    findings += _shadowed(one)
    read.append(one)
    return findings


def _statement(
    file: File, document: Document, path: str, statement: dict[str, Any], words: Vocabulary
) -> Iterator[CodeFinding]:
    """`statement` is put right in place."""
    before = copy.deepcopy(statement)
    flaws = list(misspelt(statement, words))
    sure = all(flaw.mended for flaw in flaws)
    # What follows from a word that nobody can put right is said with the word.
    said = not sure and any(flaw.rule in _PROVEN for flaw in flaws)
    wrong = [flaw for flaw in effects(statement) if not (said and flaw.rule in _FOLLOWS)]
    # The last correction is of the statement that was put right before, so that it is right in everything.
    right = next((flaw.corrected for flaw in wrong if flaw.corrected is not None), None)
    proof = effect_words(before) if flaws else ""
    for flaw in flaws:
        if proof and flaw.rule in _PROVEN:
            flaw = replace(flaw, message=f"{flaw.message}. {proof}")
        mended = right if right is not None else None if wrong else copy.deepcopy(statement)
        yield _finding(file, document, flaw, path, mended if sure else None)
    for flaw in wrong:
        yield _finding(file, document, flaw if sure else replace(flaw, corrected=None), path)


_PROVEN = frozenset({"impossible-value", "unknown-key", "wrong-operator-type", "wrong-resource"})
_FOLLOWS = frozenset({"no-effect", "locks-out"})


def _left(
    file: File, document: Document, body: Mapping[str, Any], kind: Kind | None, spelling: str
) -> Iterator[CodeFinding]:
    """What the parser says of the document once it is put right."""
    with_principal = kind is None and any(
        isinstance(each, dict) and ("Principal" in each or "NotPrincipal" in each)
        for each in statements.listed(body.get("Statement"))
    )
    policy_kind = PolicyKind.SCP if kind is Kind.SCP else PolicyKind.RESOURCE if with_principal else PolicyKind.IDENTITY
    try:
        parse_policy(body, name=file.name, kind=policy_kind)
    except MalformedPolicy as error:
        for problem in error.problems:
            if problem.code in ("invalid-value",) and _is_about_imds(problem.path):
                continue
            path = problem.path.replace("Statement", spelling, 1)
            remedy = ""
            if problem.code == "invalid-version":
                remedy = f"write `{VERSION}`"
            elif problem.code == "unknown-operator":
                meant = closest(problem.path.rpartition(".")[2], OPERATORS, 0.7)
                remedy = f"write `{meant}`" if meant else ""
            yield _finding(file, document, Flaw("malformed-policy", path, problem.message, remedy))


def _is_about_imds(path: str) -> bool:
    """Said already, with the values that there are (impossible-value)."""
    return any(name in path for name in ("ec2:", "autoscaling:Metadata", "sagemaker:Minimum", "imagebuilder:Ec2"))


# -- statements of one file together ---------------------------------------------------------------------------------


def _shadowed(read: _Read) -> Iterator[CodeFinding]:
    """Allows that another statement of the same document makes needless, or takes back."""
    for index, statement in enumerate(read.mended):
        if statement.get("Effect") != "Allow" or "NotAction" in statement:
            continue
        for other, each in enumerate(read.mended):
            if other == index or "Condition" in each or "NotAction" in each or "NotResource" in each:
                continue
            covers = _all_covered(statements.actions(statement), statements.actions(each))
            everywhere = "*" in statements.strings(each.get("Resource"))
            if not covers or not everywhere or not _more_general(statement, each, index, other):
                continue
            name = each.get("Sid") or f"statement {other + 1}"
            says = "allows everything that this one does" if each.get("Effect") == "Allow" else "denies all of it"
            hint = "take it out" if each.get("Effect") == "Allow" else "take one of them out"
            yield _finding(
                read.file,
                read.document,
                Flaw("shadowed-allow", "", f"it has no effect: `{name}` {says}", hint),
                read.paths[index],
            )
            break


def _more_general(statement: Mapping[str, Any], other: Mapping[str, Any], index: int, place: int) -> bool:
    """Of two Allows that say the same, the first stays."""
    if other.get("Effect") == "Deny":
        return True
    same = statements.actions(statement) == statements.actions(other) and "Condition" not in statement
    same = same and statement.get("Resource") == other.get("Resource")
    return not same or place < index


def _all_covered(names: Sequence[str], by: Sequence[str]) -> bool:
    matches = [like(pieces_of(each)) for each in by]
    return bool(names) and all(any(match(name) for match in matches) for name in names)


# -- files together --------------------------------------------------------------------------------------------------


def _together(read: Sequence[_Read], declared: Sequence[tuple[File, Document]]) -> Iterator[CodeFinding]:
    denies = [
        (one, path, statement)
        for one in read
        for path, statement in zip(one.paths, one.mended, strict=True)
        if _denies_launches(statement)
    ]
    yield from _no_launch(denies)
    for file, document in declared:
        yield from _denied_default(file, document, denies)
    yield from _disagreeing(declared)


_Deny = tuple[_Read, str, dict[str, Any]]


def _denies_launches(statement: Mapping[str, Any]) -> bool:
    """A Deny of launches by what they say of metadata options, whoever asks; and one that some launch passes."""
    if statement.get("Effect") != "Deny" or "NotAction" in statement or not statements.about_imds(statement):
        return False
    if not any(like(pieces_of(name))(RUN.lower()) for name in statements.actions(statement)):
        return False
    alone = trial([statements.reduced(statement)])
    return alone is not None and not all(alone.denies(sample) for sample in _grid([statement]))


def _grid(tried: Sequence[Mapping[str, Any]], more: Mapping[str, Sequence[str]] | None = None) -> list[Sample]:
    said = [str(value) for each in tried for test in statements.about_imds(each) for value in test.values]
    return list(launches(where(tried[0]) if tried else where({}), said, more=more))


def _no_launch(denies: Sequence[_Deny]) -> Iterator[CodeFinding]:
    """Each alone lets something pass; all together, nothing."""
    if len(denies) < 2:
        return
    together = [statements.reduced(statement) for _, _, statement in denies]
    grid = _grid(together)

    def closed(chosen: Sequence[Mapping[str, Any]]) -> bool:
        tried = trial(chosen)
        return tried is not None and all(tried.denies(sample) for sample in grid)

    if not closed(together):
        return
    needed = list(range(len(together)))
    for index in list(needed):
        fewer = [each for each in needed if each != index]
        if closed([together[each] for each in fewer]):
            needed = fewer
    read, path, _ = denies[needed[-1]]
    others = ", ".join(_name(denies[each]) for each in needed[:-1])
    message = f"together with {others} it denies every launch, whatever it says. Proven on {len(grid)} launches"
    yield _finding(read.file, read.document, Flaw("contradiction", "", message, "decide which of them is meant"), path)


def _name(deny: _Deny) -> str:
    read, path, statement = deny
    place = read.document.place(path)
    sid = statement.get("Sid")
    return f"`{sid}`" if isinstance(sid, str) and sid else f"the statement at {read.file.name}:{place.line}"


def _denied_default(file: File, document: Document, denies: Sequence[_Deny]) -> Iterator[CodeFinding]:
    """A default that a launch may not ask for."""
    asked = wanted(document.value)
    names = {"HttpTokens": "http_tokens", "HttpPutResponseHopLimit": "http_put_response_hop_limit"}
    names |= {"HttpEndpoint": "http_endpoint", "InstanceMetadataTags": "instance_metadata_tags"}
    for parameter, value in asked.items():
        for deny in denies:
            read, _, statement = deny
            grid = _grid([statement], {parameter: [value]})
            tried = trial([statements.reduced(statement)])
            saying = [sample for sample in grid if sample.asked[parameter] == value]
            if tried is None or not saying or not all(tried.denies(sample) for sample in saying):
                continue
            path = f"{ROOT_ELEMENT}.{METADATA_DEFAULTS}.{names[parameter]}"
            message = (
                f"it makes {parameter}={value} the default, and {_name(deny)} in {read.file.name} denies every launch "
                "that asks for it"
            )
            yield _finding(file, document, Flaw("contradicts-declarative", path, message, "make both say the same"))
            break


def _disagreeing(declared: Sequence[tuple[File, Document]]) -> Iterator[CodeFinding]:
    """Two EC2 policies with different values."""
    first: dict[str, tuple[File, str]] = {}
    for file, document in declared:
        for name, value in settings(document.value).items():
            if name not in first:
                first[name] = (file, value)
            elif first[name][1] != value:
                path = f"{ROOT_ELEMENT}.{METADATA_DEFAULTS}.{name}"
                message = (
                    f"`{value}` here and `{first[name][1]}` in {first[name][0].name}: at one place the one attached "
                    "first wins, on different levels the lower one"
                )
                yield _finding(
                    file, document, Flaw("declarative-contradiction", path, message, "make both say the same")
                )
