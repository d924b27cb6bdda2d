"""What a command may ask for. `bootstrap` fills this with real adapters, a test with fakes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from imdsctl.fleet.ports import Aws, HeldLease, ScanStore


def _everywhere(service: str, region: str) -> bool:
    return True


def _nobodys(url: str, owner: str, inherits: int | None) -> AbstractAsyncContextManager[HeldLease]:
    raise AssertionError("this command was not given a lease")


def _nobody_else(account_id: str, owner: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Factories, so that a command pays only for what it uses."""

    aws: Callable[[str | None], AbstractAsyncContextManager[Aws]]
    """The AWS client for a profile's name (None: credentials as every AWS tool finds them)."""
    scans: Callable[[str | None], ScanStore]
    """The store at a database URL (None: SQLite in the user's data directory)."""
    now: Callable[[], datetime]
    """The time, aware, in UTC."""
    new_id: Callable[[], str]
    """A new scan's id; ids sort by time."""
    serves: Callable[[str, str], bool] = _everywhere
    """Whether a service exists in a Region."""
    lease: Callable[[str, str, int | None], AbstractAsyncContextManager[HeldLease]] = _nobodys
    """The right to write at a database URL, for an owner (a clause that says who and where); also given the number of
    an earlier owner that is known to be dead."""
    alone: Callable[[str, str], AbstractContextManager[None]] = _nobody_else
    """This machine's right to write by an account's id, for an owner (as above)."""


def of(context: typer.Context) -> Dependencies:
    """The dependencies that the program was started with."""
    return cast(Dependencies, context.find_root().obj)
