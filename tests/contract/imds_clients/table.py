"""`tests/cases/clients/imds.json` as values: which programs there are, and what they are expected to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[2] / "cases" / "clients" / "imds.json"
OUTCOMES = ("v2", "v1", "v1 and v2", "refused", "no token", "waits")


@dataclass(frozen=True)
class Cell:
    """An instance's options, and how many routers stand between it and the program."""

    name: str
    http_tokens: str
    hop_limit: int
    hops: int

    @property
    def token_arrives(self) -> bool:
        """The hop limit lets the token through: every router on the way takes one off."""
        return self.hop_limit > self.hops


@dataclass(frozen=True)
class Client:
    """A program, how it is called, and what it does in every cell (by the cell's name)."""

    name: str
    language: str
    source: str
    version: str
    needs: str
    command: Sequence[str]
    gets: str
    outcomes: Mapping[str, str]
    seconds: Mapping[str, float] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    only_in_soak: Sequence[str] = ()
    switch: str = ""
    note: str = ""


@dataclass(frozen=True)
class Table:
    """All of it; `seconds_short` is how long an ordinary run looks at a client that waits longer."""

    seen: str
    seconds_short: float
    seconds_max: float
    cells: tuple[Cell, ...]
    clients: tuple[Client, ...]


def read_table(path: Path = TABLE) -> Table:
    """The table. Raises ValueError or KeyError where the file is not one."""
    raw = json.loads(path.read_text())
    cells = tuple(Cell(name, **options) for name, options in raw["cells"].items())
    names = [cell.name for cell in cells]
    return Table(
        raw["seen"],
        raw["seconds_short"],
        raw["seconds_max"],
        cells,
        tuple(_client(each, names) for each in raw["clients"]),
    )


def _client(raw: dict[str, Any], cells: Sequence[str]) -> Client:
    outcomes = dict(zip(cells, raw.pop("outcomes"), strict=True))
    seconds = raw.pop("seconds", {})
    command = ["\n".join(word) if isinstance(word, list) else word for word in raw.pop("command")]
    named = {*seconds, *raw.get("only_in_soak", ())}
    wrong = [*(set(outcomes.values()) - set(OUTCOMES)), *(named - set(cells))]
    if wrong:
        raise ValueError(f"{raw['client']}: no such outcome or cell: {wrong}")
    return Client(name=raw.pop("client"), command=command, outcomes=outcomes, seconds=seconds, **raw)
