"""The environments that an account's Region begins with, in a few Regions: one that allows IMDSv1 and launches from a
launch configuration, one that does not and has a template, and one on Windows where nobody ever said anything."""

from __future__ import annotations

import random
from datetime import timedelta

from imdsctl.local.beanstalk.state import DISABLE_V1, LAUNCH, Application, BeanstalkState, Environment
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.spec import WorldSpec

SHARE = 0.25
"""The share of Regions with a fleet that have environments."""

_ENVIRONMENTS = (
    # environment, platform, type, age in days, DisableIMDSv1, launch configuration (None: a template)
    ("storefront-prod", "64bit Amazon Linux 2 v5.11.1 running Node.js 18", "t3.medium", 900, "false", "web-blue"),
    ("storefront-next", "64bit Amazon Linux 2023 v6.6.5 running Node.js 22", "t3.medium", 90, "true", None),
    ("intranet-prod", "64bit Windows Server 2019 v2.19.2 running IIS 10.0", "m5.large", 1300, None, "legacy-app"),
)
"""An environment's application is the first word of its name."""


def first_environments(spec: WorldSpec, region: RegionState) -> BeanstalkState:
    """A Region's applications and environments, a function of (seed, account, Region, created) only."""
    state = BeanstalkState()
    rng = random.Random(f"elasticbeanstalk/{spec.seed}/{region.account_id}/{region.region}")
    if region.generated is None or rng.random() >= SHARE:
        return state
    prefix = f"arn:aws:elasticbeanstalk:{region.region}:{region.account_id}"
    for name, platform, kind, age, disabled, configuration in _ENVIRONMENTS:
        if disabled != "true" and not spec.old_stacks:
            continue
        application = name.partition("-")[0]
        unique = f"e-{rng.getrandbits(50):010x}"[:12]
        letters = f"{rng.getrandbits(48):012X}"
        made = spec.created - timedelta(days=age + rng.randrange(30), seconds=rng.randrange(86400))
        if application not in state.applications:
            state.applications[application] = Application(
                application, f"{prefix}:application/{application}", f"The {application}", made - timedelta(hours=1)
            )
        options = {
            ("aws:autoscaling:asg", "MinSize"): "1",
            ("aws:autoscaling:asg", "MaxSize"): "4",
            ("aws:elasticbeanstalk:environment", "EnvironmentType"): "LoadBalanced",
            ("aws:elasticbeanstalk:environment", "ServiceRole"): "aws-elasticbeanstalk-service-role",
            (LAUNCH, "IamInstanceProfile"): "aws-elasticbeanstalk-ec2-role",
            (LAUNCH, "InstanceType"): kind,
        }
        if disabled is not None:
            options[LAUNCH, DISABLE_V1] = disabled
        state.environments[unique] = Environment(
            id=unique,
            name=name,
            arn=f"{prefix}:environment/{application}/{name}",
            application=application,
            created=made,
            updated=made + timedelta(minutes=12),
            platform=platform,
            group=f"awseb-{unique}-stack-AWSEBAutoScalingGroup-{letters}",
            options=options,
            configuration=configuration,
            template_id=None if configuration is not None else region.generated.batch_template_id,
            version_label="v1",
        )
    return state
