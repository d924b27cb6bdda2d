"""Requests: what stands on the wire, and what a server answers to what should not stand there."""

from __future__ import annotations

import gzip
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import cbor2
import pytest

from imdsctl.wire.errors import ServiceError, UnknownTrait, WireError
from imdsctl.wire.http import HttpRequest
from imdsctl.wire.service import Service

PROTOCOLS = ("ec2", "query", "json", "rest-json", "smithy-rpc-v2-cbor")


@cache
def service(protocol: str) -> Service:
    """The small service of `tests/cases/wire/toy.json`, which has an example of every rule, in one protocol."""
    model = json.loads((Path(__file__).parents[2] / "cases" / "wire" / "toy.json").read_text())
    model["metadata"].update(protocol=protocol, protocols=[protocol])
    return Service(model)


def form(protocol: str, **params: Any) -> str:
    body = service(protocol).operation("Echo").encode_request(params).body.decode()
    return body.removeprefix("Action=Echo&Version=2020-01-01").removeprefix("&")


def post(body: str | bytes, protocol: str = "ec2", **headers: str) -> HttpRequest:
    path = "/Echo" if protocol == "rest-json" else "/"
    return HttpRequest("POST", path, "", headers, body.encode() if isinstance(body, str) else body)


def refusal(protocol: str, body: str | bytes, operation: str = "Echo") -> ServiceError:
    request = post(body, protocol)
    if protocol == "rest-json":
        request = HttpRequest("POST", f"/{operation}", "", {}, request.body)
    with pytest.raises(ServiceError) as caught:
        service(protocol).operation(operation).decode_request(request)
    assert caught.value.status == 400
    return caught.value


# --- the form -----------------------------------------------------------------------------------------------------

FORMS: list[tuple[str, dict[str, Any], str]] = [
    ("ec2", {"Text": "a b&c"}, "Text=a%20b%26c"),
    ("ec2", {"List": ["x", "y"]}, "List.1=x&List.2=y"),
    ("ec2", {"Filters": [{"Name": "n", "Values": ["v"]}]}, "Filter.1.Name=n&Filter.1.Value.1=v"),
    ("query", {"List": ["x", "y"]}, "List.member.1=x&List.member.2=y"),
    ("query", {"List": []}, "List="),
    ("query", {"Flat": ["x"]}, "FlatItem.1=x"),
    ("query", {"Map": {"a": "1"}}, "Map.entry.1.key=a&Map.entry.1.value=1"),
    ("query", {"FlatMap": {"a": "1"}}, "FlatMap.1.K=a&FlatMap.1.V=1"),
    ("query", {"Filters": [{"Name": "n", "Values": ["v"]}]}, "filter.Filter.1.Name=n&filter.Filter.1.Value.item.1=v"),
    ("query", {"Yes": True, "Count": -3, "Data": b"\x00\xff"}, "Yes=true&Count=-3&Data=AP8%3D"),
    ("query", {"Tree": {"Children": [{"Name": "leaf"}]}}, "Tree.Children.member.1.Name=leaf"),
]


@pytest.mark.parametrize(("protocol", "params", "wire"), FORMS)
def test_one_table_writes_and_reads_the_form(protocol: str, params: dict[str, Any], wire: str) -> None:
    assert form(protocol, **params) == wire
    body = f"Action=Echo&Version=2020-01-01&{wire}"
    assert service(protocol).operation("Echo").decode_request(post(body)) == params


def test_a_list_is_read_in_the_order_of_its_numbers_and_gaps_close() -> None:
    echo = service("ec2").operation("Echo")
    assert echo.decode_request(post("List.10=c&List.2=b&List.1=a")) == {"List": ["a", "b", "c"]}


def test_a_plus_sign_in_a_form_is_a_space() -> None:
    assert service("ec2").operation("Echo").decode_request(post("Text=a+b%2B")) == {"Text": "a b+"}


