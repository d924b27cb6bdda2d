"""DescribeSpotFleetRequests: the Spot Fleet requests of the generated fleet.

AWS calls Spot Fleet legacy and its API "strongly discouraged" (EC2 User Guide, "Spot Fleet"): requests are shown here,
because old accounts still have them, and cannot be made; CreateFleet is there for that.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state
from imdsctl.local.ec2.errors import check_identifiers, not_found
from imdsctl.local.ec2.pages import page


def describe_spot_fleet_requests(call: Call) -> dict[str, Any]:
    """Spot Fleet requests, all or by id, in pages of 1 to 1000.

    Raises InvalidSpotFleetRequestId.Malformed and .NotFound, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids = params.get("SpotFleetRequestIds")
    if ids:
        check_identifiers("sfr", ids)
        for each in ids:
            if each not in state.spot_fleets:
                raise not_found("sfr", each)
    found = [each for name, each in sorted(state.spot_fleets.items()) if not ids or name in ids]
    shown, token = page(
        found, lambda each: str(each["SpotFleetRequestId"]), params, f"{call.account_id}/spot-fleets", least=1
    )
    out: dict[str, Any] = {
        "SpotFleetRequestConfigs": [
            {**each, "Tags": aws_tags(state.tags.get(each["SpotFleetRequestId"]))} for each in shown
        ]
    }
    if token:
        out["NextToken"] = token
    return out


OPERATIONS = {"DescribeSpotFleetRequests": Operation(describe_spot_fleet_requests)}
