"""AWS STS: who am I, and temporary credentials for a role or a user.

Source: AWS STS API Reference (GetCallerIdentity, AssumeRole, GetSessionToken, GetAccessKeyInfo,
DecodeAuthorizationMessage) and the IAM User Guide,
"Methods to assume a role", "Pass session tags in AWS STS".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from imdsctl.local.authorization.refusal import decode_message
from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.constraints import check_range, check_required, check_text
from imdsctl.local.iam.documents import MalformedDocument, parse_document
from imdsctl.local.iam.state import Role
from imdsctl.local.keys import account_of_key
from imdsctl.local.sessions import ROLE, USER, Session
from imdsctl.local.world import Credentials

DURATION_SECONDS_DEFAULT = 3600
CHAINED_SECONDS_MAX = 3600
"""A role session that assumes another role gets one hour at most, whatever the role's MaxSessionDuration."""
TOKEN_SECONDS_DEFAULT = 43200
SESSION_POLICY_LENGTH_MAX = 2048
"""Characters of a session policy and of the managed ones' ARNs together."""
POLICY_ARNS_MAX = 10
TAGS_MAX = 50
PACKED_BYTES_MAX = 4096
"""How many bytes session policies and tags may have when packed. AWS does not publish its limit."""

_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]{1,577})", re.ASCII)
_NAME = r"[\w+=,.@-]*"
_TAG_TEXT = re.compile(r"[\w\s.:/=+\-@]*")


def get_caller_identity(call: Call) -> Mapping[str, Any]:
    """Allowed to everybody: AWS checks no permission for it."""
    return {"UserId": call.caller.user_id, "Account": call.caller.account_id, "Arn": call.caller.arn}


def assume_role(call: Call) -> Mapping[str, Any]:
    """Credentials of a role; authorization/sts.py says who may assume it (the role's trust policy among others).

    Session policies, tags and a source identity go into the session, and tags and source identity of a caller that is a
    session itself are inherited where AWS says so. A role that does not exist is refused like one that does not trust.
    """
    params = call.params
    arn, session_name = params.get("RoleArn"), params.get("RoleSessionName")
    check_required(arn, "roleArn", _invalid)
    check_required(session_name, "roleSessionName", _invalid)
    check_text(arn, "roleArn", _invalid, length_min=20, length_max=2048)
    check_text(session_name, "roleSessionName", _invalid, length_min=2, length_max=64, pattern=_NAME)
    source_identity = params.get("SourceIdentity")
    check_text(source_identity, "sourceIdentity", _invalid, length_min=2, length_max=64, pattern=_NAME)
    check_text(params.get("ExternalId"), "externalId", _invalid, length_min=2, length_max=1224)
    duration = params.get("DurationSeconds")
    check_range(duration, "durationSeconds", _invalid, 900, 43200)
    tags, transitive = _session_tags(call)
    named = _ROLE_ARN.fullmatch(str(arn))
    if named is None:
        raise _invalid(f"{arn} is invalid")
    role = _role(call, named[1], str(arn))
    parent = call.session
    if params.get("SerialNumber") or params.get("TokenCode"):
        raise AwsError("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.", 403)
    if parent is not None and parent.kind == ROLE:
        if (duration or 0) > CHAINED_SECONDS_MAX:
            raise _invalid(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            )
        if parent.source_identity is not None:
            if source_identity not in (None, parent.source_identity):
                raise _denied(call, "sts:SetSourceIdentity", str(arn))
            source_identity = parent.source_identity
        tags, transitive = _inherited(parent, tags, transitive)
    if (duration or 0) > role.max_session_duration:
        raise _invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    policy, policy_arns = _session_policies(call, named[1])
    session = Session(
        account_id=named[1],
        kind=ROLE,
        principal=role.name,
        principal_id=role.id,
        name=str(session_name),
        expires=_expires(call, duration or DURATION_SECONDS_DEFAULT),
        nonce=call.ids.hex(16),
        policy=policy,
        policy_arns=policy_arns,
        tags=tuple(tags.items()),
        transitive_tag_keys=transitive,
        source_identity=source_identity,
        issued=f"{call.now:%Y-%m-%dT%H:%M:%SZ}",
    )
    packed = len(session.limits())
    if packed > PACKED_BYTES_MAX:
        raise AwsError(
            "PackedPolicyTooLarge",
            f"Packed size of session policies and tags consumes {_percent(packed)}% of allotted space.",
            400,
        )
    made = call.world.open_session(session)
    result: dict[str, Any] = {
        "Credentials": _credentials(made),
        "AssumedRoleUser": {"AssumedRoleId": made.caller.user_id, "Arn": made.caller.arn},
    }
    if packed:
        result["PackedPolicySize"] = _percent(packed)
    if source_identity:
        result["SourceIdentity"] = source_identity
    return result


