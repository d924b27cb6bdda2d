"""The store of scans against a real SQLite and a real PostgreSQL: the same tests on both.

Whole or not at all, the same after reading as before, and a finished scan never changes.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, event
from tests.contract.postgresql import PASSWORD, Server, postgresql

from imdsctl.adapters.data_directory import data_directory
from imdsctl.adapters.database import TARGETS_BUFFERED_MAX, ScanDatabase
from imdsctl.adapters.database_engine import Database, without_password
from imdsctl.adapters.database_schema import OUTSIDE_COLUMNS, SCHEMA_VERSION
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.evidence import Evidence, InstanceEvidence, Use
from imdsctl.domain.history import Kind
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    ConfigurationSeen,
    FleetKind,
    FleetSeen,
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    LaunchSource,
    PolicyKind,
    PolicySeen,
    RegionSeen,
    Scan,
    ScanEnd,
    ScanHeader,
    ServiceKind,
    ServiceSeen,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.verdicts import Count

NOON = datetime(2026, 11, 3, 12, 0, 0, 123456, tzinfo=UTC)
OPTIONS = MetadataOptions(HttpTokens.OPTIONAL, 2, Switch.ENABLED, Switch.DISABLED, Switch.ENABLED)
SHOP, OLD = "111122223333", "222233334444"
TEMPLATE = LaunchSource(template_id="lt-1", template_name="web", version="$Latest", image_id="ami-2")
FULL = RegionSeen(
    Target(SHOP, "us-east-1"),
    AccountDefaults(HttpTokens.REQUIRED, 2, None, Switch.ENABLED, Switch.DISABLED, "declarative-policy", "ask"),
    instances=(
        InstanceSeen(
            "i-1",
            "running",
            OPTIONS,
            "ami-1",
            "m5.large",
            NOON,
            "lt-1",
            "3",
            "eks.amazonaws.com",
            True,
            (("Name", "web"), ("", "empty key")),
        ),
        InstanceSeen("i-2", "stopped", MetadataOptions()),
    ),
    templates=(
        TemplateVersionSeen("lt-1", "web", 3, True, False, OPTIONS, "ami-1", True, (("team", "a"),)),
        TemplateVersionSeen("lt-1", "web", 4, False, True, MetadataOptions()),
    ),
    images=(ImageSeen("ami-1", "base", True, "v2.0"), ImageSeen("ami-2", found=False)),
    unseen=(Unseen("images named by templates", "denied", "UnauthorizedOperation"),),
    configurations=(ConfigurationSeen("old", OPTIONS, "ami-1", True),),
    groups=(
        GroupSeen("asg", (TEMPLATE, LaunchSource(configuration="old")), ("i-1", "i-2"), 2, (("a", "b"),)),
        GroupSeen("empty"),
    ),
    fleets=(FleetSeen("sfr-1", FleetKind.SPOT_FLEET, "active", (LaunchSource(image_id="ami-1"),)),),
    services=(ServiceSeen(ServiceKind.EKS_NODEGROUP, "arn:1", "nodes", OPTIONS, "", (TEMPLATE,), ("asg",), ("i-1",)),),
)
DENIED = RegionSeen(Target(SHOP, "eu-west-1"), None, unseen=(Unseen("defaults", "denied"),))
HEADER = ScanHeader(
    "20261103T120000Z-000001",
    NOON,
    (Account(OLD, "", "SUSPENDED"), Account(SHOP, "Zoë's shop", "ACTIVE", "Root/Prod")),
    (("regions", "us-east-1,eu-west-1"),),
)
END = ScanEnd(
    NOON + timedelta(seconds=3),
    (
        AccountUnseen(OLD, None, Unseen("account", "SUSPENDED", "AccountNotActive")),
        AccountUnseen(SHOP, "af-south-1", Unseen("Region", "not enabled", "RegionNotEnabled")),
    ),
    (PolicySeen("p-1", "no v1", PolicyKind.SERVICE_CONTROL_POLICY, "{}", ("r-1", SHOP)),),
    ((SHOP, '{"ec2_attributes": {}}'),),
    17,
)
SCAN = Scan.of(HEADER, (DENIED, FULL), END)


@dataclass(frozen=True)
class Place:
    """An empty database: its URL, and SQL in it without imdsctl."""

    url: str
    server: Server | None = None
    file: Path | None = None

    def store(self) -> ScanDatabase:
        """The store as a new process opens it."""
        return ScanDatabase(self.url)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Statements in one transaction; what the last one answers."""
        if self.server is not None:
            return self.server.sql(*statements, schema=self.url.rpartition("%3D")[2])
        assert self.file is not None
        connection = sqlite3.connect(self.file)
        with connection:
            rows = [connection.execute(statement).fetchall() for statement in statements][-1]
        connection.close()
        return rows


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        file = tmp_path / "new folder" / "scans.sqlite3"
        return Place(f"sqlite:///{file}", file=file)
    server: Server = request.getfixturevalue("server")
    return Place(server.new_place(), server)


