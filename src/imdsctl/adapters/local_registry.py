"""Which local AWS servers run on this machine, and how to reach them.

Each running server keeps one file, readable by its user only, in the user's runtime directory. A file alone proves
nothing: whoever acts on one first asks the server whether it is still the one that wrote it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imdsctl.adapters.private_file import write_whole
from imdsctl.local.paths import STATUS_PATH
from imdsctl.local.spec import V1_PERCENT, WorldSpec

ANSWER_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One running server. `token` is made anew by every start; `state` is its state directory's real path.

    `control` is the key to what only this user may ask of it (local/metadata/control.py); unlike the token, which any
    client is told by the status, it stands nowhere else.
    """

    pid: int
    token: str
    host: str
    port: int
    state: str | None
    spec: WorldSpec
    log: str | None = None
    control: str = ""

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL has to be."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def directory(environ: Mapping[str, str]) -> Path:
    """Where the files are: under XDG_RUNTIME_DIR, or under the user's state directory where that is unset."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):
        return Path(runtime) / "imdsctl"
    state = environ.get("XDG_STATE_HOME")
    if state and os.path.isabs(state):
        return Path(state) / "imdsctl" / "run"
    return Path.home() / ".local" / "state" / "imdsctl" / "run"


class Registry:
    """The files in one directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def register(self, entry: Entry) -> None:
        """Announce a server. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        value = {**asdict(entry), "spec": {**asdict(entry.spec), "created": entry.spec.created.isoformat()}}
        write_whole(self._file(entry), json.dumps(value).encode())

    def remove(self, entry: Entry) -> None:
        """Take a server's file away, unless another server has put its own there."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if _read(self._file(entry)).token == entry.token:
                self._file(entry).unlink()

    def entries(self) -> list[Entry]:
        """All files that can be read, in order of their ports; whether the servers still run is not asked."""
        found = []
        for file in self.path.glob("local-*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                found.append(_read(file))
        return sorted(found, key=lambda entry: entry.port)

    def running(self) -> list[tuple[Entry, dict[str, Any]]]:
        """The servers that answer, with what they say of themselves; files that nobody answers for are removed."""
        found = []
        for entry in self.entries():
            answer = ask(entry)
            if answer is not None:
                found.append((entry, answer))
            else:
                self.remove(entry)
        return found

    def _file(self, entry: Entry) -> Path:
        return self.path / f"local-{entry.port}.json"


def ask(entry: Entry) -> dict[str, Any] | None:
    """What the server of an entry says of itself; None when nothing answers there, or something else does."""
    connection = http.client.HTTPConnection(entry.host, entry.port, timeout=ANSWER_SECONDS_MAX)
    try:
        connection.request("GET", STATUS_PATH)
        answer = json.loads(connection.getresponse().read(65536))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if not isinstance(answer, dict) or answer.get("token") != entry.token or answer.get("pid") != entry.pid:
        return None
    return answer


def _read(file: Path) -> Entry:
    value = json.loads(file.read_bytes())
    spec = value["spec"]
    return Entry(
        pid=int(value["pid"]),
        token=str(value["token"]),
        host=str(value["host"]),
        port=int(value["port"]),
        state=value["state"],
        spec=WorldSpec(
            seed=int(spec["seed"]),
            created=datetime.fromisoformat(spec["created"]),
            accounts=int(spec["accounts"]),
            regions=tuple(spec["regions"]),
            instances=int(spec["instances"]),
            settle_seconds=float(spec["settle_seconds"]),
            v1_percent=int(spec.get("v1_percent", V1_PERCENT)),
        ),
        log=value.get("log"),
        control=str(value.get("control") or ""),
    )
