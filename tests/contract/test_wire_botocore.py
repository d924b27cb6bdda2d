"""The wire against botocore, over every operation of the nine services, in all four directions.

An encoder checked by its own decoder passes when both share one mistake; here botocore is always the other end:

    botocore's serializer -> our decode_request         our encode_request  == botocore's serializer
    our encode_response   -> botocore's parser          our decode_response == botocore's parser

The values are random, drawn from the shapes with a fixed seed for each operation, so a failure names itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import cbor2
import pytest
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from lxml import etree

from imdsctl.wire.errors import ServiceError
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.service import Service

# Their models use rules that the nine have no example of: URI labels, query maps, headers, status codes, payloads, flat
# lists and maps, recursion, former query services.
OTHERS = ("apigateway", "dynamodb", "eks", "elasticache", "lambda", "rds", "sns", "sqs")
SERVICES = ("ec2", "sts", "iam", "organizations", "autoscaling", "cloudwatch", "account", "ssm", "cloudtrail")
FORM = ("ec2", "query")
REQUEST_ID = "59dbff89-35bd-4eac-99ed-be587EXAMPLE"

# (service, protocol, operation): why botocore cannot be the judge there. Nothing else is left out.
BOTOCORE_IS_WRONG: Mapping[tuple[str, str, str], str] = {}


@cache
def model(service: str) -> Any:
    return Loader().load_service_model(service, "service-2")


@cache
def ours(service: str) -> Service:
    return Service(model(service))


@cache
def theirs(service: str) -> ServiceModel:
    return ServiceModel(model(service), service)


def cases(services: tuple[str, ...] = SERVICES) -> list[tuple[str, str]]:
    return [
        (service, protocol)
        for service in services
        for protocol in model(service)["metadata"].get("protocols", [model(service)["metadata"]["protocol"]])
    ]


# --- random values from a shape -----------------------------------------------------------------------------------


class Values:
    """Draws values that botocore accepts. A shape inside itself gets only what it must have, so that recursion ends."""

    def __init__(self, seed: str, *, leave_out: float) -> None:
        self._random = random.Random(seed)
        self._leave_out = leave_out

    def value(self, shape: Shape, around: tuple[str, ...] = ()) -> Any:
        draw = self._random
        match shape.type_name:
            case "structure":
                return self.structure(shape, around)
            case "list":
                # An empty list has no form in `ec2`, so every list has an item; the unit tests have the empty ones.
                count = max(shape.metadata.get("min", 1), draw.choice((1, 1, 2)))
                return [self.value(shape.member, around) for _ in range(count)]
            case "map":
                return {self.value(shape.key): self.value(shape.value, around) for _ in range(draw.randint(1, 2))}
            case "string":
                if shape.enum and draw.random() < 0.8:
                    return draw.choice(shape.enum)
                low = max(1, shape.metadata.get("min", 1))
                text = draw.choice(
                    ("plain", "a b", "<&>\"'", "é\u4e2d\U0001f600", "x=1&y=2", "50%+", "a/b.c-d_e~f", "a\r\nb")
                )
                return (text * (low // len(text) + 1))[: max(low, len(text))]
            case "boolean":
                return draw.random() < 0.5
            case "integer" | "long":
                if shape.serialization.get("location") == "statusCode":
                    return 200
                low = shape.metadata.get("min", -5)
                return draw.randint(low, max(low, min(shape.metadata.get("max", low + 9), low + 9)))
            case "float" | "double":
                low = shape.metadata.get("min", -2)
                return low + draw.choice((0.0, 0.25, 0.5, 1.0))
            case "timestamp":
                return datetime.fromtimestamp(draw.randint(0, 2_000_000_000), UTC)
            case "blob":
                return draw.randbytes(max(shape.metadata.get("min", 1), draw.randint(1, 9)))
        raise AssertionError(shape.type_name)

    def structure(self, shape: Shape, around: tuple[str, ...] = ()) -> dict[str, Any]:
        draw = self._random
        leave_out = 0.95 if shape.name in around else self._leave_out
        if shape.is_tagged_union:
            # Exactly one; preferably one that does not lead back here.
            names = sorted(shape.members, key=lambda name: self._depth(shape.members[name], around))[:1]
        else:
            required = set(shape.required_members)
            names = [name for name in shape.members if name in required or draw.random() >= leave_out]
            names = names or list(shape.members)[:1]
            draw.shuffle(names)
        return {name: self.value(shape.members[name], (*around, shape.name)) for name in names}

    @staticmethod
    def _depth(shape: Shape, around: tuple[str, ...]) -> int:
        while shape.type_name in ("list", "map"):
            shape = shape.member if shape.type_name == "list" else shape.value
        return 0 if shape.type_name != "structure" else 2 if shape.name in around else 1


def without_empties(value: Any) -> Any:
    """A structure without members leaves no trace on a form."""
    if isinstance(value, dict):
        kept = {key: without_empties(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in ({}, [])}
    if isinstance(value, list):
        return [item for item in map(without_empties, value) if item not in ({}, [])]
    return value


# --- requests -----------------------------------------------------------------------------------------------------


def botocore_request(service: str, protocol: str, operation: Any, params: dict[str, Any]) -> HttpRequest:
    """What botocore would send: its serializer and its own way from the serialized parts to bytes."""
    serialized = create_serializer(protocol).serialize_to_request(params, operation)
    prepare_request_dict(serialized, endpoint_url="https://host.example")
    prepared = create_request_object(serialized).prepare()
    url = urlsplit(prepared.url)
    body = prepared.body or b""
    return HttpRequest(
        prepared.method,
        url.path or "/",
        url.query,
        {
            name.lower(): value.decode() if isinstance(value, bytes) else str(value)
            for name, value in prepared.headers.items()
        },
        body.encode() if isinstance(body, str) else bytes(body),
        url.netloc.removesuffix("host.example"),
    )


def comparable(request: HttpRequest, protocol: str) -> dict[str, Any]:
    """A request as a tree, in which the order of parameters and the way they are escaped do not show."""
    skipped = {"content-length", "user-agent"}
    headers = {name: value for name, value in request.headers.items() if name not in skipped}
    body: Any = request.body
    if protocol in FORM:
        body = sorted(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))
    elif "cbor" in protocol:
        body = cbor2.loads(request.body) if request.body else None
    else:
        body = json.loads(request.body) if request.body else None
    query = sorted(parse_qsl(request.query, keep_blank_values=True))
    return {"line": (request.method, request.host_prefix, request.path, query), "headers": headers, "body": body}


def operations(service: str) -> Iterator[tuple[str, Any]]:
    for name in theirs(service).operation_names:
        operation = theirs(service).operation_model(name)
        if not (operation.has_streaming_input or operation.has_streaming_output or operation.has_event_stream_output):
            yield name, operation


def rounds(name: str) -> Iterator[tuple[str, float]]:
    """Values with nearly everything in them, and sparse ones."""
    yield f"{name} whole", 0.0
    yield f"{name} full", 0.2
    yield f"{name} half", 0.5
    yield f"{name} sparse", 0.8


def check_requests(service: str, protocol: str) -> int:
    count = 0
    for name, operation in operations(service):
        if (service, protocol, name) in BOTOCORE_IS_WRONG:
            continue
        compiled = ours(service).operation(name)
        for seed, leave_out in rounds(name):
            shape = operation.input_shape
            params = Values(seed, leave_out=leave_out).value(shape) if shape is not None else {}
            # A token that is left out is made up, by botocore and by us: a different one.
            for token in operation.idempotent_members:
                params.setdefault(token, "0123456789abcdef0123456789abcdef-token")
            sent = botocore_request(service, protocol, operation, params)
            routed = ours(service).route(sent)
            assert (routed.operation.name, routed.protocol) == (name, protocol)
            got, wanted = compiled.decode_request(sent, protocol), params
            # Nor does a payload that is left out: it is sent as an empty structure.
            if protocol in FORM or (shape is not None and "payload" in shape.serialization):
                got, wanted = without_empties(got), without_empties(params)
            assert got == wanted, f"{service}.{name}: we decode"
            encoded = compiled.encode_request(params, protocol)
            assert comparable(encoded, protocol) == comparable(sent, protocol), f"{service}.{name}: we encode"
        count += 1
    return count


# --- responses ----------------------------------------------------------------------------------------------------


def botocore_response(protocol: str, operation: Any, response: HttpResponse) -> dict[str, Any]:
    raw = {"body": response.body, "headers": HeadersDict(response.headers), "status_code": response.status}
    parsed: dict[str, Any] = create_parser(protocol).parse(raw, operation.output_shape)
    metadata = parsed.pop("ResponseMetadata", {})
    if operation.output_shape is not None or protocol in FORM:
        assert metadata["RequestId"] == REQUEST_ID
    return parsed


def shuffled(protocol: str, body: bytes, seed: str) -> bytes:
    """The same reply in another order: the children of every XML element, the members of every object.

    The items of a list keep theirs, for a list has an order.
    """
    draw = random.Random(seed)
    if protocol in FORM:
        root = etree.fromstring(body)
        for element in root.iter():
            children = list(element)
            if len({child.tag for child in children}) > 1:
                draw.shuffle(children)
                element[:] = children
        return etree.tostring(root)

    def write(value: Any) -> bytes:
        return cbor2.dumps(value, datetime_as_timestamp=True) if "cbor" in protocol else json.dumps(value).encode()

    def turn(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            draw.shuffle(items)
            return {key: turn(item) for key, item in items}
        return [turn(item) for item in value] if isinstance(value, list) else value

    read = cbor2.loads if "cbor" in protocol else json.loads
    return write(turn(read(body))) if body else body


def random_projection(shape: Shape, draw: random.Random, depth: int = 0) -> dict[str, Any] | None:
    while shape.type_name in ("list", "map"):
        shape = shape.member if shape.type_name == "list" else shape.value
    if shape.type_name != "structure" or depth > 4 or (depth and draw.random() < 0.3):
        return None
    names = [name for name in shape.members if draw.random() < 0.5] or list(shape.members)[:1]
    return {name: random_projection(shape.members[name], draw, depth + 1) for name in names}


def project(value: Any, projection: Mapping[str, Any] | None, shape: Shape) -> Any:
    """The plain meaning of a projection, for comparison."""
    if projection is None:
        return value
    if shape.type_name == "list":
        return [project(item, projection, shape.member) for item in value]
    if shape.type_name == "map":
        return {key: project(item, projection, shape.value) for key, item in value.items()}
    return {
        name: project(item, projection[name], shape.members[name]) for name, item in value.items() if name in projection
    }


def check_responses(service: str, protocol: str) -> int:
    count = 0
    for name, operation in operations(service):
        if (service, protocol, name) in BOTOCORE_IS_WRONG:
            continue
        compiled = ours(service).operation(name)
        shape = operation.output_shape
        for seed, leave_out in rounds(name):
            result = Values(seed, leave_out=leave_out).value(shape) if shape is not None else {}
            response = compiled.encode_response(result, request_id=REQUEST_ID, protocol=protocol)
            assert botocore_response(protocol, operation, response) == result, f"{service}.{name}: we encode"
            turned = HttpResponse(response.status, response.headers, shuffled(protocol, response.body, seed))
            judged = botocore_response(protocol, operation, turned)
            assert compiled.decode_response(turned, protocol) == judged, f"{service}.{name}: we decode"
            if shape is None:
                continue
            projection = random_projection(shape, random.Random(seed))
            wanted = project(judged, projection, shape)
            assert compiled.decode_response(turned, protocol, projection) == wanted, f"{service}.{name}: projection"
            decoder = compiled.stream(projection, protocol)
            for start in range(0, len(turned.body), 1000):
                decoder.feed(turned.body[start : start + 1000])
            streamed = {
                key: item for key, item in wanted.items() if shape.members[key].serialization.get("location") is None
            }
            assert decoder.close() == streamed, f"{service}.{name}: stream"
        count += 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("service", "protocol"), cases(SERVICES + OTHERS))
def test_every_request_is_the_one_that_botocore_writes(service: str, protocol: str) -> None:
    covered = check_requests(service, protocol)
    assert covered == sum(1 for _ in operations(service)) - excused(service, protocol)
    assert covered > 0


@pytest.mark.slow
@pytest.mark.parametrize(("service", "protocol"), cases(SERVICES + OTHERS))
def test_every_response_reads_as_botocore_reads_it(service: str, protocol: str) -> None:
    covered = check_responses(service, protocol)
    assert covered == sum(1 for _ in operations(service)) - excused(service, protocol)
    assert covered > 0


def excused(service: str, protocol: str) -> int:
    return sum(1 for excuse in BOTOCORE_IS_WRONG if excuse[:2] == (service, protocol))


def test_the_nine_services_have_more_than_a_thousand_operations_and_none_is_forgotten() -> None:
    total = sum(1 for service in SERVICES for _ in operations(service))
    modeled = sum(len(model(service)["operations"]) for service in SERVICES)
    assert modeled == total > 1_000
    assert len(BOTOCORE_IS_WRONG) < 10
    spoken = {protocol for _, protocol in cases()}
    assert spoken == {"ec2", "query", "json", "rest-json", "smithy-rpc-v2-cbor"}


# --- errors -------------------------------------------------------------------------------------------------------


def botocore_error(service: str, protocol: str, response: HttpResponse) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a botocore client makes of an error: the envelope, and the modeled members."""
    parser = create_parser(protocol)
    raw = {"body": response.body, "headers": HeadersDict(response.headers), "status_code": response.status}
    parsed = parser.parse(raw, None)
    shape = theirs(service).shape_for_error_code(parsed["Error"]["Code"])
    return parsed, parser.parse(raw, shape) if shape is not None else {}


