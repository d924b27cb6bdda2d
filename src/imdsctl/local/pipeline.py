"""The way of a request through the local AWS: authenticate, route, decode, settle, authorize, handle, log, encode.

Sans I/O: a request and the clock's time go in, a response comes out. Nothing a client sends makes a 5xx; a 500 is a bug
of a handler, and its traceback goes to `report`.
"""

from __future__ import annotations

import hmac
import random
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl

import orjson

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.local.authorization.authorizer import Authorizer
from imdsctl.local.call import AwsError, Call, Caller, Ids, Operation, Operations
from imdsctl.local.faults import Asked
from imdsctl.local.log import Record, encode
from imdsctl.local.metadata.control import Control
from imdsctl.local.metadata.services import Services as MetadataServices
from imdsctl.local.paths import CONTROL_PATH, STATUS_PATH
from imdsctl.local.refusals import CLOCK_SKEW_MAX, Refusals, refusals_of
from imdsctl.local.throttle import Throttle
from imdsctl.local.world import KNOWN_REGIONS, Credentials, World
from imdsctl.wire.errors import ServiceError, WireError
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.service import Service
from imdsctl.wire.sigv4 import Authorization, expected_signature, parse_authorization

DRY_RUN = ServiceError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
POLICY_SERVICES = frozenset({"iam", "organizations"})
"""Services whose writes may change what somebody is allowed to do."""
OWN = "imdsctl"
"""The service of writes that are no AWS API's: what instances did, and what happened to them. No client may ask it."""
REGION_STATE = frozenset({"ec2", "autoscaling", "ecs", "eks", "elasticbeanstalk", OWN})
"""The services whose answers depend on what happened by itself in their Region."""

TARGETS = {
    "AWSOrganizations": "organizations",
    "AmazonEC2ContainerService": "ecs",
    "AmazonSSM": "ssm",
    "SageMaker": "sagemaker",
    "com.amazonaws.cloudtrail": "cloudtrail",
    "GraniteServiceVersion": "monitoring",
    "AmazonSQS": "sqs",
    "ElasticMapReduce": "elasticmapreduce",
    "Lightsail_20161128": "lightsail",
    "PhotonAdminProxyService": "appstream",
}
"""How `X-Amz-Target` begins, by service; for requests that no signature tells apart."""
VERSIONS = {
    "2010-05-08": "iam",
    "2010-08-01": "monitoring",
    "2010-12-01": "elasticbeanstalk",
    "2011-01-01": "autoscaling",
    "2011-06-15": "sts",
}
"""The same for the `Version` of a form; every other one is EC2's."""


class WriteLog(Protocol):
    """Where accepted writes go. `append` must not block; the server holds the response until the line is durable."""

    def append(self, line: bytes) -> None:
        """Take one encoded line."""


