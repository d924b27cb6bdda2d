"""Scans kept in memory: for a scan that nobody wants to keep, and for tests."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.evidence import Evidence
from imdsctl.domain.history import ScanRecord, begun, record_of
from imdsctl.domain.observations import RegionSeen, Scan, ScanEnd, ScanHeader, Target


class Saves(Protocol):
    """Takes a whole scan."""

    def save(self, scan: Scan) -> None:
        """Keep it."""
        ...


class MemoryWriter:
    """Implements `fleet.ports.ScanWriter`."""

    def __init__(self, store: Saves, header: ScanHeader) -> None:
        self._store = store
        self._header = header
        self._regions: dict[Target, RegionSeen] = {}

    @property
    def header(self) -> ScanHeader:
        """What the scan began with."""
        return self._header

    @property
    def done(self) -> Collection[Target]:
        """The targets that are in already."""
        return self._regions.keys()

    def add(self, region: RegionSeen) -> None:
        """Keep one target."""
        self._regions[region.target] = region

    def flush(self) -> None:
        """What is in memory is kept as well as it gets."""

    def finish(self, end: ScanEnd) -> Scan:
        """The scan is whole."""
        order = {account.account_id: number for number, account in enumerate(self._header.accounts)}
        regions = sorted(self._regions.values(), key=lambda each: (order[each.target.account_id], each.target.region))
        scan = Scan.of(self._header, tuple(regions), end)
        self._store.save(scan)
        return scan


class MemoryStore:
    """Implements `fleet.ports.ScanStore`."""

    def __init__(self) -> None:
        self._scans: dict[str, Scan] = {}
        self._unfinished: dict[str, MemoryWriter] = {}
        self._evidence: dict[str, Evidence] = {}

    def prepare(self) -> None:
        """Always ready."""

    def begin(self, header: ScanHeader) -> MemoryWriter:
        """Begin a scan."""
        writer = self._unfinished[header.scan_id] = MemoryWriter(self, header)
        return writer

    def resume(self, scan_id: str | None = None) -> MemoryWriter:
        """Go on with an unfinished scan. Raises DiagnosticError `scan-unknown`."""
        found = next((each for name, each in reversed(self._unfinished.items()) if scan_id in (None, name)), None)
        if found is None:
            raise _unknown(scan_id)
        return found

    def save(self, scan: Scan) -> None:
        """Keep a scan."""
        self._unfinished.pop(scan.scan_id, None)
        self._scans[scan.scan_id] = scan

    def latest(self) -> Scan | None:
        """The scan that finished last."""
        return max(self._scans.values(), key=lambda scan: (scan.finished, scan.scan_id), default=None)

    def load(self, scan_id: str) -> Scan:
        """One scan. Raises DiagnosticError `scan-unknown`."""
        if scan_id not in self._scans:
            raise _unknown(scan_id)
        return self._scans[scan_id]

    def history(self) -> tuple[ScanRecord, ...]:
        """Every scan in numbers, the one that began last first."""
        records = [record_of(scan) for scan in self._scans.values()]
        records += [begun(writer.header, len(writer.done)) for writer in self._unfinished.values()]
        return tuple(sorted(records, key=lambda each: (each.started, each.scan_id), reverse=True))

    def delete(self, scan_ids: Collection[str]) -> None:
        """Forget scans with their evidence."""
        for scan_id in scan_ids:
            for kept in (self._scans, self._unfinished, self._evidence):
                kept.pop(scan_id, None)

    def save_evidence(self, evidence: Evidence) -> None:
        """Keep evidence."""
        self._evidence[evidence.scan_id] = evidence

    def evidence(self, scan_id: str) -> Evidence | None:
        """A scan's evidence."""
        return self._evidence.get(scan_id)


def _unknown(scan_id: str | None) -> DiagnosticError:
    what = f"there is no scan `{scan_id}`" if scan_id else "there is no unfinished scan"
    return DiagnosticError(Diagnostic("scan-unknown", what, hint="run `imdsctl scan`"), exit_code=2)
