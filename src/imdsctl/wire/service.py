"""A service's wire, both directions: operations compiled on first use from botocore's model of the service.

ec2 = Service(model)                                   # the parsed service-2.json; nothing is walked
request = ec2.operation("DescribeRegions").encode_request({"AllRegions": True})
routed = ec2.route(request)                            # the server's side
params = routed.operation.decode_request(request)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imdsctl.wire.errors import ServiceError, WireError
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.model import OperationModel, Projection, ServiceModel, Shape
from imdsctl.wire.protocols import Cbor, Decoder, Ec2, Json, ProtocolOf, Query, Wire
from imdsctl.wire.rest import RestJson
from imdsctl.wire.xml import Constant, Encoded

__all__ = ["Constant", "Decoder", "Encoded", "Fixed", "Operation", "Projection", "Routed", "Service"]

_PROTOCOLS: Final[dict[str, type[Query] | type[Json] | type[Cbor] | type[RestJson]]] = {
    protocol.name: protocol for protocol in (Ec2, Query, Json, Cbor, RestJson)
}


def _new_token() -> str:
    return str(uuid.uuid4())


class Fixed(dict[str, Any]):
    """Parameters that never change, as a caller's constant: the request that they make is written once."""


@dataclass(frozen=True, slots=True)
class Routed:
    """Which operation a request asks for, and in which protocol: the answer must speak the same one."""

    operation: Operation
    protocol: str


class Service:
    """One AWS service. `Service(model)` costs nothing; an operation is compiled when it is first used."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self._model = ServiceModel(model)
        metadata = self._model.metadata
        self.name: str = metadata.get("endpointPrefix") or str(metadata["serviceId"]).lower()
        self.signing_name: str = metadata.get("signingName", self.name)
        self.api_version: str = metadata["apiVersion"]
        self.target_prefix: str | None = metadata.get("targetPrefix")
        self.protocols: tuple[str, ...] = tuple(metadata.get("protocols") or (metadata["protocol"],))
        self._protocols: dict[str, ProtocolOf] = {}
        self._operations: dict[str, Operation] = {}

    @property
    def operation_names(self) -> tuple[str, ...]:
        return tuple(self._model.operations)

    def operation(self, name: str) -> Operation:
        """Raises `KeyError` when the service has no such operation, `UnknownTrait` when its model is newer than us."""
        known = self._operations.get(name)
        if known is None:
            known = self._operations[name] = Operation(self, self._model.operation(name))
        return known

    def protocol(self, name: str | None = None) -> ProtocolOf:
        """A protocol of this service; None is the first that is supported. Raises `WireError` when there is none."""
        if name is None:
            name = next((name for name in self.protocols if name in _PROTOCOLS), self.protocols[0])
        known = self._protocols.get(name)
        if known is None:
            if name not in self.protocols:
                raise WireError(f"the service {self.name} does not speak the protocol {name}")
            if name not in _PROTOCOLS:
                raise WireError(f"the protocol {name} of the service {self.name} is not supported")
            known = self._protocols[name] = _PROTOCOLS[name](self._model)
        return known

    def route(self, request: HttpRequest) -> Routed:
        """The operation and the protocol of a request, on the server's side.

        Raises `ServiceError` with the code and the status that AWS gives: `InvalidAction`, `MissingAction`,
        `UnknownOperationException`.
        """
        protocol = self.protocol(self.protocol_of(request))
        return Routed(self.operation(protocol.route(request)), protocol.name)

    def protocol_of(self, request: HttpRequest) -> str | None:
        """Which of its protocols a request speaks; an answer to a request that cannot be routed needs it too."""
        if len(self.protocols) == 1:
            return None
        speaks = None
        if request.headers.get("smithy-protocol") == "rpc-v2-cbor":
            speaks = Cbor.name
        elif "x-amz-target" in request.headers:
            speaks = Json.name
        elif "x-www-form-urlencoded" in request.headers.get("content-type", "") or "Action=" in request.query:
            speaks = Query.name
        return speaks if speaks in self.protocols else None

    def fragment(self, shape_name: str, value: Mapping[str, Any], tag: str = "item") -> Encoded:
        """XML of one structure with its tag, to be given to `encode_response` in place of the structure.

        Only for services that speak `ec2` or `query`. Raises `WireError` for a value that the shape cannot hold.
        """
        name = next((name for name in self.protocols if name in (Ec2.name, Query.name)), None)
        protocol = self.protocol(name)
        if not isinstance(protocol, Query):
            raise WireError(f"the service {self.name} answers without XML")
        inner = protocol.xmls.structure(Shape(self._model.shapes, {"shape": shape_name})).encode(value)
        return Encoded(b"<%b>%b</%b>" % (tag.encode(), inner, tag.encode()))

    def encode_error(
        self, error: ServiceError, protocol: str | None = None, request_id: str | None = None
    ) -> HttpResponse:
        """The response that carries a refusal; `request_id` stands in for the error's own."""
        return self.protocol(protocol).encode_error(error, request_id or error.request_id or "")

    def decode_error(self, response: HttpResponse, protocol: str | None = None) -> ServiceError:
        """The refusal in a response. A body that is no AWS error (a proxy's page) gives the HTTP status as its code."""
        spoken = self.protocol(protocol)
        try:
            return spoken.decode_error(response)
        except WireError as error:
            return ServiceError(str(response.status), f"unreadable error document: {error}", response.status)


