"""Scans in a database: SQLite in the user's data directory, or PostgreSQL by URL.

A scan is one row of `scans` and one row of `targets` per account and Region. What was seen stands in a compressed JSON
document per target (`adapters.documents`); the columns beside it are what somebody may want to ask in SQL. A scan is
written target by target while it is taken; once it is finished, nothing changes it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from imdsctl.adapters.database_engine import Database
from imdsctl.adapters.database_schema import (
    ROWS_PER_BATCH,
    counts_of,
    ending_values,
    scan_row,
    tables,
    target_row,
    utc_text,
)
from imdsctl.adapters.documents import encoded
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.evidence import Evidence, InstanceEvidence
from imdsctl.domain.history import ScanRecord
from imdsctl.domain.observations import RegionSeen, Scan, ScanEnd, ScanHeader, Target

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, RowMapping, Select

TARGETS_BUFFERED_MAX = 256
BYTES_BUFFERED_MAX = 4 * 1024 * 1024
SECONDS_BUFFERED_MAX = 2.0
"""What a kill -9 can lose of a scan under way, and a resumed one reads again: whichever of the three comes first."""
ACCOUNTS_PER_QUERY = 16
"""A stored scan is read so many accounts at a time: at most 16 x 34 Regions' documents are in memory."""
EVIDENCE_TARGETS_HELD = 64


