"""GetInstanceMetadataDefaults and ModifyInstanceMetadataDefaults.

Source: EC2 API Reference, both pages; EC2 User Guide, "Configure instance metadata options for new instances": the
defaults belong to the account in one Region and touch new launches only; what a request leaves out stays as it is.
"""

from __future__ import annotations

from typing import Any

from imdsctl.domain.options import InvalidOption
from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.errors import invalid_option, refuse


def get_defaults(call: Call) -> dict[str, Any]:
    """`AccountLevel` as it holds, declarative policies laid over it; what has no preference is absent."""
    return {"AccountLevel": region_state(call).defaults.to_aws()}


def modify_defaults(call: Call) -> dict[str, Any]:
    """Change the named defaults. `no-preference` and -1 take a preference back.

    Raises InvalidParameterValue, and UnsupportedOperation while a declarative policy manages the defaults (AWS does not
    publish the code of that refusal).
    """
    state = region_state(call)
    policy = state.declared()
    if policy.manages_metadata_defaults:
        raise refuse("UnsupportedOperation", policy.exception_message)
    try:
        state.own_defaults = state.own_defaults.updated(call.params)
    except InvalidOption as error:
        raise invalid_option(error) from None
    return {"Return": True}


OPERATIONS = {
    "GetInstanceMetadataDefaults": Operation(get_defaults),
    "ModifyInstanceMetadataDefaults": Operation(modify_defaults, writes=True),
}
