"""May this caller do this? All policies that apply, and one small function that combines them.

Source: IAM User Guide, "Policy evaluation logic": "How AWS enforcement code logic evaluates requests to allow or deny
access" (its order: explicit denies anywhere, SCPs, resource-based policies, identity-based policies, permissions
boundary, session policies), "Cross-account policy evaluation logic"; Organizations User Guide, "SCP evaluation" (every
level from the root to the account has to allow; neither the management account nor service-linked roles are bound).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from imdsctl.policy.document import Policy, PolicyKind, Statement
from imdsctl.policy.principals import Named
from imdsctl.policy.request import Keys, Principal, PrincipalKind, RequestContext, ResourceContext


class Effect(StrEnum):
    """What was decided. Implicit: nothing denied it, and something that had to allow it did not."""

    ALLOWED = "allowed"
    IMPLICIT_DENY = "implicit deny"
    EXPLICIT_DENY = "explicit deny"


@dataclass(frozen=True, slots=True)
class Reason:
    """A statement that made a decision: its policy, its place in it (from 0), and its Sid where it has one."""

    kind: PolicyKind
    policy: str
    index: int
    sid: str | None = None


Made = tuple[PolicyKind, Policy, Statement]
"""A statement that made a decision, where it was found."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for a whole call.

    `made` are the statements that made it, as they were found; `reasons` says the same in names. `lacking` is, for an
    implicit deny, the first kind of policy (in AWS's order) that had to allow and did not. `resource` is the resource
    that was refused; empty when the call is allowed.
    """

    effect: Effect
    action: str
    made: tuple[Made, ...] = ()
    lacking: PolicyKind | None = None
    resource: str = ""

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The statements that deny, or for an allowed call those that allow it; each once, in the order of AWS."""
        named = (Reason(kind, policy.name, statement.index, statement.sid) for kind, policy, statement in self.made)
        return tuple(dict.fromkeys(named))

    @property
    def allowed(self) -> bool:
        """True when the call may go on."""
        return self.effect is Effect.ALLOWED

    @property
    def phrase(self) -> str:
        """The end of AWS's refusal, which says which kind of policy is behind it; empty when allowed.

        IAM User Guide, "Troubleshoot access denied error messages", its examples.
        """
        if self.effect is Effect.EXPLICIT_DENY:
            kind = self.made[0][0]
            article = _ARTICLES.get(kind, "a")
            return f"with an explicit deny in {article} {kind}"
        if self.effect is Effect.IMPLICIT_DENY:
            return f"because no {self.lacking} allows the {self.action} action"
        return ""


_ARTICLES = {PolicyKind.IDENTITY: "an", PolicyKind.TRUST: "the"}


@dataclass(frozen=True, slots=True)
class CallerPolicies:
    """The policies that apply to a caller, wherever it goes. Resource-based ones are in the ResourceContext.

    `boundary` None: there is none. `session` None: no session policy was passed. `scps` holds, from the root down to
    the account, what is attached at each level; None when the organization does not use SCPs or there is none.
    `management_account`: the caller belongs to the organization's management account, which SCPs do not bind.
    """

    identity: Sequence[Policy] = ()
    boundary: Policy | None = None
    session: Sequence[Policy] | None = None
    scps: Sequence[Sequence[Policy]] | None = None
    management_account: bool = False

    @property
    def allow_everything(self) -> bool:
        """Nothing within its own account can be refused to this caller, so that nobody has to ask.

        An administrator whom no SCP, boundary or session policy limits. Resource-based policies are not in it: a Deny
        there, or the trust policy of a role, has to be asked all the same.
        """
        return (
            _always(self.identity)
            and (self.boundary is None or self.boundary.allows_everything)
            and (self.session is None or _always(self.session))
            and (self.scps is None or all(map(_always, self.scps)))
        )


def _always(policies: Sequence[Policy]) -> bool:
    """No Deny among them, and an Allow of everything."""
    return any(each.allows_everything for each in policies) and all(
        statement.allows for each in policies for statement in each.statements
    )


def decide(request: RequestContext, policies: CallerPolicies) -> Decision:
    """Decide a call: every one of its resources must be allowed; an explicit deny of any of them comes first.

    Pure, and cheap: policies were compiled when they were parsed.
    """
    refused: Decision | None = None
    made: tuple[Made, ...] = ()
    for resource in request.resources:
        decision = _decide_one(request, resource, policies)
        if decision.effect is Effect.EXPLICIT_DENY:
            return decision
        if refused is None and decision.effect is Effect.IMPLICIT_DENY:
            refused = decision
        made += decision.made
    return refused or Decision(Effect.ALLOWED, request.action, made)


# -- one resource ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Search:
    """Looks for the statements that apply to one resource of a request, and collects them."""

    action: str
    principal: Principal
    resource: str
    keys: Keys
    denies: list[Made] = field(default_factory=list)

    def of(self, kind: PolicyKind, policies: Iterable[Policy], allows: list[Made]) -> Named:
        """How closely an Allow of these policies names the caller, Named.NOT when none allows.

        A Deny counts whoever in the caller it names: its account, its role or itself.
        """
        closest = Named.NOT
        for policy in policies:
            for statement in policy.about(self.action):
                named = statement.named(self.resource, self.principal, self.keys)
                if named:
                    if statement.allows:
                        allows.append((kind, policy, statement))
                        if named > closest:
                            closest = named
                    else:
                        self.denies.append((kind, policy, statement))
        return closest


def _decide_one(request: RequestContext, resource: ResourceContext, policies: CallerPolicies) -> Decision:
    principal = request.principal
    keys = {**request.keys, **resource.keys} if resource.keys else request.keys
    search = _Search(request.action, principal, resource.arn, keys)
    outer: list[Made] = []
    own: list[Made] = []

    # Every policy is searched, whatever the earlier ones say: a deny anywhere decides, and all denies are named.
    lacking = None
    if policies.scps is not None and _bound_by_scps(principal, policies):
        for level in policies.scps:
            if not search.of(PolicyKind.SCP, level, outer):
                lacking = PolicyKind.SCP
    attached = resource.policy
    granted = search.of(attached.kind, (attached,), outer) if attached is not None else Named.NOT
    identity = search.of(PolicyKind.IDENTITY, policies.identity, own)
    boundary = session = Named.DIRECTLY
    if policies.boundary is not None:
        boundary = search.of(PolicyKind.BOUNDARY, (policies.boundary,), own)
    if policies.session is not None:
        session = search.of(PolicyKind.SESSION, policies.session, own)
    elif principal.kind is PrincipalKind.FEDERATED_USER:
        # It has what its session policy and its user's policies both allow: without the former, nothing.
        session = Named.NOT

    if search.denies:
        return Decision(Effect.EXPLICIT_DENY, request.action, tuple(search.denies), None, resource.arn)

    same_account = not resource.account_id or resource.account_id == principal.account_id
    trust = attached is not None and attached.kind is PolicyKind.TRUST
    alone = principal.kind in _WITHOUT_IDENTITY_POLICIES
    # Within one account an Allow that names the user or the session is enough, one that names the role behind the
    # session spares only the identity-based policies, and one that names the account leaves it to them.
    enough = granted is Named.DIRECTLY and (same_account or alone)
    spared = (granted is Named.ISSUER and same_account) or principal.kind is PrincipalKind.ROOT
    if lacking is None and not granted and (trust or alone or not same_account):
        lacking = PolicyKind.TRUST if trust else PolicyKind.RESOURCE
    if lacking is None and not enough:
        if not identity and not spared:
            lacking = PolicyKind.IDENTITY
        elif not boundary:
            lacking = PolicyKind.BOUNDARY
        elif not session:
            lacking = PolicyKind.SESSION
    if lacking is not None:
        return Decision(Effect.IMPLICIT_DENY, request.action, (), lacking, resource.arn)
    return Decision(Effect.ALLOWED, request.action, tuple(outer if enough else outer + own))


_WITHOUT_IDENTITY_POLICIES = (PrincipalKind.SERVICE, PrincipalKind.WEB_IDENTITY, PrincipalKind.ANONYMOUS)


def _bound_by_scps(principal: Principal, policies: CallerPolicies) -> bool:
    """SCPs bind users, roles and root of member accounts; not service-linked roles, not AWS services."""
    exempt = policies.management_account or principal.service_linked
    return not exempt and principal.kind not in _WITHOUT_IDENTITY_POLICIES
