"""Fills an account's Region with a believable fleet, a function of (seed, account, Region, created) only.

What a fleet looks like that nobody has looked after: images from several years, templates whose `$Default` is not their
`$Latest`, container hosts at hop limit 1, some instances stopped, a few just terminated, Region defaults mostly unset.
Every instance got the options that the precedence gave it on the day it was launched, when the Region said nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from uuid import UUID

from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import image_options, resolve
from imdsctl.local.autoscaling.state import LaunchConfiguration, ScalingState
from imdsctl.local.ec2.public_images import public_image
from imdsctl.local.ec2.resources import (
    RUNNING,
    STOPPED,
    TERMINATED,
    BlockDevice,
    Image,
    Instance,
    LaunchTemplate,
    LaunchTemplateVersion,
    Snapshot,
    derived,
)
from imdsctl.local.ec2.state import TERMINATED_VISIBLE, Generated, RegionState
from imdsctl.local.fleet_generator import generate_fleets
from imdsctl.local.launcher_generator import generate_launchers

if TYPE_CHECKING:
    from imdsctl.local.spec import WorldSpec
    from imdsctl.local.world import World

EMPTY_SHARE = 0.08
"""The share of Regions with nothing in them: an unset default, and nobody looking."""
TERMINATED_SHARE = 0.02
STOPPED_SHARE = 0.12

_V1 = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
_V2 = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
_V2_HOP_1 = MetadataOptions(http_tokens=HttpTokens.REQUIRED, http_put_response_hop_limit=1)
_V2_HOP_2 = MetadataOptions(http_tokens=HttpTokens.REQUIRED, http_put_response_hop_limit=2)
_V1_HOP_2 = MetadataOptions(http_tokens=HttpTokens.OPTIONAL, http_put_response_hop_limit=2)
_OFF = MetadataOptions(http_endpoint=Switch.DISABLED)
_OFF_HOP_5 = MetadataOptions(http_endpoint=Switch.DISABLED, http_put_response_hop_limit=5)
_TAGS = MetadataOptions(http_tokens=HttpTokens.OPTIONAL, instance_metadata_tags=Switch.ENABLED)
_SILENT = MetadataOptions()

_DEFAULTS: tuple[tuple[float, AccountDefaults], ...] = (
    (0.84, AccountDefaults()),
    (0.08, AccountDefaults(http_tokens=HttpTokens.REQUIRED, http_put_response_hop_limit=2)),
    (0.03, AccountDefaults(http_tokens=HttpTokens.OPTIONAL)),
    (0.03, AccountDefaults(http_put_response_hop_limit=2)),
    (0.02, AccountDefaults(http_tokens=HttpTokens.REQUIRED, http_tokens_enforced=Switch.ENABLED)),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine: its share of a fleet, its image, what its launch asked for, its template and tags.

    `image` is a family of public images, `own:NAME` one of the account's, or `gone` for one that was deregistered.
    """

    name: str
    weight: int
    image: str
    types: tuple[str, ...]
    launch: tuple[MetadataOptions, ...] = (_SILENT,)
    template: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    steady: bool = False  # never stopped by hand


