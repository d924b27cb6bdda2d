"""A small EC2 in memory, with Auto Scaling beside it: the other end of the tests of apply and rollback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from imdsctl.domain.intent import Images, Intent
from imdsctl.domain.journal import Entry, Progress, replay
from imdsctl.domain.observations import (
    Account,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Plan, plan_from_plain, plan_to_plain
from imdsctl.domain.planner import make_plan
from imdsctl.fleet.apply import Applying
from imdsctl.fleet.apply_report import Outcome, Report
from imdsctl.fleet.ports import Credentials
from imdsctl.wire.errors import ServiceError

WRITES = frozenset(
    {
        "ModifyInstanceMetadataDefaults",
        "ModifyInstanceMetadataOptions",
        "ModifyImageAttribute",
        "CreateLaunchTemplateVersion",
        "ModifyLaunchTemplate",
        "DeleteLaunchTemplateVersions",
        "StartInstanceRefresh",
    }
)


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Template:
    """Versions from 1 on, and which of them is `$Default`."""

    versions: list[dict[str, Any]]
    default: int = 1
    deleted: set[int] = field(default_factory=set)

    @property
    def numbers(self) -> list[int]:
        """The versions that are there. Numbers are never given twice."""
        return [number for number in range(1, len(self.versions) + 1) if number not in self.deleted]


@dataclass
class Group:
    """An Auto Scaling group: its instances, and its refreshes, the latest first."""

    instances: list[str]
    refreshes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FakeEc2:
    """One Region of every account alike would hide mistakes: state is kept per (account, Region)."""

    defaults: dict[tuple[str, str], AccountDefaults] = field(default_factory=dict)
    instances: dict[tuple[str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    templates: dict[tuple[str, str], dict[str, Template]] = field(default_factory=dict)
    images: dict[tuple[str, str], dict[str, str | None]] = field(default_factory=dict)
    groups: dict[tuple[str, str], dict[str, Group]] = field(default_factory=dict)
    sources: dict[tuple[str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    """What else launches: Auto Scaling groups by name, each with its launch source as AWS has it."""
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What other services answer, by operation; nothing is in the others."""
    refused: set[str] = field(default_factory=set)
    """Operations that are denied."""
    refresh_reads: int = 3
    """How often a refresh is seen under way before it has ended as `refresh_ends`."""
    refresh_ends: str = "Successful"
    stopped: set[str] = field(default_factory=set)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    before_write: Callable[[str, Mapping[str, Any]], None] = lambda operation, params: None
    after_write: Callable[[str, Mapping[str, Any]], None] = lambda operation, params: None
    pending_reads: int = 0
    """How often an instance still says `pending` after a change."""
    _pending: dict[str, int] = field(default_factory=dict)
    _tokens: dict[str, dict[str, Any]] = field(default_factory=dict)

    default_region: str | None = "us-east-1"

    @property
    def writes(self) -> list[tuple[str, dict[str, Any]]]:
        return [(operation, params) for operation, params in self.calls if operation in WRITES]

    async def call(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Any = None,
    ) -> dict[str, Any]:
        place = (credentials.access_key if credentials else "own", region)
        self.calls.append((operation, dict(params)))
        if operation in self.refused:
            raise refusal()
        if service not in ("ec2", "autoscaling"):
            return self.services.get(operation, {})
        answer = getattr(self, f"_{operation}")
        if operation not in WRITES:
            return dict(answer(place, params))
        self.before_write(operation, params)
        result = dict(answer(place, params))
        self.after_write(operation, params)
        return result

    async def paginate(self, *args: Any, **more: Any) -> AsyncIterator[dict[str, Any]]:
        yield await self.call(*args, **more)

    def _GetInstanceMetadataDefaults(self, place: Any, params: Any) -> dict[str, Any]:
        return {"AccountLevel": self.defaults[place].to_aws()}

    def _ModifyInstanceMetadataDefaults(self, place: Any, params: Any) -> dict[str, Any]:
        self.defaults[place] = self.defaults[place].updated(params)
        return {"Return": True}

    def _DescribeInstances(self, place: Any, params: Any) -> dict[str, Any]:
        (wanted,) = params["Filters"]
        every = wanted["Name"] == "instance-state-name"
        found = []
        for name in list(self.instances[place]) if every else wanted["Values"]:
            if name not in self.instances[place]:
                continue
            left = self._pending.get(name, 0)
            self._pending[name] = max(0, left - 1)
            state = "pending" if left or (name in self.stopped and name in self._pending) else "applied"
            found.append(
                {
                    "InstanceId": name,
                    "State": {"Name": "stopped" if name in self.stopped else "running"},
                    "MetadataOptions": {**self.instances[place][name], "State": state},
                }
            )
        return {"Reservations": [{"Instances": found}]}

    def _ModifyInstanceMetadataOptions(self, place: Any, params: Any) -> dict[str, Any]:
        changed = {name: value for name, value in params.items() if name != "InstanceId"}
        self.instances[place][params["InstanceId"]].update(changed)
        self._pending[params["InstanceId"]] = self.pending_reads
        return {}

    def _DescribeImages(self, place: Any, params: Any) -> dict[str, Any]:
        images = self.images[place]
        (wanted,) = params.get("Filters", ({"Values": images},))
        return {
            "Images": [{"ImageId": each, "ImdsSupport": images[each]} for each in wanted["Values"] if each in images]
        }

    def _ModifyImageAttribute(self, place: Any, params: Any) -> dict[str, Any]:
        self.images[place][params["ImageId"]] = params["ImdsSupport"]["Value"]
        return {}

    def _DescribeLaunchTemplateVersions(self, place: Any, params: Any) -> dict[str, Any]:
        templates = self.templates[place]
        asked = [params["LaunchTemplateId"]] if "LaunchTemplateId" in params else list(templates)
        found = []
        for name in asked:
            template = templates[name]
            if "MinVersion" in params:
                numbers = [number for number in template.numbers if number >= int(params["MinVersion"])]
            else:
                assert params["Versions"] == ["$Default", "$Latest"]
                numbers = [template.default, template.numbers[-1]]
            found += [{**self._version(template, each), "LaunchTemplateId": name} for each in numbers]
        return {"LaunchTemplateVersions": found}

    def _nothing(self, place: Any, params: Any) -> dict[str, Any]:
        return {}

    _DescribeLaunchTemplates = _DescribeLaunchConfigurations = _DescribeFleets = _nothing
    _DescribeSpotFleetRequests = _DescribeSpotInstanceRequests = _nothing

    def _version(self, template: Template, number: int) -> dict[str, Any]:
        version = template.versions[number - 1]
        return {**version, "VersionNumber": number, "DefaultVersion": number == template.default}

    def _CreateLaunchTemplateVersion(self, place: Any, params: Any) -> dict[str, Any]:
        if params["ClientToken"] in self._tokens:
            return self._tokens[params["ClientToken"]]
        template = self.templates[place][params["LaunchTemplateId"]]
        source = template.versions[int(params["SourceVersion"]) - 1]
        data = {**source["LaunchTemplateData"], **params["LaunchTemplateData"]}
        template.versions.append({"LaunchTemplateData": data, "VersionDescription": params["VersionDescription"]})
        answer = {"LaunchTemplateVersion": self._version(template, len(template.versions))}
        self._tokens[params["ClientToken"]] = answer
        return answer

    def _ModifyLaunchTemplate(self, place: Any, params: Any) -> dict[str, Any]:
        self.templates[place][params["LaunchTemplateId"]].default = int(params["DefaultVersion"])
        return {}

    def _DeleteLaunchTemplateVersions(self, place: Any, params: Any) -> dict[str, Any]:
        template = self.templates[place][params["LaunchTemplateId"]]
        numbers = {int(each) for each in params["Versions"]}
        assert template.default not in numbers
        template.deleted |= numbers
        return {}

    def _DescribeAutoScalingGroups(self, place: Any, params: Any) -> dict[str, Any]:
        groups = self.groups.get(place, {})
        if "AutoScalingGroupNames" not in params:
            sources = self.sources.get(place, {})
            return {"AutoScalingGroups": [{"AutoScalingGroupName": name, **each} for name, each in sources.items()]}
        return {
            "AutoScalingGroups": [
                {"AutoScalingGroupName": name, "Instances": [{"InstanceId": each} for each in groups[name].instances]}
                for name in params["AutoScalingGroupNames"]
                if name in groups
            ]
        }

    def _DescribeInstanceRefreshes(self, place: Any, params: Any) -> dict[str, Any]:
        group = self.groups[place][params["AutoScalingGroupName"]]
        for refresh in group.refreshes[:1]:
            refresh["left"] -= 1
            if refresh["left"] <= 0:
                refresh["Status"] = self.refresh_ends
        return {"InstanceRefreshes": group.refreshes[: params["MaxRecords"]]}

    def _StartInstanceRefresh(self, place: Any, params: Any) -> dict[str, Any]:
        group = self.groups[place][params["AutoScalingGroupName"]]
        name = f"refresh-{len(group.refreshes) + 1}"
        group.refreshes.insert(0, {"InstanceRefreshId": name, "Status": "InProgress", "left": self.refresh_reads})
        return {"InstanceRefreshId": name}


