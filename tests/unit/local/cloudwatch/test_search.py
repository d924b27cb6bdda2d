"""Which metrics a search expression finds."""

from __future__ import annotations

import pytest

from imdsctl.local.cloudwatch.search import SearchError, compile_search
from imdsctl.local.cloudwatch.state import MetricKey

ACCOUNT = "111122223333"
METRICS = {
    "used": MetricKey("AWS/EC2", "MetadataNoToken", (("InstanceId", "i-1"),)),
    "rejected": MetricKey("AWS/EC2", "MetadataNoTokenRejected", (("InstanceId", "i-2"),)),
    "group": MetricKey("AWS/EC2", "MetadataNoToken", (("AutoScalingGroupName", "web"),)),
    "both": MetricKey("AWS/EC2", "CPUUtilization", (("ImageId", "ami-1"), ("InstanceId", "i-1"))),
    "own": MetricKey("My App", "QueueDepth"),
}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('{AWS/EC2,InstanceId} MetricName="MetadataNoToken"', "used"),
        ("{AWS/EC2,InstanceId}", "used rejected"),
        ("{AWS/EC2, InstanceId, ImageId}", "both"),
        ('{"My App"}', "own"),
        ('{AWS/EC2,InstanceId} MetricName=("MetadataNoToken" OR "MetadataNoTokenRejected")', "used rejected"),
        ('MetricName="MetadataNoToken" NOT AutoScalingGroupName="web"', "used"),
        ("MetricName=metadatanotoken", "used group"),
        ("metadata token", "used rejected group"),
        ("Metadata AND NOT Rejected", "used group"),
        ('"i-1"', "used both"),
        ('InstanceId=("i-1" OR "i-2") AND (CPU OR Rejected)', "rejected both"),
        ("queue", "own"),
        ("queue OR Namespace=EC2 cpu", "both own"),
        (f':aws.AccountId={ACCOUNT} MetricName="MetadataNoToken"', "used group"),
        (':aws.AccountId="444455556666" MetricName="MetadataNoToken"', ""),
        ('"metadatanotoken"', ""),
        ("etadata", ""),
    ],
)
def test_what_a_search_finds(expression: str, found: str) -> None:
    test = compile_search(expression, ACCOUNT)
    assert [name for name, key in METRICS.items() if test(key)] == found.split()


@pytest.mark.parametrize(
    "expression",
    ["", "{", "{}", "{AWS/EC2", "{AWS/EC2,}", "(", "(a", "a)", "a OR", "OR a", "NOT", "a =", "= a", '"a', "***", "}",
     "NOT " * 100 + "a", "(" * 100 + "a" + ")" * 100, "a " * 600],
)  # fmt: skip
def test_a_search_that_is_none(expression: str) -> None:
    with pytest.raises(SearchError):
        compile_search(expression, ACCOUNT)