def test_a_get_request_carries_its_parameters_and_its_signature_in_the_query_string() -> None:
    request = HttpRequest("GET", "/", "Action=Echo&Version=2020-01-01&Text=x&X-Amz-Signature=00&X-Amz-Date=1")
    routed = service("ec2").route(request)
    assert routed.operation.decode_request(request) == {"Text": "x"}


def test_a_packed_body_is_unpacked_and_a_bomb_is_refused() -> None:
    echo = service("query").operation("Echo")
    headers = {"content-encoding": "gzip"}
    assert echo.decode_request(HttpRequest("POST", "/", "", headers, gzip.compress(b"Text=x"))) == {"Text": "x"}
    for body in (b"not gzip", gzip.compress(b"Text=x")[:-9], gzip.compress(b"x" * 20_000_000)):
        with pytest.raises(ServiceError, match="MalformedQueryString"):
            echo.decode_request(HttpRequest("POST", "/", "", headers, body))


REFUSED: list[tuple[str, str, str, str]] = [
    ("ec2", "Filter.x.Name=a", "UnknownParameter", "The parameter Filter.x.Name is not recognized"),
    ("ec2", "Filter.0.Name=a", "UnknownParameter", "The parameter Filter.0.Name is not recognized"),
    ("ec2", "Filter.1.Colour=a", "UnknownParameter", "The parameter Filter.1.Colour is not recognized"),
    ("ec2", "Colour=a", "UnknownParameter", "The parameter Colour is not recognized"),
    ("ec2", "Text.1=a", "UnknownParameter", "The parameter Text.1 is not recognized"),
    ("ec2", "List.99999999999999999999=a", "UnknownParameter", "The parameter List.99999999999999999999"),
    ("ec2", "Filter.1.Value.1=a", "MissingParameter", "The request must contain the parameter Filter.1.Name"),
    ("ec2", "Count=ten", "InvalidParameterValue", "Count"),
    ("ec2", "Count=2147483648", "InvalidParameterValue", "Count"),
    ("ec2", "Count=1_0", "InvalidParameterValue", "Count"),
    ("ec2", "Count=\u00b2", "InvalidParameterValue", "Count"),
    ("ec2", "Yes=maybe", "InvalidParameterValue", "Yes"),
    ("ec2", "Ratio=0x10", "InvalidParameterValue", "Ratio"),
    ("ec2", "Data=%21", "InvalidParameterValue", "Data"),
    ("ec2", "When=yesterday", "InvalidParameterValue", "When"),
    ("ec2", "Filter.1=a", "InvalidParameterValue", "Filter.1"),
    ("ec2", "Text=a&Text=b", "MalformedQueryString", "Text"),
    ("ec2", "List=a&List.1=b", "MalformedQueryString", "List"),
    ("ec2", "Text=%zz", "MalformedQueryString", "percent-encoding"),
    ("ec2", "Text=%ff", "MalformedQueryString", "UTF-8"),
    ("query", "List.1=a", "UnknownParameter", "The parameter List.1 is not recognized"),
    ("query", "Map.entry.1.key=a", "ValidationError", "Value null at 'map.entry.1.value'"),
    ("query", "Map.entry.1.colour=a", "UnknownParameter", "Map.entry.1.colour"),
]


@pytest.mark.parametrize(("protocol", "body", "code", "words"), REFUSED)
def test_a_bad_form_gets_the_code_of_aws_and_the_parameters_name(
    protocol: str, body: str, code: str, words: str
) -> None:
    error = refusal(protocol, body)
    assert error.code == code
    assert words in error.message


def test_raw_bytes_that_are_not_utf8_are_a_malformed_query_string() -> None:
    assert refusal("ec2", b"Text=\xff").code == "MalformedQueryString"


