"""The right to write, against real databases: one owner at a time, none that died holds it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract.postgresql import Server, postgresql

from imdsctl.adapters.database import ScanDatabase
from imdsctl.adapters.database_engine import Database
from imdsctl.adapters.lease import LEASE_SECONDS, TRUST_SECONDS, DatabaseLease
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


class Times:
    """The database's clock and the machine's, both in seconds."""

    def __init__(self) -> None:
        self.database = self.machine = 1_000_000.0

    def pass_by(self, seconds: float) -> None:
        self.database += seconds
        self.machine += seconds


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "team.sqlite3")
    running: Server = request.getfixturevalue("server")
    return running.new_place()


def lease(place: str, owner: str, times: Times, database: Any = None, inherits: int | None = None) -> DatabaseLease:
    return DatabaseLease(
        database or Database(place),
        owner,
        inherits=inherits,
        now=lambda connection: times.database,
        monotonic=lambda: times.machine,
    )


def code(error: pytest.ExceptionInfo[DiagnosticError]) -> str:
    return error.value.diagnostics[0].code


def test_two_operators_at_once_are_refused_and_one_after_the_other_are_not(file: str, times: Times) -> None:
    async def work() -> None:
        async with lease(file, "ann@north", times) as first:
            assert (first.number, first.taken_over) == (1, None)
            with pytest.raises(DiagnosticError) as refused:
                async with lease(file, "bob@south", times):
                    pass
            assert code(refused) == "apply-running"
            assert "ann@north" in str(refused.value)
        async with lease(file, "bob@south", times) as second:
            assert (second.number, second.taken_over) == (2, None)

    asyncio.run(work())


def test_one_that_died_holds_it_until_its_time_is_over_and_no_longer(file: str, times: Times) -> None:
    async def work() -> None:
        dead = lease(file, "ann@north", times)
        await dead.__aenter__()
        assert dead._renewing is not None
        dead._renewing.cancel()
        times.pass_by(LEASE_SECONDS - 1)
        with pytest.raises(DiagnosticError):
            await lease(file, "bob@south", times).__aenter__()
        times.pass_by(2)
        async with lease(file, "bob@south", times) as heir:
            assert heir.number == 2
            assert isinstance(heir.taken_over, Diagnostic)
            assert heir.taken_over.code == "lease-taken-over"
            # The dead one was only asleep: it stops before its next write, and gives nothing back.
            with pytest.raises(DiagnosticError) as lost:
                await dead.check()
            assert code(lost) == "lease-lost"
            await dead.__aexit__(None, None, None)
            times.pass_by(TRUST_SECONDS)
            await heir.check()

    asyncio.run(work())


def test_one_that_is_known_to_be_dead_is_not_waited_for(file: str, times: Times) -> None:
    async def work() -> None:
        dead = lease(file, "ann@north", times)
        await dead.__aenter__()
        assert dead._renewing is not None
        dead._renewing.cancel()
        with pytest.raises(DiagnosticError):
            await lease(file, "bob@south", times, inherits=7).__aenter__()
        async with lease(file, "ann@north", times, inherits=dead.number) as heir:
            assert (heir.number, heir.taken_over) == (2, None)

    asyncio.run(work())


def test_a_check_before_a_write_renews_it(file: str, times: Times) -> None:
    async def work() -> None:
        async with lease(file, "ann@north", times) as held:
            for _ in range(5):
                times.pass_by(LEASE_SECONDS / 2)
                await held.check()
            with pytest.raises(DiagnosticError):
                await lease(file, "bob@south", times).__aenter__()

    asyncio.run(work())


def test_late_but_not_taken_over_it_is_still_ours(file: str, times: Times) -> None:
    async def work() -> None:
        async with lease(file, "ann@north", times) as held:
            times.pass_by(10 * LEASE_SECONDS)
            await held.check()

    asyncio.run(work())


class Broken:
    """A database that goes away."""

    def __init__(self, place: str) -> None:
        self.database = Database(place)
        self.place = place
        self.there = True

    @contextmanager
    def writing(self) -> Iterator[Any]:
        if not self.there:
            raise DiagnosticError(Diagnostic("database-unavailable", "gone"))
        with self.database.writing() as connection:
            yield connection


def test_without_the_database_it_is_trusted_for_a_while_and_not_to_its_end(file: str, times: Times) -> None:
    async def work() -> None:
        database = Broken(file)
        async with lease(file, "ann@north", times, database) as held:
            database.there = False
            times.pass_by(LEASE_SECONDS / 2 - 1)
            await held.check()
            times.pass_by(2)
            with pytest.raises(DiagnosticError) as lost:
                await held.check()
            assert code(lost) == "lease-lost"

    asyncio.run(work())


def test_the_databases_own_clock_is_the_one_that_counts(file: str) -> None:
    async def work() -> None:
        async with DatabaseLease(Database(file), "ann@north") as held:
            await held.check()
            with pytest.raises(DiagnosticError, match="apply-running"):
                await DatabaseLease(Database(file), "bob@south").__aenter__()

    asyncio.run(work())


class ReadOnly(Database):
    """A database whose user may only read."""

    @contextmanager
    def writing(self) -> Iterator[Any]:
        with super().writing() as connection:
            sqlite = connection.dialect.name == "sqlite"
            connection.exec_driver_sql("PRAGMA query_only = ON" if sqlite else "SET TRANSACTION READ ONLY")
            yield connection


def test_a_database_that_can_only_be_read_says_so(file: str, times: Times) -> None:
    async def enter() -> None:
        async with lease(file, "ann", times, ReadOnly(file)):
            raise AssertionError("it has the right to write")

    with pytest.raises(DiagnosticError, match=r"(?i)read.?only") as found:
        asyncio.run(enter())
    assert code(found) == "database-unavailable"


def test_a_store_that_can_only_be_read_says_so_before_aws_is_asked(file: str) -> None:
    store = ScanDatabase(file)
    store.prepare()
    store.database = ReadOnly(file)
    with pytest.raises(DiagnosticError, match=r"(?i)read.?only"):
        store.prepare()
