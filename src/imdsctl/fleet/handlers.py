"""Which handler writes which surface."""

from __future__ import annotations

from collections.abc import Mapping

from imdsctl.domain.plan import Surface
from imdsctl.fleet.refreshes import Groups
from imdsctl.fleet.surfaces import Handler, Images, Instances, LaunchTemplates, RegionDefaults

HANDLERS: Mapping[Surface, Handler] = {
    Surface.REGION_DEFAULT: RegionDefaults(),
    Surface.INSTANCE: Instances(),
    Surface.LAUNCH_TEMPLATE: LaunchTemplates(),
    Surface.IMAGE: Images(),
    Surface.AUTO_SCALING_GROUP: Groups(),
}
