"""Whether an AWS service may assume a role that a request hands to it."""

from __future__ import annotations

from imdsctl.local.call import Call
from imdsctl.policy.decision import CallerPolicies, decide
from imdsctl.policy.document import PolicyKind
from imdsctl.policy.request import Principal, PrincipalKind, RequestContext, ResourceContext


def trusts(call: Call, arn: str, service: str) -> bool:
    """Whether the role of that ARN exists in the caller's account and its trust policy lets the service in.

    `service` is a principal such as `sagemaker.amazonaws.com`. SCPs do not bind services.
    """
    # Here, because EC2 asks for this too, and the world that an authorization knows knows EC2.
    from imdsctl.local.authorization.caller import compiled

    role = call.world.iam(call.account_id).role_by_arn(arn)
    if role is None:
        return False
    principal = Principal(PrincipalKind.SERVICE, name=service)
    keys = {**principal.keys(), "aws:sourceaccount": call.account_id, "aws:requestedregion": call.region}
    resource = ResourceContext(arn, {}, call.account_id, compiled(arn, PolicyKind.TRUST, role.trust))
    return decide(RequestContext("sts:AssumeRole", principal, keys, (resource,)), CallerPolicies()).allowed