def get_session_token(call: Call) -> Mapping[str, Any]:
    """Temporary credentials of the IAM user that asks. A session cannot ask."""
    params = call.params
    duration = params.get("DurationSeconds")
    check_range(duration, "durationSeconds", _invalid, 900, 129600)
    check_text(params.get("SerialNumber"), "serialNumber", _invalid, length_min=9, length_max=256)
    check_text(params.get("TokenCode"), "tokenCode", _invalid, length_min=6, length_max=6, pattern=r"[\d]*")
    user = call.world.iam(call.account_id).user_by_arn(call.caller.arn)
    if user is None or call.session is not None:
        raise AwsError("AccessDenied", "Cannot call GetSessionToken with session credentials", 403)
    if params.get("SerialNumber") or params.get("TokenCode"):
        raise AwsError("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.", 403)
    session = Session(
        account_id=call.account_id,
        kind=USER,
        principal=user.name,
        principal_id=user.id,
        name="",
        expires=_expires(call, duration or TOKEN_SECONDS_DEFAULT),
        nonce=call.ids.hex(16),
        issued=f"{call.now:%Y-%m-%dT%H:%M:%SZ}",
    )
    return {"Credentials": _credentials(call.world.open_session(session))}


def decode_authorization_message(call: Call) -> Mapping[str, Any]:
    """What stands in the encoded message of EC2's UnauthorizedOperation, as JSON text.

    Raises InvalidAuthorizationMessageException for a message that did not come from here.
    """
    encoded = call.params.get("EncodedMessage")
    check_required(encoded, "encodedMessage", _invalid)
    check_text(encoded, "encodedMessage", _invalid, length_min=1, length_max=10240)
    decoded = decode_message(call.world, str(encoded))
    if decoded is None:
        raise AwsError("InvalidAuthorizationMessageException", "Invalid token", 400)
    return {"DecodedMessage": decoded}


def get_access_key_info(call: Call) -> Mapping[str, Any]:
    """The account of an access key: of every key that has been given out, whether or not it still works."""
    key = call.params.get("AccessKeyId")
    check_required(key, "accessKeyId", _invalid)
    check_text(key, "accessKeyId", _invalid, length_min=16, length_max=128, pattern=r"[\w]*")
    account_id = call.world.account_of_key(str(key)) or account_of_key(str(key))
    if account_id is None:
        raise _invalid(f"Invalid AccessKeyId: {key}")
    return {"Account": account_id}


# -- roles -----------------------------------------------------------------------------------------------------------


def _role(call: Call, account_id: str, arn: str) -> Role:
    """The role of an ARN. That it trusts the caller was decided before; one that is not there is refused like that."""
    account = call.world.accounts.get(account_id)
    role = call.world.iam(account_id).role_by_arn(arn) if account is not None else None
    if role is None:
        raise _denied(call, "sts:AssumeRole", arn)
    return role


def _expires(call: Call, seconds: int) -> int:
    return int((call.now + timedelta(seconds=seconds)).timestamp())


def _credentials(made: Credentials) -> dict[str, str | datetime | None]:
    return {
        "AccessKeyId": made.access_key_id,
        "SecretAccessKey": made.secret_access_key,
        "SessionToken": made.session_token,
        "Expiration": made.expires,
    }


