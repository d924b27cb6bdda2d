"""The connection to a database of scans: URLs, transactions, and what goes wrong in a user's words.

SQLite keeps its rollback journal (not WAL: that needs memory shared by all its users, which a network file system does
not give) and its full synchronisation: what was committed survives a power cut. Writers take the lock when they begin,
so that two of them wait for each other instead of failing half-way.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imdsctl.adapters.data_directory import data_directory
from imdsctl.adapters.database_schema import agree_on_schema, is_current
from imdsctl.adapters.documents import DocumentError, decoded
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

T = TypeVar("T")

FILE_NAME = "scans.sqlite3"
LOCK_WAIT_SECONDS_MAX = 30
"""How long one user of a SQLite file waits for another."""
POSTGRESQL_DEFAULTS = {
    "connect_timeout": "10",
    # A server that is gone without a word is noticed after a minute, not after the kernel's two hours.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "application_name": "imdsctl",
}
"""Parameters of libpq that the user's URL may overrule. Source: PostgreSQL manual, "Parameter Key Words"."""
_WRITES = "imdsctl_writes"
_URLS = (
    "write `sqlite:////absolute/path.sqlite3`, or `postgresql+psycopg://user@host/name` "
    "after `pip install 'imdsctl[postgresql]'`"
)
_ALMOST_A_URL = re.compile(r"(postgres|sqlite|mysql|mariadb|oracle|mssql)\w*(\+\w+)?(:|//)", re.IGNORECASE)
_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "oauth_client_secret"})
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):.*@")
_PARAMETER = re.compile(rf"\b({'|'.join(sorted(_SECRET_PARAMETERS))})=[^&\s]*", re.IGNORECASE)


