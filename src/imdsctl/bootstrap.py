"""The only place that builds real adapters and wires them to the commands."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies

if TYPE_CHECKING:
    from imdsctl.fleet.ports import Aws, HeldLease, ScanStore


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    return run(list(sys.argv[1:] if argv is None else argv), dependencies())


def dependencies() -> Dependencies:
    """The real adapters. Each is imported and built only when a command asks for it, to keep the start cheap."""
    return Dependencies(aws=_aws, scans=_scans, lease=_lease, alone=_alone, now=_now, new_id=_new_id, serves=_serves)


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    # Two scans may start in the same second: six random digits keep them apart.
    return f"{_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _aws(profile: str | None) -> AbstractAsyncContextManager[Aws]:
    from imdsctl.adapters.aws import open_aws
    from imdsctl.cli.errors import report_one

    return open_aws(profile, warn=report_one)


def _scans(url: str | None) -> ScanStore:
    from imdsctl.adapters.database import ScanDatabase

    return ScanDatabase(url)


def _lease(url: str, owner: str, inherits: int | None) -> AbstractAsyncContextManager[HeldLease]:
    from imdsctl.adapters.database_engine import Database
    from imdsctl.adapters.lease import DatabaseLease

    return DatabaseLease(Database(url), owner, inherits=inherits)


def _alone(account_id: str, owner: str) -> AbstractContextManager[None]:
    from imdsctl.adapters.data_directory import data_directory
    from imdsctl.adapters.machine_lock import machine_lock

    return machine_lock(data_directory(), account_id, owner)


def _serves(service: str, region: str) -> bool:
    from imdsctl.adapters.service_regions import serves

    return serves(service, region)