class ScanDatabase:
    """Implements `fleet.ports.ScanStore`. Nothing is opened, or imported, before the first use."""

    def __init__(self, url: str | None = None) -> None:
        """`url` is SQLAlchemy's (`postgresql+psycopg://host/name`) or a SQLite file's path; None is the default."""
        self.database = Database(url)

    def prepare(self) -> None:
        """Connect, create the tables in a new database, bring an older one up to date. Raises DiagnosticError.

        One that can only be read says so here, before AWS is asked, and paid, for what could not be kept.
        """
        from sqlalchemy import false

        with self.database.writing() as connection:
            connection.execute(tables()["scans"].delete().where(false()))

    def begin(self, header: ScanHeader) -> DatabaseWriter:
        """Begin a scan; there is none of that id yet. Raises DiagnosticError."""
        with self.database.writing() as connection:
            connection.execute(tables()["scans"].insert(), scan_row(header))
        return DatabaseWriter(self.database, header, frozenset())

    def resume(self, scan_id: str | None = None) -> DatabaseWriter:
        """Go on with an unfinished scan: the one of that id, or the one that began last.

        Raises DiagnosticError `scan-unknown` or `scan-finished`.
        """
        from sqlalchemy import select

        scans, targets = tables()["scans"], tables()["targets"]
        with self.database.reading() as connection:
            query = select(scans.c.header, scans.c.finished)
            if scan_id is None:
                query = query.where(scans.c.finished.is_(None)).order_by(scans.c.started.desc(), scans.c.scan_id.desc())
            else:
                query = query.where(scans.c.scan_id == scan_id)
            row = connection.execute(query.limit(1)).first()
            if row is None:
                raise self._unknown(f"there is no scan `{scan_id}`" if scan_id else "there is no unfinished scan")
            header = self.database.decoded(ScanHeader, row.header)
            if row.finished is not None:
                raise _finished(header.scan_id, self.database.place)
            done = connection.execute(
                select(targets.c.account_id, targets.c.region).where(targets.c.scan_id == header.scan_id)
            )
            return DatabaseWriter(self.database, header, frozenset(Target(*each) for each in done))

    def join(self, header: ScanHeader) -> DatabaseWriter:
        """Write a part of a scan that somebody else has begun and will finish; `header` names the part's accounts."""
        return DatabaseWriter(self.database, header, frozenset())

    def save(self, scan: Scan) -> None:
        """Keep a finished scan in one transaction. Raises DiagnosticError."""
        with self.database.writing() as connection:
            connection.execute(tables()["scans"].insert(), scan_row(scan.header))
            rows = (target_row(scan.scan_id, region) for region in scan.regions)
            while batch := list(islice(rows, ROWS_PER_BATCH)):
                connection.execute(tables()["targets"].insert(), batch)
            _finish(connection, scan.scan_id, scan.end)

    def latest(self) -> Scan | None:
        """The scan that finished last, None when none is finished. Raises DiagnosticError."""
        scans = tables()["scans"]
        return self._read(
            lambda query: query.where(scans.c.finished.is_not(None)).order_by(
                scans.c.finished.desc(), scans.c.scan_id.desc()
            )
        )

    def load(self, scan_id: str) -> Scan:
        """One finished scan. Raises DiagnosticError."""
        scans = tables()["scans"]
        found = self._read(lambda query: query.where(scans.c.scan_id == scan_id, scans.c.finished.is_not(None)))
        if found is None:
            raise self._unknown(f"there is no finished scan `{scan_id}`")
        return found

    def history(self) -> tuple[ScanRecord, ...]:
        """Every scan in numbers, unfinished ones too, the one that began last first. Raises DiagnosticError."""
        from sqlalchemy import func, select

        scans, targets = tables()["scans"], tables()["targets"]
        so_far = (
            select(func.count())
            .select_from(targets)
            .where(targets.c.scan_id == scans.c.scan_id, scans.c.finished.is_(None))
            .scalar_subquery()
        )
        columns = [column for column in scans.c if column.name != "ending"]
        query = select(*columns, so_far.label("so_far")).order_by(scans.c.started.desc(), scans.c.scan_id.desc())
        with self.database.reading() as connection:
            return tuple(_record(self.database, row) for row in connection.execute(query).mappings())

    def delete(self, scan_ids: Collection[str]) -> None:
        """Forget scans with their evidence, all or none. Raises DiagnosticError."""
        with self.database.writing() as connection:
            for name in ("evidence_targets", "evidence", "targets", "scans"):
                table = tables()[name]
                for scan_id in scan_ids:
                    connection.execute(table.delete().where(table.c.scan_id == scan_id))

    def save_evidence(self, evidence: Evidence) -> None:
        """Keep evidence with its scan, in place of what was gathered for it before. Raises DiagnosticError."""
        from sqlalchemy import select

        by_target = sorted(evidence.instances.values(), key=lambda each: (each.target, each.instance_id))
        head = _EvidenceHead(
            evidence.scan_id, evidence.taken, evidence.look_back, evidence.unseen, evidence.metrics_requested
        )
        scans, heads, parts = (tables()[name] for name in ("scans", "evidence", "evidence_targets"))
        with self.database.writing() as connection:
            if connection.execute(select(scans.c.scan_id).where(scans.c.scan_id == evidence.scan_id)).first() is None:
                raise self._unknown(f"there is no scan `{evidence.scan_id}`")
            for table in (parts, heads):
                connection.execute(table.delete().where(table.c.scan_id == evidence.scan_id))
            row = {"scan_id": evidence.scan_id, "taken": utc_text(evidence.taken), "instances": len(by_target)}
            connection.execute(heads.insert(), {**row, "document": encoded(head)})
            rows = (
                {
                    "scan_id": evidence.scan_id,
                    "account_id": target.account_id,
                    "region": target.region,
                    "document": encoded(_EvidencePart(tuple(members))),
                }
                for target, members in groupby(by_target, key=lambda each: each.target)
            )
            while batch := list(islice(rows, ROWS_PER_BATCH)):
                connection.execute(parts.insert(), batch)

    def evidence(self, scan_id: str) -> Evidence | None:
        """What was gathered for a scan, or None. Its instances are read when asked for. Raises DiagnosticError."""
        from sqlalchemy import select

        heads = tables()["evidence"]
        with self.database.reading() as connection:
            row = connection.execute(select(heads).where(heads.c.scan_id == scan_id)).first()
        if row is None:
            return None
        head = self.database.decoded(_EvidenceHead, row.document)
        return Evidence(
            scan_id=head.scan_id,
            taken=head.taken,
            look_back=head.look_back,
            instances=StoredEvidence(self.database, scan_id, row.instances),
            unseen=head.unseen,
            metrics_requested=head.metrics_requested,
        )

    def _read(self, narrowed: Any) -> Scan | None:
        from sqlalchemy import select

        scans = tables()["scans"]
        query: Select[Any] = narrowed(select(scans.c.header, scans.c.ending, scans.c.targets))
        with self.database.reading() as connection:
            row = connection.execute(query.limit(1)).first()
        return None if row is None else _scan(self.database, row)

    def _unknown(self, summary: str) -> DiagnosticError:
        hint = "run `imdsctl scan`, or leave the id out for the latest scan"
        return DiagnosticError(Diagnostic("scan-unknown", summary, self.database.place, hint), exit_code=2)


