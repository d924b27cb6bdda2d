"""EKS's refusals: the error says which cluster and node group it is about.

Source: EKS API Reference, each action's "Errors".
"""

from __future__ import annotations

from imdsctl.local.call import AwsError


def invalid(message: str, *, cluster: str = "", nodegroup: str = "") -> AwsError:
    """A parameter that is not valid."""
    return _refused("InvalidParameterException", message, 400, cluster, nodegroup)


def no_cluster(name: str) -> AwsError:
    """A cluster that does not exist."""
    return _refused("ResourceNotFoundException", f"No cluster found for name: {name}.", 404, name, "")


def no_nodegroup(cluster: str, name: str) -> AwsError:
    """A node group that does not exist."""
    return _refused("ResourceNotFoundException", f"No node group found for name: {name}.", 404, cluster, name)


def no_update(cluster: str, update: str) -> AwsError:
    """An update that does not exist."""
    return _refused("ResourceNotFoundException", f"No update found for ID: {update}", 404, cluster, "")


def in_use(message: str, *, cluster: str, nodegroup: str = "") -> AwsError:
    """Something of that name that is there already, or that something else still needs."""
    return _refused("ResourceInUseException", message, 409, cluster, nodegroup)


def invalid_request(message: str, *, cluster: str, nodegroup: str = "") -> AwsError:
    """A request that its resource cannot take in its present state, or that another service refuses."""
    return _refused("InvalidRequestException", message, 400, cluster, nodegroup)


def _refused(code: str, message: str, status: int, cluster: str, nodegroup: str) -> AwsError:
    named = {"clusterName": cluster, "nodegroupName": nodegroup}
    return AwsError(code, message, status, detail={name: value for name, value in named.items() if value})
