"""Spot Fleet requests: they launch like RunInstances, on the terms of Spot."""

from __future__ import annotations

from typing import Any

import pytest

REQUEST_ID = "sfr-11111111-2222-3333-4444-555555555555"


def test_a_region_without_requests_says_so(ec2: Any) -> None:
    assert ec2("DescribeSpotFleetRequests", MaxResults=1000) == {"SpotFleetRequestConfigs": []}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"SpotFleetRequestIds": [REQUEST_ID]}, "InvalidSpotFleetRequestId.NotFound"),
        ({"SpotFleetRequestIds": ["sfr-1"]}, "InvalidSpotFleetRequestId.Malformed"),
        ({"SpotFleetRequestIds": [REQUEST_ID.replace("sfr", "fleet")]}, "InvalidSpotFleetRequestId.Malformed"),
        ({"MaxResults": 0}, "InvalidParameterValue"),
        ({"MaxResults": 1001}, "InvalidParameterValue"),
        ({"NextToken": "x"}, "InvalidNextToken"),
    ],
)
def test_what_cannot_be_listed(ec2: Any, params: dict[str, Any], code: str) -> None:
    assert ec2.code("DescribeSpotFleetRequests", **params) == code
