"""How many calls AWS takes: its token buckets in one table, for the client that keeps within them and the local AWS.

A bucket belongs to one account, one Region and one API. It holds `capacity` calls and gains `refill_per_second`.

Sources: EC2 Developer Guide, "Request throttling for the Amazon EC2 API" (bucket sizes and refill rates of request rate
limiting, and of resource rate limiting for the calls that take many instances); AWS Organizations User Guide, "Quotas
and service limits" (throttle limits); Account Management Reference Guide, "Quotas"; CloudWatch User Guide, "CloudWatch
service quotas"; CloudTrail API Reference, LookupEvents. AWS raises some of them for an account that asks: that only
makes the table careful.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket: how many calls (or instances) at once, and how many more each second."""

    capacity: float
    refill_per_second: float


EC2_READ = Limit(100, 20)
EC2_READ_UNFILTERED = Limit(50, 10)
"""A Describe call of those below that is neither filtered nor paginated nor given ids."""
EC2_WRITE = Limit(50, 5)
EC2_UNFILTERED = frozenset(
    {
        "DescribeInstances",
        "DescribeInstanceStatus",
        "DescribeNetworkInterfaces",
        "DescribeSecurityGroups",
        "DescribeSnapshots",
        "DescribeSpotInstanceRequests",
        "DescribeVolumes",
    }
)
_NARROWING = frozenset({"Filters", "MaxResults", "NextToken"})
_READS = ("Describe", "Get", "List", "Search")

CALLS: Mapping[str, Mapping[str, Limit]] = MappingProxyType(
    {
        "ec2": {
            "CreateLaunchTemplateVersion": Limit(100, 5),
            "DescribeDeclarativePoliciesReports": Limit(5, 5),
            "DisableImageBlockPublicAccess": Limit(1, 0.1),
            "EnableImageBlockPublicAccess": Limit(1, 0.1),
            "ModifyImageAttribute": Limit(100, 5),
            "ModifyInstanceMetadataDefaults": Limit(2, 2),
            "ModifyInstanceMetadataOptions": Limit(100, 5),
            "ModifyLaunchTemplate": Limit(100, 5),
            "RunInstances": Limit(5, 2),
            "StartDeclarativePoliciesReport": Limit(1, 1),
            "StartInstances": Limit(5, 2),
        },
        "organizations": {
            "AttachPolicy": Limit(3, 2),
            "DescribeAccount": Limit(30, 20),
            "DescribePolicy": Limit(2, 2),
            "ListAccounts": Limit(12, 8),
            "ListAccountsForParent": Limit(8, 5),
            "ListChildren": Limit(10, 6),
            "ListPolicies": Limit(8, 5),
        },
        "account": {"ListRegions": Limit(5, 5)},
        "cloudtrail": {"LookupEvents": Limit(2, 2)},
        "cloudwatch": {"GetMetricData": Limit(500, 500)},
    }
)
"""Buckets of single APIs, by botocore's name of the service. A service or an API that is not here has no bucket that
AWS publishes: its calls are sent as they come."""

INSTANCES: Mapping[str, Limit] = MappingProxyType(
    {
        "RunInstances": Limit(1000, 2),
        "StartInstances": Limit(1000, 2),
        "StopInstances": Limit(1000, 20),
        "TerminateInstances": Limit(1000, 20),
    }
)
"""Buckets of EC2 that count instances, beside the one that counts calls."""


def limit_of(service: str, operation: str, params: Mapping[str, Any]) -> Limit | None:
    """The bucket that a call is taken from; None when AWS publishes none. `service` is botocore's name."""
    limit = CALLS.get(service, {}).get(operation)
    if limit is not None or service != "ec2":
        return limit
    if not operation.startswith(_READS):
        return EC2_WRITE
    return EC2_READ_UNFILTERED if operation in EC2_UNFILTERED and not narrowed(params) else EC2_READ


def narrowed(params: Mapping[str, Any]) -> bool:
    """Whether a Describe call is filtered, paginated or given ids."""
    return any(params.get(name) for name in params if name in _NARROWING or name.endswith("Ids"))


def instances_of(operation: str, params: Mapping[str, Any]) -> int:
    """How many instances a call takes out of the bucket that counts them; 0 when it takes none."""
    if operation not in INSTANCES:
        return 0
    asked = params.get("MaxCount")
    return asked if isinstance(asked, int) else len(params.get("InstanceIds") or ())