def _percent(packed_bytes: int) -> int:
    return -(-packed_bytes * 100 // PACKED_BYTES_MAX)


# -- what limits a session -------------------------------------------------------------------------------------------


def _session_policies(call: Call, account_id: str) -> tuple[str | None, tuple[str, ...]]:
    """The inline policy and the ARNs of managed ones; raises when one is malformed or does not exist."""
    policy = call.params.get("Policy")
    check_text(policy, "policy", _invalid, length_min=1, length_max=SESSION_POLICY_LENGTH_MAX)
    if policy is not None:
        try:
            parse_document(policy)
        except MalformedDocument as error:
            raise AwsError("MalformedPolicyDocument", str(error), 400) from None
    arns: list[str] = []
    for position, each in enumerate(call.params.get("PolicyArns") or (), 1):
        arn, member = each.get("arn"), f"policyArns.{position}.member.arn"
        check_required(arn, member, _invalid)
        check_text(arn, member, _invalid, length_min=20, length_max=2048)
        if call.world.iam(account_id).policy(arn) is None:
            raise _invalid(f"The specified policy {arn} does not exist in the account of the role.")
        arns.append(arn)
    if len(arns) > POLICY_ARNS_MAX:
        raise _invalid(
            f"1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have length "
            f"less than or equal to {POLICY_ARNS_MAX}"
        )
    length = len(policy or "") + sum(map(len, arns))
    if length > SESSION_POLICY_LENGTH_MAX:
        raise AwsError(
            "PackedPolicyTooLarge",
            f"The session policies have {length} characters; at most {SESSION_POLICY_LENGTH_MAX} are allowed.",
            400,
        )
    return policy, tuple(arns)


def _session_tags(call: Call) -> tuple[dict[str, str], tuple[str, ...]]:
    """The `Tags` and `TransitiveTagKeys` of a request. Raises ValidationError, or InvalidParameterValue."""
    tags: dict[str, str] = {}
    for position, tag in enumerate(call.params.get("Tags") or (), 1):
        key, value = tag.get("Key"), tag.get("Value")
        for text, what, least, most in ((key, "key", 1, 128), (value, "value", 0, 256)):
            member = f"tags.{position}.member.{what}"
            check_required(text, member, _invalid)
            check_text(text, member, _invalid, length_min=least, length_max=most)
            if not _TAG_TEXT.fullmatch(text):
                raise _invalid(
                    f"1 validation error detected: Value '{text}' at '{member}' failed to satisfy constraint: Member "
                    r"must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*"
                )
        if key.lower().startswith("aws:"):
            raise _invalid("System tags cannot be modified. The aws: prefix is reserved.")
        if key.lower() in (each.lower() for each in tags):
            raise AwsError("InvalidParameterValue", "Duplicate tag keys found. Tag keys are case insensitive.", 400)
        tags[key] = value
    if len(tags) > TAGS_MAX:
        raise _invalid(
            f"1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length less "
            f"than or equal to {TAGS_MAX}"
        )
    transitive = tuple(call.params.get("TransitiveTagKeys") or ())
    for key in transitive:
        if key not in tags:
            raise AwsError(
                "InvalidParameterValue",
                "The specified transitive tag key must be included in the requested tags.",
                400,
            )
    return tags, transitive


def _inherited(
    parent: Session, tags: dict[str, str], transitive: tuple[str, ...]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """A chained session's tags: its own, and the transitive ones of the session that opens it.

    Raises InvalidParameterValue when a tag would replace an inherited one ("Chaining roles with session tags").
    """
    inherited = {key: value for key, value in parent.tags if key in parent.transitive_tag_keys}
    lowered = {key.lower() for key in inherited}
    for key in tags:
        if key.lower() in lowered:
            raise AwsError(
                "InvalidParameterValue",
                f"The specified tag key {key} is already set as a transitive tag of the session.",
                400,
            )
    return inherited | tags, (*parent.transitive_tag_keys, *transitive)


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message, 400)


def _denied(call: Call, action: str, resource: str) -> AwsError:
    return AwsError(
        "AccessDenied", f"User: {call.caller.arn} is not authorized to perform: {action} on resource: {resource}", 403
    )


# None writes: a session lives in its token (sessions.py), so there is nothing to remember.
OPERATIONS: Operations = {
    "GetCallerIdentity": Operation(get_caller_identity),
    "AssumeRole": Operation(assume_role),
    "GetSessionToken": Operation(get_session_token),
    "GetAccessKeyInfo": Operation(get_access_key_info),
    "DecodeAuthorizationMessage": Operation(decode_authorization_message),
}