@pytest.mark.parametrize(("service", "protocol"), cases(SERVICES + OTHERS))
def test_every_modeled_error_reads_as_botocore_reads_it_and_comes_back_whole(service: str, protocol: str) -> None:
    seen = 0
    for shape in theirs(service).error_shapes:
        code = shape.error_code if theirs(service).is_query_compatible or protocol in FORM else shape.name
        detail = Values(shape.name, leave_out=0.0).structure(shape)
        detail = {name: value for name, value in detail.items() if name.lower() != "message"}
        if "errorType" in detail:
            # A member bound to the very header that carries the code.
            detail["errorType"] = code
        status = shape.metadata.get("error", {}).get("httpStatusCode", 400)
        error = ServiceError(code, "no <such> thing & more", status, REQUEST_ID, "client", detail)
        response = ours(service).encode_error(error, protocol)
        parsed, modeled = botocore_error(service, protocol, response)
        assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == (code, error.message)
        assert parsed["ResponseMetadata"]["RequestId"] == REQUEST_ID
        assert {name: value for name, value in modeled.items() if name.lower() != "message"} == detail
        assert ours(service).decode_error(response, protocol) == (
            error if status < 500 or protocol != "rest-json" else ServiceError(**{**vars(error), "fault": "server"})
        )
        seen += 1
    assert seen or service == "ec2"


@pytest.mark.parametrize(("service", "protocol"), cases())
def test_an_error_that_the_model_does_not_know_keeps_its_code_and_message(service: str, protocol: str) -> None:
    error = ServiceError("UnauthorizedOperation", "You are not authorized: ünïcode", 403, REQUEST_ID)
    response = ours(service).encode_error(error, protocol)
    parsed, _ = botocore_error(service, protocol, response)
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == (error.code, error.message)
    assert parsed["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert ours(service).decode_error(response, protocol) == error
