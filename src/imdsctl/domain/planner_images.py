"""Images: marked on demand only, because AWS has no way back."""

from __future__ import annotations

from dataclasses import replace

from imdsctl.domain.intent import Images
from imdsctl.domain.observations import ImageSeen
from imdsctl.domain.plan import Change, Stage, Surface, change_id
from imdsctl.domain.planner_here import Here, some
from imdsctl.domain.planner_launches import State

V2 = "v2.0"


def plan_images(here: Here) -> frozenset[str]:
    """Plan the account's own images. Gives the ids of those that the plan marks."""
    marked = set()
    for image in here.region.images:
        names = (image.image_id, image.name)
        right = not image.owned or not image.found or image.imds_support == V2
        if right or image.image_id in here.whole.exclude_resources or here.wanted(names).images is not Images.V2:
            continue
        if here.admit(_change(here, image, here.wave(names)), here.exemption(names)):
            marked.add(image.image_id)
    return frozenset(marked)


def _change(here: Here, image: ImageSeen, wave: int) -> Change:
    launched = [each for each in here.region.instances if each.image_id == image.image_id]
    templates = sorted({each.template_id for each in here.region.templates if each.image_id == image.image_id})
    fleets = [f.fleet_id for f in here.region.fleets if any(s.image_id == image.image_id for s in f.sources)]
    radius = [f"launch template {each}" for each in templates] + [f"fleet {each}" for each in sorted(fleets)]
    if launched:
        radius.append(f"{len(launched)} running or stopped {'instance' if len(launched) == 1 else 'instances'}")
    held = ""
    today = State(here.defaults)
    if losing := here.exempt_and_losing(today, replace(today, images=frozenset({image.image_id}))):
        held = (
            f"{some(losing)} is exempt and launches from it, so that this would take IMDSv1 from its next launch, for "
            "good: let it say HttpTokens itself, or launch another image, then plan again"
        )
    return Change(
        id=change_id(here.region.target, Surface.IMAGE, image.image_id),
        stage=Stage.IMAGES,
        surface=Surface.IMAGE,
        target=here.region.target,
        resource=image.image_id,
        before={"ImdsSupport": image.imds_support},
        after={"ImdsSupport": V2},
        reason="the image does not say ImdsSupport=v2.0",
        risk="it cannot be undone: only a new image from the snapshot comes without it",
        held=held or here.unassigned(wave),
        name=image.name,
        wave=here.wave_name(wave),
        evidence=here.use_of(launched),
        blast_radius=tuple(radius),
        gate=here.gate(wave),
    )
