"""The sweep: visit every target, write down what is seen, and as carefully what is not.

Each target is given to the `ScanWriter` as soon as it is read, and then forgotten: what a sweep holds does not grow
with the fleet. A sweep that was stopped (Ctrl-C, a time limit, a crash) goes on with what its writer has not got.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.observations import Account, AccountUnseen, Scan, ScanEnd, ScanHeader, Target, Unseen
from imdsctl.domain.verdicts import NOT_REACHED, Summing
from imdsctl.fleet import limits
from imdsctl.fleet.counted import CountedAws
from imdsctl.fleet.entrance import Entrance
from imdsctl.fleet.events import AccountEntered, AccountsFound, AccountSkipped, Listener, TargetRead, ignore
from imdsctl.fleet.organization_policies import read_policies
from imdsctl.fleet.pace import Pace
from imdsctl.fleet.ports import Aws, Credentials, ScanWriter, Unreachable
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.services import READERS, Reader, Serves, everywhere
from imdsctl.fleet.target_reader import PublicImages, read_target
from imdsctl.fleet.targets import Door, Visit, code_of, said
from imdsctl.wire.errors import ServiceError


class SweepStopped(Exception):
    """A sweep was told to stop before it had seen everything. What it has read is in the writer.

    `unseen` are the accounts and Regions that could not be read, and those that were not reached (`NOT_REACHED`).
    """

    def __init__(self, unseen: tuple[AccountUnseen, ...], calls: int) -> None:
        super().__init__("the sweep was stopped")
        self.unseen = unseen
        self.calls = calls

    @property
    def not_reached(self) -> int:
        """How many accounts and Regions were not reached."""
        return sum(each.unseen.code == NOT_REACHED for each in self.unseen)


async def sweep(
    aws: Aws,
    selection: Selection,
    visit: Visit,
    writer: ScanWriter,
    *,
    now: Callable[[], datetime],
    tell: Listener = ignore,
    services: Mapping[str, Reader] = READERS,
    serves: Serves = everywhere,
    summing: Summing | None = None,
    stop: asyncio.Event | None = None,
    entrance: Entrance | None = None,
) -> Scan:
    """Visit everybody in `visit` (of `fleet.targets.find_accounts`), write what is seen, and give the finished scan.

    Targets that `writer` has from an earlier run are not visited again. `now` gives aware UTC times for the record.
    `tell` hears of progress, `summing` of every target that is read. `services` are the readers of other services: if
    the selection wants them, those are called that exist in a Region (`serves`). `entrance` may have begun to enter
    accounts. Refusals never raise. Raises SweepStopped when `stop` is set before the end; the scan then stays
    unfinished, with what was read. Raises DiagnosticError when the store does not take it.
    """
    entrance = entrance or Entrance(aws, selection)
    counter = entrance.counter
    run = _Sweep(aws, entrance, selection, visit, writer, tell, services, serves, summing)
    work = asyncio.ensure_future(run.everything())
    stopping = asyncio.ensure_future(stop.wait()) if stop is not None else None
    try:
        await asyncio.wait([work] if stopping is None else [work, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            # It stops first: a target may still be read until the word has reached it.
            await _cancelled(work)
            writer.flush()
            raise SweepStopped((*run.all_unseen(), *run.not_reached()), counter["calls"])
        await work
    except BaseException:
        # Whatever stopped us, what was read is kept. A store that does not take it has said so already.
        await _cancelled(work)
        with suppress(DiagnosticError):
            writer.flush()
        raise
    finally:
        if stopping is not None:
            await _cancelled(stopping)
    policies = run.policies
    return writer.finish(
        ScanEnd(now(), (*run.all_unseen(), *policies.unseen), policies.policies, policies.effective, counter["calls"])
    )


async def _cancelled(task: asyncio.Future[Any]) -> None:
    """It has come to its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def unreached(account_id: str, region: str | None = None) -> AccountUnseen:
    """What is said of an account, or a Region of it, that a sweep did not come to before it was stopped."""
    what = "account" if region is None else "Region"
    return AccountUnseen(account_id, region, Unseen(what, "the scan was stopped before it came here", NOT_REACHED))


def header_of(selection: Selection, visit: Visit, *, scan_id: str, started: datetime) -> ScanHeader:
    """What a scan begins with."""
    if visit.current_account:
        selection = replace(selection, current_account=True)
    scope = selection.scope(visit.caller.account_id)
    return ScanHeader(scan_id, started, (*visit.accounts, *visit.inactive), scope)


