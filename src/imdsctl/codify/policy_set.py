"""The policies that a simulated call meets: compiled once, with the text of their statements kept beside them.

Source: IAM User Guide, "Policy evaluation logic"; Organizations User Guide, "SCP evaluation" (`FullAWSAccess` is
attached everywhere until somebody detaches it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imdsctl.policy.decision import CallerPolicies
from imdsctl.policy.declarative import NOTHING_DECLARED, EffectivePolicy
from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.json_text import read_document

FULL_ACCESS: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
FULL_ACCESS_NAME = "FullAWSAccess"


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A policy, compiled, and its statements as they are written."""

    policy: Policy
    statements: tuple[Mapping[str, Any], ...]

    @property
    def allows(self) -> bool:
        """Whether any statement of it allows something."""
        return any(each.allows for each in self.policy.statements)

    def conditions(self, index: int) -> Iterator[tuple[str, str, Any]]:
        """Operator, key and value of each condition of a statement, in the order in which they were compiled."""
        for operator, keys in (self.statements[index].get("Condition") or {}).items():
            for key, value in keys.items():
                yield operator, key, value


def written(document: str | Mapping[str, Any], *, name: str, kind: PolicyKind) -> Written:
    """Check and compile a policy. Raises MalformedPolicy with every problem that was found."""
    value = read_document(document)
    policy = parse_policy(value, name=name, kind=kind)
    statements = value["Statement"]
    return Written(policy, (statements,) if isinstance(statements, Mapping) else tuple(statements))


def with_full_access(level: Sequence[Written]) -> tuple[Written, ...]:
    """A level of SCPs as AWS leaves it: with FullAWSAccess, unless something in it allows already (an allow list)."""
    if any(each.allows for each in level):
        return tuple(level)
    return (*level, written(FULL_ACCESS, name=FULL_ACCESS_NAME, kind=PolicyKind.SCP))


@dataclass(frozen=True, slots=True, eq=False)
class PolicySet:
    """Everything that decides a call.

    `scps`: from the root to the account, the name of each level and its policies; None: SCPs do not bind the caller's
    organization. `identity` None: it allows everything. `declarative`: what holds for the account.
    """

    scps: tuple[tuple[str, tuple[Written, ...]], ...] | None = None
    identity: tuple[Written, ...] | None = None
    boundary: Written | None = None
    session: tuple[Written, ...] | None = None
    declarative: EffectivePolicy = NOTHING_DECLARED
    management_account: bool = False

    def caller_policies(self) -> CallerPolicies:
        """The same in the form that a decision takes."""
        identity = _EVERYTHING if self.identity is None else self.identity
        return CallerPolicies(
            identity=[each.policy for each in identity],
            boundary=self.boundary.policy if self.boundary is not None else None,
            session=[each.policy for each in self.session] if self.session is not None else None,
            scps=(
                [[each.policy for each in level] for _, level in self.scps]
                if self.scps is not None and not self.management_account
                else None
            ),
            management_account=self.management_account,
        )

    def layers(self) -> Iterator[tuple[PolicyKind, str, tuple[Written, ...] | None]]:
        """Kind, name and policies of each layer in AWS's order; None for a layer that is not there."""
        if self.scps is None or self.management_account:
            yield PolicyKind.SCP, "SCPs", None
        else:
            for name, level in self.scps:
                yield PolicyKind.SCP, f"SCPs of {name}", level
        yield PolicyKind.IDENTITY, "identity", _EVERYTHING if self.identity is None else self.identity
        yield PolicyKind.BOUNDARY, "boundary", None if self.boundary is None else (self.boundary,)
        yield PolicyKind.SESSION, "session", self.session

    def policies(self) -> Iterator[Written]:
        """Every policy of it."""
        for _, _, level in self.layers():
            yield from level or ()


_EVERYTHING = (written(FULL_ACCESS, name="(everything is allowed: no --identity)", kind=PolicyKind.IDENTITY),)


def tested_keys(policies: Iterable[Written]) -> dict[str, list[str]]:
    """Every condition key that the policies look at, in lower case, with the values that they compare it to."""
    found: dict[str, list[str]] = {}
    for each in policies:
        for index in range(len(each.statements)):
            for _, key, value in each.conditions(index):
                values = value if isinstance(value, list | tuple) else [value]
                texts = [str(one).lower() if isinstance(one, bool) else str(one) for one in values]
                found.setdefault(key.lower(), []).extend(texts)
    return found