class LocalAws:
    """Answers requests out of a world.

    `services` are the compiled models by signing name (`ec2`, `sts`, ...), which may be loaded when first asked for;
    `operations` what is implemented, by the same names. `clock` gives the time (aware, UTC), `status` what
    `GET /_imdsctl/status` tells, `report` takes the traceback of a bug. Without a `throttle` no call is one too many.
    """

    def __init__(
        self,
        world: World,
        services: Mapping[str, Service],
        operations: Mapping[str, Operations],
        clock: Callable[[], datetime],
        log: WriteLog | None = None,
        *,
        status: Callable[[], Mapping[str, Any]] = dict,
        report: Callable[[str], None] = lambda text: None,
        throttle: Throttle | None = None,
    ) -> None:
        self.world = world
        self._services = services
        self._operations = operations
        self._clock = clock
        self._log = log
        self._status = status
        self._report = report
        self._throttle = throttle
        self._authorizer = Authorizer(world)
        self._latest = world.created
        self._requests = 0
        # Only for request ids; nothing that is kept depends on it.
        self._random = random.Random()
        self._date = (0, "")
        self.control: Control | None = None  # whoever has the means to open listeners gives it
        self.metadata = MetadataServices(world, self.now, self._keep_identity, logged=log is not None)

    def now(self) -> datetime:
        """The time; never earlier than one that was used before, whatever the machine's clock does."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    def handle(
        self, request: HttpRequest, *, ahead: timedelta = timedelta(), tolerance: timedelta | None = None
    ) -> HttpResponse:
        """The response to one request. Never raises.

        Signatures are judged, and the answer is dated, by a clock that is `ahead` and allows for a difference of
        `tolerance` (None: CLOCK_SKEW_MAX).
        """
        try:
            return self._handle(request, ahead, tolerance or CLOCK_SKEW_MAX)
        except Exception:  # a bug, wherever it is; the client still gets an answer it can read
            self._report(traceback.format_exc())
            return HttpResponse(500, {"content-type": "text/plain"}, b"internal error\n")

    def _handle(self, request: HttpRequest, ahead: timedelta, tolerance: timedelta) -> HttpResponse:
        if request.path == STATUS_PATH:
            return HttpResponse(200, {"content-type": "application/json"}, orjson.dumps(dict(self._status())))
        if self.control is not None and request.path.startswith(CONTROL_PATH):
            return self.control.handle(request)
        clock = self._clock()
        now = self._latest = max(self._latest, clock)  # as `now` says: the log stays in order
        request_id = self._request_id()
        self._requests += 1
        service, name, protocol = self._guess(request)
        call: Call | None = None
        outcome: Mapping[str, Any] | AwsError | None = None
        try:
            authorization = _authorization(request, refusals_of(protocol))
            credentials = self._authenticate(request, authorization, refusals_of(protocol), clock + ahead, tolerance)
            if name not in self._services:
                raise _not_here(name, request.headers.get("x-amz-target", "*").rpartition(".")[2])
            routed = service.route(request)
            operation, protocol = routed.operation, routed.protocol
            known = self._operations.get(name, {}).get(operation.name)
            if known is None:
                raise _not_here(name, operation.name)
            params = operation.decode_request(request, protocol)
            caller = credentials.caller
            call = Call(
                service=name,
                action=operation.name,
                caller=caller,
                account_id=caller.account_id,
                region=authorization.region,
                params=params,
                now=now,
                request_id=request_id,
                ids=Ids(self.world.seed, self.world.sequence + 1 if known.writes else -self._requests),
                world=self.world,
                endpoint_url=f"http://{request.headers.get('host', '')}",
                session=credentials.session,
            )
            if name == "ec2" and self._throttle is not None:
                self._throttle.admit(
                    caller.account_id,
                    authorization.region,
                    operation.name,
                    params,
                    now.timestamp(),
                    writes=known.writes,
                )
            self._settle(call, known)
            self._authorizer.authorize(call, credentials, request.headers)
            if name == "ec2" and params.get("DryRun"):
                raise DRY_RUN
            result = self._run(call, known)
            outcome = result if known.writes or name == "sts" else None
            response = operation.encode_response(result, request_id=request_id, protocol=protocol)
        except ServiceError as refusal:
            outcome = refusal
            response = service.encode_error(refusal, protocol, request_id)
        except WireError as error:
            malformed = ServiceError(_MALFORMED.get(protocol, "SerializationException"), str(error), 400)
            response = service.encode_error(malformed, protocol, request_id)
        except Exception:
            self._report(f"request {request_id}: {name}\n{traceback.format_exc()}")
            bug = ServiceError(
                "InternalError" if protocol == "ec2" else "InternalFailure",
                "An internal error has occurred",
                500,
                fault="server",
            )
            outcome = bug
            response = service.encode_error(bug, protocol, request_id)
        if call is not None:
            self.world.trail.record(call, outcome, request.headers)
        return HttpResponse(
            response.status,
            {**response.headers, "x-amzn-requestid": request_id, "date": self._http_date(clock + ahead)},
            response.pieces,
        )

    # -- the steps ---------------------------------------------------------------------------------------------------

    def _settle(self, call: Call, known: Operation) -> None:
        """Carry out what is due: in the call's Region, and before a write wherever things happen by themselves."""
        if known.writes:
            self.world.settle_all(call.now)
        if call.service in REGION_STATE:
            self.world.region(call.account_id, call.region).settle(call.now)

    def _run(self, call: Call, known: Operation) -> Mapping[str, Any]:
        """Call the handler, and log the write that it accepted."""
        if call.service == "ec2" and self.world.fragment is None:
            self.world.fragment = self._services["ec2"].fragment
        result = known.handler(call)
        if known.writes:
            self._keep(call)
        return result

    def _keep(self, call: Call) -> None:
        """Count and log a write that was carried out."""
        self.world.sequence += 1
        if call.service in POLICY_SERVICES:
            self.world.policy_epoch += 1
        if self._log is not None:
            self._log.append(
                encode(
                    Record(
                        sequence=self.world.sequence,
                        now=call.now,
                        request_id=call.request_id,
                        service=call.service,
                        action=call.action,
                        region=call.region,
                        caller=call.caller,
                        params=call.params,
                    )
                )
            )

    # -- writes of our own -------------------------------------------------------------------------------------------

    def write(self, action: str, account_id: str, region: str, params: dict[str, Any]) -> Mapping[str, Any]:
        """Carry out and log a write of OWN. Raises what its handler raises; nothing was changed then."""
        call = self._own(action, account_id, region, params)
        known = self._operations[OWN][action]
        self._settle(call, known)
        return self._run(call, known)

    def keep_metadata_counts(self) -> None:
        """Log what instances were asked by IMDSv1 since this was done last."""
        for account_id, region, params in self.metadata.counts.take():
            self._keep(self._own("RecordMetadataCalls", account_id, region, params))

    def _keep_identity(self, keys: bytes) -> None:
        self.write("KeepIdentityKeys", self.world.management.id, "us-east-1", {"Keys": keys})

    def _own(self, action: str, account_id: str, region: str, params: dict[str, Any]) -> Call:
        return Call(
            service=OWN,
            action=action,
            caller=Caller(account_id, "", "", ""),
            account_id=account_id,
            region=region,
            params=params,
            now=self.now(),
            request_id=self._request_id(),
            ids=Ids(self.world.seed, self.world.sequence + 1),
            world=self.world,
        )

    # -- replay ------------------------------------------------------------------------------------------------------

    def replay(self, record: Record) -> None:
        """Apply a logged write again. Raises DiagnosticError `state-damaged` when it no longer succeeds."""
        known = self._operations.get(record.service, {}).get(record.action)
        self._latest = max(self._latest, record.now)
        problem = "there is no such operation"
        if known is not None:
            call = Call(
                service=record.service,
                action=record.action,
                caller=record.caller,
                account_id=record.caller.account_id,
                region=record.region,
                params=record.params,
                now=record.now,
                request_id=record.request_id,
                ids=Ids(self.world.seed, record.sequence),
                world=self.world,
            )
            try:
                self._settle(call, known)
                outcome = known.handler(call)
                if record.service != OWN:
                    self.world.trail.record(call, outcome)
                self.world.sequence = record.sequence
                return
            except (ServiceError, KeyError) as error:
                problem = str(error)
        raise DiagnosticError(
            Diagnostic(
                "state-damaged",
                f"write {record.sequence} of the log ({record.service} {record.action}) cannot be applied: {problem}",
                hint="use the version of imdsctl that wrote this state, or start with another `--state` directory",
            )
        )

    def _authenticate(
        self,
        request: HttpRequest,
        authorization: Authorization,
        refusals: Refusals,
        now: datetime,
        tolerance: timedelta,
    ) -> Credentials:
        """The credentials of a request whose signature is right; raises AWS's refusal otherwise."""
        if authorization.region not in KNOWN_REGIONS:
            raise refusals.scope("a valid region")
        credentials = self.world.credentials(authorization.access_key, authorization.token)
        if credentials is None:
            raise refusals.unknown()
        account_id = credentials.caller.account_id
        if self.world.accounts[account_id].state != "ACTIVE":
            raise refusals.unknown()
        if not self.world.region_enabled(account_id, authorization.region, now):
            raise refusals.unknown()
        if credentials.expires is not None and now >= credentials.expires:
            raise refusals.expired()
        signed = _moment(authorization.amz_date, refusals)
        lifetime = tolerance
        if authorization.expires_seconds is not None:
            lifetime = timedelta(seconds=authorization.expires_seconds)
        if now - signed > lifetime or signed - now > tolerance:
            raise refusals.skewed(signed, now, tolerance)
        expected = expected_signature(
            authorization,
            request.method,
            request.path,
            request.query,
            request.headers,
            request.body,
            credentials.secret_access_key,
        )
        if not hmac.compare_digest(expected.encode(), authorization.signature.encode()):
            raise refusals.mismatch()
        return credentials

    def _guess(self, request: HttpRequest) -> tuple[Service, str, str]:
        """The service a request is for, its signing name, and the protocol to answer in until it is routed.

        The credential scope says it; a request without one is told apart by its target, path or version.
        """
        name = _scope_service(request) or self._unsigned_service(request)
        service = self._services.get(name)
        if service is None:
            # Refused below, in an envelope that the client of a service unknown to us can most likely read.
            service = self._services["organizations" if "x-amz-target" in request.headers else "sts"]
        return service, name, _protocol(service, request)

    def _unsigned_service(self, request: HttpRequest) -> str:
        target = request.headers.get("x-amz-target", "")
        if target:
            return next((name for prefix, name in TARGETS.items() if target.startswith(prefix)), "organizations")
        if request.path.startswith("/service/GraniteServiceVersion"):
            return "monitoring"
        if len(request.path) > 1:
            return "account"
        form = request.query or request.body[:4096].decode("latin-1")
        version = next((value for key, value in parse_qsl(form) if key == "Version"), "")
        return VERSIONS.get(version, "ec2")

    # -- for whoever stands before us ---------------------------------------------------------------------------------

    def asked(self, request: HttpRequest) -> Asked:
        """Who asks for what (the service by its signing name), as far as a request says so; nothing is checked."""
        service, name, _ = self._guess(request)
        operation = account_id = region = ""
        with suppress(ServiceError, WireError):
            operation = service.route(request).operation.name
        with suppress(ServiceError):
            claims = parse_authorization(request.headers, request.query)
            region = claims.region
            credentials = self.world.credentials(claims.access_key, claims.token)
            account_id = credentials.caller.account_id if credentials is not None else ""
        return Asked(name, operation, account_id, region)

    def protocol_of(self, request: HttpRequest) -> str:
        """The protocol that a request speaks."""
        return self._guess(request)[2]

    def refusal(self, request: HttpRequest, error: ServiceError) -> HttpResponse:
        """A refusal in the form that a request's client reads. The world does not hear of the request."""
        service, _, protocol = self._guess(request)
        request_id = self._request_id()
        response = service.encode_error(error, protocol, request_id)
        own = {"x-amzn-requestid": request_id, "date": self._http_date(self._clock())}
        return HttpResponse(response.status, {**response.headers, **own}, response.pieces)

    # -- small things ------------------------------------------------------------------------------------------------

    def _request_id(self) -> str:
        digits = f"{self._random.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _http_date(self, now: datetime) -> str:
        second = int(now.timestamp())
        if self._date[0] != second:
            self._date = (second, format_datetime(now.astimezone(UTC), usegmt=True))
        return self._date[1]


