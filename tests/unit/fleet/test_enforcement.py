"""Before a Region is enforced, what launches there is looked at again: days may lie between plan and last stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.fleet.ec2_in_memory import (
    REGION,
    V1,
    V2,
    A,
    B,
    Killed,
    MemoryJournal,
    Template,
    carry_out,
    fleet,
    of,
    planned,
    version,
)

from imdsctl.domain.intent import Intent
from imdsctl.fleet.apply_report import Outcome, Report, Result
from imdsctl.views.apply import report_diagnostics

LAST = "i-00000000000000001"
"""The instance that is changed last: templates and Region default are done by then."""
ENFORCING = {"HttpTokensEnforced": "enabled"}


def enforcement(report: Report, account: str = A) -> Result:
    (found,) = (each for each in report.results if each.change.id == f"{account}/{REGION}/region-default/enforcement")
    return found


def meanwhile(ec2: Any, happens: Callable[[Any], None]) -> None:
    """Let something happen in account A after its templates were changed, once."""

    def when(operation: str, params: Any) -> None:
        if params.get("InstanceId") == LAST:
            ec2.before_write = lambda operation, params: None
            happens(ec2)

    ec2.before_write = when


def redeployed(ec2: Any) -> None:
    template = ec2.templates[A, REGION]["lt-one"]
    template.versions.append(version(V1))
    template.default = len(template.versions)


def given_a_newer_version(ec2: Any) -> None:
    ec2.templates[A, REGION]["lt-two"].versions.append(version(V1))


def newly_made(ec2: Any) -> None:
    ec2.templates[A, REGION]["lt-late"] = Template([version(V1)])


def a_new_group(ec2: Any) -> None:
    ec2.sources[A, REGION] = {"web": {"LaunchConfigurationName": "gone"}}


def an_image_builder(ec2: Any) -> None:
    arn = "arn:aws:imagebuilder:eu-west-1:111122223333:infrastructure-configuration/bake"
    found = {"arn": arn, "name": "bake", "instanceMetadataOptions": {"httpTokens": "optional"}}
    ec2.services["ListInfrastructureConfigurations"] = {"infrastructureConfigurationSummaryList": [{"arn": arn}]}
    ec2.services["GetInfrastructureConfiguration"] = {"infrastructureConfiguration": found}


def groups_denied(ec2: Any) -> None:
    ec2.refused = {"DescribeAutoScalingGroups"}


def a_service_denied(ec2: Any) -> None:
    ec2.refused = {"ListSecurityConfigurations"}


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (redeployed, "launch template lt-one, $Default stays optional, decided by the launch template"),
        (given_a_newer_version, "launch template lt-two, $Latest stays optional"),
        (newly_made, "launch template lt-late, $Default stays optional"),
        (a_new_group, "Auto Scaling group web, from launch configuration gone was not seen"),
        (an_image_builder, "bake stays optional"),
        (groups_denied, "Auto Scaling groups could not be read"),
        (a_service_denied, "EMR security configurations could not be read"),
    ],
)
def test_a_region_in_which_a_launch_would_fail_now_is_not_enforced(happens: Callable[[Any], None], told: str) -> None:
    ec2 = fleet()
    plan, journal = planned(ec2, Intent()), MemoryJournal()
    meanwhile(ec2, happens)
    report = carry_out(plan, ec2, journal)
    result = enforcement(report)
    assert result.outcome is Outcome.UNSAFE
    assert told in result.detail
    assert not ec2.defaults[A, REGION].enforced
    assert result.change.id not in journal.progress.old
    assert not report.done


def test_what_would_fail_is_told_with_what_to_do_and_the_other_regions_go_on() -> None:
    ec2 = fleet(A, B)
    meanwhile(ec2, newly_made)
    report = carry_out(planned(ec2, Intent()), ec2)
    assert enforcement(report, B).outcome is Outcome.APPLIED
    (told,) = report_diagnostics(report, "plan.json", "imdsctl apply plan.json")
    assert told.code == "enforcement-unsafe"
    assert "not enabled in 1 Region" in told.summary
    assert "lt-late" in told.summary
    assert "`imdsctl scan` and `imdsctl plan -o FILE`" in (told.hint or "")


def test_the_same_command_enforces_once_nothing_would_fail() -> None:
    ec2 = fleet()
    plan, journal = planned(ec2, Intent()), MemoryJournal()
    meanwhile(ec2, newly_made)
    carry_out(plan, ec2, journal)
    del ec2.templates[A, REGION]["lt-late"]
    assert carry_out(plan, ec2, journal).done
    assert ec2.defaults[A, REGION].enforced


def test_many_are_counted() -> None:
    ec2 = fleet()
    plan = planned(ec2, Intent())
    for number in range(7):
        ec2.templates[A, REGION][f"lt-{number}"] = Template([version(V1)])
    assert enforcement(carry_out(plan, ec2)).detail.endswith("; and 2 more")


def test_an_enforcement_that_was_begun_is_looked_at_again_before_it_is_sent_again() -> None:
    ec2 = fleet()
    plan, journal = planned(ec2, Intent()), MemoryJournal()

    def die(operation: str, params: Any) -> None:
        if params == ENFORCING:
            raise Killed

    ec2.before_write = die
    with pytest.raises((Killed, BaseExceptionGroup)):
        carry_out(plan, ec2, journal)
    ec2.before_write = lambda operation, params: None
    newly_made(ec2)
    assert enforcement(carry_out(plan, ec2, journal)).outcome is Outcome.UNSAFE
    assert not ec2.defaults[A, REGION].enforced


def test_a_run_that_is_stopped_while_it_looks_does_not_enforce() -> None:
    ec2 = fleet()
    plan, journal = planned(ec2, Intent()), MemoryJournal()

    def stopped() -> bool:
        return "DescribeSpotInstanceRequests" in dict(ec2.calls)

    report = carry_out(plan, ec2, journal, stopped=stopped)
    assert report.interrupted
    assert enforcement(report).outcome is Outcome.NOT_REACHED
    assert carry_out(plan, ec2, journal).done


def test_only_services_that_launch_in_the_account_and_exist_in_the_region_are_asked() -> None:
    ec2 = fleet()
    asked = []

    def serves(service: str, region: str) -> bool:
        asked.append(service)
        return service != "emr"

    assert carry_out(planned(ec2, Intent()), ec2, serves=serves).done
    assert sorted(asked) == ["eks", "elasticbeanstalk", "emr", "imagebuilder"]
    operations = {operation for operation, _ in ec2.calls}
    assert "ListInfrastructureConfigurations" in operations
    assert "ListSecurityConfigurations" not in operations


def test_a_newest_version_that_the_plan_did_not_know_is_not_already_so() -> None:
    """`$Default` was put right by somebody who then made a newer version that is not."""
    ec2 = fleet()
    plan = planned(ec2, Intent())
    one = ec2.templates[A, REGION]["lt-one"]
    one.versions += [version(V2), version(V1)]
    one.default = 2
    report = carry_out(plan, ec2)
    assert of(report, "lt-one") is Outcome.STALE
    assert enforcement(report).outcome is Outcome.HELD_BACK


def test_a_default_that_was_moved_is_not_already_so_because_the_newest_version_is() -> None:
    ec2 = fleet()
    plan = planned(ec2, Intent())
    new = ec2.templates[A, REGION]["lt-new"]
    new.versions += [version(V1), version(V2)]
    new.default = 3
    assert of(carry_out(plan, ec2), "lt-new") is Outcome.STALE
