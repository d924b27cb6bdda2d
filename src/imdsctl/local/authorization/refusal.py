"""AWS's refusal of a call that is not authorized, and the encoded message that explains it.

Sources: IAM User Guide, "Troubleshoot access denied error messages" (sentences); EC2 API Reference, "Error codes"
(`UnauthorizedOperation`); STS API Reference, DecodeAuthorizationMessage (what the decoded message holds: whether the
denial was explicit, the principal, the action, the resource and the values of the condition keys).
"""

from __future__ import annotations

import base64
import hmac
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from imdsctl.local.call import AwsError, Call
from imdsctl.local.world import World
from imdsctl.policy.decision import Decision, Effect
from imdsctl.policy.document import PolicyKind
from imdsctl.policy.request import Keys, RequestContext

_PURPOSE = b"authorization"


def refusal_of(call: Call, request: RequestContext, decision: Decision) -> AwsError:
    """The error to raise: EC2's with an encoded message, every other service's in its own protocol's form."""
    sentence = f"User: {call.caller.arn} is not authorized to perform: {decision.action}"
    if call.service == "sts" and decision.action.startswith("sts:"):
        # AssumeRole says neither why nor whether the role exists.
        return AwsError("AccessDenied", f"{sentence} on resource: {decision.resource}", 403)
    if decision.resource != "*":
        sentence += f" on resource: {decision.resource}"
    sentence += f" {decision.phrase}"
    if call.service == "ec2":
        encoded = encode_message(call.world, _explained(call, request, decision))
        return AwsError(
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {sentence}. "
            f"Encoded authorization failure message: {encoded}",
            403,
        )
    if call.service in _JSON:
        return AwsError("AccessDeniedException", sentence, _JSON[call.service])
    return AwsError("AccessDenied", sentence, 403)


_JSON = {
    "account": 403,
    "appstream": 400,
    "cloudtrail": 400,
    "ecs": 400,
    "eks": 403,
    "elasticmapreduce": 400,
    "imagebuilder": 403,
    "lightsail": 400,
    "organizations": 400,
    "sagemaker": 400,
    "ssm": 400,
}
"""Services that speak JSON, with the status of their AccessDeniedException."""


def encode_message(world: World, explained: Mapping[str, Any]) -> str:
    """A message that only the world it came from can open, and that cannot be made up."""
    body = zlib.compress(orjson.dumps(explained), 6)
    return base64.urlsafe_b64encode(world.seal(_PURPOSE, body) + body).decode()


def decode_message(world: World, encoded: str) -> str | None:
    """The JSON text behind an encoded message; None when it is not one of this world's."""
    try:
        sealed = base64.b64decode(encoded.encode("ascii"), altchars=b"-_", validate=True)
    except ValueError:
        return None
    mac, body = sealed[:32], sealed[32:]
    if not hmac.compare_digest(mac, world.seal(_PURPOSE, body)):
        return None
    return zlib.decompress(body).decode()


def _explained(call: Call, request: RequestContext, decision: Decision) -> dict[str, Any]:
    resource = next((each for each in request.resources if each.arn == decision.resource), request.resources[0])
    return {
        "allowed": False,
        "explicitDeny": decision.effect is Effect.EXPLICIT_DENY,
        "matchedStatements": _items(
            {
                "statementId": statement.sid or "",
                "effect": "ALLOW" if statement.allows else "DENY",
                "policyType": str(kind),
                # An SCP or a boundary of somebody else's making is named, but not shown to the refused.
                "policy": policy.name if kind in (PolicyKind.IDENTITY, PolicyKind.SCP) else "",
            }
            for kind, policy, statement in decision.made
        ),
        "failures": _items(()),
        "context": {
            "principal": {
                "id": call.caller.user_id,
                "name": call.caller.arn.rpartition("/")[2],
                "arn": call.caller.arn,
            },
            "action": decision.action,
            "resource": decision.resource,
            "conditions": _items(
                {"key": key, "values": _items({"value": each} for each in values)}
                for key, values in _listed({**request.keys, **resource.keys})
            ),
        },
    }


def _items(items: Iterable[Any]) -> dict[str, list[Any]]:
    return {"items": list(items)}


def _listed(keys: Keys) -> list[tuple[str, tuple[str, ...]]]:
    return [(key, (value,) if isinstance(value, str) else value) for key, value in sorted(keys.items())]
