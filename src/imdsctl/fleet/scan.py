"""The sweep: visit every target, note what is seen, and note as carefully what is not.

Per target it reads the Region's default, instances, launch templates (`$Default`, `$Latest` and every version that an
instance runs from) and images (the account's own and those that templates name). A refused call is an observation
(`Unseen`) with AWS's code and words; anything unexpected is a bug and stops the run.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any

from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    ScanEnd,
    ScanHeader,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AWS_NAMES, AccountDefaults, InvalidOption, MetadataOptions
from imdsctl.fleet import limits
from imdsctl.fleet.events import AccountEntered, AccountsFound, AccountSkipped, Listener, TargetRead, ignore
from imdsctl.fleet.ports import Aws, Credentials, ScanWriter, Unreachable
from imdsctl.fleet.targets import Selection, Visit, code_of, enter, regions_of, said
from imdsctl.wire.errors import ServiceError

TEMPLATE_ID_TAG = "aws:ec2launchtemplate:id"
TEMPLATE_VERSION_TAG = "aws:ec2launchtemplate:version"
"""EC2 puts these two on an instance that came from a launch template."""

_OPTIONS = dict.fromkeys(AWS_NAMES.values())
INSTANCE = {
    "InstanceId": None,
    "State": {"Name": None},
    "MetadataOptions": {**_OPTIONS, "State": None},
    "ImageId": None,
    "InstanceType": None,
    "LaunchTime": None,
    "Operator": {"Managed": None, "Principal": None},
    "Tags": {"Key": None, "Value": None},
}
INSTANCES = {"Reservations": {"Instances": INSTANCE}, "NextToken": None}
TEMPLATE_VERSION = {
    "LaunchTemplateId": None,
    "LaunchTemplateName": None,
    "VersionNumber": None,
    "DefaultVersion": None,
    "LaunchTemplateData": {"ImageId": None, "MetadataOptions": _OPTIONS},
}
TEMPLATE_VERSIONS = {"LaunchTemplateVersions": TEMPLATE_VERSION, "NextToken": None}
TEMPLATES = {"LaunchTemplates": {"LaunchTemplateId": None, "Tags": {"Key": None, "Value": None}}, "NextToken": None}
IMAGES = {"Images": {"ImageId": None, "Name": None, "ImdsSupport": None, "Public": None}, "NextToken": None}
ALIVE = ("pending", "running", "stopping", "stopped")
"""A terminated instance, or one on its way there, has no metadata service to judge."""


async def sweep(
    aws: Aws,
    selection: Selection,
    visit: Visit,
    writer: ScanWriter,
    *,
    now: Callable[[], datetime],
    tell: Listener = ignore,
) -> Scan:
    """Visit everybody in `visit` (of `fleet.targets.find_accounts`), write what is seen, and give the finished scan.

    Targets that `writer` has from an earlier run are not visited again. `now` gives aware UTC times for the record.
    `tell` hears of progress. Refusals never raise.
    """
    counted = CountedAws(aws)
    reader = _Sweep(counted, selection, visit, writer, tell)
    tell(AccountsFound(len(visit.accounts)))
    async with asyncio.TaskGroup() as group:
        for account in visit.accounts:
            group.create_task(reader.account(account))
    order = {each.account_id: number for number, each in enumerate(writer.header.accounts)}
    unseen = (
        *visit.unseen,
        *sorted(reader.unseen, key=lambda each: (order[each.account_id], each.region or "")),
    )
    return writer.finish(ScanEnd(finished=now(), unseen=unseen, calls=counted.calls))


def header_of(selection: Selection, visit: Visit, *, scan_id: str, started: datetime) -> ScanHeader:
    """What a scan begins with."""
    return ScanHeader(scan_id, started, (*visit.accounts, *visit.inactive), selection.scope())


class CountedAws:
    """The AWS port, counting calls."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self.calls = 0

    @property
    def default_region(self) -> str | None:
        return self._aws.default_region

    async def call(self, *args: Any) -> dict[str, Any]:
        """One call."""
        self.calls += 1
        return await self._aws.call(*args)

    async def paginate(self, *args: Any) -> AsyncIterator[dict[str, Any]]:
        """Every page."""
        # A refusal counts too: it was a call.
        self.calls += 1
        first = True
        async for page in self._aws.paginate(*args):
            if not first:
                self.calls += 1
            first = False
            yield page


