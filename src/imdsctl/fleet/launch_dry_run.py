"""Ask AWS, without launching anything, what every launch source may launch.

A DryRun ends after authorization (facts: it answers `DryRunOperation` even where enforcement or a declarative policy
would refuse the real call). So it proves what IAM and service control policies do; what HttpTokensEnforced does stays a
prediction from the Region default that was read, and is said to be one. Source: EC2 API Reference, RunInstances.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imdsctl.domain.observations import RegionSeen, Scan, Target, TemplateVersionSeen
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions
from imdsctl.domain.precedence import image_options, resolve
from imdsctl.fleet.apply_changes import TARGETS_CONCURRENT_MAX, Enter
from imdsctl.fleet.ports import Aws, Unreachable
from imdsctl.wire.errors import ServiceError

ALLOWED, REFUSED = "DryRunOperation", "UnauthorizedOperation"
_V1 = {"MetadataOptions": {"HttpTokens": "optional"}}
_INSTANCE_TYPE = "t3.micro"
"""For a launch from an image alone; a DryRun ends before AWS asks whether the two fit."""


class Launches(StrEnum):
    """What a launch source may launch."""

    V2_BY_POLICY = "IMDSv2 only: a policy refuses IMDSv1"
    """Proven by the DryRuns."""
    V2_BY_ENFORCEMENT = "IMDSv2 only: the Region enforces it"
    """Predicted: the Region default says HttpTokensEnforced=enabled."""
    V1 = "IMDSv1, as it is or when it is asked for"
    REFUSED = "nothing"
    """As it is it gets no instance."""
    UNKNOWN = "unknown"


GOOD = frozenset({Launches.V2_BY_POLICY, Launches.V2_BY_ENFORCEMENT})


@dataclass(frozen=True, slots=True)
class DryRun:
    """What was found out about one launch source."""

    target: Target
    resource: str
    """The id of the template or image."""
    source: str
    launches: Launches
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """AWS's answer to one DryRun; `allowed` None when it does not say."""

    allowed: bool | None
    said: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    resource: str
    name: str
    request: Mapping[str, Any]
    v2: bool
    """Whether a launch that says nothing more resolves to `required`."""


async def dry_runs(aws: Aws, enter: Enter, scan: Scan) -> tuple[DryRun, ...]:
    """Two DryRuns for every launch template version that counts and every own image: as it is, and asking for IMDSv1.

    What AWS does not tell is UNKNOWN; a bug raises.
    """
    turn = asyncio.Semaphore(TARGETS_CONCURRENT_MAX)
    found: dict[Target, list[DryRun]] = {}

    async def in_turn(region: RegionSeen) -> None:
        try:
            found[region.target] = await _region(aws, enter, region)
        finally:
            turn.release()

    async with asyncio.TaskGroup() as group:
        for region in scan.regions:
            await turn.acquire()  # a scan may be larger than memory: its next target is read when its turn comes
            group.create_task(in_turn(region))
    return tuple(each for target in sorted(found) for each in found[target])


async def _region(aws: Aws, enter: Enter, region: RegionSeen) -> list[DryRun]:
    results = []
    for source in _sources(region):
        as_it_is = await _ask(aws, enter, region.target, source.request)
        asking_v1 = await _ask(aws, enter, region.target, {**source.request, **_V1})
        launches, detail = _judged(source, as_it_is, asking_v1, region.defaults)
        results.append(DryRun(region.target, source.resource, source.name, launches, detail))
    return results


def _sources(region: RegionSeen) -> Iterator[_Source]:
    for version in region.templates:
        request = {"LaunchTemplate": {"LaunchTemplateId": version.template_id, "Version": str(version.version)}}
        name = f"launch template {version.template_id} version {version.version}"
        yield _Source(version.template_id, name, request, _resolves_to_v2(region, version))
    for image in region.images:
        if image.owned and image.found:
            options = image_options(image.imds_support)
            resolution = resolve(MetadataOptions(), region.defaults or AccountDefaults(), options)
            v2 = resolution.http_tokens.value is HttpTokens.REQUIRED
            alone = {"ImageId": image.image_id, "InstanceType": _INSTANCE_TYPE}
            yield _Source(image.image_id, f"image {image.image_id}", alone, v2)


def _resolves_to_v2(region: RegionSeen, version: TemplateVersionSeen) -> bool:
    image = region.image(version.image_id)
    options = image_options(image.imds_support if image is not None and image.found else None)
    defaults = region.defaults or AccountDefaults()
    resolution = resolve(MetadataOptions(), defaults, options, launch_template=version.options)
    return resolution.http_tokens.value is HttpTokens.REQUIRED


async def _ask(aws: Aws, enter: Enter, target: Target, request: Mapping[str, Any]) -> _Answer:
    params = {**request, "MinCount": 1, "MaxCount": 1, "DryRun": True}
    try:
        credentials = await enter(target.account_id)
        await aws.call(credentials, "ec2", target.region, "RunInstances", params)
    except ServiceError as error:
        if error.code in (ALLOWED, REFUSED):
            return _Answer(error.code == ALLOWED, error.message)
        return _Answer(None, f"{error.code}: {error.message}")
    except Unreachable as error:
        return _Answer(None, f"{error.host}: {error.reason}")
    return _Answer(None, "AWS has answered a DryRun as if it had launched something: look there")


def _judged(
    source: _Source, as_it_is: _Answer, asking_v1: _Answer, defaults: AccountDefaults | None
) -> tuple[Launches, str]:
    if as_it_is.allowed is None or asking_v1.allowed is None:
        return Launches.UNKNOWN, as_it_is.said if as_it_is.allowed is None else asking_v1.said
    if not as_it_is.allowed and not asking_v1.allowed:
        why = "a policy refuses every launch, or this role may not launch at all"
        return Launches.UNKNOWN, f"{why}: {as_it_is.said}"
    if not as_it_is.allowed:
        return Launches.REFUSED, f"a policy refuses it as it is: {as_it_is.said}"
    if defaults is None:
        return Launches.UNKNOWN, "the Region default was not seen"
    if not source.v2 and defaults.enforced:
        return Launches.REFUSED, "it asks for IMDSv1, and the Region enforces IMDSv2 (predicted)"
    if not source.v2:
        return Launches.V1, "it gets IMDSv1 as it is"
    if not asking_v1.allowed:
        return Launches.V2_BY_POLICY, ""
    if defaults.enforced:
        return Launches.V2_BY_ENFORCEMENT, ""
    return Launches.V1, "whoever launches from it can ask for IMDSv1: no policy and no enforcement refuses it"
