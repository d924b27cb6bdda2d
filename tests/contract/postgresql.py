"""A real PostgreSQL server for a test session: in a directory of its own, on a Unix socket, with a password."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.needs import missing

USER = "imdsctl"
PASSWORD = "not-to-be-shown"
_NUMBERS = itertools.count(1)
UNPRIVILEGED = "nobody"
"""The server refuses to run as root."""


def _program(name: str) -> str:
    """A program of the server, which Debian does not put on PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda each: int(each.parts[-3]))
    found = shutil.which(name) or (str(versions[-1]) if versions else None)
    return found or missing(f"no PostgreSQL server: `{name}` is neither on PATH nor in /usr/lib/postgresql")


@dataclass(frozen=True)
class Server:
    """A server that can be stopped and started again."""

    directory: Path
    as_user: dict[str, Any]

    def url(self, **query: str) -> str:
        """How SQLAlchemy reaches it."""
        asked = "&".join(f"{name}={value}" for name, value in {"host": str(self.directory), **query}.items())
        return f"postgresql+psycopg://{USER}:{PASSWORD}@/postgres?{asked}"

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        settings = f"-c listen_addresses='' -k {self.directory} -c fsync=off -c max_connections=40"
        self._control("start", "-l", str(self.directory / "log"), "-o", settings)

    def stop(self) -> None:
        """As a power cut does it: no goodbye to anybody."""
        self._control("stop", "-m", "immediate")

    def _control(self, *arguments: str) -> None:
        data = str(self.directory / "data")
        _run(_program("pg_ctl"), "-w", "-D", data, *arguments, **self.as_user)

    def new_place(self) -> str:
        """The URL of an empty schema of its own."""
        name = f"place_{next(_NUMBERS)}"
        self.sql(f"CREATE SCHEMA {name}")
        return self.url(options=f"-csearch_path%3D{name}")

    def sql(self, *statements: str, schema: str = "public") -> list[tuple[Any, ...]]:
        """Statements in one transaction over a connection of its own, without imdsctl; what the last one answers."""
        import psycopg

        known = {"host": str(self.directory), "user": USER, "password": PASSWORD, "dbname": "postgres"}
        with psycopg.connect(**known, options=f"-csearch_path={schema}") as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def postgresql() -> Iterator[Server]:
    """A new server. Skips (fails in CI) without the programs."""
    initdb = _program("initdb")
    # Not pytest's directory: the server's user could not enter that.
    directory = Path(tempfile.mkdtemp(prefix="imdsctl-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(directory, UNPRIVILEGED)
        as_user = {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}
    server = Server(directory, as_user)
    try:
        (directory / "password").write_text(PASSWORD)
        _run(
            initdb,
            *("-D", str(directory / "data"), "-U", USER, "--pwfile", str(directory / "password")),
            *("-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"),
            **as_user,
        )
        server.start()
        yield server
    finally:
        with suppress(AssertionError):
            server.stop()
        shutil.rmtree(directory)


def _run(*command: str, **as_user: Any) -> None:
    done = subprocess.run(
        command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **as_user
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")
