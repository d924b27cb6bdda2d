"""The exported role: cfn-lint is the judge of the template, our own parser of the policy."""

from __future__ import annotations

import json

import pytest
from cfnlint.api import lint_all

from imdsctl.domain.permissions import NEEDS, Mode, Place, needs, policy
from imdsctl.policy.document import parse_policy
from imdsctl.views.role_template import role_template

POLICY_CHARACTERS_MAX = 6144
"""Of a managed policy, white space not counted. Source: IAM User Guide, "IAM and AWS STS quotas"."""


@pytest.mark.parametrize("rollback", [True, False])
@pytest.mark.parametrize("mode", Mode)
def test_cloudformation_takes_the_template(mode: Mode, rollback: bool) -> None:
    template = role_template(mode, role="imdsctl", rollback=rollback)
    complaints = [each for each in lint_all(template) if not each.rule.id.startswith("I")]  # I: mere information
    assert [str(each) for each in complaints] == []


def test_a_reading_role_can_write_nothing() -> None:
    actions = [action for each in policy(Mode.READ, Place.MEMBER, role="r")["Statement"] for action in each["Action"]]
    assert actions
    assert all(
        action.partition(":")[2].startswith(("Describe", "Get", "List", "Lookup", "Batch")) for action in actions
    )


@pytest.mark.parametrize("place", Place)
def test_a_policy_fits_into_a_managed_policy(place: Place) -> None:
    document = policy(Mode.WRITE, place, role="r" * 64)
    assert len(json.dumps(document, separators=(",", ":"))) <= POLICY_CHARACTERS_MAX
    assert parse_policy(document, name=str(place)).statements


def test_every_statement_has_a_reason_and_a_name_of_its_own() -> None:
    assert len({need.sid for need in NEEDS}) == len(NEEDS)
    assert all(need.why and need.operations == tuple(sorted(need.operations)) for need in NEEDS)


@pytest.mark.parametrize("mode", Mode)
def test_without_rollback_what_no_condition_can_close_is_left_out_of_policy_and_reasons(mode: Mode) -> None:
    def sids(*, rollback: bool) -> list[str]:
        document = policy(mode, Place.MEMBER, role="r", rollback=rollback)
        said = [need.sid for need in needs(mode, Place.MEMBER, rollback=rollback)]
        assert [each["Sid"] for each in document["Statement"]] == said
        return said

    left_out = {"LaunchTemplates", "Refreshes"} if mode is Mode.WRITE else set()
    assert set(sids(rollback=True)) - set(sids(rollback=False)) == left_out
