"""Every operation of EMR that is here.

Source: EMR API Reference; EMR Management Guide, "Create a security configuration". A security configuration cannot be
changed: whoever wants another makes another, and starts the cluster anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN
from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.constraints import check_members, check_required, check_text
from imdsctl.local.emr.state import ACTIVE, STATES, Cluster, EmrState, SecurityConfiguration, first_state
from imdsctl.local.pages import InvalidToken, page

PAGE = 50
"""EMR API Reference, ListSecurityConfigurations and ListClusters: up to 50 in a response."""
NAME_LENGTH_MAX = 10280

T = TypeVar("T")


def list_security_configurations(call: Call) -> Mapping[str, Any]:
    """The security configurations by name and time of creation, in the order of their names."""
    chosen = [each for _, each in sorted(_state(call).configurations.items())]
    shown, marker = _paged(call, chosen, "")
    listed = [{"Name": each.name, "CreationDateTime": each.created} for each in shown]
    return {"SecurityConfigurations": listed, **marker}


def describe_security_configuration(call: Call) -> Mapping[str, Any]:
    """A security configuration with its JSON text."""
    found = _configuration(call)
    return {"Name": found.name, "SecurityConfiguration": found.text, "CreationDateTime": found.created}


def create_security_configuration(call: Call) -> Mapping[str, Any]:
    """Keep a JSON text under a name; what it says of the metadata service must be right.

    Raises InvalidRequestException.
    """
    name, text = call.params.get("Name"), call.params.get("SecurityConfiguration")
    check_required(name, "name", _invalid)
    check_required(text, "securityConfiguration", _invalid)
    name, text = str(name), str(text)
    check_text(name, "name", _invalid, length_min=1, length_max=NAME_LENGTH_MAX)
    configurations = _state(call).configurations
    if name in configurations:
        raise _invalid(f"Security configuration with name '{name}' already exists.")
    _check_content(text)
    configurations[name] = SecurityConfiguration(name, text, call.now)
    return {"Name": name, "CreationDateTime": call.now}


def delete_security_configuration(call: Call) -> Mapping[str, Any]:
    """Forget a security configuration that no active cluster uses. Raises InvalidRequestException."""
    found, state = _configuration(call), _state(call)
    used = [each.id for each in state.clusters if each.state in ACTIVE and each.security_configuration == found.name]
    if used:
        raise _invalid(f"Security configuration '{found.name}' is in use by cluster {used[0]}.")
    del state.configurations[found.name]
    return {}


def list_clusters(call: Call) -> Mapping[str, Any]:
    """The clusters, newest first; `ClusterStates`, `CreatedAfter` and `CreatedBefore` select."""
    params = call.params
    states = params.get("ClusterStates")
    check_members(states or (), "clusterStates", _invalid, STATES)
    after, before = _aware(params.get("CreatedAfter")), _aware(params.get("CreatedBefore"))
    chosen = [
        each
        for each in _state(call).clusters
        if (not states or each.state in states)
        and (after is None or each.created > after)
        and (before is None or each.created < before)
    ]
    shown, marker = _paged(call, chosen, f"{states}/{after}/{before}")
    return {"Clusters": [_summary(call, each) for each in shown], **marker}


def describe_cluster(call: Call) -> Mapping[str, Any]:
    """A cluster, with the security configuration that its instances were launched with."""
    found = _cluster(call)
    described = {
        **_summary(call, found),
        "Ec2InstanceAttributes": {"IamInstanceProfile": found.instance_profile},
        "InstanceCollectionType": "INSTANCE_GROUP",
        "ReleaseLabel": found.release,
        "AutoTerminate": False,
        "TerminationProtected": False,
        "VisibleToAllUsers": True,
        "ServiceRole": "EMR_DefaultRole",
        "Applications": [{"Name": "Spark"}],
        "Tags": [],
    }
    if found.security_configuration is not None:
        described["SecurityConfiguration"] = found.security_configuration
    return {"Cluster": described}


def list_instance_groups(call: Call) -> Mapping[str, Any]:
    """One primary instance and two core instances, of every cluster: the AWS CLI asks when it describes one."""
    found = _cluster(call)
    running = found.state in ACTIVE
    groups = [
        {
            "Id": f"ig-{kind.lower()}-{found.id}",
            "Name": kind.title(),
            "Market": "ON_DEMAND",
            "InstanceGroupType": kind,
            "InstanceType": "m5.xlarge",
            "RequestedInstanceCount": count,
            "RunningInstanceCount": count if running else 0,
            "Status": {"State": "RUNNING" if running else "TERMINATED", "StateChangeReason": {}, "Timeline": {}},
        }
        for kind, count in (("MASTER", 1), ("CORE", 2))
    ]
    return {"InstanceGroups": groups}


def list_bootstrap_actions(call: Call) -> Mapping[str, Any]:
    """Always none: a cluster here is started without any."""
    _cluster(call)
    return {"BootstrapActions": []}


def _state(call: Call) -> EmrState:
    return call.world.service_state(first_state, call.account_id, call.region)


def _cluster(call: Call) -> Cluster:
    wanted = call.params.get("ClusterId")
    check_required(wanted, "clusterId", _invalid)
    found = next((each for each in _state(call).clusters if each.id == wanted), None)
    if found is None:
        raise _invalid(f"Cluster id '{wanted}' is not valid.")
    return found


def _configuration(call: Call) -> SecurityConfiguration:
    name = call.params.get("Name")
    check_required(name, "name", _invalid)
    found = _state(call).configurations.get(str(name))
    if found is None:
        raise _invalid(f"Security configuration with name '{name}' does not exist.")
    return found


def _check_content(text: str) -> None:
    """The text is a JSON object, and its `InstanceMetadataServiceConfiguration` (if it has one) is a possible one."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid("The security configuration is not a valid JSON document.") from None
    if not isinstance(content, dict):
        raise _invalid("The security configuration must be a JSON object.")
    place = "InstanceMetadataServiceConfiguration"
    if place not in content:
        return
    asked = content[place]
    version = asked.get("MinimumInstanceMetadataServiceVersion") if isinstance(asked, dict) else None
    if type(version) is not int or version not in (1, 2):
        raise _invalid(f"MinimumInstanceMetadataServiceVersion in {place} must be 1 or 2.")
    hops = asked.get("HttpPutResponseHopLimit", HOP_LIMIT_MIN)
    if type(hops) is not int or not HOP_LIMIT_MIN <= hops <= HOP_LIMIT_MAX:
        raise _invalid(
            f"HttpPutResponseHopLimit in {place} must be an integer between {HOP_LIMIT_MIN} and {HOP_LIMIT_MAX}."
        )


