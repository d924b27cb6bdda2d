"""Where a sweep looks, as the user said it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from imdsctl.domain.scope import CURRENT_ACCOUNT, NO_SERVICES, services_left_out

ROLE_NAME = "OrganizationAccountAccessRole"
"""The role that Organizations makes in every account that it creates."""


@dataclass(frozen=True, slots=True)
class ListedAccount:
    """An account as a file names it; `role` is the role to assume in it, None: the one of the command line."""

    account_id: str
    name: str = ""
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user narrowed a sweep to. Empty means everything."""

    role: str = ROLE_NAME
    current_account: bool = False
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    ous: tuple[str, ...] = ()
    exclude_accounts: tuple[str, ...] = ()
    exclude_regions: tuple[str, ...] = ()
    exclude_ous: tuple[str, ...] = ()
    services: bool = True
    """False: the settings of other services (EKS, ECS, ...) are not read."""
    listed: tuple[ListedAccount, ...] = ()
    """The accounts of a file: these and no others, whether the organization knows them or not."""

    def scope(self, caller: str = "yes") -> tuple[tuple[str, str], ...]:
        """The narrowing options as given, for the record of a scan.

        `caller` is the id of the current account: scans of two of them have not looked at the same.
        """
        pairs: list[tuple[str, str]] = []
        if self.current_account:
            pairs.append((CURRENT_ACCOUNT, caller))
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "listed" and isinstance(value, tuple) and value:
                pairs.append((_scope_name(each.name), ",".join(value)))
        if not self.services:
            pairs.append((NO_SERVICES, "yes"))
        if self.listed:
            pairs.append(("accounts-file", ",".join(each.account_id for each in self.listed)))
        return tuple(pairs)

    @classmethod
    def from_scope(cls, scope: Iterable[tuple[str, str]], role: str = ROLE_NAME) -> Selection:
        """The selection of which `scope()` was recorded; the role was not, it belongs to the way in."""
        recorded = dict(scope)
        narrowed = {
            each.name: tuple(recorded[name].split(","))
            for each in fields(cls)
            if (name := _scope_name(each.name)) in recorded and each.name not in ("role", "listed", "current_account")
        }
        listed = tuple(ListedAccount(each) for each in recorded.get("accounts-file", "").split(",") if each)
        return cls(
            role=role,
            current_account=CURRENT_ACCOUNT in recorded,
            services=not services_left_out(recorded.items()),
            listed=listed,
            **narrowed,
        )

    @property
    def narrows(self) -> bool:
        """True when something is left out."""
        return bool(self.scope())

    @property
    def everybody(self) -> bool:
        """True when every account of the organization is visited."""
        narrowed = self.current_account or self.accounts or self.exclude_accounts or self.listed
        return not (narrowed or self.needs_units)

    @property
    def needs_units(self) -> bool:
        """True when organizational units decide who is visited."""
        return bool(self.ous or self.exclude_ous)


def _scope_name(field_name: str) -> str:
    return field_name.replace("_", "-").replace("ous", "ou")
