"""What a scan saw. What could not be seen is an observation too: `Unseen`, with the reason; never "clean"."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from imdsctl.domain.options import AccountDefaults, MetadataOptions

SAYS_NOTHING = MetadataOptions()
"""The options of a layer that decides nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One account in one Region: the unit of a sweep."""

    account_id: str
    region: str

    def __str__(self) -> str:
        return f"{self.account_id}/{self.region}"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the organization. `state` is Organizations' `State` (not the retired `Status`)."""

    account_id: str
    name: str
    state: str = "ACTIVE"
    ou_path: str = ""
    """Names from the root down, joined by `/`; empty when Organizations was not asked."""


@dataclass(frozen=True, slots=True)
class InstanceSeen:
    """An instance that is not terminated."""

    instance_id: str
    state: str
    options: MetadataOptions
    image_id: str | None = None
    instance_type: str | None = None
    launch_time: datetime | None = None
    launch_template_id: str | None = None
    launch_template_version: str | None = None
    managed_by: str | None = None
    """The operator of a managed instance (`Operator.Principal`): only it can change the instance."""
    options_pending: bool = False
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateVersionSeen:
    """A version of a launch template that can launch: `$Default`, `$Latest`, or one in use by an instance."""

    template_id: str
    template_name: str
    version: int
    is_default: bool
    is_latest: bool
    options: MetadataOptions
    image_id: str | None = None
    in_use: bool = False
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """An image: the account's own, or one that an instance or template names. `found` is False if AWS has it no more
    (or hides it): then its ImdsSupport is unknown."""

    image_id: str
    name: str = ""
    owned: bool = False
    imds_support: str | None = None
    found: bool = True


@dataclass(frozen=True, slots=True)
class LaunchSource:
    """What something launches from, as it says it. Exactly one of template, configuration and neither.

    Neither: a launch specification (Spot), which cannot say MetadataOptions; then only Region default, image and
    enforcement decide. `image_id` is the image that it names itself, over a template's.
    """

    template_id: str | None = None
    template_name: str | None = None
    version: str | None = None
    """`$Default`, `$Latest` or a number; None means `$Default`, as for AWS."""
    configuration: str | None = None
    image_id: str | None = None


@dataclass(frozen=True, slots=True)
class ConfigurationSeen:
    """A launch configuration of Auto Scaling. It cannot be changed: whoever uses it has to be given a template."""

    name: str
    options: MetadataOptions
    image_id: str | None = None
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """An Auto Scaling group: everything that its next instances may be launched from, overrides included."""

    name: str
    sources: tuple[LaunchSource, ...] = ()
    instance_ids: tuple[str, ...] = ()
    desired: int = 0
    tags: tuple[tuple[str, str], ...] = ()


class FleetKind(StrEnum):
    """What keeps asking EC2 for instances beside Auto Scaling."""

    EC2_FLEET = "ec2-fleet"
    SPOT_FLEET = "spot-fleet"
    SPOT_REQUEST = "spot-request"


