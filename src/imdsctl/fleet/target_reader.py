"""Reads one account in one Region, part by part. A refused part is an observation too: `Unseen`.

The parts that need no other are asked for at once, so that a far Region costs two or three times its distance: the
Region's default; instances, managed and hidden ones included; launch configurations, Auto Scaling groups, EC2 Fleets,
Spot Fleet and Spot requests; other services; launch templates (`$Default` and `$Latest`); the account's own images.
Then come the template versions that something runs or launches from and the images that anything names, and beside
them the templates' tags. Anything unexpected is a bug and stops the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeAlias

from imdsctl.domain.launches import NAMED_IMAGES
from imdsctl.domain.makers import maker
from imdsctl.domain.observations import (
    SAYS_NOTHING,
    ConfigurationSeen,
    FleetSeen,
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    LaunchSource,
    RegionSeen,
    ServiceSeen,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AWS_NAMES, AccountDefaults, InvalidOption, MetadataOptions
from imdsctl.fleet import launch_sources, limits
from imdsctl.fleet import target_asks as asks
from imdsctl.fleet.launch_sources import TemplateVersionsNamed, tags_of
from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.fleet.services import Reader
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.fleet.targets import code_of, said
from imdsctl.wire.errors import ServiceError

TEMPLATE_ID_TAG = "aws:ec2launchtemplate:id"
TEMPLATE_VERSION_TAG = "aws:ec2launchtemplate:version"
"""EC2 puts these two on an instance that came from a launch template."""

TemplateVersions: TypeAlias = dict[tuple[str, int], Mapping[str, Any]]
"""AWS's answers by template id and version number."""
TemplateTags: TypeAlias = dict[str, tuple[tuple[str, str], ...]]


async def read_target(
    aws: Aws,
    credentials: Credentials | None,
    target: Target,
    public_images: PublicImages,
    services: Iterable[Reader] = (),
) -> RegionSeen:
    """Everything about one account in one Region. Refusals become `unseen`; what was read before one is kept.

    `services` are the readers of other services that exist in this Region.
    """
    readers: list[TargetReader] = []

    def reader() -> TargetReader:
        # One for each part: what is unseen is then told in the order of the parts, whichever answers first.
        readers.append(TargetReader(aws, credentials, target.region))
        return readers[-1]

    async with asyncio.TaskGroup() as first:
        start = first.create_task
        defaults = start(reader().defaults())
        instances = start(reader().instances())
        configurations = start(reader().configurations())
        groups = start(reader().groups())
        launchers = [start(reader().fleets()), start(reader().spot_fleets()), start(reader().spot_requests())]
        others_read = [start(reader().service(each, target.account_id)) for each in services]
        versions = start(reader().template_versions())
        own_images = start(reader().own_images())
    fleets = [each for task in launchers for each in task.result()]
    others = [each for task in others_read for each in task.result()]
    sources = [source for parts in (groups.result(), fleets, others) for each in parts for source in each.sources]
    raw = versions.result()
    used = VersionsUsed(instances.result(), sources)
    in_use, labelled, imaged = reader(), reader(), reader()
    async with asyncio.TaskGroup() as then:
        tags = then.create_task(labelled.template_tags()) if raw else None
        await in_use.used_versions(raw, used)
        named = _image_ids(instances.result(), configurations.result(), sources, raw.values())
        images = await imaged.images(own_images.result(), named, public_images)
    templates = labelled.templates(raw, used, tags.result() if tags else {})
    launching = {each.configuration for each in sources}
    return RegionSeen(
        target,
        defaults.result(),
        tuple(instances.result()),
        tuple(templates),
        tuple(images),
        tuple([unseen for each in readers for unseen in each.unseen]),
        tuple([replace(each, in_use=True) if each.name in launching else each for each in configurations.result()]),
        tuple(groups.result()),
        tuple(fleets),
        tuple(others),
    )


