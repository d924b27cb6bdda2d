"""Elastic Beanstalk's refusals, with the sentences that users report."""

from __future__ import annotations

from imdsctl.local.call import AwsError


def invalid(message: str) -> AwsError:
    """A parameter whose value is not valid: also a name that is none."""
    return AwsError("InvalidParameterValue", message, 400)


def wrong_combination(message: str) -> AwsError:
    """Parameters that do not go together."""
    return AwsError("InvalidParameterCombination", message, 400)


def missing(message: str) -> AwsError:
    """A parameter that has to be there."""
    return AwsError("MissingParameter", message, 400)


def no_environment(member: str, value: str) -> AwsError:
    """An environment that does not exist, by what the request names it with."""
    return invalid(f"No Environment found for {member} = '{value}'.")


def no_application(name: str) -> AwsError:
    """An application that does not exist."""
    return invalid(f"No Application named '{name}' found.")


def wrong_option(namespace: str, option: str, why: str, *, value: str | None = None) -> AwsError:
    """An option setting that is not valid."""
    what = "specification" if value is None else f"value: '{value}'"
    return AwsError(
        "ConfigurationValidationException",
        f"Configuration validation exception: Invalid option {what} (Namespace: '{namespace}', "
        f"OptionName: '{option}'): {why}",
        400,
    )


def failed(message: str) -> AwsError:
    """What another service refused on the environment's behalf."""
    return AwsError("InvalidParameterValue", message, 400)
