"""What one account in one Region is asked for, and which members of AWS's answers are read.

Sources: EC2 API Reference and Auto Scaling API Reference, the page of each operation. `launch_sources` has the members
of what launches from a template.
"""

from __future__ import annotations

from imdsctl.domain.options import AWS_NAMES
from imdsctl.fleet import launch_sources, limits
from imdsctl.wire.service import Fixed

OPTIONS = dict.fromkeys(AWS_NAMES.values())
INSTANCE = {
    "InstanceId": None,
    "State": {"Name": None},
    "MetadataOptions": {**OPTIONS, "State": None},
    "ImageId": None,
    "InstanceType": None,
    "LaunchTime": None,
    "Operator": {"Managed": None, "Principal": None},
    "Tags": {"Key": None, "Value": None},
}
INSTANCES = {"Reservations": {"Instances": INSTANCE}, "NextToken": None}
TEMPLATE_VERSION = {
    "LaunchTemplateId": None,
    "LaunchTemplateName": None,
    "VersionNumber": None,
    "DefaultVersion": None,
    "LaunchTemplateData": {"ImageId": None, "MetadataOptions": OPTIONS},
}
TEMPLATE_VERSIONS = {"LaunchTemplateVersions": TEMPLATE_VERSION, "NextToken": None}
TEMPLATES = {"LaunchTemplates": {"LaunchTemplateId": None, "Tags": {"Key": None, "Value": None}}, "NextToken": None}
IMAGES = {"Images": {"ImageId": None, "Name": None, "ImdsSupport": None, "Public": None}, "NextToken": None}
DEFAULTS = {
    "AccountLevel": dict.fromkeys(
        (
            "HttpTokens",
            "HttpPutResponseHopLimit",
            "HttpEndpoint",
            "InstanceMetadataTags",
            "HttpTokensEnforced",
            "ManagedBy",
            "ManagedExceptionMessage",
        )
    )
}

ALIVE = ("pending", "running", "stopping", "stopped")
"""A terminated instance, or one on its way there, has no metadata service to judge."""

NOTHING_ASKED = Fixed()
INSTANCES_ASKED = Fixed(
    {
        "MaxResults": limits.INSTANCES_PER_PAGE,
        "IncludeManagedResources": True,
        "Filters": [{"Name": "instance-state-name", "Values": list(ALIVE)}],
    }
)
VERSIONS_ASKED = Fixed(
    {
        "Versions": ["$Default", "$Latest"],
        "MaxResults": limits.TEMPLATE_VERSIONS_PER_PAGE,
        "IncludeManagedResources": True,
    }
)
TEMPLATES_ASKED = Fixed({"MaxResults": limits.TEMPLATES_PER_PAGE, "IncludeManagedResources": True})
OWN_IMAGES_ASKED = Fixed(
    {
        "Owners": ["self"],
        "MaxResults": limits.IMAGES_PER_PAGE,
        "IncludeDisabled": True,
        "IncludeDeprecated": True,
    }
)
CONFIGURATIONS_ASKED = Fixed({"MaxRecords": limits.AUTOSCALING_RECORDS_PER_PAGE})
GROUPS_ASKED = Fixed({"MaxRecords": limits.AUTOSCALING_RECORDS_PER_PAGE})
FLEETS_ASKED = Fixed(
    {
        "MaxResults": limits.FLEETS_PER_PAGE,
        "Filters": [{"Name": "fleet-state", "Values": list(launch_sources.FLEET_STATES)}],
    }
)
SPOT_FLEETS_ASKED = Fixed({"MaxResults": limits.FLEETS_PER_PAGE})
SPOT_REQUESTS_ASKED = Fixed(
    {
        "MaxResults": limits.FLEETS_PER_PAGE,
        "Filters": [{"Name": "state", "Values": list(launch_sources.SPOT_REQUEST_STATES)}],
    }
)