_MALFORMED = {"ec2": "InvalidParameterValue", "query": "MalformedInput"}


def _authorization(request: HttpRequest, refusals: Refusals) -> Authorization:
    try:
        return parse_authorization(request.headers, request.query)
    except ServiceError as error:
        if error.code.startswith("MissingAuthenticationToken"):
            raise refusals.missing() from None
        if error.code == "SignatureDoesNotMatch":
            raise refusals.mismatch(error.message) from None
        raise refusals.incomplete(error.message) from None


def _moment(amz_date: str, refusals: Refusals) -> datetime:
    """The moment of signing; its form was checked when it was parsed, the numbers in it were not."""
    try:
        return datetime.fromisoformat(amz_date)
    except ValueError:
        raise refusals.incomplete(f"Date must be in ISO-8601 'basic format'. Got '{amz_date}'.") from None


def _scope_service(request: HttpRequest) -> str | None:
    """The service of the credential scope, in the header or (encoded) in a presigned query."""
    header = request.headers.get("authorization")
    if header is not None:
        scope = header.partition("Credential=")[2].partition(",")[0].split("/")
    else:
        scope = request.query.partition("X-Amz-Credential=")[2].partition("&")[0].replace("%2F", "/").split("/")
    return scope[-2] if len(scope) >= 5 else None


def _protocol(service: Service, request: HttpRequest) -> str:
    """The protocol a request seems to speak, among those of the service."""
    protocols = service.protocols
    if len(protocols) > 1:
        if "smithy-protocol" in request.headers and "smithy-rpc-v2-cbor" in protocols:
            return "smithy-rpc-v2-cbor"
        if "x-amz-target" in request.headers and "json" in protocols:
            return "json"
        for each in ("query", "ec2"):
            if each in protocols:
                return each
    return protocols[0]


def _not_here(service: str, action: str) -> AwsError:
    """What this local AWS does not do although AWS does: said plainly, as an error that every SDK can read."""
    return AwsError(
        "UnsupportedOperation",
        f"The local AWS of imdsctl does not implement {service}:{action}.",
        400,
    )
