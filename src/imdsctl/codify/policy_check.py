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
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.declarative_check import declarative_flaws, is_declarative
from imdsctl.codify.findings import CodeFinding
from imdsctl.codify.json_places import Document, read_json
from imdsctl.codify.policy_changes import enforcement
from imdsctl.codify.policy_file import File, Kind, Read, end_of_line, finding
from imdsctl.codify.policy_rules import RULE
from imdsctl.codify.policy_sets import shadowed, together
from imdsctl.codify.statement_effects import effect_words, effects
from imdsctl.codify.statement_words import misspelt
from imdsctl.codify.vocabulary import Flaw, Vocabulary, closest
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.policy.document import VERSION, PolicyKind, parse_policy
from imdsctl.policy.limits import MANAGED_POLICY_CHARACTERS_MAX, check_declarative_size, check_iam_size, check_scp_size
from imdsctl.policy.operators import OPERATORS
from imdsctl.policy.problems import MalformedPolicy, Problem

CHARACTERS_MAX = 200_000
"""Of a file; the longest policy that AWS takes has 32,768, white space apart."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, file by file and in the order of the text; `unread` are the files that could not be judged."""

    findings: tuple[CodeFinding, ...]
    files: int
    unread: tuple[Diagnostic, ...] = ()


def check_policies(files: Sequence[File], words: Vocabulary, enforcer: str | None = None) -> Checked:
    """Check files, each by itself and then together. `enforcer` is the ARN of the role that has to close IMDSv1."""
    findings: list[CodeFinding] = []
    unread: list[Diagnostic] = []
    read: list[Read] = []
    declared: list[tuple[File, Document]] = []
    for file in files:
        found, problem = _one(file, words, read, declared)
        findings += _once(found)
        if problem is not None:
            unread.append(problem)
    findings += together(read, declared)
    findings += enforcement(read, declared, enforcer)
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
    file: File, words: Vocabulary, read: list[Read], declared: list[tuple[File, Document]]
) -> tuple[list[CodeFinding], Diagnostic | None]:
    if len(file.text) > CHARACTERS_MAX:
        why = f"more than {CHARACTERS_MAX:,} characters, which no policy has"
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
        findings += [finding(file, document, flaw) for flaw in declarative_flaws(value)]
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
    end = end_of_line(file.text.split("\n"), place.line)
    return CodeFinding(rule, rule.severity, file.name, place.line, place.column, message, remedy, end_column=end)


def _sizes(file: File, document: Document, problems: Sequence[Problem]) -> list[CodeFinding]:
    return [finding(file, document, Flaw("too-long", "", each.message, "shorten or split it")) for each in problems]


def _statements(
    file: File, document: Document, kind: Kind | None, words: Vocabulary, read: list[Read]
) -> list[CodeFinding]:
    body = copy.deepcopy(document.value)
    findings: list[CodeFinding] = []
    for name in [name for name in body if name not in ("Version", "Id", "Statement")]:
        meant = closest(name, ("Version", "Id", "Statement"), 0.7)
        message = f"`{name}` is not an element of a policy"
        findings.append(
            finding(file, document, Flaw("unknown-element", name, message, f"write `{meant}`" if meant else ""))
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
            finding(file, document, Flaw("old-version", "Version", message, f'write `"Version": "{VERSION}"`'))
        )
    one = Read(file, document, kind, tuple(paths), tuple(mended))
    findings += shadowed(one)
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
        yield finding(file, document, flaw, path, mended if sure else None)
    for flaw in wrong:
        yield finding(file, document, flaw if sure else replace(flaw, corrected=None), path)


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
            yield finding(file, document, Flaw("malformed-policy", path, problem.message, remedy))


def _is_about_imds(path: str) -> bool:
    """Said already, with the values that there are (impossible-value)."""
    return any(name in path for name in ("ec2:", "autoscaling:Metadata", "sagemaker:Minimum", "imagebuilder:Ec2"))