def whole(scan: Scan | None) -> Scan:
    """A stored scan with everything in memory, to compare it."""
    assert scan is not None
    return replace(scan, regions=tuple(scan.regions))


def code(error: pytest.ExceptionInfo[DiagnosticError]) -> str:
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.hint
    return diagnostic.code


def test_a_scan_reads_back_as_it_was_saved(place: Place) -> None:
    place.store().save(SCAN)
    assert whole(place.store().load(SCAN.scan_id)) == SCAN


def test_a_scan_written_target_by_target_is_the_same_scan(place: Place) -> None:
    writer = place.store().begin(HEADER)
    for region in (FULL, DENIED):  # in the order in which AWS answered
        writer.add(region)
    finished = writer.finish(END)
    assert whole(finished) == SCAN == whole(place.store().latest())
    assert finished == place.store().latest()


def test_the_targets_of_a_stored_scan_can_be_gone_through_again_and_in_the_order_of_ids(place: Place) -> None:
    other = replace(FULL, target=Target(OLD, "us-east-1"))
    place.store().save(replace(SCAN, regions=(other, DENIED, FULL)))
    regions = place.store().load(SCAN.scan_id).regions
    assert len(regions) == 3
    assert list(regions) == list(regions) == [other, DENIED, FULL]
    assert list(regions.by_target()) == [DENIED, FULL, other]  # type: ignore[attr-defined]
    assert FULL in regions
    assert replace(FULL, unseen=()) not in regions


def test_a_new_database_holds_no_scan(place: Place) -> None:
    store = place.store()
    store.prepare()
    assert store.latest() is None
    assert store.history() == ()


def test_the_latest_scan_is_the_one_that_finished_last_not_the_one_saved_last(place: Place) -> None:
    store = place.store()
    store.save(replace(SCAN, scan_id="newer", finished=NOON + timedelta(hours=1)))
    store.save(SCAN)
    assert whole(store.latest()).scan_id == "newer"
    assert whole(store.load(SCAN.scan_id)) == SCAN


def test_a_scan_of_nothing_is_a_scan(place: Place) -> None:
    empty = Scan("empty", NOON, NOON, (), ())
    place.store().save(empty)
    assert whole(place.store().latest()) == empty


def test_an_unfinished_scan_is_gone_on_with_where_it_was(place: Place) -> None:
    place.store().begin(replace(HEADER, scan_id="older", started=NOON - timedelta(hours=1)))
    first = place.store().begin(HEADER)
    first.add(FULL)
    first.flush()  # then the process dies
    assert place.store().latest() is None
    second = place.store().resume()
    assert second.header == HEADER
    assert set(second.done) == {FULL.target}
    second.add(DENIED)
    second.finish(END)
    assert whole(place.store().latest()) == SCAN
    assert place.store().resume().header.scan_id == "older"


def test_what_waits_to_be_written_is_bounded(place: Place) -> None:
    writer = place.store().begin(HEADER)
    regions = [replace(DENIED, target=Target(SHOP, f"region-{number}")) for number in range(TARGETS_BUFFERED_MAX + 3)]
    for region in regions:
        writer.add(region)
    kept = set(place.store().resume().done)
    assert len(kept) >= TARGETS_BUFFERED_MAX
    assert kept <= {region.target for region in regions}