class _Sweep:
    """One run: its limits, what it shares between targets, and what it could not see."""

    def __init__(
        self,
        aws: Aws,
        entrance: Entrance,
        selection: Selection,
        visit: Visit,
        writer: ScanWriter,
        tell: Listener,
        services: Mapping[str, Reader],
        serves: Serves,
        summing: Summing | None,
    ) -> None:
        self._targets = Pace(limits.TARGETS_CONCURRENT_MAX)
        self._counter = entrance.counter
        self._aws = CountedAws(aws, self._counter, self._targets)
        self._doors = {id(aws): self._aws}
        self._entrance = entrance
        self._selection = selection
        self._visit = visit
        self._writer = writer
        self._tell = tell
        self._services = services if selection.services else {}
        self._serves = serves
        self._summing = summing
        self._unseen: list[AccountUnseen] = []
        self._left: dict[str, list[str] | None] = {each.account_id: None for each in visit.accounts}
        """Accounts that are not done with the Regions that are left; None before these are known."""
        self._in_region: dict[str, tuple[Reader, ...]] = {}
        self._public_images = PublicImages()
        self._accounts = asyncio.Semaphore(limits.ACCOUNTS_CONCURRENT_MAX)
        self._in_turn = asyncio.Lock()
        self._done = frozenset(writer.done)

    async def everything(self) -> None:
        self._tell(AccountsFound(len(self._visit.accounts)))
        async with asyncio.TaskGroup() as group:
            policies = group.create_task(read_policies(self._aws, self._visit))
            for account in self._visit.accounts:
                await self._accounts.acquire()
                group.create_task(self._account(account))
        self.policies = policies.result()

    def all_unseen(self) -> tuple[AccountUnseen, ...]:
        """In the order of the accounts, then of the Regions, whatever answered first."""
        order = {each.account_id: number for number, each in enumerate(self._writer.header.accounts)}
        mine = sorted(self._unseen, key=lambda each: (order[each.account_id], each.region or ""))
        return (*self._visit.unseen, *mine)

    def not_reached(self) -> list[AccountUnseen]:
        found = []
        for account_id, regions in self._left.items():
            if regions is None:
                found.append(unreached(account_id))
            else:
                found += [unreached(account_id, each) for each in regions]
        return found

    async def _account(self, account: Account) -> None:
        try:
            account_id = account.account_id
            door = self._door(account_id)
            role = self._visit.roles.get(account_id) or self._selection.role
            try:
                credentials, regions = await self._entrance.enter(door, account_id, role)
            except (ServiceError, Unreachable) as error:
                reason = f"the role {role} could not be assumed: {said(error)}"
                self._skip(AccountUnseen(account_id, None, Unseen("account", reason, code_of(error))))
                del self._left[account_id]
                return
            for unseen in regions.unseen:
                self._skip(unseen)
            self._tell(AccountEntered(account_id, len(regions.enabled)))
            left = [each for each in regions.enabled if Target(account_id, each) not in self._done]
            self._left[account_id] = left
            for region in regions.enabled:
                if region not in left:
                    self._tell(TargetRead(Target(account_id, region), 0, 0))
            # One account after another: were their targets to take turns, all accounts that are entered would be done
            # at the same time, and nothing under way while the next ones are entered.
            async with asyncio.TaskGroup() as group, self._in_turn:
                for region in tuple(left):
                    await self._targets.enter()
                    group.create_task(self._target(door.aws, credentials, Target(account_id, region), left))
            del self._left[account_id]
        finally:
            self._accounts.release()

    def _door(self, account_id: str) -> Door:
        door = self._visit.doors.get(account_id)
        if door is None:
            return Door(self._aws, self._visit.caller)
        counted = self._doors.setdefault(id(door.aws), CountedAws(door.aws, self._counter, self._targets))
        return Door(counted, door.caller)

    async def _target(self, aws: Aws, credentials: Credentials | None, target: Target, left: list[str]) -> None:
        try:
            services = self._readers(target.region)
            seen = await read_target(aws, credentials, target, self._public_images, services)
        finally:
            self._targets.leave()
        self._writer.add(seen)
        left.remove(target.region)
        if self._summing is not None:
            self._summing.add(seen)
        self._tell(TargetRead(target, len(seen.instances), len(seen.unseen)))

    def _readers(self, region: str) -> tuple[Reader, ...]:
        readers = self._in_region.get(region)
        if readers is None:
            readers = tuple(each for each in self._services.values() if self._serves(each.service, region))
            self._in_region[region] = readers
        return readers

    def _skip(self, unseen: AccountUnseen) -> None:
        self._unseen.append(unseen)
        self._tell(AccountSkipped(unseen))
