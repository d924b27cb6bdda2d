"""What is to be written instead: the corrected line or block, and the edit of the file that makes it so.

An edit is offered only where the text at the place is plainly what the finding is about; otherwise the corrected text
stands alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imdsctl.codify.findings import Fix
from imdsctl.codify.hcl import expression
from imdsctl.codify.iac_model import PASCAL, SNAKE, Language, Resource, Spelling
from imdsctl.codify.iac_tree import Node


@dataclass(frozen=True, slots=True)
class Right:
    """The right text, and how to get it into the file: the name whose value is replaced, or the place below which
    lines are added."""

    text: str
    place: Node
    name: str = ""
    value: str = ""
    added: bool = False


def right(resource: Resource, option: str, value: Any) -> Right | None:
    """The text that gives an option this value; None where the resource has no place for it."""
    spelling = resource.spelling
    if spelling is None:
        return None if resource.outside else _of_template(resource, option, value)
    if option not in spelling.names:
        return None
    wanted = spelling.required if option == "http_tokens" and value == "required" else value
    return _right(resource, spelling, spelling.names[option], option, wanted)


def _of_template(resource: Resource, option: str, value: Any) -> Right:
    """What the launch template that is used has to say."""
    hcl = resource.language is Language.HCL
    spelling = Spelling("metadata_options", SNAKE) if hcl else Spelling("MetadataOptions", PASCAL)
    return replace(_right(resource, spelling, spelling.names[option], option, value), name="", added=False)


def _right(resource: Resource, spelling: Spelling, name: str, option: str, value: Any) -> Right:
    language = Language.JSON if spelling.json else resource.language
    written = expression(value) if language is Language.HCL else json.dumps(value)
    if language is Language.YAML and isinstance(value, str) and not value.isdigit():
        written = value
    line = _line(language, name, written)
    node = resource.said.get(option)
    if node is not None and resource.block is not None and not resource.block.unknown:
        return Right(line, node, name, written)
    if resource.block is not None and not resource.block.unknown:
        return Right(line, resource.block, added=True)
    text = _block(language, spelling.block, line) if spelling.block else line
    return Right(text, resource.inside or resource.place, added=resource.block is None and resource.inside is not None)


def line_of(language: Language, name: str, value: str) -> str:
    """One setting in a language."""
    return _line(language, name, expression(value) if language is Language.HCL else json.dumps(value))


def _line(language: Language, name: str, written: str) -> str:
    if language is Language.JSON:
        return f'"{name}": {written}'
    return f"{name}: {written}" if language is Language.YAML else f"{name} = {written}"


def _block(language: Language, name: str, line: str) -> str:
    if language is Language.JSON:
        return f'"{name}": {{{line}}}'
    if language is Language.YAML:
        return f"{name}:\n  {line}"
    return f"{name} {{\n  {line}\n}}"


# -- edits -------------------------------------------------------------------------------------------------------------

_LITERAL = re.compile(r'"[^"\\$%]*"|\'[^\'\\]*\'|[A-Za-z0-9_]+(?=[\s,}\]#]|$)')
_LOOKED_UP = re.compile(r"[A-Za-z_][\w.-]*(?=\s*(#|//|$))")


def edit(lines: list[str], what: Right, language: Language) -> Fix | None:
    """The edit of a text that puts it right; None where that is not plain."""
    if not 1 <= what.place.line <= len(lines):
        return None
    return _added(lines, what, language) if what.added else _replaced(lines, what)


def _replaced(lines: list[str], what: Right) -> Fix | None:
    line = lines[what.place.line - 1]
    begin = what.place.column - 1
    found = re.compile(rf'(?P<q>["\']?){re.escape(what.name)}(?P=q)\s*[=:]\s*').match(line, begin)
    if found is None:
        return None
    value = _LITERAL.match(line, found.end()) or _LOOKED_UP.match(line, found.end())
    if value is None or not what.value:
        return None
    rest = line[value.end() :].strip()
    if rest and not rest.startswith(("#", "//", ",", "}", "]")):
        return None
    number = what.place.line
    return Fix(number, found.end() + 1, number, value.end() + 1, what.value)


_OPENS: Mapping[Language, str] = {Language.HCL: "{", Language.JSON: "{", Language.YAML: ":"}


def _added(lines: list[str], what: Right, language: Language) -> Fix | None:
    """New lines below the one that opens what is around them, indented like what follows."""
    number = what.place.line
    line = lines[number - 1].rstrip()
    if not line.endswith(_OPENS[language]) or number >= len(lines):
        return None
    following = lines[number]
    indent = following[: len(following) - len(following.lstrip())]
    own = len(line) - len(line.lstrip())
    if not following.strip() or len(indent) <= own or "\t" in indent or following.lstrip().startswith(("}", "- ")):
        return None
    comma = "," if language is Language.JSON else ""
    text = "".join(f"{indent}{each}\n" for each in f"{what.text}{comma}".splitlines())
    return Fix(number + 1, 1, number + 1, 1, text)
