"""The right to write, held in the team's database: two operators on two machines do not apply at the same time.

One row of the table `locks` says who holds it, until when, and counts its owners (the fencing token). It is renewed
while its owner lives; of one that died it can be taken when its time is over. All times are the database's own, so that
the machines' clocks do not matter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import Connection, Table

NAME = "write"
"""The lock's name: one apply or rollback a database."""
LEASE_SECONDS = 60.0
"""How long a lease lasts that nobody renews."""
RENEW_SECONDS = 15.0
"""How often it is renewed while nothing is written."""
TRUST_SECONDS = 5.0
"""How long the last answer of the database is trusted before a write: far less than a lease lasts."""
FREE = ""


class Transactions(Protocol):
    """What a lease needs of a database."""

    @property
    def place(self) -> str:
        """Its URL without secrets."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that writes. Raises DiagnosticError."""
        ...


class DatabaseLease:
    """Implements `fleet.ports.Lease` while its block (`async with`) lasts.

    Entering raises DiagnosticError `apply-running` when somebody else holds it. `taken_over` is then a warning when
    the one before had not given it back. `inherits` is the number of an owner that is known to be dead: there is no
    need to wait for the end of its time.
    """

    def __init__(
        self,
        database: Transactions,
        owner: str,
        *,
        inherits: int | None = None,
        now: Callable[[Connection], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._owner = owner
        self._inherits = inherits
        self._now = now or _database_time
        self._monotonic = monotonic
        self._number = 0
        self._seen_at = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self.taken_over: Diagnostic | None = None

    @property
    def number(self) -> int:
        """Which owner this is, counted from 1: the fencing token."""
        return self._number

    async def __aenter__(self) -> DatabaseLease:
        await asyncio.to_thread(self._take)
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        with suppress(DiagnosticError):  # It ends by itself.
            await asyncio.to_thread(self._give_back)

    async def check(self) -> None:
        """Before a write. Raises DiagnosticError `lease-lost` when somebody else holds it, or may hold it, by now."""
        async with self._turn:
            age = self._monotonic() - self._seen_at
            if age < TRUST_SECONDS:
                return
            try:
                ours = await asyncio.to_thread(self._extend)
            except DiagnosticError:
                if age < LEASE_SECONDS / 2:
                    return  # The database may come back before the lease ends.
                raise self._lost("the database does not answer, and the lease may be over") from None
            if not ours:
                raise self._lost("somebody else has taken it over")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(DiagnosticError):  # Said before the next write, where it matters.
                await self.check()

    # -- in a thread --------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        from sqlalchemy import select

        locks = _locks()
        asked_at = self._monotonic()
        with self._database.writing() as connection:
            _create(connection)
            now = self._now(connection)
            before = connection.execute(select(locks).where(locks.c.name == NAME).with_for_update()).mappings().one()
            if before["owner"] != FREE and before["expires"] > now and before["number"] != self._inherits:
                raise self._held(before["owner"], before["expires"])
            self._number = before["number"] + 1
            connection.execute(
                locks.update().where(locks.c.name == NAME),
                {"owner": self._owner, "number": self._number, "taken": now, "expires": now + LEASE_SECONDS},
            )
        self._seen_at = asked_at
        if before["owner"] != FREE and before["number"] != self._inherits:
            self.taken_over = Diagnostic(
                "lease-taken-over",
                f"{before['owner']} had not given the right to write back, and its time was over at "
                f"{_clock(before['expires'])}: it was taken over",
                self._database.place,
                "if that one still lives, it will stop before its next write",
                Severity.WARNING,
            )

    def _extend(self) -> bool:
        locks = _locks()
        asked_at = self._monotonic()
        with self._database.writing() as connection:
            ours = (locks.c.name == NAME) & (locks.c.number == self._number) & (locks.c.owner == self._owner)
            changed = connection.execute(
                locks.update().where(ours), {"expires": self._now(connection) + LEASE_SECONDS}
            ).rowcount
        if changed:
            self._seen_at = asked_at
        return bool(changed)

    def _give_back(self) -> None:
        locks = _locks()
        with self._database.writing() as connection:
            ours = (locks.c.name == NAME) & (locks.c.number == self._number)
            connection.execute(locks.update().where(ours), {"owner": FREE, "expires": 0.0})

    def _held(self, owner: str, expires: float) -> DiagnosticError:
        return DiagnosticError(
            Diagnostic(
                "apply-running",
                f"{owner} has the right to write in this team's database",
                self._database.place,
                f"wait until it has ended; if it died, the same command takes over after {_clock(expires)}",
            )
        )

    def _lost(self, why: str) -> DiagnosticError:
        return DiagnosticError(
            Diagnostic(
                "lease-lost",
                f"the right to write is lost: {why}; nothing more was sent to AWS",
                self._database.place,
                "see who else is at work, then run the same command: it goes on from its journal",
            )
        )


@cache
def _locks() -> Table:
    from sqlalchemy import Column, Float, Integer, MetaData, String, Table

    return Table(
        "locks",
        MetaData(),
        Column("name", String(64), primary_key=True),
        Column("owner", String(512), nullable=False),
        Column("number", Integer, nullable=False),
        # Seconds since 1970, of the database's clock.
        Column("taken", Float(53), nullable=False),
        Column("expires", Float(53), nullable=False),
    )


def _create(connection: Connection) -> None:
    """The table and its row, where they are not there yet; somebody else may make them at the same moment."""
    from sqlalchemy import inspect, select
    from sqlalchemy.exc import SQLAlchemyError

    locks = _locks()

    def made(there: Callable[[], bool], make: Callable[[], object]) -> None:
        if there():
            return
        try:
            with connection.begin_nested():
                make()
        except SQLAlchemyError:
            if not there():
                raise

    row: dict[str, Any] = {"name": NAME, "owner": FREE, "number": 0, "taken": 0.0, "expires": 0.0}
    named = select(locks.c.name).where(locks.c.name == NAME)
    made(lambda: inspect(connection).has_table(locks.name), lambda: locks.create(connection))
    made(lambda: connection.execute(named).first() is not None, lambda: connection.execute(locks.insert(), row))


def _database_time(connection: Connection) -> float:
    from sqlalchemy import text

    sqlite = connection.dialect.name == "sqlite"
    # clock_timestamp(), not now(): the transaction may have waited for the row.
    asked = "(julianday('now') - 2440587.5) * 86400.0" if sqlite else "extract(epoch FROM clock_timestamp())"
    return float(connection.execute(text(f"SELECT {asked}")).scalar_one())


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
