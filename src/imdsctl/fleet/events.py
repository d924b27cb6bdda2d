"""What a sweep tells its listener while it runs. Views turn these into progress; nothing depends on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from imdsctl.domain.observations import AccountUnseen, Target


@dataclass(frozen=True, slots=True)
class AccountsFound:
    """How many accounts will be entered."""

    accounts: int


@dataclass(frozen=True, slots=True)
class AccountEntered:
    """An account let us in; so many of its Regions will be read."""

    account_id: str
    regions: int


@dataclass(frozen=True, slots=True)
class AccountSkipped:
    """An account, or a Region of it, that will not be read, with the reason."""

    unseen: AccountUnseen


@dataclass(frozen=True, slots=True)
class TargetRead:
    """A target is done."""

    target: Target
    instances: int
    unseen: int


Event: TypeAlias = AccountsFound | AccountEntered | AccountSkipped | TargetRead
Listener: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of somebody who does not want to know."""