@dataclass(frozen=True, slots=True)
class FleetSeen:
    """An EC2 Fleet, a Spot Fleet request or a Spot request that can still launch."""

    fleet_id: str
    kind: FleetKind
    state: str
    sources: tuple[LaunchSource, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


class ServiceKind(StrEnum):
    """Resources of other services that carry an IMDS setting, or decide one."""

    EKS_NODEGROUP = "eks-nodegroup"
    ECS_CONTAINER_INSTANCE = "ecs-container-instance"
    SAGEMAKER_NOTEBOOK = "sagemaker-notebook"
    BEANSTALK_ENVIRONMENT = "beanstalk-environment"
    EMR_SECURITY_CONFIGURATION = "emr-security-configuration"
    IMAGE_BUILDER_INFRASTRUCTURE = "image-builder-infrastructure"
    LIGHTSAIL_INSTANCE = "lightsail-instance"
    APPSTREAM_FLEET = "appstream-fleet"
    APPSTREAM_IMAGE_BUILDER = "appstream-image-builder"
    APPSTREAM_APP_BLOCK_BUILDER = "appstream-app-block-builder"


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """One such resource.

    `options` is what it says itself, in EC2's words; all None when it does not decide. Then the references say where
    the decision is made (`sources`, `group_names`, `instance_ids`), and with none of these `reason` why it is unknown.
    """

    kind: ServiceKind
    resource: str
    """The id or ARN by which the service's API names it."""
    name: str = ""
    options: MetadataOptions = SAYS_NOTHING
    reason: str = ""
    sources: tuple[LaunchSource, ...] = ()
    group_names: tuple[str, ...] = ()
    instance_ids: tuple[str, ...] = ()
    parent: str = ""
    """The cluster or application that it belongs to."""
    in_use: bool = True
    """False for a setting that nothing uses now (a security configuration without a running cluster)."""
    tags: tuple[tuple[str, str], ...] = ()


class PolicyKind(StrEnum):
    """Policies of Organizations that matter to IMDS, in Organizations' words."""

    SERVICE_CONTROL_POLICY = "SERVICE_CONTROL_POLICY"
    DECLARATIVE_POLICY_EC2 = "DECLARATIVE_POLICY_EC2"


@dataclass(frozen=True, slots=True)
class PolicySeen:
    """A policy of the organization with what it says and where it is attached (ids of root, units and accounts)."""

    policy_id: str
    name: str
    kind: PolicyKind
    content: str
    targets: tuple[str, ...] = ()
    aws_managed: bool = False


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that could not be read. `what` names it ("instances", "account", "Region"), `reason` quotes AWS."""

    what: str
    reason: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class RegionSeen:
    """Everything a scan learned of one target. A part that is listed in `unseen` was not read: it is unknown."""

    target: Target
    defaults: AccountDefaults | None = None
    instances: tuple[InstanceSeen, ...] = ()
    templates: tuple[TemplateVersionSeen, ...] = ()
    images: tuple[ImageSeen, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    configurations: tuple[ConfigurationSeen, ...] = ()
    groups: tuple[GroupSeen, ...] = ()
    fleets: tuple[FleetSeen, ...] = ()
    services: tuple[ServiceSeen, ...] = ()

    def image(self, image_id: str | None) -> ImageSeen | None:
        """The image of that id, or None when the scan did not see it."""
        return next((each for each in self.images if each.image_id == image_id), None)


@dataclass(frozen=True, slots=True)
class AccountUnseen:
    """An account that could not be entered, or a Region of it that is disabled ("not inspectable", not clean)."""

    account_id: str
    region: str | None
    unseen: Unseen


@dataclass(frozen=True, slots=True)
class ScanHeader:
    """What is known of a scan when it begins."""

    scan_id: str
    started: datetime
    accounts: tuple[Account, ...]
    scope: tuple[tuple[str, str], ...] = ()
    """The options that narrowed the sweep (`--accounts`, `--ou`, exclusions, `--no-services`...), as given."""


@dataclass(frozen=True, slots=True)
class ScanEnd:
    """What is known of a scan when it ends."""

    finished: datetime
    unseen: tuple[AccountUnseen, ...] = ()
    policies: tuple[PolicySeen, ...] = ()
    effective_policies: tuple[tuple[str, str], ...] = ()
    """Account id and its effective declarative policy for EC2, as JSON text, where there is one."""
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """One immutable sweep: who was asked, what was seen, what was not."""

    scan_id: str
    started: datetime
    finished: datetime
    accounts: tuple[Account, ...]
    regions: Collection[RegionSeen]
    """By account (in the order of `accounts`), then Region. A stored scan reads them anew at every iteration, so that
    a fleet of any size can be gone through: iterate, and keep no more than is needed."""
    unseen: tuple[AccountUnseen, ...] = ()
    scope: tuple[tuple[str, str], ...] = field(default=())
    """The options that narrowed the sweep (`--accounts`, `--ou`, exclusions, `--no-services`...), as given."""
    calls: int = 0
    policies: tuple[PolicySeen, ...] = ()
    effective_policies: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, header: ScanHeader, regions: Collection[RegionSeen], end: ScanEnd) -> Scan:
        """A scan from its parts."""
        ending: Mapping[str, Any] = {name: getattr(end, name) for name in ScanEnd.__slots__}
        return cls(
            header.scan_id, header.started, accounts=header.accounts, regions=regions, scope=header.scope, **ending
        )

    @property
    def header(self) -> ScanHeader:
        """The part that was known when it began."""
        return ScanHeader(self.scan_id, self.started, self.accounts, self.scope)

    @property
    def end(self) -> ScanEnd:
        """The part that was known when it ended."""
        return ScanEnd(self.finished, self.unseen, self.policies, self.effective_policies, self.calls)