@dataclass
class MemoryJournal:
    """A journal that survives in memory; `killed_at` dies when so many entries are written."""

    entries: list[Entry] = field(default_factory=list)
    killed_at: int | None = None

    @property
    def progress(self) -> Progress:
        return replay(self.entries)

    async def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self.killed_at is not None and len(self.entries) >= self.killed_at:
            raise Killed


@dataclass
class FakeClock:
    """Sleeping takes no time."""

    time: datetime = datetime(2026, 11, 2, 12, tzinfo=UTC)
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)


def refusal(code: str = "UnauthorizedOperation", fault: str = "client") -> ServiceError:
    return ServiceError(code, "You are not authorized", 403, fault=fault)  # type: ignore[arg-type]


A, B = "111122223333", "444455556666"
REGION = "eu-west-1"
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED, Switch.DISABLED, Switch.DISABLED)
V2 = replace(V1, http_tokens=HttpTokens.REQUIRED)
NOW = FakeClock().now()


def fleet(*accounts: str, instances: int = 2) -> Any:
    """An EC2 in which every account has a Region default, instances, templates and an image that allow IMDSv1."""
    ec2 = FakeEc2()
    for account in accounts or (A,):
        place = (account, REGION)
        ec2.defaults[place] = AccountDefaults(instance_metadata_tags=Switch.ENABLED)
        ec2.instances[place] = {f"i-{number:017x}": V1.to_aws() for number in range(instances)}
        ec2.templates[place] = {
            "lt-one": Template([version(V1)]),
            "lt-two": Template([version(V1, "ami-old"), version(V2, "ami-new")]),
            "lt-new": Template([version(V2), version(MetadataOptions(HttpTokens.OPTIONAL))]),
        }
        ec2.images[place] = {"ami-mine": None}
    return ec2


