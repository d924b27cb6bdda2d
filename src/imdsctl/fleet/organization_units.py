"""The tree of an organization: its units, and where each account hangs.

Source: Organizations API Reference, ListRoots, ListOrganizationalUnitsForParent, ListAccountsForParent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.fleet import limits
from imdsctl.fleet.ports import Aws


@dataclass(frozen=True, slots=True)
class Unit:
    """A root or an organizational unit. `path` are names from the root down, joined by `/`."""

    id: str
    path: str
    above: tuple[str, ...]
    """Ids of the units above, and its own."""


@dataclass(frozen=True, slots=True)
class Tree:
    """An organization's units, and which of them each account is in."""

    units: Mapping[str, Unit]
    """Every root and unit by id."""
    place: Mapping[str, Unit]
    """The unit that each account is in, by account id."""

    def path(self, account_id: str) -> str:
        """Names from the root down; empty for an account that is not in the tree."""
        unit = self.place.get(account_id)
        return unit.path if unit else ""

    def above(self, account_id: str) -> tuple[str, ...]:
        """Ids of all units that an account is in, from the root down."""
        unit = self.place.get(account_id)
        return unit.above if unit else ()


@dataclass(frozen=True, slots=True)
class Named:
    """The units that somebody named, and what is wrong with the names."""

    ids: frozenset[str]
    problems: tuple[Diagnostic, ...]


def resolve_units(names: Iterable[str], units: Mapping[str, Unit]) -> Named:
    """Ids of units named by id or by path, with or without the root's name in front."""
    by_path: dict[str, str] = {}
    for unit in units.values():
        by_path[unit.path] = unit.id
        by_path.setdefault(unit.path.partition("/")[2], unit.id)
    ids = set()
    problems = []
    for name in names:
        found = name if name in units else by_path.get(name.strip("/"))
        if found is None:
            paths = sorted(path for path in by_path if path)
            hint = closest(name.strip("/"), paths) or f"the units are: {', '.join(u.path for u in units.values())}"
            problems.append(Diagnostic("ou-unknown", f"there is no organizational unit `{name}`", hint=hint))
        else:
            ids.add(found)
    return Named(frozenset(ids), tuple(problems))


async def read_tree(aws: Aws, region: str) -> Tree:
    """Every root, unit and account's place, asked in `region`. Raises ServiceError and Unreachable."""
    units: dict[str, Unit] = {}
    place: dict[str, Unit] = {}
    turn = asyncio.Semaphore(limits.ORGANIZATION_CALLS_CONCURRENT_MAX)

    async def listed(operation: str, key: str, **params: str) -> list[dict[str, str]]:
        async with turn:
            pages = aws.paginate(None, "organizations", region, operation, params)
            return [each async for page in pages for each in page.get(key, ())]

    async def visit(unit: Unit) -> None:
        units[unit.id] = unit
        await asyncio.gather(settle(unit), descend(unit))

    async def settle(unit: Unit) -> None:
        for account in await listed("ListAccountsForParent", "Accounts", ParentId=unit.id):
            place[account["Id"]] = unit

    async def descend(unit: Unit) -> None:
        below = await listed("ListOrganizationalUnitsForParent", "OrganizationalUnits", ParentId=unit.id)
        await asyncio.gather(
            *(visit(Unit(each["Id"], f"{unit.path}/{each['Name']}", (*unit.above, each["Id"]))) for each in below)
        )

    for root in await listed("ListRoots", "Roots"):
        await visit(Unit(root["Id"], root["Name"], (root["Id"],)))
    return Tree(dict(sorted(units.items(), key=lambda item: item[1].path)), place)


def closest(name: str, known: Iterable[str]) -> str:
    """`did you mean ...?` for a name that is not known; empty when nothing is near."""
    from difflib import get_close_matches

    close = get_close_matches(name, sorted(known), n=2)
    return f"did you mean {' or '.join(f'`{each}`' for each in close)}?" if close else ""