class Database:
    """A database whose schema is ours. Nothing is opened, or imported, before the first use."""

    def __init__(self, url: str | None = None) -> None:
        """`url` is SQLAlchemy's (`postgresql+psycopg://host/name`) or a SQLite file's path; None is the default."""
        self._given = _sqlalchemy_url(url)
        self._engine: Engine | None = None
        self._ready = False

    @property
    def place(self) -> str:
        """The URL without its secrets, for a person."""
        return without_password(self._given)

    @property
    def shared_url(self) -> str | None:
        """The URL for another machine, without its secrets; None for a SQLite file, which only this one reaches."""
        from sqlalchemy.engine import URL, make_url

        url = make_url(self._given)
        if url.get_backend_name() == "sqlite":
            return None
        query = {name: value for name, value in url.query.items() if name.lower() not in _SECRET_PARAMETERS}
        open_to_all = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)
        return open_to_all.render_as_string(hide_password=False)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads. Raises DiagnosticError."""
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: whole when the block ends, nothing when it raises. Raises DiagnosticError."""
        with self._transaction(writes=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

        try:
            engine = self._opened()
            if not self._ready:
                with _begun(engine, writes=False) as connection:
                    ready = is_current(connection)
                if not ready:  # a file that can only be read is left alone when it need not change
                    with _begun(engine, writes=True) as connection:
                        agree_on_schema(connection, self.place)
                self._ready = True
            with _begun(engine, writes=writes) as connection:
                yield connection
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise self._url_refused(_first_line(error)) from None
        except DocumentError as error:
            raise self.damaged(error) from None
        except (SQLAlchemyError, OSError) as error:
            raise self._unavailable(error) from None

    def _opened(self) -> Engine:
        if self._engine is None:
            from sqlalchemy import create_engine
            from sqlalchemy.engine import make_url

            try:
                url = make_url(self._given)
            except ValueError:  # a port that is no number; the error quotes what stands around it
                raise self._url_refused("it cannot be taken apart; is its port a number?") from None
            if url.get_backend_name() == "sqlite":
                self._engine = _sqlite(url)
            elif url.get_backend_name() == "postgresql":
                given = {name: value for name, value in POSTGRESQL_DEFAULTS.items() if name not in url.query}
                self._engine = create_engine(url, pool_pre_ping=True, connect_args=given)
            else:
                url.get_dialect()
                raise self._url_refused(f"scans are kept in SQLite or PostgreSQL, not in {url.get_backend_name()}")
            # Connections wait for their next use, and are closed when nobody has this database any more.
            weakref.finalize(self, self._engine.dispose)
        return self._engine

    def _url_refused(self, why: str) -> DiagnosticError:
        return DiagnosticError(
            Diagnostic(
                "database-url",
                f"this database URL cannot be used: {self._without_secrets(why)}",
                self.place,
                _URLS,
            ),
            exit_code=2,
        )

    def decoded(self, kind: type[T], document: bytes) -> T:
        """A document of this database. Raises DiagnosticError `database-damaged`."""
        try:
            return decoded(kind, document)
        except DocumentError as error:
            raise self.damaged(error) from None

    def damaged(self, error: DocumentError) -> DiagnosticError:
        """What a database holds that no imdsctl wrote."""
        return DiagnosticError(
            Diagnostic(
                "database-damaged",
                f"the database of scans holds what imdsctl cannot read: {_first_line(error)}",
                self.place,
                "restore it from a backup, or choose another place with `--db URL`",
            )
        )

    def _unavailable(self, error: BaseException) -> DiagnosticError:
        cause = getattr(error, "orig", None) or error
        said = self._without_secrets(_first_line(cause))
        if _is_full(cause):
            return DiagnosticError(
                Diagnostic(
                    "database-full",
                    f"there is no room for the database of scans: {said}",
                    self.place,
                    "make room, then go on with `imdsctl scan --resume`, or choose another place with `--db URL`",
                )
            )
        return DiagnosticError(
            Diagnostic(
                "database-unavailable",
                f"the database of scans cannot be used: {said}",
                self.place,
                "choose another place with `--db URL`; a scan that was under way goes on with `imdsctl scan --resume`",
            )
        )

    def _without_secrets(self, text: str) -> str:
        """A driver's message; a driver may quote what it was given."""
        for secret in _secrets(self._given):
            text = text.replace(secret, "***")
        return text


@contextmanager
def _begun(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    with engine.connect().execution_options(**{_WRITES: writes}) as connection, connection.begin():
        yield connection


def without_password(url: str) -> str:
    """A database URL that may be shown. One that cannot be taken apart is masked from its first colon to its last @."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        hidden = bool(make_url(url).password)
    except (ArgumentError, ValueError):
        hidden = True
    text = _PASSWORD.sub(r"\1:***@", url) if hidden else url
    return _PARAMETER.sub(r"\1=***", text)


def _secrets(url: str) -> list[str]:
    from sqlalchemy.engine import make_url

    try:
        parts = make_url(url)
    except Exception:
        return []
    asked = (str(value) for name, value in parts.query.items() if name.lower() in _SECRET_PARAMETERS)
    return [secret for secret in (parts.password, *asked) if secret]


def _sqlalchemy_url(asked: str | None) -> str:
    if asked is None:
        return f"sqlite:///{data_directory() / FILE_NAME}"
    if "://" not in asked and _ALMOST_A_URL.match(asked):
        # Taken for a path, it would leave the password in the name of a file.
        raise DiagnosticError(
            Diagnostic("database-url", "this database URL cannot be used: it has no `://`", "--db", _URLS), exit_code=2
        )
    return asked if "://" in asked else f"sqlite:///{Path(asked).expanduser().absolute()}"


def _sqlite(url: URL) -> Engine:
    from sqlalchemy import create_engine, event

    if url.database and url.database != ":memory:":
        _private_file(Path(url.database))
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_SECONDS_MAX})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        # Transactions begin where we say, around changes of the schema too. Source: SQLAlchemy, "SQLite Transactions".
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _private_file(file: Path) -> None:
    """A new file is its user's alone: it holds the names of accounts and instances. SQLite's journal takes its mode."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _is_full(cause: BaseException) -> bool:
    """SQLite's SQLITE_FULL, or PostgreSQL's class 53 100 (disk_full)."""
    return (
        getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL"
        or getattr(cause, "sqlstate", "") == "53100"
        or (isinstance(cause, OSError) and cause.errno == 28)
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
