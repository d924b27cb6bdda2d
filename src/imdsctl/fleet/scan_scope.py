"""The options that say where to look, applied to a scan that is there already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.observations import Account, RegionSeen, Scan
from imdsctl.domain.verdicts import NOT_INSPECTABLE
from imdsctl.fleet.organization_units import closest
from imdsctl.fleet.selection import Selection

_PLACES = frozenset({"account", "Region", "Regions"})
"""`Unseen.what` of an account that was not entered, a Region that was not read, and Regions that were not listed."""


@dataclass(frozen=True, slots=True)
class ScanScope:
    """The targets of a scan that a selection wants."""

    scan: Scan
    account_ids: frozenset[str]
    regions: frozenset[str]
    exclude_regions: frozenset[str]

    def __iter__(self) -> Iterator[RegionSeen]:
        return (each for each in self.scan.regions if self._has(each.target.account_id, each.target.region))

    def unread(self) -> Iterator[str]:
        """Accounts and Regions of it in which the scan could not see the instances. Not inspectable ones are none."""
        for each in self.scan.unseen:
            place = each.unseen.what in _PLACES and each.unseen.code not in NOT_INSPECTABLE
            if place and self._has(each.account_id, each.region):
                yield f"{each.account_id}/{each.region}" if each.region else each.account_id
        for region in self:
            if any(part.what == "instances" for part in region.unseen):
                yield str(region.target)

    def _has(self, account_id: str, region: str | None) -> bool:
        return account_id in self.account_ids and (
            region is None or ((not self.regions or region in self.regions) and region not in self.exclude_regions)
        )


def scope_of(scan: Scan, selection: Selection, *, current_account: str | None = None) -> ScanScope:
    """What the selection leaves of a scan; `current_account` is the id when only that one is wanted.

    Accounts go by id or name, units by path (with or without the root's name): a scan knows no ids of units. Raises
    DiagnosticError (exit code 2) for an account, a unit or a Region that the scan did not see, and when none is left.
    """
    names = {each.account_id for each in scan.accounts} | {each.name for each in scan.accounts if each.name}
    problems = [
        Diagnostic("account-unknown", f"scan {scan.scan_id} has no account `{name}`", hint="`imdsctl scan` first")
        for name in dict.fromkeys((*selection.accounts, *selection.exclude_accounts))
        if name not in names
    ]
    problems += [
        Diagnostic(
            "ou-unknown",
            f"scan {scan.scan_id} has no account below `{name}`",
            hint="name the unit by its path, as a scan prints it (`Workloads/Prod`)",
        )
        for name in dict.fromkeys((*selection.ous, *selection.exclude_ous))
        if not any(_below(each, (name,)) for each in scan.accounts)
    ]
    seen = {region.target.region for region in scan.regions} if selection.regions else frozenset()
    problems += [
        Diagnostic(
            "region-unknown",
            f"scan {scan.scan_id} has read nothing in Region `{name}`",
            hint=closest(name, seen) or f"it has read {', '.join(sorted(seen)) or 'none'}",
        )
        for name in selection.regions
        if name not in seen
    ]
    if problems:
        raise DiagnosticError(problems, exit_code=2)
    wanted = frozenset(
        each.account_id for each in scan.accounts if _wanted(each, selection, current_account=current_account)
    )
    if not wanted or (selection.regions and set(selection.regions) <= set(selection.exclude_regions)):
        what = "Region" if wanted else "account"
        hint = "widen `--accounts`, `--ou` and `--regions`, or drop an exclusion"
        raise DiagnosticError(Diagnostic("nothing-selected", f"no {what} of the scan is left", hint=hint), exit_code=2)
    return ScanScope(scan, wanted, frozenset(selection.regions), frozenset(selection.exclude_regions))


def _wanted(account: Account, selection: Selection, *, current_account: str | None) -> bool:
    names = {account.account_id, account.name}
    return (
        (current_account is None or account.account_id == current_account)
        and (not selection.accounts or not names.isdisjoint(selection.accounts))
        and names.isdisjoint(selection.exclude_accounts)
        and (not selection.ous or _below(account, selection.ous))
        and not _below(account, selection.exclude_ous)
    )


def _below(account: Account, units: Iterable[str]) -> bool:
    path = account.ou_path
    paths = (path, path.partition("/")[2])
    return any(
        bool(each) and (each == unit.strip("/") or each.startswith(unit.strip("/") + "/"))
        for unit in units
        for each in paths
    )
