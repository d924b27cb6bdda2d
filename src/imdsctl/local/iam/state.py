"""What IAM keeps of one account: users with their access keys, roles, managed policies, instance profiles.

Names are told apart without regard to case ("IAM and AWS STS quotas", name requirements), so the tables are keyed by
the name in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

ACTIVE = "Active"
INACTIVE = "Inactive"

MAX_SESSION_DURATION_DEFAULT = 3600
"""Seconds; what CreateRole sets when nothing is asked for."""

T = TypeVar("T", bound="Entity")


@dataclass(slots=True)
class Entity:
    """What users and roles have in common.

    `inline` maps policy names to documents, `attached` lists the ARNs of managed policies in the order they were
    attached, `boundary` is the ARN of the permissions boundary. Documents are kept as they were sent.
    """

    name: str
    path: str
    id: str
    arn: str
    created: datetime
    tags: dict[str, str] = field(default_factory=dict)
    inline: dict[str, str] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)
    boundary: str | None = None


@dataclass(slots=True)
class AccessKey:
    """A user's long-term access key."""

    id: str
    secret: str
    created: datetime
    status: str = ACTIVE


@dataclass(slots=True)
class User(Entity):
    """An IAM user."""

    keys: dict[str, AccessKey] = field(default_factory=dict)


@dataclass(slots=True)
class Role(Entity):
    """An IAM role; `trust` is its trust policy, `max_session_duration` in seconds."""

    trust: str = ""
    description: str | None = None
    max_session_duration: int = MAX_SESSION_DURATION_DEFAULT


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of a managed policy."""

    id: str
    document: str
    created: datetime


@dataclass(slots=True)
class ManagedPolicy:
    """A managed policy of the account or of AWS; `latest` is the number of the newest version ever made."""

    name: str
    path: str
    id: str
    arn: str
    created: datetime
    updated: datetime
    description: str | None
    versions: dict[str, PolicyVersion]
    default_version: str = "v1"
    latest: int = 1
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def document(self) -> str:
        """The document of the default version: the one that counts."""
        return self.versions[self.default_version].document


@dataclass(slots=True)
class InstanceProfile:
    """An instance profile; it holds one role at most, by its name."""

    name: str
    path: str
    id: str
    arn: str
    created: datetime
    role: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


class IamState:
    """One account's IAM. `aws_policies` are AWS's managed policies by ARN, the same for every account."""

    def __init__(self, account_id: str, aws_policies: dict[str, ManagedPolicy]) -> None:
        self.account_id = account_id
        self.users: dict[str, User] = {}
        self.roles: dict[str, Role] = {}
        self.policies: dict[str, ManagedPolicy] = {}  # by ARN; those of the account
        self.profiles: dict[str, InstanceProfile] = {}
        self.aws_policies = aws_policies

    def user(self, name: str) -> User | None:
        """The user of exactly that name."""
        return _exactly(self.users.get(name.lower()), name)

    def role(self, name: str) -> Role | None:
        """The role of exactly that name."""
        return _exactly(self.roles.get(name.lower()), name)

    def profile(self, name: str) -> InstanceProfile | None:
        """The instance profile of exactly that name."""
        found = self.profiles.get(name.lower())
        return found if found is not None and found.name == name else None

    def policy(self, arn: str) -> ManagedPolicy | None:
        """A managed policy of the account or of AWS."""
        return self.policies.get(arn) or self.aws_policies.get(arn)

    def role_by_arn(self, arn: str) -> Role | None:
        """The role of an ARN, path included."""
        found = self.roles.get(arn.rpartition("/")[2].lower())
        return found if found is not None and found.arn == arn else None

    def user_by_arn(self, arn: str) -> User | None:
        """The user of an ARN, path included."""
        found = self.users.get(arn.rpartition("/")[2].lower())
        return found if found is not None and found.arn == arn else None

    def entities(self) -> Iterator[Entity]:
        """Every user and role."""
        yield from self.users.values()
        yield from self.roles.values()

    def documents(self, entity: Entity) -> list[str]:
        """The identity policies of a user or role: inline ones, then the default versions of the attached ones."""
        managed = [policy.document for arn in entity.attached if (policy := self.policy(arn)) is not None]
        return [*entity.inline.values(), *managed]

    def boundary_document(self, entity: Entity) -> str | None:
        """The document of the permissions boundary; None when there is none."""
        policy = self.policy(entity.boundary) if entity.boundary is not None else None
        return policy.document if policy is not None else None


def _exactly(found: T | None, name: str) -> T | None:
    return found if found is not None and found.name == name else None
