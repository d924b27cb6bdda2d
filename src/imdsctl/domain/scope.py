"""What a scan's record of its narrowing options (`ScanHeader.scope`) says."""

from __future__ import annotations

from collections.abc import Iterable

CURRENT_ACCOUNT = "current-account"
NO_SERVICES = "no-services"


def services_left_out(scope: Iterable[tuple[str, str]]) -> bool:
    """True when other services were not asked: nobody saw what they launch, nor which hosts run their containers."""
    return any(name == NO_SERVICES for name, _ in scope)
