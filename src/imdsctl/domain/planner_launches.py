"""Everything in a Region that can launch an instance, and what each launch gets: today, and once a plan is through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from imdsctl.domain.observations import (
    SAYS_NOTHING,
    FleetKind,
    FleetSeen,
    GroupSeen,
    ImageSeen,
    LaunchSource,
    RegionSeen,
    ServiceKind,
    TemplateVersionSeen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import Layer, Resolution, image_options, resolve

DEFAULT, LATEST = "$Default", "$Latest"
FLEET_WORDS = {
    FleetKind.EC2_FLEET: "EC2 Fleet",
    FleetKind.SPOT_FLEET: "Spot Fleet",
    FleetKind.SPOT_REQUEST: "Spot request",
}
LAUNCHES_IN_THE_ACCOUNT = frozenset(
    {
        ServiceKind.EKS_NODEGROUP,
        ServiceKind.BEANSTALK_ENVIRONMENT,
        ServiceKind.EMR_SECURITY_CONFIGURATION,
        ServiceKind.IMAGE_BUILDER_INFRASTRUCTURE,
    }
)
"""Services whose instances are the account's own, so that its HttpTokensEnforced refuses them as well. Notebooks,
Lightsail and AppStream run in accounts of AWS."""


@dataclass(frozen=True, slots=True)
class State:
    """The layers under everything that launches: as the scan saw them, or as a plan leaves them."""

    defaults: AccountDefaults
    templates: Mapping[tuple[str, str], MetadataOptions] = field(default_factory=dict)
    """What `$Default` and `$Latest` of a template say, by template id and name of the version, where it differs."""
    images: frozenset[str] = frozenset()
    """Images that say v2.0 though the scan saw them without."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Something that launches from a source: a template by itself, a group, a fleet, a service.

    `names` and `tags` are its own, `group` is the name of a group.
    """

    title: str
    source: LaunchSource
    names: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    group: str = ""


class Launches:
    """The launch sources of one Region, by id and name."""

    def __init__(self, region: RegionSeen) -> None:
        self.region = region
        self.templates: dict[str, list[TemplateVersionSeen]] = {}
        for version in region.templates:
            self.templates.setdefault(version.template_id, []).append(version)
        self._ids = {versions[0].template_name: each for each, versions in self.templates.items()}
        self.configurations = {each.name: each for each in region.configurations}
        self.images = {each.image_id: each for each in region.images}
        self._all: tuple[Launcher, ...] | None = None
        self._resolved: dict[tuple[int, int, str | None], tuple[MetadataOptions, State, Resolution]] = {}

    def template_name(self, template_id: str | None) -> str | None:
        """A template's name by its id, None for one that the scan did not see."""
        versions = self.templates.get(template_id or "")
        return versions[0].template_name if versions else None

    def template_id(self, source: LaunchSource) -> str | None:
        """The template that a source names, by id or by name."""
        return source.template_id or self._ids.get(source.template_name or "")

    def names_of(self, source: LaunchSource) -> tuple[str, ...]:
        """What a source is named after: its template by id and name, or its launch configuration."""
        template = self.template_id(source)
        names = (template, self.template_name(template) or source.template_name, source.configuration)
        return tuple(each for each in names if each)

    def version(self, source: LaunchSource) -> TemplateVersionSeen | None:
        """The template version that a source launches; None when the scan did not see it."""
        wanted = source.version or DEFAULT
        for each in self.templates.get(self.template_id(source) or "", ()):
            if (
                each.is_default
                if wanted == DEFAULT
                else each.is_latest
                if wanted == LATEST
                else str(each.version) == wanted
            ):
                return each
        return None

    def image(self, image_id: str | None) -> ImageSeen | None:
        """The image of that id, or None when the scan did not see it."""
        return self.images.get(image_id or "")

    def resolution(self, source: LaunchSource, state: State) -> Resolution | None:
        """What the next launch from a source gets; None when what it names was not seen.

        An image that was not found counts as one that says nothing: the safe reading.
        """
        if source.configuration is not None:
            configuration = self.configurations.get(source.configuration)
            if configuration is None:
                return None
            return self._resolve(configuration.options, source.image_id or configuration.image_id, state)
        if source.template_id is None and source.template_name is None:
            return self._resolve(SAYS_NOTHING, source.image_id, state)
        version = self.version(source)
        if version is None:
            return None
        said = state.templates.get((version.template_id, source.version or DEFAULT), version.options)
        return self._resolve(said, source.image_id or version.image_id, state)

    def of_version(self, version: TemplateVersionSeen, state: State) -> Resolution:
        """What the next launch from a version gets, named by its number."""
        return self._resolve(version.options, version.image_id, state)

    def _resolve(self, says: MetadataOptions, image_id: str | None, state: State) -> Resolution:
        # Identity stands for these two (they are kept, so that it stays theirs): hashing all the layers again and again
        # costs more than all the rest.
        key = (id(says), id(state), image_id)
        found = self._resolved.get(key)
        if found is None:
            image = self.image(image_id)
            support = image.imds_support if image is not None and image.found else None
            if image_id in state.images:
                support = "v2.0"
            resolution = resolve(SAYS_NOTHING, state.defaults, image_options(support), launch_template=says)
            found = self._resolved[key] = says, state, resolution
        return found[2]

    # Who launches

    def all(self) -> tuple[Launcher, ...]:
        """Every template's `$Default` and `$Latest`, every group, fleet and service with each of its sources."""
        if self._all is None:
            self._all = (*self.of_templates(), *self.of_groups(), *self.of_fleets(), *self.of_services())
        return self._all

    def of_templates(self) -> Iterator[Launcher]:
        """`$Default` and, where it is another version, `$Latest` of every template."""
        for template_id in sorted(self.templates):
            for version in sorted(self.templates[template_id], key=lambda each: each.version):
                if version.is_default or version.is_latest:
                    label = DEFAULT if version.is_default else LATEST
                    title = f"launch template {named(template_id, version.template_name)}, {label}"
                    source = LaunchSource(template_id, version=label)
                    yield Launcher(title, source, (template_id, version.template_name), version.tags)

    def of_groups(self) -> Iterator[Launcher]:
        """Every Auto Scaling group, once for each thing that it may launch from."""
        for group in sorted(self.region.groups, key=lambda each: each.name):
            for source in unique(group.sources):
                title = f"{group_title(group)}, {self.from_what(source)}"
                yield Launcher(title, source, (group.name,), group.tags, group.name)

    def of_fleets(self) -> Iterator[Launcher]:
        """Every fleet and Spot request, once for each thing that it may launch from."""
        for fleet in sorted(self.region.fleets, key=lambda each: each.fleet_id):
            for source in unique(fleet.sources):
                yield Launcher(f"{fleet_title(fleet)}, {self.from_what(source)}", source, (fleet.fleet_id,), fleet.tags)

    def of_services(self) -> Iterator[Launcher]:
        """Every service that launches in the account and leaves HttpTokens to what it launches from.

        One that names nothing launches an image that nobody knows, and says nothing.
        """
        for service in sorted(self.region.services, key=lambda each: (each.kind, each.resource)):
            if service.kind in LAUNCHES_IN_THE_ACCOUNT and service.in_use and service.options.http_tokens is None:
                title = f"{service.kind} {service.name or service.resource}"
                names = (service.resource, service.name)
                silent = () if service.group_names else (LaunchSource(),)
                for source in unique(service.sources) or silent:
                    yield Launcher(title, source, names, service.tags)

    def from_what(self, source: LaunchSource) -> str:
        """`from lt-1 (web) version 3`, for a title."""
        if source.configuration is not None:
            return f"from launch configuration {source.configuration}"
        template = self.template_id(source) or source.template_name
        if template:
            name = named(template, self.template_name(template) or "")
            wanted = source.version or DEFAULT
            return f"from launch template {name} {wanted if wanted.startswith('$') else f'version {wanted}'}"
        return f"from image {source.image_id or '(none named)'}"

    def users(self, template_id: str) -> Iterator[str]:
        """What launches from a template, for a person."""
        for group in sorted(self.region.groups, key=lambda each: each.name):
            if any(self.template_id(source) == template_id for source in group.sources):
                yield f"{group_title(group)} ({group.desired} desired)"
        for fleet in sorted(self.region.fleets, key=lambda each: each.fleet_id):
            if any(self.template_id(source) == template_id for source in fleet.sources):
                yield fleet_title(fleet)
        for service in sorted(self.region.services, key=lambda each: (each.kind, each.resource)):
            if any(self.template_id(source) == template_id for source in service.sources):
                yield f"{service.kind} {service.name or service.resource}"


