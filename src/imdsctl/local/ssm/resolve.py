"""`resolve:ssm:NAME` in place of an image's id: RunInstances asks when it launches, templates keep the words.

Source: EC2 User Guide, "Use a Systems Manager parameter instead of an AMI ID": a name, `name:version` or `name:label`.
"""

from __future__ import annotations

from imdsctl.local.call import AwsError, Call
from imdsctl.local.ssm.read import select

PREFIX = "resolve:ssm:"


def image_of(call: Call, image_id: str) -> str:
    """The image that a launch means: what is not a parameter's name is an id already.

    Raises InvalidParameterValue for a parameter that does not exist.
    """
    if not image_id.startswith(PREFIX):
        return image_id
    try:
        _, version, _ = select(call, image_id[len(PREFIX) :])
    except AwsError:
        message = f"Systems Manager could not find the parameter of '{image_id}' in {call.region}."
        raise AwsError("InvalidParameterValue", message, 400) from None
    return version.value
