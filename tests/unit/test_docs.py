"""The documents and the program say the same."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


MAKERS = {"Diagnostic", "_usage", "parse_toml"}
"""What makes a diagnostic: its first argument, or `code=`, is the code."""


def codes_of(call: ast.Call) -> list[str]:
    candidates = [*call.args[:1], *(each.value for each in call.keywords if each.arg == "code")]
    return [each.value for each in candidates if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def diagnostics_made() -> list[tuple[str, ast.Call]]:
    return [
        (f"{path.relative_to(ROOT)}:{call.lineno}", call)
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in MAKERS
    ]


def codes_raised() -> set[str]:
    return {code for _, call in diagnostics_made() for code in codes_of(call) if re.fullmatch("[a-z0-9-]+", code)}


def codes_documented() -> set[str]:
    text = (ROOT / "docs" / "messages.md").read_text()
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE))


def test_every_diagnostic_code_is_explained_and_every_explanation_is_in_use() -> None:
    raised = codes_raised()
    assert len(raised) > 40, "the search finds the codes"
    assert raised == codes_documented()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_operation_of_the_local_aws_says_what_it_does() -> None:
    from imdsctl.adapters.local_server import OPERATIONS

    def useful(handler: Any) -> bool:
        first = (handler.__doc__ or "").strip().partition("\n")[0]
        return len(first.split()) > 2 and not first.startswith("Raises")

    silent = [
        f"{service} {action}: `{getattr(operation.handler, '__qualname__', operation.handler)}`"
        for service, operations in OPERATIONS.items()
        for action, operation in operations.items()
        if not useful(operation.handler)
    ]
    assert silent == []


def test_the_list_of_operations_is_what_the_code_makes_of_it() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "local_aws.py"))
    present = written["PAGE"].read_text()
    assert present == written["page"](present), "`make docs` writes it anew"


def children(command: Any) -> dict[str, Any]:
    """A group's commands by name (they are imported when asked for); nothing for a single command."""
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    return {name: command.get_command(None, name) for name in names}


def test_every_command_explains_itself() -> None:
    from imdsctl.cli.app import program

    def walk(command: Any, path: str) -> list[str]:
        found = [] if getattr(command, "help", None) else [path]
        for name, child in children(command).items():
            found += walk(child, f"{path} {name}")
        return found

    assert walk(program(), "imdsctl") == []


def test_the_guide_names_every_command_and_every_option() -> None:
    from imdsctl.cli.app import program

    guide = (ROOT / "docs" / "guide.md").read_text()

    def walk(command: Any, path: str) -> list[str]:
        below = children(command)
        missing = [] if below or f"`{path}" in guide else [path]
        for option in [] if below else getattr(command, "params", []):
            long = next((name for name in option.opts if name.startswith("--") and name != "--help"), None)
            if long and long not in guide:
                missing.append(f"{path} {long}")
        for name, child in below.items():
            missing += walk(child, f"{path} {name}")
        return missing

    assert walk(program(), "imdsctl") == []