class _Sweep:
    """One run: its limits, what it shares between targets, and what it has seen."""

    def __init__(self, aws: Aws, selection: Selection, visit: Visit, writer: ScanWriter, tell: Listener) -> None:
        self.aws = aws
        self.selection = selection
        self.visit = visit
        self.tell = tell
        self.writer = writer
        self.unseen: list[AccountUnseen] = []
        self.public_images = PublicImages()
        self._accounts = asyncio.Semaphore(limits.ACCOUNTS_CONCURRENT_MAX)
        self._targets = asyncio.Semaphore(limits.TARGETS_CONCURRENT_MAX)

    async def account(self, account: Account) -> None:
        async with self._accounts:
            try:
                credentials = await enter(self.aws, self.visit.caller, account.account_id, self.selection.role)
            except (ServiceError, Unreachable) as error:
                reason = f"the role {self.selection.role} could not be assumed: {said(error)}"
                self._skip(AccountUnseen(account.account_id, None, Unseen("account", reason, code_of(error))))
                return
            regions = await regions_of(self.aws, credentials, account.account_id, self.selection)
            for unseen in regions.unseen:
                self._skip(unseen)
            self.tell(AccountEntered(account.account_id, len(regions.enabled)))
            async with asyncio.TaskGroup() as group:
                for region in regions.enabled:
                    if Target(account.account_id, region) in self.writer.done:
                        continue
                    group.create_task(self._target(credentials, Target(account.account_id, region)))

    async def _target(self, credentials: Credentials | None, target: Target) -> None:
        async with self._targets:
            seen = await read_target(self.aws, credentials, target, self.public_images)
        self.writer.add(seen)
        self.tell(TargetRead(target, len(seen.instances), len(seen.unseen)))

    def _skip(self, unseen: AccountUnseen) -> None:
        self.unseen.append(unseen)
        self.tell(AccountSkipped(unseen))


async def read_target(
    aws: Aws, credentials: Credentials | None, target: Target, public_images: PublicImages
) -> RegionSeen:
    """Everything about one account in one Region. Refusals become `unseen`; what was read before one is kept."""
    reader = TargetReader(aws, credentials, target.region)
    defaults = await reader.defaults()
    instances = await reader.instances()
    templates = await reader.templates(instances)
    images = await reader.images(templates, public_images)
    return RegionSeen(target, defaults, tuple(instances), tuple(templates), tuple(images), tuple(reader.unseen))


