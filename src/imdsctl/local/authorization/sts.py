"""What STS's calls need.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Security Token Service"; IAM
User Guide, "Pass session tags in AWS STS" (sts:TagSession beside sts:AssumeRole).
"""

from __future__ import annotations

import re

from imdsctl.local.authorization.caller import compiled
from imdsctl.local.authorization.needs import Need, action_of, loose_tags, request_tags, resource_tags
from imdsctl.local.call import Call
from imdsctl.policy.document import Policy, PolicyKind
from imdsctl.policy.request import ResourceContext

_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role/.+", re.ASCII)
_TRUSTS_NOBODY = Policy("", PolicyKind.TRUST, "", ())


def needs(call: Call) -> list[Need]:
    """AssumeRole asks the caller's policies and the role's trust policy; other calls their own action on `*`."""
    if call.action != "AssumeRole":
        return [Need(action_of(call))]
    params = call.params
    resource = (_role(call, str(params.get("RoleArn") or "*")),)
    tags = loose_tags(params.get("Tags"))
    keys: dict[str, str | tuple[str, ...]] = dict(request_tags(tags))
    for name, key in (
        ("ExternalId", "sts:externalid"),
        ("RoleSessionName", "sts:rolesessionname"),
        ("SourceIdentity", "sts:sourceidentity"),
    ):
        if params.get(name):
            keys[key] = str(params[name])
    if params.get("TransitiveTagKeys"):
        keys["sts:transitivetagkeys"] = tuple(map(str, params["TransitiveTagKeys"]))
    wanted = [Need("sts:AssumeRole", resource, keys)]
    if tags:
        wanted.append(Need("sts:TagSession", resource, keys))
    if params.get("SourceIdentity"):
        wanted.append(Need("sts:SetSourceIdentity", resource, keys))
    return wanted


def _role(call: Call, arn: str) -> ResourceContext:
    """The role with its trust policy. A role that does not exist trusts nobody, so that nobody learns which do."""
    named = _ROLE_ARN.fullmatch(arn)
    if named is None:
        return ResourceContext(arn)  # no ARN of a role: the handler refuses it
    account = call.world.accounts.get(named[1])
    role = call.world.iam(named[1]).role_by_arn(arn) if account is not None and account.state == "ACTIVE" else None
    if role is None:
        return ResourceContext(arn, {}, named[1], _TRUSTS_NOBODY)
    keys = {**resource_tags(role.tags, "iam"), "aws:resourceaccount": named[1]}
    return ResourceContext(arn, keys, named[1], compiled(arn, PolicyKind.TRUST, role.trust))