class DatabaseWriter:
    """Implements `fleet.ports.ScanWriter`: collects a few targets and writes them in one transaction."""

    def __init__(self, database: Database, header: ScanHeader, done: frozenset[Target]) -> None:
        self._database = database
        self._header = header
        self._done = done
        self._accounts = frozenset(account.account_id for account in header.accounts)
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._since = time.monotonic()

    @property
    def header(self) -> ScanHeader:
        """What the scan began with."""
        return self._header

    @property
    def done(self) -> Collection[Target]:
        """The targets that an earlier run has written."""
        return self._done

    def add(self, region: RegionSeen) -> None:
        """Keep one target, in place of what was kept of it before.

        Raises DiagnosticError, and ValueError for an account that the scan does not visit.
        """
        if region.target.account_id not in self._accounts:
            raise ValueError(f"{region.target} is not part of the scan {self._header.scan_id}")
        row = target_row(self._header.scan_id, region)
        if not self._rows:
            self._since = time.monotonic()
        self._rows.append(row)
        self._bytes += len(row["document"])
        if (
            len(self._rows) >= TARGETS_BUFFERED_MAX
            or self._bytes >= BYTES_BUFFERED_MAX
            or time.monotonic() - self._since >= SECONDS_BUFFERED_MAX
        ):
            self.flush()

    def flush(self) -> None:
        """Everything added so far is kept, whatever happens next. Raises DiagnosticError."""
        if not self._rows:
            return
        with self._database.writing() as connection:
            self._write(connection)
        self._rows, self._bytes = [], 0

    def finish(self, end: ScanEnd) -> Scan:
        """The scan is whole: nothing changes it from here on. Raises DiagnosticError."""
        from sqlalchemy import select

        scan_id = self._header.scan_id
        scans = tables()["scans"]
        with self._database.writing() as connection:
            self._write(connection, last=True)
            _finish(connection, scan_id, end)
            row = connection.execute(
                select(scans.c.header, scans.c.ending, scans.c.targets).where(scans.c.scan_id == scan_id)
            ).one()
        self._rows, self._bytes = [], 0
        return _scan(self._database, row)

    def _write(self, connection: Connection, *, last: bool = False) -> None:
        """The rows that wait, in this transaction. Raises DiagnosticError `scan-finished`, `scan-unknown`."""
        from sqlalchemy import select
        from sqlalchemy.dialects import postgresql, sqlite

        scans, targets = tables()["scans"], tables()["targets"]
        # The row is locked, so that nobody finishes the scan between this look and our commit. Workers share the lock
        # and write side by side; whoever finishes has it alone, and counts what all of them have written.
        query = select(scans.c.finished).where(scans.c.scan_id == self._header.scan_id)
        query = query.with_for_update(read=not last)
        row = connection.execute(query).first()
        if row is None:
            summary = f"the scan `{self._header.scan_id}` was deleted while it was taken"
            raise DiagnosticError(Diagnostic("scan-unknown", summary, self._database.place, "run `imdsctl scan`"))
        if row.finished is not None:
            raise _finished(self._header.scan_id, self._database.place)
        if not self._rows:
            return
        # A target that was added twice is written once: one statement may not touch a row twice.
        rows = {(each["account_id"], each["region"]): each for each in self._rows}
        insert = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(targets)
        key = {"scan_id", "account_id", "region"}
        replaced = {column.name: insert.excluded[column.name] for column in targets.c if column.name not in key}
        statement = insert.on_conflict_do_update(index_elements=sorted(key), set_=replaced)
        connection.execute(statement, list(rows.values()))


def _finish(connection: Connection, scan_id: str, end: ScanEnd) -> None:
    scans = tables()["scans"]
    connection.execute(scans.update().where(scans.c.scan_id == scan_id), ending_values(connection, scan_id, end))


def _finished(scan_id: str, place: str) -> DiagnosticError:
    summary = f"the scan `{scan_id}` is finished, and a finished scan never changes"
    return DiagnosticError(Diagnostic("scan-finished", summary, place, "take a new one: `imdsctl scan`"), exit_code=2)


