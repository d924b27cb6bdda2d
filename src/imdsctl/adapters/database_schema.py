"""The tables of a database of scans, and how an older one becomes today's.

Version 1 kept whole scans. Version 2 keeps one that is being taken as well (`finished` is NULL), counts every kind by
verdict, and has evidence. Version 3 counts the accounts and Regions that were not read as well. An older database is
brought up to date in one transaction when it is first opened; an imdsctl of that time then refuses it, and says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from imdsctl.adapters.documents import DocumentError, decoded, encoded
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.history import Kind, kinds_of, outside
from imdsctl.domain.observations import Account, AccountUnseen, RegionSeen, ScanEnd, ScanHeader, Unseen
from imdsctl.domain.verdicts import Count

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Table

SCHEMA_VERSION = 3
ADVISORY_LOCK = 0x696D6473
"""Whoever creates or changes PostgreSQL's tables holds this lock ("imds" in ASCII): several workers start at once."""
ROWS_PER_BATCH = 500

COUNT_COLUMNS = tuple((kind, verdict, f"{kind}_{verdict}") for kind in Kind for verdict in Verdict)
"""What is counted, and the column that holds it: `instances_exposed`, `region_defaults_unknown`..."""
OUTSIDE_COLUMNS = ("not_entered", "not_inspectable")
"""Those of `scans` alone (`domain.history.outside`)."""


@cache
def tables() -> dict[str, Table]:
    """All tables by name."""
    from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table

    metadata = MetaData()

    def counts() -> Iterable[Column[int]]:
        return (Column(name, Integer, nullable=False, server_default="0") for _, _, name in COUNT_COLUMNS)

    Table("schema_version", metadata, Column("version", Integer, nullable=False))
    Table(
        "scans",
        metadata,
        Column("scan_id", String(64), primary_key=True),
        # ISO 8601 in UTC: sorts as text, and reads the same in every database.
        Column("started", String(40), nullable=False),
        Column("finished", String(40), index=True),
        Column("accounts", Integer, nullable=False),
        Column("targets", Integer, nullable=False, server_default="0"),
        Column("unseen", Integer, nullable=False, server_default="0"),
        *counts(),
        *(Column(name, Integer, nullable=False, server_default="0") for name in OUTSIDE_COLUMNS),
        Column("header", LargeBinary, nullable=False),
        Column("ending", LargeBinary),
    )
    Table(
        "targets",
        metadata,
        Column("scan_id", String(64), ForeignKey("scans.scan_id"), primary_key=True),
        Column("account_id", String(12), primary_key=True),
        Column("region", String(32), primary_key=True),
        Column("default_verdict", String(8), nullable=False),
        Column("unseen", Integer, nullable=False),
        *counts(),
        # Last, so that SQLite reads the numbers of a row without the pages of its document.
        Column("document", LargeBinary, nullable=False),
    )
    Table(
        "evidence",
        metadata,
        Column("scan_id", String(64), ForeignKey("scans.scan_id"), primary_key=True),
        Column("taken", String(40), nullable=False),
        Column("instances", Integer, nullable=False),
        Column("document", LargeBinary, nullable=False),
    )
    Table(
        "evidence_targets",
        metadata,
        Column("scan_id", String(64), ForeignKey("evidence.scan_id"), primary_key=True),
        Column("account_id", String(12), primary_key=True),
        Column("region", String(32), primary_key=True),
        Column("document", LargeBinary, nullable=False),
    )
    return dict(metadata.tables)


def target_row(scan_id: str, region: RegionSeen) -> dict[str, Any]:
    """A row of `targets`."""
    counts = kinds_of(region)
    (default,) = (verdict for verdict in Verdict if getattr(counts[Kind.REGION_DEFAULTS], verdict))
    return {
        "scan_id": scan_id,
        "account_id": region.target.account_id,
        "region": region.target.region,
        "default_verdict": str(default),
        "unseen": len(region.unseen),
        **count_values(counts),
        "document": encoded(region),
    }


def count_values(counts: Mapping[Kind, Count]) -> dict[str, int]:
    """Counts as the values of their columns."""
    nothing = Count()
    return {name: getattr(counts.get(kind, nothing), verdict) for kind, verdict, name in COUNT_COLUMNS}


def counts_of(row: Mapping[Any, Any]) -> dict[Kind, Count]:
    """The columns of a row as counts; a kind of which there is nothing is left out."""
    found = {kind: Count(*(row[f"{kind}_{verdict}"] or 0 for verdict in Verdict)) for kind in Kind}
    return {kind: count for kind, count in found.items() if count.total}


def scan_row(header: ScanHeader) -> dict[str, Any]:
    """A row of `scans` for a scan that begins."""
    return {
        "scan_id": header.scan_id,
        "started": utc_text(header.started),
        "finished": None,
        "accounts": len(header.accounts),
        "header": encoded(header),
    }


