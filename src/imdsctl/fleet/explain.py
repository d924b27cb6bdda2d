"""Why is it so? For one resource, or a launch that has not happened: the layers, and which decided each option.

The precedence holds at launch time only. An instance keeps what it got, and AWS records neither the launch request nor
the Region default of that day: for an existing instance the layers are reconstructed from what is there now (its image,
and the template version in its tags), and the answer is what a *relaunch* would get beside what the instance holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.exposure import Exposure, Verdict, instance_exposure, launch_exposure
from imdsctl.domain.observations import ImageSeen, InstanceSeen, RegionSeen, Scan, Target, TemplateVersionSeen
from imdsctl.domain.options import AWS_NAMES, AccountDefaults, MetadataOptions
from imdsctl.domain.precedence import IMAGE_IMDS_V2, Layer, Resolution, image_options, resolve
from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.fleet.target_asks import INSTANCES, TEMPLATE_VERSIONS
from imdsctl.fleet.target_reader import PublicImages, TargetReader, is_image_id
from imdsctl.fleet.targets import Caller, check_regions, code_of, enter, home_region, said, who_am_i
from imdsctl.wire.errors import ServiceError

LIVE = "live"
"""`Explanation.source` of an answer that AWS gave just now."""
SAYS_NOTHING = MetadataOptions()


class Kind(StrEnum):
    """What can be explained."""

    INSTANCE = "instance"
    TEMPLATE = "launch template"
    IMAGE = "image"
    LAUNCH = "launch"


@dataclass(frozen=True, slots=True)
class Subject:
    """What the user asks about. Of a template, `version` None means `$Default`, as for a launch."""

    kind: Kind
    name: str = ""
    version: str | None = None
    launch: MetadataOptions = SAYS_NOTHING
    template: str | None = None
    """For a launch: `ID_OR_NAME[:VERSION]`."""
    image_id: str | None = None

    def __str__(self) -> str:
        if self.kind is Kind.LAUNCH:
            return "a launch"
        return f"{self.name}:{self.version}" if self.version else self.name


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `sources` says for a layer what stands behind it; `notes` are what a reader has to know besides."""

    subject: str
    kind: Kind
    target: Target
    source: str
    """LIVE, or the id of the scan it was read from."""
    resolution: Resolution
    exposure: Exposure
    """Of an instance: as it is now. Of anything else: of the next launch."""
    sources: Mapping[Layer, str]
    image_unknown: bool = False
    """True when an image is named that was not found: what its layer says is not known."""
    held: MetadataOptions | None = None
    """What an instance holds now."""
    notes: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """True when AWS gave the answer just now."""
        return self.source == LIVE

    @property
    def changed_by_relaunch(self) -> MetadataOptions:
        """The options that a relaunch would give the instance anew."""
        return self.resolution.options.differing_from(self.held) if self.held else MetadataOptions()


@dataclass(frozen=True, slots=True)
class Parts:
    """What was read to explain something: the layers below the launch parameters, and the instance."""

    target: Target
    source: str
    defaults: AccountDefaults
    instance: InstanceSeen | None = None
    template: TemplateVersionSeen | None = None
    image: ImageSeen | None = None
    notes: tuple[str, ...] = ()


_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_SUBJECT = re.compile(r"(?:(?P<account>\d{12})/(?P<region>[a-z]{2,}(?:-[a-z]+)+-\d+)/)?(?P<name>.+)")


def parse_resource(text: str) -> tuple[Subject, Target | None]:
    """`i-...`, `ami-...`, `lt-...[:VERSION]` or a template's name, as typed or as a scan prints it (ACCOUNT/REGION/ID).

    Raises DiagnosticError (exit code 2) for what cannot be any of these.
    """
    found = _SUBJECT.fullmatch(text.strip())
    if found is None:
        raise _usage(
            Diagnostic(
                "resource-invalid",
                "no resource is named",
                hint="name an instance, template or image, or use `--launch`",
            )
        )
    name = found["name"]
    target = Target(found["account"], found["region"]) if found["account"] else None
    if is_image_id(name):
        return Subject(Kind.IMAGE, name, image_id=name), target
    if name.startswith("i-"):
        if not _INSTANCE_ID.fullmatch(name):
            raise _usage(
                Diagnostic(
                    "resource-invalid", f"`{name}` is not an instance id", hint="ids look like `i-0123456789abcdef0`"
                )
            )
        return Subject(Kind.INSTANCE, name), target
    template, version = split_version(name)
    return Subject(Kind.TEMPLATE, template, version), target


