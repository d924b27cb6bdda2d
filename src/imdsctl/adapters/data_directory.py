"""Where this user's data lives."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def data_directory(environment: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """The directory for what imdsctl keeps. It need not exist.

    Source: XDG Base Directory Specification; Apple, File System Programming Guide.
    """
    environment = os.environ if environment is None else environment
    configured = environment.get("XDG_DATA_HOME", "")
    if os.path.isabs(configured):
        return Path(configured) / "imdsctl"
    home = Path(environment.get("HOME") or Path.home())
    if platform == "darwin":
        return home / "Library" / "Application Support" / "imdsctl"
    return home / ".local" / "share" / "imdsctl"
