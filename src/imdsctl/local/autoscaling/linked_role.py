"""The service-linked role with which Auto Scaling launches and terminates.

Source: Amazon EC2 Auto Scaling User Guide, "Service-linked roles": the role is made with an account's first group, and
another (a custom suffix) has to exist before a group names it. SCPs do not bind service-linked roles.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from imdsctl.local.autoscaling.common import invalid
from imdsctl.local.autoscaling.source import ROLE_NAME, ROLE_PATH
from imdsctl.local.call import Call
from imdsctl.local.iam.state import Role

POLICY_ARN = "arn:aws:iam::aws:policy/aws-service-role/AutoScalingServiceRolePolicy"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "autoscaling.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def linked_role(call: Call, arn: str | None) -> Callable[[], Role]:
    """What gives the role, and makes it where it is missing. Raises ValidationError for an ARN of another role.

    Also where a user's role has the name.
    """
    iam = call.world.iam(call.account_id)
    usual = f"arn:aws:iam::{call.account_id}:role{ROLE_PATH}{ROLE_NAME}"
    if arn and arn != usual:
        found = iam.role_by_arn(arn)
        if found is None or not arn.startswith(f"{usual}_"):
            raise invalid(f"The service-linked role {arn} does not exist or is not one of Auto Scaling's.")
        return lambda: found

    taken = iam.roles.get(ROLE_NAME.lower())
    if taken is not None and taken.arn != usual:
        raise invalid(f"The service-linked role cannot be created: there is a role {taken.arn} of that name.")

    def make() -> Role:
        role = iam.role_by_arn(usual)
        if role is None:
            role = iam.roles[ROLE_NAME.lower()] = Role(
                name=ROLE_NAME,
                path=ROLE_PATH,
                id=f"AROA{call.ids.upper(17)}",
                arn=usual,
                created=call.now.replace(microsecond=0),
                attached=[POLICY_ARN],
                trust=json.dumps(_TRUST, separators=(",", ":")),
                description="Default Service-Linked Role enables access to AWS Services and Resources used or managed "
                "by Auto Scaling",
            )
        return role

    return make
