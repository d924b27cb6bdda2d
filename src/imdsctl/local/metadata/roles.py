"""The role of an instance: whether its profile gives it one, and the credentials it gets.

Source: EC2 User Guide, "IAM roles for Amazon EC2" and "Instance identity roles for Amazon EC2 instances"; IAM User
Guide, "Troubleshoot IAM and Amazon EC2", for what is wrong and how it is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from imdsctl.imds.facts import RoleCredentials
from imdsctl.local.authorization.caller import compiled
from imdsctl.local.call import Call, Caller, Ids
from imdsctl.local.ec2.resources import Instance
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.iam.state import Role
from imdsctl.local.sessions import INSTANCE_IDENTITY_ROLE, ROLE, Session
from imdsctl.local.world import Credentials, World
from imdsctl.policy.decision import CallerPolicies, decide
from imdsctl.policy.document import PolicyKind
from imdsctl.policy.request import Principal, PrincipalKind, RequestContext, ResourceContext

VALID_SECONDS = 6 * 3600
"""How long credentials are good for. AWS does not say; observed ones are good for six hours and some minutes."""
RENEWED_SECONDS = 5 * 3600
"""After this time new ones are given out: an hour before the old ones expire (AWS: five minutes before, at least)."""

PROFILE_NOT_FOUND = "InstanceProfileNotFound"
UNAUTHORIZED = "AssumeRoleUnauthorizedAccess"

_EC2 = Principal(PrincipalKind.SERVICE, name="ec2.amazonaws.com")


@dataclass(frozen=True, slots=True)
class ProfileRole:
    """What an instance's profile comes to: a role, or an AWS code for what is wrong with the profile, or neither."""

    role: Role | None = None
    problem: str | None = None


def profile_role(world: World, account_id: str, instance: Instance) -> ProfileRole:
    """The role that the instance's profile has now. A profile that was deleted and made again is another one."""
    if instance.profile_arn is None:
        return ProfileRole()
    iam = world.iam(account_id)
    profile = iam.profile(instance.profile_arn.rpartition("/")[2])
    if profile is None or profile.id != instance.profile_id:
        return ProfileRole(problem=PROFILE_NOT_FOUND)
    return ProfileRole(iam.role(profile.role) if profile.role is not None else None)


def instance_arn(state: RegionState, instance: Instance) -> str:
    """The instance's ARN."""
    return f"arn:aws:ec2:{state.region}:{state.account_id}:instance/{instance.id}"


def trusts_ec2(role: Role, state: RegionState, instance: Instance) -> bool:
    """Whether the role's trust policy lets EC2 assume it for this instance. SCPs do not bind services."""
    keys = {
        **_EC2.keys(),
        "aws:sourceaccount": state.account_id,
        "aws:sourcearn": instance_arn(state, instance),
        "aws:requestedregion": state.region,
    }
    resource = ResourceContext(role.arn, {}, state.account_id, compiled(role.arn, PolicyKind.TRUST, role.trust))
    return decide(RequestContext("sts:AssumeRole", _EC2, keys, (resource,)), CallerPolicies()).allowed


def refused(role: Role, now: datetime) -> RoleCredentials:
    """What is answered in place of credentials when the role does not trust EC2."""
    return RoleCredentials(
        updated=now,
        problem=UNAUTHORIZED,
        message=f"EC2 cannot assume the role {role.name}. Please see documentation at "
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_iam-ec2.html#troubleshoot_iam-ec2_errors-info-doc.",
    )


def credentials(
    world: World, state: RegionState, instance: Instance, role: Role | None, delivery: str, now: datetime
) -> RoleCredentials:
    """New credentials of a role (None: the instance identity role), as a session of the local STS.

    Their session is named after the instance and says how they were fetched. Nothing is stored: they outlive a restart,
    and the instance (EC2 User Guide: those of a terminated instance are good until they expire).
    """
    now = now.replace(microsecond=0)
    session = Session(
        account_id=state.account_id,
        kind=ROLE,
        principal=INSTANCE_IDENTITY_ROLE if role is None else role.name,
        principal_id=f"{state.account_id}:{INSTANCE_IDENTITY_ROLE}" if role is None else role.id,
        name=instance.id,
        expires=int(now.timestamp()) + VALID_SECONDS,
        nonce=f"{world.sequence}",
        issued=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        role_delivery=delivery,
        instance_arn=instance_arn(state, instance),
        instance_vpc=state.vpc_id,
        instance_ip=instance.private_ip,
    )
    made = world.open_session(session)
    assert made.session_token is not None
    if role is not None:
        _record(world, state, instance, role, made, now)
    return RoleCredentials(
        updated=now.astimezone(UTC),
        access_key_id=made.access_key_id,
        secret_access_key=made.secret_access_key,
        session_token=made.session_token,
        expires=made.expires,
    )


def _record(world: World, state: RegionState, instance: Instance, role: Role, made: Credentials, now: datetime) -> None:
    """EC2's call of AssumeRole, for CloudTrail. Kept like a read: it is gone after a restart."""
    ids = Ids(world.seed, f"{instance.id}/{made.access_key_id}")
    params = {"RoleArn": role.arn, "RoleSessionName": instance.id}
    caller = Caller(state.account_id, "", "", "")
    call = Call("sts", "AssumeRole", caller, state.account_id, state.region, params, now, ids.uuid(), ids, world)
    answer = {
        "AccessKeyId": made.access_key_id,
        "SessionToken": made.session_token,
        "Expiration": made.expires,
    }
    world.trail.record(call, {"Credentials": answer}, {"user-agent": _EC2.name})
