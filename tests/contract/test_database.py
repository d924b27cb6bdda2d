"""The store of scans against a real SQLite: whole or not at all, and the same after reading as before."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imdsctl.adapters.database import SCHEMA_VERSION, ScanDatabase, data_directory
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch

NOON = datetime(2026, 11, 3, 12, 0, 0, 123456, tzinfo=UTC)
OPTIONS = MetadataOptions(HttpTokens.OPTIONAL, 2, Switch.ENABLED, Switch.DISABLED, Switch.ENABLED)
SCAN = Scan(
    scan_id="20261103T120000Z-000001",
    started=NOON,
    finished=NOON + timedelta(seconds=3),
    accounts=(Account("111122223333", "Zoë's shop", "ACTIVE", "Root/Prod"), Account("222233334444", "", "SUSPENDED")),
    regions=(
        RegionSeen(
            Target("111122223333", "us-east-1"),
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
        ),
        RegionSeen(Target("111122223333", "eu-west-1"), None, unseen=(Unseen("defaults", "denied"),)),
    ),
    unseen=(
        AccountUnseen("222233334444", None, Unseen("account", "SUSPENDED", "AccountNotActive")),
        AccountUnseen("111122223333", "af-south-1", Unseen("Region", "not enabled", "RegionNotEnabled")),
    ),
    scope=(("regions", "us-east-1,eu-west-1"),),
    calls=17,
)


def code(error: pytest.ExceptionInfo[DiagnosticError]) -> str:
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.hint
    return diagnostic.code


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "scans.sqlite3"


def test_a_scan_reads_back_as_it_was_saved(file: Path) -> None:
    ScanDatabase(str(file)).save(SCAN)
    assert ScanDatabase(f"sqlite:///{file}").load(SCAN.scan_id) == SCAN


def test_a_new_database_holds_no_scan(file: Path) -> None:
    store = ScanDatabase(str(file))
    store.prepare()
    assert store.latest() is None


def test_the_latest_scan_is_the_one_that_finished_last_not_the_one_saved_last(file: Path) -> None:
    store = ScanDatabase(str(file))
    store.save(replace(SCAN, scan_id="newer", finished=NOON + timedelta(hours=1)))
    store.save(SCAN)
    latest = store.latest()
    assert latest is not None
    assert latest.scan_id == "newer"
    assert store.load(SCAN.scan_id) == SCAN


def test_a_scan_of_nothing_is_a_scan(file: Path) -> None:
    empty = Scan("empty", NOON, NOON, (), ())
    store = ScanDatabase(str(file))
    store.save(empty)
    assert store.latest() == empty


def test_a_scan_is_never_written_twice_and_the_first_stays(file: Path) -> None:
    store = ScanDatabase(str(file))
    store.save(SCAN)
    with pytest.raises(DiagnosticError) as error:
        store.save(replace(SCAN, calls=99))
    assert code(error) == "database-unavailable"
    assert store.load(SCAN.scan_id) == SCAN


def test_an_unknown_scan_is_a_diagnostic(file: Path) -> None:
    with pytest.raises(DiagnosticError) as error:
        ScanDatabase(str(file)).load("nosuch")
    assert (code(error), error.value.exit_code) == ("scan-unknown", 2)


def test_the_numbers_of_a_scan_can_be_asked_in_sql(file: Path) -> None:
    ScanDatabase(str(file)).save(SCAN)
    with sqlite3.connect(file) as connection:
        rows = connection.execute(
            "SELECT account_id, region, default_verdict, instances, instances_exposed, unseen FROM targets"
            " ORDER BY position"
        ).fetchall()
    connection.close()
    assert rows == [
        ("111122223333", "us-east-1", "exposed", 2, 1, 1),
        ("111122223333", "eu-west-1", "unknown", 0, 0, 1),
    ]


def test_a_database_of_a_newer_version_is_left_alone(file: Path) -> None:
    ScanDatabase(str(file)).save(SCAN)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE schema_version SET version = ?", (SCHEMA_VERSION + 1,))
    connection.close()
    with pytest.raises(DiagnosticError) as error:
        ScanDatabase(str(file)).prepare()
    assert code(error) == "database-newer"


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("my notes\n" * 100)
    with pytest.raises(DiagnosticError) as error:
        ScanDatabase(str(file)).prepare()
    assert code(error) == "database-unavailable"
    assert file.read_text() == "my notes\n" * 100


@pytest.mark.parametrize("url", ["nosuch://host/name", "postgresql+nosuch://host/name", "://"])
def test_a_url_that_cannot_be_used_is_a_usage_error(url: str) -> None:
    with pytest.raises(DiagnosticError) as error:
        ScanDatabase(url).prepare()
    assert code(error) == "database-url"
    assert error.value.exit_code == 2


def test_a_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(DiagnosticError) as error:
        ScanDatabase("nosuch://me:hunter2@host/name").prepare()
    assert "hunter2" not in str(error.value.diagnostics)


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
