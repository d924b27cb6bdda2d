"""What the calls of the services need that run instances for their users: ECS, EKS, Elastic Beanstalk, SageMaker.

Source: Service Authorization Reference, the page of each service.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.authorization.iam import pass_role
from imdsctl.local.authorization.needs import EVERYTHING, Named, Need, resource_tags
from imdsctl.local.beanstalk.read import beanstalk as beanstalk_state
from imdsctl.local.call import Call
from imdsctl.local.ecs.read import find_cluster
from imdsctl.local.eks.read import eks as eks_state
from imdsctl.local.sagemaker.read import sagemaker as sagemaker_state
from imdsctl.local.sagemaker.state import IMDS, MINIMUM, notebook_arn
from imdsctl.policy.request import ResourceContext, context_keys


def ecs(call: Call) -> Named:
    """Clusters; a container instance in the cluster that the condition key `ecs:cluster` names."""
    prefix = f"arn:aws:ecs:{call.region}:{call.account_id}"
    if call.action == "ListClusters":
        return EVERYTHING, {}
    if call.action == "DescribeClusters":
        return tuple(_cluster(call, each) for each in call.params.get("clusters") or ["default"]), {}
    cluster = _cluster(call, call.params.get("cluster") or call.params.get("clusterName"))
    if call.action != "DescribeContainerInstances":
        return (cluster,), {}
    keys = {"ecs:cluster": str(cluster.arn)}
    name = str(cluster.arn).rpartition("/")[2]
    named = [str(each).rpartition("/")[2] for each in call.params.get("containerInstances") or ()]
    return tuple(
        ResourceContext(f"{prefix}:container-instance/{name}/{each}", keys) for each in named
    ) or EVERYTHING, {}


def _cluster(call: Call, named: str | None) -> ResourceContext:
    found = find_cluster(call, named)
    if found is not None:
        return ResourceContext(found.arn, resource_tags(found.tags, "ecs"))
    name = (named or "default").rpartition("/")[2]
    return ResourceContext(f"arn:aws:ecs:{call.region}:{call.account_id}:cluster/{name}")


def eks(call: Call) -> Named:
    """The cluster, or its node group."""
    prefix = f"arn:aws:eks:{call.region}:{call.account_id}"
    name = call.params.get("clusterName") or call.params.get("name")
    if not name:
        return EVERYTHING, {}
    cluster = eks_state(call).clusters.get(name)
    if call.action not in ("DescribeNodegroup", "UpdateNodegroupVersion", "DeleteNodegroup"):
        tags = cluster.tags if cluster is not None else None
        return (ResourceContext(f"{prefix}:cluster/{name}", resource_tags(tags, "eks")),), {}
    wanted = str(call.params.get("nodegroupName") or "*")
    nodegroup = cluster.nodegroups.get(wanted) if cluster is not None else None
    if nodegroup is None:
        return (ResourceContext(f"{prefix}:nodegroup/{name}/{wanted}/*"),), {}
    return (ResourceContext(nodegroup.arn, resource_tags(nodegroup.tags, "eks")),), {}


def elasticbeanstalk(call: Call) -> Named:
    """The environments or applications that are named, environments with their application."""
    params, state = call.params, beanstalk_state(call)
    prefix = f"arn:aws:elasticbeanstalk:{call.region}:{call.account_id}"
    if call.action == "DescribeApplications":
        names = params.get("ApplicationNames") or ()
        return tuple(ResourceContext(f"{prefix}:application/{each}") for each in names) or EVERYTHING, {}
    named = {params.get("EnvironmentName"), params.get("EnvironmentId")}
    named.update(params.get("EnvironmentNames") or ())
    named.update(params.get("EnvironmentIds") or ())
    found = []
    for each in sorted(name for name in named if name):
        environment = state.find(call.now, each)
        application = environment.application if environment is not None else params.get("ApplicationName") or "*"
        keys = {"elasticbeanstalk:inapplication": f"{prefix}:application/{application}"}
        arn = environment.arn if environment is not None else f"{prefix}:environment/{application}/{each}"
        found.append(ResourceContext(arn, keys))
    return tuple(found) or EVERYTHING, {}


def sagemaker(call: Call) -> Named:
    """The notebook instance, with what the request says of it."""
    params = call.params
    name = params.get("NotebookInstanceName")
    if not name:
        return EVERYTHING, {}
    values: dict[str, Any] = {
        "sagemaker:MinimumInstanceMetadataServiceVersion": (params.get(IMDS) or {}).get(MINIMUM),
        "sagemaker:InstanceTypes": params.get("InstanceType"),
        "sagemaker:DirectInternetAccess": params.get("DirectInternetAccess"),
        "sagemaker:RootAccess": params.get("RootAccess"),
        "sagemaker:VpcSubnets": params.get("SubnetId"),
    }
    notebook = sagemaker_state(call).notebooks.get(name)
    tags = resource_tags(notebook.tags if notebook is not None else None, "sagemaker")
    return (ResourceContext(notebook_arn(call.region, call.account_id, name), tags),), context_keys(values)


_PASSED = {
    "eks": (("roleArn", "eks.amazonaws.com"), ("nodeRole", "ec2.amazonaws.com")),
    "sagemaker": (("RoleArn", "sagemaker.amazonaws.com"),),
}
"""The parameters that hand a role to a service."""


def passed_roles(call: Call) -> list[Need]:
    """iam:PassRole of the roles that a request hands over: a cluster's, its nodes', a notebook instance's."""
    named = [(str(call.params.get(name) or ""), to) for name, to in _PASSED.get(call.service, ())]
    return [pass_role(call, arn.rpartition("/")[2], to) for arn, to in named if arn]