class StoredRegions(Collection[RegionSeen]):
    """The targets of a finished scan, read anew at every iteration, a few accounts at a time.

    No transaction stays open between two of them: a finished scan does not change, so the parts fit together.
    """

    def __init__(self, database: Database, header: ScanHeader, targets: int) -> None:
        self._database = database
        self._scan_id = header.scan_id
        self._accounts = tuple(account.account_id for account in header.accounts)
        self._targets = targets

    def __len__(self) -> int:
        return self._targets

    def __iter__(self) -> Iterator[RegionSeen]:
        """By account in the order of `Scan.accounts`, then Region. Raises DiagnosticError."""
        return self._of(self._accounts)

    def by_target(self) -> Iterator[RegionSeen]:
        """By account id, then Region: the order of `Target`. Raises DiagnosticError."""
        return self._of(sorted(self._accounts))

    def __contains__(self, region: object) -> bool:
        return isinstance(region, RegionSeen) and any(
            each == region for each in self._of((region.target.account_id,)) if each.target == region.target
        )

    def __eq__(self, other: object) -> bool:
        """The same scan of the same database: it never changes, so its targets need not be compared."""
        if not isinstance(other, StoredRegions):
            return NotImplemented
        return (self._scan_id, self._database.place) == (other._scan_id, other._database.place)

    def __hash__(self) -> int:
        return hash(self._scan_id)

    def _of(self, accounts: Sequence[str]) -> Iterator[RegionSeen]:
        from sqlalchemy import select

        targets = tables()["targets"]
        columns = (targets.c.account_id, targets.c.region, targets.c.document)
        left = iter(dict.fromkeys(accounts))
        while batch := list(islice(left, ACCOUNTS_PER_QUERY)):
            query = select(*columns).where(targets.c.scan_id == self._scan_id, targets.c.account_id.in_(batch))
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
            order = {account_id: number for number, account_id in enumerate(batch)}
            for row in sorted(rows, key=lambda row: (order[row.account_id], row.region)):
                yield self._database.decoded(RegionSeen, row.document)


class StoredEvidence(Mapping[tuple[Target, str], InstanceEvidence]):
    """Evidence per instance, read a target at a time; the last few targets are held. Raises DiagnosticError."""

    def __init__(self, database: Database, scan_id: str, instances: int) -> None:
        self._database = database
        self._scan_id = scan_id
        self._instances = instances
        self._held: OrderedDict[Target, dict[str, InstanceEvidence]] = OrderedDict()

    def __len__(self) -> int:
        return self._instances

    def __iter__(self) -> Iterator[tuple[Target, str]]:
        from sqlalchemy import select

        parts = tables()["evidence_targets"]
        query = select(parts.c.account_id, parts.c.region).where(parts.c.scan_id == self._scan_id)
        with self._database.reading() as connection:
            found = [Target(*row) for row in connection.execute(query.order_by(parts.c.account_id, parts.c.region))]
        for target in found:
            for instance_id in self._of(target):
                yield target, instance_id

    def __getitem__(self, key: tuple[Target, str]) -> InstanceEvidence:
        target, instance_id = key
        try:
            return self._of(target)[instance_id]
        except KeyError:
            raise KeyError(key) from None

    def _of(self, target: Target) -> dict[str, InstanceEvidence]:
        held = self._held.get(target)
        if held is None:
            held = self._held[target] = {each.instance_id: each for each in self._read(target)}
            if len(self._held) > EVIDENCE_TARGETS_HELD:
                self._held.popitem(last=False)
        return held

    def _read(self, target: Target) -> Iterable[InstanceEvidence]:
        from sqlalchemy import select

        parts = tables()["evidence_targets"]
        query = select(parts.c.document).where(
            parts.c.scan_id == self._scan_id,
            parts.c.account_id == target.account_id,
            parts.c.region == target.region,
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return () if row is None else self._database.decoded(_EvidencePart, row.document).instances


@dataclass(frozen=True, slots=True)
class _EvidenceHead:
    scan_id: str
    taken: datetime
    look_back: timedelta
    unseen: tuple[tuple[Target, str], ...] = ()
    metrics_requested: int = 0


@dataclass(frozen=True, slots=True)
class _EvidencePart:
    instances: tuple[InstanceEvidence, ...]


def _scan(database: Database, row: Row[Any, Any, Any]) -> Scan:
    header = database.decoded(ScanHeader, row.header)
    return Scan.of(header, StoredRegions(database, header, row.targets), database.decoded(ScanEnd, row.ending))


def _record(database: Database, row: RowMapping) -> ScanRecord:
    header = database.decoded(ScanHeader, row["header"])
    return ScanRecord(
        scan_id=header.scan_id,
        started=header.started,
        finished=None if row["finished"] is None else datetime.fromisoformat(row["finished"]),
        scope=header.scope,
        accounts=row["accounts"],
        targets=row["targets"] if row["finished"] is not None else row["so_far"],
        unseen=row["unseen"],
        counts=counts_of(row),
        not_entered=row["not_entered"],
        not_inspectable=row["not_inspectable"],
    )