@pytest.mark.parametrize(
    ("protocol", "body", "code", "message"),
    [
        ("ec2", "", "MissingParameter", "The request must contain the parameter Id"),
        ("query", "", "ValidationError", "1 validation error detected: Value null at 'id' failed to satisfy"),
        ("json", "{}", "ValidationException", "1 validation error detected: Value null at 'id' failed to satisfy"),
        ("rest-json", "{}", "ValidationException", "Value null at 'id'"),
        ("smithy-rpc-v2-cbor", b"\xa0", "ValidationException", "Value null at 'id'"),
    ],
)
def test_a_missing_member_is_named(protocol: str, body: str | bytes, code: str, message: str) -> None:
    error = refusal(protocol, body, "Need")
    assert error.code == code
    assert message in error.message


# --- trees --------------------------------------------------------------------------------------------------------

DEEP = 100_000
BAD_JSON = [
    b"[]",
    b"3",
    b"{",
    b"\xff",
    b'{"Text": 1}',
    b'{"Text": "\\ud800"}',
    b'{"Count": "1"}',
    b'{"Count": true}',
    b'{"Count": 1.5}',
    b'{"Big": 99999999999999999999999}',
    b'{"Ratio": "many"}',
    b'{"Yes": "true"}',
    b'{"Data": "%"}',
    b'{"Data": 1}',
    b'{"When": "yesterday"}',
    b'{"When": 1e300}',
    b'{"When": true}',
    b'{"List": {}}',
    b'{"Map": []}',
    b'{"Tree": "x"}',
    b'{"Tree": ' * DEEP,
    b'{"Tree": {"Children": [' * 400 + b"{}" + b"]}" * 400 + b"}",
]


@pytest.mark.parametrize("protocol", ["json", "rest-json"])
@pytest.mark.parametrize("body", BAD_JSON, ids=lambda body: body[:30].decode(errors="replace"))
def test_bad_json_is_a_serialization_exception(protocol: str, body: bytes) -> None:
    assert refusal(protocol, body).code == "SerializationException"


BAD_CBOR = [
    b"\xff",
    b"\x80",
    cbor2.dumps("text"),
    cbor2.dumps({"Text": 1}),
    cbor2.dumps({"Text": b"bytes"}),
    cbor2.dumps({"Data": "text"}),
    cbor2.dumps({"When": 1}),
    cbor2.dumps({"When": cbor2.CBORTag(1, "x")}),
    cbor2.dumps({"Map": {1: "x"}}),
    cbor2.dumps({"Count": 1 << 80}),
    b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x9f" * DEEP,
    # Shared values: a tree that holds itself, and a few bytes that stand for a tree of 2 ** 60 leaves.
    b"\xa1\x64Tree\xd8\x1c\xa1\x68Children\x81\xd8\x1d\x00",
    b"\xa1\x64List\xd8\x1c\x81\xd8\x1d\x00",
    cbor2.dumps({"Text": cbor2.CBORTag(35, "(a+)+")}),
]


@pytest.mark.parametrize("body", BAD_CBOR, ids=lambda body: body[:12].hex())
def test_bad_cbor_is_a_serialization_exception(body: bytes) -> None:
    assert refusal("smithy-rpc-v2-cbor", body).code == "SerializationException"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_bytes_whatever_get_past_a_service_error(protocol: str) -> None:
    """Random bytes, and valid requests with a few bytes changed."""
    draw = random.Random(f"hostile {protocol}")
    echo = service(protocol).operation("Echo")
    good = echo.encode_request(
        {"Text": "x", "List": ["a", "b"], "Filters": [{"Name": "n", "Values": ["v"]}], "Count": 7}
    )
    for _ in range(1_500):
        body = bytearray(good.body if draw.random() < 0.8 else draw.randbytes(draw.randint(0, 60)))
        for _ in range(draw.randint(1, 4)):
            start = draw.randint(0, len(body))
            body[start : start + draw.choice((0, 1, 1, 9))] = draw.randbytes(draw.randint(0, 2))
        answer: dict[str, Any] | ServiceError
        try:
            answer = echo.decode_request(HttpRequest(good.method, good.path, "", good.headers, bytes(body)))
        except ServiceError as error:
            answer = error
        if isinstance(answer, ServiceError):
            assert answer.status == 400
            response = echo.service.encode_error(answer, None, "id")
            assert echo.service.decode_error(response).code == answer.code


