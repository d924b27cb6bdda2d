"""AWS's API over HTTP: sign, send, decode, and try again what is worth another try.

One client serves a whole organization: connections are pooled per host, credentials belong to the request. It does
not create botocore clients, which cost a fifth of a second each; it takes botocore's models, endpoints and credentials.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from imdsctl import __version__
from imdsctl.adapters.clock import Clock, SystemClock
from imdsctl.adapters.credentials import OwnCredentials
from imdsctl.adapters.endpoints import Endpoint, Endpoints
from imdsctl.adapters.http_client import Futile, HttpClient, Origin, Traffic
from imdsctl.adapters.models import load_service
from imdsctl.adapters.profile import Profile
from imdsctl.fleet.ports import Credentials, Unreachable
from imdsctl.wire import sigv4
from imdsctl.wire.errors import ServiceError, WireError
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.service import Decoder, Operation, Projection

ATTEMPTS_MAX = 6
"""How often one call is sent at most, the first time included."""
RETRY_DELAY_SECONDS_MAX = 20.0
"""The longest wait before another attempt; the AWS SDKs use the same bound."""
RETRY_DELAY_SECONDS_BASE = 0.5
"""The bound of the first wait; it doubles with every attempt."""
STREAMED_BYTES_MIN = 32_768
"""A reply of this size or of unknown size is decoded while it arrives; a smaller one is quicker in one piece."""

# Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_PASSING = frozenset({"RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "Unavailable"})
# Doing these twice leaves what doing them once leaves: they read, or they set something to a value that is given.
_REPEATABLE = re.compile(
    r"(Assume|BatchGet|Decode|Describe|Disable|Enable|Get|List|Lookup|Modify|Put|Search|Set|Simulate|Start|Stop"
    r"|Terminate|Update)[A-Z]"
)
_TOKEN_MEMBERS = ("ClientToken", "ClientRequestToken", "IdempotencyToken")


@dataclass(slots=True)
class Stats:
    """What the client did so far. `calls` counts what was asked of it, `attempts` the requests that were sent."""

    calls: int = 0
    attempts: int = 0
    throttled: int = 0
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def retries(self) -> int:
        return max(self.attempts - self.calls, 0)


@dataclass(frozen=True, slots=True)
class _Target:
    endpoint: Endpoint
    origin: Origin
    authority: str


class AwsClient:
    """Implements `imdsctl.fleet.ports.Aws`. Use it inside one event loop; end with `aclose`, or use `open_aws`."""

    def __init__(
        self,
        profile: Profile,
        *,
        http: HttpClient | None = None,
        clock: Clock | None = None,
        attempts_max: int | None = None,
        retry_delay_seconds_max: float = RETRY_DELAY_SECONDS_MAX,
    ) -> None:
        self._profile = profile
        self._own = OwnCredentials(profile)
        self._endpoints = Endpoints(profile)
        self._http = http or HttpClient(ca_bundle=lambda: profile.ca_bundle)
        self._clock = clock or SystemClock()
        self._attempts_max = attempts_max or profile.attempts_max or ATTEMPTS_MAX
        self._retry_delay_seconds_max = retry_delay_seconds_max
        self._targets: dict[tuple[str, str], _Target] = {}
        self.stats = Stats(traffic=self._http.traffic)

    @property
    def default_region(self) -> str | None:
        """The Region that the user's environment or profile names, None when neither does."""
        return self._profile.region

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Projection | None = None,
    ) -> dict[str, Any]:
        """One call, one result; see `imdsctl.fleet.ports.Aws` for what goes in and what is raised.

        Raises `KeyError` for a service or an operation that botocore does not know, and `WireError` for parameters
        that its model does not allow.
        """
        compiled = load_service(service).operation(operation)
        target = self._target(service, region)
        token = _IdempotencyToken()
        request = compiled.encode_request(params, new_token=token)  # once: every attempt carries the same token
        repeatable = token.used or _is_repeatable(compiled, params)
        self.stats.calls += 1
        attempt = 1
        while True:
            self.stats.attempts += 1
            try:
                return await self._attempt(credentials, target, compiled, request, projection, repeatable)
            except ServiceError as error:
                throttled = error.code in _THROTTLED or error.code.startswith("Throttling")
                self.stats.throttled += throttled
                if attempt >= self._attempts_max or not (throttled or (repeatable and _may_pass(error))):
                    raise
            except Unreachable as error:
                if attempt >= self._attempts_max or not (_worth_another_try(error) and _safe(error, repeatable)):
                    raise
            await self._clock.sleep(self._delay_seconds(attempt))
            attempt += 1

    async def paginate(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Projection | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Every page, in order; see `imdsctl.fleet.ports.Aws`."""
        if projection is not None and "NextToken" not in projection:
            projection = {**projection, "NextToken": None}
        token = params.get("NextToken")
        seen: set[str] = set()
        while True:
            if token:
                params = {**params, "NextToken": token}
            page = await self.call(credentials, service, region, operation, params, projection)
            yield page
            token = page.get("NextToken")
            if not token:
                return
            if token in seen:
                raise Unreachable(
                    self._target(service, region).endpoint.host,
                    f"{operation} gave the same page marker twice, so its list would never end",
                    "run the same command again",
                    maybe_done=False,
                )
            seen.add(token)

    def _target(self, service: str, region: str) -> _Target:
        target = self._targets.get((service, region))
        if target is None:
            endpoint = self._endpoints.resolve(service, region)
            origin = Origin(endpoint.scheme, endpoint.host, endpoint.port)
            target = self._targets[service, region] = _Target(endpoint, origin, endpoint.authority)
        return target

    async def _attempt(
        self,
        credentials: Credentials | None,
        target: _Target,
        operation: Operation,
        request: HttpRequest,
        projection: Projection | None,
        repeatable: bool,
    ) -> dict[str, Any]:
        origin = target.origin
        if request.host_prefix:
            origin = origin._replace(host=request.host_prefix + origin.host)
        signed = self._signed(credentials or self._own.current(), target, request)
        decoder: Decoder | None = None

        def open_decoder(status: int, headers: Mapping[str, str]) -> Decoder | None:
            nonlocal decoder
            if status == 200 and _is_xml(headers) and _is_long(headers):
                decoder = operation.stream(projection)
            return decoder

        response: HttpResponse | None = None
        try:
            response = await self._http.send(origin, signed, replayable=repeatable, open_sink=open_decoder)
            if response.status >= 300:
                raise operation.service.decode_error(response)
            if decoder is not None:
                return decoder.close()
            return operation.decode_response(response, projection=projection)
        except WireError as error:
            raise _unreadable(origin, response, error) from error

    def _signed(self, credentials: Credentials, target: _Target, request: HttpRequest) -> HttpRequest:
        endpoint = target.endpoint
        path = endpoint.base_path + request.path
        headers = {
            "host": request.host_prefix + target.authority,
            "user-agent": _USER_AGENT,
            **request.headers,
        }
        headers.pop("content-length", None)  # the HTTP client writes it
        headers |= sigv4.sign(
            request.method,
            path,
            request.query,
            headers,
            request.body,
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            token=credentials.token,
            region=endpoint.signing_region,
            service=endpoint.signing_name,
            amz_date=self._clock.now().strftime("%Y%m%dT%H%M%SZ"),
        )
        return replace(request, path=path, headers=headers)

    def _delay_seconds(self, attempt: int) -> float:
        """Exponential backoff with full jitter: a whole fleet that was throttled must not come back at once.

        Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        bound = RETRY_DELAY_SECONDS_BASE * 2.0 ** min(attempt - 1, 30)
        return self._clock.fraction() * min(self._retry_delay_seconds_max, bound)


@asynccontextmanager
async def open_aws(profile: str | None = None) -> AsyncIterator[AwsClient]:
    """A client for a profile's name (None: settings as every AWS tool finds them), closed at the end."""
    client = AwsClient(Profile(profile))
    try:
        yield client
    finally:
        await client.aclose()


class _IdempotencyToken:
    """A fresh token for an operation that takes one, remembering whether it was asked for."""

    used = False

    def __call__(self) -> str:
        self.used = True
        return str(uuid4())


_USER_AGENT = f"imdsctl/{__version__}"


class _NotAws(Unreachable):
    """Something answered that is not AWS: `status` is its HTTP status, None when it is not known."""

    def __init__(self, host: str, reason: str, next_step: str, status: int | None) -> None:
        super().__init__(host, reason, next_step)
        self.status = status


def _unreadable(origin: Origin, response: HttpResponse | None, error: WireError) -> _NotAws:
    kind = (response.headers.get("content-type") or "no content type") if response is not None else ""
    start = ""
    if response is not None and response.body:
        text = " ".join(response.body[:200].decode("utf-8", "replace").split())
        start = f", starting `{text[:80]}`"
    what = f"HTTP {response.status}, {kind}{start}" if response is not None else "HTTP 200"
    return _NotAws(
        origin.host,
        f"the reply cannot be read as AWS's ({what}: {error})",
        "check that AWS_ENDPOINT_URL and the proxy settings lead to AWS",
        response.status if response is not None else None,
    )


def _is_xml(headers: Mapping[str, str]) -> bool:
    return "xml" in headers.get("content-type", "")


def _is_long(headers: Mapping[str, str]) -> bool:
    length = headers.get("content-length", "")
    return not length.isdecimal() or int(length) >= STREAMED_BYTES_MIN


def _is_repeatable(operation: Operation, params: Mapping[str, Any]) -> bool:
    return _REPEATABLE.match(operation.name) is not None or any(params.get(name) for name in _TOKEN_MEMBERS)


def _may_pass(error: ServiceError) -> bool:
    """A failure on AWS's side that says nothing about the request. A lack of capacity is an answer, not a failure."""
    return error.code in _PASSING or (error.status >= 500 and not error.code.startswith("Insufficient"))


def _worth_another_try(error: Unreachable) -> bool:
    """Broken connections and a gateway's 5xx are; what would only come again is not."""
    if isinstance(error, _NotAws):
        return error.status is not None and error.status >= 500
    return not isinstance(error, Futile)


def _safe(error: Unreachable, repeatable: bool) -> bool:
    return repeatable or not error.maybe_done
