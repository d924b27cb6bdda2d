"""The quick reader gives what the parser gives, or leaves the document to it; it never gives anything else."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.adapters.models import load_service
from imdsctl.wire.errors import WireError
from imdsctl.wire.http import HttpResponse
from imdsctl.wire.skim import STRETCHES_KNOWN_MAX, STRETCHES_PASSED_OVER, Unusual

TAG = {"Key": None, "Value": None}
WANTED = {
    "Reservations": {
        "Instances": {
            "InstanceId": None,
            "State": {"Name": None},
            "MetadataOptions": {"HttpTokens": None, "HttpPutResponseHopLimit": None, "State": None},
            "LaunchTime": None,
            "Operator": {"Managed": None},
            "Tags": TAG,
        }
    },
    "NextToken": None,
}
GROUPS = {"AutoScalingGroups": {"AutoScalingGroupName": None, "Instances": {"InstanceId": None}}, "NextToken": None}
INSTANCE = (
    "<item><instanceId>i-1</instanceId><reason/><networkInterfaceSet><item><operator><managed>true</managed></operator>"
    "<groupSet><item><instanceId>sg-1</instanceId></item></groupSet></item></networkInterfaceSet>"
    "<instanceState><code>16</code><name>running</name></instanceState><launchTime>2026-05-12T11:20:22.000Z</launchTime>"
    "<metadataOptions><httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit>"
    "<state>applied</state></metadataOptions>"
    "<tagSet><item><key>Name</key><value>a &amp; b &#65;</value></item><item><key>empty</key><value/></item></tagSet>"
    "<operator><managed>false</managed></operator></item>"
)


def reply(instances: str = INSTANCE, head: str = '<?xml version="1.0" encoding="UTF-8"?>\n', tail: str = "") -> bytes:
    return (
        f'{head}<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
        f"<reservationSet><item><groupSet/><instancesSet>{instances}</instancesSet></item></reservationSet>{tail}"
        "</DescribeInstancesResponse>"
    ).encode()


class Reader:
    """The projection that is asked for: what the quick reader has learned is kept with it."""

    wanted: Any = WANTED


@pytest.fixture(scope="module", autouse=True, params=["nothing learned yet", "learned by heart"])
def reader(request: pytest.FixtureRequest) -> None:
    """Every test once with a reader that has read nothing, once with one that knows instances by heart."""
    Reader.wanted = deepcopy(WANTED)
    if request.param == "learned by heart":
        for _ in range(STRETCHES_PASSED_OVER):
            skimmed(reply(INSTANCE * STRETCHES_KNOWN_MAX))


def parsed(body: bytes, operation: str = "DescribeInstances", service: str = "ec2", wanted: Any = None) -> Any:
    """What the real parser says."""
    wire: Any = load_service(service).operation(operation)._wire(None)
    reader = wire._parser(wanted or WANTED)
    reader.feed(body)
    return reader.close()


def skimmed(body: bytes, operation: str = "DescribeInstances", service: str = "ec2", wanted: Any = None) -> Any:
    """What the quick reader says. Raises Unusual."""
    wire: Any = load_service(service).operation(operation)._wire(None)
    return wire._document(wanted or Reader.wanted).read(body)


@pytest.mark.parametrize(
    "body",
    [
        reply(),
        reply(INSTANCE * 3, tail="<nextToken>n</nextToken>"),
        reply(""),
        reply(head=""),
        reply(INSTANCE.replace("><", ">\n    <")),
        reply("<item></item><item/>"),
        reply(INSTANCE.replace("<reason/>", "<reason>User initiated &lt;now&gt;</reason>")),
        reply(INSTANCE.replace("<reason/>", "")),
        reply(
            INSTANCE.replace(
                "<instanceState>", "<spot><instanceState><name>x</name></instanceState></spot><instanceState>"
            )
        ),
        reply(INSTANCE.replace("i-1", "i-2").replace("2026-05-12", "2020-01-01").replace("applied", "pending")),
        reply(INSTANCE.replace("<tagSet>", "<tagSet>\n").replace("</item></tagSet>", "</item>\n</tagSet>")),
        reply(re.sub("<tagSet>.*</tagSet>", "<tagSet/>", INSTANCE)),
        reply(re.sub("<tagSet>.*</tagSet>", "<tagSet></tagSet>", INSTANCE)),
        reply(re.sub("<tagSet>.*</tagSet>", "<tagSet> <item/> </tagSet>", INSTANCE)),
        reply(re.sub("<metadataOptions>.*</metadataOptions>", "<metadataOptions/>", INSTANCE)),
        reply(INSTANCE.replace("<value/>", "<value/><more><tagSet><item>x</item></tagSet></more>")),
        reply(INSTANCE.replace("<tagSet>", "<launchTime>2021-01-01T00:00:00Z</launchTime><tagSet>")),
        reply(INSTANCE.replace("<reason/>", "<tomorrow><deep><instanceId>i-9</instanceId></deep></tomorrow>")),
    ],
)
def test_a_plain_document_is_read_as_the_parser_reads_it(body: bytes) -> None:
    assert skimmed(body) == parsed(body)


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("<instanceId>", '<instanceId a="b">'),
        ("i-1", "<![CDATA[i-1]]>"),
        ("i-1", "<!-- -->i-1"),
        ("i-1", "i-\u00a01"),
        ("i-1", "i&#10;1"),
        ("i-1", "<b>x</b>"),
        ("<reason/>", "<reason><!-- </reason> --></reason>"),
        ("<reason/>", "<reason><reason>x</reason><instanceId>i-2</instanceId></reason>"),
        ("<tagSet>", "<tagSet>text"),
        ("<tagSet>", "<tagSet a='b'>"),
        ("</item></tagSet>", "</item>text</tagSet>"),
        ("<operator><managed>false", "text<operator><managed>false"),
        ("<value/>", "<value><tagSet/></value>"),
    ],
)
def test_anything_else_is_left_to_the_parser(what: str, instead: str) -> None:
    body = reply(INSTANCE.replace(what, instead, 1))
    with pytest.raises(Unusual):
        skimmed(body)
    response = HttpResponse(200, {}, body)
    assert load_service("ec2").operation("DescribeInstances").decode_response(response, None, WANTED) == parsed(body)


@pytest.mark.parametrize(
    "body",
    [
        reply(head="<!DOCTYPE x [<!ENTITY e 'v'>]>"),
        reply(INSTANCE.replace("i-1", "&unknown;")),
        reply(INSTANCE.replace("<value/>", "<value/></b>")),
        reply(INSTANCE.replace("<httpPutResponseHopLimit>2", "<httpPutResponseHopLimit>two")),
        b"<OtherResponse></OtherResponse>",
        b"\xff\xfe",
    ],
)
def test_what_is_wrong_is_said_by_the_parser(body: bytes) -> None:
    with pytest.raises(Unusual):
        skimmed(body)
    with pytest.raises(WireError):
        load_service("ec2").operation("DescribeInstances").decode_response(HttpResponse(200, {}, body), None, WANTED)


def test_a_document_that_was_cut_anywhere_is_never_read() -> None:
    body = reply()
    for end in range(len(body)):
        with pytest.raises(Unusual):
            skimmed(body[:end])


def test_an_item_with_a_list_of_items_inside_is_plain() -> None:
    body = (
        b"<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId><blockDeviceMapping><item><ebs/></item>"
        b"</blockDeviceMapping><name>n</name></item><item><imageId>ami-2</imageId></item></imagesSet>"
        b"</DescribeImagesResponse>"
    )
    asked = ("DescribeImages", "ec2", {"Images": {"ImageId": None, "Name": None}})
    assert skimmed(body, *asked) == parsed(body, *asked)


def test_a_result_inside_its_envelope_is_found() -> None:
    body = (
        b'<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">\n'
        b"  <DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>w</AutoScalingGroupName>"
        b"<Instances><member><InstanceId>i-1</InstanceId></member></Instances></member></AutoScalingGroups>"
        b"</DescribeAutoScalingGroupsResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
        b"</DescribeAutoScalingGroupsResponse>\n"
    )
    asked = ("DescribeAutoScalingGroups", "autoscaling", GROUPS)
    assert skimmed(body, *asked) == parsed(body, *asked)
    assert skimmed(body, *asked)["AutoScalingGroups"][0]["Instances"] == [{"InstanceId": "i-1"}]


@given(st.data())
def test_a_damaged_document_is_read_alike_or_not_at_all(data: st.DataObject) -> None:
    """Where the quick reader gives an answer to bytes that were changed, it is the parser's or the parser has none.

    The parser also checks what nobody wants to read; only there may it refuse what the quick reader passes over.
    """
    body = bytearray(reply())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"<", b">", b"/", b"&", b"x", b"\n"])
        )
    try:
        found = skimmed(bytes(body))
    except Unusual:
        return
    try:
        expected = parsed(bytes(body))
    except WireError:
        return
    assert found == expected