class PublicImages:
    """Public images are the same for every account of a Region: each is looked up once in a sweep."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], ImageSeen] = {}

    def get(self, region: str, image_id: str) -> ImageSeen | None:
        """The image, if an account has already seen that it is public."""
        return self._known.get((region, image_id))

    def keep(self, region: str, image: ImageSeen) -> None:
        """Remember a public image."""
        self._known[region, image.image_id] = image


class TargetReader:
    """Reads one target, part by part. A part that AWS refuses is noted in `unseen` and given as far as it was read."""

    def __init__(self, aws: Aws, credentials: Credentials | None, region: str) -> None:
        self._aws = aws
        self._credentials = credentials
        self._region = region
        self.unseen: list[Unseen] = []

    async def defaults(self) -> AccountDefaults | None:
        """The Region's default: asked in every Region, because it belongs to the account *in that Region*."""
        found: AccountDefaults | None = None

        async def read() -> None:
            nonlocal found
            answer = await self._aws.call(self._credentials, "ec2", self._region, "GetInstanceMetadataDefaults", {})
            found = AccountDefaults.from_aws(answer.get("AccountLevel"))

        await self._part("defaults", read)
        return found

    async def instances(self) -> list[InstanceSeen]:
        """Every instance that is not terminated, managed ones included."""
        found: list[InstanceSeen] = []

        async def read() -> None:
            params = {
                "MaxResults": limits.INSTANCES_PER_PAGE,
                "IncludeManagedResources": True,
                "Filters": [{"Name": "instance-state-name", "Values": list(ALIVE)}],
            }
            async for page in self._pages("DescribeInstances", params, INSTANCES):
                for reservation in page.get("Reservations", ()):
                    found.extend(self.instance(each) for each in reservation.get("Instances", ()))

        await self._part("instances", read)
        return found

    def instance(self, raw: Mapping[str, Any]) -> InstanceSeen:
        """One instance of AWS's answer."""
        options = raw.get("MetadataOptions") or {}
        operator = raw.get("Operator") or {}
        tags = _tags(raw)
        named = dict(tags)
        return InstanceSeen(
            instance_id=raw["InstanceId"],
            state=raw.get("State", {}).get("Name", ""),
            options=self._options(options, f"instance {raw['InstanceId']}"),
            image_id=raw.get("ImageId"),
            instance_type=raw.get("InstanceType"),
            launch_time=raw.get("LaunchTime"),
            launch_template_id=named.get(TEMPLATE_ID_TAG),
            launch_template_version=named.get(TEMPLATE_VERSION_TAG),
            managed_by=(operator.get("Principal") or "another service") if operator.get("Managed") else None,
            options_pending=options.get("State") == "pending",
            tags=tags,
        )

    async def templates(self, instances: Iterable[InstanceSeen]) -> list[TemplateVersionSeen]:
        """`$Default` and `$Latest` of every template, and every version that one of `instances` runs from."""
        in_use = _versions_in_use(instances)
        raw: dict[tuple[str, int], Mapping[str, Any]] = {}
        tags: dict[str, tuple[tuple[str, str], ...]] = {}

        async def read_versions() -> None:
            params = {
                "Versions": ["$Default", "$Latest"],
                "MaxResults": limits.TEMPLATE_VERSIONS_PER_PAGE,
                "IncludeManagedResources": True,
            }
            async for page in self._pages("DescribeLaunchTemplateVersions", params, TEMPLATE_VERSIONS):
                raw.update(_by_version(page))

        async def read_used_versions() -> None:
            for template_id in dict.fromkeys(template_id for template_id, _ in raw):
                missing = sorted(
                    in_use.get(template_id, set()) - {number for name, number in raw if name == template_id}
                )
                if missing:
                    raw.update(await self._versions(template_id, missing))

        async def read_tags() -> None:
            params = {"MaxResults": limits.TEMPLATES_PER_PAGE, "IncludeManagedResources": True}
            async for page in self._pages("DescribeLaunchTemplates", params, TEMPLATES):
                tags.update((each["LaunchTemplateId"], _tags(each)) for each in page.get("LaunchTemplates", ()))

        await self._part("templates", read_versions)
        latest: dict[str, int] = {}
        for template_id, number in raw:
            latest[template_id] = max(number, latest.get(template_id, 0))
        if raw:
            await self._part("template versions in use", read_used_versions)
            await self._part("template tags", read_tags)
        return [
            self.template(
                each, is_latest=number == latest[template_id], in_use=number in in_use.get(template_id, ()), tags=tags
            )
            for (template_id, number), each in raw.items()
        ]

    async def _versions(self, template_id: str, numbers: list[int]) -> dict[tuple[str, int], Mapping[str, Any]]:
        """These versions of a template. One that was deleted can launch nothing any more: it is left out."""
        found: dict[tuple[str, int], Mapping[str, Any]] = {}
        params = {
            "LaunchTemplateId": template_id,
            "Versions": [str(number) for number in numbers],
            "IncludeManagedResources": True,
        }
        try:
            async for page in self._pages("DescribeLaunchTemplateVersions", params, TEMPLATE_VERSIONS):
                found.update(_by_version(page))
        except ServiceError as error:
            if not error.code.startswith("InvalidLaunchTemplateId."):
                raise
            if len(numbers) > 1:
                for number in numbers:
                    found.update(await self._versions(template_id, [number]))
        return found

    def template(
        self,
        raw: Mapping[str, Any],
        *,
        is_latest: bool,
        in_use: bool = False,
        tags: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType({}),
    ) -> TemplateVersionSeen:
        """One version of AWS's answer. AWS marks the default version; who asks knows which is the latest."""
        data = raw.get("LaunchTemplateData") or {}
        template_id = raw["LaunchTemplateId"]
        return TemplateVersionSeen(
            template_id=template_id,
            template_name=raw.get("LaunchTemplateName", ""),
            version=raw["VersionNumber"],
            is_default=bool(raw.get("DefaultVersion")),
            is_latest=is_latest,
            options=self._options(data.get("MetadataOptions") or {}, f"template {template_id}:{raw['VersionNumber']}"),
            image_id=data.get("ImageId") or None,
            in_use=in_use,
            tags=tags.get(template_id, ()),
        )

    async def images(self, templates: Iterable[TemplateVersionSeen], public_images: PublicImages) -> list[ImageSeen]:
        """The account's own images, then those that templates name."""
        found: dict[str, ImageSeen] = {}

        async def read_own() -> None:
            params = {
                "Owners": ["self"],
                "MaxResults": limits.IMAGES_PER_PAGE,
                "IncludeDisabled": True,
                "IncludeDeprecated": True,
            }
            async for page in self._pages("DescribeImages", params, IMAGES):
                found.update((each["ImageId"], _image(each, owned=True)) for each in page.get("Images", ()))

        await self._part("images", read_own)
        named = dict.fromkeys(each.image_id for each in templates if each.image_id and is_image_id(each.image_id))
        wanted = []
        for image_id in named:
            known = public_images.get(self._region, image_id)
            if known is not None:
                found.setdefault(image_id, known)
            elif image_id not in found:
                wanted.append(image_id)
        for batch in _batches(wanted, limits.IMAGE_IDS_PER_CALL):
            found.update(await self.named_images(batch, public_images))
        return list(found.values())

    async def named_images(self, image_ids: list[str], public_images: PublicImages) -> dict[str, ImageSeen]:
        """Images by id. One that AWS does not find is there with `found=False`; on a refusal all stay out."""
        found: dict[str, ImageSeen] = {}

        async def read() -> None:
            left = list(image_ids)
            while left:
                try:
                    answer = await self._aws.call(
                        self._credentials, "ec2", self._region, "DescribeImages", {"ImageIds": left}, IMAGES
                    )
                except ServiceError as error:
                    gone = _not_found(error, left)
                    if not gone:
                        for image_id in left:
                            found.update(await self.named_images([image_id], public_images))
                        return
                    found.update((image_id, ImageSeen(image_id, found=False)) for image_id in gone)
                    left = [image_id for image_id in left if image_id not in gone]
                    continue
                for each in answer.get("Images", ()):
                    image = _image(each, owned=False)
                    found[image.image_id] = image
                    if each.get("Public"):
                        public_images.keep(self._region, image)
                found.update((each, ImageSeen(each, found=False)) for each in left if each not in found)
                return

        await self._part("images named by templates", read)
        return found

    def _pages(self, operation: str, params: Mapping[str, Any], projection: Any) -> AsyncIterator[dict[str, Any]]:
        return self._aws.paginate(self._credentials, "ec2", self._region, operation, params, projection)

    def _options(self, raw: Mapping[str, Any], what: str) -> MetadataOptions:
        try:
            return _shared_options(*(raw.get(name) for name in AWS_NAMES.values()))
        except InvalidOption as error:
            self.unseen.append(Unseen(what, str(error), "InvalidOption"))
            return MetadataOptions()

    async def _part(self, what: str, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except (ServiceError, Unreachable) as error:
            self.unseen.append(Unseen(what, said(error), code_of(error)))
        except InvalidOption as error:
            self.unseen.append(Unseen(what, str(error), "InvalidOption"))


def is_image_id(name: str) -> bool:
    """False for what a template may name instead of an id, such as `resolve:ssm:PARAMETER`."""
    return name.startswith("ami-")


@lru_cache(maxsize=1024)
def _shared_options(tokens: Any, hop_limit: Any, endpoint: Any, ipv6: Any, tags: Any) -> MetadataOptions:
    """A fleet has few different sets of options: instances share them."""
    return MetadataOptions.from_aws(
        dict(zip(AWS_NAMES.values(), (tokens, hop_limit, endpoint, ipv6, tags), strict=True))
    )


def _tags(raw: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((each["Key"], each.get("Value", "")) for each in raw.get("Tags", ()))


def _versions_in_use(instances: Iterable[InstanceSeen]) -> dict[str, set[int]]:
    used: dict[str, set[int]] = {}
    for each in instances:
        if each.launch_template_id and (each.launch_template_version or "").isdecimal():
            used.setdefault(each.launch_template_id, set()).add(int(each.launch_template_version or 0))
    return used


def _by_version(page: Mapping[str, Any]) -> dict[tuple[str, int], Mapping[str, Any]]:
    return {(each["LaunchTemplateId"], each["VersionNumber"]): each for each in page.get("LaunchTemplateVersions", ())}


def _image(raw: Mapping[str, Any], *, owned: bool) -> ImageSeen:
    return ImageSeen(raw["ImageId"], raw.get("Name", ""), owned, raw.get("ImdsSupport") or None)


_IMAGE_ID = re.compile(r"ami-[0-9a-z]+")


def _not_found(error: ServiceError, asked: list[str]) -> set[str]:
    """Which of the asked images AWS says it does not have. Raises the error when it says something else.

    AWS refuses the whole call and names the missing ids in its message (`InvalidAMIID.NotFound`).
    """
    if not error.code.startswith("InvalidAMIID."):
        raise error
    return set(asked) if len(asked) == 1 else set(_IMAGE_ID.findall(error.message)) & set(asked)


def _batches(items: list[str], size: int) -> Iterable[list[str]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
