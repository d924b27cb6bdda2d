"""AWS STS: who am I, and temporary credentials in another account.

Source: AWS STS API Reference (GetCallerIdentity, AssumeRole) and the IAM User Guide, "Methods to assume a role".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.constraints import check_range, check_required, check_text
from imdsctl.local.world import ROLE_NAME

DURATION_SECONDS_DEFAULT = 3600
ROLE_DURATION_SECONDS_MAX = 3600
"""MaxSessionDuration of a role nobody changed."""

_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]{1,577})", re.ASCII)
_NAME = r"[\w+=,.@-]*"


def get_caller_identity(call: Call) -> Mapping[str, Any]:
    """Allowed to everybody: AWS checks no permission for it."""
    return {"UserId": call.caller.user_id, "Account": call.caller.account_id, "Arn": call.caller.arn}


def assume_role(call: Call) -> Mapping[str, Any]:
    """Credentials of `OrganizationAccountAccessRole` in a member account, for the management account's principals.

    The role's trust policy is the one Organizations writes: the management account may `sts:AssumeRole`, nothing else,
    so tags and a source identity are refused, and so is every other account.
    """
    params = call.params
    arn, session_name = params.get("RoleArn"), params.get("RoleSessionName")
    check_required(arn, "roleArn", _invalid)
    check_required(session_name, "roleSessionName", _invalid)
    check_text(arn, "roleArn", _invalid, length_min=20, length_max=2048)
    check_text(session_name, "roleSessionName", _invalid, length_min=2, length_max=64, pattern=_NAME)
    check_text(params.get("SourceIdentity"), "sourceIdentity", _invalid, length_min=2, length_max=64, pattern=_NAME)
    check_text(params.get("ExternalId"), "externalId", _invalid, length_min=2, length_max=1224)
    duration = params.get("DurationSeconds")
    check_range(duration, "durationSeconds", _invalid, 900, 43200)
    named = _ROLE_ARN.fullmatch(str(arn))
    if named is None:
        raise _invalid(f"{arn} is invalid")
    account = call.world.accounts.get(named[1])
    if (
        account is None
        or account.state != "ACTIVE"
        or account.refuses_role
        or account.id == call.world.organization.management_id
        or named[2] != ROLE_NAME
        or call.caller.account_id != call.world.organization.management_id
    ):
        raise _denied(call, "sts:AssumeRole", str(arn))
    for asked, action in (("Tags", "sts:TagSession"), ("SourceIdentity", "sts:SetSourceIdentity")):
        if params.get(asked):
            raise _denied(call, action, str(arn))
    if params.get("SerialNumber") or params.get("TokenCode"):
        raise AwsError("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.", 403)
    if (duration or 0) > ROLE_DURATION_SECONDS_MAX:
        raise _invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    expires = (call.now + timedelta(seconds=duration or DURATION_SECONDS_DEFAULT)).replace(microsecond=0)
    made = call.world.assume(account, ROLE_NAME, str(session_name), expires, call.ids.hex(16))
    return {
        "Credentials": {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret_access_key,
            "SessionToken": made.session_token,
            "Expiration": expires,
        },
        "AssumedRoleUser": {"AssumedRoleId": made.caller.user_id, "Arn": made.caller.arn},
    }


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message, 400)


def _denied(call: Call, action: str, resource: str) -> AwsError:
    return AwsError(
        "AccessDenied", f"User: {call.caller.arn} is not authorized to perform: {action} on resource: {resource}", 403
    )


# Neither writes: a session lives in its token (World.assume), so there is nothing to remember.
OPERATIONS: Operations = {
    "GetCallerIdentity": Operation(get_caller_identity),
    "AssumeRole": Operation(assume_role),
}
