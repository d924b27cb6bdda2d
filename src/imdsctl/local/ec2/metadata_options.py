"""The metadata options of launch requests and of ModifyInstanceMetadataOptions: what a request may say.

Source: EC2 API Reference, `InstanceMetadataOptionsRequest` and ModifyInstanceMetadataOptions; EC2 User Guide,
"Modify instance metadata options for existing instances".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.options import AWS_NAMES, InvalidOption, MetadataOptions, Switch
from imdsctl.local.ec2.errors import invalid_combination, invalid_option

NEED_AN_ENDPOINT = ("http_tokens", "http_put_response_hop_limit", "http_protocol_ipv6")


def requested_options(params: Mapping[str, Any] | None) -> MetadataOptions:
    """A request's options. Raises InvalidParameterValue with AWS's sentence."""
    try:
        return MetadataOptions.from_aws(params)
    except InvalidOption as error:
        raise invalid_option(error) from None


def refuse_options_of_a_disabled_endpoint(asked: MetadataOptions) -> None:
    """Refuse a request that turns the endpoint off and sets what only matters while it is on.

    The User Guide says that HttpTokens, the hop limit and IPv6 go with HttpEndpoint=enabled; what AWS answers is not
    published. Refusing is the safe reading: a client that works here does not depend on AWS being lenient. A request
    that does not mention HttpEndpoint is never refused, also where the instance's endpoint is off.
    """
    if asked.http_endpoint is not Switch.DISABLED:
        return
    named = [AWS_NAMES[name] for name in NEED_AN_ENDPOINT if getattr(asked, name) is not None]
    if named:
        raise invalid_combination(f"{', '.join(named)} cannot be specified when HttpEndpoint is set to 'disabled'.")
