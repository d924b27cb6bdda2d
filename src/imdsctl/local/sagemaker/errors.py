"""SageMaker's refusals: ValidationException for nearly everything, HTTP 400, with the sentences that users report."""

from __future__ import annotations

from imdsctl.local.call import AwsError
from imdsctl.local.sagemaker.state import Notebook


def invalid(message: str) -> AwsError:
    """A parameter that is not valid."""
    return AwsError("ValidationException", message, 400)


def not_found() -> AwsError:
    """A notebook instance that does not exist. AWS says nothing more."""
    return invalid("RecordNotFound")


def wrong_status(notebook: Notebook, status: str, allowed: tuple[str, ...], to: str) -> AwsError:
    """A change that the notebook instance's status does not allow."""
    return invalid(
        f"Status ({status}) not in ([{', '.join(allowed)}]). Unable to transition to ({to}) for Notebook Instance "
        f"({notebook.arn})."
    )
