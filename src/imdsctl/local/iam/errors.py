"""IAM's refusals: its codes and statuses (IAM API Reference, "Common errors" and each action's errors)."""

from __future__ import annotations

from imdsctl.local.call import AwsError


def invalid(message: str) -> AwsError:
    """A parameter out of its limits."""
    return AwsError("ValidationError", message, 400)


def no_such(message: str) -> AwsError:
    """Something that is named does not exist."""
    return AwsError("NoSuchEntity", message, 404)


def already(message: str) -> AwsError:
    """A name that is taken."""
    return AwsError("EntityAlreadyExists", message, 409)


def in_use(message: str) -> AwsError:
    """Something that cannot be deleted while others belong to it or use it."""
    return AwsError("DeleteConflict", message, 409)


def limit(message: str) -> AwsError:
    """A quota that is reached."""
    return AwsError("LimitExceeded", message, 409)


def malformed_policy(message: str) -> AwsError:
    """A policy document that is none."""
    return AwsError("MalformedPolicyDocument", message, 400)


def invalid_input(message: str) -> AwsError:
    """Parameters that contradict each other."""
    return AwsError("InvalidInput", message, 400)
