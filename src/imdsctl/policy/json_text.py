"""JSON as a policy service reads it: an object, no name twice, no numbers that JSON does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from imdsctl.policy.problems import MalformedPolicy, Problem


def read_document(document: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """The object in a JSON text; a mapping is taken as it is.

    Raises MalformedPolicy for text that is not JSON, is not an object, or has a name twice in one object: readers would
    disagree about which of the two counts.
    """
    if not isinstance(document, str):
        return document
    try:
        value = json.loads(document, object_pairs_hook=_object, parse_constant=_constant)
    except _Twice as twice:
        raise _malformed("duplicate-element", f"`{twice.args[0]}` stands twice in one object") from None
    except (ValueError, RecursionError) as error:
        raise _malformed("not-json", f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _malformed("wrong-type", "a policy is a JSON object")
    return value


class _Twice(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is not JSON")


def _malformed(code: str, message: str) -> MalformedPolicy:
    return MalformedPolicy([Problem(code, message)])