def test_a_target_that_is_read_again_is_replaced_not_doubled(place: Place) -> None:
    first, second = place.store().begin(HEADER), place.store().resume(HEADER.scan_id)
    first.add(replace(FULL, instances=()))
    first.add(DENIED)
    first.flush()
    second.add(replace(FULL, instances=()))
    second.add(FULL)
    second.flush()
    assert whole(first.finish(END)) == SCAN


def test_a_finished_scan_never_changes(place: Place) -> None:
    late = place.store().begin(HEADER)
    late.add(DENIED)
    late.flush()
    writer = place.store().resume(HEADER.scan_id)
    writer.add(FULL)
    writer.finish(END)
    late.add(replace(FULL, instances=()))
    for change in (late.flush, lambda: late.finish(END), lambda: place.store().resume(HEADER.scan_id)):
        with pytest.raises(DiagnosticError) as error:
            change()
        assert code(error) == "scan-finished"
    for again in (lambda: place.store().save(replace(SCAN, calls=99)), lambda: place.store().begin(HEADER)):
        with pytest.raises(DiagnosticError) as error:
            again()
        assert code(error) == "database-unavailable"
    assert whole(place.store().load(SCAN.scan_id)) == SCAN


def test_an_unknown_scan_is_a_diagnostic(place: Place) -> None:
    store = place.store()
    store.begin(HEADER)
    for use in (
        lambda: store.load("nosuch"),
        lambda: store.load(HEADER.scan_id),  # not finished
        lambda: store.resume("nosuch"),
        lambda: store.save_evidence(Evidence("nosuch", NOON, timedelta(days=14))),
    ):
        with pytest.raises(DiagnosticError) as error:
            use()
        assert (code(error), error.value.exit_code) == ("scan-unknown", 2)


def test_an_account_outside_the_scan_is_a_bug_of_the_caller(place: Place) -> None:
    writer = place.store().begin(HEADER)
    with pytest.raises(ValueError, match="999999999999/us-east-1 is not part"):
        writer.add(replace(FULL, target=Target("999999999999", "us-east-1")))


def test_history_counts_without_reading_what_was_seen(place: Place) -> None:
    store = place.store()
    store.save(SCAN)
    store.begin(replace(HEADER, scan_id="now", started=NOON + timedelta(days=1))).flush()
    under_way, done = store.history()
    assert (under_way.scan_id, under_way.finished, under_way.targets, under_way.counts) == ("now", None, 0, {})
    assert (done.finished, done.accounts, done.targets, done.scope) == (END.finished, 2, 2, HEADER.scope)
    assert done.unseen == 4
    assert done.count(Kind.REGION_DEFAULTS) == Count(exposed=1, unknown=1)
    assert done.count(Kind.INSTANCES) == Count(exposed=1, unknown=1)


def test_the_numbers_of_a_scan_can_be_asked_in_sql(place: Place) -> None:
    place.store().save(SCAN)
    assert place.sql(
        "SELECT account_id, region, default_verdict, instances_exposed, instances_unknown, unseen FROM targets"
        " ORDER BY region DESC"
    ) == [
        (SHOP, "us-east-1", "exposed", 1, 1, 1),
        (SHOP, "eu-west-1", "unknown", 0, 0, 1),
    ]


def test_evidence_is_kept_with_its_scan_and_replaced(place: Place) -> None:
    store = place.store()
    store.save(SCAN)
    assert store.evidence(SCAN.scan_id) is None
    told = InstanceEvidence(FULL.target, "i-1", no_token=3.0, rejected=0.0, last_used=NOON, since=NOON)
    silent = InstanceEvidence(FULL.target, "i-2", reason="no datapoints")
    elsewhere = InstanceEvidence(Target(OLD, "eu-west-1"), "i-1", no_token=0.0)
    evidence = Evidence(
        SCAN.scan_id,
        NOON,
        timedelta(days=14),
        {(each.target, each.instance_id): each for each in (told, silent, elsewhere)},
        ((DENIED.target, "denied"),),
        4,
    )
    store.save_evidence(replace(evidence, instances={}, metrics_requested=1))
    store.save_evidence(evidence)
    found = place.store().evidence(SCAN.scan_id)
    assert found is not None
    assert len(found.instances) == 3
    assert dict(found.instances) == evidence.instances
    assert replace(found, instances=evidence.instances) == evidence
    assert found.of(FULL.target, "i-1").use is Use.USED
    assert found.of(FULL.target, "nosuch").use is Use.UNKNOWN
    assert found.of(DENIED.target, "i-1").use is Use.UNKNOWN


