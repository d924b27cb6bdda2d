"""HCL2 (Terraform, Packer) as a tree with places, by python-hcl2's grammar."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from imdsctl.codify.iac_tree import Code, Node, Unknown
from imdsctl.domain.diagnostics import Diagnostic

CHARACTERS_MAX = 1_000_000
"""Its reader takes about 8 CPU-s for as many."""
_TEXT = ("STRING_CHARS", "HEREDOC_TEMPLATE", "HEREDOC_TEMPLATE_TRIM")
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\", "\\t": "\t", "\\r": "\r"}


def read_hcl(name: str, text: str) -> tuple[Node, ...] | Diagnostic:
    """The one document of a source; a diagnostic `code-unreadable` with the place of what is wrong."""
    if len(text) > CHARACTERS_MAX:
        summary = f"longer than {CHARACTERS_MAX:,} characters"
        return Diagnostic("code-unreadable", summary, name, "check the plan's JSON instead")
    import hcl2
    from lark.exceptions import LarkError

    try:
        tree = hcl2.parses_to_tree(text if text.endswith("\n") else text + "\n")
        return (_body(tree.children[0], 1, 1),)
    except LarkError as error:
        line = getattr(error, "line", 0)
        lines = text.count("\n") + 1
        if not isinstance(line, int) or line < 1:
            return Diagnostic("code-unreadable", "not HCL: it ends in the middle", f"{name}:{lines}")
        return Diagnostic("code-unreadable", "not HCL from here on", f"{name}:{line}:{getattr(error, 'column', 1)}")
    except RecursionError:
        return Diagnostic("code-unreadable", "nested too deep", name)
    except ValueError:
        return Diagnostic("code-unreadable", "a number with too many digits", name)


def _place(tree: Any) -> tuple[int, int]:
    """Where it begins: its first token that is neither space nor comment."""
    for token in tree.scan_values(lambda each: str(each).strip()):
        blank = str(token)[: len(str(token)) - len(str(token).lstrip())]
        skipped = blank.count("\n")
        column = len(blank) - blank.rfind("\n") if skipped else token.column + len(blank)
        return token.line + skipped, column
    return 1, 1


def _kids(tree: Any, *kinds: str) -> list[Any]:
    return [each for each in tree.children if getattr(each, "data", None) in kinds]


def _body(tree: Any, line: int, column: int) -> Node:
    """Attributes by name; blocks by their type, then by each label."""
    out: dict[str, Any] = {}
    for each in _kids(tree, "attribute"):
        name, *_, value = each.children
        place = _place(name)
        out[_label(name)] = _expression(value, *place)
    for each in _kids(tree, "block"):
        place = _place(each)
        labels = [_label(label) for label in _kids(each, "identifier", "string")]
        inner = _kids(each, "body")
        node = _body(inner[0], *place) if inner else Node({}, *place)
        if labels[0] == "dynamic" and len(labels) > 1:
            labels, node = labels[1:2], _dynamic(labels[1], node)
        for label in reversed(labels[1:]):
            node = Node({label: node}, *place)
        out.setdefault(labels[0], []).append(node)
    return Node(
        {k: Node(tuple(v), v[0].line, v[0].column) if isinstance(v, list) else v for k, v in out.items()}, line, column
    )


def _dynamic(name: str, block: Node) -> Node:
    """A dynamic block: so many blocks of this name as `for_each` has members."""
    over, content = block.value.get("for_each"), block.value.get("content")
    iterator = block.value.get("iterator")
    if over is None or content is None:
        return Node(Unknown(), block.line, block.column)
    names = iterator.value.refers if iterator is not None and isinstance(iterator.value, Unknown) else ()
    code = Code("blocks", names[0] if names else name, (over, content.value[0]))
    return Node(Unknown(over.value.refers if over.unknown else (), code=code), block.line, block.column)


def _label(tree: Any) -> str:
    return "".join(str(token) for token in tree.scan_values(lambda each: each.type != "DBLQUOTE")).strip()


def _expression(tree: Any, line: int, column: int) -> Node:
    """A literal's value; anything else is unknown, with its expression and the names in it."""
    data = getattr(tree, "data", None)
    if data == "expr_term" and len(_trees(tree)) == 1:
        return _expression(_trees(tree)[0], line, column)
    if data == "string":
        parts = _kids(tree, "string_part")
        if not any(_trees(part) for part in parts):
            return Node(_unescaped("".join(str(token) for part in parts for token in part.children)), line, column)
    if data in ("int_lit", "float_lit"):
        number = str(tree.children[0]).strip()
        return Node(int(number) if data == "int_lit" else float(number), line, column)
    if data == "literal_value":
        return Node({"true": True, "false": False}.get(str(tree.children[0]).strip()), line, column)
    if data == "tuple":
        return Node(tuple(_expression(each, line, column) for each in _trees(tree) if _is_value(each)), line, column)
    if data == "object":
        return _object(tree, line, column)
    if data in ("heredoc_template", "heredoc_template_trim"):
        return _heredoc("".join(map(str, tree.scan_values(lambda _: True))), line, column)
    if data == "function_call" and _label(tree.children[0]) in ("jsonencode", "base64encode"):
        arguments = _arguments(tree)
        if len(arguments) == 1:
            return _expression(arguments[0], line, column)
    said = " ".join(str(token) for token in tree.scan_values(lambda each: each.type in _TEXT)) if _trees(tree) else ""
    code = _code(data, tree, line, column)
    refers = (code.name,) if code is not None and code.kind == "name" else tuple(_references(tree))
    return Node(Unknown(refers, said, code), line, column)


