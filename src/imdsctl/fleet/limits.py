"""How much a sweep does at once. EC2's throttles are per account and Region, so breadth is cheap and depth is not."""

from __future__ import annotations

ACCOUNTS_CONCURRENT_MAX = 48
"""Accounts entered at the same time; bounds the tasks that wait for a target's turn."""
TARGETS_CONCURRENT_MAX = 144
"""Targets (account, Region) read at the same time at most, see `pace`; each has a call for every part under way."""
CALLS_CONCURRENT_MAX = 400
"""Targets of which one thing is asked at the same time at most."""
ORGANIZATION_CALLS_CONCURRENT_MAX = 8
"""Calls to Organizations at the same time. Source: Organizations quotas, ListAccountsForParent 5 a second, burst 8."""
INSTANCES_PER_PAGE = 1000
"""Source: EC2 API Reference, DescribeInstances, MaxResults."""
TEMPLATE_VERSIONS_PER_PAGE = 200
"""Source: EC2 API Reference, DescribeLaunchTemplateVersions, MaxResults 1 to 200."""
TEMPLATES_PER_PAGE = 200
"""Source: EC2 API Reference, DescribeLaunchTemplates, MaxResults 1 to 200."""
IMAGES_PER_PAGE = 1000
"""Source: EC2 API Reference, DescribeImages, MaxResults."""
IMAGE_IDS_PER_CALL = 100
"""Image ids named in one DescribeImages call: keeps the request well below the size limit of a form, and below the 200
values that a filter takes (EC2 User Guide, "Filter your resources")."""
AUTOSCALING_RECORDS_PER_PAGE = 100
"""Source: Auto Scaling API Reference, DescribeLaunchConfigurations and DescribeAutoScalingGroups, MaxRecords."""
FLEETS_PER_PAGE = 1000
"""Source: EC2 API Reference, DescribeFleets, DescribeSpotFleetRequests, DescribeSpotInstanceRequests, MaxResults."""
REGIONS_PER_PAGE = 50
"""Source: Account Management API Reference, ListRegions, MaxResults 1 to 50."""
ASSUMED_ROLE_SECONDS = 3600
"""The longest session that role chaining allows. Source: STS API Reference, AssumeRole, DurationSeconds."""
