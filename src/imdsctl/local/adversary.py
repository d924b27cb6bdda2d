"""A local AWS that misbehaves: it answers late, or not as it should, where a rule says so.

Sans I/O, as the local AWS itself: what comes out is what to send and how; the HTTP server obeys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING

from imdsctl.local.call import AwsError
from imdsctl.local.faults import Fault, Faults, When
from imdsctl.local.refusals import refusals_of
from imdsctl.wire.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from imdsctl.local.pipeline import LocalAws

OWN_PATHS = "/_imdsctl/"
"""What is ours, and not AWS's, is never disturbed."""
CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a clock may be off where a rule moves it: what most services allow.
Source: IAM User Guide, "Elements of an AWS API request signature"."""


class Manner(Enum):
    """How a response is sent."""

    WHOLE = auto()
    HALF = auto()
    """Its first half, then the connection is closed."""
    DRIP = auto()
    """In ten pieces, over `over_seconds`."""
    RESET = auto()
    """Not at all: the connection is reset."""
    SILENCE = auto()
    """Not at all: the connection stays open."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A response, when to send it, and how. None: there is none to send."""

    response: HttpResponse | None
    delay_seconds: float = 0.0
    manner: Manner = Manner.WHOLE
    over_seconds: float = 0.0


_MANNERS = {
    Fault.TIMEOUT: Manner.SILENCE,
    Fault.RESET: Manner.RESET,
    Fault.REGION_DOWN: Manner.RESET,
    Fault.TRUNCATE: Manner.HALF,
    Fault.SLOW: Manner.DRIP,
}


class Adversary:
    """Stands before a local AWS. `latency_seconds` delays every answer, whatever the rules say.

    `names` gives botocore's names of the services where they are not the signing names: rules use botocore's.
    """

    def __init__(
        self,
        aws: LocalAws,
        faults: Faults | None = None,
        latency_seconds: float = 0.0,
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.faults = faults or Faults(())
        self._aws = aws
        self._latency_seconds = latency_seconds
        self._names = names

    def deliver(self, request: HttpRequest) -> Delivery:
        """What becomes of one request. Never raises."""
        if request.path.startswith(OWN_PATHS):
            return Delivery(self._aws.handle(request))
        late = self._latency_seconds
        if not self.faults.rules:
            return Delivery(self._aws.handle(request), late)
        ahead, fault = timedelta(), None
        asked = self._aws.asked(request)
        asked = replace(asked, service=self._names.get(asked.service, asked.service))
        for rule in self.faults.of(asked):
            if rule.fault is Fault.WRONG_CLOCK:
                ahead = timedelta(minutes=rule.minutes)
            else:
                fault = rule
        if fault is None or fault.when is When.AFTER:
            response = self._aws.handle(request, ahead=ahead, tolerance=CLOCK_TOLERANCE if ahead else None)
            if fault is None:
                return Delivery(response, late)
        else:
            response = None
        manner = _MANNERS.get(fault.fault)
        if manner is None:
            return Delivery(self._refusal(request, fault.fault, asked.service), late)
        return Delivery(response, late, manner, fault.seconds)

    def _refusal(self, request: HttpRequest, fault: Fault, service: str) -> HttpResponse:
        return self._aws.refusal(request, _error(fault, self._aws.protocol_of(request), service))


def _error(fault: Fault, protocol: str, service: str) -> AwsError:
    """The refusal in a service's words. Sources: each service's "Common errors"; EC2 API Reference, "Error codes"."""
    ec2, query = protocol == "ec2", protocol == "query"
    if fault is Fault.EXPIRED_TOKEN:
        return refusals_of(protocol).expired()
    if fault is Fault.THROTTLE:
        if ec2:
            return AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)
        if service == "organizations":
            return AwsError("TooManyRequestsException", "You have sent too many requests in too short a period.", 400)
        return AwsError("Throttling" if query else "ThrottlingException", "Rate exceeded", 400)
    if fault is Fault.ACCESS_DENIED:
        if ec2:
            return AwsError("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        code = "AccessDenied" if query else "AccessDeniedException"
        return AwsError(code, "User is not authorized to perform this operation", 403 if query else 400)
    if fault is Fault.INTERNAL_ERROR:
        code = "InternalError" if ec2 else "InternalFailure"
        return AwsError(code, "An internal error has occurred", 500, fault="server")
    code = "Unavailable" if ec2 else "ServiceUnavailable"
    return AwsError(code, "The service is unavailable. Please try again shortly.", 503, fault="server")