def version(options: MetadataOptions, image: str = "ami-mine") -> dict[str, Any]:
    return {"LaunchTemplateData": {"MetadataOptions": options.to_aws(), "ImageId": image}}


def look(ec2: Any) -> Scan:
    """What a scan would see in the fake."""
    regions = []
    for place, defaults in ec2.defaults.items():
        instances = tuple(
            InstanceSeen(name, "running", MetadataOptions.from_aws(options))
            for name, options in ec2.instances[place].items()
        )
        templates = tuple(
            TemplateVersionSeen(
                name,
                name,
                number,
                number == template.default,
                number == len(template.versions),
                MetadataOptions.from_aws(each["LaunchTemplateData"]["MetadataOptions"]),
            )
            for name, template in ec2.templates[place].items()
            for number, each in enumerate(template.versions, 1)
        )
        images = tuple(ImageSeen(name, owned=True, imds_support=support) for name, support in ec2.images[place].items())
        regions.append(RegionSeen(Target(*place), defaults, instances, templates, images))
    return Scan("s", NOW, NOW, tuple(Account(each, "") for each, _ in ec2.defaults), tuple(regions))


def planned(ec2: Any, intent: Intent = Intent(images=Images.V2)) -> Plan:  # noqa: B008 (an immutable value)
    return plan_from_plain(plan_to_plain(make_plan(look(ec2), intent, made_at=NOW)))


async def enter(account_id: str) -> Credentials | None:
    return Credentials(account_id, "secret")


def carry_out(plan: Plan, ec2: Any, journal: Any = None, **more: Any) -> Report:
    journal = MemoryJournal() if journal is None else journal
    more.setdefault("enter", enter)
    more.setdefault("clock", FakeClock())
    return asyncio.run(Applying(plan, ec2, journal=journal, **more).run())


def outcomes(report: Report) -> set[Outcome]:
    return {result.outcome for result in report.results}


def of(report: Report, part: str) -> Outcome:
    (found,) = (result.outcome for result in report.results if part in result.change.id)
    return found