class Operation:
    """One operation. `protocol=None` is the service's preferred one everywhere."""

    def __init__(self, service: Service, model: OperationModel) -> None:
        self.service = service
        self.name = model.name
        self._model = model
        self._wires: dict[str, Wire] = {}
        self._fixed: dict[int, tuple[Fixed, HttpRequest]] = {}

    def fixed_request(self, params: Fixed) -> HttpRequest | None:
        """The request of parameters that never change, always the same object; None when it takes a fresh token.

        Raises `WireError` as `encode_request` does.
        """
        known = self._fixed.get(id(params))
        if known is not None:
            return known[1]
        if self._model.tokens:
            return None
        request = self._wire(None).encode_request(params)
        self._fixed[id(params)] = (params, request)
        return request

    def _wire(self, protocol: str | None) -> Wire:
        wire = self._wires.get(protocol or "")
        if wire is None:
            wire = self._wires[protocol or ""] = self.service.protocol(protocol).wire(self._model)
        return wire

    def encode_request(
        self,
        params: Mapping[str, Any],
        protocol: str | None = None,
        *,
        new_token: Callable[[], str] = _new_token,
    ) -> HttpRequest:
        """The client's side: boto3's parameters to an unsigned request.

        An idempotency token that is not given is made by `new_token`. Raises `WireError` with the path of a parameter
        that does not exist, is missing or has the wrong type.
        """
        for name in self._model.tokens:
            if params.get(name) is None:
                params = {**params, name: new_token()}
        return self._wire(protocol).encode_request(params)

    def decode_request(self, request: HttpRequest, protocol: str | None = None) -> dict[str, Any]:
        """The server's side: the parameters of a request that was routed here.

        Raises `ServiceError` with AWS's code and HTTP 400 for anything malformed, unknown or missing.
        """
        wire = self._wire(protocol)
        try:
            return wire.decode_request(request)
        except WireError as error:
            raise self.service.protocol(protocol).refuse(error) from None
        except RecursionError:
            # A recursive shape, nested until Python gives up: no service goes that deep.
            raise self.service.protocol(protocol).refuse(WireError("the request is nested too deeply")) from None

    def encode_response(
        self, result: Mapping[str, Any], *, request_id: str, protocol: str | None = None
    ) -> HttpResponse:
        """The server's side: a result to a response. `Encoded` items are emitted verbatim (XML only).

        Raises `WireError` for a member that the model does not have.
        """
        return self._wire(protocol).encode_response(result, request_id)

    def decode_response(
        self, response: HttpResponse, protocol: str | None = None, projection: Projection | None = None
    ) -> dict[str, Any]:
        """The client's side: a response to what botocore's parser gives, without `ResponseMetadata`.

        Raises `ServiceError` when the status says that AWS refused, `WireError` when the body is cut or is not of the
        protocol, and for a projection that names a member the model does not have.
        """
        if response.status >= 300:
            raise self.service.decode_error(response, protocol)
        try:
            return self._wire(protocol).decode_response(response, projection)
        except RecursionError:
            raise WireError("the reply is nested too deeply") from None

    def stream(self, projection: Projection | None = None, protocol: str | None = None) -> Decoder:
        """The incremental form of `decode_response` for the body of a successful response.

        XML is decoded while it arrives, item by item; JSON and CBOR are kept until the end.
        """
        return self._wire(protocol).stream(projection)