def split_version(text: str) -> tuple[str, str | None]:
    """`NAME[:VERSION]` apart; VERSION is a number, `$Default` or `$Latest`."""
    name, _, version = text.partition(":")
    if version and not version.isdecimal() and version not in ("$Default", "$Latest"):
        raise _usage(
            Diagnostic(
                "resource-invalid",
                f"`{version}` is not a template version",
                hint="use a number, `$Default` or `$Latest`",
            )
        )
    return name, version or None


def locate(scan: Scan, subject: Subject) -> Target | None:
    """Where a scan saw the subject."""
    return next((region.target for region in scan.regions if _holds(region, subject)), None)


def _holds(region: RegionSeen, subject: Subject) -> bool:
    match subject.kind:
        case Kind.INSTANCE:
            return any(each.instance_id == subject.name for each in region.instances)
        case Kind.TEMPLATE:
            return any(subject.name in (each.template_id, each.template_name) for each in region.templates)
        case Kind.IMAGE:
            return region.image(subject.name) is not None
        case Kind.LAUNCH:
            return False


def explain(subject: Subject, parts: Parts) -> Explanation:
    """The answer from what was read. Pure."""
    template_options = parts.template.options if parts.template else None
    image = parts.image
    resolution = resolve(
        subject.launch,
        parts.defaults,
        image_options(image.imds_support if image else None),
        launch_template=template_options,
    )
    notes = list(parts.notes)
    exposure = launch_exposure(resolution)
    if image is not None and not image.found:
        missing = "found: nothing launches from it" if parts.source == LIVE else "seen by the scan"
        notes.append(f"image {image.image_id} was not {missing}; what it says is not known")
        other = launch_exposure(
            resolve(subject.launch, parts.defaults, IMAGE_IMDS_V2, launch_template=template_options)
        )
        if other.verdict is not exposure.verdict:
            exposure = Exposure(Verdict.UNKNOWN, f"image {image.image_id} was not seen, and nothing stronger decides")
    if parts.defaults.managed_by != "account":
        message = parts.defaults.managed_exception_message
        notes.append(
            f"the account default is set by the organization ({parts.defaults.managed_by})"
            + (f": {message}" if message else "")
        )
    held = None
    if parts.instance is not None:
        held = parts.instance.options
        exposure = instance_exposure(held)
        notes.append(
            "AWS does not record what an instance was launched with: the layers are those of a relaunch today, "
            "from its image and the template version in its tags"
        )
        if parts.instance.options_pending:
            notes.append("a change of its options is pending")
        if parts.instance.managed_by:
            notes.append(f"the instance is managed by {parts.instance.managed_by}: only that service can change it")
    return Explanation(
        subject=str(subject),
        kind=subject.kind,
        target=parts.target,
        source=parts.source,
        resolution=resolution,
        exposure=exposure,
        sources=_sources(subject, parts),
        image_unknown=image is not None and not image.found,
        held=held,
        notes=tuple(notes),
    )


def _sources(subject: Subject, parts: Parts) -> dict[Layer, str]:
    out: dict[Layer, str] = {}
    if subject.kind is Kind.LAUNCH:
        out[Layer.LAUNCH] = "as asked"
    if parts.template is not None:
        marks = [
            name for name, so in (("default", parts.template.is_default), ("latest", parts.template.is_latest)) if so
        ]
        words = f" ({', '.join(marks)})" if marks else ""
        out[Layer.LAUNCH_TEMPLATE] = (
            f"{parts.template.template_id}:{parts.template.version} {parts.template.template_name}{words}"
        )
    out[Layer.ACCOUNT_DEFAULT] = f"{parts.target}, managed by {parts.defaults.managed_by}"
    if parts.image is not None:
        says = f"ImdsSupport={parts.image.imds_support}" if parts.image.imds_support else "no ImdsSupport"
        words = " ".join(filter(None, (parts.image.image_id, parts.image.name)))
        missing = "not found" if parts.source == LIVE else "not seen by the scan"
        out[Layer.IMAGE] = f"{words} ({says if parts.image.found else missing})"
    return out


