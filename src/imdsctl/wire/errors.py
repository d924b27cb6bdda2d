"""What can go wrong on the wire: bytes that cannot be read, a model that cannot be compiled, and AWS saying no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Fault = Literal["client", "server"]


class WireError(Exception):
    """Bytes that are not what the model says, or a value that the model cannot carry.

    `path` names the place in the user's terms (`Filters[2].Values`), empty when the whole message is at fault.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path

    def inside(self, name: str) -> WireError:
        """The same error, seen from one level further out; used only while an error travels up."""
        separator = "" if not self.path or self.path.startswith("[") else "."
        return type(self)(self.message, f"{name}{separator}{self.path}")


class UnknownTrait(WireError):
    """A service model uses a trait that this compiler does not know: guessing would give wrong bytes."""


class Malformed(WireError):
    """A value that is not of its type."""


class BrokenSyntax(WireError):
    """A message that is not even form, JSON, CBOR or XML."""


class UnknownParameter(WireError):
    """A request names a parameter that the operation does not have."""


class MissingParameter(WireError):
    """A request lacks a member that the model requires."""


@dataclass
class ServiceError(Exception):
    """AWS's refusal: what a server sends and what a client receives. Treat it as a value; nothing writes to it.

    `code` is the code a client sees (botocore's `Error.Code`), `status` the HTTP status, `fault` tells whose mistake it
    was, `detail` holds the members that the model gives this error beyond its message. It is not a frozen dataclass
    only because Python itself writes to an exception on its way up (`contextlib` sets `__traceback__`).
    """

    code: str
    message: str
    status: int = 400
    request_id: str | None = None
    fault: Fault = "client"
    detail: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __hash__(self) -> int:
        return hash((self.code, self.message, self.status))

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
