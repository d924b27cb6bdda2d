"""What a scan saw. What could not be seen is an observation too: `Unseen`, with the reason; never "clean"."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from imdsctl.domain.options import AccountDefaults, MetadataOptions


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
class Scan:
    """One immutable sweep: who was asked, what was seen, what was not."""

    scan_id: str
    started: datetime
    finished: datetime
    accounts: tuple[Account, ...]
    regions: tuple[RegionSeen, ...]
    unseen: tuple[AccountUnseen, ...] = ()
    scope: tuple[tuple[str, str], ...] = field(default=())
    """The options that narrowed the sweep (`--accounts`, `--regions`, `--ou`, exclusions), as given."""
    calls: int = 0
