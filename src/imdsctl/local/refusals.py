"""How each family of AWS services words the refusal of a request that is not signed as it must be.

Three families differ in code, message and status: EC2, the other query services (sts, iam, autoscaling, ...), and those
that speak JSON or CBOR. Sources: EC2 API Reference, "Error codes" (client errors); IAM User Guide, "Troubleshooting
signed requests"; each service's "Common errors". The wording is that which users of the real services report.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from imdsctl.local.call import AwsError

CLOCK_SKEW_MAX = timedelta(minutes=15)

_NO_MATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)
_NOT_VALIDATED = "AWS was not able to validate the provided access credentials"
_UNKNOWN_TOKEN = "The security token included in the request is invalid"
_EXPIRED_TOKEN = "The security token included in the request is expired"


@dataclass(frozen=True, slots=True)
class Refusals:
    """One family's refusals; each method makes the error to raise."""

    missing_signature: tuple[str, str, int]
    incomplete_signature: tuple[str, int]
    unknown_key: tuple[str, str, int]
    wrong_signature: tuple[str, str, int]
    expired_token: tuple[str, str, int]
    wrong_time: tuple[str, int]
    wrong_time_text: str | None
    wrong_scope: tuple[str, int]

    def missing(self) -> AwsError:
        """No signature at all."""
        return AwsError(*self.missing_signature)

    def incomplete(self, message: str) -> AwsError:
        """A signature that lacks a part."""
        code, status = self.incomplete_signature
        return AwsError(code, message, status)

    def unknown(self) -> AwsError:
        """An access key or session token that does not exist, or an account that has not opted in to the Region."""
        return AwsError(*self.unknown_key)

    def mismatch(self, why: str | None = None) -> AwsError:
        """The signature is not what the secret key gives, or (`why`) contradicts itself."""
        code, message, status = self.wrong_signature
        return AwsError(code, why or message, status)

    def expired(self) -> AwsError:
        """Temporary credentials after their end."""
        return AwsError(*self.expired_token)

    def skewed(self, signed: datetime, now: datetime, tolerance: timedelta = CLOCK_SKEW_MAX) -> AwsError:
        """A date stamp further than `tolerance` away from the server's clock."""
        code, status = self.wrong_time
        if self.wrong_time_text is not None:
            return AwsError(code, self.wrong_time_text, status)
        minutes = f"{tolerance / timedelta(minutes=1):.0f} min."
        if signed < now:
            edge = now - tolerance
            text = f"Signature expired: {_stamp(signed)} is now earlier than {_stamp(edge)} ({_stamp(now)} - {minutes})"
        else:
            edge = now + tolerance
            text = f"Signature not yet current: {_stamp(signed)} is still later than {_stamp(edge)} "
            text += f"({_stamp(now)} + {minutes})"
        return AwsError(code, text, status)

    def scope(self, what: str) -> AwsError:
        """A credential scope for a Region or service that is not here."""
        code, status = self.wrong_scope
        return AwsError(code, f"Credential should be scoped to {what}.", status)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y%m%dT%H%M%SZ")


EC2 = Refusals(
    missing_signature=("MissingParameter", "The request must contain the parameter AWSAccessKeyId", 400),
    incomplete_signature=("IncompleteSignature", 400),
    unknown_key=("AuthFailure", _NOT_VALIDATED, 401),
    wrong_signature=("AuthFailure", _NOT_VALIDATED, 401),
    expired_token=("RequestExpired", "Request has expired.", 400),
    wrong_time=("RequestExpired", 400),
    wrong_time_text="Request has expired.",
    wrong_scope=("AuthFailure", 401),
)
QUERY = Refusals(
    missing_signature=("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    incomplete_signature=("IncompleteSignature", 400),
    unknown_key=("InvalidClientTokenId", _UNKNOWN_TOKEN + ".", 403),
    wrong_signature=("SignatureDoesNotMatch", _NO_MATCH, 403),
    expired_token=("ExpiredToken", _EXPIRED_TOKEN, 403),
    wrong_time=("SignatureDoesNotMatch", 403),
    wrong_time_text=None,
    wrong_scope=("SignatureDoesNotMatch", 403),
)
JSON = Refusals(
    missing_signature=("MissingAuthenticationTokenException", "Missing Authentication Token", 400),
    incomplete_signature=("IncompleteSignatureException", 400),
    unknown_key=("UnrecognizedClientException", _UNKNOWN_TOKEN + ".", 400),
    wrong_signature=("InvalidSignatureException", _NO_MATCH, 400),
    expired_token=("ExpiredTokenException", _EXPIRED_TOKEN, 400),
    wrong_time=("InvalidSignatureException", 400),
    wrong_time_text=None,
    wrong_scope=("InvalidSignatureException", 400),
)
REST_JSON = Refusals(
    missing_signature=("MissingAuthenticationTokenException", "Missing Authentication Token", 403),
    incomplete_signature=("IncompleteSignatureException", 403),
    unknown_key=("UnrecognizedClientException", _UNKNOWN_TOKEN + ".", 403),
    wrong_signature=("InvalidSignatureException", _NO_MATCH, 403),
    expired_token=("ExpiredTokenException", _EXPIRED_TOKEN, 403),
    wrong_time=("InvalidSignatureException", 403),
    wrong_time_text=None,
    wrong_scope=("InvalidSignatureException", 403),
)

_BY_PROTOCOL = {"ec2": EC2, "query": QUERY, "rest-json": REST_JSON}


def refusals_of(protocol: str) -> Refusals:
    """The family of a protocol (botocore's name of it)."""
    return _BY_PROTOCOL.get(protocol, JSON)
