"""Policies together: statements of one document, and documents that bind the same accounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.declarative_check import settings, wanted
from imdsctl.codify.findings import CodeFinding
from imdsctl.codify.json_places import Document
from imdsctl.codify.policy_file import File, Read, finding
from imdsctl.codify.samples import Sample, launches, trial, where
from imdsctl.codify.vocabulary import RUN, Flaw
from imdsctl.policy.declarative import METADATA_DEFAULTS, ROOT_ELEMENT
from imdsctl.policy.patterns import like, pieces_of


def shadowed(read: Read) -> Iterator[CodeFinding]:
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
            yield finding(
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


def together(read: Sequence[Read], declared: Sequence[tuple[File, Document]]) -> Iterator[CodeFinding]:
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


_Deny = tuple[Read, str, dict[str, Any]]


def _denies_launches(statement: Mapping[str, Any]) -> bool:
    """A Deny of launches by what they say of metadata options, and one that some launch passes.

    One for some callers, Regions or tags only is left out: another may be for the rest. One with exemptions is not.
    """
    if not all(test.matches_absent for test in statements.others(statement)):
        return False
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
    reduced = [statements.reduced(statement) for _, _, statement in denies]
    grid = _grid(reduced)

    def closed(chosen: Sequence[Mapping[str, Any]]) -> bool:
        tried = trial(chosen)
        return tried is not None and all(tried.denies(sample) for sample in grid)

    if not closed(reduced):
        return
    needed = list(range(len(reduced)))
    for index in list(needed):
        fewer = [each for each in needed if each != index]
        if closed([reduced[each] for each in fewer]):
            needed = fewer
    read, path, _ = denies[needed[-1]]
    others = ", ".join(_name(denies[each]) for each in needed[:-1])
    message = f"together with {others} it denies every launch, whatever it says. Proven on {len(grid)} launches"
    yield finding(read.file, read.document, Flaw("contradiction", "", message, "decide which of them is meant"), path)


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
            yield finding(file, document, Flaw("contradicts-declarative", path, message, "make both say the same"))
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
                yield finding(file, document, Flaw("declarative-overlap", path, message, "make both say the same"))
