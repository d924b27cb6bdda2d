"""Responses: member order, projections, streams, cut replies, and the envelope of an error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from imdsctl.wire.errors import ServiceError, WireError
from imdsctl.wire.http import HttpResponse
from imdsctl.wire.service import Encoded, Service

PROTOCOLS = ("ec2", "query", "json", "rest-json", "smithy-rpc-v2-cbor")


@cache
def service(protocol: str) -> Service:
    """The small service of `tests/cases/wire/toy.json`, which has an example of every rule, in one protocol."""
    model = json.loads((Path(__file__).parents[2] / "cases" / "wire" / "toy.json").read_text())
    model["metadata"].update(protocol=protocol, protocols=[protocol])
    return Service(model)


XML = ("ec2", "query")
VALUE: dict[str, Any] = {
    "Text": "a <b> & \u4e2d\r\n\t",
    "Count": -7,
    "Big": 1 << 40,
    "Yes": False,
    "Ratio": 0.25,
    "Data": b"\x00\xff",
    "When": datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC),
    "WhenIso": datetime(2024, 2, 29, 23, 59, 58, 120_000, tzinfo=UTC),
    "WhenUnix": datetime(1969, 12, 31, 23, 0, 0, tzinfo=UTC),
    "WhenHttp": datetime(2014, 4, 29, 18, 30, 38, tzinfo=UTC),
    "List": ["", "x"],
    "Flat": ["a", "b"],
    "Map": {"k": "v", "l": ""},
    "FlatMap": {"k": "v", "l": "w"},
    "Filters": [{"Name": "n", "Values": []}, {"Name": "m"}],
    "Tree": {"Name": "root", "Children": [{"Name": "leaf", "Children": []}, {}]},
}


def echo(protocol: str) -> Any:
    return service(protocol).operation("Echo")


def body(protocol: str, value: Any = VALUE) -> bytes:
    encoded: bytes = echo(protocol).encode_response(value, request_id="id").body
    return encoded


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_result_comes_back_as_it_was(protocol: str) -> None:
    assert echo(protocol).decode_response(echo(protocol).encode_response(VALUE, request_id="id")) == VALUE


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "time",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 2, 3, 4, 5, 6_000, tzinfo=UTC),
        datetime(2024, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
)
def test_a_time_keeps_its_fraction(protocol: str, time: datetime) -> None:
    assert echo(protocol).decode_response(echo(protocol).encode_response({"When": time}, request_id="id")) == {
        "When": time
    }


def test_ec2_writes_times_with_milliseconds_and_query_without() -> None:
    time = {"When": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)}
    assert b"<When>2024-01-02T03:04:05.000Z</When>" in body("ec2", time)
    assert b"<When>2024-01-02T03:04:05Z</When>" in body("query", time)


def test_the_envelopes() -> None:
    assert body("ec2", {"Text": "x"}) == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        b'<EchoResponse xmlns="http://toy.example/doc/"><requestId>id</requestId><Text>x</Text></EchoResponse>'
    )
    assert body("query", {"Text": "x"}) == (
        b'<EchoResponse xmlns="http://toy.example/doc"><EchoResult><Text>x</Text></EchoResult>'
        b"<ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></EchoResponse>"
    )


def test_flattened_lists_and_maps_stand_beside_their_siblings() -> None:
    assert b"<FlatItem>a</FlatItem><FlatItem>b</FlatItem>" in body("query", {"Flat": ["a", "b"]})
    assert b"<FlatMap><K>k</K><V>v</V></FlatMap>" in body("query", {"FlatMap": {"k": "v"}})
    scattered = body("query", {"Flat": ["a", "b"]}).replace(b"<FlatItem>b", b"<Text>t</Text><FlatItem>b")
    assert echo("query").decode_response(HttpResponse(200, {}, scattered)) == {"Flat": ["a", "b"], "Text": "t"}


def test_a_character_that_xml_cannot_hold_does_not_break_the_document() -> None:
    reply = echo("ec2").encode_response({"Text": "a\x00\x0b\ud800b"}, request_id="id")
    assert echo("ec2").decode_response(reply) == {"Text": "a\ufffd\ufffd\ufffdb"}


@pytest.mark.parametrize("protocol", XML)
def test_whitespace_comments_prefixes_and_unknown_elements_do_not_matter(protocol: str) -> None:
    plain = body(protocol, {"Text": "x", "List": ["a"], "Tree": {"Name": "n"}}).decode()
    plain = plain.replace("<Text>", "<!-- c --><Colour><deep>1</deep></Colour>\n  <Text>").replace(
        "<Tree>", "<Tree>\n "
    )
    plain = plain.replace("x</Text>", "<!-- c -->x</Text>").replace("xmlns=", 'colour="green" xmlns=')
    decoded = echo(protocol).decode_response(HttpResponse(200, {}, plain.encode()))
    assert decoded == {"Text": "x", "List": ["a"], "Tree": {"Name": "n"}}
    no_namespace = plain.replace("http://toy.example/doc", "http://other.example/2010")
    assert echo(protocol).decode_response(HttpResponse(200, {}, no_namespace.encode())) == decoded


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_projection_keeps_what_it_names_and_looks_through_lists(protocol: str) -> None:
    reply = echo(protocol).encode_response(VALUE, request_id="id")
    projection = {"Text": None, "Tree": {"Children": {"Name": None}}, "Filters": {"Name": None}}
    assert echo(protocol).decode_response(reply, projection=projection) == {
        "Text": VALUE["Text"],
        "Tree": {"Children": [{"Name": "leaf"}, {}]},
        "Filters": [{"Name": "n"}, {"Name": "m"}],
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("projection", "path"), [({"Colour": None}, "Colour"), ({"Tree": {"Colour": None}}, "Tree.Colour")]
)
def test_a_projection_on_a_member_that_does_not_exist_is_an_error(
    protocol: str, projection: dict[str, Any], path: str
) -> None:
    with pytest.raises(WireError) as caught:
        echo(protocol).stream(projection).close()
    assert caught.value.path == path or "complete" in caught.value.message


# --- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [1, 7, 4096, 1_000_000])
def test_a_stream_reads_the_same_in_pieces_of_any_size(protocol: str, size: int) -> None:
    data = body(protocol)
    decoder = echo(protocol).stream()
    for start in range(0, len(data), size):
        decoder.feed(data[start : start + size])
    assert decoder.close() == VALUE


@pytest.mark.parametrize("protocol", XML)
@pytest.mark.parametrize("projection", [None, {"Filters": {"Name": None}, "List": None}, {"Text": None}])
def test_a_long_page_keeps_every_item_in_order_while_it_streams(protocol: str, projection: Any) -> None:
    """More than two chunks: items are decoded and dropped before the page ends."""
    page = {
        "Filters": [{"Name": f"n{i}", "Values": ["x" * 50]} for i in range(3_000)],
        "List": [f"text {i}" for i in range(6_000)],
        "Text": "end",
    }
    data = body(protocol, page)
    assert len(data) > 200_000
    wanted: dict[str, Any] = page
    if projection is not None:
        wanted = {name: page[name] for name in projection}
        if "Filters" in wanted:
            wanted["Filters"] = [{"Name": item["Name"]} for item in page["Filters"]]  # type: ignore[index]
    assert echo(protocol).decode_response(HttpResponse(200, {}, data), projection=projection) == wanted
    decoder = echo(protocol).stream(projection)
    for start in range(0, len(data), 10_000):
        decoder.feed(data[start : start + 10_000])
    assert decoder.close() == wanted


def test_a_bad_value_deep_in_a_long_page_is_named_by_its_place() -> None:
    data = body("ec2", {"Tree": {"Children": [{"Name": "a"}]}, "Count": 5}).replace(b">5<", b">five<")
    with pytest.raises(WireError) as caught:
        echo("ec2").decode_response(HttpResponse(200, {}, data))
    assert caught.value.path == "Count"


# --- replies that are no replies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["ec2", "query", "json", "rest-json", "smithy-rpc-v2-cbor"])
def test_a_reply_cut_anywhere_is_an_error_not_a_short_answer(protocol: str) -> None:
    data = body(protocol, {"Text": "x", "List": ["a", "b"], "Count": 1})
    for end in range(1, len(data)):
        with pytest.raises(WireError):
            echo(protocol).decode_response(HttpResponse(200, {}, data[:end]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not complete XML"),
        (b"<html><body>Bad gateway</body></html>", "expected <EchoResponse>"),
        (b"<html><br></html>", "not complete XML"),
        (b"Service unavailable", "not complete XML"),
        (b'{"a": 1}', "not complete XML"),
        (b"\x00\xff", "not complete XML"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><EchoResponse><Text>&b;</Text></EchoResponse>', "DTD"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><EchoResponse/>', "DTD"),
        (b"<EchoResponse>" + b"<a>" * 5000, "not complete XML"),
    ],
)
def test_what_is_not_the_reply_is_said_in_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        echo("ec2").decode_response(HttpResponse(200, {}, data))


def test_a_query_reply_without_its_result_is_an_error() -> None:
    with pytest.raises(WireError, match="lacks <EchoResult>"):
        echo("query").decode_response(HttpResponse(200, {}, b"<EchoResponse/>"))


# --- fragments ----------------------------------------------------------------------------------------------------


def test_a_fragment_stands_in_for_its_structure() -> None:
    toy = service("ec2")
    first = {"Name": "a", "Values": ["1"]}
    fragment = toy.fragment("Filter", first, tag="Filter")
    assert isinstance(fragment, Encoded)
    mixed = toy.operation("Echo").encode_response({"Filters": [fragment, {"Name": "b"}]}, request_id="id")
    plain = toy.operation("Echo").encode_response({"Filters": [first, {"Name": "b"}]}, request_id="id")
    assert mixed == plain


def test_a_json_service_has_no_fragments() -> None:
    with pytest.raises(WireError, match="without XML"):
        service("json").fragment("Filter", {"Name": "a"})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_result_with_a_member_that_the_model_lacks_is_a_bug_that_shows(protocol: str) -> None:
    with pytest.raises(WireError, match=r"Tree\.Colour"):
        echo(protocol).encode_response({"Tree": {"Colour": 1}}, request_id="id")


# --- errors -------------------------------------------------------------------------------------------------------


def test_the_error_documents() -> None:
    error = ServiceError("InvalidAMIID.NotFound", "no <image>", 400)
    assert service("ec2").encode_error(error, "ec2", "id").body == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>InvalidAMIID.NotFound</Code>'
        b"<Message>no &lt;image&gt;</Message></Error></Errors><RequestID>id</RequestID></Response>"
    )
    assert service("query").encode_error(error, "query", "id").body == (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<ErrorResponse xmlns="http://toy.example/doc"><Error>'
        b"<Type>Sender</Type><Code>InvalidAMIID.NotFound</Code><Message>no &lt;image&gt;</Message></Error>"
        b"<RequestId>id</RequestId></ErrorResponse>"
    )
    assert service("json").encode_error(error, "json", "id").body == (
        b'{"__type":"InvalidAMIID.NotFound","message":"no <image>"}'
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_is_raised_where_a_result_was_expected(protocol: str) -> None:
    toy = service(protocol)
    code = "Old.Broken" if protocol in XML else "Broken"
    error = ServiceError(code, "it broke", 400, "id", detail={"Part": "axle"})
    with pytest.raises(ServiceError) as caught:
        toy.operation("Echo").decode_response(toy.encode_error(error, None, "id"))
    assert caught.value == error


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("data", [b"", b"<html><body>Bad gateway</body></html>", b"\xff\x00", b"[]", b"<a", b'"x"'])
def test_a_proxys_error_page_becomes_its_status(protocol: str, data: bytes) -> None:
    error = service(protocol).decode_error(HttpResponse(502, {}, data))
    assert (error.code, error.message, error.status, error.fault) == ("502", "Bad Gateway", 502, "server")