# --- the client's side --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"Colour": "x"}, "Colour"),
        ({"Text": 3}, "Text"),
        ({"Count": "3"}, "Count"),
        ({"Yes": 1}, "Yes"),
        ({"List": "abc"}, "List"),
        ({"List": ["a", 3]}, "List[1]"),
        ({"Filters": [{"Name": "n"}, {"Name": "n", "Values": ["v", 3]}]}, "Filters[1].Values[1]"),
        ({"Filters": [{}]}, "Filters[0].Name"),
    ],
)
def test_a_parameter_that_cannot_be_sent_is_named_in_the_callers_words(
    protocol: str, params: dict[str, Any], path: str
) -> None:
    with pytest.raises(WireError) as caught:
        service(protocol).operation("Echo").encode_request(params)
    assert caught.value.path == path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_idempotency_token_is_made_only_when_the_caller_gives_none(protocol: str) -> None:
    need = service(protocol).operation("Need")
    made = need.encode_request({"Id": "i"}, new_token=lambda: "made")
    given = need.encode_request({"Id": "i", "Token": "given"}, new_token=lambda: "made")
    assert need.decode_request(made) == {"Id": "i", "Token": "made"}
    assert need.decode_request(given) == {"Id": "i", "Token": "given"}


# --- routing and models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["Echo", "Need", "Nothing"])
def test_a_request_finds_its_operation(protocol: str, name: str) -> None:
    toy = service(protocol)
    request = toy.operation(name).encode_request({"Id": "i"} if name == "Need" else {})
    routed = toy.route(request)
    assert (routed.operation.name, routed.protocol) == (name, protocol)


@pytest.mark.parametrize(
    ("protocol", "request_", "code", "status"),
    [
        ("ec2", post("Action=Foo&Version=2020-01-01"), "InvalidAction", 400),
        ("query", post("Action=Foo&Version=2020-01-01"), "InvalidAction", 400),
        ("ec2", post("Version=2020-01-01"), "MissingAction", 400),
        ("ec2", post("Action=%zz"), "MalformedQueryString", 400),
        ("json", HttpRequest("POST", "/", "", {"x-amz-target": "Toy_20200101.Foo"}), "UnknownOperationException", 400),
        ("json", HttpRequest("POST", "/", "", {"x-amz-target": "Other.Echo"}), "UnknownOperationException", 400),
        ("json", HttpRequest("POST", "/"), "UnknownOperationException", 400),
        ("rest-json", HttpRequest("POST", "/Foo"), "UnknownOperationException", 404),
        ("rest-json", HttpRequest("GET", "/Echo"), "UnknownOperationException", 404),
        ("smithy-rpc-v2-cbor", HttpRequest("POST", "/service/Toy/operation/Foo"), "UnknownOperationException", 404),
    ],
)
def test_an_unknown_operation_is_refused_as_aws_does(
    protocol: str, request_: HttpRequest, code: str, status: int
) -> None:
    with pytest.raises(ServiceError) as caught:
        service(protocol).route(request_)
    assert (caught.value.code, caught.value.status) == (code, status)


def test_ec2_names_the_action_that_it_does_not_have() -> None:
    with pytest.raises(ServiceError, match=r"The action Foo is not valid for this web service\."):
        service("ec2").route(post("Action=Foo"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_trait_is_never_guessed(protocol: str) -> None:
    with pytest.raises(UnknownTrait, match="colour"):
        service(protocol).operation("Strange").encode_request({})


def test_an_event_stream_is_refused_in_plain_words() -> None:
    with pytest.raises(WireError, match="event stream, which is not supported"):
        service("json").operation("Stream").encode_request({})


def test_a_protocol_without_codec_is_refused_when_it_is_used() -> None:
    with pytest.raises(WireError, match="rest-xml"):
        service("rest-xml").operation("Nothing").encode_request({})
    with pytest.raises(WireError, match="does not speak"):
        service("ec2").operation("Nothing").encode_request({}, "json")
