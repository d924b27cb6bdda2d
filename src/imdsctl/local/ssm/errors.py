"""Systems Manager's refusals (API Reference, each action's "Errors"); all of them are HTTP 400."""

from __future__ import annotations

from imdsctl.local.call import AwsError


def invalid(message: str) -> AwsError:
    """A parameter out of its limits."""
    return AwsError("ValidationException", message, 400)


def not_found() -> AwsError:
    """A parameter that does not exist. AWS says nothing more."""
    return AwsError("ParameterNotFound", "", 400)


def version_not_found(name: str, selector: str) -> AwsError:
    """A version (`:3`) or label of a parameter that exists."""
    if selector.isdigit():
        what = f"version {selector} of {name}. Verify the version and try again."
    else:
        what = f"label {selector} of {name}. Verify the label and try again."
    return AwsError("ParameterVersionNotFound", f"Systems Manager could not find {what}", 400)


def refused(code: str, message: str) -> AwsError:
    """Any other refusal, by its code."""
    return AwsError(code, message, 400)