KINDS = (
    Kind("web", 14, "own:golden-old", ("t3.medium", "t3.large"), (_SILENT, _SILENT, _V1), "web", {"Role": "web"}),
    Kind("web", 8, "own:golden", ("t3.large", "m6i.large"), (_SILENT,), None, {"Role": "web"}),
    Kind("api", 12, "al2", ("m5.large", "m5.xlarge"), (_SILENT, _V1, _V2), "api", {"Role": "api"}),
    Kind("api", 8, "al2023", ("m7i.large", "c7i.large"), (_SILENT, _SILENT, _V1), None, {"Role": "api"}),
    Kind("worker", 10, "gone", ("c5.large", "c5.xlarge", "m4.large"), (_SILENT, _SILENT, _TAGS), "worker"),
    Kind("worker", 8, "ubuntu-22.04", ("c5.xlarge", "r5.large"), (_SILENT, _V2), "worker", {"Role": "worker"}),
    Kind("db", 6, "gone", ("r5.xlarge", "r4.xlarge"), (_SILENT,), None, {"Role": "database", "backup": "daily"}),
    Kind("legacy-app", 5, "windows-2019", ("m5.large", "t3.xlarge"), (_SILENT, _V1), None, {"Vendor": "acme"}),
    Kind("bastion", 3, "al2", ("t3.micro", "t3.nano"), (_OFF, _OFF_HOP_5, _V2), None, {"Role": "bastion"}),
    Kind(
        "eks-node",
        12,
        "own:eks-node",
        ("m5.xlarge", "m6i.xlarge", "c6i.2xlarge"),
        (_SILENT, _V1_HOP_2, _V2_HOP_1, _V2_HOP_2),
        "eks-workers",
        {
            "eks:cluster-name": "platform",
            "eks:nodegroup-name": "general",
            "kubernetes.io/cluster/platform": "owned",
            "k8s.io/cluster-autoscaler/enabled": "true",
        },
        steady=True,
    ),
    Kind(
        "ecs-host", 7, "al2-ecs", ("m5.large", "c5.xlarge"), (_SILENT, _SILENT, _V2_HOP_2), "ecs-hosts",
        {"AmazonECSManaged": "true", "aws:autoscaling:groupName": "ecs-hosts"}, steady=True,
    ),
    Kind(
        "ecs-host", 3, "al2023-ecs", ("m7i.large",), (_SILENT,), None,
        {"AmazonECSManaged": "true", "aws:autoscaling:groupName": "ecs-hosts-2"}, steady=True,
    ),
    Kind("ci-runner", 4, "ubuntu-24.04", ("c7i.xlarge", "c6a.xlarge"), (_V2_HOP_2, _SILENT), None, {"Role": "ci"}),
)  # fmt: skip
"""A fleet's mixture; the weights are relative."""

_WEIGHTS = tuple(accumulate(kind.weight for kind in KINDS))


def generate_region(world: World, account_id: str, region: str) -> RegionState:
    """The first state of an account's Region. Not every Region has a fleet.

    None have: Regions outside the spec's, suspended accounts, and accounts that CreateAccount made.
    """
    spec = world.spec
    state = RegionState(account_id, region, seed=spec.seed)
    account = world.accounts[account_id]
    if region not in spec.regions or account.state != "ACTIVE" or not account.access_key_id:
        return state
    rng, state.own_defaults = _begin(spec, account_id, region)
    count = round(spec.instances * rng.uniform(0.5, 1.5) / (1 - EMPTY_SHARE))
    if rng.random() < EMPTY_SHARE or not count:
        return state
    images = _own_images(state, rng, spec.created)
    templates = _templates(state, rng, spec.created, images, world.admin_credentials(account_id).caller.arn)
    kinds = _instances(state, rng, spec.created, images, templates, count)
    state.generated = Generated(
        "eks-node" in kinds, "ecs-host" in kinds, templates["eks-workers"].id, templates["batch"].id
    )
    state.last_generated = max(each.order for each in state.reservations.values())
    _launch_configurations(state, spec.created, images)
    generate_launchers(state, spec.created, templates, old_stack=spec.old_stacks)
    generate_fleets(state, spec.created, images, templates)
    _looked_after(world, state)
    return state


def _looked_after(world: World, state: RegionState) -> None:
    """The groups look after their instances from the first day, though nobody has made a call for them yet."""
    from imdsctl.local.autoscaling.reconcile import reconcile

    assert state.scaling is not None
    state.reconcile = partial(reconcile, world, state.scaling)
    if state.scaled:
        world.self_acting[state.account_id, state.region] = state


def first_defaults(spec: WorldSpec, account_id: str, region: str) -> AccountDefaults:
    """The Region defaults that a generated account's Region begins with, without the rest of it."""
    return _begin(spec, account_id, region)[1] if region in spec.regions else AccountDefaults()


def _begin(spec: WorldSpec, account_id: str, region: str) -> tuple[random.Random, AccountDefaults]:
    rng = random.Random(f"{spec.seed}/{account_id}/{region}")
    return rng, _chosen(rng, _DEFAULTS)


# -- images ----------------------------------------------------------------------------------------------------------

_OWN_IMAGES = (
    # name, age in days, ImdsSupport, size in GiB
    ("golden-old", 1100, None, 20),
    ("golden", 240, "v2.0", 20),
    ("eks-node", 400, None, 40),
    ("appliance", 1500, None, 60),
)