def test_scans_can_be_forgotten_with_their_evidence(place: Place) -> None:
    store = place.store()
    store.save(SCAN)
    store.save(replace(SCAN, scan_id="kept"))
    store.save_evidence(Evidence(SCAN.scan_id, NOON, timedelta(days=14)))
    store.delete([SCAN.scan_id])
    assert [each.scan_id for each in store.history()] == ["kept"]
    assert store.evidence(SCAN.scan_id) is None
    assert place.sql("SELECT count(*) FROM targets") == [(2,)]


def test_a_scan_that_was_forgotten_while_it_was_taken_says_so(place: Place) -> None:
    writer = place.store().begin(HEADER)
    place.store().delete([HEADER.scan_id])
    writer.add(FULL)
    with pytest.raises(DiagnosticError) as error:
        writer.flush()
    assert code(error) == "scan-unknown"


VERSION_1 = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    "CREATE TABLE scans (scan_id VARCHAR(64) NOT NULL PRIMARY KEY, started VARCHAR(40) NOT NULL,"
    " finished VARCHAR(40) NOT NULL, accounts INTEGER NOT NULL, targets INTEGER NOT NULL, document {blob} NOT NULL)",
    "CREATE INDEX ix_scans_finished ON scans (finished)",
    "CREATE TABLE targets (scan_id VARCHAR(64) NOT NULL, position INTEGER NOT NULL, account_id VARCHAR(12) NOT NULL,"
    " region VARCHAR(32) NOT NULL, default_verdict VARCHAR(8) NOT NULL, instances INTEGER NOT NULL,"
    " instances_exposed INTEGER NOT NULL, templates_exposed INTEGER NOT NULL, unseen INTEGER NOT NULL,"
    " document {blob} NOT NULL, PRIMARY KEY (scan_id, position), FOREIGN KEY(scan_id) REFERENCES scans (scan_id))",
    "INSERT INTO schema_version VALUES (1)",
)
"""What imdsctl made before unfinished scans could be kept."""
V1_PARTS = ("target", "defaults", "instances", "templates", "images", "unseen")


def version_1(place: Place, *scans: Scan) -> None:
    """A database as version 1 wrote it, documents included (orjson's dataclasses, compressed)."""
    pg = place.server is not None

    def blob(value: Any) -> str:
        digits = zlib.compress(orjson.dumps(value), 1).hex()
        return f"'\\x{digits}'" if pg else f"X'{digits}'"

    statements = [each.format(blob="BYTEA" if pg else "BLOB") for each in VERSION_1]
    for scan in scans:
        header = {name: getattr(scan, name) for name in ("accounts", "unseen", "scope", "calls")}
        statements.append(
            f"INSERT INTO scans VALUES ('{scan.scan_id}', '{scan.started.isoformat()}', '{scan.finished.isoformat()}',"
            f" {len(scan.accounts)}, {len(scan.regions)}, {blob(header)})"
        )
        for position, region in enumerate(scan.regions):
            held = {name: getattr(region, name) for name in V1_PARTS}
            statements.append(
                f"INSERT INTO targets VALUES ('{scan.scan_id}', {position}, '{region.target.account_id}',"
                f" '{region.target.region}', 'exposed', 1, 1, 1, 0, {blob(held)})"
            )
    if place.file is not None:
        place.file.parent.mkdir(parents=True)
    place.sql(*statements)


def as_of_version_1(scan: Scan) -> Scan:
    nothing: dict[str, Any] = dict.fromkeys(("configurations", "groups", "fleets", "services"), ())
    regions = tuple(replace(region, **nothing) for region in scan.regions)
    return replace(scan, regions=regions, policies=(), effective_policies=())


