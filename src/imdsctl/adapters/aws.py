"""AWS's API over HTTP: sign, send, decode, and try again what is worth another try.

One client serves a whole organization: connections are pooled per host, credentials belong to the request. It does
not create botocore clients, which cost a fifth of a second each; it takes botocore's models, endpoints and credentials.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import uuid4

from imdsctl import __version__
from imdsctl.adapters.breaker import Breaker
from imdsctl.adapters.clock import Clock, SystemClock
from imdsctl.adapters.credentials import OwnCredentials, Renewals
from imdsctl.adapters.endpoints import Endpoint, Endpoints
from imdsctl.adapters.http_client import Futile, HttpClient, NoAnswer, Origin, Traffic, allow_connections, static_head
from imdsctl.adapters.models import load_service
from imdsctl.adapters.profile import Profile
from imdsctl.adapters.skew import MAY_BE_TIME, clock_off, offset_of
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.makers import maker
from imdsctl.fleet.limiter import Key, Limiter
from imdsctl.fleet.ports import Credentials, Unreachable
from imdsctl.wire import sigv4
from imdsctl.wire.errors import ServiceError, WireError
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.service import Decoder, Fixed, Operation, Projection

ATTEMPTS_MAX = 6
"""How often one call is sent at most, the first time included."""
CALL_SECONDS_MAX = 120.0
"""How long one call lasts at most, its other attempts and the waits between them included, from when it is first sent.
Two of the read timeout: a host that is silent twice has had its chance."""
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
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
"""Credentials that AWS takes no more. `RequestExpired` is EC2's, for these and for a clock that is off."""
_PASSING = frozenset({"RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "Unavailable"})
# Doing these twice leaves what doing them once leaves: they read, or they set something to a value that is given.
_REPEATABLE = re.compile(
    r"(Assume|BatchGet|Decode|Describe|Disable|Enable|Get|List|Lookup|Modify|Put|Search|Set|Simulate|Start|Stop"
    r"|Terminate|Update)[A-Z]"
)
_TOKEN_MEMBERS = ("ClientToken", "ClientRequestToken", "IdempotencyToken")


_NO_KEYS = Credentials("", "")
_request = maker(HttpRequest)


@dataclass(slots=True)
class Stats:
    """What the client did so far. `calls` counts what was asked of it, `attempts` the requests that were sent."""

    calls: int = 0
    attempts: int = 0
    throttled: int = 0
    waited_seconds: float = 0.0
    """Spent so that AWS would not throttle, by all calls together."""
    renewed: int = 0
    """Calls that were sent again with new credentials."""
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def retries(self) -> int:
        return max(self.attempts - self.calls, 0)


@dataclass(slots=True)
class _Target:
    """Where a service of a Region is asked, and what was learned about the host."""

    endpoint: Endpoint
    origin: Origin
    authority: str
    breaker: Breaker = field(default_factory=Breaker)
    ahead: timedelta = timedelta()
    """How far its clock is ahead of ours."""
    direct: bool | None = None
    """Whether there is no proxy in between; None: nobody has asked yet."""
    prepared: dict[int, tuple[HttpRequest, sigv4.Prepared, HttpRequest]] = field(default_factory=dict)
    """Requests that never change, by identity, each ready to be signed and sent."""


@dataclass(slots=True)
class _Sending:
    """One call on its way: what is sent, and what its attempts have come to."""

    credentials: Credentials | None
    target: _Target
    operation: Operation
    request: HttpRequest
    projection: Projection | None
    repeatable: bool
    """Doing it twice leaves what doing it once leaves."""
    bucket: Key
    keys: Credentials = field(default=_NO_KEYS, repr=False)
    """What signs the attempt under way, and how far its clock is set forward."""
    ahead: timedelta = timedelta()
    fixed: bool = False
    """Its request never changes."""
    began: float = 0.0
    attempt: int = 1
    corrected: bool = False
    renewed: bool = False
    maybe_done: bool = False
    """An attempt may have reached AWS and been carried out."""


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
        call_seconds_max: float = CALL_SECONDS_MAX,
        warn: Callable[[Diagnostic], None] = lambda diagnostic: None,
    ) -> None:
        self._profile = profile
        self._own = OwnCredentials(profile)
        self._renewals = Renewals(self._own)
        self._limiter = Limiter()
        self._endpoints = Endpoints(profile)
        self._http = http or HttpClient(ca_bundle=lambda: profile.ca_bundle)
        self._clock = clock or SystemClock()
        self._attempts_max = attempts_max or profile.attempts_max or ATTEMPTS_MAX
        self._retry_delay_seconds_max = retry_delay_seconds_max
        self._call_seconds_max = call_seconds_max
        self._warn = warn
        self._clock_warned = False
        self._targets: dict[tuple[str, str], _Target] = {}
        self._second = self._next_second = datetime.min.replace(tzinfo=UTC)
        self._second_text = ""
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
        fixed = compiled.fixed_request(params) if isinstance(params, Fixed) else None
        # Encoded once: every attempt carries the same token.
        request = fixed or compiled.encode_request(params, new_token=token)
        account = (credentials.account_id or credentials.access_key) if credentials else ""
        sending = _Sending(
            credentials,
            target,
            compiled,
            request,
            projection,
            repeatable=token.used or _is_repeatable(compiled, params),
            bucket=(account, region, service, operation),
            fixed=fixed is not None,
        )
        self.stats.calls += 1
        sending.began = await self._turn(sending.bucket, params)
        while True:
            self._prepare(sending)
            try:
                result = await self._attempt(sending)
            except _Refused as refusal:
                target.breaker.worked()
                delay = await self._after_refusal(sending, refusal)
            except Unreachable as error:
                delay = self._after_silence(sending, error)
            else:
                target.breaker.worked()
                return result
            if delay is not None:
                await self._clock.sleep(delay)
                await self._turn(sending.bucket, params)

    def _prepare(self, sending: _Sending) -> None:
        """Choose the keys and the clock of the next attempt. Raises `Unreachable` when the host is left alone."""
        target = sending.target
        refused = target.breaker.refuses(self._clock.monotonic())
        if refused is not None:
            raise Unreachable(target.origin.host, refused, _RETRY_LATER, maybe_done=sending.maybe_done)
        keys = sending.credentials or self._own.current()
        sending.keys = self._renewals.newest(keys) if self._renewals.any else keys
        sending.ahead = target.ahead

    async def _after_refusal(self, sending: _Sending, refusal: _Refused) -> float | None:
        """How long to wait before another attempt; None: none at all. Raises the refusal when it is the last word."""
        error = refusal.error
        if not sending.corrected and error.code in MAY_BE_TIME and self._set_clock(sending, refusal.date):
            sending.corrected = True
            return None
        if not sending.renewed and error.code in _EXPIRED:
            sending.renewed = True
            await self._renew(sending, error)
            return None
        throttled = error.code in _THROTTLED or error.code.startswith("Throttling")
        if throttled:
            self.stats.throttled += 1
            self._limiter.refused(sending.bucket, self._clock.monotonic())
        if (throttled or (sending.repeatable and _may_pass(error))) and (delay := self._patience(sending)) is not None:
            sending.maybe_done |= not throttled
            return delay
        if throttled and sending.maybe_done:
            # It says nothing of the attempt before, which may have arrived.
            host = sending.target.origin.host
            raise Unreachable(host, f"an attempt got no answer, and then: {error}", _RETRY_LATER) from None
        raise error from None

    def _after_silence(self, sending: _Sending, error: Unreachable) -> float | None:
        """How long to wait before another attempt. Raises the error when there is to be none."""
        if isinstance(error, NoAnswer):
            sending.target.breaker.failed(error.reason, self._clock.monotonic())
        sending.maybe_done = error.maybe_done = sending.maybe_done or error.maybe_done
        if _worth_another_try(error) and (sending.repeatable or not error.maybe_done):
            delay = None if sending.target.breaker.tripped else self._patience(sending)
            if delay is not None:
                return delay
        raise error

    def _patience(self, sending: _Sending) -> float | None:
        """How long to wait before another attempt; None when the call has had all its attempts, or its time."""
        delay = self._delay_seconds(sending.attempt)
        late = self._clock.monotonic() + delay - sending.began >= self._call_seconds_max
        if sending.attempt >= self._attempts_max or late:
            return None
        sending.attempt += 1
        return delay

    async def _turn(self, bucket: Key, params: Mapping[str, Any]) -> float:
        """Wait until AWS's bucket has room for a call, which is at once as a rule. The time after it."""
        now = self._clock.monotonic()
        wait = self._limiter.take(bucket, params, now)
        if not wait:
            return now
        self.stats.waited_seconds += wait
        await self._clock.sleep(wait)
        return self._clock.monotonic()

    def _set_clock(self, sending: _Sending, date: str | None) -> bool:
        """Whether a refusal came from a clock that is off, and signing again with AWS's time will help."""
        target = sending.target
        if target.ahead != sending.ahead:
            return True  # another call has found it out meanwhile
        offset = offset_of(date, self._clock.now() + target.ahead)
        if offset is None:
            return False
        target.ahead += offset
        if not self._clock_warned:
            self._clock_warned = True
            self._warn(clock_off(target.ahead))
        return True

    async def _renew(self, sending: _Sending, refusal: ServiceError) -> None:
        """Get new credentials in the place of expired ones. Raises the refusal, with a reason, when there are none."""
        try:
            found = await self._renewals.renew(sending.keys, own=sending.credentials is None)
        except (ServiceError, Unreachable, DiagnosticError) as error:
            raise replace(refusal, message=f"{refusal.message} New credentials could not be had: {error}") from None
        if found is None:
            raise refusal from None
        self.stats.renewed += 1

    def paginate(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Projection | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Every page, in order; see `imdsctl.fleet.ports.Aws`."""
        return _Pages(self, credentials, service, region, operation, params, projection)

    def host(self, service: str, region: str) -> str:
        """Who is asked."""
        return self._target(service, region).endpoint.host

    def _target(self, service: str, region: str) -> _Target:
        target = self._targets.get((service, region))
        if target is None:
            endpoint = self._endpoints.resolve(service, region)
            origin = Origin(endpoint.scheme, endpoint.host, endpoint.port)
            target = self._targets[service, region] = _Target(endpoint, origin, endpoint.authority)
        return target

    async def _attempt(self, sending: _Sending) -> dict[str, Any]:
        """Send once. Raises `_Refused` and `Unreachable`."""
        self.stats.attempts += 1
        target, operation, request = sending.target, sending.operation, sending.request
        origin = target.origin
        if request.host_prefix:
            origin = origin._replace(host=request.host_prefix + origin.host)
        signed = self._signed(sending.keys, target, request, sending.ahead, fixed=sending.fixed)
        seconds_left = self._call_seconds_max - (self._clock.monotonic() - sending.began)
        decoder: Decoder | None = None

        def open_decoder(status: int, headers: Mapping[str, str]) -> Decoder | None:
            nonlocal decoder
            if status == 200 and _is_xml(headers) and _is_long(headers):
                decoder = operation.stream(sending.projection)
            return decoder

        response: HttpResponse | None = None
        try:
            response = await self._http.send(
                origin, signed, replayable=sending.repeatable, open_sink=open_decoder, seconds_max=seconds_left
            )
            if response.status >= 300:
                raise _Refused(operation.service.decode_error(response), response.headers.get("date"))
            if decoder is not None:
                return decoder.close()
            return operation.decode_response(response, projection=sending.projection)
        except WireError as error:
            raise _unreadable(origin, response, error) from error

    def _signed(
        self, credentials: Credentials, target: _Target, request: HttpRequest, ahead: timedelta, *, fixed: bool
    ) -> HttpRequest:
        amz_date = self._amz_date(ahead)
        endpoint = target.endpoint
        if fixed and (ready := self._ready(target, request)) is not None:
            prepared, frame = ready
            added = prepared.sign(
                access_key=credentials.access_key,
                secret_key=credentials.secret_key,
                token=credentials.token,
                amz_date=amz_date,
            )
            return _request(frame.method, frame.path, frame.query, added, frame.body, "", frame.head)
        path = endpoint.base_path + request.path
        headers = _headers(target, request)
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
            amz_date=amz_date,
        )
        return replace(request, path=path, headers=headers)

    def _ready(self, target: _Target, request: HttpRequest) -> tuple[sigv4.Prepared, HttpRequest] | None:
        """A request that never changes, prepared for its target; None when a proxy is in between."""
        known = target.prepared.get(id(request))
        if known is not None:
            return known[1], known[2]
        if target.direct is None:
            target.direct = self._http.direct(target.origin)
        if not target.direct or request.host_prefix:
            return None
        endpoint, headers = target.endpoint, _headers(target, request)
        whole = replace(request, path=endpoint.base_path + request.path, headers=headers)
        prepared = sigv4.Prepared(
            whole.method,
            whole.path,
            whole.query,
            headers,
            whole.body,
            region=endpoint.signing_region,
            service=endpoint.signing_name,
        )
        frame = replace(whole, headers={}, head=static_head(target.origin, whole))
        target.prepared[id(request)] = (request, prepared, frame)
        return prepared, frame

    def _amz_date(self, ahead: timedelta) -> str:
        """The time as a signature says it; it is written once a second."""
        now = self._clock.now() + ahead
        if not self._second <= now < self._next_second:
            self._second = now.replace(microsecond=0)
            self._next_second = self._second + timedelta(seconds=1)
            self._second_text = self._second.strftime("%Y%m%dT%H%M%SZ")
        return self._second_text

    def _delay_seconds(self, attempt: int) -> float:
        """Exponential backoff with full jitter: a whole fleet that was throttled must not come back at once.

        Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        bound = RETRY_DELAY_SECONDS_BASE * 2.0 ** min(attempt - 1, 30)
        return self._clock.fraction() * min(self._retry_delay_seconds_max, bound)


class _Pages(AsyncIterator[dict[str, Any]]):
    """Not an async generator: a loop keeps a book of these, and a sweep has one for nearly every call."""

    __slots__ = (
        "_aws",
        "_begun",
        "_credentials",
        "_operation",
        "_params",
        "_projection",
        "_region",
        "_seen",
        "_service",
        "_token",
    )

    def __init__(
        self,
        aws: AwsClient,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Projection | None,
    ) -> None:
        self._aws = aws
        self._credentials = credentials
        self._service = service
        self._region = region
        self._operation = operation
        self._params = params
        if projection is not None and "NextToken" not in projection:
            projection = {**projection, "NextToken": None}
        self._projection = projection
        self._seen: set[str] = set()
        self._token: str | None = None
        self._begun = False

    async def __anext__(self) -> dict[str, Any]:
        if self._begun:
            self._turn_over()
        self._begun = True
        page = await self._aws.call(
            self._credentials, self._service, self._region, self._operation, self._params, self._projection
        )
        self._token = page.get("NextToken")
        return page

    def _turn_over(self) -> None:
        token = self._token
        if not token:
            raise StopAsyncIteration
        if token in self._seen:
            raise Unreachable(
                self._aws.host(self._service, self._region),
                f"{self._operation} gave the same page marker twice, so its list would never end",
                "run the same command again",
                maybe_done=False,
            )
        self._seen.add(token)
        self._params = {**self._params, "NextToken": token}


@asynccontextmanager
async def open_aws(
    profile: str | None = None, warn: Callable[[Diagnostic], None] = lambda diagnostic: None
) -> AsyncIterator[AwsClient]:
    """A client for a profile's name (None: settings as every AWS tool finds them), closed at the end.

    `warn` takes what the user has to know although everything goes on: `clock-off`.
    """
    allow_connections()
    client = AwsClient(Profile(profile), warn=warn)
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


def _headers(target: _Target, request: HttpRequest) -> dict[str, str]:
    """What is sent beside the signature."""
    headers = {"host": request.host_prefix + target.authority, "user-agent": _USER_AGENT, **request.headers}
    headers.pop("content-length", None)  # the HTTP client writes it
    return headers


_RETRY_LATER = "run the same command again later"


class _Refused(Exception):
    """AWS's refusal, with the time that AWS gave with it."""

    def __init__(self, error: ServiceError, date: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.date = date


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
    return _may_be_repeated(operation.name) or any(params.get(name) for name in _TOKEN_MEMBERS)


@cache
def _may_be_repeated(operation: str) -> bool:
    return _REPEATABLE.match(operation) is not None


def _may_pass(error: ServiceError) -> bool:
    """A failure on AWS's side that says nothing about the request. A lack of capacity is an answer, not a failure."""
    return error.code in _PASSING or (error.status >= 500 and not error.code.startswith("Insufficient"))


def _worth_another_try(error: Unreachable) -> bool:
    """Broken connections and a gateway's 5xx are; what would only come again is not."""
    if isinstance(error, _NotAws):
        return error.status is not None and error.status >= 500
    return not isinstance(error, Futile)
