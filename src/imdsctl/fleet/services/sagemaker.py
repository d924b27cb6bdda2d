"""SageMaker: notebook instances. They run on machines of SageMaker's own account: only SageMaker says what they allow.

Source: SageMaker API Reference, `InstanceMetadataServiceConfiguration`: the minimum version 1 lets both versions in, 2
only IMDSv2. Nothing there tells the hop limit.

Calls: the list of notebook instances in pages of 100, and one DescribeNotebookInstance for each: the list does not say
the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.observations import SAYS_NOTHING, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.fleet.services.paging import each_page, together
from imdsctl.wire.errors import ServiceError

PAGE = 100
UNSAID = "SageMaker does not say which versions of the metadata service the notebook instance allows"
OPTIONS: Mapping[str, MetadataOptions] = {
    "1": MetadataOptions(http_tokens=HttpTokens.OPTIONAL),
    "2": MetadataOptions(http_tokens=HttpTokens.REQUIRED),
}
"""By MinimumInstanceMetadataServiceVersion."""

LIST = {
    "NotebookInstances": {
        "NotebookInstanceName": None,
        "NotebookInstanceArn": None,
        "NotebookInstanceStatus": None,
    }
}
DESCRIPTION = {"InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": None}}


async def read(calls: ServiceCalls) -> list[ServiceSeen]:
    """Every notebook instance that is not being deleted. Raises ServiceError and Unreachable."""
    notebooks = [
        each
        async for page in each_page(calls, "ListNotebookInstances", {"MaxResults": PAGE}, LIST, token="NextToken")
        for each in page.get("NotebookInstances") or ()
        if each.get("NotebookInstanceStatus") != "Deleting"
    ]
    found = await together(_notebook(calls, each) for each in notebooks)
    return [each for each in found if each is not None]


async def _notebook(calls: ServiceCalls, listed: Mapping[str, Any]) -> ServiceSeen | None:
    name = listed["NotebookInstanceName"]
    try:
        answer = await calls.call("DescribeNotebookInstance", {"NotebookInstanceName": name}, DESCRIPTION)
    except ServiceError as error:
        # SageMaker has one code for everything; this is its word for what was deleted since it was listed.
        if "RecordNotFound" in error.message:
            return None
        raise
    configuration = answer.get("InstanceMetadataServiceConfiguration") or {}
    options = OPTIONS.get(str(configuration.get("MinimumInstanceMetadataServiceVersion")), SAYS_NOTHING)
    return ServiceSeen(
        ServiceKind.SAGEMAKER_NOTEBOOK,
        listed["NotebookInstanceArn"],
        name=name,
        options=options,
        reason=UNSAID if options is SAYS_NOTHING else "",
    )
