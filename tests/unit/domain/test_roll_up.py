"""The roll-up: one member that uses IMDSv1 makes the workload used; all have to be unused to be unused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.domain.evidence import Evidence, InstanceEvidence, Use
from imdsctl.domain.findings import INSTANCE, findings
from imdsctl.domain.observations import (
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    ServiceKind,
    ServiceSeen,
    Target,
    TemplateVersionSeen,
)
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.domain.redaction import Redactor
from imdsctl.domain.roll_up import LOOK_AT_MAX, By, RollUp, Workload, cluster_of, rolled_up

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HERE = Target("111122223333", "eu-west-1")
THERE = Target("444455556666", "eu-west-1")
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
UNITS = {"111122223333": "Root/Prod", "444455556666": "Root/Dev"}


def instance(name: str, image: str | None = None, template: str | None = None, **tags: str) -> InstanceSeen:
    return InstanceSeen(
        name, "running", OPTIONAL, image_id=image, launch_template_id=template, tags=tuple(tags.items())
    )


def known(target: Target, name: str, calls: float | None, days_ago: int = 1) -> InstanceEvidence:
    used = NOW - timedelta(days=days_ago) if calls else None
    return InstanceEvidence(target, name, calls, last_used=used, reason="" if calls is not None else "stopped")


def workloads(how: RollUp, *regions: RegionSeen, evidence: list[InstanceEvidence]) -> list[Workload]:
    found = {(each.target, each.instance_id): each for each in evidence}
    return rolled_up(regions, Evidence("s", NOW, timedelta(days=14), found), how, UNITS)


@pytest.mark.parametrize(
    ("calls", "use"),
    [
        ([0.0, 0.0], Use.UNUSED),
        ([0.0, None], Use.UNKNOWN),
        ([None, None], Use.UNKNOWN),
        ([0.0, None, 1.0], Use.USED),
    ],
)
def test_used_by_any_unused_by_all_else_unknown(calls: list[float | None], use: Use) -> None:
    names = [f"i-{number}" for number in range(len(calls))]
    region = RegionSeen(HERE, instances=tuple(instance(name, **{"aws:autoscaling:groupName": "web"}) for name in names))
    evidence = [known(HERE, name, each) for name, each in zip(names, calls, strict=True)]
    (found,) = workloads(RollUp(By.GROUP), region, evidence=evidence)
    assert (found.use, found.instances, found.key.name) == (use, len(calls), "web")


def test_a_workload_has_the_sum_the_last_use_and_the_instances_with_the_most_calls() -> None:
    names = [f"i-{number}" for number in range(9)]
    region = RegionSeen(HERE, instances=tuple(instance(name, "ami-1") for name in names))
    evidence = [known(HERE, name, float(number), days_ago=number) for number, name in enumerate(names)]
    (found,) = workloads(RollUp(By.IMAGE), region, evidence=evidence)
    assert (found.calls, found.last_used) == (36.0, NOW - timedelta(days=1))
    assert [each.instance_id for each in found.used] == ["i-8", "i-7", "i-6", "i-5", "i-4"]
    assert len(found.used) == LOOK_AT_MAX
    assert found.counts == {Use.USED: 8, Use.UNUSED: 1}


def test_groups_of_the_same_name_in_two_accounts_are_two_and_a_tag_spans_them() -> None:
    tags = {"aws:autoscaling:groupName": "web", "app": "shop"}
    regions = [RegionSeen(target, instances=(instance("i-1", **tags),)) for target in (HERE, THERE)]
    evidence = [known(HERE, "i-1", 0.0), known(THERE, "i-1", 3.0)]
    assert [(each.key.target, each.use) for each in workloads(RollUp(By.GROUP), *regions, evidence=evidence)] == [
        (THERE, Use.USED),
        (HERE, Use.UNUSED),
    ]
    (both,) = workloads(RollUp(By.TAG, "app"), *regions, evidence=evidence)
    assert (both.key.name, both.key.target, both.instances) == ("shop", None, 2)
    assert [each.key.name for each in workloads(RollUp(By.OU), *regions, evidence=evidence)] == [
        "Root/Dev",
        "Root/Prod",
    ]
    assert {each.key.name for each in workloads(RollUp(By.ACCOUNT), *regions, evidence=evidence)} == set(UNITS)


def test_the_groups_and_clusters_that_a_scan_saw_come_before_tags() -> None:
    region = RegionSeen(
        HERE,
        instances=(instance("i-1"), instance("i-2"), instance("i-3", **{"eks:cluster-name": "old"})),
        groups=(GroupSeen("nodes", instance_ids=("i-1",)),),
        services=(
            ServiceSeen(ServiceKind.EKS_NODEGROUP, "arn:1", "ng", group_names=("nodes",), parent="platform"),
            ServiceSeen(ServiceKind.ECS_CONTAINER_INSTANCE, "arn:2", instance_ids=("i-2",), parent="batch"),
        ),
    )
    evidence = [known(HERE, name, 1.0) for name in ("i-1", "i-2", "i-3")]
    found = workloads(RollUp(By.CLUSTER), region, evidence=evidence)
    assert sorted(each.key.name for each in found) == ["batch", "old", "platform"]
    assert {each.key.name for each in workloads(RollUp(By.GROUP), region, evidence=evidence)} == {"nodes", ""}


def test_by_workload_is_the_first_of_group_cluster_template_and_image() -> None:
    region = RegionSeen(
        HERE,
        instances=(
            instance("i-1", "ami-1", "lt-1", **{"aws:autoscaling:groupName": "web", "eks:cluster-name": "k"}),
            instance("i-2", "ami-1", "lt-1", **{"kubernetes.io/cluster/blue": "owned"}),
            instance("i-3", "ami-1", "lt-1"),
            instance("i-4", "ami-1"),
        ),
        templates=(TemplateVersionSeen("lt-1", "base", 1, True, True, OPTIONAL),),
        images=(ImageSeen("ami-1", "golden"),),
    )
    evidence = [known(HERE, f"i-{number}", 1.0) for number in range(1, 5)]
    found = {(each.key.kind, each.key.name, each.label) for each in workloads(RollUp(), region, evidence=evidence)}
    assert found == {
        (By.GROUP, "web", ""),
        (By.CLUSTER, "blue", ""),
        (By.TEMPLATE, "lt-1", "base"),
        (By.IMAGE, "ami-1", "golden"),
    }


def test_used_ones_come_first_with_the_most_calls_then_unknown_then_unused() -> None:
    region = RegionSeen(HERE, instances=tuple(instance(f"i-{number}", f"ami-{number}") for number in range(4)))
    evidence = [known(HERE, f"i-{number}", calls) for number, calls in enumerate((0.0, 2.0, None, 9.0))]
    found = workloads(RollUp(By.IMAGE), region, evidence=evidence)
    assert [each.key.name for each in found] == ["ami-3", "ami-1", "ami-2", "ami-0"]
    assert found[2].reasons == {"stopped": 1}


def test_an_instance_nobody_asked_about_is_in_no_workload() -> None:
    assert workloads(RollUp(), RegionSeen(HERE, instances=(instance("i-1", "ami-1"),)), evidence=[]) == []


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"aws:eks:cluster-name": "a"}, "a"),
        ({"aws:ecs:clusterName": "b"}, "b"),
        ({"elasticbeanstalk:environment-name": "c"}, "c"),
        ({"kubernetes.io/cluster/d": "owned"}, "d"),
        ({"Name": "x"}, ""),
    ],
)
def test_tags_name_a_cluster(tags: dict[str, str], name: str) -> None:
    assert cluster_of(tags) == name


def test_a_report_names_the_same_workloads_and_a_redacted_one_hides_names_with_spaces() -> None:
    tags = {"aws:cloudformation:stack-name": "my secret stack"}
    region = RegionSeen(
        HERE,
        instances=(instance("i-1", "ami-1"), instance("i-2", "ami-1", **tags), instance("i-3", "ami-1")),
        groups=(GroupSeen("my secret group", instance_ids=("i-1",)),),
    )
    scan = Scan("s", NOW, NOW, (), (region,))
    found = [each for each in findings(scan) if each.rule is INSTANCE]
    assert [each.workload for each in found] == ["Auto Scaling group my secret group", "stack my secret stack", ""]
    hidden = [Redactor((), b"k" * 32).finding(each).workload for each in found]
    assert [each.rpartition(" ")[0] for each in hidden] == ["Auto Scaling group", "stack", ""]
    assert not any("secret" in each or "my" in each for each in hidden)
