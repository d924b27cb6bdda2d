"""Settings of IMDS that other services carry, or decide: one module a service, read in every account and Region."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from imdsctl.domain.observations import ServiceSeen
from imdsctl.fleet.services import appstream, emr, imagebuilder, lightsail
from imdsctl.fleet.services.calls import ServiceCalls


@dataclass(frozen=True, slots=True)
class Reader:
    """`service` is botocore's name; `what` names the part for a person when it could not be read."""

    service: str
    what: str
    read: Callable[[ServiceCalls], Awaitable[list[ServiceSeen]]]


READERS: Mapping[str, Reader] = {
    "appstream": Reader("appstream", "AppStream fleets and builders", appstream.read),
    "emr": Reader("emr", "EMR security configurations", emr.read),
    "imagebuilder": Reader("imagebuilder", "Image Builder infrastructure configurations", imagebuilder.read),
    "lightsail": Reader("lightsail", "Lightsail instances", lightsail.read),
}
"""By name, alphabetically."""