async def read_live(aws: Aws, subject: Subject, *, account_id: str | None, region: str | None, role: str) -> Parts:
    """Ask AWS for what is needed to explain the subject.

    Without an account, the caller's own is asked; without a Region, the one of the user's settings. Raises
    DiagnosticError when the account cannot be entered, or something is missing or refused.
    """
    caller = await who_am_i(aws)
    if region is not None:
        await check_regions(aws, caller, (region,))
    target = Target(account_id or caller.account_id, region or home_region(aws))
    credentials = await _entered(aws, caller, target, role)
    try:
        return await _Reader(aws, credentials, target).parts(subject)
    except (ServiceError, Unreachable) as error:
        raise DiagnosticError(
            Diagnostic(
                "read-refused",
                f"AWS did not show {subject}: {code_of(error)}: {said(error)}",
                str(target),
                "name the place with `--account` and `--region`, and check the permissions of the role",
            )
        ) from None


async def _entered(aws: Aws, caller: Caller, target: Target, role: str) -> Credentials | None:
    try:
        return await enter(aws, caller, target.account_id, role)
    except (ServiceError, Unreachable) as error:
        raise DiagnosticError(
            Diagnostic(
                "account-refused",
                f"the role {role} could not be assumed: {code_of(error)}: {said(error)}",
                target.account_id,
                "check the account id, or name another role with `--role`",
            )
        ) from None


class _Reader:
    """Reads the layers of one subject in one target."""

    def __init__(self, aws: Aws, credentials: Credentials | None, target: Target) -> None:
        self._aws = aws
        self._credentials = credentials
        self._target = target
        # For its way of turning AWS's answers into observations.
        self._seen = TargetReader(aws, credentials, target.region)

    async def parts(self, subject: Subject) -> Parts:
        answer = await self._call("GetInstanceMetadataDefaults", {})
        parts = Parts(self._target, LIVE, AccountDefaults.from_aws(answer.get("AccountLevel")))
        match subject.kind:
            case Kind.INSTANCE:
                return await self._instance(subject, parts)
            case Kind.TEMPLATE:
                template = await self._template(subject.name, subject.version)
                return await self._with_image(replace(parts, template=template), template.image_id)
            case Kind.IMAGE:
                parts = await self._with_image(parts, subject.image_id)
                if parts.image is not None and not parts.image.found:
                    raise _missing(subject, self._target)
                return parts
            case Kind.LAUNCH:
                image_id = subject.image_id
                if subject.template:
                    template = await self._template(*split_version(subject.template))
                    parts = replace(parts, template=template)
                    image_id = image_id or template.image_id
                return await self._with_image(parts, image_id)

    async def _instance(self, subject: Subject, parts: Parts) -> Parts:
        try:
            answer = await self._call(
                "DescribeInstances", {"InstanceIds": [subject.name], "IncludeManagedResources": True}, INSTANCES
            )
        except ServiceError as error:
            if error.code.startswith("InvalidInstanceID."):
                raise _missing(subject, self._target) from None
            raise
        raw = [each for group in answer.get("Reservations", ()) for each in group.get("Instances", ())]
        if not raw:
            raise _missing(subject, self._target)
        instance = self._seen.instance(raw[0])
        parts = replace(parts, instance=instance)
        if instance.launch_template_id:
            try:
                template = await self._template(instance.launch_template_id, instance.launch_template_version)
                parts = replace(parts, template=template)
            except DiagnosticError:
                name = f"{instance.launch_template_id}:{instance.launch_template_version}"
                parts = replace(parts, notes=(f"template version {name}, which it came from, is gone",))
        return await self._with_image(parts, instance.image_id)

    async def _template(self, name: str, version: str | None) -> TemplateVersionSeen:
        """A version of a template by id or name."""
        key = "LaunchTemplateId" if name.startswith("lt-") else "LaunchTemplateName"
        asked = version or "$Default"
        try:
            # `$Latest` as well: whether the version is the latest is not in AWS's answer.
            answer = await self._call(
                "DescribeLaunchTemplateVersions",
                {key: name, "Versions": list(dict.fromkeys((asked, "$Latest"))), "IncludeManagedResources": True},
                TEMPLATE_VERSIONS,
            )
        except ServiceError as error:
            if "LaunchTemplate" in error.code:
                raise _missing(Subject(Kind.TEMPLATE, name, version), self._target) from None
            raise
        versions = {each["VersionNumber"]: each for each in answer.get("LaunchTemplateVersions", ())}
        latest = max(versions, default=0)
        chosen: Iterable[Mapping[str, Any]]
        if asked == "$Latest":
            chosen = [versions[latest]] if versions else []
        elif asked == "$Default":
            chosen = [each for each in versions.values() if each.get("DefaultVersion")]
        else:
            chosen = [each for number, each in versions.items() if number == int(asked)]
        for each in chosen:
            return self._seen.template(each, is_latest=each["VersionNumber"] == latest)
        raise _missing(Subject(Kind.TEMPLATE, name, version), self._target)

    async def _with_image(self, parts: Parts, image_id: str | None) -> Parts:
        if image_id is None:
            note = "no image is named: one with ImdsSupport=v2.0 would say HttpTokens=required, hop limit 2"
            return replace(parts, notes=(*parts.notes, note))
        if not is_image_id(image_id):
            return replace(parts, image=ImageSeen(image_id, found=False))
        found = await self._seen.named_images([image_id], PublicImages())
        for unseen in self._seen.unseen:
            raise ServiceError(unseen.code, unseen.reason)
        return replace(parts, image=found.get(image_id, ImageSeen(image_id, found=False)))

    async def _call(self, operation: str, params: Mapping[str, Any], projection: Any = None) -> dict[str, Any]:
        return await self._aws.call(self._credentials, "ec2", self._target.region, operation, params, projection)


