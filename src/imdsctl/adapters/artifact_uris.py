"""Files as code scanners name them: by a URI relative to the folder that the command runs in.

Source: RFC 3986, 4.2 (a colon in the first segment of a relative reference); GitHub Docs, "SARIF support for code
scanning" (relative paths, symbolic links resolved).
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def artifact_uri(name: str) -> str:
    """`-` is standard input. A file outside of the folder has an absolute URI: no relative one would find it."""
    if name == "-":
        return "stdin"
    path, root = os.path.realpath(name), os.path.realpath(".")
    if path != root and os.path.commonpath((path, root)) == root:
        return quote(Path(os.path.relpath(path, root)).as_posix(), safe="/")
    return Path(path).as_uri()
