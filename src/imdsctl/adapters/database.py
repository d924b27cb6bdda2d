"""Scans in a database: SQLite in the user's data directory, or any other that SQLAlchemy reaches by URL.

A scan is one row of `scans` and one row of `targets` per account and Region. What was seen stands in a compressed JSON
document per target; the columns beside it are what somebody may want to ask in SQL. Rows are only ever inserted.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.evidence import Evidence
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    ScanHeader,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.verdicts import target_summary
from imdsctl.fleet.memory_store import MemoryWriter
from imdsctl.fleet.ports import ScanWriter

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

E = TypeVar("E", bound=StrEnum)
SCHEMA_VERSION = 1
ROWS_PER_INSERT = 500
COMPRESSION_LEVEL = 1
"""The fastest: names and tags repeat so much that a higher level gains little."""
FILE_NAME = "scans.sqlite3"


def data_directory(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """Where this user's data lives. Source: XDG Base Directory Specification; Apple, File System Programming Guide."""
    environment = os.environ if environment is None else environment
    configured = environment.get("XDG_DATA_HOME", "")
    if os.path.isabs(configured):
        return Path(configured) / "imdsctl"
    home = Path(environment.get("HOME") or Path.home())
    if platform == "darwin":
        return home / "Library" / "Application Support" / "imdsctl"
    return home / ".local" / "share" / "imdsctl"