def _own_images(state: RegionState, rng: random.Random, created: datetime) -> dict[str, Image]:
    """The account's images, registered in the Region, and one that instances name but that is no more (`gone`)."""
    images = {}
    for name, age, imds_support, size in _OWN_IMAGES:
        made = created - timedelta(days=age + rng.randrange(60), seconds=rng.randrange(86400))
        image = _image(state, rng, f"{name}-{made:%Y%m%d}", made, imds_support, size)
        device = image.block_devices[0]
        state.images[image.id] = image
        state.snapshots[device.snapshot_id] = Snapshot(
            device.snapshot_id,
            f"vol-{derived('source', image.id)}",
            size,
            made - timedelta(minutes=9),
            f"Created by CreateImage for {image.id}",
        )
        state.tags[image.id] = {"Name": image.name}
        images[f"own:{name}"] = image
    images["gone"] = _image(state, rng, "deregistered", created - timedelta(days=1900), None, 30)
    return images


def _image(
    state: RegionState, rng: random.Random, name: str, made: datetime, imds_support: str | None, size: int
) -> Image:
    return Image(
        id=_id(rng, "ami"),
        name=name,
        owner_id=state.account_id,
        created=made,
        imds_support=imds_support,
        description=None,
        block_devices=(BlockDevice("/dev/xvda", snapshot_id=_id(rng, "snap"), size=size),),
        image_location=f"{state.account_id}/{name}",
    )


# -- launch templates ------------------------------------------------------------------------------------------------

_REQUIRED = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"}
_TEMPLATES: tuple[tuple[str, str, int, tuple[Mapping[str, Any] | None, ...]], ...] = (
    # name, image, default version, MetadataOptions of each version (None: says nothing)
    ("web", "own:golden-old", 1, (None, {"HttpTokens": "optional"}, _REQUIRED)),
    ("api", "al2", 2, ({"HttpTokens": "optional", "HttpEndpoint": "enabled"}, {"HttpTokens": "optional"})),
    ("worker", "own:golden", 1, (None,)),
    ("eks-workers", "own:eks-node", 3, (None, {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}, _REQUIRED)),
    ("ecs-hosts", "al2-ecs", 1, (None, {"HttpTokens": "required"})),
    ("batch", "al2023", 2, ({"HttpTokens": "optional"}, _REQUIRED, {"HttpTokens": "optional"})),
)


def _templates(
    state: RegionState, rng: random.Random, created: datetime, images: Mapping[str, Image], author: str
) -> dict[str, LaunchTemplate]:
    templates = {}
    for name, image_name, default, versions in _TEMPLATES:
        image = _find(images, state.region, image_name)
        first = created - timedelta(days=700 + rng.randrange(300), seconds=rng.randrange(86400))
        made = [first + timedelta(days=130 * index, hours=index) for index in range(len(versions))]
        template = LaunchTemplate(
            id=_id(rng, "lt"),
            name=name,
            created=first,
            created_by=author,
            versions={
                number: LaunchTemplateVersion(
                    number,
                    made[number - 1],
                    author,
                    {"ImageId": image.id, "InstanceType": "m5.large"}
                    | ({} if options is None else {"MetadataOptions": dict(options)}),
                )
                for number, options in enumerate(versions, 1)
            },
            default_version=default,
            latest_version=len(versions),
            last_number=len(versions),
        )
        state.add_template(template)
        templates[name] = template
    return templates


# -- launch configurations -------------------------------------------------------------------------------------------

_CONFIGURATIONS: tuple[tuple[str, str, str, int, Mapping[str, Any] | None], ...] = (
    # name, image, type, age in days, MetadataOptions (None: says nothing)
    ("legacy-app", "windows-2019", "m5.large", 1300, None),
    ("web-blue", "own:golden-old", "t3.medium", 900, {"HttpTokens": "optional", "HttpEndpoint": "enabled"}),
    ("web-green", "own:golden", "t3.medium", 200, {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}),
)


def _launch_configurations(state: RegionState, created: datetime, images: Mapping[str, Image]) -> None:
    """Launch configurations that nobody deleted. They take nothing from the Region's random numbers."""
    state.scaling = ScalingState(state)
    for name, image, kind, age, options in _CONFIGURATIONS:
        place = f"{state.account_id}/{state.region}/{name}"
        unique = UUID(bytes=blake2b(place.encode(), digest_size=16).digest(), version=4)
        state.scaling.configurations[name] = LaunchConfiguration(
            name,
            f"arn:aws:autoscaling:{state.region}:{state.account_id}:launchConfiguration:{unique}:"
            f"launchConfigurationName/{name}",
            created - timedelta(days=age),
            {
                "ImageId": _find(images, state.region, image).id,
                "InstanceType": kind,
                "InstanceMonitoring": {"Enabled": True},
                **({} if options is None else {"MetadataOptions": dict(options)}),
            },
        )


