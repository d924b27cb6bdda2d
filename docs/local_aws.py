"""Writes the part of docs/local-aws.md that the program knows: every operation, from the code. `make docs` calls it."""

from __future__ import annotations

import re
from pathlib import Path

from imdsctl.adapters.local_server import OPERATIONS, Services
from imdsctl.local.call import Operation

PAGE = Path(__file__).with_name("local-aws.md")
MARK = "<!-- From here on `make docs` writes. -->\n"


def summary(operation: Operation) -> str:
    """The first sentence or line of a handler's docstring, without the errors that it names."""
    first = (operation.handler.__doc__ or "").strip().partition("\n\n")[0]
    text = " ".join(first.split())
    text = re.split(r"(?<=\.) (?=Raises )", text)[0]
    return text.replace("|", "\\|")


def listing() -> str:
    """Every service with its operations in the order of their names."""
    services = Services()
    total = sum(map(len, OPERATIONS.values()))
    lines = [f"{total} operations of {len(OPERATIONS)} services.", ""]
    for name, operations in OPERATIONS.items():
        lines += [
            f"### {name}",
            "",
            f"{len(operations)} operations of API version {services[name].api_version}.",
            "",
            "| operation | | what it does here |",
            "| --- | --- | --- |",
        ]
        for action, operation in sorted(operations.items()):
            lines.append(f"| {action} | {'write' if operation.writes else 'read'} | {summary(operation)} |")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def page(present: str) -> str:
    """The page with its generated part made anew."""
    written, mark, _ = present.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} has lost the line {MARK!r}")
    return f"{written}{mark}\n{listing()}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
