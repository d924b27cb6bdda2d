"""What a test needs of the machine: skipped where it is missing, but never in CI, where that would hide a failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

from imdsctl.domain.diagnostics import DiagnosticError

T = TypeVar("T")


def missing(what: str) -> NoReturn:
    """Skip for this reason; in CI, fail for it."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what}, and CI is set")
    pytest.skip(what)


def with_namespaces(make: Callable[[], T]) -> T:
    """What `make` makes of network namespaces, where the system has them and lets us."""
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    try:
        return make()
    except DiagnosticError as error:
        missing(str(error))