def test_a_database_of_version_1_is_brought_up_to_date_and_its_scans_stay_readable(place: Place) -> None:
    old, empty = as_of_version_1(SCAN), Scan("empty", NOON, NOON, (), ())
    version_1(place, old, empty)
    assert whole(place.store().load(old.scan_id)) == old
    assert whole(place.store().load("empty")) == empty
    assert {each.scan_id: each.count(Kind.INSTANCES).exposed for each in place.store().history()} == {
        old.scan_id: 1,
        "empty": 0,
    }
    assert place.sql("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]
    place.store().begin(replace(HEADER, scan_id="new"))


def test_a_database_of_version_2_is_brought_up_to_date_and_a_damaged_scan_stays_readable_beside(place: Place) -> None:
    scans = (replace(SCAN, scan_id="whole"), replace(SCAN, scan_id="damaged"))
    for each in scans:
        place.store().save(each)
    before = {each.scan_id: each for each in place.store().history()}
    place.sql(
        *(f"ALTER TABLE scans DROP COLUMN {name}" for name in OUTSIDE_COLUMNS),
        "UPDATE scans SET ending = header WHERE scan_id = 'damaged'",
        "UPDATE schema_version SET version = 2",
    )
    after = {each.scan_id: each for each in place.store().history()}
    assert after["whole"] == before["whole"]
    assert after["whole"].not_entered + after["whole"].not_inspectable == len(SCAN.unseen) > 0
    assert after["damaged"] == replace(before["damaged"], not_entered=0, not_inspectable=0)
    assert place.sql("SELECT version FROM schema_version") == [(SCHEMA_VERSION,)]


def test_a_database_that_cannot_be_brought_up_to_date_stays_as_it_was(place: Place) -> None:
    version_1(place, as_of_version_1(SCAN))
    place.sql("UPDATE targets SET document = scans.document FROM scans WHERE targets.position = 1")
    before = place.sql("SELECT * FROM targets ORDER BY position")
    with pytest.raises(DiagnosticError) as error:
        place.store().prepare()
    assert code(error) == "database-damaged"
    assert place.sql("SELECT * FROM targets ORDER BY position") == before
    assert place.sql("SELECT version FROM schema_version") == [(1,)]


def test_a_database_of_a_newer_version_is_left_alone(place: Place) -> None:
    place.store().save(SCAN)
    place.sql(f"UPDATE schema_version SET version = {SCHEMA_VERSION + 1}")
    with pytest.raises(DiagnosticError) as error:
        place.store().prepare()
    assert code(error) == "database-newer"


def test_a_damaged_document_is_a_diagnostic(place: Place) -> None:
    place.store().save(SCAN)
    place.sql("UPDATE targets SET document = scans.header FROM scans WHERE targets.region = 'us-east-1'")
    regions = iter(place.store().load(SCAN.scan_id).regions)
    assert next(regions) == DENIED
    with pytest.raises(DiagnosticError) as error:
        next(regions)
    assert code(error) == "database-damaged"


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("my notes\n" * 100)
    with pytest.raises(DiagnosticError) as error:
        ScanDatabase(str(file)).prepare()
    assert code(error) == "database-unavailable"
    assert file.read_text() == "my notes\n" * 100


def test_a_new_file_is_its_users_alone(tmp_path: Path) -> None:
    file = tmp_path / "scans.sqlite3"
    before = os.umask(0)
    try:
        store = ScanDatabase(str(file))
        store.begin(HEADER)
        with store.database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM scans")
            journal = file.with_name(f"{file.name}-journal")  # it holds what the pages held before
            assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_full_disk_leaves_the_scan_to_be_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "scans.sqlite3"
    store = ScanDatabase(str(file))
    writer = store.begin(HEADER)
    writer.add(DENIED)
    writer.flush()
    noise = replace(FULL, unseen=(Unseen("instances", os.urandom(200_000).hex()),))

    def small(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA max_page_count = 40")

    event.listen(Engine, "connect", small)
    try:
        full = ScanDatabase(str(file)).resume()
        full.add(noise)
        with pytest.raises(DiagnosticError) as error:
            full.flush()
    finally:
        event.remove(Engine, "connect", small)
    assert code(error) == "database-full"
    assert "--resume" in str(error.value.diagnostics[0].hint)
    again = ScanDatabase(str(file)).resume()
    assert set(again.done) == {DENIED.target}
    again.add(FULL)
    assert whole(again.finish(END)) == SCAN


def test_a_server_that_goes_away_leaves_the_scan_to_be_gone_on_with(server: Server) -> None:
    place = Place(server.new_place(), server)
    writer = place.store().begin(HEADER)
    writer.add(DENIED)
    writer.flush()
    server.stop()
    try:
        writer.add(FULL)
        with pytest.raises(DiagnosticError) as error:
            writer.flush()
        assert code(error) == "database-unavailable"
        assert PASSWORD not in str(error.value.diagnostics)
        with pytest.raises(DiagnosticError):
            place.store().prepare()
    finally:
        server.start()
    again = place.store().resume()
    assert set(again.done) == {DENIED.target}
    again.add(FULL)
    assert whole(again.finish(END)) == SCAN


def test_a_writer_outlives_a_connection_that_was_cut_between_two_writes(server: Server) -> None:
    place = Place(server.new_place(), server)
    writer = place.store().begin(HEADER)
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'imdsctl'")
    writer.add(DENIED)
    writer.add(FULL)
    assert whole(writer.finish(END)) == SCAN


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://host/name",
        "postgresql+nosuch://host/name",
        "mysql+pymysql://me:hunter2@host/name",
        "://",
        "postgresql+psycopg://me:hunter2@host:port/name",
        "nosuch://me:hunter2@host/name",
        "postgresql+nosuch://host/name?password=hunter2",
        "://me:hunter2@",
        "postgresql+psycopg//me:hunter2@host/name",
        "postgresql:me:hunter2@host/name",
        "Postgres:hunter2",
    ],
)
def test_a_url_that_cannot_be_used_is_a_usage_error_that_shows_no_password(url: str) -> None:
    with pytest.raises(DiagnosticError) as error:
        ScanDatabase(url).prepare()
    assert code(error) == "database-url"
    assert error.value.exit_code == 2
    assert "hunter2" not in str(error.value.diagnostics)


