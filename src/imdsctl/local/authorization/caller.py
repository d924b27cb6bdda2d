"""Who asks, and every policy that applies to them.

Source: IAM User Guide, "AWS global condition context keys" and "Policy evaluation logic".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from imdsctl.local.call import Call
from imdsctl.local.iam.state import Entity, IamState
from imdsctl.local.sessions import ROLE, Session
from imdsctl.policy.decision import CallerPolicies
from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.request import Principal, PrincipalKind

if TYPE_CHECKING:
    from imdsctl.local.world import Credentials, World

SERVICE_LINKED_PATH = "/aws-service-role/"
"""The path of every service-linked role (IAM User Guide, "Service-linked roles")."""

COMPILED_REMEMBERED_MAX = 20_000


@lru_cache(maxsize=COMPILED_REMEMBERED_MAX)
def compiled(name: str, kind: PolicyKind, text: str) -> Policy:
    """A document, compiled once for each text. It was checked by the same grammar when it was written."""
    return parse_policy(text, name=name, kind=kind)


@dataclass(frozen=True, slots=True)
class AuthorizedCaller:
    """A caller with its policies, before a particular call is looked at.

    `unlimited`: nothing in its own account can be refused to it.
    """

    principal: Principal
    policies: CallerPolicies
    user_id: str
    session: Session | None
    tags: tuple[tuple[str, str], ...]
    organization: tuple[str, str]
    unlimited: bool

    def keys(self, call: Call) -> dict[str, str | tuple[str, ...]]:
        """The condition keys that a call of this caller has whatever it asks for, by lower-case name."""
        now = call.now
        keys: dict[str, str | tuple[str, ...]] = {
            **self.principal.keys(),
            "aws:userid": self.user_id,
            "aws:principalorgid": self.organization[0],
            "aws:principalorgpaths": (self.organization[1],),
            "aws:requestedregion": call.region,
            "aws:currenttime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "aws:epochtime": str(int(now.timestamp())),
            "aws:securetransport": "false",
            "aws:viaawsservice": "false",
        }
        if call.caller.account_id == call.world.organization.management_id:
            keys["aws:principalorgmasteraccountid"] = call.caller.account_id
        for key, value in self.tags:
            keys[f"aws:principaltag/{key.lower()}"] = value
        session = self.session
        if session is not None:
            keys["aws:multifactorauthpresent"] = "false"
            if session.issued is not None:
                keys["aws:tokenissuetime"] = session.issued
            if session.source_identity is not None:
                keys["aws:sourceidentity"] = session.source_identity
            if session.role_delivery is not None:
                keys["ec2:roledelivery"] = session.role_delivery
            if session.instance_arn is not None:
                keys["ec2:sourceinstancearn"] = session.instance_arn
            if session.instance_vpc is not None:
                keys["aws:ec2instancesourcevpc"] = session.instance_vpc
            if session.instance_ip is not None:
                keys["aws:ec2instancesourceprivateipv4"] = session.instance_ip
        return keys


def caller_of(world: World, credentials: Credentials) -> AuthorizedCaller:
    """The caller behind credentials that were authenticated, with the policies as they are now."""
    caller, session = credentials.caller, credentials.session
    iam = world.iam(caller.account_id)
    role = session is not None and session.kind == ROLE
    entity: Entity | None
    if session is not None:
        entity = iam.role(session.principal) if role else iam.user(session.principal)
    else:
        entity = iam.user_by_arn(caller.arn)
    principal = Principal(
        kind=PrincipalKind.ROLE_SESSION if role else PrincipalKind.USER,
        arn=caller.arn,
        account_id=caller.account_id,
        issuer_arn=entity.arn if role and entity is not None else "",
        service_linked=role and entity is not None and entity.path.startswith(SERVICE_LINKED_PATH),
    )
    management = world.organization.management_id == caller.account_id
    policies = CallerPolicies(
        identity=identity_policies(iam, entity) if entity is not None else (),
        boundary=_boundary(iam, entity),
        session=session_policies(iam, session),
        scps=None if management else world.scp_levels(caller.account_id),
        management_account=management,
    )
    tags = dict(entity.tags) if entity is not None else {}
    if session is not None:
        # A session tag replaces the role's tag of the same key, whatever its case.
        lowered = {key.lower() for key, _ in session.tags}
        tags = {key: value for key, value in tags.items() if key.lower() not in lowered} | dict(session.tags)
    return AuthorizedCaller(
        principal,
        policies,
        caller.user_id,
        session,
        tuple(tags.items()),
        (world.organization.id, world.organization_path(caller.account_id)),
        policies.allow_everything,
    )


def identity_policies(iam: IamState, entity: Entity) -> list[Policy]:
    """The inline and attached policies of a user or role, compiled."""
    found = [compiled(name, PolicyKind.IDENTITY, text) for name, text in entity.inline.items()]
    return found + [
        compiled(arn, PolicyKind.IDENTITY, policy.document)
        for arn in entity.attached
        if (policy := iam.policy(arn)) is not None
    ]


def _boundary(iam: IamState, entity: Entity | None) -> Policy | None:
    if entity is None or entity.boundary is None:
        return None
    document = iam.boundary_document(entity)
    # A boundary whose policy is gone allows nothing.
    return (
        compiled(entity.boundary, PolicyKind.BOUNDARY, document)
        if document is not None
        else Policy(entity.boundary, PolicyKind.BOUNDARY, "", ())
    )


def session_policies(iam: IamState, session: Session | None) -> list[Policy] | None:
    """The session policies that AssumeRole was given; None when there were none."""
    if session is None or (session.policy is None and not session.policy_arns):
        return None
    found: list[Policy] = []
    if session.policy is not None:
        found.append(compiled("session policy", PolicyKind.SESSION, session.policy))
    documents: Iterable[tuple[str, str]] = (
        (arn, policy.document) for arn in session.policy_arns if (policy := iam.policy(arn)) is not None
    )
    return found + [compiled(arn, PolicyKind.SESSION, text) for arn, text in documents]
