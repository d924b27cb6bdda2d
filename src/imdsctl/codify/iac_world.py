"""What surrounds the code: the Region default, images and launch templates that are there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imdsctl.domain.intent import Intent
from imdsctl.domain.intent_match import Home
from imdsctl.domain.observations import ImageSeen, RegionSeen, TemplateVersionSeen
from imdsctl.domain.options import AccountDefaults, HttpTokens, Switch

ANY_DEFAULTS = tuple(AccountDefaults(http_tokens=each) for each in (None, *HttpTokens))
"""All that a Region default can say about tokens, for one that was not read."""


@dataclass(frozen=True, slots=True)
class World:
    """`defaults` are the Region defaults that are possible, one when it is known. `container_floor` is the hop limit
    that containers need; None: do not judge it."""

    defaults: tuple[AccountDefaults, ...] = (AccountDefaults(),)
    images: Mapping[str, ImageSeen] = field(default_factory=dict)
    templates: Mapping[tuple[str, str], TemplateVersionSeen] = field(default_factory=dict)
    """By id or name, and version: a number, `$Default` or `$Latest`."""
    container_floor: int | None = 2
    source: str = "the intent"
    """Where the Region default was taken from, for the reasons."""
    seen: bool = False
    """It was seen in an account, not wished for."""


def of_intent(intent: Intent) -> World:
    """The Region default as the intent wants it to be."""
    wanted = intent.region_defaults
    hop = wanted.hop_limit_exactly or wanted.hop_limit_at_least
    defaults = AccountDefaults(
        wanted.options.http_tokens,
        hop,
        wanted.options.http_endpoint,
        http_tokens_enforced=Switch.ENABLED if intent.enforce else None,
    )
    return World((defaults,), container_floor=intent.container_hop_limit_at_least)


def of_scan(region: RegionSeen, intent: Intent) -> World:
    """The Region as a scan saw it. A default that was not read may be anything."""
    here = intent.at(Home(region.target.account_id, region.target.region)) if intent.scopes else intent
    templates: dict[tuple[str, str], TemplateVersionSeen] = {}
    for each in region.templates:
        versions = [str(each.version), *(["$Default"] if each.is_default else [])]
        versions += ["$Latest"] if each.is_latest else []
        names = (each.template_id, each.template_name)
        templates |= {(name, version): each for name in names for version in versions}
    return World(
        ANY_DEFAULTS if region.defaults is None else (region.defaults,),
        {each.image_id: each for each in region.images},
        templates,
        here.container_hop_limit_at_least,
        f"the scan of {region.target}",
        seen=True,
    )