def test_a_wrong_password_is_not_shown(server: Server) -> None:
    nobodys = server.url().replace(f":{PASSWORD}@", "@")
    for wrong in (server.url().replace(PASSWORD, "hunter2"), f"{nobodys}&password=hunter2"):
        with pytest.raises(DiagnosticError) as error:
            ScanDatabase(wrong).prepare()
        assert code(error) == "database-unavailable"
        assert "hunter2" not in str(error.value.diagnostics)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:1/name", "postgresql://me:***@host:1/name"),
        ("postgresql://me:s@cr/et@host:x/name", "postgresql://me:***@host:x/name"),
        ("postgresql://host/name?user=me&PASSWORD=secret", "postgresql://host/name?user=me&PASSWORD=***"),
        ("sqlite:////a/file@home", "sqlite:////a/file@home"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "shared"),
    [
        ("sqlite:////a/file", None),
        ("postgresql+psycopg://me:secret@host:1/name", "postgresql+psycopg://me@host:1/name"),
        ("postgresql://host/name?password=secret&sslmode=require", "postgresql://host/name?sslmode=require"),
    ],
)
def test_another_machine_is_told_no_password(url: str, shared: str | None) -> None:
    assert Database(url).shared_url == shared


@pytest.mark.parametrize(
    ("environment", "platform", "folder"),
    [
        ({"HOME": "/home/me"}, "linux", "/home/me/.local/share/imdsctl"),
        ({"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "linux", "/data/imdsctl"),
        ({"HOME": "/home/me", "XDG_DATA_HOME": "relative"}, "linux", "/home/me/.local/share/imdsctl"),
        ({"HOME": "/Users/me"}, "darwin", "/Users/me/Library/Application Support/imdsctl"),
        ({"HOME": "/Users/me", "XDG_DATA_HOME": "/data"}, "darwin", "/data/imdsctl"),
    ],
)
def test_scans_live_in_the_users_data_directory(environment: dict[str, str], platform: str, folder: str) -> None:
    assert data_directory(environment, platform) == Path(folder)
