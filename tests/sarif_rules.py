"""What a SARIF log must be: the standard's rules for the objects that are used here, and GitHub's for code scanning.

Sources: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0" (required properties, values, regions
3.30, artifact locations 3.4, kinds and levels 3.27.9-10, fixes 3.55-57); GitHub Docs, "SARIF support for code scanning"
(what is required beyond that, lengths and numbers); RFC 3986 (URI references).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_OBJECTS: Mapping[str, tuple[set[str], set[str]]] = {
    # name: required, optional
    "log": ({"$schema", "version", "runs"}, set()),
    "run": ({"tool", "results"}, {"automationDetails", "invocations", "columnKind"}),
    "driver": ({"name", "rules"}, {"version", "semanticVersion"}),
    "rule": (
        {"id", "shortDescription", "fullDescription", "help"},
        {"name", "defaultConfiguration", "properties"},
    ),
    "result": (
        {"message", "locations", "partialFingerprints", "ruleId", "ruleIndex", "level"},
        {"kind", "fixes", "suppressions"},
    ),
    "location": ({"physicalLocation"}, {"logicalLocations"}),
    "physicalLocation": ({"artifactLocation", "region"}, set()),
    "region": ({"startLine", "startColumn", "endLine", "endColumn"}, set()),
    "invocation": ({"executionSuccessful"}, {"toolExecutionNotifications", "endTimeUtc"}),
    "notification": ({"message"}, {"level", "descriptor"}),
    "fix": ({"artifactChanges"}, {"description"}),
    "artifactChange": ({"artifactLocation", "replacements"}, set()),
    "replacement": ({"deletedRegion"}, {"insertedContent"}),
}
_LEVELS = {"none", "note", "warning", "error"}
_KINDS = {"notApplicable", "pass", "fail", "review", "open", "informational"}
_URI = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_SEMVER = re.compile(r"\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?")


def breaches(log: Any) -> list[str]:
    """Every rule that a log breaks, with the place."""
    return list(_log(log))


def _shape(kind: str, value: Any, at: str) -> Iterator[str]:
    required, optional = _OBJECTS[kind]
    if not isinstance(value, dict):
        yield f"{at}: no object"
        return
    yield from (f"{at}.{name}: missing" for name in sorted(required - value.keys()))
    yield from (f"{at}.{name}: not a property used here" for name in sorted(value.keys() - required - optional))
    yield from (f"{at}.{name}: null" for name, each in value.items() if each is None)


def _message(value: Any, at: str, longest: int = 1 << 20) -> Iterator[str]:
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.strip():
        yield f"{at}.text: empty"
    elif len(text) > longest:
        yield f"{at}.text: longer than {longest}"


def _log(log: Any) -> Iterator[str]:
    yield from _shape("log", log, "log")
    if log["version"] != "2.1.0" or not log["$schema"].startswith("https://"):
        yield "log: not 2.1.0"
    if not 1 <= len(log["runs"]) <= 20:
        yield "log.runs: 1 to 20"
    for number, run in enumerate(log["runs"]):
        yield from _run(run, f"runs[{number}]")


def _run(run: Any, at: str) -> Iterator[str]:
    yield from _shape("run", run, at)
    driver = run["tool"]["driver"]
    yield from _shape("driver", driver, f"{at}.tool.driver")
    if not driver["name"] or not _SEMVER.fullmatch(driver.get("semanticVersion", "0.0.0")):
        yield f"{at}.tool.driver: name or version"
    rules = driver["rules"]
    if len({each["id"] for each in rules}) != len(rules):
        yield f"{at}: a rule's id stands twice"
    for number, rule in enumerate(rules):
        yield from _rule(rule, f"{at}.rules[{number}]")
    if run.get("columnKind", "utf16CodeUnits") not in ("utf16CodeUnits", "unicodeCodePoints"):
        yield f"{at}.columnKind"
    category = run.get("automationDetails", {}).get("id", "x/").rpartition("/")[0]
    if not category:
        yield f"{at}.automationDetails.id: no category"
    for number, each in enumerate(run.get("invocations", ())):
        yield from _invocation(each, f"{at}.invocations[{number}]")
    if len(run["results"]) > 25_000:
        yield f"{at}.results: more than 25,000"
    prints = set()
    for number, result in enumerate(run["results"]):
        here = f"{at}.results[{number}]"
        yield from _result(result, rules, here)
        identity = tuple(sorted(result["partialFingerprints"].items()))
        if identity in prints:
            yield f"{here}.partialFingerprints: another result has the same"
        prints.add(identity)


def _rule(rule: Any, at: str) -> Iterator[str]:
    yield from _shape("rule", rule, at)
    yield from _message(rule.get("shortDescription"), f"{at}.shortDescription", 1024)
    yield from _message(rule.get("fullDescription"), f"{at}.fullDescription", 1024)
    yield from _message(rule.get("help"), f"{at}.help")
    if not rule["id"] or len(rule.get("name", "")) > 255:
        yield f"{at}: id or name"
    if rule.get("defaultConfiguration", {}).get("level", "warning") not in _LEVELS:
        yield f"{at}.defaultConfiguration.level"
    properties = rule.get("properties", {})
    tags = properties.get("tags", [])
    if len(tags) > 20 or len(set(tags)) != len(tags):
        yield f"{at}.properties.tags: more than 20, or one twice"
    score = properties.get("security-severity", "5.0")
    if not isinstance(score, str) or not 0.0 <= float(score) <= 10.0:
        yield f"{at}.properties.security-severity: a text from 0.0 to 10.0"


def _invocation(value: Any, at: str) -> Iterator[str]:
    yield from _shape("invocation", value, at)
    if not isinstance(value["executionSuccessful"], bool):
        yield f"{at}.executionSuccessful"
    for number, each in enumerate(value.get("toolExecutionNotifications", ())):
        yield from _shape("notification", each, f"{at}[{number}]")
        yield from _message(each["message"], f"{at}[{number}].message")
        if each.get("level", "warning") not in _LEVELS:
            yield f"{at}[{number}].level"


def _result(result: Any, rules: Any, at: str) -> Iterator[str]:
    yield from _shape("result", result, at)
    yield from _message(result["message"], f"{at}.message")
    if rules[result["ruleIndex"]]["id"] != result["ruleId"]:
        yield f"{at}.ruleIndex: another rule than ruleId"
    kind = result.get("kind", "fail")
    if kind not in _KINDS or result["level"] not in _LEVELS or (kind != "fail" and result["level"] != "none"):
        yield f"{at}: kind {kind} with level {result['level']}"
    if not 1 <= len(result["locations"]) <= 10:
        yield f"{at}.locations: 1 to 10"
    for location in result["locations"]:
        yield from _shape("location", location, f"{at}.location")
        physical = location["physicalLocation"]
        yield from _shape("physicalLocation", physical, f"{at}.physicalLocation")
        yield from _uri(physical["artifactLocation"], f"{at}.artifactLocation")
        yield from _region(physical["region"], f"{at}.region")
    prints = result["partialFingerprints"]
    if not prints.get("primaryLocationLineHash") or not all(isinstance(each, str) and each for each in prints.values()):
        yield f"{at}.partialFingerprints"
    for fix in result.get("fixes", ()):
        yield from _fix(fix, f"{at}.fix")


def _uri(value: Any, at: str) -> Iterator[str]:
    uri = value.get("uri", "")
    if not _URI.fullmatch(uri):
        yield f"{at}: `{uri}` is no URI reference"
    elif not uri.startswith("file:///") and (":" in uri.partition("/")[0] or uri.startswith(("/", "./", "../"))):
        yield f"{at}: `{uri}` is neither a file's URI nor relative to the root"


def _region(region: Any, at: str) -> Iterator[str]:
    yield from _shape("region", region, at)
    numbers = [region.get(name) for name in ("startLine", "startColumn", "endLine", "endColumn")]
    if not all(isinstance(each, int) and not isinstance(each, bool) and each >= 1 for each in numbers):
        yield f"{at}: counts from 1: {numbers}"
    elif (numbers[0], numbers[1]) > (numbers[2], numbers[3]):
        yield f"{at}: ends before it begins: {numbers}"


def _fix(fix: Any, at: str) -> Iterator[str]:
    yield from _shape("fix", fix, at)
    if not fix["artifactChanges"]:
        yield f"{at}.artifactChanges: none"
    for change in fix["artifactChanges"]:
        yield from _shape("artifactChange", change, f"{at}.artifactChange")
        yield from _uri(change["artifactLocation"], f"{at}.artifactLocation")
        if not change["replacements"]:
            yield f"{at}.replacements: none"
        for each in change["replacements"]:
            yield from _shape("replacement", each, f"{at}.replacement")
            yield from _region(each["deletedRegion"], f"{at}.deletedRegion")
            if not isinstance(each.get("insertedContent", {}).get("text", ""), str):
                yield f"{at}.insertedContent"