def unique(sources: Iterable[LaunchSource]) -> tuple[LaunchSource, ...]:
    """Each source once, in order."""
    return tuple(dict.fromkeys(sources))


def group_title(group: GroupSeen) -> str:
    """`Auto Scaling group web`."""
    return f"Auto Scaling group {group.name}"


def fleet_title(fleet: FleetSeen) -> str:
    """`Spot Fleet sfr-1`."""
    return f"{FLEET_WORDS[fleet.kind]} {fleet.fleet_id}"


def named(resource: str, name: str) -> str:
    """`lt-1 (web)`."""
    return f"{resource} ({name})" if name and name != resource else resource


def allows_v1(resolution: Resolution) -> bool:
    """Whether a launch would get IMDSv1, enforcement aside: a refused launch is a broken one, not a right one."""
    off = resolution.http_endpoint
    # A Region default that switches the endpoint off does not make a template's own `optional` right.
    return resolution.http_tokens.value is HttpTokens.OPTIONAL and (
        off.value is Switch.ENABLED or off.layer is Layer.ACCOUNT_DEFAULT
    )


def would_fail(resolution: Resolution) -> bool:
    """Whether a launch fails once the Region enforces IMDSv2.

    Whether HttpEndpoint=disabled exempts it is not documented; the safe reading is that it does not.
    """
    return resolution.http_tokens.value is HttpTokens.OPTIONAL
