"""The intent file as JSON schema, for editors: made from the table that the parser reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imdsctl.domain.intent import ACCOUNT_FORM, EXCLUDE_KEYS, INTENT_VERSION, REGION_FORM, RESOURCE_FORM
from imdsctl.domain.intent_match import MATCH_KEYS
from imdsctl.domain.intent_reader import DURATION, EXEMPTION_KEYS, WAVE_KEYS
from imdsctl.domain.intent_settings import SETTINGS, TOP
from imdsctl.domain.waves import OnFailure, OnUnknown
from imdsctl.domain.windows import WINDOW_EXAMPLE

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def intent_schema() -> dict[str, Any]:
    """The schema. What it cannot say (that a time zone exists, that keys exclude each other) the parser says."""
    settings = {name: _settings(table) for name, table in SETTINGS.items() if name != TOP}
    enforce = {key: _described(setting.kind.schema(), setting.about) for key, setting in SETTINGS[TOP].items()}
    forms = dict(zip(EXCLUDE_KEYS, (ACCOUNT_FORM, REGION_FORM, RESOURCE_FORM), strict=True))
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "imdsctl.toml: what an AWS organization's metadata service is to be",
        **_object(
            {
                "version": {"const": INTENT_VERSION},
                **enforce,
                **settings,
                "exclude": _object({key: _list(form.pattern) for key, form in forms.items()}),
                "scope": _array(_object({"match": _match(), **enforce, **settings}), "wanted differently for a part"),
                "wave": _array(_wave(), "parts of the fleet, in the order in which they change"),
                "exception": _array(_exception(), "the register of exceptions"),
            },
            required=["version"],
        ),
    }


def _settings(table: Mapping[str, Any]) -> dict[str, Any]:
    return _object({key: _described(setting.kind.schema(), setting.about) for key, setting in table.items()})


def _wave() -> dict[str, Any]:
    duration = {"type": "string", "minLength": 1, "pattern": f"^{DURATION.pattern}$"}
    words = {
        "name": _described(_text(), "unique among the waves"),
        "match": _match(),
        "no-v1-calls": _described(duration, "before: no call without a token in a look-back of this length"),
        "unknown-evidence": _described({"enum": list(OnUnknown)}, "instances without datapoints: stop, or allow"),
        "approval": _described({"type": "boolean"}, "before: somebody has to say yes"),
        "soak": _described(duration, "after: how long what was changed is watched"),
        "rejected-calls-max": _described(
            {"type": "integer", "minimum": 0}, "after: one more in the soak fails the wave"
        ),
        "windows": _described(
            {"type": "array", "items": {"type": "string", "examples": [WINDOW_EXAMPLE]}},
            "before: one of these maintenance windows has to be open",
        ),
        "on-failure": _described({"enum": list(OnFailure)}, "what a gate that fails afterwards does"),
    }
    assert set(words) == set(WAVE_KEYS)
    return _object(words, required=["name"])


def _exception() -> dict[str, Any]:
    # TOML's own dates come to an editor as text.
    expires = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
    return _object(
        {
            "match": {**_match(), "minProperties": 1},
            "owner": _described(_text(), "who answers for it"),
            "reason": _described(_text(), "why it cannot change yet"),
            "expires": _described(expires, "the last day, in UTC, on which it holds"),
        },
        required=list(EXEMPTION_KEYS),
    )


def _match() -> dict[str, Any]:
    glob = _text()
    value = {"anyOf": [glob, {"type": "array", "items": glob, "minItems": 1}]}
    return _described(
        _object(dict.fromkeys(MATCH_KEYS, value)), "all keys have to hold, of each any glob; none: everything"
    )


def _text() -> dict[str, Any]:
    return {"type": "string", "minLength": 1}


def _list(pattern: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", "pattern": f"^{pattern}$"}}


def _array(items: dict[str, Any], about: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": about}


def _object(properties: Mapping[str, Any], required: Iterable[str] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return found | ({"required": list(required)} if required else {})


def _described(schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {**schema, "description": about}
