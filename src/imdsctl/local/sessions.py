"""What a session token of STS carries: whose session it is, until when, and what limits it.

Sessions are not stored. The token holds the session, packed and under a MAC of the world's key, and the secret key is
derived from it: so sessions outlive a restart without having been written anywhere.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import orjson

ROLE = "role"
USER = "user"
INSTANCE_IDENTITY_ROLE = "aws:ec2-instance"
"""The role that every instance has by itself (EC2 User Guide, "Instance identity roles"); IAM does not know it."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a role (AssumeRole) or of a user (GetSessionToken), as its token carries it.

    `principal` is the role's or user's name and `principal_id` its unique id; `expires` is in seconds since 1970.
    `policy` is the inline session policy, `policy_arns` the managed ones; `tags` and `transitive_tag_keys` are the
    session's own and those it inherited. `nonce` sets apart two sessions that are alike. `issued` is when it began, as
    `aws:TokenIssueTime` has it. `role_delivery` (`1.0`, `2.0`) and `instance_arn` are those of credentials that an
    instance got from its metadata service: how they were fetched, and by which instance; `instance_vpc` and
    `instance_ip` (private) say where that instance was.
    """

    account_id: str
    kind: str
    principal: str
    principal_id: str
    name: str
    expires: int
    nonce: str
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    transitive_tag_keys: tuple[str, ...] = ()
    source_identity: str | None = None
    issued: str | None = None
    role_delivery: str | None = None
    instance_arn: str | None = None
    instance_vpc: str | None = None
    instance_ip: str | None = None

    def limits(self) -> bytes:
        """The part that counts as the packed size: session policies and tags, compressed; empty without them."""
        if self.policy is None and not self.policy_arns and not self.tags:
            return b""
        return zlib.compress(orjson.dumps([self.policy, self.policy_arns, self.tags, self.transitive_tag_keys]), 9)

    def pack(self) -> bytes:
        """The session as bytes; `unpack` reads them."""
        return zlib.compress(
            orjson.dumps(
                [
                    self.account_id,
                    self.kind,
                    self.principal,
                    self.principal_id,
                    self.name,
                    self.expires,
                    self.nonce,
                    self.policy,
                    self.policy_arns,
                    self.tags,
                    self.transitive_tag_keys,
                    self.source_identity,
                    self.issued,
                    self.role_delivery,
                    self.instance_arn,
                    self.instance_vpc,
                    self.instance_ip,
                ]
            ),
            9,
        )

    @classmethod
    def unpack(cls, packed: bytes) -> Session:
        """The session of bytes that `pack` made; they were checked against their MAC."""
        values = orjson.loads(zlib.decompress(packed))
        session = cls(*values)
        return replace(
            session,
            policy_arns=tuple(session.policy_arns),
            tags=tuple((key, value) for key, value in session.tags),
            transitive_tag_keys=tuple(session.transitive_tag_keys),
        )
