"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

import re
from collections.abc import Container, Coroutine, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.waves import DURATION_UNITS
from imdsctl.fleet.selection import ROLE_NAME, ListedAccount, Selection

T = TypeVar("T")

_WHERE = "Where to look"
_ACCESS = "How to get in"
_LIST = "repeat it or separate by commas"

Profile: TypeAlias = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="Profile of the AWS configuration.", rich_help_panel=_ACCESS),
]
Profiles: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Profile of the AWS configuration; of several, each brings the accounts that it finds.",
        rich_help_panel=_ACCESS,
    ),
]
Role: TypeAlias = Annotated[
    str,
    typer.Option(
        "--role",
        metavar="NAME",
        envvar="IMDSCTL_ROLE",
        help="Role to assume in the other accounts.",
        rich_help_panel=_ACCESS,
    ),
]
CurrentAccount: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--current-account",
        help="Only the account of these credentials; no role, no organization.",
        rich_help_panel=_ACCESS,
    ),
]
Accounts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--accounts", metavar="ID", help=f"Only these accounts; {_LIST}.", rich_help_panel=_WHERE),
]
Regions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--regions", metavar="REGION", help=f"Only these Regions; {_LIST}.", rich_help_panel=_WHERE),
]
Units: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--ou",
        metavar="ID|PATH",
        help=f"Only accounts below these organizational units; {_LIST}.",
        rich_help_panel=_WHERE,
    ),
]
ExcludeAccounts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--exclude-accounts", metavar="ID", help=f"Not these accounts; {_LIST}.", rich_help_panel=_WHERE),
]
ExcludeRegions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--exclude-regions", metavar="REGION", help=f"Not these Regions; {_LIST}.", rich_help_panel=_WHERE),
]
ExcludeUnits: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-ou",
        metavar="ID|PATH",
        help=f"Not the accounts below these units; {_LIST}.",
        rich_help_panel=_WHERE,
    ),
]
AccountsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--accounts-file",
        metavar="FILE",
        help="Only the accounts of this file: one id a line, CSV or JSON; each may have a role of its own.",
        rich_help_panel=_WHERE,
    ),
]
DATABASE_VARIABLE = "IMDSCTL_DB"

Database: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        envvar=DATABASE_VARIABLE,
        help="Where scans are kept: a database URL or a SQLite file. Without it, a file in your data directory.",
    ),
]
IntentFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--intent",
        metavar="FILE",
        help="What is wanted, in TOML. Default: imdsctl.toml here; without it, IMDSv2 enforced everywhere.",
    ),
]
Lock: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        envvar=DATABASE_VARIABLE,
        help="The team's database: nobody else who names it can write at the same time.",
    ),
]
Services: TypeAlias = Annotated[
    bool, typer.Option("--services/--no-services", help="Read the settings of other services (EKS, ECS, ...) too.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def listed(values: Iterable[str] | None, names: Container[str] = ()) -> tuple[str, ...]:
    """`["a,b", "c"]` to `("a", "b", "c")`, each once; what is one of `names` stays whole."""
    parts = (
        part for value in values or () for part in ((value,) if value in names else map(str.strip, value.split(",")))
    )
    return tuple(dict.fromkeys(part for part in parts if part))


def selection(
    *,
    role: str = ROLE_NAME,
    current_account: bool = False,
    accounts: list[str] | None = None,
    regions: list[str] | None = None,
    ou: list[str] | None = None,
    exclude_accounts: list[str] | None = None,
    exclude_regions: list[str] | None = None,
    exclude_ou: list[str] | None = None,
    accounts_file: Path | None = None,
    services: bool = True,
) -> Selection:
    """The options of "where to look" as one value.

    Raises DiagnosticError for an option that is given but empty, and for a file of accounts that cannot be used.
    """
    given = {
        "--accounts": accounts,
        "--regions": regions,
        "--ou": ou,
        "--exclude-accounts": exclude_accounts,
        "--exclude-regions": exclude_regions,
        "--exclude-ou": exclude_ou,
    }
    # An empty variable in a script (`--accounts "$IDS"`) must not widen the sweep to everything.
    empty = [name for name, values in given.items() if values and not listed(values)]
    if empty:
        raise DiagnosticError(
            [
                Diagnostic("option-empty", f"`{name}` is empty", hint="name at least one, or leave it out")
                for name in empty
            ],
            exit_code=2,
        )
    return Selection(
        role=role,
        current_account=current_account,
        accounts=listed(accounts),
        regions=listed(regions),
        ous=listed(ou),
        exclude_accounts=listed(exclude_accounts),
        exclude_regions=listed(exclude_regions),
        exclude_ous=listed(exclude_ou),
        services=services,
        listed=_accounts_of(accounts_file),
    )


def _accounts_of(path: Path | None) -> tuple[ListedAccount, ...]:
    if path is None:
        return ()
    from imdsctl.cli.accounts_file import read_accounts_file

    return read_accounts_file(path)


_DURATION = re.compile(r"(?:[0-9]{1,6}[smhd])+|[0-9]{1,9}")


def duration(option: str, text: str | None) -> timedelta | None:
    """`90`, `90s`, `30m`, `1h30m` as a time. Raises DiagnosticError `duration-invalid`."""
    if text is None:
        return None
    seconds = 0
    if _DURATION.fullmatch(text):
        parts = re.findall(r"([0-9]+)([smhd]?)", text)
        seconds = sum(int(number) * DURATION_UNITS[unit or "s"] for number, unit in parts)
    if not seconds:
        raise DiagnosticError(
            Diagnostic("duration-invalid", f"`{option} {text}` is no time", hint="write it like `30s`, `5m` or `2h`"),
            exit_code=2,
        )
    return timedelta(seconds=seconds)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in the fastest event loop there is.

    A diagnostic from inside a task group comes out as itself, not inside a group.
    """
    import asyncio

    from imdsctl.adapters.event_loop import loop_factory

    result: list[T] = []

    async def kept() -> None:
        # Not returned: when asyncio hands SIGINT back, Python makes a text of the task, and of the result in it. That
        # of a large scan takes seconds.
        result.append(await work)

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(kept())
        return result[0]
    except BaseExceptionGroup as group:
        found = tuple(_diagnostics(group))
        if not found:
            raise
        raise DiagnosticError(
            tuple(dict.fromkeys(each for error in found for each in error.diagnostics)),
            exit_code=max(error.exit_code for error in found),
        ) from None


def _diagnostics(group: BaseExceptionGroup[BaseException]) -> Iterable[DiagnosticError]:
    """The diagnostics of a group that holds nothing else; empty when there is a bug among them."""
    ours, others = group.split(DiagnosticError)
    if ours is None or others is not None:
        return
    for each in ours.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _diagnostics(each)
        elif isinstance(each, DiagnosticError):
            yield each
