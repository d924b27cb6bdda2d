"""Amazon EMR: security configurations, and the clusters whose instances were launched with them.

Source: EMR Management Guide, "Configure the instance metadata service": `InstanceMetadataServiceConfiguration` in a
security configuration's JSON text has MinimumInstanceMetadataServiceVersion (1: IMDSv1 and IMDSv2; 2: IMDSv2 only) and
HttpPutResponseHopLimit (1 to 64, 1 when it is left out). A security configuration that says nothing of it, and a
cluster without one, do not decide: what EC2 makes of it is the instances' own.
"""

from __future__ import annotations

import json
from typing import Any

from imdsctl.domain.observations import SAYS_NOTHING, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, InvalidOption, MetadataOptions
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.wire.errors import ServiceError

ACTIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
"""States of clusters that have instances, or will."""
HOP_LIMIT_DEFAULT = 1

_PLACE = "InstanceMetadataServiceConfiguration"
_TOKENS = {1: HttpTokens.OPTIONAL, 2: HttpTokens.REQUIRED}


async def read(reader: ServiceCalls) -> list[ServiceSeen]:
    """The security configurations, each in use when an active cluster names it, and active clusters without one.

    One call a page of lists, one for each security configuration and each active cluster.
    Raises ServiceError and Unreachable.
    """
    names = [
        each["Name"]
        async for page in reader.pages(
            "ListSecurityConfigurations", None, {"SecurityConfigurations": {"Name": None}}, token="Marker"
        )
        for each in page.get("SecurityConfigurations") or ()
    ]
    clusters = [
        each["Id"]
        async for page in reader.pages(
            "ListClusters", {"ClusterStates": list(ACTIVE)}, {"Clusters": {"Id": None}}, token="Marker"
        )
        for each in page.get("Clusters") or ()
    ]
    wanted = {"Cluster": {"Id": None, "Name": None, "SecurityConfiguration": None}}
    described = [
        (await reader.call("DescribeCluster", {"ClusterId": each}, wanted)).get("Cluster") or {} for each in clusters
    ]
    users: dict[str, list[str]] = {}
    for each in described:
        users.setdefault(each.get("SecurityConfiguration") or "", []).append(each.get("Id") or "")
    seen = []
    for name in names:
        try:
            text = (await reader.call("DescribeSecurityConfiguration", {"Name": name})).get(
                "SecurityConfiguration"
            ) or ""
        except ServiceError as error:
            if not (error.code == "InvalidRequestException" and "does not exist" in error.message):
                raise
            continue  # it was deleted since the list
        options, reason = options_of(text)
        seen.append(
            ServiceSeen(
                kind=ServiceKind.EMR_SECURITY_CONFIGURATION,
                resource=name,
                name=name,
                options=options,
                reason=reason,
                parent=", ".join(users.get(name, ())),
                in_use=name in users,
            )
        )
    for each in described:
        if not each.get("SecurityConfiguration"):
            seen.append(_without(each))
    return seen


def options_of(text: str) -> tuple[MetadataOptions, str]:
    """What a security configuration's text says of the metadata service, and why it says nothing if it does not."""
    try:
        content = json.loads(text)
        asked: Any = content.get(_PLACE) if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        return SAYS_NOTHING, "its text is not JSON"
    if asked is None:
        return SAYS_NOTHING, f"it has no {_PLACE}: the Region default and the image decide at each launch"
    if not isinstance(asked, dict):
        return SAYS_NOTHING, f"its {_PLACE} is not an object"
    version = asked.get("MinimumInstanceMetadataServiceVersion")
    try:
        hops = MetadataOptions.from_aws(
            {"HttpPutResponseHopLimit": asked.get("HttpPutResponseHopLimit", HOP_LIMIT_DEFAULT)}
        )
    except InvalidOption as error:
        return SAYS_NOTHING, str(error)
    tokens = _TOKENS.get(version) if type(version) is int else None
    if tokens is None:
        return hops, "its MinimumInstanceMetadataServiceVersion is neither 1 nor 2"
    return MetadataOptions(tokens, hops.http_put_response_hop_limit), ""


def _without(cluster: dict[str, Any]) -> ServiceSeen:
    return ServiceSeen(
        kind=ServiceKind.EMR_SECURITY_CONFIGURATION,
        resource=cluster.get("Id") or "",
        name=cluster.get("Name") or "",
        reason="the cluster has no security configuration: the Region default and the image decide at each launch",
        parent=cluster.get("Id") or "",
    )
