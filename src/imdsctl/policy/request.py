"""Who asks, for what, and under which circumstances: everything that a decision may look at.

A caller (the local AWS, a simulator) fills one RequestContext for a call. What belongs to the request as a whole (the
`aws:*` keys, `ec2:RoleDelivery`) goes into `RequestContext.keys`; what belongs to one resource of the call
(`ec2:MetadataHttpTokens` of the instance, `aws:ResourceTag/...`) into the `keys` of its ResourceContext, where it wins
over a key of the request with the same name. A resource that has no such property does not have the key: that is what
makes a negated operator match the image and the subnet of RunInstances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imdsctl.policy.document import Policy

Keys = Mapping[str, str | tuple[str, ...]]
"""Context keys by lower-case name: a string is single-valued, a tuple (never empty) is multivalued."""


def context_keys(values: Mapping[str, str | bool | int | float | Iterable[str] | None]) -> Keys:
    """Context keys in the form that decisions read: lower-case names, text values; None and empty lists are absent."""
    keys: dict[str, str | tuple[str, ...]] = {}
    for name, value in values.items():
        if isinstance(value, str):
            keys[name.lower()] = value
        elif isinstance(value, bool):
            keys[name.lower()] = "true" if value else "false"
        elif isinstance(value, int | float):
            keys[name.lower()] = str(value)
        elif value is not None and (several := tuple(value)):
            keys[name.lower()] = several
    return keys


class PrincipalKind(StrEnum):
    """What kind of caller it is; the values are those of the `aws:PrincipalType` key where it has one."""

    ROOT = "Account"
    USER = "User"
    ROLE_SESSION = "AssumedRole"
    FEDERATED_USER = "FederatedUser"
    SERVICE = "Service"
    WEB_IDENTITY = "WebIdentity"
    ANONYMOUS = "Anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller.

    `arn` is what GetCallerIdentity says (for a role session the STS ARN). `issuer_arn` is the IAM ARN behind a session:
    the role's, or the user's who called GetFederationToken. `name` is the service (`ec2.amazonaws.com`) or the identity
    provider of a caller that is neither user nor role. `service_linked` marks sessions of service-linked roles.
    """

    kind: PrincipalKind
    arn: str = ""
    account_id: str = ""
    issuer_arn: str = ""
    name: str = ""
    service_linked: bool = False

    def keys(self) -> dict[str, str]:
        """The context keys that follow from the caller alone: aws:PrincipalArn, aws:PrincipalAccount and the rest.

        `aws:PrincipalArn` of a role session is the role's ARN (IAM User Guide, "AWS global condition context keys").
        `aws:userid` and tags are the caller's to add.
        """
        keys = {"aws:principaltype": str(self.kind)}
        if self.kind is PrincipalKind.SERVICE:
            keys["aws:principalisawsservice"] = "true"
            keys["aws:principalservicename"] = self.name
            return keys
        keys["aws:principalisawsservice"] = "false"
        if self.account_id:
            keys["aws:principalaccount"] = self.account_id
        if self.arn:
            role = self.kind is PrincipalKind.ROLE_SESSION
            keys["aws:principalarn"] = self.issuer_arn if role else self.arn
        if self.kind is PrincipalKind.USER:
            keys["aws:username"] = self.arn.rpartition("/")[2]
        return keys


@dataclass(frozen=True, slots=True)
class ResourceContext:
    """One resource that a call touches; `*` for an action that has no resources.

    `account_id` is its owner, empty when the resource belongs to the caller's account or to AWS (a public image).
    `policy` is the resource-based policy attached to it, for a role its trust policy.
    """

    arn: str = "*"
    keys: Keys = field(default_factory=dict)
    account_id: str = ""
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One call: `action` such as `ec2:RunInstances`, and every resource that it needs permission for."""

    action: str
    principal: Principal
    keys: Keys = field(default_factory=dict)
    resources: tuple[ResourceContext, ...] = (ResourceContext(),)
