"""A world from its spec: the organization now, each Region when it is touched."""

from __future__ import annotations

from imdsctl.local.organization_generator import make_organization
from imdsctl.local.region_generator import first_defaults, generate_region
from imdsctl.local.spec import WorldSpec
from imdsctl.local.world import World


def make_world(spec: WorldSpec) -> World:
    """The world of a spec before any write. The same on every machine."""
    organization, accounts = make_organization(spec)
    return World(spec, organization, accounts, generate_region, first_defaults)
