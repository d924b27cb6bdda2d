"""Where the programs of the table are on this machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.contract.imds_clients.table import Client

ROOT = Path(__file__).resolve().parents[3]
INSTALLED = ROOT / ".venv-clients"
"""What `make clients` makes: a virtual environment, and `node_modules` in it."""
IN_FOLDER = 'cd "${1:-$HOME}" && shift && exec "$@"'
SIGNED_WITH = Path(__file__).with_name("signed_with.py")


def missing(client: Client) -> str | None:
    """What this machine lacks for a client, as a sentence; None when it can be run."""
    if client.needs == "$python":
        return None
    if client.needs in ("$clients", "$node"):
        if not (INSTALLED / ".ready").exists():
            return "`make clients` has not been called"
        if client.needs == "$node" and not ((INSTALLED / "node_modules").exists() and shutil.which("node")):
            return "there was no Node.js when `make clients` was called"
        return None
    if client.needs.startswith("/"):
        return None if Path(client.needs).exists() else f"there is no {client.needs}"
    return None if shutil.which(client.needs) else f"there is no {client.needs} on PATH"


def command_line(client: Client, terraform: Path | None) -> list[str]:
    """What to execute. `terraform` is an initialised working directory."""
    words: Mapping[str, list[str]] = {
        "$python": [sys.executable],
        "$clients": [str(INSTALLED / "bin" / "python")],
        "$system": ["/usr/bin/python3"],
        "$node": [shutil.which("node") or "node"],
        "$signed": [sys.executable, str(SIGNED_WITH)],
        "terraform": ["env", "GOGC=400", "terraform", f"-chdir={terraform}"],
    }
    line = [part for word in client.command for part in words.get(word, [word])]
    # Node.js looks for packages in the folder in which it is called; the others are called in their empty home.
    folder = str(INSTALLED) if client.needs == "$node" else ""
    return ["sh", "-c", IN_FOLDER, "sh", folder, *line]
