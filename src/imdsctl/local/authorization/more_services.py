"""What the calls of EMR, Image Builder, Lightsail, AppStream and SQS name, and the condition keys they bring.

Source: Service Authorization Reference, the page of each service. EMR's security configurations and Lightsail's reads
have no resource type: they are asked on `*`.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.authorization.needs import EVERYTHING, Named, resource_tags
from imdsctl.local.call import Call
from imdsctl.local.imagebuilder import state as imagebuilder_state
from imdsctl.local.lightsail import state as lightsail_state
from imdsctl.local.sqs.common import arn_of, name_in_url
from imdsctl.policy.request import ResourceContext, context_keys


def appstream(call: Call) -> Named:
    """The fleets and builders that the call names."""
    kinds = {"DescribeImageBuilders": "image-builder", "DescribeAppBlockBuilders": "app-block-builder"}
    prefix = f"arn:aws:appstream:{call.region}:{call.account_id}:{kinds.get(call.action, 'fleet')}"
    names = call.params.get("Names") or [call.params.get("Name") or "*"]
    return tuple(ResourceContext(f"{prefix}/{name}") for name in names), {}


def elasticmapreduce(call: Call) -> Named:
    """The cluster that the call names."""
    if call.action != "DescribeCluster":
        return EVERYTHING, {}
    arn = f"arn:aws:elasticmapreduce:{call.region}:{call.account_id}:cluster/{call.params.get('ClusterId') or '*'}"
    return (ResourceContext(arn),), {}


def imagebuilder(call: Call) -> Named:
    """The infrastructure configuration, and whether the request asks for tokens."""
    params = call.params
    options = params.get("instanceMetadataOptions") or {}
    tags = {str(key): str(value) for key, value in (params.get("tags") or {}).items()}
    keys: dict[str, Any] = dict(context_keys({"imagebuilder:Ec2MetadataHttpTokens": options.get("httpTokens")}))
    keys.update({f"aws:requesttag/{key.lower()}": value for key, value in tags.items()})
    if tags:
        keys["aws:tagkeys"] = tuple(tags)
    if call.action == "ListInfrastructureConfigurations":
        return EVERYTHING, keys
    arn = str(params.get("infrastructureConfigurationArn") or "")
    if not arn:
        arn = imagebuilder_state.arn_of(call.account_id, call.region, str(params.get("name") or "*"))
    there = call.world.service_state(imagebuilder_state.first_state, call.account_id, call.region).configurations.get(
        arn
    )
    return (ResourceContext(arn, resource_tags(there.tags if there is not None else None, "imagebuilder")),), keys


def lightsail(call: Call) -> Named:
    """The instance."""
    if call.action == "GetInstances":
        return EVERYTHING, {}
    there = call.world.service_state(lightsail_state.first_state, call.account_id, call.region).instances
    found = there.get(str(call.params.get("instanceName") or ""))
    missing = f"arn:aws:lightsail:{call.region}:{call.account_id}:Instance/*"
    return (ResourceContext(missing if found is None else found.arn),), {}


def sqs(call: Call) -> Named:
    """The queue."""
    if call.action == "ListQueues":
        return (ResourceContext(arn_of(call, "*")),), {}
    name = str(call.params.get("QueueName") or "") or name_in_url(str(call.params.get("QueueUrl") or ""))[1]
    return (ResourceContext(arn_of(call, name or "*")),), {}
