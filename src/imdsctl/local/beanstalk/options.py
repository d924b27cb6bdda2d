"""Option settings: which there are here, and which values they take.

Source: Elastic Beanstalk Developer Guide, "General options for all environments".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imdsctl.local.beanstalk.errors import wrong_option
from imdsctl.local.beanstalk.state import DISABLE_V1, LAUNCH

ASG = "aws:autoscaling:asg"
ENVIRONMENT = "aws:elasticbeanstalk:environment"
VARIABLES = "aws:elasticbeanstalk:application:environment"
"""The namespace whose options are an application's environment variables: any name is one."""

Options = Mapping[tuple[str, str], str]

DEFAULTS: Options = {
    (ASG, "MinSize"): "1",
    (ASG, "MaxSize"): "4",
    (ENVIRONMENT, "EnvironmentType"): "LoadBalanced",
    (LAUNCH, "InstanceType"): "t3.micro",
}
"""What a new environment has without being told."""

_SIZE, _TEXT = r"[1-9]\d{0,3}|10000", ".{1,1024}"
_PATTERNS: Options = {
    (ASG, "Cooldown"): r"\d{1,5}",
    (ASG, "MaxSize"): _SIZE,
    (ASG, "MinSize"): _SIZE,
    (ENVIRONMENT, "EnvironmentType"): "LoadBalanced|SingleInstance",
    (ENVIRONMENT, "ServiceRole"): _TEXT,
    (LAUNCH, DISABLE_V1): "true|false",
    (LAUNCH, "EC2KeyName"): _TEXT,
    (LAUNCH, "IamInstanceProfile"): _TEXT,
    (LAUNCH, "ImageId"): r"ami-[0-9a-f]{8,17}",
    (LAUNCH, "InstanceType"): r"[a-z0-9-]+\.[a-z0-9-]+",
}
"""The options that may be set here, each with the pattern of its values."""


def changed(options: Options, params: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """The options after a request. Raises ConfigurationValidationException."""
    after = dict(options)
    for each in params.get("OptionsToRemove") or ():
        after.pop(_key(each), None)
    for each in params.get("OptionSettings") or ():
        namespace, option = _key(each)
        value = each.get("Value") or ""
        pattern = _PATTERNS.get((namespace, option), ".*")
        if not re.fullmatch(pattern, value, re.DOTALL):
            raise wrong_option(namespace, option, f"Value does not match [{pattern}].", value=value)
        after[namespace, option] = value
    least, most = (int(after.get((ASG, name), DEFAULTS[ASG, name])) for name in ("MinSize", "MaxSize"))
    if least > most:
        raise wrong_option(ASG, "MinSize", "MinSize must not be greater than MaxSize.", value=str(least))
    return after


def _key(given: Mapping[str, Any]) -> tuple[str, str]:
    namespace, option = str(given.get("Namespace") or ""), str(given.get("OptionName") or "")
    if namespace != VARIABLES and (namespace, option) not in _PATTERNS:
        raise wrong_option(namespace, option, "Unknown configuration setting.")
    return namespace, option
