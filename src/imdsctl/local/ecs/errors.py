"""ECS's refusals (ECS API Reference, "Common Errors" of each action); all of them are HTTP 400."""

from __future__ import annotations

from imdsctl.local.call import AwsError


def invalid(message: str) -> AwsError:
    """A parameter that is not valid."""
    return AwsError("InvalidParameterException", message, 400)


def no_cluster() -> AwsError:
    """A cluster that does not exist. AWS does not repeat its name."""
    return AwsError("ClusterNotFoundException", "Cluster not found.", 400)