def ending_values(connection: Connection, scan_id: str, end: ScanEnd) -> dict[str, Any]:
    """What a row of `scans` gets when its scan ends: the sums of its targets."""
    from sqlalchemy import func, select

    targets = tables()["targets"]
    sums = [func.coalesce(func.sum(targets.c[name]), 0).label(name) for _, _, name in COUNT_COLUMNS]
    unseen = func.coalesce(func.sum(targets.c.unseen), 0).label("unseen")
    found = connection.execute(
        select(func.count().label("targets"), unseen, *sums).where(targets.c.scan_id == scan_id)
    ).mappings()
    row = {name: int(value) for name, value in found.one().items()}
    return {
        **row,
        "unseen": row["unseen"] + len(end.unseen),
        **outside_values(end),
        "finished": utc_text(end.finished),
        "ending": encoded(end),
    }


def outside_values(end: ScanEnd) -> dict[str, int]:
    """The columns of what a scan could not look into."""
    return dict(zip(OUTSIDE_COLUMNS, outside(end.unseen), strict=True))


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with all six digits, so that text sorts as time does."""
    from datetime import UTC

    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def is_current(connection: Connection) -> bool:
    """True when the tables are there, as this imdsctl knows them."""
    from sqlalchemy import inspect, select

    version = tables()["schema_version"]
    return inspect(connection).has_table(version.name) and (
        connection.execute(select(version.c.version)).scalar() == SCHEMA_VERSION
    )


def agree_on_schema(connection: Connection, place: str) -> None:
    """Create the tables in a new database, bring an older one up to date.

    Raises DiagnosticError `database-newer` for one that a newer imdsctl has written.
    """
    from sqlalchemy import inspect, select, text

    version = tables()["schema_version"]
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    if not inspect(connection).has_table(version.name):
        version.metadata.create_all(connection)
        connection.execute(version.insert(), {"version": SCHEMA_VERSION})
        return
    found = connection.execute(select(version.c.version)).scalar()
    if found == 1:
        _from_version_1(connection)
    elif found == 2:
        _from_version_2(connection)
    elif found != SCHEMA_VERSION:  # another worker may have brought it up to date while this one waited
        raise DiagnosticError(
            Diagnostic(
                "database-newer",
                f"the database has schema version {found}; this imdsctl knows version {SCHEMA_VERSION}",
                place,
                "upgrade imdsctl, or choose another place with `--db URL`",
            )
        )


def _from_version_1(connection: Connection) -> None:
    """Version 1's scans become version 2's. The documents of targets stay readable; their numbers are counted anew."""
    from sqlalchemy import text

    for statement in (
        "DROP INDEX ix_scans_finished",
        "ALTER TABLE targets RENAME TO targets_version_1",
        "ALTER TABLE scans RENAME TO scans_version_1",
    ):
        connection.execute(text(statement))
    metadata = tables()["scans"].metadata
    metadata.create_all(connection)
    for scan_id, started, finished, document in connection.execute(
        text("SELECT scan_id, started, finished, document FROM scans_version_1")
    ).all():
        header, end = _parts_of_version_1(scan_id, started, finished, document)
        connection.execute(tables()["scans"].insert(), scan_row(header))
        documents = connection.execute(
            text("SELECT document FROM targets_version_1 WHERE scan_id = :scan_id"), {"scan_id": scan_id}
        )
        for batch in documents.partitions(ROWS_PER_BATCH):
            connection.execute(
                tables()["targets"].insert(),
                [target_row(scan_id, decoded(RegionSeen, bytes(held))) for (held,) in batch],
            )
        scans = tables()["scans"]
        connection.execute(scans.update().where(scans.c.scan_id == scan_id), ending_values(connection, scan_id, end))
    for statement in ("DROP TABLE targets_version_1", "DROP TABLE scans_version_1"):
        connection.execute(text(statement))
    connection.execute(tables()["schema_version"].update(), {"version": SCHEMA_VERSION})


def _from_version_2(connection: Connection) -> None:
    """The columns that version 3 has more, filled."""
    from sqlalchemy import select, text

    for name in OUTSIDE_COLUMNS:
        connection.execute(text(f"ALTER TABLE scans ADD COLUMN {name} INTEGER DEFAULT 0 NOT NULL"))
    scans = tables()["scans"]
    query = select(scans.c.scan_id, scans.c.ending).where(scans.c.ending.is_not(None))
    for scan_id, ending in connection.execute(query).all():
        # One damaged scan, which says so when it is read, does not keep the others from being opened.
        with suppress(DocumentError):
            values = outside_values(decoded(ScanEnd, bytes(ending)))
            connection.execute(scans.update().where(scans.c.scan_id == scan_id), values)
    connection.execute(tables()["schema_version"].update(), {"version": SCHEMA_VERSION})


def _parts_of_version_1(scan_id: str, started: str, finished: str, document: bytes) -> tuple[ScanHeader, ScanEnd]:
    from datetime import datetime

    import orjson

    held = orjson.loads(zlib.decompress(document))
    return (
        ScanHeader(
            scan_id,
            datetime.fromisoformat(started),
            tuple(Account(**each) for each in held["accounts"]),
            tuple((name, value) for name, value in held["scope"]),
        ),
        ScanEnd(
            datetime.fromisoformat(finished),
            tuple(
                AccountUnseen(each["account_id"], each["region"], Unseen(**each["unseen"])) for each in held["unseen"]
            ),
            calls=held["calls"],
        ),
    )