def from_scan(scan: Scan, subject: Subject, target: Target | None) -> Parts:
    """What a scan has seen of the subject. Raises DiagnosticError when it is not there."""
    found = target or locate(scan, subject)
    region = next((each for each in scan.regions if each.target == found), None)
    if found is None or region is None:
        raise DiagnosticError(
            Diagnostic(
                "resource-not-found",
                f"scan {scan.scan_id} did not see {subject if found is None else found}",
                hint="leave `--from-scan` out and name `--account` and `--region`, or run `imdsctl scan` again",
            )
        )
    if region.defaults is None:
        raise DiagnosticError(
            Diagnostic(
                "read-refused",
                f"scan {scan.scan_id} could not read the default of this Region",
                str(found),
                "leave `--from-scan` out to ask AWS",
            )
        )
    parts = Parts(found, scan.scan_id, region.defaults)
    image_id = subject.image_id
    if subject.kind is Kind.INSTANCE:
        instance = next((each for each in region.instances if each.instance_id == subject.name), None)
        if instance is None:
            raise _missing(subject, found)
        image_id = instance.image_id
        template = _template_in(region, instance.launch_template_id, instance.launch_template_version)
        parts = replace(parts, instance=instance, template=template)
        if instance.launch_template_id and template is None:
            note = f"template version {instance.launch_template_id}:{instance.launch_template_version} was not seen"
            parts = replace(parts, notes=(note,))
    elif subject.kind is Kind.TEMPLATE or subject.template:
        name, version = (subject.name, subject.version) if not subject.template else split_version(subject.template)
        template = _template_in(region, name, version)
        if template is None:
            raise _missing(Subject(Kind.TEMPLATE, name, version), found)
        image_id = image_id or template.image_id
        parts = replace(parts, template=template)
    if image_id is None:
        return parts
    image = region.image(image_id)
    if image is None and subject.kind is Kind.IMAGE:
        raise _missing(subject, found)
    return replace(parts, image=image or ImageSeen(image_id, found=False))


def _template_in(region: RegionSeen, name: str | None, version: str | None) -> TemplateVersionSeen | None:
    for each in region.templates:
        if name in (each.template_id, each.template_name) and (
            (version in (None, "$Default") and each.is_default)
            or (version == "$Latest" and each.is_latest)
            or version == str(each.version)
        ):
            return each
    return None


def launch_options(values: Mapping[str, Any]) -> MetadataOptions:
    """Launch parameters by AWS's names; None says nothing. Raises DiagnosticError (exit code 2) for a wrong value."""
    from imdsctl.domain.options import InvalidOption

    try:
        return MetadataOptions.from_aws({name: values.get(name) for name in AWS_NAMES.values()})
    except InvalidOption as error:
        raise _usage(
            Diagnostic(
                "option-invalid", f"`{error.value}` is not valid for {error.option}", hint=f"use {error.allowed}"
            )
        ) from None


def _missing(subject: Subject, target: Target) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "resource-not-found",
            f"there is no {subject.kind} `{subject}` here",
            str(target),
            "name its place with `--account` and `--region`; after `imdsctl scan` it is found by its id alone",
        )
    )


def _usage(diagnostic: Diagnostic) -> DiagnosticError:
    return DiagnosticError(diagnostic, exit_code=2)