# -- instances -------------------------------------------------------------------------------------------------------


def _instances(
    state: RegionState,
    rng: random.Random,
    created: datetime,
    images: Mapping[str, Image],
    templates: Mapping[str, LaunchTemplate],
    count: int,
) -> set[str]:
    """`count` instances in reservations of one to four that were launched together; gives the kinds there are."""
    left = count
    kinds = set()
    while left:
        kind = rng.choices(KINDS, cum_weights=_WEIGHTS)[0]
        kinds.add(kind.name)
        together = min(left, rng.choice((1, 1, 1, 2, 2, 3, 4)))
        left -= together
        image = _find(images, state.region, kind.image)
        launched = _launch_time(rng, image, created)
        launch = rng.choice(kind.launch)
        tags = {"Name": f"{kind.name}-{rng.randrange(1000):03d}", **kind.tags}
        template = templates.get(kind.template or "")
        from_template = template is not None and launch is _SILENT
        if template is not None and from_template:
            version, launch = _version_of_the_day(template, launched)
            tags["aws:ec2launchtemplate:id"] = template.id
            tags["aws:ec2launchtemplate:version"] = str(version)
        reservation = state.add_reservation(
            _id(rng, "r"),
            [_id(rng, "i") for _ in range(together)],
            image=image,
            instance_type=rng.choice(kind.types),
            options=_resolved(launch, image.imds_support),
            launch_time=launched,
            tags=tags,
        )
        for instance in reservation.instances:
            luck = rng.random()
            if luck < TERMINATED_SHARE:
                _terminated(state, instance, created - timedelta(minutes=rng.randrange(1, 30)))
            elif luck < TERMINATED_SHARE + STOPPED_SHARE and not kind.steady:
                _stopped(instance, launched + (created - launched) * rng.random())
            else:
                instance.state = RUNNING
    return kinds


def _version_of_the_day(template: LaunchTemplate, launched: datetime) -> tuple[int, MetadataOptions]:
    """The newest version that existed when the instance was launched (the first for older instances)."""
    made = [version for version in template.versions.values() if version.created <= launched]
    version = made[-1] if made else template.versions[1]
    return version.number, MetadataOptions.from_aws(version.data.get("MetadataOptions"))


def _launch_time(rng: random.Random, image: Image, created: datetime) -> datetime:
    """Some time in the image's life until now; more launches lately than long ago."""
    age_seconds = max((created - image.created).total_seconds(), 7200)
    back = 1860 + age_seconds * 0.98 * rng.random() * rng.random()
    return created - timedelta(seconds=int(back))


def _terminated(state: RegionState, instance: Instance, when: datetime) -> None:
    when = when.replace(microsecond=0)
    instance.state = TERMINATED
    instance.transition_reason = f"User initiated ({when:%Y-%m-%d %H:%M:%S} GMT)"
    instance.state_reason = (
        "Client.UserInitiatedShutdown",
        "Client.UserInitiatedShutdown: User initiated shutdown",
    )
    state.release(instance)
    state.schedule(when + TERMINATED_VISIBLE, instance.id, "forgotten")


def _stopped(instance: Instance, when: datetime) -> None:
    instance.state = STOPPED
    instance.transition_reason = f"User initiated ({when:%Y-%m-%d %H:%M:%S} GMT)"
    instance.state_reason = (
        "Client.UserInitiatedShutdown",
        "Client.UserInitiatedShutdown: User initiated shutdown",
    )


@lru_cache(maxsize=256)
def _resolved(launch: MetadataOptions, imds_support: str | None) -> MetadataOptions:
    return resolve(launch, AccountDefaults(), image_options(imds_support)).options


def _find(images: Mapping[str, Image], region: str, name: str) -> Image:
    return images[name] if name in images else public_image(region, name)


def _id(rng: random.Random, prefix: str) -> str:
    return f"{prefix}-0{rng.getrandbits(64):016x}"


def _chosen(rng: random.Random, table: Sequence[tuple[float, AccountDefaults]]) -> AccountDefaults:
    luck = rng.random()
    for share, value in table:
        luck -= share
        if luck < 0:
            return value
    return table[0][1]
