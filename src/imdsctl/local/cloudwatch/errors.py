"""CloudWatch's refusals (API Reference, "Common errors" and each action's errors); all of them are HTTP 400."""

from __future__ import annotations

from imdsctl.local.call import AwsError


def invalid_value(message: str) -> AwsError:
    """A parameter out of its limits."""
    return AwsError("InvalidParameterValue", message, 400)


def invalid_combination(message: str) -> AwsError:
    """Parameters that do not go together."""
    return AwsError("InvalidParameterCombination", message, 400)


def missing(parameter: str) -> AwsError:
    """A required parameter that is absent."""
    return AwsError("MissingParameter", f"The parameter {parameter} is required.", 400)


def validation(message: str) -> AwsError:
    """What GetMetricData says of a query that it cannot run."""
    return AwsError("ValidationError", message, 400)
