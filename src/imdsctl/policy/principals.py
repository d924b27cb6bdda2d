"""Principal and NotPrincipal: whom a resource-based policy means.

Source: IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from imdsctl.policy.request import Principal, PrincipalKind


class Named(IntEnum):
    """How closely a policy names the caller; what follows from it is in decision.py."""

    NOT = 0
    ACCOUNT = 1
    """By its account: the policy leaves it to that account's administrators."""
    ISSUER = 2
    """By the role (or federating user) behind its session."""
    DIRECTLY = 3
    """By its own ARN, as a service or provider, or with everybody else (`*`)."""


@dataclass(frozen=True, slots=True)
class Principals:
    """The names in a Principal or NotPrincipal element; `everybody` for `*`."""

    everybody: bool = False
    aws: Collection[str] = frozenset()
    services: Collection[str] = frozenset()
    federated: Collection[str] = frozenset()

    def names(self, caller: Principal) -> Named:
        """How closely these name the caller."""
        if self.everybody:
            return Named.DIRECTLY
        if caller.kind is PrincipalKind.SERVICE:
            return Named.DIRECTLY if caller.name in self.services else Named.NOT
        if caller.kind is PrincipalKind.WEB_IDENTITY:
            return Named.DIRECTLY if caller.name in self.federated else Named.NOT
        if caller.arn and caller.arn in self.aws:
            return Named.DIRECTLY
        if caller.issuer_arn and caller.issuer_arn in self.aws:
            return Named.ISSUER
        if self._names_account(caller):
            return Named.DIRECTLY if caller.kind is PrincipalKind.ROOT else Named.ACCOUNT
        return Named.NOT

    def names_whole(self, caller: Principal) -> bool:
        """Is every identity of the caller listed: its account, the role behind a session, itself?

        A Deny with NotPrincipal spares nobody else: AWS asks to list all of them, because it may judge each by itself.
        """
        if self.everybody or caller.kind in (PrincipalKind.SERVICE, PrincipalKind.WEB_IDENTITY):
            return self.names(caller) is Named.DIRECTLY
        return (
            self._names_account(caller)
            and (caller.kind is PrincipalKind.ROOT or caller.arn in self.aws)
            and (not caller.issuer_arn or caller.issuer_arn in self.aws)
        )

    def _names_account(self, caller: Principal) -> bool:
        return bool(caller.account_id) and caller.account_id in self.aws


def account_of(name: str) -> str | None:
    """The account id that `111122223333` or `arn:aws:iam::111122223333:root` stand for; None for another name."""
    if name.startswith("arn:") and name.endswith(":root"):
        parts = name.split(":")
        name = parts[4] if len(parts) == 6 and parts[2] == "iam" else ""
    return name if len(name) == 12 and name.isascii() and name.isdigit() else None
