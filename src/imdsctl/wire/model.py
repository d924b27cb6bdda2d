"""Reads botocore's description of a service: shapes, the traits of a member, and which traits are understood.

A member of a structure names a shape and may override its traits; the merged view is what every codec is compiled
from. A trait outside the tables below raises `UnknownTrait`: a codec that ignored it could write wrong bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from imdsctl.wire.errors import UnknownTrait, WireError

Traits: TypeAlias = Mapping[str, Any]
# The members wanted of a reply: {"Reservations": {"Instances": {"InstanceId": None}}}. None is the whole subtree; lists
# are transparent, in a map the projection applies to the values.
Projection: TypeAlias = "Mapping[str, Projection | None]"


def words(text: str) -> frozenset[str]:
    """A set written as a line of words."""
    return frozenset(text.split())


# Traits that change nothing on the wire: documentation, constraints that a service checks for itself, hints for SDKs.
_SILENT: Final = words(
    "box contextParam deprecated deprecatedMessage deprecatedSince documentation enum error exception fault max min "
    "pattern requiresLength retryable sensitive synthetic wrapper xmlOrder"
)
# Traits that some codec here acts upon.
_SPOKEN: Final = words(
    "document event eventheader eventpayload eventstream flattened hostLabel idempotencyToken jsonvalue key location "
    "locationName member members payload queryName required shape sparse streaming timestampFormat type union value "
    "xmlAttribute xmlNamespace"
)
_KNOWN: Final = _SILENT | _SPOKEN
_KNOWN_OPERATION_TRAITS: Final = words(
    "auth authtype deprecated deprecatedMessage deprecatedSince documentation documentationUrl endpoint "
    "endpointdiscovery endpointoperation errors http httpChecksum httpChecksumRequired idempotent input name "
    "operationContextParams output readonly requestcompression staticContextParams unsignedPayload"
)
_TYPES: Final = words("blob boolean byte character double float integer list long map short string structure timestamp")
_TIMESTAMP_FORMATS: Final = {
    "iso8601": "iso8601",
    "datetime": "iso8601",
    "rfc822": "rfc822",
    "httpdate": "rfc822",
    "unixtimestamp": "unix",
    "epochseconds": "unix",
}


class Shape:
    """One shape as one place in the model sees it: the shape's own traits under those of the reference."""

    __slots__ = ("_shapes", "name", "traits", "type")

    def __init__(self, shapes: Mapping[str, Traits], reference: Traits) -> None:
        """Raises `UnknownTrait` for a trait, a type or a timestamp format that no codec knows."""
        name: str = reference["shape"]
        if name not in shapes:
            raise WireError(f"the model names a shape `{name}` and does not describe it")
        own = shapes[name]
        unknown = (own.keys() | reference.keys()) - _KNOWN
        if unknown:
            raise UnknownTrait(f"shape `{name}` has the unknown trait `{min(unknown)}`")
        self.name = name
        self.traits: Traits = {**own, **reference} if len(reference) > 1 else own
        self.type: str = own["type"]
        self._shapes = shapes
        if self.type not in _TYPES:
            raise UnknownTrait(f"shape `{name}` has the unknown type `{self.type}`")

    @property
    def key(self) -> tuple[str, object, object, object]:
        """What makes two places share a codec: the name on the wire belongs to the owner, these belong to the value."""
        traits = self.traits
        return self.name, traits.get("flattened"), traits.get("timestampFormat"), traits.get("jsonvalue")

    @property
    def flattened(self) -> bool:
        return bool(self.traits.get("flattened"))

    @property
    def location(self) -> str | None:
        """uri, querystring, header, headers or statusCode; None for the body."""
        location: str | None = self.traits.get("location")
        return location

    @property
    def wire_name(self) -> str | None:
        """The model's `locationName`."""
        name: str | None = self.traits.get("locationName")
        return name

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.traits.get("required", ()))

    def timestamp_format(self, default: str) -> str:
        """`iso8601`, `rfc822` or `unix`."""
        named = self.traits.get("timestampFormat")
        if named is None:
            return default
        known = _TIMESTAMP_FORMATS.get(str(named).lower())
        if known is None:
            raise UnknownTrait(f"shape `{self.name}` has the unknown timestamp format `{named}`")
        return known

    def members(self) -> Iterator[tuple[str, Shape]]:
        for name, reference in self.traits["members"].items():
            yield name, Shape(self._shapes, reference)

    def child(self, role: str) -> Shape:
        """`member` of a list, `key` or `value` of a map."""
        return Shape(self._shapes, self.traits[role])

    def refuse_event_stream(self) -> None:
        if self.traits.get("eventstream"):
            raise WireError(f"shape `{self.name}` is an event stream, which is not supported")


def check_operation(name: str, operation: Traits) -> None:
    """Raises `UnknownTrait` for an operation trait that is neither silent nor acted upon."""
    unknown = operation.keys() - _KNOWN_OPERATION_TRAITS
    if unknown:
        raise UnknownTrait(f"operation `{name}` has the unknown trait `{min(unknown)}`")


class OperationModel:
    """One operation of the model: its shapes, its HTTP binding, its idempotency tokens."""

    def __init__(self, shapes: Mapping[str, Traits], name: str, traits: Traits) -> None:
        check_operation(name, traits)
        self.name = name
        self.method: str = traits["http"].get("method", "POST")
        self.uri: str = traits["http"].get("requestUri", "/")
        self.status: int = traits["http"].get("responseCode", 200)
        self.host_prefix: str = traits.get("endpoint", {}).get("hostPrefix", "")
        self.result_wrapper: str | None = traits.get("output", {}).get("resultWrapper")
        self.input = Shape(shapes, {"shape": traits["input"]["shape"]}) if "input" in traits else None
        self.output = Shape(shapes, {"shape": traits["output"]["shape"]}) if "output" in traits else None
        members = dict(self.input.members()) if self.input is not None else {}
        self.tokens = tuple(name for name, member in members.items() if member.traits.get("idempotencyToken"))
        self.host_labels = tuple(name for name, member in members.items() if member.traits.get("hostLabel"))


class ServiceModel:
    """botocore's `service-2.json` of one service. Nothing is walked before it is asked for."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.metadata: Traits = raw["metadata"]
        self.operations: Mapping[str, Traits] = raw["operations"]
        self.shapes: Mapping[str, Traits] = raw["shapes"]
        self._errors: dict[str, str] | None = None

    @property
    def query_compatible(self) -> bool:
        """A former query service: its errors keep their old codes in a header (`awsQueryCompatible`)."""
        return "awsQueryCompatible" in self.metadata

    @property
    def namespace(self) -> str:
        return str(self.metadata.get("xmlNamespace", ""))

    def operation(self, name: str) -> OperationModel:
        """Raises `KeyError` when the service has no such operation."""
        return OperationModel(self.shapes, name, self.operations[name])

    def error(self, code: str) -> Shape | None:
        """The shape of an error by its code or by its name; None for an error that the model does not describe."""
        if self._errors is None:
            self._errors = {}
            for name, traits in self.shapes.items():
                if traits.get("exception"):
                    self._errors.setdefault(name, name)
                    self._errors[traits.get("error", {}).get("code", name)] = name
        name = self._errors.get(code, "")
        return Shape(self.shapes, {"shape": name}) if name else None