class ScanDatabase:
    """Implements `fleet.ports.ScanStore`. Nothing is opened, or imported, before the first use."""

    def __init__(self, url: str | None = None) -> None:
        """`url` is SQLAlchemy's (`postgresql+psycopg://host/name`) or a SQLite file's path; None is the default."""
        self._url = _sqlalchemy_url(url)
        self._engine: Engine | None = None
        self._ready = False

    def prepare(self) -> None:
        """Connect, and create the tables in a new database. Raises DiagnosticError."""
        with self._connected():
            pass

    def begin(self, header: ScanHeader) -> ScanWriter:
        """Begin a scan. Raises DiagnosticError."""
        return MemoryWriter(self, header)

    def resume(self, scan_id: str | None = None) -> ScanWriter:
        """Go on with an unfinished scan. Raises DiagnosticError."""
        raise NotImplementedError

    def save_evidence(self, evidence: Evidence) -> None:
        """Keep evidence with its scan."""
        raise NotImplementedError

    def evidence(self, scan_id: str) -> Evidence | None:
        """What was gathered for a scan."""
        return None

    def save(self, scan: Scan) -> None:
        """Keep a scan in one transaction. Raises DiagnosticError."""
        import orjson

        with self._connected() as connection:
            tables = _tables()
            header = {name: getattr(scan, name) for name in ("accounts", "unseen", "scope", "calls")}
            connection.execute(
                tables["scans"].insert(),
                {
                    "scan_id": scan.scan_id,
                    "started": scan.started.isoformat(),
                    "finished": scan.finished.isoformat(),
                    "accounts": len(scan.accounts),
                    "targets": len(scan.regions),
                    "document": zlib.compress(orjson.dumps(header), COMPRESSION_LEVEL),
                },
            )
            rows = (_row(scan.scan_id, position, region) for position, region in enumerate(scan.regions))
            while batch := list(islice(rows, ROWS_PER_INSERT)):
                connection.execute(tables["targets"].insert(), batch)

    def latest(self) -> Scan | None:
        """The scan that finished last, None when there is none. Raises DiagnosticError."""
        return self._read(None)

    def load(self, scan_id: str) -> Scan:
        """One scan. Raises DiagnosticError."""
        found = self._read(scan_id)
        if found is None:
            raise DiagnosticError(
                Diagnostic(
                    "scan-unknown",
                    f"there is no scan `{scan_id}`",
                    self._place(),
                    "run `imdsctl scan`, or leave the id out for the latest scan",
                ),
                exit_code=2,
            )
        return found

    def _read(self, scan_id: str | None) -> Scan | None:
        import orjson
        from sqlalchemy import select

        with self._connected() as connection:
            scans, targets = _tables()["scans"], _tables()["targets"]
            query = select(scans)
            if scan_id is None:
                query = query.order_by(scans.c.finished.desc(), scans.c.scan_id.desc()).limit(1)
            else:
                query = query.where(scans.c.scan_id == scan_id)
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            documents = connection.execute(
                select(targets.c.document).where(targets.c.scan_id == row["scan_id"]).order_by(targets.c.position)
            )
            header = orjson.loads(zlib.decompress(row["document"]))
            return Scan(
                scan_id=row["scan_id"],
                started=datetime.fromisoformat(row["started"]),
                finished=datetime.fromisoformat(row["finished"]),
                accounts=tuple(Account(**each) for each in header["accounts"]),
                regions=tuple(_region(orjson.loads(zlib.decompress(document))) for (document,) in documents),
                unseen=tuple(
                    AccountUnseen(each["account_id"], each["region"], Unseen(**each["unseen"]))
                    for each in header["unseen"]
                ),
                scope=tuple((name, value) for name, value in header["scope"]),
                calls=header["calls"],
            )

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A transaction on a database whose schema is ours."""
        from sqlalchemy import create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

        try:
            if self._engine is None:
                url = make_url(self._url)
                if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
                    Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._engine = create_engine(url)
            with self._engine.begin() as connection:
                if not self._ready:
                    _agree_on_schema(connection, self._place())
                    self._ready = True
                yield connection
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise DiagnosticError(
                Diagnostic(
                    "database-url",
                    f"this database URL cannot be used: {_first_line(error)}",
                    self._place(),
                    "write `sqlite:////absolute/path.sqlite3`, or `postgresql+psycopg://user@host/name` "
                    "after `pip install 'imdsctl[postgresql]'`",
                ),
                exit_code=2,
            ) from None
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise DiagnosticError(
                Diagnostic(
                    "database-unavailable",
                    f"the database of scans cannot be used: {_first_line(cause)}",
                    self._place(),
                    "choose another place with `--db URL`",
                )
            ) from None

    def _place(self) -> str:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            return make_url(self._url).render_as_string(hide_password=True)
        except ArgumentError:
            return self._url


def _sqlalchemy_url(asked: str | None) -> str:
    if asked is None:
        return f"sqlite:///{data_directory() / FILE_NAME}"
    return asked if "://" in asked else f"sqlite:///{Path(asked).expanduser().absolute()}"


@cache
def _tables() -> dict[str, Table]:
    from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table

    metadata = MetaData()
    version = Table("schema_version", metadata, Column("version", Integer, nullable=False))
    scans = Table(
        "scans",
        metadata,
        Column("scan_id", String(64), primary_key=True),
        # ISO 8601 in UTC: sorts as text, and reads the same in every database.
        Column("started", String(40), nullable=False),
        Column("finished", String(40), nullable=False, index=True),
        Column("accounts", Integer, nullable=False),
        Column("targets", Integer, nullable=False),
        Column("document", LargeBinary, nullable=False),
    )
    targets = Table(
        "targets",
        metadata,
        Column("scan_id", String(64), ForeignKey("scans.scan_id"), primary_key=True),
        Column("position", Integer, primary_key=True),
        Column("account_id", String(12), nullable=False),
        Column("region", String(32), nullable=False),
        Column("default_verdict", String(8), nullable=False),
        Column("instances", Integer, nullable=False),
        Column("instances_exposed", Integer, nullable=False),
        Column("templates_exposed", Integer, nullable=False),
        Column("unseen", Integer, nullable=False),
        Column("document", LargeBinary, nullable=False),
    )
    return {"schema_version": version, "scans": scans, "targets": targets}


def _agree_on_schema(connection: Connection, place: str) -> None:
    """Create the tables in a new database. Raises DiagnosticError for one that a newer imdsctl has written."""
    from sqlalchemy import inspect, select

    version_table = _tables()["schema_version"]
    if not inspect(connection).has_table(version_table.name):
        version_table.metadata.create_all(connection)
        connection.execute(version_table.insert(), {"version": SCHEMA_VERSION})
        return
    found = connection.execute(select(version_table.c.version)).scalar()
    if found != SCHEMA_VERSION:
        raise DiagnosticError(
            Diagnostic(
                "database-newer",
                f"the database has schema version {found}; this imdsctl knows version {SCHEMA_VERSION}",
                place,
                "upgrade imdsctl, or choose another place with `--db URL`",
            )
        )


def _row(scan_id: str, position: int, region: RegionSeen) -> dict[str, Any]:
    import orjson

    summary = target_summary(region)
    return {
        "scan_id": scan_id,
        "position": position,
        "account_id": region.target.account_id,
        "region": region.target.region,
        "default_verdict": str(summary.default.verdict),
        "instances": len(region.instances),
        "instances_exposed": summary.instances.exposed,
        "templates_exposed": summary.templates.exposed,
        "unseen": len(region.unseen),
        "document": zlib.compress(orjson.dumps(region), COMPRESSION_LEVEL),
    }


def _region(document: Mapping[str, Any]) -> RegionSeen:
    defaults = document["defaults"]
    return RegionSeen(
        target=Target(**document["target"]),
        defaults=None if defaults is None else _defaults(defaults),
        instances=tuple(_instance(each) for each in document["instances"]),
        templates=tuple(
            TemplateVersionSeen(**{**each, "options": _options(each["options"]), "tags": _tags(each["tags"])})
            for each in document["templates"]
        ),
        images=tuple(ImageSeen(**each) for each in document["images"]),
        unseen=tuple(Unseen(**each) for each in document["unseen"]),
    )


def _instance(each: Mapping[str, Any]) -> InstanceSeen:
    launched = each["launch_time"]
    return InstanceSeen(
        **{
            **each,
            "options": _options(each["options"]),
            "launch_time": None if launched is None else datetime.fromisoformat(launched),
            "tags": _tags(each["tags"]),
        }
    )


def _defaults(each: Mapping[str, Any]) -> AccountDefaults:
    return AccountDefaults(
        **{
            **each,
            "http_tokens": _enum(HttpTokens, each["http_tokens"]),
            "http_endpoint": _enum(Switch, each["http_endpoint"]),
            "instance_metadata_tags": _enum(Switch, each["instance_metadata_tags"]),
            "http_tokens_enforced": _enum(Switch, each["http_tokens_enforced"]),
        }
    )


def _options(each: Mapping[str, Any]) -> MetadataOptions:
    return _shared_options(*each.values())


@lru_cache(maxsize=1024)
def _shared_options(
    tokens: str | None, hop_limit: int | None, endpoint: str | None, ipv6: str | None, tags: str | None
) -> MetadataOptions:
    return MetadataOptions(
        _enum(HttpTokens, tokens), hop_limit, _enum(Switch, endpoint), _enum(Switch, ipv6), _enum(Switch, tags)
    )


def _enum(kind: type[E], value: str | None) -> E | None:
    return None if value is None else kind(value)


def _tags(pairs: Iterable[Iterable[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in pairs)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
