"""The notebook instances that an account's Region begins with: in a few Regions, and mostly with IMDSv1 allowed."""

from __future__ import annotations

import random
from datetime import timedelta

from imdsctl.local.ec2.state import RegionState
from imdsctl.local.sagemaker.state import IMDS, IN_SERVICE, MINIMUM, STOPPED, Notebook, SagemakerState, notebook_arn
from imdsctl.local.spec import WorldSpec

SHARE = 0.3
"""The share of Regions with a fleet that have notebook instances."""

_NOTEBOOKS = (
    # name, type, platform, age in days, minimum version, share that is stopped
    ("churn-features", "ml.t3.medium", "notebook-al2-v2", 700, "1", 0.5),
    ("forecast-2021", "ml.t2.medium", "notebook-al1-v1", 1500, "1", 0.9),
    ("fraud-scoring", "ml.m5.xlarge", "notebook-al2-v3", 120, "2", 0.1),
)


def first_notebooks(spec: WorldSpec, region: RegionState) -> SagemakerState:
    """A Region's notebook instances, a function of (seed, account, Region, created) only."""
    state = SagemakerState()
    rng = random.Random(f"sagemaker/{spec.seed}/{region.account_id}/{region.region}")
    if region.generated is None or rng.random() >= SHARE:
        return state
    first = rng.randrange(len(_NOTEBOOKS))
    for index in range(1 + rng.randrange(len(_NOTEBOOKS))):
        name, kind, platform, age, version, stopped = _NOTEBOOKS[(first + index) % len(_NOTEBOOKS)]
        if version == "1" and not spec.old_stacks:
            continue
        made = spec.created - timedelta(days=age + rng.randrange(60), seconds=rng.randrange(86400))
        state.notebooks[name] = Notebook(
            name=name,
            arn=notebook_arn(region.region, region.account_id, name),
            created=made,
            modified=made + timedelta(minutes=4),
            settings={
                "InstanceType": kind,
                "RoleArn": f"arn:aws:iam::{region.account_id}:role/service-role/AmazonSageMaker-ExecutionRole",
                "DirectInternetAccess": "Enabled",
                "VolumeSizeInGB": 5 * (1 + rng.randrange(10)),
                "RootAccess": "Enabled",
                "PlatformIdentifier": platform,
                IMDS: {MINIMUM: version},
            },
            status=STOPPED if rng.random() < stopped else IN_SERVICE,
        )
    return state