def _image_ids(
    instances: Iterable[InstanceSeen],
    configurations: Iterable[ConfigurationSeen],
    sources: Iterable[LaunchSource],
    versions: Iterable[Mapping[str, Any]],
) -> Iterable[str]:
    """The images that anything names by id, each once."""
    named = [each.image_id for parts in (instances, configurations, sources) for each in parts]
    named += [(each.get("LaunchTemplateData") or {}).get("ImageId") for each in versions]
    return dict.fromkeys(each for each in named if each and is_image_id(each))


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
            answer = await self._aws.call(
                self._credentials, "ec2", self._region, "GetInstanceMetadataDefaults", asks.NOTHING_ASKED, asks.DEFAULTS
            )
            found = AccountDefaults.from_aws(answer.get("AccountLevel"))

        await self._part("defaults", read)
        return found

    async def instances(self) -> list[InstanceSeen]:
        """Every instance that is not terminated, managed ones included."""
        found: list[InstanceSeen] = []

        async def read() -> None:
            async for page in self._pages("DescribeInstances", asks.INSTANCES_ASKED, asks.INSTANCES):
                for reservation in page.get("Reservations", ()):
                    found.extend([self.instance(each) for each in reservation.get("Instances", ())])

        await self._part("instances", read)
        return found

    def instance(self, raw: Mapping[str, Any]) -> InstanceSeen:
        """One instance of AWS's answer."""
        options = raw.get("MetadataOptions") or {}
        operator = raw.get("Operator") or {}
        tags = tags_of(raw)
        template_id = version = None
        for key, value in tags:
            if key == TEMPLATE_ID_TAG:
                template_id = value
            elif key == TEMPLATE_VERSION_TAG:
                version = value
        instance_id = raw["InstanceId"]
        return _instance(
            instance_id,
            raw.get("State", {}).get("Name", ""),
            self._options(options, "instance", instance_id),
            raw.get("ImageId"),
            raw.get("InstanceType"),
            raw.get("LaunchTime"),
            template_id,
            version,
            (operator.get("Principal") or "another service") if operator.get("Managed") else None,
            options.get("State") == "pending",
            tags,
        )

    async def configurations(self) -> list[ConfigurationSeen]:
        """Every launch configuration; who uses it is for the caller to find out."""
        found: list[ConfigurationSeen] = []

        async def read() -> None:
            asked = ("DescribeLaunchConfigurations", asks.CONFIGURATIONS_ASKED, launch_sources.CONFIGURATIONS)
            async for page in self._pages(*asked, service="autoscaling"):
                for each in page.get("LaunchConfigurations", ()):
                    name = each["LaunchConfigurationName"]
                    options = self._options(each.get("MetadataOptions") or {}, "launch configuration", name)
                    found.append(ConfigurationSeen(name, options, each.get("ImageId") or None))

        await self._part("launch configurations", read)
        return found

    async def groups(self) -> list[GroupSeen]:
        """Every Auto Scaling group, with all it may launch from."""
        found: list[GroupSeen] = []

        async def read() -> None:
            asked = ("DescribeAutoScalingGroups", asks.GROUPS_ASKED, launch_sources.GROUPS)
            async for page in self._pages(*asked, service="autoscaling"):
                found.extend(launch_sources.group(each) for each in page.get("AutoScalingGroups", ()))

        await self._part("Auto Scaling groups", read)
        return found

    async def fleets(self) -> list[FleetSeen]:
        """EC2 Fleets that can still launch."""
        found: list[FleetSeen] = []

        async def read() -> None:
            async for page in self._pages("DescribeFleets", asks.FLEETS_ASKED, launch_sources.FLEETS):
                found.extend(launch_sources.fleet(each) for each in page.get("Fleets", ()))

        await self._part("EC2 Fleets", read)
        return found

    async def spot_fleets(self) -> list[FleetSeen]:
        """Spot Fleet requests that can still launch."""
        found: list[FleetSeen] = []

        async def read() -> None:
            asked = ("DescribeSpotFleetRequests", asks.SPOT_FLEETS_ASKED, launch_sources.SPOT_FLEETS)
            async for page in self._pages(*asked):
                seen = (launch_sources.spot_fleet(each) for each in page.get("SpotFleetRequestConfigs", ()))
                found.extend(each for each in seen if each is not None)

        await self._part("Spot Fleet requests", read)
        return found

    async def spot_requests(self) -> list[FleetSeen]:
        """Spot requests that can still launch."""
        found: list[FleetSeen] = []

        async def read() -> None:
            asked = ("DescribeSpotInstanceRequests", asks.SPOT_REQUESTS_ASKED, launch_sources.SPOT_REQUESTS)
            async for page in self._pages(*asked):
                seen = (launch_sources.spot_request(each) for each in page.get("SpotInstanceRequests", ()))
                found.extend(each for each in seen if each is not None)

        await self._part("Spot requests", read)
        return found

    async def service(self, reader: Reader, account_id: str) -> list[ServiceSeen]:
        """What another service has here that carries or decides an IMDS setting."""
        found: list[ServiceSeen] = []

        async def read() -> None:
            calls = ServiceCalls(self._aws, self._credentials, reader.service, account_id, self._region)
            found.extend(await reader.read(calls))

        await self._part(reader.what, read)
        return found

    async def template_versions(self) -> TemplateVersions:
        """`$Default` and `$Latest` of every template, as AWS gives them."""
        found: TemplateVersions = {}

        async def read() -> None:
            async for page in self._pages(
                "DescribeLaunchTemplateVersions", asks.VERSIONS_ASKED, asks.TEMPLATE_VERSIONS
            ):
                found.update(_by_version(page))

        await self._part("templates", read)
        return found

    async def used_versions(self, raw: TemplateVersions, used: VersionsUsed) -> None:
        """Add to `raw` every version of its templates that is used."""

        async def read() -> None:
            for template_id, name in {each["LaunchTemplateId"]: _name(each) for each in raw.values()}.items():
                numbers = used.numbers(template_id, name)
                missing = sorted(number for number in numbers if (template_id, number) not in raw)
                if missing:
                    raw.update(await self._versions(template_id, missing))

        await self._part("template versions in use", read)

    async def template_tags(self) -> TemplateTags:
        """The tags of every template, by its id."""
        found: TemplateTags = {}

        async def read() -> None:
            async for page in self._pages("DescribeLaunchTemplates", asks.TEMPLATES_ASKED, asks.TEMPLATES):
                found.update((each["LaunchTemplateId"], tags_of(each)) for each in page.get("LaunchTemplates", ()))

        await self._part("template tags", read)
        return found

    def templates(
        self, raw: TemplateVersions, used: VersionsUsed, tags: Mapping[str, tuple[tuple[str, str], ...]]
    ) -> list[TemplateVersionSeen]:
        """The template versions of AWS's answers."""
        latest: dict[str, int] = {}
        for template_id, number in raw:
            latest[template_id] = max(number, latest.get(template_id, 0))
        found = []
        for (template_id, number), each in raw.items():
            is_latest = number == latest[template_id]
            is_default = bool(each.get("DefaultVersion"))
            in_use = used.has(template_id, _name(each), number, is_default=is_default, is_latest=is_latest)
            found.append(self.template(each, is_latest=is_latest, in_use=in_use, tags=tags))
        return found

    async def _versions(self, template_id: str, numbers: list[int]) -> TemplateVersions:
        """These versions of a template. One that was deleted can launch nothing any more: it is left out."""
        found: TemplateVersions = {}
        params = {
            "LaunchTemplateId": template_id,
            "Versions": [str(number) for number in numbers],
            "IncludeManagedResources": True,
        }
        try:
            async for page in self._pages("DescribeLaunchTemplateVersions", params, asks.TEMPLATE_VERSIONS):
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
        version = raw["VersionNumber"]
        return _template_version(
            template_id,
            _name(raw),
            version,
            bool(raw.get("DefaultVersion")),
            is_latest,
            self._options(data.get("MetadataOptions") or {}, "template", f"{template_id}:{version}"),
            data.get("ImageId") or None,
            in_use,
            tags.get(template_id, ()),
        )

    async def own_images(self) -> dict[str, ImageSeen]:
        """The account's own images, by id."""
        found: dict[str, ImageSeen] = {}

        async def read() -> None:
            async for page in self._pages("DescribeImages", asks.OWN_IMAGES_ASKED, asks.IMAGES):
                found.update((each["ImageId"], _image(each, owned=True)) for each in page.get("Images", ()))

        await self._part("images", read)
        return found

    async def images(
        self, own: Mapping[str, ImageSeen], named: Iterable[str], public_images: PublicImages
    ) -> list[ImageSeen]:
        """The account's `own` images, then those of the ids in `named`."""
        found = dict(own)
        wanted = []
        for image_id in named:
            if image_id in found:
                continue
            known = public_images.get(self._region, image_id)
            if known is not None:
                found[image_id] = known
            else:
                wanted.append(image_id)
        for batch in _batches(wanted, limits.IMAGE_IDS_PER_CALL):
            found.update(await self.named_images(batch, public_images))
        # In one order, whichever of them another account has looked up before.
        return sorted(found.values(), key=lambda each: (not each.owned, each.image_id))

    async def named_images(self, image_ids: list[str], public_images: PublicImages) -> dict[str, ImageSeen]:
        """Images by id. One that AWS does not show is there with `found=False`; on a refusal all stay out.

        They are asked for by a filter: an `ImageIds` that names one image that is gone is refused as a whole.
        """
        found: dict[str, ImageSeen] = {}

        async def read() -> None:
            params = {
                "Filters": [{"Name": "image-id", "Values": image_ids}],
                "MaxResults": limits.IMAGES_PER_PAGE,
                "IncludeDisabled": True,
                "IncludeDeprecated": True,
            }
            async for page in self._pages("DescribeImages", params, asks.IMAGES):
                for each in page.get("Images", ()):
                    image = _image(each, owned=False)
                    found[image.image_id] = image
                    if each.get("Public"):
                        public_images.keep(self._region, image)
            found.update((each, ImageSeen(each, found=False)) for each in image_ids if each not in found)

        await self._part(NAMED_IMAGES, read)
        return found

    def _pages(
        self, operation: str, params: Mapping[str, Any], projection: Any, *, service: str = "ec2"
    ) -> AsyncIterator[dict[str, Any]]:
        return self._aws.paginate(self._credentials, service, self._region, operation, params, projection)

    def _options(self, raw: Mapping[str, Any], kind: str, name: str) -> MetadataOptions:
        if not raw:
            return SAYS_NOTHING
        try:
            return _shared_options(*[raw.get(each) for each in asks.OPTIONS])
        except InvalidOption as error:
            self.unseen.append(Unseen(f"{kind} {name}", str(error), "InvalidOption"))
            return SAYS_NOTHING

    async def _part(self, what: str, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except (ServiceError, Unreachable) as error:
            self.unseen.append(Unseen(what, said(error), code_of(error)))
        except InvalidOption as error:
            self.unseen.append(Unseen(what, str(error), "InvalidOption"))


_image_seen = maker(ImageSeen)
_instance = maker(InstanceSeen)
_template_version = maker(TemplateVersionSeen)


def is_image_id(name: str) -> bool:
    """False for what a template may name instead of an id, such as `resolve:ssm:PARAMETER`."""
    return name.startswith("ami-")


@lru_cache(maxsize=1024)
def _shared_options(tokens: Any, hop_limit: Any, endpoint: Any, ipv6: Any, tags: Any) -> MetadataOptions:
    """A fleet has few different sets of options: instances share them."""
    return MetadataOptions.from_aws(
        dict(zip(AWS_NAMES.values(), (tokens, hop_limit, endpoint, ipv6, tags), strict=True))
    )


class VersionsUsed:
    """Which template versions instances run from, or launch sources name."""

    def __init__(self, instances: Iterable[InstanceSeen], sources: Iterable[LaunchSource]) -> None:
        self._named = TemplateVersionsNamed(sources)
        self._run_from: dict[str, set[int]] = {}
        for each in instances:
            if each.launch_template_id and (each.launch_template_version or "").isdecimal():
                numbers = self._run_from.setdefault(each.launch_template_id, set())
                numbers.add(int(each.launch_template_version or 0))

    def numbers(self, template_id: str, name: str) -> set[int]:
        """The versions of a template that are used by number."""
        return self._run_from.get(template_id, set()) | self._named.numbers(template_id, name)

    def has(self, template_id: str, name: str, number: int, *, is_default: bool, is_latest: bool) -> bool:
        """Is this version used, by its number or by what it is?"""
        return number in self._run_from.get(template_id, ()) or self._named.names(
            template_id, name, number, is_default=is_default, is_latest=is_latest
        )


def _name(version: Mapping[str, Any]) -> str:
    name: str = version.get("LaunchTemplateName", "")
    return name


def _by_version(page: Mapping[str, Any]) -> TemplateVersions:
    return {(each["LaunchTemplateId"], each["VersionNumber"]): each for each in page.get("LaunchTemplateVersions", ())}


def _image(raw: Mapping[str, Any], *, owned: bool) -> ImageSeen:
    return _image_seen(raw["ImageId"], raw.get("Name", ""), owned, raw.get("ImdsSupport") or None, True)


def _batches(items: list[str], size: int) -> Iterable[list[str]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
