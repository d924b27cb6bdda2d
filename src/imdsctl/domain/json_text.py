"""JSON of whatever text there is: the name of a file may hold a lone surrogate, which UTF-8 cannot say and JSON can."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import orjson


def json_bytes(value: Any, option: int = 0) -> bytes:
    """`value` as JSON in UTF-8; `option` is orjson's. Raises TypeError for what has no JSON form."""
    try:
        return orjson.dumps(value, option=option)
    except TypeError:  # a lone surrogate, or an integer past 64 bits
        indented = bool(option & orjson.OPT_INDENT_2)
        text = json.dumps(
            value,
            default=datetime.isoformat,
            indent=2 if indented else None,
            separators=None if indented else (",", ":"),
            sort_keys=bool(option & orjson.OPT_SORT_KEYS),
        )
        return (text + "\n" * bool(option & orjson.OPT_APPEND_NEWLINE)).encode()
