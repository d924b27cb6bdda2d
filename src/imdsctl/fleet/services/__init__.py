"""Settings of IMDS that other services carry, or decide: one module a service, read in every account and Region."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from imdsctl.domain.observations import ServiceSeen
from imdsctl.fleet.services import appstream, beanstalk, ecs, eks, emr, imagebuilder, lightsail, sagemaker
from imdsctl.fleet.services.calls import ServiceCalls

Serves = Callable[[str, str], bool]
"""Does this service (botocore's name) exist in this Region?"""


def everywhere(service: str, region: str) -> bool:
    """When nobody knows better: every service exists in every Region."""
    return True


@dataclass(frozen=True, slots=True)
class Reader:
    """`service` is botocore's name; `what` names the part for a person when it could not be read.

    `regions` are where the service is; None means everywhere. Elsewhere it has no endpoint, and nothing to read.
    """

    service: str
    what: str
    read: Callable[[ServiceCalls], Awaitable[list[ServiceSeen]]]
    regions: frozenset[str] | None = None


READERS: Mapping[str, Reader] = {
    "appstream": Reader("appstream", "AppStream fleets and builders", appstream.read),
    "beanstalk": Reader("elasticbeanstalk", "Elastic Beanstalk environments", beanstalk.read, beanstalk.REGIONS),
    "ecs": Reader("ecs", "ECS container instances", ecs.read),
    "eks": Reader("eks", "EKS node groups", eks.read),
    "emr": Reader("emr", "EMR security configurations", emr.read),
    "imagebuilder": Reader("imagebuilder", "Image Builder infrastructure configurations", imagebuilder.read),
    "lightsail": Reader("lightsail", "Lightsail instances", lightsail.read),
    "sagemaker": Reader("sagemaker", "SageMaker notebook instances", sagemaker.read),
}
"""By name, alphabetically."""
