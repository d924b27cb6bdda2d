"""A service's wire, both directions: operations compiled on first use from botocore's model of the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from imdsctl.wire.errors import ServiceError
from imdsctl.wire.http import HttpRequest, HttpResponse

Projection = Mapping[str, "Projection | None"]


class Encoded(bytes):
    """XML of one structure with its tag, written once: `encode_response` emits it verbatim."""


class Decoder(Protocol):
    """The incremental form of `decode_response`."""

    def feed(self, data: bytes) -> None: ...
    def close(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Routed:
    operation: Operation
    protocol: str


class Service:
    name: str
    api_version: str
    protocols: tuple[str, ...]
    operation_names: tuple[str, ...]

    def __init__(self, model: Mapping[str, Any]) -> None: ...
    def operation(self, name: str) -> Operation: ...
    def route(self, request: HttpRequest) -> Routed: ...
    def fragment(self, shape_name: str, value: Mapping[str, Any], tag: str = "item") -> Encoded: ...
    def encode_error(
        self, error: ServiceError, protocol: str | None = None, request_id: str | None = None
    ) -> HttpResponse: ...
    def decode_error(self, response: HttpResponse, protocol: str | None = None) -> ServiceError: ...


class Operation:
    name: str
    service: Service

    def encode_request(
        self, params: Mapping[str, Any], protocol: str | None = None, *, new_token: Callable[[], str] = ...
    ) -> HttpRequest: ...
    def decode_request(self, request: HttpRequest, protocol: str | None = None) -> dict[str, Any]: ...
    def encode_response(
        self, result: Mapping[str, Any], *, request_id: str, protocol: str | None = None
    ) -> HttpResponse: ...
    def decode_response(
        self, response: HttpResponse, protocol: str | None = None, projection: Projection | None = None
    ) -> dict[str, Any]: ...
    def stream(self, projection: Projection | None = None, protocol: str | None = None) -> Decoder: ...
