"""How large policies may be, and how many: checked apart from the language, because each service counts differently.

Sources: IAM User Guide, "IAM and AWS STS quotas" (IAM does not count white space); AWS Organizations User Guide,
"Quotas for AWS Organizations" (every character counts).
"""

from __future__ import annotations

from collections.abc import Sequence

from imdsctl.policy.document import Policy
from imdsctl.policy.problems import Problem

SCP_CHARACTERS_MAX = 5_120
SCPS_PER_TARGET_MAX = 5
SCPS_PER_TARGET_MIN = 1
DECLARATIVE_CHARACTERS_MAX = 10_000
DECLARATIVE_PER_TARGET_MAX = 10
MANAGED_POLICY_CHARACTERS_MAX = 6_144
MANAGED_POLICIES_PER_ROLE_MAX = 10
"""AWS's default; it can be raised."""
ROLE_INLINE_CHARACTERS_MAX = 10_240
USER_INLINE_CHARACTERS_MAX = 2_048
TRUST_POLICY_CHARACTERS_MAX = 2_048
"""AWS's default; it can be raised."""
SESSION_POLICY_CHARACTERS_MAX = 2_048


def check_scp_size(text: str) -> tuple[Problem, ...]:
    """Is the text of an SCP too long? White space counts."""
    return _check(len(text), SCP_CHARACTERS_MAX, "an SCP")


def check_declarative_size(text: str) -> tuple[Problem, ...]:
    """Is the text of a declarative policy too long? White space counts."""
    return _check(len(text), DECLARATIVE_CHARACTERS_MAX, "a declarative policy")


def check_iam_size(text: str, characters_max: int, what: str) -> tuple[Problem, ...]:
    """Is the text of an IAM policy too long? White space does not count. `what` names it: "an inline role policy"."""
    return _check(len("".join(text.split())), characters_max, what)


def check_scps_attached(policies: Sequence[Policy]) -> tuple[Problem, ...]:
    """May these SCPs, and no others, be attached to one root, unit or account?"""
    if len(policies) > SCPS_PER_TARGET_MAX:
        return (Problem("too-many-policies", f"{len(policies)} SCPs at one place; {SCPS_PER_TARGET_MAX} are allowed"),)
    if len(policies) < SCPS_PER_TARGET_MIN:
        return (
            Problem("too-few-policies", "a place keeps at least one SCP: without any, nothing is allowed below it"),
        )
    return ()


def _check(characters: int, characters_max: int, what: str) -> tuple[Problem, ...]:
    if characters <= characters_max:
        return ()
    return (Problem("too-long", f"{what} has at most {characters_max:,} characters; this one has {characters:,}"),)
