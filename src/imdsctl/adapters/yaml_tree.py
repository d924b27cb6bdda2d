"""YAML, CloudFormation's short forms included, as a tree with places. Nothing is constructed from tags."""

from __future__ import annotations

import re
from typing import Any

from imdsctl.codify.iac_tree import Node, Unknown
from imdsctl.domain.diagnostics import Diagnostic

DEPTH_MAX = 200
VALUES_MAX = 3_000_000
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "null": None, "~": None}


def read_yaml(name: str, text: str) -> tuple[Node, ...] | Diagnostic:
    """Every document of the text; a diagnostic `code-unreadable` with the place of what is wrong."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=loader):
            reader.take(type(event).__name__, event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        return Diagnostic("code-unreadable", f"not YAML: {error.problem or 'malformed'}", place)
    except yaml.YAMLError as error:
        return Diagnostic("code-unreadable", f"not YAML: {str(error).splitlines()[0]}", name)
    except _TooMuch as error:
        return Diagnostic("code-unreadable", str(error), f"{name}:{error.line}")
    return tuple(reader.documents)


class _TooMuch(Exception):
    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


class _Open:
    """A list or an object that is being read."""

    def __init__(self, event: Any, is_list: bool) -> None:
        self.is_list = is_list
        self.tag = event.tag
        self.anchor = event.anchor
        self.line, self.column = event.start_mark.line + 1, event.start_mark.column + 1
        self.values: list[Node] = []

    def node(self) -> Node:
        if self.is_list:
            return _short(self.tag, Node(tuple(self.values), self.line, self.column))
        out: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in zip(self.values[::2], self.values[1::2], strict=False):
            if isinstance(key.value, (dict, Unknown)):
                # `{{ .Values.x }}` without quotes is an object whose name is an object.
                why = "an expression in `{{...}}`, which is filled in later"
                return Node(Unknown(why=why), self.line, self.column)
            if key.value == "<<":
                for each in value.value if isinstance(value.value, tuple) else (value,):
                    if isinstance(each.value, dict):
                        merged = {**each.value, **merged}
                continue
            # A value's place is that of its name: that is where a reader looks.
            out[str(key.value)] = Node(value.value, key.line, key.column)
        return _short(self.tag, Node({**merged, **out}, self.line, self.column))


class _Reader:
    def __init__(self) -> None:
        self.documents: list[Node] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, kind: str, event: Any) -> None:
        """One event of the parser, in order: no recursion, however deep the text nests."""
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            if len(self._open) >= DEPTH_MAX:
                raise _TooMuch(f"nested more than {DEPTH_MAX} deep", event.start_mark.line + 1)
            self._open.append(_Open(event, kind == "SequenceStartEvent"))
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            ended = self._open.pop()
            self._add(ended.node(), ended.anchor)
        elif kind == "ScalarEvent":
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            self._add(_short(event.tag, Node(_scalar(event), line, column)), event.anchor)
        elif kind == "AliasEvent":
            self._add(self._anchors.get(event.anchor, Node(None, event.start_mark.line + 1)), None)
        elif kind == "DocumentStartEvent":
            self._anchors = {}

    def _add(self, node: Node, anchor: str | None) -> None:
        self._count += 1
        if self._count > VALUES_MAX:
            raise _TooMuch(f"more than {VALUES_MAX:,} values", node.line)
        if anchor:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].values.append(node)
        else:
            self.documents.append(node)


def _scalar(event: Any) -> Any:
    value = event.value
    if not event.implicit[0]:
        return value
    if value == "" or value.lower() in _WORDS:
        return _WORDS.get(value.lower())
    return int(value) if _INTEGER.fullmatch(value) else value


def _short(tag: str | None, node: Node) -> Node:
    """`!Ref X` is `{"Ref": "X"}`, `!GetAtt X` is `{"Fn::GetAtt": ...}`."""
    if not tag or not tag.startswith("!") or len(tag) == 1 or tag.startswith("!!"):
        return node
    name = tag[1:]
    return Node({name if name in ("Ref", "Condition") else f"Fn::{name}": node}, node.line, node.column)