_INSIDE = re.compile(r"(?<!\$)\$\{|(?<!%)%\{")
_ROOTS = re.compile(r"\b[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)+")


def _heredoc(written: str, line: int, column: int) -> Node:
    """What stands between the markers; unknown where something is filled in."""
    first, _, rest = written.partition("\n")
    lines = rest.rstrip().split("\n")[:-1]
    text = "\n".join(lines) + "\n" if lines else ""
    if first.lstrip().startswith("<<-"):
        text = textwrap.dedent(text)
    if _INSIDE.search(text) is None:
        return Node(text.replace("$${", "${").replace("%%{", "%{"), line, column)
    names = [name for piece in _INSIDE.split(text)[1:] for name in _ROOTS.findall(piece.partition("}")[0])]
    return Node(Unknown(tuple(names), text), line, column)


def _code(data: Any, tree: Any, line: int, column: int) -> Code | None:
    """The expression; None for the forms that are not followed (`for`, splat, directives)."""

    def of(*trees: Any) -> tuple[Node, ...]:
        return tuple(_expression(each, line, column) for each in trees)

    values = [each for each in _trees(tree) if _is_value(each)]
    if data == "identifier":
        return Code("name", _label(tree))
    if data == "get_attr_expr_term":
        return Code("get", _label(values[1]).lstrip(".").strip(), of(values[0]))
    if data == "index_expr_term":
        inner = _trees(values[1])
        key = of(inner[0]) if inner else (Node(int("".join(filter(str.isdigit, _label(values[1]))) or 0)),)
        return Code("index", "", (*of(values[0]), *key))
    if data == "conditional":
        return Code("if", "", of(*values))
    if data == "binary_op":
        operator, right = [each for each in _trees(values[1]) if _is_value(each)]
        return Code("operation", _label(operator), of(values[0], right))
    if data == "unary_op":
        return Code("operation", str(tree.children[0]).strip(), of(*values))
    if data == "function_call":
        return Code("call", _label(tree.children[0]), of(*_arguments(tree)))
    if data == "string":
        return _template(_kids(tree, "string_part"), line, column)
    return None


def _template(parts: list[Any], line: int, column: int) -> Code | None:
    pieces = []
    for part in parts:
        inner = _trees(part)
        if not inner:
            pieces.append(Node(_unescaped("".join(map(str, part.children))), line, column))
        elif inner[0].data == "interpolation":
            pieces.append(_expression(_trees(inner[0])[0], line, column))
        else:
            return None
    return Code("text", "", tuple(pieces))


def _arguments(call: Any) -> list[Any]:
    return [each for outer in _kids(call, "arguments") for each in _trees(outer) if _is_value(each)]


def _object(tree: Any, line: int, column: int) -> Node:
    out = {}
    for each in _kids(tree, "object_elem"):
        key, value = each.children[0], each.children[-1]
        out[_label(key)] = _expression(value, *_place(key))
    return Node(out, line, column)


def _trees(tree: Any) -> list[Any]:
    return [each for each in tree.children if hasattr(each, "data")]


def _is_value(tree: Any) -> bool:
    return bool(tree.data != "new_line_or_comment")


def _unescaped(text: str) -> str:
    for escaped, plain in _ESCAPES.items():
        text = text.replace(escaped, plain)
    return text


def _references(tree: Any) -> list[str]:
    """`TYPE.NAME.id` and the like, wherever they stand."""
    found = []
    for each in tree.iter_subtrees_topdown():
        if each.data == "get_attr_expr_term":
            found.append(_label(each).replace(" ", ""))
    return found


def read_expression(text: str) -> Node | None:
    """One expression, as the JSON form of Terraform has them in its texts; None for what is none."""
    read = read_hcl("", f"x = {text}\n")
    return read[0].value.get("x") if isinstance(read, tuple) else None
