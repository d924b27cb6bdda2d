"""Writes the measured part of docs/imds-clients.md from tests/cases/clients/imds.json. `make docs` calls it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("imds-clients.md")
TABLE = Path(__file__).resolve().parent.parent / "tests" / "cases" / "clients" / "imds.json"
MARK = "<!-- From here on `make docs` writes. -->\n"
WORDS = {"v2": "v2", "v1": "**v1**", "v1 and v2": "**v1** and v2", "refused": "no", "no token": "no", "waits": "no"}
SLOW_SECONDS = 10
ON_OPTIONAL, ON_REQUIRED, AWAY_1_OPTIONAL, AWAY_2_OPTIONAL, AWAY_1_REQUIRED, AWAY_2_REQUIRED = range(6)
SHOWN = (ON_OPTIONAL, ON_REQUIRED, AWAY_1_OPTIONAL, AWAY_1_REQUIRED, AWAY_2_OPTIONAL, AWAY_2_REQUIRED)
"""The columns, by the cells' places in the table."""


def duration(seconds: float, seconds_max: float) -> str:
    """Roughly, as a reader says it: nothing below a second."""
    if seconds >= seconds_max:
        return f", waits longer than {seconds_max} s"
    return f", {seconds} s" if seconds else ""


def row(client: dict[str, Any], cells: list[str], seconds_max: float) -> str:
    """A client's line of the matrix."""
    seconds = client.get("seconds", {})
    words = [WORDS[client["outcomes"][at]] + duration(seconds.get(cells[at], 0), seconds_max) for at in SHOWN]
    what = f"{client['client']} ({client['version']}; {client['language']}; {client['source']})"
    return "| " + " | ".join([what, *words]) + " |"


def names(clients: Iterable[dict[str, Any]]) -> str:
    """A list of clients for a sentence."""
    return ", ".join(client["client"] for client in clients)


def groups(clients: list[dict[str, Any]], cells: list[str]) -> list[str]:
    """What the matrix comes to, for who asks about one program."""

    def fall_back(client: dict[str, Any]) -> bool:
        return client["outcomes"][ON_OPTIONAL] == "v2" and client["outcomes"][AWAY_1_OPTIONAL] == "v1"

    def slow(client: dict[str, Any]) -> bool:
        return client.get("seconds", {}).get(cells[AWAY_1_OPTIONAL], 0) > SLOW_SECONDS

    back = [client for client in clients if fall_back(client)]
    never = [client for client in clients if client["outcomes"][AWAY_1_OPTIONAL] in ("refused", "no token", "waits")]
    only = [client for client in clients if client["outcomes"][ON_OPTIONAL] == "v1"]
    return [
        f"- **Fall back to IMDSv1** one hop beyond the limit, and go on as if nothing were wrong: {names(back)}."
        f" Of these, slowly (more than {SLOW_SECONDS} s): {names(client for client in back if slow(client))}."
        " With tokens required there, all of them fail.",
        f"- **Never work** one hop beyond the limit, whether tokens are optional or not: {names(never)}. Of these, so "
        f"slowly that they seem to hang: {names(client for client in never if slow(client))}.",
        f"- **Speak IMDSv1 only**, and fail wherever tokens are required: {names(only)}.",
        f"- Go without IMDSv1 when told to: {names(client for client in clients if 'switch' in client)}"
        " (`AWS_EC2_METADATA_V1_DISABLED=true`, or `ec2_metadata_v1_disabled = true` in the AWS configuration).",
    ]


def listing() -> str:
    """The groups, the matrix and the notes."""
    table = json.loads(TABLE.read_text())
    cells, clients = list(table["cells"]), table["clients"]
    lines = [
        f"{len(clients)} programs, run in {table['seen']}.",
        "",
        *groups(clients, cells),
        "",
        "## The matrix",
        "",
        "`v2`: it got what it asked for, with tokens alone. `v1`: it got it, by IMDSv1. `no`: it did not.",
        "With how long that took, where it was a second or more.",
        "",
        "| program | on the instance, tokens optional | on the instance, required"
        " | one hop away, hop limit 1, optional | the same, required"
        " | one hop away, hop limit 2, optional | the same, required |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(row(client, cells, table["seconds_max"]) for client in clients),
        "",
        "Some need a word:",
        "",
        *(f"- {client['client']}: {client['note']}" for client in clients if "note" in client),
    ]
    return "\n".join(lines) + "\n"


def page(present: str) -> str:
    """The page with its generated part made anew."""
    written, mark, _ = present.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} has lost the line {MARK!r}")
    return f"{written}{mark}\n{listing()}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
