"""Decides a call: the caller's policies, the permissions that the call needs, and AWS's refusal.

Source: IAM User Guide, "Policy evaluation logic". The only exemption is a call that AWS itself does not check
(`UNCHECKED`).
"""

from __future__ import annotations

from collections.abc import Mapping

from imdsctl.local.authorization import ec2, iam, others, sts
from imdsctl.local.authorization.caller import AuthorizedCaller, caller_of
from imdsctl.local.authorization.refusal import refusal_of
from imdsctl.local.call import Call
from imdsctl.local.world import Credentials, World
from imdsctl.policy.decision import decide
from imdsctl.policy.request import RequestContext

ROOMS = {"ec2": ec2.needs, "iam": iam.needs, "sts": sts.needs}
"""Which permissions a call needs, by service; the first is that of its own action. Every other one is in `others`."""

UNCHECKED = frozenset({"sts:GetCallerIdentity", "sts:GetSessionToken"})
"""No permission is needed for these (STS API Reference): not even an explicit deny stops GetCallerIdentity."""

SOURCE_IP = "127.0.0.1"
"""`aws:SourceIp`: every client of a local AWS is on this machine, or is treated as if it were."""

CALLERS_REMEMBERED_MAX = 10_000


class Authorizer:
    """Decides the calls of one world. It remembers callers for as long as no write can have changed them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._callers: dict[str, tuple[int, AuthorizedCaller]] = {}

    def authorize(self, call: Call, credentials: Credentials, headers: Mapping[str, str]) -> None:
        """Return when every permission that the call needs is there; otherwise raise AWS's refusal.

        `headers` are those of the request: what a policy may ask of the transport (`aws:UserAgent`) is in them.
        """
        caller = self._caller(credentials)
        if caller.unlimited and call.service != "sts":
            return
        needs = ROOMS.get(call.service, others.needs)(call)
        if needs[0].action in UNCHECKED:
            return
        keys = caller.keys(call)
        keys["aws:sourceip"] = SOURCE_IP
        if "user-agent" in headers:
            keys["aws:useragent"] = headers["user-agent"]
        for need in needs:
            request = RequestContext(
                action=need.action,
                principal=caller.principal,
                keys={**keys, **need.keys} if need.keys else keys,
                resources=need.resources,
            )
            decision = decide(request, caller.policies)
            if not decision.allowed:
                raise refusal_of(call, request, decision)

    def _caller(self, credentials: Credentials) -> AuthorizedCaller:
        who = credentials.session_token or credentials.access_key_id
        epoch, caller = self._callers.get(who, (-1, None))
        if caller is None or epoch != self._world.policy_epoch:
            caller = caller_of(self._world, credentials)
            if len(self._callers) >= CALLERS_REMEMBERED_MAX:
                self._callers.clear()
            self._callers[who] = self._world.policy_epoch, caller
        return caller
