"""What is wrong with an EC2 policy of Organizations (a declarative policy), each with its place and the right value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from imdsctl.codify.vocabulary import Flaw, closest
from imdsctl.policy.declarative import (
    ASSIGN,
    CHILD_CONTROL,
    EXCEPTION_MESSAGE,
    METADATA_DEFAULTS,
    NO_PREFERENCE,
    OTHER_ATTRIBUTES,
    ROOT_ELEMENT,
    parse_declarative_policy,
)
from imdsctl.policy.problems import MalformedPolicy, Problem

_VALUES: Mapping[str, tuple[str, ...]] = {
    "http_tokens": ("required", "optional", NO_PREFERENCE),
    "http_put_response_hop_limit": (),
    "http_endpoint": ("enabled", "disabled", NO_PREFERENCE),
    "instance_metadata_tags": ("enabled", "disabled", NO_PREFERENCE),
    "http_tokens_enforced": ("enabled", "disabled", NO_PREFERENCE),
}
_PARAMETERS = {
    "http_tokens": "HttpTokens",
    "http_put_response_hop_limit": "HttpPutResponseHopLimit",
    "http_endpoint": "HttpEndpoint",
    "instance_metadata_tags": "InstanceMetadataTags",
}
_NAMES = (ROOT_ELEMENT, METADATA_DEFAULTS, EXCEPTION_MESSAGE, *_VALUES, *OTHER_ATTRIBUTES)
_OPERATORS = (ASSIGN, "@@append", "@@remove", CHILD_CONTROL)


def is_declarative(value: Any) -> bool:
    """Does it look like an EC2 policy, slips of the pen included?"""
    if not isinstance(value, Mapping) or "Statement" in value:
        return False
    names = [name for name in value if isinstance(name, str)]
    return any(name == METADATA_DEFAULTS or closest(name, (ROOT_ELEMENT,), 0.7) for name in names)


def declarative_flaws(value: Mapping[str, Any]) -> Iterator[Flaw]:
    """Everything wrong with one EC2 policy."""
    try:
        parse_declarative_policy(value, name="checked")
    except MalformedPolicy as error:
        misspelt = {each.path.rpartition(".")[0] for each in error.problems if each.code == "unknown-operator"}
        for problem in error.problems:
            if problem.code != "missing-element" or problem.path not in misspelt:
                yield _flaw(problem, value)
    assigned = settings(value)
    if assigned.get("http_tokens_enforced") == "enabled" and assigned.get("http_tokens") == "optional":
        yield Flaw(
            "declarative-contradiction",
            f"{ROOT_ELEMENT}.{METADATA_DEFAULTS}.http_tokens",
            "the default is `optional` and the enforcement refuses it: every launch that says nothing fails",
            "write `required`, or leave the enforcement out until it is",
            corrected={"http_tokens": {ASSIGN: "required"}},
        )


def settings(value: Any) -> dict[str, str]:
    """The metadata defaults that a policy assigns, as far as they are well-formed."""
    inner = value.get(ROOT_ELEMENT) if isinstance(value, Mapping) else None
    inner = inner.get(METADATA_DEFAULTS) if isinstance(inner, Mapping) else None
    found = {}
    for name, each in inner.items() if isinstance(inner, Mapping) else ():
        assigned = each.get(ASSIGN) if isinstance(each, Mapping) else None
        if isinstance(assigned, str | int) and not isinstance(assigned, bool):
            found[name] = str(assigned)
    return found


def wanted(value: Any) -> dict[str, str]:
    """The same as parameters of a launch; what takes a preference away is left out."""
    return {
        _PARAMETERS[name]: each
        for name, each in settings(value).items()
        if name in _PARAMETERS and each not in (NO_PREFERENCE, "-1")
    }


def _flaw(problem: Problem, value: Mapping[str, Any]) -> Flaw:
    last = problem.path.rpartition(".")[2]
    where = problem.path.split(".")
    if problem.code == "unknown-element":
        meant = closest(last, _NAMES, 0.7) or closest(last.replace("-", "_"), _NAMES, 0.7)
        if meant is None:
            snake = "".join(f"_{each.lower()}" if each.isupper() else each for each in last).lstrip("_")
            meant = closest(snake, _NAMES, 0.8)
        if last == METADATA_DEFAULTS and len(where) == 1:
            remedy, corrected = f"put it into `{ROOT_ELEMENT}`", {ROOT_ELEMENT: dict(value)}
        elif last in _VALUES:
            remedy = f"put it into `{METADATA_DEFAULTS}`"
            corrected = {ROOT_ELEMENT: {METADATA_DEFAULTS: {last: _at(value, where)}}}
        elif last.startswith("@"):
            remedy, corrected = f"write `{closest(last, _OPERATORS, 0.6) or ASSIGN}`", None
        else:
            remedy, corrected = (f"write `{meant}`" if meant else "take it out"), None
        return Flaw("declarative-element", problem.path, problem.message, remedy, corrected=corrected)
    if problem.code == "unknown-operator":
        meant = "@@none` or `@@all" if last == CHILD_CONTROL else closest(last, _OPERATORS, 0.6)
        return Flaw("declarative-element", problem.path, problem.message, f"write `{meant}`" if meant else "")
    if problem.code == "invalid-value" and len(where) >= 3:
        setting = where[2]
        written = str(_at(value, where)).strip().lower().replace("-", "_").replace(" ", "_")
        written = {"true": "enabled", "false": "disabled", "v2": "required", "v1": "optional"}.get(written, written)
        found = get_close_matches(written, _VALUES.get(setting, ()), 1, 0.6)
        corrected = {setting: {ASSIGN: found[0]}} if found else None
        remedy = f"write `{found[0]}`" if found else "see the values that it takes"
        return Flaw("declarative-value", problem.path, problem.message, remedy, corrected=corrected)
    if problem.code == "wrong-type" and len(where) == 3 and where[1] == METADATA_DEFAULTS:
        bare = _at(value, where)
        corrected = {where[2]: {ASSIGN: str(bare)}} if isinstance(bare, str | int) else None
        return Flaw("declarative-value", problem.path, problem.message, "assign it", corrected=corrected)
    rule = (
        "declarative-value"
        if problem.code in ("wrong-type", "wrong-operator", "invalid-value")
        else "declarative-element"
    )
    return Flaw(rule, problem.path, problem.message, "see `imdsctl policy generate declarative` for the form")


def _at(value: Any, where: list[str]) -> Any:
    for name in where:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