def _summary(call: Call, cluster: Cluster) -> dict[str, Any]:
    timeline = {"CreationDateTime": cluster.created}
    status: dict[str, Any] = {"State": cluster.state, "StateChangeReason": {}, "Timeline": timeline}
    if cluster.state not in ACTIVE:
        status["StateChangeReason"] = {"Code": "USER_REQUEST", "Message": "Terminated by user request"}
    return {
        "Id": cluster.id,
        "Name": cluster.name,
        "Status": status,
        "NormalizedInstanceHours": 0,
        "ClusterArn": f"arn:aws:elasticmapreduce:{call.region}:{call.account_id}:cluster/{cluster.id}",
    }


def _paged(call: Call, items: Sequence[T], of: str) -> tuple[Sequence[T], dict[str, str]]:
    try:
        place = f"{call.action}/{call.account_id}/{call.region}/{of}"
        shown, marker = page(items, call.params.get("Marker") or None, PAGE, of=place)
    except InvalidToken:
        raise _invalid("The marker is not valid.") from None
    return shown, {} if marker is None else {"Marker": marker}


def _aware(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)


def _invalid(message: str) -> AwsError:
    """EMR has one code for whatever is wrong with a request."""
    return AwsError("InvalidRequestException", message, 400)


OPERATIONS: Operations = {
    "ListSecurityConfigurations": Operation(list_security_configurations),
    "DescribeSecurityConfiguration": Operation(describe_security_configuration),
    "CreateSecurityConfiguration": Operation(create_security_configuration, writes=True),
    "DeleteSecurityConfiguration": Operation(delete_security_configuration, writes=True),
    "ListClusters": Operation(list_clusters),
    "DescribeCluster": Operation(describe_cluster),
    "ListInstanceGroups": Operation(list_instance_groups),
    "ListBootstrapActions": Operation(list_bootstrap_actions),
}
